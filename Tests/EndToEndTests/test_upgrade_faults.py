"""The program is replaced, and something goes wrong: the new one fails, hangs or lies, the end is asked for meanwhile, two want it at
once. Whatever happens, one process at most serves, the books balance, and operators are told."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import CONFIGURATION, challenge_of, fetch, open_session
from prepaid import PrepaidWallet
from test_operating import Replaceable, state_of, write

# A program that is none: what it does is its second line. The channel to the proxy that started it is behind the listening sockets.
PROGRAM = """#!{python}
import os, socket, sys, time
channel = socket.socket(fileno=3 + int(os.environ["FAREBOX_LISTEN_FDS"]))
ready = lambda: channel.send(bytes([1]))
{body}
"""


def place(program, path):
    """Another name of a program's file, or a copy where it stands on another disk."""
    try:
        os.link(program, path)
    except OSError:
        shutil.copy(program, path)


class Upgraded(Replaceable):
    """A proxy of its own program file, which can be replaced by anything."""

    def __init__(self, binary, folder, upstream_port, **options):
        self.original = str(binary)
        Path(folder).mkdir(parents=True, exist_ok=True)
        program = Path(folder) / "program"
        place(binary, program)
        super().__init__(program, folder, upstream_port, **options)

    def install(self, text):
        """Puts a script in the program's place, as `install` would: the running one keeps its own."""
        new = self.folder / "new"
        new.write_text(text)
        new.chmod(0o755)
        new.rename(self.binary)

    def fake(self, body):
        self.install(PROGRAM.format(python=sys.executable, body=body))

    def restore(self):
        new = self.folder / "new"
        place(self.original, new)
        new.rename(self.binary)

    def run(self, *arguments, input=None):
        # Commands are given with the real program, whatever stands in its place.
        command = [self.original, *arguments, "--config", str(self.configuration)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=self.environment, input=input)

    def serves(self, pid=None):
        with self.connection() as connection:
            return fetch(connection, "GET", "/free/echo").status == 200 and (pid is None or self.command("wallet", "list") is not None)


@pytest.fixture
def proxy(binary, upstream, tmp_path):
    proxy = Upgraded(binary, tmp_path / "farebox", upstream.port)
    yield proxy
    proxy.stop()
    proxy.restore()
    proxy.assert_books_balance()


class Payer(threading.Thread):
    """Pays by session until it is stopped, over one connection after another. A refused or closed connection is counted and tried again;
    an answer that is none is a failure."""

    def __init__(self, proxy):
        super().__init__(daemon=True)
        self.proxy, self.stopping, self.failures, self.paid, self.closed = proxy, False, [], 0, 0
        wallet = PrepaidWallet.new()
        proxy.create_wallet(wallet, "1000 USDC")
        self.secret = open_session(proxy, wallet, "/api/echo", 500_000_000)
        self.start()

    def run(self):
        while not self.stopping:
            try:
                with self.proxy.connection(timeout=120) as connection:
                    while not self.stopping:
                        response = fetch(connection, "GET", "/api/echo", {"Prepaid-Session": self.secret.short_form})
                        if response.status != 200 or not response.complete:
                            self.failures.append((response.status, response.body[:200]))
                            return
                        self.paid += 1
                        if (response.get("connection") or "").lower() == "close":
                            break
            except OSError:
                self.closed += 1
                time.sleep(0.01)

    def stop(self):
        self.stopping = True
        self.join(150)
        assert not self.is_alive() and not self.failures, self.failures
        # A request whose connection was closed under it may have been paid and lost, and no other.
        spent = int(self.proxy.session(self.secret.session_id)["spent"])
        assert 1000 * (self.paid + 1) <= spent <= 1000 * (self.paid + 1 + self.closed), (spent, self.paid, self.closed)


FAULTS = {
    "ends at once": ("sys.exit(3)", 1, "status 3"),
    "is killed": ("os.kill(os.getpid(), 9)", 1, "status 137"),
    "closes the channel and hangs": ("channel.close(); time.sleep(60)", 1, "not ready"),
    "talks nonsense": ("channel.send(bytes([9]) * 100); channel.send(bytes([4])); sys.exit(0)", 1, "status 0"),
    "is ready and ends": ("ready(); time.sleep(0.2); sys.exit(5)", 69, "did not serve"),
    "hears of the ledger and ends": (
        "ready()\nwhile channel.recv(98304)[:1] != bytes([3]): pass\nchannel.send(bytes([5])); sys.exit(5)", 69, "did not serve"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_program_that_fails_changes_nothing(proxy, fault):
    body, status, words = FAULTS[fault]
    payer = Payer(proxy)
    proxy.fake(body)
    done = proxy.run("upgrade")
    assert done.returncode == status and words in done.stderr, done
    proxy.logged("the program was not replaced")
    assert proxy.process.poll() is None and proxy.serves(proxy.pid)
    time.sleep(0.2)
    payer.stop()
    # And the next one that is good takes over.
    proxy.restore()
    proxy.upgrade()
    assert proxy.serves(proxy.pid)


def test_a_program_that_hangs_before_it_is_ready_keeps_nobody_waiting(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    proxy.fake("time.sleep(100)")
    results = []
    upgrade = threading.Thread(target=lambda: results.append(proxy.run("upgrade")))
    upgrade.start()
    time.sleep(1)
    begun = time.monotonic()
    assert proxy.command("wallet", "freeze", wallet.did)["state"] == "frozen"
    assert time.monotonic() - begun < 10
    done = proxy.run("reload")
    assert done.returncode == 69 and "under way" in done.stderr, done
    assert proxy.serves() and upgrade.is_alive()
    upgrade.join(60)
    assert results[0].returncode == 1 and "not ready in time" in results[0].stderr, results
    assert proxy.process.poll() is None and proxy.serves()
    assert not children_of(proxy.pid), "the one that hung is gone"


@pytest.mark.parametrize("count", [0, 400])
def test_a_program_that_hangs_when_it_is_ready_is_given_up(proxy, count):
    payer = Payer(proxy)
    proxy.fake("ready(); time.sleep(200)")
    idle = [proxy.connection() for _ in range(count)]
    for connection in idle:
        assert fetch(connection, "GET", "/free/echo").status == 200
    begun = time.monotonic()
    done = proxy.run("upgrade")
    assert done.returncode == 69 and "did not serve" in done.stderr, done
    # Some connections are in its socket and lost with it; none costs a wait of its own, and the wait for its word is bounded.
    assert time.monotonic() - begun < 40
    assert proxy.process.poll() is None and proxy.serves(proxy.pid)
    payer.stop()
    for connection in idle:
        connection.close()
    assert not children_of(proxy.pid)


def children_of(pid):
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return [child for child in children if state_of(int(child)) != "Z"]


def processes_of(configuration):
    """The processes that serve by this configuration."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words and str(configuration).encode() in words and state_of(int(folder.name)) != "Z":
                found.append(int(folder.name))
    return found


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return False
    except ConnectionRefusedError:
        return True


@pytest.mark.parametrize("how", ["command", "signal"])
def test_the_end_that_is_asked_for_while_a_program_starts_is_the_end(proxy, how):
    # The real program, which comes late.
    proxy.install(f'#!/bin/sh\nsleep 3\nexec {proxy.original} "$@"\n')
    upgrade = subprocess.Popen([proxy.original, "upgrade", "--config", str(proxy.configuration)], stderr=subprocess.PIPE, text=True) if how == "command" else None
    if upgrade is None:
        os.kill(proxy.pid, signal.SIGUSR2)
    time.sleep(1)
    begun = time.monotonic()
    os.kill(proxy.pid, signal.SIGTERM)
    assert proxy.process.wait(20) == 0 and time.monotonic() - begun < 2.5
    if upgrade is not None:
        assert "ending" in upgrade.communicate(timeout=120)[1] and upgrade.returncode == 69
    time.sleep(4)
    assert is_refused(proxy.port) and processes_of(proxy.configuration) == [], "nobody goes on selling"


def test_the_end_that_is_asked_for_while_the_former_one_drains_is_the_end(proxy):
    with proxy.connection() as connection:
        connection.request("GET", "/free/drip/100")
        assert connection.head().status == 200
        os.kill(proxy.pid, signal.SIGUSR2)
        new = int(re.search(r"process=(\d+)", proxy.logged("handing over")).group(1))
        os.kill(proxy.pid, signal.SIGTERM)
        assert b"".join(connection.chunks()) == b"d" * 100_000, "what was in flight is finished"
    assert proxy.process.wait(20) == 0
    deadline = time.monotonic() + 10
    while processes_of(proxy.configuration) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_refused(proxy.port) and processes_of(proxy.configuration) == [] and state_of(new) == "Z"


def test_two_upgrades_at_once_are_one(proxy):
    results = []
    threads = [threading.Thread(target=lambda: results.append(proxy.run("upgrade", "--json"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    good = [json.loads(done.stdout)["process"] for done in results if done.returncode == 0]
    assert good and all(done.returncode in (0, 69) for done in results), results
    assert not any("no proxy listens" in done.stderr for done in results), results
    alive = processes_of(proxy.configuration)
    assert len(alive) == 1 and alive[0] in good
    proxy.pid = alive[0]
    if proxy.process.pid != proxy.pid:
        proxy.process.wait(20)
    assert proxy.serves(proxy.pid)


def test_the_program_that_a_link_leads_to_is_started(binary, upstream, tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        shutil.copy(binary, tmp_path / release / "farebox")
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "one")
    (tmp_path / "next").symlink_to(tmp_path / "two")
    proxy = Replaceable(current / "farebox", tmp_path / "state", upstream.port)
    try:
        assert os.readlink(f"/proc/{proxy.pid}/exe") == str(tmp_path / "one/farebox")
        (tmp_path / "next").rename(current)
        proxy.upgrade()
        assert os.readlink(f"/proc/{proxy.pid}/exe") == str(tmp_path / "two/farebox")
    finally:
        proxy.stop()
    proxy.assert_books_balance()


def test_keys_that_are_rotated_meanwhile_are_known_to_the_new_program(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    with proxy.connection() as stream:
        stream.request("GET", "/free/drip/150")
        assert stream.head().status == 200
        os.kill(proxy.pid, signal.SIGUSR2)
        new = int(re.search(r"process=(\d+)", proxy.logged("handing over")).group(1))
        rotated = proxy.command("keys", "rotate")["keys"]
        b"".join(stream.chunks())
        assert proxy.process.wait(20) == 0
        proxy.pid = new
    proxy.logged("running")
    with proxy.connection() as connection:
        kid = next(key["kid"] for key in rotated if key["kind"] == "receipt" and key["current"])
        assert fetch(connection, "GET", "/.well-known/jwks.json").json()["keys"][0]["kid"] == kid
        challenge = challenge_of(fetch(connection, "GET", "/paid"), "charge")
        assert fetch(connection, "GET", "/paid", {"Authorization": wallet.transfer(challenge)}).receipt()["kid"] == kid


def test_sockets_of_systemd_outlive_upgrades(binary, upstream, tmp_path):
    path = tmp_path / "activated.sock"
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(path))
    local.listen(8)
    # The shell's own number is the program's after exec.
    starter = write(tmp_path / "activate.sh", '#!/bin/bash\nexport LISTEN_PID=$$ LISTEN_FDS=1\nexec 3<&$FD\nexec "$@"\n')
    starter.chmod(0o755)
    folder = tmp_path / "farebox"
    listener = f'\n[[listen]]\naddress = "unix:{path}"\n'
    proxy = Replaceable(
        binary, folder, upstream.port, prefix=[str(starter)], configuration=CONFIGURATION + listener, environment={"FD": str(local.fileno())},
        passed=[local.fileno()])
    for _ in range(2):
        proxy.upgrade()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /free/echo HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    proxy.stop()
    assert path.exists(), "the file is systemd's, whoever listened last"
    proxy.assert_books_balance()


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="a container needs root and unshare")
def test_the_first_process_of_a_container_stays(binary, upstream, tmp_path):
    proxy = Replaceable(binary, tmp_path / "farebox", upstream.port, prefix=["unshare", "--pid", "--fork", "--kill-child=SIGTERM"])
    try:
        done = proxy.run("upgrade")
        assert done.returncode == 69 and "container" in done.stderr, done
        with proxy.connection() as connection:
            assert fetch(connection, "GET", "/free/echo").status == 200
    finally:
        inside = int(children_of(proxy.process.pid)[0])
        os.kill(inside, signal.SIGTERM)
        proxy.process.wait(30)
    proxy.assert_books_balance()


def test_a_log_that_nobody_reads_stops_neither_the_end_nor_an_upgrade(binary, upstream, tmp_path):
    """Standard output and error go into a pipe whose reader is stuck, and everything is written there."""
    reader, writer = os.pipe()
    folder = tmp_path / "farebox"
    configuration = CONFIGURATION.replace("[cors]", '[access-log]\nfile = "-"\n\n[audit]\nship-checkpoints = true\ncheckpoint-every = 1\n\n[cors]')
    proxy = Replaceable(binary, folder, upstream.port, configuration=configuration, output=writer)
    os.close(writer)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, "/api/echo", 5_000_000)
    with proxy.connection() as connection:
        for _ in range(400):
            response = fetch(connection, "GET", "/api/echo", {"Prepaid-Session": secret.short_form, "User-Agent": "x" * 300})
            assert response.status == 200
        deadline = time.monotonic() + 20
        while int(re.search(r"farebox_access_log_lines_total (\d+)", proxy.metrics()).group(1)) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        proxy.upgrade()
        assert fetch(connection, "GET", "/api/echo", {"Prepaid-Session": secret.short_form}).status == 200
    begun = time.monotonic()
    os.kill(proxy.pid, signal.SIGTERM)
    while state_of(proxy.pid) != "Z" and time.monotonic() - begun < 15:
        time.sleep(0.02)
    assert state_of(proxy.pid) == "Z", "it ends although nobody reads"
    proxy.assert_books_balance()
    assert proxy.session(secret.session_id)["spent"] == str(402 * 1000)
    os.close(reader)
