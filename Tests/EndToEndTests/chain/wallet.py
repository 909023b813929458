"""Wallets of the tests: keys of eth-account, the typed data that they sign, and the credentials that no PyPI client makes."""

import base64
import json
import os
import time

import requests
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

MAXIMUM = 2**256 - 1

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


def did(chain_id, address):
    return f"did:pkh:eip155:{chain_id}:{address}"
