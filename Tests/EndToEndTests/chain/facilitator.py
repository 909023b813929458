"""The facilitator library of the PyPI package x402, unmodified, behind HTTP on loopback, settling on the tests' chain.

In a test process it is an object (`Facilitator(node)`); `python -m chain.facilitator --rpc http://127.0.0.1:8545 --key 0x…` runs it alone.
"""

import argparse
import json
import threading
from collections import Counter

import requests
from eth_account import Account
from x402 import x402FacilitatorSync
from x402.mechanisms.evm.batch_settlement.authorizer_signer import LocalAuthorizerSigner
from x402.mechanisms.evm.batch_settlement.facilitator.scheme import BatchSettlementEvmFacilitator
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.mechanisms.evm.upto import UptoEvmFacilitatorScheme
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

from chain.loopback import Faults, Service


DENIALS = {"denied": "permit2_invalid_nonce", "refusing": "insufficient_funds"}


class Signer(FacilitatorWeb3Signer):
    """The package's signer, which loses patience with a transaction when it is told to."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.mood = threading.local()

    def wait_for_transaction_receipt(self, tx_hash):
        if getattr(self.mood, "impatient", False):
            raise TimeoutError("no receipt in time")
        return super().wait_for_transaction_receipt(tx_hash)


class Facilitator(Service):
    """Answers `/verify`, `/settle` and `/supported` for exact (v1 and v2), upto and batch-settlement.

    Faults know a request by its path (`"/settle"`); besides those of every service there is `pending`: the transaction is broadcast, and the answer is
    `settlement_pending`, as when no receipt comes in time; and `denied` and `refusing`: it is done, and the answer says that it was
    not, since the nonce was used or for want of money.
    """

    def __init__(self, rpc_url, key=None, port=0, chain_id=None, confirmation_seconds=5):
        self.account = Account.from_key(key) if key else Account.create()
        self.signer = Signer(self.account.key.hex(), rpc_url, confirmation_timeout_seconds=confirmation_seconds)
        self.network = f"eip155:{chain_id or self.signer.get_chain_id()}"
        self.library = x402FacilitatorSync()
        register_exact_evm_facilitator(self.library, self.signer, self.network)
        self.library.register([self.network], UptoEvmFacilitatorScheme(self.signer))
        self.library.register([self.network], BatchSettlementEvmFacilitator(self.signer, LocalAuthorizerSigner(self.account)))
        # How often each path was asked for, and the bodies of the last requests by path.
        self.calls = Counter()
        self.bodies = {}
        super().__init__(port, Faults("pending", "denied", "refusing"))

    @property
    def address(self):
        return self.account.address

    def forget_nonce(self):
        """Lets the package ask the chain again which nonce is next: it counts on by itself even when a broadcast failed."""
        self.signer._next_nonce = None

    def names(self, path, body):
        return [path]

    def answer(self, path, body, fault):
        self.calls[path] += 1
        if path == "/supported":
            return 200, self.library.get_supported().model_dump_json(by_alias=True, exclude_none=True).encode()
        if path not in ("/verify", "/settle"):
            return 404, b'{"error":"no such path"}'
        try:
            request = json.loads(body)
            self.bodies[path] = request
            first = request.get("x402Version", 2) == 1
            payment = (PaymentPayloadV1 if first else PaymentPayload).model_validate(request["paymentPayload"])
            requirements = (PaymentRequirementsV1 if first else PaymentRequirements).model_validate(request["paymentRequirements"])
        except Exception as error:
            return 400, json.dumps({"error": f"{type(error).__name__}"}).encode()
        try:
            self.signer.mood.impatient = fault is not None and fault.kind == "pending"
            done = (self.library.verify if path == "/verify" else self.library.settle)(payment, requirements)
            if fault is not None and fault.kind in DENIALS:
                return 200, json.dumps({"success": False, "errorReason": DENIALS[fault.kind], "transaction": "", "network": self.network}).encode()
            # A server of version 1 wants every member, even of null.
            return 200, done.model_dump_json(by_alias=True, exclude_none=not first).encode()
        except Exception as error:
            return 500, json.dumps({"error": str(error)[:200]}).encode()
        finally:
            self.signer.mood.impatient = False


def main():
    parser = argparse.ArgumentParser(description="A facilitator on loopback, for tests.")
    parser.add_argument("--rpc", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--fund", action="store_true", help="asks a node of the tests for gas money")
    options = parser.parse_args()
    facilitator = Facilitator(options.rpc, options.key, options.port)
    if options.fund:
        call = {"jsonrpc": "2.0", "id": 1, "method": "test_fund", "params": [facilitator.address]}
        requests.post(options.rpc, json=call, timeout=10).raise_for_status()
    print(json.dumps({"url": facilitator.url, "address": facilitator.address}), flush=True)
    facilitator.serve_until_told()


if __name__ == "__main__":
    main()
