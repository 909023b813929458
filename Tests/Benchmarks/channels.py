"""Sessions over payment channels, MPP's method evm: a fresh voucher with each request, and the same voucher with each.

Beside them, in the same run: a free route of the same proxy, and one recovery of a key by the library that the proxy uses.
"""

import ctypes
import ctypes.util
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import coincurve
import requests
from eth_utils import keccak

from chain.contracts import Contract
from chain.credentials import EvmChannel, EvmWallet, b64u
from chain.node import Node
from chain.wallet import new_account
from harness import SHOP, Farebox, parse_challenges
from payments import domain_separator, signature
from processes import PROXY_CORE, pinned

FRESH, SAME = WORKS = ["voucher-h1", "voucher-same-h1"]
# As many as connections, so that two vouchers of one channel are hardly ever under way together.
CHANNELS = 64
CONNECTIONS = 64
PRICE = 1000
DEPOSIT = 10**10
COIN = 10**18

CONFIGURATION = SHOP + """
addresses = {{ "base-sepolia" = "MERCHANT" }}

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[chain]]
name = "base-sepolia"
rpc = ["RPC"]
escrow = "ESCROW"
signer = "KEY"
gas-limit-price = "1000 gwei"
settle-amount = "1000000 USDC"

[[route]]
id = "paid"
path = "/paid"
upstream = "api"
price = "0.001 USDC per request"
rails = ["evm:base-sepolia"]
sell = ["session"]

[[route]]
id = "small"
path = "/small"
upstream = "api"
free = true
"""


def challenge_of(port):
    """A challenge for a session, as soon as there is one."""
    deadline = time.monotonic() + 20
    while True:
        response = requests.get(f"http://127.0.0.1:{port}/paid", timeout=5)
        fields = [("WWW-Authenticate", value) for value in response.raw.headers.getlist("WWW-Authenticate")]
        for challenge in (challenge for field in fields for challenge in parse_challenges([field])):
            if challenge["method"] == "evm" and challenge["intent"] == "session":
                return challenge
        if time.monotonic() > deadline:
            raise SystemExit(f"{FRESH}: no session is offered on the chain: {response.status_code} {response.text}")
        time.sleep(0.1)


class Channel(EvmChannel):
    """A channel that signs many vouchers."""

    KIND = keccak(text="Voucher(bytes32 channelId,uint128 cumulativeAmount)")

    def __init__(self, account, challenge):
        super().__init__(EvmWallet(account), challenge, DEPOSIT)
        self.key = coincurve.PrivateKey(bytes(account.key))
        self.separator = domain_separator("EVM Payment Channel", "1", self.chain_id, self.escrow)
        self.signed = 0

    def values(self, challenge, count):
        """The values of so many `Authorization` fields, each with a voucher for one request more."""
        head = json.dumps(challenge, separators=(",", ":"), sort_keys=True)
        for _ in range(count):
            self.signed += PRICE
            signed = signature(self.key, self.separator, keccak(self.KIND + self.id + self.signed.to_bytes(32, "big")))
            payload = f'"action":"voucher","channelId":"0x{self.id.hex()}","cumulativeAmount":"{self.signed}","signature":"0x{signed.hex()}"'
            yield "Payment " + b64u(f'{{"challenge":{head},"payload":{{{payload}}}}}'.encode())


class Recovery:
    """libsecp256k1 from Debian, which the proxy uses too."""

    COUNT = 3000

    def __init__(self):
        self.library = ctypes.CDLL(ctypes.util.find_library("secp256k1"))
        self.library.secp256k1_context_create.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.secp256k1_context_create(1))
        self.message = os.urandom(32)
        octets = coincurve.PrivateKey().sign_recoverable(self.message, hasher=None)
        self.signature, self.key = ctypes.create_string_buffer(65), ctypes.create_string_buffer(64)
        parse = self.library.secp256k1_ecdsa_recoverable_signature_parse_compact
        assert parse(self.context, self.signature, octets[:64], ctypes.c_int(octets[64])) == 1

    def microseconds(self):
        """What one recovery costs on the proxy's core."""
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {PROXY_CORE} & cores or cores)
        began = time.thread_time_ns()
        for _ in range(self.COUNT):
            assert self.library.secp256k1_ecdsa_recover(self.context, self.key, self.signature, self.message) == 1
        elapsed = time.thread_time_ns() - began
        os.sched_setaffinity(0, cores)
        return elapsed / 1000 / self.COUNT


class Channels:
    def __init__(self, options, folder, upstream):
        self.options = options
        rich, signer = new_account(), new_account()
        self.node = Node(accounts={rich.address: 10**6 * COIN, signer.address: 10**6 * COIN})
        token, escrow = Contract(self.node.rpc, "Token", "usdc"), Contract(self.node.rpc, "EvmChannels", "evm-channels")
        key = folder / "channels.key"
        key.write_text(signer.key.hex() + "\n")
        key.chmod(0o600)
        configuration = CONFIGURATION
        for name, value in (("MERCHANT", signer.address), ("RPC", self.node.url), ("ESCROW", escrow.address), ("KEY", str(key))):
            configuration = configuration.replace(name, value)
        self.farebox = Farebox(options.farebox, folder / "farebox-channels", upstream, workers=1, prefix=pinned(PROXY_CORE, []), configuration=configuration)
        self.recovery = Recovery()
        account = new_account()
        token.run(rich, "mint", account.address, 2 * CHANNELS * DEPOSIT)
        with ThreadPoolExecutor(4) as pool:
            channels = list(pool.map(lambda _: self.open(account), range(2 * CHANNELS)))
        self.fresh, same = channels[:CHANNELS], channels[CHANNELS:]
        # One voucher each for half of the deposit.
        for channel in same:
            channel.signed = DEPOSIT // 2
        self.same = [next(channel.values(challenge_of(self.farebox.port), 1)) for channel in same]

    def open(self, account):
        challenge = challenge_of(self.farebox.port)
        channel = Channel(account, challenge)
        url = f"http://127.0.0.1:{self.farebox.port}/paid"
        channel.signed = PRICE
        opening = channel.open(challenge, amount=PRICE)
        for _ in range(5):
            # 503 says that the chain has not answered yet.
            response = requests.get(url, headers={"Authorization": opening}, timeout=60)
            if response.status_code == 200:
                return channel
            if response.status_code != 503:
                break
        raise SystemExit(f"{FRESH}: a channel is not opened: {response.status_code} {response.text}")

    def stop(self):
        self.farebox.process.send_signal(signal.SIGTERM)
        self.farebox.process.wait(timeout=10)
        self.node.close()

    def measure(self, bench, works):
        load = {"connections": CONNECTIONS, "field": "Authorization"}
        if FRESH in works:
            # Each channel's payer has a challenge of his own.
            each = [channel.values(challenge_of(self.farebox.port), self.options.charges // CHANNELS) for channel in self.fresh]
            values = [value for row in zip(*each) for value in row]
            bench.measure(FRESH, "farebox", self.farebox, "/paid", values=values, once=True, **load)
            bench.measure(FRESH, "free", self.farebox, "/small", connections=CONNECTIONS)
            bench.record(FRESH, "recovery", {"cpu_us": self.recovery.microseconds(), "rps": 0.0, "p50_us": None, "p99_us": None, "gb_per_cpu_s": None})
        if SAME in works:
            bench.measure(SAME, "farebox", self.farebox, "/paid", values=self.same, **load)
