"""Another configuration is gone over to under load: nothing fails, nothing is lost, and a bad one changes nothing."""

import os
import signal
import time

import pytest

from harness import Farebox, challenge_of, fetch, request_of
from load import KINDS, Load, SecureSide
from prepaid import SessionSecret

RELOADS = int(os.environ.get("FAREBOX_RELOADS", "100"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    return SecureSide(tmp_path_factory.mktemp("secure"))


@pytest.fixture(scope="module")
def farebox(binary, upstream, secure, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), upstream.port, configuration=secure.configuration)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture(autouse=True)
def as_before(farebox):
    """Each test leaves the configuration as it found it."""
    before = farebox.configuration.read_text()
    yield
    farebox.configuration.write_text(before)
    farebox.command("reload")


def edit(farebox, *changes):
    text = farebox.configuration.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    farebox.configuration.write_text(text)


def test_reloads_under_paid_load_fail_no_request(farebox, secure):
    load = Load(farebox, KINDS, secure)
    deadline = time.monotonic() + 20
    while len(load.counts) < len(KINDS) and time.monotonic() < deadline:
        time.sleep(0.05)
    prices = ["0.001 USDC per request\"\n\n[[route]]\nid = \"dear\"", "0.002 USDC per request\"\n\n[[route]]\nid = \"dear\""]
    for number in range(RELOADS):
        edit(farebox, (prices[number % 2], prices[(number + 1) % 2]))
        if number % 5 == 0:
            edit(farebox, ("max-idle = 63\n", "") if "max-idle" in farebox.configuration.read_text() else ('name = "api"\n', 'name = "api"\nmax-idle = 63\n'))
        done = farebox.run("reload")
        assert done.returncode == 0, done.stderr
        assert not load.failures, load.failures
    load.stop()
    assert load.going_away == 0, "upgraded connections go on as well"
    assert min(load.counts.values()) > 0 and len(load.counts) == len(KINDS), load.counts
    farebox.assert_books_balance()
    loaded = [line for line in farebox.audit_path.read_text().splitlines() if '"configuration.loaded"' in line]
    assert len(loaded) >= RELOADS


def test_a_bad_configuration_changes_nothing_and_says_why(farebox, connection):
    good = farebox.configuration.read_text()
    edit(farebox, ('prefix = "/free/"\n', 'prefix = "/free/"\nprise = "1"\n'))
    done = farebox.run("reload")
    assert done.returncode == 78 and "prise" in done.stderr, done
    os.kill(farebox.pid, signal.SIGHUP)
    wait_for_log(farebox, "nothing has changed", "prise")
    assert fetch(connection, "GET", "/free/echo").status == 200

    for change, words in [
        (("workers = 2", "workers = 3"), "workers"),
        (('[[merchant]]', '[[currency]]\ncode = "eurc"\ndecimals = 2\n\n[[merchant]]'), "[[currency]]"),
        (('directory = "elsewhere"', ""), "[ledger]"),
    ]:
        farebox.configuration.write_text(good + ('\n[ledger]\ndirectory = "elsewhere"\n' if "ledger" in words else ""))
        if "ledger" not in words:
            edit(farebox, change)
        done = farebox.run("reload")
        assert done.returncode == 1 and words in done.stderr and "upgrade" in done.stderr, done

    farebox.configuration.write_text(good + f'\n[[listen]]\naddress = "127.0.0.1:{farebox.upstream_port}"\n')
    done = farebox.run("reload")
    assert done.returncode == 1 and "cannot be listened on" in done.stderr, done
    assert fetch(connection, "GET", "/free/echo").status == 200

    farebox.configuration.write_text(good)
    assert "\nfarebox_configuration_reload_failed 1\n" in farebox.metrics()
    farebox.command("reload")
    assert "\nfarebox_configuration_reload_failed 0\n" in farebox.metrics()


def wait_for_log(farebox, *words):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if any(all(word in line for word in words) for line in farebox.log_path.read_text().splitlines()):
            return
        time.sleep(0.05)
    raise AssertionError(f"{words} not in the log:\n{farebox.log_path.read_text()[-2000:]}")


def test_an_old_price_is_honoured_for_challenges_that_were_issued_with_it(farebox, wallet):
    with farebox.connection() as connection:
        first = fetch(connection, "GET", "/paid")
        charge, session = challenge_of(first, "charge"), challenge_of(first, "session")
        assert request_of(charge)["amount"] == "1000"
        edit(farebox, ('path = "/paid"\nprice = "0.001 USDC', 'path = "/paid"\nprice = "0.5 USDC'))
        farebox.command("reload")
        before = farebox.balance(wallet)
        response = fetch(connection, "GET", "/paid", {"Authorization": wallet.transfer(charge)})
        assert response.status == 200, response.body
        assert before - farebox.balance(wallet) == 1000
        secret = SessionSecret.new()
        assert fetch(connection, "GET", "/paid", {"Authorization": wallet.open(session, secret, 5000)}).status == 200
        assert fetch(connection, "GET", "/paid", {"Prepaid-Session": secret.short_form}).status == 200
        assert farebox.session(secret.session_id)["spent"] == "2000"
        assert request_of(challenge_of(fetch(connection, "GET", "/paid"), "charge"))["amount"] == "500000"


def test_a_stream_goes_on_with_the_route_it_began_with(farebox, upstream):
    with farebox.connection() as connection:
        connection.request("GET", "/free/drip/40")
        response = connection.head()
        assert response.status == 200
        edit(farebox, ('[[route]]\nid = "free"\nprefix = "/free/"\nfree = true\n', ""))
        os.kill(farebox.pid, signal.SIGHUP)
        wait_for_log(farebox, "configuration loaded")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with farebox.connection() as other:
                if fetch(other, "GET", "/free/echo").status == 404:
                    break
        assert b"".join(connection.chunks()) == b"d" * 40_000
        assert fetch(connection, "GET", "/free/echo").status == 404


def test_listeners_come_and_go(farebox, connection):
    path = farebox.folder / "more.sock"
    with open(farebox.configuration, "a") as file:
        file.write(f'\n[[listen]]\naddress = "unix:{path}"\nmode = "0600"\n')
    farebox.command("reload")
    assert path.is_socket() and path.stat().st_mode & 0o777 == 0o600
    text = farebox.configuration.read_text()
    farebox.configuration.write_text(text[: text.rindex("[[listen]]")])
    farebox.command("reload")
    assert not path.exists()
    assert fetch(connection, "GET", "/free/echo").status == 200
