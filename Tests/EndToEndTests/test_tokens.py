"""Models by the token: the official packages, and the wire formats that have none, stream through Farebox, and the debit is the usage times the price, exactly."""

import asyncio
import json
import re
import time
from fractions import Fraction
from math import ceil

import anthropic
import httpx2
import openai
import pytest

from harness import Farebox
from models import ModelServer
from paying import AsyncPrepaidTransport, PaymentRefused, PrepaidTransport, Purse
from prepaid import PrepaidWallet
from test_agent import Payer
from test_sdks import CALLS, CONFIGURATION, LINE_ENDS, PROMPT, Recorder, clients, spent_of

# Base units for a token.
FINE = {"input": Fraction(15, 100), "cached": Fraction(5, 100), "output": Fraction(60, 100)}
DEAR = {"input": Fraction(100), "cached": Fraction(30), "output": Fraction(700)}

ROUTES = """
[[route]]
id = "fine"
prefix = "/fine/"
price = "0.15 USDC per M input tokens + 0.05 USDC per M cached input tokens + 0.60 USDC per M output tokens"
strip-prefix = "/fine"

[[route]]
id = "dear"
prefix = "/dear/"
price = "100 USDC per M input tokens + 30 USDC per M cached input tokens + 700 USDC per M output tokens"
strip-prefix = "/dear"
default-output-tokens = 200
minimum-deposit = "0.0001 USDC"
hold-timeout = "2 s"

[[route]]
id = "kept"
prefix = "/kept/"
price = "0.60 USDC per M output tokens"
strip-prefix = "/kept"
keep-usage-chunk = true

[[route]]
id = "packed"
prefix = "/packed/"
price = "0.15 USDC per M input tokens + 0.05 USDC per M cached input tokens + 0.60 USDC per M output tokens"
strip-prefix = "/packed"
content-coding = "decode"

[[route]]
id = "ceiling"
prefix = "/ceiling/"
price = "100 USDC per M input tokens + 30 USDC per M cached input tokens + 700 USDC per M output tokens"
strip-prefix = "/ceiling"
over-budget = "ceiling"
default-output-tokens = 200
minimum-deposit = "0.0001 USDC"
hold-timeout = "2 s"

[[route]]
id = "named"
prefix = "/named/"
strip-prefix = "/named"
[route.models]
"gpt*" = "700 USDC per M output tokens"
claude = "100 USDC per M input tokens"
ada = "0.002 USDC per request"
"""


@pytest.fixture(scope="module")
def models():
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def farebox(binary, models, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("tokens"), models.port, configuration=CONFIGURATION + ROUTES)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture
def purse(farebox):
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "10 USDC")
    return Purse(wallet, deposit=1_000_000, most=9_000_000)


def cost(usage, price):
    """The exact cost of an exchange, not rounded."""
    return sum((usage[part] * rate for part, rate in price.items()), Fraction(0))


def without_usage(events):
    assert all(event.pop("usage", None) is None for event in events)
    return events


def missing(farebox):
    return int(re.search(r"farebox_usage_missing_total (\d+)", farebox.metrics()).group(1))


# Usage is the price.


@pytest.mark.parametrize("ends", LINE_ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_every_event_as_it_is_and_the_debit_exact(farebox, models, purse, call, ends):
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    plain, paid = clients(models.origin, direct), clients(farebox.origin + "/fine", paying)
    total = Fraction(0)
    for seed in range(5):
        script = {"X-Script": f"seed={seed}; ends={ends}; pings={seed}; cached={3 * seed}; words={11 * seed + 5}"}
        expected = CALLS[call](*plain, script)
        if call == "chat stream without usage":
            # Farebox asks for the usage, and a server that is asked has `"usage": null` in every chunk.
            assert without_usage(CALLS[call](*paid, script)) == expected
        else:
            assert CALLS[call](*paid, script) == expected
            assert paying.last() == direct.last()
        total += cost(models.last()["usage"], FINE)
    # One sum over everything, rounded up once.
    assert spent_of(farebox, purse) == ceil(total)


WIRES = {
    "gemini": ("/v1beta/models/gemini:generateContent", {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}),
    "gemini events": ("/v1beta/models/gemini:streamGenerateContent?alt=sse", {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}),
    "gemini array": ("/v1beta/models/gemini:streamGenerateContent", {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}),
    "ollama chat": ("/api/chat", {"model": "llama", "messages": [{"role": "user", "content": PROMPT}]}),
    "ollama chat at once": ("/api/chat", {"model": "llama", "stream": False, "messages": [{"role": "user", "content": PROMPT}]}),
    "ollama generate": ("/api/generate", {"model": "llama", "prompt": PROMPT}),
    "ollama embed": ("/api/embed", {"model": "llama", "input": PROMPT}),
    "llama.cpp": ("/completion", {"prompt": PROMPT}),
    "llama.cpp stream": ("/completion", {"prompt": PROMPT, "stream": True}),
}


@pytest.mark.parametrize("wire", WIRES)
def test_other_wire_formats(farebox, models, purse, wire):
    path, body = WIRES[wire]
    total = Fraction(0)
    with httpx2.Client(transport=httpx2.HTTPTransport()) as plain, httpx2.Client(transport=PrepaidTransport(purse)) as paid:
        for seed in range(6):
            # Ollama does not tell which of the input came from a cache.
            script = {"X-Script": f"seed={seed}; words={9 * seed + 4}; cached={0 if 'ollama' in wire else seed}; ends={LINE_ENDS[seed % 4]}; pings={seed}"}
            expected = plain.post(models.origin + path, json=body, headers=script)
            answer = paid.post(farebox.origin + "/fine" + path, json=body, headers=script)
            assert answer.status_code == expected.status_code == 200 and answer.content == expected.content
            total += cost(models.last()["usage"], FINE)
        assert spent_of(farebox, purse) == ceil(total)


def test_background_responses_cost_what_they_may_come_to(farebox, models, purse):
    """Their usage is told elsewhere, when it is known: the output that was held stands, and fetching the answer costs no tokens."""
    path, body = "/fine/v1/responses", {"model": "gpt", "input": PROMPT, "background": True, "max_output_tokens": 300}
    with httpx2.Client(transport=PrepaidTransport(purse)) as paid:
        before = missing(farebox)
        queued = paid.post(farebox.origin + path, json=body).json()
        assert queued["status"] == "queued" and queued["usage"] is None
        spent = spent_of(farebox, purse)
        assert spent >= ceil(300 * FINE["output"]) and missing(farebox) == before + 1
        # Without a limit of its own it is the route's default.
        paid.post(farebox.origin + path, json={**body, "max_output_tokens": None}, headers={"X-Script": "seed=2"})
        after = spent_of(farebox, purse)
        assert after - spent >= ceil(4096 * FINE["output"]) - 1
        for _ in range(3):
            answer = paid.get(f"{farebox.origin}{path}/{queued['id']}").json()
            assert answer["status"] == "completed" and answer["usage"]["output_tokens"] == 24
        assert spent_of(farebox, purse) == after and missing(farebox) == before + 2
        # A stream tells its usage at its end, background or not.
        with paid.stream("POST", farebox.origin + path, json={**body, "stream": True}) as answer:
            answer.read()
        assert spent_of(farebox, purse) - after <= ceil(cost(models.last()["usage"], FINE))


@pytest.mark.parametrize("route,price,deposit", [("fine", FINE, 1_000_000), ("ceiling", DEAR, 30_000)])
def test_asynchronous_clients_at_once(farebox, models, purse, route, price, deposit):
    purse.deposit = deposit

    async def run(origin, transport):
        async with httpx2.AsyncClient(transport=transport, timeout=30) as web:
            o = openai.AsyncOpenAI(base_url=origin + "/v1", api_key="x", max_retries=0, http_client=web)
            a = anthropic.AsyncAnthropic(base_url=origin, api_key="x", max_retries=0, http_client=web)

            async def one(seed):
                script = {"X-Script": f"seed={seed}; slow=2; pings=5; cached={seed}; words={20 + seed}"}
                messages = [{"role": "user", "content": PROMPT}]
                if seed % 2:
                    stream = await o.chat.completions.create(model="gpt", messages=messages, stream=True, stream_options={"include_usage": True}, extra_headers=script)
                    return [e.to_dict() async for e in stream]
                async with a.messages.stream(model="claude", max_tokens=90, messages=messages, extra_headers=script) as stream:
                    return [e.to_dict() async for e in stream]

            return await asyncio.gather(*(one(seed) for seed in range(12)))

    direct = asyncio.run(run(models.origin, httpx2.AsyncHTTPTransport()))
    start = len(models.exchanges)
    assert asyncio.run(run(farebox.origin + "/" + route, AsyncPrepaidTransport(purse))) == direct
    total = sum((cost(exchange["usage"], price) for exchange in models.exchanges[start:]), Fraction(0))
    assert len(models.exchanges) - start == 12
    assert farebox.balance(purse.wallet) == 10_000_000 - ceil(total)
    assert (purse.top_ups > 1) == (route == "ceiling")


# The usage that is asked for.


def test_usage_is_asked_for_and_its_chunk_taken_out(farebox, models, purse):
    transport = Recorder(PrepaidTransport(purse))
    direct = Recorder(httpx2.HTTPTransport())
    expected = CALLS["chat stream without usage"](*clients(models.origin, direct), {})
    assert without_usage(CALLS["chat stream without usage"](*clients(farebox.origin + "/fine", transport), {})) == expected
    assert models.last()["body"]["stream_options"] == {"include_usage": True}
    kept = CALLS["chat stream without usage"](*clients(farebox.origin + "/kept", transport), {})
    assert kept[-1]["usage"]["completion_tokens"] == 24
    expected = CALLS["chat stream"](*clients(models.origin, direct), {})
    assert CALLS["chat stream"](*clients(farebox.origin + "/fine", transport), {}) == expected and expected[-1]["usage"]


@pytest.mark.parametrize("route", ["fine", "packed"])
@pytest.mark.parametrize("call", [name for name in CALLS if name != "chat stream without usage"])
def test_compressed_answers(farebox, models, purse, call, route):
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    total = Fraction(0)
    for seed in range(3):
        script = {"X-Script": f"seed={seed}; gzip=1; words={30 + seed}; cached={seed}"}
        expected = CALLS[call](*clients(models.origin, direct), script)
        assert "gzip" in models.last()["fields"]["accept-encoding"]
        assert CALLS[call](*clients(farebox.origin + "/" + route, paying), script) == expected
        # Either nothing that could not be read is asked for, or it is decoded to be read.
        assert ("gzip" in models.last()["fields"].get("accept-encoding", "")) == (route == "packed")
        # The end of the packed octets is not read by all: `[DONE]` comes before it.
        common = min(len(paying.bodies[-1]), len(direct.bodies[-1]))
        assert (paying.bodies[-1][:common] == direct.bodies[-1][:common]) == (route == "packed")
        total += cost(models.last()["usage"], FINE)
    assert spent_of(farebox, purse) == ceil(total)


@pytest.mark.parametrize("call", [name for name in CALLS if name != "embeddings"])
def test_without_usage_the_estimate_stands(farebox, models, purse, call):
    before = missing(farebox)
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    script = {"X-Script": "usage=none; words=60"}
    try:
        expected = CALLS[call](*clients(models.origin, direct), script)
    except Exception as error:  # noqa: BLE001 -- a package that cannot do without usage fails the same way over both
        with pytest.raises(type(error)):
            CALLS[call](*clients(farebox.origin + "/dear", paying), script)
    else:
        assert CALLS[call](*clients(farebox.origin + "/dear", paying), script) == expected
    assert paying.last() == direct.last()
    # About a token for four octets of what was said and asked.
    assert 60 * 700 // 4 < spent_of(farebox, purse) < 60 * 700 * 4
    assert missing(farebox) == before + 1


def test_errors_cost_nothing(farebox, models, purse):
    o, a = clients(farebox.origin + "/dear", PrepaidTransport(purse))
    messages = [{"role": "user", "content": PROMPT}]
    with pytest.raises(openai.RateLimitError):
        o.chat.completions.create(model="gpt", messages=messages, stream=True, extra_headers={"X-Script": "status=429"})
    with pytest.raises(anthropic.APIStatusError):
        a.messages.create(model="claude", max_tokens=9, messages=messages, stream=True, extra_headers={"X-Script": "status=529"})
    assert spent_of(farebox, purse) == 0


@pytest.mark.parametrize("call", ["chat stream", "responses stream", "messages stream"])
def test_an_error_in_the_middle_is_paid_as_far_as_it_came(farebox, models, purse, call):
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    endings = []
    for origin, transport in ((models.origin, direct), (farebox.origin + "/dear", paying)):
        try:
            endings.append(CALLS[call](*clients(origin, transport), {"X-Script": "words=100; fail=30"})[-1])
        except (openai.APIError, anthropic.APIError) as error:
            endings.append((type(error), str(error)))
    assert endings[0] == endings[1]
    assert paying.last() == direct.last()
    assert 20 * 700 // 3 < spent_of(farebox, purse) < 30 * 700 * 3


# Money in the middle.


@pytest.mark.parametrize("route", ["dear", "ceiling"])
@pytest.mark.parametrize("call", ["chat stream", "responses stream", "messages stream"])
def test_topped_up_before_or_in_the_middle(farebox, models, purse, call, route):
    purse.deposit = 20_000
    direct, paying = Recorder(httpx2.HTTPTransport()), Recorder(PrepaidTransport(purse))
    script = {"X-Script": "seed=5; words=150; pings=20; slow=1"}
    expected = CALLS[call](*clients(models.origin, direct), script)
    assert CALLS[call](*clients(farebox.origin + "/" + route, paying), script) == expected
    assert paying.last() == direct.last()
    assert purse.top_ups >= 1
    assert spent_of(farebox, purse) == ceil(cost(models.last()["usage"], DEAR))


def test_a_stream_ends_at_the_limit_and_costs_no_more(farebox, models, purse):
    purse.deposit, purse.most = 20_000, 50_000
    o, a = clients(farebox.origin + "/ceiling", PrepaidTransport(purse))
    got = []
    with pytest.raises(openai.APIConnectionError) as error:
        for event in o.responses.create(model="gpt", input=PROMPT, stream=True, extra_headers={"X-Script": "words=190; slow=1"}):
            got.append(event)
    assert isinstance(error.value.__cause__, PaymentRefused) and len(got) > 10
    assert 30_000 < spent_of(farebox, purse) <= 50_000


def test_what_may_cost_too_much_is_refused_before_it_begins(farebox, models, purse):
    purse.deposit, purse.most = 20_000, 50_000
    before = len(models.exchanges)
    o, a = clients(farebox.origin + "/dear", PrepaidTransport(purse))
    with pytest.raises(openai.APIConnectionError):
        o.responses.create(model="gpt", input=PROMPT, max_output_tokens=190)
    assert len(models.exchanges) == before
    # With a limit of its own the same request fits.
    answer = o.responses.create(model="gpt", input=PROMPT, max_output_tokens=20)
    assert answer.usage.output_tokens == 20
    assert spent_of(farebox, purse) == ceil(cost(models.last()["usage"], DEAR))


@pytest.mark.parametrize("call", ["chat", "messages"])
def test_a_client_that_leaves_pays_for_what_it_got(farebox, models, purse, call):
    transport = Recorder(PrepaidTransport(purse))
    o, a = clients(farebox.origin + "/dear", transport)
    messages, script = [{"role": "user", "content": PROMPT}], {"X-Script": "words=180; slow=10"}
    if call == "chat":
        stream = o.chat.completions.create(model="gpt", messages=messages, stream=True, extra_headers=script)
    else:
        stream = a.messages.create(model="claude", max_tokens=190, messages=messages, stream=True, extra_headers=script)
    with stream:
        got = [event for event, _ in zip(stream, range(20))]
    deadline = time.monotonic() + 5
    while models.last()["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert models.last()["state"] == "left" and models.last()["delivered"] < 100, "the upstream is let go"
    whole = cost(models.last()["usage"], DEAR)
    assert len(got) == 20 and 10 * 700 // 3 < spent_of(farebox, purse) < whole * 2 // 3


def test_an_upstream_that_breaks_is_paid_for_what_came(farebox, models, purse):
    o, a = clients(farebox.origin + "/dear", PrepaidTransport(purse))
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        list(o.responses.create(model="gpt", input=PROMPT, stream=True, extra_headers={"X-Script": "words=150; break=40"}))
    assert 30 * 700 // 3 < spent_of(farebox, purse) < 40 * 700 * 3


# A price for each model.


def test_a_session_pays_for_every_model_by_its_own_price(farebox, models, purse):
    transport = PrepaidTransport(purse)
    o, a = clients(farebox.origin + "/named", transport)
    total = Fraction(0)
    CALLS["chat stream"](o, a, {"X-Script": "words=30"})
    total += 700 * models.last()["usage"]["output"]
    CALLS["messages stream"](o, a, {"X-Script": "words=30"})
    total += 100 * (models.last()["usage"]["input"] + models.last()["usage"]["cached"])
    CALLS["embeddings"](o, a, {})
    total += 2000
    CALLS["responses stream"](o, a, {"X-Script": "words=10"})
    total += 700 * models.last()["usage"]["output"]
    assert len(purse.sessions) == 1 and spent_of(farebox, purse) == total
    with pytest.raises(openai.BadRequestError):
        o.chat.completions.create(model="unknown", messages=[])


# The agent's own command.


def test_farebox_pay_streams_from_a_model(farebox, models, tmp_path):
    payer = Payer(farebox, tmp_path)
    body = json.dumps({"model": "gpt-small", "stream": True, "max_tokens": 100, "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": PROMPT}]})
    # The deposit is too small for the worst case, and the challenge for a top-up is for this content only.
    done = payer.run(
        *("-v", "--json", "-o", str(tmp_path / "answer"), "--deposit", "0.01 USDC", "--max", "1 USDC", "-d", body),
        *("-H", "X-Script: words=40; slow=2", payer.url("/named/v1/chat/completions")),
    )
    assert done.returncode == 0, done.stderr
    assert "topped up" in done.stderr
    answer = (tmp_path / "answer").read_bytes()
    assert answer.startswith(models.last()["octets"][:-20]) and b"data: [DONE]" in answer
    summary = json.loads(done.stdout)
    assert summary["units"] == {"output tokens": "40"} and summary["spent"] == str(40 * 700)
    assert payer.run("--close").returncode == 0
    assert payer.balance() == 10_000_000 - 40 * 700


def test_farebox_pay_keeps_to_its_budget(farebox, models, tmp_path):
    payer = Payer(farebox, tmp_path)
    body = json.dumps({"model": "gpt", "stream": True, "messages": [{"role": "user", "content": PROMPT}]})
    arguments = ("--budget", "0.05 USDC", "-d", body, "-H", "X-Script: words=150; slow=2")
    before = len(models.exchanges)
    assert payer.get("/dear/v1/chat/completions", *arguments).returncode == 80
    assert len(models.exchanges) == before, "its worst case is beyond the budget"
    assert payer.run("--close").returncode == 0
    started = payer.get("/ceiling/v1/chat/completions", *arguments)
    assert started.returncode == 80 and "data: {" in started.stdout, started.stderr
    assert payer.run("--close").returncode == 0
    assert 30_000 < 10_000_000 - payer.balance() <= 50_000
