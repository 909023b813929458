"""Wallets of the tests: keys of eth-account and the typed data that they sign, by each standard that pays with signatures."""

import os
import time

import requests
from eth_abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

MAXIMUM = 2**256 - 1
ZERO = "0x" + "00" * 20

TRANSFER_FIELDS = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce"


class Client:
    """Asks a node over HTTP, as `Node.rpc` does in its own process."""

    def __init__(self, url, timeout=10):
        self.url, self.timeout, self.session = url, timeout, requests.Session()

    def rpc(self, method, *parameters):
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        answer = self.session.post(self.url, json=call, timeout=self.timeout).json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]


def hexadecimal(octets):
    return "0x" + bytes(octets).hex()


def new_account():
    return Account.from_key(os.urandom(32))


def fields(text):
    """The members of a struct's type string, as eth-account takes them."""
    return [dict(zip(("type", "name"), member.strip().split(" "))) for member in text.split(",") if member.strip()]


def typed(domain, primary, members, message, **structs):
    """A signable message of EIP-712. Types are strings as the standard writes them: `typed(domain, "Voucher", "bytes32 channelId,…", {…})`."""
    kinds = {name: fields(text) for name, text in {primary: members, **structs}.items()}
    names = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
    kinds["EIP712Domain"] = [{"name": name, "type": names[name]} for name in names if name in domain]
    return encode_typed_data(full_message={"types": kinds, "primaryType": primary, "domain": domain, "message": message})


def digest(signable):
    """The 32 octets that a signature over the message is of."""
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def sign(account, signable):
    """The signature's 65 octets: r, s, and v of 27 or 28."""
    return bytes(account.sign_message(signable).signature)


def compact(signature):
    """The signature's 64 octets by EIP-2098."""
    s = int.from_bytes(signature[32:64], "big") | (signature[64] - 27) << 255
    return signature[:32] + s.to_bytes(32, "big")


def malleated(signature):
    """The other signature of the same message by the same key, whose s is high."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def vrs(signature):
    """The signature as contracts take it in three arguments."""
    return signature[64], signature[:32], signature[32:64]


# EIP-3009.


def token_domain(chain_id, token, name="USDC", version="2"):
    return {"name": name, "version": version, "chainId": chain_id, "verifyingContract": token}


def authorization(domain, sender, receiver, value, after=0, before=None, nonce=None, kind="TransferWithAuthorization"):
    """The arguments of `transferWithAuthorization` but the signature, and the message to sign. `kind` may be `ReceiveWithAuthorization`."""
    before = int(time.time()) + 3600 if before is None else before
    nonce = os.urandom(32) if nonce is None else nonce
    message = {"from": sender, "to": receiver, "value": value, "validAfter": after, "validBefore": before, "nonce": nonce}
    return (sender, receiver, value, after, before, nonce), typed(domain, kind, TRANSFER_FIELDS, message)


def permit_message(domain, owner, spender, value, nonce, deadline):
    """EIP-2612: what `permit` takes the signature of."""
    message = {"owner": owner, "spender": spender, "value": value, "nonce": nonce, "deadline": deadline}
    return typed(domain, "Permit", "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline", message)


# Permit2. A witness is a pair: the members of its struct as a type string, and their values.

PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
TOKEN_PERMISSIONS = "address token,uint256 amount"
EXACT_WITNESS = ("Witness", "address to,uint256 validAfter")
UPTO_WITNESS = ("Witness", "address to,address facilitator,uint256 validAfter")
PAYMENT_WITNESS = ("PaymentWitness", "bytes32 challengeHash,string externalId")
OPEN_WITNESS = ("ChannelOpenWitness", "address payee,bytes32 salt,address authorizedSigner")
TOP_UP_WITNESS = ("ChannelTopUpWitness", "bytes32 channelId")


def permit2_domain(chain_id, contract=PERMIT2):
    return {"name": "Permit2", "chainId": chain_id, "verifyingContract": contract}


def permit2_message(chain_id, permitted, spender, nonce, deadline, witness=None, values=None, contract=PERMIT2):
    """What Permit2 takes the signature of. `permitted` is a pair of a token and an amount, or a list of such pairs; `witness` one of those above."""
    batch = isinstance(permitted, list)
    pairs = [{"token": token, "amount": amount} for token, amount in (permitted if batch else [permitted])]
    name = "Permit" + ("Batch" if batch else "") + ("Witness" if witness else "") + "TransferFrom"
    members = f"TokenPermissions{'[]' if batch else ''} permitted,address spender,uint256 nonce,uint256 deadline"
    message = {"permitted": pairs if batch else pairs[0], "spender": spender, "nonce": nonce, "deadline": deadline}
    structs = {"TokenPermissions": TOKEN_PERMISSIONS}
    if witness:
        members += f",{witness[0]} witness"
        message["witness"] = values
        structs[witness[0]] = witness[1]
    return typed(permit2_domain(chain_id, contract), name, members, message, **structs)


def witness_type(witness):
    """The `witnessTypeString` of a call of Permit2: the structs in the order of their names."""
    structs = sorted([f"{witness[0]}({witness[1]})", f"TokenPermissions({TOKEN_PERMISSIONS})"])
    return f"{witness[0]} witness)" + "".join(structs)


def witness_hash(witness, values):
    """The 32 octets that Permit2 is called with for a witness."""
    kinds, names = zip(*(member.split(" ") for member in witness[1].split(",")))
    encoded = [keccak(text=values[name]) if kind == "string" else values[name] for kind, name in zip(kinds, names)]
    head = keccak(text=f"{witness[0]}({witness[1]})")
    return keccak(encode(["bytes32", *("bytes32" if kind == "string" else kind for kind in kinds)], [head, *encoded]))


# Channels.


def channel_domain(chain_id, escrow, name="EVM Payment Channel"):
    return {"name": name, "version": "1", "chainId": chain_id, "verifyingContract": escrow}


def voucher_message(domain, channel_id, amount):
    return typed(domain, "Voucher", "bytes32 channelId,uint128 cumulativeAmount", {"channelId": channel_id, "cumulativeAmount": amount})


def payee_message(domain, kind, channel_id, amount, nonce, deadline):
    """What a payee signs for a relayed `SettleAuthorization` or `CloseAuthorization`."""
    message = {"channelId": channel_id, "cumulativeAmount": amount, "nonce": nonce, "deadline": deadline}
    return typed(domain, kind, "bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline", message)


def channel_id(chain_id, escrow, payer, payee, token, salt, signer=ZERO):
    kinds = ["address", "address", "address", "bytes32", "address", "address", "uint256"]
    return keccak(encode(kinds, [payer, payee, token, salt, signer, escrow, chain_id]))


def open_nonce(payer, payee, token, salt, signer=ZERO):
    """The nonce of the authorization that opens a channel."""
    return keccak(encode(["address", "address", "address", "bytes32", "address"], [payer, payee, token, salt, signer]))


def top_up_nonce(channel, amount, payer, salt):
    """The nonce of the authorization that adds to a channel."""
    return keccak(encode(["bytes32", "uint128", "address", "bytes32"], [channel, amount, payer, salt]))
