"""The operators' commands: against a running proxy and on the ledger itself, their exit codes, and what they say when something is wrong."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from harness import Farebox, free_port, open_session
from prepaid import PrepaidWallet


@pytest.fixture
def proxy(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, workers=1)
    yield proxy
    proxy.stop()


def refused(proxy, code, status, *arguments):
    done = proxy.run(*arguments, "--json")
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    assert json.loads(done.stderr)["error"] == code


def every_command(proxy, session):
    wallet, other = PrepaidWallet.new(), PrepaidWallet.new()
    name = wallet.did
    made = proxy.command("wallet", "create", name, "--daily-cap", "2 USDC", "--max-sessions", "3", "--allow", "acme")
    assert made["policy"] == {"daily-cap": {"usdc": "2000000"}, "max-sessions": 3, "allow": ["acme"]}
    reference = f"f-{name[-8:]}"
    for repeated in (False, True):
        funded = proxy.command("wallet", "fund", name, "5 USDC", "--reference", reference)
        assert funded["balances"] == {"usdc": "5000000"} and funded["repeated"] is repeated
    refused(proxy, "reference-used", 1, "wallet", "fund", name, "6 USDC", "--reference", reference)
    refused(proxy, "insufficient-funds", 1, "wallet", "defund", name, "60 USDC", "--reference", "d" + reference)
    assert proxy.command("wallet", "defund", name, "1 USDC", "--reference", "e" + reference)["balances"]["usdc"] == "4000000"
    changed = proxy.command("wallet", "policy", name, "--daily-cap", "none", "--allow-any", "--session-cap", "1 USDC")
    assert changed["policy"] == {"session-cap": {"usdc": "1000000"}, "max-sessions": 3}
    assert proxy.command("wallet", "freeze", name)["state"] == "frozen"
    assert proxy.command("wallet", "thaw", name)["state"] == "active"
    assert proxy.command("wallet", "rekey", name, other.did)["wallet"] == other.did
    refused(proxy, "unknown-wallet", 1, "wallet", "show", name)
    assert proxy.command("wallet", "show", other.did)["balances"]["usdc"] == "4000000"
    assert other.did in [w["wallet"] for w in proxy.command("wallet", "list")["wallets"]]
    refused(proxy, "malformed-member", 64, "wallet", "show", "did:key:nonsense")

    assert session in [s["session"] for s in proxy.command("session", "list")["sessions"]]
    assert proxy.command("session", "show", session)["state"] == "open"
    closed = proxy.command("session", "close", session)
    assert closed["state"] == "closed" and closed["cause"] == "operator"
    assert int(closed["refunded"]) + int(closed["spent"]) == int(closed["deposit"])
    refused(proxy, "unknown-session", 1, "session", "close", "0" * 64)

    assert proxy.command("merchant", "list")["merchants"][0]["merchant"] == "acme"
    paid = proxy.command("merchant", "payout", "acme", "0.0005 USDC", "--reference", "p" + reference)
    assert paid["amount"] == "500" and paid["repeated"] is False
    refused(proxy, "unknown-reference", 1, "refund", "999999")
    books = proxy.command("ledger", "balance")
    assert books["balanced"] and books["currencies"][0]["sum"] == "0"
    assert proxy.command("ledger", "verify")["balanced"]
    before = len(proxy.command("keys", "list")["keys"])
    assert len(proxy.command("keys", "rotate", "receipt")["keys"]) == before + 1
    assert len(proxy.command("keys", "rotate")["keys"]) == before + 3


def test_every_command_with_and_without_a_running_proxy(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "5 USDC")
    sessions = [open_session(proxy, wallet, "/paid", 100_000).session_id for _ in range(2)]
    every_command(proxy, sessions[0])
    assert "farebox_requests_total" in proxy.metrics()
    assert int(proxy.command("metrics")["farebox_ledger_availability"]) == 2
    proxy.stop()
    every_command(proxy, sessions[1])
    refused(proxy, "not-running", 69, "metrics")
    proxy.assert_books_balance()
    # What people read has no JSON in it, and every command has it.
    for arguments in (("wallet", "list"), ("session", "list"), ("merchant", "list"), ("ledger", "balance"), ("keys", "list"), ("audit", "tail")):
        done = proxy.run(*arguments)
        assert done.returncode == 0 and done.stdout.strip() and "{" not in done.stdout, (arguments, done.stdout, done.stderr)
    proxy.start()


def test_no_command_makes_a_ledger_where_none_is(proxy):
    """Who names the wrong folder is told so, and does not fund a wallet on an empty ledger of its own."""
    before = proxy.environment
    proxy.environment = {**before, "FAREBOX_STATE": str(proxy.folder / "elsewhere")}
    name = PrepaidWallet.new().did
    for arguments in (("wallet", "create", name), ("wallet", "freeze", name), ("wallet", "list"), ("ledger", "verify"), ("keys", "list")):
        refused(proxy, "no-ledger", 66, *arguments)
    assert not (proxy.folder / "elsewhere").exists()
    proxy.environment = before


def test_a_wallet_is_frozen_while_the_configuration_is_wrong(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    good = proxy.configuration.read_text()
    proxy.configuration.write_text(good + '\nprise = "1"\n')
    done = proxy.run("wallet", "freeze", wallet.did)
    assert done.returncode == 0 and "frozen" in done.stdout and "farebox check" in done.stderr, done
    done = proxy.run("reload")
    assert done.returncode == 78 and "prise" in done.stderr and "nothing has changed" in done.stderr, done
    # A mistake that may concern the place of the socket is another thing.
    proxy.configuration.write_text("stat = 5\n" + good)
    assert proxy.run("wallet", "thaw", wallet.did).returncode == 78
    proxy.configuration.write_text(good + '\nprise = "1"\n')
    # Where none runs, nothing is done by a file that is half understood.
    proxy.stop()
    done = proxy.run("wallet", "thaw", wallet.did)
    assert done.returncode == 78 and "prise" in done.stderr, done
    proxy.configuration.write_text(good)
    assert proxy.command("wallet", "show", wallet.did)["state"] == "frozen"


def test_looking_at_a_ledger_leaves_no_trace(proxy):
    proxy.stop()
    before = proxy.audit_path.read_bytes()
    for arguments in (("wallet", "list"), ("session", "list"), ("ledger", "verify"), ("keys", "list")):
        proxy.command(*arguments)
    assert proxy.audit_path.read_bytes() == before


def test_secrets_of_serve_are_not_needed_by_other_commands(proxy):
    text = proxy.configuration.read_text()
    proxy.configuration.write_text(text + '\n[[route]]\nid = "secret"\nprefix = "/secret/"\nfree = true\ninject = [{ name = "X-Key", environment = "NOT_SET" }]\n')
    assert proxy.run("wallet", "list").returncode == 0
    done = proxy.run("check")
    assert done.returncode == 78 and "environment variable is not set" in done.stdout
    proxy.configuration.write_text(text)


def test_audit_tail_follows_through_a_rotation(proxy):
    wallet = PrepaidWallet.new()
    command = [proxy.binary, "audit", "tail", "-f", "-n", "0", "--wallet", wallet.did, "--json", "--config", str(proxy.configuration)]
    tail = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=proxy.environment)
    try:
        time.sleep(0.5)
        proxy.command("wallet", "create", wallet.did)
        assert json.loads(tail.stdout.readline())["event"] == "wallet.created"
        proxy.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while not list(proxy.state.glob("audit.jsonl.*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        proxy.command("wallet", "fund", wallet.did, "1 USDC", "--reference", "after")
        assert json.loads(tail.stdout.readline())["event"] == "wallet.funded"
    finally:
        tail.kill()
        tail.wait()
    done = proxy.run("audit", "tail", "-n", "2", "--wallet", wallet.did, "--json")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["wallet.created", "wallet.funded"]
    assert proxy.run("audit", "verify").returncode == 0


def test_audit_verify_finds_what_was_changed(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    verifier = proxy.command("keys", "list")["checkpointVerifier"]
    proxy.stop()
    whole = proxy.audit_path.read_text()
    checkpoint = [line for line in whole.splitlines() if '"event":"checkpoint"' in line][-1]
    pin = json.loads(checkpoint)["note"]
    assert proxy.run("audit", "verify", "--pin", pin).returncode == 0
    assert proxy.run("audit", "verify", "--file", str(proxy.audit_path), "--key", verifier).returncode == 0

    proxy.audit_path.write_text(whole.replace('"amount":"1000000"', '"amount":"9000000"', 1))
    done = proxy.run("audit", "verify", "--json")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert report["valid"] is False and report["defect"]["fault"] == "altered"
    number = next(i for i, line in enumerate(whole.splitlines(), 1) if '"amount":"1000000"' in line)
    assert report["defect"]["line"] == number

    lines = whole.splitlines(keepends=True)
    proxy.audit_path.write_text("".join(lines[:-3]))
    assert proxy.run("audit", "verify").returncode == 0
    done = proxy.run("audit", "verify", "--pin", pin)
    assert done.returncode == 2 and "cut off" in done.stderr
    proxy.audit_path.write_text(whole)
    assert proxy.run("audit", "verify", "--pin", "nonsense").returncode == 64
    proxy.start()


def test_what_keeps_a_proxy_from_starting(proxy, binary, tmp_path):
    """Each failure has its exit code, names what is wrong, and says what to do."""

    def serve(*arguments, status, says):
        done = subprocess.run([binary, "serve", *arguments], capture_output=True, text=True, timeout=30, env=proxy.environment)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        assert says in done.stderr, done.stderr

    configuration = str(proxy.configuration)
    elsewhere = tmp_path / "elsewhere.conf"
    elsewhere.write_text(proxy.configuration.read_text().replace(str(proxy.port), str(free_port())))
    serve(str(elsewhere), status=69, says="is in use by process")
    serve(configuration, status=69, says=f"127.0.0.1:{proxy.port} is in use")
    serve(configuration, "--state", str(tmp_path / "other"), status=69, says=f"127.0.0.1:{proxy.port} is in use")
    serve(str(tmp_path / "absent.conf"), status=66, says="a file that exists")
    wrong = tmp_path / "wrong.conf"
    wrong.write_text(proxy.configuration.read_text().replace("prefix = \"/free/\"", "prefx = \"/free/\""))
    serve(str(wrong), status=78, says="did you mean: prefix")
    serve(str(elsewhere), "--state", "/proc/farebox", status=73, says="/proc/farebox")

    proxy.stop()
    secret = proxy.state / "keys" / "challenge.secret"
    secret.chmod(0o644)
    serve(configuration, status=77, says="chmod 600")
    secret.chmod(0o600)
    secret.rename(tmp_path / "kept")
    serve(configuration, status=66, says="challenge.secret")
    (tmp_path / "kept").rename(secret)
    database = proxy.state / "ledger" / "ledger.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("PRAGMA user_version = 9999")
    serve(configuration, status=65, says="version 9999")
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    proxy.start()


def test_signals_and_log(proxy):
    proxy.process.send_signal(signal.SIGHUP)
    proxy.process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    proxy.stop()
    log = proxy.log_path.read_text()
    for words in ("msg=running", "configuration loaded", "audit log is rotated", "draining", "msg=stopped"):
        assert words in log, log
    assert "secret" not in log
    proxy.start()


def test_a_socket_left_by_a_killed_proxy_is_replaced(proxy):
    proxy.kill()
    path = proxy.state / "farebox.sock"
    assert path.exists() and path.stat().st_mode & 0o777 == 0o600
    assert proxy.run("wallet", "list").returncode == 0
    proxy.start()
    assert proxy.run("metrics").returncode == 0


def test_the_socket_speaks_http(proxy):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(proxy.state / "farebox.sock"))
        s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while chunk := s.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ") and b"ready" in answer
