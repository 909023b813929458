"""Exact payments of x402 that are settled after the answer (`settlement = "after"`): verified first, withheld until the money has moved, and never both paid and
denied."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from paystage import PRICE, Account, Stage, packed, poll, session, settlement, unpacked

AFTER = """
[[route]]
id = "after"
prefix = "/after/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["x402"]
settlement = "after"
sign-in = "1 h"

[x402]
payment-identifier = "optional"
signed = true
"""


@pytest.fixture(scope="module")
def own(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich, routes=AFTER)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def by_facilitator(binary, upstream, node, usdc, rich, facilitator, tmp_path_factory):
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path_factory.mktemp("by"), node, usdc, rich, routes=AFTER)
    yield stage
    stage.close()


@pytest.fixture(params=["own", "by_facilitator"])
def stage(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def calm(node, facilitator, upstream):
    yield
    upstream.status = None
    facilitator.heal()
    node.heal()
    node.release()
    facilitator.forget_nonce()


def fresh(rest="count"):
    return f"/after/{time.monotonic_ns()}/{rest}"


def test_the_official_client_pays_and_is_told_the_transaction(stage):
    path = fresh()
    account, payer = Account(stage, path), stage.payer()
    response = session(payer).get(stage.farebox.origin + path, timeout=30)
    assert response.status_code == 200, response.text
    told = settlement(response)
    assert told["success"] and told["amount"] == str(PRICE) and told["payer"] == payer.address
    assert stage.node.rpc("eth_getTransactionReceipt", told["transaction"])["status"] == "0x1"
    # What is signed says so.
    assert "offer-receipt" in told["extensions"]
    account.assert_paid_once()
    assert response.headers["Cache-Control"] == "private" and "PAYMENT-SIGNATURE" in response.headers["Vary"]
    assert stage.booked == stage.received - stage.unbooked and stage.earned == stage.received


def test_the_upstream_is_asked_before_the_money_moves_and_nothing_leaves_until_then(own):
    path = fresh()
    account, payment = Account(own, path), own.payment(own.payer(), path)
    own.node.hold()
    answer = own.sending(payment, path)
    poll(lambda: own.served(path) == 1 and own.pooled, what="the upstream and a transaction")
    time.sleep(0.5)
    assert not answer.done() and own.received == account.received
    own.node.release()
    assert answer.result(timeout=30).status_code == 200
    account.assert_paid_once()


def test_version_1_pays_too(own):
    path = fresh()
    account = Account(own, path)
    members = unpacked(own.payment(own.payer(), path))
    old = packed({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": members["payload"]})
    response = own.send(old, path, field="X-PAYMENT")
    assert response.status_code == 200 and unpacked(response.headers["X-PAYMENT-RESPONSE"])["success"]
    account.assert_paid_once()


# What it does not cost.


@pytest.mark.parametrize("status", [404, 503])
def test_what_fails_costs_nothing_and_leaves_the_payment_good(stage, upstream, status):
    path = fresh()
    account, payment = Account(stage, path), stage.payment(stage.payer(), path)
    upstream.status = status
    response = stage.send(payment, path)
    assert response.status_code == status and "PAYMENT-RESPONSE" not in response.headers
    assert stage.received == account.received
    upstream.status = None
    assert stage.send(payment, path).status_code == 200
    account.assert_paid_once(served=2)


@pytest.mark.parametrize("rest", ["cut/1000", "die"])
def test_what_breaks_off_costs_nothing(own, rest):
    path = fresh(rest)
    account, payment = Account(own, path), own.payment(own.payer(), path)
    assert own.send(payment, path).status_code == 502
    assert own.send(payment, path).status_code == 502 and own.received == account.received


@pytest.mark.parametrize("rest", ["bytes/70000", "chunked/70000", "events/2"])
def test_what_cannot_be_withheld_is_refused_and_costs_nothing(own, rest):
    path = fresh(rest)
    account, payment = Account(own, path), own.payment(own.payer(), path)
    response = own.send(payment, path)
    assert response.status_code == 502 and "held until it is paid for" in response.json()["detail"]
    assert own.received == account.received and not own.open_payments(own.rich)
    # The connection is as good as any.
    assert requests.get(own.farebox.origin + "/free/a", timeout=5).status_code == 200


@pytest.mark.parametrize("rest", ["bytes/60000", "chunked/60000", "status/204", "bytes/0"])
def test_answers_of_every_framing_are_delivered(own, rest):
    path = fresh(rest)
    direct = requests.get(f"http://127.0.0.1:{own.upstream.port}{path}", timeout=5)
    account = Account(own, path)
    response = own.send(own.payment(own.payer(), path), path)
    assert response.status_code == direct.status_code and response.content == direct.content
    account.assert_paid_once()


def test_who_cannot_pay_is_not_served(stage):
    path = fresh()
    before = stage.received
    response = stage.send(stage.payment(stage.payer(units=PRICE - 1), path), path)
    assert response.status_code == 402 and settlement(response)["success"] is False
    assert stage.served(path) == 0 and stage.received == before


def test_money_that_is_gone_when_it_is_to_be_settled_buys_nothing_and_the_payment_is_good_again(stage):
    path = fresh("slow/1500")
    payer, before = stage.payer(units=PRICE), stage.received
    stage.node.fund(payer.address)
    payment = stage.payment(payer, path)
    answer = stage.sending(payment, path)
    poll(lambda: stage.served(path) == 1, what="the request")
    stage.token.run(payer, "transfer", stage.rich.address, PRICE)
    response = answer.result(timeout=40)
    assert response.status_code == 402, response.text
    assert settlement(response)["success"] is False and settlement(response)["errorReason"] and b"slow" not in response.content
    assert stage.received == before and not stage.open_payments(payer)
    # Nothing was kept for it either.
    response = stage.send(payment, path)
    assert response.status_code == 402 and stage.served(path) == 1
    stage.token.run(stage.rich, "mint", payer.address, PRICE)
    assert stage.send(payment, path).status_code == 200 and stage.received == before + PRICE and stage.served(path) == 2


# More than once.


def test_of_16_at_once_one_is_served_and_settled(own):
    path = fresh("slow/300")
    account, payment = Account(own, path), own.payment(own.payer(), path)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: own.send(payment, path), range(16)))
    assert {answer.status_code for answer in answers} <= {200, 409} and 200 in {answer.status_code for answer in answers}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    account.assert_paid_once()


def test_a_repetition_gets_the_same_answer(stage):
    path = fresh()
    account, payment = Account(stage, path), stage.payment(stage.payer(), path)
    first, again = stage.send(payment, path), stage.send(payment, path)
    assert first.status_code == again.status_code == 200 and first.content == again.content and settlement(first)["transaction"] == settlement(again)["transaction"]
    account.assert_paid_once()


def test_a_post_is_bound_to_its_content(own):
    path = fresh("echo")
    account, payment = Account(own, path), own.payment(own.payer(), path)
    first = own.send(payment, path, "POST", data=b"a")
    assert first.status_code == 200 and first.json()["length"] == 1
    assert own.send(payment, path, "POST", data=b"b").status_code == 409
    assert own.send(payment, path, "POST", data=b"a").content == first.content
    account.assert_paid_once()


def test_an_unknown_outcome_is_answered_later_with_what_was_kept(own):
    """The client is gone before the money has moved; who comes again gets the answer that was kept, and the upstream is not asked again."""
    path = fresh()
    account, payment = Account(own, path), own.payment(own.payer(), path)
    own.node.hold()
    with pytest.raises(requests.Timeout):
        own.send(payment, path, timeout=2)
    waiting = own.sending(payment, path)
    time.sleep(0.5)
    assert not waiting.done()
    own.node.release()
    assert waiting.result(timeout=30).status_code == 200
    account.assert_paid_once()


def test_an_answer_of_the_facilitator_that_is_lost_does_not_charge_twice(by_facilitator, facilitator):
    stage, path = by_facilitator, fresh()
    account, payment = Account(stage, path), stage.payment(stage.payer(), path)
    facilitator.fail("lost", 1, "/settle")
    assert settlement(stage.send_until_served(payment, path))["success"]
    account.assert_paid_once()


def test_a_facilitator_that_is_away_when_it_is_to_settle_is_asked_again(by_facilitator, facilitator):
    stage, path = by_facilitator, fresh("slow/1000")
    account, payment = Account(stage, path), stage.payment(stage.payer(), path)
    answer = stage.sending(payment, path)
    poll(lambda: stage.served(path) == 1, what="the request")
    facilitator.fail("error", 1000, "/verify")
    first = answer.result(timeout=40)
    assert first.status_code == 503 and "PAYMENT-REQUIRED" not in first.headers and stage.received == account.received
    facilitator.heal()
    assert stage.send_until_served(payment, path, seconds=40).status_code == 200
    account.assert_paid_once()


# Crashes.


def test_a_crash_while_the_upstream_works_releases_the_payment(own):
    path = fresh("slow/3000")
    account, payment = Account(own, path), own.payment(own.payer(), path)
    own.sending(payment, path)
    poll(lambda: own.served(path) == 1, what="the request")
    own.farebox.kill()
    own.farebox.start()
    own.wait_for_offers()
    assert own.received == account.received
    assert own.send(payment, path).status_code == 200
    account.assert_paid_once(served=2)


def test_a_crash_while_it_is_settled_settles_it_once_and_the_answer_was_kept(own):
    path = fresh()
    account, payment = Account(own, path), own.payment(own.payer(), path)
    own.node.hold()
    own.sending(payment, path)
    poll(lambda: own.pooled, what="a transaction")
    own.farebox.kill()
    own.node.release()
    own.farebox.start()
    assert own.send_until_served(payment, path).status_code == 200
    account.assert_paid_once()


# Names of payments.


def named(stage, payer, path, name):
    members = unpacked(stage.payment(payer, path))
    return packed({**members, "extensions": {"payment-identifier": {**stage.offers(path)["extensions"]["payment-identifier"], "info": {"required": False, "id": name}}}})


def test_a_name_buys_once_and_gets_what_was_kept(own):
    path = fresh()
    account, payer = Account(own, path), own.payer()
    first = own.send(named(own, payer, path, "pay_0123456789abcdef"), path)
    again = own.send(named(own, payer, path, "pay_0123456789abcdef"), path)
    assert first.status_code == again.status_code == 200, again.text
    assert first.content == again.content and settlement(first)["transaction"] == settlement(again)["transaction"]
    account.assert_paid_once()


def test_a_name_of_what_was_not_served_is_free_again(own, upstream):
    path = fresh()
    account, payer = Account(own, path), own.payer()
    upstream.status = 500
    assert own.send(named(own, payer, path, "pay_fedcba9876543210"), path).status_code == 500
    upstream.status = None
    assert own.send(named(own, payer, path, "pay_fedcba9876543210"), path).status_code == 200
    account.assert_paid_once(served=2)
