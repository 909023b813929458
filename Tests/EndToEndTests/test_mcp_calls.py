"""Calls of MCP endpoints that their clients cancel, and batches against rate limits."""

import json
import threading
import time

import pytest
from mcp_payer import RECEIPT

from harness import Farebox, fetch
from prepaid import PrepaidWallet
from test_mcp import CONFIGURATION, MCP, Script, call, charge_meta, post, result

FAILED = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32800, "message": "cancelled"}}
PRICE = 10_000


@pytest.fixture(scope="module")
def script():
    script = Script()
    yield script
    script.close()


def proxy(binary, folder, script, limits="challenges-per-second = 0\nfailures-per-second = 0"):
    configuration = CONFIGURATION.replace("@SCRIPT@", str(script.port)).replace("challenges-per-second = 0\nfailures-per-second = 0", limits)
    return Farebox(binary, folder, script.port, configuration=configuration)


@pytest.fixture(scope="module")
def farebox(binary, script, tmp_path_factory):
    farebox = proxy(binary, tmp_path_factory.mktemp("calls"), script)
    yield farebox
    farebox.stop()
    farebox.assert_books_balance()


@pytest.fixture
def wallet(farebox):
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "10 USDC")
    return wallet


class Running:
    """A paid call that is at its server, which answers by `end` once it is released."""

    def __init__(self, farebox, script, wallet, end, session="s1"):
        self.farebox, self.release, arrived = farebox, threading.Event(), threading.Event()
        self.session = {"Mcp-Session-Id": session} if session else {}
        meta = charge_meta(farebox, wallet, call())

        def reply(handler, body):
            if b"cancelled" in body or not body:
                return handler.answer(202, None, b"")
            arrived.set()
            self.release.wait(10)
            end(handler)

        script.reply = reply
        handler = script.server.RequestHandlerClass
        handler.do_DELETE = handler.do_GET
        self.answers = []
        headers = {**MCP, **self.session}
        self.thread = threading.Thread(target=lambda: self.answers.append(post(farebox, call(meta=meta), headers=headers)))
        self.thread.start()
        assert arrived.wait(10)

    def cancel(self, id=1, session=None):
        notification = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "enough"}}
        headers = {**MCP, **(self.session if session is None else {"Mcp-Session-Id": session})}
        assert post(self.farebox, notification, headers=headers).status == 202

    def finish(self):
        self.release.set()
        self.thread.join()
        return self.answers[0]


def error(handler):
    handler.answer(200, "application/json", json.dumps(FAILED).encode())


def stream(handler):
    handler.answer(200, "text/event-stream", b"data: " + json.dumps(FAILED).encode() + b"\n\n")


def nothing(handler):
    handler.answer(200, "text/event-stream", b": bye\n\n")


def gone(handler):
    handler.close_connection = True


def refused(handler):
    handler.answer(500, "application/json", json.dumps(FAILED).encode())


@pytest.mark.parametrize("end, costs", [(error, True), (stream, True), (nothing, True), (gone, True), (refused, False)])
def test_who_cancels_a_call_has_left_it(farebox, script, wallet, end, costs):
    """The server may have run it, so a cancellation costs what leaving costs: the head decides, and without one it is paid."""
    running = Running(farebox, script, wallet, end)
    running.cancel()
    answer = running.finish()
    assert answer.status in (200, 500, 502)
    deadline = time.monotonic() + 5
    while farebox.balance(wallet) != 10_000_000 - PRICE * costs and time.monotonic() < deadline:
        time.sleep(0.05)
    assert farebox.balance(wallet) == 10_000_000 - PRICE * costs


@pytest.mark.parametrize("end", [error, stream, nothing, gone])
@pytest.mark.parametrize("other", [{"id": 2}, {"id": "1"}, {"session": "s2"}, None])
def test_who_does_not_cancel_gets_failures_for_nothing(farebox, script, wallet, end, other):
    running = Running(farebox, script, wallet, end)
    if other:
        running.cancel(**other)
    running.finish()
    deadline = time.monotonic() + 5
    while farebox.balance(wallet) != 10_000_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert farebox.balance(wallet) == 10_000_000


def test_a_result_that_comes_all_the_same_is_delivered(farebox, script, wallet):
    running = Running(farebox, script, wallet, lambda handler: handler.answer(200, "application/json", json.dumps(result()).encode()))
    running.cancel()
    assert running.finish().json()["result"]["_meta"][RECEIPT]["amount"] == str(PRICE)
    assert farebox.balance(wallet) == 10_000_000 - PRICE


def test_calls_without_a_session_are_their_addresss(farebox, script, wallet):
    running = Running(farebox, script, wallet, error, session=None)
    running.cancel()
    running.finish()
    assert farebox.balance(wallet) == 10_000_000 - PRICE


def test_who_ends_the_session_has_left_its_calls(farebox, script, wallet):
    running = Running(farebox, script, wallet, error)
    with farebox.connection() as connection:
        assert fetch(connection, "DELETE", "/script", {"Mcp-Session-Id": "s1"}).status == 202
    running.finish()
    assert farebox.balance(wallet) == 10_000_000 - PRICE


def test_a_batch_counts_as_its_calls(binary, script, tmp_path_factory):
    farebox = proxy(binary, tmp_path_factory.mktemp("rates"), script, 'address = "1/min burst 12"')
    script.answers([result(1)])
    batch = [call("gift", id=n) for n in range(5)]
    assert [post(farebox, batch).status for _ in range(3)] == [200, 200, 429]
    # What was refused has used up one place, not five.
    assert post(farebox, call("gift")).status == 200
    refused = post(farebox, call("gift"))
    assert refused.status == 429 and int(refused.get("retry-after")) > 0
    farebox.stop()


@pytest.mark.parametrize("name", ["gift", "paid"])
def test_a_batch_counts_against_its_routes_rate(binary, script, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("rates")
    configuration = CONFIGURATION.replace("@SCRIPT@", str(script.port)).replace('answer-limit = "64 KiB"', 'answer-limit = "64 KiB"\nrate = "1/min burst 7"')
    farebox = Farebox(binary, folder, script.port, configuration=configuration)
    script.answers([result(1)])
    script.seen.clear()
    batch = [call("gift", id=n) for n in range(4)] + [call(name, id=9)]
    first, second = post(farebox, batch), post(farebox, batch)
    assert (first.status, second.status) == (200, 429) and len(script.seen) == (1 if name == "gift" else 0)
    farebox.stop()
