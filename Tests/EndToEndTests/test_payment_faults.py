"""What happens to payments that the proxy settles itself when nodes fail, chains turn back, keys are shared and processes die: whoever is charged is served,
once for one payment, and the books say what the chain says."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from chain.contracts import send
from chain.credentials import EvmWallet
from chain.loopback import Faults, Service
from chain.wallet import sign, typed, vrs
from paystage import GWEI, PRICE, SIGNER, Account, Stage, key_file, path_of, poll, settlement, unpacked


@pytest.fixture(scope="module")
def stage(own):
    return own


@pytest.fixture(autouse=True)
def calm(node, upstream):
    """Whatever a test did to the world ends with it."""
    yield
    upstream.status = None
    if node.server is None:
        node.start()
    node.heal()
    node.set_base_fee(GWEI)
    node.release()


@pytest.fixture
def path(request):
    return path_of(request)


# Nodes that fail.


def assert_all_are_paid_once(stage, paths, spoil):
    """Pays all of these at the same time, each by a payer of its own, after `spoil` did what it does; what was not served is repeated."""
    received, sent = stage.received, stage.sent
    payments = [stage.payment(stage.payer(), path) for path in paths]
    spoil()
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(stage.send_until_served, payments, paths))
    assert stage.received == received + len(paths) * PRICE and stage.sent == sent + len(paths)
    assert [stage.served(path) for path in paths] == [1] * len(paths)


def test_broadcasts_whose_answers_are_none_land_once_each(stage, path):
    kinds = ["lost", "error", "limited", "malformed", "refused", "refusal", "null"]

    def spoil():
        for kind in kinds:
            stage.node.fail(kind, 2, "eth_sendRawTransaction")
        stage.node.fail("late", 1, "eth_sendRawTransaction", seconds=2.5)

    assert_all_are_paid_once(stage, [f"{path}/{kind}" for kind in kinds], spoil)


def test_every_other_question_may_fail_as_well(stage, path):
    questions = ["eth_call", "eth_estimateGas", "eth_getTransactionCount", "eth_maxPriorityFeePerGas", "eth_getTransactionReceipt"]
    kinds = ["error", "refusal", "malformed"]

    def spoil():
        for question in questions:
            for kind in kinds:
                stage.node.fail(kind, 1, question)

    assert_all_are_paid_once(stage, [f"{path}/{kind}" for kind in kinds], spoil)


def test_what_cannot_be_kept_is_not_offered_and_comes_back_by_itself(stage, node):
    """Without a node, with one of another chain, and where gas is too dear."""
    stage.wait_for_offers()
    buyer = EvmWallet(stage.payer())
    payment, credential, received = stage.payment(buyer.account), buyer.authorization(stage.challenge("/both/a")), stage.received
    node.stop()
    poll(lambda: not stage.offered("/paid/a"), 15, "the end of the offers")

    def assert_unavailable(response):
        assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0, (response.status_code, response.text)
        assert "WWW-Authenticate" not in response.headers and "PAYMENT-REQUIRED" not in response.headers

    def assert_closed():
        assert_unavailable(requests.get(stage.farebox.origin + "/paid/a", timeout=5))
        assert_unavailable(stage.send(payment))
        assert_unavailable(stage.present(credential, "/both/a"))
        # The other rails are not concerned.
        other = requests.get(stage.farebox.origin + "/both/a", timeout=5)
        assert other.status_code == 402 and "PAYMENT-REQUIRED" not in other.headers and "accepts" not in other.json()
        assert 'method="prepaid"' in other.headers["WWW-Authenticate"] and 'method="evm"' not in other.headers["WWW-Authenticate"]

    assert_closed()
    node.claim(1)
    asked = node.calls["eth_chainId"]
    node.start()
    poll(lambda: node.calls["eth_chainId"] > asked, 15, "a look at the chain")
    assert_closed()
    node.set_base_fee(2000 * GWEI)
    node.mine()
    node.heal()
    asked, sent = node.calls["eth_maxPriorityFeePerGas"], stage.sent
    poll(lambda: node.calls["eth_maxPriorityFeePerGas"] > asked, 15, "a look at the fees")
    assert_closed()
    assert stage.sent == sent
    node.set_base_fee(GWEI)
    node.mine()
    stage.wait_for_offers()
    assert stage.send(payment).status_code == 200 and stage.present(credential, "/both/a").status_code == 200
    assert stage.received == received + 2 * PRICE


class Door(Service):
    """Another node of the same chain, with faults of its own."""

    def __init__(self, node):
        self.node = node
        super().__init__(0, Faults("refusal", "null"))

    def names(self, path, body):
        return self.node.names(path, body)

    def answer(self, path, body, fault):
        return self.node.answer(path, body, fault)


def test_where_one_node_fails_the_other_is_asked(binary, upstream, node, usdc, rich, tmp_path):
    with Door(node) as first, Door(node) as second:
        stage = Stage.settling_itself(binary, upstream, tmp_path, node, usdc, rich, nodes=[first.url, second.url])
        before = stage.received

        def pays(number):
            response = stage.send(stage.payment(stage.payer(), f"/paid/{number}"), f"/paid/{number}")
            assert response.status_code == 200, response.text

        first.stop()
        pays(1)
        asked = node.calls["eth_chainId"]
        poll(lambda: node.calls["eth_chainId"] > asked, 15, "a look at the chain")
        first.start()
        second.fail("limited", 1000)
        pays(2)
        second.heal()
        first.fail("error", 1000)
        pays(3)
        assert stage.received == before + 3 * PRICE
        stage.close()


# Transactions that do not land at once.


def test_a_stuck_transaction_is_sent_again_for_more_and_lands_once(stage, node, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    answer = stage.sending(payment, path)
    (stuck,) = poll(lambda: stage.pooled, what="a transaction")
    offered = int(node.rpc("eth_getTransactionByHash", stuck)["maxFeePerGas"], 16)
    node.set_base_fee(offered + GWEI)
    node.release()
    response = answer.result(timeout=40)
    assert response.status_code == 200, response.text
    landed = settlement(response)["transaction"]
    assert landed != stuck and node.rpc("eth_getTransactionReceipt", stuck) is None
    assert int(node.rpc("eth_getTransactionByHash", landed)["maxFeePerGas"], 16) > offered
    account.assert_paid_once()


def test_a_transaction_that_a_node_forgets_is_sent_again(stage, node, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    answer = stage.sending(payment, path)
    (known,) = poll(lambda: stage.pooled, what="a transaction")
    node.forget(known)
    assert poll(lambda: stage.pooled, what="the transaction again")
    node.release()
    assert answer.result(timeout=40).status_code == 200
    account.assert_paid_once()


def test_a_nonce_that_another_program_took_is_replaced_by_the_next(stage, node, path):
    """Two programs with one key: what was to be sent is sent with another nonce, and is still one payment."""
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    answer = stage.sending(payment, path)
    (ours,) = poll(lambda: stage.pooled, what="a transaction")
    nonce = int(node.rpc("eth_getTransactionByHash", ours)["nonce"], 16)
    node.forget(ours)
    theirs = send(node.rpc, stage.signer, stage.rich.address, value=1, nonce=nonce, gas=21_000, max_fee=100 * GWEI, tip=50 * GWEI)
    node.release()
    assert node.rpc("eth_getTransactionReceipt", theirs)["status"] == "0x1"
    response = answer.result(timeout=40)
    response = response if response.status_code == 200 else stage.send_until_served(payment, path)
    assert settlement(response)["success"]
    account.assert_paid_once(sent=2)


def test_two_proxies_with_one_key_serve_all_that_is_paid(stage, binary, upstream, node, usdc, rich, tmp_path, path):
    other = Stage(binary, upstream, tmp_path, node, usdc, rich, SIGNER.format(key_file(tmp_path, stage.signer)), signer=stage.signer)
    before, stages = stage.received + other.received, [stage, other] * 3
    payments = [one.payment(one.payer(), f"{path}/{number}") for number, one in enumerate(stages)]

    def pay(number):
        stages[number].send_until_served(payments[number], f"{path}/{number}", seconds=60)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(pay, range(6)))
    assert stage.received + other.received == before + 6 * PRICE
    assert [stage.served(f"{path}/{number}") for number in range(6)] == [1] * 6
    other.close()


def test_a_nonce_that_was_used_between_two_payments_is_skipped(stage, path):
    account = Account(stage, path)
    send(stage.node.rpc, stage.signer, stage.rich.address, value=1, gas=21_000)
    assert stage.send(stage.payment(stage.payer(), path), path).status_code == 200
    account.assert_paid_once(sent=2)


def test_a_transaction_that_lands_before_its_broadcast_is_answered(stage, node, path):
    account = Account(stage, path)
    node.fail("late", 1, "eth_sendRawTransaction", seconds=1)
    assert stage.send(stage.payment(stage.payer(), path), path).status_code == 200
    account.assert_paid_once()


# Tokens and payers that play tricks.


def cancelled(stage, payment, payer):
    """Cancels what a payment authorizes, on the chain."""
    nonce = bytes.fromhex(unpacked(payment)["payload"]["authorization"]["nonce"][2:])
    domain = {"name": "USDC", "version": "2", "chainId": stage.node.chain_id, "verifyingContract": stage.token.address}
    message = typed(domain, "CancelAuthorization", "address authorizer,bytes32 nonce", {"authorizer": payer.address, "nonce": nonce})
    stage.token.run(stage.rich, "cancelAuthorization", payer.address, nonce, *vrs(sign(payer, message)))


@pytest.mark.parametrize("misbehaves", [False, True])
def test_an_authorization_that_moves_nothing_is_refused(stage, path, misbehaves):
    """Some tokens revert nothing when the nonce was used: only the transfer's event proves that money has moved."""
    payer = stage.payer()
    payment, before = stage.payment(payer, path), stage.received
    cancelled(stage, payment, payer)
    stage.token.run(stage.rich, "misbehave", misbehaves)
    try:
        for _ in range(2):
            response = stage.send(payment, path)
            assert response.status_code == 402 and settlement(response)["success"] is False, (response.status_code, response.text)
    finally:
        stage.token.run(stage.rich, "misbehave", False)
    assert stage.received == before and stage.served(path) == 0


def test_an_authorization_that_somebody_else_sent_first_is_served(stage, node, path):
    """Anybody may send what a payer authorized as soon as he sees it: the payer has paid all the same."""
    payer = stage.payer()
    payment, before = stage.payment(payer, path), stage.received
    node.hold()
    answer = stage.sending(payment, path)
    (ours,) = poll(lambda: stage.pooled, what="a transaction")
    seen = node.rpc("eth_getTransactionByHash", ours)
    send(node.rpc, stage.rich, seen["to"], seen["input"], gas=int(seen["gas"], 16), max_fee=200 * GWEI, tip=100 * GWEI)
    node.mine(1, without=[ours])
    node.release()
    assert stage.received == before + PRICE
    response = answer.result(timeout=40)
    response = response if response.status_code == 200 else stage.send_until_served(payment, path)
    assert settlement(response)["success"] and stage.served(path) == 1
