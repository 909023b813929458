"""What the proxy knows of a payment outlives offers, prices, clocks and processes: who is known to have paid is served, and asked for nothing."""

import json
import time

import pytest
import requests

from chain.credentials import EvmWallet
from chain.loopback import Faults, Service
from chain.wallet import new_account
from paystage import FACILITATOR, PRICE, SIGNER, Account, Stage, key_file, made, packed, path_of, payload_of, poll, request_of, settlement, unpacked


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich)
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def calm(stage, node, upstream):
    """Whatever a test did to the world ends with it."""
    text = stage.farebox.configuration.read_text()
    yield
    upstream.status = None
    node.heal()
    node.release()
    if stage.farebox.configuration.read_text() != text:
        stage.farebox.configuration.write_text(text)
        if stage.farebox.process.poll() is None:
            assert stage.farebox.run("reload").returncode == 0
    if stage.farebox.process.poll() is not None:
        stage.farebox.start()
    stage.wait_for_offers()


@pytest.fixture
def path(request):
    return path_of(request)


def reconfigure(stage, old, new, restarts):
    text = stage.farebox.configuration.read_text()
    assert old in text
    if restarts:
        stage.farebox.kill()
    stage.farebox.configuration.write_text(text.replace(old, new))
    if restarts:
        stage.farebox.start()
    else:
        done = stage.farebox.run("reload")
        assert done.returncode == 0, done.stderr


def paid_and_not_served(stage, path, send):
    """Pays while the upstream fails: the money has moved."""
    account = Account(stage, path)
    stage.upstream.status = 500
    response = send()
    assert response.status_code == 500 and stage.received == account.received + PRICE, response.text
    stage.upstream.status = None
    return account


@pytest.mark.parametrize("restarts", [False, True], ids=["reload", "restart"])
@pytest.mark.parametrize(
    "change", [('price = "0.001 USDC per request"', 'price = "0.002 USDC per request"'), ('rails = ["x402"]', 'rails = ["prepaid"]')], ids=["price", "rails"])
def test_who_has_paid_is_served_whatever_is_sold_by_then(stage, path, change, restarts):
    payment = stage.payment(stage.payer(), path)
    account = paid_and_not_served(stage, path, lambda: stage.send(payment, path))
    reconfigure(stage, *change, restarts)
    response = stage.send_until_served(payment, path)
    assert settlement(response)["success"]
    account.assert_paid_once(served=2)
    assert stage.send(payment, path + "/other").status_code == 409


@pytest.mark.parametrize("kind", ["authorization", "transaction", "hash"])
def test_a_credential_that_has_paid_is_served_at_another_price(stage, kind):
    path = f"/evm/memory-{kind}"
    wallet, challenge, values = EvmWallet(stage.payer(coins=1)), stage.challenge(path), []

    def pay():
        values.append(made(stage, wallet, kind, challenge))
        return stage.present(values[0], path)

    account = paid_and_not_served(stage, path, pay)
    (value,) = values
    reconfigure(stage, 'price = "0.001 USDC per request"', 'price = "0.003 USDC per request"', True)
    response = poll(lambda: (answer := stage.present(value, path)).status_code == 200 and answer, what="the answer that was paid for")
    assert stage.receipt(response)["amount"] == str(PRICE)
    account.assert_paid_once(sent=1 if kind == "authorization" else 0, served=2)


def test_who_has_paid_is_served_when_the_authorization_has_run_out(stage, path):
    payment = stage.payment(stage.payer(), path, seconds=9)
    account = paid_and_not_served(stage, path, lambda: stage.send(payment, path))
    before = int(unpacked(payment)["payload"]["authorization"]["validBefore"])
    poll(lambda: time.time() > before, what="the end of the authorization")
    stage.send_until_served(payment, path)
    account.assert_paid_once(served=2)


def test_a_payment_that_landed_long_before_a_restart_is_served(stage, node, path):
    """Its transaction is far back by then, and it had no transaction to its name: nobody had told it of the end."""
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    answer = stage.sending(payment, path)
    poll(lambda: stage.pooled, what="a transaction")
    stage.farebox.kill()
    with pytest.raises(requests.ConnectionError):
        answer.result(timeout=40)
    node.mine()
    node.mine(2500)
    node.release()
    stage.farebox.start()
    stage.send_until_served(payment, path)
    account.assert_paid_once()
    poll(lambda: stage.booked == stage.received, what="the money in the books")


def test_another_signature_for_a_known_nonce_is_not_the_payers(stage, node, path):
    """Nonce and payer can be read in the mempool: whoever presents them with anything else neither waits nor disturbs."""
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    answer = stage.sending(payment, path)
    poll(lambda: stage.pooled, what="a transaction")
    other = unpacked(payment)
    signature = other["payload"]["signature"]
    for forged in (signature[:-4] + ("00" if signature[-4:-2] != "00" else "11") + signature[-2:], signature + "00" * 7):
        other["payload"]["signature"] = forged
        assert stage.send(packed(other), path).status_code == 409
    node.release()
    assert answer.result(timeout=40).status_code == 200
    account.assert_paid_once()
    assert stage.send(packed(other), path).status_code == 409


# Hashes, which everybody can read.


def test_a_hash_is_taken_only_where_the_operator_says_so(binary, upstream, node, usdc, rich, tmp_path):
    chain = SIGNER.replace("accept-hash = true\n", "")
    signer = new_account()
    node.fund(signer.address, 10**20)
    stage = Stage(
        binary, upstream, tmp_path, node, usdc, rich, chain.format(key_file(tmp_path, signer)), {"paid": ["x402"], "evm": ["evm:base-sepolia"]}, signer=signer)
    challenge = stage.challenge()
    assert sorted(request_of(challenge)["methodDetails"]["credentialTypes"]) == ["authorization", "permit2", "transaction"]
    wallet = EvmWallet(stage.payer(coins=1))
    value = wallet.hash(challenge, node.rpc)
    stage.unbooked += PRICE
    assert stage.present(value).status_code == 402
    # What everybody can see already is nobody's to bring, and what nobody has seen is its sender's.
    raw = wallet.transaction(stage.challenge(), node.rpc)
    node.rpc("eth_sendRawTransaction", payload_of(raw)["signature"])
    stage.unbooked += PRICE
    assert stage.present(raw).status_code == 402
    other = EvmWallet(stage.payer(coins=1))
    assert stage.present(other.transaction(stage.challenge(), node.rpc)).status_code == 200
    stage.close()


def test_a_transaction_behind_a_gap_is_refused(stage):
    """It would wait for ever, and so would the proxy."""
    wallet = EvmWallet(stage.payer(coins=1))
    challenge = stage.challenge("/evm/gap")
    nonce = int(stage.node.rpc("eth_getTransactionCount", wallet.address, "pending"), 16)
    value = wallet.transaction(challenge, stage.node.rpc, nonce=nonce + 3)
    assert stage.present(value, "/evm/gap").status_code == 402 and stage.served("/evm/gap") == 0


# What is configured and what is there.


class Quiet(Stage):
    def wait_for_offers(self, seconds=20):
        """There are none."""


@pytest.mark.parametrize("wrong", ['name = "Coin"\nversion = "2"', 'name = "USDC"\nversion = "1"'], ids=["name", "version"])
def test_a_token_that_is_not_what_was_configured_is_not_sold_for(binary, upstream, node, usdc, rich, tmp_path, wrong):
    token = f'[[chain.token]]\ncurrency = "usdc"\naddress = "{usdc.address}"\n{wrong}\ntransfers = ["eip3009"]\n'
    stage = Quiet.settling_itself(binary, upstream, tmp_path, node, usdc, rich, token)
    status = poll(lambda: (found := json.loads(stage.farebox.run("chain", "status", "--json").stdout))["chains"][0].get("fault") and found, what="the fault")
    assert status["chains"][0]["fault"]["code"] == "token-differs"
    assert not stage.offered()
    stage.close()


# Who would settle upto: nobody is asked for it here.
SETTLER = "0x" + "5e" * 20


class Kinds(Service):
    """A facilitator that says what it settles, and that is something else."""

    def __init__(self, kinds):
        self.kinds = kinds
        super().__init__(0, Faults())

    def names(self, path, body):
        return [path]

    def answer(self, path, body, fault):
        return 200, json.dumps({"kinds": self.kinds, "extensions": [], "signers": {}}).encode()


@pytest.mark.parametrize("kinds", [[], [{"x402Version": 2, "scheme": "exact", "network": "eip155:1"}]], ids=["nothing", "another chain"])
def test_what_the_facilitator_does_not_settle_is_not_offered(binary, upstream, node, usdc, rich, tmp_path, kinds):
    with Kinds(kinds) as service:
        stage = Quiet(binary, upstream, tmp_path, node, usdc, rich, FACILITATOR.format(service.url, SETTLER))
        status = poll(
            lambda: (found := json.loads(stage.farebox.run("chain", "status", "--json").stdout))["chains"][0].get("facilitator", {}).get("answers") is False and found,
            what="a look at the facilitator")
        assert any("settles nothing" in problem for problem in status["chains"][0]["problems"])
        assert not stage.offered()
        stage.close()


# Operators.


def test_an_operator_says_what_became_of_a_payment(binary, upstream, node, usdc, rich, facilitator, tmp_path):
    """The facilitator's answer was lost, it is gone, and there is no node: nobody but an operator can tell."""
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path, node, usdc, rich, nodes=[])
    payment, account = stage.payment(stage.payer(), "/paid/told"), Account(stage, "/paid/told")
    facilitator.fail("late", 1, "/settle", seconds=4)
    answer = stage.sending(payment, "/paid/told")
    (known,) = poll(lambda: open_payments(stage), what="the payment")
    facilitator.fail("error", 1000, "/verify")
    assert answer.result(timeout=40).status_code == 503 and stage.booked == 0
    (transaction,) = poll(lambda: transfers_to(stage), what="the transfer")
    # No node tells whether he is right, and the proxy still waits: he has to mean it.
    for more in ([], ["--force"]):
        done = stage.farebox.run("payment", "resolve", known["payment"], "--failed", *more)
        assert done.returncode != 0 and "finding out" in done.stderr
    done = stage.farebox.run("payment", "resolve", known["payment"], "--settled", transaction)
    assert done.returncode != 0 and stage.booked == 0
    done = stage.farebox.run("payment", "resolve", known["payment"], "--settled", transaction, "--force")
    assert done.returncode == 0, done.stderr
    response = stage.send(payment, "/paid/told")
    assert response.status_code == 200 and settlement(response)["transaction"] == transaction
    account.assert_paid_once()
    assert not open_payments(stage)
    stage.farebox.settle_log()
    (line,) = [line for line in map(json.loads, stage.farebox.audit_path.read_text().splitlines()) if line["event"] == "payment.settled"]
    assert line["payment"] == known["payment"] and line["cause"].startswith("operator: ")
    facilitator.heal()
    stage.close()


def open_payments(stage):
    return [p for p in stage.farebox.command("payment", "list", "--open")["payments"] if p["state"] == "submitted"]


def transfers_to(stage):
    """The hashes of the transactions that have paid the merchant."""
    logs = stage.node.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": stage.token.address})
    return [log["transactionHash"] for log in logs if log["topics"][2:3] and log["topics"][2][-40:] == stage.merchant.address[2:].lower()]


def test_an_operators_word_has_to_agree_with_the_chain(stage, node, path):
    payment, account = stage.payment(stage.payer(), path), Account(stage, path)
    node.hold()
    answer = stage.sending(payment, path)
    poll(lambda: stage.pooled, what="a transaction")
    (known,) = open_payments(stage)
    done = stage.farebox.run("payment", "resolve", known["payment"], "--failed")
    assert done.returncode != 0 and "on its way" in done.stderr
    node.release()
    assert answer.result(timeout=40).status_code == 200
    done = stage.farebox.run("payment", "resolve", known["payment"], "--settled", "0x" + "11" * 32)
    assert done.returncode != 0 and "not under way" in done.stderr
    account.assert_paid_once()


@pytest.mark.parametrize("nodes", [None, []], ids=["asked", "not asked"])
def test_one_transaction_settles_one_payment(binary, upstream, node, usdc, rich, facilitator, tmp_path, nodes):
    """What has paid one payment, or something else, pays no other one of the same amount."""
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path, node, usdc, rich, nodes=nodes)
    account = stage.payer(coins=1)
    done = settlement(stage.send(stage.payment(account, "/paid/first"), "/paid/first"))["transaction"]
    facilitator.fail("refused", 1000, "/settle")
    answer = stage.sending(stage.payment(account, "/paid/second"), "/paid/second")
    (known,) = poll(lambda: open_payments(stage), what="the payment")
    said = stage.farebox.run("payment", "resolve", known["payment"], "--settled", done, "--force")
    assert said.returncode != 0 and "another payment" in said.stderr
    other = usdc.run(account, "transfer", stage.merchant.address, PRICE)["transactionHash"]
    stage.unbooked += PRICE
    if nodes is None:
        # It moved as much, from the same payer to the same merchant: but the payment's nonce is unused.
        said = stage.farebox.run("payment", "resolve", known["payment"], "--settled", other, "--force")
        assert said.returncode != 0 and "do not show" in said.stderr
    assert stage.booked == PRICE
    assert answer.result(timeout=60).status_code == 503
    facilitator.heal()
    stage.send_until_served(stage.payment(account, "/paid/third"), "/paid/third")
    stage.farebox.stop()
