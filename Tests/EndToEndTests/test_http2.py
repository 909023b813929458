"""HTTP/2 end to end, with PyPI's h2 and with frames of our own making: the relay, money, flow control, limits and ends."""

import hashlib
import os
import shutil
import signal
import subprocess
import time

import hpack
import pytest

from harness import Farebox, challenge_of, fetch, open_session
from http2_client import (
    CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS, NO_ERROR,
    PING, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, H2Connection, RawH2, block, frame)
from prepaid import PrepaidWallet, SessionSecret
from secure import Place

PRICE = 1000


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    """The proxy of this file; the connections that tests ask of it are HTTP/2."""
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), upstream.port)
    proxy.first = proxy.connection
    proxy.connection = lambda timeout=15: H2Connection(proxy.port, timeout)
    yield proxy
    proxy.connection = proxy.first
    proxy.stop()
    proxy.assert_books_balance()


def get(path="/free/echo"):
    return [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "127.0.0.1")]


# The relay.


def test_a_request_and_what_the_upstream_sees(connection, upstream):
    response = fetch(connection, "GET", "/free/echo?a=b", {"X-Kept": "yes", "Cookie": "a=b"})
    assert response.status == 200 and response.json()["target"] == "/free/echo?a=b"
    seen = [(n.lower(), v) for n, v in response.json()["headers"]]
    assert ("x-forwarded-host", connection.authority) in seen and ("x-kept", "yes") in seen and ("cookie", "a=b") in seen
    assert not {"connection", "upgrade", "transfer-encoding"} & {n for n, _ in seen}
    assert any(n == "via" for n, _ in seen)
    assert not {"connection", "keep-alive", "transfer-encoding"} & {n for n, _ in response.headers}


def test_bodies_both_ways(connection):
    body = os.urandom(3_000_000)
    response = fetch(connection, "POST", "/free/echo", {}, body)
    assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()
    for path, size in (("/free/bytes/5000000", 5_000_000), ("/free/chunked/5000000", 5_000_000), ("/free/bytes/0", 0), ("/free/chunked/0", 0)):
        response = fetch(connection, "GET", path)
        assert response.status == 200 and response.complete and len(response.body) == size


def test_content_without_a_length_and_trailers(connection):
    number = connection.request("POST", "/free/echo", ends=False)
    for piece in (b"hello", b" ", b"world"):
        connection.write(number, piece)
        time.sleep(0.05)
    connection.h2.send_headers(number, [("x-t", "1")], end_stream=True)
    connection.flush()
    response = connection.read()
    assert response.json()["sha256"] == hashlib.sha256(b"hello world").hexdigest()
    connection.request("POST", "/free/echo", ends=False)
    connection.finish(connection.current)
    assert connection.read().json()["length"] == 0
    response = fetch(connection, "GET", "/free/chunked/1000", {"TE": "trailers"})
    assert dict(response.trailers).get("x-sum") == "42" and len(response.body) == 1000


def test_head_204_304_and_interim(connection):
    connection.request("HEAD", "/free/bytes/1234")
    response = connection.read("HEAD")
    assert response.status == 200 and response.get("content-length") == "1234" and response.body == b""
    assert fetch(connection, "GET", "/free/status/204").status == 204
    assert fetch(connection, "GET", "/free/status/304").status == 304
    interim = []
    connection.request("GET", "/free/hints")
    assert connection.read(interim=interim).status == 200 and interim == [103]
    connection.request("POST", "/free/echo", {"Expect": "100-continue", "Content-Length": "2"}, ends=False)
    connection.write(connection.current, b"ok", ends=True)
    assert connection.read().json()["length"] == 2


def test_what_the_upstream_does_wrong(connection):
    assert fetch(connection, "GET", "/free/die").status == 502
    assert fetch(connection, "GET", "/free/status/500").status == 500
    cut = fetch(connection, "GET", "/free/cut/100000")
    assert cut.status == 200 and not cut.complete
    forged = fetch(connection, "GET", "/free/forge")
    assert forged.status == 200 and not forged.get("payment-receipt") and not forged.get("x-hop")
    assert fetch(connection, "GET", "/free/echo").status == 200


# Money: the tests of charges and sessions, over HTTP/2.

import test_charge as charges
import test_session as sessions

# These reach into a socket of HTTP/1.1.
HTTP_1_ONLY = {"test_clients_that_reset_in_the_middle_of_metered_streams"}
opened = sessions.opened
for name, value in [*vars(charges).items(), *vars(sessions).items()]:
    if name.startswith("test_") and name not in HTTP_1_ONLY:
        assert name not in globals()
        globals()[name] = value
        # A fixture that only one of the files has goes with its tests.
    elif getattr(value, "__class__", None).__name__ == "FixtureFunctionDefinition" and name not in globals():
        globals()[name] = value


def test_402_says_the_same_in_both_versions(farebox, connection):
    over = {}
    for version, c in (("1", farebox.first()), ("2", connection)):
        response = fetch(c, "GET", "/paid")
        assert response.status == 402
        over[version] = (sorted({n.lower() for n, _ in response.headers} - {"connection", "transfer-encoding"}), response.problem(), set(response.json()))
    assert over["1"] == over["2"]


def test_100_streams_of_one_session(farebox, connection, wallet, upstream):
    secret = open_session(farebox, wallet, "/api/slow/20", 200 * PRICE)
    served = upstream.count()
    numbers = [connection.request("GET", "/api/slow/20", {"Prepaid-Session": secret.short_form}) for _ in range(100)]
    responses = [connection.finished(n) for n in numbers]
    assert [r.status for r in responses] == [200] * 100
    assert {r.receipt()["sessionId"] for r in responses} == {secret.session_id}
    assert upstream.count() == served + 100
    assert farebox.session(secret.session_id)["spent"] == str(101 * PRICE), "the open cost one as well"


def test_a_budget_for_50_of_100_streams(farebox, connection, wallet, upstream):
    secret = open_session(farebox, wallet, "/api/slow/20", 51 * PRICE)
    served = upstream.count()
    numbers = [connection.request("GET", "/api/slow/20", {"Prepaid-Session": secret.short_form}) for _ in range(100)]
    statuses = [connection.finished(n).status for n in numbers]
    assert statuses.count(200) == 50 and statuses.count(402) == 50
    assert upstream.count() == served + 50


def test_a_dry_stream_waits_and_its_siblings_go_on(farebox, connection, wallet):
    path = "/files/bytes/4000000"
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    secret = SessionSecret.new()
    dry = connection.request("GET", path, {"Authorization": wallet.open(challenge, secret, 20_000)})
    stream = connection.streams[dry]
    connection.until(lambda: len(stream.body) == 2_000_000)
    connection.unread.clear()
    for _ in range(20):
        assert len(fetch(connection, "GET", "/free/bytes/300000").body) == 300_000
    assert len(stream.body) == 2_000_000 and not stream.is_over
    fresh = challenge_of(fetch(connection, "GET", path), "session")
    topped = fetch(connection, "POST", path, {"Authorization": wallet.top_up(fresh, secret.session_id, 30_000), "Content-Length": "0"})
    assert topped.status == 200
    assert len(connection.finished(dry).body) == 4_000_000 and stream.ended
    assert farebox.session(secret.session_id)["spent"] == "40000"


def test_a_dry_stream_that_is_not_fed_is_reset(farebox, connection, wallet):
    path = "/files/bytes/4000000"
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    secret = SessionSecret.new()
    response = fetch(connection, "GET", path, {"Authorization": wallet.open(challenge, secret, 10_000)})
    assert response.status == 200 and not response.complete and len(response.body) == 1_000_000
    assert fetch(connection, "GET", "/free/echo").status == 200


def test_receipts_of_metered_bodies_come_as_trailers(farebox, connection, wallet):
    path = "/files/chunked/1500000"
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    secret = SessionSecret.new()
    response = fetch(connection, "GET", path, {"Authorization": wallet.open(challenge, secret, 100_000), "TE": "trailers"})
    assert len(response.body) == 1_500_000
    receipt = dict(response.trailers)["payment-receipt"]
    response.headers = [("payment-receipt", receipt)]
    assert response.receipt()["spent"] == "15000" and response.receipt()["sessionId"] == secret.session_id


def test_streams_that_are_reset_pay_for_what_they_got(farebox, connection, wallet):
    path = "/files/drip/200"
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    secret = SessionSecret.new()
    number = connection.request("GET", path, {"Authorization": wallet.open(challenge, secret, 1_000_000)})
    connection.until(lambda: len(connection.streams[number].body) >= 20_000)
    connection.reset(number)
    connection.unread.clear()
    time.sleep(1)
    closed = fetch(connection, "GET", path, {"Authorization": wallet.bearer(challenge, secret, "close")}).json()
    assert 200 <= int(closed["spent"]) < 2_000


# Flow control.


def test_a_stream_that_is_not_read_stops_alone(farebox, connection):
    before = farebox.resident_kilobytes()
    stalled = connection.request("GET", "/free/bytes/300000000")
    stream = connection.streams[stalled]
    stream.acknowledges = False
    connection.until(lambda: len(stream.body) == 65_535)
    connection.unread.clear()
    for _ in range(20):
        assert len(fetch(connection, "GET", "/free/bytes/300000").body) == 300_000
    assert len(stream.body) == 65_535 and not stream.is_over
    assert farebox.resident_kilobytes() - before < 20_000
    connection.h2.increment_flow_control_window(100_000, stalled)
    connection.flush()
    connection.until(lambda: len(stream.body) == 165_535)
    connection.reset(stalled)


def test_uploads_larger_than_their_windows_share_a_connection(connection):
    body = bytes(3_000_000)
    numbers = [connection.request("POST", "/free/echo", {}, ends=False) for _ in range(10)]
    for number in numbers:
        connection.write(number, body[: 50_000])
    for number in numbers:
        connection.write(number, body[50_000:], ends=True)
    for number in numbers:
        assert connection.finished(number).json()["length"] == len(body)


def test_initial_window_of_nothing(farebox):
    with RawH2(farebox.port) as c:
        c.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0") + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(get("/free/bytes/100"))))
        assert c.until(HEADERS)
        c.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x0a"))
        assert len(c.until(DATA)[3]) == 10
        c.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"))
        assert len(c.until(DATA)[3]) == 90


# What is malformed costs its stream.

MALFORMED = {
    "upper case": get() + [("X-A", "1")],
    "connection": get() + [("connection", "close")],
    "transfer-encoding": get() + [("transfer-encoding", "chunked")],
    "te": get() + [("te", "gzip")],
    "late pseudo-header field": get()[:3] + [("x", "1"), get()[3]],
    "two paths": get() + [(":path", "/x")],
    "no path": get()[:2] + get()[3:],
    "no scheme": get()[:1] + get()[2:],
    "unknown pseudo-header field": get() + [(":x", "1")],
    "host beside another authority": get() + [("host", "other")],
    "path with a line": get("/free/echo HTTP/1.1\r\nx: y"),
    "value with a line": get() + [("x", "a\r\nprepaid-session: b")],
    "name with a line": get() + [("x\r\ny", "a")],
    "two lengths": get() + [("content-length", "0"), ("content-length", "0")],
    "a length without content": get() + [("content-length", "5")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_cost_their_stream(farebox, upstream, name):
    count = upstream.count()
    with RawH2(farebox.port) as c:
        c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(MALFORMED[name])))
        assert c.until(RST_STREAM)[2:] == (1, PROTOCOL_ERROR.to_bytes(4, "big"))
        assert upstream.count() == count
        c.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, block(get())))
        assert c.until(HEADERS)[2] == 3


def test_heads_and_paths_that_are_too_large(connection):
    assert fetch(connection, "GET", "/free/echo", {"X-Large": "x" * 40_000}).status == 431
    assert fetch(connection, "GET", "/free/echo", {f"x-{n}": "y" for n in range(150)}).status == 431
    assert fetch(connection, "GET", "/free/echo?" + "x" * 9_000).status == 414
    assert fetch(connection, "TRACE", "/free/echo").status == 501
    assert fetch(connection, "GET", "/free/../paid").status == 400
    assert fetch(connection, "GET", "/free/echo").status == 200


def test_content_that_disagrees_with_its_length(farebox, upstream):
    with RawH2(farebox.port) as c:
        fields = [(":method", "POST")] + get()[1:] + [("content-length", "5")]
        c.send(frame(HEADERS, END_HEADERS, 1, block(fields)) + frame(DATA, END_STREAM, 1, b"123"))
        assert c.until(RST_STREAM)[2] == 1
        c.send(frame(HEADERS, END_HEADERS, 3, block(fields)) + frame(DATA, END_STREAM, 3, b"123456"))
        assert c.until(RST_STREAM)[2] == 3
        c.send(frame(HEADERS, END_HEADERS, 5, block(fields)) + frame(DATA, END_STREAM, 5, b"12345"))
        assert c.until(HEADERS)[2] == 5


def test_plain_connect_is_refused(farebox):
    with RawH2(farebox.port) as c:
        c.send(frame(HEADERS, END_HEADERS, 1, block([(":method", "CONNECT"), (":authority", "127.0.0.1:80")])))
        seen = c.next()
        while seen[0] != HEADERS:
            seen = c.next()
        assert dict(hpack.Decoder().decode(seen[3]))[":status"] == "501"


# Floods end their connection with ENHANCE_YOUR_CALM, and nobody else's.


def flood(farebox, octets, count, first=b""):
    with farebox.connection() as witness, RawH2(farebox.port) as c:
        spent = farebox.cpu_seconds()
        try:
            c.send(first)
            for start in range(0, count, 100):
                c.send(b"".join(octets(n) for n in range(start, min(count, start + 100))))
        except ConnectionError:
            pass
        code = c.goaway()
        assert fetch(witness, "GET", "/free/echo").status == 200
        assert farebox.cpu_seconds() - spent < 2
        return code


def request_on(n):
    return frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, block(get("/free/slow/100")))


FLOODS = {
    "rapid reset": lambda n: request_on(n) + frame(RST_STREAM, 0, 2 * n + 1, CANCEL.to_bytes(4, "big")),
    "provoked reset": lambda n: frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, block(MALFORMED["te"])),
    "settings": lambda n: frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"),
    "ping": lambda n: frame(PING, 0, 0, bytes(8)),
    "priority": lambda n: frame(PRIORITY, 0, 2 * n + 1, bytes(5)),
    "window updates": lambda n: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods(farebox, name):
    assert flood(farebox, FLOODS[name], 10_000) == ENHANCE_YOUR_CALM


def test_flood_of_empty_data(farebox):
    first = frame(HEADERS, END_HEADERS, 1, block([(":method", "POST")] + get()[1:]))
    assert flood(farebox, lambda n: frame(DATA, 0, 1), 10_000, first) == ENHANCE_YOUR_CALM


def test_flood_of_continuations(farebox):
    first = frame(HEADERS, 0, 1, block(get()))
    assert flood(farebox, lambda n: frame(CONTINUATION, 0, 1), 1_000, first) == ENHANCE_YOUR_CALM


def test_window_of_one_octet(farebox):
    with farebox.connection() as witness, RawH2(farebox.port) as c:
        c.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0") + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(get("/free/bytes/100000"))))
        try:
            for _ in range(2_000):
                c.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))
        except ConnectionError:
            pass
        assert c.goaway() == ENHANCE_YOUR_CALM
        assert fetch(witness, "GET", "/free/echo").status == 200


def test_a_stream_too_many_is_refused_alone(farebox, upstream):
    with RawH2(farebox.port) as c:
        c.send(b"".join(request_on(n) for n in range(130)))
        refused, answered = set(), set()
        while len(refused) + len(answered) < 130:
            kind, flags, number, payload = c.next()
            if kind == RST_STREAM:
                assert int.from_bytes(payload, "big") == REFUSED_STREAM
                refused.add(number)
            elif kind == HEADERS:
                answered.add(number)
        assert len(answered) >= 100 and refused


CONNECTION_ERRORS = {
    "DATA on an idle stream": (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "HEADERS on an even stream": (frame(HEADERS, 5, 2, block(get())), PROTOCOL_ERROR),
    "a frame too large": (frame(DATA, 0, 1, bytes(16_385)), FRAME_SIZE_ERROR),
    "a window that overflows": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR),
    "a block that does not decode": (frame(HEADERS, 5, 1, b"\x80"), COMPRESSION_ERROR),
    "DATA behind the end": (frame(HEADERS, 5, 1, block(get("/free/slow/500"))) + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "ping of a wrong size": (frame(PING, 0, 0, b"x"), FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_connection_errors(farebox, name):
    octets, code = CONNECTION_ERRORS[name]
    with RawH2(farebox.port) as c:
        c.send(octets)
        assert c.goaway() == code
        assert c.next() is None


def test_slow_prefaces_and_idle_connections_are_closed(farebox):
    with farebox.first() as c:
        c.send(b"PRI * HTTP/2.0\r\n")
        start = time.monotonic()
        while c.fill():
            pass
        assert time.monotonic() - start < 6


# Ends.


def test_sigterm_says_goaway_and_finishes_what_is_on_its_way(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path / "farebox", upstream.port)
    idle, busy = H2Connection(proxy.port), H2Connection(proxy.port)
    assert fetch(idle, "GET", "/free/echo").status == 200
    number = busy.request("GET", "/free/slow/1500")
    time.sleep(0.3)
    proxy.process.send_signal(signal.SIGTERM)
    response = busy.finished(number)
    assert response.status == 200 and response.complete
    assert busy.is_closed(5) and idle.is_closed(5)
    for c in (idle, busy):
        assert c.goaways and c.goaways[-1][1] == NO_ERROR
    assert proxy.process.wait(timeout=20) == 0
    proxy.assert_books_balance()


# Clients that others wrote.


def tool(name):
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def test_curl(farebox, wallet):
    secret = open_session(farebox, wallet, "/api/echo", 100 * PRICE)
    command = [tool("curl"), "-sS", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code} %header{payment-receipt}"]
    done = subprocess.run([*command, "-H", f"Prepaid-Session: {secret.short_form}", f"{farebox.origin}/api/echo"], capture_output=True, text=True, timeout=20)
    version, code, receipt = done.stdout.splitlines()[-1].split()
    assert (version, code) == ("2", "200") and receipt
    done = subprocess.run([*command, "-d", "@-", f"{farebox.origin}/free/echo"], input="x" * 500_000, capture_output=True, text=True, timeout=20)
    assert '"length": 500000' in done.stdout, done


def test_nghttp(farebox):
    done = subprocess.run([tool("nghttp"), "-nvas", f"{farebox.origin}/free/bytes/100000"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and ":status: 200" in done.stdout, done.stdout[-2000:]


def test_h2load(farebox, wallet, upstream):
    secret = open_session(farebox, wallet, "/api/echo", 3_000 * PRICE)
    served = upstream.count()
    command = [tool("h2load"), "-n", "2000", "-c", "4", "-m", "50", "-H", f"prepaid-session: {secret.short_form}", f"{farebox.origin}/api/echo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "2000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    assert "status codes: 2000 2xx" in done.stdout
    assert upstream.count() == served + 2000
    assert farebox.session(secret.session_id)["spent"] == str(2001 * PRICE)


# Over TLS.


@pytest.fixture(scope="module")
def place(binary, upstream, tmp_path_factory):
    place = Place(binary, tmp_path_factory.mktemp("place"), upstream)
    yield place
    place.farebox.stop()
    place.farebox.assert_books_balance()


def connect_securely(place, **options):
    context = place.authority.client(protocols=("h2", "http/1.1"), **options)
    return H2Connection(place.ports["tls"], context=context, server_name="127.0.0.1")


def test_sessions_over_tls(place, upstream):
    wallet = PrepaidWallet.new()
    place.farebox.create_wallet(wallet, "10 USDC")
    with connect_securely(place) as c:
        challenge = challenge_of(fetch(c, "GET", "/api/echo"), "session")
        secret = SessionSecret.new()
        opened = fetch(c, "GET", "/api/echo", {"Authorization": wallet.open(challenge, secret, 200 * PRICE)})
        assert opened.status == 200 and ("x-forwarded-proto", "https") in [(n.lower(), v) for n, v in opened.json()["headers"]]
        numbers = [c.request("GET", "/api/slow/20", {"Prepaid-Session": secret.short_form}) for _ in range(100)]
        assert {c.finished(n).status for n in numbers} == {200}
        charge = challenge_of(fetch_again(c, "/paid"), "charge")
        assert fetch_again(c, "/paid", {"Authorization": wallet.transfer(charge)}).receipt()["reference"]
    assert place.farebox.session(secret.session_id)["spent"] == str(101 * PRICE)


def fetch_again(c, target, headers=()):
    """Fetches on a connection whose earlier responses were read by their streams."""
    return c.finished(c.request("GET", target, headers))


def test_large_bodies_over_tls(place):
    body = os.urandom(3_000_000)
    with connect_securely(place) as c:
        assert fetch(c, "POST", "/free/echo", {}, body).json()["sha256"] == hashlib.sha256(body).hexdigest()
        numbers = [c.request("GET", "/free/bytes/1000000") for _ in range(10)]
        for number in numbers:
            assert len(c.finished(number).body) == 1_000_000


def test_a_dry_stream_over_tls_waits_alone(place):
    wallet = PrepaidWallet.new()
    place.farebox.create_wallet(wallet, "10 USDC")
    path = "/files/bytes/2000000"
    with connect_securely(place) as c:
        challenge = challenge_of(fetch(c, "GET", path), "session")
        dry = c.request("GET", path, {"Authorization": wallet.open(challenge, SessionSecret.new(), 10_000)})
        stream = c.streams[dry]
        c.until(lambda: len(stream.body) == 1_000_000)
        for _ in range(10):
            assert len(fetch_again(c, "/free/bytes/200000").body) == 200_000
        c.until(lambda: stream.is_over)
        assert stream.reset is not None and len(stream.body) == 1_000_000


def test_curl_over_tls(place):
    command = [tool("curl"), "-sS", "--http2", "--cacert", str(place.authority.path), "-w", "\n%{http_version} %{http_code}"]
    done = subprocess.run([*command, f"https://127.0.0.1:{place.ports['tls']}/free/bytes/100"], capture_output=True, text=True, timeout=20)
    assert done.stdout.splitlines()[-1] == "2 200", done


def test_floods_over_tls_end_their_connection_only(place):
    with connect_securely(place) as witness, connect_securely(place) as c:
        for _ in range(2_000):
            c.h2.ping(bytes(8))
        try:
            c.flush()
        except ConnectionError:
            pass
        assert c.is_closed(5) and (not c.goaways or c.goaways[-1][1] == ENHANCE_YOUR_CALM)
        assert fetch(witness, "GET", "/free/echo").status == 200
