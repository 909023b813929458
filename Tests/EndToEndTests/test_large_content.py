"""Large content, which passes inside the kernel where neither side is TLS: whole, in order, and paid for to the octet."""

import os
import socket
import threading
import time

import pytest

from harness import CONFIGURATION, Farebox, challenge_of, fetch
from prepaid import PrepaidWallet, SessionSecret
from upstream import numbered

PER_MB = 10_000
LARGE = 24_000_000


def cost(octets):
    return -(-octets * PER_MB // 1_000_000)


def opened(farebox, wallet, path, deposit):
    """A session, as the header fields that open it and the ones that use it afterwards."""
    with farebox.connection() as c:
        challenge = challenge_of(fetch(c, "GET", path), "session")
    secret = SessionSecret.new()
    return challenge, secret, {"Authorization": wallet.open(challenge, secret, deposit)}


def close(farebox, wallet, challenge, secret, path):
    with farebox.connection() as c:
        return fetch(c, "GET", path, {"Authorization": wallet.bearer(challenge, secret, "close")})


def pipes(farebox):
    """Pipes that the proxy has, by the ends that it reads from and writes to."""
    folder = f"/proc/{farebox.pid}/fd"
    names = []
    for descriptor in os.listdir(folder):
        try:
            names.append(os.readlink(f"{folder}/{descriptor}"))
        except FileNotFoundError:
            pass
    return len({name for name in names if name.startswith("pipe:")})


def rest(connection):
    """What still comes on a connection until it ends, however it does."""
    octets = connection.buffer
    try:
        while chunk := connection.socket.recv(1 << 20):
            octets += chunk
    except ConnectionError:
        pass
    return octets


@pytest.mark.parametrize("path", [f"/files/numbered/{LARGE}", f"/free/numbered/{LARGE}"])
def test_it_arrives_whole_and_in_order_three_times_on_a_connection(farebox, wallet, path):
    with farebox.connection() as stream:
        headers = {}
        if path.startswith("/files"):
            challenge, secret, headers = opened(farebox, wallet, path, 3 * cost(LARGE))
        for _ in range(3):
            response = fetch(stream, "GET", path, headers)
            assert response.status == 200 and response.complete and response.body == numbered(LARGE)
            headers = {"Prepaid-Session": secret.short_form} if headers else {}
    if headers:
        time.sleep(0.1)
        assert close(farebox, wallet, challenge, secret, path).json() == {"status": "closed", "spent": str(3 * cost(LARGE)), "refunded": "0"}


def test_a_slow_reader_gets_it_whole(farebox, wallet):
    path = f"/files/numbered/{LARGE}"
    challenge, secret, headers = opened(farebox, wallet, path, 1_000_000)
    with farebox.connection() as stream:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        stream.request("GET", path, headers)
        assert stream.head().status == 200
        body = b""
        for pause in (0.3, 0.2, 0.1):
            time.sleep(pause)
            body += stream.exactly(1_000_000)
        body += stream.exactly(LARGE - len(body))
    assert body == numbered(LARGE)
    time.sleep(0.1)
    assert close(farebox, wallet, challenge, secret, path).json()["spent"] == str(cost(LARGE))


def test_a_close_in_the_middle_charges_exactly_what_arrives(farebox, wallet):
    path = f"/files/numbered/{LARGE}"
    challenge, secret, headers = opened(farebox, wallet, path, 1_000_000)
    with farebox.connection() as stream:
        stream.request("GET", path, headers)
        assert stream.head().status == 200
        time.sleep(0.5)
        closed = close(farebox, wallet, challenge, secret, path)
        assert closed.status == 200, closed.body
        arrived = rest(stream)
    assert 0 < len(arrived) < LARGE and arrived == numbered(LARGE)[: len(arrived)]
    assert closed.json()["spent"] == str(cost(len(arrived)))


@pytest.mark.parametrize("budget", [1_000_000, 1_500_001, 100_000])
def test_a_budget_that_ends_in_the_middle_ends_it_to_the_octet(farebox, wallet, budget):
    path = f"/files/numbered/{LARGE}"
    _, _, headers = opened(farebox, wallet, path, cost(budget))
    with farebox.connection() as stream:
        stream.request("GET", path, headers)
        assert stream.head().status == 200
        arrived = rest(stream)
    assert arrived == numbered(LARGE)[: cost(budget) * 100]


class EarlyAnswer:
    """An upstream that answers while the request's content still comes, and takes that in."""

    def __init__(self):
        self.taken = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        octets = b""
        while b"\r\n\r\n" not in octets:
            octets += connection.recv(65536)
        head, content = octets.split(b"\r\n\r\n", 1)
        if head.startswith(b"GET"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            return connection.close()
        self.taken = len(content)
        threading.Thread(target=self.take, args=(connection,), daemon=True).start()
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + numbered(LARGE))
        except OSError:
            pass

    def take(self, connection):
        try:
            while chunk := connection.recv(65536):
                self.taken += len(chunk)
        except OSError:
            pass


def test_content_both_ways_is_paid_for_both_ways(binary, tmp_path):
    """The client takes nothing until content of its own has used the budget up: what waits for it was paid for, and stays so."""
    upstream, deposit = EarlyAnswer(), 8_000_000
    route = '\n[[route]]\nid = "both"\nprefix = "/both/"\nprice = "1 USDC per MB of both"\nhold-timeout = "4 s"\nminimum-deposit = "0.001 USDC"\n'
    proxy = Farebox(binary, tmp_path, upstream.port, workers=1, configuration=CONFIGURATION + route)
    payer = PrepaidWallet.new()
    proxy.create_wallet(payer, "100 USDC")
    _, secret, headers = opened(proxy, payer, "/both/x", deposit)
    with proxy.connection() as c:
        assert fetch(c, "GET", "/both/x", headers).status == 200
    time.sleep(0.3)
    before = int(proxy.session(secret.session_id)["spent"])
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", proxy.port))
    head = f"POST /both/x HTTP/1.1\r\nHost: {proxy.authority}\r\nPrepaid-Session: {secret.short_form}\r\nContent-Length: {LARGE}\r\n\r\n"
    client.sendall(head.encode() + bytes(1000))
    time.sleep(0.5)
    client.settimeout(1)
    try:
        while True:
            client.sendall(bytes(65536))
    except OSError:
        pass
    client.settimeout(10)
    answer = b""
    try:
        while chunk := client.recv(1 << 20):
            answer += chunk
    except OSError:
        pass
    client.close()
    time.sleep(0.5)
    arrived = len(answer.split(b"\r\n\r\n", 1)[1])
    spent = int(proxy.session(secret.session_id)["spent"]) - before
    assert arrived > 0 and upstream.taken > 0 and spent >= arrived + upstream.taken > deposit // 2
    proxy.stop()
    proxy.assert_books_balance()


def test_an_upstream_that_breaks_off_is_seen_by_the_client(farebox, wallet):
    path = f"/files/cut/{LARGE}"
    _, _, headers = opened(farebox, wallet, path, 1_000_000)
    with farebox.connection() as stream:
        stream.request("GET", path, headers)
        assert stream.head().status == 200
        assert 0 < len(rest(stream)) <= LARGE // 2


def test_clients_that_leave_take_no_pipe_with_them(farebox, wallet):
    path = f"/free/numbered/{LARGE}"
    most = 0
    for _ in range(40):
        with farebox.connection() as stream:
            stream.request("GET", path)
            assert stream.head().status == 200
            time.sleep(0.02)
            most = max(most, pipes(farebox))
    time.sleep(0.5)
    assert 0 < most and pipes(farebox) <= 32
