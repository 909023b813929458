"""Runs a real Farebox in front of a real upstream, and talks to it over raw sockets so that every octet is ours to choose."""

import atexit
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from prepaid import PrepaidWallet, SessionSecret, b64u_decode

STARTUP_SECONDS = 20


def own_ports():
    """Ports that the system gives to nobody by itself, in a slice of its own for each worker of pytest-xdist: what `free_port` has given stays free
    until it is used, and while its user is down."""
    size = (32768 - 10240) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    lowest = 10240 + size * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = random.randrange(size)
    return itertools.cycle(lowest + (first + offset) % size for offset in range(size))


PORTS = own_ports()


def free_port():
    for port in PORTS:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


@dataclass
class Response:
    status: int
    reason: str
    headers: list
    body: bytes = b""
    trailers: list = field(default_factory=list)
    complete: bool = True

    def get(self, name, default=None):
        return next((v for n, v in self.headers if n.lower() == name.lower()), default)

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)

    def problem(self):
        """The last segment of the problem document's type."""
        assert self.get("content-type", "").startswith("application/problem+json"), (self.status, self.headers, self.body[:200])
        return self.json()["type"].split("/problems/")[-1]

    def receipt(self):
        value = self.get("payment-receipt")
        return json.loads(b64u_decode(value)) if value else None


class Connection:
    """One HTTP/1.1 connection: writes what it is given, reads responses strictly enough to notice a wrong framing. Over TLS with an
    `ssl.SSLContext`."""

    def __init__(self, port, timeout=15, host="127.0.0.1", tls=None):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.authority = f"127.0.0.1:{port}"

    def send(self, octets):
        self.socket.sendall(octets)

    def request(self, method, target, headers=(), body=None, version="HTTP/1.1"):
        lines = [f"{method} {target} {version}"]
        headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        names = {name.lower() for name, _ in headers}
        if "host" not in names:
            lines.append(f"Host: {self.authority}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None and "content-length" not in names and "transfer-encoding" not in names:
            lines.append(f"Content-Length: {len(body)}")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b""))

    def fill(self):
        chunk = self.socket.recv(262144)
        self.buffer += chunk
        return len(chunk)

    def line(self):
        while b"\n" not in self.buffer:
            if not self.fill():
                raise ConnectionError("closed in a line")
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), line
        return line[:-1].decode("latin-1")

    def fields(self):
        fields = []
        while line := self.line():
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return fields

    def head(self):
        line = self.line()
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) ?(.*)", line)
        assert match, line
        return Response(int(match[1]), match[2], self.fields())

    def exactly(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise ConnectionError(f"closed with {count - len(self.buffer)} octets missing")
        octets, self.buffer = self.buffer[:count], self.buffer[count:]
        return octets

    def chunks(self):
        """Yields the chunks of a chunked body, then returns; the trailers are left in `self.trailers`."""
        while True:
            size = int(self.line().split(";")[0], 16)
            if size == 0:
                self.trailers = self.fields()
                return
            data = self.exactly(size)
            assert self.line() == ""
            yield data

    def read(self, method="GET", interim=None):
        """Reads one final response, body and all."""
        while True:
            response = self.head()
            if response.status >= 200 or response.status == 101:
                break
            if interim is not None:
                interim.append(response.status)
        if method == "HEAD" or response.status in (204, 304):
            return response
        try:
            if "chunked" in (response.get("transfer-encoding") or ""):
                body = []
                try:
                    for chunk in self.chunks():
                        body.append(chunk)
                    response.trailers = self.trailers
                finally:
                    response.body = b"".join(body)
            elif (length := response.get("content-length")) is not None:
                response.body = self.exactly(int(length))
            else:
                while self.fill():
                    pass
                response.body, self.buffer = self.buffer, b""
        except ConnectionError:
            response.complete = False
            response.body = response.body or self.buffer
        return response

    def is_closed(self, seconds=3):
        """Whether the peer closes within `seconds` without sending more."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def fetch(connection, method, target, headers=(), body=None):
    connection.request(method, target, headers, body)
    return connection.read(method)


def parse_challenges(headers):
    """The Payment challenges of a response's fields, as dictionaries of parameters."""
    challenges = []
    for name, value in headers:
        if name.lower() == "www-authenticate" and value.startswith("Payment "):
            challenges.append({k: v.replace('\\"', '"') for k, v in re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', value)})
    return challenges


def challenge_of(response, intent):
    return next(c for c in parse_challenges(response.headers) if c["intent"] == intent)


def request_of(challenge):
    return json.loads(b64u_decode(challenge["request"]))


def open_session(farebox, wallet, path, deposit):
    """Opens a session on `path` with a paid GET, and gives its secret."""
    with farebox.connection() as connection:
        challenge = challenge_of(fetch(connection, "HEAD", path), "session")
        secret = SessionSecret.new()
        response = fetch(connection, "HEAD", path, {"Authorization": wallet.open(challenge, secret, deposit)})
        assert response.status == 200, (response.status, response.body)
        return secret


# What every configuration of the tests begins with.
SHOP = """
realm = "127.0.0.1"
origin = "http://127.0.0.1:{port}"
state = "{state}"
workers = {workers}

[[listen]]
address = "127.0.0.1:{port}"

[[currency]]
code = "usdc"
decimals = 6

[[merchant]]
id = "acme"
"""

CONFIGURATION = SHOP + """
[cors]
origins = ["*"]

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[limits]
connections-per-client = 20000

[timeouts]
header-read = "2 s"
drain = "10 s"
abandon = "3 s"

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "free"
prefix = "/free/"
free = true

[[route]]
id = "small"
path = "/small"
free = true

[[route]]
id = "paid"
path = "/paid"
price = "0.001 USDC per request"

[[route]]
id = "api"
prefix = "/api/"
price = "0.001 USDC per request"

[[route]]
id = "dear"
prefix = "/dear/"
price = "0.01 USDC per request"

[[route]]
id = "digest"
prefix = "/digest/"
price = "0.001 USDC per request"
digest = true

[[route]]
id = "header"
prefix = "/header/"
price = "0.001 USDC per request"
payment-authorization = true

[[route]]
id = "brief"
prefix = "/brief/"
price = "0.001 USDC per request"
idle-timeout = "2 s"

[[route]]
id = "files"
prefix = "/files/"
price = "0.01 USDC per MB"
hold-timeout = "3 s"
minimum-deposit = "0.001 USDC"

[[route]]
id = "events"
prefix = "/events/"
price = "1 USDC per MB"
hold-timeout = "2 s"
minimum-deposit = "0.001 USDC"
"""


class CommandFailed(Exception):
    pass


class Farebox:
    """A proxy process over a state folder of its own. `start` after `stop` or `kill` runs it again over the same ledger and port."""

    def __init__(self, binary, folder, upstream_port, workers=2, prefix=(), configuration=CONFIGURATION, environment=None, output=None, passed=(), starts=True):
        self.binary, self.folder, self.prefix, self.output, self.passed = str(binary), Path(folder), list(prefix), output, tuple(passed)
        self.upstream_port = upstream_port
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.folder / "state"
        self.port = free_port()
        self.authority = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.authority}"
        self.configuration = self.folder / "proxy.conf"
        self.configuration.write_text(configuration.format(port=self.port, state=self.state, workers=workers, upstream=upstream_port))
        self.audit_path = self.state / "audit.jsonl"
        self.log_path = self.folder / "farebox.log"
        self.environment = {**os.environ, **(environment or {})}
        self.references = 0
        if starts:
            self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            target = log if self.output is None else self.output
            self.process = subprocess.Popen(
                [*self.prefix, self.binary, "serve", str(self.configuration)], stdout=target, stderr=target, env=self.environment, pass_fds=self.passed)
        # A test that fails leaves its proxy behind; it ends with the tests.
        atexit.register(self.process.kill)
        self.pid = self.process.pid
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"farebox ended with {self.process.returncode}:\n{self.log_path.read_text()[-3000:]}")
            try:
                with self.connection(timeout=2) as c:
                    if fetch(c, "GET", "/readyz").status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError("farebox did not become ready:\n" + self.log_path.read_text()[-3000:])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                status = self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            assert status == 0, self.log_path.read_text()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def connection(self, timeout=15):
        return Connection(self.port, timeout=timeout)

    def run(self, *arguments, input=None):
        command = [self.binary, *arguments, "--config", str(self.configuration)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment, input=input)

    def command(self, *arguments):
        """Runs one of the operators' commands with --json, and gives what it printed."""
        done = self.run(*arguments, "--json")
        if done.returncode != 0:
            raise CommandFailed(f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def create_wallet(self, wallet, amount, *policy):
        self.command("wallet", "create", wallet.did, *policy)
        self.references += 1
        self.command("wallet", "fund", wallet.did, amount, "--reference", f"funding-{self.references}-{wallet.did[-8:]}")

    def balance(self, wallet, currency="usdc"):
        """The wallet's balance in base units."""
        return int(self.command("wallet", "show", wallet.did)["balances"][currency])

    def session(self, session_id):
        return self.command("session", "show", session_id)

    def metrics(self):
        return self.run("metrics").stdout

    def settle_log(self):
        """Waits until what happened so far stands in the audit log."""
        time.sleep(0.3)

    def resident_kilobytes(self):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def assert_books_balance(self):
        for arguments in (("ledger", "verify"), ("audit", "verify")):
            done = self.run(*arguments)
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
