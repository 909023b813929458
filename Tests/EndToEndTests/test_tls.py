"""TLS towards the clients of a real proxy, met by Python's ssl, openssl's s_client and sslyze."""

import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from harness import Connection, fetch
from secure import Place, SecureConnection


@pytest.fixture(scope="module")
def place(binary, upstream, tmp_path_factory):
    place = Place(binary, tmp_path_factory.mktemp("tls"), upstream)
    yield place
    place.farebox.stop()
    place.farebox.assert_books_balance()


@pytest.fixture(autouse=True)
def first_certificate(place):
    """Each test begins with the first certificate in use."""
    yield
    if place.shown() != "first":
        place.authority.install("first", "used")
        place.await_shown("first")


def openssl(*arguments, input=b""):
    return subprocess.run(["openssl", *arguments], input=input, capture_output=True, timeout=30)


# ---- Downstream


def test_money_moves_over_tls_as_it_does_without(place):
    secret = place.open_session("/api/echo")
    with place.connect() as connection:
        assert fetch(connection, "GET", "/api/echo").status == 402
        for _ in range(3):
            response = fetch(connection, "GET", "/api/echo", {"Prepaid-Session": secret.short_form})
            assert response.status == 200 and response.receipt()
        assert connection.socket.version() == "TLSv1.3"


def test_large_contents_pass_whole_in_both_directions(place):
    content = os.urandom(3_000_000)
    with place.connect() as connection:
        response = fetch(connection, "POST", "/free/echo", body=content)
        assert response.status == 200
        assert hashlib.sha256(content).hexdigest() in response.body.decode()
        for size in (1, 16_384, 16_385, 5_000_000):
            response = fetch(connection, "GET", f"/free/bytes/{size}")
            assert response.complete and len(response.body) == size
            response = fetch(connection, "GET", f"/free/chunked/{size}")
            assert response.complete and len(response.body) == size


def test_a_reader_that_is_slow_gets_everything(place):
    with place.connect() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.request("GET", "/free/bytes/3000000")
        time.sleep(0.5)
        assert len(connection.read().body) == 3_000_000


def test_requests_come_in_pieces_of_any_size(place):
    request = f"GET /free/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: {'x' * 300}\r\n\r\n".encode()
    with place.connect() as connection:
        for octet in request:
            connection.send(bytes([octet]))
        assert connection.read().status == 200
        connection.send(request * 5)
        for _ in range(5):
            assert connection.read().status == 200


def test_protocols_are_agreed_on(place):
    with place.connect(protocols=("http/1.1",)) as connection:
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
    with place.connect(protocols=("h2", "http/1.1")) as connection:
        assert connection.socket.selected_alpn_protocol() == "h2"
    with place.connect(protocols=()) as connection:
        assert connection.socket.selected_alpn_protocol() is None
        assert fetch(connection, "GET", "/free/echo").status == 200
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        place.connect(protocols=("spdy/3",))


@pytest.mark.parametrize("name, shown", [
    ("first.test", "first"), ("a.wild.test", "wild"), ("A.WILD.TEST", "wild"), ("other.test", "other"),
    ("a.b.wild.test", "first"), ("wild.test", "first"), ("unknown.test", "first"), ("127.0.0.1", "first"),
])
def test_certificates_are_chosen_by_name(place, name, shown):
    assert place.shown(name=name, verify=False) == shown


def test_versions(place):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with place.connect(minimum=version, maximum=version) as connection:
            assert fetch(connection, "GET", "/free/echo").status == 200
    for version in ("-tls1", "-tls1_1"):
        done = openssl("s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect", f"127.0.0.1:{place.ports['tls']}")
        assert done.returncode != 0 and b"alert protocol version" in done.stderr, done.stderr


def test_ciphers_and_groups_are_the_intermediate_ones(place):
    target = f"127.0.0.1:{place.ports['tls']}"
    for refused in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-CCM"):
        done = openssl("s_client", "-tls1_2", "-cipher", f"{refused}:@SECLEVEL=0", "-connect", target)
        assert b"handshake failure" in done.stderr, (refused, done.stderr)
    for accepted in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"):
        assert openssl("s_client", "-tls1_2", "-cipher", accepted, "-connect", target).returncode == 0, accepted
    for group in ("X25519", "P-256", "P-384"):
        assert openssl("s_client", "-groups", group, "-connect", target).returncode == 0, group
    assert openssl("s_client", "-groups", "P-521", "-connect", target).returncode != 0


def test_clients_can_neither_renegotiate_nor_send_early(place):
    target = f"127.0.0.1:{place.ports['tls']}"
    done = openssl("s_client", "-tls1_2", "-connect", target, input=b"R\n")
    assert b"RENEGOTIATING" in done.stdout + done.stderr and b"no renegotiation" in done.stderr, done.stderr
    done = openssl("s_client", "-tls1_3", "-connect", target)
    assert b"Max Early Data: 0" in done.stdout or b"Early data was not sent" in done.stdout
    assert b"Compression: NONE" in done.stdout


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_at_every_worker(place, version):
    context = place.authority.client(minimum=version, maximum=version)

    def connect(session):
        with SecureConnection(place.ports["tls"], context, session=session) as connection:
            assert fetch(connection, "GET", "/free/echo").status == 200
            return connection.socket.session_reused, connection.socket.session

    reused, session = connect(None)
    assert not reused
    for _ in range(12):
        reused, session = connect(session)
        assert reused
    # The keys outlive certificates.
    place.authority.install("second", "used")
    place.await_shown("second")
    reused, _ = connect(session)
    assert reused


def test_clients_prove_who_they_are(place, upstream):
    # Certificates of clients: `alice` is known, `mallory` is not.
    folder = place.authority.folder
    for name in ("alice",):
        with place.connect("required", identity=name) as connection:
            response = fetch(connection, "GET", "/free/echo", {"X-Client-Subject": "CN=forged", "X-Who": "CN=forged"})
            assert response.status == 200
        sent = [value for field, value in upstream.last()["headers"] if field.lower() in ("x-client-subject", "x-who")]
        assert sent == ["CN=alice,O=Acme\\, Inc"]
    with place.connect("optional", identity="alice") as connection:
        assert fetch(connection, "GET", "/free/echo", {"X-Who": "CN=forged"}).status == 200
    assert [value for field, value in upstream.last()["headers"] if field.lower() == "x-who"] == ["CN=alice,O=Acme\\, Inc"]
    with place.connect("optional") as connection:
        assert fetch(connection, "GET", "/free/echo", {"X-Who": "CN=forged"}).status == 200
    assert [value for field, value in upstream.last()["headers"] if field.lower() == "x-who"] == []
    for port, identity in (("required", None), ("required", "mallory"), ("optional", "mallory")):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            before = upstream.count()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                with place.connect(port, identity=identity, minimum=version, maximum=version) as connection:
                    fetch(connection, "GET", "/free/echo")
            assert upstream.count() == before
    assert folder.exists()


def test_a_session_of_one_listener_is_no_way_around_another(place):
    context = place.authority.client()
    with SecureConnection(place.ports["tls"], context) as connection:
        assert fetch(connection, "GET", "/free/echo").status == 200
        session = connection.socket.session
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with SecureConnection(place.ports["required"], context, session=session) as connection:
            fetch(connection, "GET", "/free/echo")


def test_clients_without_tls_are_sent_to_the_origin(place, upstream):
    origin = f"https://127.0.0.1:{place.ports['tls']}"
    before = upstream.count()
    with Connection(place.ports["redirect"]) as connection:
        for method, target, body in (("GET", "/paid?a=b&c", None), ("POST", "/api/echo", b"x" * 100), ("GET", "/nowhere", None)):
            response = fetch(connection, method, target, body=body)
            assert response.status == 308 and response.get("location") == origin + target, (response.status, response.headers)
        assert fetch(connection, "GET", "/free/echo", {"Host": "evil.test"}).get("location") == origin + "/free/echo"
    assert upstream.count() == before


def test_what_is_not_tls_is_turned_away(place):
    for octets in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00" * 100, b"SSH-2.0-x\r\n", bytes([22, 3, 1, 255, 255]) + b"\x01" * 2000):
        with Connection(place.ports["tls"]) as connection:
            connection.send(octets)
            connection.socket.settimeout(5)
            answer = b""
            try:
                while chunk := connection.socket.recv(1000):
                    answer += chunk
            except ConnectionError:
                pass
            assert len(answer) < 1000
    assert place.shown() == "first"


def test_handshakes_that_stop_are_given_up(place):
    with Connection(place.ports["tls"]) as silent, Connection(place.ports["tls"]) as slow:
        slow.send(bytes([22, 3, 1, 2, 0, 1]))
        assert silent.is_closed(seconds=6) and slow.is_closed(seconds=6)


def test_ends_are_announced(place):
    with place.connect() as connection:
        connection.request("GET", "/free/echo", {"Connection": "close"})
        assert connection.read().status == 200
        # Python raises unless close_notify came before the connection's end.
        connection.socket.suppress_ragged_eofs = False
        assert connection.socket.recv(1) == b""
    with place.connect() as connection:
        connection.request("GET", "/free/cut/1000")
        response = connection.read()
        assert not response.complete


# ---- Certificates that change


def test_certificates_are_renewed_with_a_stream_in_flight(place):
    secret = place.open_session("/events/echo")
    with place.connect() as kept, place.connect() as stream:
        assert fetch(kept, "GET", "/free/echo").status == 200
        stream.request("GET", "/events/events/500", {"Prepaid-Session": secret.short_form})
        head = stream.head()
        assert head.status == 200
        place.authority.install("second", "used")
        place.await_shown("second")
        place.authority.install("third", "used")
        place.farebox.process.send_signal(signal.SIGHUP)
        place.await_shown("third")
        content = b"".join(stream.chunks())
        assert content.count(b"event: tick") == 500 and b"[DONE]" in content, content[-200:]
        assert fetch(kept, "GET", "/free/echo").status == 200
        assert kept.shown == "first"


def test_renewals_lose_no_request(place):
    stopping, failures, counts = threading.Event(), [], [0]

    def work():
        try:
            while not stopping.is_set():
                with place.connect() as connection:
                    for _ in range(3):
                        assert fetch(connection, "GET", "/free/echo").status == 200
                        counts[0] += 1
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(6):
        name = ("second", "third", "first")[number % 3]
        place.authority.install(name, "used")
        place.farebox.process.send_signal(signal.SIGHUP)
        place.await_shown(name)
    stopping.set()
    for thread in threads:
        thread.join()
    assert failures == [] and counts[0] > 50


@pytest.mark.parametrize("name, parts, reason", [
    ("ended", ("pem", "key"), "expired at"), ("second", ("pem",), "this is another one's"), ("second", ("key",), "this is another one's"),
])
def test_what_cannot_be_used_is_refused_and_the_former_stays(place, name, parts, reason):
    since = len(place.log())
    place.authority.install(name, "used", parts)
    place.await_log(f"new certificates cannot be used.*{reason}", since)
    assert place.shown() == "first"
    since = len(place.log())
    place.farebox.process.send_signal(signal.SIGHUP)
    place.await_log(f"configuration is not used(.|\n)*{reason}", since)
    assert place.shown() == "first"
    done = place.farebox.run("check")
    assert done.returncode != 0 and reason in done.stdout + done.stderr
    since = len(place.log())
    place.authority.install("first", "used")
    place.await_log("certificates are read anew", since)
    assert place.shown() == "first"
    assert "PRIVATE KEY" not in place.log()


# ---- The agent


def test_the_agent_pays_over_tls_and_nobody_else(place, tmp_path):
    def pay(*arguments, authorities=place.authority.path):
        environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "SSL_CERT_FILE": str(authorities)}
        return subprocess.run([place.farebox.binary, "pay", *arguments], capture_output=True, text=True, timeout=60, env=environment)

    did = pay("--new-key").stdout.strip()
    place.farebox.create_wallet(SimpleNamespace(did=did), "5 USDC")
    origin = f"https://127.0.0.1:{place.ports['tls']}"
    done = pay("-v", "--charge", "--max", "0.001 USDC", f"{origin}/api/echo")
    assert done.returncode == 0 and "signature verified" in done.stderr, done.stderr
    done = pay("--session", "--max", "0.5 USDC", f"{origin}/files/bytes/3000000")
    assert done.returncode == 0, (done.returncode, done.stderr)
    balance = place.farebox.balance(SimpleNamespace(did=did))
    assert balance < 5_000_000 - 1000
    done = pay("--max", "1 USDC", f"{origin}/api/echo", authorities=place.clients.path)
    assert done.returncode == 60 and "nobody that this system trusts" in done.stderr, (done.returncode, done.stderr)
    done = pay("--max", "1 USDC", f"https://localhost:{place.ports['tls']}/api/echo")
    assert done.returncode == 60 and "other names" in done.stderr, (done.returncode, done.stderr)
    done = pay("--max", "1 USDC", f"https://127.0.0.1:{place.farebox.port}/api/echo")
    assert done.returncode == 35 and "does not speak TLS" in done.stderr, (done.returncode, done.stderr)
    assert place.farebox.balance(SimpleNamespace(did=did)) == balance


# ---- Others' judgement, and memory


def test_sslyze_finds_the_configuration_compliant(place):
    done = subprocess.run(
        [sys.executable, "-m", "sslyze", "--mozilla_config=intermediate", "--certinfo_ca_file", str(place.authority.path), f"127.0.0.1:{place.ports['tls']}"],
        capture_output=True, text=True, timeout=180)
    assert done.returncode == 0 and "OK - Compliant" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]


def test_idle_connections_are_small(place):
    count = 1000
    context = place.authority.client()
    with place.connect() as connection:
        assert fetch(connection, "GET", "/free/echo").status == 200
    before = place.farebox.resident_kilobytes()
    kept = []
    try:
        for _ in range(count):
            connection = SecureConnection(place.ports["tls"], context)
            assert fetch(connection, "GET", "/small").status == 200
            kept.append(connection)
        grown = (place.farebox.resident_kilobytes() - before) * 1024 / count
        print(f"idle TLS connection: {grown:.0f} octets")
        assert grown < 40_000
    finally:
        for connection in kept:
            connection.close()
