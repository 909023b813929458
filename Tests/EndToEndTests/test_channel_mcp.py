"""Sessions over payment channels for calls of MCP: vouchers, openings, top-ups and closes in `_meta`."""

import pytest
import requests

from chain.credentials import EvmChannel, EvmWallet
from channelstage import CHANNEL_SHOP, DEPOSIT, WATCH_SECONDS, ChannelStage, channel_receipt
from mcp_payer import RECEIPT, in_message, text_form
from paystage import PRICE, poll
from test_mcp import Script, call, post, result

ROUTES = """
[[upstream]]
name = "script"
url = "http://127.0.0.1:@SCRIPT@"

[[route]]
id = "tools"
path = "/mcp"
type = "mcp"
upstream = "script"
rails = ["prepaid", "evm:base-sepolia"]
sell = ["session"]

[route.calls]
"tools/call:paid" = "0.001 USDC per call"
"tools/call:dear" = "0.005 USDC per call"
"""


@pytest.fixture(scope="module")
def script():
    script = Script()
    yield script
    script.close()


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, script, tmp_path_factory):
    shop = CHANNEL_SHOP + ROUTES.replace("@SCRIPT@", str(script.port))
    stage = ChannelStage(binary, upstream, tmp_path_factory.mktemp("mcp"), node, usdc, rich, shop=shop)
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def answers(script):
    script.answers(result())


def sent(stage, meta=None, name="paid", id=1):
    return post(stage.farebox, call(name, id=id, meta=meta), "/mcp").json()


def offer(answer, code=-32042):
    assert answer["error"]["code"] == code, answer
    (challenge,) = [c for c in answer["error"]["data"]["challenges"] if c["method"] == "evm"]
    assert challenge["intent"] == "session"
    return challenge


class Payer:
    """A payer who opens a channel by his first call."""

    def __init__(self, stage, name="paid", amount=PRICE):
        self.stage = stage
        self.challenge = offer(sent(stage, name=name))
        self.wallet = EvmWallet(stage.payer())
        self.channel = EvmChannel(self.wallet, text_form(self.challenge), DEPOSIT)
        self.opening = in_message(self.challenge, self.channel.open(text_form(self.challenge), "authorization", amount))

    def meta(self, amount, action="voucher", challenge=None):
        challenge = challenge or self.challenge
        return in_message(challenge, self.channel.voucher(text_form(challenge), amount, action))


def told(answer):
    assert "result" in answer, answer
    return answer["result"]["_meta"][RECEIPT]


def test_a_session_pays_for_calls_from_its_opening_to_its_close(stage, script):
    before = len(script.seen)
    payer = Payer(stage)
    receipt = told(sent(stage, payer.opening))
    assert (receipt["acceptedCumulative"], receipt["spent"]) == (str(PRICE), str(PRICE))
    for number in range(2, 5):
        receipt = told(sent(stage, payer.meta(number * PRICE), id=number))
        assert receipt["spent"] == str(number * PRICE)
    # What is spent buys nothing more, and the next voucher is asked for.
    refused = sent(stage, payer.meta(4 * PRICE))
    assert offer(refused, -32043) and refused["error"]["data"]["problem"]["requiredCumulative"] == str(5 * PRICE), refused
    # Another tool at its own price, by its own challenge.
    dear = offer(sent(stage, name="dear"))
    assert told(sent(stage, payer.meta(9 * PRICE, challenge=dear), "dear"))["spent"] == str(9 * PRICE)
    assert len(script.seen) == before + 5 and not any(b"cumulativeAmount" in body for _, body in script.seen[before:])
    standing = stage.escrow.call("getChannel", payer.channel.id)
    assert standing[4] == DEPOSIT and not standing[7]
    # What manages the session is answered in the call's place.
    fresh = offer(sent(stage))
    added = sent(stage, in_message(fresh, payer.channel.top_up(text_form(fresh), 5_000)))
    assert "result" in added, added
    assert added["result"]["isError"] and told(added)["spent"] == str(9 * PRICE), added
    assert stage.escrow.call("getChannel", payer.channel.id)[4] == DEPOSIT + 5_000
    closed = sent(stage, payer.meta(9 * PRICE, "close"))
    assert closed["result"]["isError"] and told(closed)["txHash"], closed
    assert stage.escrow.call("getChannel", payer.channel.id)[7] and len(script.seen) == before + 5
    assert sent(stage, payer.meta(10 * PRICE))["error"]["data"]["httpStatus"] == 410


def test_calls_that_fail_cost_nothing(stage, script):
    payer = Payer(stage)
    script.answers(result(isError=True))
    assert sent(stage, payer.opening)["result"]["isError"]
    script.answers(result())
    assert told(sent(stage, payer.meta(PRICE)))["spent"] == str(PRICE)


def test_calls_in_a_batch_are_not_paid_by_channels(stage, script):
    payer, before = Payer(stage), len(script.seen)
    refused = lambda batch: [answer["error"]["data"]["httpStatus"] for answer in post(stage.farebox, batch, "/mcp").json()]
    assert refused([call(id=1, meta=payer.opening)]) == [400]
    value = payer.channel.open(text_form(payer.challenge), "authorization", PRICE)
    assert requests.post(stage.farebox.origin + "/mcp", json=[call()], headers={"Authorization": value}, timeout=10).status_code == 400
    assert not stage.farebox.command("payment", "list", "--open")["payments"]
    told(sent(stage, payer.opening))
    assert refused([call(id=number, meta=payer.meta(number * PRICE)) for number in (2, 3)]) == [400, 400] and len(script.seen) == before + 1


def test_fields_pay_for_calls_too(stage, script):
    """Clients of plain HTTP; and what manages a session comes without a message."""
    payer, url = Payer(stage), stage.farebox.origin + "/mcp"
    value = lambda amount, action="voucher": payer.channel.voucher(text_form(payer.challenge), amount, action)
    opened = requests.post(url, json=call(), headers={"Authorization": payer.channel.open(text_form(payer.challenge), "authorization", PRICE)}, timeout=40)
    assert opened.status_code == 200 and channel_receipt(opened.headers["Payment-Receipt"])["spent"] == str(PRICE), opened.text
    response = requests.post(url, json=call(), headers={"Authorization": value(2 * PRICE)}, timeout=40)
    assert response.status_code == 200 and channel_receipt(response.headers["Payment-Receipt"])["spent"] == str(2 * PRICE)
    closed = requests.post(url, headers={"Authorization": value(2 * PRICE, "close")}, timeout=40)
    assert closed.status_code == 204, (closed.status_code, closed.text)
    assert stage.escrow.call("getChannel", payer.channel.id)[7]


def test_the_books_say_what_the_chain_says(stage):
    poll(lambda: stage.booked == stage.received - stage.unbooked, WATCH_SECONDS, "agreement")
