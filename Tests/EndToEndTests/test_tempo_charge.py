"""MPP's method tempo, intent charge: pympp's client pays through the proxy, on the stand-in for Tempo, with and without its fees."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from eth_account import Account as Wallet
from mpp import Receipt
from mpp.client import Mpp
from mpp.methods.tempo import TempoAccount
from mpp.methods.tempo import client as tempo

from chain.contracts import Contract
from chain.credentials import credential, did
from chain.node import Node
from chain.wallet import hexadecimal, new_account
from harness import SHOP, Farebox, challenge_of, fetch, request_of
from paystage import PRICE, key_file, poll

MODERATO = 42431

CONFIGURATION = SHOP + """
addresses = {{ "tempo-testnet" = "MERCHANT" }}

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[chain]]
name = "tempo-testnet"
rpc = ["NODE"]
SIGNER
[[chain.token]]
currency = "usdc"
address = "TOKEN"

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "paid"
prefix = "/paid/"
price = "0.001 USDC per request"
rails = ["tempo:tempo-testnet"]

[[route]]
id = "both"
prefix = "/both/"
price = "0.001 USDC per request"
rails = ["prepaid", "tempo"]

[[route]]
id = "split"
prefix = "/split/"
price = "0.001 USDC per request"
rails = ["tempo:tempo-testnet"]

[[route.split]]
addresses = {{ "tempo-testnet" = "PARTNER" }}
amount = "0.0003 USDC"
memo = "0xabababababababababababababababababababababababababababababababab"

[[route.split]]
addresses = {{ "tempo-testnet" = "AFFILIATE" }}
amount = "0.0001 USDC"

[[route]]
id = "memo"
prefix = "/memo/"
price = "0.001 USDC per request"
rails = ["tempo:tempo-testnet"]
memo = "order 7"

[[route]]
id = "proof"
prefix = "/proof/"
price = "0 USDC per request"
rails = ["tempo:tempo-testnet"]
proof = true
"""


@pytest.fixture(scope="module")
def node(rich):
    with Node(MODERATO, accounts={rich.address: 10**24}) as node:
        yield node


@pytest.fixture(scope="module")
def coin(node):
    return Contract(node.rpc, "Token", "path-usd")


class Shop:
    """A proxy that sells on the chain, and pays the fees where it has a sponsor."""

    def __init__(self, binary, upstream, folder, node, coin, sponsor=None):
        self.node, self.coin, self.merchant, self.sponsor = node, coin, new_account(), sponsor
        self.partner, self.affiliate = new_account(), new_account()
        Path(folder).mkdir(parents=True, exist_ok=True)
        signer = f'signer = "{key_file(folder, sponsor)}"' if sponsor else ""
        text = CONFIGURATION.replace("PARTNER", self.partner.address).replace("AFFILIATE", self.affiliate.address)
        text = text.replace("MERCHANT", self.merchant.address).replace("NODE", node.url).replace("SIGNER", signer)
        self.farebox = Farebox(binary, folder / "farebox", upstream.port, configuration=text.replace("TOKEN", coin.address))
        poll(lambda: self.challenge("/paid/offer"), what="an offer")

    def challenge(self, path):
        with self.farebox.connection() as connection:
            response = fetch(connection, "GET", path)
            return challenge_of(response, "charge") if response.status == 402 else None

    @property
    def received(self):
        return self.coin.call("balanceOf", self.merchant.address)

    @property
    def booked(self):
        return sum(int(account["issued"]) for account in self.farebox.command("ledger", "verify")["currencies"] if "@eip155" in account["currency"])

    @property
    def open_payments(self):
        return self.farebox.command("payment", "list", "--open")["payments"]

    def pay(self, payer, path):
        method = tempo.charge(account=TempoAccount.from_key(payer.key.hex()), rpc_url=self.node.url, chain_id=MODERATO)

        async def run():
            async with Mpp(methods=[method]) as mpp:
                return await mpp.fetch(self.farebox.origin + path, timeout=30)

        return asyncio.run(run())


@pytest.fixture(scope="module", params=["payers pay the fees", "the proxy pays the fees"])
def shop(request, binary, upstream, node, coin, rich, tmp_path_factory):
    sponsor = None
    if request.param.startswith("the proxy"):
        sponsor = new_account()
        coin.run(rich, "mint", sponsor.address, 10**9)
    shop = Shop(binary, upstream, tmp_path_factory.mktemp("tempo"), node, coin, sponsor)
    yield shop
    shop.farebox.stop()
    shop.farebox.assert_books_balance()


@pytest.fixture
def payer(coin, rich):
    account = new_account()
    coin.run(rich, "mint", account.address, 1_000_000)
    return account


@pytest.mark.parametrize("path", ["/paid/hello", "/both/hello"])
def test_pympp_pays(shop, payer, coin, path):
    before = shop.received
    response = shop.pay(payer, path)
    assert response.status_code == 200, response.text
    receipt = Receipt.from_payment_receipt(response.headers["payment-receipt"])
    assert receipt.status == "success" and receipt.method == "tempo"
    settled = shop.node.rpc("eth_getTransactionReceipt", receipt.reference)
    assert settled["status"] == "0x1" and settled["feePayer"] == (shop.sponsor or payer).address.lower()
    assert shop.received == before + PRICE
    if shop.sponsor:
        assert coin.call("balanceOf", payer.address) == 1_000_000 - PRICE


def test_the_offer_says_who_pays_the_fees(shop):
    details = request_of(shop.challenge("/paid/offer"))["methodDetails"]
    assert details["chainId"] == MODERATO and details.get("feePayer", False) is (shop.sponsor is not None)


def test_who_has_nothing_is_not_served(shop, upstream):
    before = shop.received
    with pytest.raises(Exception):
        response = shop.pay(new_account(), "/paid/poor")
        assert response.status_code != 200, "served"
        raise RuntimeError(response.status_code)
    assert shop.received == before and not any(request["target"] == "/paid/poor" for request in upstream.requests)


def test_pympp_pays_the_splits_that_are_asked_for(shop, payer, coin):
    details = request_of(shop.challenge("/split/a"))["methodDetails"]
    assert details["splits"] == [
        {"recipient": shop.partner.address, "amount": "300", "memo": "0x" + "ab" * 32}, {"recipient": shop.affiliate.address, "amount": "100"},
    ]
    before = [coin.call("balanceOf", account.address) for account in (shop.merchant, shop.partner, shop.affiliate)]
    booked = shop.booked
    response = shop.pay(payer, "/split/a")
    assert response.status_code == 200, response.text
    after = [coin.call("balanceOf", account.address) for account in (shop.merchant, shop.partner, shop.affiliate)]
    assert [new - old for new, old in zip(after, before)] == [600, 300, 100]
    # Only the merchant's part is in the books.
    assert shop.booked == booked + 600


def test_the_merchants_own_part_has_the_memo_that_is_asked_for(shop, payer, monkeypatch):
    """pympp's client writes a memo of its own into every payment, so the one that is asked for is put in its place here."""
    memo = "0x" + b"order 7".ljust(32, b"\0").hex()
    assert request_of(shop.challenge("/memo/a"))["methodDetails"]["memo"] == memo
    before = shop.received
    with pytest.raises(Exception):
        response = shop.pay(payer, "/memo/a")
        assert response.status_code != 200, "served"
        raise RuntimeError(response.status_code)
    monkeypatch.setattr("mpp.methods.tempo.client.encode_attribution", lambda **_: memo)
    response = shop.pay(payer, "/memo/a")
    assert response.status_code == 200, response.text
    assert shop.received == before + PRICE


def test_what_no_block_took_is_free_again(shop, payer, node):
    """A transaction that has run out is waited for no longer, and its claim is free."""
    if shop.sponsor is None:
        pytest.skip("the same for both, and slow: it has to run out")
    node.hold()
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(shop.pay, payer, "/paid/late")
            (waiting,) = poll(lambda: node.chain.waiting(), what="a transaction")
            assert len(shop.open_payments) == 1
            node.fail("refused", 10_000, "eth_sendRawTransaction")
            node.forget(hexadecimal(waiting.hash))
            node.release()
            node.advance(120)
            # However its payer's client takes the answer.
            with contextlib.suppress(Exception):
                assert answer.result(timeout=120).status_code in (402, 503)
        poll(lambda: not shop.open_payments, 120, "an end of the payment")
    finally:
        node.release()
        node.heal()
    assert shop.coin.call("balanceOf", payer.address) == 1_000_000


# Charges of nothing: a proof of which account asks.


def proof(payer, challenge, version="3", chain=MODERATO, signer=None, **changes):
    """A credential with the proof that mppx's clients sign, or (version 1) the draft's. pympp's client makes none."""
    values = {"account": payer.address, "challengeId": challenge["id"], "realm": challenge["realm"], **changes}
    names = {"1": ["challengeId"], "3": ["account", "challengeId", "realm"]}[version]
    types = {"Proof": [{"name": name, "type": "address" if name == "account" else "string"} for name in names]}
    domain = {"name": "MPP", "version": version, "chainId": chain}
    signed = Wallet.sign_typed_data((signer or payer).key, domain, types, {name: values[name] for name in names})
    return credential(challenge, {"type": "proof", "signature": hexadecimal(signed.signature)}, did(chain, payer.address))


def present(shop, path, value):
    return requests.get(shop.farebox.origin + path, headers={"Authorization": value}, timeout=20)


@pytest.mark.parametrize("version", ["1", "3"])
def test_who_proves_his_account_is_served_for_nothing(shop, upstream, version):
    account, before, path = new_account(), shop.received, f"/proof/{version}"
    asked = sum(request["target"] == path for request in list(upstream.requests))
    challenge = shop.challenge(path)
    request = request_of(challenge)
    assert challenge["method"] == "tempo" and request["amount"] == "0" and "feePayer" not in request["methodDetails"] and "supportedModes" not in request["methodDetails"]
    value = proof(account, challenge, version)
    response = present(shop, path, value)
    assert response.status_code == 200, response.text
    receipt = Receipt.from_payment_receipt(response.headers["payment-receipt"])
    assert receipt.status == "success" and receipt.method == "tempo" and receipt.reference == challenge["id"]
    # Once; and no money is anywhere.
    again = present(shop, path, value)
    assert again.status_code == 403, again.text
    assert sum(request["target"] == path for request in list(upstream.requests)) == asked + 1 and shop.received == before
    (known,) = [payment for payment in shop.farebox.command("payment", "list")["payments"] if payment["payer"] == account.address.lower()]
    assert known["amount"] == "0" and known["state"] == "served"
    shop.farebox.assert_books_balance()


@pytest.mark.parametrize("wrong", [
    {"signer": new_account()}, {"chain": 1}, {"challengeId": "other"}, {"realm": "other.example"}, {"account": new_account().address}])
def test_what_proves_nothing_is_not_served(shop, upstream, wrong):
    path = "/proof/wrong"
    response = present(shop, path, proof(new_account(), shop.challenge(path), **wrong))
    assert response.status_code == 402 and not any(request["target"] == path for request in list(upstream.requests))


def test_a_proof_is_for_one_request_of_what_costs_nothing(shop):
    account = new_account()
    assert present(shop, "/paid/proof", proof(account, shop.challenge("/paid/proof"))).status_code == 402
    value = proof(account, shop.challenge("/proof/one"))
    assert present(shop, "/proof/other", value).status_code == 402
    assert present(shop, "/proof/one", value).status_code == 200 and present(shop, "/proof/other", value).status_code == 409
