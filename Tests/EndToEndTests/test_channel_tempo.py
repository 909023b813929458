"""MPP's sessions over payment channels, method tempo, on the stand-in for Tempo: both kinds of escrow, with and without the payer's fees, transactions by pytempo's
keys. Whatever differs from method evm is tested here, and the rest once."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import rlp
from eth_abi import encode
from eth_utils import keccak
from pytempo import Call, TempoTransaction

from chain.contracts import Contract
from chain.credentials import EvmWallet, credential, request_of
from chain.node import Node
from chain.tempo import EXPIRING
from chain.wallet import ZERO, compact, hexadecimal, malleated, new_account, sign, typed
from channelstage import DEPOSIT, WATCH_SECONDS, ChannelStage, Session, channel_receipt, details_of, problem, session_challenges
from harness import SHOP
from paystage import PRICE, payload_of, poll

MODERATO = 42431
LIMITS = itertools.count(1_000_000)
RULES = {
    "v1": ("tempo-channels", "TempoChannels", "Tempo Stream Channel", "uint128"),
    "v2": ("tempo-reserve", "TempoReserve", "TIP20 Channel Reserve", "uint96"),
}
MEMBERS = ("payer", "payee", "operator", "token", "salt", "authorizedSigner", "expiringNonceHash")

TEMPO_SHOP = SHOP + """
addresses = {{ "tempo-testnet" = "MERCHANT" }}

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[timeouts]
drain = "3 s"

[[chain]]
name = "tempo-testnet"
CHAIN
[[chain.token]]
currency = "usdc"
address = "TOKEN"

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "api"
prefix = "/api/"
price = "0.001 USDC per request"
rails = ["tempo:tempo-testnet"]

[[route]]
id = "events"
prefix = "/events/"
price = "1 USDC per MB"
rails = ["tempo:tempo-testnet"]
hold-timeout = "10 s"
"""


class TempoChannel:
    """A channel for a challenge of method tempo. What opens it is signed at once, for version 2 takes its name from that."""

    def __init__(self, wallet, challenge, deposit, signer=None, salt=None, node=None, **fields):
        request, details = request_of(challenge), request_of(challenge)["methodDetails"]
        self.wallet, self.deposit, self.node = wallet, deposit, node
        self.version = details.get("sessionProtocol", "v1")
        self.chain_id, self.escrow, self.sponsored = details.get("chainId", 4217), details["escrowContract"], details.get("feePayer", False)
        self.payee, self.token, self.operator = request["recipient"], request["currency"], details.get("operator", ZERO)
        self.salt, self.signer = salt or os.urandom(32), signer or wallet.account
        self.authorized = signer.address if signer else ZERO
        place, name, self.name, self.kind = RULES[self.version]
        self.contract = Contract(node.rpc, name, place)
        coin = Contract(node.rpc, "Token", self.token)
        if self.version == "v1":
            approval = Call.create(to=self.token, data=coin.data("approve", self.escrow, deposit))
            opening = Call.create(to=self.escrow, data=self.contract.data("open", self.payee, self.token, deposit, self.salt, self.authorized))
            self.transaction = self.signed(approval, opening, **fields)
            parts = [(wallet.address, "address"), (self.payee, "address"), (self.token, "address"), (self.salt, "bytes32"), (self.authorized, "address")]
        else:
            arguments = (self.payee, self.operator, self.token, deposit, self.salt, self.authorized)
            self.transaction = self.signed(Call.create(to=self.escrow, data=self.contract.data("open", *arguments)), **fields)
            self.nonce_hash = keccak(self.body.encode_for_signing() + bytes.fromhex(wallet.address[2:]))
            parts = [(wallet.address, "address"), (self.payee, "address"), (self.operator, "address"), (self.token, "address"), (self.salt, "bytes32")]
            parts += [(self.authorized, "address"), (self.nonce_hash, "bytes32")]
        parts += [(self.escrow, "address"), (self.chain_id, "uint256")]
        self.id = keccak(encode([kind for _, kind in parts], [value for value, _ in parts]))
        self.domain = {"name": self.name, "version": "1", "chainId": self.chain_id, "verifyingContract": self.escrow}

    def signed(self, *calls, **fields):
        fees = {"gas_limit": next(LIMITS), "max_fee_per_gas": 2 * 10**9, "max_priority_fee_per_gas": 10**9}
        lane = {"nonce_key": EXPIRING, "valid_before": self.node.chain.now() + 60}
        payer = {"awaiting_fee_payer": True} if self.sponsored else {"fee_token": self.token}
        self.body = TempoTransaction.create(chain_id=self.chain_id, calls=calls, **{**fees, **lane, **payer, **fields})
        encoded = self.body.sign(self.wallet.account.key.hex()).encode()
        if self.sponsored and not fields:
            # As the draft has it, one zero octet keeps the place of who pays the fees.
            members = rlp.decode(encoded[1:])
            encoded = encoded[:1] + rlp.encode([*members[:11], b"\0", *members[12:]])
        return hexadecimal(encoded)

    @property
    def descriptor(self):
        values = (self.wallet.address, self.payee, self.operator, self.token, hexadecimal(self.salt), self.authorized, hexadecimal(self.nonce_hash))
        return dict(zip(MEMBERS, [value.lower() for value in values]))

    def described(self, payload):
        return payload | ({"descriptor": self.descriptor} if self.version == "v2" else {})

    def voucher_signature(self, amount):
        members = {"channelId": self.id, "cumulativeAmount": amount}
        return sign(self.signer, typed(self.domain, "Voucher", f"bytes32 channelId,{self.kind} cumulativeAmount", members))

    def open(self, challenge, kind="transaction", amount=0):
        payload = {
            "action": "open",
            "type": "transaction",
            "channelId": hexadecimal(self.id),
            "transaction": self.transaction,
            "cumulativeAmount": str(amount),
            "signature": hexadecimal(self.voucher_signature(amount)),
        }
        return credential(challenge, self.described(payload), self.wallet.source(challenge))

    def top_up(self, challenge, amount, kind="transaction"):
        if self.version == "v1":
            coin = Contract(self.node.rpc, "Token", self.token)
            approval = Call.create(to=self.token, data=coin.data("approve", self.escrow, amount))
            signed = self.signed(approval, Call.create(to=self.escrow, data=self.contract.data("topUp", self.id, amount)))
        else:
            values = (self.wallet.address, self.payee, self.operator, self.token, self.salt, self.authorized, self.nonce_hash)
            signed = self.signed(Call.create(to=self.escrow, data=self.contract.data("topUp", values, amount)))
        payload = {"action": "topUp", "type": "transaction", "channelId": hexadecimal(self.id), "transaction": signed, "additionalDeposit": str(amount)}
        return credential(challenge, self.described(payload), self.wallet.source(challenge))

    def voucher(self, challenge, amount, action="voucher"):
        signature = hexadecimal(self.voucher_signature(amount))
        payload = {"action": action, "channelId": hexadecimal(self.id), "cumulativeAmount": str(amount), "signature": signature}
        return credential(challenge, self.described(payload))

    def close(self, challenge, amount):
        return self.voucher(challenge, amount, "close")

    def state(self):
        """What the chain says: deposit, settled, and whether it is closed."""
        if self.version == "v1":
            finalized, _, _, _, _, _, deposit, settled = self.contract.call("getChannel", self.id)
            return deposit, settled, finalized
        settled, deposit, _ = self.contract.call("getChannelState", self.id)
        return deposit, settled, deposit == 0


class TempoStage(ChannelStage):
    method = "tempo"

    def __init__(self, binary, upstream, folder, node, token, rich, version, more=""):
        place, name, _, _ = RULES[version]
        self.version = version
        super().__init__(
            binary, upstream, folder, node, token, rich, f'escrow-protocol = "{version}"\n' + more, shop=TEMPO_SHOP.replace("TOKEN", token.address),
            escrow=Contract(node.rpc, name, place))

    def prepare_signer(self):
        super().prepare_signer()
        self.token.run(self.rich, "mint", self.signer.address, 10**9)

    @property
    def received(self):
        """What has come out of the escrow to the merchant: he pays fees with the same money."""
        topic = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
        words = ["0x" + address[2:].lower().rjust(64, "0") for address in (self.escrow.address, self.merchant.address)]
        logs = self.node.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.token.address, "topics": [topic, *words]})
        return sum(int(log["data"], 16) for log in logs)

    def session(self, path="/api/a", deposit=DEPOSIT, **options):
        return Session(self, path, deposit, channel=lambda *arguments: TempoChannel(*arguments, node=self.node), **options)

    def payer(self, units=1_000_000, coins=0):
        account = new_account()
        self.token.run(self.rich, "mint", account.address, units)
        return account


@pytest.fixture(scope="module")
def node(rich):
    with Node(MODERATO, accounts={rich.address: 10**24}) as node:
        yield node


@pytest.fixture(scope="module")
def coin(node):
    return Contract(node.rpc, "Token", "path-usd")


@pytest.fixture(scope="module", params=["v1", "v2"])
def stage(request, binary, upstream, node, coin, rich, tmp_path_factory):
    stage = TempoStage(binary, upstream, tmp_path_factory.mktemp(request.param), node, coin, rich, request.param)
    yield stage
    stage.close()


@pytest.fixture
def opened(stage):
    return stage.opened(kind="transaction")


def test_the_challenge_says_which_escrow_it_is(stage):
    challenge = stage.challenge()
    request, details = request_of(challenge), details_of(challenge)
    assert challenge["method"] == "tempo" and request["amount"] == str(PRICE) and request["currency"] == stage.token.address
    assert details["sessionProtocol"] == stage.version and details["chainId"] == MODERATO
    assert details["escrowContract"].lower() == stage.escrow.address.lower() and "credentialTypes" not in details


def test_the_life_of_a_channel(stage):
    session = stage.session("/api/life")
    response = session.open("transaction")
    assert response.status_code == 200, response.text
    receipt = channel_receipt(response.headers["Payment-Receipt"])
    assert (receipt["method"], receipt["intent"], receipt["reference"], receipt["spent"]) == ("tempo", "session", session.id, str(PRICE))
    assert session.channel.state() == (DEPOSIT, 0, False)
    for number in range(2, 6):
        assert session.served()["spent"] == str(number * PRICE)
    assert session.top_up(50_000, "transaction").status_code == 204 and session.channel.state()[0] == DEPOSIT + 50_000
    assert session.grant(DEPOSIT + 1)["acceptedCumulative"] == str(DEPOSIT + 1)
    before, fees = stage.received, 1_000_000 - DEPOSIT - 50_000 - session.balance
    receipt = session.closed()
    assert receipt["spent"] == str(5 * PRICE) and "txHash" in receipt
    # No more than what was spent: the lowest voucher that covers it is handed in.
    assert stage.received == before + 5 * PRICE and session.balance == 1_000_000 - 5 * PRICE - fees
    assert session.pay().status_code == 410


def test_a_channel_closes_with_what_was_spent(stage, opened):
    opened.grant(20 * PRICE)
    for _ in range(2):
        assert stage.ask(opened.voucher(0)).status_code == 200
    before = stage.received
    assert opened.closed(2 * PRICE)["spent"] == str(2 * PRICE) and stage.received == before + 2 * PRICE


def test_management_answers_tell_how_the_channel_stands(stage, opened):
    response = stage.ask(opened.voucher(3 * PRICE), method="HEAD")
    assert response.status_code == 204 and response.headers["Payment-Session"] == opened.id
    snapshot = response.headers.get("Payment-Session-Snapshot")
    if stage.version == "v2":
        members = channel_receipt(snapshot)
        assert members["channelId"] == opened.id and members["acceptedCumulative"] == str(3 * PRICE) and members["spent"] == "0"
        assert members["deposit"] == str(DEPOSIT) and members["settled"] == "0" and members["chainId"] == MODERATO
        assert {name: value.lower() for name, value in members["descriptor"].items()} == opened.channel.descriptor


def test_a_lower_voucher_is_refused_and_the_same_is_not(stage, opened):
    """draft-tempo-session, "Idempotency", unlike method evm."""
    opened.grant(5 * PRICE)
    assert stage.ask(opened.voucher(amount=5 * PRICE)).status_code == 200
    for method in ("GET", "HEAD"):
        response = stage.ask(opened.voucher(amount=4 * PRICE), method=method)
        assert response.status_code == 402 and "Payment-Receipt" not in response.headers
    assert opened.spent == PRICE


def test_signatures(stage, opened):
    other = new_account()
    for change, found in ((malleated, "session/invalid-signature"), (lambda s: bytes(65), "session/invalid-signature")):
        value = payload_of(opened.voucher(amount=PRICE)) | {"signature": hexadecimal(change(opened.channel.voucher_signature(PRICE)))}
        response = stage.ask(credential(opened.challenge, value))
        assert response.status_code == 402 and problem(response) == found
    own, opened.channel.signer = opened.channel.signer, other
    assert problem(stage.ask(opened.voucher(amount=PRICE))) == "session/signer-mismatch"
    opened.channel.signer = own
    short = payload_of(opened.voucher(amount=PRICE)) | {"signature": hexadecimal(compact(opened.channel.voucher_signature(PRICE)))}
    assert stage.ask(credential(opened.challenge, short)).status_code == 200
    beyond = stage.ask(opened.voucher(amount=DEPOSIT + 1))
    assert problem(beyond) == "session/amount-exceeds-deposit"
    opened.signed = PRICE
    assert opened.closed()["spent"] == str(PRICE)


def test_descriptors_that_are_altered(stage):
    if stage.version == "v1":
        pytest.skip("version 1 has none")
    for member in MEMBERS:
        session = stage.session("/api/descriptor")
        wrong = {"descriptor": session.channel.descriptor | {member: "0x" + "11" * (32 if member in ("salt", "expiringNonceHash") else 20)}}
        value = session.opening("transaction")
        response = stage.ask(credential(session.challenge, payload_of(value) | wrong, session.wallet.source(session.challenge)), session.path)
        assert response.status_code in (400, 402) and session.channel.state()[0] == 0, (member, response.status_code, response.text)
    session = stage.opened(kind="transaction")
    for member in MEMBERS:
        wrong = {"descriptor": session.channel.descriptor | {member: "0x" + "11" * (32 if member in ("salt", "expiringNonceHash") else 20)}}
        for value in (session.voucher(amount=PRICE), session.closing(PRICE)):
            response = stage.ask(credential(session.challenge, payload_of(value) | wrong), session.path)
            assert response.status_code in (400, 402, 410) and "Payment-Receipt" not in response.headers, (member, response.status_code, response.text)
    assert session.channel.state() == (DEPOSIT, 0, False)


def test_transactions_that_do_something_else(stage, node, coin):
    """Sponsored or not, what is broadcast opens this channel and does nothing else at our expense."""
    session = stage.session("/api/other-calls-" + stage.version)
    channel = session.channel
    theft = Call.create(to=coin.address, data=coin.data("transfer", session.wallet.address, 1))
    for calls in ([theft], [theft, theft, theft]):
        channel.transaction = channel.signed(*calls)
        response = stage.ask(session.opening("transaction"), session.path)
        assert response.status_code in (400, 402), (response.status_code, response.text)
    less = TempoChannel(session.wallet, session.challenge, 5, salt=channel.salt, node=node)
    channel.transaction = less.transaction
    response = stage.ask(session.opening("transaction", amount=PRICE), session.path)
    assert response.status_code in (400, 402), (response.status_code, response.text)
    other = TempoChannel(session.wallet, session.challenge, DEPOSIT, node=node)
    channel.transaction = other.transaction
    assert stage.ask(session.opening("transaction"), session.path).status_code in (400, 402)
    assert session.balance == 1_000_000 and stage.served(session.path) == 0


def test_a_payer_without_tokens_costs_no_fees(stage, node, coin):
    """The approval alone would pass, and what it is for would not."""
    session = stage.session("/api/poor-" + stage.version, wallet=EvmWallet(stage.payer(units=DEPOSIT - 1)))
    before, blocks = coin.call("balanceOf", stage.signer.address), node.height
    response = stage.ask(session.opening("transaction"), session.path)
    assert response.status_code in (402, 409) and session.channel.state()[0] == 0, (response.status_code, response.text)
    assert coin.call("balanceOf", stage.signer.address) == before and node.height == blocks


def test_a_transaction_without_an_end_is_not_waited_for(stage, node):
    session = stage.session("/api/endless-" + stage.version)
    channel, sent = session.channel, node.calls["eth_sendRawTransaction"]
    sponsored, channel.sponsored = channel.sponsored, False
    for fields in ({"nonce_key": 7, "nonce": 5, "valid_before": None}, {"nonce_key": 7, "nonce": 0, "valid_before": node.chain.now() + 3_600}):
        channel.transaction = channel.signed(*channel.body.calls, **fields)
        response = stage.ask(session.opening("transaction"), session.path)
        assert response.status_code == 402 and node.calls["eth_sendRawTransaction"] == sent, (response.status_code, response.text)
    channel.sponsored = sponsored


def test_what_no_block_took_is_free_again(stage, node):
    """A transaction that has run out is waited for no longer, and its payer can try again."""
    session = stage.session("/api/late-" + stage.version)
    value = session.opening("transaction")
    node.hold()
    try:
        answer = stage.asking(value, session.path, timeout=90)
        (waiting,) = poll(lambda: node.chain.waiting(), what="a transaction")
        node.forget(hexadecimal(waiting.hash))
        node.advance(90)
        node.fail("refused", 10_000, "eth_sendRawTransaction")
    finally:
        node.release()
    node.mine()
    try:
        assert answer.result(timeout=90).status_code in (402, 503)
        poll(lambda: not stage.farebox.command("payment", "list", "--open")["payments"], 2 * WATCH_SECONDS, "an end of the payment")
    finally:
        node.heal()
    stage.wait_for_offers(WATCH_SECONDS)


def test_what_was_added_to_a_channel_that_was_closed_meanwhile_is_free_again(binary, upstream, node, coin, rich, tmp_path):
    """The escrow forgets what is closed: nobody waits for the deposit any more."""
    stage = TempoStage(binary, upstream, tmp_path / "deep", node, coin, rich, "v2", "confirmations = 3\n")
    session = stage.session("/api/deep", method="HEAD")
    answer = stage.asking(session.opening("transaction", amount=0), session.path, "HEAD")
    poll(lambda: session.channel.state()[0], what="the opening")
    node.mine(3)
    assert answer.result(timeout=60).status_code == 204
    node.hold()
    adding = stage.asking(session.channel.top_up(stage.challenge(session.path, "POST"), 5_000), session.path, "POST", timeout=90)
    poll(lambda: node.chain.waiting(), what="the deposit")
    node.mine()
    closing = stage.asking(session.closing(0), session.path, "POST", timeout=90)
    poll(lambda: node.chain.waiting(), what="the close")
    node.mine()
    # The close is found to be deep before the deposit is asked about again.
    node.mine(3)
    node.release()
    poll(lambda: stage.farebox.command("channel", "show", session.id)["state"] == "closed", WATCH_SECONDS, "the end")
    assert adding.result(timeout=90).status_code in (204, 402, 410, 503) and closing.result(timeout=90).status_code in (204, 503)
    poll(lambda: not stage.farebox.command("payment", "list", "--open")["payments"], WATCH_SECONDS, "an end of the deposit")
    stage.close()


def test_operators_see_the_money_for_fees(stage):
    def signer():
        return stage.farebox.command("chain", "status")["chains"][0]["signer"]

    poll(lambda: signer().get("feeMoney", [{}])[0].get("balance") == str(stage.token.call("balanceOf", stage.signer.address)), 30, "the balance")
    (money,) = signer()["feeMoney"]
    assert money["currency"] == "usdc" and int(money["paymentsLeft"]) > 100


def test_32_uses_of_one_opening(stage):
    session = stage.session("/api/concurrent-" + stage.version)
    value = session.opening("transaction", 5 * PRICE)
    with ThreadPoolExecutor(32) as pool:
        statuses = [response.status_code for response in pool.map(lambda _: stage.ask(value, session.path), range(32))]
    assert statuses.count(200) >= 1 and set(statuses) <= {200, 402, 409, 503}, statuses
    assert stage.served(session.path) == statuses.count(200) <= 5 and session.channel.state()[0] == DEPOSIT


def test_a_close_by_force_is_answered(stage, node):
    session = stage.opened(kind="transaction")
    session.served()
    channel = session.channel
    arguments = channel.id
    if stage.version == "v2":
        arguments = (session.wallet.address, channel.payee, channel.operator, channel.token, channel.salt, channel.authorized, channel.nonce_hash)
    sponsored, channel.sponsored = channel.sponsored, False
    raw = channel.signed(Call.create(to=channel.escrow, data=channel.contract.data("requestClose", arguments)))
    channel.sponsored = sponsored
    assert node.rpc("eth_sendRawTransactionSync", raw)["status"] == "0x1"
    before = stage.received
    poll(lambda: channel.state()[2], WATCH_SECONDS, "the answer to a close by force")
    assert stage.received == before + PRICE
    assert session.pay().status_code == 410


def test_killed_after_the_opening_was_broadcast(stage, node):
    session = stage.session("/api/killed")
    value = session.opening("transaction")
    node.hold()
    try:
        answer = stage.asking(value, session.path)
        poll(lambda: node.chain.waiting(), what="a transaction")
        stage.farebox.kill()
        with pytest.raises(Exception):
            answer.result(timeout=30)
        stage.farebox.start()
    finally:
        node.release()
    stage.wait_for_offers(WATCH_SECONDS)
    poll(lambda: stage.ask(value, session.path).status_code == 200, WATCH_SECONDS, "the channel")
    assert session.channel.state()[0] == DEPOSIT
    session.close_until_done()


def test_an_event_stream_asks_for_vouchers(stage):
    session = stage.opened("/events/events/6", kind="transaction")
    text = stage.ask(session.voucher(80_000), session.path).text
    assert text.count("event: tick") == 6 and text.rindex("event: payment-receipt") > text.rindex("[DONE]")
    receipt = text.split("event: payment-receipt\ndata: ")[1].split("\n")[0]
    assert f'"channelId":"{session.id}"' in receipt and '"method":"tempo"' in receipt


def test_a_channel_that_nobody_knows(stage, opened):
    stranger = payload_of(opened.voucher(amount=PRICE)) | {"channelId": "0x" + "12" * 32}
    response = stage.ask(credential(opened.challenge, stranger))
    # Version 2 tells by the descriptor that the id is none.
    assert response.status_code in (402, 410) and "Payment-Receipt" not in response.headers
    if stage.version == "v1":
        assert problem(response) == "session/channel-not-found" and not session_challenges(response)
