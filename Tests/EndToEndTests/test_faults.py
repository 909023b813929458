"""What the world does to a proxy: full disks, clocks that jump, upstreams that stop, floods that must leave no trace."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import CONFIGURATION, Farebox, challenge_of, fetch, open_session, parse_challenges
from prepaid import PrepaidWallet, b64u

PRICE = 1000
PATH = "/api/echo"


def configuration(top="", timeouts="", tables="", rates=""):
    text = CONFIGURATION.replace("workers = {workers}", "workers = {workers}\n" + top).replace("[timeouts]", "[timeouts]\n" + timeouts)
    if rates:
        text = text.replace("challenges-per-second = 0\nfailures-per-second = 0", rates)
    return text + tables


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    assert condition(), f"not within {seconds} s"


def status_of(proxy, path=PATH, headers=(), method="GET"):
    with proxy.connection() as c:
        return fetch(c, method, path, headers).status


def pay(proxy, wallet, path=PATH, headers=()):
    with proxy.connection() as c:
        value = wallet.transfer(challenge_of(fetch(c, "GET", path, headers), "charge"))
        return fetch(c, "GET", path, [*headers, ("Authorization", value)])


# MARK: the disk


class Disk:
    """A small file system of its own under a proxy's state, that can be filled and emptied."""

    def __init__(self, folder, megabytes):
        self.folder, self.ballast = folder, folder / "ballast"
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)], check=True)

    def fill(self, spare=0):
        """Takes all space; under load the proxy may release its reserve, `spare` octets, at any moment."""
        with open(self.ballast, "wb", buffering=0) as file:
            for block in (1 << 20, 4096, 1):
                try:
                    while file.write(b"\0" * block):
                        pass
                except OSError:
                    pass
        free = os.statvfs(self.folder)
        assert free.f_bavail * free.f_frsize <= spare

    def free(self):
        self.ballast.unlink()

    def remove(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        disk = Disk(tmp_path / "state", 48)
    except subprocess.CalledProcessError:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    disk.remove()


def test_full_disk_stops_sales_and_nothing_else(binary, upstream, tmp_path, disk):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration(tables='\n[ledger]\nreserve = "4 MiB"\n'))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    with proxy.connection() as c:
        unpaid = fetch(c, "GET", PATH)
    challenge, transfer = challenge_of(unpaid, "session"), wallet.transfer(challenge_of(unpaid, "charge"))
    probe, *sessions = [open_session(proxy, wallet, PATH, 1_000_000 if number == 0 else 100_000) for number in range(41)]
    reference = pay(proxy, wallet).receipt()["reference"]
    before = proxy.log_path.read_text()
    for _ in range(2):
        disk.fill()
        wait_for(lambda: status_of(proxy, headers={"Prepaid-Session": probe.short_form}) == 503, 3)
        served = upstream.count()
        with proxy.connection() as c:
            for headers in ({"Prepaid-Session": probe.short_form}, {"Authorization": transfer}, {}):
                response = fetch(c, "GET", PATH, headers)
                assert response.status == 503 and int(response.get("retry-after")) > 0 and response.receipt() is None, response.body
                assert response.problem() == "ledger-unavailable"
        assert upstream.count() == served, "the upstream was asked"
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: status_of(proxy, "/free/echo"), range(40))) == {200}
        assert status_of(proxy, "/healthz") == 200
        # What is open can be closed, and comes back, from the reserve.
        closing, sessions = sessions[:15], sessions[15:]
        for secret in closing:
            with proxy.connection() as c:
                deadline = time.monotonic() + 10
                while (response := fetch(c, "GET", PATH, {"Authorization": wallet.bearer(challenge, secret, "close")})).status == 503:
                    assert time.monotonic() < deadline, "a close must get through"
                    time.sleep(0.2)
                assert response.status == 200 and response.json()["refunded"] == str(100_000 - PRICE), response.body
        disk.free()
        wait_for(lambda: status_of(proxy, headers={"Prepaid-Session": probe.short_form}) == 200, 5)
    added = proxy.log_path.read_text()[len(before):]
    assert "disk" in added.lower(), added
    assert added.count("\n") < 60, "the log is not flooded"
    assert pay(proxy, wallet).status == 200
    proxy.command("refund", reference)
    proxy.stop()
    proxy.assert_books_balance()


def test_full_disk_under_load_loses_and_doubles_nothing(binary, upstream, tmp_path, disk):
    """The disk fills while payments are on their way: what was acknowledged is in the books, and no more than what was asked for."""
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration(tables='\n[ledger]\nreserve = "1 MiB"\n'))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "100 USDC")
    secret = open_session(proxy, wallet, PATH, 50_000_000)
    counts = {"served": 0, "refused": 0}
    end = time.monotonic() + 6

    def load(_):
        served = refused = 0
        while time.monotonic() < end:
            try:
                with proxy.connection() as c:
                    while time.monotonic() < end:
                        response = fetch(c, "GET", PATH, {"Prepaid-Session": secret.short_form})
                        assert response.status in (200, 503), response.status
                        served += response.status == 200
                        refused += response.status == 503
                        if response.status == 503:
                            time.sleep(0.02)
            except (ConnectionError, OSError):
                pass
        return served, refused

    with ThreadPoolExecutor(9) as pool:
        results = [pool.submit(load, n) for n in range(8)]
        for _ in range(2):
            time.sleep(1)
            disk.fill(spare=1 << 20)
            time.sleep(1.2)
            disk.free()
        for result in results:
            counts["served"] += result.result()[0]
            counts["refused"] += result.result()[1]
    assert counts["served"] > 50 and counts["refused"] > 0, counts
    wait_for(lambda: status_of(proxy, headers={"Prepaid-Session": secret.short_form}) == 200, 5)
    spent = int(proxy.session(secret.session_id)["spent"])
    acknowledged = counts["served"] + 2  # the open, and the last look
    assert spent >= acknowledged * PRICE, "an acknowledged debit was lost"
    assert spent <= (acknowledged + counts["refused"] + 16) * PRICE
    proxy.stop()
    proxy.assert_books_balance()


# MARK: the clock


class Clock:
    """A wall clock for one process, moved by writing a number of seconds into a file; the monotonic clock goes on as it does."""

    SHIM = r"""
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/mman.h>
        #include <sys/syscall.h>
        #include <sys/time.h>
        #include <time.h>
        #include <unistd.h>
        static volatile long *offset;
        __attribute__((constructor)) static void begin(void) {
          int file = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
          offset = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
          close(file);
        }
        int clock_gettime(clockid_t clock, struct timespec *now) {
          long failed = syscall(SYS_clock_gettime, clock, now);
          if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
          return (int)failed;
        }
        int gettimeofday(struct timeval *now, void *zone) {
          struct timespec time;
          (void)zone;
          clock_gettime(CLOCK_REALTIME, &time);
          now->tv_sec = time.tv_sec;
          now->tv_usec = time.tv_nsec / 1000;
          return 0;
        }
        time_t time(time_t *now) {
          struct timespec time;
          clock_gettime(CLOCK_REALTIME, &time);
          if (now) *now = time.tv_sec;
          return time.tv_sec;
        }
    """

    def __init__(self, folder, compiler):
        self.offset, source, library = folder / "offset", folder / "clock.c", folder / "clock.so"
        self.offset.write_bytes(bytes(8))
        source.write_text(self.SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self.offset)}

    def move(self, seconds):
        with open(self.offset, "r+b") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def clock(tmp_path):
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler for the shim")
    return Clock(tmp_path, compiler)


HOUR, DAY, YEAR = 3600, 86400, 31_557_600


def test_clock_set_reopens_no_replay(binary, upstream, tmp_path, clock):
    proxy = Farebox(binary, tmp_path, upstream.port, environment=clock.environment)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    with proxy.connection() as c:
        value = wallet.transfer(challenge_of(fetch(c, "GET", PATH), "charge"))
        unused = wallet.transfer(challenge_of(fetch(c, "GET", PATH), "charge"))
        assert fetch(c, "GET", PATH, {"Authorization": value}).status == 200
        before = proxy.balance(wallet)
        for seconds in (-HOUR, -DAY, HOUR, 3 * DAY, 20 * YEAR, 0, -HOUR):
            clock.move(seconds)
            time.sleep(1.3)
            response = fetch(c, "GET", PATH, {"Authorization": value})
            assert response.status in (402, 403) and response.receipt() is None, (seconds, response.status, response.body)
            assert proxy.balance(wallet) == before, f"paid again with the clock at {seconds:+d} s"
        # What was never paid may be paid once while the clock says that it has not expired, and not again after the next jump.
        paid = [fetch(c, "GET", PATH, {"Authorization": unused}).status for _ in range(2)]
        clock.move(0)
        time.sleep(0.3)
        paid.append(fetch(c, "GET", PATH, {"Authorization": unused}).status)
        assert paid.count(200) <= 1 and proxy.balance(wallet) == before - PRICE * paid.count(200), paid
    proxy.stop()
    proxy.assert_books_balance()


def test_clock_set_back_reopens_no_daily_cap_and_selling_goes_on(binary, upstream, tmp_path, clock):
    proxy = Farebox(binary, tmp_path, upstream.port, environment=clock.environment)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC", "--daily-cap", "0.002 USDC")
    assert [pay(proxy, wallet).status for _ in range(3)] == [200, 200, 403]
    for seconds in (-HOUR, -DAY, -400 * DAY):
        clock.move(seconds)
        time.sleep(0.3)
        assert pay(proxy, wallet).status == 403, f"the cap was reopened at {seconds:+d} s"
    clock.move(DAY)
    time.sleep(0.3)
    assert [pay(proxy, wallet).status for _ in range(3)] == [200, 200, 403], "a new day"
    clock.move(0)
    time.sleep(0.3)
    assert pay(proxy, wallet).status == 403, "the ledger's day is the later one"
    other = PrepaidWallet.new()
    proxy.create_wallet(other, "1 USDC")
    response = pay(proxy, other)
    assert response.status in (200, 402), response.body
    clock.move(20 * YEAR)
    time.sleep(0.3)
    assert pay(proxy, other).status == 200, "past 2038"
    secret = open_session(proxy, other, PATH, 100_000)
    assert status_of(proxy, headers={"Prepaid-Session": secret.short_form}) == 200
    proxy.stop()
    proxy.start()
    assert status_of(proxy, headers={"Prepaid-Session": secret.short_form}) == 200
    proxy.stop()
    proxy.assert_books_balance()


def test_timeouts_do_not_follow_the_clock(binary, upstream, tmp_path, clock):
    proxy = Farebox(binary, tmp_path, upstream.port, environment=clock.environment)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    secret = open_session(proxy, wallet, "/brief/echo", 100_000)
    with proxy.connection() as slow, proxy.connection() as idle:
        assert fetch(idle, "GET", "/free/echo").status == 200
        slow.request("GET", "/free/slow/1500")
        time.sleep(0.2)
        clock.move(DAY)
        assert slow.read().status == 200
        assert fetch(idle, "GET", "/free/echo").status == 200, "an idle connection outlives a jump"
    clock.move(-DAY)
    # The session's idle timeout of 2 s runs by the monotonic clock: not early by a day, and not late by two.
    wait_for(lambda: proxy.balance(wallet) == 1_000_000 - PRICE, 10)
    assert status_of(proxy, "/brief/echo", {"Prepaid-Session": secret.short_form}) in (402, 410)
    proxy.stop()
    proxy.assert_books_balance()


# MARK: the upstream


@pytest.fixture
def apart():
    """An upstream in a process of its own, that can be stopped."""
    script = "import sys, time; sys.path.insert(0, sys.argv[1]); from upstream import Upstream; print(Upstream().port, flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
    process.port = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()


def test_upstream_stopped_and_continued(binary, tmp_path, apart):
    proxy = Farebox(binary, tmp_path, apart.port, configuration=configuration(timeouts='first-octet = "1 s"\nupstream-idle = "1500 ms"'))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    assert pay(proxy, wallet).status == 200
    files = open_session(proxy, wallet, "/files/drip/300", 100_000)
    with proxy.connection() as stream:
        stream.request("GET", "/files/drip/300", {"Prepaid-Session": files.short_form})
        assert stream.head().status == 200
        chunks = stream.chunks()
        delivered = sum(len(next(chunks)) for _ in range(5))
        before = proxy.balance(wallet)
        apart.send_signal(signal.SIGSTOP)
        try:
            response = pay(proxy, wallet)
            assert response.status == 504 and response.receipt() is None
            assert proxy.balance(wallet) == before, "nothing came, nothing is paid"
            with pytest.raises((ConnectionError, AssertionError, ValueError)):
                for chunk in chunks:
                    delivered += len(chunk)
                pytest.fail("the stream ended as if it were whole")
        finally:
            apart.send_signal(signal.SIGCONT)
    # What it finds broken when it wakes up is not repeated by itself: a charge is voided, and made again.
    deadline = time.monotonic() + 20
    while pay(proxy, wallet).status != 200:
        assert time.monotonic() < deadline, "the upstream serves no more"
        time.sleep(0.1)
    # What was delivered is paid, the rest of the step is given back.
    session = proxy.session(files.session_id)
    assert session["spent"] == str(-(-delivered * 10_000 // 1_000_000)) and session["held"] == "0", (delivered, session)
    proxy.stop()
    proxy.assert_books_balance()


def test_upstream_gone_and_back(binary, tmp_path, apart):
    proxy = Farebox(binary, tmp_path, apart.port)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    assert pay(proxy, wallet).status == 200
    before = proxy.balance(wallet)
    apart.kill()
    apart.wait()
    response = pay(proxy, wallet)
    assert response.status == 502 and response.receipt() is None and proxy.balance(wallet) == before
    assert status_of(proxy, "/free/echo") == 502
    script = "import sys, threading; sys.path.insert(0, sys.argv[1]); import upstream; u = upstream.Upstream(port=int(sys.argv[2])); threading.Event().wait()"
    back = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent), str(apart.port)])
    try:
        wait_for(lambda: status_of(proxy, "/free/echo") == 200, 5)
        assert pay(proxy, wallet).status == 200
    finally:
        back.kill()
        back.wait()
    proxy.stop()
    proxy.assert_books_balance()


# MARK: floods


def stored(proxy):
    """The octets of everything that is kept: each file's size, and the audit log's events."""
    sizes = {path.name: path.stat().st_size for path in (proxy.state / "ledger").iterdir()}
    events = [json.loads(line)["event"] for line in proxy.audit_path.read_bytes().splitlines()]
    return sizes, events, proxy.log_path.stat().st_size


def quiet(proxy):
    """Waits until the events of the past stand in the log with their checkpoint."""
    time.sleep(2.5)
    return stored(proxy)


FORWARDED = 'trusted-proxies = ["127.0.0.0/8"]'


def client(number):
    return ("X-Forwarded-For", f"198.51.100.{number}")


def test_unpaid_floods_write_nothing_and_are_limited_by_address(binary, upstream, tmp_path):
    rates = "challenges-per-second = 20\nchallenge-burst = 50\nfailures-per-second = 20\nfailure-burst = 50"
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration(top=FORWARDED, rates=rates))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    assert pay(proxy, wallet, headers=[client(250)]).status == 200
    sizes, events, log = quiet(proxy)
    served = upstream.count()

    def flood(number):
        with proxy.connection() as c:
            return [fetch(c, "GET", f"{PATH}?n={n}", [client(number)]) for n in range(400)]

    with ThreadPoolExecutor(4) as pool:
        answers = [r for batch in pool.map(flood, (1, 1, 2, 2)) for r in batch]
    statuses = {r.status for r in answers}
    assert statuses == {402, 429}, statuses
    limited = next(r for r in answers if r.status == 429)
    assert int(limited.get("retry-after")) > 0 and not parse_challenges(limited.headers)
    assert sum(r.status == 402 for r in answers) >= 100
    assert pay(proxy, wallet, headers=[client(9)]).status == 200, "another address is not limited"
    assert upstream.count() == served + 1
    later_sizes, later_events, later_log = quiet(proxy)
    added = later_events[len(events):]
    assert added.count("charge.settled") == 1 and set(added) <= {"charge.settled", "challenges", "checkpoint"}, added
    assert len(added) <= 12, added
    assert later_sizes == sizes, "the ledger's files have grown"
    assert later_log == log, proxy.log_path.read_text()[-500:]
    proxy.stop()
    proxy.assert_books_balance()


def test_floods_of_bad_signatures_write_nothing_and_are_limited_by_address(binary, upstream, tmp_path):
    rates = "challenges-per-second = 0\nfailures-per-second = 5\nfailure-burst = 20"
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration(top=FORWARDED, rates=rates))
    wallet, mallory = PrepaidWallet.new(), PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    mallory.did = wallet.did
    with proxy.connection() as c:
        challenges = [challenge_of(fetch(c, "GET", PATH, [client(3)]), "charge") for _ in range(20)]
    sizes, events, log = quiet(proxy)
    served, before = upstream.count(), proxy.balance(wallet)

    def flood(number):
        statuses = []
        with proxy.connection() as c:
            for n in range(150):
                value = mallory.transfer(challenges[n % len(challenges)])
                statuses.append(fetch(c, "GET", PATH, [client(number), ("Authorization", value)]).status)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        statuses = [s for batch in pool.map(flood, (1, 1, 1, 1)) for s in batch]
    assert set(statuses) == {402, 429} and statuses.count(429) > 300, {s: statuses.count(s) for s in set(statuses)}
    # The wallet's owner pays from another address, with a challenge that was attacked.
    with proxy.connection() as c:
        assert fetch(c, "GET", PATH, [client(2), ("Authorization", wallet.transfer(challenges[0]))]).status == 200
    assert upstream.count() == served + 1 and proxy.balance(wallet) == before - PRICE
    later_sizes, later_events, later_log = quiet(proxy)
    added = later_events[len(events):]
    assert set(added) <= {"charge.settled", "challenges", "checkpoint"} and added.count("charge.settled") == 1, added
    assert later_sizes == sizes and later_log == log
    proxy.stop()
    proxy.assert_books_balance()


def test_floods_of_garbage_leave_no_trace(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    secret = open_session(proxy, wallet, PATH, 10_000)
    sizes, events, log = quiet(proxy)
    resident = proxy.resident_kilobytes()
    garbage = [
        {"Authorization": "Payment " + b64u(os.urandom(3000))}, {"Authorization": "Payment " + b64u(b'{"challenge":{},"payload":{}}')},
        {"Prepaid-Session": f"{secret.session_id}; key={'0' * 64}"}, {"Prepaid-Session": "x" * 500}, {"Prepaid-Session": f"{'0' * 64}; key={'1' * 64}"},
    ]

    def flood(headers):
        with proxy.connection() as c:
            for _ in range(200):
                assert fetch(c, "GET", PATH, headers).status in (400, 402, 403, 410, 429)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(flood, garbage))
    later_sizes, later_events, later_log = quiet(proxy)
    assert set(later_events[len(events):]) <= {"challenges", "checkpoint"}
    assert later_sizes == sizes and later_log == log
    assert proxy.resident_kilobytes() - resident < 8_192
    assert status_of(proxy, headers={"Prepaid-Session": secret.short_form}) == 200
    proxy.stop()
    text = b"".join(p.read_bytes() for p in [proxy.audit_path, proxy.log_path])
    assert secret.hex.encode() not in text, "a session's secret stands in a log"
    proxy.assert_books_balance()
