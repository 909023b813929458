"""x402 over MCP: x402's own client for MCP pays for tools through the client of the `mcp` package, and the proxy settles on the tests' chain."""

import asyncio
import json
from types import SimpleNamespace

import pytest
import requests
from mcp import Client
from mcp_payer import challenged
from x402 import x402Client
from x402.mcp import x402MCPClient
from x402.mechanisms.evm.exact import register_exact_evm_client

from paystage import PRICE, Stage, poll, settlement, unpacked
from test_mcp import Script, ServerProcess, call, post

PAYMENT, RESPONSE = "x402/payment", "x402/payment-response"
ROUTES = """
[[upstream]]
name = "server"
url = "http://127.0.0.1:@SERVER@"

[[upstream]]
name = "script"
url = "http://127.0.0.1:@SCRIPT@"

[[route]]
id = "tools"
path = "/mcp"
type = "mcp"
upstream = "server"
rails = ["x402"]

[route.calls]
"tools/call:search" = "0.001 USDC per call"
"tools/call:fails" = "0.001 USDC per call"

[[route]]
id = "mixed"
path = "/mixed"
type = "mcp"
upstream = "script"
rails = ["prepaid", "x402"]

[route.calls]
"tools/call:*" = "0.001 USDC per call"
"""


@pytest.fixture(scope="module", params=["json", "sse"])
def server(request):
    server = ServerProcess(request.param)
    yield server
    server.close()


@pytest.fixture(scope="module")
def script():
    script = Script()
    yield script
    script.close()


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, server, script, tmp_path_factory):
    routes = ROUTES.replace("@SERVER@", str(server.port)).replace("@SCRIPT@", str(script.port))
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("mcp"), node, usdc, rich, routes=routes)
    yield stage
    stage.close()


class Session:
    """What x402's client calls tools by: the session of the `mcp` package, whose names of members have changed since x402's was written."""

    def __init__(self, client, structured=True):
        self.client, self.structured, self.sent = client, structured, []

    async def call_tool(self, params, **_):
        self.sent.append(params)
        result = await self.client.call_tool(params["name"], params["arguments"], meta=params.get("_meta"))
        blocks = [block.model_dump(by_alias=True) for block in result.content]
        structured = result.structured_content if self.structured else None
        return SimpleNamespace(content=blocks, isError=bool(result.is_error), _meta=result.meta or {}, structuredContent=structured)


def run(stage, body, path="/mcp", structured=True):
    async def main():
        async with Client(stage.farebox.origin + path) as client:
            return await body(Session(client, structured))

    return asyncio.run(asyncio.wait_for(main(), 60))


def payer(stage, session, account=None):
    return x402MCPClient(session, register_exact_evm_client(x402Client(), account or stage.payer()))


@pytest.mark.parametrize("structured", [True, False], ids=["structured", "text"])
def test_x402s_client_pays_for_a_tool(stage, server, structured):
    before, runs, account = stage.received, server.counts().get("search", 0), stage.payer()

    async def body(session):
        return await payer(stage, session, account).call_tool("search", {"query": "a"})

    result = run(stage, body, structured=structured)
    assert result.payment_made and not result.is_error and result.content[0]["text"] == "found a"
    told = result.payment_response
    assert told.success and told.payer.lower() == account.address.lower() and told.network == "eip155:84532"
    assert stage.node.rpc("eth_getTransactionReceipt", told.transaction)["status"] == "0x1"
    assert stage.received == before + PRICE and server.counts()["search"] == runs + 1
    poll(lambda: stage.earned == stage.received, what="the books")


def test_what_an_unpaid_call_is_told(stage, server):
    runs = server.counts().get("search", 0)

    async def body(session):
        free = await session.client.call_tool("free", {"text": "a"})
        assert not free.is_error
        return await session.client.call_tool("search", {"query": "a"})

    result = run(stage, body)
    required = result.structured_content
    assert result.is_error and required["x402Version"] == 2 and json.loads(result.content[0].text) == required
    assert required["resource"]["url"] == stage.farebox.origin + "/mcp#tools/call:search"
    assert {offer["amount"] for offer in required["accepts"]} == {str(PRICE)} and server.counts().get("search", 0) == runs


def test_a_payment_buys_one_call_of_what_it_was_made_for(stage, server):
    before, runs = stage.received, server.counts().get("search", 0)

    async def body(session):
        result = await payer(stage, session).call_tool("search", {"query": "once"})
        assert not result.is_error
        meta = session.sent[-1]["_meta"]
        # Again, under another id, it gets the same answer; with other arguments, or for another tool, it buys nothing.
        again = await session.client.call_tool("search", {"query": "once"}, meta=meta)
        assert not again.is_error and again.content[0].text == result.content[0]["text"] and again.meta[RESPONSE]["success"]
        assert again.meta[RESPONSE]["transaction"] == result.payment_response.transaction
        for name, arguments in [("search", {"query": "other"}), ("fails", {"how": "well"})]:
            error = await challenged(session.client.call_tool(name, arguments, meta=meta), -32000)
            assert error.data["httpStatus"] in (403, 409) and "challenges" not in error.data

    run(stage, body)
    assert stage.received == before + PRICE and server.counts()["search"] == runs + 1


def test_a_call_that_failed_is_served_again_for_the_same_payment(stage, server):
    before = stage.received

    async def body(session):
        result = await payer(stage, session).call_tool("fails", {"how": "raise"})
        # The money has moved, and that is told; it buys the same call again.
        assert result.is_error and result.payment_response.success
        runs = server.counts()["fails"]
        again = await session.client.call_tool("fails", {"how": "raise"}, meta=session.sent[-1]["_meta"])
        assert again.is_error and again.meta[RESPONSE]["success"] and server.counts()["fails"] == runs + 1

    run(stage, body)
    assert stage.received == before + PRICE


def test_a_payment_that_does_not_hold_is_told_so(stage, server):
    before, runs = stage.received, server.counts().get("search", 0)

    async def body(session):
        poor = stage.payer(units=PRICE - 1)
        result = await payer(stage, session, poor).call_tool("search", {"query": "a"})
        assert result.is_error
        told = json.loads(result.content[0]["text"])
        assert told["x402Version"] == 2 and told["error"] not in (None, "", "Payment required")
        for wrong in ({}, 5, "x", {"x402Version": 2}):
            error = await challenged(session.client.call_tool("search", {"query": "a"}, meta={PAYMENT: wrong}), -32602)
            assert error.data["httpStatus"] == 400

    run(stage, body)
    assert stage.received == before and server.counts().get("search", 0) == runs


def test_a_field_pays_for_a_call_too(stage, script):
    script.answers({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ran"}]}})
    before, url = stage.received, stage.farebox.origin + "/mixed"
    required = unpacked(requests.post(url, json=call("field"), timeout=10).headers["PAYMENT-REQUIRED"])
    payment = stage.payment(stage.payer(), accepted=required["accepts"][0])
    response = requests.post(url, json=call("field"), headers={"PAYMENT-SIGNATURE": payment}, timeout=40)
    assert response.status_code == 200, response.text
    assert response.json()["result"]["content"][0]["text"] == "ran" and settlement(response)["success"] and stage.received == before + PRICE
    # Under another id it is the same call, and with other arguments another one.
    again = requests.post(url, json=call("field", id=9), headers={"PAYMENT-SIGNATURE": payment}, timeout=40)
    assert again.status_code == 200 and settlement(again)["success"], again.text
    assert again.json() == {**response.json(), "id": 9} and again.headers["Content-Type"] == "application/json"
    other = call("field")
    other["params"]["arguments"] = {"x": 1}
    assert requests.post(url, json=other, headers={"PAYMENT-SIGNATURE": payment}, timeout=40).status_code == 409
    assert stage.received == before + PRICE


def test_calls_in_a_batch_claim_nothing(stage, script):
    """They could not be settled one by one: each would take a place in the books until its authorization has run out."""
    account, url = stage.payer(), stage.farebox.origin + "/mixed"
    accepted = unpacked(requests.post(url, json=call("field"), timeout=10).headers["PAYMENT-REQUIRED"])["accepts"][0]
    payments = [stage.payment(account, accepted=accepted) for _ in range(2)]
    calls = [call("field", id=number) for number in range(2)]
    for message, payment in zip(calls, payments):
        message["params"]["_meta"] = {PAYMENT: unpacked(payment)}
    in_messages = requests.post(url, json=calls, timeout=10)
    in_field = requests.post(url, json=[call("field")], headers={"PAYMENT-SIGNATURE": payments[0]}, timeout=10)
    assert (in_messages.status_code, in_field.status_code) == (400, 400)
    listed = stage.farebox.command("payment", "list")["payments"]
    assert not [payment for payment in listed if payment["payer"] == account.address.lower()]


def test_where_prepaid_comes_first_its_words_are_spoken_and_x402_pays_all_the_same(stage, script):
    before, account = stage.received, stage.payer()
    result = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ran"}]}}
    script.answers(result)
    refused = post(stage.farebox, call("any"), "/mixed").json()
    assert refused["error"]["code"] == -32042 and refused["error"]["data"]["challenges"]
    plain = requests.post(stage.farebox.origin + "/mixed", json=call("any"), timeout=10)
    accepted = unpacked(plain.headers["PAYMENT-REQUIRED"])["accepts"][0]
    paid = call("any")
    paid["params"]["_meta"] = {PAYMENT: unpacked(stage.payment(account, accepted=accepted))}
    told = post(stage.farebox, paid, "/mixed").json()
    assert told["result"]["content"][0]["text"] == "ran" and told["result"]["_meta"][RESPONSE]["success"]
    assert PAYMENT not in script.seen[-1][1].decode() and stage.received == before + PRICE


def test_an_error_of_the_tools_tells_that_the_money_has_moved(stage, script):
    before, account = stage.received, stage.payer()
    plain = requests.post(stage.farebox.origin + "/mixed", json=call("broken"), timeout=10)
    accepted = unpacked(plain.headers["PAYMENT-REQUIRED"])["accepts"][0]
    paid = call("broken")
    paid["params"]["_meta"] = {PAYMENT: unpacked(stage.payment(account, accepted=accepted))}
    script.answers({"jsonrpc": "2.0", "id": 1, "error": {"code": -32050, "message": "out of order", "data": {"part": 7}}})
    told = post(stage.farebox, paid, "/mixed").json()["error"]
    assert told["code"] == -32050 and told["data"]["part"] == 7 and told["data"][RESPONSE]["success"] and told["data"][RESPONSE]["transaction"]
    # It is served for the same payment, and what succeeds is kept.
    script.answers({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ran"}]}})
    ran = post(stage.farebox, paid, "/mixed").json()
    seen = len(script.seen)
    again = post(stage.farebox, {**paid, "id": "other"}, "/mixed").json()
    assert ran["result"]["content"] == again["result"]["content"] and again["id"] == "other" and again["result"]["_meta"][RESPONSE]["success"]
    assert len(script.seen) == seen and stage.received == before + PRICE


def test_an_answer_that_is_too_long_to_be_kept_is_said_to_have_been_paid(stage, script):
    before, account = stage.received, stage.payer()
    plain = requests.post(stage.farebox.origin + "/mixed", json=call("long"), timeout=10)
    paid = call("long")
    paid["params"]["_meta"] = {PAYMENT: unpacked(stage.payment(account, accepted=unpacked(plain.headers["PAYMENT-REQUIRED"])["accepts"][0]))}
    script.answers({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "x" * 70_000}]}})
    assert len(post(stage.farebox, paid, "/mixed").json()["result"]["content"][0]["text"]) == 70_000
    again = post(stage.farebox, paid, "/mixed").json()["error"]
    assert again["data"]["httpStatus"] == 409 and again["data"][RESPONSE]["success"] and stage.received == before + PRICE
