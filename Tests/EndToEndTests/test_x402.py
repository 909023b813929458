"""Payments by x402, settled on a real EVM by the proxy itself and by a facilitator: the official clients, and everything that can go wrong between."""

import asyncio
import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_requests, x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client

from chain.contracts import Contract
from chain.facilitator import Facilitator
from chain.node import Node
from chain.wallet import authorization, new_account, sign, token_domain
from harness import SHOP, Farebox, fetch

COIN = 10**18
PRICE = 1000

CONFIGURATION = SHOP + """
addresses = {{ "base-sepolia" = "MERCHANT" }}

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[chain]]
name = "base-sepolia"
rpc = ["NODE"]
rpc-timeout = "2 s"
SETTLER

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "paid"
prefix = "/paid/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["x402"]

[[route]]
id = "both"
prefix = "/both/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["prepaid", "x402:base-sepolia"OTHERS]

[[route]]
id = "free"
prefix = "/free/"
upstream = "api"
free = true
"""

SIGNER = """signer = "{}"
resubmit-after = "3 s"
gas-limit-price = "1000 gwei"
"""
FACILITATOR = """facilitator = "local"

[[facilitator]]
name = "local"
url = "{}"
timeout = "3 s"
"""


class Stage:
    """A chain, a token, a merchant, and a proxy that sells on it."""

    def __init__(self, node, token, rich, merchant, farebox, facilitator=None):
        self.node, self.token, self.rich, self.merchant, self.farebox, self.facilitator = node, token, rich, merchant, farebox, facilitator

    def payer(self, units=1_000_000):
        account = new_account()
        self.token.run(self.rich, "mint", account.address, units)
        return account

    @property
    def received(self):
        return self.token.call("balanceOf", self.merchant.address)

    def offers(self, path="/paid/a"):
        response = requests.get(self.farebox.origin + path, timeout=5)
        assert response.status_code == 402
        return json.loads(base64.b64decode(response.headers["PAYMENT-REQUIRED"]))

    def payment(self, account, path="/paid/a", **changes):
        """A payment that is made by hand, so that it can be sent more than once, and wrong: the field's value."""
        accepted = self.offers(path)["accepts"][0]
        domain = token_domain(self.node.chain_id, self.token.address)
        before = int(time.time()) + changes.pop("seconds", 300)
        arguments, message = authorization(
            domain, account.address, changes.pop("to", accepted["payTo"]), int(changes.pop("value", accepted["amount"])), before=before)
        signature = sign(changes.pop("signer", account), message)
        names = ("from", "to", "value", "validAfter", "validBefore")
        terms = {**{name: str(value) for name, value in zip(names, arguments)}, "nonce": "0x" + arguments[5].hex()}
        payload = {"signature": "0x" + signature.hex(), "authorization": terms}
        payment = {"x402Version": 2, "accepted": {**accepted, **changes}, "payload": payload}
        return base64.b64encode(json.dumps(payment).encode()).decode()

    def send(self, payment, path="/paid/a", method="GET", field="PAYMENT-SIGNATURE", **more):
        return requests.request(method, self.farebox.origin + path, headers={field: payment}, timeout=40, **more)


@pytest.fixture(scope="module")
def rich():
    return new_account()


@pytest.fixture(scope="module")
def node(rich):
    with Node(accounts={rich.address: 10**6 * COIN}) as node:
        yield node


@pytest.fixture(scope="module")
def token(node, rich):
    return Contract(node.rpc, "Token", "usdc")


def start(binary, upstream, folder, node, token, rich, settler, facilitator=None):
    merchant = new_account()
    text = CONFIGURATION.replace("MERCHANT", merchant.address).replace("NODE", node.url).replace("SETTLER", settler)
    # A facilitator settles x402 only.
    text = text.replace("OTHERS", "" if facilitator else ', "evm:base-sepolia"')
    farebox = Farebox(binary, folder, upstream.port, configuration=text)
    return Stage(node, token, rich, merchant, farebox, facilitator)


@pytest.fixture(scope="module")
def own(binary, upstream, node, token, rich, tmp_path_factory):
    """A proxy that settles itself."""
    folder = tmp_path_factory.mktemp("own")
    signer = new_account()
    key = folder / "signer.key"
    key.write_text(signer.key.hex() + "\n")
    key.chmod(0o600)
    node.fund(signer.address, 100 * COIN)
    stage = start(binary, upstream, folder / "farebox", node, token, rich, SIGNER.format(key))
    yield stage
    stage.farebox.stop()
    stage.farebox.assert_books_balance()


@pytest.fixture(scope="module")
def by_facilitator(binary, upstream, node, token, rich, tmp_path_factory):
    """A proxy whose payments a facilitator settles."""
    with Facilitator(node.url) as facilitator:
        node.fund(facilitator.address, 100 * COIN)
        stage = start(binary, upstream, tmp_path_factory.mktemp("by"), node, token, rich, FACILITATOR.format(facilitator.url), facilitator)
        yield stage
        stage.farebox.stop()
        stage.farebox.assert_books_balance()


@pytest.fixture(params=["own", "by_facilitator"])
def stage(request):
    return request.getfixturevalue(request.param)


def settlement(response):
    return json.loads(base64.b64decode(response.headers["PAYMENT-RESPONSE"]))


def session(account):
    return x402_requests(register_exact_evm_client(x402ClientSync(), account))


# The official clients.


def test_requests_pays(stage):
    payer, before = stage.payer(), stage.received
    response = session(payer).get(stage.farebox.origin + "/paid/hello?a=1", timeout=30)
    assert response.status_code == 200, response.text
    told = settlement(response)
    assert told["success"] and told["network"] == "eip155:84532" and told["payer"].lower() == payer.address.lower()
    assert "private" in response.headers["Cache-Control"]
    assert stage.received == before + PRICE
    assert stage.node.rpc("eth_getTransactionReceipt", told["transaction"])["status"] == "0x1"


def test_httpx_pays(stage):
    payer, before = stage.payer(), stage.received

    async def run():
        async with x402HttpxClient(register_exact_evm_client(x402Client(), payer), timeout=30) as client:
            return [await client.get(stage.farebox.origin + f"/both/{number}") for number in range(3)]

    responses = asyncio.run(run())
    assert [response.status_code for response in responses] == [200] * 3
    assert stage.received == before + 3 * PRICE
    assert len({settlement(response)["transaction"] for response in responses}) == 3


def test_a_post_with_content_pays(stage):
    payer, before = stage.payer(), stage.received
    response = session(payer).post(stage.farebox.origin + "/paid/echo", data=b"x" * 1000, timeout=30)
    assert response.status_code == 200, response.text
    assert stage.received == before + PRICE


# One authorization, used more than once.


def test_a_payment_buys_one_request_and_its_repetition_gets_the_same_answer(stage):
    payer, before = stage.payer(), stage.received
    payment = stage.payment(payer)
    first = stage.send(payment)
    again = stage.send(payment)
    assert first.status_code == again.status_code == 200 and first.content == again.content
    assert settlement(first) == settlement(again)
    assert stage.received == before + PRICE
    for path, method in (("/paid/b", "GET"), ("/paid/a?x", "GET"), ("/paid/a", "POST")):
        other = stage.send(payment, path, method)
        assert other.status_code == 409 and "PAYMENT-REQUIRED" not in other.headers, (path, other.status_code)
    assert stage.received == before + PRICE


def test_of_64_at_once_one_is_settled_and_all_that_are_served_are_the_same(stage, upstream):
    payer, before, path = stage.payer(), stage.received, f"/paid/{time.monotonic_ns()}"
    payment = stage.payment(payer, path)
    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(lambda _: stage.send(payment, path), range(64)))
    statuses = {response.status_code for response in responses}
    assert statuses <= {200, 409} and 200 in statuses, statuses
    assert stage.received == before + PRICE
    assert sum(request["target"] == path for request in upstream.requests) == 1


# Payments that are wrong.


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"value": 999}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"value": 1001}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"to": "0x" + "11" * 20}, "invalid_exact_evm_payload_recipient_mismatch"),
        ({"seconds": 3}, "invalid_exact_evm_payload_authorization_valid_before"),
        ({"signer": new_account()}, "invalid_exact_evm_payload_signature"),
        ({"amount": "999"}, "invalid_payment_requirements"),
        ({"payTo": "0x" + "11" * 20}, "invalid_payment_requirements"),
        ({"network": "eip155:1"}, "invalid_payment_requirements"),
    ],
)
def test_what_is_wrong_is_told_and_moves_nothing(stage, changes, reason):
    before = stage.received
    response = stage.send(stage.payment(stage.payer(), **changes))
    assert response.status_code == 402, response.text
    assert json.loads(base64.b64decode(response.headers["PAYMENT-REQUIRED"]))["error"] == reason
    assert stage.received == before


@pytest.mark.parametrize("payment", ["", "x", "e30=", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"x402Version":3}').decode(), "A" * 20000])
def test_what_cannot_be_read_is_answered_400(stage, payment):
    assert stage.send(payment).status_code in (400, 402, 431)


def test_who_has_no_money_is_told_and_keeps_the_authorization(stage):
    payer, before = stage.payer(units=10), stage.received
    payment = stage.payment(payer)
    response = stage.send(payment)
    assert response.status_code == 402 and settlement(response)["success"] is False
    stage.token.run(stage.rich, "mint", payer.address, 10_000)
    assert stage.send(payment).status_code == 200
    assert stage.received == before + PRICE

