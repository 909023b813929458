"""Free requests for each wallet and each address, and prices that fall with the volume."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import CONFIGURATION, Farebox, challenge_of, fetch, open_session, request_of
from prepaid import PrepaidWallet

ROUTES = """
[[route]]
id = "trial"
prefix = "/trial/"
price = "0.001 USDC per request"
free-units = ["5 requests per wallet per month", "3 requests per address per month"]

[[route]]
id = "bulk"
prefix = "/bulk/"
price = "0.01 USDC per request"
free-units = "20 requests per wallet per month"
tiers = ["0.005 USDC per request beyond 30 requests per wallet per month"]
"""


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("volume"), upstream.port, configuration=CONFIGURATION + ROUTES)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


def spent(farebox, secret):
    return int(farebox.session(secret.session_id)["spent"])


def test_an_address_tries_before_it_pays(farebox, connection, upstream):
    before = upstream.count()
    assert [fetch(connection, "GET", "/trial/echo").status for _ in range(5)] == [200, 200, 200, 402, 402]
    assert upstream.count() == before + 3
    # Another connection is the same address.
    with farebox.connection() as other:
        assert fetch(other, "GET", "/trial/echo").status == 402


def test_a_wallets_free_requests_outlive_sessions_failures_and_kills(farebox, wallet, connection):
    first = open_session(farebox, wallet, "/trial/echo", 100_000)
    use = {"Prepaid-Session": first.short_form}
    assert fetch(connection, "GET", "/trial/status/500", use).status == 500
    assert fetch(connection, "GET", "/trial/echo", use).status == 200 and spent(farebox, first) == 0
    second = open_session(farebox, wallet, "/trial/echo", 100_000)
    assert spent(farebox, second) == 0
    farebox.settle_log()
    farebox.kill()
    farebox.start()
    with farebox.connection() as again:
        for expected in (0, 0, 1000, 2000):
            assert fetch(again, "GET", "/trial/echo", use).status == 200
            assert spent(farebox, first) == expected


def test_at_once_no_more_than_the_allowance_is_free(farebox):
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "10 USDC")
    secret = open_session(farebox, wallet, "/bulk/echo", 5_000_000)

    def ask(_):
        with farebox.connection() as connection:
            return [fetch(connection, "GET", "/bulk/echo", {"Prepaid-Session": secret.short_form}).status for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        assert all(status == 200 for statuses in pool.map(ask, range(8)) for status in statuses)
    # 41 requests: 20 free, 10 at the first price, 11 beyond thirty.
    assert spent(farebox, secret) == 10 * 10_000 + 11 * 5_000


def test_what_volume_is_worth_is_told(farebox, connection):
    request = request_of(challenge_of(fetch(connection, "GET", "/bulk/echo"), "session"))["methodDetails"]
    assert request["freeUnits"] == {"unitType": "request", "units": "20", "period": "month"}
    assert request["tiers"][0]["beyond"] == "30" and request["tiers"][0]["prices"][0]["amount"] == "5000"
    text = fetch(connection, "GET", "/llms.txt").body.decode()
    assert "0.01 USDC per request; 20 requests per wallet per month free; 0.005 USDC per request beyond 30 requests per wallet per month" in text
    checked = farebox.run("check")
    assert "3 requests per address per month" in checked.stdout
