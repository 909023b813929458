"""What happens to sessions over payment channels when payers close by force, chains turn back, transactions stick or fail, nodes are silent and processes die:
what was spent arrives, nobody pays twice, and the books say what the chain says."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from chain.contracts import Reverted
from chain.wallet import MAXIMUM
from channelstage import DEPOSIT, WATCH_SECONDS, ChannelStage, channel_receipt, problem, session_challenges
from paystage import GWEI, PRICE, assert_is_later, poll

GRACE = 900
# Above what the stage's proxies pay for a unit of gas, and below what they pay where something would be lost.
DEAR = 1_500 * GWEI


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = ChannelStage(binary, upstream, tmp_path_factory.mktemp("channels"), node, usdc, rich)
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def calm(stage, node, usdc, rich, upstream):
    """Whatever a test did to the world ends with it."""
    yield
    upstream.status = None
    if node.server is None:
        node.start()
    node.heal()
    node.set_base_fee(GWEI)
    node.release()
    if stage.farebox.process.poll() is not None:
        stage.farebox.start()
    stage.wait_for_offers(WATCH_SECONDS)


def open_until_done(stage, value, path, seconds=WATCH_SECONDS):
    """Repeats an opening, as its payer would, until it is answered. Nothing but "later" may be said in between."""

    def served():
        try:
            response = stage.ask(value, path, timeout=45)
        except (requests.ConnectionError, requests.Timeout):
            return None
        if response.status_code == 200:
            return response
        assert response.status_code in (409, 502, 503), (response.status_code, response.text)
        assert "WWW-Authenticate" not in response.headers
        return None

    return poll(served, seconds, "the opened channel")


def pending(stage, value, path, method="GET"):
    """Sends a credential and waits until its transaction does: the answer to come, and the transaction's hash. The node mines by hand."""
    stage.node.hold()
    answer = stage.asking(value, path, method)
    (waiting,) = poll(lambda: stage.pooled, what="a transaction")
    return answer, waiting


@contextlib.contextmanager
def unreadable(node, *sessions):
    """What the escrow says of some channels is nothing, as of one whose contract has no code."""
    known, ids = node.methods.eth_call, [session.channel.id.hex() for session in sessions]

    def eth_call(call, *more):
        data = call.get("data") or call.get("input") or ""
        return "0x" if any(id in data for id in ids) else known(call, *more)

    node.methods.eth_call = eth_call
    try:
        yield
    finally:
        del node.methods.eth_call


def test_channels_that_cannot_be_read_are_set_apart(binary, upstream, node, usdc, rich, tmp_path):
    """More of them than are read at once, from the start on: nothing is sold on them, and all else goes on. Once they can be read, they go on."""
    stage = ChannelStage(binary, upstream, tmp_path / "apart", node, usdc, rich)
    count = lambda: stage.farebox.metrics().split('channels_unreadable{chain="base-sepolia"} ')[1].split("\n")[0]
    *strange, good, forced = [stage.opened(coins=1) for _ in range(12)]
    assert count() == "0"
    values = {session.id: session.voucher() for session in (*strange, good)}
    with unreadable(node, *strange):
        stage.farebox.kill()
        stage.farebox.start()
        stage.wait_for_offers(WATCH_SECONDS)
        assert stage.ask(values[good.id], good.path).status_code == 200
        for session in strange:
            response = stage.ask(values[session.id], session.path)
            assert response.status_code == 503 and response.headers["Retry-After"] and not session_challenges(response), response.text
        assert count() == str(len(strange)) and 'escrow_watched{chain="base-sepolia"} 1' in stage.farebox.metrics()
        assert "cannot be read though its chain can be asked" in stage.farebox.log_path.read_text()
        status = stage.farebox.run("chain", "status", "--json")
        assert status.returncode == 1 and f"channels ({len(strange)}) cannot be read" in status.stdout, (status.stdout, status.stderr)
        # Opening, closing, and the answer to a close by force.
        assert stage.opened().closed()["txHash"]
        forced.request_close()
        poll(lambda: forced.standing.finalized, WATCH_SECONDS, "the answer to a close by force")
    poll(lambda: count() == "0", WATCH_SECONDS, "the channels again")
    for session in strange:
        assert stage.ask(values[session.id], session.path).status_code == 200
    stage.close()


# Closes by force.


def test_a_close_by_force_is_answered_before_its_end(stage, node):
    session = stage.opened(coins=1)
    for _ in range(3):
        session.served()
    before = stage.received
    session.request_close()
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the answer to a close by force")
    assert session.standing.settled == 3 * PRICE and stage.received == before + 3 * PRICE and session.balance == 1_000_000 - 3 * PRICE
    poll(lambda: stage.booked == stage.received, what="the money in the books")
    response = session.pay()
    assert response.status_code == 410 and problem(response) == "session/channel-finalized" and not session_challenges(response)
    node.advance(GRACE + 1)
    with pytest.raises(Reverted):
        session.withdraw()
    (line,) = poll(lambda: stage.audited("channel.closed", session), what="the line")
    assert line["cause"] == "forced"


def test_what_was_signed_and_not_spent_stays_the_payers_or_is_told(stage):
    """The escrow pays the whole voucher: what it pays too much is in the books by name."""
    session = stage.opened(coins=1)
    session.grant(5 * PRICE)
    assert stage.ask(session.voucher(0)).status_code == 200
    before = stage.received
    session.request_close()
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the answer to a close by force")
    captured = stage.received - before
    assert PRICE <= captured <= 5 * PRICE and session.balance == 1_000_000 - captured
    (line,) = poll(lambda: stage.audited("channel.closed", session), what="the line")
    assert int(line.get("overpaid", 0)) == captured - PRICE


def test_nothing_is_served_while_a_close_by_force_waits(stage, node):
    """Nothing that the proxy sends is mined for as long as it takes to notice."""
    session = stage.opened(coins=1)
    session.served()
    session.request_close()
    node.hold()
    (response,) = poll(lambda: (found := session.pay(1)).status_code not in (200, 402) and [found], WATCH_SECONDS, "a refusal")
    assert response.status_code in (410, 503) and not session_challenges(response), response.text
    spent = session.signed
    node.release()
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the answer to a close by force")
    assert PRICE <= session.standing.settled <= spent


def test_a_payer_who_adds_to_a_deposit_takes_his_close_back(stage, node, usdc):
    session = stage.opened(coins=1)
    session.served()
    usdc.run(session.wallet.account, "approve", stage.escrow.address, MAXIMUM)
    node.hold()
    stage.escrow.transact(session.wallet.account, "requestClose", session.channel.id)
    stage.escrow.transact(session.wallet.account, "topUp", session.channel.id, 10)
    node.release()
    assert session.standing.close_requested_at == 0 and session.standing.deposit == DEPOSIT + 10
    asked = node.calls["eth_getLogs"] + node.calls["eth_blockNumber"]
    poll(lambda: node.calls["eth_getLogs"] + node.calls["eth_blockNumber"] > asked + 1, WATCH_SECONDS, "a look at the chain")
    assert session.served()["spent"] == str(2 * PRICE) and not session.standing.finalized
    session.closed()


def test_a_payer_who_withdrew_while_the_proxy_was_down_is_told_as_lost(stage, node):
    session = stage.opened(coins=1)
    session.served()
    stage.farebox.stop()
    before = stage.received
    session.request_close()
    node.advance(GRACE + 1)
    session.withdraw()
    stage.farebox.start()
    (line,) = poll(lambda: stage.audited("channel.closed", session), WATCH_SECONDS, "the channel's end")
    assert line["cause"] == "forced" and int(line["lost"]) == PRICE and stage.received == before
    stage.wait_for_offers(WATCH_SECONDS)
    assert session.pay().status_code == 410


def test_a_close_by_force_while_the_proxy_was_down_is_answered_after_its_start(stage, node):
    session = stage.opened(coins=1)
    session.served()
    stage.farebox.kill()
    session.request_close()
    stage.farebox.start()
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the answer to a close by force")
    assert session.standing.settled == PRICE


# Chains that turn back.


@pytest.mark.parametrize("drop", [False, True], ids=["in another block", "in none"])
def test_an_opening_that_a_reorganisation_takes(stage, node, drop):
    """The proxy's own transaction lands again, since it is sent again, and what was signed and spent still holds."""
    session = stage.session("/api/reorganised")
    node.hold()
    answer = stage.asking(session.opening(), session.path)
    (waiting,) = poll(lambda: stage.pooled, what="a transaction")
    node.mine()
    assert answer.result(timeout=60).status_code == 200
    node.reorganise(1, drop=[waiting] if drop else [])
    if drop:
        assert session.standing.deposit == 0
        # Either it was not noticed yet, or nothing is served on what is not there; and it is sent again.
        poll(lambda: stage.pooled, WATCH_SECONDS, "the transaction again")
        response = session.pay()
        assert response.status_code == 410 and not session_challenges(response), (response.status_code, response.text)
    node.release()
    poll(lambda: session.standing.deposit == DEPOSIT, WATCH_SECONDS, "the channel again")
    poll(lambda: session.pay(0).status_code != 410, WATCH_SECONDS, "an end of the suspension")
    session.grant(5 * PRICE)
    assert stage.ask(session.voucher(0)).status_code == 200
    # The opening may have been sent twice, and what failed of it is looked at again after a pause.
    session.close_until_done()
    assert session.standing.finalized and session.balance == 1_000_000 - session.standing.settled


def test_a_settlement_that_a_reorganisation_takes_is_booked_once(binary, upstream, node, usdc, rich, tmp_path):
    stage = ChannelStage(binary, upstream, tmp_path / "settled", node, usdc, rich, 'settle-amount = "0.002 USDC"\n')
    session = stage.opened()
    session.served()
    node.hold()
    session.served()
    (waiting,) = poll(lambda: stage.pooled, WATCH_SECONDS, "a settlement")
    node.mine()
    poll(lambda: stage.booked == 2 * PRICE, WATCH_SECONDS, "the settlement in the books")
    node.reorganise(1, drop=[waiting])
    assert stage.received == 0
    node.release()
    # The next settlement, or the close, says it all again: it arrives once, and is booked once.
    session.served()
    session.served()
    session.close_until_done()
    assert stage.received == session.standing.settled == 4 * PRICE
    poll(lambda: stage.booked == stage.received, WATCH_SECONDS, "agreement")
    stage.close()


def test_an_opening_counts_when_it_is_confirmed(binary, upstream, node, usdc, rich, tmp_path):
    stage = ChannelStage(binary, upstream, tmp_path / "deep", node, usdc, rich, "confirmations = 3\n")
    for kind in ("authorization", "hash"):
        session = stage.session("/api/deep-" + kind, coins=1)
        value = session.opening(kind)
        node.hold()
        answer = stage.asking(value, session.path)
        if kind == "authorization":
            poll(lambda: stage.pooled, what="a transaction")
            node.mine()
        asked = node.calls["eth_getTransactionReceipt"]
        poll(lambda: node.calls["eth_getTransactionReceipt"] > asked, what="a look for the receipt")
        if kind == "authorization":
            assert session.standing.deposit == DEPOSIT and stage.served(session.path) == 0 and not answer.done()
        node.mine(3)
        assert answer.result(timeout=60).status_code == 200
        node.release()
    stage.close()


def test_what_a_payer_adds_counts_when_it_is_confirmed(binary, upstream, node, usdc, rich, tmp_path):
    """The watch sees it in its first block; vouchers beyond what is confirmed are not taken."""
    stage = ChannelStage(binary, upstream, tmp_path / "deep", node, usdc, rich, "confirmations = 3\n")
    session = stage.session("/api/deep", method="HEAD", coins=1)
    answer = stage.asking(session.opening(amount=0), session.path, "HEAD")
    poll(lambda: node.calls["eth_sendRawTransaction"] and session.standing.deposit == DEPOSIT, what="the opening")
    node.mine(3)
    assert answer.result(timeout=60).status_code == 204
    usdc.run(session.wallet.account, "approve", stage.escrow.address, MAXIMUM)
    stage.escrow.transact(session.wallet.account, "topUp", session.channel.id, 5_000)
    assert session.standing.deposit == DEPOSIT + 5_000
    wait_for_looks(node, 3)
    assert problem(stage.ask(session.altered(DEPOSIT + 1), session.path)) == "session/amount-exceeds-deposit"
    node.mine(3)
    poll(lambda: stage.ask(session.altered(DEPOSIT + 1), session.path).status_code == 200, WATCH_SECONDS, "the deposit")
    closing = stage.asking(session.closing(DEPOSIT + 1), session.path, "POST", timeout=90)
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the close")
    node.mine(3)
    assert closing.result(timeout=90).status_code in (204, 503)
    stage.close()


def test_what_was_added_and_taken_back_while_the_proxy_was_down(stage, node, usdc):
    session = stage.opened("/api/phantom", coins=1)
    usdc.run(session.wallet.account, "approve", stage.escrow.address, MAXIMUM)
    added = stage.escrow.transact(session.wallet.account, "topUp", session.channel.id, 5_000)
    poll(lambda: problem_of(stage.ask(session.altered(DEPOSIT + 5_001), session.path)) and shown(stage, session)["deposit"] == str(DEPOSIT + 5_000),
         WATCH_SECONDS, "the deposit")
    session.served()
    stage.farebox.stop()
    node.hold()
    node.reorganise(1, drop=[added])
    assert session.standing.deposit == DEPOSIT
    stage.farebox.start()
    stage.wait_for_offers(WATCH_SECONDS)
    assert problem(stage.ask(session.altered(DEPOSIT + 1), session.path)) == "session/amount-exceeds-deposit"
    node.release()
    session.served()
    session.close_until_done()


def problem_of(response):
    return problem(response) if response.status_code == 402 else None


def shown(stage, session):
    """The channel as operators see it."""
    return stage.farebox.command("channel", "show", session.id)


def wait_for_looks(node, count):
    """Waits until the proxy has looked at the chain so often."""
    asked = node.calls["eth_getBlockByNumber"]
    poll(lambda: node.calls["eth_getBlockByNumber"] >= asked + 2 * count, WATCH_SECONDS, "a look at the chain")


# Transactions that stick and fail.


def test_the_answer_to_a_close_by_force_may_cost_more(binary, upstream, node, usdc, rich, tmp_path):
    """Above the limit of the fee nothing is settled, but what would be lost otherwise; also where it was on its way when nothing pressed."""
    stage = ChannelStage(binary, upstream, tmp_path / "dear", node, usdc, rich, 'settle-amount = "0.002 USDC"\n')
    session, other = stage.opened(coins=10), stage.opened()
    node.hold()
    session.served()
    session.served()
    (waiting,) = poll(lambda: stage.pooled, WATCH_SECONDS, "a settlement")
    node.set_base_fee(DEAR)
    request = stage.escrow.transact(session.wallet.account, "requestClose", session.channel.id)
    node.mine(without=[waiting])
    assert node.rpc("eth_getTransactionReceipt", request)["status"] == "0x1"
    poll(lambda: [found for found in stage.pooled if found != waiting], WATCH_SECONDS, "a dearer one")
    for _ in range(3):
        other.pay()
    node.release()
    node.set_base_fee(DEAR)
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the answer to a close by force")
    assert session.standing.settled == 2 * PRICE and other.standing.settled == 0
    node.set_base_fee(GWEI)
    node.mine()
    stage.wait_for_offers(WATCH_SECONDS)
    other.close_until_done()
    stage.close()


def test_closes_that_wait_keep_no_settlement_from_beginning(binary, upstream, node, usdc, rich, tmp_path):
    stage = ChannelStage(binary, upstream, tmp_path / "many", node, usdc, rich, 'settle-amount = "0.002 USDC"\n')
    sessions, other = [stage.opened() for _ in range(17)], stage.opened()
    node.hold()
    answers = [stage.asking(session.closing(0), session.path, "POST", timeout=90) for session in sessions]
    poll(lambda: len(stage.pooled) == len(sessions), WATCH_SECONDS, "the closes")
    other.served()
    other.served()
    poll(lambda: len(stage.pooled) == len(sessions) + 1, WATCH_SECONDS, "the settlement")
    node.release()
    poll(lambda: other.standing.settled == 2 * PRICE, WATCH_SECONDS, "the settlement")
    assert all(answer.result(timeout=90).status_code in (204, 503) for answer in answers)
    stage.close()


def test_two_top_ups_in_one_block_both_count(stage, node):
    session = stage.opened("/api/two-top-ups")
    node.hold()
    values = [session.channel.top_up(stage.challenge(session.path, "POST"), 5_000) for _ in range(2)]
    answers = [stage.asking(value, session.path, "POST") for value in values]
    poll(lambda: len(stage.pooled) == 2, what="the transactions")
    node.release()
    assert [answer.result(timeout=60).status_code for answer in answers] == [204, 204]
    assert session.grant(DEPOSIT + 10_000)["acceptedCumulative"] == str(DEPOSIT + 10_000)


def test_deposits_that_are_undone_are_not_paid_for_again_and_again(stage, node, usdc, rich):
    """A payer whose money is gone when his deposit lands: after some of them nothing is sent for him."""
    session = stage.session("/api/undone", coins=1)
    sent = stage.sent
    for _ in range(3):
        session.challenge = stage.challenge(session.path)
        answer, waiting = pending(stage, session.opening(), session.path)
        away = usdc.transact(session.wallet.account, "transfer", rich.address, 1_000_000)
        node.mine(without=[waiting])
        node.release()
        assert node.rpc("eth_getTransactionReceipt", away)["status"] == "0x1"
        assert answer.result(timeout=60).status_code in (402, 409)
        usdc.run(rich, "mint", session.wallet.address, 1_000_000)
    assert stage.sent == sent + 3
    session.challenge = stage.challenge(session.path)
    response = stage.ask(session.opening(), session.path)
    assert response.status_code in (402, 409) and stage.sent == sent + 3, (response.status_code, response.text)
    assert session.standing.deposit == 0




def test_a_settlement_that_sticks_is_sent_again_dearer(binary, upstream, node, usdc, rich, tmp_path):
    stage = ChannelStage(binary, upstream, tmp_path / "stuck", node, usdc, rich, 'settle-amount = "0.002 USDC"\n')
    session = stage.opened()
    node.hold()
    session.served()
    session.served()
    (waiting,) = poll(lambda: stage.pooled, WATCH_SECONDS, "a settlement")
    node.set_base_fee(20 * GWEI)
    node.mine()
    dearer = poll(lambda: [found for found in stage.pooled if found != waiting], WATCH_SECONDS, "a dearer one")
    assert len(dearer) == 1
    node.release()
    poll(lambda: session.standing.settled == 2 * PRICE, WATCH_SECONDS, "the settlement")
    poll(lambda: stage.booked == 2 * PRICE, WATCH_SECONDS, "the settlement in the books")
    node.set_base_fee(GWEI)
    session.closed()
    stage.close()


@pytest.mark.parametrize("step", ["settle", "close"])
def test_what_fails_on_the_chain_is_tried_again(binary, upstream, node, usdc, rich, tmp_path, step):
    """The token is paused: nothing moves, nothing is booked, nothing is lost."""
    more = 'settle-amount = "0.002 USDC"\n' if step == "settle" else ""
    stage = ChannelStage(binary, upstream, tmp_path / step, node, usdc, rich, more)
    session = stage.opened()
    session.served()
    usdc.run(rich, "pause", True)
    try:
        session.served()
        if step == "close":
            response = session.close(timeout=60)
            assert response.status_code in (409, 503) and not session_challenges(response), (response.status_code, response.text)
            assert "Payment-Receipt" not in response.headers
        else:
            asked = node.calls["eth_call"] + node.calls["eth_estimateGas"]
            poll(lambda: node.calls["eth_call"] + node.calls["eth_estimateGas"] > asked + 1, WATCH_SECONDS, "an attempt")
        assert stage.booked == 0 == stage.received and not session.standing.finalized
    finally:
        usdc.run(rich, "pause", False)
    if step == "settle":
        poll(lambda: session.standing.settled == 2 * PRICE, WATCH_SECONDS, "the settlement")
    session.close_until_done()
    assert session.standing.settled == 2 * PRICE == stage.received and session.balance == 1_000_000 - 2 * PRICE
    stage.close()


def test_an_opening_whose_tokens_cannot_be_moved_is_refused(stage, node, usdc, rich):
    session = stage.session("/api/paused")
    value = session.opening()
    usdc.run(rich, "pause", True)
    try:
        response = stage.ask(value, session.path)
        assert response.status_code in (402, 409, 503) and "Payment-Receipt" not in response.headers, response.text
        if response.status_code in (409, 503):
            assert not session_challenges(response)
        assert session.standing.deposit == 0 and stage.served(session.path) == 0
    finally:
        usdc.run(rich, "pause", False)


# Nodes that are silent.


def test_without_a_node_nothing_is_offered_and_nothing_opens(stage, node):
    waiting, session = stage.session("/api/silent"), stage.opened(coins=1)
    value = waiting.opening()
    session.served()
    node.stop()
    poll(lambda: not stage.offers_of(), 30, "the end of the offers")
    for response in (requests.get(stage.farebox.origin + "/api/a", timeout=5), stage.ask(value, waiting.path)):
        assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0 and "WWW-Authenticate" not in response.headers
    # A voucher is worth something as long as somebody watches the chain: served, or told to come later; never asked to pay anew.
    response = session.pay()
    assert response.status_code in (200, 503) and "WWW-Authenticate" not in response.headers
    # The other rails are not concerned.
    other = requests.get(stage.farebox.origin + "/both/a", timeout=5)
    assert other.status_code == 402 and not session_challenges(other) and 'method="prepaid"' in other.headers["WWW-Authenticate"]
    closing = stage.asking(session.closing(), session.path, "POST")
    node.start()
    stage.wait_for_offers(WATCH_SECONDS)
    first = closing.result(timeout=60)
    assert first.status_code in (204, 503) and "WWW-Authenticate" not in first.headers
    session.close_until_done()
    assert stage.ask(value, waiting.path).status_code == 200 and waiting.standing.deposit == DEPOSIT


def test_broadcasts_whose_answers_are_lost_open_and_close_once(stage, node):
    kinds = ["lost", "error", "limited", "malformed", "refused", "refusal", "null"]
    sessions = [stage.session("/api/lost-" + kind) for kind in kinds]
    values = [session.opening() for session in sessions]
    sent = stage.sent
    for kind in kinds:
        node.fail(kind, 2, "eth_sendRawTransaction")
    with ThreadPoolExecutor(len(kinds)) as pool:
        list(pool.map(lambda pair: open_until_done(stage, pair[1], pair[0].path), zip(sessions, values)))
    assert stage.sent == sent + len(kinds) and all(session.standing.deposit == DEPOSIT for session in sessions)
    for kind in kinds:
        node.fail(kind, 2, "eth_sendRawTransaction")
    with ThreadPoolExecutor(len(kinds)) as pool:
        list(pool.map(lambda session: session.close_until_done(), sessions))
    assert stage.sent == sent + 2 * len(kinds) and all(session.balance == 1_000_000 - session.standing.settled for session in sessions)


# The proxy ends.


@pytest.mark.parametrize("meanwhile", ["landed", "waiting", "forgotten"])
def test_killed_after_the_opening_was_broadcast(stage, node, meanwhile):
    session = stage.session("/api/killed-" + meanwhile)
    value = session.opening(amount=2 * PRICE)
    sent = stage.sent
    answer, waiting = pending(stage, value, session.path)
    stage.farebox.kill()
    assert_is_later(answer)
    if meanwhile == "landed":
        node.release()
    elif meanwhile == "forgotten":
        node.forget(waiting)
    stage.farebox.start()
    if meanwhile == "forgotten":
        assert poll(lambda: stage.pooled, WATCH_SECONDS, "the transaction again") == [waiting]
    node.release()
    stage.wait_for_offers(WATCH_SECONDS)
    response = open_until_done(stage, value, session.path)
    assert channel_receipt(response.headers["Payment-Receipt"])["channelId"] == session.id
    assert stage.sent == sent + 1 and session.balance == 1_000_000 - DEPOSIT
    session.close_until_done(PRICE)


def test_killed_after_a_voucher_was_accepted(stage):
    """What was accepted before anything was served for it is accepted after the next start, and settles."""
    session = stage.opened("/api/killed-voucher")
    for number in range(1, 4):
        session.grant(number * 10 * PRICE)
        stage.farebox.kill()
        stage.farebox.start()
        stage.wait_for_offers(WATCH_SECONDS)
        response = stage.ask(session.voucher(0), session.path)
        assert response.status_code == 200, response.text
        receipt = channel_receipt(response.headers["Payment-Receipt"])
        assert (receipt["acceptedCumulative"], receipt["spent"]) == (str(number * 10 * PRICE), str(number * PRICE))
    assert session.closed(3 * PRICE)["spent"] == str(3 * PRICE)
    assert session.balance == 1_000_000 - 3 * PRICE


def test_killed_while_it_serves(stage):
    """A start keeps what was debited: no more than one request that was not delivered."""
    session = stage.opened("/api/slow/3000")
    answer = stage.asking(session.voucher(), session.path)
    poll(lambda: stage.served(session.path) == 1, what="the request")
    stage.farebox.kill()
    assert_is_later(answer)
    stage.farebox.start()
    stage.wait_for_offers(WATCH_SECONDS)
    receipt = session.grant(session.signed)
    assert int(receipt["spent"]) <= PRICE == int(receipt["acceptedCumulative"])
    session.close_until_done()


def killed_while_closing(stage, node, path, meanwhile):
    """A channel whose close was sent when the process died, that has started again since; the close's hash, and what had come in and gone out before."""
    session = stage.opened(path + meanwhile)
    session.served()
    before = stage.received, stage.sent
    answer, waiting = pending(stage, session.closing(), session.path, "POST")
    stage.farebox.kill()
    assert_is_later(answer)
    if meanwhile == "landed":
        node.release()
    elif meanwhile == "forgotten":
        node.forget(waiting)
    stage.farebox.start()
    node.release()
    return session, waiting, before


@pytest.mark.parametrize("meanwhile", ["landed", "waiting", "forgotten"])
def test_killed_between_a_close_and_its_end(stage, node, meanwhile):
    """The money arrives once, whatever its payer asks meanwhile."""
    session, _, (received, sent) = killed_while_closing(stage, node, "/api/ending-", meanwhile)
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the close")
    stage.wait_for_offers(WATCH_SECONDS)
    assert stage.received == received + PRICE and stage.sent == sent + 1 and session.balance == 1_000_000 - PRICE
    poll(lambda: stage.audited("channel.closed", session), WATCH_SECONDS, "the line")
    assert stage.booked == stage.received and session.pay().status_code == 410


@pytest.mark.parametrize("meanwhile", ["landed", "waiting", "forgotten"])
def test_killed_between_a_close_and_its_receipt(stage, node, meanwhile):
    session, waiting, (received, sent) = killed_while_closing(stage, node, "/api/closing-", meanwhile)
    stage.wait_for_offers(WATCH_SECONDS)
    receipt = session.close_until_done()
    assert receipt["spent"] == str(PRICE) and receipt["txHash"] == waiting
    assert session.standing.finalized and stage.received == received + PRICE and stage.sent == sent + 1
    assert session.balance == 1_000_000 - PRICE and session.pay().status_code == 410


def test_killed_before_the_close_left(stage, node):
    session = stage.opened("/api/closing-early")
    session.served()
    node.fail("refused", 1000, "eth_sendRawTransaction")
    answer = stage.asking(session.closing(), session.path, "POST")
    asked = node.calls["eth_estimateGas"]
    poll(lambda: node.calls["eth_estimateGas"] > asked or answer.done() or stage_knows_close(stage, session), WATCH_SECONDS, "the close")
    stage.farebox.kill()
    assert_is_later(answer)
    node.heal()
    stage.farebox.start()
    poll(lambda: session.standing.finalized, WATCH_SECONDS, "the close")
    stage.wait_for_offers(WATCH_SECONDS)
    session.close_until_done()
    assert session.balance == 1_000_000 - PRICE


def stage_knows_close(stage, session):
    return any(session.id.removeprefix("0x") in line for line in stage.farebox.audit_path.read_text().splitlines() if "channel.clos" in line)


@pytest.mark.parametrize("meanwhile", ["landed", "waiting"])
def test_killed_while_a_settlement_waits(binary, upstream, node, usdc, rich, tmp_path, meanwhile):
    stage = ChannelStage(binary, upstream, tmp_path / meanwhile, node, usdc, rich, 'settle-amount = "0.002 USDC"\n')
    session = stage.opened()
    node.hold()
    session.served()
    session.served()
    poll(lambda: stage.pooled, WATCH_SECONDS, "a settlement")
    stage.farebox.kill()
    if meanwhile == "landed":
        node.release()
    stage.farebox.start()
    node.release()
    poll(lambda: stage.booked == 2 * PRICE == stage.received, WATCH_SECONDS, "the settlement in the books")
    stage.wait_for_offers(WATCH_SECONDS)
    session.served()
    session.close_until_done()
    assert stage.received == 3 * PRICE
    stage.close()


def test_killed_again_and_again_while_vouchers_come(stage):
    """Whoever is answered 200 is charged, and nobody is charged for more than was asked for."""
    session = stage.opened("/api/chaos")
    answered = attempts = 0
    for _ in range(4):
        for _ in range(8):
            answered += session.pay().status_code == 200
            attempts += 1
        answer = stage.asking(session.voucher(), session.path)
        attempts += 1
        stage.farebox.kill()
        try:
            answered += answer.result(timeout=30).status_code == 200
        except requests.ConnectionError:
            pass
        stage.farebox.start()
        stage.wait_for_offers(WATCH_SECONDS)
    spent = int(session.grant(session.signed)["spent"])
    assert answered * PRICE <= spent <= attempts * PRICE
    session.close_until_done(spent)
    assert session.standing.settled == spent and session.balance == 1_000_000 - spent


# New configurations.


def test_a_reload_with_other_prices_keeps_what_channels_were_told(stage):
    session = stage.opened("/api/reloaded")
    assert session.served()["spent"] == str(PRICE)
    text = stage.farebox.configuration.read_text()
    try:
        stage.farebox.configuration.write_text(text.replace('"0.001 USDC per request"', '"0.002 USDC per request"'))
        assert stage.farebox.run("reload").returncode == 0
        stage.wait_for_offers(WATCH_SECONDS)
        assert session.served()["spent"] == str(2 * PRICE)
        # Who asks anew is told the new price, and pays it.
        fresh = stage.session("/api/reloaded")
        response = fresh.open(amount=2 * PRICE)
        assert response.status_code == 200 and channel_receipt(response.headers["Payment-Receipt"])["spent"] == str(2 * PRICE)
        fresh.closed()
    finally:
        stage.farebox.configuration.write_text(text)
        assert stage.farebox.run("reload").returncode == 0
    stage.wait_for_offers(WATCH_SECONDS)
    assert session.closed()["spent"] == str(2 * PRICE)


def test_a_reload_does_not_lose_an_opening_or_a_close(stage, node):
    text = stage.farebox.configuration.read_text()
    session = stage.session("/api/reload-open")
    answer, _ = pending(stage, session.opening(), session.path)
    stage.farebox.configuration.write_text(text.replace('resubmit-after = "3 s"', 'resubmit-after = "7 s"'))
    try:
        assert stage.farebox.run("reload").returncode == 0
        node.release()
        response = answer.result(timeout=60)
        assert response.status_code in (200, 503), response.text
        if response.status_code == 503:
            poll(lambda: stage.ask(session.voucher(), session.path).status_code == 200, WATCH_SECONDS, "the channel")
        answer, _ = pending(stage, session.closing(), session.path, "POST")
        stage.farebox.configuration.write_text(text)
        assert stage.farebox.run("reload").returncode == 0
        node.release()
        answer.result(timeout=60)
        session.close_until_done()
        assert session.standing.finalized
    finally:
        stage.farebox.configuration.write_text(text)


# Many at once.


def test_64_uses_of_one_opening_at_once(stage):
    session = stage.session("/api/concurrent-open")
    value, sent = session.opening(amount=10 * PRICE), stage.sent
    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(lambda _: stage.ask(value, session.path), range(64)))
    statuses = [response.status_code for response in responses]
    assert statuses.count(200) >= 1 and set(statuses) <= {200, 402, 409, 503}, statuses
    assert stage.sent == sent + 1 and session.balance == 1_000_000 - DEPOSIT
    assert stage.served(session.path) == statuses.count(200) <= 10
    for response in responses:
        if response.status_code == 402:
            assert problem(response) == "session/insufficient-balance"
    assert session.grant(session.signed)["spent"] == str(statuses.count(200) * PRICE)


def test_64_uses_of_one_voucher_at_once(stage):
    session = stage.opened("/api/concurrent-voucher")
    value = session.voucher()
    with ThreadPoolExecutor(64) as pool:
        statuses = [response.status_code for response in pool.map(lambda _: stage.ask(value, session.path), range(64))]
    assert (statuses.count(200), statuses.count(402)) == (1, 63), statuses
    assert stage.served(session.path) == 1 and session.spent == PRICE


def test_64_vouchers_at_once_in_any_order(stage):
    """Whatever comes first, the highest counts, and each request is served once and charged once."""
    session = stage.opened("/api/concurrent-vouchers")
    values = [session.voucher() for _ in range(64)]
    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(lambda value: stage.ask(value, session.path), values[::-1]))
    statuses = [response.status_code for response in responses]
    assert statuses == [200] * 64, statuses
    receipt = session.grant(session.signed)
    assert (receipt["acceptedCumulative"], receipt["spent"]) == (str(64 * PRICE), str(64 * PRICE))
    assert stage.served(session.path) == 64


def test_64_top_ups_and_closes_at_once(stage):
    session = stage.opened("/api/concurrent-end")
    session.served()
    top_up = session.channel.top_up(stage.challenge(session.path, "POST"), 5_000)
    with ThreadPoolExecutor(32) as pool:
        statuses = [response.status_code for response in pool.map(lambda _: stage.ask(top_up, session.path, "POST"), range(32))]
    assert statuses.count(204) >= 1 and set(statuses) <= {204, 409, 503}, statuses
    assert session.standing.deposit == DEPOSIT + 5_000
    close, sent, before = session.closing(), stage.sent, stage.received
    with ThreadPoolExecutor(32) as pool:
        statuses = [response.status_code for response in pool.map(lambda _: stage.ask(close, session.path, "POST"), range(32))]
    assert statuses.count(204) >= 1 and set(statuses) <= {204, 409, 503}, statuses
    assert stage.sent == sent + 1 and stage.received == before + PRICE and session.balance == 1_000_000 - PRICE


def test_a_close_while_vouchers_come(stage):
    """What is served is paid for, on whichever side of the close it comes."""
    session = stage.opened("/api/racing", deposit=500_000)
    values = [session.voucher() for _ in range(100)]
    close = session.closing()
    with ThreadPoolExecutor(24) as pool:
        first = [pool.submit(stage.ask, value, session.path) for value in values[:60]]
        ending = pool.submit(stage.ask, close, session.path, "POST")
        rest = [pool.submit(stage.ask, value, session.path) for value in values[60:]]
        statuses = [answer.result(timeout=90).status_code for answer in first + rest]
    assert ending.result().status_code in (204, 503)
    session.close_until_done()
    assert set(statuses) <= {200, 410, 503, 502}, statuses
    served = statuses.count(200)
    assert session.standing.settled >= served * PRICE and session.balance == 1_000_000 - session.standing.settled
    (line,) = poll(lambda: stage.audited("channel.closed", session), what="the line")
    assert int(line["captured"]) == session.standing.settled


# At last.


def test_the_books_say_what_the_chain_says(stage):
    poll(lambda: stage.booked == stage.received, WATCH_SECONDS, "the money in the books")
    stage.farebox.assert_books_balance()
    ends = stage.audited("channel.closed")
    assert len(ends) == len({line["session"] for line in ends}) and all(int(line["captured"]) >= 0 for line in ends)
