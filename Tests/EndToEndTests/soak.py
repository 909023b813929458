"""Minutes of mixed load on one proxy, with reloads, upstreams that fail and clients that are slow: memory and descriptors stay what they were,
nothing goes wrong that was not made to, and the books are right in the end. `scripts/soak` runs it.

What is kept for a reason grows with what was done: a closed session's answers for 24 hours. So memory may grow by so much for each, and by no more;
spent challenges are forgotten when they have expired, soon here.
"""

import argparse
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import Farebox, fetch, open_session
from load import KINDS, Load, SecureSide
from prepaid import PrepaidWallet
from remembering import Crowd

FLAKY = """
[[upstream]]
name = "flaky"
url = "http://127.0.0.1:@FLAKY@"

[[route]]
id = "flaky"
prefix = "/flaky/"
upstream = "flaky"
price = "0.001 USDC per request"

[access-log]
file = "access.jsonl"
"""
# Octets of memory that a closed session may take, with the answers to its top-ups.
KEPT = 3_072
SLACK = 8 << 20
RELOAD_SECONDS, FAILURE_SECONDS = 5, 7
SERVER = "import sys, threading; sys.path.insert(0, sys.argv[1]); import collections, upstream; u = upstream.Upstream(port=int(sys.argv[2])); u.requests = collections.deque(maxlen=100); print(u.port, flush=True); threading.Event().wait()"


class Server:
    """An upstream in a process of its own, that can be stopped, killed and started again on its port."""

    def __init__(self):
        self.port = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(Path(__file__).parent), str(self.port)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()


class Work(threading.Thread):
    """Something that is done again and again until the end; what it did not expect is remembered."""

    def __init__(self, name, step, ended, seed):
        super().__init__(daemon=True, name=name)
        self.step, self.ended, self.random = step, ended, random.Random(seed)
        self.count, self.failures = 0, []
        self.start()

    def run(self):
        while not self.ended.is_set():
            try:
                self.step(self.random)
                self.count += 1
            except Exception as error:
                self.failures.append(f"{self.name}: {error!r}")
                self.ended.wait(1)


class Soak:
    def __init__(self, binary, minutes, folder, seed):
        self.minutes, self.ended, self.steady, self.flaky = minutes, threading.Event(), Server(), Server()
        self.secure = SecureSide(folder / "secure")
        text = self.secure.configuration.replace("[[route]]\n", "[[route]]\nupstream = \"api\"\n") + FLAKY.replace("@FLAKY@", str(self.flaky.port))
        text = text.replace("workers = {workers}", 'workers = {workers}\nchallenge-expires = "30 s"')
        self.proxy = Farebox(binary, folder / "proxy", self.steady.port, configuration=text)
        wallet = PrepaidWallet.new()
        self.proxy.create_wallet(wallet, "1000000 USDC")
        self.key = {"Prepaid-Session": open_session(self.proxy, wallet, "/flaky/echo", 900_000_000_000).short_form}
        self.statuses = {}
        steps = [self.reload, self.fail, self.meet_failures, self.meet_failures, self.be_slow, self.be_slow, self.come_and_go]
        self.crowd = Crowd(self.proxy, 2, seed)
        self.load = Load(self.proxy, KINDS, self.secure)
        self.works = [Work(step.__name__, step, self.ended, seed + number) for number, step in enumerate(steps)]

    # MARK: what disturbs

    def reload(self, chance):
        text = self.proxy.configuration.read_text()
        prices = ['price = "0.01 USDC per request"', 'price = "0.02 USDC per request"']
        old, new = prices if prices[0] in text else reversed(prices)
        self.proxy.configuration.write_text(text.replace(old, new))
        done = self.proxy.run("reload")
        assert done.returncode == 0, done.stderr
        if chance.random() < 0.2:
            self.proxy.process.send_signal(signal.SIGUSR1)
        self.ended.wait(RELOAD_SECONDS)

    def fail(self, chance):
        """The flaky upstream is killed or stopped for a while."""
        self.ended.wait(FAILURE_SECONDS * chance.random() * 2)
        if chance.random() < 0.5:
            self.flaky.kill()
            self.ended.wait(2 * chance.random())
            self.flaky.start()
        else:
            self.flaky.process.send_signal(signal.SIGSTOP)
            self.ended.wait(2 * chance.random())
            self.flaky.process.send_signal(signal.SIGCONT)

    # MARK: clients

    def meet_failures(self, chance):
        """Asks the upstream that fails; an answer is the proxy's or the upstream's, and comes."""
        path = chance.choice(["/flaky/echo", "/flaky/echo", "/flaky/die", "/flaky/cut/100000", "/flaky/status/500", "/flaky/slow/50", "/flaky/chunked/300000"])
        with self.proxy.connection(timeout=60) as c:
            for _ in range(chance.randrange(1, 10)):
                response = fetch(c, "GET", path, self.key)
                assert response.status in (200, 500, 502, 503, 504), (path, response.status, response.body[:200])
                self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
                if not response.complete or response.get("connection", "").lower() == "close":
                    return
        time.sleep(0.02)

    def be_slow(self, chance):
        """Sends a head or a body bit by bit, or reads a long answer so, and is cut off or leaves."""
        way = chance.choice(["head", "body", "reader", "idle"])
        with self.proxy.connection(timeout=30) as c:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                if way == "head":
                    c.send(b"GET /free/echo HTTP/1.1\r\nHost: x\r\n")
                elif way == "body":
                    c.send(b"POST /free/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                elif way == "reader":
                    c.request("GET", "/free/bytes/20000000")
                for _ in range(chance.randrange(5, 60)):
                    if self.ended.wait(0.1):
                        break
                    if way == "reader":
                        c.socket.recv(500)
                    elif way != "idle":
                        c.send(b"X: 1\r\n")
            except OSError:
                pass

    def come_and_go(self, chance):
        """Connects, says nothing, something or nonsense, and is gone, often in the rudest way."""
        with self.proxy.connection(timeout=10) as c:
            try:
                c.send(chance.choice([b"", b"GET ", b"GET /api/echo HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50),
                                      b"GET /free/bytes/5000000 HTTP/1.1\r\nHost: x\r\n\r\n", chance.randbytes(300)]))
                if chance.random() < 0.5:
                    c.socket.settimeout(0.2)
                    c.socket.recv(1000)
            except OSError:
                pass
            if chance.random() < 0.5:
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.01)

    # MARK: what is looked at

    def failures(self):
        ended = [] if self.proxy.process.poll() is None else ["the proxy has ended"]
        return ended + self.load.failures + self.crowd.failures + [failure for work in self.works for failure in work.failures]

    def kept(self):
        """How many sessions were closed, which are remembered for a reason."""
        return self.crowd.count("close")

    def descriptors(self):
        return sum(1 for _ in Path(f"/proc/{self.proxy.pid}/fd").iterdir())

    def done(self):
        return sum(self.load.counts.values()) + sum(sum(payer.counts.values()) for payer in self.crowd.payers) + sum(self.statuses.values())

    def run(self):
        """Prints a line a minute; gives what went wrong."""
        began = time.monotonic()
        print(f"{'minute':>6} {'requests':>9} {'a second':>8} {'injected':>8} {'MiB':>7} {'descriptors':>11} {'closed':>8} {'reloads':>7} {'errors':>6}", flush=True)
        looks, last = [], 0
        minute = 0
        while minute < self.minutes and not self.failures():
            minute += 1
            memory, descriptors = [], []
            while time.monotonic() < began + 60 * minute:
                time.sleep(1)
                memory.append(self.proxy.resident_kilobytes() << 10)
                descriptors.append(self.descriptors())
            look = (statistics.median(memory), statistics.median(descriptors), self.kept())
            looks.append(look)
            done, injected = self.done(), sum(count for status, count in self.statuses.items() if status >= 500)
            print(f"{minute:>6} {done:>9} {(done - last) // 60:>8} {injected:>8} {look[0] / (1 << 20):>7.1f} {look[1]:>11.0f} {look[2]:>8} {self.works[0].count:>7} {len(self.failures()):>6}", flush=True)
            last = done
        wrong = self.failures()
        warm, end = looks[min(len(looks) - 1, max(1, len(looks) // 5)) - 1], looks[-1]
        allowed = SLACK + KEPT * (end[2] - warm[2])
        if end[0] - warm[0] > allowed:
            wrong.append(f"memory has grown by {(end[0] - warm[0]) / (1 << 20):.1f} MiB since it was warm; {allowed / (1 << 20):.1f} are accounted for")
        if end[1] > warm[1] * 1.25 + 16:
            wrong.append(f"descriptors have grown from {warm[1]:.0f} to {end[1]:.0f}")
        return wrong + self.end()

    def end(self):
        """Ends the load, and looks whether the proxy is as idle as it should be, and its books in order."""
        self.ended.set()
        try:
            for work in self.works:
                work.join(90)
            self.load.stop()
            self.proxy.command("session", "close", self.key["Prepaid-Session"].split(";")[0])
            self.crowd.stop()
        except (AssertionError, OSError, RuntimeError) as error:
            return [f"at the end: {error!r}"]
        finally:
            for server in (self.steady, self.flaky):
                server.kill()
        log = self.proxy.log_path.read_text().splitlines()
        return [f"log: {line}" for line in log if ("level=error" in line or "level=critical" in line) and "upstream=flaky" not in line][:10]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--farebox", required=True)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed}")
    folder = Path(tempfile.mkdtemp(prefix="farebox-soak-"))
    wrong = Soak(arguments.farebox, arguments.minutes, folder, arguments.seed).run()
    for fault in wrong:
        print(f"WRONG: {fault}")
    print(f"what is left of it: {folder}" if wrong else "nothing went wrong")
    if not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
