"""MPP's method evm, intent charge, settled by the proxy itself: all four types of credentials, pympp's client, and every abuse that a payer thinks of."""

import asyncio
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from mpp import Receipt
from mpp.client import Mpp
from mpp.methods.evm import client as evm

from chain.contracts import deploy
from chain.credentials import EvmWallet, credential, request_of
from chain.wallet import MAXIMUM, PERMIT2, new_account
from paystage import PRICE, Stage, assert_is_later, changed, made, members_of, poll, unpacked


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


# Splits.


SPLITS = """
[[route]]
id = "split"
prefix = "/split/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["evm:base-sepolia"]

[[route.split]]
addresses = {{ "base-sepolia" = "PARTNER" }}
amount = "0.0002 USDC"
memo = "partner"

[[route.split]]
addresses = {{ "base-sepolia" = "AFFILIATE" }}
amount = "0.00005 USDC"
"""


@pytest.fixture(scope="module")
def splitting(binary, upstream, node, usdc, rich, tmp_path_factory):
    partner, affiliate = new_account(), new_account()
    routes = SPLITS.replace("PARTNER", partner.address).replace("AFFILIATE", affiliate.address)
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("split"), node, usdc, rich, routes=routes)
    stage.others = [partner, affiliate]
    yield stage
    stage.close()


def test_a_permit_pays_all_whom_the_offer_names(splitting, usdc):
    """Of what the payer signs only the merchant's own part is in the books; the audit log names the others."""
    stage, path = splitting, "/split/a"
    wallet = EvmWallet(stage.payer(coins=1))
    usdc.run(wallet.account, "approve", PERMIT2, MAXIMUM)
    (challenge,) = stage.challenges(path)
    request = request_of(challenge)
    partner, affiliate = stage.others
    assert request["methodDetails"]["credentialTypes"] == ["permit2"] and request["amount"] == str(PRICE)
    assert request["methodDetails"]["splits"] == [
        {"recipient": partner.address, "amount": "200", "memo": "partner"}, {"recipient": affiliate.address, "amount": "50"},
    ]
    before, booked = stage.received, stage.booked
    value = made(stage, wallet, "permit2", challenge)
    stage.node.hold()
    answer = stage.sending(value, path, field="Authorization")
    (known,) = poll(lambda: stage.open_payments(wallet.account), what="the payment")
    wanted = [{"recipient": partner.address.lower(), "amount": "200"}, {"recipient": affiliate.address.lower(), "amount": "50"}]
    assert known["amount"] == "750" and known["splits"] == wanted
    # What is on its way keeps its splits over a restart.
    stage.farebox.kill()
    assert_is_later(answer)
    stage.farebox.start()
    stage.node.release()
    stage.wait_for_offers()
    response = poll(lambda: (found := stage.present(value, path)).status_code == 200 and found, what="the answer that was paid for")
    assert stage.receipt(response)["amount"] == str(PRICE)
    assert [usdc.call("balanceOf", account.address) for account in (partner, affiliate)] == [200, 50]
    assert stage.received == before + 750 and stage.booked == booked + 750 and stage.earned == stage.received

    def told_of():
        """Lines are gathered for a moment before they are written."""
        lines = [json.loads(line) for line in stage.farebox.audit_path.read_text().splitlines()]
        told = [line for line in lines if line.get("payment") == known["payment"]]
        return {line["event"] for line in told} >= {"payment.claimed", "payment.submitted", "payment.settled"} and told

    told = poll(told_of, what="the lines")
    assert all(line["splits"] == wanted and line["amount"] == "750" for line in told)
    assert stage.present(value, path).content == response.content and stage.received == before + 750


def test_a_payment_that_splits_otherwise_is_refused(splitting, usdc):
    stage, path = splitting, "/split/b"
    wallet = EvmWallet(stage.payer(coins=1))
    usdc.run(wallet.account, "approve", PERMIT2, MAXIMUM)
    before = stage.received
    assert_refused(stage.present(wallet.authorization(stage.challenge(path)), path))
    members = members_of(made(stage, wallet, "permit2", stage.challenge(path)))
    details = members["payload"]["transferDetails"]
    details[1]["to"] = details[0]["to"]
    assert_refused(stage.present(credential(members["challenge"], members["payload"], members["source"]), path))
    assert stage.received == before and stage.served(path) == 0


@pytest.mark.parametrize("old, new, said", [
    ('memo = "partner"', 'memmo = "partner"', "memmo"), ('amount = "0.0002 USDC"', 'amount = "0.002 USDC"', "leave the merchant"),
    ('addresses = {{ "base-sepolia" = "PARTNER" }}\n', "", "addresses"), ('rails = ["evm:base-sepolia"]', 'rails = ["evm:base-sepolia", "prepaid"]', "other rails"),
    ('price = "0.001 USDC per request"', 'price = "0.001 USDC per request"\nmemo = "x"', "tempo"), ('"base-sepolia" = "AFF', '"base-sepolla" = "AFF', "base-sepolla"),
])
def test_wrong_splits_are_told_with_their_place(splitting, tmp_path, old, new, said):
    text = splitting.farebox.configuration.read_text()
    for account, name in zip(splitting.others, ("PARTNER", "AFFILIATE")):
        old, new = (part.replace("{{", "{").replace("}}", "}").replace(name, account.address) for part in (old, new))
    old, new = (part.replace('"AFF', '"' + splitting.others[1].address[:4]) for part in (old, new))
    assert old in text
    head, tail = text.split('id = "split"')
    changed_file = tmp_path / "wrong.conf"
    changed_file.write_text(head + 'id = "split"' + tail.replace(old, new, 1))
    command = [splitting.farebox.binary, "check", "--config", str(changed_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=splitting.farebox.environment)
    assert done.returncode != 0 and said in done.stdout + done.stderr, done.stdout + done.stderr
    assert f"{changed_file}:" in done.stdout + done.stderr


def test_an_operators_transaction_for_a_payers_own_is_of_after_its_challenge(stage):
    """As much went from the payer to the merchant before he was asked: that pays for something else, whatever an operator says."""
    account = stage.payer(coins=1)
    earlier = stage.token.run(account, "transfer", stage.merchant.address, PRICE)["transactionHash"]
    stage.unbooked += PRICE
    # Beyond what clocks may differ by.
    time.sleep(125)
    value = EvmWallet(account).transaction(stage.challenge(), stage.node.rpc)
    stage.node.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.present, value)
        (known,) = poll(lambda: [payment for payment in stage.open_payments(account) if payment["state"] == "submitted"], what="the payment")
        said = stage.farebox.run("payment", "resolve", known["payment"], "--settled", earlier, "--force")
        assert said.returncode != 0 and "do not show" in said.stderr, said.stderr
        stage.node.release()
        assert answer.result(timeout=60).status_code in (200, 503)
    poll(lambda: not stage.open_payments(account), 30, "the settlement")
