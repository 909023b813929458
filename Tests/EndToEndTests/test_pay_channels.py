"""`farebox pay` by sessions over payment channels, against Farebox itself: opened, paid by vouchers, streamed, added to and closed; and what operators see of it."""

import json

import pytest

from chain.wallet import new_account
from channelstage import WATCH_SECONDS, ChannelStage
from paystage import PRICE, poll
from test_pay_chains import NOT_PAYABLE, OVER_LIMIT, OVER_MAXIMUM, Agent

DEPOSIT = "0.02 USDC"


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = ChannelStage(binary, upstream, tmp_path_factory.mktemp("pay-channels"), node, usdc, rich)
    yield stage
    stage.close()


class ChannelAgent(Agent):
    """The same, that trusts the stage's escrow."""

    def __init__(self, binary, folder, account, stage):
        super().__init__(binary, folder, account)
        self.stage = stage
        self.escrow = f"eip155:84532:{stage.escrow.address}"

    def ask(self, path, *arguments):
        return self("--rail", "evm:base-sepolia", "--escrow", self.escrow, *arguments, self.stage.farebox.origin + path)

    def session(self, path, *arguments):
        """Pays by a session, and gives what the JSON says of it."""
        body = self.folder / "body"
        done = self.ask(path, "--session", "--max", "0.1 USDC", "--deposit", DEPOSIT, "--json", "-o", body, *arguments)
        assert done.code == 0, done.err
        told = json.loads(done.out)
        return told, body.read_bytes()

    @property
    def channels(self):
        return json.loads(self("--sessions", "--json").out)

    @property
    def files(self):
        return [json.loads(path.read_text()) for path in (self.folder / "config" / "farebox" / "channels").glob("*.json")]

    def close(self):
        done = self("--close", "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture
def agent(binary, tmp_path, stage, usdc, rich):
    account = new_account()
    usdc.run(rich, "mint", account.address, 1_000_000)
    return ChannelAgent(binary, tmp_path, account, stage)


def standing(stage, channel):
    return stage.escrow.call("getChannel", bytes.fromhex(channel.removeprefix("0x")))


def test_a_channel_is_opened_once_and_closed_with_a_refund(stage, agent, usdc):
    first, _ = agent.session("/api/hello")
    assert (first["payment"], first["rail"], first["deposit"], first["signed"], first["spent"]) == ("session-opened", "evm", "20000", str(PRICE), str(PRICE))
    assert usdc.call("balanceOf", agent.account.address) == 1_000_000 - 20_000
    # Each call is a process of its own: what was signed is in a file.
    for count in (2, 3):
        told, _ = agent.session("/api/hello")
        assert (told["payment"], told["channel"], told["signed"], told["spent"]) == ("session", first["channel"], str(count * PRICE), str(count * PRICE))
    # Another path of the route is bought by the same channel, by a challenge of its own.
    told, _ = agent.session("/api/other")
    assert (told["channel"], told["signed"]) == (first["channel"], str(4 * PRICE))
    (kept,) = agent.channels
    assert (kept["channel"], kept["state"], kept["signed"], kept["spent"], kept["remaining"]) == (first["channel"], "open", "4000", "4000", "16000")
    (closed,) = agent.close()
    assert (closed["spent"], closed["refunded"]) == ("4000", "16000")
    assert stage.node.rpc("eth_getTransactionReceipt", closed["transaction"])["status"] == "0x1"
    assert usdc.call("balanceOf", agent.account.address) == 1_000_000 - 4 * PRICE
    assert agent.channels == [] and agent.files == []
    limits = json.loads(agent("--limits", "--json").out)
    assert limits["spentToday"] == {"usdc": "0.02"}


def test_only_what_is_trusted_gets_a_deposit(stage, agent):
    url = stage.farebox.origin + "/only/a"
    done = agent("--rail", "evm", "--max", "1 USDC", url)
    assert done.code == NOT_PAYABLE and f"--escrow eip155:84532:{stage.escrow.address}" in done.err
    quote = agent.ask("/only/a", "--dry-run")
    assert quote.code == 0 and b"evm session: 0.001 USDC per request on base-sepolia" in quote.out and stage.escrow.address.encode() in quote.out
    offers = json.loads(agent.ask("/only/a", "--quote", "--json").out)["offers"]
    assert [(offer["rail"], offer["intent"], offer["escrow"]) for offer in offers] == [("evm", "session", stage.escrow.address)]
    assert agent("--rail", "evm:base", "--escrow", agent.escrow, "--max", "1 USDC", url).code == NOT_PAYABLE
    assert agent.files == []


def test_limits_bound_deposits_and_what_is_signed(stage, agent):
    assert agent.ask("/only/a").code == OVER_MAXIMUM
    agent("--limit-session", "0.005 USDC")
    assert agent.ask("/only/a", "--max", "1 USDC", "--deposit", DEPOSIT).code == OVER_LIMIT
    agent("--limit-session", "none USDC")
    agent("--limit-recipient", "0x" + "11" * 20)
    assert agent.ask("/only/a", "--max", "1 USDC", "--deposit", DEPOSIT).code == OVER_LIMIT
    agent("--limit-recipient", "any")
    assert agent.files == []
    agent.session("/only/a")
    # What is signed for is bounded by the budget, whatever the channel holds.
    done = agent.ask("/only/a", "--budget", "0.0005 USDC", "--session")
    assert done.code == OVER_MAXIMUM, done.err
    (file,) = agent.files
    assert file["signed"] == str(PRICE)
    agent.close()


def test_the_deposit_is_added_to(stage, agent):
    options = ("--session", "--max", "0.1 USDC", "--deposit", "0.0015 USDC", "--step", "0.003 USDC")
    assert agent.ask("/api/a", *options).code == 0
    done = agent.ask("/api/a", "-v", *options)
    assert done.code == 0 and "topped up by 0.003 USDC, deposit now 0.0045 USDC" in done.err
    (kept,) = agent.channels
    assert (kept["deposit"], kept["signed"]) == ("4500", "2000")
    assert standing(stage, kept["channel"])[4] == 4500
    # Nothing more may leave for a call without --max, and what is deposited is used.
    for signed in ("3000", "4000"):
        assert agent.ask("/api/a", "--session").code == 0
        assert agent.files[0]["signed"] == signed
    assert agent.ask("/api/a", "--session").code == OVER_MAXIMUM
    (closed,) = agent.close()
    assert (closed["spent"], closed["refunded"]) == ("4000", "500")


def test_what_is_metered_is_signed_for_as_it_comes(stage, agent):
    told, body = agent.session("/files/bytes/200000")
    # 10000 base units a megabyte: 200 kB are 2000.
    assert len(body) == 200_000 and told["spent"] == "2000" and told["payment"] == "session-opened"
    assert 2000 <= int(told["signed"]) <= 2000 + 20_000
    again, body = agent.session("/files/bytes/200000")
    assert len(body) == 200_000 and again["spent"] == "4000"
    (closed,) = agent.close()
    assert (closed["spent"], closed["refunded"]) == ("4000", "16000")


def test_a_stream_asks_for_vouchers(stage, agent):
    done = agent.ask("/events/events/20", "-v", "--session", "--max", "0.1 USDC", "--deposit", DEPOSIT, "--step", "0.0005 USDC")
    assert done.code == 0, done.err
    # The proxy's own events stand in between those of the upstream; the last one is the receipt.
    assert done.out.count(b"event: payment-receipt") == 1 and "signed a voucher over" in done.err
    (kept,) = agent.channels
    spent, signed = int(kept["spent"]), int(kept["signed"])
    # A base unit an octet: nothing was paid that did not come, and little was signed beyond it.
    assert 500 < spent <= len(done.out) and spent <= signed <= spent + 2000
    done = agent.ask("/events/events/20", "--session", "--budget", "0.0006 USDC", "--step", "0.0005 USDC")
    assert done.code == OVER_MAXIMUM, (done.code, done.err)
    assert int(agent.files[0]["signed"]) <= max(signed, spent + 600)
    agent.close()


def test_operators_see_settle_and_close(stage, agent):
    told, _ = agent.session("/api/operators")
    channel = told["channel"]
    listed = [entry for entry in stage.farebox.command("channel", "list")["channels"] if entry["channel"] == channel]
    assert [(e["state"], e["deposit"], e["signed"], e["spent"], e["settled"], e["unsettled"]) for e in listed] == [("open", "20000", "1000", "1000", "0", "1000")]
    assert listed[0]["payer"] == agent.account.address.lower() and listed[0]["currency"] == "usdc@eip155:84532"
    settled = stage.farebox.command("channel", "settle", channel)
    assert settled["channel"] == channel
    poll(lambda: stage.farebox.command("channel", "show", channel)["settled"] == "1000", WATCH_SECONDS, "the settlement")
    assert standing(stage, channel)[5] == 1000
    # Nothing is left to settle, which is no error.
    assert stage.farebox.command("channel", "settle", channel)["unsettled"] == "0"
    stage.farebox.command("channel", "close", channel, "--yes")
    closed = poll(lambda: (view := stage.farebox.command("channel", "show", channel))["state"] == "closed" and view, WATCH_SECONDS, "the close")
    assert (closed["spent"], closed["settled"], closed["refunded"], closed["cause"]) == ("1000", "1000", "19000", "operator")
    assert standing(stage, channel)[7]
    # The agent finds its channel gone, and opens another one.
    again, _ = agent.session("/api/operators")
    assert again["channel"] != channel and again["payment"] == "session-opened"
    agent.close()


@pytest.mark.parametrize("command", ["show", "settle", "close"])
def test_an_unknown_channel_is_told_so(stage, command):
    done = stage.farebox.run("channel", command, "ab" * 32, *(["--yes"] if command == "close" else []), "--json")
    assert done.returncode == 1 and "unknown-session" in done.stdout + done.stderr
