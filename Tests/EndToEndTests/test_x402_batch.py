"""Scheme batch-settlement of x402: one deposit, a voucher with each request, claims in between. The official client pays, and payers by hand who do what it
does not; the contract and its collectors stand at their canonical addresses on a chain of the tests' own."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from x402 import x402ClientSync
from x402.http.clients import x402_requests
from x402.mechanisms.evm.batch_settlement.client.config import BatchSettlementEvmSchemeOptions
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.client.storage import InMemoryClientChannelStorage
from x402.mechanisms.evm.signers import EthAccountSigner, EthAccountSignerWithRPC

from chain import contracts
from chain.contracts import Contract
from chain.node import Node
from chain.wallet import MAXIMUM, PERMIT2, ZERO, authorization, hexadecimal, new_account, sign, token_domain, typed
from eth_abi import encode
from eth_utils import keccak
from paystage import COIN, NETWORK, PRICE, Stage, packed, poll, settlement, unpacked

CONTRACT = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
COLLECTOR = "0x4020806089470a89826cB9fB1f4059150b550004"
DELAY = 900
DEPOSIT = 20_000
CONFIG = "address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt"
# How long the proxy may take to notice what others do on the chain, and to answer it there.
WATCH_SECONDS = 60
BATCHES = """
[[route]]
id = "batch"
prefix = "/batch/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["x402"]
batch = true

[[route]]
id = "dear"
prefix = "/dear/"
upstream = "api"
price = "0.005 USDC per request"
rails = ["x402"]
batch = true
"""


def stage_of(binary, upstream, folder, node, usdc, rich, more="", **options):
    chain = f'batch = "{DELAY} s"\nsettle-amount = "1 USDC"\n' if not more else f'batch = "{DELAY} s"\n{more}'
    stage = Stage.settling_itself(binary, upstream, folder, node, usdc, rich, more=chain, routes=BATCHES, **options)
    poll(lambda: offer_of(stage), 20, "an offer of batch-settlement")
    return stage


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = stage_of(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich)
    yield stage
    settle_all(stage)
    stage.close()


@pytest.fixture(scope="module")
def contract(node):
    return Contract(node.rpc, "BatchSettlement", "batch-settlement")


@pytest.fixture(autouse=True)
def calm(node, upstream):
    yield
    node.heal()
    node.release()
    upstream.status = None


def offer_of(stage, path="/batch/a"):
    return next((offer for offer in stage.offered(path) if offer["scheme"] == "batch-settlement"), None)


def client(account, node=None, **options):
    """The official client: its session, its scheme, and what it keeps."""
    signer = EthAccountSignerWithRPC(account, node.url) if node else EthAccountSigner(account)
    scheme = BatchSettlementEvmScheme(signer, BatchSettlementEvmSchemeOptions(storage=InMemoryClientChannelStorage(), **options))
    return x402_requests(x402ClientSync().register(NETWORK, scheme)), scheme


def channels(stage, **members):
    return [one for one in stage.farebox.command("channel", "list")["channels"] if all(one[name] == value for name, value in members.items())]


def channel_of(stage, account):
    (channel,) = channels(stage, payer=account.address.lower())
    return channel


def settle_all(stage):
    """Has every channel claimed: what was charged is what has arrived."""
    for channel in channels(stage):
        stage.farebox.command("channel", "settle", channel["channel"])
    poll(lambda: all(one["spent"] == one["settled"] for one in channels(stage)), WATCH_SECONDS, "the claims")
    poll(lambda: stage.booked == stage.received - stage.unbooked, WATCH_SECONDS, "agreement of the books and the chain")


class Payer:
    """A payer who signs by hand what he is told to sign."""

    def __init__(self, stage, account=None, path="/batch/a", units=1_000_000, salt=None, authorizer=None, **changes):
        self.stage, self.path = stage, path
        self.account = account or stage.payer(units=units, coins=1)
        self.authorizer = authorizer or self.account
        self.offer = offer_of(stage, path)
        extra = self.offer["extra"]
        self.config = {
            "payer": self.account.address,
            "payerAuthorizer": self.authorizer.address,
            "receiver": self.offer["payTo"],
            "receiverAuthorizer": extra["receiverAuthorizer"],
            "token": self.offer["asset"],
            "withdrawDelay": extra["withdrawDelay"],
            "salt": hexadecimal(salt or os.urandom(32)),
            **changes,
        }
        self.domain = {"name": "x402 Batch Settlement", "version": "1", "chainId": stage.node.chain_id, "verifyingContract": CONTRACT}
        self.signed = 0

    @property
    def members(self):
        return tuple(self.config[name.split(" ")[1]] if not name.startswith("bytes32") else bytes.fromhex(self.config["salt"][2:]) for name in CONFIG.split(","))

    @property
    def id(self):
        message = typed(self.domain, "ChannelConfig", CONFIG, {**self.config, "salt": bytes.fromhex(self.config["salt"][2:])})
        return keccak(b"\x19" + message.version + message.header + message.body)

    def voucher(self, amount, signer=None, channel=None):
        channel = channel or self.id
        message = typed(self.domain, "Voucher", "bytes32 channelId,uint128 maxClaimableAmount", {"channelId": channel, "maxClaimableAmount": amount})
        return {"channelId": hexadecimal(channel), "maxClaimableAmount": str(amount), "signature": hexadecimal(sign(signer or self.authorizer, message))}

    def payment(self, kind, voucher, offer=None, **more):
        payload = {"type": kind, "channelConfig": self.config, "voucher": voucher, **more}
        return packed({"x402Version": 2, "accepted": offer or self.offer, "payload": payload})

    def depositing(self, amount=DEPOSIT, signed=PRICE, offer=None, signer=None):
        salt, before = os.urandom(32), int(time.time()) + 500
        nonce = keccak(encode(["bytes32", "uint256"], [self.id, int.from_bytes(salt, "big")]))
        domain = token_domain(self.stage.node.chain_id, self.stage.token.address)
        _, message = authorization(domain, self.account.address, COLLECTOR, amount, before=before, nonce=nonce, kind="ReceiveWithAuthorization")
        terms = {"validAfter": "0", "validBefore": str(before), "salt": hexadecimal(salt), "signature": hexadecimal(sign(signer or self.account, message))}
        deposit = {"amount": str(amount), "authorization": {"erc3009Authorization": terms}}
        return self.payment("deposit", self.voucher(signed), offer, deposit=deposit)

    def send(self, payment, path=None, **more):
        return self.stage.send(payment, path or self.path, **more)

    def open(self, amount=DEPOSIT):
        response = self.send(self.depositing(amount))
        assert response.status_code == 200, (response.status_code, response.text, refusal(response))
        self.signed = PRICE
        return settlement(response)

    def pay(self, more=PRICE, **options):
        self.signed += more
        return self.send(self.payment("voucher", self.voucher(self.signed)), **options)


def refusal(response):
    field = response.headers.get("PAYMENT-REQUIRED")
    return unpacked(field)["error"].removeprefix("invalid_batch_settlement_evm_") if field else None


def correction(response):
    assert response.status_code == 402 and refusal(response) == "cumulative_amount_mismatch", (response.status_code, response.text, refusal(response))
    (offer,) = [offer for offer in unpacked(response.headers["PAYMENT-REQUIRED"])["accepts"] if offer["scheme"] == "batch-settlement"]
    return offer["extra"].get("channelState"), offer["extra"].get("voucherState")


# The offer.


def test_the_offer_is_as_the_scheme_says(stage):
    offer = offer_of(stage)
    assert offer["amount"] == str(PRICE) and offer["network"] == NETWORK and offer["payTo"] == stage.merchant.address
    extra = offer["extra"]
    assert extra["receiverAuthorizer"] == stage.signer.address and extra["withdrawDelay"] == DELAY
    assert (extra["name"], extra["version"], extra["minDeposit"]) == ("USDC", "2", str(10 * PRICE))
    assert [one["scheme"] for one in stage.offered("/batch/a")] == ["exact", "exact", "batch-settlement"]
    assert not [one for one in stage.offered("/paid/a") if one["scheme"] == "batch-settlement"]


# The official client.


def test_the_official_client_pays_fifty_requests_over_one_channel(stage, contract):
    account, sent, received = stage.payer(), stage.sent, stage.received
    session, scheme = client(account)
    told = []
    for number in range(50):
        response = session.get(stage.farebox.origin + f"/batch/{number}", timeout=30)
        assert response.status_code == 200, (number, response.text, refusal(response))
        told.append(settlement(response))
    # Ten requests a deposit, as the offer asks for at least.
    deposits = [one for one in told if one["transaction"]]
    assert len(deposits) == 5 and all(one["amount"] == str(10 * PRICE) for one in deposits)
    assert all(one["amount"] == "" for one in told if not one["transaction"])
    assert [int(one["extra"]["channelState"]["chargedCumulativeAmount"]) for one in told] == [PRICE * (number + 1) for number in range(50)]
    assert all(one["extra"]["chargedAmount"] == str(PRICE) and one["payer"] == account.address for one in told)
    channel = channel_of(stage, account)
    assert (channel["spent"], channel["signed"], channel["settled"]) == ("50000", "50000", "0")
    assert stage.sent == sent + 5 and stage.received == received and stage.token.call("balanceOf", account.address) == 950_000
    settle_all(stage)
    id = bytes.fromhex(channel["channel"][2:])
    assert contract.call("channels", id) == (50_000, 50_000) and stage.received == received + 50_000
    assert contract.call("receivers", stage.merchant.address, stage.token.address) == (stage.received, stage.received)
    # It goes on with the same channel.
    assert session.get(stage.farebox.origin + "/batch/more", timeout=30).status_code == 200
    assert channel_of(stage, account)["spent"] == "51000"


def test_the_official_client_that_lost_its_state_is_corrected(stage):
    account = stage.payer()
    session, _ = client(account, stage.node)
    for _ in range(3):
        assert session.get(stage.farebox.origin + "/batch/a", timeout=30).status_code == 200
    # The chain says that nothing was claimed: the new one signs for the first request again.
    session, scheme = client(account, stage.node)
    response = session.get(stage.farebox.origin + "/batch/a", timeout=30)
    assert response.status_code == 200, (response.text, refusal(response))
    assert settlement(response)["extra"]["channelState"]["chargedCumulativeAmount"] == "4000"
    channel = channel_of(stage, account)
    assert (channel["spent"], channel["deposit"]) == ("4000", "10000")


def test_the_official_client_gets_its_rest_back(stage, contract):
    settle_all(stage)
    account, received = stage.payer(), stage.received
    session, scheme = client(account, stage.node)
    for _ in range(4):
        assert session.get(stage.farebox.origin + "/batch/a", timeout=30).status_code == 200
    id = bytes.fromhex(channel_of(stage, account)["channel"][2:])
    answer = scheme.refund(stage.farebox.origin + "/batch/a")
    assert answer.success and answer.amount == "6000" and answer.transaction, answer
    assert stage.token.call("balanceOf", account.address) == 1_000_000 - 4 * PRICE and contract.call("channels", id) == (4000, 4000)
    poll(lambda: stage.booked == stage.received - stage.unbooked and stage.received == received + 4000, what="the books")
    # The same channel again, with what was charged before.
    response = session.get(stage.farebox.origin + "/batch/a", timeout=30)
    assert response.status_code == 200 and settlement(response)["extra"]["channelState"]["chargedCumulativeAmount"] == "5000"
    assert contract.call("channels", id) == (14_000, 4000)
    settle_all(stage)
    assert contract.call("channels", id) == (14_000, 5000) and stage.received == received + 5000


# What is told, and what is not charged.


def test_a_deposit_is_told_with_the_channel(stage, contract):
    payer = Payer(stage)
    told = payer.open()
    state = told["extra"]["channelState"]
    assert told["success"] and told["amount"] == str(DEPOSIT) and told["extra"]["chargedAmount"] == str(PRICE)
    assert (state["balance"], state["totalClaimed"], state["chargedCumulativeAmount"]) == (str(DEPOSIT), "0", str(PRICE))
    assert state["channelId"] == hexadecimal(payer.id) and contract.call("channels", payer.id) == (DEPOSIT, 0)
    assert stage.node.rpc("eth_getTransactionReceipt", told["transaction"])["status"] == "0x1"


def test_who_reads_a_claim_learns_no_voucher_that_buys(stage, upstream):
    """A voucher that was claimed by is everybody's to ask with; the one whose request came to nothing is not told to who asks."""
    payer = Payer(stage)
    payer.open()
    settle_all(stage)
    public, unspent = payer.voucher(PRICE), payer.voucher(2 * PRICE)
    stranger = Payer(stage, path=payer.path)
    stranger.config, stranger.authorizer = payer.config, payer.authorizer
    upstream.status = 503
    assert payer.send(payer.payment("voucher", unspent)).status_code == 503
    upstream.status = None
    state, told = correction(stranger.send(stranger.payment("voucher", public)))
    assert state["chargedCumulativeAmount"] == str(PRICE) and told["signedMaxClaimable"] == str(PRICE)
    assert told["signature"] == public["signature"] != unspent["signature"]
    # Nor does it close a channel that is in use.
    assert refusal(stranger.send(stranger.payment("refund", public))) == "channel_busy"
    assert payer.send(payer.payment("voucher", unspent)).status_code == 200
    assert channel_of(stage, payer.account)["spent"] == str(2 * PRICE)


def test_what_failed_is_not_charged_and_its_voucher_is_good_again(stage, upstream):
    payer = Payer(stage)
    payer.open()
    value = payer.payment("voucher", payer.voucher(2 * PRICE))
    upstream.status = 503
    failed = payer.send(value)
    assert failed.status_code == 503 and settlement(failed)["extra"]["chargedAmount"] == "0"
    upstream.status = None
    assert channel_of(stage, payer.account)["spent"] == str(PRICE)
    served = payer.send(value)
    assert served.status_code == 200 and settlement(served)["extra"]["channelState"]["chargedCumulativeAmount"] == str(2 * PRICE)


def test_a_voucher_buys_once(stage):
    payer, path = Payer(stage), f"/batch/{time.monotonic_ns()}"
    payer.open()
    value = payer.payment("voucher", payer.voucher(2 * PRICE))
    assert payer.send(value, path).status_code == 200
    state, voucher = correction(payer.send(value, path))
    assert state["chargedCumulativeAmount"] == str(2 * PRICE)
    assert voucher == {"signedMaxClaimable": str(2 * PRICE), "signature": payer.voucher(2 * PRICE)["signature"]}
    assert stage.served(path) == 1


def test_the_deposit_again_deposits_nothing_more(stage, contract):
    payer = Payer(stage)
    value = payer.depositing()
    assert payer.send(value).status_code == 200
    correction(payer.send(value))
    assert contract.call("channels", payer.id) == (DEPOSIT, 0) and stage.token.call("balanceOf", payer.account.address) == 1_000_000 - DEPOSIT


def test_a_channel_pays_for_other_routes_too(stage):
    payer = Payer(stage)
    payer.open()
    payer.offer = offer_of(stage, "/dear/a")
    assert payer.pay(5000, path="/dear/a").status_code == 200
    assert channel_of(stage, payer.account)["spent"] == "6000"


# Hostile vouchers.


def test_what_no_voucher_covers_is_not_served(stage, contract):
    payer, stranger, path = Payer(stage), new_account(), f"/batch/{time.monotonic_ns()}"
    payer.open()
    other = Payer(stage)

    def refused(value, reason, at=path):
        response = payer.send(value, at)
        assert response.status_code == 402 and refusal(response) == reason, (response.status_code, refusal(response), reason)

    voucher = lambda amount, **more: payer.payment("voucher", payer.voucher(amount, **more))
    refused(voucher(2 * PRICE, signer=stranger), "voucher_signature")
    refused(voucher(PRICE), "cumulative_amount_mismatch")
    refused(voucher(3 * PRICE), "cumulative_amount_mismatch")
    refused(voucher(PRICE - 1), "cumulative_amount_mismatch")
    refused(voucher(2 * PRICE, channel=other.id), "channel_id_mismatch")
    # A channel that nobody has paid into, and members that are not the offer's.
    refused(other.payment("voucher", other.voucher(PRICE)), "cumulative_amount_mismatch")
    for name, value, reason in [
        ("receiver", stranger.address, "receiver_mismatch"), ("receiverAuthorizer", stranger.address, "receiver_authorizer_mismatch"),
        ("withdrawDelay", DELAY + 1, "withdraw_delay_mismatch"), ("token", stranger.address, "token_mismatch"),
    ]:
        wrong = Payer(stage, payer.account, **{name: value})
        refused(wrong.payment("voucher", wrong.voucher(PRICE)), reason)
    nobody = Payer(stage, payer.account, payerAuthorizer=ZERO)
    refused(nobody.payment("voucher", nobody.voucher(PRICE)), "voucher_signature")
    # A voucher of the cheap route's offer on the dear one, and the other way round.
    dear = offer_of(stage, "/dear/a")
    assert payer.send(voucher(2 * PRICE), "/dear/a").status_code == 402
    assert payer.send(payer.payment("voucher", payer.voucher(6 * PRICE), dear), path).status_code == 402
    assert stage.served(path) == 0 and channel_of(stage, payer.account)["spent"] == str(PRICE)


def test_no_voucher_exceeds_the_deposit(stage):
    payer, path = Payer(stage), f"/batch/{time.monotonic_ns()}"
    payer.open(10 * PRICE)
    for _ in range(9):
        assert payer.pay().status_code == 200
    response = payer.send(payer.payment("voucher", payer.voucher(11 * PRICE)), path)
    assert response.status_code == 402 and refusal(response) == "cumulative_exceeds_balance" and stage.served(path) == 0
    # More is deposited, and the same channel goes on.
    response = payer.send(payer.depositing(10 * PRICE, 11 * PRICE), path)
    assert response.status_code == 200 and settlement(response)["extra"]["channelState"]["balance"] == str(20 * PRICE)


def test_deposits_that_bring_nothing_are_not_claimed(stage, contract):
    payer, sent, path = Payer(stage), stage.sent, f"/batch/{time.monotonic_ns()}"
    poor = Payer(stage, units=DEPOSIT - 1)
    for who, value, reason in [
        (payer, payer.depositing(10 * PRICE - 1), "deposit_below_min_deposit"), (payer, payer.depositing(signer=new_account()), "receive_authorization_signature"),
        (payer, payer.depositing(signed=2 * PRICE), "cumulative_amount_mismatch"), (poor, poor.depositing(), "deposit_simulation_failed"),
        (payer, payer.depositing(signed=PRICE - 1), "cumulative_amount_mismatch"),
    ]:
        response = who.send(value, path)
        assert response.status_code == 402 and refusal(response).removeprefix("invalid_") == reason, (refusal(response), reason)
    assert stage.sent == sent and stage.served(path) == 0 and contract.call("channels", payer.id) == (0, 0)
    assert not channels(stage, payer=payer.account.address.lower())
    assert not stage.farebox.command("payment", "list", "--open")["payments"]


# At once.


def test_of_16_at_once_one_is_served(stage):
    payer, path = Payer(stage), f"/batch/{time.monotonic_ns()}"
    payer.open()
    value = payer.payment("voucher", payer.voucher(2 * PRICE))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: payer.send(value, path), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + [402] * 15 and stage.served(path) == 1
    assert {refusal(answer) for answer in answers} <= {None, "channel_busy", "cumulative_amount_mismatch"}
    assert channel_of(stage, payer.account)["spent"] == str(2 * PRICE)


def test_a_channel_is_busy_while_a_request_is_served(stage):
    payer = Payer(stage)
    payer.open()
    first = stage.sending(payer.payment("voucher", payer.voucher(2 * PRICE)), "/batch/slow/1500")
    poll(lambda: channel_of(stage, payer.account)["inFlight"], what="the first")
    second = payer.send(payer.payment("voucher", payer.voucher(3 * PRICE)))
    assert second.status_code == 402 and refusal(second) == "channel_busy" and second.headers["Retry-After"]
    assert first.result(timeout=20).status_code == 200
    assert payer.send(payer.payment("voucher", payer.voucher(3 * PRICE))).status_code == 200


def test_eight_deposits_of_one_payment_are_one(stage, contract):
    payer = Payer(stage)
    value = payer.depositing()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: payer.send(value), range(8)))
    assert [answer.status_code for answer in answers].count(200) == 1 and contract.call("channels", payer.id) == (DEPOSIT, 0)


# Crashes.


def test_a_crash_while_the_upstream_works_charges_nothing(stage):
    payer = Payer(stage)
    payer.open()
    answer = stage.sending(payer.payment("voucher", payer.voucher(2 * PRICE)), "/batch/slow/5000")
    poll(lambda: channel_of(stage, payer.account)["inFlight"], what="the request")
    stage.farebox.kill()
    with pytest.raises(requests.RequestException):
        answer.result(timeout=20)
    stage.farebox.start()
    poll(lambda: offer_of(stage), 20, "the offer")
    channel = channel_of(stage, payer.account)
    # The voucher is kept, and buys what it did not.
    assert (channel["spent"], channel["signed"]) == (str(PRICE), str(2 * PRICE))
    assert payer.send(payer.payment("voucher", payer.voucher(2 * PRICE))).status_code == 200


def test_a_crash_after_an_answer_forgets_nothing(stage):
    payer = Payer(stage)
    payer.open()
    for _ in range(5):
        assert payer.pay().status_code == 200
    stage.farebox.kill()
    stage.farebox.start()
    poll(lambda: offer_of(stage), 20, "the offer")
    assert channel_of(stage, payer.account)["spent"] == str(6 * PRICE)
    correction(payer.send(payer.payment("voucher", payer.voucher(payer.signed))))
    assert payer.pay().status_code == 200


def test_a_crash_between_deposit_and_answer_deposits_once(stage, contract):
    payer = Payer(stage)
    stage.node.hold()
    answer = stage.sending(payer.depositing(), "/batch/a")
    poll(lambda: stage.pooled, what="the deposit")
    stage.farebox.kill()
    with pytest.raises(requests.RequestException):
        answer.result(timeout=20)
    stage.node.release()
    stage.farebox.start()
    poll(lambda: channels(stage, payer=payer.account.address.lower()), 30, "the channel")
    channel = channel_of(stage, payer.account)
    assert (channel["spent"], channel["deposit"]) == ("0", str(DEPOSIT)) and contract.call("channels", payer.id) == (DEPOSIT, 0)
    poll(lambda: offer_of(stage), 20, "the offer")
    assert payer.pay().status_code == 200


def test_a_crash_while_a_claim_is_on_its_way_books_it_once(stage, contract):
    payer, received = Payer(stage), stage.received
    settle_all(stage)
    received = stage.received
    payer.open()
    payer.pay()
    stage.node.hold()
    stage.farebox.command("channel", "settle", hexadecimal(payer.id))
    poll(lambda: stage.pooled, what="the claim")
    stage.farebox.kill()
    stage.node.release()
    stage.farebox.start()
    poll(lambda: channel_of(stage, payer.account)["settled"] == str(2 * PRICE), WATCH_SECONDS, "the booking")
    assert stage.received == received + 2 * PRICE and contract.call("channels", payer.id) == (DEPOSIT, 2 * PRICE)
    poll(lambda: stage.booked == stage.received - stage.unbooked, what="the books")


def test_a_crash_while_a_refund_is_on_its_way_pays_it_once(stage, contract):
    settle_all(stage)
    payer, received = Payer(stage), stage.received
    payer.open()
    units = stage.token.call("balanceOf", payer.account.address)
    refunding = payer.payment("refund", payer.voucher(PRICE))
    # More than what is left is nobody's.
    assert refusal(payer.send(payer.payment("refund", payer.voucher(PRICE), amount=str(DEPOSIT)))) == "refund_amount_invalid"
    assert refusal(payer.send(payer.payment("refund", payer.voucher(PRICE), amount="0"))) in ("refund_amount_invalid", "refund_payload")
    correction(payer.send(payer.payment("refund", payer.voucher(2 * PRICE))))
    stage.node.hold()
    answer = stage.sending(refunding, "/batch/a")
    poll(lambda: stage.pooled, what="the refund")
    busy = payer.send(payer.payment("voucher", payer.voucher(2 * PRICE)))
    # It takes the chain's time.
    assert refusal(busy) == "channel_busy" and int(busy.headers["Retry-After"]) == 5
    stage.farebox.kill()
    with pytest.raises(requests.RequestException):
        answer.result(timeout=20)
    stage.node.release()
    stage.farebox.start()
    poll(lambda: not channels(stage, payer=payer.account.address.lower()), WATCH_SECONDS, "the end")
    poll(lambda: offer_of(stage), 20, "the offer")
    told = settlement(payer.send(refunding))
    assert told["success"] and told["amount"] == str(DEPOSIT - PRICE) and told["extra"]["channelState"]["chargedCumulativeAmount"] == str(PRICE)
    assert stage.token.call("balanceOf", payer.account.address) == units + DEPOSIT - PRICE and stage.received == received + PRICE
    assert contract.call("channels", payer.id) == (PRICE, PRICE)
    poll(lambda: stage.booked == stage.received - stage.unbooked, what="the books")


def test_a_channel_that_a_restored_ledger_does_not_know(binary, upstream, node, usdc, rich, contract, tmp_path):
    """What was charged and not claimed is lost with the ledger; the channel is not: a voucher above what was claimed goes on with it."""
    stage = stage_of(binary, upstream, tmp_path / "restored", node, usdc, rich)
    stage.farebox.stop()
    shutil.copytree(stage.farebox.state, tmp_path / "copy")
    stage.farebox.start()
    poll(lambda: offer_of(stage), 20, "an offer")
    payer, path = Payer(stage), f"/batch/{time.monotonic_ns()}"
    payer.open()
    assert payer.pay().status_code == 200
    settle_all(stage)
    assert payer.pay().status_code == 200
    stage.farebox.kill()
    shutil.rmtree(stage.farebox.state)
    shutil.copytree(tmp_path / "copy", stage.farebox.state)
    stage.farebox.start()
    poll(lambda: offer_of(stage), 20, "an offer")
    assert not channels(stage)
    # Neither more nor less than the next request, and nothing that nobody has paid in.
    stranger = Payer(stage)
    for value in [payer.payment("voucher", payer.voucher(amount)) for amount in (2 * PRICE, 4 * PRICE, PRICE)] + [stranger.payment("voucher", stranger.voucher(PRICE))]:
        assert correction(payer.send(value, path)) == (None, None)
    assert stage.served(path) == 0 and not channels(stage)
    answers = [stage.sending(payer.payment("voucher", payer.voucher(3 * PRICE)), path) for _ in range(8)]
    assert sorted(answer.result(timeout=30).status_code for answer in answers) == [200] + 7 * [402] and stage.served(path) == 1
    (channel,) = channels(stage)
    assert (channel["spent"], channel["settled"], channel["deposit"]) == (str(3 * PRICE), str(2 * PRICE), str(DEPOSIT))
    payer.signed = 3 * PRICE
    assert payer.pay().status_code == 200
    # Of the four requests three are paid for in the end, two of them in the books that were lost.
    stage.unbooked = 2 * PRICE
    settle_all(stage)
    assert contract.call("channels", payer.id) == (DEPOSIT, 4 * PRICE)
    stage.close()


def test_a_part_of_what_is_left_goes_back(stage, contract):
    settle_all(stage)
    payer, received = Payer(stage), stage.received
    payer.open()
    units = stage.token.call("balanceOf", payer.account.address)
    told = payer.send(payer.payment("refund", payer.voucher(PRICE), amount="4000"))
    assert told.status_code == 200, (told.text, refusal(told))
    told = settlement(told)
    state = told["extra"]["channelState"]
    assert told["success"] and told["amount"] == "4000" and "chargedAmount" not in told["extra"]
    assert (state["balance"], state["totalClaimed"], state["refundNonce"]) == (str(DEPOSIT - 4000), str(PRICE), "1")
    assert stage.node.rpc("eth_getTransactionReceipt", told["transaction"])["status"] == "0x1"
    assert contract.call("channels", payer.id) == (DEPOSIT - 4000, PRICE) and stage.token.call("balanceOf", payer.account.address) == units + 4000
    assert stage.received == received + PRICE
    # Who asks again at once got no answer: it goes back once.
    assert refusal(payer.send(payer.payment("refund", payer.voucher(PRICE), amount="4000"))) == "channel_busy"
    assert contract.call("channels", payer.id) == (DEPOSIT - 4000, PRICE)
    # It goes on, with less.
    assert payer.pay().status_code == 200
    value = payer.payment("voucher", payer.voucher(2 * PRICE + 5000), offer_of(stage, "/dear/a"))
    assert payer.send(value, "/dear/a").status_code == 200
    payer.signed = 7 * PRICE
    for _ in range(9):
        assert payer.pay().status_code == 200
    assert refusal(payer.pay()) == "cumulative_exceeds_balance"
    assert refusal(payer.send(payer.payment("refund", payer.voucher(16 * PRICE), amount="1"))) == "refund_no_balance"
    time.sleep(6)
    assert channel_of(stage, payer.account)["state"] == "open"
    settle_all(stage)
    assert contract.call("channels", payer.id) == (16 * PRICE, 16 * PRICE) and stage.received == received + 16 * PRICE


def test_a_crash_while_a_part_is_on_its_way(stage, contract):
    """What is on its way back pays for nothing, and goes back once."""
    settle_all(stage)
    payer = Payer(stage)
    payer.open()
    units = stage.token.call("balanceOf", payer.account.address)
    stage.node.hold()
    answer = stage.sending(payer.payment("refund", payer.voucher(PRICE), amount=str(DEPOSIT - 2 * PRICE)), "/batch/a")
    poll(lambda: stage.pooled, what="the refund")
    for _ in range(2):
        assert refusal(payer.send(payer.payment("voucher", payer.voucher(6 * PRICE), offer_of(stage, "/dear/a")), "/dear/a")) == "cumulative_exceeds_balance"
        if stage.farebox.process.poll() is None and not answer.done():
            stage.farebox.kill()
            with pytest.raises(requests.RequestException):
                answer.result(timeout=20)
            stage.farebox.start()
            poll(lambda: offer_of(stage), 20, "the offer")
            time.sleep(6)
    stage.node.release()
    poll(lambda: contract.call("channels", payer.id) == (2 * PRICE, PRICE), WATCH_SECONDS, "the refund")
    assert payer.pay().status_code == 200
    assert stage.token.call("balanceOf", payer.account.address) == units + DEPOSIT - 2 * PRICE
    assert refusal(payer.pay()) == "cumulative_exceeds_balance"
    settle_all(stage)
    assert contract.call("channels", payer.id) == (2 * PRICE, 2 * PRICE)


# Who costs gas.


def elsewhere(stage, payment, path="/batch/a"):
    """From another address of this machine, as strangers' requests are."""
    with requests.Session() as stranger:
        stranger.mount("http://", From("127.0.0.9"))
        return stranger.get(stage.farebox.origin + path, headers={"PAYMENT-SIGNATURE": payment}, timeout=30)


class From(requests.adapters.HTTPAdapter):
    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


def test_a_stranger_closes_no_channel_by_what_is_public(stage):
    payer = Payer(stage)
    payer.open()
    settle_all(stage)
    value = payer.payment("refund", payer.voucher(PRICE))
    response = elsewhere(stage, value)
    assert response.status_code == 402 and refusal(response) == "refund_payload", (response.text, refusal(response))
    assert channel_of(stage, payer.account)["state"] == "open"
    # Its payer buys something, and closes by a voucher that nobody else has, from wherever he is.
    assert payer.pay().status_code == 200
    response = elsewhere(stage, payer.payment("refund", payer.voucher(2 * PRICE)))
    assert response.status_code == 200 and settlement(response)["amount"] == str(DEPOSIT - 2 * PRICE), response.text


def test_a_stranger_is_told_no_voucher_that_closes(stage):
    """Who asks with what was claimed by, and has never bought here, learns nothing by which he could close the channel."""
    payer = Payer(stage)
    payer.open()
    settle_all(stage)
    public = payer.payment("voucher", payer.voucher(PRICE))
    # What is public itself is no secret.
    assert correction(elsewhere(stage, public))[1]["signedMaxClaimable"] == str(PRICE)
    assert payer.pay().status_code == 200
    state, told = correction(elsewhere(stage, public))
    assert state["chargedCumulativeAmount"] == str(2 * PRICE) and told is None
    assert channel_of(stage, payer.account)["state"] == "open"
    # Its payer goes on by it.
    assert correction(payer.send(public))[1]["signature"] == payer.voucher(2 * PRICE)["signature"]
    assert payer.pay().status_code == 200


def test_deposits_and_refunds_cost_no_gas_without_end(stage):
    """Eight transactions a day are free, however many channels a payer has; another payer has his own."""
    account, sent = stage.payer(coins=1), stage.sent
    for _ in range(4):
        payer = Payer(stage, account)
        payer.open()
        response = payer.send(payer.payment("refund", payer.voucher(PRICE)))
        assert response.status_code == 200, (response.text, refusal(response))
    assert stage.sent == sent + 8
    payer = Payer(stage, account)
    for _ in range(3):
        response = payer.send(payer.depositing())
        assert response.status_code == 429 and int(response.headers["Retry-After"]) > 60, response.text
    assert stage.sent == sent + 8 and not stage.open_payments(account)
    Payer(stage).open()
    # Who buys goes on.
    payer = Payer(stage)
    payer.open()
    for _ in range(9):
        assert payer.pay().status_code == 200
    settle_all(stage)


# Ends.


def test_a_withdrawal_is_answered_by_a_claim(stage, contract):
    payer = Payer(stage)
    payer.open()
    for _ in range(3):
        assert payer.pay().status_code == 200
    received, units = stage.received, stage.token.call("balanceOf", payer.account.address)
    contract.run(payer.account, "initiateWithdraw", payer.members, DEPOSIT - 4 * PRICE)
    poll(lambda: contract.call("channels", payer.id) == (4 * PRICE, 4 * PRICE), WATCH_SECONDS, "the claim")
    assert stage.received >= received + 4 * PRICE
    # What was left went back with it: there is nothing to wait for.
    assert stage.token.call("balanceOf", payer.account.address) == units + DEPOSIT - 4 * PRICE
    poll(lambda: not channels(stage, payer=payer.account.address.lower()), what="the end")
    closed = stage.farebox.command("channel", "show", hexadecimal(payer.id))
    assert (closed["state"], closed["cause"], closed["settled"], closed["lost"]) == ("closed", "forced", str(4 * PRICE), "0")
    assert correction(payer.pay()) == (None, None)
    # The next deposit opens it again, above what was claimed.
    payer.signed = 5 * PRICE
    response = payer.send(payer.depositing(signed=5 * PRICE))
    assert response.status_code == 200, refusal(response)
    assert settlement(response)["extra"]["channelState"]["totalClaimed"] == str(4 * PRICE)


@pytest.mark.parametrize("drop", [False, True])
def test_a_deposit_that_a_reorganisation_takes(stage, contract, node, drop):
    payer = Payer(stage)
    settle_all(stage)
    node.hold()
    answer = stage.sending(payer.depositing(), "/batch/a")
    (waiting,) = poll(lambda: stage.pooled, what="a transaction")
    node.mine()
    assert answer.result(timeout=60).status_code == 200
    payer.signed = PRICE
    node.reorganise(1, drop=[waiting] if drop else [])
    if drop:
        assert contract.call("channels", payer.id) == (0, 0)
        poll(lambda: stage.pooled, WATCH_SECONDS, "the transaction again")
        # Nothing is sold on what is not there.
        assert payer.send(payer.payment("voucher", payer.voucher(2 * PRICE))).status_code == 402
    node.release()
    poll(lambda: contract.call("channels", payer.id) == (DEPOSIT, 0), WATCH_SECONDS, "the deposit again")
    value = payer.payment("voucher", payer.voucher(2 * PRICE))
    poll(lambda: payer.send(value).status_code == 200, WATCH_SECONDS, "an end of the suspension")
    assert channel_of(stage, payer.account)["state"] == "open"


def test_a_deposit_that_a_reorganisation_takes_while_nobody_looks(stage, contract, node):
    """No node has it any more: it is sent once more."""
    payer = Payer(stage)
    settle_all(stage)
    node.hold()
    answer = stage.sending(payer.depositing(), "/batch/a")
    (waiting,) = poll(lambda: stage.pooled, what="a transaction")
    node.mine()
    assert answer.result(timeout=60).status_code == 200
    payer.signed = PRICE
    stage.farebox.kill()
    node.reorganise(1, drop=[waiting])
    assert contract.call("channels", payer.id) == (0, 0)
    stage.farebox.start()
    poll(lambda: stage.pooled, WATCH_SECONDS, "the transaction again")
    node.release()
    poll(lambda: contract.call("channels", payer.id) == (DEPOSIT, 0), WATCH_SECONDS, "the deposit again")
    value = payer.payment("voucher", payer.voucher(2 * PRICE))
    poll(lambda: payer.send(value).status_code == 200, WATCH_SECONDS, "an end of the suspension")
    settle_all(stage)


def claimed_in_a_block(stage, node):
    """A channel whose only charge was claimed by a transaction that stands in the last block, with what had been received before; the node
    takes nothing else in meanwhile."""
    settle_all(stage)
    payer, received = Payer(stage), stage.received
    payer.open()
    node.hold()
    stage.farebox.command("channel", "settle", hexadecimal(payer.id))
    (waiting,) = poll(lambda: stage.pooled, WATCH_SECONDS, "a claim")
    node.mine()
    poll(lambda: stage.booked == received + PRICE, WATCH_SECONDS, "the claim in the books")
    return payer, received, waiting


def test_a_claim_that_a_reorganisation_takes_is_booked_once(stage, contract, node):
    payer, received, waiting = claimed_in_a_block(stage, node)
    node.reorganise(1, drop=[waiting])
    assert stage.received == received
    node.release()
    assert payer.pay().status_code == 200
    settle_all(stage)
    assert stage.received == received + 2 * PRICE and contract.call("channels", payer.id) == (DEPOSIT, 2 * PRICE)


def test_a_claim_that_a_reorganisation_takes_while_nobody_looks(stage, contract, node):
    """It is claimed again without anything else being charged."""
    payer, received, waiting = claimed_in_a_block(stage, node)
    stage.farebox.kill()
    node.reorganise(1, drop=[waiting])
    assert stage.received == received and contract.call("channels", payer.id) == (DEPOSIT, 0)
    node.release()
    stage.farebox.start()
    poll(lambda: contract.call("channels", payer.id) == (DEPOSIT, PRICE) and stage.received == received + PRICE, WATCH_SECONDS, "the claim again")
    poll(lambda: offer_of(stage), 20, "the offer")
    assert payer.pay().status_code == 200
    settle_all(stage)
    assert stage.booked == stage.received == received + 2 * PRICE


def test_a_key_that_only_signs_vouchers(stage, contract):
    payer = Payer(stage, authorizer=new_account())
    payer.open()
    assert payer.pay().status_code == 200
    value = payer.payment("voucher", payer.voucher(3 * PRICE, signer=payer.account))
    assert refusal(payer.send(value)) == "voucher_signature"
    settle_all(stage)
    assert contract.call("channels", payer.id) == (DEPOSIT, 2 * PRICE)


def test_an_operator_closes_a_channel(stage, contract):
    payer = Payer(stage)
    payer.open()
    units = stage.token.call("balanceOf", payer.account.address)
    stage.farebox.command("channel", "close", hexadecimal(payer.id), "--yes")
    poll(lambda: contract.call("channels", payer.id) == (PRICE, PRICE), WATCH_SECONDS, "the close")
    assert stage.token.call("balanceOf", payer.account.address) == units + DEPOSIT - PRICE
    poll(lambda: stage.farebox.command("channel", "show", hexadecimal(payer.id))["state"] == "closed", what="the books")


def test_claims_come_by_amount_and_closes_by_idleness(binary, upstream, node, usdc, rich, contract, tmp_path_factory):
    stage = stage_of(
        binary, upstream, tmp_path_factory.mktemp("due"), node, usdc, rich, more='settle-amount = "0.003 USDC"\nclose-idle-after = "12 s"\n')
    try:
        payer = Payer(stage)
        payer.open()
        payer.pay()
        assert contract.call("channels", payer.id) == (DEPOSIT, 0)
        payer.pay()
        poll(lambda: stage.received == 3 * PRICE, WATCH_SECONDS, "the claim")
        payer.pay()
        poll(lambda: contract.call("channels", payer.id) == (4 * PRICE, 4 * PRICE), WATCH_SECONDS, "the close")
        poll(lambda: not channels(stage), WATCH_SECONDS, "the end")
        assert stage.received == 4 * PRICE and stage.earned == 4 * PRICE
        poll(lambda: stage.booked == 4 * PRICE, what="the books")
    finally:
        stage.close()


def test_operators_see_it(stage):
    assert 'farebox_chain_batch_watched{chain="base-sepolia"} 1' in stage.farebox.metrics()
    (chain,) = stage.farebox.command("chain", "status")["chains"]
    assert chain["batch"]["watched"] is True and chain["batch"]["contract"] == CONTRACT, json.dumps(chain)


PERMITTED = f"""batch = "{DELAY} s"
[[chain.token]]
currency = "usdc"
address = "TOKEN"
name = "USDC"
version = "2"
transfers = ["permit2"]
"""


def test_the_official_client_deposits_by_permit2(binary, upstream, node, usdc, rich, contract, tmp_path_factory):
    chain = PERMITTED.replace("TOKEN", usdc.address)
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("permit2"), node, usdc, rich, more=chain, sold={"paid": ["x402"]}, routes=BATCHES)
    try:
        poll(lambda: offer_of(stage), 20, "an offer of batch-settlement")
        assert offer_of(stage)["extra"]["assetTransferMethod"] == "permit2"
        account = stage.payer(coins=1)
        session, _ = client(account)
        # Nobody may move his money yet.
        refused = session.get(stage.farebox.origin + "/batch/a", timeout=30)
        assert refused.status_code == 402 and refusal(refused) == "deposit_simulation_failed"
        usdc.run(account, "approve", PERMIT2, MAXIMUM)
        for number in range(12):
            response = session.get(stage.farebox.origin + "/batch/a", timeout=30)
            assert response.status_code == 200, (number, refusal(response))
        channel = channel_of(stage, account)
        assert (channel["spent"], channel["deposit"]) == (str(12 * PRICE), str(20 * PRICE))
        settle_all(stage)
        assert stage.received == stage.earned == 12 * PRICE
    finally:
        stage.close()


@pytest.fixture
def plain_node(rich, tmp_path, monkeypatch):
    """A chain whose contract forgets who has called where several calls are made at once."""
    from vyper.cli.vyper_compile import compile_files

    source = (contracts.SOURCES / "BatchSettlement.vy").read_text()
    path = tmp_path / "Plain.vy"
    path.write_text(source.replace(", is_delegate_call=True", ""))
    assert path.read_text() != source
    code = list(compile_files([str(path)], ["bytecode_runtime"], paths=[str(contracts.SOURCES), str(tmp_path)]).values())[0]["bytecode_runtime"]
    genesis = contracts.genesis() | {contracts.ADDRESSES["batch-settlement"]: {"code": bytes.fromhex(code[2:])}}
    monkeypatch.setattr(contracts, "genesis", lambda: genesis)
    with Node(accounts={rich.address: 10**24}) as node:
        yield node


def test_a_contract_that_does_one_thing_at_a_time(binary, upstream, plain_node, rich, tmp_path):
    contract, usdc = Contract(plain_node.rpc, "BatchSettlement", "batch-settlement"), Contract(plain_node.rpc, "Token", "usdc")
    stage = stage_of(binary, upstream, tmp_path / "plain", plain_node, usdc, rich)
    try:
        payer = Payer(stage)
        payer.open()
        payer.pay()
        settle_all(stage)
        assert contract.call("channels", payer.id) == (DEPOSIT, 2 * PRICE) and stage.received == 2 * PRICE
        payer.pay()
        stage.farebox.command("channel", "close", hexadecimal(payer.id), "--yes")
        poll(lambda: contract.call("channels", payer.id) == (3 * PRICE, 3 * PRICE), WATCH_SECONDS, "the close")
        poll(lambda: not channels(stage), WATCH_SECONDS, "the end")
        assert stage.received == stage.earned == 3 * PRICE and usdc.call("balanceOf", payer.account.address) == 1_000_000 - 3 * PRICE
    finally:
        stage.close()


# What keeps nothing from being sold, and what does.


def test_without_the_chain_no_channel_is_offered(stage, node):
    payer = Payer(stage)
    payer.open()
    node.fail("refused", count=10_000)
    poll(lambda: not offer_of(stage), 30, "the withdrawal of the offers")
    node.heal()
    poll(lambda: offer_of(stage), 30, "the offers")
    assert payer.pay().status_code == 200


# The chain's clock goes ahead of ours from here on, and authorizations with it.


def test_what_is_taken_away_behind_our_back_is_lost_and_said(stage, contract, node):
    """The proxy was away for longer than the delay."""
    payer = Payer(stage)
    payer.open()
    payer.pay()
    settle_all(stage)
    payer.pay()
    stage.farebox.kill()
    contract.run(payer.account, "initiateWithdraw", payer.members, DEPOSIT - 2 * PRICE)
    node.advance(DELAY + 1)
    node.mine()
    contract.run(payer.account, "finalizeWithdraw", payer.members)
    stage.farebox.start()
    poll(lambda: stage.farebox.command("channel", "show", hexadecimal(payer.id))["state"] == "closed", WATCH_SECONDS, "the end")
    closed = stage.farebox.command("channel", "show", hexadecimal(payer.id))
    assert (closed["cause"], closed["settled"], closed["lost"]) == ("forced", str(2 * PRICE), str(PRICE))
