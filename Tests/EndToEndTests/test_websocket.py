"""WebSocket sold by the proxy: the `websockets` package on both ends, and raw frames where it is too well-mannered."""

import json
import socket
import struct
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from harness import CONFIGURATION, Farebox, challenge_of, fetch, request_of
from http2_client import H2Connection
from prepaid import PrepaidWallet, SessionSecret, b64u_decode


def route(name, price, *lines):
    """A route `/name` that is sold for WebSocket connections."""
    keys = [f'id = "{name}"', f'path = "/{name}"', f'price = "{price}"', 'upgrade = ["websocket"]', *lines]
    return "\n[[route]]\n" + "\n".join(keys) + "\n"


ROUTES = "".join([
    route("charge", "0.002 USDC per request"),
    route("messages", "0.001 USDC per message of both", 'hold-timeout = "2 s"'),
    route("hasty", "0.001 USDC per message", 'upstream-idle-timeout = "500 ms"', 'hold-timeout = "2 s"'),
    route("octets", "1 USDC per MB of both", 'hold-timeout = "2 s"'),
    route("seconds", "0.001 USDC per second", 'hold-timeout = "2 s"'),
])


class EchoServer:
    """Echoes messages, remembers how its connections ended, and can be told to break off."""

    def __init__(self):
        self.ends = []
        self.received = []
        self.connections = set()
        self.server = serve(self.handle, "127.0.0.1", 0, max_size=None)
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def handle(self, connection):
        self.connections.add(connection)
        try:
            for message in connection:
                self.received.append(message)
                if message == "break":
                    connection.socket.shutdown(socket.SHUT_RDWR)
                    return
                connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(connection)
            # What the peer said, which is what the proxy said.
            received = connection.protocol.close_rcvd
            self.ends.append((received.code, received.reason) if received else None)

    def close(self):
        self.server.shutdown()

    def last_end(self, seconds=5):
        deadline = time.monotonic() + seconds
        while not self.ends and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.ends, "the upstream's connection did not end"
        return self.ends[-1]


@pytest.fixture
def echo():
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def proxy(binary, echo, tmp_path):
    proxy = Farebox(binary, tmp_path / "farebox", echo.port, configuration=CONFIGURATION + ROUTES)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture
def payer(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    return wallet


def upgrade(proxy, path, authorization=None, **options):
    headers = {"Authorization": authorization} if authorization else {}
    return connect(f"ws://{proxy.authority}{path}", additional_headers=headers, proxy=None, max_size=None, **options)


def challenge(proxy, path, intent):
    with proxy.connection() as connection:
        return challenge_of(fetch(connection, "GET", path), intent)


def open_by_upgrade(proxy, wallet, path, deposit, **options):
    secret = SessionSecret.new()
    connection = upgrade(proxy, path, wallet.open(challenge(proxy, path, "session"), secret, deposit), **options)
    return secret, connection


def manage(proxy, path, credential):
    with proxy.connection() as connection:
        return fetch(connection, "POST", path, {"Authorization": credential})


def top_up(proxy, wallet, path, secret, amount):
    response = manage(proxy, path, wallet.top_up(challenge(proxy, path, "session"), secret.session_id, amount))
    assert response.status == 200, response.body


def wait_for(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def spent(proxy, secret):
    return int(proxy.session(secret.session_id)["spent"])


def test_unpaid_handshakes_are_told_the_price(proxy, echo):
    with pytest.raises(InvalidStatus) as refused:
        upgrade(proxy, "/charge")
    assert refused.value.response.status_code == 402
    assert refused.value.response.headers.get_all("WWW-Authenticate")
    assert not echo.ends


def test_a_charge_pays_for_a_connection(proxy, payer, echo):
    credential = payer.transfer(challenge(proxy, "/charge", "charge"))
    with upgrade(proxy, "/charge", credential) as connection:
        receipt = json.loads(b64u_decode(connection.response.headers["Payment-Receipt"]))
        assert receipt["amount"] == "2000"
        connection.send("hello")
        assert connection.recv(timeout=5) == "hello"
        # Fragments, with compression that the two ends agreed on.
        connection.send(["a" * 1000, "b" * 1000, "c"])
        assert connection.recv(timeout=5) == "a" * 1000 + "b" * 1000 + "c"
        large = bytes(range(256)) * 20_000
        connection.send(large)
        assert connection.recv(timeout=10) == large
        assert connection.ping().wait(5)
    assert echo.last_end()[0] == 1000
    assert proxy.balance(payer) == 10_000_000 - 2000
    # Paid once is paid for one connection.
    with pytest.raises(InvalidStatus) as refused:
        upgrade(proxy, "/charge", credential)
    assert refused.value.response.status_code == 403


def test_messages_wait_for_money_and_go_on(proxy, payer):
    secret, connection = open_by_upgrade(proxy, payer, "/messages", 4000)
    with connection:
        for text in ("one", "two"):
            connection.send(text)
            assert connection.recv(timeout=5) == text
        connection.send("three")
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.5)
        status = manage(proxy, "/messages", payer.bearer(challenge(proxy, "/messages", "session"), secret, "status"))
        assert status.json()["required"] == "1000"
        top_up(proxy, payer, "/messages", secret, 3000)
        assert connection.recv(timeout=5) == "three"
    assert wait_for(lambda: spent(proxy, secret) == 6000)


def test_who_does_not_pay_is_closed(proxy, payer, echo):
    secret, connection = open_by_upgrade(proxy, payer, "/messages", 2000)
    connection.send("one")
    assert connection.recv(timeout=5) == "one"
    connection.send("two")
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=10)
    assert closed.value.rcvd.code == 1008
    assert "budget" in closed.value.rcvd.reason
    assert echo.received == ["one"]
    assert echo.last_end()[0] == 1001
    assert spent(proxy, secret) == 2000


def test_a_hold_lasts_as_long_as_it_says(proxy, payer):
    secret, connection = open_by_upgrade(proxy, payer, "/hasty", 1000)
    connection.send("one")
    assert connection.recv(timeout=5) == "one"
    connection.send("two")
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=10)
    assert closed.value.rcvd.code == 1008


def test_octets_of_messages_count(proxy, payer):
    # Without compression the octets that pass are the ones that were written.
    secret, connection = open_by_upgrade(proxy, payer, "/octets", 100_000, compression=None)
    with connection:
        connection.send(b"x" * 20_000)
        assert len(connection.recv(timeout=5)) == 20_000
        assert connection.ping(b"free").wait(5)
    assert wait_for(lambda: spent(proxy, secret) == 40_000)


def test_seconds_count_while_nobody_waits(proxy, payer):
    secret, connection = open_by_upgrade(proxy, payer, "/seconds", 1000)
    connection.send("a")
    assert connection.recv(timeout=5) == "a"
    time.sleep(1.5)
    top_up(proxy, payer, "/seconds", secret, 1000)
    connection.send("b")
    assert connection.recv(timeout=5) == "b"
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=10)
    assert closed.value.rcvd.code == 1008
    assert spent(proxy, secret) == 2000


def test_closing_the_session_closes_the_connection(proxy, payer, echo):
    secret, connection = open_by_upgrade(proxy, payer, "/messages", 10_000)
    connection.send("one")
    assert connection.recv(timeout=5) == "one"
    answer = manage(proxy, "/messages", payer.bearer(challenge(proxy, "/messages", "session"), secret, "close"))
    assert answer.status == 200, answer.body
    assert answer.json()["spent"] == "2000"
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=5)
    assert closed.value.rcvd.code == 1008
    assert echo.last_end()[0] == 1001
    assert proxy.balance(payer) == 10_000_000 - 2000


def test_an_upstream_that_breaks_off_is_told(proxy, payer):
    secret, connection = open_by_upgrade(proxy, payer, "/messages", 10_000)
    connection.send("break")
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=5)
    assert closed.value.rcvd.code == 1011
    assert wait_for(lambda: spent(proxy, secret) == 1000)


def test_malformed_frames_end_the_connection(proxy, payer, echo):
    credential = payer.transfer(challenge(proxy, "/charge", "charge"))
    with proxy.connection() as connection:
        connection.request("GET", "/charge", {
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": credential})
        assert connection.head().status == 101
        # A reserved opcode, masked as a client's frame must be.
        connection.send(b"\x83\x80\x00\x00\x00\x00")
        frame = connection.exactly(2)
        payload = connection.exactly(frame[1])
        assert frame[0] == 0x88 and struct.unpack("!H", payload[:2])[0] == 1002
    assert echo.last_end()[0] == 1001


def test_without_a_switch_messages_have_no_price(proxy, payer):
    secret = SessionSecret.new()
    terms = challenge(proxy, "/messages", "session")
    assert request_of(terms)["unitType"] == "message"
    refused = manage(proxy, "/messages", payer.open(terms, secret, 10_000))
    assert refused.status in (402, 426), refused.body
    with proxy.connection() as connection:
        refused = fetch(connection, "GET", "/messages", {"Authorization": payer.open(terms, secret, 10_000)})
    assert refused.status == 426
    assert proxy.balance(payer) == 10_000_000


def test_a_stop_says_that_the_server_goes_away(binary, echo, tmp_path):
    proxy = Farebox(binary, tmp_path / "farebox", echo.port, configuration=CONFIGURATION + ROUTES)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    secret, connection = open_by_upgrade(proxy, wallet, "/messages", 10_000)
    connection.send("one")
    assert connection.recv(timeout=5) == "one"
    proxy.stop()
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=5)
    assert closed.value.rcvd.code == 1001
    assert echo.last_end()[0] == 1001
    proxy.start()
    assert spent(proxy, secret) == 2000
    proxy.stop()
    proxy.assert_books_balance()


def test_books_balance_after_a_kill(binary, echo, tmp_path):
    proxy = Farebox(binary, tmp_path / "farebox", echo.port, configuration=CONFIGURATION + ROUTES)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    secret, connection = open_by_upgrade(proxy, wallet, "/messages", 10_000)
    for number in range(3):
        connection.send(str(number))
        assert connection.recv(timeout=5) == str(number)
    proxy.kill()
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=5)
    proxy.start()
    # What was debited ahead stays debited: never less than what passed.
    assert 6000 <= spent(proxy, secret) <= 10_000
    proxy.stop()
    proxy.assert_books_balance()


# Over HTTP/2 (RFC 8441) the frames are written by hand, since the package speaks HTTP/1.1 only.


def client_frame(opcode, payload):
    """A frame masked with zeros."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


def connect_stream(connection, path, authorization=None):
    headers = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
    if authorization:
        headers.append(("authorization", authorization))
    number = connection.request("CONNECT", path, headers, ends=False)
    stream = connection.streams[number]
    connection.until(lambda: stream.head is not None or stream.is_over)
    return number, stream


def test_streams_are_switched_too(proxy, payer, echo):
    with H2Connection(proxy.port) as connection:
        connection.pump()
        number, stream = connect_stream(connection, "/messages")
        assert stream.head.status == 402
        secret = SessionSecret.new()
        credential = payer.open(challenge(proxy, "/messages", "session"), secret, 3000)
        number, stream = connect_stream(connection, "/messages", credential)
        assert stream.head.status == 200, stream.head
        assert stream.head.receipt()["sessionId"] == secret.session_id
        connection.write(number, client_frame(1, b"hello"))
        connection.until(lambda: len(stream.body) >= 7)
        assert bytes(stream.body) == b"\x81\x05hello"
        stream.body.clear()
        # The echo of this one waits; a sibling does not.
        connection.write(number, client_frame(1, b"again"))
        assert wait_for(lambda: len(echo.received) == 2)
        assert connection.finished(connection.request("GET", "/charge")).status == 402
        assert not stream.body
        top_up(proxy, payer, "/messages", secret, 1000)
        connection.until(lambda: len(stream.body) >= 7)
        assert bytes(stream.body) == b"\x81\x05again"
        stream.body.clear()
        connection.write(number, client_frame(8, struct.pack("!H", 1000)))
        connection.until(lambda: stream.ended)
        assert bytes(stream.body)[:2] == b"\x88\x02"
        assert wait_for(lambda: spent(proxy, secret) == 4000)


def test_a_stream_that_nobody_pays_for_is_closed(proxy, payer, echo):
    with H2Connection(proxy.port) as connection:
        connection.pump()
        secret = SessionSecret.new()
        credential = payer.open(challenge(proxy, "/messages", "session"), secret, 2000)
        number, stream = connect_stream(connection, "/messages", credential)
        assert stream.head.status == 200, stream.head
        for text in (b"one", b"two"):
            connection.write(number, client_frame(1, text))
        connection.until(lambda: stream.ended)
        frames = bytes(stream.body)
        close = frames.index(b"\x88")
        assert struct.unpack("!H", frames[close + 2:close + 4])[0] == 1008
        assert echo.last_end()[0] == 1001
        assert spent(proxy, secret) == 2000


def test_paths_without_a_switch_refuse_the_stream(proxy):
    with H2Connection(proxy.port) as connection:
        connection.pump()
        _, stream = connect_stream(connection, "/free/echo")
        assert stream.head.status == 501
