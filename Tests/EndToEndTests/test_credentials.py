"""The credentials of the MPP method "evm" that only the tests make: what each carries does on the chain what it promises."""

import base64
import json

import pytest
import rfc8785

from chain.contracts import Contract
from chain.credentials import EvmChannel, EvmWallet, b64u
from chain.wallet import MAXIMUM, PAYMENT_WITNESS, new_account, vrs, witness_hash, witness_type

EXPIRES = "2099-01-01T00:00:00Z"


@pytest.fixture
def merchant():
    return new_account()


@pytest.fixture
def wallet(payer, usdc):
    usdc.run(payer, "approve", "0x000000000022D473030F116dDEE9F6B43aC78BA3", MAXIMUM)
    return EvmWallet(payer)


def challenge(usdc, node, recipient, intent="charge", amount="1000", **details):
    request = {"amount": amount, "currency": usdc.address, "recipient": recipient, "methodDetails": {"chainId": node.chain_id, **details}}
    encoded = b64u(rfc8785.dumps(request))
    return {"id": "identifier", "realm": "127.0.0.1", "method": "evm", "intent": intent, "request": encoded, "expires": EXPIRES}


def payload(value):
    text = value.removeprefix("Payment ")
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["payload"]


def octets(text):
    return bytes.fromhex(text[2:])


def test_an_authorization(node, usdc, wallet, merchant, rich):
    made = payload(wallet.authorization(challenge(usdc, node, merchant.address)))
    numbers = [int(made[name]) for name in ("value", "validAfter", "validBefore")]
    usdc.run(rich, "transferWithAuthorization", made["from"], made["to"], *numbers, octets(made["nonce"]), *vrs(octets(made["signature"])))
    assert usdc.call("balanceOf", merchant.address) == 1000


@pytest.mark.parametrize("splits", [(), (100, 20)])
def test_a_permit(node, usdc, wallet, merchant, rich, splits):
    partners = [{"recipient": new_account().address, "amount": str(amount)} for amount in splits]
    made = payload(wallet.permit2(challenge(usdc, node, merchant.address, **({"splits": partners} if partners else {})), rich.address))
    permit = made["permit"]
    permitted = [(one["token"], int(one["amount"])) for one in permit["permitted"]]
    moves = [(one["to"], int(one["requestedAmount"])) for one in made["transferDetails"]]
    times = int(permit["nonce"]), int(permit["deadline"])
    values = {"challengeHash": octets(made["witness"]["challengeHash"]), "externalId": ""}
    witness = witness_hash(PAYMENT_WITNESS, values), witness_type(PAYMENT_WITNESS), octets(made["signature"])
    contract = Contract(node.rpc, "Permit2Overloads" if splits else "Permit2", "permit2")
    first = ((permitted, *times), moves) if splits else ((permitted[0], *times), moves[0])
    contract.run(rich, "permitWitnessTransferFrom", *first, wallet.address, *witness)
    assert usdc.call("balanceOf", merchant.address) == 1000 - sum(splits)
    assert [usdc.call("balanceOf", partner["recipient"]) for partner in partners] == list(splits)


def test_a_transaction_and_a_hash(node, usdc, wallet, merchant):
    made = payload(wallet.transaction(challenge(usdc, node, merchant.address), node.rpc))
    assert usdc.call("balanceOf", merchant.address) == 0
    node.rpc("eth_sendRawTransaction", made["signature"])
    assert usdc.call("balanceOf", merchant.address) == 1000
    made = payload(wallet.hash(challenge(usdc, node, merchant.address), node.rpc))
    assert usdc.call("balanceOf", merchant.address) == 2000 and node.rpc("eth_getTransactionReceipt", made["hash"])["status"] == "0x1"


@pytest.mark.parametrize("kind", ["authorization", "permit2", "hash"])
@pytest.mark.parametrize("named", [False, True])
def test_a_session(node, usdc, wallet, merchant, rich, kind, named):
    escrow = Contract(node.rpc, "EvmChannels", "evm-channels")
    node.fund(merchant.address)
    terms = challenge(usdc, node, merchant.address, "session", "10", escrowContract=escrow.address)
    channel = EvmChannel(wallet, terms, 5000, signer=new_account() if named else None)
    place = (merchant.address, usdc.address, 5000, channel.salt, channel.authorized)
    if kind == "hash":
        made = payload(channel.open_by_hash(terms, channel.broadcast_open(node.rpc)))
        assert node.rpc("eth_getTransactionReceipt", made["hash"])["status"] == "0x1"
    else:
        made = payload(channel.open(terms, kind))
        told = made["authorization"]
        if kind == "authorization":
            times = (int(told["validAfter"]), int(told["validBefore"]), octets(told["nonce"]))
            escrow.run(rich, "openWithAuthorization", *place, wallet.address, *times, octets(made["signature"]))
        else:
            escrow.run(rich, "openWithPermit2", *place, wallet.address, int(told["nonce"]), int(told["deadline"]), octets(made["signature"]))
    assert escrow.call("getChannel", octets(made["channelId"]))[4:6] == (5000, 0)
    if kind != "hash":
        made = payload(channel.top_up(terms, 700, kind))
        told, more = made["authorization"], (channel.id, 700, wallet.address)
        if kind == "authorization":
            times = (int(told["validAfter"]), int(told["validBefore"]), octets(told["nonce"]))
            escrow.run(rich, "topUpWithAuthorization", *more, octets(made["salt"]), *times, octets(made["signature"]))
        else:
            escrow.run(rich, "topUpWithPermit2", *more, int(told["nonce"]), int(told["deadline"]), octets(made["signature"]))
    made = payload(channel.voucher(terms, 250))
    escrow.run(merchant, "settle", channel.id, int(made["cumulativeAmount"]), octets(made["signature"]))
    made = payload(channel.close(terms, 400))
    escrow.run(merchant, "close", channel.id, int(made["cumulativeAmount"]), octets(made["signature"]))
    assert usdc.call("balanceOf", merchant.address) == 400 and usdc.call("balanceOf", wallet.address) == 999_600
