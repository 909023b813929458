"""What the proxy does to channels without being asked: settling by age, closing what is idle, and telling operators how they stand."""

import json

import pytest
import requests

from channelstage import WATCH_SECONDS, ChannelStage, session_challenges
from paystage import PRICE, poll


class Nobody:
    """An address without a contract."""

    address = "0x00000000000000000000000000000000000000aa"


@pytest.fixture
def stage(binary, upstream, node, usdc, rich, tmp_path):
    made = []

    def make(more):
        made.append(ChannelStage(binary, upstream, tmp_path / "channels", node, usdc, rich, more))
        return made[0]

    yield make
    for stage in made:
        stage.close()


def test_what_is_owed_for_long_is_settled(stage):
    stage = stage('settle-after = "2 s"\n')
    session = stage.opened()
    session.served()
    session.served()
    poll(lambda: session.standing.settled == 2 * PRICE, WATCH_SECONDS, "the settlement")
    poll(lambda: stage.booked == 2 * PRICE == stage.received, what="the settlement in the books")
    (line,) = poll(lambda: stage.audited("channel.settled", session), what="the line")
    assert line["transaction"]
    # It goes on being sold, and its close adds what came afterwards.
    session.served()
    assert session.closed()["spent"] == str(3 * PRICE)
    assert session.standing.finalized and stage.received == 3 * PRICE


def test_a_channel_that_nobody_uses_is_closed_and_the_rest_goes_back(stage):
    stage = stage('close-idle-after = "3 s"\n')
    session = stage.opened()
    session.served()
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the close")
    assert session.standing.settled == PRICE == stage.received and session.balance == 1_000_000 - PRICE
    (line,) = poll(lambda: stage.audited("channel.closed", session), what="the line")
    assert line["cause"] == "idle"
    assert session.pay().status_code == 410


def test_operators_see_how_channels_stand(stage):
    stage = stage("")
    session = stage.opened()
    session.served()
    (chain,) = stage.farebox.command("chain", "status")["chains"]
    sessions = chain["sessions"]
    assert sessions["escrow"] == stage.escrow.address and sessions["watched"] is True and sessions["graceSeconds"] == 900
    assert sessions["channels"] == [
        {"account": "usdc@eip155:84532", "open": 1, "suspended": 0, "closing": 0, "earned": str(PRICE), "claimable": str(PRICE)}
    ]
    assert not chain["problems"]
    metrics = stage.farebox.metrics()
    assert 'farebox_chain_escrow_watched{chain="base-sepolia"} 1' in metrics
    assert f'farebox_chain_channels_claimable{{account="usdc@eip155:84532"}} {PRICE}' in metrics
    session.closed()
    poll(lambda: not stage.farebox.command("chain", "status")["chains"][0]["sessions"]["channels"], what="an end of the channel")


def test_an_escrow_that_is_none_sells_no_sessions(binary, upstream, node, usdc, rich, tmp_path):
    class Without(ChannelStage):
        @property
        def problems(self):
            return json.loads(self.farebox.run("chain", "status", "--json").stdout)["chains"][0]["problems"]

        def wait_for_offers(self, seconds=20):
            poll(lambda: any("no contract" in problem for problem in self.problems), WATCH_SECONDS, "the fault")

    stage = Without(binary, upstream, tmp_path / "none", node, usdc, rich, escrow=Nobody)

    def asked():
        return requests.get(stage.farebox.origin + "/api/a", timeout=5)

    # What needs no escrow is sold on. The missing contract may be known before the chain itself is.
    poll(lambda: asked().status_code == 402, what="an offer")
    response = asked()
    assert response.status_code == 402 and not session_challenges(response)
    stage.farebox.stop()
