"""The relay: framing, smuggling, limits, timeouts, upstream failures, draining. Free routes, so that only HTTP is at stake."""

import hashlib
import os
import signal
import socket
import threading
import time

import pytest

from harness import Farebox, fetch

FREE = "/free/echo"


def raw(farebox, octets, method="GET"):
    with farebox.connection() as c:
        c.send(octets)
        response = c.read(method)
        return response, c.is_closed()


def test_relay_of_a_body_each_way(connection, upstream):
    body = os.urandom(3_000_000)
    response = fetch(connection, "POST", FREE, {"Content-Type": "application/octet-stream"}, body)
    assert response.status == 200 and response.json()["sha256"] == hashlib.sha256(body).hexdigest()
    for path, size in (("/free/bytes/5000000", 5_000_000), ("/free/chunked/5000000", 5_000_000), ("/free/bytes/0", 0), ("/free/chunked/0", 0)):
        response = fetch(connection, "GET", path)
        assert response.status == 200 and response.complete and len(response.body) == size


def test_chunked_request_and_trailers(connection):
    connection.send(f"POST {FREE} HTTP/1.1\r\nHost: {connection.authority}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for piece in (b"5\r\nhello\r\n", b"6;a=b\r\n world\r\n", b"0\r\nX-T: 1\r\n\r\n"):
        for octet in piece:
            connection.send(bytes([octet]))
    response = connection.read()
    assert response.json()["sha256"] == hashlib.sha256(b"hello world").hexdigest()
    connection.request("GET", "/free/chunked/1000", {"TE": "trailers"})
    assert dict(connection.read().trailers).get("X-Sum") == "42"


def test_head_204_304_and_interim(connection):
    connection.request("HEAD", "/free/bytes/1234")
    response = connection.read("HEAD")
    assert response.status == 200 and response.get("content-length") == "1234"
    assert fetch(connection, "GET", "/free/status/204").status == 204
    assert fetch(connection, "GET", "/free/status/304").status == 304
    interim = []
    connection.request("GET", "/free/hints")
    assert connection.read(interim=interim).status == 200 and interim == [103]
    connection.request("POST", FREE, {"Expect": "100-continue", "Content-Length": "2"})
    interim = []
    time.sleep(0.2)
    connection.send(b"ok")
    assert connection.read(interim=interim).status == 200


def test_pipelining_keeps_the_order(connection):
    targets = [f"/free/echo?n={n}" for n in range(30)]
    connection.send(b"".join(f"GET {t} HTTP/1.1\r\nHost: {connection.authority}\r\n\r\n".encode() for t in targets))
    assert [connection.read().json()["target"] for _ in targets] == targets


def test_http_1_0_and_connection_close(farebox):
    response, closed = raw(farebox, f"GET /free/chunked/100 HTTP/1.0\r\nHost: {farebox.authority}\r\n\r\n".encode())
    assert response.status == 200 and len(response.body) == 100 and "transfer-encoding" not in {n.lower() for n, _ in response.headers} and closed
    response, closed = raw(farebox, f"GET {FREE} HTTP/1.1\r\nHost: {farebox.authority}\r\nConnection: close\r\n\r\n".encode())
    assert response.status == 200 and closed


def test_what_the_upstream_sees(farebox, connection, upstream):
    fetch(connection, "GET", FREE, [("Connection", "keep-alive, X-Secret"), ("X-Secret", "1"), ("Keep-Alive", "1"), ("TE", "trailers"), ("Proxy-Connection", "x"), ("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6"),
                                    ("Payment-Receipt", "forged"), ("X-Kept", "yes"), ("X-Payment", "x"), ("Payment-Signature", "x")])
    seen = {}
    for name, value in upstream.last()["headers"]:
        assert name.lower() not in seen or name.lower() not in ("host", "via", "forwarded", "x-forwarded-for"), "repeated " + name
        seen[name.lower()] = value
    assert not set(seen) & {"x-secret", "keep-alive", "proxy-connection", "payment-receipt", "x-payment", "payment-signature", "upgrade"}
    assert seen["x-kept"] == "yes" and "6.6.6.6" not in seen["x-forwarded-for"] + seen["forwarded"] and "127.0.0.1" in seen["x-forwarded-for"]
    assert "via" in seen and seen["x-forwarded-proto"] == "http" and seen["x-forwarded-host"] == farebox.authority


SMUGGLING = {
    "CL and TE": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two CL": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "CL list": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 3, 3\r\n\r\nabc",
    "CL sign": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length: +3\r\n\r\nabc",
    "CL hex": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 0x3\r\n\r\nabc",
    "CL empty": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length:\r\n\r\n",
    "CL overflow": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "TE identity": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: identity\r\n\r\n",
    "TE twice": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE chunked, chunked": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE xchunked": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE vertical tab": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE on 1.0": b"POST {p} HTTP/1.0\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"GET {p} HTTP/1.1\r\nHost: {h}\r\nX-A: b\r\n c\r\n\r\n",
    "leading space": b"GET {p} HTTP/1.1\r\n Host: {h}\r\n\r\n",
    "bare LF": b"GET {p} HTTP/1.1\nHost: {h}\n\n",
    "bare LF in fields": b"GET {p} HTTP/1.1\r\nHost: {h}\nX: y\r\n\r\n",
    "bare CR in value": b"GET {p} HTTP/1.1\r\nHost: {h}\r\nX: a\rb\r\n\r\n",
    "NUL in value": b"GET {p} HTTP/1.1\r\nHost: {h}\r\nX: a\x00b\r\n\r\n",
    "no Host": b"GET {p} HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET {p} HTTP/1.1\r\nHost: {h}\r\nHost: {h}\r\n\r\n",
    "bad Host": b"GET {p} HTTP/1.1\r\nHost: a b\r\n\r\n",
    "absolute form of another host": b"GET http://other.example{p} HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "two spaces": b"GET  {p} HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "tab in request line": b"GET\t{p} HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "version": b"GET {p} HTTP/2.0\r\nHost: {h}\r\n\r\n",
    "lower-case version": b"GET {p} http/1.1\r\nHost: {h}\r\n\r\n",
    "escaped slash": b"GET /free/a%2Fb HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "escaped backslash": b"GET /free/a%5Cb HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "dot segments": b"GET /free/../api/echo HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "escaped dot segments": b"GET /free/%2e%2e/api/echo HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "double slash": b"GET /free//echo HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "NUL escape": b"GET /free/%00 HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "bad escape": b"GET /free/%zz HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "raw backslash": b"GET /free\\echo HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "fragment": b"GET /free/echo#x HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "chunk size sign": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk size space": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "chunk size overflow": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk bare LF": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "chunk data too long": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellooo\r\n0\r\n\r\n",
    "chunk extension with CR": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
    "trailer that frames": b"POST {p} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_ambiguous_framing_is_refused_and_never_forwarded(farebox, upstream, name):
    octets = SMUGGLING[name].replace(b"{p}", FREE.encode()).replace(b"{h}", farebox.authority.encode())
    finished = len(upstream.requests)
    response, closed = raw(farebox, octets)
    assert response.status in (400, 413, 501, 505), response.status
    assert closed, "the connection must not be used again"
    assert response.get("content-type") == "application/problem+json"
    time.sleep(0.02)
    assert len(upstream.requests) == finished, "something went upstream"


def test_unknown_path_is_refused_and_not_free(connection, upstream):
    before = upstream.count()
    assert fetch(connection, "GET", "/nowhere").status == 404
    assert upstream.count() == before


@pytest.mark.parametrize("octets,status", [
    (b"GET /free/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /free/echo HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n", 431),
    (b"GET /free/echo HTTP/1.1\r\nHost: x\r\nX-Large: " + b"y" * 40_000 + b"\r\n\r\n", 431),
])
def test_limits_answer_with_their_status(farebox, octets, status):
    response, closed = raw(farebox, octets.replace(b"Host: x", b"Host: " + farebox.authority.encode()))
    assert response.status == status and closed and response.get("content-type") == "application/problem+json"


def test_upstream_that_dies_or_lies(farebox):
    with farebox.connection() as c:
        assert fetch(c, "GET", "/free/die").status == 502
    with farebox.connection() as c:
        response = fetch(c, "GET", "/free/cut/1000000")
        assert response.status == 200 and not response.complete
    with farebox.connection() as c:
        response = fetch(c, "GET", "/free/close/1000")
        assert response.status == 200 and response.complete and len(response.body) == 1000


def test_slow_heads_are_cut_off(farebox):
    with farebox.connection() as c:
        started = time.monotonic()
        c.send(b"GET /free/echo HT")
        response = c.read()
        assert response.status == 408 and time.monotonic() - started < 8  # header-read is 2 s in the tests' configuration


def test_slow_reader_does_not_fill_memory(farebox):
    before = farebox.resident_kilobytes()
    readers = []
    for _ in range(5):
        c = farebox.connection()
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.request("GET", "/free/bytes/200000000")
        readers.append(c)
    time.sleep(1.5)
    assert farebox.resident_kilobytes() - before < 5 * 2048
    for c in readers:
        c.close()


def test_health_and_readiness(farebox, connection):
    assert fetch(connection, "GET", "/healthz").status == 200
    assert fetch(connection, "GET", "/readyz").status == 200
    assert "farebox_" in farebox.metrics()


def test_idle_connections_are_cheap(farebox):
    farebox_pid = farebox.pid
    warm = farebox.connection()
    fetch(warm, "GET", FREE)
    before = farebox.resident_kilobytes()
    count = 2000
    connections = []
    for _ in range(count):
        c = farebox.connection()
        c.request("GET", FREE)
        connections.append(c)
    for c in connections:
        assert c.read().status == 200
    time.sleep(0.3)
    grown = farebox.resident_kilobytes() - before
    for c in connections:
        c.close()
    assert farebox.pid == farebox_pid and grown / count < 4, f"{grown / count:.1f} KB a connection"


def test_sigterm_drains_and_a_second_one_ends_at_once(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port)
    slow = proxy.connection()
    slow.request("GET", "/free/slow/1500")
    time.sleep(0.3)
    proxy.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1)
    assert slow.read().status == 200
    assert proxy.process.wait(timeout=10) == 0
    proxy.start()
    hung = proxy.connection()
    hung.request("GET", "/free/slow/15000")
    time.sleep(0.3)
    proxy.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert proxy.process.poll() is None
    proxy.process.send_signal(signal.SIGTERM)
    proxy.process.wait(timeout=5)
    hung.close()


def test_descriptors_exhausted_then_accepts_again(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, prefix=["prlimit", "--nofile=256:256"])
    connections = []
    for _ in range(600):
        try:
            connections.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=2))
        except OSError:
            break
    time.sleep(0.3)
    cpu = proxy.cpu_seconds()
    time.sleep(1)
    assert proxy.cpu_seconds() - cpu < 0.5, "it spins"
    for c in connections:
        c.close()
    time.sleep(1.2)
    with proxy.connection() as c:
        assert fetch(c, "GET", FREE).status == 200
    proxy.stop()
