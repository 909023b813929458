"""A route of type `mcp` between the `mcp` package's client and server: calls are paid for in messages and in fields."""

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mcp import Client
from mcp_payer import CREDENTIAL, INFORMATION, RECEIPT, Payer, challenged, in_message, offer, text_form

from http2_client import H2Connection
from harness import SHOP, Connection, Farebox, challenge_of, fetch, free_port, parse_challenges
from prepaid import PrepaidWallet, SessionSecret, b64u_decode

CONFIGURATION = SHOP + """
[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[timeouts]
drain = "10 s"
abandon = "3 s"

[[upstream]]
name = "server"
url = "http://127.0.0.1:{upstream}"

[[upstream]]
name = "script"
url = "http://127.0.0.1:@SCRIPT@"

[[route]]
id = "tools"
path = "/mcp"
type = "mcp"
upstream = "server"

[route.calls]
"tools/call:search" = "0.01 USDC per call"
"tools/call:fails" = "0.01 USDC per call"
"tools/call:forges" = "0.005 USDC per call"
"tools/call:meta" = {{ price = "0.001 USDC per call", description = "What arrives" }}
"tools/call:db.*" = "0.002 USDC per call"
"resources/read:file:///reports/*" = "0.003 USDC per call"
"prompts/get:*" = "0.004 USDC per call"

[[route]]
id = "script"
path = "/script"
type = "mcp"
upstream = "script"
answer-limit = "64 KiB"
usage-body-limit = "128 KiB"

[route.calls]
"tools/call:paid" = "0.01 USDC per call"
"tools/call:other" = "0.01 USDC per call"
"tools/call:gift" = "free"
"resources/read:file:///reports/*" = "0.003 USDC per call"

[[route]]
id = "strict"
path = "/strict"
type = "mcp"
upstream = "script"
charge-errors = true

[route.calls]
"tools/call:*" = "0.01 USDC per call"

[[route]]
id = "counts"
path = "/counts"
upstream = "server"
free = true
"""


class ServerProcess:
    """The real server, in a process of its own."""

    def __init__(self, mode):
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mcp_server.py")), str(self.port), mode], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with Connection(self.port) as c:
                    assert fetch(c, "GET", "/counts").status == 200
                    return
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, "the server did not start"
                time.sleep(0.05)

    def counts(self):
        with Connection(self.port) as c:
            return fetch(c, "GET", "/counts").json()

    def close(self):
        self.process.terminate()
        self.process.wait()


class Script:
    """An upstream that answers what it is told to, and keeps what it was asked."""

    def __init__(self):
        script = self
        self.seen, self.reply = [], None

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                script.seen.append((dict(self.headers), body))
                script.reply(self, body)

            def do_GET(self):
                script.seen.append((dict(self.headers), b""))
                script.reply(self, b"")

            def answer(self, status, content_type, body, **headers):
                self.send_response(status)
                if content_type:
                    self.send_header("Content-Type", content_type)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answers(self, messages, content_type="application/json", status=200, **headers):
        body = messages if isinstance(messages, bytes) else json.dumps(messages).encode()
        self.reply = lambda handler, _: handler.answer(status, content_type, body, **headers)

    def close(self):
        self.server.shutdown()


@pytest.fixture(scope="module")
def script():
    script = Script()
    yield script
    script.close()


@pytest.fixture(scope="module", params=["json", "sse"])
def server(request):
    server = ServerProcess(request.param)
    yield server
    server.close()


@pytest.fixture(scope="module")
def farebox(binary, server, script, tmp_path_factory):
    proxy = Farebox(
        binary, tmp_path_factory.mktemp("farebox"), server.port, configuration=CONFIGURATION.replace("@SCRIPT@", str(script.port)))
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture(params=["auto", "legacy"])
def mode(request):
    """How the client connects: without a handshake, as since 2026-07-28, or with one."""
    return request.param


def run(farebox, mode, body):
    async def main():
        async with Client(f"{farebox.origin}/mcp", mode=mode) as client:
            return await body(client)

    return asyncio.run(asyncio.wait_for(main(), 60))


def receipt(result):
    return (result.meta or {}).get(RECEIPT)


def text(result):
    assert not result.is_error, result
    return result.content[0].text


def managed(result):
    """What a request that manages a session was told. The tool was not run, so its result is none of the tool's."""
    assert result.is_error
    return json.loads(result.content[0].text)


# With the real client and server.


def test_free_calls_pass(farebox, mode):
    async def body(client):
        assert text(await client.call_tool("free", {"text": "a"})) == "free a"
        result = await client.read_resource("file:///readme.txt")
        assert result.contents[0].text == "the readme" and receipt(result) is None

    run(farebox, mode, body)


def test_charge(farebox, server, wallet, mode):
    async def body(client):
        before = server.counts().get("search", 0)
        error = await challenged(client.call_tool("search", {"query": "a"}))
        assert error.data["httpStatus"] == 402 and error.data["problem"]["type"].endswith("/payment-required")
        challenge = offer(error, "charge")
        assert challenge["request"]["amount"] == "10000"
        assert challenge["request"]["methodDetails"]["resource"]["url"] == f"{farebox.origin}/mcp#tools/call:search"
        assert server.counts().get("search", 0) == before
        progress = []

        async def note(*values):
            progress.append(values)

        paid = in_message(challenge, wallet.transfer(text_form(challenge)))
        result = await client.call_tool("search", {"query": "a"}, meta=paid, progress_callback=note)
        assert text(result) == "found a"
        told = receipt(result)
        assert told["status"] == "success" and told["method"] == "prepaid" and told["challengeId"] == challenge["id"]
        assert told["amount"] == "10000" and told["resource"]["url"].endswith("#tools/call:search") and told["sig"]
        assert server.counts()["search"] == before + 1
        # The same again is refused, without an invitation to pay again, and runs nothing.
        replayed = await challenged(client.call_tool("search", {"query": "a"}, meta=paid), -32000)
        assert replayed.data["httpStatus"] == 403 and "challenges" not in replayed.data
        assert server.counts()["search"] == before + 1
        return progress

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 10_000


def test_a_challenge_buys_no_other_tool(farebox, server, wallet, mode):
    async def body(client):
        before = server.counts()
        cheap = offer(await challenged(client.call_tool("db.read", {"key": "k"})), "charge")
        paid = in_message(cheap, wallet.transfer(text_form(cheap)))
        # Neither a dearer one, nor one of the same price and pattern.
        for name, arguments in (("search", {"query": "x"}), ("db.write", {"key": "k"})):
            error = await challenged(client.call_tool(name, arguments, meta=paid), -32043)
            assert error.data["failure"]["reason"] == "invalid-challenge" and error.data["challenges"]
        assert server.counts() == before
        assert text(await client.call_tool("db.read", {"key": "k"}, meta=paid)) == "read k"

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 2_000


def test_altered_challenges_are_refused(farebox, wallet, mode):
    async def body(client):
        challenge = offer(await challenged(client.call_tool("search", {"query": "x"})), "charge")
        cheaper = {**challenge, "request": {**challenge["request"], "amount": "1"}}
        error = await challenged(client.call_tool("search", {"query": "x"}, meta=in_message(cheaper, wallet.transfer(text_form(cheaper)))), -32043)
        assert error.data["failure"]["reason"] == "invalid-challenge"
        stranger = PrepaidWallet.new()
        error = await challenged(
            client.call_tool("search", {"query": "x"}, meta=in_message(challenge, stranger.transfer(text_form(challenge)))), -32043)
        assert error.data["failure"]["reason"] == "payment-insufficient"
        for malformed in ({}, [], {"challenge": challenge}, {"challenge": "x", "payload": {}}, "Payment abc", 5):
            await challenged(client.call_tool("search", {"query": "x"}, meta={CREDENTIAL: malformed}), -32602)

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000


def test_session(farebox, server, wallet, mode):
    secret = SessionSecret.new()

    async def body(client):
        payer = Payer(client, wallet)
        result, challenge = await payer.open("search", {"query": "a"}, secret, 25_000)
        assert text(result) == "found a"
        assert receipt(result)["sessionId"] == secret.session_id and receipt(result)["spent"] == "10000" and receipt(result)["remaining"] == "15000"
        result = await client.call_tool("search", {"query": "b"}, meta=payer.bearer(challenge, secret))
        assert text(result) == "found b" and receipt(result)["remaining"] == "5000"
        # The budget does not pay for a third: nothing runs, and it is said what is needed.
        before = server.counts()["search"]
        error = await challenged(client.call_tool("search", {"query": "c"}, meta=payer.bearer(challenge, secret)), -32043)
        assert error.data["failure"]["reason"] == "insufficient-balance" and server.counts()["search"] == before
        status = managed(await client.call_tool("search", {"query": "c"}, meta=payer.bearer(challenge, secret, "status")))
        assert status["remaining"] == "5000" and status["state"] == "open"
        fresh = offer(error, "session")
        result = await client.call_tool("search", {"query": "c"}, meta=payer.top_up(fresh, secret, 10_000))
        assert managed(result) == {"status": "ok"} and receipt(result)["remaining"] == "15000"
        assert server.counts()["search"] == before
        assert text(await client.call_tool("search", {"query": "c"}, meta=payer.bearer(challenge, secret))) == "found c"
        # Another call of the session's is added by its own challenge.
        other = offer(await challenged(client.call_tool("db.read", {"key": "k"})), "session")
        result = await client.call_tool("db.read", {"key": "k"}, meta=payer.bearer(other, secret))
        assert text(result) == "read k" and receipt(result)["spent"] == "32000"
        closed = await client.call_tool("search", {"query": "x"}, meta=payer.bearer(challenge, secret, "close"))
        assert managed(closed) == {"status": "closed", "spent": "32000", "refunded": "3000"}
        error = await challenged(client.call_tool("search", {"query": "x"}, meta=payer.bearer(challenge, secret)), -32000)
        assert error.data["httpStatus"] == 410

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 32_000


def test_failures_cost_nothing(farebox, server, wallet, mode):
    secret = SessionSecret.new()

    async def body(client):
        payer = Payer(client, wallet)
        before = server.counts().get("fails", 0)
        challenge = offer(await challenged(client.call_tool("fails", {"how": "raise"})), "charge")
        paid = in_message(challenge, wallet.transfer(text_form(challenge)))
        result = await client.call_tool("fails", {"how": "raise"}, meta=paid)
        assert result.is_error and receipt(result) is None
        # The credential may be tried again, and then pays.
        result = await client.call_tool("fails", {"how": "well"}, meta=paid)
        assert text(result) == "well" and receipt(result)
        assert server.counts()["fails"] == before + 2
        result, challenge = await payer.open("fails", {"how": "well"}, secret, 30_000)
        result = await client.call_tool("fails", {"how": "raise"}, meta=payer.bearer(challenge, secret))
        assert result.is_error and receipt(result) is None
        closed = await client.call_tool("fails", {"how": "well"}, meta=payer.bearer(challenge, secret, "close"))
        assert managed(closed)["spent"] == "10000"

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 20_000


def test_forged_receipts_are_removed(farebox, wallet, mode):
    async def body(client):
        result = await Payer(client, wallet).charge("forges")
        assert receipt(result)["method"] == "prepaid" and result.meta["other"] == 1 and "x402/payment-response" not in result.meta

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 5_000


def test_credentials_never_arrive(farebox, wallet, mode):
    async def body(client):
        result = await Payer(client, wallet).charge("meta")
        assert "org.paymentauth" not in text(result)
        result = await client.call_tool("free", {"text": "x"}, meta={CREDENTIAL: {"challenge": {}}, "mine": 1})
        assert text(result) == "free x"

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 1_000


def test_lists_show_prices(farebox, mode):
    async def body(client):
        tools = {tool.name: (tool.meta or {}).get(INFORMATION) for tool in (await client.list_tools()).tools}
        assert tools["free"] is None
        assert {(o["intent"], o["amount"], o["currency"], o["method"]) for o in tools["search"]["offers"]} == {
            ("charge", "10000", "usdc", "prepaid"), ("session", "10000", "usdc", "prepaid")}
        assert tools["db.write"]["offers"][0]["description"] == "0.002 USDC per call"
        resources = {str(r.uri): (r.meta or {}).get(INFORMATION) for r in (await client.list_resources()).resources}
        assert resources["file:///readme.txt"] is None and resources["file:///reports/today.txt"]["offers"][0]["amount"] == "3000"
        prompts = (await client.list_prompts()).prompts
        assert prompts[0].meta[INFORMATION]["offers"][0]["amount"] == "4000"
        capabilities = client.server_capabilities
        assert capabilities.experimental["payment"] == {"methods": {"prepaid": {"intents": ["charge", "session"]}}}

    run(farebox, mode, body)


def test_resources_and_prompts(farebox, wallet, mode):
    async def body(client):
        challenge = offer(await challenged(client.read_resource("file:///reports/today.txt")), "charge")
        paid = in_message(challenge, wallet.transfer(text_form(challenge)))
        result = await client.read_resource("file:///reports/today.txt", meta=paid)
        assert result.contents[0].text == "the report" and receipt(result)["amount"] == "3000"
        # Other spellings of the same are no way around the price.
        for uri in ("FILE:///reports/today.txt", "file:///x/../reports/today.txt", "file:///reports%2Ftoday.txt", "file://localhost/reports/today.txt"):
            await challenged(client.read_resource(uri), -32602)
        challenge = offer(await challenged(client.get_prompt("summary", {"topic": "x"})), "charge")
        result = await client.get_prompt("summary", {"topic": "x"}, meta=in_message(challenge, wallet.transfer(text_form(challenge))))
        assert "Summarise x." in result.messages[0].content.text and receipt(result)["amount"] == "4000"

    run(farebox, mode, body)
    assert farebox.balance(wallet) == 10_000_000 - 7_000


def test_one_of_many_replays_is_served(farebox, server, wallet):
    async def body(client):
        before = server.counts().get("search", 0)
        challenge = offer(await challenged(client.call_tool("search", {"query": "r"})), "charge")
        paid = in_message(challenge, wallet.transfer(text_form(challenge)))
        results = await asyncio.gather(*(client.call_tool("search", {"query": "r"}, meta=paid) for _ in range(8)), return_exceptions=True)
        assert len([r for r in results if not isinstance(r, Exception)]) == 1
        assert {r.error.data["httpStatus"] for r in results if isinstance(r, Exception)} <= {403, 409}
        assert server.counts()["search"] == before + 1

    run(farebox, "auto", body)
    assert farebox.balance(wallet) == 10_000_000 - 10_000


# Over raw connections, with an upstream that says whatever it is told.

MCP = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def call(name="paid", id=1, meta=None, **more):
    params = {"name": name, "arguments": {}}
    if meta is not None:
        params["_meta"] = meta
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params, **more}


def result(id=1, **members):
    return {"jsonrpc": "2.0", "id": id, "result": {"content": [], **members}}


def post(farebox, message, path="/script", headers=MCP):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    with farebox.connection() as connection:
        return fetch(connection, "POST", path, headers, body)


def charge_meta(farebox, wallet, message, path="/script"):
    """Pays for a message by charge, as `_meta` carries it."""
    answer = post(farebox, message, path).json()
    answer = answer[0] if isinstance(answer, list) else answer
    challenge = next(c for c in answer["error"]["data"]["challenges"] if c["intent"] == "charge")
    return in_message(challenge, wallet.transfer(text_form(challenge)))


def test_ids_are_echoed_exactly(farebox):
    for id in ('1', '1.0', '-0', '1e2', '12345678901234567890', '"x"', '"\\u00e9\\""', 'null'):
        answer = post(farebox, b'{"jsonrpc":"2.0","id":' + id.encode() + b',"method":"tools/call","params":{"name":"paid"}}')
        assert answer.status == 200 and f'"id":{id},'.encode() in answer.body, (id, answer.body[:80])
        assert answer.json()["error"]["code"] == -32042
        assert answer.get("cache-control") == "no-store" and answer.get("www-authenticate") is None


def test_hostile_messages(farebox, script):
    script.answers(result())
    script.seen.clear()
    good = json.dumps(call())
    cases = [
        (b"", 400, -32600), (b"{", 400, -32700), (b"\xff", 400, -32700), (b"[]", 400, -32600), (b"5", 400, -32600),
        (b"[" * 5000, 400, -32700), (good[:-1].encode() + b',"method":"ping"}', 400, -32600),
        (good[:-1].encode() + b',"Method":"ping"}', 400, -32600),
        (good.replace('"name"', '"name": "gift", "name"').encode(), 400, -32600),
        (good.replace('"name"', '"NAME": "gift", "name"').encode(), 400, -32600),
        (good.replace('"id": 1', '"id": [1]').encode(), 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}', 400, -32602),
        (json.dumps([call(id=1), call(id=1)]).encode(), 400, -32600),
        (json.dumps([call(id=n, name="gift") for n in range(65)]).encode(), 400, -32600),
        (json.dumps(call(meta={CREDENTIAL: {}}, _meta={CREDENTIAL: {}})).encode(), 400, -32600),
    ]
    for body, status, code in cases:
        answer = post(farebox, body)
        assert (answer.status, answer.json()["error"]["code"]) == (status, code), (body[:80], answer.status, answer.body[:200])
    large = json.dumps(call(meta={CREDENTIAL: {"challenge": {"id": "a" * 70_000}}})).encode()
    answer = post(farebox, large)
    assert answer.status == 200 and answer.json()["error"]["code"] == -32602
    assert post(farebox, json.dumps(call(more="a" * 140_000)).encode()).status == 413
    for content_type in ("text/plain", "application/json; charset=utf-7", "application/jsonp", "application/json; a=b"):
        assert post(farebox, json.dumps(call()).encode(), headers={"Content-Type": content_type}).status == 415
    assert post(farebox, call(), headers={**MCP, "Content-Type": 'application/json; charset="UTF-8"'}).status == 200
    assert post(farebox, json.dumps(call()).encode(), headers={**MCP, "Content-Encoding": "gzip"}).status == 415
    assert post(farebox, json.dumps(call()).encode(), headers={"Accept": "*/*"}).status == 415
    for field in ({"Mcp-Method": "ping"}, {"Mcp-Name": "gift"}, {"Mcp-Name": "=?base64?Z2lmdA==?="}):
        answer = post(farebox, call(), headers={**MCP, **field})
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32020)
    with farebox.connection() as connection:
        assert fetch(connection, "PUT", "/script", MCP, json.dumps(call()).encode()).status == 405
    with farebox.connection() as connection:
        assert fetch(connection, "GET", "/script", MCP, json.dumps(call()).encode()).status == 400
    assert script.seen == []
    right = {"Mcp-Method": "tools/call", "Mcp-Name": "=?base64?Z2lmdA==?="}
    assert post(farebox, call("gift"), headers={**MCP, **right}).status == 200


def test_notifications_are_dropped_where_they_would_cost(farebox, script):
    script.answers(b"", None, 202)
    script.seen.clear()
    paid = call()
    del paid["id"]
    answer = post(farebox, paid)
    assert answer.status == 202 and answer.body == b"" and script.seen == []
    assert post(farebox, {"jsonrpc": "2.0", "method": "notifications/initialized"}).status == 202 and len(script.seen) == 1
    script.answers([result(7)])
    assert post(farebox, [paid, call("gift", id=7)]).status == 200
    assert json.loads(script.seen[-1][1]) == [call("gift", id=7)]


def test_messages_arrive_octet_for_octet(farebox, script, wallet):
    script.answers(result())
    free = b' {"jsonrpc": "2.0","id": 1e0 ,"method":"tools/call", "params":{"name":"gift","arguments":{"x":1.50,"y":"\\u00e9\xc3\xa9"}}} '
    assert post(farebox, free).status == 200 and script.seen[-1][1] == free
    meta = charge_meta(farebox, wallet, call())
    text = json.dumps(call(meta={"a": 1, **meta, "b": 2}))
    assert post(farebox, text.encode()).status == 200
    assert json.loads(script.seen[-1][1]) == call(meta={"a": 1, "b": 2})
    headers = {name.lower(): value for name, value in script.seen[-1][0].items()}
    assert headers["accept-encoding"] == "identity" and "authorization" not in headers


def test_batches(farebox, script, wallet):
    """Nothing of a batch runs unless all of its calls are paid for, each by a credential of its own."""
    script.answers([result(3), result(2), result(1)])
    script.seen.clear()
    batch = [call(id=1), call("gift", id=2), call("other", id=3)]
    answer = {m["id"]: m["error"] for m in post(farebox, batch).json()}
    assert answer[1]["code"] == -32042 and answer[3]["code"] == -32042 and answer[2]["code"] == -32000
    assert answer[1]["data"]["challenges"][0]["id"] != answer[3]["data"]["challenges"][0]["id"]
    metas = {id: in_message(c, wallet.transfer(text_form(c))) for id in (1, 3) for c in [next(c for c in answer[id]["data"]["challenges"] if c["intent"] == "charge")]}
    # One of two: the one that was paid is given back, and may be sent again.
    answer = {m["id"]: m["error"] for m in post(farebox, [call(id=1, meta=metas[1]), call("gift", id=2), call("other", id=3)]).json()}
    assert answer[1]["code"] == -32000 and answer[3]["code"] == -32042
    assert script.seen == [] and farebox.balance(wallet) == 10_000_000
    paid = [call(id=1, meta=metas[1]), call("gift", id=2), call("other", id=3, meta=metas[3])]
    answer = post(farebox, paid)
    results = {m["id"]: m["result"] for m in answer.json()}
    assert results[1]["_meta"][RECEIPT]["resource"]["url"].endswith("call:paid") and results[3]["_meta"][RECEIPT]["resource"]["url"].endswith("call:other")
    assert "_meta" not in results[2] and len(script.seen) == 1
    assert farebox.balance(wallet) == 10_000_000 - 20_000
    # The same credential for two calls.
    meta = charge_meta(farebox, wallet, [call(id=1)])
    answer = {m["id"]: m["error"] for m in post(farebox, [call(id=1, meta=meta), call(id=2, meta=meta)]).json()}
    assert answer[2]["data"]["httpStatus"] == 409 and len(script.seen) == 1
    assert farebox.balance(wallet) == 10_000_000 - 20_000


def test_each_call_of_a_batch_costs_by_its_own_response(farebox, script, wallet):
    script.answers([result(1, isError=True), {"jsonrpc": "2.0", "id": 4, "error": {"code": -1, "message": "no"}}, result(2)])
    batch = [call(id=1), call(id=2), call(id=3), call(id=4)]
    answer = {m["id"]: m["error"] for m in post(farebox, batch).json()}
    for message in batch:
        challenge = next(c for c in answer[message["id"]]["data"]["challenges"] if c["intent"] == "charge")
        message["params"]["_meta"] = in_message(challenge, wallet.transfer(text_form(challenge)))
    messages = {m["id"]: m for m in post(farebox, batch).json()}
    assert RECEIPT in messages[2]["result"]["_meta"] and "_meta" not in messages[1]["result"]
    assert farebox.balance(wallet) == 10_000_000 - 10_000


def test_what_an_answer_costs(farebox, script, wallet):
    """Errors cost nothing, nor does what cannot be read; an answer that comes elsewhere costs what it costs."""
    spent = 0
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -5, "message": "no"}}
    more = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "input_required", "inputRequests": {}}}
    cases = [
        (error, "application/json", 200, 0), (more, "application/json", 200, 0), (b"{", "application/json", 200, 0),
        (b"hello", "text/plain", 200, 0), (b"x" * 70_000, "application/json", 200, 0), (error, "application/json", 500, 0),
        ({"jsonrpc": "2.0", "method": "x"}, "application/json", 200, 0), (b"", None, 202, 10_000), (result(), "application/json", 200, 10_000),
        (b"data: " + json.dumps(result()).encode() + b"\n\n", "text/event-stream", 200, 10_000),
        (b"data: " + json.dumps(error).encode() + b"\n\n", "text/event-stream", 200, 0),
        (b": nothing\n\n", "text/event-stream", 200, 0),
        # The client can fetch the rest by the event's id, from a stream that costs nothing.
        (b"id: 1\ndata:\n\n", "text/event-stream", 200, 10_000),
        (b"data: " + b"x" * 70_000, "text/event-stream", 200, 0),
    ]
    for messages, content_type, status, cost in cases:
        meta = charge_meta(farebox, wallet, call())
        script.answers(messages, content_type, status)
        answer = post(farebox, call(meta=meta))
        spent += cost
        assert farebox.balance(wallet) == 10_000_000 - spent, (messages, content_type, status, answer.status, answer.body[:300])
        if cost == 0:
            assert b"org.paymentauth/receipt" not in answer.body and answer.get("payment-receipt") is None


@pytest.mark.parametrize("end", [b"\n\n", b"\n"])
def test_what_cannot_be_read_is_not_given_away(farebox, script, wallet, end):
    """A response in an event stream that lenient clients could read all the same: without a price it passes, with one nobody gets it."""
    deep = b"[" * 100 + b"]" * 100
    texts = [json.dumps(result(text="\ud800")).encode(), b'{"jsonrpc":"2.0","id":1,"result":{"deep":' + deep + b"}}"]
    if end == b"\n":
        texts.append(json.dumps(result()).encode())
    for text in texts:
        script.answers(b": hello\n\ndata: " + text + end, "text/event-stream")
        assert text in post(farebox, call("gift")).body
        answer = post(farebox, call(meta=charge_meta(farebox, wallet, call())))
        assert b"result" not in answer.body and answer.complete == (end == b"\n"), (text, answer)
    assert farebox.balance(wallet) == 10_000_000


def test_a_route_may_charge_for_errors(farebox, script, wallet):
    script.answers(result(isError=True))
    answer = post(farebox, call(meta=charge_meta(farebox, wallet, call(), "/strict")), "/strict").json()
    assert answer["result"]["isError"] and answer["result"]["_meta"][RECEIPT]["status"] == "success"
    assert farebox.balance(wallet) == 10_000_000 - 10_000


def test_plain_http_clients_pay_in_fields(farebox, script, wallet):
    script.answers(result(_meta={RECEIPT: {"forged": 1}}))
    plain = {"Content-Type": "application/json"}
    unpaid = post(farebox, call(), headers=plain)
    assert unpaid.status == 402 and unpaid.json()["error"]["code"] == -32042 and len(parse_challenges(unpaid.headers)) == 2
    credential = wallet.transfer(challenge_of(unpaid, "charge"))
    paid = post(farebox, call(), headers={**plain, "Authorization": credential})
    assert paid.status == 200 and paid.receipt()["amount"] == "10000" and RECEIPT not in paid.json()["result"]["_meta"]
    replayed = post(farebox, call(), headers={**MCP, "Authorization": credential})
    assert replayed.status == 403 and replayed.problem() == "already-paid"
    # For another tool, for several calls, or beside one in the message, it is refused.
    fresh = wallet.transfer(challenge_of(post(farebox, call(), headers=plain), "charge"))
    assert post(farebox, call("other"), headers={**plain, "Authorization": fresh}).status == 402
    assert post(farebox, [call(id=1), call(id=2)], headers={**plain, "Authorization": fresh}).status == 400
    assert post(farebox, call(meta={CREDENTIAL: {}}), headers={**plain, "Authorization": fresh}).status == 400
    script.answers(b"data: " + json.dumps(result()).encode() + b"\n\n", "text/event-stream")
    streamed = post(farebox, call(), headers={**MCP, "Authorization": fresh})
    event = next(block for block in streamed.body.split(b"\n\n") if block.startswith(b"event: payment-receipt"))
    assert json.loads(b64u_decode(event.split(b"data: ")[1].decode()))["amount"] == "10000"
    assert farebox.balance(wallet) == 10_000_000 - 20_000


def test_sessions_of_plain_http_clients(farebox, script, wallet):
    script.answers(result())
    plain = {"Content-Type": "application/json"}
    secret = SessionSecret.new()
    challenge = challenge_of(post(farebox, call(), headers=plain), "session")
    assert post(farebox, call(), headers={**plain, "Authorization": wallet.open(challenge, secret, 50_000)}).status == 200
    assert post(farebox, call(), headers={**plain, "Prepaid-Session": secret.short_form}).receipt()["spent"] == "20000"
    # A token that others use too is never taken for the session's.
    shared = {**MCP, "Authorization": "Bearer everybodys"}
    payer = Payer(None, wallet)
    found = next(c for c in post(farebox, call(), headers=shared).json()["error"]["data"]["challenges"] if c["intent"] == "session")
    assert "result" in post(farebox, call(meta=payer.bearer(found, secret)), headers=shared).json()
    assert post(farebox, call(), headers=shared).json()["error"]["code"] == -32042
    with farebox.connection() as connection:
        closed = fetch(connection, "POST", "/script", {"Authorization": wallet.bearer(challenge, secret, "close")})
    assert closed.status == 200 and closed.json() == {"status": "closed", "spent": "30000", "refunded": "20000"}
    assert farebox.balance(wallet) == 10_000_000 - 30_000


def test_streams_pass_and_their_receipts_are_ours(farebox, script):
    forged = {**result(), "result": {"_meta": {RECEIPT: {}}, "x": 1}}
    stream = b": hello\r\n\r\nid: 4\r\nevent: message\r\ndata: " + json.dumps(forged).encode() + b"\r\n\r\nevent: payment-receipt\r\ndata: x\r\n\r\n"
    script.answers(stream, "text/event-stream")
    with farebox.connection() as connection:
        answer = fetch(connection, "GET", "/script", {"Accept": "text/event-stream"})
    expected = json.dumps(forged).replace(json.dumps({RECEIPT: {}}), "{}").encode()
    assert answer.body == stream.replace(json.dumps(forged).encode(), expected).replace(b"payment-receipt\r\ndata: x", b"foreign-receipt\r\ndata: x")


def test_long_answers_that_nobody_paid_for_pass(farebox, script):
    long = json.dumps(result(text="a" * 200_000)).encode()
    chunked = lambda body: lambda handler, _: (
        handler.send_response(200), handler.send_header("Content-Type", "application/json"), handler.send_header("Transfer-Encoding", "chunked"),
        handler.end_headers(), [handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part)) for part in (body[:70_000], body[70_000:], b"")])
    script.answers(long)
    assert post(farebox, call("gift")).body == long
    script.reply = chunked(long)
    assert post(farebox, call("gift")).body == long
    events = b"data: " + long + b"\n\n: more\n\n"
    script.answers(events, "text/event-stream")
    assert post(farebox, call("gift")).body == events


@pytest.mark.parametrize("resets", [True, False])
def test_who_leaves_has_paid(farebox, script, wallet, resets):
    """A client that goes before its response is there does not get it for nothing: it may ask for it elsewhere."""
    release = threading.Event()

    def slowly(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n')
        handler.wfile.flush()
        release.wait(10)
        try:
            handler.wfile.write(b"data: " + json.dumps(result()).encode() + b"\n\n")
        except OSError:
            pass
        handler.close_connection = True

    meta = charge_meta(farebox, wallet, call())
    script.reply = slowly
    with farebox.connection() as connection:
        connection.request("POST", "/script", MCP, json.dumps(call(meta=meta)).encode())
        assert connection.head().status == 200
        assert b"progress" in next(connection.chunks())
        if resets:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if not resets:
        release.set()
    # The credential is used up: the hold was settled, not given back.
    deadline = time.monotonic() + 10
    while "already-paid" not in (answer := post(farebox, call(meta=meta)).body.decode()) and time.monotonic() < deadline:
        time.sleep(0.1)
    release.set()
    assert "already-paid" in answer and farebox.balance(wallet) == 10_000_000 - 10_000


def test_calls_over_http2(farebox, script, wallet):
    with H2Connection(farebox.port) as connection:
        for content_type, body in (("application/json", json.dumps(result()).encode()), ("text/event-stream", b"data: " + json.dumps(result()).encode() + b"\n\n")):
            script.answers(body, content_type)
            unpaid = fetch(connection, "POST", "/script", MCP, json.dumps(call()).encode())
            assert unpaid.status == 200 and unpaid.json()["error"]["code"] == -32042
            challenge = next(c for c in unpaid.json()["error"]["data"]["challenges"] if c["intent"] == "charge")
            paid = call(meta=in_message(challenge, wallet.transfer(text_form(challenge))))
            assert RECEIPT.encode() in fetch(connection, "POST", "/script", MCP, json.dumps(paid).encode()).body
    assert farebox.balance(wallet) == 10_000_000 - 20_000


def test_an_upstream_that_is_away(farebox, server, wallet):
    """Failures of the upstream's are told in messages too, and cost nothing."""
    script_port = free_port()
    configuration = CONFIGURATION.replace("@SCRIPT@", str(script_port))
    proxy = Farebox(farebox.binary, farebox.folder.parent / f"away-{script_port}", server.port, configuration=configuration)
    proxy.create_wallet(wallet, "1 USDC")
    meta = charge_meta(proxy, wallet, call())
    answer = post(proxy, call(meta=meta))
    assert answer.status == 502 and answer.json()["error"]["code"] == -32603 and answer.json()["id"] == 1
    assert proxy.balance(wallet) == 1_000_000
    proxy.stop()
    proxy.assert_books_balance()
