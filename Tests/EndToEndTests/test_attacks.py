"""Attacks that no other file has: what is tried, and what has to come of it. Tests/README.md says for every attack of the threat model which test it is."""

import base64
import json
import os
import random
import re
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import CONFIGURATION, CommandFailed, Farebox, challenge_of, fetch, open_session
from prepaid import PrepaidWallet, SessionSecret, b64u_decode

PATH, PRICE = "/api/echo", 1000


def pay(connection, wallet, path=PATH):
    value = wallet.transfer(challenge_of(fetch(connection, "GET", path), "charge"))
    return value, fetch(connection, "GET", path, {"Authorization": value})


def respelled(value):
    """Other octets that may be taken for the same credential."""
    token = value.split(" ")[1]
    members = json.loads(b64u_decode(token))
    backwards = {name: members[name] for name in reversed(list(members))}
    text = json.dumps(members).replace('"payload"', '"\\u0070ayload"')

    def b64u(text):
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    return ["payment " + token, "PAYMENT " + token, "Payment   " + token, "Payment\t" + token, "Payment " + token + "=" * (-len(token) % 4), "Payment " + token + " ",
            "Payment " + token.replace("-", "+").replace("_", "/"), "Payment " + b64u(json.dumps(members, indent=2)), "Payment " + b64u(json.dumps(backwards)),
            "Payment " + b64u(text), "Payment " + token[:-1] + ("A" if token[-1] != "A" else "B")]


def test_a_credential_in_other_spellings_is_the_same_credential(farebox, connection, wallet, upstream):
    value, paid = pay(connection, wallet)
    assert paid.status == 200
    before, served = farebox.balance(wallet), upstream.count()
    for spelling in respelled(value):
        response = fetch(connection, "GET", PATH, {"Authorization": spelling})
        assert response.status in (400, 402, 403) and response.receipt() is None, (spelling, response.status)
    assert farebox.balance(wallet) == before and upstream.count() == served


def test_an_opening_in_other_spellings_opens_and_buys_nothing_more(farebox, connection, wallet, upstream):
    secret = SessionSecret.new()
    value = wallet.open(challenge_of(fetch(connection, "GET", PATH), "session"), secret, 50_000)
    assert fetch(connection, "GET", PATH, {"Authorization": value}).status == 200
    served = upstream.count()
    for spelling in respelled(value):
        response = fetch(connection, "GET", PATH, {"Authorization": spelling})
        assert response.status in (400, 402, 409) and response.receipt() is None, (spelling, response.status)
    assert upstream.count() == served and farebox.balance(wallet) == 10_000_000 - 50_000
    assert farebox.session(secret.session_id)["spent"] == str(PRICE)


def test_a_challenge_of_another_server_of_the_same_name_buys_nothing(farebox, binary, upstream, tmp_path, wallet, connection):
    """Realm, routes, prices and wallets are the same; the secret is not."""
    other = Farebox(binary, tmp_path, upstream.port)
    other.create_wallet(wallet, "10 USDC")
    with other.connection() as c:
        unpaid = fetch(c, "GET", PATH, {"Host": farebox.authority})
    served = upstream.count()
    for credential in (wallet.transfer(challenge_of(unpaid, "charge")), wallet.open(challenge_of(unpaid, "session"), SessionSecret.new(), 10_000)):
        response = fetch(connection, "GET", PATH, {"Authorization": credential})
        assert response.status == 402 and response.problem() in ("invalid-challenge", "verification-failed"), response.body
    assert upstream.count() == served and farebox.balance(wallet) == 10_000_000
    other.stop()


def test_an_expired_challenge_buys_nothing(binary, upstream, tmp_path):
    text = CONFIGURATION.replace("workers = {workers}", 'workers = {workers}\nchallenge-expires = "10 s"')
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=text)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    with proxy.connection() as c:
        unpaid = fetch(c, "GET", PATH)
        credentials = [wallet.transfer(challenge_of(unpaid, "charge")), wallet.open(challenge_of(unpaid, "session"), SessionSecret.new(), 10_000)]
        time.sleep(11.5)
        served = upstream.count()
        for credential in credentials:
            response = fetch(c, "GET", PATH, {"Authorization": credential})
            assert response.status == 402 and response.receipt() is None, response.body
        assert upstream.count() == served and proxy.balance(wallet) == 10_000_000
    proxy.stop()
    proxy.assert_books_balance()


def test_refunds_at_once_give_back_once(farebox, connection, wallet):
    _, paid = pay(connection, wallet)
    before = farebox.balance(wallet)

    def refund(_):
        try:
            farebox.command("refund", paid.receipt()["reference"])
            return True
        except CommandFailed:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(refund, range(8))) == 1
    assert farebox.balance(wallet) == before + PRICE


def test_closes_top_ups_and_requests_at_once(farebox, wallet):
    """However they meet, what was deposited is spent or back, and nothing is spent behind the close."""
    for seed in range(5):
        before = farebox.balance(wallet)
        secret = open_session(farebox, wallet, PATH, 50_000)
        with farebox.connection() as c:
            unpaid = [fetch(c, "GET", PATH) for _ in range(9)]
        challenge = challenge_of(unpaid[0], "session")
        jobs = [("GET", wallet.bearer(challenge, secret, "close"), None)] * 4 + [("GET", wallet.bearer(challenge, secret), None)] * 12
        jobs += [("POST", wallet.top_up(challenge_of(response, "session"), secret.session_id, 1_000), b"") for response in unpaid[1:]]
        random.Random(seed).shuffle(jobs)

        def work(job):
            method, credential, body = job
            with farebox.connection() as c:
                response = fetch(c, method, PATH, {"Authorization": credential}, body)
                return job[1], response.status, response.body

        with ThreadPoolExecutor(len(jobs)) as pool:
            answers = list(pool.map(work, jobs))
        assert {status for _, status, _ in answers} <= {200, 402, 409, 410, 503}, answers
        closes = {body for credential, status, body in answers if credential == wallet.bearer(challenge, secret, "close") and status == 200}
        assert len(closes) == 1, "one close, and one answer"
        closed = json.loads(closes.pop())
        topped_up = sum(status == 200 and b'"ok"' in body for _, status, body in answers)
        assert int(closed["spent"]) + int(closed["refunded"]) == 50_000 + topped_up * 1_000
        assert farebox.balance(wallet) == before - int(closed["spent"])


def test_sessions_that_are_opened_and_abandoned_give_everything_back(farebox):
    """A flood of them, each left in the middle of its first request."""
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "1 USDC")
    tries = 120
    for number in range(tries):
        with farebox.connection() as c:
            response = fetch(c, "GET", "/brief/slow/100")
            c.request("GET", "/brief/slow/100", {"Authorization": wallet.open(challenge_of(response, "session"), SessionSecret.new(), 10_000)})
        if number == 20:
            assert farebox.balance(wallet) < 1_000_000, "they were not opened"
    deadline = time.monotonic() + 40
    while (balance := farebox.balance(wallet)) < 1_000_000 - tries * PRICE:
        assert time.monotonic() < deadline, f"only {balance} came back"
        time.sleep(0.2)
    view = farebox.command("wallet", "show", wallet.did)
    spent = 1_000_000 - farebox.balance(wallet)
    assert spent % PRICE == 0 and spent <= tries * PRICE, view


def test_a_flood_of_tiny_top_ups_counts_each_once(farebox, wallet):
    secret = open_session(farebox, wallet, PATH, 10_000)

    def top_up(_):
        count = 0
        with farebox.connection() as c:
            for _ in range(40):
                value = wallet.top_up(challenge_of(fetch(c, "GET", PATH), "session"), secret.session_id, 1)
                for _ in range(2):
                    response = fetch(c, "POST", PATH, {"Authorization": value}, b"")
                    assert response.status == 200, response.body
                count += 1
        return count

    with ThreadPoolExecutor(6) as pool:
        count = sum(pool.map(top_up, range(6)))
    assert farebox.session(secret.session_id)["deposit"] == str(10_000 + count)
    assert farebox.balance(wallet) == 10_000_000 - 10_000 - count


@pytest.mark.parametrize("intent", ["charge", "session"])
def test_shared_caches_keep_nothing_that_was_paid(connection, wallet, intent):
    challenge = challenge_of(fetch(connection, "GET", "/api/cached"), intent)
    credential = wallet.transfer(challenge) if intent == "charge" else wallet.open(challenge, SessionSecret.new(), 10_000)
    paid = fetch(connection, "GET", "/api/cached", {"Authorization": credential})
    directives = {part.strip() for part in ",".join(paid.all("cache-control")).split(",")}
    assert paid.status == 200 and directives in ({"private", "max-age=60"}, {"no-store"}), directives
    assert paid.get("cdn-cache-control") is None and paid.get("surrogate-control") is None
    varies = {name.strip().lower() for name in paid.get("vary").split(",")}
    assert {"authorization", "prepaid-session"} <= varies, varies


def test_errors_and_the_process_list_tell_no_secret(farebox, connection, wallet):
    secret = open_session(farebox, wallet, PATH, 10_000)
    token = wallet.transfer(challenge_of(fetch(connection, "GET", PATH), "charge")).split(" ")[1]
    headers = [{"Authorization": "Payment " + token[:-9]}, {"Authorization": "x" + token}, {"Prepaid-Session": f"{'0' * 64}; key={secret.hex}"},
               {"Prepaid-Session": f"{secret.session_id} key={secret.hex}"}, {"Authorization": "Payment " + token, "Prepaid-Session": secret.short_form}]
    for fields in headers:
        response = fetch(connection, "GET", PATH, fields)
        said = response.body.decode() + str(response.headers)
        assert response.status in (400, 402, 410) and secret.hex not in said and token[:-9] not in said, (response.status, said)
    folder = Path(f"/proc/{farebox.pid}")
    visible = (folder / "cmdline").read_bytes() + b"".join((task / "comm").read_bytes() for task in (folder / "task").iterdir())
    for file in (farebox.state / "keys").iterdir():
        for line in file.read_text().split():
            assert len(line) < 32 or line.encode() not in visible
    assert secret.hex.encode() not in visible


def test_a_crash_leaves_no_core_with_secrets(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, prefix=["prlimit", "--core=unlimited:unlimited"])
    assert resource.prlimit(proxy.pid, resource.RLIMIT_CORE)[0] == 0
    proxy.stop()


def test_without_descriptors_the_ledger_goes_on(binary, upstream, tmp_path):
    """All descriptors are taken while money moves: who is connected is served, and what was paid is in the books."""
    proxy = Farebox(binary, tmp_path, upstream.port, prefix=["prlimit", "--nofile=128:128"])
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, PATH, 1_000_000)
    key = {"Prepaid-Session": secret.short_form}
    with proxy.connection() as c:
        assert fetch(c, "GET", PATH, key).status == 200
        crowd = []
        for _ in range(300):
            try:
                crowd.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=2))
            except OSError:
                break
        time.sleep(0.3)
        statuses = [fetch(c, "GET", PATH, key).status for _ in range(50)]
        assert set(statuses) <= {200, 502, 503}, statuses
    for connection in crowd:
        connection.close()
    deadline = time.monotonic() + 10
    served = 2 + statuses.count(200)
    while True:
        try:
            with proxy.connection(timeout=2) as c:
                if fetch(c, "GET", PATH, key).status == 200:
                    break
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.1)
    assert proxy.session(secret.session_id)["spent"] == str((served + 1) * PRICE)
    proxy.stop()
    proxy.assert_books_balance()


def test_out_of_memory_loses_nothing(binary, upstream, tmp_path):
    """With less memory than it wants, the process may end; what it said stays true, and the next one goes on."""
    proxy = Farebox(binary, tmp_path, upstream.port)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "100 USDC")
    secret = open_session(proxy, wallet, PATH, 50_000_000)
    key, acknowledged, attempts, refused = {"Prepaid-Session": secret.short_form}, 1, 1, 0
    for kilobytes in (64, 2048):
        # What it may write to is limited: of address space the allocator has taken much in advance.
        size = int(re.search(r"VmData:\s+(\d+)", Path(f"/proc/{proxy.pid}/status").read_text()).group(1))
        resource.prlimit(proxy.pid, resource.RLIMIT_DATA, ((size + kilobytes) << 10, resource.RLIM_INFINITY))
        held = []
        for number in range(200):
            try:
                c = proxy.connection(timeout=2)
                if number % 4 == 0:
                    attempts += 1
                    response = fetch(c, "GET", PATH, key)
                    acknowledged += response.complete and response.status == 200
                else:
                    # A long answer that nobody reads, and a body that does not end.
                    c.request(*(("GET", "/free/bytes/50000000") if number % 4 < 3 else ("POST", "/digest/echo", {"Content-Length": "900000"}, bytes(800_000))))
                held.append(c)
            except (OSError, AssertionError):
                refused += 1
        for c in held:
            c.close()
        if proxy.process.poll() is None:
            resource.prlimit(proxy.pid, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with proxy.connection() as c:
                assert fetch(c, "GET", "/free/echo").status == 200
        else:
            refused += 1
            proxy.start()
    assert refused > 0, "the memory sufficed"
    spent = int(proxy.session(secret.session_id)["spent"])
    assert acknowledged * PRICE <= spent <= attempts * PRICE
    proxy.stop()
    proxy.assert_books_balance()


BOMB = CONFIGURATION + """
[[route]]
id = "ticks"
prefix = "/ticks/"
price = "0.001 USDC per event"
"""


def test_a_compressed_bomb_fills_no_memory(binary, upstream, tmp_path):
    """An event of 100 MB that compresses to a thousandth, where events have to be seen to be counted."""
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=BOMB)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, "/ticks/stream/1", 100_000)
    before, peak = proxy.resident_kilobytes(), 0
    with proxy.connection(timeout=30) as c:
        c.request("GET", "/ticks/packed/1/100000000", {"Prepaid-Session": secret.short_form, "Accept-Encoding": "gzip"})
        while True:
            try:
                c.socket.settimeout(0.2)
                if not c.fill():
                    break
            except TimeoutError:
                if c.buffer and peak:
                    break
            peak = max(peak, proxy.resident_kilobytes() - before)
    assert peak < 32 << 10, f"{peak} KB"
    with proxy.connection() as c:
        assert fetch(c, "GET", "/free/echo").status == 200
    assert int(proxy.session(secret.session_id)["spent"]) <= 3 * PRICE
    proxy.stop()
    proxy.assert_books_balance()


def test_every_attack_of_the_table_has_its_test():
    folder = Path(__file__).parent
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (folder.parent / "README.md").read_text())
    assert len(named) > 80
    for file, name in named:
        assert re.search(rf"^def {name}\(", (folder / file).read_text(), re.MULTILINE), f"{file} has no {name}"
