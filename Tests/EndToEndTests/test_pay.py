"""`farebox pay` end to end: the agent's command against a real proxy, as a person or a script uses it."""

import json
import os
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

OVER_MAXIMUM, REFUSED_BY_POLICY, NOT_PAYABLE, HTTP_ERROR, CUT_SHORT = 80, 81, 83, 22, 18


@pytest.fixture
def agent(farebox, tmp_path):
    """An agent with a folder, a key and a funded wallet of its own; called with arguments, it runs `farebox pay`."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}

    def pay(*arguments, input=None):
        command = [farebox.binary, "pay", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=60, env=environment, input=input)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr.decode())

    did = pay("--new-key").out.decode().strip()
    farebox.create_wallet(SimpleNamespace(did=did), "5 USDC")
    pay.did = did
    pay.environment = environment
    pay.folder = tmp_path / "config" / "farebox"
    return pay


def test_the_key_is_private_and_never_overwritten(agent):
    assert agent.did.startswith("did:key:z6Mk")
    assert (agent.folder / "wallet.key").stat().st_mode & 0o777 == 0o600
    assert agent.folder.stat().st_mode & 0o777 == 0o700
    again = agent("--new-key")
    assert again.code != 0 and b"did:key" not in again.out


def test_nothing_is_paid_unasked(farebox, agent):
    assert agent(f"{farebox.origin}/free/echo").code == 0
    quote = agent("--quote", f"{farebox.origin}/api/echo")
    assert quote.code == 0 and b"0.001 USDC" in quote.out and b"verified" in quote.out
    bare = agent(f"{farebox.origin}/api/echo")
    assert bare.code == OVER_MAXIMUM and "0.001 USDC" in bare.err and bare.out == b""
    assert agent("--max", "0.0009 USDC", f"{farebox.origin}/api/echo").code == OVER_MAXIMUM
    assert farebox.balance(agent) == 5_000_000


@pytest.mark.parametrize("path", ["/api/echo?a=%7eb", "/header/echo"])
def test_a_charge_brings_answer_and_verified_receipt(farebox, agent, path):
    done = agent("-v", "--charge", "--max", "0.001 USDC", f"{farebox.origin}{path}")
    assert done.code == 0, done.err
    assert "invoice verified" in done.err and "signature verified" in done.err
    assert farebox.balance(agent) == 5_000_000 - 1000


def test_a_post_with_its_content(farebox, agent, upstream, tmp_path):
    (tmp_path / "data").write_bytes(b"a=\r\n1")
    done = agent("--charge", "--max", "1 USDC", "-d", f"@{tmp_path}/data", "-d", "b=2", f"{farebox.origin}/digest/echo")
    assert done.code == 0, done.err
    assert upstream.last()["body"] == b"a=1&b=2" and upstream.last()["method"] == "POST"
    done = agent("--charge", "--max", "1 USDC", "--data-binary", "@-", f"{farebox.origin}/api/echo", input=b"x\n")
    assert done.code == 0 and upstream.last()["body"] == b"x\n"


def test_an_error_of_the_upstream_costs_nothing(farebox, agent):
    done = agent("--charge", "--max", "1 USDC", f"{farebox.origin}/api/status/404")
    assert done.code == HTTP_ERROR and done.out == b'{"status":404}'
    assert farebox.balance(agent) == 5_000_000


def test_a_session_runs_dry_tops_up_and_is_refunded(farebox, agent, tmp_path):
    url, body = f"{farebox.origin}/files/bytes/3000000", tmp_path / "body"
    done = agent("-v", "--session", "--deposit", "0.015 USDC", "--max", "0.1 USDC", "-o", str(body), url)
    assert done.code == 0, done.err
    assert "topped up" in done.err and body.stat().st_size == 3_000_000 and done.out == b""
    report = json.loads(agent("--wallet", "--json", farebox.origin).out)
    assert [s["spent"] for s in report["sessions"]] == ["30000"]
    closed = json.loads(agent("--close", "--json", farebox.origin).out)
    assert [c["spent"] for c in closed] == ["30000"] and closed[0]["receipt"]
    assert farebox.balance(agent) == 5_000_000 - 30_000
    assert agent("--close", farebox.origin).out == b"no kept session\n"


def test_a_session_stops_at_the_maximum(farebox, agent, tmp_path):
    url, body = f"{farebox.origin}/files/bytes/3000000", tmp_path / "body"
    done = agent("--session", "--max", "0.02 USDC", "-o", str(body), url)
    assert done.code == OVER_MAXIMUM, done.err
    assert body.stat().st_size == 2_000_000
    agent("--close")
    assert farebox.balance(agent) == 5_000_000 - 20_000


def test_an_event_stream_is_topped_up(farebox, agent):
    done = agent("--session", "--deposit", "0.001 USDC", "--max", "1 USDC", f"{farebox.origin}/events/events/200")
    assert done.code == 0, done.err
    assert b"event: payment-need-topup" in done.out and b"event: payment-receipt" in done.out


def test_an_open_session_is_used_again(farebox, agent):
    url = f"{farebox.origin}/api/echo"
    assert agent("--session", "--deposit", "0.01 USDC", url).code == 0
    for _ in range(3):
        assert agent("-s", url).code == 0
    # A second terminal at the same time does no harm.
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(agent("-s", url).code)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4
    closed = json.loads(agent("--close", "--json").out)
    assert [(c["spent"], c["refunded"]) for c in closed] == [("8000", "2000")]


def test_the_policy_is_told(farebox, agent):
    farebox.command("wallet", "policy", agent.did, "--daily-cap", "0.0005 USDC")
    for kind in ("--charge", "--session"):
        done = agent(kind, "--max", "1 USDC", f"{farebox.origin}/api/echo")
        assert done.code == REFUSED_BY_POLICY and "daily-cap" in done.err
    report = agent("--wallet", farebox.origin)
    assert b"daily-cap" in report.out and b"5 USDC" in report.out


def test_what_cannot_be_paid(farebox, agent, tmp_path):
    assert agent("--charge", "--max", "1 USDC", f"{farebox.origin}/files/bytes/10").code == NOT_PAYABLE
    (tmp_path / "none").mkdir()
    stranger = {**agent.environment, "XDG_CONFIG_HOME": str(tmp_path / "none")}
    command = [farebox.binary, "pay", "--max", "1 USDC", f"{farebox.origin}/api/echo"]
    assert subprocess.run(command, capture_output=True, env=stranger).returncode == NOT_PAYABLE


def test_a_body_that_breaks_is_told(farebox, agent, tmp_path):
    done = agent("--charge", "--max", "1 USDC", "-o", str(tmp_path / "body"), f"{farebox.origin}/api/cut/100000")
    assert done.code == CUT_SHORT


def test_a_kill_in_the_middle_is_paid_once(farebox, agent, upstream):
    url = f"{farebox.origin}/api/slow/1000"
    before = upstream.count("/api/slow/1000")
    result = []
    thread = threading.Thread(target=lambda: result.append(agent("--charge", "--max", "1 USDC", "-X", "POST", url)))
    thread.start()
    deadline = time.monotonic() + 10
    while upstream.count("/api/slow/1000") == before and time.monotonic() < deadline:
        time.sleep(0.01)
    farebox.kill()
    farebox.start()
    thread.join()
    assert result[0].code == 0, result[0].err
    assert farebox.balance(agent) == 5_000_000 - 1000
