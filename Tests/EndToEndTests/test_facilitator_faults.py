"""What happens to payments that a facilitator settles when it fails, loses answers, takes its time, or the proxy dies between question and answer: charged
once and served for it, or not charged."""

import pytest
import requests

from chain.wallet import new_account
from paystage import PRICE, Account, Stage, path_of, poll, settlement, unpacked


@pytest.fixture(scope="module")
def stage(by_facilitator):
    return by_facilitator


@pytest.fixture(scope="module")
def blind(binary, upstream, node, usdc, rich, facilitator, tmp_path_factory):
    """A stage whose proxy knows the facilitator only, and no node."""
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path_factory.mktemp("blind"), node, usdc, rich, nodes=[])
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def calm(stage, node, facilitator, upstream):
    """Whatever a test did to the world ends with it, and the proxy knows."""
    yield
    upstream.status = None
    if facilitator.server is None:
        facilitator.start()
    facilitator.heal()
    node.heal()
    node.release()
    facilitator.forget_nonce()
    stage.wait_for_offers()


@pytest.fixture
def path(request):
    return path_of(request)


def assert_is_later(answer):
    try:
        response = answer.result(timeout=40)
    except requests.ConnectionError:
        return
    assert response.status_code in (502, 503), (response.status_code, response.text)
    assert "PAYMENT-REQUIRED" not in response.headers and "WWW-Authenticate" not in response.headers


# It settles, and its answers get lost.


@pytest.mark.parametrize(
    "knows, kind", [("node", kind) for kind in ("error", "lost", "refused", "malformed", "limited", "pending")] + [("nothing", "lost"), ("nothing", "pending")])
def test_an_answer_to_settle_that_is_none_does_not_charge_twice(stage, blind, facilitator, path, knows, kind):
    stage = stage if knows == "node" else blind
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    facilitator.fail(kind, 1, "/settle")
    response = stage.send_until_served(payment, path)
    told = settlement(response)
    assert told["success"]
    if told.get("transaction"):
        assert stage.node.rpc("eth_getTransactionReceipt", told["transaction"])["status"] == "0x1"
    account.assert_paid_once()
    # Repeated, it is the same answer.
    assert stage.send(payment, path).content == response.content
    account.assert_paid_once()


def test_an_answer_to_settle_that_comes_too_late_does_not_charge_twice(stage, facilitator, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    facilitator.fail("late", 1, "/settle", seconds=4)
    stage.send_until_served(payment, path)
    account.assert_paid_once()


def test_a_settlement_that_stays_pending_is_served_when_it_lands(stage, node, facilitator, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    facilitator.fail("pending", 2, "/settle")
    answer = stage.sending(payment, path)
    poll(lambda: node.chain.waiting(), what="a transaction")
    asked, looked = facilitator.calls["/settle"], node.calls["eth_getTransactionReceipt"]
    poll(lambda: node.calls["eth_getTransactionReceipt"] > looked + 2, what="another look")
    # What it has named is waited for: another call would make another transaction.
    assert facilitator.calls["/settle"] == asked
    assert stage.received == account.received and stage.served(path) == 0
    node.release()
    response = answer.result(timeout=40)
    response = response if response.status_code == 200 else stage.send_until_served(payment, path)
    assert settlement(response)["success"]
    account.assert_paid_once()


# It says no, or nothing.


@pytest.mark.parametrize("kind", ["error", "lost", "refused", "malformed", "limited"])
def test_an_answer_to_verify_that_is_none_charges_nothing_and_may_be_repeated(stage, facilitator, path, kind):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    # A question that changes nothing may be asked again: once is not enough to fail.
    facilitator.fail(kind, 4, "/verify")
    response = stage.send(payment, path)
    assert response.status_code in (200, 503), (response.status_code, response.text)
    if response.status_code == 503:
        assert int(response.headers["Retry-After"]) > 0 and "PAYMENT-REQUIRED" not in response.headers
        assert stage.received == account.received and stage.served(path) == 0
    facilitator.heal()
    stage.send_until_served(payment, path)
    account.assert_paid_once()


def test_what_it_does_not_find_valid_is_refused_with_its_reason(stage, facilitator, path):
    """The token's balance is nothing that the proxy can know."""
    payer, before, asked = stage.payer(units=PRICE - 1), stage.received, facilitator.calls["/settle"]
    payment = stage.payment(payer, path)
    response = stage.send(payment, path)
    assert response.status_code == 402 and settlement(response)["success"] is False
    assert unpacked(response.headers["PAYMENT-REQUIRED"])["error"] == settlement(response)["errorReason"] == "invalid_exact_evm_insufficient_balance"
    assert facilitator.calls["/settle"] == asked and stage.received == before and stage.served(path) == 0
    stage.token.run(stage.rich, "mint", payer.address, 1)
    assert stage.send(payment, path).status_code == 200 and stage.received == before + PRICE


def test_garbage_never_reaches_it(stage, facilitator, path):
    asked = facilitator.calls["/verify"]
    for changes in ({"signer": new_account()}, {"value": PRICE - 1}, {"to": new_account().address}, {"seconds": 1}, {"amount": "1"}):
        assert stage.send(stage.payment(stage.payer(), path, **changes), path).status_code == 402
    assert facilitator.calls["/verify"] == asked


def test_what_it_was_asked_names_our_terms_and_not_the_payers(stage, facilitator, path):
    payment = stage.payment(stage.payer(), path)
    assert stage.send(payment, path).status_code == 200
    for question in ("/verify", "/settle"):
        body = facilitator.bodies[question]
        assert body["paymentRequirements"]["payTo"] == stage.merchant.address and body["paymentRequirements"]["amount"] == str(PRICE)
        assert body["paymentPayload"]["payload"] == unpacked(payment)["payload"]


def test_a_refusal_to_settle_charges_nothing_and_leaves_the_payment_good(stage, node, facilitator, path):
    """It verifies, and then the money is gone."""
    payer, account = stage.payer(units=PRICE), Account(stage, path)
    payment = stage.payment(payer, path)
    facilitator.fail("late", 1, "/verify", seconds=1)
    asked = facilitator.calls["/verify"]
    answer = stage.sending(payment, path)
    poll(lambda: facilitator.calls["/verify"] > asked and facilitator.bodies["/verify"]["paymentPayload"]["payload"] == unpacked(payment)["payload"])
    node.fund(payer.address)
    stage.token.run(payer, "transfer", stage.rich.address, PRICE)
    response = answer.result(timeout=40)
    assert response.status_code == 402 and settlement(response)["success"] is False, (response.status_code, response.text)
    assert stage.received == account.received and stage.served(path) == 0
    stage.token.run(stage.rich, "mint", payer.address, PRICE)
    stage.send_until_served(payment, path)
    account.assert_paid_once()


def test_without_it_nothing_is_offered_and_it_comes_back_by_itself(stage, blind, facilitator, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    facilitator.stop()
    poll(lambda: not stage.offered("/paid/a") and not blind.offered("/paid/a"), 15, "the end of the offers")
    for response in (requests.get(stage.farebox.origin + "/paid/a", timeout=5), stage.send(payment, path)):
        assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0
        assert "WWW-Authenticate" not in response.headers and "PAYMENT-REQUIRED" not in response.headers
    other = requests.get(stage.farebox.origin + "/both/a", timeout=5)
    assert other.status_code == 402 and "PAYMENT-REQUIRED" not in other.headers
    facilitator.start()
    stage.wait_for_offers()
    assert stage.send(payment, path).status_code == 200
    account.assert_paid_once()


def test_it_goes_away_before_anybody_noticed(stage, facilitator, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    facilitator.stop()
    response = stage.send(payment, path)
    assert response.status_code == 503 and "PAYMENT-REQUIRED" not in response.headers
    facilitator.start()
    stage.wait_for_offers()
    stage.send_until_served(payment, path)
    account.assert_paid_once()


# The proxy dies.


@pytest.mark.parametrize("landed", [True, False], ids=["settled", "not yet"])
def test_killed_between_the_call_and_its_answer(stage, node, facilitator, path, landed):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    if landed:
        facilitator.fail("late", 1, "/settle", seconds=2)
    else:
        node.hold()
    asked = facilitator.calls["/settle"]
    answer = stage.sending(payment, path)
    poll(lambda: stage.received > account.received if landed else facilitator.calls["/settle"] > asked and node.chain.waiting(), what="the call")
    stage.farebox.kill()
    assert_is_later(answer)
    node.release()
    stage.farebox.start()
    stage.wait_for_offers()
    response = stage.send_until_served(payment, path)
    assert settlement(response)["success"]
    account.assert_paid_once()


def test_killed_before_the_call(stage, facilitator, path):
    """It verified and was not asked to settle: the payer keeps the money, or is served for it."""
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    facilitator.fail("late", 1, "/verify", seconds=2)
    asked = facilitator.calls["/verify"]
    answer = stage.sending(payment, path)
    poll(lambda: facilitator.calls["/verify"] > asked, what="the call")
    stage.farebox.kill()
    assert_is_later(answer)
    assert stage.received == account.received
    stage.farebox.start()
    stage.wait_for_offers()
    stage.send_until_served(payment, path)
    account.assert_paid_once()


def test_what_the_upstream_failed_at_is_served_later_for_the_same_payment(stage, upstream, facilitator, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    upstream.status = 500
    assert stage.send(payment, path).status_code == 500 and stage.received == account.received + PRICE
    upstream.status = None
    asked = facilitator.calls["/settle"]
    stage.send_until_served(payment, path)
    account.assert_paid_once(served=2)
    assert facilitator.calls["/settle"] == asked


def test_the_books_say_what_the_chain_says(stage):
    poll(lambda: stage.earned == stage.received, what="the merchant's balance")
