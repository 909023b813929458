"""The stage of the tests of sessions over payment channels: a chain with an escrow, a proxy that sells by it, and payers who sign vouchers."""

import json
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import requests

from chain.contracts import Contract
from chain.credentials import EvmChannel, EvmWallet, credential, request_of
from chain.wallet import hexadecimal, new_account
from harness import SHOP, Farebox, parse_challenges
from paystage import COIN, PRICE, SIGNER, Stage, key_file, poll
from prepaid import b64u_decode

DEPOSIT = 100_000
# How long the proxy may take to notice what others do on the chain, and to answer it there: it looks every so often.
WATCH_SECONDS = 90

CHANNEL_SHOP = SHOP + """
addresses = {{ "base-sepolia" = "MERCHANT" }}

[cors]
origins = ["https://app.example"]

[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[timeouts]
drain = "3 s"
abandon = "3 s"

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[chain]]
name = "base-sepolia"
CHAIN
[[route]]
id = "api"
prefix = "/api/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["evm:base-sepolia"]

[[route]]
id = "dear"
prefix = "/dear/"
upstream = "api"
price = "0.01 USDC per request"
rails = ["evm:base-sepolia"]

[[route]]
id = "only"
prefix = "/only/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["evm:base-sepolia"]
sell = ["session"]

[[route]]
id = "both"
prefix = "/both/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["prepaid", "evm:base-sepolia"]

[[route]]
id = "least"
prefix = "/least/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["evm:base-sepolia"]
minimum-deposit = "0.05 USDC"

[[route]]
id = "files"
prefix = "/files/"
upstream = "api"
price = "0.01 USDC per MB"
rails = ["evm:base-sepolia"]
hold-timeout = "3 s"
minimum-deposit = "0.001 USDC"

[[route]]
id = "events"
prefix = "/events/"
upstream = "api"
price = "1 USDC per MB"
rails = ["evm:base-sepolia"]
hold-timeout = "10 s"
minimum-deposit = "0.001 USDC"
"""

Standing = namedtuple("Standing", "payer payee token signer deposit settled close_requested_at finalized")


def channel_receipt(value):
    """A receipt of a channel, from a field's value."""
    return json.loads(b64u_decode(value))


def problem(response):
    """The end of the problem document's type, behind `…/problems/`."""
    assert response.headers["Content-Type"].startswith("application/problem+json"), (response.status_code, response.text)
    return response.json()["type"].rsplit("/problems/", 1)[-1]


def session_challenges(response, method="evm"):
    """The challenges for sessions of a response."""
    found = [c for value in response.raw.headers.getlist("WWW-Authenticate") for c in parse_challenges([("WWW-Authenticate", value)])]
    return [challenge for challenge in found if challenge["method"] == method and challenge["intent"] == "session"]


class ChannelStage(Stage):
    """A proxy that sells sessions over the channels of an escrow, whose payee is its own key. `more` follows in `[[chain]]`, `head` stands before all else."""

    method = "evm"

    def __init__(self, binary, upstream, folder, node, token, rich, more="", head="", nodes=None, shop=CHANNEL_SHOP, escrow=None):
        folder.mkdir(parents=True, exist_ok=True)
        self.node, self.token, self.rich, self.upstream, self.facilitator = node, token, rich, upstream, None
        self.signer = self.merchant = new_account()
        self.unbooked = 0
        self.escrow = escrow or Contract(node.rpc, "EvmChannels", "evm-channels")
        self.prepare_signer()
        chain = f'rpc = {json.dumps(nodes or [node.url])}\nrpc-timeout = "2 s"\nescrow = "{self.escrow.address}"\n'
        chain += SIGNER.format(key_file(folder, self.signer)) + more
        text = head + shop.replace("MERCHANT", self.merchant.address).replace("CHAIN", chain)
        self.farebox = Farebox(binary, folder, upstream.port, configuration=text)
        self.wait_for_offers()

    def prepare_signer(self):
        self.node.fund(self.signer.address, 100 * COIN)

    @property
    def booked(self):
        """What the books say has come in on the chain."""
        accounts = self.farebox.command("ledger", "verify")["currencies"]
        return sum(int(account["issued"]) for account in accounts if account["currency"] == f"usdc@eip155:{self.node.chain_id}")

    def wait_for_offers(self, seconds=20):
        poll(lambda: self.offers_of("/api/offers"), seconds, "an offer of sessions")

    # Offers.

    def offers_of(self, path="/api/a", **fields):
        """The challenges for sessions that a 402 for the path has; none where it is no 402."""
        response = requests.get(self.farebox.origin + path, headers=fields, timeout=5)
        return session_challenges(response, self.method) if response.status_code == 402 else []

    def challenge(self, path="/api/a", method="GET"):
        response = requests.request(method, self.farebox.origin + path, timeout=5)
        assert response.status_code == 402, (response.status_code, response.text)
        (challenge,) = session_challenges(response, self.method)
        return challenge

    # Requests.

    def ask(self, value, path="/api/a", method="GET", body=None, timeout=60, **fields):
        """A request with a credential. Names of fields are written with `_` for `-`."""
        fields = {name.replace("_", "-"): text for name, text in fields.items()}
        return requests.request(method, self.farebox.origin + path, headers={"Authorization": value, **fields}, data=body, timeout=timeout)

    def asking(self, value, path="/api/a", method="GET", **more):
        """The same from a thread of its own: a future of the response."""
        pool = ThreadPoolExecutor(1)
        future = pool.submit(self.ask, value, path, method, **more)
        pool.shutdown(wait=False)
        return future

    def session(self, path="/api/a", deposit=DEPOSIT, **options):
        return Session(self, path, deposit, **options)

    def opened(self, path="/api/a", deposit=DEPOSIT, kind="authorization", amount=0, **options):
        """A channel that stands open, with nothing spent."""
        session = self.session(path, deposit, method="HEAD", **options)
        response = session.open(kind, amount, method="HEAD")
        assert response.status_code == 204, (response.status_code, response.headers)
        return session

    # The chain and the books.

    def standing(self, session):
        return Standing(*self.escrow.call("getChannel", session.channel.id))

    def audited(self, event, session=None):
        """The audit log's lines of an event, of one channel if one is named."""
        lines = [line for line in map(json.loads, self.farebox.audit_path.read_text().splitlines()) if line["event"] == event]
        return [line for line in lines if session is None or session.id.removeprefix("0x") in json.dumps(line)]

    def close(self):
        """Ends the proxy: what the books say has come in is what the chain says, and both of the books' verifiers are content."""
        if self.farebox.process.poll() is None:
            poll(lambda: self.booked == self.received - self.unbooked, WATCH_SECONDS, f"agreement of the books ({self.booked}) and the chain ({self.received})")
        self.farebox.stop()
        self.farebox.assert_books_balance()


class Session:
    """A payer's channel with a stage's proxy, and what he has signed by it."""

    def __init__(self, stage, path="/api/a", deposit=DEPOSIT, signer=None, wallet=None, units=1_000_000, coins=0, method="GET", salt=None, channel=EvmChannel):
        self.stage, self.path = stage, path
        self.wallet = wallet or EvmWallet(stage.payer(units, coins))
        # What opens is bound to its request; vouchers are not.
        self.challenge = stage.challenge(path, method)
        self.channel = channel(self.wallet, self.challenge, deposit, signer, salt)
        self.id = hexadecimal(self.channel.id)
        self.signed = 0

    # Credentials.

    def opening(self, kind="authorization", amount=PRICE, hash=None):
        """What opens the channel, with a first voucher of `amount`. By `hash` the payer's own transaction is sent first, unless it is given."""
        self.signed = amount
        if kind == "hash":
            return self.channel.open_by_hash(self.challenge, hash or self.channel.broadcast_open(self.stage.node.rpc), amount)
        return self.channel.open(self.challenge, kind, amount)

    def voucher(self, more=PRICE, amount=None, challenge=None):
        """A voucher for so much more than what was signed before, or for `amount` in all."""
        amount = self.signed + more if amount is None else amount
        self.signed = max(self.signed, amount)
        return self.channel.voucher(challenge or self.challenge, amount)

    def closing(self, amount=None, challenge=None):
        return self.channel.close(challenge or self.challenge, self.signed if amount is None else amount)

    def altered(self, amount, change=bytes, action="voucher", **members):
        """A voucher whose signature was changed by a function, and whose members were replaced."""
        payload = {
            "action": action,
            "channelId": self.id,
            "cumulativeAmount": str(amount),
            "signature": hexadecimal(change(self.channel.voucher_signature(amount))),
        }
        return credential(self.challenge, payload | members)

    # Requests.

    def open(self, kind="authorization", amount=PRICE, method="GET", path=None, **more):
        return self.stage.ask(self.opening(kind, amount), path or self.path, method, **more)

    def pay(self, more=PRICE, path=None, method="GET", **options):
        """A request that is paid by a new voucher."""
        return self.stage.ask(self.voucher(more), path or self.path, method, **options)

    def served(self, more=PRICE, path=None, method="GET", **options):
        """The same, which has to be served: its receipt."""
        response = self.pay(more, path, method, **options)
        assert response.status_code == 200, (response.status_code, response.text)
        return channel_receipt(response.headers["Payment-Receipt"])

    def grant(self, amount, **options):
        """Signs for so much in all, and asks for nothing: the receipt."""
        response = self.stage.ask(self.voucher(amount=amount), self.path, "HEAD", **options)
        assert response.status_code == 204, (response.status_code, response.headers)
        return channel_receipt(response.headers["Payment-Receipt"])

    def top_up(self, amount, kind="authorization", **options):
        return self.stage.ask(self.channel.top_up(self.stage.challenge(self.path, "POST"), amount, kind), self.path, "POST", **options)

    def close(self, amount=None, **options):
        return self.stage.ask(self.closing(amount), self.path, "POST", **options)

    def closed(self, amount=None):
        """Closes the channel, which has to work: the receipt."""
        response = self.close(amount)
        assert response.status_code == 204, (response.status_code, response.text)
        return channel_receipt(response.headers["Payment-Receipt"])

    def close_until_done(self, amount=None, seconds=WATCH_SECONDS):
        """Repeats the close, as its payer would, until it is answered. Nothing but "later" may be said in between."""
        value = self.closing(amount)

        def done():
            try:
                response = self.stage.ask(value, self.path, "POST", timeout=45)
            except (requests.ConnectionError, requests.Timeout):
                return None
            if response.status_code == 204:
                return response
            assert response.status_code in (409, 502, 503), (response.status_code, response.text)
            assert "WWW-Authenticate" not in response.headers
            return None

        return channel_receipt(poll(done, seconds, "the close").headers["Payment-Receipt"])

    # How it stands.

    @property
    def standing(self):
        return self.stage.standing(self)

    @property
    def balance(self):
        """What the payer has outside of the channel."""
        return self.stage.token.call("balanceOf", self.wallet.address)

    @property
    def spent(self):
        """What the proxy says was spent: the receipt of a voucher that changes nothing."""
        return int(self.grant(self.signed)["spent"])

    def required(self, response):
        """The members of a 402 that say how much is missing."""
        assert response.status_code == 402 and problem(response) == "session/insufficient-balance", (response.status_code, response.text)
        members = response.json()
        assert members["channelId"] == self.id
        return members

    # The chain, past the proxy.

    def request_close(self):
        """Begins to close the channel by force."""
        return self.stage.escrow.run(self.wallet.account, "requestClose", self.channel.id)

    def withdraw(self):
        return self.stage.escrow.run(self.wallet.account, "withdraw", self.channel.id)


def details_of(challenge):
    return request_of(challenge)["methodDetails"]
