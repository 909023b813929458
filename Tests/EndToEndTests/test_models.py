"""Prices by model: one route, several prices, told by a member of the request's content, which reaches the upstream as it was sent."""

import json

import pytest

from harness import CONFIGURATION, CommandFailed, Farebox, challenge_of, fetch, parse_challenges, request_of
from prepaid import PrepaidWallet, SessionSecret

ROUTES = """
[[route]]
id = "chat"
prefix = "/chat/"
methods = "POST"
description = "Chat"
usage-body-limit = "64 KB"
[route.models]
"small*" = "0.001 USDC per request"
"small-x" = {{ price = "0.003 USDC per request", description = "Somewhat larger" }}
large = "0.02 USDC per request"
octets = "1 USDC per MB"
gift = "free"

[[route]]
id = "any"
prefix = "/any/"
price = "0.5 USDC per request"
[route.models]
member = "engine"
cheap = "0.001 USDC per request"
"""


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("models"), upstream.port, configuration=CONFIGURATION + ROUTES)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


def body(model, **more):
    return json.dumps({"messages": [{"role": "user", "content": "héllo"}], "model": model, **more}).encode()


def post(connection, content, headers=(), path="/chat/echo"):
    return fetch(connection, "POST", path, [("Content-Type", "application/json"), *headers], content)


def amount(response, intent="charge"):
    return int(request_of(challenge_of(response, intent))["amount"])


def test_each_model_has_its_price(connection):
    for model, price in [("small", 1000), ("small-1", 1000), ("small-x", 3000), ("small-xl", 1000), ("large", 20000)]:
        response = post(connection, body(model))
        assert response.status == 402 and amount(response) == price, model
    assert [c["intent"] for c in parse_challenges(post(connection, body("octets")).headers)] == ["session"]


def test_a_charge_pays_for_its_model_and_the_content_is_not_changed(farebox, wallet, connection, upstream):
    content = b' { "model" : "sm\\u0061ll-7",\r\n "x": [1e400, "\\ud83d\\ude00"] } '
    paid = wallet.transfer(challenge_of(post(connection, content), "charge"))
    for other in ("large", "small-x", "huge"):
        before = upstream.count()
        response = post(connection, body(other), [("Authorization", paid)])
        assert response.status == (400 if other == "huge" else 402) and upstream.count() == before
    assert farebox.balance(wallet) == 10_000_000
    response = post(connection, content, [("Authorization", paid)])
    assert response.status == 200 and response.receipt()
    assert upstream.last()["body"] == content
    assert farebox.balance(wallet) == 10_000_000 - 1000


def test_chunked_and_awaited_content_is_read_too(farebox, wallet, connection, upstream):
    content = body("large")

    def send(headers=()):
        lines = ["POST /chat/echo HTTP/1.1", f"Host: {farebox.authority}", "Transfer-Encoding: chunked", "Expect: 100-continue", *headers]
        connection.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert connection.head().status == 100
        for start in range(0, len(content), 7):
            part = content[start : start + 7]
            connection.send(b"%x\r\n%s\r\n" % (len(part), part))
        connection.send(b"0\r\n\r\n")
        return connection.read("POST")

    response = send()
    assert response.status == 402 and amount(response) == 20000
    response = send([f"Authorization: {wallet.transfer(challenge_of(response, 'charge'))}"])
    assert response.status == 200 and upstream.last()["body"] == content
    assert farebox.balance(wallet) == 10_000_000 - 20000


def test_one_session_pays_for_several_models(farebox, wallet, connection):
    opened = challenge_of(post(connection, body("small")), "session")
    secret = SessionSecret.new()
    assert post(connection, body("small"), [("Authorization", wallet.open(opened, secret, 1_000_000))]).status == 200
    assert post(connection, body("small"), [("Prepaid-Session", secret.short_form)]).status == 200
    # The other model's terms are not part of the session before its own challenge is presented.
    other = post(connection, body("large"), [("Prepaid-Session", secret.short_form)])
    assert other.status == 402 and amount(other) == 20000
    assert post(connection, body("large"), [("Authorization", wallet.bearer(opened, secret))]).status == 402
    assert post(connection, body("large"), [("Authorization", wallet.bearer(challenge_of(other, "session"), secret))]).status == 200
    assert post(connection, body("large"), [("Prepaid-Session", secret.short_form)]).status == 200
    metered = post(connection, body("octets"), path="/chat/bytes/5000")
    assert post(connection, body("octets"), [("Authorization", wallet.bearer(challenge_of(metered, "session"), secret))], "/chat/bytes/5000").status == 200
    shown = farebox.session(secret.session_id)
    assert int(shown["spent"]) == 2 * 1000 + 2 * 20000 + 5000
    # A session is managed by an empty request, which names no model.
    closed = fetch(connection, "POST", "/chat/echo", {"Authorization": wallet.bearer(opened, secret, "close")}, b"")
    assert closed.status == 200 and int(closed.json()["spent"]) == 47000
    assert farebox.balance(wallet) == 10_000_000 - 47000


@pytest.mark.parametrize(
    "content,problem",
    [
        (body("huge"), "not-sold"), (b"{}", "not-sold"), (b'{"model":null}', "not-sold"), (None, "not-sold"),
        (b'{"model":"small","model":"large"}', "bad-request"), (b'{"model":"small","Model":"large"}', "bad-request"), (b'{"model":["small"]}', "bad-request"),
        (b"model=small", "bad-request"), (b'["model","small"]', "bad-request"), (b'{"model":"small"', "bad-request"),
    ],
)
def test_what_has_no_certain_price_is_refused(wallet, connection, upstream, content, problem):
    before = upstream.count()
    paid = wallet.transfer(challenge_of(post(connection, body("small")), "charge"))
    for headers in ([], [("Authorization", paid)]):
        response = post(connection, content, headers)
        assert response.status == 400 and response.problem() == problem
    assert upstream.count() == before


def test_content_that_cannot_be_read_is_refused(farebox):
    with farebox.connection() as connection:
        assert post(connection, body("small"), [("Content-Encoding", "gzip")]).status == 400
    with farebox.connection() as connection:
        assert post(connection, body("small", padding="x" * 70_000)).status == 413


def test_a_free_model_costs_nothing(connection, upstream):
    content = body("gift")
    assert post(connection, content).status == 200
    assert upstream.last()["body"] == content


def test_another_member_decides_where_it_is_said_and_the_rest_has_the_routes_price(connection):
    for content, price in [({"engine": "cheap", "model": "x"}, 1000), ({"engine": "dear"}, 500_000), ({}, 500_000)]:
        assert amount(post(connection, json.dumps(content).encode(), path="/any/echo")) == price
    assert amount(fetch(connection, "GET", "/any/echo")) == 500_000


def test_what_is_listed_is_what_is_asked_for(farebox, connection):
    listed = fetch(connection, "GET", "/openapi.json").json()["paths"]["/chat/{path}"]["post"]["x-payment-info"]["offers"]
    for model in ("small*", "small-x", "large", "octets"):
        response = post(connection, body(model.replace("*", "-2")))
        asked = {(c["intent"], request_of(c)["amount"]) for c in parse_challenges(response.headers)}
        assert asked == {(o["intent"], o["amount"]) for o in listed if o["description"].startswith(f"model {model}: ")}
    text = fetch(connection, "GET", "/llms.txt").body.decode()
    assert "  - `small-x`: Somewhat larger — 0.003 USDC per request (prepaid/charge, prepaid/session)\n" in text
    assert "  - `gift` — free\n" in text and "  - any other: not sold\n" in text


def test_prices_of_models_are_reloaded(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=CONFIGURATION + ROUTES)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    try:
        with proxy.connection() as connection:
            before = wallet.transfer(challenge_of(post(connection, body("small")), "charge"))
            text = proxy.configuration.read_text()
            proxy.configuration.write_text(text.replace('"small*" = "0.001 USDC', '"small*" = "0.004 USDC').replace('gift = "free"', 'gift = "1 USDC per request"'))
            assert proxy.run("reload").returncode == 0
            assert amount(post(connection, body("small"))) == 4000 and amount(post(connection, body("gift"))) == 1_000_000
            # What was quoted before is sold at its price.
            assert post(connection, body("small"), [("Authorization", before)]).status == 200
            assert proxy.balance(wallet) == 1_000_000 - 1000
    finally:
        proxy.stop()
    proxy.assert_books_balance()


def test_a_wrong_table_is_explained(binary, tmp_path, upstream, farebox):
    checked = farebox.run("check")
    assert checked.returncode == 0 and "model small-x" in checked.stdout and "not sold" in checked.stdout, checked.stdout
    with pytest.raises((RuntimeError, CommandFailed)):
        Farebox(binary, tmp_path, upstream.port, configuration=CONFIGURATION + ROUTES.replace('"0.02 USDC per request"', '"0.02 USDC per token"'))
