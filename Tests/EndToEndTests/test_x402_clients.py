"""The official clients of x402, version 2 (2.25) and version 1 (0.3), and what a page in a browser needs, on one and the same 402."""

import asyncio
import os
import time

import pytest
import requests
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_requests, x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client

from chain import version1
from chain.contracts import Contract, deploy
from chain.wallet import EXACT_WITNESS, MAXIMUM, PERMIT2, hexadecimal, new_account, permit2_message, sign
from paystage import NETWORK, PRICE, Stage, packed, session, settlement, unpacked

PAGE = "https://app.example"
EXACT_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"

# A second money, which only Permit2 moves.
COIN_CURRENCY = """
[[currency]]
code = "coin"
decimals = 6
"""
TOKENS = """
[[chain.token]]
currency = "usdc"

[[chain.token]]
currency = "coin"
address = "COIN"
transfers = ["permit2"]
"""
COIN_ROUTE = """
[[route]]
id = "coin"
prefix = "/coin/"
upstream = "api"
price = "0.001 COIN per request"
rails = ["x402"]
"""


@pytest.fixture(scope="module")
def coin(node):
    return Contract(node.rpc, "Token", "usd-coin")


@pytest.fixture(scope="module")
def own(binary, upstream, node, usdc, coin, rich, tmp_path_factory):
    """A proxy that settles itself, and sells for a second money as well."""
    more = TOKENS.replace("COIN", coin.address) + COIN_CURRENCY + COIN_ROUTE
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich, more)
    yield stage
    stage.close()


def pays_by(method):
    """Lets a client of x402 choose the offers of one way to move a token."""
    return lambda version, offers: next(offer for offer in offers if offer.extra.get("assetTransferMethod", "eip3009") == method)


def fetch_by_httpx(client, url, **options):
    async def run():
        async with x402HttpxClient(client, timeout=30) as http:
            return await http.get(url, **options)

    return asyncio.run(run())


def fetch_by_requests(client, url, **options):
    return x402_requests(client).get(url, timeout=30, **options)


# Version 2.


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_version_2_pays_by_both_methods(stage, library, method):
    payer, before = stage.payer(coins=1), stage.received
    stage.token.run(payer, "approve", PERMIT2, MAXIMUM)
    kind, fetch = (x402ClientSync, fetch_by_requests) if library == "requests" else (x402Client, fetch_by_httpx)
    client = register_exact_evm_client(kind(payment_requirements_selector=pays_by(method)), payer)
    response = fetch(client, stage.farebox.origin + f"/paid/{library}?method={method}")
    assert response.status_code == 200, response.text
    told = settlement(response)
    assert told["success"] and told["network"] == NETWORK and told["payer"].lower() == payer.address.lower() and told["amount"] == str(PRICE)
    landed = stage.node.rpc("eth_getTransactionReceipt", told["transaction"])
    assert landed["status"] == "0x1" and landed["to"] == (EXACT_PROXY if method == "permit2" else stage.token.address).lower()
    assert stage.received == before + PRICE


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_token_that_only_permit2_moves_is_offered_and_paid_so(own, coin, library):
    offers = own.offered("/coin/a")
    assert [(offer["asset"], offer["extra"]["assetTransferMethod"]) for offer in offers] == [(coin.address, "permit2")]
    payer = own.payer(coins=1)
    coin.run(own.rich, "mint", payer.address, PRICE)
    coin.run(payer, "approve", PERMIT2, MAXIMUM)
    kind, fetch = (x402ClientSync, fetch_by_requests) if library == "requests" else (x402Client, fetch_by_httpx)
    before = coin.call("balanceOf", own.merchant.address)
    # By itself the client pays in the tokens that it knows for each chain only.
    response = fetch(register_exact_evm_client(kind().set_spend_controls(False), payer), own.farebox.origin + "/coin/a")
    assert response.status_code == 200, response.text
    assert coin.call("balanceOf", own.merchant.address) == before + PRICE
    books = {account["currency"]: account for account in own.farebox.command("ledger", "verify")["currencies"]}
    assert int(books[f"coin@{NETWORK}"]["issued"]) == before + PRICE


def test_a_permit_without_an_allowance_is_told(stage):
    payer, before = stage.payer(), stage.received
    client = register_exact_evm_client(x402ClientSync(payment_requirements_selector=pays_by("permit2")), payer)
    response = fetch_by_requests(client, stage.farebox.origin + "/paid/poor")
    assert response.status_code == 402 and unpacked(response.headers["PAYMENT-REQUIRED"])["error"]
    assert stage.received == before and stage.served("/paid/poor") == 0


def test_a_connection_is_used_again_for_more_payments(stage):
    payer, before = stage.payer(), stage.received
    client = session(payer)
    responses = [client.get(stage.farebox.origin + f"/paid/again/{number}", timeout=30) for number in range(2)]
    assert [response.status_code for response in responses] == [200] * 2
    assert len({settlement(response)["transaction"] for response in responses}) == 2 and stage.received == before + 2 * PRICE


# Version 1.


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_version_1_pays(stage, library):
    payer, before = stage.payer(), stage.received
    (answer,) = version1.pay(payer, [stage.farebox.origin + f"/paid/v1/{library}?a=1"], library)
    assert answer.get("status") == 200, answer
    told = unpacked(answer["headers"]["x-payment-response"])
    assert told["success"] and told["network"] == "base-sepolia" and told["payer"].lower() == payer.address.lower()
    assert "payment-response" not in answer["headers"]
    assert stage.node.rpc("eth_getTransactionReceipt", told["transaction"])["status"] == "0x1"
    assert stage.received == before + PRICE


def test_version_1_pays_where_every_rail_is_offered(stage):
    payer, before = stage.payer(), stage.received
    (answer,) = version1.pay(payer, [stage.farebox.origin + "/both/v1"], "requests", method="POST")
    assert answer.get("status") == 200, answer
    assert stage.received == before + PRICE


def test_one_authorization_is_one_payment_in_both_versions(stage):
    """Version 1's client signs what version 2 takes too: the nonce is used once, whatever the field's name."""
    payer, path = stage.payer(), f"/paid/versions/{stage.farebox.port}"
    (answer,) = version1.pay(payer, [stage.farebox.origin + path])
    assert answer.get("status") == 200, answer
    before = stage.received
    payload = unpacked(answer["paid"])["payload"]
    accepted = next(offer for offer in stage.offered(path) if offer["extra"].get("assetTransferMethod", "eip3009") == "eip3009")
    response = stage.send(packed({"x402Version": 2, "accepted": accepted, "payload": payload}), path)
    assert response.status_code == 200 and response.text == answer["body"]
    assert stage.send(packed({"x402Version": 2, "accepted": accepted, "payload": payload}), path + "/other").status_code == 409
    assert stage.received == before and stage.served(path) == 1


def test_both_fields_at_once_are_refused(stage):
    payer, before = stage.payer(), stage.received
    payment = stage.payment(payer)
    first = requests.get(stage.farebox.origin + "/paid/a", headers={"PAYMENT-SIGNATURE": payment, "X-PAYMENT": payment}, timeout=40)
    second = requests.get(stage.farebox.origin + "/both/a", headers={"PAYMENT-SIGNATURE": payment, "Authorization": "Payment e30"}, timeout=40)
    assert first.status_code == second.status_code == 400
    assert stage.received == before


# Wallets that are contracts (ERC-1271).


@pytest.mark.parametrize("words", [bytes(32), b""], ids=["longer", "like a key's"])
@pytest.mark.parametrize("method", ["eip3009", "permit2"])
def test_a_contract_pays(stage, method, words):
    owner = new_account()
    stage.node.fund(owner.address)
    wallet = deploy(stage.node.rpc, stage.rich, "SmartWallet", owner.address)
    stage.token.run(stage.rich, "mint", wallet.address, 10_000)
    wallet.run(owner, "execute", stage.token.address, bytes.fromhex(stage.token.data("approve", PERMIT2, MAXIMUM)[2:]))
    before = stage.received
    offer = next(offer for offer in stage.offered() if offer["extra"].get("assetTransferMethod", "eip3009") == method)
    if method == "eip3009":
        payment = stage.payment(owner, accepted=offer, sender=wallet.address, change=lambda signature: signature + words)
        stranger = stage.payment(new_account(), accepted=offer, sender=wallet.address, change=lambda signature: signature + words)
    else:
        payment, stranger = (permit(stage, offer, wallet.address, signer, words) for signer in (owner, new_account()))
    refused = stage.send(stranger)
    assert refused.status_code == 402 and stage.received == before
    response = stage.send(payment)
    assert response.status_code == 200, response.text
    assert settlement(response)["payer"].lower() == wallet.address.lower() and stage.received == before + PRICE
    assert stage.send(payment).content == response.content and stage.received == before + PRICE


def permit(stage, offer, owner, signer, words):
    """A payment by Permit2 that `signer` signs for `owner`."""
    nonce, deadline = int.from_bytes(os.urandom(31), "big"), int(time.time()) + 300
    values = {"to": offer["payTo"], "validAfter": 0}
    permitted = (offer["asset"], int(offer["amount"]))
    message = permit2_message(stage.node.chain_id, permitted, EXACT_PROXY, nonce, deadline, EXACT_WITNESS, values)
    terms = {
        "permitted": {"token": offer["asset"], "amount": offer["amount"]},
        "from": owner,
        "spender": EXACT_PROXY,
        "nonce": str(nonce),
        "deadline": str(deadline),
        "witness": {"to": offer["payTo"], "validAfter": "0"},
    }
    payload = {"signature": hexadecimal(sign(signer, message) + words), "permit2Authorization": terms}
    return packed({"x402Version": 2, "accepted": offer, "payload": payload})


# Pages in browsers.


def granted(response, name):
    return {field.strip().lower() for field in response.headers.get(name, "").split(",")}


def test_a_page_may_ask_see_the_price_pay_and_read_what_it_paid_for(stage):
    url = stage.farebox.origin + "/paid/page"
    fields = "content-type,payment-signature,x-payment,authorization"
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": fields}
    asked = requests.options(url, headers=preflight, timeout=5)
    assert asked.status_code == 204 and not asked.content
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE and granted(asked, "Access-Control-Allow-Methods") == {"post"}
    assert granted(asked, "Access-Control-Allow-Headers") >= {"content-type", "payment-signature", "x-payment", "authorization"}
    unpaid = requests.post(url, headers={"Origin": PAGE}, timeout=5)
    assert unpaid.status_code == 402 and unpaid.headers["Access-Control-Allow-Origin"] == PAGE
    readable = granted(unpaid, "Access-Control-Expose-Headers")
    assert readable >= {"www-authenticate", "payment-required", "payment-response", "x-payment-response", "payment-receipt"}
    assert "no-store" in unpaid.headers["Cache-Control"]
    payer = stage.payer()
    paid = session(payer).post(url, headers={"Origin": PAGE}, timeout=30)
    assert paid.status_code == 200 and paid.headers["Access-Control-Allow-Origin"] == PAGE
    assert granted(paid, "Access-Control-Expose-Headers") >= {"payment-response", "x-payment-response"}
    assert "private" in paid.headers["Cache-Control"] and settlement(paid)["success"]


def test_a_page_of_another_origin_is_granted_nothing(stage):
    url = stage.farebox.origin + "/paid/page"
    asked = requests.options(url, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}, timeout=5)
    unpaid = requests.get(url, headers={"Origin": "https://evil.example"}, timeout=5)
    for response in (asked, unpaid):
        assert "Access-Control-Allow-Origin" not in response.headers and "Access-Control-Expose-Headers" not in response.headers


def test_what_an_upstream_forges_does_not_reach_the_payer(stage):
    payer = stage.payer()
    response = session(payer).get(stage.farebox.origin + "/paid/forge", timeout=30)
    assert response.status_code == 200 and settlement(response)["success"]
    free = requests.get(stage.farebox.origin + "/free/forge", timeout=5)
    assert not {"payment-response", "payment-receipt", "www-authenticate"} & {name.lower() for name in free.headers}


def test_the_upstream_never_sees_a_payment(stage):
    payer = stage.payer()
    response = session(payer).get(stage.farebox.origin + "/paid/echo", timeout=30)
    names = {name.lower() for name, _ in response.json()["headers"]}
    assert not names & {"payment-signature", "x-payment", "authorization"}
