"""Slow clients: slowhttptest (Debian) against plain and TLS listeners. They hold no more than their connections."""

import ssl
import subprocess
import threading
import time

import pytest

from harness import CONFIGURATION, Connection, Farebox, fetch, free_port

SECONDS = 5
CLIENTS = 300
# Slow heads, slow bodies, slow readers.
ATTACKS = {
    "heads": ["-H", "-i", "1", "-x", "16"],
    "bodies": ["-B", "-i", "1", "-s", "65536", "-x", "16"],
    "readers": ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"],
}
PATHS = {"heads": "/free/echo", "bodies": "/free/echo", "readers": "/free/bytes/1000000"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "chain.pem")],
        check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def proxy(binary, upstream, certificate, tmp_path_factory):
    port = free_port()
    listener = f"""[[listen]]
address = "127.0.0.1:{port}"
[listen.tls]
certificates = [{{{{ chain = "{certificate}/chain.pem", key = "{certificate}/key.pem" }}}}]

[[currency]]"""
    farebox = Farebox(binary, tmp_path_factory.mktemp("slow"), upstream.port, configuration=CONFIGURATION.replace("[[currency]]", listener, 1))
    farebox.tls_port = port
    yield farebox
    farebox.stop()


def open_connections(proxy):
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    ports = {f"{proxy.port:04X}", f"{proxy.tls_port:04X}"}
    return sum(row[1].split(":")[1] in ports and row[3] == "01" for row in rows)


@pytest.mark.parametrize("carrier", ["http", "https"])
@pytest.mark.parametrize("attack", list(ATTACKS))
def test_slow_clients_do_not_keep_others_out(proxy, attack, carrier):
    port = proxy.port if carrier == "http" else proxy.tls_port
    memory = proxy.resident_kilobytes()
    command = ["slowhttptest", *ATTACKS[attack], "-c", str(CLIENTS), "-r", "200", "-l", str(SECONDS), "-p", "3", "-u", f"{carrier}://127.0.0.1:{port}{PATHS[attack]}"]
    attacker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    statuses, peak = [], 0
    end = time.monotonic() + SECONDS - 1
    while time.monotonic() < end:
        with proxy.connection(timeout=3) as c:
            statuses.append(fetch(c, "GET", "/free/bytes/100").status)
        peak = max(peak, proxy.resident_kilobytes() - memory)
        time.sleep(0.1)
    output = attacker.communicate(timeout=60)[0]
    assert statuses and set(statuses) == {200}
    assert "service available" in output and "NO" not in output.split("service available")[-1][:40], output[-2000:]
    # A head or body of so many octets, a receive buffer's worth for each reader; TLS's own state beside it.
    assert peak < CLIENTS * 192, f"{peak} KB for {CLIENTS} slow clients"
    deadline = time.monotonic() + 45
    while open_connections(proxy) > 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert open_connections(proxy) == 0


def test_idle_tls_connections_are_bounded(proxy, certificate):
    context = ssl.create_default_context(cafile=str(certificate / "chain.pem"))
    connections = []
    lock = threading.Lock()

    def connect(count):
        for _ in range(count):
            c = Connection(proxy.tls_port, tls=context)
            c.request("GET", "/free/bytes/10")
            assert c.read().status == 200
            with lock:
                connections.append(c)

    connect(10)
    before = proxy.resident_kilobytes()
    threads = [threading.Thread(target=connect, args=(250,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.5)
    grown = proxy.resident_kilobytes() - before
    count = len(connections)
    for c in connections:
        c.close()
    assert count == 1010 and grown / 1000 < 40, f"{grown / 1000:.1f} KB a connection"
