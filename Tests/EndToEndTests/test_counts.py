"""Prices that count events, seconds and what the upstream reports, with bounds for each exchange: what is debited, and what happens where the budget ends."""

import gzip
import re
import socket
import threading
import time

import pytest

from harness import CONFIGURATION, Farebox, challenge_of, fetch
from http2_client import H2Connection
from prepaid import PrepaidWallet, SessionSecret

ROUTES = """
[[route]]
id = "ticks"
prefix = "/ticks/"
price = "0.001 USDC per event"
hold-timeout = "2 s"

[[route]]
id = "timed"
prefix = "/timed/"
price = "0.01 USDC per second"
hold-timeout = "2 s"

[[route]]
id = "units"
prefix = "/units/"
price = "0.0001 USDC per unit + 0.001 USDC per request"
most-units = 100
hold-timeout = "2 s"

[[route]]
id = "bounded"
prefix = "/bounded/"
price = "1 USDC per MB"
minimum = "0.002 USDC"
maximum = "0.005 USDC"

[[route]]
id = "uploads"
prefix = "/uploads/"
price = "1 USDC per MB of request"
"""
EVENT = 1000
SECOND = 10_000
UNIT, REQUEST = 100, 1000


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("counts"), upstream.port, configuration=CONFIGURATION + ROUTES)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture(params=["http1", "http2"])
def connection(farebox, request):
    opened = farebox.connection() if request.param == "http1" else H2Connection(farebox.port)
    with opened as connection:
        yield connection


class Session:
    """A session that was opened by a HEAD, which costs what it costs."""

    def __init__(self, farebox, connection, wallet, path, deposit):
        self.farebox, self.connection, self.wallet, self.path = farebox, connection, wallet, path
        self.challenge = challenge_of(fetch(connection, "HEAD", path), "session")
        self.secret = SessionSecret.new()
        response = fetch(connection, "HEAD", path, {"Authorization": wallet.open(self.challenge, self.secret, deposit)})
        assert response.status == 200, (response.status, response.body)
        self.before = int(self.status()["spent"])

    @property
    def credential(self):
        return {"Prepaid-Session": self.secret.short_form}

    def status(self):
        with self.farebox.connection() as connection:
            response = fetch(connection, "GET", self.path, {"Authorization": self.wallet.bearer(self.challenge, self.secret, "status")})
            assert response.status == 200, response.body
            return response.json()

    def spent(self):
        return int(self.status()["spent"]) - self.before

    def top_up(self, amount):
        with self.farebox.connection() as connection:
            challenge = challenge_of(fetch(connection, "HEAD", self.path), "session")
            response = fetch(connection, "GET", self.path, {"Authorization": self.wallet.top_up(challenge, self.secret.session_id, amount)})
            assert response.status == 200, response.body

    def close(self):
        with self.farebox.connection() as connection:
            return fetch(connection, "GET", self.path, {"Authorization": self.wallet.bearer(self.challenge, self.secret, "close")}).json()


@pytest.fixture
def session(farebox, connection, wallet):
    return lambda path, deposit: Session(farebox, connection, wallet, path, deposit)


def events_of(body):
    """The events of a stream; comments are none."""
    blocks = [[line for line in block.split("\n") if line and not line.startswith(":")] for block in body.decode().split("\n\n")]
    return [dict(line.split(": ", 1) for line in block) for block in blocks if block]


# Five events, one that looks like the proxy's own, and the last one.
EVENTS = 7


def names(events):
    return [event.get("event", "") for event in events]


def test_every_event_is_debited(session, connection):
    opened = session("/ticks/events/5", 100_000)
    response = fetch(connection, "GET", "/ticks/events/5", opened.credential)
    events = events_of(response.body)
    assert names(events) == ["tick", "tick", "foreign-receipt", "tick", "tick", "tick", "", "payment-receipt"]
    assert opened.spent() == EVENTS * EVENT
    closed = opened.close()
    assert int(closed["spent"]) == opened.before + EVENTS * EVENT and int(closed["refunded"]) == 100_000 - int(closed["spent"])


def test_a_stream_of_events_waits_for_a_top_up_between_two_events(session, farebox):
    opened = session("/ticks/events/5", 4 * EVENT)
    assert opened.before in (0, EVENT)
    affordable = 4 - opened.before // EVENT
    with farebox.connection() as connection:
        connection.request("GET", "/ticks/events/5", opened.credential)
        response = connection.head()
        received = b""
        chunks = connection.chunks()
        while b"payment-need-topup" not in received:
            received += next(chunks)
        before = events_of(received)
        assert len(before) == affordable + 1 and names(before)[-1] == "payment-need-topup"
        opened.top_up(EVENTS * EVENT)
        for chunk in chunks:
            received += chunk
    after = events_of(received)
    assert response.status == 200 and names(after).count("payment-need-topup") == 1 and names(after)[-1] == "payment-receipt"
    assert len(after) == EVENTS + 2 and opened.spent() == EVENTS * EVENT


def test_nothing_is_delivered_beyond_the_budget(session, connection):
    opened = session("/ticks/events/5", 3 * EVENT)
    affordable = 3 - opened.before // EVENT
    body = fetch(connection, "GET", "/ticks/events/5", opened.credential).body
    assert names(events_of(body))[affordable:] == ["payment-need-topup", "session-timeout"]
    # While it waits, its client hears that it is still there.
    assert body.split(b"event: payment-need-topup")[1].count(b"\n\n: waiting for a top-up\n\n") >= 1
    assert opened.spent() == affordable * EVENT and opened.close()["refunded"] == "0"


def test_events_are_debited_while_several_streams_share_a_budget(session, farebox):
    opened = session("/ticks/events/5", 10 * EVENT)
    budget = 10 - opened.before // EVENT
    bodies = []

    def read():
        with farebox.connection() as connection:
            bodies.append(fetch(connection, "GET", "/ticks/events/5", opened.credential).body)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    delivered = sum(1 for body in bodies for name in names(events_of(body)) if name not in ("payment-need-topup", "session-timeout", "payment-receipt"))
    assert delivered == budget and opened.spent() == budget * EVENT


def test_a_client_that_leaves_pays_for_what_was_delivered(session, farebox):
    opened = session("/ticks/events/200", 1_000_000)
    with farebox.connection() as connection:
        connection.request("GET", "/ticks/events/200", opened.credential)
        connection.head()
        received = b""
        chunks = connection.chunks()
        while received.count(b"event: tick") < 5:
            received += next(chunks)
    deadline = time.monotonic() + 5
    while int(opened.status()["held"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert 5 * EVENT <= opened.spent() < 150 * EVENT


def test_seconds_count_from_the_first_octet(session, connection):
    opened = session("/timed/drip/110", 1_000_000)
    response = fetch(connection, "GET", "/timed/drip/110", opened.credential)
    assert len(response.body) == 110_000 and response.complete
    spent = opened.spent()
    assert spent % SECOND == 0 and 3 <= spent // SECOND <= 60
    opened.before += spent
    assert fetch(connection, "GET", "/timed/slow/1500", opened.credential).status == 200
    assert opened.spent() == SECOND


def test_seconds_are_paid_while_nothing_comes(session, farebox):
    """The clock runs while the upstream is silent in the middle, and stands still while the stream waits for money."""
    opened = session("/timed/drip/10", 2 * SECOND)
    assert opened.before <= SECOND
    with farebox.connection() as connection:
        connection.request("GET", "/timed/drip/300", opened.credential)
        response = connection.read()
    assert not response.complete and len(response.body) < 300_000
    assert opened.spent() + opened.before == 2 * SECOND


def test_units_that_the_upstream_reports(session, connection):
    opened = session("/units/echo", 1_000_000)
    response = fetch(connection, "GET", "/units/units/42", opened.credential)
    assert response.status == 200 and response.body == b"{}"
    assert opened.spent() == 42 * UNIT + REQUEST
    assert fetch(connection, "GET", "/units/tally/17", opened.credential).body == b"hello"
    assert opened.spent() == 59 * UNIT + 2 * REQUEST
    # More than was held is debited before the content leaves.
    assert fetch(connection, "GET", "/units/units/500", opened.credential).body == b"{}"
    assert opened.spent() == 559 * UNIT + 3 * REQUEST
    # In a trailer it comes too late for that: never more than was held.
    assert fetch(connection, "GET", "/units/tally/5000", opened.credential).body == b"hello"
    assert opened.spent() == 659 * UNIT + 4 * REQUEST


def test_units_beyond_the_budget_are_not_delivered(session, connection):
    opened = session("/units/echo", 100 * UNIT + 2 * REQUEST + 500)
    response = fetch(connection, "GET", "/units/units/5000", opened.credential)
    assert response.body == b"" and not response.complete
    status = opened.status()
    assert int(status["spent"]) <= int(status["deposit"]) and status["held"] == "0"


def test_what_is_held_for_units_must_be_there_at_the_start(session, connection):
    opened = session("/units/echo", 100 * UNIT + 2 * REQUEST)
    assert fetch(connection, "GET", "/units/units/99", opened.credential).status == 200
    refused = fetch(connection, "GET", "/units/units/1", opened.credential)
    assert refused.status == 402 and int(refused.json()["required"]) > 0


@pytest.mark.parametrize("amount, cost", [("1858", 1858), ("50%25", (100 * UNIT + REQUEST) // 2), ("$0.01", 10_000), ("0", 0), ("no", REQUEST)])
def test_settlement_overrides(session, connection, upstream, amount, cost):
    opened = session("/units/echo", 1_000_000)
    response = fetch(connection, "GET", f"/units/settle/0/{amount}", opened.credential)
    assert response.status == 200 and response.get("settlement-overrides") is None
    assert opened.spent() == cost
    forged = {"Settlement-Overrides": '{"amount":"0"}', "Metered-Units": "0"}
    fetch(connection, "GET", "/units/echo", {**opened.credential, **forged})
    assert not {name.lower() for name, _ in upstream.last()["headers"]} & {name.lower() for name in forged}


def test_a_settlement_override_in_a_trailer_reaches_no_client(session, connection):
    opened = session("/units/echo", 1_000_000)
    response = fetch(connection, "GET", "/units/late/1858", {**opened.credential, "TE": "trailers"})
    trailers = {name.lower(): value for name, value in response.trailers}
    assert response.body == b"hello" and trailers["x-sum"] == "42" and "settlement-overrides" not in trailers
    assert opened.spent() == 1858


TAGS = {"etag", "content-digest", "repr-digest", "digest", "content-md5"}


def test_what_holds_for_the_upstreams_octets_stays_with_them(session, connection):
    """Into an event stream events of the proxy's own are put, so that digests and tags of the upstream's would be wrong."""
    opened = session("/ticks/echo", 1_000_000)
    for stream in (0, 1):
        response = fetch(connection, "GET", f"/ticks/tagged/{stream}", {**opened.credential, "TE": "trailers"})
        fields, trailers = ({name.lower() for name, _ in lines} for lines in (response.headers, response.trailers))
        assert "x-kept" in fields and "x-sum" in trailers
        assert (fields & TAGS, trailers & TAGS) == ((set(), set()) if stream else (TAGS, TAGS)), response.headers


def test_an_exchange_costs_no_less_and_no_more_than_its_bounds(session, connection):
    opened = session("/bounded/bytes/1", 1_000_000)
    for size, cost in ((100, 2000), (3000, 3000), (100_000, 5000), (2_000_000, 5000)):
        before = opened.spent()
        response = fetch(connection, "GET", f"/bounded/bytes/{size}", opened.credential)
        assert len(response.body) == size and response.complete
        assert opened.spent() - before == cost, size


def test_collected_content_is_metered_like_any_other(session, connection):
    """An Idempotency-Key has the content collected before the request is paid for; its octets cost the same."""
    opened = session("/uploads/echo", 1_000_000)
    for headers in ({}, {"Idempotency-Key": "upload-1"}):
        before = opened.spent()
        assert fetch(connection, "POST", "/uploads/echo", {**opened.credential, **headers}, b"x" * 5000).json()["length"] == 5000
        assert opened.spent() - before == 5000


@pytest.mark.parametrize("path", ["/units/units/7", "/ticks/events/3", "/bounded/chunked/3000"])
def test_a_metered_answer_is_kept_for_its_key(session, connection, upstream, path):
    opened = session(path, 1_000_000)
    headers = {**opened.credential, "Idempotency-Key": "kept-1"}
    first = fetch(connection, "GET", path, headers)
    spent, asked = opened.spent(), upstream.count(path)
    again = fetch(connection, "GET", path, headers)
    # What was put between the upstream's events is ours, and is not told again.
    ours = first.body.find(b"event: payment-receipt")
    assert first.status == again.status == 200 and again.body.rstrip() == (first.body if ours < 0 else first.body[:ours]).rstrip()
    assert opened.spent() == spent > 0 and upstream.count(path) == asked


def test_a_metered_answer_that_is_too_long_to_be_kept_is_not_sold_twice(session, connection, upstream):
    path = "/bounded/bytes/100000"
    opened = session(path, 1_000_000)
    headers = {**opened.credential, "Idempotency-Key": "long-1"}
    assert fetch(connection, "GET", path, headers).status == 200
    spent, asked = opened.spent(), upstream.count(path)
    again = fetch(connection, "GET", path, headers)
    assert again.status == 409 and again.problem() == "outcome-not-kept" and opened.spent() == spent and upstream.count(path) == asked


def test_units_that_are_not_reported_are_told_of(session, connection, farebox):
    def missing():
        return int(re.search(r"usage_missing_total\S* (\d+)", farebox.metrics()).group(1))

    opened = session("/units/echo", 1_000_000)
    before = missing()
    assert fetch(connection, "GET", "/units/units/0", opened.credential).status == 200 and missing() == before
    assert fetch(connection, "GET", "/units/echo", opened.credential).status == 200 and missing() == before + 1
    assert opened.spent() == 2 * REQUEST


def test_trailers_stay_with_their_response(session, connection, upstream):
    """What is left of an earlier response on the upstream's connection is not sent with the next one."""
    opened = session("/ticks/echo", 100_000)
    for _ in range(4):
        name, value = fetch(connection, "GET", "/ticks/tally/3", {**opened.credential, "TE": "trailers"}).trailers[0]
        assert name.lower() == "metered-units" and value == "3"
        response = fetch(connection, "GET", "/ticks/stream/2", {**opened.credential, "TE": "trailers"})
        assert "metered-units" not in [name.lower() for name, _ in response.trailers], response.trailers


def test_events_larger_than_any_buffer_pass_unaltered(session, connection):
    opened = session("/ticks/echo", 100_000)
    response = fetch(connection, "GET", "/ticks/large/300000", opened.credential)
    assert response.body.startswith(b"data: " + b"y" * 300_000 + b"\n\ndata: end\n\nevent: payment-receipt\n")
    assert opened.spent() == 2 * EVENT


def test_encoded_events_pass_octet_for_octet(session, connection):
    """Nothing of ours can stand between them; they are counted all the same."""
    opened = session("/ticks/echo", 100_000)
    response = fetch(connection, "GET", "/ticks/packed/7", opened.credential)
    assert response.get("content-encoding") == "gzip" and gzip.decompress(response.body) == b"data: z\n\n" * 7
    assert opened.spent() == 7 * EVENT


def test_an_event_without_its_end_counts_when_it_is_completed(session, connection):
    opened = session("/ticks/echo", 100_000)
    body = fetch(connection, "GET", "/ticks/stream/3/open", opened.credential).body
    assert names(events_of(body)) == ["", "", "", "payment-receipt"]
    assert opened.spent() == 3 * EVENT


@pytest.mark.parametrize("path", ["/timed/quiet/2600", "/timed/drip/130"])
def test_a_client_that_ends_its_direction_still_reads(session, farebox, path):
    opened = session("/timed/echo", 1_000_000)
    with farebox.connection() as connection:
        connection.request("GET", path, opened.credential)
        connection.socket.shutdown(socket.SHUT_WR)
        response = connection.read()
    assert response.complete and (b"data: b\n\n" in response.body if "quiet" in path else len(response.body) == 130_000)
    assert 3 * SECOND <= opened.spent() <= 8 * SECOND


def test_repetitive_events_are_counted_in_any_coding(session, connection):
    """What deflate makes a thousandth of is no bomb: every event is counted."""
    opened = session("/ticks/packed/1", 9_000_000)
    response = fetch(connection, "GET", "/ticks/packed/5000/1000", opened.credential)
    assert gzip.decompress(response.body) == (b"data: " + b"z" * 1000 + b"\n\n") * 5000 and len(response.body) * 400 < 5_000_000
    assert opened.spent() == 5000 * EVENT


def test_a_client_that_leaves_in_silence_pays_for_no_more_time(session, farebox):
    opened = session("/timed/echo", 1_000_000)
    with farebox.connection() as connection:
        connection.request("GET", "/timed/silent/15", opened.credential)
        connection.head()
        assert next(connection.chunks()) == b"hello"
    deadline = time.monotonic() + 10
    while opened.status()["held"] != "0" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert opened.status()["held"] == "0" and SECOND <= opened.spent() <= 8 * SECOND
