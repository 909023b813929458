"""`farebox pay` and streams: when it opens sessions, what it spends and how fast, what it shows, and how it goes on where a connection was lost."""

import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import CONFIGURATION, Farebox
from test_agent import Payer
from upstream import BLOCK

OVER_MAXIMUM, OVER_RATE, CUT_SHORT = 80, 89, 18

ROUTES = """
[[route]]
id = "ticked"
prefix = "/ticked/"
price = "0.0001 USDC per event"
hold-timeout = "2 s"
minimum-deposit = "0.0001 USDC"

[[route]]
id = "ticket"
prefix = "/ticket/"
price = "0.001 USDC per request + 0.0001 USDC per event"
"""


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), upstream.port, configuration=CONFIGURATION + ROUTES)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture
def payer(farebox, tmp_path):
    return Payer(farebox, tmp_path)


def spent(payer):
    """What has left the wallet for good, its sessions closed."""
    assert payer.run("--close").returncode == 0
    return 10_000_000 - payer.balance()


# When a session is opened.


@pytest.mark.parametrize(
    "arguments,sessions",
    [
        ((), 0),
        (("-H", "Accept: text/event-stream"), 1),
        (("-H", "Accept: application/json, text/event-stream"), 1),
        (("-d", '{"model":"m","stream":true}'), 1),
        (("-d", '{"model":"m","stream":false}'), 0),
        (("-d", "stream=true"), 0),
        (("--charge", "-H", "Accept: text/event-stream"), 0),
    ],
)
def test_a_session_where_a_stream_is_asked_for(payer, arguments, sessions):
    done = payer.get("/api/echo", "--max", "0.05 USDC", *arguments)
    assert done.returncode == 0, done.stderr
    assert len(payer.sessions()) == sessions
    assert spent(payer) == 1000


def test_a_charge_where_the_least_deposit_is_too_much(payer):
    done = payer.get("/api/echo", "--max", "0.001 USDC", "-H", "Accept: text/event-stream", "-v")
    assert done.returncode == 0, done.stderr
    assert spent(payer) == 1000


# What is spent.


def test_the_budget_bounds_what_a_call_costs(payer):
    done = payer.get("/files/bytes/3000000", "--max", "1 USDC", "--budget", "0.02 USDC", "-o", "/dev/null")
    assert done.returncode == OVER_MAXIMUM and "--budget" in done.stderr, done.stderr
    assert 19_000 < spent(payer) <= 20_000
    # By itself it is the maximum too.
    done = payer.get("/files/bytes/1000000", "--budget", "0.02 USDC", "-o", "/dev/null")
    assert done.returncode == 0, done.stderr
    assert payer.get("/dear/echo", "--charge", "--budget", "0.0099 USDC").returncode == OVER_MAXIMUM


def test_a_session_that_holds_more_than_the_budget_is_left_alone(payer):
    assert payer.get("/files/bytes/10", "--session", "--deposit", "0.5 USDC").returncode == 0
    done = payer.get("/files/bytes/3000000", "--budget", "0.01 USDC", "-o", "/dev/null")
    assert done.returncode == OVER_MAXIMUM
    assert len(payer.sessions()) == 2
    assert spent(payer) <= 10_000 + 1
    # Where the price is known it may be used.
    assert payer.get("/api/echo", "--session", "--deposit", "0.5 USDC").returncode == 0
    assert payer.get("/api/echo", "--budget", "0.001 USDC").returncode == 0
    assert len(payer.sessions()) == 1


def test_top_ups_grow_or_have_the_size_that_is_asked_for(payer):
    # Without a known length the steps are the suggestion, and then twice as much each time.
    done = payer.get("/files/chunked/3000000", "-v", "--session", "--deposit", "0.001 USDC", "--step", "0.006 USDC", "--max", "1 USDC", "-o", "/dev/null")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"topped up by ([\d.]+) USDC", done.stderr) == ["0.006"] * 5
    assert spent(payer) == 30_000


def test_the_rate_bounds_a_minute(payer):
    started = time.monotonic()
    done = payer.get("/files/bytes/3000000", "--max", "1 USDC", "--rate", "0.02 USDC/min", "-o", "/dev/null")
    assert done.returncode == OVER_RATE, done.stderr
    assert "--rate is reached" in done.stderr and "0.02 a minute" in done.stderr
    assert time.monotonic() - started < 30
    assert 19_000 < spent(payer) <= 20_000
    refused = payer.get("/dear/echo", "--charge", "--max", "1 USDC", "--rate", "0.0099 USDC/min")
    assert refused.returncode == OVER_RATE and refused.stdout == ""
    assert payer.get("/dear/echo", "--charge", "--max", "1 USDC", "--rate", "0.01 USDC/min").returncode == 0


def test_amounts_are_checked(payer):
    url = payer.url("/api/echo")
    for wrong in (("--rate", "0.01 USDC"), ("--rate", "five/min"), ("--budget", "5"), ("--step", "x USDC"), ("--max", "1 USDC", "--budget", "1 EURC")):
        assert payer.run(*wrong, url).returncode == 64, wrong


# How it goes on.


@pytest.mark.parametrize("route", ["free", "ticked", "events"])
def test_an_event_stream_goes_on_where_it_broke(payer, upstream, route):
    before = len(upstream.requests)
    done = payer.get(f"/{route}/ticker/20/7", "-v", "--max", "1 USDC")
    assert done.returncode == 0, done.stderr
    asked = [dict((n.lower(), v) for n, v in r["headers"]).get("last-event-id") for r in upstream.requests[before:]]
    assert asked == [None, "7", "14"]
    assert re.findall(r"^id: (\d+)$", done.stdout, re.MULTILINE) == [str(n) for n in range(1, 21)]
    assert done.stdout.count("data: " + "x" * 100 + "\n\n") == 20 and "1000" not in done.stdout
    assert done.stderr.count("the answer broke off") == 2
    if route == "ticked":
        assert spent(payer) == 2000


def test_what_would_be_paid_again_is_not_asked_for_again(payer, upstream):
    before = len(upstream.requests)
    done = payer.get("/ticket/ticker/20/7", "--max", "1 USDC")
    assert done.returncode == CUT_SHORT, done.stderr
    assert len(upstream.requests) == before + 1
    assert spent(payer) == 1000 + 700
    assert payer.get("/api/part/5000/2000", "--charge", "--max", "1 USDC", "-o", "/dev/null").returncode == CUT_SHORT
    assert len(upstream.requests) == before + 2


@pytest.mark.parametrize("route", ["free", "files"])
def test_a_download_goes_on_by_range(payer, upstream, tmp_path, route):
    before = len(upstream.requests)
    done = payer.get(f"/{route}/part/1000000/400000", "-v", "--max", "1 USDC", "-o", str(tmp_path / "file"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == (BLOCK * 16)[:1_000_000]
    asked = [dict((n.lower(), v) for n, v in r["headers"]).get("range") for r in upstream.requests[before:]]
    assert asked == [None, "bytes=400000-", "bytes=800000-"]
    assert spent(payer) == (10_000 if route == "files" else 0)


def test_a_download_without_a_tag_is_cut_short(payer, upstream):
    before = len(upstream.requests)
    done = payer.get("/files/cut/100000", "--max", "1 USDC", "--json", "-o", "/dev/null")
    assert done.returncode == CUT_SHORT and len(upstream.requests) == before + 1
    summary = json.loads(done.stdout)
    assert summary["payment"] == "session-opened" and summary["bytes"] < 100_000, "what was paid is told all the same"


class BreakingLine:
    """A line between client and proxy that breaks after so many octets of a stream or file, the first `breaks` times."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target, self.breaks, self.limit = None, 0, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        passed = None
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            while ready := select.select([client, server], [], [], 20)[0]:
                for source in ready:
                    octets = source.recv(65536)
                    if not octets:
                        return
                    if source is client:
                        server.sendall(octets)
                        continue
                    if passed is None and self.breaks and (b"text/event-stream" in octets or b"octet-stream" in octets):
                        passed = 0
                    if passed is None:
                        client.sendall(octets)
                        continue
                    client.sendall(octets[: self.limit - passed])
                    passed += len(octets)
                    if passed >= self.limit:
                        self.breaks -= 1
                        time.sleep(0.05)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return


@pytest.fixture(scope="module")
def line(binary, upstream, tmp_path_factory):
    line = BreakingLine()
    configuration = CONFIGURATION.replace('origin = "http://127.0.0.1:{port}"', f'origin = "http://127.0.0.1:{line.port}"')
    proxy = Farebox(binary, tmp_path_factory.mktemp("line"), upstream.port, configuration=configuration + ROUTES)
    line.target = proxy.port
    proxy.origin = f"http://127.0.0.1:{line.port}"
    yield line, proxy
    line.listener.close()
    proxy.stop()
    proxy.assert_books_balance()


def test_a_lost_line_in_an_event_stream(line, tmp_path):
    line, proxy = line
    payer = Payer(proxy, tmp_path)
    line.breaks, line.limit = 3, 1500
    done = payer.get("/ticked/ticker/40/100", "--max", "1 USDC")
    assert done.returncode == 0 and line.breaks == 0, done.stderr
    assert re.findall(r"^id: (\d+)$", done.stdout, re.MULTILINE) == [str(n) for n in range(1, 41)]
    assert len(payer.sessions()) == 1, "the session survives"
    # What was handed to a connection that broke is paid: at most all of it, each time.
    assert 4000 <= spent(payer) <= 4 * 4000


def test_a_lost_line_in_a_download(line, tmp_path):
    line, proxy = line
    payer = Payer(proxy, tmp_path)
    line.breaks, line.limit = 2, 300_000
    done = payer.get("/files/part/1000000/1000000", "--max", "1 USDC", "-o", str(tmp_path / "file"))
    assert done.returncode == 0 and line.breaks == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == (BLOCK * 16)[:1_000_000]
    assert len(payer.sessions()) == 1
    assert 10_000 <= spent(payer) <= 3 * 10_000


@pytest.mark.parametrize("kind", ["--charge", "--session"])
def test_a_lost_line_in_the_answer_to_a_post(line, tmp_path, upstream, kind):
    """It is asked for again by its `Idempotency-Key`, which `farebox pay` makes up; the upstream runs once, and is paid once."""
    line, proxy = line
    payer = Payer(proxy, tmp_path)
    before = len(upstream.requests)
    line.breaks, line.limit = 1, 20_000
    done = payer.get("/api/bytes/50000", kind, "--max", "1 USDC", "-d", "order=1", "-o", str(tmp_path / "file"))
    assert done.returncode == 0 and line.breaks == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == BLOCK[:50_000]
    assert len(upstream.requests) == before + 1
    assert spent(payer) == 1000


# What it shows.


def shown(payer, *arguments):
    """What stands on the terminal while the body goes to a file."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([payer.farebox.binary, "pay", *arguments], stdout=subprocess.DEVNULL, stderr=follower, env=payer.environment)
    os.close(follower)
    text = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            octets = os.read(leader, 65536)
        except OSError:
            break
        if not octets:
            break
        text += octets
    os.close(leader)
    assert process.wait(30) == 0, text
    return text.decode()


def test_the_terminal_shows_units_spent_and_left(payer):
    text = shown(payer, "--session", "--deposit", "0.1 USDC", "-o", "/dev/null", payer.url("/ticked/events/20"))
    assert "22 events" in text and "spent 0.0022" in text and "left 0.0978 USDC" in text
    text = shown(payer, "--session", "--deposit", "0.1 USDC", "-o", "/dev/null", payer.url("/api/echo"))
    assert "1 request " in text and "spent 0.0032 " in text
    text = shown(payer, "--session", "--deposit", "0.1 USDC", "-o", "/dev/null", payer.url("/files/bytes/1000000"))
    assert "100%" in text and "1.0 MB of 1.0 MB" in text and "spent 0.0132 " in text


def test_the_summary_has_the_units(payer):
    done = payer.get("/ticked/events/20", "--json", "--session", "--deposit", "0.1 USDC", "-o", "/dev/null")
    summary = json.loads(done.stdout)
    assert summary["units"] == {"events": "22"} and summary["spent"] == "2200"
