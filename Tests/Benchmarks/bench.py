"""Farebox, nginx and HAProxy side by side: see scripts/bench.

One worker each, pinned to one core; the load and the upstream are pinned to the other. CPU is read from /proc (nanoseconds of
every thread of the proxy), so it counts the committer too. The proxies are interleaved, and ratios are taken inside a repetition.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "EndToEndTests"))

import idle  # noqa: E402
import scale  # noqa: E402
from channels import FRESH, SAME, WORKS as CHANNEL_WORKS, Channels  # noqa: E402
from counted import Allocations, SystemCalls  # noqa: E402
from events import WORK as EVENTS_WORK, Events  # noqa: E402
from harness import Farebox, free_port, open_session, parse_challenges, fetch  # noqa: E402
from payments import WORK as X402_WORK, Payments  # noqa: E402
from prepaid import PrepaidWallet  # noqa: E402
from processes import LOAD_CORE, PROXY_CORE, cpu_nanoseconds, pinned, wait_for_port  # noqa: E402
from protocols import WORKS as PROTOCOL_WORKS, Protocols  # noqa: E402

HERE = Path(__file__).resolve().parent
BODY = 10 * 1024 * 1024
CONNECTIONS = 64
SESSIONS = 1000
# 64 connections that rest for so long between two requests make about 5,000 requests a second.
PAUSE_MS = 12


# What a row may say, and how it is printed.
FORMATS = {
    "cpu_us": "{:7.1f} us CPU", "gb_per_cpu_s": "{:5.2f} GB/CPU-s", "rps": "{:9.0f}/s", "p50_us": "p50 {:.0f} us", "p99_us": "p99 {:.0f} us",
    "octets": "{:.0f} octets each", "system_calls": "{:.2f} system calls", "allocations": "{:.2f} allocations", "start_s": "starts in {:.2f} s",
}


class Upstream:
    """nginx with a body of 100 octets and one of 10 MiB, and the check that `auth_request` asks."""

    def __init__(self, folder):
        self.port = free_port()
        root = folder / "upstream"
        (root / "files").mkdir(parents=True)
        (root / "small").write_bytes(b"x" * 100)
        (root / "paid").write_bytes(b"x" * 100)
        (root / "files" / "large").write_bytes(os.urandom(1024) * (BODY // 1024))
        config = folder / "upstream.conf"
        config.write_text(f"""
            worker_processes 1; daemon off; pid {folder}/upstream.pid; error_log {folder}/upstream.log;
            events {{ worker_connections 4096; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 600s;
              client_body_temp_path {folder}/u1; proxy_temp_path {folder}/u2; fastcgi_temp_path {folder}/u3; uwsgi_temp_path {folder}/u4; scgi_temp_path {folder}/u5;
              server {{ listen 127.0.0.1:{self.port} reuseport; root {root}; open_file_cache max=100; default_type application/octet-stream; location = /check {{ return 204; }} }} }}""")
        self.process = subprocess.Popen(pinned(LOAD_CORE, ["nginx", "-c", str(config), "-p", str(folder)]))
        wait_for_port(self.port)


class Nginx:
    """nginx as the proxy: `proxy_pass` alone, or with an `auth_request` to a check behind HTTP, as nginx's own documentation configures it."""

    def __init__(self, folder, upstream, check):
        self.port = free_port()
        name = "nginx-auth" if check else "nginx"
        auth = "auth_request /check;" if check else ""
        config = folder / f"{name}.conf"
        config.write_text(f"""
            worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
            events {{ worker_connections 4096; }}
            http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
              client_body_temp_path {folder}/{name}1; proxy_temp_path {folder}/{name}2; fastcgi_temp_path {folder}/{name}3; uwsgi_temp_path {folder}/{name}4; scgi_temp_path {folder}/{name}5;
              upstream api {{ server 127.0.0.1:{upstream.port}; keepalive 128; keepalive_requests 100000000; }}
              server {{ listen 127.0.0.1:{self.port};
                location / {{ {auth} proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }}
                location = /check {{ internal; proxy_pass http://127.0.0.1:{upstream.port}/check; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header X-Original-URI $request_uri; }}
                location = /quote {{ add_header WWW-Authenticate 'Payment id="x", realm="x"' always; return 402 "payment required"; }} }} }}""")
        self.process = subprocess.Popen(pinned(PROXY_CORE, ["nginx", "-c", str(config), "-p", str(folder)]))
        self.pid = self.process.pid
        wait_for_port(self.port)


class HAProxy:
    def __init__(self, folder, upstream):
        self.port = free_port()
        config = folder / "haproxy.cfg"
        config.write_text(f"""
global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind 127.0.0.1:{self.port}
  http-request return status 402 content-type text/plain string "payment required" hdr WWW-Authenticate 'Payment id="x", realm="x"' if {{ path /quote }}
  default_backend b
backend b
  server s 127.0.0.1:{upstream.port} pool-max-conn 256
""")
        self.process = subprocess.Popen(pinned(PROXY_CORE, ["haproxy", "-f", str(config), "-db"]))
        self.pid = self.process.pid
        wait_for_port(self.port)


def wrk(port, path, seconds, connections, field=None, values=None, once=False, pause=0, folder=None):
    environment = dict(os.environ, LOAD_FIELD=field or "Accept", LOAD_ONCE="1" if once else "0", LOAD_PAUSE=str(pause))
    file = folder / "values"
    file.write_text("\n".join(values or ["*/*"]) + "\n")
    environment["LOAD_VALUES"] = str(file)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(HERE / "load.lua"), f"http://127.0.0.1:{port}{path}"]
    output = subprocess.run(pinned(LOAD_CORE, command), env=environment, capture_output=True, text=True, check=True).stdout
    numbers = [int(n) for n in re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output).groups()]
    octets = int(re.search(r"BYTES (\d+)", output).group(1))
    return numbers, octets


class Bench:
    def __init__(self, options, works):
        self.options = options
        self.works = set(works)
        self.samples = {}

    def start(self, folder):
        self.folder = folder
        self.upstream = Upstream(folder)
        self.farebox = Farebox(self.options.farebox, folder / "farebox", self.upstream.port, workers=1, prefix=pinned(PROXY_CORE, []))
        self.nginx = Nginx(folder, self.upstream, check=False)
        self.nginx_auth = Nginx(folder, self.upstream, check=True)
        self.haproxy = HAProxy(folder, self.upstream)
        self.wallet = PrepaidWallet.new()
        self.farebox.create_wallet(self.wallet, "1000000 USDC")
        self.protocols = Protocols(self.options, folder, self.upstream.port) if self.works & {*PROTOCOL_WORKS, *idle.WORKS} else None
        self.events = Events(self.options, folder) if EVENTS_WORK in self.works else None
        self.payments = Payments(self.options, folder, self.upstream.port) if X402_WORK in self.works else None
        self.channels = Channels(self.options, folder, self.upstream.port) if self.works & set(CHANNEL_WORKS) else None

    def stop(self):
        for name in ("protocols", "events", "payments", "channels"):
            if getattr(self, name, None):
                getattr(self, name).stop()
        items = [item for name in ("farebox", "nginx", "nginx_auth", "haproxy", "upstream") if (item := getattr(self, name, None))]
        for item in items:
            item.process.send_signal(signal.SIGQUIT if isinstance(item, (Nginx, Upstream)) else signal.SIGTERM)
        for item in items:
            try:
                item.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                item.process.kill()

    def sessions(self, path, count, deposit):
        """Opens `count` sessions and gives the `Prepaid-Session` values that use them."""
        return [open_session(self.farebox, self.wallet, path, deposit).short_form for _ in range(count)]

    def charges(self, count):
        """Collects `count` challenges and signs a credential for each."""
        values = []
        connection = self.farebox.connection()
        for _ in range(count):
            response = fetch(connection, "GET", "/paid")
            challenge = next(c for c in parse_challenges(response.headers) if c["intent"] == "charge")
            values.append(self.wallet.transfer(challenge))
        connection.close()
        return values

    def load(self, work, name, proxy, path, expected_failures=False, seconds=None, **load):
        """Gives requests, microseconds, p50, p99, octets and the proxy's CPU nanoseconds of one run."""
        before = cpu_nanoseconds(proxy.pid)
        (requests, micros, p50, p99, errors, bad), octets = wrk(proxy.port, path, seconds or self.options.seconds, folder=self.folder, **load)
        cpu = cpu_nanoseconds(proxy.pid) - before
        if not expected_failures and (bad or errors > CONNECTIONS):
            raise SystemExit(f"{work} {name}: {bad} answers were not 2xx, {errors} errors, of {requests}")
        if expected_failures and bad != requests:
            raise SystemExit(f"{work} {name}: only {bad} of {requests} answers were 402")
        return requests, micros, p50, p99, octets, cpu

    def measure(self, work, name, proxy, path, **load):
        requests, micros, p50, p99, octets, cpu = self.load(work, name, proxy, path, **load)
        self.record(work, name, {"cpu_us": cpu / 1000 / requests, "rps": requests / (micros / 1e6), "p50_us": p50, "p99_us": p99, "gb_per_cpu_s": octets / cpu if work == "body-h1" else None})

    def record(self, work, name, row):
        self.samples.setdefault((work, name), []).append(row)
        given = {key: value for key, value in row.items() if value is not None and not (key == "cpu_us" and row.get("gb_per_cpu_s"))}
        texts = [FORMATS[key].format(value) for key, value in given.items()]
        print(f"  {work:14} {name:11} " + "  ".join(texts), flush=True)

    def counts(self):
        """System calls and allocations per request of the free route and of sessions: counting costs time, so nothing else is measured here."""
        allocations = Allocations(self.folder)
        counted = Farebox(
            self.options.farebox, self.folder / "farebox-counted", self.upstream.port, workers=1, prefix=pinned(PROXY_CORE, []), environment=allocations.environment)
        wallet = PrepaidWallet.new()
        counted.create_wallet(wallet, "1000000 USDC")
        values = [open_session(counted, wallet, "/paid", 100_000_000).short_form for _ in range(100)]
        paid = dict(field="Prepaid-Session", values=values)
        try:
            for work, name, proxy, path, load in (
                ("free-h1", "farebox", counted, "/small", {}), ("session-h1", "farebox", counted, "/paid", paid),
                ("free-h1", "nginx", self.nginx, "/small", {}), ("free-h1", "haproxy", self.haproxy, "/small", {}),
            ):
                self.load(work, name, proxy, path, connections=CONNECTIONS, seconds=1, **load)
                before = allocations.count()
                with SystemCalls(proxy.pid) as calls:
                    requests = self.load(work, name, proxy, path, connections=CONNECTIONS, seconds=2, **load)[0]
                row = {"system_calls": calls.count / requests if calls.count else None}
                if before is not None and proxy is counted:
                    row["allocations"] = (allocations.count() - before) / requests
                self.record(f"{work}-counts", name, row)
        finally:
            counted.stop()

    def commit_us(self):
        """The median time of an append of one page to a file that need not grow, and its way to the disk, as the ledger's commits are."""
        times = []
        file = os.open(self.folder / "commits", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.write(file, bytes(1 << 20))
            os.fdatasync(file)
            for place in range(64):
                began = time.monotonic_ns()
                os.pwrite(file, bytes(16384), place * 16384)
                os.fdatasync(file)
                times.append((time.monotonic_ns() - began) / 1000)
        finally:
            os.close(file)
        return statistics.median(times)

    def repetition(self, works):
        c = dict(connections=CONNECTIONS)
        if "free-h1" in works:
            for name, proxy in (("farebox", self.farebox), ("nginx", self.nginx), ("haproxy", self.haproxy)):
                self.measure("free-h1", name, proxy, "/small", **c)
        if "session-h1" in works:
            self.measure("session-h1", "farebox", self.farebox, "/paid", field="Prepaid-Session", values=self.session_values, **c)
            self.measure("session-h1", "nginx", self.nginx, "/paid", **c)
            self.measure("session-h1", "nginx-auth", self.nginx_auth, "/paid", **c)
        if "spread-h1" in works:
            self.measure("spread-h1", "farebox", self.farebox, "/paid", field="Prepaid-Session", values=self.session_values, pause=PAUSE_MS, **c)
            self.measure("spread-h1", "nginx", self.nginx, "/paid", pause=PAUSE_MS, **c)
        if "alone-h1" in works:
            self.measure("alone-h1", "farebox", self.farebox, "/paid", field="Prepaid-Session", values=self.session_values, connections=1)
            self.measure("alone-h1", "nginx", self.nginx, "/paid", connections=1)
            self.record("alone-h1", "commit", {"p50_us": self.commit_us()})
        if "charge-h1" in works:
            self.measure("charge-h1", "farebox", self.farebox, "/paid", field="Authorization", values=self.charges(self.options.charges), once=True, **c)
        if "challenge-h1" in works:
            self.measure("challenge-h1", "farebox", self.farebox, "/paid", expected_failures=True, **c)
            self.measure("challenge-h1", "nginx", self.nginx, "/quote", expected_failures=True, **c)
            self.measure("challenge-h1", "haproxy", self.haproxy, "/quote", expected_failures=True, **c)
        if X402_WORK in works:
            self.payments.measure(self)
        if self.channels:
            self.channels.measure(self, works)
        if SAME in works:
            self.measure(SAME, "prepaid", self.farebox, "/paid", field="Prepaid-Session", values=self.session_values, **c)
        if "body-h1" in works:
            self.measure("body-h1", "farebox", self.farebox, "/files/large", field="Prepaid-Session", values=self.body_values, connections=8)
            self.measure("body-h1", "nginx", self.nginx, "/files/large", connections=8)
            self.measure("body-h1", "haproxy", self.haproxy, "/files/large", connections=8)

    def run(self, works):
        if {"session-h1", "spread-h1", "alone-h1", SAME} & set(works):
            self.session_values = self.sessions("/paid", SESSIONS, 100_000_000)
        if "body-h1" in works:
            self.body_values = self.sessions("/files/large", 8, 1_000_000_000)
        once = {"counts", *idle.WORKS, scale.WORKERS, scale.SESSIONS}
        for repetition in range(self.options.repetitions if set(works) - once else 0):
            print(f"repetition {repetition + 1} of {self.options.repetitions}", flush=True)
            self.repetition(works)
            if EVENTS_WORK in works:
                for name, row in self.events.measure():
                    self.record(EVENTS_WORK, name, row)
            for work in PROTOCOL_WORKS:
                if work in works:
                    for name, row in self.protocols.measure(work):
                        self.record(work, name, row)

        if "counts" in works:
            self.counts()
        for work in idle.WORKS:
            if work in works:
                for name, proxy, plain, tls in self.protocols.proxies():
                    count = idle.reach(idle.QUICK_CONNECTIONS if self.options.quick else idle.CONNECTIONS)
                    self.record(work, name, idle.measure(work, name, proxy, tls if work == "idle-tls" else plain, count))
        if scale.WORKERS in works:
            scale.workers(self)
        if scale.SESSIONS in works:
            scale.sessions(self)

    def rows(self):
        out = []
        for (work, proxy), samples in self.samples.items():
            median = {key: statistics.median(s[key] for s in samples) if samples[0][key] is not None else None for key in samples[0]}
            out.append({"work": work, "proxy": proxy, **dict.fromkeys(FORMATS), **median})
        return out

    def ratio(self, work, name, other, key="cpu_us"):
        pairs = zip(self.samples.get((work, name), []), self.samples.get((work, other), []))
        ratios = [a[key] / b[key] for a, b in pairs]
        return statistics.median(ratios) if ratios else None

    def inverse(self, work, name, other):
        ratio = self.ratio(work, name, other)
        return 1 / ratio if ratio else None

    def report(self):
        bars = [
            ("free route, CPU to nginx's proxy_pass", self.ratio("free-h1", "farebox", "nginx"), "<=", 1.0),
            ("session-paid, CPU to nginx's proxy_pass", self.ratio("session-h1", "farebox", "nginx"), "<=", 1.3),
            ("session-paid, CPU to nginx's auth_request", self.ratio("session-h1", "farebox", "nginx-auth"), "<=", 0.4),
            ("large metered body, GB per CPU second to nginx", self.ratio("body-h1", "farebox", "nginx", "gb_per_cpu_s"), ">=", 1.0),
        ]
        for work in ("session-h2c", "session-tls-h2"):
            bars.append((f"{work}, CPU to nginx's plain one", self.ratio(work, "farebox", "nginx"), "<=", 1.0))
            others = [r for name in ("h2o", "haproxy") if (r := self.ratio(work, "farebox", name))]
            bars.append((f"{work}, CPU to the better of h2o and HAProxy", max(others) if others else None, "<=", 1.4))
        bars.append(("session-tls-h1, CPU to nginx's plain one", self.ratio("session-tls-h1", "farebox", "nginx"), "<=", 1.3))
        bars.append(("full TLS handshakes per CPU second to nginx", self.inverse("handshake-tls", "farebox", "nginx"), ">=", 0.9))
        bars.append(("an event of a metered stream, CPU to nginx's unmetered", self.ratio(EVENTS_WORK, "farebox", "nginx"), "<=", 1.3))
        added = [a["p50_us"] - b["p50_us"] for a, b in zip(self.samples.get((EVENTS_WORK, "farebox"), []), self.samples.get((EVENTS_WORK, "nginx"), []))]
        bars.append(("an event's latency beside nginx's, us (half of them)", statistics.median(added) if added else None, "<=", 200.0))
        for name in ("x402", "pympp"):
            bars.append((f"a payment by x402, CPU to the package {name}'s server", self.ratio(X402_WORK, "farebox", name), "<=", 1 / 15))
        bounds = [
            a["cpu_us"] / (1.5 * r["cpu_us"] + b["cpu_us"])
            for a, b, r in zip(*(self.samples.get((FRESH, name), []) for name in ("farebox", "free", "recovery")))
        ]
        bars.append(("a fresh voucher, CPU to 1.5 recoveries + a free one", statistics.median(bounds) if bounds else None, "<=", 1.0))
        bars.append(("an unchanged voucher, CPU to a prepaid session's", self.ratio(SAME, "farebox", "prepaid"), "<=", 1.0))
        bars.append(("the same at 5,000 requests a second, CPU to nginx's", self.ratio("spread-h1", "farebox", "nginx"), "<=", 1.2))
        added = [a["p50_us"] - b["p50_us"] for a, b in zip(self.samples.get(("spread-h1", "farebox"), []), self.samples.get(("spread-h1", "nginx"), []))]
        bars.append(("... and latency beside nginx's, us (half of them)", statistics.median(added) if added else None, "<=", 1000))
        alone = [
            a["p50_us"] / (1.1 * b["p50_us"] + c["p50_us"])
            for a, b, c in zip(*(self.samples.get(("alone-h1", name), []) for name in ("farebox", "nginx", "commit")))
        ]
        bars.append(("one at a time, latency to nginx's + 10 % + a commit", statistics.median(alone) if alone else None, "<=", 1.0))
        for work, bar in zip(idle.WORKS, (1_100, 15_500, 16_000)):
            octets = [s["octets"] for s in self.samples.get((work, "farebox"), [])]
            bars.append((f"{work}, octets each", octets[0] if octets else None, "<=", bar))
        ratio = self.ratio(scale.WORKERS, "1 worker", "2 workers")
        bars.append(("two workers to one, were there cores for both", 2 * ratio if ratio else None, ">=", 1.8))
        many = next((name for work, name in self.samples if work == scale.SESSIONS and name[0] == "1" and name != "1,000 open"), None)
        if many:
            bars.append((f"CPU with {many} sessions, to 1,000", self.ratio(scale.SESSIONS, many, "1,000 open"), "<=", 1.1))
            bars.append(("... octets resident for each", self.samples[scale.SESSIONS, "all open"][0]["octets"], "<=", 200))
            bars.append(("... seconds to start", self.samples[scale.SESSIONS, "all open"][0]["start_s"], "<=", 5.0))
        challenge = [s["cpu_us"] for s in self.samples.get(("challenge-h1", "farebox"), [])]
        bars.append(("the bare 402, us of CPU", statistics.median(challenge) if challenge else None, "<=", 50.0))
        print("\nratios (median over repetitions)")
        for label, value, relation, bar in bars:
            if value is None:
                continue
            met = value <= bar if relation == "<=" else value >= bar
            print(f"  {label:52} {value:6.3g}   bar {relation} {bar:.3g}   {'met' if met else 'NOT met'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--farebox", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--work", action="append")
    options = parser.parse_args()
    # Whatever ends the run, the proxies end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Many short repetitions: what else runs on a machine, or on its host, comes in bursts, and a median passes over them.
    options.seconds = 1 if options.quick else 3
    options.repetitions = 6 if options.quick else 12
    options.charges = 4000 if options.quick else 12000
    works = options.work or ["free-h1", "session-h1", "spread-h1", "alone-h1", "charge-h1", "challenge-h1", "body-h1", EVENTS_WORK, X402_WORK, *CHANNEL_WORKS, *PROTOCOL_WORKS, "counts", *idle.WORKS, scale.WORKERS, scale.SESSIONS]
    idle.raise_limit()
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
        os.chmod(folder, 0o755)
        bench = Bench(options, works)
        try:
            bench.start(Path(folder))
            bench.run(works)
        finally:
            bench.stop()
        bench.report()
        if options.json:
            Path(options.json).write_text(json.dumps(bench.rows(), indent=1) + "\n")


if __name__ == "__main__":
    main()
