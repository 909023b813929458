"""`farebox pay` end to end: what it buys, what it refuses to pay, how it ends, and that nothing is ever paid for twice."""

import base64
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness import CONFIGURATION, Farebox, fetch, free_port
from prepaid import b64u, b64u_decode

PRICE = 1000
MAX = ("--max", "0.05 USDC")


class Payer:
    """One agent: `farebox pay` with a configuration folder of its own, and a funded wallet."""

    def __init__(self, farebox, folder, amount="10 USDC", policy=()):
        self.farebox, self.home = farebox, folder
        self.folder = folder / "farebox"
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
        self.did = self.run("--new-key").stdout.strip()
        if amount:
            farebox.create_wallet(self, amount, *policy)

    def popen(self, *arguments, **options):
        return subprocess.Popen([self.farebox.binary, "pay", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment, **options)

    def run(self, *arguments, **options):
        return subprocess.run([self.farebox.binary, "pay", *arguments], capture_output=True, text=options.pop("text", True), timeout=90, env=self.environment, **options)

    def url(self, path):
        return self.farebox.origin + path

    def get(self, path, *arguments):
        return self.run(*arguments, self.url(path))

    def balance(self):
        return self.farebox.balance(self)

    def sessions(self):
        return self.farebox.command("session", "list", "--wallet", self.did)["sessions"]


@pytest.fixture
def payer(farebox, tmp_path):
    return Payer(farebox, tmp_path)


# MARK: what it buys


def test_new_key_is_private_and_never_overwritten(payer):
    assert re.fullmatch("did:key:z6Mk[1-9A-HJ-NP-Za-km-z]+", payer.did)
    key = payer.folder / "wallet.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(payer.folder.stat().st_mode) == 0o700
    octets = key.read_bytes()
    again = payer.run("--new-key")
    assert again.returncode == 87 and "never overwritten" in again.stderr and key.read_bytes() == octets


def test_charge(payer, upstream):
    done = payer.get("/api/echo", "-v", "--charge", *MAX)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target"] == "/api/echo"
    assert "invoice verified" in done.stderr and "receipt: 0.001 USDC" in done.stderr and "signature verified" in done.stderr
    assert payer.balance() == 10_000_000 - PRICE
    assert payer.sessions() == []
    key = (payer.folder / "wallet.key").read_text().strip()
    assert key not in done.stdout + done.stderr


def test_free_answers_cost_nothing_and_need_no_wallet(farebox, tmp_path):
    home = tmp_path / "empty"
    environment = {**os.environ, "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run([farebox.binary, "pay", *MAX, farebox.origin + "/free/echo"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and json.loads(done.stdout)["target"] == "/free/echo"
    assert not list(home.rglob("*.key"))


def test_curl_like_options(payer, upstream, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(os.urandom(50_000))
    done = payer.get("/api/echo", *MAX, "--charge", "-X", "PUT", "-H", "X-Mark: seven", "--data-binary", f"@{body}")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["method"] == "PUT" and seen["sha256"] == hashlib.sha256(body.read_bytes()).hexdigest()
    fields = {name.lower(): value for name, value in upstream.last()["headers"]}
    assert fields["x-mark"] == "seven" and "authorization" not in fields
    out = tmp_path / "out"
    done = payer.get("/api/echo", *MAX, "-i", "-o", str(out), "-d", "a=1", "--json")
    assert done.returncode == 0
    assert out.read_bytes().startswith(b"HTTP/1.1 200") and b'"method": "POST"' in out.read_bytes()
    summary = json.loads(done.stdout)
    assert summary["payment"] == "charge" and summary["amount"] == str(PRICE) and summary["status"] == 200
    assert payer.balance() == 10_000_000 - 2 * PRICE
    head = payer.get("/api/echo", *MAX, "-I")
    assert head.returncode == 0 and head.stdout.startswith("HTTP/1.1 200")


def test_quote_pays_nothing(payer):
    done = payer.get("/api/echo", "--quote", "--json")
    quote = json.loads(done.stdout)
    assert done.returncode == 0 and quote["verified"] is True
    assert {offer["intent"] for offer in quote["offers"]} == {"charge", "session"}
    assert payer.balance() == 10_000_000


def test_session_is_opened_reused_and_closed(payer):
    first = payer.get("/api/echo", "-v", "--session", "--deposit", "0.01 USDC", *MAX)
    assert first.returncode == 0, first.stderr
    assert payer.balance() == 10_000_000 - 10_000
    assert len(payer.sessions()) == 1
    # The deposit has left the wallet: a later call uses it without any --max.
    for path in ("/api/echo", "/api/echo"):
        again = payer.get(path, "-v")
        assert again.returncode == 0 and "using session" in again.stderr, again.stderr
    assert payer.balance() == 10_000_000 - 10_000
    assert payer.sessions()[0]["spent"] == str(3 * PRICE)
    # Another route of the same ledger is added to the session, by its own price.
    dear = payer.get("/dear/echo", *MAX, "--session")
    assert dear.returncode == 0, dear.stderr
    closed = payer.run("--close", "--json", payer.farebox.origin)
    assert closed.returncode == 0, closed.stderr
    document = json.loads(closed.stdout)[0]
    assert int(document["spent"]) == 3 * PRICE + 10 * PRICE
    assert payer.balance() == 10_000_000 - 13 * PRICE and payer.sessions() == []
    assert "no kept session" in payer.run("--close", payer.farebox.origin).stdout


def test_sessions_are_kept_privately(payer):
    assert payer.get("/api/echo", "--session", *MAX).returncode == 0
    files = [p for p in payer.folder.rglob("*") if p.is_file()]
    assert files and all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in files)


def test_metered_download_is_topped_up_in_the_middle(payer, tmp_path):
    out = tmp_path / "file"
    done = payer.get("/files/bytes/4000000", "-v", "--session", "--deposit", "0.01 USDC", "--max", "0.1 USDC", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "topped up" in done.stderr
    assert out.read_bytes() == (b"0123456789abcdef" * 250_000)
    assert payer.run("--close").returncode == 0
    assert payer.balance() == 10_000_000 - 40_000


def test_event_stream_is_topped_up_in_the_middle(payer):
    done = payer.get("/events/events/20", "-v", "--session", "--deposit", "0.004 USDC", "--max", "0.1 USDC")
    assert done.returncode == 0, done.stderr
    assert "topped up" in done.stderr and "[DONE]" in done.stdout
    assert done.stdout.count("event: tick\n") == 20
    assert payer.run("--close").returncode == 0
    spent = 10_000_000 - payer.balance()
    octets = sum(len(f"event: tick\nid: {n}\ndata: {'x' * 1000}\n\n") for n in range(20)) + len("data: [DONE]\n\n")
    assert octets <= spent <= octets + 100


def test_topping_up_stays_within_max(payer):
    before = payer.balance()
    done = payer.get("/files/bytes/9000000", "--session", "--deposit", "0.01 USDC", "--max", "0.03 USDC", "-o", "/dev/null")
    assert done.returncode == 80, (done.returncode, done.stderr)
    assert payer.run("--close").returncode == 0
    assert payer.balance() >= before - 30_000


def test_a_used_up_session_is_topped_up_for_the_next_request(payer):
    assert payer.get("/api/echo", "--session", "--deposit", "0.001 USDC", *MAX).returncode == 0
    without = payer.get("/api/echo")
    assert without.returncode == 80, "nothing leaves the wallet without --max"
    assert payer.get("/api/echo", "--session", *MAX).returncode == 0
    assert len(payer.sessions()) == 1
    payer.run("--close")
    assert payer.balance() == 10_000_000 - 2 * PRICE


def test_wallet_report(payer):
    payer.farebox.command("wallet", "policy", payer.did, "--daily-cap", "1 USDC")
    assert payer.get("/api/echo", "--charge", *MAX).returncode == 0
    assert payer.get("/api/echo", "--session", "--deposit", "0.01 USDC", *MAX).returncode == 0
    text = payer.run("--wallet", payer.farebox.origin)
    assert text.returncode == 0, text.stderr
    assert "9.989 USDC" in text.stdout and "daily-cap" in text.stdout and "0.989" in text.stdout
    report = json.loads(payer.run("--wallet", "--json", payer.farebox.origin).stdout)
    assert report["wallet"] == payer.did and report["balances"][0]["available"] == "9989000"
    assert report["left"]["daily-cap"] == {"usdc": "989000"} and len(report["sessions"]) == 1
    assert report["sessions"][0]["spent"] == str(PRICE)


def test_payment_authorization_and_the_callers_own_credential(payer, upstream):
    done = payer.get("/header/echo", "--charge", *MAX, "-H", "Authorization: Bearer mine")
    assert done.returncode == 0, done.stderr
    assert {n.lower(): v for n, v in upstream.last()["headers"]}["authorization"] == "Bearer mine"
    refused = payer.get("/api/echo", "--charge", *MAX, "-H", "Authorization: Bearer mine")
    assert refused.returncode in (83, 84), refused.stderr
    assert payer.balance() == 10_000_000 - PRICE


# MARK: how it ends


def listener(answer):
    """A server that accepts one connection after the other, reads a head, and sends fixed octets."""
    server = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    head = b""
                    while b"\r\n\r\n" not in head and (octets := connection.recv(4096)):
                        head += octets
                    connection.sendall(answer)
                except OSError:
                    pass

    threading.Thread(target=run, daemon=True).start()
    return server, f"http://127.0.0.1:{server.getsockname()[1]}"


def test_exit_codes_of_the_transport(payer, tmp_path):
    origin = payer.farebox.origin
    assert payer.get("/free/echo").returncode == 0
    assert payer.run("http://127.0.0.1:99999/").returncode == 3
    assert payer.run("-H", "No colon", origin + "/free/echo").returncode == 3
    assert payer.run("--plaintext", "http://no-such-host.invalid/").returncode == 6
    assert payer.run(f"http://127.0.0.1:{free_port()}/").returncode == 7
    assert payer.get("/free/cut/100000").returncode == 18
    for status in (404, 500):
        done = payer.get(f"/free/status/{status}")
        assert done.returncode == 22 and json.loads(done.stdout) == {"status": status}
    assert payer.get("/free/echo", "-o", str(tmp_path / "missing" / "file")).returncode == 23
    assert payer.get("/free/echo", "-o", "/dev/full").returncode == 23
    assert payer.get("/free/echo", "-d", f"@{tmp_path / 'missing'}").returncode == 26
    assert payer.get("/free/slow/3000", "--max-time", "0.5").returncode == 28
    server, address = listener(b"SSH-2.0-OpenSSH\r\n\r\n")
    assert payer.run(address + "/").returncode == 52
    server.close()
    server, address = listener(b"")
    assert payer.run(address + "/").returncode == 56
    server.close()
    assert payer.run(f"https://127.0.0.1:{free_port()}/").returncode == 7
    assert payer.run("http://192.0.2.1/").returncode == 88, "plain HTTP does not leave this machine"
    for wrong in (("--max", "five", origin), (), ("--session", "--charge", origin), ("--nonsense", origin), ("--deposit", "1", origin)):
        assert payer.run(*wrong).returncode == 64, wrong


def test_every_documented_exit_code_is_in_the_help(payer):
    text = payer.run("--help").stdout
    for code in (0, 3, 6, 7, 18, 22, 23, 26, 28, 52, 56, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89):
        assert re.search(rf"^\s+{code}\s\s\w", text, re.MULTILINE), code


def test_nothing_is_paid_without_max_or_above_it(payer):
    for arguments in ((), ("--max", "0.0009 USDC"), ("--max", "1 EURC"), ("--max", "0 USDC")):
        done = payer.get("/api/echo", "--charge", *arguments)
        assert done.returncode in (80, 83), (arguments, done.stderr)
        assert done.stdout == ""
    assert "0.001 USDC" in payer.get("/api/echo", "--charge").stderr, "the price is shown"
    assert payer.get("/api/echo", "--session", "--deposit", "0.06 USDC", *MAX).returncode == 80
    assert payer.get("/api/echo", "--charge", "--max", "0.001 USDC").returncode == 0
    assert payer.balance() == 10_000_000 - PRICE


def test_policy_refusal(farebox, tmp_path):
    payer = Payer(farebox, tmp_path, policy=("--daily-cap", "0.0015 USDC"))
    assert payer.get("/api/echo", "--charge", *MAX).returncode == 0
    done = payer.get("/api/echo", "--charge", *MAX)
    assert done.returncode == 81 and "daily-cap" in done.stderr
    done = payer.get("/api/echo", "--session", "--deposit", "0.01 USDC", *MAX)
    assert done.returncode == 81 and "daily-cap" in done.stderr
    farebox.command("wallet", "freeze", payer.did)
    done = payer.get("/api/echo", "--charge", *MAX)
    assert done.returncode == 81 and "frozen" in done.stderr
    assert payer.balance() == 10_000_000 - PRICE


def test_rejected_payments_and_missing_wallets(farebox, tmp_path):
    (tmp_path / "poor").mkdir()
    poor = Payer(farebox, tmp_path / "poor", amount=None)
    done = poor.get("/api/echo", "--charge", *MAX)
    assert done.returncode == 82 and "insufficient" in done.stderr, done.stderr
    assert poor.run("--wallet", farebox.origin).returncode == 82
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "keyless")}
    done = subprocess.run([farebox.binary, "pay", *MAX, farebox.origin + "/api/echo"], capture_output=True, text=True, env=environment)
    assert done.returncode == 83 and "--new-key" in done.stderr
    # A metered route sells sessions only.
    assert poor.get("/files/bytes/10", "--charge", *MAX).returncode == 83


def test_a_key_that_others_may_read_is_refused(payer):
    (payer.folder / "wallet.key").chmod(0o644)
    done = payer.get("/api/echo", "--charge", *MAX)
    assert done.returncode == 87 and "chmod" in done.stderr
    (payer.folder / "wallet.key").chmod(0o600)
    (payer.folder / "wallet.key").write_text("nonsense\n")
    assert payer.get("/api/echo", "--charge", *MAX).returncode == 87
    assert payer.balance() == 10_000_000


def test_an_upstream_that_fails_costs_nothing(payer):
    done = payer.get("/api/status/500", "--charge", *MAX)
    assert done.returncode == 22 and payer.balance() == 10_000_000
    done = payer.get("/api/die", "--charge", *MAX)
    assert done.returncode == 22 and payer.balance() == 10_000_000


# MARK: servers that cannot be trusted


class Mallory:
    """A small server that sells `/thing` for 1000 units, honest but for one lie."""

    def __init__(self):
        self.key, self.receipt_key, self.stranger = (Ed25519PrivateKey.generate() for _ in range(3))
        self.receipt_key = self.key
        self.lie, self.paid, self.seen = None, [], 0
        mallory = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                length = int(self.headers.get("content-length") or 0)
                self.rfile.read(length)
                mallory.handle(self)

            do_GET = do_POST = do_HEAD = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def x(key):
        return b64u(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def kid(self, key):
        return b64u(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{self.x(key)}"}}'.encode()).digest())

    def send(self, handler, status, body, fields=()):
        handler.send_response(status)
        for name, value in fields:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def handle(self, handler):
        self.seen += 1
        if handler.path == "/.well-known/jwks.json":
            key = self.stranger if self.lie == "keys changed" else self.key
            keys = [{"kty": "OKP", "crv": "Ed25519", "x": self.x(key), "kid": self.kid(key), "use": "sig", "alg": "EdDSA"}]
            if self.lie == "no keys":
                keys = []
            return self.send(handler, 200, json.dumps({"keys": keys}).encode(), [("Content-Type", "application/jwk-set+json")])
        credential = handler.headers.get("Authorization")
        if credential:
            self.paid.append(credential)
            return self.send(handler, 200, b"goods", self.receipt(credential))
        self.challenge(handler)

    def challenge(self, handler):
        lie, now = self.lie, datetime.now(timezone.utc)
        url = self.origin + handler.path
        resource = {"method": handler.command, "url": url}
        if lie == "resource url":
            resource["url"] = "http://127.0.0.1:1" + handler.path
        if lie == "resource path":
            resource["url"] = self.origin + "/other"
        if lie == "resource method":
            resource["method"] = "DELETE"
        amount = "1000"
        request = {"amount": amount, "currency": "usdc", "recipient": "mallory", "methodDetails": {"decimals": 7 if lie == "decimals" else 6, "ledger": "mallory", "resource": resource}}
        realm = {"realm": "api.example.com", "realm parent": "com", "realm suffix": "7.0.0.1"}.get(lie, "127.0.0.1")
        expires = now + (timedelta(seconds=-5) if lie == "expired" else timedelta(minutes=5))
        challenge = {
            "id": b64u(os.urandom(32)), "realm": realm, "method": "prepaid", "intent": "charge", "request": b64u(rfc8785.dumps(request)),
            "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"), "opaque": b64u(rfc8785.dumps({"n": b64u(os.urandom(16))})),
        }
        if lie == "digest":
            challenge["digest"] = "sha-256=:" + base64.b64encode(hashlib.sha256(b"another body").digest()).decode() + ":"
        listed = {"amount": amount, "currency": "usdc", "id": challenge["id"], "intent": "charge", "method": "prepaid", "recipient": "mallory", "request": b64u(hashlib.sha256(challenge["request"].encode()).digest())}
        listed |= {
            "invoice id": {"id": b64u(os.urandom(32))}, "invoice amount": {"amount": "1"}, "invoice request": {"request": b64u(bytes(32))},
            "invoice recipient": {"recipient": "somebody"}, "invoice intent": {"intent": "session"},
        }.get(lie, {})
        claims = {"exp": int(expires.timestamp()), "iat": int(now.timestamp()), "iss": self.origin, "offers": [listed], "resource": resource}
        claims |= {
            "invoice issuer": {"iss": "http://other.example"}, "invoice expired": {"exp": int(now.timestamp()) - 5}, "invoice early": {"iat": int(now.timestamp()) + 3600},
            "invoice resource": {"resource": {"method": "GET", "url": self.origin + "/other"}},
        }.get(lie, {})
        key = self.stranger if lie == "invoice key" else self.key
        header = {"alg": "none" if lie == "invoice alg" else "EdDSA", "kid": self.kid(self.key), "typ": "JWT" if lie == "invoice typ" else "payment-invoice+jwt"}
        signed = b64u(rfc8785.dumps(header)) + "." + b64u(rfc8785.dumps(claims))
        signature = b"" if lie == "invoice alg" else key.sign(signed.encode())
        invoice = signed + "." + b64u(signature)
        line = "Payment " + ", ".join(f'{name}="{value}"' for name, value in challenge.items())
        fields = [("WWW-Authenticate", line), ("Cache-Control", "no-store"), ("Content-Type", "application/problem+json")]
        problem = {"type": "https://paymentauth.org/problems/payment-required", "title": "Payment Required", "status": 402}
        if lie != "no invoice":
            fields.append(("Payment-Invoice", invoice))
            problem["invoice"] = invoice
        self.send(handler, 402, json.dumps(problem).encode(), fields)

    def receipt(self, credential):
        challenge = json.loads(b64u_decode(credential.split(" ", 1)[1]))["challenge"]
        request = json.loads(b64u_decode(challenge["request"]))
        receipt = {
            "amount": request["amount"], "challengeId": challenge["id"], "currency": "usdc", "intent": "charge", "kid": self.kid(self.key), "logRoot": "00" * 32,
            "logSize": "1", "method": "prepaid", "recipient": "mallory", "reference": "1", "resource": request["methodDetails"]["resource"], "status": "success",
            "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        receipt |= {"receipt amount": {"amount": "2000"}, "receipt challenge": {"challengeId": "x"}}.get(self.lie, {})
        key = self.stranger if self.lie == "receipt key" else self.key
        receipt["sig"] = b64u(key.sign(b"receipt-v1\n" + rfc8785.dumps(receipt)))
        if self.lie == "receipt unsigned":
            del receipt["sig"], receipt["kid"]
        return [] if self.lie == "no receipt" else [("Payment-Receipt", b64u(rfc8785.dumps(receipt)))]


@pytest.fixture
def mallory():
    server = Mallory()
    yield server
    server.close()


LIES = [
    "realm", "realm parent", "realm suffix", "resource url", "resource path", "resource method", "expired", "digest", "no invoice", "invoice id", "invoice amount", "invoice request",
    "invoice recipient", "invoice intent", "invoice issuer", "invoice expired", "invoice early", "invoice resource", "invoice key", "invoice alg", "invoice typ", "no keys",
]


def test_an_honest_stranger_is_paid(payer, mallory):
    done = payer.run("--charge", *MAX, mallory.origin + "/thing")
    assert done.returncode == 0 and done.stdout == "goods" and len(mallory.paid) == 1, done.stderr


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_not_paid(payer, mallory, lie):
    mallory.lie = lie
    done = payer.run("--charge", *MAX, mallory.origin + "/thing")
    assert done.returncode == 84, (done.returncode, done.stderr)
    assert mallory.paid == [] and done.stdout == "" and done.stderr


@pytest.mark.parametrize("lie", ["receipt amount", "receipt challenge", "receipt key", "receipt unsigned", "no receipt"])
def test_a_false_receipt_is_told(payer, mallory, lie):
    mallory.lie = lie
    done = payer.run("--charge", *MAX, mallory.origin + "/thing")
    assert done.returncode == 86 and done.stdout == "goods" and len(mallory.paid) == 1, done.stderr


@pytest.mark.parametrize("lie", ["keys changed", "decimals"])
def test_what_a_server_was_known_by_may_not_change(payer, mallory, lie):
    assert payer.run("--charge", *MAX, mallory.origin + "/thing").returncode == 0
    mallory.lie = lie
    done = payer.run("--charge", *MAX, mallory.origin + "/thing")
    assert done.returncode == 84 and len(mallory.paid) == 1, done.stderr
    if lie == "keys changed":
        assert "--forget" in done.stderr
        mallory.key = mallory.stranger
        assert payer.run("--forget", mallory.origin).returncode == 0
        assert payer.run("--charge", *MAX, mallory.origin + "/thing").returncode == 0


def test_a_challenge_passed_on_from_another_server_is_not_paid(payer, farebox):
    """The classic theft: a provider passes on somebody else's 402, and has its client pay for what it gets."""
    with farebox.connection() as c:
        original = fetch(c, "GET", "/api/echo")
    fields = "".join(f"{n}: {v}\r\n" for n, v in original.headers if n.lower() not in ("content-length", "connection", "transfer-encoding"))
    server, address = listener(f"HTTP/1.1 402 Payment Required\r\n{fields}Content-Length: {len(original.body)}\r\nConnection: close\r\n\r\n".encode() + original.body)
    done = payer.run("--charge", *MAX, address + "/api/echo")
    server.close()
    assert done.returncode == 84, done.stderr
    assert payer.balance() == 10_000_000


def test_a_server_that_asks_again_and_again_is_paid_once(payer, mallory):
    original = mallory.handle

    def greedy(handler):
        if credential := handler.headers.get("Authorization"):
            mallory.paid.append(credential)
            mallory.challenge(handler)
        else:
            original(handler)

    mallory.handle = greedy
    done = payer.run("--charge", *MAX, mallory.origin + "/thing")
    assert done.returncode == 82 and len(set(mallory.paid)) == 1, done.stderr


def test_terminal_escapes_of_a_server_are_not_printed(payer):
    body = json.dumps({"type": "about:blank", "title": "x", "status": 403, "detail": "\u001b]0;owned\u0007 \u009b31m"}).encode()
    server, address = listener(b"HTTP/1.1 403 \x1b[31mForbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    done = payer.run("-v", address + "/", text=False)
    server.close()
    assert b"\x1b" not in done.stderr


# MARK: never twice


class CutRelay:
    """A line between client and proxy that is cut where the answer to a payment should come back."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target, self.cuts, self.cut_count = None, 0, 0
        self.before_forwarding = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        try:
            with client, socket.create_connection(("127.0.0.1", self.target)) as server:
                client.settimeout(30)
                server.settimeout(30)
                while request := self.request(client):
                    credential = re.search(rb"(?im)^(payment-)?authorization: payment|^prepaid-session:", request)
                    cuts = credential and self.cuts > 0
                    if cuts:
                        self.cuts -= 1
                        self.cut_count += 1
                        if self.before_forwarding:
                            return
                    server.sendall(request)
                    while True:
                        octets = server.recv(65536)
                        if cuts or not octets:
                            return
                        client.sendall(octets)
                        if self.is_whole(octets):
                            break
        except OSError:
            pass

    @staticmethod
    def request(client):
        octets = b""
        while b"\r\n\r\n" not in octets:
            more = client.recv(65536)
            if not more:
                return b""
            octets += more
        length = re.search(rb"(?im)^content-length: *(\d+)", octets)
        while length and len(octets.split(b"\r\n\r\n", 1)[1]) < int(length[1]):
            octets += client.recv(65536)
        return octets

    @staticmethod
    def is_whole(octets):
        head, gap, body = octets.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        return bool(gap and length and len(body) >= int(length[1]))


@pytest.fixture(scope="module")
def cut(binary, upstream, tmp_path_factory):
    """A proxy whose clients reach it over a relay, and know it by the relay's address only."""
    relay = CutRelay()
    configuration = CONFIGURATION.replace('origin = "http://127.0.0.1:{port}"', f'origin = "http://127.0.0.1:{relay.port}"')
    proxy = Farebox(binary, tmp_path_factory.mktemp("cut"), upstream.port, configuration=configuration)
    relay.target = proxy.port
    proxy.origin = f"http://127.0.0.1:{relay.port}"
    yield relay, proxy
    relay.listener.close()
    proxy.stop()
    proxy.assert_books_balance()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", ["--charge", "--session"])
def test_a_lost_answer_is_never_paid_for_again(cut, tmp_path, upstream, before, method, kind):
    relay, proxy = cut
    payer = Payer(proxy, tmp_path)
    served = upstream.count()
    relay.cuts, relay.cut_count, relay.before_forwarding = 1, 0, before
    done = payer.get("/api/echo", kind, *MAX, "-X", method, *(["-d", "order=1"] if method == "POST" else []))
    relay.cuts = 0
    assert relay.cut_count == 1
    assert done.returncode in (0, 85), done.stderr
    if before or method == "POST":
        assert done.returncode == 0, "nothing was lost that could not be asked for again"
    payer.run("--close")
    assert payer.balance() == 10_000_000 - PRICE, "one request, one payment"
    assert upstream.count() - served == 1, "the upstream ran once"
    assert payer.sessions() == []


def test_a_lost_bearer_answer_is_not_paid_for_again(cut, tmp_path):
    relay, proxy = cut
    payer = Payer(proxy, tmp_path)
    assert payer.get("/api/echo", "--session", *MAX).returncode == 0
    for before in (True, False):
        relay.cuts, relay.before_forwarding = 1, before
        done = payer.get("/api/echo")
        relay.cuts = 0
        assert done.returncode == (0 if before else 85), done.stderr
    payer.run("--close")
    assert payer.balance() == 10_000_000 - 3 * PRICE


@pytest.mark.parametrize("arguments", [("--charge",), ("--charge", "-X", "POST", "-d", "x=1"), ("--session",), ("--session", "-X", "POST", "-d", "x=1")])
def test_never_two_payments_when_the_proxy_dies_in_the_middle(binary, upstream, tmp_path, arguments):
    proxy = Farebox(binary, tmp_path / "proxy", upstream.port)
    payer = Payer(proxy, tmp_path)
    expected = 0
    endings = []
    for delay in (0.15, 0.35, 0.55, 0.75, 0.95):
        process = payer.popen(*arguments, *MAX, proxy.origin + "/api/slow/500")
        time.sleep(delay)
        proxy.kill()
        proxy.start()
        out, err = process.communicate(timeout=60)
        endings.append(process.returncode)
        assert process.returncode in (0, 7, 56, 85, 82), (process.returncode, err)
        payer.run("--close")
        spent = 10_000_000 - payer.balance()
        # A charge that a crash interrupts is void. A session's debit stays (a crash may take one step that was not delivered), so the
        # repetition of a keyed request that the crash has forgotten costs another.
        most = 2 * PRICE if "--session" in arguments and "POST" in arguments else PRICE
        assert 0 <= spent - expected <= most, (delay, process.returncode, err, spent - expected)
        if process.returncode == 0:
            assert b"slow" in out and spent - expected >= PRICE
        if process.returncode in (7, 56, 82):
            assert spent == expected, (delay, err)
        expected = spent
    assert 0 in endings, endings
    proxy.stop()
    proxy.assert_books_balance()
