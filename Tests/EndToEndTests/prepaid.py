"""The `prepaid` payment method for pympp's client: how to pay a Farebox from Python.

    from mpp.client import Mpp
    from prepaid import PrepaidWallet

    wallet = PrepaidWallet.from_seed_file("wallet.key")
    async with Mpp(methods=[wallet.charge(max_units=10_000)]) as mpp:
        response = await mpp.fetch("http://127.0.0.1:8402/quotes/today")
"""

import base64
import hashlib
import os
from dataclasses import dataclass

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SIGNATURE_DOMAIN = b"prepaid-v1\n"
QUERY_DOMAIN = b"prepaid-query-v1\n"


def b64u(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def b64u_decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base58(octets: bytes) -> str:
    number = int.from_bytes(octets, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    leading = len(octets) - len(octets.lstrip(b"\0"))
    return "1" * leading + digits


@dataclass
class SessionSecret:
    """A session's secret and its id, the hex SHA-256 of the secret."""

    preimage: bytes

    @classmethod
    def new(cls) -> "SessionSecret":
        return cls(os.urandom(32))

    @property
    def session_id(self) -> str:
        return hashlib.sha256(self.preimage).hexdigest()

    @property
    def hex(self) -> str:
        return self.preimage.hex()

    @property
    def short_form(self) -> str:
        """The value of the `Prepaid-Session` request field."""
        return f"{self.session_id}; key={self.hex}"


class PrepaidWallet:
    """An Ed25519 key that owns a wallet on a Farebox ledger."""

    def __init__(self, key: Ed25519PrivateKey):
        self.key = key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.did = "did:key:z" + base58(b"\xed\x01" + public)

    @classmethod
    def new(cls) -> "PrepaidWallet":
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> "PrepaidWallet":
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def credential(self, challenge: dict, payload: dict, *, signed: bool = True) -> str:
        """Build the value of an `Authorization` field: `challenge` is the echoed challenge (parameters as received)."""
        members = {"challenge": challenge, "payload": payload}
        if signed:
            members["source"] = self.did
            signature = self.key.sign(SIGNATURE_DOMAIN + rfc8785.dumps(members))
            members["payload"] = {**payload, "signature": b64u(signature)}
        return "Payment " + b64u(rfc8785.dumps(members))

    def transfer(self, challenge: dict) -> str:
        """Pay a `charge` challenge."""
        return self.credential(challenge, {"type": "transfer", "wallet": self.did})

    def open(self, challenge: dict, secret: SessionSecret, deposit: int) -> str:
        payload = {"action": "open", "deposit": str(deposit), "sessionId": secret.session_id, "wallet": self.did}
        return self.credential(challenge, payload)

    def top_up(self, challenge: dict, session_id: str, additional: int) -> str:
        payload = {"action": "topUp", "additionalDeposit": str(additional), "sessionId": session_id}
        return self.credential(challenge, payload)

    def bearer(self, challenge: dict, secret: SessionSecret, action: str = "bearer") -> str:
        payload = {"action": action, "sessionId": secret.session_id, "preimage": secret.hex}
        return self.credential(challenge, payload, signed=False)

    def query(self, time: str) -> dict:
        """The body of `POST /.well-known/prepaid/wallet`."""
        members = {"wallet": self.did, "time": time, "nonce": b64u(os.urandom(16))}
        signature = self.key.sign(QUERY_DOMAIN + rfc8785.dumps(members))
        return {**members, "signature": b64u(signature)}

    def charge(self, max_units: int):
        """A client method for pympp that pays `prepaid` charges of at most `max_units` base units each."""
        from mpp import ClientMethod, Method
        from pydantic import BaseModel

        class Request(BaseModel, extra="allow"):
            amount: str
            currency: str

        class Payload(BaseModel, extra="allow"):
            type: str

        async def create_credential(params) -> str:
            echo = params.challenge.to_echo()
            fields = ("id", "realm", "method", "intent", "request", "expires", "digest", "opaque", "header", "description")
            challenge = {name: value for name in fields if (value := getattr(echo, name)) is not None}
            return self.transfer(challenge)

        return ClientMethod(
            method=Method(name="prepaid", intent="charge", request_model=Request, payload_model=Payload),
            create_credential=create_credential,
            can_handle_challenge=lambda challenge: int(challenge.request["amount"]) <= max_units,
        )
