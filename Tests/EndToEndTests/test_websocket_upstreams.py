"""Upgraded connections and what is behind them: servers that would rather speak HTTP/2, servers over TLS, and clients that are rude."""

import re
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed

from certificates import Authority
from harness import CONFIGURATION, Farebox, fetch, free_port
from http2_client import H2Connection
from prepaid import PrepaidWallet
from test_websocket import EchoServer, challenge, client_frame, manage, open_by_upgrade, route, spent, top_up, upgrade, wait_for

UPSTREAM = """
[[upstream]]
name = "secure"
url = "https://127.0.0.1:{port}"
ca = "{folder}/root.pem"
"""

ROUTE = """
[[route]]
id = "live"
path = "/live"
price = "0.001 USDC per message of both"
upstream = "secure"
upgrade = ["websocket"]

[[route]]
id = "plain"
path = "/free/secure"
free = true
upstream = "secure"

[[route]]
id = "shout"
path = "/shout"
free = true
upstream = "secure"
upgrade = ["shout"]
"""

FRONT = """
[[listen]]
address = "127.0.0.1:{tls}"
[listen.tls]
[[listen.tls.certificates]]
chain = "{folder}/server.pem"
key = "{folder}/server.key"
"""

LIVE = """
[[route]]
id = "live"
path = "/live"
free = true
upgrade = ["websocket"]
"""

SECONDS = "".join([
    CONFIGURATION,
    route("tick", "0.001 USDC per second", 'hold-timeout = "30 s"'),
    route("both", "0.001 USDC per second + 1 USDC per MB of request", 'hold-timeout = "2 s"'),
])


def behind(text):
    """The configuration of the tests, whose own routes name their upstream, beside another one."""
    return re.sub(r'(\[\[route\]\]\nid = )', r'[[route]]\nupstream = "api"\nid = ', CONFIGURATION) + text


@pytest.fixture
def authority(tmp_path):
    authority = Authority(tmp_path / "certificates")
    authority.issue("server", ["127.0.0.1"])
    return authority


@pytest.fixture
def echo():
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def serve(binary, tmp_path):
    """Runs proxies whose books must balance when the test is done."""
    proxies = []

    def make(port, text):
        proxies.append(Farebox(binary, tmp_path / f"farebox-{len(proxies)}", port, configuration=text))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.stop()
        proxy.assert_books_balance()


def payer(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    return wallet


def test_a_server_that_prefers_http2_is_asked_to_switch_over_http1(serve, echo, authority):
    # Another proxy is such a server: its TLS offers both.
    tls = free_port()
    server = serve(echo.port, CONFIGURATION + FRONT.format(tls=tls, folder=authority.folder) + LIVE)
    proxy = serve(echo.port, behind(UPSTREAM.format(port=tls, folder=authority.folder) + ROUTE))
    wallet = payer(proxy)
    with proxy.connection() as connection:
        assert fetch(connection, "GET", "/free/secure").status == 426
    assert re.search(r"^farebox_upstream_http2_sessions_total 1$", proxy.metrics(), re.M)
    for _ in range(2):
        secret, connection = open_by_upgrade(proxy, wallet, "/live", 10_000)
        with connection:
            connection.send("hello")
            assert connection.recv(timeout=5) == "hello"
        assert wait_for(lambda: spent(proxy, secret) == 2000)
    # Everything else goes on in HTTP/2.
    with proxy.connection() as connection:
        assert fetch(connection, "GET", "/free/secure").status == 426
    assert re.search(r"^farebox_upstream_http2_streams_total 2$", proxy.metrics(), re.M)
    assert re.search(r"^farebox_tunnels_total 2$", server.metrics(), re.M)


class Shouter:
    """Switches to a protocol of its own over TLS, dawdles, and then tells how many octets came before the end."""

    def __init__(self, context):
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
                connection = self.context.wrap_socket(connection, server_side=True)
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n\r\n")
        time.sleep(0.5)
        count = 0
        try:
            while octets := connection.recv(65536):
                count += len(octets)
        except ssl.SSLError as error:
            count = repr(error)
        connection.sendall(str(count).encode())
        connection.unwrap()


def test_what_came_before_the_end_reaches_a_slow_server_over_tls(serve, echo, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "server.pem", authority.folder / "server.key")
    shouter = Shouter(context)
    proxy = serve(echo.port, behind(UPSTREAM.format(port=shouter.port, folder=authority.folder) + ROUTE))

    def shout(total):
        with proxy.connection() as connection:
            connection.request("GET", "/shout", {"Upgrade": "shout", "Connection": "Upgrade"})
            assert connection.head().status == 101
            connection.send(b"x" * total)
            connection.socket.shutdown(socket.SHUT_WR)
            while connection.fill():
                pass
            return connection.buffer == str(total).encode()

    # Some of them end just where the server's socket is full.
    totals = range(16_000, 4_000_000, 50_000)
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(shout, totals))


def test_no_time_is_free_while_the_client_waits_for_money(serve, echo):
    proxy = serve(echo.port, SECONDS)
    wallet = payer(proxy)
    secret, connection = open_by_upgrade(proxy, wallet, "/both", 20_000, compression=None)
    with connection:
        connection.send("a")
        assert connection.recv(timeout=5) == "a"
        # More octets than the budget has: the frame waits, and with it the clock.
        connection.socket.sendall(b"\x82\xfe\xff\xff" + bytes(4))
        assert wait_for(lambda: int(manage(proxy, "/both", wallet.bearer(challenge(proxy, "/both", "session"), secret, "status")).json()["required"]) > 0)
        for server in list(echo.connections):
            server.send("for nothing")
        with pytest.raises(ConnectionClosed) as closed:
            assert connection.recv(timeout=10) is None
        assert closed.value.rcvd.code == 1008
    assert wait_for(lambda: 1000 <= spent(proxy, secret) <= 4001)


def test_pings_pass_while_the_clock_waits_for_money(serve, echo):
    proxy = serve(echo.port, SECONDS)
    wallet = payer(proxy)
    secret, connection = open_by_upgrade(proxy, wallet, "/tick", 1000)
    with connection:
        assert wait_for(lambda: manage(proxy, "/tick", wallet.bearer(challenge(proxy, "/tick", "session"), secret, "status")).json()["required"] == "1000")
        assert connection.ping().wait(5)
        connection.send("paid for later")
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.5)
        top_up(proxy, wallet, "/tick", secret, 5000)
        assert connection.recv(timeout=5) == "paid for later"
    text = proxy.metrics()
    assert re.search(r"^farebox_timeouts_total 0$", text, re.M)
    for line in ("tunnels_total 1", 'tunnel_messages_total{from="client"} 1', 'tunnel_messages_total{from="upstream"} 1', "tunnels_unpaid_total 0"):
        assert f"\nfarebox_{line}\n" in text, text
    assert wait_for(lambda: "\nfarebox_tunnels_open 0\n" in proxy.metrics())


def test_a_client_that_said_close_and_left_is_not_billed_on(serve):
    """The server never answers Close."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        from websockets.server import ServerProtocol

        connection, _ = listener.accept()
        protocol = ServerProtocol()
        while not (events := protocol.events_received()):
            protocol.receive_data(connection.recv(4096))
        protocol.send_response(protocol.accept(events[0]))
        for octets in protocol.data_to_send():
            connection.sendall(octets)
        while connection.recv(4096):
            pass

    threading.Thread(target=run, daemon=True).start()
    proxy = serve(listener.getsockname()[1], SECONDS)
    wallet = payer(proxy)
    secret, connection = open_by_upgrade(proxy, wallet, "/tick", 100_000)
    connection.socket.sendall(client_frame(8, b"\x03\xe8"))
    time.sleep(0.2)
    connection.socket.shutdown(socket.SHUT_RDWR)
    assert wait_for(lambda: "\nfarebox_tunnels_open 0\n" in proxy.metrics(), seconds=15)
    assert spent(proxy, secret) <= 2000


def test_a_key_that_a_stream_needs_not_is_no_second_one(serve, echo):
    proxy = serve(echo.port, CONFIGURATION + LIVE)
    with H2Connection(proxy.port) as connection:
        connection.pump()
        headers = [(":protocol", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
        number = connection.request("CONNECT", "/live", headers, ends=False)
        stream = connection.streams[number]
        connection.until(lambda: stream.head is not None or stream.is_over)
        assert stream.head.status == 200, stream.head
        connection.write(number, client_frame(1, b"hello"))
        connection.until(lambda: len(stream.body) >= 7)
        assert bytes(stream.body) == b"\x81\x05hello"
        headers.append(headers[-1])
        number = connection.request("CONNECT", "/live", headers, ends=False)
        stream = connection.streams[number]
        connection.until(lambda: stream.head is not None or stream.is_over)
        assert stream.head.status == 400
