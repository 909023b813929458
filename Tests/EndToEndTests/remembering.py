"""Payers that pay in every way there is while the proxy is killed beneath them, remember every acknowledgement, and ask again for what was
not answered. In the end they know to the base unit what the books have to say."""

import json
import random
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import audit_verifier
from harness import challenge_of, fetch
from prepaid import PrepaidWallet, SessionSecret

PRICE = 1000
OCTETS_PER_UNIT = 100  # 0.01 USDC per MB
FUNDS = 1_000_000_000
REQUESTS, FILES = "/api/echo", "/files/bytes/1"
# What a stream may have been debited for and not delivered: no more than a step ahead. A kill or a failed commit may keep what it was to give back.
STEP = 1 << 18
PATIENCE = 60


class Session:
    """One session and the bounds of what it has spent: what was acknowledged, and what may have been done besides."""

    def __init__(self, path, challenge, deposit, setbacks):
        self.path, self.challenge, self.deposit, self.setbacks, self.secret = path, challenge, deposit, setbacks, SessionSecret.new()
        self.least = self.most = 0

    @property
    def key(self):
        return {"Prepaid-Session": self.secret.short_form}

    def cost(self, units):
        return units * PRICE if self.path == REQUESTS else -(-units // OCTETS_PER_UNIT)

    def add(self, least, most):
        self.least += least
        self.most += most


class Payer(threading.Thread):
    def __init__(self, proxy, seed, setbacks=lambda: 0):
        super().__init__(daemon=True)
        self.setbacks = setbacks
        self.proxy, self.random, self.wallet = proxy, random.Random(seed), PrepaidWallet.new()
        proxy.create_wallet(self.wallet, f"{FUNDS // 1_000_000} USDC")
        self.connection, self.stopping = None, threading.Event()
        self.sessions, self.references, self.counts, self.failures = {}, [], {}, []
        self.charges = self.spent = 0

    # MARK: asking

    def ask(self, method, path, headers=(), body=None):
        """One attempt: the answer, or None where none came, or not the whole of it."""
        try:
            if self.connection is None:
                self.connection = self.proxy.connection(timeout=10)
            response = fetch(self.connection, method, path, headers, body)
            if response.complete:
                return response
        except (OSError, ValueError, AssertionError):
            pass
        self.leave()
        return None

    def leave(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def insist(self, method, path, headers=(), body=None):
        """Asks until there is an answer that decides; gives it, and whether an earlier attempt may have succeeded."""
        deadline, is_repeated = time.monotonic() + PATIENCE, False
        while time.monotonic() < deadline:
            response = self.ask(method, path, headers, body)
            if response is not None and response.status != 503 and not (response.status == 409 and response.problem() != "already-open"):
                return response, is_repeated
            is_repeated = True
            time.sleep(0.02)
        raise AssertionError(f"no answer to {method} {path} in {PATIENCE} s: {response and (response.status, response.body)}")

    def challenge(self, intent, method, path):
        body = b"" if method == "POST" else None
        response, _ = self.insist(method, path, body=body)
        assert response.status == 402, (response.status, response.body)
        return challenge_of(response, intent)

    # MARK: paying

    def charge(self):
        method = self.random.choice(["GET", "POST"])
        value = self.wallet.transfer(self.challenge("charge", method, REQUESTS))
        response, is_repeated = self.insist(method, REQUESTS, {"Authorization": value}, b"" if method == "POST" else None)
        if response.status == 200:
            self.references.append(response.receipt()["reference"])
        else:
            assert response.status == 403 and is_repeated, ("charge", is_repeated, response.status, response.body)
        self.charges += 1
        self.last = (value, method)

    def open(self, path):
        session = Session(path, self.challenge("session", "GET", path), 200_000, self.setbacks())
        response, is_repeated = self.insist("GET", path, {"Authorization": self.wallet.open(session.challenge, session.secret, session.deposit)})
        if response.status == 200:
            session.add(1, 1)
        else:
            assert response.status == 409 and is_repeated, ("open", is_repeated, response.status, response.body)
            session.add(0, 1 if path == REQUESTS else STEP)
        self.sessions[path] = session

    def request(self, session):
        response = self.ask(self.random.choice(["GET", "POST"]), REQUESTS, session.key)
        if response is None or response.status == 503:
            session.add(0, 1)
        elif response.status == 200:
            session.add(1, 1)
        else:
            assert response.status == 402, ("request", response.status, response.body)

    def stream(self, session):
        """A body that comes whole, breaks off, or is left."""
        size, path = self.random.choice([(1_000, "/files/bytes/1000"), (300_000, "/files/bytes/300000"), (900_000, "/files/bytes/900000"), (10_000, "/files/drip/10")])
        if self.random.random() < 0.3:
            return self.leave_stream(session, size, path)
        received, is_over = 0, False
        try:
            if self.connection is None:
                self.connection = self.proxy.connection(timeout=10)
            self.connection.request("GET", path, session.key)
            response = self.connection.read()
            received, is_over = len(response.body) if response.status == 200 else 0, response.complete
            assert response.status in (200, 402, 503), ("stream", response.status, response.body)
        except (OSError, ValueError):
            pass
        if not is_over:
            self.leave()
        session.add(received, received if is_over and response.status != 503 else size + STEP)

    def leave_stream(self, session, size, path):
        received = 0
        try:
            with self.proxy.connection(timeout=10) as stream:
                stream.request("GET", path, session.key)
                if stream.head().status == 200 and "chunked" not in path:
                    received = len(stream.socket.recv(self.random.choice([1, 5_000, 100_000])))
        except (OSError, ValueError, AssertionError):
            pass
        # What stands in the framing is not content.
        session.add(max(0, received - 100) if "bytes" in path else 0, size + STEP)

    def top_up(self, session):
        value = self.wallet.top_up(self.challenge("session", "GET", session.path), session.secret.session_id, 150_000)
        response, _ = self.insist("POST", session.path, {"Authorization": value, "Content-Length": "0"})
        assert response.status == 200, ("top-up", response.status, response.body)
        session.deposit += 150_000

    def close(self, session):
        value = self.wallet.bearer(session.challenge, session.secret, "close")
        response, _ = self.insist("GET", session.path, {"Authorization": value})
        assert response.status == 200, ("close", response.status, response.body)
        closed = response.json()
        spent, refunded = int(closed["spent"]), int(closed["refunded"])
        most = session.most if session.path == REQUESTS else session.most + STEP * (self.setbacks() - session.setbacks)
        assert session.cost(session.least) <= spent <= session.cost(most), ("close", session.path, session.least, spent, most)
        assert spent + refunded == session.deposit, ("close", closed, session.deposit)
        again, _ = self.insist("GET", session.path, {"Authorization": value})
        assert again.json() == closed, (again.body, closed)
        self.spent += spent
        del self.sessions[session.path]

    # MARK: running

    def step(self):
        path = self.random.choice([REQUESTS, FILES])
        session = self.sessions.get(path)
        if self.random.random() < 0.25:
            what, action = "charge", self.charge
        elif session is None:
            what, action = "open", lambda: self.open(path)
        elif session.cost(session.most) > session.deposit - 50_000 or self.random.random() < 0.03:
            what, action = "topUp", lambda: self.top_up(session)
        elif self.random.random() < 0.06:
            what, action = "close", lambda: self.close(session)
        elif path == REQUESTS:
            what, action = "request", lambda: self.request(session)
        else:
            what, action = "stream", lambda: self.stream(session)
        action()
        self.counts[what] = self.counts.get(what, 0) + 1

    def run(self):
        try:
            while not self.stopping.is_set():
                self.step()
        except Exception:
            self.failures.append(traceback.format_exc())
        self.leave()

    def settle_up(self):
        """Closes what is open, and compares the wallet with what was acknowledged."""
        for session in list(self.sessions.values()):
            self.close(session)
        self.leave()
        balance = self.proxy.balance(self.wallet)
        assert balance == FUNDS - self.charges * PRICE - self.spent, (balance, self.charges, self.spent)


class Crowd:
    """Payers at work. After `stop` the books are compared with what they remember."""

    def __init__(self, proxy, count, seed):
        self.proxy, self.setbacks = proxy, 0
        self.payers = [Payer(proxy, seed * 1000 + number, lambda: self.setbacks) for number in range(count)]
        for payer in self.payers:
            payer.start()

    @property
    def failures(self):
        return [failure for payer in self.payers for failure in payer.failures]

    def meet(self, times=1):
        """Counts a kill, or faults, before they happen."""
        self.setbacks += times

    def count(self, what):
        return sum(payer.counts.get(what, 0) for payer in self.payers)

    def check(self):
        assert not self.failures, self.failures

    def stop(self):
        for payer in self.payers:
            payer.stopping.set()
        for payer in self.payers:
            payer.join(2 * PATIENCE)
            assert not payer.is_alive()
        self.check()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Payer.settle_up, self.payers))
        for what in ("charge", "open", "topUp", "close", "request", "stream"):
            assert self.count(what) > 0, f"hardly any load: no {what}"
        keys = [audit_verifier.VerifierKey.parse(self.proxy.command("keys", "list")["checkpointVerifier"])]
        self.proxy.stop()
        self.proxy.assert_books_balance()
        report = audit_verifier.verify(self.proxy.audit_path, keys)
        assert report.valid, report
        events = [json.loads(line) for file in audit_verifier.files_of(self.proxy.audit_path) for line in file.read_bytes().splitlines()]
        wallets = {payer.wallet.did for payer in self.payers}
        settled = [event["reference"] for event in events if event["event"] == "charge.settled" and event["wallet"] in wallets]
        assert len(settled) == len(set(settled)) == sum(payer.charges for payer in self.payers), "a charge stands in the log twice, or not at all"
        acknowledged = [reference for payer in self.payers for reference in payer.references]
        assert len(acknowledged) == len(set(acknowledged)) and set(acknowledged) <= set(settled), "an acknowledged charge was lost, or one counted twice"
