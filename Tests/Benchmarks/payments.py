"""Payments on chains: x402's scheme exact, with a fresh authorization for each request, beside the servers of the PyPI packages x402 and pympp before
the same upstream.

All ask the same stand-in for a facilitator, which runs on the core of the load. What is paid with is signed beforehand.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import coincurve
import requests
from eth_abi import encode
from eth_utils import keccak, to_checksum_address

from harness import SHOP, Farebox, free_port
from processes import LOAD_CORE, PROXY_CORE, pinned, wait_for_port

HERE = Path(__file__).resolve().parent
WORK = "x402-h1"
# Base Sepolia's USDC.
ASSET = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
RECEIVER = "0x" + "11" * 20

CONFIGURATION = SHOP + f"""
addresses = {{{{ "base-sepolia" = "{RECEIVER}" }}}}

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[upstream]]
name = "api"
url = "http://127.0.0.1:{{upstream}}"
max-idle = 128

[[facilitator]]
name = "local"
url = "http://127.0.0.1:FACILITATOR"

[[chain]]
name = "base-sepolia"
facilitator = "local"

[[route]]
id = "paid"
path = "/paid"
price = "0.001 USDC per request"
rails = ["x402"]
"""


def domain_separator(name, version, chain_id, contract):
    kind = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    values = [kind, keccak(text=name), keccak(text=version), chain_id, contract]
    return keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], values))


def signature(key, domain, structure):
    """The 65 octets over a message of EIP-712, of which the domain's separator and the struct's hash are given."""
    octets = key.sign_recoverable(keccak(b"\x19\x01" + domain + structure), hasher=None)
    return octets[:64] + bytes([27 + octets[64]])


class Payer:
    """A key that signs authorizations (EIP-3009)."""

    KIND = keccak(text="TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)")

    def __init__(self):
        self.key = coincurve.PrivateKey()
        self.address = to_checksum_address(keccak(self.key.public_key.format(compressed=False)[1:])[12:])

    def payments(self, offered, count):
        """The values of so many `PAYMENT-SIGNATURE` fields, each with an authorization of its own."""
        offer, resource = offered
        domain = domain_separator(offer["extra"]["name"], offer["extra"]["version"], int(offer["network"].split(":")[1]), offer["asset"])
        before = int(time.time()) + offer["maxTimeoutSeconds"] - 5
        terms = {"from": self.address, "to": offer["payTo"], "value": offer["amount"], "validAfter": "0", "validBefore": str(before)}
        kinds = ["bytes32", "address", "address", "uint256", "uint256", "uint256"]
        head = encode(kinds, [self.KIND, self.address, offer["payTo"], int(offer["amount"]), 0, before])
        for _ in range(count):
            nonce = os.urandom(32)
            signed = signature(self.key, domain, keccak(head + nonce))
            payload = {"signature": "0x" + signed.hex(), "authorization": {**terms, "nonce": "0x" + nonce.hex()}}
            yield base64.b64encode(json.dumps({"x402Version": 2, "resource": resource, "accepted": offer, "payload": payload}).encode()).decode()


def offer_of(port):
    """What a 402 offers by x402's scheme exact with EIP-3009, and for which resource."""
    deadline = time.monotonic() + 20
    while True:
        field = requests.get(f"http://127.0.0.1:{port}/paid", timeout=5).headers.get("PAYMENT-REQUIRED")
        required = json.loads(base64.b64decode(field)) if field else {"accepts": []}
        for offer in required["accepts"]:
            if offer["scheme"] == "exact" and offer["extra"].get("assetTransferMethod", "eip3009") == "eip3009":
                return offer, required["resource"]
        if time.monotonic() > deadline:
            raise SystemExit(f"{WORK}: port {port} offers nothing by x402")
        time.sleep(0.1)


class Seller:
    """A server that others wrote, as a process."""

    def __init__(self, kind, upstream, facilitator):
        self.port = free_port()
        command = [sys.executable, str(HERE / "sellers.py"), kind, str(self.port), str(upstream), str(facilitator), RECEIVER, ASSET]
        self.process = subprocess.Popen(pinned(PROXY_CORE, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        wait_for_port(self.port, 60)


class Payments:
    def __init__(self, options, folder, upstream):
        self.options = options
        self.facilitator = subprocess.Popen(pinned(LOAD_CORE, [sys.executable, str(HERE / "facilitator.py")]), stdout=subprocess.PIPE, text=True)
        port = int(self.facilitator.stdout.readline())
        configuration = CONFIGURATION.replace("FACILITATOR", str(port))
        self.farebox = Farebox(options.farebox, folder / "farebox-x402", upstream, workers=1, prefix=pinned(PROXY_CORE, []), configuration=configuration)
        self.payer = Payer()
        self.proxies = {"farebox": self.farebox, **{kind: Seller(kind, upstream, port) for kind in ("x402", "pympp")}}
        self.offers = {name: offer_of(proxy.port) for name, proxy in self.proxies.items()}

    def stop(self):
        processes = [*(proxy.process for proxy in self.proxies.values()), self.facilitator]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()

    def measure(self, bench):
        """All in turn. The others are slow: what is under way when the time is over must not be much beside what is done."""
        for name, proxy in self.proxies.items():
            count, load = (self.options.charges, {"connections": 64}) if name == "farebox" else (4000, {"connections": 4, "seconds": 4})
            values = list(self.payer.payments(self.offers[name], count))
            bench.measure(WORK, name, proxy, "/paid", field="PAYMENT-SIGNATURE", values=values, once=True, **load)
