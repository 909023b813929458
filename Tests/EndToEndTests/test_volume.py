"""Free requests for each wallet and each address, and prices that fall with the volume."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import CONFIGURATION, Farebox, challenge_of, fetch, open_session, request_of
from prepaid import PrepaidWallet, SessionSecret

ROUTES = """
[[route]]
id = "trial"
prefix = "/trial/"
price = "0.001 USDC per request"
free-units = ["5 requests per wallet per month", "3 requests per address per month"]

[[route]]
id = "tokens"
prefix = "/tokens/"
price = "1 USDC per M input tokens + 1 USDC per M output tokens"
default-output-tokens = 100
free-units = ["2 requests per wallet per month", "2 requests per address per month"]

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


def test_an_address_has_again_what_failed(farebox, upstream):
    """Of another address than the other tests', since its free requests last for a month."""
    with farebox.connection() as connection:
        connection.close()
        connection.socket = socket.create_connection(("127.0.0.1", farebox.port), timeout=15, source_address=("127.0.0.7", 0))
        for path, status in [("status/500", 500), ("status/404", 404), ("die", 502), ("status/503", 503)]:
            assert fetch(connection, "GET", f"/trial/{path}").status == status
        assert [fetch(connection, "GET", "/trial/echo").status for _ in range(4)] == [200, 200, 200, 402]


def test_operators_see_volumes(farebox, wallet, connection):
    trial = open_session(farebox, wallet, "/trial/echo", 100_000)
    bulk = open_session(farebox, wallet, "/bulk/echo", 1_000_000)
    for _ in range(30):
        assert fetch(connection, "GET", "/bulk/echo", {"Prepaid-Session": bulk.short_form}).status == 200
    volumes = {entry["route"]: entry for entry in farebox.command("wallet", "show", wallet.did)["volumes"]}
    assert volumes["trial"]["freeUnits"] == {"units": "5", "used": "1", "period": "month"} and "volume" not in volumes["trial"]
    assert volumes["bulk"]["freeUnits"]["used"] == "20"
    assert volumes["bulk"]["volume"] == {"requests": "31", "period": "month", "tier": {"beyond": "30", "price": "0.005 USDC per request"}}
    assert [entry["route"] for entry in farebox.session(trial.session_id)["volumes"]] == ["trial"]
    assert [entry["route"] for entry in farebox.session(bulk.session_id)["volumes"]] == ["bulk"]
    shown = farebox.run("wallet", "show", wallet.did).stdout
    assert "trial: 1 of 5 free requests used this month" in shown and "31 requests this month, now at 0.005 USDC per request" in shown
    assert "31 requests this month" in farebox.run("session", "show", bulk.session_id).stdout
    assert "volumes" not in farebox.command("wallet", "list")["wallets"][0]


def test_what_is_free_has_a_bound_on_tokens(farebox, wallet, connection):
    """A free request of a model may ask for as much output as a request without a limit is taken to, and not for more."""
    def ask(limit, headers=()):
        body = json.dumps({"model": "m", "messages": [], "max_tokens": limit}).encode()
        return fetch(connection, "POST", "/tokens/v1/chat/completions", {"Content-Type": "application/json", **dict(headers)}, body)

    assert [ask(200).status, ask(100).status, ask(100).status, ask(100).status] == [402, 200, 200, 402]
    challenge = challenge_of(ask(100), "session")
    secret = SessionSecret.new()
    use = {"Prepaid-Session": secret.short_form}
    assert ask(200, {"Authorization": wallet.open(challenge, secret, 1_000_000)}).status == 200
    before = spent(farebox, secret)
    assert before > 0
    assert ask(100, use).status == 200 and spent(farebox, secret) == before
    assert ask(101, use).status == 200 and spent(farebox, secret) > before


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
