"""What hostile payers, strangers and upstreams try with sessions over payment channels. None of it is served for nothing, moves money twice, or ends the proxy."""

import base64
import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from eth_abi import encode
from eth_utils import keccak

from chain.contracts import Contract, send
from chain.credentials import b64u, credential, did, request_of
from chain.wallet import MAXIMUM, ZERO, authorization, channel_id, hexadecimal, malleated, new_account, open_nonce, sign, token_domain, voucher_message
from channelstage import DEPOSIT, WATCH_SECONDS, ChannelStage, channel_receipt, problem, session_challenges
from harness import fetch, parse_challenges
from paystage import PRICE, changed, members_of, payload_of, poll


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = ChannelStage(binary, upstream, tmp_path_factory.mktemp("channels"), node, usdc, rich)
    yield stage
    stage.close()


@pytest.fixture
def opened(stage):
    return stage.opened()


def assert_refused(stage, session, value, path=None, statuses=(402, 409, 410), deposit=0):
    """A credential that opens nothing: the payer keeps what he has, and nobody is served."""
    path = path or session.path
    before, served = session.balance, stage.served(path)
    response = stage.ask(value, path)
    assert response.status_code in statuses, (response.status_code, response.text)
    assert "Payment-Receipt" not in response.headers and session.balance == before
    assert session.standing.deposit == deposit and stage.served(path) == served
    return response


# Openings.


@pytest.mark.parametrize(
    "changes",
    [
        {"channelId": "0x" + "11" * 32},
        {"salt": "0x" + "22" * 32},
        {"authorizedSigner": "0x" + "33" * 20},
        {"type": "permit2"},
        {"type": "hash"},
        {"type": "transaction"},
        {"cumulativeAmount": str(DEPOSIT + 1)},
        {"cumulativeAmount": str(2 * PRICE)},
        {"voucherSignature": malleated},
        {"voucherSignature": lambda s: bytes(65)},
        {"voucherSignature": None},
        {"signature": malleated},
        {"signature": lambda s: bytes([s[0] ^ 1]) + s[1:]},
        {"signature": None},
        {"action": "topUp"},
    ],
    ids=lambda changes: "-".join(changes) + str(list(changes.values())[0])[:8],
)
def test_an_opening_whose_members_were_altered(stage, changes):
    session = stage.session("/api/altered")
    assert_refused(stage, session, changed(session.opening(), **changes), statuses=(400, 402, 409, 410))


@pytest.mark.parametrize(
    "changes",
    [
        {"to": "0x" + "11" * 20},
        {"value": str(DEPOSIT + 1)},
        {"value": str(2**128 + DEPOSIT)},
        {"value": "0"},
        {"from": "0x" + "22" * 20},
        {"nonce": "0x" + "33" * 32},
        {"validBefore": "1"},
        {"validAfter": str(int(time.time()) + 3600)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_an_authorization_that_was_altered(stage, changes):
    session = stage.session("/api/altered")
    value = session.opening()
    assert_refused(stage, session, changed(value, authorization=payload_of(value)["authorization"] | changes), statuses=(400, 402))


def test_an_authorization_that_is_no_deposit(stage):
    """Signed as it should be, and for something else: another receiver, another nonce, nothing."""
    session = stage.session("/api/no-deposit")
    channel = session.channel
    nonce = open_nonce(session.wallet.address, channel.payee, channel.token, channel.salt, ZERO)
    domain = token_domain(channel.chain_id, channel.token)
    for receiver, amount, number, kind in (
        (stage.merchant.address, DEPOSIT, nonce, "ReceiveWithAuthorization"),
        (channel.escrow, DEPOSIT, os.urandom(32), "ReceiveWithAuthorization"),
        (channel.escrow, DEPOSIT, nonce, "TransferWithAuthorization"),
        (channel.escrow, 0, nonce, "ReceiveWithAuthorization"),
    ):
        arguments, message = authorization(domain, session.wallet.address, receiver, amount, nonce=number, kind=kind)
        terms = dict(zip(("from", "to", "value", "validAfter", "validBefore", "nonce"), [*map(str, arguments[:5]), hexadecimal(number)]))
        value = changed(session.opening(), authorization=terms)
        value = changed(value, signature=hexadecimal(sign(session.wallet.account, message)))
        assert_refused(stage, session, value, statuses=(400, 402))


def test_a_channel_of_another_payee_token_or_escrow_opens_nothing(stage, node, usdc, rich):
    """Channels that exist, and from which nothing can come to us."""
    for change in ("payee", "token", "escrow"):
        session = stage.session("/api/others", coins=1)
        channel = session.channel
        if change == "payee":
            channel.payee = new_account().address
        elif change == "token":
            other = Contract(node.rpc, "Token", "usd-coin")
            other.run(rich, "mint", session.wallet.address, DEPOSIT)
            channel.token = other.address
        else:
            channel.escrow = Contract(node.rpc, "TempoChannels", "tempo-channels").address
        channel.id = channel_id(channel.chain_id, channel.escrow, session.wallet.address, channel.payee, channel.token, channel.salt)
        session.id = hexadecimal(channel.id)
        opening = channel.broadcast_open(node.rpc)
        assert node.rpc("eth_getTransactionReceipt", opening)["status"] == "0x1"
        response = stage.ask(session.opening("hash", hash=opening), session.path)
        assert response.status_code in (402, 409, 410) and "Payment-Receipt" not in response.headers, (change, response.status_code, response.text)
        assert stage.served(session.path) == 0


def test_an_opening_by_the_hash_of_something_else(stage, node, usdc):
    """A transfer, another channel's opening, a reverted one, and one that nobody knows."""
    session, other = stage.session("/api/hashes", coins=1), stage.session("/api/hashes", coins=1)
    transfer = usdc.transact(session.wallet.account, "transfer", stage.escrow.address, DEPOSIT)
    theirs = other.channel.broadcast_open(node.rpc)
    kinds = ["address", "address", "uint128", "bytes32", "address"]
    channel = session.channel
    data = keccak(text=f"open({','.join(kinds)})")[:4] + encode(kinds, [channel.payee, channel.token, DEPOSIT, channel.salt, ZERO])
    reverted = send(node.rpc, session.wallet.account, channel.escrow, hexadecimal(data))
    assert node.rpc("eth_getTransactionReceipt", reverted)["status"] == "0x0"
    for hash in (transfer, theirs, reverted):
        value = session.opening("hash", hash=hash)
        assert_refused(stage, session, value)
        session.challenge = stage.challenge(session.path)
    # It was the other's, and he can still use it.
    assert stage.ask(other.opening("hash", hash=theirs), other.path).status_code == 200


def test_a_stranger_cannot_open_with_anothers_transaction(stage, node):
    victim, thief = stage.session("/api/victim", coins=1), stage.session("/api/victim")
    opening = victim.channel.broadcast_open(node.rpc)
    # As himself, for a channel of the victim's; and in the victim's name, with a signature of his own.
    stolen = victim.channel.open_by_hash(thief.challenge, opening, PRICE)
    response = stage.ask(credential(thief.challenge, payload_of(stolen), did(84532, thief.wallet.address)), "/api/victim")
    assert response.status_code in (402, 410) and stage.served("/api/victim") == 0
    signer, victim.channel.signer = victim.channel.signer, thief.wallet.account
    forged = victim.channel.open_by_hash(stage.challenge("/api/victim"), opening, PRICE)
    response = stage.ask(forged, "/api/victim")
    assert response.status_code == 402 and problem(response) == "session/signer-mismatch" and stage.served("/api/victim") == 0
    victim.channel.signer = signer
    assert stage.ask(victim.opening("hash", hash=opening), "/api/victim").status_code == 200


def test_the_same_channel_is_not_opened_again_with_nothing_spent(stage, node):
    """A new challenge, and the opening of before: what was spent stays spent."""
    session = stage.session("/api/reopened", coins=1)
    opening = session.channel.broadcast_open(node.rpc)
    assert stage.ask(session.opening("hash", amount=PRICE, hash=opening), session.path).status_code == 200
    for _ in range(3):
        session.challenge = stage.challenge(session.path)
        response = stage.ask(session.channel.open_by_hash(session.challenge, opening, PRICE), session.path)
        assert response.status_code in (402, 409), (response.status_code, response.text)
    assert stage.served(session.path) == 1
    session.signed = PRICE
    assert session.served()["spent"] == str(2 * PRICE)
    session.closed()
    # Nor after its end, in whatever way.
    for kind in ("hash", "authorization"):
        session.challenge = stage.challenge(session.path)
        value = session.opening(kind, PRICE, opening) if kind == "hash" else session.opening(kind)
        response = stage.ask(value, session.path)
        assert response.status_code in (402, 409, 410) and "Payment-Receipt" not in response.headers, (kind, response.status_code, response.text)
    assert stage.served(session.path) == 2


def test_an_opening_on_a_channel_that_is_being_closed_by_force(stage, node):
    session = stage.session("/api/closing-already", coins=1)
    opening = session.channel.broadcast_open(node.rpc)
    session.request_close()
    response = stage.ask(session.opening("hash", hash=opening), session.path)
    assert response.status_code in (402, 410) and stage.served(session.path) == 0, (response.status_code, response.text)


def test_who_submits_anothers_authorization_makes_him_a_channel_all_the_same(stage, node, rich):
    """Anybody may hand in what the payer signed: he paid once, and is served for it."""
    session = stage.session("/api/front-run")
    value = session.opening(amount=2 * PRICE)
    terms, channel = payload_of(value), session.channel
    pulled = terms["authorization"]
    stage.escrow.run(
        rich, "openWithAuthorization", channel.payee, channel.token, DEPOSIT, channel.salt, ZERO, session.wallet.address, int(pulled["validAfter"]),
        int(pulled["validBefore"]), bytes.fromhex(pulled["nonce"][2:]), bytes.fromhex(terms["signature"][2:]))
    assert session.standing.deposit == DEPOSIT
    (response,) = poll(lambda: (found := stage.ask(value, session.path)).status_code != 503 and [found], WATCH_SECONDS, "an answer")
    assert response.status_code == 200, (response.status_code, response.text)
    assert session.balance == 1_000_000 - DEPOSIT
    assert session.closed(PRICE)["spent"] == str(PRICE)


def test_what_is_deposited_is_what_the_chain_says(stage, node, usdc):
    """The payer signs for much, and opens the same channel himself with little: no voucher holds beyond what is there."""
    session = stage.session("/api/little", coins=1)
    value = session.opening(amount=2 * PRICE)
    channel = session.channel
    channel.deposit = PRICE
    channel.broadcast_open(node.rpc)
    assert session.standing.deposit == PRICE
    for _ in range(2):
        response = stage.ask(value, session.path)
        assert response.status_code == 402 and problem(response) == "session/amount-exceeds-deposit", (response.status_code, response.text)
    assert stage.served(session.path) == 0
    beyond = session.pay()
    assert beyond.status_code in (402, 409, 410, 503) and stage.served(session.path) == 0


def test_an_opening_by_hash_with_a_voucher_beyond_what_it_deposited(stage, node):
    session = stage.session("/api/beyond", coins=1)
    opening = session.channel.broadcast_open(node.rpc)
    response = stage.ask(session.opening("hash", DEPOSIT + 1, opening), session.path)
    assert response.status_code == 402 and problem(response) == "session/amount-exceeds-deposit" and stage.served(session.path) == 0, response.text
    # The deposit is there, and can be used by who says no more than it holds.
    session.challenge = stage.challenge(session.path)
    assert stage.ask(session.opening("hash", PRICE, opening), session.path).status_code == 200


def test_a_deposit_is_no_charge_and_a_charge_no_deposit(stage):
    """What was signed for one is not taken for the other, and a challenge of the one not for the other."""
    session = stage.session("/api/kinds")
    response = requests.get(stage.farebox.origin + session.path, timeout=5)
    fields = response.raw.headers.getlist("WWW-Authenticate")
    charge = next(c for value in fields for c in parse_challenges([("WWW-Authenticate", value)]) if c["intent"] == "charge")
    paid = payload_of(session.wallet.authorization(charge))
    assert_refused(stage, session, credential(session.challenge, paid, session.wallet.source(charge)), statuses=(400, 402))
    assert_refused(stage, session, credential(charge, payload_of(session.opening()), session.wallet.source(charge)), statuses=(400, 402))


def test_the_opening_deposit_is_not_a_top_up(stage):
    """Aperture took the opening's credential again as a topUp, and served it unpaid."""
    session = stage.session("/api/twice")
    opening = payload_of(session.opening())
    assert stage.ask(session.opening(), session.path).status_code == 200
    disguised = {name: opening[name] for name in ("type", "channelId", "authorization", "signature", "salt")}
    payload = disguised | {"action": "topUp", "additionalDeposit": str(DEPOSIT)}
    served = stage.served(session.path)
    for challenge in (session.challenge, stage.challenge(session.path)):
        response = stage.ask(credential(challenge, payload, session.wallet.source(challenge)), session.path)
        assert response.status_code in (402, 409) and stage.served(session.path) == served, (response.status_code, response.text)
    assert session.standing.deposit == DEPOSIT
    assert problem(stage.ask(session.altered(DEPOSIT + 1), session.path)) == "session/amount-exceeds-deposit"


def test_top_ups_for_more_than_they_bring(stage):
    session = stage.opened("/api/more")
    challenge = stage.challenge(session.path)
    value = session.channel.top_up(challenge, 1_000)
    for additional in ("2000", "999", "0", "-1", str(2**128), "1e3", None):
        response = stage.ask(changed(value, additionalDeposit=additional), session.path, "POST")
        assert response.status_code in (400, 402), (additional, response.status_code, response.text)
    assert session.standing.deposit == DEPOSIT
    # What a stranger adds to another's channel is the other's, and what is added to one is not another's.
    other = stage.opened("/api/more")
    response = stage.ask(changed(value, channelId=other.id), session.path, "POST")
    assert response.status_code in (402, 409) and other.standing.deposit == DEPOSIT


def test_one_top_up_does_not_count_twice(stage, node, usdc):
    session = stage.opened("/api/once-only", coins=1)
    usdc.run(session.wallet.account, "approve", stage.escrow.address, MAXIMUM)
    hash = stage.escrow.transact(session.wallet.account, "topUp", session.channel.id, 5_000)
    payload = {"action": "topUp", "type": "hash", "channelId": session.id, "hash": hash, "additionalDeposit": "5000"}
    for _ in range(3):
        challenge = stage.challenge(session.path)
        stage.ask(credential(challenge, payload, session.wallet.source(challenge)), session.path, "POST")
    assert problem(stage.ask(session.altered(DEPOSIT + 5_001), session.path)) == "session/amount-exceeds-deposit"
    assert session.grant(DEPOSIT + 5_000)["acceptedCumulative"] == str(DEPOSIT + 5_000)


# Challenges.


@pytest.mark.parametrize("name", ["id", "realm", "request", "expires", "opaque", "method", "intent"])
def test_a_challenge_that_was_altered(stage, opened, name):
    session = stage.session("/api/forged")
    for holder, value in ((session, session.opening()), (opened, opened.voucher())):
        members = members_of(value)
        if name == "request":
            request = request_of(members["challenge"])
            request["amount"] = "1"
            members["challenge"]["request"] = b64u(json.dumps(request).encode())
        elif name == "expires":
            members["challenge"]["expires"] = "2099-01-01T00:00:00Z"
        else:
            known = members["challenge"].get(name, "x")
            members["challenge"][name] = {"method": "tempo", "intent": "charge"}.get(name, ("B" if known[0] == "A" else "A") + known[1:])
        response = stage.ask(credential(members["challenge"], members["payload"], members.get("source")), holder.path)
        assert response.status_code in (400, 402) and "Payment-Receipt" not in response.headers, (response.status_code, response.text)
    assert session.balance == 1_000_000 and opened.spent == 0


def test_a_challenge_of_another_merchant(stage, binary, upstream, node, usdc, rich, tmp_path):
    other = ChannelStage(binary, upstream, tmp_path / "other", node, usdc, rich)
    foreign = other.challenge("/api/a")
    session = stage.opened()
    response = stage.ask(session.voucher(challenge=foreign))
    assert response.status_code == 402 and session_challenges(response) and session.spent == 0
    # And a channel of theirs is none of ours.
    theirs = other.opened()
    theirs.challenge = stage.challenge("/api/a")
    assert theirs.pay().status_code in (402, 410) or stage.ask(theirs.voucher()).status_code in (402, 410)
    other.close()


def test_fields_that_a_client_makes_up(stage, opened, upstream):
    receipt = base64.urlsafe_b64encode(b'{"status":"success"}').decode().rstrip("=")
    fields = {"Payment_Session": opened.id, "Payment_Session_Snapshot": "e30", "Payment_Receipt": receipt}
    response = requests.get(stage.farebox.origin + "/api/made-up", headers={name.replace("_", "-"): value for name, value in fields.items()}, timeout=5)
    assert response.status_code == 402 and stage.served("/api/made-up") == 0
    assert stage.ask(opened.voucher(), "/api/made-up", **fields).status_code == 200
    seen = {name.lower() for name, _ in upstream.last()["headers"]}
    assert not seen & {"authorization", "payment-session", "payment-session-snapshot", "payment-receipt", "payment-authorization"}


def test_two_credentials_in_one_request(stage, opened):
    values = [opened.voucher(), opened.voucher()]
    with stage.farebox.connection() as connection:
        connection.request("GET", "/api/two", [("Authorization", value) for value in values])
        response = connection.read()
    assert response.status == 400 and stage.served("/api/two") == 0


def test_one_credential_in_other_spellings_is_one(stage, opened):
    """Spaces, padding, scheme and hex case: what counts is what was decoded."""
    value = opened.voucher()
    token = value.removeprefix("Payment ")
    assert stage.ask(value).status_code == 200
    payload = payload_of(value)
    shouted = payload | {"channelId": payload["channelId"].upper().replace("0X", "0x"), "signature": payload["signature"].upper().replace("0X", "0x")}
    spellings = ["payment " + token, "PAYMENT  " + token, "Payment " + token + "=" * (-len(token) % 4), credential(opened.challenge, shouted)]
    spellings.append("Payment " + b64u(json.dumps(members_of(value), indent=1).encode()))
    for spelling in spellings:
        response = stage.ask(spelling)
        assert response.status_code in (400, 402), (response.status_code, response.text)
    assert opened.spent == PRICE


def test_credentials_that_are_garbage(stage, opened):
    good = opened.voucher().removeprefix("Payment ")
    rubbish = [
        "Payment",
        "Payment ====",
        "Payment " + good[:-30],
        "Payment " + good[5:],
        "Payment " + b64u(b"[]"),
        "Payment " + b64u(b'{"challenge":1,"payload":2}'),
        "Payment " + b64u(b'{"challenge":{},"payload":{"action":"voucher"}}'),
        "Payment " + b64u(b"{" * 5000),
        "Payment " + b64u(json.dumps({"challenge": opened.challenge, "payload": []}).encode()),
        "Payment " + b64u(json.dumps({"challenge": opened.challenge, "payload": {"action": ["voucher"]}}).encode()),
        "Payment " + b64u(json.dumps({"challenge": opened.challenge, "payload": {"action": "voucher", "deposit": {}}}).encode()),
        "Payment " + b64u(json.dumps({"challenge": opened.challenge, "payload": payload_of(opened.voucher(0)) | {"deposit": "x"}}).encode()),
        "Payment " + b64u(json.dumps({"challenge": opened.challenge, "payload": payload_of(opened.voucher(0)) | {"deposit": {"action": "close"}}}).encode()),
    ]
    with stage.farebox.connection() as connection:
        for value in rubbish:
            response = fetch(connection, "GET", "/api/garbage", {"Authorization": value})
            assert response.status in (400, 402), (value[:60], response.status, response.body)
    assert stage.served("/api/garbage") == 0 and opened.spent == 0
    # A member that stands there twice is not read as two people do.
    text = json.dumps(members_of(opened.voucher()))
    doubled = text.replace('"cumulativeAmount": "', '"cumulativeAmount": "1", "cumulativeAmount": "')
    assert doubled != text and stage.ask("Payment " + b64u(doubled.encode()), "/api/garbage").status_code in (400, 402)


# Budgets.


def test_who_leaves_early_pays_for_what_he_got(stage):
    session = stage.opened("/files/drip/200", deposit=1_000_000)
    connection = stage.farebox.connection()
    connection.request("GET", session.path, {"Authorization": session.voucher(10_000)})
    assert connection.head().status == 200
    connection.exactly(20_000)
    connection.close()
    poll(lambda: 200 <= session.spent < 2_000, what="the cost")


def test_many_streams_share_one_budget(stage):
    """Whatever they hold, together they get no more than what was signed for."""
    session = stage.opened("/files/bytes/3000000", deposit=1_000_000)
    value, got = session.voucher(50_000), []

    def stream(_):
        connection = stage.farebox.connection(timeout=20)
        connection.request("GET", session.path, {"Authorization": value})
        count = 0
        try:
            if connection.head().status == 200:
                while chunk := connection.socket.recv(262_144):
                    count += len(chunk)
                count += len(connection.buffer)
        except OSError:
            pass
        connection.close()
        got.append(count)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(stream, range(12)))
    spent = poll(lambda: (found := session.spent) and found, what="the cost")
    assert spent <= 50_000 and sum(got) <= 5_000_000 + 12 * 65_536, (spent, sum(got))
    receipt = session.closed(50_000)
    assert int(receipt["spent"]) <= 50_000


def test_a_tiny_voucher_buys_nothing_by_being_one_of_many(stage, opened):
    for number in range(1, 40):
        response = stage.ask(opened.voucher(1), "/api/tiny")
        assert response.status_code in (402, 429), response.text
    assert stage.served("/api/tiny") == 0 and opened.spent == 0


def test_a_flood_of_bad_signatures_is_cut_off_and_leaves_nothing(stage, opened):
    """Each costs a signature check: after a few in a second nobody looks any more. Other channels are not concerned."""
    lines = len(stage.farebox.audit_path.read_text().splitlines())
    stranger = new_account()
    signature = sign(stranger, voucher_message(opened.channel.domain, opened.channel.id, PRICE))
    values = [opened.altered(PRICE + number, lambda _: signature) for number in range(120)]
    with ThreadPoolExecutor(16) as pool:
        statuses = [response.status_code for response in pool.map(stage.ask, values)]
    assert set(statuses) <= {402, 429} and 429 in statuses, {status: statuses.count(status) for status in set(statuses)}
    assert stage.opened().served()["spent"] == str(PRICE)
    poll(lambda: opened.pay().status_code == 200, what="the end of the limit")
    assert len(stage.farebox.audit_path.read_text().splitlines()) < lines + 30


def test_strangers_cannot_shut_a_payer_out(stage, opened):
    """Bad vouchers for his channel, from others, do not keep him from using what he signed before."""
    value = opened.voucher(5 * PRICE)
    assert stage.ask(value).status_code == 200
    bad = opened.altered(6 * PRICE, lambda s: bytes([s[0] ^ 1]) + s[1:])
    for _ in range(60):
        assert stage.ask(bad).status_code in (402, 429)
    assert stage.ask(value).status_code == 200


class From(requests.adapters.HTTPAdapter):
    """Requests from another address of this machine."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


def elsewhere(method, url, **options):
    """A request from another address of this machine, as strangers' are."""
    with requests.Session() as stranger:
        stranger.mount("http://", From("127.0.0.9"))
        return stranger.request(method, url, timeout=60, **options)


def test_strangers_cannot_slow_a_payer(stage, opened):
    """What others send for his channel, from elsewhere, is not held against him: new vouchers, by new challenges, are taken while it goes on."""
    bad = opened.altered(6 * PRICE, lambda s: bytes([s[0] ^ 1]) + s[1:])
    stop = threading.Event()

    def flood():
        with requests.Session() as stranger:
            stranger.mount("http://", From("127.0.0.9"))
            statuses = set()
            while not stop.is_set():
                statuses.add(stranger.get(stage.farebox.origin + "/api/a", headers={"Authorization": bad}, timeout=10).status_code)
            return statuses

    with ThreadPoolExecutor(2) as pool:
        floods = [pool.submit(flood) for _ in range(2)]
        try:
            statuses = [stage.ask(opened.voucher(challenge=stage.challenge("/api/a"))).status_code for _ in range(20)]
        finally:
            stop.set()
        assert statuses == [200] * 20 and any(429 in flood.result() for flood in floods)


# What stands on the chain.


@pytest.mark.parametrize("meanwhile", ["waiting", "landed", "forgotten", "restarted"])
def test_what_was_handed_out_on_the_chain_is_nobodys_proof(stage, node, meanwhile):
    """A settlement's voucher and signature are everybody's to read, whether it lands or not: with a challenge of his own a stranger buys nothing by
    them, learns nothing, and does not close the channel. Its payer does all that, by the challenges by which he has used it."""
    session = stage.opened("/api/public-" + meanwhile)
    second = stage.challenge(session.path)
    session.grant(10 * PRICE)
    assert stage.ask(session.voucher(0, challenge=second), session.path).status_code == 200
    node.hold()
    try:
        stage.farebox.command("channel", "settle", session.id)
        (waiting,) = poll(lambda: stage.pooled, WATCH_SECONDS, "a settlement")
        if meanwhile == "landed":
            node.release()
            poll(lambda: session.standing.settled, what="the settlement")
        elif meanwhile == "forgotten":
            node.forget(waiting)
        elif meanwhile == "restarted":
            node.forget(waiting)
            stage.farebox.kill()
            stage.farebox.start()
            stage.wait_for_offers(WATCH_SECONDS)
        own, served = stage.challenge(session.path), stage.served(session.path)
        stolen = session.voucher(0, challenge=own)
        for _ in range(2):
            response = stage.ask(stolen, session.path)
            assert response.status_code == 402 and stage.served(session.path) == served, (response.status_code, response.text)
        assert session.channel.voucher_signature(10 * PRICE).hex() not in response.text
        response = elsewhere("POST", stage.farebox.origin + session.path, headers={"Authorization": session.closing(challenge=own)})
        assert response.status_code == 402 and response.json()["requiredCumulative"] == str(10 * PRICE + 1), response.text
        assert stage.farebox.command("channel", "show", session.id)["state"] == "open"
        # The payer's own challenges go on, and one of his that was not seen before needs a voucher for more.
        for challenge in (session.challenge, second):
            assert stage.ask(session.voucher(0, challenge=challenge), session.path).status_code == 200
        assert stage.ask(session.voucher(1, challenge=own), session.path).status_code == 200
    finally:
        node.release()
    session.close_until_done(10 * PRICE)
    assert session.standing.finalized


def test_a_payer_closes_by_a_challenge_that_bought_nothing(stage):
    """Clients close by the challenge that they got last. Where all that was signed is settled, they are known by where they have come from."""
    session = stage.opened("/api/leaving")
    for _ in range(2):
        session.served()
    stage.farebox.command("channel", "settle", session.id)
    poll(lambda: session.standing.settled == 2 * PRICE, WATCH_SECONDS, "the settlement")
    last = stage.challenge(session.path)
    value = session.closing(challenge=last)
    response = elsewhere("POST", stage.farebox.origin + session.path, headers={"Authorization": value})
    assert response.status_code == 402 and stage.farebox.command("channel", "show", session.id)["state"] == "open", response.text
    # Neighbours may share its address: the channel is left alone for a minute first.
    response = stage.ask(value, session.path, "POST")
    assert response.status_code == 402 and int(response.headers["Retry-After"]) == 60, response.text
    assert stage.farebox.command("channel", "show", session.id)["state"] == "open"
    time.sleep(61)
    response = stage.ask(value, session.path, "POST")
    assert response.status_code == 204, response.text
    assert session.standing.finalized and channel_receipt(response.headers["Payment-Receipt"])["txHash"]
    # The same again, as clients do that got no answer.
    assert stage.ask(value, session.path, "POST").status_code == 204


# Hostile upstreams.


def test_what_an_upstream_forges_does_not_get_through(stage, opened):
    response = stage.ask(opened.voucher(), "/api/forge")
    assert response.status_code == 200 and "WWW-Authenticate" not in response.headers and "PAYMENT-RESPONSE" not in response.headers
    assert channel_receipt(response.headers["Payment-Receipt"])["channelId"] == opened.id
    session = stage.opened("/events/events/4", deposit=1_000_000)
    text = stage.ask(session.voucher(500_000), session.path).text
    assert text.count("event: payment-receipt") == 1 and text.rindex("event: payment-receipt") > text.rindex("[DONE]")
    assert "data: forged" in text


def test_a_body_that_is_cut_short_costs_what_came(stage):
    session = stage.opened("/files/cut/2000000", deposit=1_000_000)
    with stage.farebox.connection() as connection:
        connection.request("GET", session.path, {"Authorization": session.voucher(100_000)})
        response = connection.read()
    assert response.status == 200 and not response.complete
    poll(lambda: session.spent == -(-len(response.body) // 100), what="the cost")


# Secrets.


def test_nothing_that_pays_is_logged(stage):
    """What was signed stays out of logs and audit lines: who reads them cannot present it."""
    session = stage.session("/api/secret")
    opening, voucher = session.opening(), session.voucher()
    assert stage.ask(opening, session.path).status_code == 200 and stage.ask(voucher, session.path).status_code == 200
    stage.ask(session.altered(5 * PRICE, malleated), session.path)
    close = session.closing()
    assert stage.ask(close, session.path, "POST").status_code == 204
    stage.farebox.settle_log()
    texts = stage.farebox.log_path.read_text() + stage.farebox.audit_path.read_text()
    signatures = [payload_of(opening)[name] for name in ("signature", "voucherSignature")] + [payload_of(voucher)["signature"]]
    for secret in (*signatures, opening[8:], voucher[8:], stage.signer.key.hex()):
        assert secret.removeprefix("0x") not in texts


# Configurations.


def test_a_shop_whose_money_would_be_out_of_reach_is_told_so(binary, stage, tmp_path):
    """An escrow pays whom it knows as payee: only his own key can settle there."""
    text = stage.farebox.configuration.read_text().replace(stage.merchant.address, new_account().address)
    path = tmp_path / "proxy.conf"
    path.write_text(text)
    done = subprocess.run([binary, "check", str(path)], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and stage.signer.address in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_books_say_what_the_chain_says(stage):
    poll(lambda: stage.booked == stage.received, WATCH_SECONDS, "the money in the books")
    stage.farebox.assert_books_balance()
    assert stage.farebox.process.poll() is None and "Fatal error" not in stage.farebox.log_path.read_text()
