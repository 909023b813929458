"""The stage of the tests of payments on chains: a chain, a merchant, and a proxy that sells on it."""

import base64
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import requests
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from x402 import x402ClientSync
from x402.http.clients import x402_requests
from x402.mechanisms.evm.exact import register_exact_evm_client

from chain.credentials import credential, request_of
from chain.wallet import authorization, hexadecimal, new_account, sign, token_domain
from harness import SHOP, Farebox, parse_challenges
from prepaid import b64u_decode

COIN = 10**18
GWEI = 10**9
PRICE = 1000
NETWORK = "eip155:84532"

# What a proxy sells: the routes' names, and the rails of each.
SOLD = {
    "paid": ["x402"],
    "both": ["prepaid", "x402:base-sepolia"],
}
# The same where the proxy settles itself, and so can be paid by MPP too.
SOLD_BY_ITSELF = {**SOLD, "both": [*SOLD["both"], "evm:base-sepolia"], "evm": ["evm:base-sepolia"]}

SHOP_ON_CHAIN = SHOP + """
addresses = {{ "base-sepolia" = "MERCHANT" }}

[cors]
origins = ["https://app.example"]

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[timeouts]
drain = "3 s"

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[chain]]
name = "base-sepolia"
CHAIN
[[route]]
id = "free"
prefix = "/free/"
upstream = "api"
free = true
"""
ROUTE = """
[[route]]
id = "NAME"
prefix = "/NAME/"
upstream = "api"
price = "0.001 USDC per request"
rails = RAILS
"""
SIGNER = """signer = "{}"
resubmit-after = "3 s"
gas-limit-price = "1000 gwei"
accept-hash = true
"""
FACILITATOR = """facilitator = "local"

[[facilitator]]
name = "local"
url = "{}"
address = "{}"
timeout = "3 s"
"""


def poll(condition, seconds=20, what="it"):
    """Waits until `condition` gives something true, and gives that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come to be in {seconds} s"
        time.sleep(0.02)
    return found


def key_file(folder, account):
    path = folder / "signer.key"
    path.write_text(account.key.hex() + "\n")
    path.chmod(0o600)
    return path


def unpacked(text):
    """What a field of x402 holds."""
    return json.loads(base64.b64decode(text))


def packed(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


def settlement(response):
    return unpacked(response.headers["PAYMENT-RESPONSE"])


def session(account):
    """x402's own client of version 2, over requests."""
    return x402_requests(register_exact_evm_client(x402ClientSync(), account))


class Stage:
    """A proxy that sells for a merchant of its own. `chain` is the rest of `[[chain]]`: who settles, and what is special about it. `nodes` are the URLs
    that it asks about the chain, `node`'s own if none are given."""

    def __init__(self, binary, upstream, folder, node, token, rich, chain, sold=SOLD, nodes=None, facilitator=None, signer=None, routes=""):
        self.node, self.token, self.rich, self.upstream, self.facilitator, self.signer = node, token, rich, upstream, facilitator, signer
        self.merchant = new_account()
        # What came to the merchant for nothing that was sold.
        self.unbooked = 0
        nodes = [node.url] if nodes is None else nodes
        rpc = f'rpc = {json.dumps(nodes)}\nrpc-timeout = "2 s"\n' if nodes else ""
        text = SHOP_ON_CHAIN.replace("MERCHANT", self.merchant.address).replace("CHAIN", rpc + chain)
        text += "".join(ROUTE.replace("NAME", name).replace("RAILS", json.dumps(rails)) for name, rails in sold.items())
        text += routes
        self.farebox = Farebox(binary, folder, upstream.port, configuration=text)
        self.wait_for_offers()

    @classmethod
    def settling_itself(cls, binary, upstream, folder, node, token, rich, more="", sold=SOLD_BY_ITSELF, **options):
        """A stage whose proxy has a key of its own. `more` follows in `[[chain]]`."""
        folder.mkdir(parents=True, exist_ok=True)
        signer = new_account()
        node.fund(signer.address, 100 * COIN)
        return cls(binary, upstream, folder, node, token, rich, SIGNER.format(key_file(folder, signer)) + more, sold, signer=signer, **options)

    @classmethod
    def settled_by(cls, facilitator, binary, upstream, folder, node, token, rich, more="", **options):
        """A stage whose payments a facilitator settles. `more` stands in `[[chain]]`."""
        folder.mkdir(parents=True, exist_ok=True)
        node.fund(facilitator.address, 100 * COIN)
        return cls(binary, upstream, folder, node, token, rich, more + FACILITATOR.format(facilitator.url, facilitator.address), facilitator=facilitator, **options)

    def close(self):
        """Ends the proxy: its books balance, and hold what has arrived on the chain."""
        if self.farebox.process.poll() is None:
            assert self.booked == self.received - self.unbooked, f"the books say {self.booked} and the chain {self.received}"
        self.farebox.stop()
        self.farebox.assert_books_balance()

    @property
    def received(self):
        """What the merchant has on the chain."""
        return self.token.call("balanceOf", self.merchant.address)

    @property
    def earned(self):
        """What the books say is the merchant's, of the chain's money."""
        (merchant,) = self.farebox.command("merchant", "list")["merchants"]
        return int(merchant["balances"].get(f"usdc@{NETWORK}", 0))

    @property
    def booked(self):
        """What the books say has come in on the chain."""
        accounts = self.farebox.command("ledger", "verify")["currencies"]
        return sum(int(account["issued"]) for account in accounts if account["currency"] == f"usdc@{NETWORK}")

    @property
    def sent(self):
        """How many transactions of the proxy's key the chain has taken."""
        return int(self.node.rpc("eth_getTransactionCount", self.signer.address, "latest"), 16)

    @property
    def pooled(self):
        """The hashes of the proxy's transactions that wait to be mined."""
        with self.node.chain.lock:
            return [hexadecimal(t.hash) for t in self.node.chain.waiting() if hexadecimal(t.sender) == self.signer.address.lower()]

    def payer(self, units=1_000_000, coins=0):
        account = new_account()
        self.token.run(self.rich, "mint", account.address, units)
        if coins:
            self.node.fund(account.address, coins * COIN)
        return account

    def served(self, path):
        """How often the upstream was asked for a path."""
        return sum(request["target"] == path for request in list(self.upstream.requests))

    # x402.

    def open_payments(self, account):
        """What the books have of an account's payments that have neither settled nor failed."""
        listed = self.farebox.command("payment", "list", "--open")["payments"]
        return [payment for payment in listed if payment["payer"] == account.address.lower()]

    def offered(self, path="/paid/a"):
        """What a 402 offers by x402, or nothing."""
        response = requests.get(self.farebox.origin + path, timeout=5)
        field = response.headers.get("PAYMENT-REQUIRED")
        return unpacked(field)["accepts"] if field else []

    def wait_for_offers(self, seconds=20):
        poll(lambda: self.offered("/paid/offers"), seconds, "an offer on the chain")

    def offers(self, path="/paid/a"):
        response = requests.get(self.farebox.origin + path, timeout=5)
        assert response.status_code == 402, response.text
        return unpacked(response.headers["PAYMENT-REQUIRED"])

    def payment(self, account, path="/paid/a", accepted=None, **changes):
        """A payment that is made by hand, so that it can be sent more than once, and wrong: the field's value. `change` alters the signature."""
        accepted = accepted or self.offers(path)["accepts"][0]
        domain = token_domain(self.node.chain_id, self.token.address)
        before = int(time.time()) + changes.pop("seconds", 300)
        arguments, message = authorization(
            domain, changes.pop("sender", account.address), changes.pop("to", accepted["payTo"]), int(changes.pop("value", accepted["amount"])),
            before=before)
        signature = changes.pop("change", bytes)(sign(changes.pop("signer", account), message))
        names = ("from", "to", "value", "validAfter", "validBefore")
        terms = {**{name: str(value) for name, value in zip(names, arguments)}, "nonce": "0x" + arguments[5].hex()}
        payload = {"signature": hexadecimal(signature), "authorization": terms}
        return packed({"x402Version": 2, "accepted": {**accepted, **changes}, "payload": payload})

    def send(self, payment, path="/paid/a", method="GET", field="PAYMENT-SIGNATURE", timeout=40, **more):
        return requests.request(method, self.farebox.origin + path, headers={field: payment}, timeout=timeout, **more)

    def sending(self, payment, path="/paid/a", **more):
        """Sends from a thread of its own: a future of the answer."""
        pool = ThreadPoolExecutor(1)
        future = pool.submit(self.send, payment, path, **more)
        pool.shutdown(wait=False)
        return future

    def send_until_served(self, payment, path="/paid/a", seconds=25, **more):
        """Repeats the request, as its payer would, until it is served. Nothing but "later" may be said in between."""

        def served():
            try:
                response = self.send(payment, path, timeout=10, **more)
            except (requests.ConnectionError, requests.Timeout):
                return None
            if response.status_code == 200:
                return response
            assert response.status_code in (409, 502, 503), (response.status_code, response.text)
            assert "PAYMENT-REQUIRED" not in response.headers and "WWW-Authenticate" not in response.headers
            return None

        return poll(served, seconds, "the answer that was paid for")

    # MPP.

    def challenges(self, path="/evm/a", method="GET", **fields):
        """The challenges of a 402 by the method evm."""
        response = requests.request(method, self.farebox.origin + path, headers=fields, timeout=5)
        assert response.status_code == 402, response.text
        found = [c for value in response.raw.headers.getlist("WWW-Authenticate") for c in parse_challenges([("WWW-Authenticate", value)])]
        return [challenge for challenge in found if challenge["method"] == "evm"]

    def challenge(self, path="/evm/a", method="GET"):
        return self.challenges(path, method)[0]

    def present(self, credential, path="/evm/a", method="GET", timeout=40, **more):
        return requests.request(method, self.farebox.origin + path, headers={"Authorization": credential}, timeout=timeout, **more)

    def receipt(self, response):
        """The response's receipt, whose signature is verified with the proxy's published keys."""
        receipt = json.loads(b64u_decode(response.headers["Payment-Receipt"]))
        keys = requests.get(self.farebox.origin + "/.well-known/jwks.json", timeout=5).json()["keys"]
        (key,) = [key for key in keys if key["kid"] == receipt["kid"]]
        unsigned = {name: value for name, value in receipt.items() if name != "sig"}
        Ed25519PublicKey.from_public_bytes(b64u_decode(key["x"])).verify(b64u_decode(receipt["sig"]), b"receipt-v1\n" + rfc8785.dumps(unsigned))
        return receipt


def path_of(request):
    """A path of a test's own."""
    return "/paid/" + re.sub("[^a-z0-9]+", "-", request.node.name.lower())


class Account:
    """Watches what a test's payment does: so many more transfers, transactions and requests to the upstream."""

    def __init__(self, stage, path):
        self.stage, self.path = stage, path
        self.received, self.served = stage.received, stage.served(path)
        self.sent = stage.sent if stage.signer else 0

    def assert_paid_once(self, sent=1, served=1):
        stage = self.stage
        assert stage.received == self.received + PRICE
        assert stage.served(self.path) == self.served + served
        if stage.signer:
            assert stage.sent == self.sent + sent, "transactions of the proxy's key"


def made(stage, wallet, kind, challenge, **changes):
    """A credential of one of the types."""
    if kind == "authorization":
        return wallet.authorization(challenge, **changes)
    if kind == "permit2":
        return wallet.permit2(challenge, request_of(challenge)["methodDetails"]["spender"], **changes)
    return getattr(wallet, kind)(challenge, stage.node.rpc, **changes)


def members_of(value):
    """The members of an `Authorization` field's credential."""
    return json.loads(b64u_decode(value.removeprefix("Payment ")))


def payload_of(value):
    return members_of(value)["payload"]


def changed(value, **changes):
    """A credential with other members in its payload. Functions change the octets of a member that is hexadecimal."""
    members = members_of(value)
    for name, change in changes.items():
        known = members["payload"].get(name)
        members["payload"][name] = hexadecimal(change(bytes.fromhex(known[2:]))) if callable(change) else change
    return credential(members["challenge"], members["payload"], members["source"])


def assert_is_later(answer):
    """What a payer is told whose payment may still settle, if he is told anything."""
    try:
        response = answer.result(timeout=60)
    except requests.ConnectionError:
        return
    assert response.status_code in (502, 503), (response.status_code, response.text)
    assert "PAYMENT-REQUIRED" not in response.headers and "WWW-Authenticate" not in response.headers
