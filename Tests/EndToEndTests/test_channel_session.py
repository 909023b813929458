"""MPP's sessions over payment channels, method evm: opened in every way that the draft has, paid by vouchers, metered, added to, settled and closed with a
refund, while the chain and the books agree."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest
import requests

from chain.credentials import credential, request_of
from chain.wallet import MAXIMUM, PERMIT2, compact, hexadecimal, malleated, new_account
from channelstage import DEPOSIT, WATCH_SECONDS, ChannelStage, channel_receipt, details_of, problem, session_challenges
from paystage import PRICE, payload_of, poll

NETWORK = 84532


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = ChannelStage(binary, upstream, tmp_path_factory.mktemp("channels"), node, usdc, rich)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def brief(binary, upstream, node, usdc, rich, tmp_path_factory):
    """A stage whose challenges are soon over."""
    stage = ChannelStage(binary, upstream, tmp_path_factory.mktemp("brief"), node, usdc, rich, head='challenge-expires = "10 s"\n')
    yield stage
    stage.close()


@pytest.fixture(scope="module", autouse=True)
def stale(brief):
    """An opening whose challenge will be over when a test presents it, and an open channel with a voucher for such a challenge."""
    return brief.session().opening(), brief.opened()


def is_over(challenge):
    return datetime.fromisoformat(challenge["expires"].replace("Z", "+00:00")) < datetime.now(timezone.utc)


@pytest.fixture
def opened(stage):
    return stage.opened()


# What is offered.


def test_the_challenge_says_all_that_a_payer_needs(stage):
    challenge = stage.challenge()
    request, details = request_of(challenge), details_of(challenge)
    assert challenge["method"] == "evm" and challenge["intent"] == "session" and "expires" in challenge
    assert request["amount"] == str(PRICE) and request.get("unitType", "request") == "request"
    assert request["currency"] == stage.token.address and request["recipient"] == stage.merchant.address
    assert details["chainId"] == NETWORK and details["escrowContract"].lower() == stage.escrow.address.lower()
    assert details["feePayer"] is True and sorted(details["credentialTypes"]) == ["authorization", "hash", "permit2"]
    assert "channelId" not in details
    if "suggestedDeposit" in request:
        assert int(request["suggestedDeposit"]) >= PRICE


def test_what_is_metered_is_offered_by_its_unit(stage):
    request = request_of(stage.challenge("/files/bytes/1"))
    assert (request["amount"], request["unitType"], request["methodDetails"]["unitSize"]) == ("10000", "byte", "1000000")
    assert request["methodDetails"]["minimumDeposit"] == "1000"


@pytest.mark.parametrize("path, offers", [("/api/a", ["charge", "session"]), ("/only/a", ["session"]), ("/both/a", ["charge", "charge", "session", "session"])])
def test_sessions_stand_beside_charges(stage, path, offers):
    response = requests.get(stage.farebox.origin + path, timeout=5)
    fields = response.raw.headers.getlist("WWW-Authenticate")
    assert sorted(intent for field in fields for intent in ("charge", "session") if f'intent="{intent}"' in field) == offers
    assert len(session_challenges(response)) == 1
    only = requests.get(stage.farebox.origin + path, headers={"Accept-Payment": "evm/session"}, timeout=5)
    assert len(only.raw.headers.getlist("WWW-Authenticate")) == 1 == len(session_challenges(only))


# Opening.


def assert_receipt(session, receipt, accepted, spent):
    assert {name: receipt[name] for name in ("method", "intent", "status", "reference", "channelId", "challengeId", "chainId")} == {
        "method": "evm",
        "intent": "session",
        "status": "success",
        "reference": session.id,
        "channelId": session.id,
        "challengeId": session.challenge["id"],
        "chainId": NETWORK,
    }
    assert (receipt["acceptedCumulative"], receipt["spent"]) == (str(accepted), str(spent)) and receipt["timestamp"].endswith("Z")
    assert None not in receipt.values()


@pytest.mark.parametrize("kind", ["authorization", "permit2", "hash"])
def test_a_channel_is_opened_and_the_request_served(stage, kind):
    session = stage.session(f"/api/{kind}", coins=1)
    if kind == "permit2":
        stage.token.run(session.wallet.account, "approve", PERMIT2, MAXIMUM)
    response = session.open(kind)
    assert response.status_code == 200, response.text
    assert "private" in response.headers["Cache-Control"] and json.loads(response.content)["target"] == session.path
    assert_receipt(session, channel_receipt(response.headers["Payment-Receipt"]), PRICE, PRICE)
    standing = session.standing
    assert (standing.deposit, standing.settled, standing.finalized) == (DEPOSIT, 0, False)
    assert session.balance == 1_000_000 - DEPOSIT and stage.served(session.path) == 1
    (line,) = poll(lambda: stage.audited("channel.opened", session), what="the line")
    assert (line["deposit"], line["payer"]) == (str(DEPOSIT), session.wallet.address.lower()) and line["transaction"].startswith("0x")
    session.closed()


def test_an_opening_for_nothing_yet_is_no_request(stage):
    """The draft's typical first voucher is of nothing: the channel stands, and what costs something waits for the first one that is more."""
    session = stage.session("/api/nothing-yet")
    value = session.opening(amount=0)
    response = stage.ask(value, session.path)
    members = session.required(response)
    assert (members["requiredTopUp"], members["acceptedCumulative"]) == (str(PRICE), "0")
    assert session.standing.deposit == DEPOSIT and stage.served(session.path) == 0
    assert session.served()["spent"] == str(PRICE) and stage.served(session.path) == 1


def test_a_client_may_open_without_asking_for_anything(stage):
    for method in ("HEAD", "POST"):
        session = stage.session("/api/open-" + method, method=method)
        response = session.open(amount=0, method=method)
        assert response.status_code == 204 and response.headers["Payment-Session"] == session.id, (response.status_code, response.text)
        assert response.headers["Cache-Control"] == "no-store"
        assert_receipt(session, channel_receipt(response.headers["Payment-Receipt"]), 0, 0)
        assert stage.served(session.path) == 0


def test_the_same_opening_again_is_its_voucher_and_moves_nothing(stage):
    session = stage.session("/api/again")
    value = session.opening(amount=2 * PRICE)
    sent = stage.sent
    for number in (1, 2):
        response = stage.ask(value, session.path)
        assert response.status_code == 200, response.text
        assert channel_receipt(response.headers["Payment-Receipt"])["spent"] == str(number * PRICE)
    members = session.required(stage.ask(value, session.path))
    assert members["requiredTopUp"] == str(PRICE)
    assert stage.sent == sent + 1 and session.balance == 1_000_000 - DEPOSIT


def test_somebody_else_may_sign_the_vouchers(stage):
    session = stage.session("/api/delegated", signer=new_account())
    assert session.open().status_code == 200
    assert session.served()["acceptedCumulative"] == str(2 * PRICE)
    forged = session.channel.signer
    session.channel.signer = session.wallet.account
    assert problem(session.pay()) == "session/signer-mismatch"
    session.channel.signer = forged
    assert session.closed(2 * PRICE)["spent"] == str(2 * PRICE)
    assert session.balance == 1_000_000 - 2 * PRICE


def test_a_deposit_may_come_with_a_voucher_of_its_own(stage):
    """draft-evm-session, "Voucher Payload": an open that is a voucher."""
    session = stage.session("/api/merged")
    opening = payload_of(session.opening(amount=PRICE))
    deposit = {name: opening[name] for name in ("type", "authorization", "signature", "salt")} | {"action": "open"}
    payload = payload_of(session.channel.voucher(session.challenge, PRICE)) | {"deposit": deposit}
    response = stage.ask(credential(session.challenge, payload), session.path)
    assert response.status_code == 200, response.text
    assert session.standing.deposit == DEPOSIT and session.served()["spent"] == str(2 * PRICE)


def test_a_deposit_below_the_least_is_refused_before_it_moves(stage):
    session = stage.session("/least/a", deposit=49_999)
    response = session.open()
    assert response.status_code == 402 and problem(response) == "payment-insufficient" and session.balance == 1_000_000
    assert stage.session("/least/a", deposit=50_000).open().status_code == 200


def test_who_has_too_little_opens_nothing(stage):
    session = stage.session(units=DEPOSIT - 1)
    response = session.open()
    assert response.status_code in (402, 409) and "Payment-Receipt" not in response.headers, response.text
    assert session.balance == DEPOSIT - 1 and session.standing.deposit == 0
    assert stage.served(session.path) == 0 or problem(response)


# Vouchers.


def test_each_voucher_pays_for_a_request(stage, opened):
    for number in range(1, 4):
        assert_receipt(opened, opened.served(), number * PRICE, number * PRICE)


def test_a_voucher_without_a_request_is_not_forwarded(stage, opened):
    path = "/api/not-forwarded"
    for method, options in (("HEAD", {}), ("POST", {})):
        response = stage.ask(opened.voucher(), path, method, **options)
        assert response.status_code == 204 and response.headers["Payment-Session"] == opened.id, (method, response.status_code)
        assert response.headers["Cache-Control"] == "no-store" and not response.content
        receipt = channel_receipt(response.headers["Payment-Receipt"])
        assert (receipt["spent"], receipt["acceptedCumulative"]) == ("0", str(opened.signed))
    assert stage.served(path) == 0
    # What they signed for pays for requests, of any method.
    again = opened.voucher(0)
    assert stage.ask(again, path).status_code == 200
    assert stage.ask(again, path, "POST", body=b"{}").status_code == 200
    assert stage.served(path) == 2 and opened.spent == 2 * PRICE


def test_one_voucher_pays_for_as_many_requests_as_it_holds(stage, opened):
    value = opened.voucher(3 * PRICE)
    for number in (1, 2, 3):
        response = stage.ask(value)
        assert response.status_code == 200 and channel_receipt(response.headers["Payment-Receipt"])["spent"] == str(number * PRICE)
    members = opened.required(stage.ask(value))
    assert members["requiredTopUp"] == str(PRICE) and members["acceptedCumulative"] == str(3 * PRICE) and members["deposit"] == str(DEPOSIT)


def test_who_lacks_something_is_told_what_and_gets_a_challenge_for_his_channel(stage, opened):
    response = stage.ask(opened.voucher(amount=1))
    opened.required(response)
    assert response.json()["requiredTopUp"] == str(PRICE - 1) and response.json()["acceptedCumulative"] == "1"
    assert "Payment-Receipt" not in response.headers and response.headers["Cache-Control"] == "no-store"
    (fresh,) = session_challenges(response)
    assert details_of(fresh)["channelId"] == opened.id and fresh["id"] != opened.challenge["id"]
    # The channel goes on with it.
    served = stage.ask(opened.voucher(amount=PRICE, challenge=fresh))
    assert served.status_code == 200 and channel_receipt(served.headers["Payment-Receipt"])["challengeId"] == fresh["id"]


def test_who_names_his_channel_is_offered_it(stage, opened):
    """Without a credential nobody is told more of it than what anybody can read on the chain."""
    (challenge,) = stage.offers_of("/api/a", **{"Payment-Session": opened.id})
    assert details_of(challenge)["channelId"] == opened.id
    served = stage.ask(opened.voucher(challenge=challenge))
    assert served.status_code == 200
    for unknown in (hexadecimal(os.urandom(32)), "x", ""):
        (challenge,) = stage.offers_of("/api/a", **{"Payment-Session": unknown})
        assert "channelId" not in details_of(challenge)


def test_a_lower_voucher_changes_nothing(stage, opened):
    opened.grant(5 * PRICE)
    for amount in (5 * PRICE, 4 * PRICE, PRICE, 0):
        response = stage.ask(opened.voucher(amount=amount))
        assert response.status_code == 200, response.text
        assert channel_receipt(response.headers["Payment-Receipt"])["acceptedCumulative"] == str(5 * PRICE)
    # Who did not sign may not use what another signed for.
    stranger = new_account()
    opened.channel.signer = stranger
    for amount in (5 * PRICE, PRICE, 0):
        response = stage.ask(opened.voucher(amount=amount))
        assert response.status_code == 402 and problem(response) == "session/signer-mismatch"
    opened.channel.signer = opened.wallet.account
    assert opened.spent == 4 * PRICE


@pytest.mark.parametrize(
    "change, types",
    [
        (malleated, ["session/invalid-signature"]),
        (lambda s: bytes(65), ["session/invalid-signature"]),
        (lambda s: s[:64] + b"\x1d", ["session/invalid-signature"]),
        (lambda s: s[:10], ["session/invalid-signature"]),
        (lambda s: s + bytes(32), ["session/invalid-signature"]),
        (lambda s: bytes([s[0] ^ 1]) + s[1:], ["session/invalid-signature", "session/signer-mismatch"]),
        (lambda s: s[:64] + bytes([55 - s[64]]), ["session/signer-mismatch", "session/invalid-signature"]),
    ],
    ids=["high s", "zeros", "v", "short", "long", "another r", "another v"],
)
@pytest.mark.parametrize("amount", [0, PRICE, 2 * PRICE], ids=["lower", "same", "higher"])
def test_signatures_that_are_altered_are_refused(stage, opened, change, types, amount):
    opened.grant(PRICE)
    response = stage.ask(opened.altered(amount, change))
    assert response.status_code == 402 and problem(response) in types, response.text
    assert session_challenges(response) and "Payment-Receipt" not in response.headers
    assert opened.spent == 0


def test_a_signature_of_64_octets_is_the_same(stage, opened):
    assert stage.ask(opened.altered(PRICE, compact)).status_code == 200
    opened.signed = PRICE
    # The escrow takes nothing but 65.
    assert opened.closed()["spent"] == str(PRICE)
    assert opened.standing.settled == PRICE


def test_a_voucher_beyond_the_deposit_is_refused(stage, opened):
    response = stage.ask(opened.altered(DEPOSIT + 1))
    assert response.status_code == 402 and problem(response) == "session/amount-exceeds-deposit" and session_challenges(response)
    assert opened.grant(DEPOSIT)["acceptedCumulative"] == str(DEPOSIT)


def test_a_voucher_of_another_channel_is_refused(stage, opened):
    other = stage.opened()
    response = stage.ask(other.altered(PRICE, lambda s: opened.channel.voucher_signature(PRICE)))
    assert response.status_code == 402 and problem(response) == "session/signer-mismatch"
    unknown = stage.ask(opened.altered(PRICE, channelId=hexadecimal(os.urandom(32))))
    assert unknown.status_code == 410 and problem(unknown) == "session/channel-not-found" and not session_challenges(unknown)
    assert opened.spent == 0 == other.spent


@pytest.mark.parametrize(
    "members",
    [
        {"cumulativeAmount": "1e3"},
        {"cumulativeAmount": "-1"},
        {"cumulativeAmount": "+1000"},
        {"cumulativeAmount": ""},
        {"cumulativeAmount": "1000.0"},
        {"cumulativeAmount": " 1000"},
        {"cumulativeAmount": 1000},
        {"cumulativeAmount": None},
        {"cumulativeAmount": str(2**128)},
        {"cumulativeAmount": str(2**256 + 1000)},
        {"signature": None},
        {"signature": 5},
        {"signature": "0x"},
        {"signature": "zz"},
        {"signature": "0x" + "00" * 5000},
        {"channelId": "0x1234"},
        {"channelId": None},
        {"action": "spend"},
        {"action": None},
    ],
    ids=lambda members: "-".join(f"{name}={str(value)[:12]}" for name, value in members.items()),
)
def test_what_is_no_voucher_is_refused(stage, opened, members):
    response = stage.ask(opened.altered(PRICE, **members))
    assert response.status_code in (400, 402) and "Payment-Receipt" not in response.headers, (response.status_code, response.text)
    assert problem(response) in ("malformed-credential", "invalid-payload", "bad-request", "session/invalid-signature", "session/amount-exceeds-deposit")
    assert opened.spent == 0


def test_a_challenge_that_is_over_opens_nothing_and_vouchers_go_on(brief, stale):
    opening, session = stale
    poll(lambda: is_over(session.challenge), 20, "the challenge's end")
    before = brief.sent
    response = brief.ask(opening)
    assert response.status_code == 402 and problem(response) in ("payment-expired", "session/challenge-not-found") and session_challenges(response)
    assert brief.sent == before
    assert session.served()["spent"] == str(PRICE) and session.closed()["spent"] == str(PRICE)


# Where a channel pays.


def test_a_channel_pays_on_other_routes_by_their_own_challenges(stage, opened):
    opened.grant(50 * PRICE)
    dear = stage.challenge("/dear/a")
    response = stage.ask(opened.voucher(0, challenge=dear), "/dear/a")
    assert response.status_code == 200, response.text
    assert channel_receipt(response.headers["Payment-Receipt"])["spent"] == str(10 * PRICE)
    # From now on the route is one of the channel's own, at the price that was told.
    assert stage.ask(opened.voucher(0), "/dear/b").status_code == 200 and opened.spent == 20 * PRICE


def test_the_challenge_of_a_cheap_route_does_not_buy_on_a_dear_one(stage, opened):
    opened.grant(50 * PRICE)
    response = stage.ask(opened.voucher(0), "/dear/stolen")
    assert response.status_code == 402 and stage.served("/dear/stolen") == 0
    assert request_of(session_challenges(response)[0])["amount"] == str(10 * PRICE) and opened.spent == 0
    session = stage.session("/api/a")
    stolen = stage.ask(session.opening(), "/dear/stolen")
    assert stolen.status_code == 402 and session.balance == 1_000_000 and stage.served("/dear/stolen") == 0


def test_an_opening_is_bound_to_its_request(stage):
    session = stage.session("/api/bound")
    value = session.opening()
    for path, method in (("/api/other", "GET"), ("/api/bound?x=1", "GET"), ("/api/bound", "DELETE")):
        response = stage.ask(value, path, method)
        assert response.status_code == 402 and session.balance == 1_000_000, (path, method, response.status_code)
    assert stage.ask(value, "/api/bound").status_code == 200


# Metered answers.


def test_a_metered_body_costs_exactly_its_octets(stage):
    session = stage.session("/files/bytes/3456789", deposit=1_000_000)
    response = session.open(amount=1_000_000)
    assert response.status_code == 200 and len(response.content) == 3456789
    poll(lambda: session.spent == 34568, what="the cost")
    receipt = session.closed(34568)
    assert receipt["spent"] == "34568" and session.balance == 1_000_000 - 34568


class Stream:
    """A metered answer that is read piece by piece."""

    def __init__(self, session, value):
        self.connection = session.stage.farebox.connection(timeout=20)
        self.connection.request("GET", session.path, {"Authorization": value, "TE": "trailers"})
        self.head = self.connection.head()
        self.text = ""
        self.chunks = self.connection.chunks() if "chunked" in (self.head.get("transfer-encoding") or "") else None

    def event(self):
        """The next event as pairs of names and values; nothing at the end."""
        while "\n\n" not in self.text:
            chunk = next(self.chunks, None)
            if chunk is None:
                assert not self.text, self.text
                return None
            self.text += chunk.decode()
        event, self.text = self.text.split("\n\n", 1)
        return dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)


def test_an_event_stream_that_runs_dry_asks_for_a_voucher_and_goes_on(stage):
    session = stage.opened("/events/events/6", deposit=1_000_000)
    stream = Stream(session, session.voucher(4_000))
    assert stream.head.status == 200
    ticks, asked = [], 0
    while (event := stream.event()) is not None:
        if event.get("event") == "payment-need-voucher":
            asked += 1
            need = json.loads(event["data"])
            assert set(need) == {"channelId", "requiredCumulative", "acceptedCumulative", "deposit"}
            assert all(isinstance(value, str) for value in need.values())
            assert need["channelId"] == session.id and need["deposit"] == "1000000" and int(need["acceptedCumulative"]) == session.signed
            assert int(need["requiredCumulative"]) > session.signed
            # The voucher goes to the same resource, on another connection.
            granted = session.grant(max(int(need["requiredCumulative"]), session.signed + 1500))
            assert int(granted["spent"]) <= int(granted["acceptedCumulative"])
        else:
            ticks.append(event)
    assert asked >= 1
    receipts = [event for event in ticks if event.get("event") == "payment-receipt"]
    assert len(receipts) == 1 and ticks[-1] is receipts[0]
    receipt = json.loads(receipts[0]["data"])
    assert receipt["channelId"] == session.id and int(receipt["spent"]) <= int(receipt["acceptedCumulative"]) == session.signed
    assert [event["id"] for event in ticks if event.get("event") == "tick"] == [str(number) for number in range(6)]
    assert sum(event.get("data") == "[DONE]" for event in ticks) == 1
    # What the upstream sent costs an octet each, and our own events nothing.
    direct = requests.get(stage.upstream.url + session.path, timeout=10).content
    assert session.closed(session.signed)["spent"] == receipt["spent"]
    assert len(direct) <= int(receipt["spent"]) <= len(direct) + 64


def test_an_event_stream_whose_payer_is_silent_ends(stage):
    session = stage.opened("/events/events/6", deposit=1_000_000)
    stream = Stream(session, session.voucher(3_000))
    names = []
    try:
        while (event := stream.event()) is not None:
            names.append(event.get("event"))
    except ConnectionError:
        pass
    assert names.count("payment-need-voucher") == 1 and "session-timeout" not in names and names.count("tick") < 6
    assert session.spent <= 3_000
    assert int(session.closed()["spent"]) <= 3_000


def test_a_body_that_runs_dry_waits_for_a_voucher(stage):
    session = stage.opened("/files/bytes/4000000", deposit=1_000_000)
    connection = stage.farebox.connection(timeout=20)
    connection.request("GET", session.path, {"Authorization": session.voucher(20_000)})
    assert connection.head().status == 200
    connection.exactly(2_000_000)
    assert session.grant(40_000)["spent"] == "20000"
    assert len(connection.exactly(2_000_000)) == 2_000_000
    poll(lambda: session.spent == 40_000, what="the cost")


def test_what_the_upstream_failed_at_is_given_back(stage, opened):
    opened.grant(10 * PRICE)
    for path in ("/api/status/500", "/api/die"):
        response = stage.ask(opened.voucher(0), path)
        assert response.status_code >= 500 and "Payment-Receipt" not in response.headers and not session_challenges(response)
    poll(lambda: opened.spent == 0, what="the money back")
    poll(lambda: stage.audited("channel.returned", opened), what="the line")


def test_more_requests_at_once_than_a_voucher_holds(stage, upstream):
    session = stage.opened("/api/slow/20", deposit=1_000_000)
    value, served = session.voucher(50 * PRICE), upstream.count()
    with ThreadPoolExecutor(25) as pool:
        statuses = [response.status_code for response in pool.map(lambda _: stage.ask(value, session.path), range(100))]
    assert (statuses.count(200), statuses.count(402)) == (50, 50), statuses
    assert upstream.count() == served + 50 and session.spent == 50 * PRICE


def test_a_request_that_is_repeated_by_its_key_is_paid_once(stage, opened):
    path = "/api/idempotent"
    value = opened.voucher(5 * PRICE)
    first = stage.ask(value, path, "POST", body=b'{"n":1}', Idempotency_Key="k1")
    assert first.status_code == 200, first.text
    again = stage.ask(value, path, "POST", body=b'{"n":1}', Idempotency_Key="k1")
    assert again.status_code == 200 and again.content == first.content and again.headers["Payment-Receipt"] == first.headers["Payment-Receipt"]
    fresh = stage.ask(opened.voucher(), path, "POST", body=b'{"n":1}', Idempotency_Key="k1")
    assert fresh.status_code == 200 and fresh.content == first.content
    assert stage.ask(value, path, "POST", body=b'{"n":2}', Idempotency_Key="k1").status_code == 422
    assert stage.served(path) == 1 and opened.spent == PRICE


# Adding to the deposit.


@pytest.mark.parametrize("kind", ["authorization", "permit2"])
def test_a_deposit_is_added_to(stage, kind):
    session = stage.opened("/api/topup-" + kind)
    if kind == "permit2":
        stage.node.fund(session.wallet.address)
        stage.token.run(session.wallet.account, "approve", PERMIT2, MAXIMUM)
    assert problem(stage.ask(session.altered(DEPOSIT + PRICE))) == "session/amount-exceeds-deposit"
    value = session.channel.top_up(stage.challenge(session.path, "POST"), 50_000, kind)
    sent = stage.sent
    for _ in range(3):
        response = stage.ask(value, session.path, "POST")
        assert response.status_code == 204 and response.headers["Payment-Session"] == session.id, (response.status_code, response.text)
        assert channel_receipt(response.headers["Payment-Receipt"])["channelId"] == session.id
    assert stage.sent == sent + 1 and session.standing.deposit == DEPOSIT + 50_000
    assert session.balance == 1_000_000 - DEPOSIT - 50_000 and stage.served(session.path) == 0
    assert session.grant(DEPOSIT + 50_000)["acceptedCumulative"] == str(DEPOSIT + 50_000)
    poll(lambda: stage.audited("channel.toppedup", session), what="the line")
    session.closed()


def test_a_payer_adds_to_the_deposit_himself(stage):
    session = stage.opened("/api/topup-hash", coins=1)
    stage.token.run(session.wallet.account, "approve", stage.escrow.address, MAXIMUM)
    hash = stage.escrow.transact(session.wallet.account, "topUp", session.channel.id, 7_000)
    challenge = stage.challenge(session.path, "POST")
    payload = {"action": "topUp", "type": "hash", "channelId": session.id, "hash": hash, "additionalDeposit": "7000"}
    response = stage.ask(credential(challenge, payload, session.wallet.source(challenge)), session.path, "POST")
    assert response.status_code == 204, response.text
    assert session.grant(DEPOSIT + 7_000)["acceptedCumulative"] == str(DEPOSIT + 7_000)
    session.closed()
    # Nothing was bought.
    assert session.balance == 1_000_000


@pytest.mark.parametrize("what", ["amount", "transaction"])
def test_a_top_up_by_hash_says_what_was_added(stage, what):
    session = stage.opened("/api/topup-wrong", coins=1)
    stage.token.run(session.wallet.account, "approve", stage.escrow.address, MAXIMUM)
    if what == "amount":
        hash = stage.escrow.transact(session.wallet.account, "topUp", session.channel.id, 7_000)
    else:
        hash = stage.token.transact(session.wallet.account, "transfer", stage.escrow.address, 7_001)
    challenge = stage.challenge(session.path, "POST")
    payload = {"action": "topUp", "type": "hash", "channelId": session.id, "hash": hash, "additionalDeposit": "7001"}
    response = stage.ask(credential(challenge, payload, session.wallet.source(challenge)), session.path, "POST")
    assert response.status_code in (402, 409) and "Payment-Receipt" not in response.headers


def test_a_voucher_may_bring_the_deposit_that_it_needs(stage):
    session = stage.opened("/api/brought")
    top_up = payload_of(session.channel.top_up(session.challenge, 50_000))
    deposit = {name: top_up[name] for name in ("type", "authorization", "signature", "salt")} | {"action": "topUp"}
    payload = payload_of(session.voucher(amount=DEPOSIT + PRICE)) | {"deposit": deposit}
    response = stage.ask(credential(stage.challenge(session.path), payload), session.path)
    assert response.status_code == 200, response.text
    receipt = channel_receipt(response.headers["Payment-Receipt"])
    assert (receipt["acceptedCumulative"], receipt["spent"]) == (str(DEPOSIT + PRICE), str(PRICE)) and session.standing.deposit == DEPOSIT + 50_000


def test_a_top_up_of_what_is_not_there_is_refused(stage):
    session = stage.opened(units=DEPOSIT)
    response = session.top_up(1)
    assert response.status_code in (402, 409) and "Payment-Receipt" not in response.headers and session.standing.deposit == DEPOSIT
    unknown = stage.session()
    unknown_top_up = unknown.top_up(10)
    assert unknown_top_up.status_code == 410 and unknown.balance == 1_000_000


# The end.


def test_a_thousand_vouchers_settle_and_close_with_a_refund(binary, upstream, node, usdc, rich, tmp_path):
    """The whole life of a channel: what the chain says, what the payer signed, what was served and what the books hold are the same."""
    stage = ChannelStage(binary, upstream, tmp_path / "thousand", node, usdc, rich, 'settle-amount = "0.4 USDC"\n')
    # What other tests have sent to the escrow outside of any channel.
    stray = usdc.call("balanceOf", stage.escrow.address) - sum_of_open_channels(stage)
    session = stage.opened("/api/thousand", deposit=1_500_000, units=2_000_000)
    for number in range(1, 1001):
        receipt = session.served()
        assert (receipt["acceptedCumulative"], receipt["spent"]) == (str(number * PRICE), str(number * PRICE))
    assert stage.served(session.path) == 1000
    settled = poll(lambda: session.standing.settled, WATCH_SECONDS, "a settlement by amount")
    assert settled >= 400_000 and stage.received == settled
    poll(lambda: stage.booked == stage.received, what="the settlement in the books")
    receipt = session.closed()
    assert receipt["spent"] == receipt["acceptedCumulative"] == "1000000"
    mined = node.rpc("eth_getTransactionReceipt", receipt["txHash"])
    assert mined["status"] == "0x1" and "ChannelClosed" in [name for name, _ in stage.escrow.logs(mined)]
    standing = session.standing
    assert (standing.deposit, standing.settled, standing.finalized) == (1_500_000, 1_000_000, True)
    assert stage.received == stage.booked == 1_000_000 and session.balance == 1_000_000
    poll(lambda: stage.earned == 1_000_000, what="the merchant's balance")
    assert usdc.call("balanceOf", stage.escrow.address) - sum_of_open_channels(stage) == stray
    stage.close()


def sum_of_open_channels(stage):
    """What the escrow holds for all channels that were ever opened in it."""
    logs = stage.node.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": stage.escrow.address})
    held = 0
    for channel in {log["topics"][1] for log in logs}:
        members = stage.escrow.call("getChannel", bytes.fromhex(channel[2:]))
        held += 0 if members[7] else members[4] - members[5]
    return held


def test_a_close_takes_what_was_spent_and_refunds_the_rest(stage, opened):
    opened.grant(10 * PRICE)
    for _ in range(3):
        assert stage.ask(opened.voucher(0)).status_code == 200
    before = stage.received
    receipt = opened.closed(3 * PRICE)
    assert receipt["spent"] == str(3 * PRICE) and stage.received == before + 3 * PRICE and opened.balance == 1_000_000 - 3 * PRICE
    assert opened.standing.finalized


def test_a_channel_of_which_nothing_was_spent_is_refunded_whole(stage, opened):
    before = stage.received
    assert opened.closed()["spent"] == "0"
    assert opened.standing.finalized and stage.received == before and opened.balance == 1_000_000


def test_a_close_that_covers_less_than_was_spent_takes_the_last_voucher(stage, opened):
    """draft-evm-session, "Cooperative Close", step 1."""
    for _ in range(3):
        opened.served()
    before = stage.received
    receipt = opened.closed(PRICE)
    assert receipt["spent"] == str(3 * PRICE) and stage.received == before + 3 * PRICE and opened.balance == 1_000_000 - 3 * PRICE


def test_the_same_close_again_is_answered_alike_and_nothing_else_is(stage, opened):
    opened.served()
    voucher, close = opened.voucher(), opened.closing(PRICE)
    first = stage.ask(close, method="POST")
    assert first.status_code == 204 and first.headers["Cache-Control"] == "no-store", first.text
    sent = stage.sent
    again = stage.ask(close, method="POST")
    assert again.status_code == 204 and again.headers["Payment-Receipt"] == first.headers["Payment-Receipt"]
    for response in (stage.ask(voucher), stage.ask(voucher, method="HEAD"), opened.top_up(5)):
        assert response.status_code == 410 and "Payment-Receipt" not in response.headers and not session_challenges(response)
    for response in (stage.ask(voucher), opened.top_up(5)):
        assert problem(response) == "session/channel-finalized"
    assert stage.sent == sent and stage.served(opened.path) >= 1


def test_a_close_is_told_by_its_action_and_not_by_its_method(stage):
    for method, path in (("GET", "/api/close"), ("HEAD", "/api/close"), ("POST", "/api/close?x=1"), ("DELETE", "/api/close")):
        session = stage.opened("/api/close")
        session.served(path="/api/paid")
        response = stage.ask(session.closing(), path, method)
        assert response.status_code == 204 and stage.served(path) == 0, (method, response.status_code)
        assert session.standing.finalized and session.balance == 1_000_000 - PRICE


def test_a_close_that_nobody_of_the_channel_signed_closes_nothing(stage, opened):
    opened.served()
    for change in (malleated, lambda s: bytes(65), lambda s: s[:3]):
        response = stage.ask(opened.altered(PRICE + 1, change, action="close"), method="POST")
        assert response.status_code == 402 and not opened.standing.finalized
    opened.channel.signer = new_account()
    response = stage.ask(opened.closing(PRICE), method="POST")
    assert response.status_code == 402 and problem(response) == "session/signer-mismatch"
    opened.channel.signer = opened.wallet.account
    beyond = stage.ask(opened.closing(DEPOSIT + 1), method="POST")
    assert beyond.status_code == 402 and problem(beyond) == "session/amount-exceeds-deposit" and not opened.standing.finalized
    assert opened.served()["spent"] == str(2 * PRICE)


def test_a_close_in_the_middle_of_a_stream_ends_it_and_its_charges(stage):
    session = stage.opened("/files/drip/400", deposit=1_000_000)
    connection = stage.farebox.connection()
    connection.request("GET", session.path, {"Authorization": session.voucher(1_000_000)})
    assert connection.head().status == 200
    chunks = connection.chunks()
    delivered = len(next(chunks))
    receipt = session.closed()
    with pytest.raises((ConnectionError, AssertionError, ValueError)):
        for chunk in chunks:
            delivered += len(chunk)
    assert 0 < delivered < 400_000 and int(receipt["spent"]) <= -(-(delivered + 64_000) // 100)
    assert session.standing.finalized


def test_sessions_follow_one_another_over_restarts(stage):
    session = stage.opened("/api/restarted")
    session.served()
    for stop in (stage.farebox.stop, stage.farebox.kill):
        stop()
        stage.farebox.start()
        stage.wait_for_offers()
        assert stage.ask(session.voucher(0)).status_code == 402
        session.served()
    assert session.closed()["spent"] == str(3 * PRICE) and session.balance == 1_000_000 - 3 * PRICE


def test_the_books_say_what_the_chain_says(stage):
    poll(lambda: stage.booked == stage.received, WATCH_SECONDS, "the money in the books")

    def told():
        return sum(int(line["amount"]) for event in ("channel.settled", "channel.closed") for line in stage.audited(event))

    poll(lambda: told() == stage.received, what="a line for every payment")
    assert stage.earned <= stage.received
