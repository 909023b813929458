"""Payments by x402, settled on a real EVM by the proxy itself and by a facilitator: the official clients, and everything that can go wrong between."""

import asyncio
import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from x402 import x402Client
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client

from chain.wallet import new_account
from paystage import PRICE, session, settlement


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


def test_of_64_at_once_one_is_settled_and_all_that_are_served_are_the_same(stage):
    payer, before, path = stage.payer(), stage.received, f"/paid/{time.monotonic_ns()}"
    payment = stage.payment(payer, path)
    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(lambda _: stage.send(payment, path), range(64)))
    statuses = {response.status_code for response in responses}
    assert statuses <= {200, 409} and 200 in statuses, statuses
    assert stage.received == before + PRICE
    assert stage.served(path) == 1


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

