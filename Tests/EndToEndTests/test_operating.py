"""Operating a proxy: the program is replaced under load, systemd is told, rights are given up, requests are logged and limited."""

import atexit
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import Connection, Farebox, challenge_of, fetch, open_session
from load import KINDS, Load, SecureSide
from prepaid import PrepaidWallet
from test_reload import edit

UPGRADES = int(os.environ.get("FAREBOX_UPGRADES", "10"))


class Replaceable(Farebox):
    """A proxy whose process may be another one's child by now."""

    def upgrade(self):
        done = self.run("upgrade", "--json")
        assert done.returncode == 0, done.stderr + self.log_path.read_text()[-3000:]
        former, self.pid = self.pid, json.loads(done.stdout)["process"]
        assert former != self.pid
        # A test that fails leaves its proxy behind; it ends with the tests.
        atexit.register(end, self.pid, self.binary)
        if self.process.pid == former:
            assert self.process.wait(timeout=30) == 0

    def stop(self):
        if self.process.poll() is None:
            return super().stop()
        if Path(f"/proc/{self.pid}").exists():
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{self.pid}").exists() and "Z" not in state_of(self.pid) and time.monotonic() < deadline:
            time.sleep(0.02)

    def logged(self, *words, seconds=5):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.log_path.read_text().splitlines():
                if all(word in line for word in words):
                    return line
            time.sleep(0.05)
        raise AssertionError(f"{words} not in the log:\n{self.log_path.read_text()[-3000:]}")


def end(pid, binary):
    """Ends a process that is still the proxy that it was."""
    try:
        if os.path.samefile(f"/proc/{pid}/exe", binary):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def proxy(binary, upstream, tmp_path):
    proxy = Replaceable(binary, tmp_path / "farebox", upstream.port)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


# ---- The program is replaced


def test_upgrades_under_paid_load_fail_no_request(binary, upstream, tmp_path):
    secure = SecureSide(tmp_path)
    proxy = Replaceable(binary, tmp_path / "farebox", upstream.port, configuration=secure.configuration)
    load = Load(proxy, KINDS, secure)
    deadline = time.monotonic() + 20
    while len(load.counts) < len(KINDS) and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = {proxy.pid}
    for _ in range(UPGRADES):
        before = dict(load.counts)
        proxy.upgrade()
        processes.add(proxy.pid)
        assert not load.failures, load.failures
        # Everybody is served by the new process before it is replaced in turn.
        deadline = time.monotonic() + 20
        while any(load.counts[kind] <= before[kind] for kind in before) and time.monotonic() < deadline and not load.failures:
            time.sleep(0.02)
    load.stop()
    assert len(processes) == UPGRADES + 1
    assert all(count > UPGRADES for count in load.counts.values()), load.counts
    proxy.stop()
    proxy.assert_books_balance()


def test_connections_survive_an_upgrade(proxy, upstream):
    with proxy.connection() as idle, proxy.connection() as partial, proxy.connection() as busy:
        assert fetch(idle, "GET", "/free/echo").status == 200
        partial.send(b"GET /free/echo HTTP/1.1\r\nHo")
        busy.request("GET", "/free/slow/500")
        time.sleep(0.1)
        proxy.upgrade()
        assert busy.read().status == 200
        partial.send(b"st: a\r\n\r\n")
        assert partial.read().status == 200
        for connection in (idle, busy, partial):
            assert fetch(connection, "GET", "/free/echo").status == 200


def test_a_stream_ends_before_the_ledger_goes_over(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, "/files/echo", 1_000_000)
    with proxy.connection() as connection:
        connection.request("GET", "/files/drip/50", {"Prepaid-Session": secret.short_form})
        assert connection.head().status == 200
        os.kill(proxy.pid, signal.SIGUSR2)
        new = int(re.search(r"process=(\d+)", proxy.logged("handing over")).group(1))
        with proxy.connection() as other:
            # It waits in the backlog, and is served by the new process.
            other.request("GET", "/free/echo")
            assert b"".join(connection.chunks()) == b"d" * 50_000
            assert other.read().status == 200
        assert proxy.process.wait(timeout=20) == 0
        proxy.pid = new
        assert fetch(connection, "GET", "/free/echo").status == 200
    assert proxy.session(secret.session_id)["spent"] == str(500 + (50_000 * 10_000) // 1_000_000 - 500)


def test_a_program_that_does_not_start_changes_nothing(proxy):
    with proxy.connection() as connection:
        assert fetch(connection, "GET", "/free/echo").status == 200
        good = proxy.configuration.read_text()
        proxy.configuration.write_text(good + "\nnonsense = 1\n")
        done = subprocess.run(
            [proxy.binary, "upgrade", "--config", str(write(proxy.folder / "good.conf", good))], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "status 78" in done.stderr, done
        proxy.configuration.write_text(good)
        assert fetch(connection, "GET", "/free/echo").status == 200
        assert proxy.process.poll() is None
        proxy.upgrade()
        assert fetch(connection, "GET", "/free/echo").status == 200


def write(path, text):
    path.write_text(text)
    return path


# ---- systemd


class Systemd:
    """What systemd would be to a service: the receiver of its notifications."""

    def __init__(self, folder):
        self.path = str(folder / "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.2)
        self.messages = []

    def wait(self, assignment, seconds=10):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in self.messages:
                if assignment in message:
                    return message
            try:
                self.messages.append(self.socket.recv(4096).decode().split("\n"))
            except TimeoutError:
                pass
        raise AssertionError(f"{assignment} was not told: {self.messages}")

    def clear(self):
        self.messages = []


def test_systemd_is_told_what_becomes_of_the_service(binary, upstream, tmp_path):
    systemd = Systemd(tmp_path)
    environment = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "400000"}
    proxy = Replaceable(binary, tmp_path / "farebox", upstream.port, environment=environment)
    try:
        assert f"MAINPID={proxy.pid}" in systemd.wait("READY=1")
        systemd.wait("WATCHDOG=1")
        os.kill(proxy.pid, signal.SIGHUP)
        assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in systemd.wait("RELOADING=1"))
        systemd.clear()
        systemd.wait("READY=1")
        systemd.clear()
        proxy.upgrade()
        systemd.wait(f"MAINPID={proxy.pid}")
        systemd.clear()
        systemd.wait("WATCHDOG=1")
        os.kill(proxy.pid, signal.SIGTERM)
        systemd.wait("STOPPING=1")
    finally:
        proxy.stop()
    proxy.assert_books_balance()


def test_a_stopped_loop_gets_no_watchdog_ping(binary, upstream, tmp_path):
    systemd = Systemd(tmp_path)
    proxy = Replaceable(binary, tmp_path / "farebox", upstream.port, environment={"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "400000"})
    try:
        systemd.wait("WATCHDOG=1")
        stopped = worker(proxy.pid, "worker-1")
        # A debugger's stop of one thread: the others go on, and the pings end.
        with stopped_thread(stopped):
            time.sleep(0.6)
            systemd.clear()
            drain(systemd)
            systemd.clear()
            with pytest.raises(AssertionError):
                systemd.wait("WATCHDOG=1", seconds=1)
        systemd.wait("WATCHDOG=1")
    finally:
        proxy.stop()


def worker(pid, name):
    """A thread's number, as soon as it has its name."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        time.sleep(0.02)
    raise AssertionError(f"no thread {name}")


def drain(systemd):
    systemd.socket.setblocking(False)
    try:
        while True:
            systemd.socket.recv(4096)
    except BlockingIOError:
        pass
    systemd.socket.settimeout(0.2)


class stopped_thread:
    """Stops one thread of another process by PTRACE_SEIZE and PTRACE_INTERRUPT, from a thread that keeps it so."""

    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17

    def __init__(self, thread):
        self.thread = thread

    def __enter__(self):
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long] * 4
        if self.libc.ptrace(self.SEIZE, self.thread, 0, 0) != 0:
            pytest.skip("this machine does not let one process stop another's thread")
        assert self.libc.ptrace(self.INTERRUPT, self.thread, 0, 0) == 0
        os.waitpid(self.thread, 0x40000000)

    def __exit__(self, *_):
        self.libc.ptrace(self.DETACH, self.thread, 0, 0)


def test_sockets_of_systemd_are_used(binary, upstream, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(tmp_path / "activated.sock"))
    local.listen(8)
    stray = socket.create_server(("127.0.0.1", 0))
    folder = tmp_path / "farebox"
    folder.mkdir()
    starter = write(
        tmp_path / "activate.py",
        "import os, sys\nfds = [int(n) for n in sys.argv[1].split(',')]\n"
        "high = [os.dup2(fd, 50 + i) for i, fd in enumerate(fds)]\n"
        "for i, fd in enumerate(high):\n    os.dup2(fd, 3 + i, True)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=':'.join('x' * len(fds)))\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n")
    fds = [listener.fileno(), local.fileno(), stray.fileno()]
    for fd in fds:
        os.set_inheritable(fd, True)
    from harness import CONFIGURATION

    configuration = folder / "proxy.conf"
    port = listener.getsockname()[1]
    configuration.write_text(
        CONFIGURATION.format(port=port, state=folder / "state", workers=2, upstream=upstream.port)
        + f'\n[[listen]]\naddress = "unix:{tmp_path}/activated.sock"\n')
    log = open(folder / "log", "wb")
    import sys

    process = subprocess.Popen(
        [sys.executable, str(starter), ",".join(map(str, fds)), binary, "serve", str(configuration)], pass_fds=fds, stdout=log, stderr=log)
    try:
        # Whoever comes before the program is there waits in systemd's socket.
        with Connection(port) as connection:
            assert fetch(connection, "GET", "/free/echo").status == 200
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "activated.sock"))
            client.sendall(b"GET /free/echo HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert "sockets were passed" in (folder / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert (tmp_path / "activated.sock").exists(), "the file is systemd's"


# ---- Rights

USER = "nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_rights_are_given_up(binary, upstream, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    folder = tmp_path / "farebox"
    folder.mkdir(mode=0o755)
    user = pwd.getpwnam(USER)
    from harness import CONFIGURATION

    port = next(p for p in range(600, 700) if is_free(p))
    configuration = write(
        folder / "proxy.conf",
        f'user = "{USER}"\npid-file = "{folder}/farebox.pid"\n'
        + CONFIGURATION.format(port=port, state=folder / "state", workers=1, upstream=upstream.port))
    configuration.chmod(0o644)
    folder.chmod(0o755)
    program = folder / "farebox"
    program.write_bytes(Path(binary).read_bytes())
    program.chmod(0o755)
    log = open(folder / "log", "wb")
    process = subprocess.Popen([program, "serve", str(configuration)], stdout=log, stderr=log)
    try:
        wait_for_port(port, process, folder / "log")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{user.pw_uid}\s+{user.pw_uid}\s+{user.pw_uid}\s+{user.pw_uid}$", status, re.M), status
        assert re.search(rf"^Gid:\s+{user.pw_gid}\s+{user.pw_gid}\s+{user.pw_gid}\s+{user.pw_gid}$", status, re.M), status
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.M) and re.search(r"^CapEff:\s+0+$", status, re.M), status
        assert "0" not in re.search(r"^Groups:(.*)$", status, re.M).group(1).split()
        assert (folder / "state").stat().st_uid in (0, user.pw_uid) and (folder / "state/ledger").stat().st_uid == user.pw_uid
        assert (folder / "farebox.pid").read_text() == f"{process.pid}\n"
        # Without rights, by its inherited sockets: also below 1024.
        done = subprocess.run([program, "upgrade", "--json", "--config", str(configuration)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr + (folder / "log").read_text()[-2000:]
        assert process.wait(20) == 0
        new = json.loads(done.stdout)["process"]
        assert (folder / "farebox.pid").read_text() == f"{new}\n"
        with Connection(port) as connection:
            assert fetch(connection, "GET", "/free/echo").status == 200
        os.kill(new, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while state_of(new) != "Z" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not (folder / "farebox.pid").exists() or (folder / "farebox.pid").read_text() == ""
    finally:
        if process.poll() is None:
            process.kill()
    # What root alone can read would be missed at the first reload.
    secret = write(folder / "upstream.key", "secret")
    secret.chmod(0o600)
    good = configuration.read_text()
    configuration.write_text(good.replace('id = "free"\n', 'id = "free"\ninject = [{ name = "X-Key", file = "upstream.key" }]\n'))
    done = subprocess.run([program, "serve", str(configuration)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 77 and f"as {USER}" in done.stderr and "upstream.key" in done.stderr, done
    assert re.search(rf"^{re.escape(str(configuration))}:\d+:\d+: error: ", done.stderr, re.M), "a line for each mistake"
    configuration.write_text(good)
    os.chown(folder / "state/keys", 0, 0)
    done = subprocess.run([program, "serve", str(configuration)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 77 and "state/keys" in done.stderr and "chown" in done.stderr, done


def is_free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def wait_for_port(port, process, log):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with Connection(port, timeout=2) as connection:
                if fetch(connection, "GET", "/readyz").status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(log.read_text())


# ---- Access log and rates


def test_the_access_log_says_what_happened_and_no_secret(proxy):
    with open(proxy.configuration, "a") as file:
        file.write('\n[access-log]\nfile = "access.jsonl"\n')
    proxy.command("reload")
    path = proxy.state / "access.jsonl"
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    with proxy.connection() as connection:
        secret = open_session(proxy, wallet, "/api/echo?token=hidden", 100_000)
        headers = {"Prepaid-Session": secret.short_form, "User-Agent": "tester/1", "Cookie": "hidden"}
        assert fetch(connection, "POST", "/api/echo?token=hidden", headers, b"12345").status == 200
        charge = wallet.transfer(challenge_of(fetch(connection, "GET", "/paid"), "charge"))
        assert fetch(connection, "GET", "/paid", {"Authorization": charge}).status == 200
        assert fetch(connection, "GET", "/nowhere").status == 404

    def lines(count):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if path.exists() and len(path.read_text().splitlines()) >= count:
                break
            time.sleep(0.05)
        return [json.loads(line) for line in path.read_text().splitlines()]

    records = lines(6)
    paid = next(r for r in records if r.get("agent") == "tester/1")
    assert paid["method"] == "POST" and paid["path"] == "/api/echo" and paid["status"] == 200 and paid["route"] == "api", paid
    assert paid["received"] == 5 and paid["sent"] > 0 and paid["upstream"] == "api" and paid["upstreamStatus"] == 200, paid
    assert paid["session"] == secret.session_id and paid["wallet"] == wallet.did and paid["charged"] == "1000", paid
    assert paid["client"] == "127.0.0.1" and paid["protocol"] == "h1" and 0 <= paid["upstreamTime"] <= paid["duration"], paid
    charged = next(r for r in records if r["path"] == "/paid" and r["status"] == 200)
    assert charged["reference"] and charged["charged"] == "1000", charged
    assert any(r["status"] == 404 and "route" not in r for r in records) and any(r["status"] == 402 for r in records)
    text = path.read_text()
    for hidden in ("hidden", secret.hex, charge, charge.removeprefix("Payment ")):
        assert hidden not in text
    path.rename(proxy.state / "access.old")
    os.kill(proxy.pid, signal.SIGUSR1)
    proxy.logged("opened anew")
    deadline = time.monotonic() + 5
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with proxy.connection() as connection:
        assert fetch(connection, "GET", "/free/echo").status == 200
    assert lines(1)[0]["path"] == "/free/echo"


def test_rates_are_limited_and_cost_nothing(proxy):
    edit(proxy, ("[rate-limits]\n", '[rate-limits]\nsession = "1/h burst 3"\n'), ('id = "small"\n', 'id = "small"\nrate = "1/h burst 2"\n'))
    proxy.command("reload")
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, "/api/echo", 100_000)
    statuses = []
    for _ in range(4):
        with proxy.connection() as connection:
            response = fetch(connection, "GET", "/api/echo", {"Prepaid-Session": secret.short_form})
            statuses.append(response.status)
    assert statuses == [200, 200, 429, 429]
    assert int(response.get("retry-after")) > 3000 and response.problem() == "rate-limited"
    assert proxy.session(secret.session_id)["spent"] == "3000"
    with proxy.connection() as connection:
        assert [fetch(connection, "GET", "/small").status for _ in range(3)] == [200, 200, 429]
