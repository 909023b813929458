"""Sessions end to end: open, bearer, metering by the octet, running dry, topping up, closing, and the ways to cheat."""

import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import challenge_of, fetch, open_session, parse_challenges, request_of
from prepaid import PrepaidWallet, SessionSecret, b64u_decode

PRICE = 1000
PER_MB = 10_000
PATH = "/api/echo"


@pytest.fixture
def opened(connection, wallet):
    """A session of 0.1 USDC on the per-request route, with the challenge that opened it."""
    challenge = challenge_of(fetch(connection, "GET", PATH), "session")
    secret = SessionSecret.new()
    credential = wallet.open(challenge, secret, 100_000)
    response = fetch(connection, "GET", PATH, {"Authorization": credential})
    assert response.status == 200, response.body
    return challenge, secret, credential, response


def status_of(connection, wallet, challenge, secret, path=PATH):
    response = fetch(connection, "GET", path, {"Authorization": wallet.bearer(challenge, secret, "status")})
    assert response.status == 200, response.body
    return response.json()


def close(connection, wallet, challenge, secret, path=PATH):
    return fetch(connection, "GET", path, {"Authorization": wallet.bearer(challenge, secret, "close")})


def test_open_serves_and_debits(farebox, connection, wallet, opened):
    challenge, secret, credential, response = opened
    receipt = response.receipt()
    assert receipt["intent"] == "session" and receipt["sessionId"] == secret.session_id and receipt["reference"] == secret.session_id
    assert receipt["spent"] == str(PRICE) and receipt["remaining"] == str(100_000 - PRICE) and "sig" in receipt
    assert farebox.balance(wallet) == 10_000_000 - 100_000


def test_the_same_open_again_is_409_with_its_receipt(farebox, connection, wallet, opened):
    _, secret, credential, response = opened
    again = fetch(connection, "GET", PATH, {"Authorization": credential})
    assert again.status == 409 and again.problem() == "already-open"
    assert json.loads(b64u_decode(again.json()["receipt"]))["sessionId"] == secret.session_id
    assert farebox.balance(wallet) == 10_000_000 - 100_000


def test_bearer_and_short_form(connection, wallet, opened, upstream):
    challenge, secret, _, _ = opened
    for headers in ({"Authorization": wallet.bearer(challenge, secret)}, {"Prepaid-Session": secret.short_form}):
        response = fetch(connection, "GET", PATH, headers)
        assert response.status == 200, response.body
        assert response.receipt()["sessionId"] == secret.session_id and "sig" not in response.receipt()
        assert "private" in response.get("cache-control")
    both = fetch(connection, "GET", PATH, {"Prepaid-Session": secret.short_form, "Authorization": "Bearer for-the-upstream"})
    assert both.status == 200
    assert ("authorization", "Bearer for-the-upstream") in [(n.lower(), v) for n, v in upstream.last()["headers"]]
    assert status_of(connection, wallet, challenge, secret)["spent"] == str(4 * PRICE)


def test_close_refunds_the_rest_and_ends_everything(farebox, connection, wallet, opened):
    challenge, secret, _, _ = opened
    response = close(connection, wallet, challenge, secret)
    assert response.status == 200, response.body
    assert response.json() == {"status": "closed", "spent": str(PRICE), "refunded": str(100_000 - PRICE)}
    assert "sig" in response.receipt()
    assert farebox.balance(wallet) == 10_000_000 - PRICE
    again = close(connection, wallet, challenge, secret)
    assert again.status == 200 and again.json() == response.json()
    assert farebox.balance(wallet) == 10_000_000 - PRICE
    late = fetch(connection, "GET", PATH, {"Prepaid-Session": secret.short_form})
    assert late.status in (402, 410) and late.receipt() is None


def test_management_is_told_by_action_and_not_by_method_or_query(connection, wallet, opened, upstream):
    challenge, secret, _, _ = opened
    served = upstream.count()
    value = wallet.bearer(challenge, secret, "status")
    for method, path in (("HEAD", PATH), ("POST", PATH), ("GET", PATH + "?page=2"), ("POST", PATH + "?x=1")):
        headers = {"Authorization": value, "Content-Length": "0"} if method == "POST" else {"Authorization": value}
        response = fetch(connection, method, path, headers)
        assert response.status == 200, (method, path, response.body)
    assert upstream.count() == served


def test_a_wrong_secret_and_a_foreign_session(farebox, connection, wallet, opened):
    challenge, secret, _, _ = opened
    stranger = SessionSecret.new()
    forged = f"{secret.session_id}; key={stranger.hex}"
    assert fetch(connection, "GET", PATH, {"Prepaid-Session": forged}).status == 402
    assert fetch(connection, "GET", PATH, {"Prepaid-Session": stranger.short_form}).status in (402, 410)
    assert fetch(connection, "GET", PATH, {"Prepaid-Session": "garbage"}).status in (400, 402)
    other = PrepaidWallet.new()
    farebox.create_wallet(other, "1 USDC")
    top_up = other.top_up(challenge_of(fetch(connection, "GET", PATH), "session"), secret.session_id, 10_000)
    assert fetch(connection, "POST", PATH, {"Authorization": top_up, "Content-Length": "0"}).status == 403
    assert farebox.balance(other) == 1_000_000


def test_the_opening_deposit_is_not_a_top_up(farebox, connection, wallet, opened, upstream):
    """Aperture took the open credential again as a topUp, and served it unpaid."""
    challenge, secret, _, _ = opened
    served, before = upstream.count(), farebox.balance(wallet)
    disguised = wallet.top_up(challenge, secret.session_id, 50_000)
    response = fetch(connection, "POST", PATH, {"Authorization": disguised, "Content-Length": "0"})
    assert response.status in (402, 403, 409) and upstream.count() == served and farebox.balance(wallet) == before


def test_top_up_once(farebox, connection, wallet, opened):
    challenge, secret, _, _ = opened
    fresh = challenge_of(fetch(connection, "GET", PATH), "session")
    value = wallet.top_up(fresh, secret.session_id, 50_000)
    for _ in range(3):
        response = fetch(connection, "POST", PATH, {"Authorization": value, "Content-Length": "0"})
        assert response.status == 200 and response.json()["status"] == "ok", response.body
    assert farebox.balance(wallet) == 10_000_000 - 150_000
    assert status_of(connection, wallet, challenge, secret)["deposit"] == "150000"


def test_200_concurrent_requests_on_a_budget_for_100(farebox, wallet, upstream):
    with farebox.connection() as c:
        challenge = challenge_of(fetch(c, "GET", "/api/slow/20"), "session")
        secret = SessionSecret.new()
        assert fetch(c, "GET", "/api/slow/20", {"Authorization": wallet.open(challenge, secret, 101 * PRICE)}).status == 200
    served = upstream.count()

    def use(_):
        with farebox.connection() as c:
            return fetch(c, "GET", "/api/slow/20", {"Prepaid-Session": secret.short_form}).status

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(use, range(200)))
    assert statuses.count(200) == 100 and statuses.count(402) == 100, {s: statuses.count(s) for s in set(statuses)}
    assert upstream.count() == served + 100
    with farebox.connection() as c:
        state = status_of(c, wallet, challenge, secret, "/api/slow/20")
    assert state["spent"] == str(101 * PRICE) and state["remaining"] == "0"


@pytest.mark.parametrize("path,free", [("/api/status/500", True), ("/api/die", True), ("/api/status/404", True), ("/api/echo", False)])
def test_a_failed_request_is_given_back(connection, wallet, opened, path, free):
    challenge, secret, _, _ = opened
    before = int(status_of(connection, wallet, challenge, secret)["spent"])
    fetch(connection, "GET", path, {"Prepaid-Session": secret.short_form})
    after = int(status_of(connection, wallet, challenge, secret)["spent"])
    assert after - before == (0 if free else PRICE)


@pytest.mark.parametrize("path", ["/files/bytes/3456789", "/files/chunked/3456789"])
def test_metered_body_costs_exactly_its_octets(farebox, connection, wallet, path):
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    request = request_of(challenge)
    assert (request["amount"], request["unitType"], request["methodDetails"]["unitSize"]) == (str(PER_MB), "byte", "1000000")
    secret = SessionSecret.new()
    response = fetch(connection, "GET", path, {"Authorization": wallet.open(challenge, secret, 1_000_000), "TE": "trailers"})
    assert response.status == 200 and response.complete and len(response.body) == 3456789
    time.sleep(0.1)
    assert status_of(connection, wallet, challenge, secret, path)["spent"] == "34568"
    assert close(connection, wallet, challenge, secret, path).json() == {"status": "closed", "spent": "34568", "refunded": "965432"}


def test_a_thousand_pieces_cost_what_one_costs(connection, wallet):
    path = "/files/bytes/1001"
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    secret = SessionSecret.new()
    fetch(connection, "GET", path, {"Authorization": wallet.open(challenge, secret, 1_000_000)})
    for _ in range(99):
        assert fetch(connection, "GET", path, {"Prepaid-Session": secret.short_form}).status == 200
    time.sleep(0.1)
    assert close(connection, wallet, challenge, secret, path).json()["spent"] == "1001"  # 100 x 1,001 octets at 0.01 an octet


def test_dry_in_the_middle_then_topped_up_on_the_same_connection(farebox, wallet):
    path, size = "/files/bytes/4000000", 4_000_000
    with farebox.connection() as stream, farebox.connection() as control:
        challenge = challenge_of(fetch(control, "GET", path), "session")
        secret = SessionSecret.new()
        stream.request("GET", path, {"Authorization": wallet.open(challenge, secret, 20_000)})
        head = stream.head()
        assert head.status == 200
        stream.exactly(2_000_000)
        stream.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            stream.exactly(1)
        state = status_of(control, wallet, challenge, secret, path)
        assert state["remaining"] == "0" and int(state["required"]) > 0
        stream.socket.settimeout(15)
        fresh = challenge_of(fetch(control, "GET", path), "session")
        assert fetch(control, "POST", path, {"Authorization": wallet.top_up(fresh, secret.session_id, 30_000), "Content-Length": "0"}).status == 200
        assert len(stream.exactly(size - 2_000_000)) == 2_000_000
        time.sleep(0.1)
        assert close(control, wallet, challenge, secret, path).json() == {"status": "closed", "spent": "40000", "refunded": "10000"}


def test_dry_and_never_topped_up_ends_short(farebox, wallet):
    path = "/files/bytes/4000000"
    with farebox.connection() as stream:
        challenge = challenge_of(fetch(stream, "GET", path), "session")
        secret = SessionSecret.new()
        response = fetch(stream, "GET", path, {"Authorization": wallet.open(challenge, secret, 10_000)})
        assert response.status == 200 and not response.complete
        assert len(response.body) == 1_000_000


def test_event_stream_runs_dry_and_passes_events_through(farebox, wallet):
    path = "/events/events/6"
    with farebox.connection() as stream, farebox.connection() as control:
        challenge = challenge_of(fetch(control, "GET", path), "session")
        secret = SessionSecret.new()
        response = fetch(stream, "GET", path, {"Authorization": wallet.open(challenge, secret, 4_000)})
        text = response.body.decode()
        assert "event: payment-need-topup\ndata: {" in text and "event: session-timeout\ndata: {" in text
        event = json.loads(text.split("event: payment-need-topup\ndata: ")[1].split("\n")[0])
        assert event["sessionId"] == secret.session_id and isinstance(event["balanceRequired"], str)
        assert response.complete, "an event stream ends cleanly"
        assert text.count("event: payment-receipt") <= 1, "the upstream cannot forge our events"
        stream_again = farebox.connection()
        fresh = challenge_of(fetch(control, "GET", path), "session")
        assert fetch(control, "POST", path, {"Authorization": wallet.top_up(fresh, secret.session_id, 1_000_000), "Content-Length": "0"}).status == 200
        whole = fetch(stream_again, "GET", path, {"Prepaid-Session": secret.short_form}).body.decode()
        assert whole.count("event: tick") == 6 and "data: [DONE]\n\n" in whole
        receipt_at = whole.rindex("event: payment-receipt")
        assert receipt_at > whole.rindex("[DONE]"), "the final receipt comes last"


def test_close_in_the_middle_of_a_stream_stops_its_charges(farebox, wallet):
    path = "/files/drip/400"
    with farebox.connection() as stream, farebox.connection() as control:
        challenge = challenge_of(fetch(control, "GET", path), "session")
        secret = SessionSecret.new()
        stream.request("GET", path, {"Authorization": wallet.open(challenge, secret, 1_000_000)})
        assert stream.head().status == 200
        time.sleep(0.5)
        started = time.monotonic()
        closed = close(control, wallet, challenge, secret, path)
        assert closed.status == 200 and time.monotonic() - started < 5
        delivered = 0
        try:
            for chunk in stream.chunks():
                delivered += len(chunk)
            pytest.fail("the stream ended as if it were whole")
        except (ConnectionError, AssertionError, ValueError):
            pass
        spent = int(closed.json()["spent"])
        assert 0 < delivered < 400_000 and spent <= -(-(delivered + 64_000) * PER_MB // 1_000_000)
        assert farebox.balance(wallet) == 10_000_000 - spent


def test_freeze_stops_a_stream(farebox, wallet):
    path = "/files/drip/400"
    with farebox.connection() as stream, farebox.connection() as control:
        challenge = challenge_of(fetch(control, "GET", path), "session")
        secret = SessionSecret.new()
        stream.request("GET", path, {"Authorization": wallet.open(challenge, secret, 1_000_000)})
        assert stream.head().status == 200
        time.sleep(0.3)
        farebox.command("wallet", "freeze", wallet.did)
        with pytest.raises((ConnectionError, AssertionError, ValueError)):
            for _ in stream.chunks():
                pass
        time.sleep(1.2)
        assert fetch(control, "GET", path, {"Prepaid-Session": secret.short_form}).status in (402, 403, 410)
        spent = 10_000_000 - farebox.balance(wallet)
        assert 0 < spent < 5_000


def test_a_client_that_leaves_pays_for_what_it_got(farebox, wallet):
    path = "/files/drip/200"
    with farebox.connection() as control:
        challenge = challenge_of(fetch(control, "GET", path), "session")
        secret = SessionSecret.new()
        stream = farebox.connection()
        stream.request("GET", path, {"Authorization": wallet.open(challenge, secret, 1_000_000)})
        assert stream.head().status == 200
        stream.exactly(20_000)
        stream.close()
        time.sleep(1)
        closed = close(control, wallet, challenge, secret, path).json()
        assert 200 <= int(closed["spent"]) < 2_000


def test_a_client_that_leaves_early_does_not_escape_the_charge(farebox, wallet, upstream):
    path = "/api/slow/600"
    with farebox.connection() as control:
        challenge = challenge_of(fetch(control, "GET", path), "session")
        secret = SessionSecret.new()
        assert fetch(control, "GET", "/api/slow/600", {"Authorization": wallet.open(challenge, secret, 10_000)}).status == 200
        gone = farebox.connection()
        gone.request("GET", path, {"Prepaid-Session": secret.short_form})
        time.sleep(0.2)
        gone.close()
        time.sleep(1)
        assert close(control, wallet, challenge, secret, path).json()["spent"] == str(2 * PRICE)


def test_session_cap_and_max_sessions(farebox, connection):
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "1 USDC", "--session-cap", "0.05 USDC", "--max-sessions", "1")

    def attempt(deposit):
        challenge = challenge_of(fetch(connection, "GET", PATH), "session")
        secret = SessionSecret.new()
        return fetch(connection, "GET", PATH, {"Authorization": wallet.open(challenge, secret, deposit)}), secret

    response, _ = attempt(60_000)
    assert response.status == 403 and "session-cap" in response.json()["detail"]
    response, secret = attempt(50_000)
    assert response.status == 200
    response, _ = attempt(10_000)
    assert response.status == 403 and "max-sessions" in response.json()["detail"]
    fresh = challenge_of(fetch(connection, "GET", PATH), "session")
    response = fetch(connection, "POST", PATH, {"Authorization": wallet.top_up(fresh, secret.session_id, 1), "Content-Length": "0"})
    assert response.status == 403 and "session-cap" in response.json()["detail"]


def test_a_bearer_adds_terms_of_another_route(connection, wallet, opened):
    _, secret, _, _ = opened
    dear = challenge_of(fetch(connection, "GET", "/dear/echo"), "session")
    response = fetch(connection, "GET", "/dear/echo", {"Authorization": wallet.bearer(dear, secret)})
    assert response.status == 200, response.body
    assert response.receipt()["spent"] == str(PRICE + 10 * PRICE)


def test_short_form_adds_no_terms(connection, wallet, opened):
    _, secret, _, _ = opened
    response = fetch(connection, "GET", "/dear/echo", {"Prepaid-Session": secret.short_form})
    assert response.status == 402 and parse_challenges(response.headers)


def test_idle_session_is_closed_and_refunded(farebox, connection, wallet):
    path = "/brief/echo"
    challenge = challenge_of(fetch(connection, "GET", path), "session")
    secret = SessionSecret.new()
    assert fetch(connection, "GET", path, {"Authorization": wallet.open(challenge, secret, 100_000)}).status == 200
    deadline = time.monotonic() + 10
    while farebox.balance(wallet) != 10_000_000 - PRICE and time.monotonic() < deadline:
        time.sleep(0.2)
    assert farebox.balance(wallet) == 10_000_000 - PRICE


def test_sessions_survive_a_restart_and_a_kill(farebox, wallet):
    secret = open_session(farebox, wallet, PATH, 100_000)
    for stop in (farebox.stop, farebox.kill):
        stop()
        farebox.start()
        with farebox.connection() as c:
            assert fetch(c, "GET", PATH, {"Prepaid-Session": secret.short_form}).status == 200


def test_operators_close(farebox, connection, wallet, opened):
    _, secret, _, _ = opened
    farebox.command("session", "close", secret.session_id)
    assert farebox.balance(wallet) == 10_000_000 - PRICE
    assert fetch(connection, "GET", PATH, {"Prepaid-Session": secret.short_form}).status in (402, 410)


def test_clients_that_reset_in_the_middle_of_metered_streams(farebox, wallet):
    """A send that fails ends the exchange; what was held for it must not be touched any more."""
    path, pid = "/files/bytes/20000000", farebox.pid
    secret = open_session(farebox, wallet, path, 5_000_000)
    for round in range(30):
        streams = []
        for _ in range(8):
            stream = farebox.connection()
            stream.request("GET", path, {"Prepaid-Session": secret.short_form})
            streams.append(stream)
        for number, stream in enumerate(streams):
            if number % 2 == 0:
                stream.socket.recv(65_536 * (1 + (round + number) % 7))
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()
    time.sleep(0.5)
    assert farebox.process.poll() is None and farebox.pid == pid, farebox.log_path.read_text()[-2000:]
    assert int(farebox.session(secret.session_id)["spent"]) <= 5_000_000
