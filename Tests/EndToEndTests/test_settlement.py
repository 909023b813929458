"""What a failure costs: every way in which an upstream can fail a paid request, to the base unit, and how it is tried again."""

import itertools
import socket
import struct
import threading
import time

import pytest

from harness import SHOP, Farebox, challenge_of, fetch, free_port, open_session
from prepaid import SessionSecret

PRICE = 1000
CONFIGURATION = SHOP + """
[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"
retries = 0

[upstream.ejection]
failures = 0

[[route]]
id = "plain"
prefix = "/plain/"
price = "0.001 USDC per request"
first-octet-timeout = "300 ms"
upstream-idle-timeout = "400 ms"

[[route]]
id = "all"
prefix = "/all/"
price = "0.001 USDC per request"
refund-broken = "all"
upstream-idle-timeout = "400 ms"

[[route]]
id = "none"
prefix = "/none/"
price = "0.001 USDC per request"
refund-broken = "none"

[[route]]
id = "end"
prefix = "/end/"
price = "0.001 USDC per request"
settle = "end"
settle-limit = "10 KiB"
upstream-idle-timeout = "400 ms"

[[route]]
id = "left"
prefix = "/left/"
price = "0.001 USDC per request"
refund-left = "share"
"""


class Script:
    """An upstream that does next what it is told: octets to send, and how to end (keep, close, reset, stall)."""

    def __init__(self):
        self.port = free_port()
        self.turns, self.asked, self.connections = [], 0, set()
        self.start()

    def start(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.connections):
            connection.shutdown(socket.SHUT_RDWR)
        # Until what lay in the pools is known to be gone.
        time.sleep(0.2)

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        self.connections.add(connection)
        reader = connection.makefile("rb")
        try:
            while line := reader.readline():
                length = 0
                while (field := reader.readline()) not in (b"\r\n", b""):
                    if field.lower().startswith(b"content-length:"):
                        length = int(field.split(b":")[1])
                reader.read(length)
                self.asked += 1
                octets, end = self.turns.pop(0) if self.turns else (ok(b"well"), "keep")
                for piece in [octets] if isinstance(octets, bytes) else octets:
                    connection.sendall(piece)
                    time.sleep(0.05)
                if end == "stall":
                    time.sleep(3)
                if end == "reset":
                    time.sleep(0.05)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if end != "keep":
                    break
        except OSError:
            pass
        self.connections.discard(connection)
        reader.close()
        connection.close()


def ok(body, status=200):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def part(sent, announced):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (announced, b"x" * sent)


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"y" * 1000 + b"\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nb\r\ndata: one\n\n\r\n"


@pytest.fixture(scope="module")
def api():
    return Script()


@pytest.fixture(scope="module")
def farebox(binary, api, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), api.port, configuration=CONFIGURATION)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


numbers = itertools.count()


def attempt(farebox, path, value, headers=(), method="GET"):
    with farebox.connection() as connection:
        try:
            return fetch(connection, method, path, [("Authorization", value), *headers])
        except (ConnectionError, EOFError, OSError, AssertionError, ValueError):
            return None


def quote(farebox, path, method="GET"):
    with farebox.connection() as connection:
        return challenge_of(fetch(connection, method, path), "charge")


def settled(farebox, wallet, expected):
    """Waits for what goes back after the connection has ended."""
    deadline = time.monotonic() + 5
    while farebox.balance(wallet) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert farebox.balance(wallet) == expected
    done = farebox.run("ledger", "verify")
    assert done.returncode == 0, done.stdout + done.stderr


BEFORE_THE_HEAD = {
    "timeout": (b"", "stall", 504),
    "closed": (b"", "close", 502),
    "reset": (b"", "reset", 502),
    "500": (ok(b"{}", 500), "keep", 500),
    "503": (ok(b"{}", 503), "keep", 503),
    "malformed": (b"nonsense\r\n\r\n", "close", 502),
    "cut head": (b"HTTP/1.1 200 OK\r\nContent-", "close", 502),
    "402": (ok(b"{}", 402), "keep", 502),
}


# Before the head: nothing is paid, and the same credential or key is good for another try.


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("kind", BEFORE_THE_HEAD)
def test_a_failure_before_the_head_costs_nothing(farebox, api, wallet, kind, keyed):
    octets, end, status = BEFORE_THE_HEAD[kind]
    path, before = f"/plain/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path))
    headers = [("Idempotency-Key", f"k{path}")] if keyed else []
    api.turns[:] = [(octets, end)]
    response = attempt(farebox, path, value, headers)
    assert response.status == status and response.get("payment-receipt") is None
    settled(farebox, wallet, before)
    again = attempt(farebox, path, value, headers)
    assert again.status == 200 and again.body == b"well"
    settled(farebox, wallet, before - PRICE)
    third = attempt(farebox, path, value, headers)
    if keyed:
        assert third.status == 200 and third.body == b"well"
    else:
        assert third.status == 403 and third.problem() == "already-paid"
    settled(farebox, wallet, before - PRICE)


def test_a_refused_connection_costs_nothing(farebox, api, wallet):
    path, before = f"/plain/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path))
    api.stop()
    assert attempt(farebox, path, value).status == 502
    settled(farebox, wallet, before)
    api.start()
    assert attempt(farebox, path, value).status == 200
    settled(farebox, wallet, before - PRICE)


@pytest.mark.parametrize("kind", ["timeout", "closed", "500"])
def test_a_session_pays_nothing_for_it_either(farebox, api, wallet, kind):
    octets, end, status = BEFORE_THE_HEAD[kind]
    path = f"/plain/{next(numbers)}"
    secret = open_session(farebox, wallet, path, 100_000)
    key = [("Idempotency-Key", f"s{path}")]
    api.turns[:] = [(octets, end)]
    with farebox.connection() as connection:
        assert fetch(connection, "POST", path, [("Prepaid-Session", secret.short_form), *key]).status == status
        assert farebox.session(secret.session_id)["spent"] == str(PRICE)
        assert fetch(connection, "POST", path, [("Prepaid-Session", secret.short_form), *key]).status == 200
        assert farebox.session(secret.session_id)["spent"] == str(2 * PRICE)
        assert fetch(connection, "POST", path, [("Prepaid-Session", secret.short_form), *key]).status == 200
        assert farebox.session(secret.session_id)["spent"] == str(2 * PRICE)


# In the middle of the body

BROKEN = {
    # route, what the upstream does, what it costs; an announced length is paid for by the share that was delivered, rounded up
    "a share": ("plain", (part(333, 1000), "close"), 333),
    "a share, reset": ("plain", (part(250, 1000), "reset"), 250),
    "a share, silent": ("plain", (part(999, 3000), "stall"), 333),
    "rounded up": ("plain", (part(1, 3000), "close"), 1),
    "unannounced": ("plain", (CHUNKS, "close"), PRICE),
    "an event stream": ("plain", (EVENTS, "close"), PRICE),
    "all": ("all", (part(900, 1000), "close"), 0),
    "all, silent": ("all", (part(900, 1000), "stall"), 0),
    "all, unannounced": ("all", (CHUNKS, "reset"), 0),
    "all, an event stream": ("all", (EVENTS, "close"), 0),
    "none": ("none", (part(1, 1000), "close"), PRICE),
    "end": ("end", (part(900, 1000), "close"), 0),
    "end, unannounced": ("end", (CHUNKS, "close"), 0),
    "end, silent": ("end", (part(900, 1000), "stall"), 0),
    "end, too long to be withheld": ("end", (part(15_000, 20_000), "close"), 0),
    "end, an event stream": ("end", (EVENTS, "close"), 0),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_charge_whose_answer_breaks(farebox, api, wallet, kind):
    route, turn, cost = BROKEN[kind]
    path, before = f"/{route}/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path))
    api.turns[:] = [turn]
    response = attempt(farebox, path, value)
    if route == "end" and "too long" not in kind and "event" not in kind:
        assert response.status == 502 and response.get("payment-receipt") is None
    else:
        assert response is None or not response.complete
    settled(farebox, wallet, before - cost)
    again = attempt(farebox, path, value)
    if cost == 0:
        assert again.status == 200 and again.body == b"well" and again.receipt()["amount"] == str(PRICE)
        settled(farebox, wallet, before - PRICE)
    else:
        assert again.status == 403 and again.problem() == "already-paid"
        settled(farebox, wallet, before - cost)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_session_whose_answer_breaks(farebox, api, wallet, kind):
    route, turn, cost = BROKEN[kind]
    path = f"/{route}/{next(numbers)}"
    secret = open_session(farebox, wallet, path, 100_000)
    api.turns[:] = [turn]
    with farebox.connection() as connection:
        try:
            fetch(connection, "GET", path, [("Prepaid-Session", secret.short_form)])
        except (ConnectionError, EOFError, OSError, AssertionError, ValueError):
            pass
    deadline = time.monotonic() + 5
    while farebox.session(secret.session_id)["spent"] != str(PRICE + cost) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert farebox.session(secret.session_id)["spent"] == str(PRICE + cost)


@pytest.mark.parametrize("route", ["all", "end"])
def test_a_broken_answer_is_tried_again_with_its_key(farebox, api, wallet, route):
    path, before = f"/{route}/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path, "POST"))
    key = [("Idempotency-Key", f"b{path}")]
    # Longer than what is kept for a key, so that it is passed on while it comes.
    api.turns[:] = [(part(100_000, 200_000), "close"), (ok(b"z" * 100_000), "keep")]
    attempt(farebox, path, value, key, "POST")
    settled(farebox, wallet, before)
    again = attempt(farebox, path, value, key, "POST")
    assert again.status == 200 and again.body == b"z" * 100_000
    settled(farebox, wallet, before - PRICE)
    third = attempt(farebox, path, value, key, "POST")
    assert third.status == 409
    settled(farebox, wallet, before - PRICE)


def test_whole_answers_are_paid_at_their_end(farebox, api, wallet):
    path, before = f"/end/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path))
    api.turns[:] = [([part(500, 1000), b"x" * 500], "keep")]
    response = attempt(farebox, path, value)
    assert response.status == 200 and response.body == b"x" * 1000 and response.receipt()["amount"] == str(PRICE)
    settled(farebox, wallet, before - PRICE)
    for turn in (([CHUNKS, b"0\r\n\r\n"], "keep"), (ok(b"x" * 50_000), "keep"), (ok(b""), "keep")):
        api.turns[:] = [turn]
        path, before = f"/end/{next(numbers)}", farebox.balance(wallet)
        assert attempt(farebox, path, wallet.transfer(quote(farebox, path))).status == 200
        settled(farebox, wallet, before - PRICE)


def test_a_refunded_share_cannot_be_refunded_again(farebox, api, wallet):
    path, before = f"/plain/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path))
    api.turns[:] = [(part(400, 1000), "close")]
    attempt(farebox, path, value)
    settled(farebox, wallet, before - 400)
    reference = attempt(farebox, path, value).json()["reference"]
    # Operators may still give the rest back, and no more than that.
    farebox.command("refund", reference)
    settled(farebox, wallet, before)
    assert farebox.run("refund", reference).returncode != 0
    settled(farebox, wallet, before)


def test_a_client_that_leaves_in_the_middle(farebox, api, wallet):
    for route, cost in (("left", 400), ("plain", PRICE)):
        path, before = f"/{route}/{next(numbers)}", farebox.balance(wallet)
        value = wallet.transfer(quote(farebox, path))
        api.turns[:] = [(part(400, 1000), "stall")]
        with farebox.connection() as connection:
            connection.request("GET", path, [("Authorization", value)])
            connection.head()
            connection.exactly(400)
        settled(farebox, wallet, before - cost)


def test_a_slow_reader_gains_nothing(farebox, api, wallet):
    """Who does not take what there is could make the upstream break off: only what was not handed over goes back."""
    path, before = f"/all/{next(numbers)}", farebox.balance(wallet)
    value = wallet.transfer(quote(farebox, path))
    size = 64 << 20
    api.turns[:] = [(part(8 << 20, size), "close")]
    with farebox.connection() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.request("GET", path, [("Authorization", value)])
        time.sleep(1.5)
    deadline = time.monotonic() + 5
    while farebox.balance(wallet) in (before - PRICE, before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert farebox.balance(wallet) < before


def test_check_explains_it(farebox):
    text = farebox.run("check", str(farebox.configuration)).stdout
    assert "everything goes back when the upstream breaks off" in text
    assert "paid for when the response is whole (withheld up to 10240 octets)" in text
    assert "what was not delivered goes back when the client leaves" in text
