"""Clients of every kind that do paid and free requests until they are told to stop. Every failure is remembered: they repeat nothing
that a client could not know to be safe."""

import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from certificates import Authority
from harness import CONFIGURATION, challenge_of, fetch, free_port, open_session
from prepaid import PrepaidWallet, SessionSecret
from secure import SecureConnection

SECURE_LISTENER = """
[[listen]]
address = "127.0.0.1:{port}"
[listen.tls]
[[listen.tls.certificates]]
chain = "{folder}/used.pem"
key = "{folder}/used.key"
"""


LIVE_ROUTE = """
[[route]]
id = "live"
prefix = "/live/"
price = "0.001 USDC per message of both"
upgrade = ["websocket"]
"""


class SecureSide:
    """A listener with TLS beside the plain one: what the configuration gains, and how clients connect."""

    def __init__(self, folder):
        self.authority = Authority(folder / "certificates")
        self.authority.issue("used", ["127.0.0.1"])
        self.port = free_port()
        self.configuration = CONFIGURATION + LIVE_ROUTE + SECURE_LISTENER.format(folder=self.authority.folder, port=self.port)

    def connect(self):
        return SecureConnection(self.port, self.authority.client())

    def socket(self):
        context = self.authority.client()
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=15), server_hostname="127.0.0.1")


class Exchange:
    def __init__(self):
        self.status, self.body, self.ended, self.reset = None, b"", False, None


class MultiplexedConnection:
    """One HTTP/2 connection. A stream above the last one that a GOAWAY names was not looked at, and may be asked again elsewhere."""

    def __init__(self, connected, authority, scheme):
        self.socket, self.authority, self.scheme = connected, authority, scheme
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.exchanges, self.last, self.is_going, self.input = {}, None, False, b""
        self.flush()

    def flush(self):
        if data := self.connection.data_to_send():
            self.socket.sendall(data)

    def ask(self, path, fields=()):
        stream = self.connection.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", self.scheme), (":authority", self.authority), (":path", path), *fields]
        self.exchanges[stream] = Exchange()
        self.connection.send_headers(stream, head, end_stream=True)
        self.flush()
        return stream

    def work(self):
        """Receives once."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed with streams open")
        self.input += data
        # Frame by frame: the library takes nothing more after a GOAWAY, and what comes on open streams is still to be read.
        while len(self.input) >= 9 and len(self.input) >= (end := 9 + int.from_bytes(self.input[:3], "big")):
            frame, self.input = self.input[:end], self.input[end:]
            self.take(self.connection.receive_data(frame))
        self.flush()

    def take(self, events):
        for event in events:
            exchange = self.exchanges.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                exchange.status = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                exchange.body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                exchange.ended = True
            elif isinstance(event, h2.events.StreamReset):
                exchange.reset = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                assert event.error_code == 0, event
                self.last, self.is_going = event.last_stream_id, True
                self.connection.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    def wait(self, stream):
        """The exchange once it has ended; None where it is to be asked again on another connection."""
        exchange = self.exchanges[stream]
        while not exchange.ended and exchange.reset is None:
            if self.last is not None and stream > self.last:
                return None
            self.work()
        if exchange.reset == 7:  # REFUSED_STREAM: not looked at.
            return None
        return exchange

    def close(self):
        self.socket.close()


class Load:
    """Clients that work until they are told to stop; every failure is remembered, and what was done is counted."""

    def __init__(self, farebox, kinds, secure=None):
        self.farebox, self.secure, self.stopping, self.failures, self.counts, self.going_away = farebox, secure, threading.Event(), [], {}, 0
        self.threads = [threading.Thread(target=self.work, args=(kind, number), daemon=True) for number, kind in enumerate(kinds)]
        for thread in self.threads:
            thread.start()

    def work(self, kind, number):
        try:
            getattr(self, kind)(f"{kind}-{number}")
        except Exception as error:
            self.failures.append(f"{kind}: {error!r}")

    def count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1

    def session_on(self, path):
        wallet = PrepaidWallet.new()
        self.farebox.create_wallet(wallet, "100000 USDC")
        return {"Prepaid-Session": open_session(self.farebox, wallet, path, 50_000_000_000).short_form}

    def free(self, name):
        with self.farebox.connection() as connection:
            while not self.stopping.is_set():
                response = fetch(connection, "GET", "/free/echo")
                assert response.status == 200, response
                self.count(name)

    def session(self, name):
        headers = self.session_on("/api/echo")
        with self.farebox.connection() as connection:
            while not self.stopping.is_set():
                response = fetch(connection, "GET", "/api/echo", headers)
                assert response.status == 200, (response.status, response.body)
                self.count(name)

    def charge(self, name):
        wallet = PrepaidWallet.new()
        self.farebox.create_wallet(wallet, "100000 USDC")
        with self.farebox.connection() as connection:
            while not self.stopping.is_set():
                challenge = challenge_of(fetch(connection, "POST", "/api/echo", body=b""), "charge")
                response = fetch(connection, "POST", "/api/echo", {"Authorization": wallet.transfer(challenge)}, b"")
                assert response.status == 200, (response.status, response.body)
                self.count(name)

    def events(self, name):
        headers = self.session_on("/events/echo")
        with self.farebox.connection() as connection:
            while not self.stopping.is_set():
                response = fetch(connection, "GET", "/events/events/20", headers)
                assert response.status == 200 and response.complete and b"[DONE]" in response.body, response
                self.count(name)

    def tls(self, name):
        headers = self.session_on("/api/echo")
        while not self.stopping.is_set():
            with self.secure.connect() as connection:
                while not self.stopping.is_set():
                    response = fetch(connection, "GET", "/api/echo", headers)
                    assert response.status == 200 and response.complete, (response.status, response.body)
                    self.count(name)
                    if (response.get("connection") or "").lower() == "close":
                        break

    def live(self, name):
        """Messages over WebSocket; a proxy that ends says so (1001), and whoever is told so connects again."""
        wallet = PrepaidWallet.new()
        self.farebox.create_wallet(wallet, "100000 USDC")
        with self.farebox.connection() as connection:
            challenge = challenge_of(fetch(connection, "GET", "/live/socket"), "session")
        secret, headers = SessionSecret.new(), {}
        headers["Authorization"] = wallet.open(challenge, secret, 50_000_000_000)
        while not self.stopping.is_set():
            with connect(f"ws://{self.farebox.authority}/live/socket", additional_headers=headers, proxy=None) as live:
                headers = {"Prepaid-Session": secret.short_form}
                try:
                    while not self.stopping.is_set():
                        live.send(name)
                        assert live.recv(timeout=15) == name
                        self.count(name)
                except ConnectionClosed as closed:
                    assert closed.rcvd and closed.rcvd.code == 1001, closed
                    self.going_away += 1

    def h2c(self, name):
        self.multiplexed(name, lambda: socket.create_connection(("127.0.0.1", self.farebox.port), timeout=15), "http", "/api/echo", 4)

    def h2(self, name):
        self.multiplexed(name, self.secure.socket, "https", "/api/echo", 4)

    def h2events(self, name):
        self.multiplexed(name, self.secure.socket, "https", "/events/events/20", 2)

    def multiplexed(self, name, connect, scheme, path, width):
        fields = [(n.lower(), v) for n, v in self.session_on(path if "events" not in path else "/events/echo").items()]
        while not self.stopping.is_set():
            connection = MultiplexedConnection(connect(), f"127.0.0.1:{self.farebox.port}", scheme)
            while not self.stopping.is_set() and not connection.is_going:
                for exchange in [connection.wait(stream) for stream in [connection.ask(path, fields) for _ in range(width)]]:
                    if exchange is None:
                        continue
                    assert exchange.status == 200 and exchange.reset is None, (exchange.status, exchange.reset, exchange.body[:200])
                    assert "events" not in path or b"[DONE]" in exchange.body
                    self.count(name)
            connection.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not self.failures, self.failures


KINDS = ["free", "session", "charge", "events", "tls", "h2c", "h2", "h2events", "live"]
