"""Several servers behind one name: who gets what, and what becomes of requests and money when servers fail."""

import itertools
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import Connection, Farebox, challenge_of, fetch, free_port, open_session
from prepaid import PrepaidWallet
from upstream import Upstream

PRICE = 1000
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

CONFIGURATION = """
realm = "127.0.0.1"
origin = "http://127.0.0.1:{{port}}"
state = "{{state}}"
workers = {{workers}}
{top}

[[listen]]
address = "127.0.0.1:{{port}}"
{listen}

[[currency]]
code = "usdc"
decimals = 6

[[merchant]]
id = "acme"

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[route]]
id = "small"
path = "/small"
free = true

[[route]]
id = "paid"
prefix = "/paid/"
price = "0.001 USDC per request"

[[route]]
id = "hasty"
prefix = "/hasty/"
price = "0.001 USDC per request"
first-octet-timeout = "300 ms"

[[route]]
id = "free"
prefix = "/free/"
free = true

[[upstream]]
name = "farm"
{servers}
{upstream}
"""


@pytest.fixture
def farm(binary, tmp_path):
    """Makes a proxy before so many servers; its books must balance when the test is done."""
    proxies, servers = [], []

    def make(count=2, upstream="", weights=None, top="", listen="", **options):
        made = count if isinstance(count, list) else [Upstream(**options) for _ in range(count)]
        servers.extend(made)
        weights = weights or [1] * len(made)
        items = ", ".join(f'{{{{ url = "{s.url}", weight = {w} }}}}' for s, w in zip(made, weights))
        text = CONFIGURATION.format(top=top, listen=listen, servers=f"servers = [{items}]", upstream=upstream)
        proxy = Farebox(binary, tmp_path / f"farebox-{len(proxies)}", 0, configuration=text)
        proxies.append(proxy)
        return proxy, made

    yield make
    for proxy in proxies:
        proxy.stop()
        proxy.assert_books_balance()
    for server in servers:
        try:
            server.kill()
        except OSError:
            pass


def get(proxy, path="/free/echo", headers=(), count=1):
    """The statuses of so many requests, each on a connection of its own."""
    statuses = []
    for _ in range(count):
        with proxy.connection() as connection:
            statuses.append(fetch(connection, "GET", path, headers).status)
    return statuses


def counts(servers):
    return [server.count("/echo") for server in servers]


def metric(proxy, name, server):
    return int(re.search(rf'^farebox_upstream_{name}{{upstream="farm",server="{re.escape(server.url)}"}} (\d+)$', proxy.metrics(), re.M)[1])


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def payer():
    def make(proxy, amount="10 USDC"):
        wallet = PrepaidWallet.new()
        proxy.create_wallet(wallet, amount)
        return wallet

    return make


# Choosing


def test_weights(farm):
    proxy, servers = farm(3, weights=[5, 2, 1])
    assert set(get(proxy, count=160)) == {200}
    # Each worker spreads its own requests exactly; what two workers leave over is less than a round each.
    for server, expected in zip(servers, (100, 40, 20)):
        assert abs(server.count("/echo") - expected) <= 5, counts(servers)
    assert metric(proxy, "server_requests_total", servers[0]) == servers[0].count()


def test_sessions_and_wallets_stick_to_a_server(farm, payer):
    for balance in ("hash:session", "hash:wallet"):
        proxy, servers = farm(4, upstream=f'balance = "{balance}"')
        wallet = payer(proxy)
        homes = []
        for _ in range(8):
            secret = open_session(proxy, wallet, "/paid/echo", 100_000)
            before = counts(servers)
            with ThreadPoolExecutor(4) as pool:
                done = list(pool.map(lambda _: get(proxy, "/paid/echo", {"Prepaid-Session": secret.short_form})[0], range(12)))
            assert done == [200] * 12
            homes.append([now - then for now, then in zip(counts(servers), before)])
        assert all(sorted(home) == [0, 0, 0, 12] for home in homes), homes
        used = {home.index(12) for home in homes}
        assert (len(used) > 1) if balance == "hash:session" else (len(used) == 1), homes


def test_a_leaving_server_moves_only_its_own_keys(farm):
    proxy, servers = farm(3, upstream='balance = "hash:header:X-Tenant"')

    def homes():
        found = []
        for tenant in range(24):
            before = counts(servers)
            assert get(proxy, headers={"x-tenant": str(tenant)}) == [200]
            found.append(next(i for i, (now, then) in enumerate(zip(counts(servers), before)) if now > then))
        return found

    first = homes()
    assert set(first) == {0, 1, 2} and homes() == first
    servers[1].kill()
    second = homes()
    assert all(now == then if then != 1 else now != 1 for now, then in zip(second, first))


def test_least_connections(farm):
    proxy, servers = farm(2, upstream='balance = "least-connections"')
    # Each worker knows its own requests: what is slow keeps one server of each busy.
    with ThreadPoolExecutor(16) as pool:
        slow = [pool.submit(get, proxy, "/free/slow/1500") for _ in range(16)]
        time.sleep(0.5)
        assert set(get(proxy, count=20)) == {200}
        assert all(one.result() == [200] for one in slow)
    assert all(6 <= server.count("/slow/1500") <= 10 for server in servers)


def test_unix_sockets(farm, tmp_path):
    servers = [Upstream(unix_path=tmp_path / f"{number}.sock") for number in range(2)]
    proxy, _ = farm(servers)
    assert set(get(proxy, count=20)) == {200}
    assert all(8 <= server.count("/echo") <= 12 for server in servers)


# Failing


def test_a_server_killed_under_paid_load_costs_no_request_and_no_money(farm, payer):
    proxy, servers = farm(3, upstream="[upstream.ejection]\ntime = \"300 ms\"\nshare = 50")
    wallet = payer(proxy, "1000 USDC")
    secrets = [open_session(proxy, wallet, "/paid/echo", 200_000_000) for _ in range(4)]
    statuses, stop = [], threading.Event()

    def load(secret):
        done = []
        with proxy.connection() as connection:
            while not stop.is_set():
                done.append(fetch(connection, "GET", "/paid/echo", {"Prepaid-Session": secret.short_form}).status)
        statuses.extend(done)

    threads = [threading.Thread(target=load, args=(secret,)) for secret in secrets * 3]
    for thread in threads:
        thread.start()
    for victim in itertools.islice(itertools.cycle(servers), 4):
        time.sleep(0.4)
        victim.kill()
        time.sleep(0.5)
        victim.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
    assert int(re.search(r"^farebox_upstream_retries_total (\d+)$", proxy.metrics(), re.M)[1]) > 0
    spent = sum(int(proxy.session(secret.session_id)["spent"]) for secret in secrets)
    assert spent == (len(statuses) + len(secrets)) * PRICE


def test_what_may_have_changed_something_is_not_sent_twice(farm, payer):
    proxy, servers = farm(2)
    wallet = payer(proxy)
    secret = open_session(proxy, wallet, "/paid/echo", 1_000_000)
    spent = int(proxy.session(secret.session_id)["spent"])
    for server in servers:
        server.requests.clear()
    with proxy.connection() as connection:
        connection.request("POST", "/paid/die", {"Prepaid-Session": secret.short_form}, b"{}")
        assert connection.read("POST").status == 502
    assert sum(server.count("/die") for server in servers) == 1
    assert int(proxy.session(secret.session_id)["spent"]) == spent


def test_health_checks_flap(farm, payer):
    proxy, servers = farm(2, upstream='[upstream.health]\npath = "/healthz"\ninterval = "50 ms"\nrise = 2\nfall = 2')
    assert set(get(proxy, count=8)) == {200} and all(counts(servers))
    for _ in range(2):
        servers[0].health = 503
        assert wait_until(lambda: metric(proxy, "server_up", servers[0]) == 0)
        before = counts(servers)
        assert set(get(proxy, count=10)) == {200}
        assert [now - then for now, then in zip(counts(servers), before)] == [0, 10]
        servers[0].health = 200
        assert wait_until(lambda: metric(proxy, "server_up", servers[0]) == 1)
        before = counts(servers)
        assert set(get(proxy, count=10)) == {200}
        assert min(now - then for now, then in zip(counts(servers), before)) >= 4
    log = proxy.log_path.read_text()
    assert log.count("a server is down") >= 2 and log.count("a server is up") >= 2


def test_without_a_server_that_is_up_nothing_is_sold(farm, payer):
    proxy, servers = farm(2, upstream='[upstream.health]\npath = "/healthz"\ninterval = "50 ms"')
    wallet = payer(proxy)
    secret = open_session(proxy, wallet, "/paid/echo", 100_000)
    with proxy.connection() as connection:
        charge = wallet.transfer(challenge_of(fetch(connection, "GET", "/paid/echo"), "charge"))
    before = (proxy.balance(wallet), proxy.session(secret.session_id)["spent"])
    for server in servers:
        server.kill()
    assert wait_until(lambda: not any(metric(proxy, "server_up", server) for server in servers))
    for headers in ({}, {"Authorization": charge}, {"Prepaid-Session": secret.short_form}):
        with proxy.connection() as connection:
            response = fetch(connection, "GET", "/paid/echo", headers)
            assert response.status == 503 and int(response.get("retry-after")) >= 1 and response.receipt() is None
    assert (proxy.balance(wallet), proxy.session(secret.session_id)["spent"]) == before
    for server in servers:
        server.start()
    assert wait_until(lambda: get(proxy, "/paid/echo", {"Authorization": charge}) == [200])
    assert proxy.balance(wallet) == before[0] - PRICE


def test_ejection_and_return(farm):
    proxy, servers = farm(2, upstream='[upstream.ejection]\nfailures = 3\ntime = "700 ms"')
    servers[0].status = 502
    statuses = get(proxy, count=30)
    assert 3 <= statuses.count(502) <= 5 and set(statuses) <= {200, 502}
    assert metric(proxy, "server_ejected", servers[0]) == 1
    servers[0].status = None
    time.sleep(0.8)
    before = counts(servers)
    assert set(get(proxy, count=10)) == {200}
    assert min(now - then for now, then in zip(counts(servers), before)) >= 4
    assert metric(proxy, "server_ejected", servers[0]) == 0
    log = proxy.log_path.read_text()
    assert "a server is left alone" in log and "a server gets requests again" in log


def test_an_open_breaker_answers_503_and_no_money_moves(farm, payer):
    proxy, (server,) = farm(1, upstream='[upstream.breaker]\nrequests = 5\nopen = "1 s"\nprobes = 2')
    wallet = payer(proxy)
    secret = open_session(proxy, wallet, "/paid/echo", 100_000)
    with proxy.connection() as connection:
        first = fetch(connection, "GET", "/paid/echo")
        charge, challenge = wallet.transfer(challenge_of(first, "charge")), challenge_of(first, "session")
    server.status = 503
    session = {"Prepaid-Session": secret.short_form}
    before = (proxy.balance(wallet), proxy.session(secret.session_id)["spent"])
    assert wait_until(lambda: get(proxy, "/paid/echo", session) == [503] and 'breaker_open{upstream="farm"} 1' in proxy.metrics(), 5)
    reached = server.count("/echo")
    for headers in ({}, session, {"Authorization": charge}) * 2:
        with proxy.connection() as connection:
            response = fetch(connection, "GET", "/paid/echo", headers)
            assert response.status == 503 and response.get("retry-after") == "1" and response.receipt() is None, response.body
    assert server.count("/echo") == reached
    assert (proxy.balance(wallet), proxy.session(secret.session_id)["spent"]) == before
    with proxy.connection() as connection:
        # What was begun can still be looked at.
        status = fetch(connection, "GET", "/paid/echo", {"Authorization": wallet.bearer(challenge, secret, "status")})
        assert status.status == 200 and status.json()["spent"] == before[1]
    server.status = None
    assert wait_until(lambda: get(proxy, "/paid/echo", session) == [200], 5)
    assert wait_until(lambda: get(proxy, "/paid/echo", {"Authorization": charge}) == [200], 5)
    assert proxy.balance(wallet) == before[0] - PRICE


def test_a_route_has_times_of_its_own(farm, payer):
    proxy, _ = farm(1)
    wallet = payer(proxy)
    secret = open_session(proxy, wallet, "/paid/echo", 100_000)
    spent = int(proxy.session(secret.session_id)["spent"])
    assert get(proxy, "/paid/slow/600", {"Prepaid-Session": secret.short_form}) == [200]
    other = open_session(proxy, wallet, "/hasty/echo", 100_000)
    assert get(proxy, "/hasty/slow/3000", {"Prepaid-Session": other.short_form}) == [504]
    assert int(proxy.session(secret.session_id)["spent"]) == spent + PRICE
    assert int(proxy.session(other.session_id)["spent"]) == PRICE


# The PROXY protocol


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_upstreams_are_told_the_client(farm, version):
    proxy, (server,) = farm(1, upstream=f'proxy-protocol = "{version}"\n[upstream.health]\npath = "/healthz"\ninterval = "50 ms"', expects_proxy=True)
    with proxy.connection() as connection:
        port = connection.socket.getsockname()[1]
        for _ in range(3):
            assert fetch(connection, "GET", "/free/echo").status == 200
    ours = b"PROXY UNKNOWN\r\n" if version == "v1" else SIGNATURE + b"\x20\0\0\0"
    # Checks come in their own time.
    deadline = time.monotonic() + 5
    while ours not in server.introductions and time.monotonic() < deadline:
        time.sleep(0.02)
    told = [head for head in server.introductions if len(head) > 20]
    if version == "v1":
        assert told == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (port, proxy.port)] * 3
    else:
        address = socket.inet_aton("127.0.0.1")
        assert told == [SIGNATURE + b"\x21\x11\0\x0c" + address + address + struct.pack("!HH", port, proxy.port)] * 3
    assert ours in server.introductions


def introduced(port):
    return f'[[listen]]\naddress = "127.0.0.1:{port}"\nproxy-protocol = true'


def introduce(port, octets, cut=None):
    """A connection that begins with these octets, sent in two parts where `cut` says so."""
    connection = Connection(port)
    if cut:
        connection.send(octets[:cut])
        time.sleep(0.05)
    connection.send(octets[cut or 0 :])
    return connection


def test_clients_are_who_the_proxy_in_front_says(farm):
    port = free_port()
    proxy, (server,) = farm(1, top='trusted-proxies = ["127.0.0.1"]', listen=introduced(port))
    lines = [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7"),
        (SIGNATURE + b"\x21\x11\0\x0c" + socket.inet_aton("192.0.2.9") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 1, 2), "192.0.2.9"),
        (SIGNATURE + b"\x20\0\0\0", "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ]
    for octets, address in lines:
        for cut in (None, 1, 5, 12, len(octets) - 1):
            with introduce(port, octets, cut) as connection:
                for _ in range(2):
                    response = fetch(connection, "GET", "/free/echo")
                    assert response.status == 200
                    forwarded = dict((n.lower(), v) for n, v in response.json()["headers"])
                    assert forwarded["x-forwarded-for"].split(",")[-1].strip() == address, forwarded


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", SIGNATURE + b"\x23\x11\0\0", b"\x16\x03\x01"])
def test_what_does_not_begin_with_the_header_is_closed(farm, octets):
    port = free_port()
    proxy, (server,) = farm(1, top='trusted-proxies = ["127.0.0.1"]', listen=introduced(port))
    with introduce(port, octets) as connection:
        assert connection.is_closed()
    assert not server.requests


def test_the_header_of_strangers_is_not_believed(farm):
    port = free_port()
    proxy, (server,) = farm(1, top='trusted-proxies = ["10.0.0.0/8"]', listen=introduced(port))
    with introduce(port, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET /free/echo HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        assert connection.is_closed()
    assert not server.requests
