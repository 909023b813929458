"""Clients that others wrote: the official `openai` and `anthropic` packages stream through Farebox from a stand-in for a model server, unmodified but for a
transport that pays. Every event is what it is without Farebox between, and the debit is what the price says."""

import asyncio
import random
import time
from fractions import Fraction
from math import ceil

import anthropic
import httpx2
import openai
import pytest

from harness import SHOP, Farebox
from models import ModelServer
from paying import OWN_EVENTS, AsyncPrepaidTransport, EventFilter, PaymentRefused, PrepaidTransport, Purse
from prepaid import PrepaidWallet

PROMPT = "What is the fare to Ghent, and is it cheaper after nine? Gruß"
PRICE = 1000
LINE_ENDS = ["lf", "crlf", "cr", "mixed"]

CONFIGURATION = SHOP + """
[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[timeouts]
abandon = "1 s"
drain = "5 s"

[[upstream]]
name = "models"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "asked"
prefix = "/asked/"
price = "0.001 USDC per request"
strip-prefix = "/asked"
hold-timeout = "2 s"

[[route]]
id = "owned"
prefix = "/owned/"
price = "0.001 USDC per request"
strip-prefix = "/owned"
payment-authorization = true

[[route]]
id = "octets"
prefix = "/octets/"
price = "0.3 USDC per MB"
strip-prefix = "/octets"
hold-timeout = "2 s"
minimum-deposit = "0.0001 USDC"
"""


@pytest.fixture(scope="module")
def models():
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def farebox(binary, models, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("sdks"), models.port, configuration=CONFIGURATION)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture
def purse(farebox):
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "10 USDC")
    return Purse(wallet, deposit=100_000, most=2_000_000)


class Recorder(httpx2.BaseTransport):
    """Keeps the octets of every answer's body as the client gets them."""

    def __init__(self, inner):
        self.inner, self.bodies = inner, []

    def handle_request(self, request):
        answer = self.inner.handle_request(request)
        body, stream = bytearray(), answer.stream
        self.bodies.append(body)

        class Kept(httpx2.SyncByteStream):
            def __iter__(self):
                for octets in stream:
                    body.extend(octets)
                    yield octets

            def close(self):
                stream.close()

        return httpx2.Response(answer.status_code, headers=answer.headers, stream=Kept(), extensions=answer.extensions)

    def last(self):
        """The last body, but for line ends at its end: a client that has seen `[DONE]` need not read the second half of one."""
        return bytes(self.bodies[-1]).rstrip(b"\r\n")

    def close(self):
        self.inner.close()


def clients(origin, transport):
    """The three ways of calling that are compared, each over the same transport."""
    web = httpx2.Client(transport=transport, timeout=30)
    keywords = dict(api_key="the-upstream's-own", max_retries=0, http_client=web)
    return openai.OpenAI(base_url=origin + "/v1", **keywords), anthropic.Anthropic(base_url=origin, **keywords)


CALLS = {
    "chat stream": lambda o, a, h: [e.to_dict() for e in o.chat.completions.create(model="gpt", messages=[{"role": "user", "content": PROMPT}], stream=True, stream_options={"include_usage": True}, extra_headers=h)],
    "chat stream without usage": lambda o, a, h: [e.to_dict() for e in o.chat.completions.create(model="gpt", messages=[{"role": "user", "content": PROMPT}], stream=True, extra_headers=h)],
    "chat": lambda o, a, h: o.chat.completions.create(model="gpt", messages=[{"role": "user", "content": PROMPT}], extra_headers=h).to_dict(),
    "responses stream": lambda o, a, h: [e.to_dict() for e in o.responses.create(model="gpt", input=PROMPT, stream=True, extra_headers=h)],
    "responses": lambda o, a, h: o.responses.create(model="gpt", input=PROMPT, extra_headers=h).to_dict(),
    "embeddings": lambda o, a, h: o.embeddings.create(model="ada", input=[PROMPT, "two"], encoding_format="float", extra_headers=h).to_dict(),
    "messages stream": lambda o, a, h: [e.to_dict() for e in a.messages.create(model="claude", max_tokens=500, messages=[{"role": "user", "content": PROMPT}], stream=True, extra_headers=h)],
    "messages": lambda o, a, h: a.messages.create(model="claude", max_tokens=500, messages=[{"role": "user", "content": PROMPT}], extra_headers=h).to_dict(),
}
STREAMS = [name for name in CALLS if "stream" in name]


def session_of(purse):
    return next(iter(purse.sessions.values()))


def spent_of(farebox, purse, settled=True):
    """What the purse's session has cost, once nothing of it is in flight any more."""
    deadline = time.monotonic() + 5
    while True:
        state = farebox.session(session_of(purse).secret.session_id)
        if not settled or state.get("held", "0") == "0" or time.monotonic() > deadline:
            return int(state["spent"])
        time.sleep(0.05)


# The transport's own filter.


def filtered(pieces):
    events, passed, own = EventFilter(), b"", []
    for piece in pieces:
        for item in events.feed(piece):
            if isinstance(item, bytes):
                passed += item
            else:
                own.append(item)
    return passed, events.finish(), own


@pytest.mark.parametrize("seed", range(100))
def test_own_events_are_taken_out_and_nothing_else(seed):
    chance = random.Random(seed)
    lines = [b"data: x", b"event: pay", b"event: payment-receipts", b"event:payment-receipt", b": c", b"event: p", b"id: 1", b"data: payment-receipt", b"e", b"session-timeout"]
    whole, expected, own = b"", b"", []
    for _ in range(chance.randrange(1, 8)):
        if chance.random() < 0.4:
            name = chance.choice(OWN_EVENTS)
            whole += b"event: " + name + b"\ndata: {}\n\n"
            own.append((name.decode(), "{}"))
        else:
            end = chance.choice([b"\n", b"\r\n", b"\r"])
            event = end.join(chance.choice(lines) for _ in range(chance.randrange(1, 4))) + end + end
            whole, expected = whole + event, expected + event
    cuts = [0, *sorted(chance.randrange(len(whole) + 1) for _ in range(chance.randrange(30))), len(whole)]
    for pieces in ([whole[a:b] for a, b in zip(cuts, cuts[1:])], [whole[i : i + 1] for i in range(len(whole))]):
        assert filtered(pieces) == (expected, b"", own)
    broken, rest, _ = filtered([whole[: chance.randrange(len(whole))]])
    assert expected.startswith(broken)
    assert not rest or expected[len(broken) :].startswith(rest) or b"event: payment-need-topup\nevent: payment-receipt\nevent: session-timeout".count(rest)


# What comes is what would come without Farebox.


@pytest.mark.parametrize("ends", LINE_ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_events_are_those_of_the_direct_stream(farebox, models, purse, call, ends):
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    plain = clients(models.origin, direct)
    paid = clients(farebox.origin + "/asked", paying)
    count = 0
    for seed in range(4):
        script = {"X-Script": f"seed={seed}; ends={ends}; pings={seed}; cached={seed}"}
        assert CALLS[call](*paid, script) == CALLS[call](*plain, script)
        assert paying.last() == direct.last() and len(direct.bodies[-1]) > 100
        count += 1
    assert spent_of(farebox, purse) == count * PRICE
    closed = paying.inner.close_sessions()
    assert closed == [{"status": "closed", "spent": str(count * PRICE), "refunded": str(100_000 - count * PRICE)}]
    assert farebox.balance(purse.wallet) == 10_000_000 - count * PRICE


def test_asynchronous_clients_at_once(farebox, models, purse):
    async def run(origin, transport):
        async with httpx2.AsyncClient(transport=transport, timeout=30) as web:
            o = openai.AsyncOpenAI(base_url=origin + "/v1", api_key="x", max_retries=0, http_client=web)
            a = anthropic.AsyncAnthropic(base_url=origin, api_key="x", max_retries=0, http_client=web)

            async def one(seed):
                script = {"X-Script": f"seed={seed}; slow=2; pings=5"}
                messages = [{"role": "user", "content": PROMPT}]
                if seed % 2:
                    return [e.to_dict() async for e in await o.chat.completions.create(model="gpt", messages=messages, stream=True, extra_headers=script)]
                async with a.messages.stream(model="claude", max_tokens=90, messages=messages, extra_headers=script) as stream:
                    return [e.to_dict() async for e in stream] + [(await stream.get_final_message()).to_dict()]

            return await asyncio.gather(*(one(seed) for seed in range(12)))

    transport = AsyncPrepaidTransport(purse)
    paid = asyncio.run(run(farebox.origin + "/asked", transport))
    assert paid == asyncio.run(run(models.origin, httpx2.AsyncHTTPTransport()))
    assert purse.sessions == {}, "closing the client closes the session"
    assert farebox.balance(purse.wallet) == 10_000_000 - 12 * PRICE


def test_errors_reach_the_client_as_they_are_and_cost_nothing(farebox, models, purse):
    transport = PrepaidTransport(purse)
    o, a = clients(farebox.origin + "/asked", transport)
    messages = [{"role": "user", "content": PROMPT}]
    with pytest.raises(openai.RateLimitError):
        o.chat.completions.create(model="gpt", messages=messages, stream=True, extra_headers={"X-Script": "status=429"})
    with pytest.raises(anthropic.APIStatusError) as error:
        a.messages.create(model="claude", max_tokens=9, messages=messages, stream=True, extra_headers={"X-Script": "status=529"})
    assert error.value.status_code == 529 and error.value.body["error"]["type"] == "overloaded_error"
    assert spent_of(farebox, purse) == 0


def test_the_key_of_the_package_reaches_an_upstream_that_needs_it(farebox, models, purse):
    transport = PrepaidTransport(purse)
    for name in ("chat", "messages stream"):
        CALLS[name](*clients(farebox.origin + "/owned", transport), {})
        assert models.last()["fields"]["authorization"] == "Bearer the-upstream's-own"
        assert not {"payment-authorization", "prepaid-session"} & models.last()["fields"].keys()
    assert spent_of(farebox, purse) == 2 * PRICE


def test_sessions_that_were_closed_are_opened_anew(farebox, models, purse):
    transport = PrepaidTransport(purse)
    o, a = clients(farebox.origin + "/asked", transport)
    CALLS["chat"](o, a, {})
    farebox.command("session", "close", session_of(purse).secret.session_id)
    CALLS["messages"](o, a, {})
    assert len(purse.sessions) == 1 and spent_of(farebox, purse) == PRICE


# What a stream needs in the middle.


@pytest.mark.parametrize("call", STREAMS)
def test_a_stream_is_topped_up_in_the_middle(farebox, models, purse, call):
    purse.deposit = 500
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    script = {"X-Script": "seed=3; words=200; pings=20"}
    expected = CALLS[call](*clients(models.origin, direct), script)
    assert CALLS[call](*clients(farebox.origin + "/octets", paying), script) == expected
    assert paying.last() == direct.last()
    assert purse.top_ups > 2
    assert spent_of(farebox, purse) == ceil(Fraction(3 * len(direct.bodies[-1]), 10))


def test_a_stream_ends_at_the_limit(farebox, models, purse):
    purse.deposit, purse.most = 500, 1_200
    transport = Recorder(PrepaidTransport(purse))
    o, a = clients(farebox.origin + "/octets", transport)
    got = []
    with pytest.raises(openai.APIConnectionError) as error:
        for event in o.responses.create(model="gpt", input=PROMPT, stream=True, extra_headers={"X-Script": "words=200"}):
            got.append(event)
    assert isinstance(error.value.__cause__, PaymentRefused) and len(got) > 3
    assert 1_000 < spent_of(farebox, purse) == ceil(Fraction(3 * len(transport.bodies[-1]), 10)) <= 1_200


@pytest.mark.parametrize("call", ["responses stream", "messages stream"])
def test_a_client_that_lets_our_events_through_stumbles(farebox, models, purse, call):
    """Why the transport hides them: both packages read the data of every named event as their own JSON."""
    purse.deposit = 500_000
    transport = PrepaidTransport(purse)
    CALLS["chat"](*clients(farebox.origin + "/octets", transport), {})
    short = {"Prepaid-Session": session_of(purse).secret.short_form}
    # A session pays, and nothing is filtered.
    CALLS[call](*clients(farebox.origin + "/octets", transport), {})
    bare = clients(farebox.origin + "/octets", httpx2.HTTPTransport())
    with pytest.raises(ValueError):
        CALLS[call](*bare, short)


def test_a_client_that_leaves_pays_for_what_it_got(farebox, models, purse):
    transport = Recorder(PrepaidTransport(purse))
    o, a = clients(farebox.origin + "/octets", transport)
    messages = [{"role": "user", "content": PROMPT}]
    with o.chat.completions.create(model="gpt", messages=messages, stream=True, extra_headers={"X-Script": "words=400; slow=10"}) as stream:
        got = [next(stream) for _ in range(10)]
    deadline = time.monotonic() + 5
    while models.last()["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert models.last()["state"] == "left", "the upstream is let go"
    assert len(got) <= models.last()["delivered"] < 60
    spent = spent_of(farebox, purse)
    assert ceil(Fraction(3 * len(transport.bodies[-1]), 10)) <= spent <= ceil(Fraction(3 * len(models.last()["octets"]), 10))


def test_an_upstream_that_breaks_is_paid_for_what_came(farebox, models, purse):
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    for origin, transport in ((models.origin, direct), (farebox.origin + "/octets", paying)):
        o, a = clients(origin, transport)
        with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
            list(o.responses.create(model="gpt", input=PROMPT, stream=True, extra_headers={"X-Script": "break=12"}))
    # Whole events only: what the upstream began and did not end reaches nobody, and costs nothing.
    whole = direct.bodies[-1].rindex(b"\n\n") + 2
    assert paying.bodies[-1] == direct.bodies[-1][:whole]
    assert spent_of(farebox, purse) == ceil(Fraction(3 * whole, 10))
