"""Clients that do anything at any moment: the proxy stays up, the money adds up, and honest clients are served meanwhile."""

import json
import os
import random
import socket
import struct
import threading
import time

from harness import challenge_of, fetch, open_session
from prepaid import PrepaidWallet, SessionSecret

SECONDS = float(os.environ.get("FAREBOX_CHAOS_SECONDS", "12"))
SEED = int(os.environ.get("FAREBOX_CHAOS_SEED", "0")) or random.randrange(1 << 32)
THREADS = 16
PATHS = ["/free/echo", "/free/bytes/300000", "/free/chunked/300000", "/free/cut/100000", "/free/die", "/free/hints", "/free/close/5000", "/api/echo", "/api/slow/30", "/api/die", "/api/status/500", "/api/status/204",
         "/files/bytes/2000000", "/files/chunked/700000", "/files/drip/20", "/files/cut/500000", "/events/events/5", "/digest/echo", "/dear/echo", "/nowhere", "/openapi.json", "/.well-known/jwks.json"]


class Chaos(threading.Thread):
    def __init__(self, farebox, wallet, secret, seed):
        super().__init__(daemon=True)
        self.farebox, self.wallet, self.secret = farebox, wallet, secret
        self.random = random.Random(seed)
        self.exchanges = 0
        self.until = time.monotonic() + SECONDS

    def run(self):
        while time.monotonic() < self.until:
            try:
                with self.farebox.connection(timeout=1) as c:
                    for _ in range(self.random.randrange(1, 6)):
                        self.exchanges += 1
                        self.exchange(c)
            except (OSError, ValueError, AssertionError, TimeoutError, StopIteration):
                pass

    def exchange(self, c):
        r = self.random
        path = r.choice(PATHS)
        method = r.choice(["GET"] * 6 + ["POST", "HEAD", "PUT", "OPTIONS"])
        headers, body = [], None
        if r.random() < 0.5:
            headers.append(("Prepaid-Session", self.secret.short_form))
        elif r.random() < 0.2:
            headers.append(("Authorization", "Payment " + "A" * r.randrange(3000)))
        elif r.random() < 0.3:
            intent = r.choice(["charge", "session"])
            response = fetch(c, method, path)
            if response.status == 402:
                challenge = challenge_of(response, intent)
                value = self.wallet.transfer(challenge) if intent == "charge" else self.wallet.open(challenge, SessionSecret.new(), r.choice([1000, 5000, 50_000]))
                headers.append(("Authorization", value))
        if method in ("POST", "PUT"):
            body = bytes(r.randrange(0, 200_000))
            if r.random() < 0.2:
                headers.append(("Expect", "100-continue"))
        if r.random() < 0.2:
            headers.append(("Idempotency-Key", f"k{r.randrange(20)}"))
        if r.random() < 0.3:
            headers.append(("TE", "trailers"))
        if r.random() < 0.1:
            headers.append(("Connection", "close"))
        lines = [f"{method} {path} HTTP/1.1", f"Host: {c.authority}", *(f"{n}: {v}" for n, v in headers)]
        chunked = body is not None and r.random() < 0.4
        if body is not None:
            lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}")
        octets = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if body is not None:
            octets += (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n") if chunked else body
        fate = r.random()
        if fate < 0.15:
            octets = octets[: r.randrange(len(octets))]
        elif fate < 0.25:
            octets *= 2
        for start in range(0, len(octets), max(1, len(octets) // r.choice([1, 1, 1, 3, 10]))):
            c.send(octets[start : start + max(1, len(octets) // r.choice([1, 3, 10]))])
            if r.random() < 0.05:
                time.sleep(0.01)
        if fate < 0.5:
            self.leave(c)
        c.read(method)

    def leave(self, c):
        """Ends the connection in one of the ways there are, at some moment."""
        r = self.random
        way = r.randrange(4)
        if way == 0:
            c.socket.shutdown(socket.SHUT_WR)
            return
        if way == 1:
            c.socket.recv(r.choice([1, 100, 70_000]))
        if r.random() < 0.5:
            time.sleep(r.random() * 0.05)
        if way < 3:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.socket.close()
        raise ConnectionError


def test_chaos(farebox):
    print(f"seed {SEED}")
    wallets = [PrepaidWallet.new() for _ in range(THREADS)]
    for wallet in wallets:
        farebox.create_wallet(wallet, "100 USDC")
    secrets = [open_session(farebox, w, "/files/bytes/1000", 3_000_000) for w in wallets]
    pid = farebox.pid
    threads = [Chaos(farebox, w, s, SEED + n) for n, (w, s) in enumerate(zip(wallets, secrets))]
    for thread in threads:
        thread.start()
    honest = 0
    while any(t.is_alive() for t in threads):
        assert farebox.process.poll() is None, f"seed {SEED}: " + farebox.log_path.read_text()[-2000:]
        with farebox.connection() as c:
            response = fetch(c, "GET", "/free/echo")
            assert response.status == 200 and json.loads(response.body)["method"] == "GET"
            honest += 1
        time.sleep(0.05)
    assert honest > 10 and sum(t.exchanges for t in threads) > 100
    assert farebox.pid == pid and farebox.process.poll() is None
    # What was in flight ends by its own limits; then every session can be closed, and nothing is held.
    for wallet, secret in zip(wallets, secrets):
        with farebox.connection() as c:
            challenge = challenge_of(fetch(c, "GET", "/api/echo"), "session")
            closed = fetch(c, "GET", "/api/echo", {"Authorization": wallet.bearer(challenge, secret, "close")})
            assert closed.status in (200, 410), (SEED, closed.status, closed.body)
    time.sleep(6)
    assert farebox.command("ledger", "verify") is not None
