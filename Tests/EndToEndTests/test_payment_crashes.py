"""Payments that the proxy settles itself while it is killed, stopped and reloaded, while chains turn back, payers leave and upstreams fail: charged once, and
served for it."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from eth_utils import to_checksum_address

from chain.credentials import EvmWallet
from chain.loopback import Faults, Service
from chain.wallet import hexadecimal, new_account
from paystage import COIN, GWEI, PRICE, SOLD_BY_ITSELF, Account, Stage, assert_is_later, made, path_of, poll, settlement, unpacked


@pytest.fixture(scope="module")
def stage(own):
    return own


@pytest.fixture(scope="module")
def deep(binary, upstream, node, usdc, rich, tmp_path_factory):
    """A stage whose proxy waits until three blocks say that it was paid."""
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("deep"), node, usdc, rich, "confirmations = 3\n")
    yield stage
    stage.close()


@pytest.fixture(scope="module", autouse=True)
def patient(binary, upstream, node, usdc, rich, tmp_path_factory):
    """A stage where a payment waits from the beginning on for more blocks than all tests make. With it the payment, what was there before, and the answer
    to come."""
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("patient"), node, usdc, rich, "confirmations = 300\n")
    payment, account = stage.payment(stage.payer(), "/paid/patient"), Account(stage, "/paid/patient")
    yield stage, payment, account, stage.sending(payment, "/paid/patient")
    if not stage.booked:
        node.mine(300)
        poll(lambda: stage.booked, what="the money in the books")
    stage.close()


@pytest.fixture(autouse=True)
def calm(stage, node, upstream):
    """Whatever a test did to the world ends with it."""
    yield
    upstream.status = None
    node.heal()
    node.release()
    if stage.farebox.process.poll() is not None:
        stage.farebox.start()
        stage.wait_for_offers()


@pytest.fixture
def path(request):
    return path_of(request)


def pending(stage, payment, path):
    """Sends a payment and waits until its transaction does: the answer to come, and the transaction's hash. The node mines by hand."""
    stage.node.hold()
    answer = stage.sending(payment, path)
    (waiting,) = poll(lambda: stage.pooled, what="a transaction")
    return answer, waiting


# The proxy ends.


@pytest.mark.parametrize("meanwhile", ["landed", "waiting", "forgotten"])
def test_killed_between_submission_and_receipt(stage, node, path, meanwhile):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    answer, waiting = pending(stage, payment, path)
    stage.farebox.kill()
    assert_is_later(answer)
    if meanwhile == "landed":
        node.release()
    elif meanwhile == "forgotten":
        node.forget(waiting)
    stage.farebox.start()
    if meanwhile == "forgotten":
        assert poll(lambda: stage.pooled, what="the transaction again") == [waiting]
    node.release()
    stage.wait_for_offers()
    assert settlement(stage.send_until_served(payment, path))["transaction"] == waiting
    account.assert_paid_once()


def test_killed_before_the_transaction_left(stage, node, path):
    """What stands in the outbox leaves after the next start."""
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    # The ledger itself says so: lines of payments before this one may still be on their way to the audit log.
    payer = unpacked(payment)["payload"]["authorization"]["from"].lower()
    node.fail("refused", 1000, "eth_sendRawTransaction")
    answer = stage.sending(payment, path)
    listed = lambda: stage.farebox.command("payment", "list", "--open")["payments"]
    poll(lambda: [entry for entry in listed() if entry["payer"] == payer and entry["state"] == "submitted"], what="a submission")
    stage.farebox.kill()
    assert_is_later(answer)
    node.heal()
    stage.farebox.start()
    poll(lambda: stage.received == account.received + PRICE, what="the money")
    stage.wait_for_offers()
    stage.send_until_served(payment, path)
    account.assert_paid_once()


def test_killed_while_it_serves(stage, path):
    """The payment settled and the upstream has not answered: it is served again, and not paid again."""
    slow = path + "/slow/3000"
    payment, account = stage.payment(stage.payer(), slow), Account(stage, slow)
    answer = stage.sending(payment, slow)
    poll(lambda: stage.served(slow) == 1, what="the request")
    stage.farebox.kill()
    assert_is_later(answer)
    stage.farebox.start()
    stage.send_until_served(payment, slow)
    account.assert_paid_once(served=2)


@pytest.mark.parametrize("kind", ["transaction", "hash"])
def test_killed_while_the_payers_own_transaction_waits(stage, node, kind):
    path = f"/evm/killed-{kind}"
    wallet, account = EvmWallet(stage.payer(coins=1)), Account(stage, path)
    node.hold()
    value = made(stage, wallet, kind, stage.challenge(path))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.present, value, path)
        asked = node.calls["eth_getTransactionReceipt"]
        poll(lambda: node.chain.waiting() and node.calls["eth_getTransactionReceipt"] > asked, what="a look for the receipt")
        stage.farebox.kill()
        assert_is_later(answer)
    stage.farebox.start()
    node.release()
    stage.wait_for_offers()
    poll(lambda: stage.present(value, path).status_code == 200, what="the answer that was paid for")
    account.assert_paid_once(sent=0)


def test_a_graceful_stop_does_not_lose_what_settles(stage, node, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    answer, _ = pending(stage, payment, path)
    stage.farebox.process.send_signal(signal.SIGTERM)
    response = answer.result(timeout=40)
    assert response.status_code == 503 and "PAYMENT-REQUIRED" not in response.headers
    assert stage.farebox.process.wait(30) == 0
    node.release()
    stage.farebox.start()
    stage.wait_for_offers()
    stage.send_until_served(payment, path)
    account.assert_paid_once()


@pytest.mark.parametrize("change", [None, 'resubmit-after = "7 s"'], ids=["of nothing", "of the chain"])
def test_a_reload_does_not_lose_what_settles(stage, node, path, change):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    answer, waiting = pending(stage, payment, path)
    text = stage.farebox.configuration.read_text()
    if change:
        stage.farebox.configuration.write_text(text.replace('resubmit-after = "3 s"', change))
    done = stage.farebox.run("reload")
    assert done.returncode == 0, done.stderr
    node.release()
    response = answer.result(timeout=40)
    response = response if response.status_code == 200 else stage.send_until_served(payment, path)
    assert settlement(response)["transaction"] == waiting
    account.assert_paid_once()
    stage.wait_for_offers()


# Payers and upstreams.


def test_a_payer_who_leaves_finds_what_was_paid_for(stage, node, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    with pytest.raises(requests.ReadTimeout):
        stage.send(payment, path, timeout=0.5)
    poll(lambda: stage.pooled, what="a transaction")
    node.release()
    poll(lambda: stage.received == account.received + PRICE, what="the money")
    stage.send_until_served(payment, path)
    account.assert_paid_once()


@pytest.mark.parametrize("failure", ["500", "503", "dead"])
def test_what_the_upstream_failed_at_is_served_later_for_the_same_payment(stage, upstream, path, failure):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    if failure == "dead":
        upstream.kill()
    else:
        upstream.status = int(failure)
    try:
        response = stage.send(payment, path)
        assert response.status_code == (502 if failure == "dead" else int(failure)), response.text
        assert "PAYMENT-REQUIRED" not in response.headers and "WWW-Authenticate" not in response.headers
        assert stage.received == account.received + PRICE
    finally:
        upstream.status = None
        if failure == "dead":
            upstream.start()
    # Nobody else may have it.
    assert stage.send(payment, path + "/other").status_code == 409
    stage.send_until_served(payment, path)
    account.assert_paid_once(served=1 if failure == "dead" else 2)


# Chains that turn back.


def test_nothing_is_served_before_the_confirmations(deep, node, path):
    payment, account = deep.payment(deep.payer(), path), Account(deep, path)
    answer, waiting = pending(deep, payment, path)
    for _ in range(2):
        node.mine()
        asked = node.calls["eth_getTransactionReceipt"]
        poll(lambda: node.calls["eth_getTransactionReceipt"] > asked, what="a look for the receipt")
        assert deep.received == account.received + PRICE and deep.served(path) == 0 and not answer.done()
    node.mine()
    assert answer.result(timeout=40).status_code == 200
    account.assert_paid_once()


@pytest.mark.parametrize("drop", [False, True], ids=["in another block", "in none"])
def test_a_transaction_that_a_reorganisation_takes_lands_again(deep, node, path, drop):
    payment, account = deep.payment(deep.payer(), path), Account(deep, path)
    answer, waiting = pending(deep, payment, path)
    node.mine(2)
    asked = node.calls["eth_getTransactionReceipt"]
    poll(lambda: node.calls["eth_getTransactionReceipt"] > asked, what="a look for the receipt")
    node.reorganise(2, drop=[waiting] if drop else [])
    if drop:
        assert deep.received == account.received and not answer.done()
        poll(lambda: deep.pooled, what="the transaction again")
        node.mine()
    assert deep.served(path) == 0
    node.mine(3)
    response = answer.result(timeout=40)
    assert response.status_code == 200, response.text
    assert node.rpc("eth_getTransactionReceipt", settlement(response)["transaction"])["status"] == "0x1"
    account.assert_paid_once()


@pytest.mark.parametrize("kind", ["transaction", "hash"])
def test_a_payers_own_transaction_has_to_be_confirmed_too(deep, node, kind):
    path = f"/evm/confirmed-{kind}"
    wallet = EvmWallet(deep.payer(coins=1))
    node.hold()
    value = made(deep, wallet, kind, deep.challenge(path))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(deep.present, value, path)
        poll(lambda: node.chain.waiting(), what="a transaction")
        for _ in range(2):
            node.mine()
            asked = node.calls["eth_getTransactionReceipt"]
            poll(lambda: node.calls["eth_getTransactionReceipt"] > asked, what="a look for the receipt")
            assert not answer.done() and deep.served(path) == 0
        node.mine()
        assert answer.result(timeout=40).status_code == 200 and deep.served(path) == 1


# Keys that others keep.


class Web3Signer(Service):
    """What is asked of a web3signer: `eth_signTransaction` with the one key that it has. `twist` changes what it signs."""

    def __init__(self):
        self.account, self.twist, self.signed = new_account(), dict, 0
        super().__init__(0, Faults())

    def names(self, path, body):
        return [json.loads(body)["method"]]

    def answer(self, path, body, fault):
        call = json.loads(body)
        (order,) = call["params"]
        assert call["method"] == "eth_signTransaction" and order.pop("from").lower() == self.account.address.lower()
        numbers = ("gas", "maxPriorityFeePerGas", "maxFeePerGas", "nonce", "value", "chainId")
        terms = self.twist({name: int(value, 16) if name in numbers else value for name, value in order.items()})
        self.signed += 1
        raw = self.account.sign_transaction({**terms, "to": to_checksum_address(terms["to"])}).raw_transaction
        return 200, json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": hexadecimal(raw)}).encode()


def test_a_remote_signer_signs_what_it_is_asked_to(binary, upstream, node, usdc, rich, tmp_path):
    with Web3Signer() as signer:
        node.fund(signer.account.address, COIN)
        chain = f'signer = "{signer.url}"\nsigner-address = "{signer.account.address}"\n'
        stage = Stage(binary, upstream, tmp_path, node, usdc, rich, chain, SOLD_BY_ITSELF, signer=signer.account)
        account = Account(stage, "/paid/signed")
        payment = stage.payment(stage.payer(), "/paid/signed")
        # It fails, and it is not trusted either: what it signs has to be what it was asked to.
        signer.fail("error", 4)
        first = stage.send(payment, "/paid/signed")
        assert first.status_code == 503 and "PAYMENT-REQUIRED" not in first.headers
        signer.heal()
        for twist in ({"to": new_account().address}, {"value": 1}, {"maxFeePerGas": 900 * GWEI}, {"nonce": 7}):
            signer.twist = lambda terms, twist=twist: terms | twist
            refused = stage.send(payment, "/paid/signed")
            assert refused.status_code == 503 and not stage.pooled
        assert stage.sent == account.sent and signer.signed >= 4
        signer.twist = dict
        stage.send_until_served(payment, "/paid/signed")
        account.assert_paid_once()
        stage.close()


# The books.


def test_the_books_say_what_the_chain_says(stage, path):
    for number in range(2):
        assert stage.send(stage.payment(stage.payer(), f"{path}/{number}"), f"{path}/{number}").status_code == 200
    poll(lambda: stage.earned == stage.received, what="the merchant's balance")

    def lines(event):
        return [line for line in map(json.loads, stage.farebox.audit_path.read_text().splitlines()) if line["event"] == event]

    poll(lambda: len(lines("chain.transaction")) == stage.sent, what="a line for every transaction")
    gas = lines("chain.transaction")
    assert all(int(line["gas"]) > 0 for line in gas)
    spent = 100 * COIN - int(stage.node.rpc("eth_getBalance", stage.signer.address), 16)
    assert sum(int(line["gas"]) for line in gas) == spent
    paid = lines("payment.settled")
    assert sum(int(line["amount"]) for line in paid) == stage.received
    assert len({line["transaction"] for line in paid}) == len(paid)


# At last.


def test_a_payer_who_waits_too_long_is_told_so(patient, node):
    """Clients give up at some time: they are told before that, and what to do."""
    stage, payment, account, answer = patient
    response = answer.result(timeout=40)
    assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0
    assert response.json()["type"].endswith("/payment-pending") and "PAYMENT-REQUIRED" not in response.headers
    assert stage.served("/paid/patient") == 0
    node.mine(300)
    stage.send_until_served(payment, "/paid/patient")
    account.assert_paid_once()
