"""Prices that an outside service is asked for: what it is shown, what its answers sell, and what happens when it fails."""

import http.server
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from certificates import Authority
from harness import SHOP, Farebox, challenge_of, fetch, free_port, request_of
from prepaid import PrepaidWallet, SessionSecret

CONFIGURATION = SHOP + """
[rate-limits]
challenges-per-second = 0
failures-per-second = 0

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "asked"
prefix = "/asked/"
upstream = "api"
price = "http://127.0.0.1:PRICER/price?of=api"
price-fallback = "0.05 USDC per request"
pricer-timeout = "500 ms"
pricer-fields = ["X-Quality", "Cookie"]

[[route]]
id = "strict"
prefix = "/strict/"
upstream = "api"
price = "http://127.0.0.1:PRICER/price"
pricer-timeout = "500 ms"
pricer-cache = "0 s"

[[route]]
id = "content"
prefix = "/content/"
upstream = "api"
price = "http://127.0.0.1:PRICER/price"
pricer-body-limit = "1 KiB"

[[route]]
id = "gone"
prefix = "/gone/"
upstream = "api"
price = "http://127.0.0.1:CLOSED/price"

[[route]]
id = "free"
prefix = "/free/"
upstream = "api"
free = true
"""
FALLBACK = 50_000


class Pricer:
    """Answers every question by `answer`, a function of the question; remembers what it was asked."""

    def __init__(self, tls=None):
        self.questions, self.heads, self.lock = [], [], threading.Lock()
        self.reset()
        pricer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with pricer.lock:
                    pricer.questions.append(question)
                    pricer.heads.append((self.path, dict(self.headers)))
                pricer.respond(self, question)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self):
        self.answer = lambda question: {"price": "0.002 USDC per request"}
        self.fields, self.status, self.raw, self.delay = {}, 200, None, 0
        with self.lock:
            self.questions.clear()
            self.heads.clear()

    def respond(self, handler, question):
        time.sleep(self.delay)
        if self.raw is not None:
            handler.wfile.write(self.raw)
            handler.close_connection = True
            return
        body = json.dumps(self.answer(question)).encode()
        handler.send_response(self.status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **self.fields}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture(scope="module")
def service():
    pricer = Pricer()
    yield pricer
    pricer.server.shutdown()


@pytest.fixture(scope="module")
def farebox(binary, upstream, service, tmp_path_factory):
    text = CONFIGURATION.replace("PRICER", str(service.port)).replace("CLOSED", str(free_port()))
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), upstream.port, configuration=text)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture
def pricer(service):
    service.reset()
    return service


SECURE = """
[[upstream]]
name = "known"
url = "https://127.0.0.1:KNOWN"
ca = "{FOLDER}/root.pem"

[[upstream]]
name = "foreign"
url = "https://127.0.0.1:FOREIGN"
ca = "{FOLDER}/root.pem"

[[route]]
id = "secure"
prefix = "/secure/"
upstream = "api"
price = "https://127.0.0.1:KNOWN/price"

[[route]]
id = "foreign"
prefix = "/foreign/"
upstream = "api"
price = "https://127.0.0.1:FOREIGN/price"
price-fallback = "0.05 USDC per request"

[[route]]
id = "unknown"
prefix = "/unknown/"
upstream = "api"
price = "https://localhost:KNOWN/price"
price-fallback = "0.05 USDC per request"
"""


def test_pricers_are_asked_over_tls(binary, upstream, tmp_path_factory):
    """Verified as upstreams are: one that a trusted root has named is believed, any other has failed."""
    folder = tmp_path_factory.mktemp("secure")
    trusted, other = Authority(folder), Authority(folder, "other")
    trusted.issue("pricer", ["127.0.0.1", "localhost"])
    other.issue("impostor", ["127.0.0.1"])
    known, foreign = Pricer(trusted.server("pricer")), Pricer(other.server("impostor"))
    text = CONFIGURATION.replace("PRICER", str(known.port)).replace("CLOSED", str(free_port())) + SECURE.replace("{FOLDER}", str(folder))
    text = text.replace("KNOWN", str(known.port)).replace("FOREIGN", str(foreign.port))
    farebox = Farebox(binary, folder / "farebox", upstream.port, configuration=text)
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "1 USDC")
    with farebox.connection() as connection:
        unpaid = fetch(connection, "GET", "/secure/1/echo?q=2")
        assert amount(unpaid) == 2000 and known.questions[0]["path"] == "/secure/1/echo"
        paid = fetch(connection, "GET", "/secure/1/echo?q=2", {"Authorization": wallet.transfer(challenge_of(unpaid, "charge"))})
        assert paid.status == 200 and farebox.balance(wallet) == 1_000_000 - 2000
        known.answer = lambda question: {"price": "0.003 USDC per request"}
        assert amount(fetch(connection, "GET", "/secure/2/echo")) == 3000
        assert amount(fetch(connection, "GET", "/foreign/1/echo")) == FALLBACK and foreign.questions == []
        # The tests' root is nobody's that the system trusts.
        assert amount(fetch(connection, "GET", "/unknown/1/echo")) == FALLBACK
    farebox.stop()
    farebox.assert_books_balance()
    known.server.shutdown()
    foreign.server.shutdown()


numbers = iter(range(10**9))


def fresh(route="asked", query=""):
    """A path that nobody was asked about."""
    return f"/{route}/{next(numbers)}/echo" + (f"?{query}" if query else "")


def amount(response, intent="charge"):
    assert response.status == 402, (response.status, response.body)
    return int(request_of(challenge_of(response, intent))["amount"])


def by_query(question):
    """The price is what the query says, in base units."""
    return {"amount": question["query"].split("=")[1], "currency": "usdc"}


# What is asked and quoted


def test_the_price_is_asked_for_and_paid(farebox, pricer, connection, wallet, upstream):
    pricer.answer = lambda question: {"price": "0.003 USDC per request", "description": "Three thousandths"}
    path = fresh(query="a=1&b=2")
    headers = [("X-Quality", "high"), ("Authorization", "Bearer secret"), ("X-Other", "hidden"), ("Cookie", "a=1"), ("cookie", "b=2")]
    response = fetch(connection, "GET", path, headers)
    assert amount(response) == 3000 and amount(response, "session") == 3000
    assert challenge_of(response, "charge")["description"] == "Three thousandths"
    target, head = pricer.heads[0]
    assert target == "/price?of=api" and head["Host"] == f"127.0.0.1:{pricer.port}"
    plain, _, query = path.partition("?")
    assert pricer.questions == [
        {"route": "asked", "method": "GET", "path": plain, "query": query, "headers": {"x-quality": "high", "cookie": "a=1, b=2"}}
    ]
    assert not any("authorization" in name.lower() for name in head)
    value = wallet.transfer(challenge_of(response, "charge"))
    before = farebox.balance(wallet)
    served = fetch(connection, "GET", path, [*(h for h in headers if h[0] != "Authorization"), ("Authorization", value)])
    assert served.status == 200 and served.receipt()["amount"] == "3000"
    assert farebox.balance(wallet) == before - 3000
    # Paying needed no other question, and paying again is told apart from not having paid.
    assert len(pricer.questions) == 1
    again = fetch(connection, "GET", path, [*(h for h in headers if h[0] != "Authorization"), ("Authorization", value)])
    assert again.status == 403 and again.problem() == "already-paid"


def test_answers_hold_for_the_same_question_only(pricer, connection):
    path = fresh()
    for _ in range(5):
        assert amount(fetch(connection, "GET", path)) == 2000
    assert len(pricer.questions) == 1
    for headers in ([("X-Quality", "low")], [("X-Quality", "lower")]):
        assert amount(fetch(connection, "GET", path, headers)) == 2000
    assert amount(fetch(connection, "GET", path + "?x")) == 2000
    assert amount(fetch(connection, "POST", path, body=b"")) == 2000
    assert len(pricer.questions) == 5
    fetch(connection, "GET", path, [("X-Other", "is not shown")])
    assert len(pricer.questions) == 5


@pytest.mark.parametrize("control,asked", [("no-store", 3), ("max-age=0", 3), ("private, max-age=60", 1), ("max-age=soon", 3)])
def test_an_answer_says_how_long_it_holds(pricer, connection, control, asked):
    pricer.fields = {"Cache-Control": control}
    path = fresh()
    for _ in range(3):
        assert amount(fetch(connection, "GET", path)) == 2000
    assert len(pricer.questions) == asked


def test_a_route_whose_answers_hold_for_nothing_asks_each_time(pricer, connection):
    path = fresh("strict")
    for _ in range(3):
        assert amount(fetch(connection, "GET", path)) == 2000
    assert len(pricer.questions) == 3


def test_many_at_once_ask_once(farebox, pricer):
    pricer.delay = 0.05
    path = fresh()

    def one(_):
        with farebox.connection() as connection:
            return amount(fetch(connection, "GET", path))

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(one, range(40))) == {2000}
    assert len(pricer.questions) == 1


def test_a_slow_pricer_holds_nobody_up(farebox, pricer):
    pricer.delay = 0.4
    with ThreadPoolExecutor(8) as pool:
        paths = [fresh() for _ in range(8)]

        def ask(path):
            with farebox.connection() as connection:
                return amount(fetch(connection, "GET", path))

        asked = [pool.submit(ask, path) for path in paths]
        time.sleep(0.1)
        with farebox.connection() as connection:
            for _ in range(20):
                assert fetch(connection, "GET", "/free/echo").status == 200
        assert not any(future.done() for future in asked)
        assert {future.result() for future in asked} == {2000}


def test_clients_that_leave_while_it_is_asked(farebox, pricer):
    pricer.delay = 0.3
    path = fresh()
    for _ in range(5):
        with farebox.connection() as connection:
            connection.request("GET", path)
    with farebox.connection() as connection:
        assert amount(fetch(connection, "GET", path)) == 2000
    assert len(pricer.questions) == 1


def test_nothing_may_cost_nothing(pricer, connection, upstream):
    pricer.answer = lambda question: {"amount": "0", "currency": "usdc"}
    path = fresh()
    response = fetch(connection, "POST", path, body=b"free of charge")
    assert response.status == 200 and response.json()["length"] == 14
    assert response.get("payment-receipt") is None


def test_requests_with_content_go_on_when_the_price_is_known(farebox, pricer, connection, wallet):
    pricer.delay = 0.1
    body = b"x" * 300_000
    path = fresh()
    first = fetch(connection, "POST", path, body=b"")
    with farebox.connection() as other:
        secret = SessionSecret.new()
        opened = fetch(other, "POST", path, [("Authorization", wallet.open(challenge_of(first, "session"), secret, 100_000))], body)
        assert opened.status == 200 and opened.json()["length"] == len(body)
        pricer.fields = {"Cache-Control": "no-store"}
        for kind in ("length", "chunked"):
            target = fresh()
            if kind == "length":
                answered = fetch(other, "POST", target, [("Prepaid-Session", secret.short_form)], body)
            else:
                other.send(f"POST {target} HTTP/1.1\r\nHost: x\r\nPrepaid-Session: {secret.short_form}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
                other.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
                answered = other.read("POST")
            assert answered.status == 200 and answered.json()["length"] == len(body)
    assert farebox.session(secret.session_id)["spent"] == "6000"


# What a quote is good for


def test_a_quote_is_honoured_after_the_price_has_changed(farebox, pricer, connection, wallet):
    pricer.fields = {"Cache-Control": "no-store"}
    path = fresh()
    quote = challenge_of(fetch(connection, "GET", path), "charge")
    pricer.answer = lambda question: {"price": "9 USDC per request"}
    asked = len(pricer.questions)
    before = farebox.balance(wallet)
    served = fetch(connection, "GET", path, [("Authorization", wallet.transfer(quote))])
    assert served.status == 200 and len(pricer.questions) == asked
    assert farebox.balance(wallet) == before - 2000
    assert amount(fetch(connection, "GET", path)) == 9_000_000


@pytest.mark.parametrize("other", ["query", "path", "field", "method"])
def test_a_cheap_quote_buys_nothing_dear(farebox, pricer, connection, wallet, upstream, other):
    pricer.answer = lambda q: {"amount": "1" if q["headers"] == {} and q.get("query") == "cheap" and q["method"] == "GET" and "dear" not in q["path"] else "700000", "currency": "usdc"}
    path = fresh()
    quote = challenge_of(fetch(connection, "GET", path + "?cheap"), "charge")
    before, served = farebox.balance(wallet), len(upstream.requests)
    headers = [("Authorization", wallet.transfer(quote))]
    method, target = "GET", path + "?cheap"
    if other == "query":
        target = path + "?dear"
    elif other == "path":
        target = path + "/dear?cheap"
    elif other == "field":
        headers.append(("X-Quality", "high"))
    else:
        method = "DELETE"
    response = fetch(connection, method, target, headers)
    assert amount(response) == 700_000 and response.problem() == "invalid-challenge"
    assert farebox.balance(wallet) == before and len(upstream.requests) == served


def test_a_failing_payment_does_not_renew_an_old_price(farebox, pricer, connection, wallet):
    pricer.fields = {"Cache-Control": "no-store"}
    path = fresh()
    quote = challenge_of(fetch(connection, "GET", path), "charge")
    pricer.answer = lambda question: {"price": "0.7 USDC per request"}
    poor = PrepaidWallet.new()
    farebox.create_wallet(poor, "0.000001 USDC")
    response = fetch(connection, "GET", path, [("Authorization", poor.transfer(quote))])
    assert amount(response) == 700_000 and response.problem() == "payment-insufficient"
    forged = wallet.credential(quote, {"type": "transfer", "wallet": wallet.did, "signature": "A" * 86}, signed=False)
    response = fetch(connection, "GET", path, [("Authorization", forged)])
    assert amount(response) == 700_000 and response.problem() == "verification-failed"
    response = fetch(connection, "GET", path, [("Authorization", "Payment nonsense")])
    assert amount(response) == 700_000
    broken = {**quote, "opaque": quote["opaque"][:-2] + "AA"}
    assert amount(fetch(connection, "GET", path, [("Authorization", wallet.transfer(broken))])) == 700_000


def test_content_is_shown_and_bound(farebox, pricer, connection, wallet, upstream):
    pricer.answer = lambda question: {"amount": str(10 * len(question.get("body", question.get("bodyBase64", "")))), "currency": "usdc"}
    path = fresh("content")
    response = fetch(connection, "POST", path, body="grüße".encode())
    assert amount(response) == 50 and pricer.questions[-1]["body"] == "grüße"
    quote = challenge_of(response, "charge")
    assert "digest" in quote
    assert amount(fetch(connection, "POST", path, body=b"\xff\x00\xfe")) == 40 and pricer.questions[-1]["bodyBase64"] == "/wD+"
    before = farebox.balance(wallet)
    dearer = fetch(connection, "POST", path, [("Authorization", wallet.transfer(quote))], b"x" * 100)
    assert amount(dearer) == 1000 and dearer.problem() == "invalid-challenge"
    assert farebox.balance(wallet) == before
    served = fetch(connection, "POST", path, [("Authorization", wallet.transfer(quote))], "grüße".encode())
    assert served.status == 200 and served.json()["length"] == 7
    assert farebox.balance(wallet) == before - 50
    with farebox.connection() as other:
        assert fetch(other, "POST", path, body=b"x" * 1025).status == 413


def test_paid_once_by_key_whatever_the_price_becomes(farebox, pricer, connection, wallet, upstream):
    pricer.fields = {"Cache-Control": "no-store"}
    path = fresh()
    key = [("Idempotency-Key", f"key-{path}")]
    before = farebox.balance(wallet)
    first = fetch(connection, "GET", path, [*key, ("Authorization", wallet.transfer(challenge_of(fetch(connection, "GET", path), "charge")))])
    pricer.answer = lambda question: {"price": "0.009 USDC per request"}
    challenge = challenge_of(fetch(connection, "GET", path), "charge")
    second = fetch(connection, "GET", path, [*key, ("Authorization", wallet.transfer(challenge))])
    assert first.status == second.status == 200 and first.body == second.body
    assert farebox.balance(wallet) == before - 2000


# Sessions


def test_a_session_pays_each_request_its_own_price(farebox, pricer, connection, wallet):
    pricer.answer = by_query
    path = fresh()
    secret = SessionSecret.new()
    response = fetch(connection, "GET", path + "?n=300")
    opened = fetch(connection, "GET", path + "?n=300", [("Authorization", wallet.open(challenge_of(response, "session"), secret, 1_000_000))])
    assert opened.status == 200
    short = [("Prepaid-Session", secret.short_form)]
    for price in (300, 7, 299):
        assert fetch(connection, "GET", f"{path}?n={price}", short).status == 200
    assert farebox.session(secret.session_id)["spent"] == str(300 + 300 + 7 + 299)
    # What is dearer than anything that was accepted has to be accepted first, by its own challenge.
    refused = fetch(connection, "GET", path + "?n=50000", short)
    assert amount(refused, "session") == 50_000
    dear = challenge_of(refused, "session")
    cheap = challenge_of(response, "session")
    assert fetch(connection, "GET", path + "?n=50000", [("Authorization", wallet.bearer(cheap, secret))]).status == 402
    assert fetch(connection, "GET", path + "?n=50000", [("Authorization", wallet.bearer(dear, secret))]).status == 200
    assert fetch(connection, "GET", path + "?n=49999", short).status == 200
    assert fetch(connection, "GET", path + "?n=50001", short).status == 402
    # The same credential on a request of another price is not debited by the first one's.
    for price in (11, 13):
        assert fetch(connection, "GET", f"{path}?n={price}", [("Authorization", wallet.bearer(dear, secret))]).status == 200
    spent = 906 + 50_000 + 49_999 + 11 + 13
    assert farebox.session(secret.session_id)["spent"] == str(spent)
    closed = fetch(connection, "GET", path, [("Authorization", wallet.bearer(dear, secret, "close"))])
    assert closed.status == 200 and closed.json() == {"status": "closed", "spent": str(spent), "refunded": str(1_000_000 - spent)}


def test_prices_below_a_base_unit_add_up(farebox, pricer, connection, wallet):
    pricer.answer = lambda question: {"price": "0.0003 USDC per 1000 requests"}
    path, secret = fresh(), SessionSecret.new()
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    assert fetch(connection, "GET", path, [("Authorization", wallet.open(challenge, secret, 1000))]).status == 200
    for _ in range(9):
        assert fetch(connection, "GET", path, [("Prepaid-Session", secret.short_form)]).status == 200
    assert farebox.session(secret.session_id)["spent"] == "3"


def test_sessions_are_managed_without_asking(farebox, pricer, connection, wallet):
    path, secret = fresh(), SessionSecret.new()
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    assert fetch(connection, "GET", path, [("Authorization", wallet.open(challenge, secret, 10_000))]).status == 200
    asked = len(pricer.questions)
    other = fresh()
    status = fetch(connection, "GET", other, [("Authorization", wallet.bearer(challenge, secret, "status"))])
    assert status.status == 200 and status.json()["spent"] == "2000"
    assert fetch(connection, "GET", other, [("Authorization", wallet.bearer(challenge, secret, "close"))]).status == 200
    assert len(pricer.questions) == asked


# Failures


def reply(status, body, head=b""):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), head, body)


NONSENSE = {
    "status": reply(500, b'{"price":"0.001 USDC per request"}'),
    "redirect": reply(302, b"", b"Location: http://127.0.0.1:1/\r\n"),
    "no JSON": reply(200, b"0.001 USDC"),
    "a number": reply(200, b'{"amount":1000,"currency":"usdc"}'),
    "both": reply(200, b'{"amount":"1000","currency":"usdc","price":"0.001 USDC per request"}'),
    "another currency": reply(200, b'{"amount":"1000","currency":"eur"}'),
    "negative": reply(200, b'{"amount":"-1","currency":"usdc"}'),
    "overflowing": reply(200, b'{"amount":"%d","currency":"usdc"}' % 2**127),
    "metered": reply(200, b'{"price":"0.01 USDC per MB"}'),
    "unknown member": reply(200, b'{"amount":"1","currency":"usdc","free":true}'),
    "coded": reply(200, b'{"amount":"1","currency":"usdc"}', b"Content-Encoding: gzip\r\n"),
    "description": reply(200, b'{"amount":"1","currency":"usdc","description":"a\\nb"}'),
    "too long": reply(200, b" " * 20_000 + b'{"amount":"1","currency":"usdc"}'),
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000,
    "cut": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"amount":"1"',
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense(pricer, connection, kind):
    pricer.raw = NONSENSE[kind]
    assert amount(fetch(connection, "GET", fresh())) == FALLBACK
    response = fetch(connection, "GET", fresh("strict"))
    assert response.status == 503 and response.get("retry-after") == "1" and response.get("cache-control") == "no-store"


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.1 200 OK\r\n\r\n{"price":"0.004 USDC per request"}',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"price"\r\n1a\r\n:"0.004 USDC per request"}\r\n0\r\n\r\n',
    ],
)
def test_answers_in_every_framing(pricer, connection, raw):
    pricer.raw = raw
    assert amount(fetch(connection, "GET", fresh())) == 4000


def test_a_silent_pricer(pricer, connection):
    pricer.delay = 2
    started = time.monotonic()
    assert amount(fetch(connection, "GET", fresh())) == FALLBACK
    assert fetch(connection, "GET", fresh("strict")).status == 503
    assert time.monotonic() - started < 2


def test_a_pricer_that_is_not_there(farebox, connection, upstream, wallet):
    before = len(upstream.requests)
    for headers in ([], [("Authorization", "Payment x")]):
        assert fetch(connection, "GET", fresh("gone"), headers).status == 503
    assert fetch(connection, "GET", fresh("gone"), [("Prepaid-Session", SessionSecret.new().short_form)]).status == 410
    assert len(upstream.requests) == before
    assert "farebox_prices_failed_total" in farebox.metrics()
    assert "a pricer does not say what requests cost" in farebox.log_path.read_text()


def test_the_fallback_is_paid_as_any_price(farebox, pricer, connection, wallet):
    pricer.status = 500
    path, before = fresh(), farebox.balance(wallet)
    quote = challenge_of(fetch(connection, "GET", path), "charge")
    pricer.status = 200
    assert fetch(connection, "GET", path, [("Authorization", wallet.transfer(quote))]).status == 200
    assert farebox.balance(wallet) == before - FALLBACK


def test_discovery_names_no_amount(connection):
    document = fetch(connection, "GET", "/openapi.json").json()
    offers = document["paths"]["/asked/{path}"]["get"]["x-payment-info"]["offers"]
    assert {offer["amount"] for offer in offers} == {None}
    assert "priced for each request" in fetch(connection, "GET", "/llms.txt").body.decode()


def test_check_explains_it(farebox):
    text = farebox.run("check", str(farebox.configuration)).stdout
    assert "asked of http://127.0.0.1:" in text and "or else 0.05 USDC per request" in text and "shown method, path and query" in text


def test_connections_are_kept_and_a_dead_one_is_no_failure(pricer, connection):
    """What is asked on a kept connection that the pricer has closed meanwhile is asked anew; the client never learns of it."""
    seen = []
    respond = type(pricer).respond

    def closing(handler, question):
        respond(pricer, handler, question)
        # Without a word, every other time: the proxy keeps the connection, and finds it dead.
        handler.close_connection = len(seen) % 2 == 1
        seen.append(handler.client_address)

    pricer.respond = closing
    try:
        for number in range(8):
            assert amount(fetch(connection, "GET", fresh())) == 2000
    finally:
        del pricer.respond
    assert len(seen) == 8 and len(set(seen)) == 4, seen
