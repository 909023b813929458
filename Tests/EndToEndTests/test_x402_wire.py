"""What x402's fields say beside the plain success: failures after the money has moved, caches, long queries, the order of offers, and repetitions."""

import pytest
import requests

from harness import parse_challenges
from paystage import PRICE, Stage, session, settlement

SOLD = {
    "paid": ["x402"],
    "evmfirst": ["evm:base-sepolia", "prepaid", "x402:base-sepolia"],
    "prepaidfirst": ["prepaid", "evm:base-sepolia", "x402:base-sepolia"],
}


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("wire"), node, usdc, rich, sold=SOLD)
    yield stage
    stage.close()


@pytest.mark.parametrize("status", [404, 500, 301])
def test_an_answer_that_is_no_success_says_that_the_money_has_moved(stage, status):
    """It is repeated by the same payment, which is served when the upstream can."""
    payer, before, path = stage.payer(), stage.received, f"/paid/status/{status}"
    payment = stage.payment(payer, path)
    first = stage.send(payment, path, allow_redirects=False)
    assert first.status_code == status and settlement(first)["success"] and settlement(first)["amount"] == str(PRICE)
    again = stage.send(payment, path, allow_redirects=False)
    assert again.status_code == status and settlement(again)["transaction"] == settlement(first)["transaction"]
    assert stage.received == before + PRICE


def test_an_upstream_that_dies_leaves_the_payment_told_and_good(stage):
    path = "/paid/die"
    payment, before = stage.payment(stage.payer(), path), stage.received
    response = stage.send(payment, path)
    assert response.status_code == 502 and settlement(response)["success"]
    assert stage.received == before + PRICE


def test_an_official_client_sees_it_too(stage):
    response = session(stage.payer()).get(stage.farebox.origin + "/paid/status/503", timeout=30)
    assert response.status_code == 503 and settlement(response)["success"]


def test_another_request_with_the_same_payment_is_told_what_became_of_it(stage):
    payment = stage.payment(stage.payer())
    first = stage.send(payment)
    other = stage.send(payment, "/paid/b")
    assert other.status_code == 409 and settlement(other)["transaction"] == settlement(first)["transaction"]


# Caches.


def directives(response):
    return {word.strip().lower() for word in response.headers.get("Cache-Control", "").split(",")}


def test_caches_are_told_to_compare_what_pays(stage):
    unpaid = requests.get(stage.farebox.origin + "/paid/a", timeout=5)
    paid = session(stage.payer()).get(stage.farebox.origin + "/paid/a", timeout=30)
    for response in (unpaid, paid):
        assert {"payment-signature", "x-payment", "authorization"} <= {name.strip().lower() for name in response.headers["Vary"].split(",")}


def test_what_an_upstream_grants_to_shared_caches_is_taken_out(stage):
    paid = session(stage.payer()).get(stage.farebox.origin + "/paid/cached", timeout=30)
    assert paid.status_code == 200
    assert directives(paid) == {"private", "max-age=60"}
    assert "CDN-Cache-Control" not in paid.headers and "Surrogate-Control" not in paid.headers
    free = requests.get(stage.farebox.origin + "/free/cached", timeout=5)
    assert "public" in directives(free) and free.headers["CDN-Cache-Control"] == "max-age=600"


# Long queries.


@pytest.mark.parametrize("length", [5000, 6500])
def test_a_long_query_can_be_paid_for(stage, length):
    before, path = stage.received, "/paid/echo?q=" + "x" * length
    offered = stage.offers(path)
    assert offered["resource"]["url"] in (stage.farebox.origin + path, stage.farebox.origin + "/paid/echo")
    response = session(stage.payer()).get(stage.farebox.origin + path, timeout=30)
    assert response.status_code == 200, response.text[:300]
    assert stage.received == before + PRICE


# The order of offers.


def methods_of(response):
    values = response.raw.headers.getlist("WWW-Authenticate")
    return [challenge["method"] for value in values for challenge in parse_challenges([("WWW-Authenticate", value)])]


def test_offers_stand_in_the_order_of_the_rails(stage):
    first = methods_of(requests.get(stage.farebox.origin + "/evmfirst/a", timeout=5))
    second = methods_of(requests.get(stage.farebox.origin + "/prepaidfirst/a", timeout=5))
    assert first[0] == "evm" and set(first[1:]) == {"prepaid"} and len(first) == 3
    assert second[-1] == "evm" and set(second[:-1]) == {"prepaid"}


# Repetitions of answers whose length nobody announced.


@pytest.mark.parametrize("what", ["chunked/3000", "events/5", "close/10"])
def test_an_answer_without_a_length_is_repeated(stage, what):
    path, before = f"/paid/repeat/{what}", stage.received
    payment = stage.payment(stage.payer(), path)
    first, again = stage.send(payment, path), stage.send(payment, path)
    assert first.status_code == again.status_code == 200 and first.content == again.content and first.content
    assert settlement(first) == settlement(again) and first.headers["Content-Type"] == again.headers["Content-Type"]
    assert stage.received == before + PRICE and stage.served(path) == 1


def test_a_longer_one_than_is_kept_is_not(stage):
    path = "/paid/repeat/chunked/3000000"
    payment, before = stage.payment(stage.payer(), path), stage.received
    first, again = stage.send(payment, path), stage.send(payment, path)
    assert first.status_code == 200 and len(first.content) == 3_000_000
    assert again.status_code == 409 and settlement(again)["success"] and "PAYMENT-REQUIRED" not in again.headers
    assert stage.received == before + PRICE and stage.served(path) == 1


def test_an_answer_that_breaks_off_is_served_again(stage):
    """Whether nothing of it has left, or half of it."""
    path, before = "/paid/cut/3000000", stage.received
    payment = stage.payment(stage.payer(), path)
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            stage.send(payment, path)
    path = "/paid/cut/1000"
    payment = stage.payment(stage.payer(), path)
    for _ in range(2):
        assert stage.send(payment, path).status_code == 502
    assert stage.received == before + 2 * PRICE
    path, before = "/paid/cut/3000000", stage.received - PRICE
    assert stage.served(path) == 2 and stage.received == before + PRICE
