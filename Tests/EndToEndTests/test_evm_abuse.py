"""What payers try with MPP's method evm: credentials that are altered, of others, for other things, used before. None of them moves money or is served."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from eth_utils import keccak

from chain.contracts import Contract, deploy, send, signed
from chain.credentials import EvmWallet, b64u, credential, did, request_of
from chain.node import Node
from chain.wallet import MAXIMUM, PERMIT2, compact, hexadecimal, malleated, new_account, token_domain
from paystage import COIN, PRICE, Stage, changed, made, packed, payload_of

HOUR = 3600


@pytest.fixture(scope="module")
def node(rich):
    """A chain that began an hour ago."""
    with pytest.MonkeyPatch.context() as patch:
        began = time.time() - HOUR
        patch.setattr(time, "time", lambda: began)
        node = Node(accounts={rich.address: 10**6 * COIN})
    yield node
    node.close()


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    # The chain is idle for the hour in which nobody looks.
    node.chain.ahead = -HOUR + 60
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich)
    stage.early = EvmWallet(stage.payer(coins=1))
    stage.early_hash = usdc.transact(stage.early.account, "transfer", stage.merchant.address, PRICE)
    node.chain.ahead = 0
    node.mine()
    # What nobody sold for: it is not in the books.
    stage.unbooked = PRICE
    yield stage
    stage.close()


@pytest.fixture(scope="module", autouse=True)
def unknown(stage):
    """The request with the hash of a transaction that nobody has seen: the proxy takes its time to be sure of that."""
    buyer = EvmWallet(new_account())
    challenge = stage.challenge("/evm/unknown")
    value = credential(challenge, {"type": "hash", "hash": hexadecimal(keccak(b"nothing"))}, buyer.source(challenge))
    pool = ThreadPoolExecutor(1)
    yield pool.submit(stage.present, value, "/evm/unknown", timeout=8)
    pool.shutdown()


@pytest.fixture
def buyer(stage):
    """A wallet with money for the token and for gas, whose token Permit2 may take."""
    wallet = EvmWallet(stage.payer(coins=1))
    stage.token.run(wallet.account, "approve", PERMIT2, MAXIMUM)
    return wallet


def assert_refused(stage, value, path="/evm/a", statuses=(402,), before=None):
    before = stage.received if before is None else before
    response = stage.present(value, path)
    assert response.status_code in statuses, (response.status_code, response.text)
    assert "Payment-Receipt" not in response.headers and stage.received == before
    if response.status_code == 402:
        assert "WWW-Authenticate" in response.headers
    return response


# What was signed.


@pytest.mark.parametrize(
    "changes",
    [
        {"receiver": "0x" + "11" * 20},
        {"value": PRICE - 1},
        {"value": PRICE + 1},
        {"value": PRICE + 2**128},
        {"before": 1},
        {"before": int(time.time()) + 3},
        {"before": 2**200},
        {"after": int(time.time()) + HOUR},
        {"nonce": bytes(32)},
    ],
)
def test_an_authorization_for_something_else_is_refused(stage, buyer, changes):
    assert_refused(stage, buyer.authorization(stage.challenge(), **changes))


@pytest.mark.parametrize(
    "changes",
    [{"deadline": 1}, {"deadline": int(time.time()) + 3}, {"hash": bytes(32)}, {"external": "other"}],
)
def test_a_permit_for_something_else_is_refused(stage, buyer, changes):
    challenge = stage.challenge()
    assert_refused(stage, buyer.permit2(challenge, stage.signer.address, **changes))


def test_a_permit_for_another_spender_or_receiver_is_refused(stage, buyer):
    challenge = stage.challenge()
    assert_refused(stage, buyer.permit2(challenge, new_account().address))
    value = buyer.permit2(challenge, stage.signer.address)
    theirs = [{"to": buyer.address, "requestedAmount": str(PRICE)}]
    assert_refused(stage, changed(value, transferDetails=theirs))
    assert_refused(stage, changed(value, transferDetails=[{"to": stage.merchant.address, "requestedAmount": "0"}]))
    assert_refused(stage, changed(value, transferDetails=[]))


@pytest.mark.parametrize("kind", ["authorization", "permit2"])
def test_signatures_that_are_altered_or_of_others_are_refused(stage, buyer, kind):
    challenge, stranger = stage.challenge(), EvmWallet(stage.payer())
    for change in (malleated, lambda s: s[:64] + b"\x1d", lambda s: bytes(65), lambda s: s[:-1] + bytes([s[-1] ^ 7]), lambda s: s[:10]):
        assert_refused(stage, changed(made(stage, buyer, kind, challenge), signature=change))
    stranger.address = buyer.address
    assert_refused(stage, made(stage, stranger, kind, challenge))
    # As EIP-2098 writes it, the signature is the same.
    before = stage.received
    assert stage.present(changed(made(stage, buyer, kind, challenge), signature=compact)).status_code == 200
    assert stage.received == before + PRICE


@pytest.mark.parametrize("kind", ["authorization", "permit2", "transaction"])
def test_what_was_signed_for_another_chain_is_refused(stage, buyer, kind):
    challenge = stage.challenge()
    if kind == "authorization":
        buyer.domain = lambda request: token_domain(1, request["currency"])
        value = buyer.authorization(challenge)
    elif kind == "permit2":
        request = request_of(challenge)
        request["methodDetails"]["chainId"] = 1
        elsewhere = {**challenge, "request": b64u(json.dumps(request).encode())}
        value = credential(challenge, payload_of(buyer.permit2(elsewhere, stage.signer.address)), buyer.source(challenge))
    else:
        call = buyer.transfer_call(challenge)
        other = {"chainId": 1, "nonce": 1, "gas": 100_000, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9, "to": call[0], "data": call[1], "value": 0}
        raw = buyer.account.sign_transaction(other).raw_transaction
        value = credential(challenge, {"type": "transaction", "signature": hexadecimal(raw)}, buyer.source(challenge))
    assert_refused(stage, value)
    assert_refused(stage, credential(challenge, payload_of(buyer.authorization(challenge)), did(1, buyer.address)))


@pytest.mark.parametrize("kind", ["authorization", "permit2", "transaction"])
def test_a_source_that_is_not_the_payer_is_refused(stage, buyer, kind):
    challenge = stage.challenge()
    payload = payload_of(made(stage, buyer, kind, challenge))
    for source in (did(84532, new_account().address), f"did:pkh:eip155:84532:{buyer.address[:-1]}", "did:key:z6Mk", ""):
        assert_refused(stage, credential(challenge, payload, source))


# Transactions.


@pytest.mark.parametrize("kind", ["transaction", "hash"])
def test_a_transaction_that_does_something_else_is_refused(stage, buyer, kind):
    challenge, rpc = stage.challenge(), stage.node.rpc
    token, merchant, account = stage.token, stage.merchant.address, buyer.account
    other = Contract(rpc, "Token", "usd-coin")
    other.run(stage.rich, "mint", buyer.address, PRICE)
    token.run(account, "approve", buyer.address, PRICE)
    calls = [
        (token.address, token.data("transfer", new_account().address, PRICE)),
        (token.address, token.data("transfer", merchant, PRICE - 1)),
        (token.address, token.data("approve", merchant, PRICE)),
        (other.address, other.data("transfer", merchant, PRICE)),
        (merchant, "0x"),
        # It fails: so much is not there.
        (token.address, token.data("transfer", merchant, 10**9)),
    ]
    for to, data in calls:
        before = token.call("balanceOf", merchant)
        if kind == "transaction":
            payload = {"type": "transaction", "signature": signed(rpc, account, to, data, gas=200_000)}
        else:
            payload = {"type": "hash", "hash": send(rpc, account, to, data, gas=200_000)}
            stage.unbooked += token.call("balanceOf", merchant) - before
        assert_refused(stage, credential(challenge, payload, buyer.source(challenge)))


def test_the_hash_of_an_old_transfer_is_refused(stage):
    challenge = stage.challenge()
    assert int(stage.node.rpc("eth_getTransactionReceipt", stage.early_hash)["status"], 16) == 1
    assert_refused(stage, credential(challenge, {"type": "hash", "hash": stage.early_hash}, stage.early.source(challenge)))


def test_the_hash_of_a_transfer_that_a_contract_made_is_refused(stage, buyer):
    """Many things move money on a chain that are not for us: only a plain call of the payer's is."""
    wallet = deploy(stage.node.rpc, stage.rich, "SmartWallet", buyer.address)
    stage.token.run(buyer.account, "transfer", wallet.address, PRICE)
    data = bytes.fromhex(stage.token.data("transfer", stage.merchant.address, PRICE)[2:])
    receipt = wallet.run(buyer.account, "execute", stage.token.address, data)
    stage.unbooked += PRICE
    challenge = stage.challenge()
    for payer in (buyer.address, wallet.address):
        assert_refused(stage, credential(challenge, {"type": "hash", "hash": receipt["transactionHash"]}, did(84532, payer)))


def test_the_hash_of_what_we_settled_ourselves_is_refused(stage, buyer):
    response = stage.present(buyer.authorization(stage.challenge()))
    challenge = stage.challenge()
    payload = {"type": "hash", "hash": stage.receipt(response)["reference"]}
    for source in (buyer.source(challenge), did(84532, stage.signer.address)):
        assert_refused(stage, credential(challenge, payload, source))


def test_the_hash_of_another_payer_is_refused(stage, buyer):
    thief, challenge, before = EvmWallet(stage.payer()), stage.challenge(), stage.received
    value = buyer.hash(challenge, stage.node.rpc)
    assert_refused(stage, credential(stage.challenge(), payload_of(value), thief.source(challenge)), before=before + PRICE)
    response = stage.present(value)
    assert response.status_code == 200, response.text


# Used before.


@pytest.mark.parametrize("kind", ["authorization", "permit2", "transaction", "hash"])
def test_what_was_used_buys_nothing_with_another_challenge(stage, buyer, kind):
    """Who reads the chain knows every hash and every transaction: they must not even give the answer that was bought with them."""
    path = f"/evm/used-{kind}"
    value = made(stage, buyer, kind, stage.challenge(path))
    first = stage.present(value, path)
    assert first.status_code == 200, first.text
    for other in (path, "/evm/elsewhere"):
        challenge = stage.challenge(other)
        payload, before = payload_of(value), stage.received
        assert_refused(stage, credential(challenge, payload, buyer.source(challenge)), other, (402, 403, 409), before)
    assert stage.present(value, path).content == first.content and stage.served(path) == 1


def test_one_authorization_is_one_payment_in_both_dialects(stage, buyer):
    """What MPP's method evm takes is what x402 takes: the nonce is used once, whatever the field's name."""
    before, offer = stage.received, stage.offered("/both/dialects")[0]
    value = made(stage, buyer, "authorization", stage.challenge("/both/dialects"))
    members = payload_of(value)
    terms = {name: members[name] for name in ("from", "to", "value", "validAfter", "validBefore", "nonce")}
    payment = packed({"x402Version": 2, "accepted": offer, "payload": {"signature": members["signature"], "authorization": terms}})
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(stage.present, value, "/both/dialects"), pool.submit(stage.send, payment, "/both/other")]
        responses = [answer.result(timeout=40) for answer in answers]
    assert sorted(response.status_code for response in responses) in ([200, 402], [200, 403], [200, 409])
    for path in ("/both/more", "/paid/more"):
        assert stage.send(payment, path).status_code in (402, 403, 409)
    assert stage.received == before + PRICE
    assert sum(stage.served(path) for path in ("/both/dialects", "/both/other", "/both/more", "/paid/more")) == 1


def test_of_many_challenges_that_one_hash_answers_one_is_served(stage, buyer):
    challenges = [stage.challenge(f"/evm/race-{number}") for number in range(8)]
    payload = payload_of(buyer.hash(challenges[0], stage.node.rpc))

    def present(number):
        challenge = challenges[number]
        return stage.present(credential(challenge, payload, buyer.source(challenge)), f"/evm/race-{number}")

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(present, range(8)))
    assert sorted(response.status_code for response in responses)[0] == 200
    assert sum(response.status_code == 200 for response in responses) == 1
    assert {response.status_code for response in responses} <= {200, 402, 403, 409}
    assert sum(stage.served(f"/evm/race-{number}") for number in range(8)) == 1


def test_a_transaction_that_was_brought_and_its_hash_are_one_payment(stage, buyer):
    challenge = stage.challenge("/evm/brought")
    response = stage.present(buyer.transaction(challenge, stage.node.rpc), "/evm/brought")
    assert response.status_code == 200, response.text
    again = stage.challenge("/evm/again")
    payload = {"type": "hash", "hash": stage.receipt(response)["reference"]}
    assert_refused(stage, credential(again, payload, buyer.source(again)), "/evm/again", (402, 403, 409))


def test_a_hash_that_nobody_knows_is_not_served(stage, unknown):
    """A node may be behind the payer's: he is not asked to pay again."""
    answer = unknown.result(timeout=20)
    assert answer.status_code == 503 and "WWW-Authenticate" not in answer.headers and "Payment-Receipt" not in answer.headers
    assert stage.served("/evm/unknown") == 0
