"""Pays a Farebox from within httpx: a transport for the official `openai` and `anthropic` packages, or any other client over httpx.

    import httpx2, openai
    from paying import Purse, PrepaidTransport
    from prepaid import PrepaidWallet

    purse = Purse(PrepaidWallet.from_seed(seed), deposit=50_000, most=1_000_000)    # base units of the currency
    client = openai.OpenAI(base_url="https://models.example.com/v1", api_key="unused", http_client=httpx2.Client(transport=PrepaidTransport(purse)))

One session for each origin is opened when it is first needed, with `deposit`; it is raised by as much whenever it runs dry, also in the middle of a
stream, until `most` has left the wallet. Closing the client closes the sessions, and what is left goes back to the wallet.

What is to be done stands in `Purse`, as generators that yield requests to send and answers to read; the two transports only do it.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import urlsplit

import httpx2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from prepaid import PrepaidWallet, SessionSecret, b64u_decode

OWN_EVENTS = (b"payment-need-topup", b"payment-receipt", b"session-timeout")


class PaymentRefused(httpx2.RequestError):
    """Nothing was paid, or no more: the offer does not hold, or the limit is reached."""


class EventFilter:
    """Takes Farebox's own events out of an event stream and leaves every other octet as it is, whatever the line ends and wherever it is cut.

    Own events begin with their name, so an event is known by its first line; no more than that is withheld.
    """

    def __init__(self):
        self.line = b""
        self.own = None
        self.data = []
        self.at_start = True
        self.after_return = False
        self.swallows_feed = False

    def feed(self, octets):
        """Yields octets that belong to the client, and own events as pairs of name and data, in their order."""
        passed = bytearray()
        for octet in octets:
            if octet == 0x0A and self.after_return:
                # The second half of a line end that has been dealt with.
                self.after_return = False
                if not self.swallows_feed:
                    passed.append(octet)
                continue
            self.after_return = octet == 0x0D
            if octet not in (0x0A, 0x0D):
                self.line += bytes([octet])
                if self.own is None and not (self.at_start and any((b"event: " + n).startswith(self.line) for n in OWN_EVENTS)):
                    # Not ours, whatever comes: the line need not be withheld.
                    passed += self.line if self.at_start else bytes([octet])
                    self.at_start = False
                continue
            line, self.line = self.line, b""
            if self.own is not None:
                self.swallows_feed = True
                if line:
                    self.data.append(line.removeprefix(b"data:").removeprefix(b" "))
                    continue
                if passed:
                    yield bytes(passed)
                    passed.clear()
                yield self.own.decode(), b"\n".join(self.data).decode()
                self.own, self.data, self.at_start = None, [], True
            elif self.at_start and (name := line.removeprefix(b"event: ")) in OWN_EVENTS and name != line:
                self.own, self.swallows_feed = name, True
            else:
                # A line that was withheld as the beginning of a name is passed on with its end.
                self.swallows_feed = False
                passed += (line if self.at_start else b"") + bytes([octet])
                self.at_start = not line
        if passed:
            yield bytes(passed)

    def finish(self):
        """What was withheld when the stream ended."""
        rest, self.line = (self.line if self.own is None and self.at_start else b""), b""
        return rest


@dataclass
class Session:
    origin: str
    secret: SessionSecret
    challenge: dict
    url: str
    deposit: int


@dataclass
class Purse:
    """What may be spent, and the sessions that spend it. All amounts in base units."""

    wallet: PrepaidWallet
    deposit: int
    most: int
    left_wallet: int = 0
    sessions: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    receipts: list = field(default_factory=list)
    top_ups: int = 0

    def knows(self, request):
        return origin_of(request.url) in self.sessions

    def exchange(self, request):
        """Sends a request with what pays for it; returns the answer."""
        origin, credential, opened = origin_of(request.url), None, False
        for _ in range(6):
            session = self.sessions.get(origin)
            if credential is None and session:
                credential = ("Prepaid-Session", session.secret.short_form)
            answer = yield with_fields(request, [credential] if credential else [])
            if answer.status_code == 410 and session:
                yield answer
                self.sessions.pop(origin, None)
                credential = None
                continue
            if opened and answer.status_code in (402, 403) and answer.headers.get("content-type", "").startswith("application/problem+json"):
                self.left_wallet -= self.sessions.pop(origin).deposit
                yield answer
                raise PaymentRefused(f"the payment was refused: {answer.json().get('detail', answer.text)}", request=request)
            if opened and answer.status_code == 409:
                # The session is open, and its deposit does not cover this request yet: it is asked again by the session.
                yield answer
                if not answer.json()["type"].endswith("/already-open"):
                    return answer
                credential, opened = None, False
                continue
            if answer.status_code != 402:
                self.note(answer)
                return answer
            yield answer
            problem = answer.json()
            if session and problem["type"].endswith("/session/insufficient-balance"):
                yield from self.top_up(session, request, int(problem["required"]))
                credential = None
                continue
            challenge = yield from self.offer(request, answer)
            field_name = challenge.get("header", "Authorization")
            if session:
                # A route that the session has not been used for: the challenge brings its terms.
                credential = (field_name, self.wallet.bearer(challenge, session.secret))
            else:
                session = Session(origin, SessionSecret.new(), challenge, str(request.url), 0)
                amount = self.allow(max(self.deposit, int(json.loads(b64u_decode(challenge["request"]))["methodDetails"]["minimumDeposit"])), least=1)
                credential = (field_name, self.wallet.open(challenge, session.secret, amount))
                session.deposit = amount
                self.sessions[origin], opened = session, True
        raise PaymentRefused("the payment was not accepted", request=request)

    def top_up(self, session, request, required):
        """Raises a session's budget by what is required, or by the usual deposit where that is more."""
        amount = self.allow(max(required, self.deposit), least=required)
        bare = with_fields(request, [])
        for name in ("Authorization", "Prepaid-Session", "Payment-Authorization"):
            bare.headers.pop(name, None)
        # Asked as before, but without a payment: the answer is the fresh challenge that a top-up needs.
        answer = yield bare
        yield answer
        challenge = yield from self.offer(request, answer)
        credential = (challenge.get("header", "Authorization"), self.wallet.top_up(challenge, session.secret.session_id, amount))
        answer = yield managing(session.url, credential)
        yield answer
        if answer.status_code != 200:
            self.left_wallet -= amount
            raise PaymentRefused(f"the top-up was refused: {answer.text}", request=request)
        session.deposit += amount
        self.top_ups += 1
        self.note(answer)

    def close(self):
        """Closes every session; returns what each cost and what went back."""
        closed = []
        for origin, session in list(self.sessions.items()):
            name = session.challenge.get("header", "Authorization")
            answer = yield managing(session.url, (name, self.wallet.bearer(session.challenge, session.secret, "close")))
            yield answer
            if answer.status_code == 200:
                closed.append(answer.json())
            del self.sessions[origin]
        return closed

    def allow(self, wanted, least):
        """The amount that may leave the wallet: what is wanted as far as the limit goes, but at least `least`."""
        left = self.most - self.left_wallet
        amount = min(wanted, left)
        if amount < least or amount <= 0:
            raise PaymentRefused(f"{least} more are needed, and {left} may still leave the wallet")
        self.left_wallet += amount
        return amount

    def note(self, answer):
        if receipt := answer.headers.get("payment-receipt"):
            self.receipts.append(json.loads(b64u_decode(receipt)))

    def offer(self, request, answer):
        """The session that an answer offers, when it is the server's own offer for this very request."""
        if answer.status_code != 402:
            raise PaymentRefused(f"an offer was expected, and {answer.status_code} came", request=request)
        challenges = [parse_challenge(v) for n, v in answer.headers.multi_items() if n.lower() == "www-authenticate" and v.startswith("Payment ")]
        challenge = next((c for c in challenges if c.get("method") == "prepaid" and c.get("intent") == "session"), None)
        if challenge is None:
            raise PaymentRefused("no session is offered", request=request)
        terms = json.loads(b64u_decode(challenge["request"]))
        resource = terms["methodDetails"]["resource"]
        if resource["method"] != request.method or httpx2.URL(resource["url"]) != request.url:
            raise PaymentRefused("the offer is for another request", request=request)
        if challenge["realm"] not in (request.url.host, request.url.netloc.decode()):
            raise PaymentRefused("the offer is of another host", request=request)
        if datetime.fromisoformat(challenge["expires"].replace("Z", "+00:00")) <= datetime.now(timezone.utc):
            raise PaymentRefused("the offer has expired", request=request)
        yield from self.check_invoice(request, answer, challenge)
        return challenge

    def check_invoice(self, request, answer, challenge):
        """Whether the server has signed that it makes this offer."""
        head, claims, signature = answer.headers["payment-invoice"].split(".")
        kid, origin = json.loads(b64u_decode(head))["kid"], origin_of(request.url)
        if (origin, kid) not in self.keys:
            keys = yield httpx2.Request("GET", origin + "/.well-known/jwks.json")
            yield keys
            self.keys |= {(origin, k["kid"]): Ed25519PublicKey.from_public_bytes(b64u_decode(k["x"])) for k in keys.json()["keys"] if k.get("crv") == "Ed25519"}
        try:
            self.keys[origin, kid].verify(b64u_decode(signature), f"{head}.{claims}".encode())
        except (KeyError, InvalidSignature) as error:
            raise PaymentRefused("the invoice is not signed by the server", request=request) from error
        digest = hashlib.sha256(challenge["request"].encode()).digest()
        listed = [o for o in json.loads(b64u_decode(claims))["offers"] if o["id"] == challenge["id"]]
        if not listed or b64u_decode(listed[0]["request"]) != digest:
            raise PaymentRefused("the invoice does not list the offer", request=request)

    def act(self, event, data, session, request):
        """What one of Farebox's own events asks for."""
        if event == "payment-need-topup":
            asked = json.loads(data)
            if asked["sessionId"] == session.secret.session_id:
                yield from self.top_up(session, request, int(asked["balanceRequired"]))
        elif event == "payment-receipt":
            self.receipts.append(json.loads(b64u_decode(data)))
        else:
            raise PaymentRefused("the stream waited too long for money", request=request)


def origin_of(url):
    parts = urlsplit(str(url))
    return f"{parts.scheme}://{parts.netloc}"


def parse_challenge(value):
    return {name: text.replace('\\"', '"').replace("\\\\", "\\") for name, text in re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', value)}


def with_fields(request, fields):
    """The request with other credentials, its content as it was."""
    copy = httpx2.Request(request.method, request.url, headers=request.headers, content=request.content, extensions=request.extensions)
    for name, value in fields:
        copy.headers[name] = value
    return copy


def managing(url, credential):
    """A request without content that manages a session, and is never forwarded."""
    return httpx2.Request("POST", url, headers=[credential, ("Content-Length", "0")])


def carries_own_events(answer):
    return answer.headers.get("content-type", "").startswith("text/event-stream") and "content-encoding" not in answer.headers


def wrapped(answer, stream):
    return httpx2.Response(answer.status_code, headers=answer.headers, stream=stream, extensions=answer.extensions)


class PrepaidTransport(httpx2.BaseTransport):
    """Pays for what a `httpx2.Client` asks."""

    def __init__(self, purse, inner=None):
        self.purse, self.inner = purse, inner or httpx2.HTTPTransport()
        self.opening = threading.Lock()

    def drive(self, steps):
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, httpx2.Request):
                answer = self.inner.handle_request(step)
                answer.request = step
            else:
                step.read()
                step.close()
                answer = None

    def handle_request(self, request):
        request.read()
        with contextlib.nullcontext() if self.purse.knows(request) else self.opening:
            answer = self.drive(self.purse.exchange(request))
        if not carries_own_events(answer) or not self.purse.knows(request):
            return answer
        return wrapped(answer, PaidStream(self, answer.stream, self.purse.sessions[origin_of(request.url)], request))

    def close_sessions(self):
        return self.drive(self.purse.close())

    def close(self):
        with contextlib.suppress(httpx2.TransportError):
            self.close_sessions()
        self.inner.close()


class PaidStream(httpx2.SyncByteStream):
    def __init__(self, transport, inner, session, request):
        self.transport, self.inner, self.session, self.request = transport, inner, session, request

    def __iter__(self):
        events = EventFilter()
        for octets in self.inner:
            for item in events.feed(octets):
                if isinstance(item, bytes):
                    yield item
                else:
                    self.transport.drive(self.transport.purse.act(*item, self.session, self.request))
        if rest := events.finish():
            yield rest

    def close(self):
        self.inner.close()


class AsyncPrepaidTransport(httpx2.AsyncBaseTransport):
    """Pays for what a `httpx2.AsyncClient` asks."""

    def __init__(self, purse, inner=None):
        self.purse, self.inner = purse, inner or httpx2.AsyncHTTPTransport()
        self.opening = asyncio.Lock()

    async def drive(self, steps):
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, httpx2.Request):
                answer = await self.inner.handle_async_request(step)
                answer.request = step
            else:
                await step.aread()
                await step.aclose()
                answer = None

    async def handle_async_request(self, request):
        await request.aread()
        async with contextlib.nullcontext() if self.purse.knows(request) else self.opening:
            answer = await self.drive(self.purse.exchange(request))
        if not carries_own_events(answer) or not self.purse.knows(request):
            return answer
        return wrapped(answer, AsyncPaidStream(self, answer.stream, self.purse.sessions[origin_of(request.url)], request))

    async def close_sessions(self):
        return await self.drive(self.purse.close())

    async def aclose(self):
        with contextlib.suppress(httpx2.TransportError):
            await self.close_sessions()
        await self.inner.aclose()


class AsyncPaidStream(httpx2.AsyncByteStream):
    def __init__(self, transport, inner, session, request):
        self.transport, self.inner, self.session, self.request = transport, inner, session, request

    async def __aiter__(self):
        events = EventFilter()
        async for octets in self.inner:
            for item in events.feed(octets):
                if isinstance(item, bytes):
                    yield item
                else:
                    await self.transport.drive(self.transport.purse.act(*item, self.session, self.request))
        if rest := events.finish():
            yield rest

    async def aclose(self):
        await self.inner.aclose()
