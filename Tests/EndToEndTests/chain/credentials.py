"""Credentials of the MPP method "evm", for the cases that no PyPI client makes. A challenge is the dictionary of its parameters as received."""

import base64
import json
import os
import time
from datetime import datetime

import rfc8785
from eth_abi import encode
from eth_utils import keccak

from chain.contracts import send, signed
from chain.wallet import (
    OPEN_WITNESS,
    PAYMENT_WITNESS,
    PERMIT2,
    TOP_UP_WITNESS,
    ZERO,
    authorization,
    channel_domain,
    channel_id,
    hexadecimal,
    open_nonce,
    permit2_message,
    sign,
    token_domain,
    top_up_nonce,
    voucher_message,
)


def did(chain_id, address):
    return f"did:pkh:eip155:{chain_id}:{address}"


def b64u(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def request_of(challenge):
    text = challenge["request"]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def credential(challenge, payload, source=None):
    """The value of an `Authorization` field."""
    members = {"challenge": challenge, "payload": payload}
    if source is not None:
        members["source"] = source
    return "Payment " + b64u(rfc8785.dumps(members))


def challenge_hash(challenge, client="draft"):
    """What binds a signature to a challenge: as the draft has it, or as pympp and mppx do (`client="json"`)."""
    if client == "json":
        text = json.dumps([challenge["id"], challenge["realm"]], separators=(",", ":"), ensure_ascii=False)
    else:
        text = challenge["id"] + challenge["realm"]
    return keccak(text=text)


def expiry(challenge):
    text = challenge.get("expires")
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) if text else int(time.time()) + 300


class EvmWallet:
    """Pays challenges of the MPP method "evm" with a key of eth-account, in every way that the drafts have."""

    def __init__(self, account, token_name="USDC", token_version="2", binding="draft"):
        self.account, self.address = account, account.address
        self.token_name, self.token_version, self.binding = token_name, token_version, binding

    def source(self, challenge):
        return did(request_of(challenge)["methodDetails"]["chainId"], self.address)

    def domain(self, request):
        return token_domain(request["methodDetails"]["chainId"], request["currency"], self.token_name, self.token_version)

    # Charges.

    def authorization(self, challenge, **changes):
        """A `charge` by EIP-3009. `changes` replace members of what is signed: value, nonce, after, before, receiver."""
        request = request_of(challenge)
        receiver, value = changes.pop("receiver", request["recipient"]), changes.pop("value", int(request["amount"]))
        options = {"before": expiry(challenge), "nonce": challenge_hash(challenge, self.binding)} | changes
        arguments, message = authorization(self.domain(request), self.address, receiver, value, **options)
        sender, receiver, value, after, before, nonce = arguments
        payload = {
            "type": "authorization",
            "from": sender,
            "to": receiver,
            "value": str(value),
            "validAfter": str(after),
            "validBefore": str(before),
            "nonce": hexadecimal(nonce),
            "signature": hexadecimal(sign(self.account, message)),
        }
        return credential(challenge, payload, self.source(challenge))

    def permit2(self, challenge, spender, nonce=None, **changes):
        """A `charge` by Permit2, split as the challenge says. `spender` is who will submit it. `changes` may replace deadline, hash and external."""
        request = request_of(challenge)
        details = request["methodDetails"]
        splits = [(split["recipient"], int(split["amount"])) for split in details.get("splits") or []]
        transfers = [(request["recipient"], int(request["amount"]) - sum(amount for _, amount in splits)), *splits]
        permitted = [(request["currency"], amount) for _, amount in transfers]
        nonce = int.from_bytes(os.urandom(31), "big") if nonce is None else nonce
        deadline = changes.get("deadline", expiry(challenge))
        values = {
            "challengeHash": changes.get("hash", challenge_hash(challenge, self.binding)),
            "externalId": changes.get("external", request.get("externalId", "")),
        }
        message = permit2_message(
            details["chainId"],
            permitted if len(permitted) > 1 else permitted[0],
            spender,
            nonce,
            deadline,
            PAYMENT_WITNESS,
            values,
            details.get("permit2Address", PERMIT2),
        )
        witness = {"challengeHash": hexadecimal(values["challengeHash"])}
        if "externalId" in request:
            witness["externalId"] = values["externalId"]
        payload = {
            "type": "permit2",
            "permit": {
                "permitted": [{"token": token, "amount": str(amount)} for token, amount in permitted],
                "nonce": str(nonce),
                "deadline": str(deadline),
            },
            "transferDetails": [{"to": receiver, "requestedAmount": str(amount)} for receiver, amount in transfers],
            "witness": witness,
            "signature": hexadecimal(sign(self.account, message)),
        }
        return credential(challenge, payload, self.source(challenge))

    def transaction(self, challenge, rpc, **fields):
        """A `charge` by a signed transfer that the server broadcasts."""
        raw = signed(rpc, self.account, *self.transfer_call(challenge), **fields)
        return credential(challenge, {"type": "transaction", "signature": raw}, self.source(challenge))

    def hash(self, challenge, rpc, **fields):
        """A `charge` by a transfer that this broadcasts."""
        found = send(rpc, self.account, *self.transfer_call(challenge), **fields)
        return credential(challenge, {"type": "hash", "hash": found}, self.source(challenge))

    @staticmethod
    def transfer_call(challenge):
        request = request_of(challenge)
        data = keccak(text="transfer(address,uint256)")[:4] + encode(["address", "uint256"], [request["recipient"], int(request["amount"])])
        return request["currency"], hexadecimal(data)


class EvmChannel:
    """A channel of an `EvmWallet`, for a `session` challenge, and the credentials that open, use and close it."""

    def __init__(self, wallet, challenge, deposit, signer=None, salt=None):
        request = request_of(challenge)
        self.wallet, self.deposit = wallet, deposit
        self.chain_id, self.escrow = request["methodDetails"]["chainId"], request["methodDetails"]["escrowContract"]
        self.payee, self.token = request["recipient"], request["currency"]
        self.salt = salt or os.urandom(32)
        # The key that signs vouchers, the payer's own if none is named.
        self.signer = signer or wallet.account
        self.authorized = signer.address if signer else ZERO
        self.id = channel_id(self.chain_id, self.escrow, wallet.address, self.payee, self.token, self.salt, self.authorized)
        self.domain = channel_domain(self.chain_id, self.escrow)

    def voucher_signature(self, amount):
        return sign(self.signer, voucher_message(self.domain, self.id, amount))

    def named(self, payload):
        return payload | ({"authorizedSigner": self.authorized} if self.authorized != ZERO else {})

    def broadcast_open(self, rpc):
        """Approves and opens the channel on the chain, and gives the hash of the opening transaction."""
        wallet = self.wallet.account
        approve = keccak(text="approve(address,uint256)")[:4] + encode(["address", "uint256"], [self.escrow, self.deposit])
        send(rpc, wallet, self.token, hexadecimal(approve))
        kinds = ["address", "address", "uint128", "bytes32", "address"]
        data = keccak(text=f"open({','.join(kinds)})")[:4] + encode(kinds, [self.payee, self.token, self.deposit, self.salt, self.authorized])
        return send(rpc, wallet, self.escrow, hexadecimal(data))

    def open_by_hash(self, challenge, opening, amount=0):
        payload = {
            "action": "open",
            "type": "hash",
            "channelId": hexadecimal(self.id),
            "hash": opening,
            "cumulativeAmount": str(amount),
            "signature": hexadecimal(self.voucher_signature(amount)),
            "salt": hexadecimal(self.salt),
        }
        return credential(challenge, self.named(payload), self.wallet.source(challenge))

    def pulled_by_authorization(self, amount, nonce):
        """The `authorization` object by EIP-3009 and its signature, for so much into the escrow."""
        domain = token_domain(self.chain_id, self.token, self.wallet.token_name, self.wallet.token_version)
        arguments, message = authorization(domain, self.wallet.address, self.escrow, amount, nonce=nonce, kind="ReceiveWithAuthorization")
        sender, receiver, value, after, before, _ = arguments
        members = {"from": sender, "to": receiver, "value": str(value), "validAfter": str(after), "validBefore": str(before), "nonce": hexadecimal(nonce)}
        return members, hexadecimal(sign(self.wallet.account, message))

    def pulled_by_permit2(self, amount, witness, values, shown):
        nonce, deadline = int.from_bytes(os.urandom(31), "big"), int(time.time()) + 3600
        message = permit2_message(self.chain_id, (self.token, amount), self.escrow, nonce, deadline, witness, values)
        permitted = {"token": self.token, "amount": str(amount)}
        members = {"from": self.wallet.address, "permitted": permitted, "nonce": str(nonce), "deadline": str(deadline), "witness": shown}
        return members, hexadecimal(sign(self.wallet.account, message))

    def open(self, challenge, kind="authorization", amount=0):
        """Opens by EIP-3009 (`authorization`) or by `permit2`: the server submits."""
        if kind == "authorization":
            nonce = open_nonce(self.wallet.address, self.payee, self.token, self.salt, self.authorized)
            members, signature = self.pulled_by_authorization(self.deposit, nonce)
        else:
            values = {"payee": self.payee, "salt": self.salt, "authorizedSigner": self.authorized}
            members, signature = self.pulled_by_permit2(self.deposit, OPEN_WITNESS, values, values | {"salt": hexadecimal(self.salt)})
        payload = {
            "action": "open",
            "type": kind,
            "channelId": hexadecimal(self.id),
            "authorization": members,
            "signature": signature,
            "cumulativeAmount": str(amount),
            "voucherSignature": hexadecimal(self.voucher_signature(amount)),
            "salt": hexadecimal(self.salt),
        }
        return credential(challenge, self.named(payload), self.wallet.source(challenge))

    def top_up(self, challenge, amount, kind="authorization"):
        payload = {"action": "topUp", "type": kind, "channelId": hexadecimal(self.id), "additionalDeposit": str(amount)}
        if kind == "authorization":
            salt = os.urandom(32)
            members, signature = self.pulled_by_authorization(amount, top_up_nonce(self.id, amount, self.wallet.address, salt))
            payload["salt"] = hexadecimal(salt)
        else:
            members, signature = self.pulled_by_permit2(amount, TOP_UP_WITNESS, {"channelId": self.id}, {"channelId": hexadecimal(self.id)})
        payload |= {"authorization": members, "signature": signature}
        self.deposit += amount
        return credential(challenge, payload, self.wallet.source(challenge))

    def voucher(self, challenge, amount, action="voucher"):
        """A voucher for so much in all. With `action="close"` the channel's end."""
        signature = hexadecimal(self.voucher_signature(amount))
        payload = {"action": action, "channelId": hexadecimal(self.id), "cumulativeAmount": str(amount), "signature": signature}
        return credential(challenge, payload)

    def close(self, challenge, amount):
        return self.voucher(challenge, amount, "close")
