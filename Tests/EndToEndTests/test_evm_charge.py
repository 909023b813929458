"""MPP's method evm, intent charge, settled by the proxy itself: all four types of credentials, pympp's client, and every abuse that a payer thinks of."""

import asyncio

import pytest
import requests
from mpp import Receipt
from mpp.client import Mpp
from mpp.methods.evm import client as evm

from chain.contracts import deploy
from chain.credentials import EvmWallet, request_of
from chain.wallet import MAXIMUM, PERMIT2, new_account
from paystage import PRICE, changed, made, unpacked


@pytest.fixture(scope="module")
def stage(own):
    return own


@pytest.fixture
def buyer(stage):
    """A wallet with money for the token and for gas."""
    return EvmWallet(stage.payer(coins=1))


def problem(response):
    assert response.headers["Content-Type"].startswith("application/problem+json"), (response.status_code, response.text)
    return response.json()["type"].rsplit("/problems/", 1)[-1]


def assert_refused(response, statuses=(402,)):
    assert response.status_code in statuses, (response.status_code, response.text)
    assert "Payment-Receipt" not in response.headers
    if response.status_code == 402:
        assert "Payment " in response.headers["WWW-Authenticate"]


# What is offered.


def test_the_challenge_says_all_that_a_payer_needs(stage):
    (challenge,) = stage.challenges()
    request = request_of(challenge)
    assert challenge["intent"] == "charge" and request["amount"] == str(PRICE)
    assert request["currency"] == stage.token.address and request["recipient"] == stage.merchant.address
    details = request["methodDetails"]
    assert details["chainId"] == 84532 and details["decimals"] == 6 and details["spender"] == stage.signer.address and details["permit2Address"] == PERMIT2
    assert sorted(details["credentialTypes"]) == ["authorization", "hash", "permit2", "transaction"]


def test_one_402_offers_every_rail(stage):
    response = requests.get(stage.farebox.origin + "/both/a", timeout=5)
    fields = response.raw.headers.getlist("WWW-Authenticate")
    assert [sum(f'method="{method}"' in field for field in fields) for method in ("prepaid", "evm")] == [2, 1]
    required = unpacked(response.headers["PAYMENT-REQUIRED"])
    assert {offer["extra"].get("assetTransferMethod", "eip3009") for offer in required["accepts"]} == {"eip3009", "permit2"}
    body = response.json()
    assert body["x402Version"] == 1 and body["accepts"] and body["status"] == 402
    # One chain's money is one price, whoever asks for it.
    assert {offer["amount"] for offer in required["accepts"]} == {str(PRICE)} == {offer["maxAmountRequired"] for offer in body["accepts"]}


@pytest.mark.parametrize(
    "preference, methods",
    [
        ("evm/charge", ["evm"]),
        ("evm/charge, prepaid/charge;q=0.5", ["evm", "prepaid"]),
        ("prepaid/charge, evm/charge;q=0.1", ["prepaid", "evm"]),
        ("evm/*;q=0, prepaid/*", ["prepaid", "prepaid"]),
    ],
)
def test_accept_payment_puts_the_offers_in_order(stage, preference, methods):
    response = requests.get(stage.farebox.origin + "/both/a", headers={"Accept-Payment": preference}, timeout=5)
    fields = response.raw.headers.getlist("WWW-Authenticate")
    assert [next(method for method in ("prepaid", "evm") if f'method="{method}"' in field) for field in fields] == methods


# What pays.


@pytest.mark.parametrize("path", ["/evm/hello", "/both/hello"])
def test_pympp_pays_by_an_authorization(stage, path):
    payer, before = stage.payer(), stage.received
    domain = {"name": "USDC", "version": "2"}
    method = evm.charge(currency=stage.token.address, account=payer, chain_id=84532, decimals=6, authorization=domain, max_amount="0.01")

    async def run():
        async with Mpp(methods=[method]) as mpp:
            return await mpp.fetch(stage.farebox.origin + path, timeout=30)

    response = asyncio.run(run())
    assert response.status_code == 200, response.text
    receipt = Receipt.from_payment_receipt(response.headers["payment-receipt"])
    assert receipt.status == "success" and receipt.method == "evm"
    assert stage.node.rpc("eth_getTransactionReceipt", receipt.reference)["status"] == "0x1"
    assert stage.received == before + PRICE


@pytest.mark.parametrize("kind", ["authorization", "permit2", "transaction", "hash"])
@pytest.mark.parametrize("binding", ["draft", "json"])
def test_every_type_pays_once_and_its_repetition_gets_the_same_answer(stage, buyer, kind, binding):
    if kind in ("transaction", "hash") and binding == "json":
        pytest.skip("nothing is bound by these")
    buyer.binding = binding
    if kind == "permit2":
        stage.token.run(buyer.account, "approve", PERMIT2, MAXIMUM)
    before, path = stage.received, f"/evm/{kind}-{binding}"
    challenge = stage.challenge(path)
    value = made(stage, buyer, kind, challenge)
    response = stage.present(value, path)
    assert response.status_code == 200, response.text
    receipt = stage.receipt(response)
    assert {name: receipt[name] for name in ("method", "intent", "status", "chainId", "amount", "currency", "recipient", "challengeId")} == {
        "method": "evm",
        "intent": "charge",
        "status": "success",
        "chainId": 84532,
        "amount": str(PRICE),
        "currency": "usdc@eip155:84532",
        "recipient": stage.merchant.address,
        "challengeId": challenge["id"],
    }
    assert receipt["resource"] == {"method": "GET", "url": stage.farebox.origin + path}
    landed = stage.node.rpc("eth_getTransactionReceipt", receipt["reference"])
    assert landed["status"] == "0x1"
    assert ("Transfer", {"sender": buyer.address.lower(), "receiver": stage.merchant.address.lower(), "amount": PRICE}) in stage.token.logs(landed)
    again = stage.present(value, path)
    assert again.status_code == 200 and again.content == response.content and again.headers["Payment-Receipt"] == response.headers["Payment-Receipt"]
    for other, method in ((path + "?x", "GET"), (path, "POST")):
        assert_refused(stage.present(value, other, method), (402, 403, 409))
    assert stage.received == before + PRICE and stage.served(path) == 1


def test_a_permit_without_an_allowance_moves_nothing_until_there_is_one(stage, buyer):
    before = stage.received
    value = made(stage, buyer, "permit2", stage.challenge())
    refused = stage.present(value)
    assert_refused(refused)
    assert problem(refused) == "verification-failed" and stage.received == before
    stage.token.run(buyer.account, "approve", PERMIT2, MAXIMUM)
    assert stage.present(value).status_code == 200 and stage.received == before + PRICE


@pytest.mark.parametrize("kind", ["authorization", "transaction"])
def test_who_has_too_little_keeps_it(stage, kind):
    poor, before = EvmWallet(stage.payer(units=PRICE - 1, coins=1)), stage.received
    assert_refused(stage.present(made(stage, poor, kind, stage.challenge())))
    assert stage.received == before and stage.token.call("balanceOf", poor.address) == PRICE - 1


# Wallets that are contracts (ERC-1271).


class ContractWallet(EvmWallet):
    """A wallet whose owner signs for a contract."""

    def __init__(self, owner, contract):
        super().__init__(owner)
        self.address = contract.address


@pytest.fixture
def contract(stage):
    owner = new_account()
    contract = deploy(stage.node.rpc, stage.rich, "SmartWallet", owner.address)
    stage.token.run(stage.rich, "mint", contract.address, 10_000)
    stage.node.fund(owner.address)
    contract.owner = owner
    return contract


def followed_by(words, value):
    """The same credential with words of the wallet's own behind the owner's signature."""
    return changed(value, signature=lambda signature: signature + words)


@pytest.mark.parametrize("words", [bytes(32), b""], ids=["longer", "like a key's"])
@pytest.mark.parametrize("kind", ["authorization", "permit2"])
def test_a_contract_pays(stage, contract, kind, words):
    before, wallet = stage.received, ContractWallet(contract.owner, contract)
    contract.run(contract.owner, "execute", stage.token.address, bytes.fromhex(stage.token.data("approve", PERMIT2, MAXIMUM)[2:]))
    value = followed_by(words, made(stage, wallet, kind, stage.challenge()))
    response = stage.present(value)
    assert response.status_code == 200, response.text
    assert stage.receipt(response)["chainId"] == 84532 and stage.received == before + PRICE
    assert stage.present(value).content == response.content and stage.received == before + PRICE


def test_what_the_contract_did_not_sign_is_refused_and_leaves_no_trace(stage, contract):
    before, wallet = stage.received, ContractWallet(new_account(), contract)
    challenge = stage.challenge()
    assert_refused(stage.present(followed_by(bytes(32), made(stage, wallet, "authorization", challenge))))
    # The challenge is still there for who does sign.
    wallet.account = contract.owner
    assert stage.present(followed_by(bytes(32), made(stage, wallet, "authorization", challenge))).status_code == 200
    assert stage.received == before + PRICE
