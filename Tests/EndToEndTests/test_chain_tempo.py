"""The stand-in for Tempo: what pympp's and pytempo's keys sign is checked and executed on the tests' chain, and nothing else is."""

import asyncio
import base64
import itertools
import json
import os

import attrs
import pytest
from eth_abi import encode
from eth_utils import keccak
from mpp import Challenge
from mpp.methods.tempo import TempoAccount
from mpp.methods.tempo import client as tempo
from mpp.methods.tempo import server as tempo_server
from mpp.methods.tempo.fee_payer_envelope import decode_fee_payer_envelope
from mpp.runtime import CredentialParams
from pytempo import Call, TempoTransaction
from pytempo.models import Signature

from chain.contracts import Contract
from chain.evm import Refusal
from chain.node import Node
from chain.shop import sell_by_pympp
from chain.tempo import EXPIRING, FEE_MANAGER, integer
from chain.wallet import ZERO, channel_domain, digest, hexadecimal, new_account, sign, typed

MODERATO = 42431
# Gas at the chain's two gwei, in the token's base units per thousand of gas.
FEE_PER_1000 = 2
LIMITS = itertools.count(1_000_000)


@pytest.fixture(scope="module")
def node(rich):
    with Node(MODERATO, accounts={rich.address: 10**24}) as node:
        yield node


@pytest.fixture(scope="module")
def coin(node):
    return Contract(node.rpc, "Token", "path-usd")


@pytest.fixture
def payer(node, coin, rich):
    account = new_account()
    coin.run(rich, "mint", account.address, 1_000_000)
    return account


def call(contract, name, *arguments):
    return Call.create(to=contract.address, data=contract.data(name, *arguments))


def transaction(node, coin, *calls, **fields):
    # No two are alike, for an expiring nonce is the transaction's hash.
    fees = {"gas_limit": next(LIMITS), "max_fee_per_gas": 2 * 10**9, "max_priority_fee_per_gas": 10**9, "fee_token": coin.address}
    lane = {"nonce_key": EXPIRING, "valid_before": node.chain.now() + 60}
    return TempoTransaction.create(chain_id=MODERATO, calls=calls, **{**fees, **lane, **fields})


def signed(account, made):
    return hexadecimal(made.sign(account.key.hex()).encode())


def refusal(node, account, made):
    with pytest.raises(Refusal) as caught:
        node.rpc("eth_sendRawTransaction", signed(account, made))
    return caught.value.message


def paid(account, node, coin, recipient, fee_payer=False, splits=()):
    """What pympp's client answers to a challenge of 1000: the octets it signed."""
    details = {"chainId": MODERATO, "feePayer": fee_payer, **({"splits": list(splits)} if splits else {})}
    request = {"amount": "1000", "currency": coin.address, "recipient": recipient, "methodDetails": details}
    challenge = Challenge.create(secret_key="secret", realm="api.example.com", method="tempo", intent="charge", request=request)
    method = tempo.charge(account=TempoAccount.from_key(account.key.hex()), rpc_url=node.url, chain_id=MODERATO)
    value = asyncio.run(method.create_credential(CredentialParams(challenge=challenge))).split(" ")[1]
    return bytes.fromhex(json.loads(base64.urlsafe_b64decode(value + "=="))["payload"]["signature"][2:])


def sponsored(envelope, sponsor, coin):
    """A transaction that pympp's client left for a fee payer, with that signature."""
    fields, sender, signature, _ = decode_fee_payer_envelope(envelope)
    body = TempoTransaction.create(
        chain_id=integer(fields[0]),
        max_priority_fee_per_gas=integer(fields[1]),
        max_fee_per_gas=integer(fields[2]),
        gas_limit=integer(fields[3]),
        calls=tuple(Call.create(to=to, value=integer(value), data=data) for to, value, data in fields[4]),
        nonce_key=integer(fields[6]),
        nonce=integer(fields[7]),
        valid_before=integer(fields[8]),
        fee_token=coin.address,
    )
    body = attrs.evolve(body, sender_address=sender, sender_signature=Signature.from_bytes(signature))
    return body.sign(sponsor.key.hex(), for_fee_payer=True).encode()


def test_what_pympp_signs_moves_the_money_and_pays_its_fee(node, coin, payer):
    merchant, partner = new_account(), new_account()
    raw = paid(payer, node, coin, merchant.address, splits=[{"recipient": partner.address, "amount": "100"}])
    receipt = node.rpc("eth_sendRawTransactionSync", hexadecimal(raw))
    assert receipt["status"] == "0x1" and receipt["type"] == "0x76" and receipt["from"] == receipt["feePayer"] == payer.address.lower()
    assert [name for name, _ in coin.logs(receipt)] == ["Transfer", "TransferWithMemo"] * 2 + ["Transfer"]
    fee = -(-int(receipt["gasUsed"], 16) * FEE_PER_1000 // 1000)
    assert (coin.call("balanceOf", merchant.address), coin.call("balanceOf", partner.address)) == (900, 100)
    assert coin.call("balanceOf", payer.address) == 1_000_000 - 1000 - fee
    with pytest.raises(Refusal, match="already known"):
        node.rpc("eth_sendRawTransaction", hexadecimal(raw))
    assert node.rpc("eth_getTransactionByHash", receipt["transactionHash"])["calls"][0]["to"] == coin.address.lower()


def test_a_sponsor_pays_the_fee(node, coin, payer, rich):
    merchant, sponsor = new_account(), new_account()
    coin.run(rich, "mint", sponsor.address, 1_000_000)
    envelope = paid(payer, node, coin, merchant.address, fee_payer=True)
    assert envelope[0] == 0x78
    receipt = node.rpc("eth_sendRawTransactionSync", hexadecimal(sponsored(envelope, sponsor, coin)))
    assert receipt["status"] == "0x1" and receipt["feePayer"] == sponsor.address.lower()
    assert coin.call("balanceOf", payer.address) == 999_000 and coin.call("balanceOf", sponsor.address) < 1_000_000
    assert node.rpc("eth_getTransactionReceipt", receipt["transactionHash"]) == receipt


@pytest.mark.parametrize("sponsors", [False, True])
def test_pympp_sells_to_pympp(node, coin, payer, rich, sponsors):
    merchant, sponsor = new_account(), new_account()
    coin.run(rich, "mint", sponsor.address, 1_000_000)
    terms = {"chain_id": MODERATO, "rpc_url": node.url}
    offered = tempo_server.charge(**terms, recipient=merchant.address, currencies=[coin.address], fee_payer=TempoAccount.from_key(sponsor.key.hex()))
    method = tempo.charge(**terms, account=TempoAccount.from_key(payer.key.hex()))
    receipt = asyncio.run(sell_by_pympp(offered, method, amount="0.001", **({"fee_payer": True} if sponsors else {})))
    settled = node.rpc("eth_getTransactionReceipt", receipt.reference)
    assert settled["feePayer"] == (sponsor if sponsors else payer).address.lower() and coin.call("balanceOf", merchant.address) == 1000


def test_calls_happen_all_or_none(node, coin, payer):
    merchant = new_account()
    made = transaction(node, coin, call(coin, "transfer", merchant.address, 5), call(coin, "transfer", merchant.address, 10**9))
    receipt = node.rpc("eth_sendRawTransactionSync", signed(payer, made))
    assert receipt["status"] == "0x0" and coin.call("balanceOf", merchant.address) == 0 and coin.call("balanceOf", payer.address) < 1_000_000
    assert [values["receiver"] for _, values in coin.logs(receipt)] == [hexadecimal(FEE_MANAGER)]


def test_the_stand_in_refuses(node, coin, payer):
    pay, now = call(coin, "transfer", new_account().address, 5), node.chain.now()
    assert refusal(node, payer, transaction(node, coin, pay, valid_before=now - 1)) == "transaction expired"
    assert refusal(node, payer, transaction(node, coin, pay, valid_after=now + 50)) == "transaction not yet valid"
    assert refusal(node, payer, transaction(node, coin, pay, valid_before=now + 900)).startswith("an expiring nonce wants")
    assert refusal(node, payer, transaction(node, coin, pay, fee_token=None)) == "no fee token"
    assert refusal(node, payer, transaction(node, coin, pay, gas_limit=20_000)).startswith("intrinsic gas too low")
    assert refusal(node, new_account(), transaction(node, coin, pay)) == "insufficient funds for gas in the fee token"
    assert refusal(node, payer, attrs.evolve(transaction(node, coin, pay), chain_id=1)) == f"invalid chain id for signer: have 1 want {MODERATO}"
    assert refusal(node, payer, transaction(node, coin, Call.create(to=coin.address, value=1))) == "calls carry no value on Tempo"


def test_lanes_of_nonces_are_in_order_each(node, coin, payer):
    def made(key, nonce):
        return transaction(node, coin, call(coin, "approve", payer.address, nonce), nonce_key=key, nonce=nonce, valid_before=None)

    node.hold()
    second = node.rpc("eth_sendRawTransaction", signed(payer, made(7, 1)))
    node.mine()
    assert node.rpc("eth_getTransactionReceipt", second) is None
    first, other = (node.rpc("eth_sendRawTransaction", signed(payer, made(key, 0))) for key in (7, 0))
    node.mine()
    assert all(node.rpc("eth_getTransactionReceipt", found)["status"] == "0x1" for found in (first, second, other))
    node.reorganise(1, drop=[first])
    assert node.rpc("eth_getTransactionReceipt", second) is None and node.rpc("eth_getTransactionReceipt", other)["status"] == "0x1"
    node.release()
    assert refusal(node, payer, made(0, 0)) == "nonce too low: next nonce 1, tx nonce 0"


DESCRIPTOR = ["address", "address", "address", "address", "bytes32", "address", "bytes32"]


def test_the_reserve_of_channels(node, coin, payer, rich):
    reserve, payee = Contract(node.rpc, "TempoReserve", "tempo-reserve"), new_account()
    coin.run(rich, "mint", payee.address, 1_000_000)
    made = transaction(node, coin, call(reserve, "open", payee.address, ZERO, coin.address, 1000, salt := os.urandom(32), ZERO))
    receipt = node.rpc("eth_sendRawTransactionSync", signed(payer, made))
    opened = reserve.logs(receipt)[0][1]
    sender = bytes.fromhex(payer.address[2:])
    descriptor = (payer.address, payee.address, ZERO, coin.address, salt, ZERO, keccak(made.encode_for_signing() + sender))
    assert opened["channelId"] == keccak(encode([*DESCRIPTOR, "address", "uint256"], [*descriptor, reserve.address, MODERATO]))
    assert opened["expiringNonceHash"] == descriptor[6] and opened["deposit"] == 1000

    domain = channel_domain(MODERATO, reserve.address, "TIP20 Channel Reserve")

    def voucher(amount):
        members = {"channelId": opened["channelId"], "cumulativeAmount": amount}
        return typed(domain, "Voucher", "bytes32 channelId,uint96 cumulativeAmount", members)

    def run(account, *calls):
        return node.rpc("eth_sendRawTransactionSync", signed(account, transaction(node, coin, *calls)))["status"]

    assert reserve.call("getVoucherDigest", opened["channelId"], 9) == digest(voucher(9))
    assert run(payee, call(reserve, "settle", descriptor, 300, sign(payer, voucher(300)))) == "0x1"
    assert run(payee, call(reserve, "settle", descriptor, 300, sign(payer, voucher(300)))) == "0x0"
    assert run(payer, call(reserve, "topUp", descriptor, 500)) == "0x1"
    assert reserve.call("getChannelState", opened["channelId"]) == (300, 1500, 0)
    assert run(payer, call(reserve, "withdraw", descriptor)) == run(payer, call(reserve, "settle", descriptor, 301, sign(payer, voucher(301)))) == "0x0"
    assert run(payer, call(reserve, "requestClose", descriptor)) == "0x1"
    assert run(payee, call(reserve, "close", descriptor, 900, 700, sign(payer, voucher(900)))) == "0x1"
    assert coin.call("balanceOf", reserve.address) == 0 and reserve.call("getChannelState", opened["channelId"]) == (0, 0, 0)
    assert run(payee, call(reserve, "close", descriptor, 900, 700, sign(payer, voucher(900)))) == "0x0"
