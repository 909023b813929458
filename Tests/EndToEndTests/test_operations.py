"""What operators do and get wrong: starting, checking, the commands with and without a running proxy, keys, metrics, following the log."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest

from harness import CONFIGURATION, CommandFailed, Farebox, challenge_of, fetch, open_session, request_of
from prepaid import PrepaidWallet, SessionSecret, b64u

PRICE = 1000
PATH = "/api/echo"
REFUSED, FAULTY, USAGE, DAMAGED, NO_INPUT, UNAVAILABLE, CANNOT_CREATE, IO_ERROR, NOT_PERMITTED, WRONG = 1, 2, 64, 65, 66, 69, 73, 74, 77, 78


def pay(proxy, wallet, path=PATH, method="GET"):
    with proxy.connection() as c:
        value = wallet.transfer(challenge_of(fetch(c, method, path), "charge"))
        return fetch(c, method, path, {"Authorization": value})


def serve(proxy, configuration=None, seconds=20, environment=None, user=None):
    """Runs `farebox serve` to its end, which must come by itself."""
    command = [proxy.binary, "serve", str(configuration or proxy.configuration)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, user=user)
    except subprocess.TimeoutExpired:
        pytest.fail("it should not have started")


@pytest.fixture
def stopped(binary, upstream, tmp_path):
    """A proxy that has run once and stopped."""
    proxy = Farebox(binary, tmp_path, upstream.port)
    proxy.stop()
    yield proxy
    proxy.stop()


# MARK: starting


def test_second_proxy_on_the_same_ledger_is_refused(farebox, tmp_path):
    other = tmp_path / "other.conf"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    other.write_text(farebox.configuration.read_text().replace(f":{farebox.port}", f":{port}"))
    done = serve(farebox, other)
    assert done.returncode == UNAVAILABLE
    assert "in use" in done.stderr and str(farebox.pid) in done.stderr and str(farebox.state) in done.stderr, done.stderr
    with farebox.connection() as c:
        assert fetch(c, "GET", "/free/echo").status == 200
    assert farebox.command("wallet", "list") is not None, "the first one's socket is still there"


def test_port_in_use(stopped):
    before = {path: path.stat().st_mtime_ns for path in stopped.state.rglob("*")}
    with socket.create_server(("127.0.0.1", stopped.port)):
        done = serve(stopped)
        assert done.returncode == UNAVAILABLE
        assert f"127.0.0.1:{stopped.port}" in done.stderr and "in use" in done.stderr, done.stderr
        assert {path: path.stat().st_mtime_ns for path in stopped.state.rglob("*")} == before, "neither ledger nor audit log was touched"
    stopped.start()


@pytest.mark.parametrize("name", ["challenge.secret", "receipt.key", "checkpoint.key"])
def test_missing_key_file(stopped, name):
    key = stopped.state / "keys" / name
    octets = key.read_bytes()
    key.unlink()
    done = serve(stopped)
    assert done.returncode == NO_INPUT and str(key) in done.stderr and "backup" in done.stderr, done.stderr
    assert not key.exists(), "no new key takes the place of one that was lost"
    key.write_bytes(octets)
    key.chmod(0o600)
    stopped.start()


def test_key_file_that_others_may_read(stopped):
    key = stopped.state / "keys" / "receipt.key"
    key.chmod(0o640)
    done = serve(stopped)
    assert done.returncode == NOT_PERMITTED and str(key) in done.stderr and "chmod 600" in done.stderr, done.stderr
    key.chmod(0o600)
    stopped.start()


def test_damaged_key_file_names_the_line_and_not_the_key(stopped):
    key = stopped.state / "keys" / "receipt.key"
    text = key.read_text()
    key.write_text(text.replace(text.splitlines()[1][:5], "!!!!!"))
    done = serve(stopped)
    assert done.returncode == DAMAGED and str(key) in done.stderr
    assert text.splitlines()[1][10:30] not in done.stderr + done.stdout


def assert_private(folder):
    modes = {path.relative_to(folder): path.lstat().st_mode for path in [folder, *folder.rglob("*")]}
    wrong = {str(path): oct(mode) for path, mode in modes.items() if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)}
    assert not wrong
    return {str(path) for path in modes}


def test_created_files_are_private(binary, upstream, tmp_path):
    """Nobody else may read or connect to anything in the state folder, however wide the mask is that the process was started with."""
    proxy = Farebox(binary, tmp_path / "served", upstream.port, prefix=["sh", "-c", 'umask 0; exec "$@"', "sh"])
    proxy.create_wallet(PrepaidWallet.new(), "1 USDC")
    proxy.process.send_signal(signal.SIGUSR1)
    assert proxy.command("keys", "rotate", "receipt")
    proxy.settle_log()
    names = assert_private(proxy.state)
    assert {"keys/receipt.key", "farebox.sock", "audit.jsonl", "ledger"} <= names and len(list(proxy.state.glob("audit*"))) > 1, names
    proxy.stop()
    assert_private(proxy.state)
    # A command that finds no proxy works on the files itself.
    (proxy.state / "ledger" / "ledger.reserve").unlink()
    (proxy.state / "ledger" / "ledger.lock").unlink()
    done = subprocess.run(
        ["sh", "-c", 'umask 0; exec "$@"', "sh", proxy.binary, "wallet", "create", PrepaidWallet.new().did, "--config", str(proxy.configuration)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"keys/receipt.key", "audit.jsonl", "ledger/ledger.lock"} <= assert_private(proxy.state)


def test_read_only_folder(stopped, tmp_path):
    """As root nothing is read-only by its mode, so there a read-only file system says no."""
    if os.geteuid() != 0:
        stopped.state.chmod(0o500)
        (stopped.state / "ledger").chmod(0o500)
        done = serve(stopped)
        stopped.state.chmod(0o700)
        (stopped.state / "ledger").chmod(0o700)
    else:
        folder = stopped.state
        if subprocess.run(["mount", "--bind", str(folder), str(folder)]).returncode != 0:
            pytest.skip("file systems cannot be mounted here")
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            done = serve(stopped)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    assert done.returncode in (CANNOT_CREATE, IO_ERROR), done.stderr
    assert str(stopped.state) in done.stderr and ("Read-only" in done.stderr or "Permission" in done.stderr), done.stderr
    stopped.start()


def test_ledger_of_a_newer_version(stopped):
    path = stopped.state / "ledger" / "ledger.db"
    with sqlite3.connect(path) as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute(f"PRAGMA user_version = {version + 1}")
    database.close()
    octets = path.read_bytes()
    done = serve(stopped)
    assert done.returncode == DAMAGED and f"version {version + 1}" in done.stderr and "newer" in done.stderr, done.stderr
    assert stopped.run("wallet", "list").returncode == DAMAGED
    assert path.read_bytes() == octets, "it was touched"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    stopped.start()


def test_files_that_are_no_ledger(stopped):
    path = stopped.state / "ledger" / "ledger.db"
    kept = path.read_bytes()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"This is no database, but a text that is long enough to be looked at. " * 200)
    done = serve(stopped)
    assert done.returncode in (DAMAGED, IO_ERROR) and "ledger" in done.stderr, done.stderr
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipes(name TEXT)")
    database.close()
    done = serve(stopped)
    assert done.returncode == DAMAGED and "no ledger" in done.stderr, done.stderr
    path.write_bytes(kept)
    stopped.start()


def test_an_old_copy_of_the_ledger_beside_a_newer_log(stopped, tmp_path):
    shutil.copytree(stopped.state / "ledger", tmp_path / "backup")
    stopped.start()
    wallet = PrepaidWallet.new()
    stopped.create_wallet(wallet, "1 USDC")
    stopped.stop()
    shutil.rmtree(stopped.state / "ledger")
    shutil.copytree(tmp_path / "backup", stopped.state / "ledger")
    done = serve(stopped)
    assert done.returncode == DAMAGED and "audit" in done.stderr and "old copy" in done.stderr, done.stderr
    stopped.audit_path.rename(tmp_path / "newer.jsonl")


# MARK: the configuration


def check(proxy, text, folder, *arguments, environment=None):
    path = folder / "checked.conf"
    path.write_text(text)
    return subprocess.run([proxy.binary, "check", str(path), *arguments], capture_output=True, text=True, env=environment)


def sound(proxy):
    return proxy.configuration.read_text()


@pytest.mark.parametrize("wrong,right,words", [
    ('prise = "0.001 USDC per request"', 'price = "0.001 USDC per request"', ["unknown key", "price"]),
    ('[rate-limit]', "[rate-limits]", ["unknown key", "rate-limits"]),
    ('price = "0.001 USD per request"', 'price = "0.001 USDC per request"', ["USDC"]),
    ('price = "0.001 USDC pro request"', 'price = "0.001 USDC per request"', ["per"]),
    ('header-read = "2 parsecs"', 'header-read = "2 s"', ['"2 parsecs"', "30 s"]),
    ('decimals = 99', "decimals = 6", ["99", "0 to 30"]),
    ('workers = "two"', None, ["workers", "whole number"]),
    ('address = "localhost:1"', None, ["localhost", "127.0.0.1"]),
    ('url = "htp://127.0.0.1:1"', None, ["url"]),
    ('id = "free"\nfree = "yes"', 'id = "free"\nprefix = "/free/"\nfree = true', ["free"]),
])
def test_typos_are_named_with_place_and_remedy(farebox, tmp_path, wrong, right, words):
    text = sound(farebox)
    name = wrong.split(" ")[0]
    right = right or next(line for line in text.splitlines() if line.startswith(name + " "))
    assert right in text
    text = text.replace(right, wrong, 1)
    number = next(n for n, line in enumerate(text.splitlines(), 1) if line == wrong.splitlines()[-1])
    done = check(farebox, text, tmp_path)
    assert done.returncode == WRONG
    output = done.stdout + done.stderr
    assert re.search(rf"checked\.conf:{number}:\d+: error: ", output), output
    for word in words:
        assert word in output, (word, output)
    served = serve(farebox, tmp_path / "checked.conf")
    assert served.returncode == WRONG and f"checked.conf:{number}:" in served.stderr, served.stderr
    report = json.loads(check(farebox, text, tmp_path, "--json").stdout)
    assert report["valid"] is False
    assert any(d["line"] == number and d["column"] >= 1 for d in report["diagnostics"]), report


def test_check_explains_and_changes_nothing(farebox, tmp_path):
    text = sound(farebox).replace(f'state = "{farebox.state}"', f'state = "{tmp_path}/fresh"')
    done = check(farebox, text, tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("valid", "127.0.0.1", "/api/", "0.001 USDC per request", "0.01 USDC per MB", "free", "acme", "audit.jsonl"):
        assert word in done.stdout, (word, done.stdout)
    assert not (tmp_path / "fresh").exists()
    report = json.loads(check(farebox, text, tmp_path, "--json").stdout)
    assert report["valid"] is True and report["diagnostics"] == []


def test_missing_and_broken_files(farebox, tmp_path):
    done = subprocess.run([farebox.binary, "check", str(tmp_path / "missing.conf")], capture_output=True, text=True)
    assert done.returncode == NO_INPUT and "missing.conf" in done.stdout + done.stderr
    done = check(farebox, "realm = \n", tmp_path)
    assert done.returncode == WRONG and re.search(r"checked\.conf:1:\d+", done.stdout + done.stderr)
    assert serve(farebox, tmp_path / "missing.conf").returncode == NO_INPUT
    done = subprocess.run([farebox.binary, "wallet", "list"], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "FAREBOX_CONFIG": ""})
    assert done.returncode == NO_INPUT and "--config" in done.stderr


def test_the_shipped_example_is_valid(farebox, tmp_path):
    example = Path(__file__).parents[2] / "proxy.conf.example"
    done = subprocess.run([farebox.binary, "check", str(example), "--state", str(tmp_path / "s")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


SECRET = "sk-live-4f9a8b7c6d5e"


def test_secrets_are_injected_and_never_printed(binary, upstream, tmp_path):
    (tmp_path / "upstream.key").write_text(SECRET + "-file\n")
    (tmp_path / "upstream.key").chmod(0o600)
    inject = 'id = "api"\ninject = [{ name = "Authorization", environment = "UPSTREAM_KEY", prefix = "Bearer " }, { name = "X-Key", file = "upstream.key" }, { name = "X-Plain", value = "' + SECRET + '-plain" }]'
    # TOML's braces and Python's format meet here.
    configuration = CONFIGURATION.replace('id = "api"', inject.replace("{", "{{").replace("}", "}}"))
    environment = {"UPSTREAM_KEY": SECRET + "-environment"}
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration, environment=environment)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    response = pay(proxy, wallet)
    assert response.status == 200
    seen = {name.lower(): value for name, value in upstream.last()["headers"]}
    assert seen["authorization"] == f"Bearer {SECRET}-environment" and seen["x-key"] == SECRET + "-file" and seen["x-plain"] == SECRET + "-plain"
    outputs = [subprocess.run([binary, "check", str(proxy.configuration), *flags], capture_output=True, text=True, env=proxy.environment) for flags in ((), ("--json",))]
    assert all(done.returncode == 0 for done in outputs)
    # A configuration that is wrong elsewhere does not quote secrets either.
    wrong = check(proxy, proxy.configuration.read_text() + "\nnonsense = 1\n", tmp_path, environment=proxy.environment)
    missing = subprocess.run([binary, "check", str(proxy.configuration)], capture_output=True, text=True)
    assert wrong.returncode == WRONG and missing.returncode == WRONG and "UPSTREAM_KEY" in missing.stdout + missing.stderr
    proxy.stop()
    texts = [done.stdout + done.stderr for done in [*outputs, wrong, missing]]
    texts += [proxy.log_path.read_text(), proxy.audit_path.read_text()]
    assert not any(SECRET in text for text in texts)
    assert SECRET not in json.dumps(pay_headers(response))
    proxy.assert_books_balance()


def pay_headers(response):
    return [response.headers, response.receipt()]


# MARK: the commands, with and without a running proxy


@pytest.fixture(params=["running", "stopped"])
def place(request, binary, upstream, tmp_path):
    """Where commands do their work: the running proxy, or the ledger itself."""
    proxy = Farebox(binary, tmp_path, upstream.port)
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    reference = pay(proxy, wallet).receipt()["reference"]
    secret = open_session(proxy, wallet, PATH, 100_000)
    if request.param == "stopped":
        proxy.stop()
    yield proxy, wallet, reference, secret
    proxy.stop()
    proxy.assert_books_balance()


def refused(proxy, code, *arguments, status=REFUSED):
    """A command that must fail with this exit status and error code, in words and as JSON."""
    words = proxy.run(*arguments)
    assert words.returncode == status and words.stderr.startswith("farebox: ") and words.stdout == "", (arguments, words)
    done = proxy.run(*arguments, "--json")
    error = json.loads(done.stderr)
    assert done.returncode == status and error["error"] == code and error["message"] and done.stdout == "", (arguments, done)


def test_wallet_commands(place):
    proxy, wallet, _, _ = place
    new = PrepaidWallet.new()
    created = proxy.command("wallet", "create", new.did, "--daily-cap", "5 USDC", "--max-sessions", "3", "--allow", "acme", "--expires", "2099-01-01T00:00:00Z")
    assert created["wallet"] == new.did and created["state"] == "active" and created["balances"] == {"usdc": "0"}
    assert created["policy"]["daily-cap"] == {"usdc": "5000000"} and created["policy"]["max-sessions"] == 3 and created["policy"]["allow"] == ["acme"]
    refused(proxy, "wallet-exists", "wallet", "create", new.did)
    refused(proxy, "malformed-member", "wallet", "create", "did:key:nonsense", status=USAGE)

    funded = proxy.command("wallet", "fund", new.did, "2.5 USDC", "--reference", "bank-1")
    assert funded["balances"]["usdc"] == "2500000" and funded["repeated"] is False
    again = proxy.command("wallet", "fund", new.did, "2.5 USDC", "--reference", "bank-1")
    assert again["balances"]["usdc"] == "2500000" and again["repeated"] is True
    refused(proxy, "reference-used", "wallet", "fund", new.did, "3 USDC", "--reference", "bank-1")
    refused(proxy, "reference-used", "wallet", "fund", wallet.did, "2.5 USDC", "--reference", "bank-1")
    for amount in ("2.5", "2.5 EURC", "-1 USDC", "0 USDC", "0.0000001 USDC", "1e3 USDC", "9" * 60 + " USDC"):
        assert proxy.run("wallet", "fund", "--reference", "bad", new.did, "--", amount).returncode in (USAGE, REFUSED), amount
    refused(proxy, "unknown-wallet", "wallet", "fund", PrepaidWallet.new().did, "1 USDC", "--reference", "bank-2")

    refused(proxy, "insufficient-funds", "wallet", "defund", new.did, "2.500001 USDC", "--reference", "back-1")
    taken = proxy.command("wallet", "defund", new.did, "1 USDC", "--reference", "back-2")
    assert taken["balances"]["usdc"] == "1500000"
    assert proxy.command("wallet", "defund", new.did, "1 USDC", "--reference", "back-2")["repeated"] is True

    changed = proxy.command("wallet", "policy", new.did, "--daily-cap", "none", "--payment-cap", "0.5 USDC")
    assert "daily-cap" not in changed["policy"] and changed["policy"]["payment-cap"] == {"usdc": "500000"} and changed["policy"]["max-sessions"] == 3
    assert proxy.run("wallet", "policy", new.did).returncode == USAGE
    assert proxy.command("wallet", "freeze", new.did)["state"] == "frozen"
    assert proxy.command("wallet", "freeze", new.did)["state"] == "frozen", "twice is no error"
    assert proxy.command("wallet", "thaw", new.did)["state"] == "active"
    shown = proxy.command("wallet", "show", new.did)
    assert shown["balances"] == {"usdc": "1500000"} and shown["sessions"] == []
    refused(proxy, "unknown-wallet", "wallet", "show", PrepaidWallet.new().did)
    listed = {w["wallet"]: w for w in proxy.command("wallet", "list")["wallets"]}
    assert set(listed) == {wallet.did, new.did} and listed[new.did] == {k: v for k, v in shown.items()}
    text = proxy.run("wallet", "show", new.did).stdout
    assert "1.5 USDC" in text and "0.5 USDC" in text
    assert new.did in proxy.run("wallet", "list").stdout
    assert proxy.run("wallet", "nonsense").returncode == USAGE


def test_session_commands(place):
    proxy, wallet, _, secret = place
    listed = proxy.command("session", "list")["sessions"]
    assert [s["session"] for s in listed] == [secret.session_id]
    assert proxy.command("session", "list", "--wallet", PrepaidWallet.new().did)["sessions"] == []
    shown = proxy.command("session", "show", secret.session_id)
    expected = {"state": "open", "deposit": "100000", "spent": str(PRICE), "remaining": str(100_000 - PRICE), "wallet": wallet.did, "currency": "usdc", "merchant": "acme"}
    assert {name: shown[name] for name in expected} == expected
    assert "0.099 USDC" in proxy.run("session", "show", secret.session_id).stdout
    refused(proxy, "unknown-session", "session", "show", "0" * 64)
    refused(proxy, "unknown-session", "session", "close", "0" * 64)
    refused(proxy, "malformed-member", "session", "show", "short", status=USAGE)
    closed = proxy.command("session", "close", secret.session_id)
    assert closed["state"] == "closed" and closed["refunded"] == str(100_000 - PRICE) and closed["spent"] == str(PRICE)
    assert proxy.command("session", "close", secret.session_id) == closed, "once more is the same answer"
    assert proxy.command("session", "show", secret.session_id)["state"] == "closed"
    assert proxy.command("session", "list")["sessions"] == []
    assert proxy.balance(wallet) == 1_000_000 - 2 * PRICE


def test_merchant_refund_and_ledger_commands(place):
    proxy, wallet, reference, secret = place
    [acme] = proxy.command("merchant", "list")["merchants"]
    assert acme["merchant"] == "acme" and int(acme["balances"]["usdc"]) in (PRICE, 2 * PRICE)
    before = proxy.balance(wallet)
    assert proxy.command("refund", reference)["reference"] == reference
    assert proxy.balance(wallet) == before + PRICE
    refused(proxy, "already-refunded", "refund", reference)
    refused(proxy, "unknown-reference", "refund", "987654321")
    refused(proxy, "malformed-member", "refund", "abc", status=USAGE)
    assert proxy.balance(wallet) == before + PRICE
    proxy.command("session", "close", secret.session_id)
    [acme] = proxy.command("merchant", "list")["merchants"]
    assert acme["balances"]["usdc"] == str(PRICE)
    refused(proxy, "insufficient-funds", "merchant", "payout", "acme", "0.001001 USDC", "--reference", "out-0")
    refused(proxy, "unknown-merchant", "merchant", "payout", "nobody", "0.001 USDC", "--reference", "out-0")
    paid = proxy.command("merchant", "payout", "acme", "0.0004 USDC", "--reference", "out-1")
    assert paid["repeated"] is False and paid["amount"] == "400"
    assert proxy.command("merchant", "payout", "acme", "0.0004 USDC", "--reference", "out-1")["repeated"] is True
    refused(proxy, "reference-used", "merchant", "payout", "acme", "0.0005 USDC", "--reference", "out-1")
    # Nothing is left for a refund of what was paid out.
    for arguments in (("ledger", "balance"), ("ledger", "verify")):
        books = proxy.command(*arguments)
        [usdc] = books["currencies"]
        assert books["balanced"] is True and usdc["sum"] == "0" and usdc["paidOut"] == "400" and usdc["issued"] == "1000000"
        assert int(usdc["wallets"]) + int(usdc["sessions"]) + int(usdc["held"]) + int(usdc["merchants"]) + int(usdc["paidOut"]) == int(usdc["issued"])
    assert "sum" in proxy.run("ledger", "balance").stdout


def test_refund_of_what_the_merchant_was_paid_out_is_refused(place):
    proxy, wallet, reference, secret = place
    proxy.command("session", "close", secret.session_id)
    proxy.command("merchant", "payout", "acme", "0.002 USDC", "--reference", "all")
    refused(proxy, "insufficient-funds", "refund", reference)


def test_keys_commands(place):
    proxy, _, _, _ = place
    before = proxy.command("keys", "list")
    assert {key["kind"] for key in before["keys"]} == {"challenge", "receipt", "checkpoint"}
    assert all(key["current"] for key in before["keys"])
    assert re.fullmatch(r"127\.0\.0\.1/audit\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", before["checkpointVerifier"])
    after = proxy.command("keys", "rotate", "receipt")
    receipts = [key for key in after["keys"] if key["kind"] == "receipt"]
    assert [key["current"] for key in receipts] == [True, False]
    assert receipts[1]["kid"] == next(k["kid"] for k in before["keys"] if k["kind"] == "receipt")
    assert len([k for k in proxy.command("keys", "rotate")["keys"] if k["kind"] == "receipt"]) == 3
    assert proxy.run("keys", "rotate", "checkpoint").returncode == USAGE
    assert after["checkpointVerifier"] == before["checkpointVerifier"]
    secrets = [line.split()[0] for path in (proxy.state / "keys").iterdir() if path.name != "receipt.retired" for line in path.read_text().splitlines()[1:]]
    text = json.dumps(after) + proxy.run("keys", "list").stdout
    assert secrets and not any(secret in text for secret in secrets)


def test_commands_wait_for_a_proxy_that_is_just_starting(stopped):
    wallet = PrepaidWallet.new()
    for _ in range(3):
        with open(stopped.log_path, "ab") as log:
            stopped.process = subprocess.Popen([stopped.binary, "serve", str(stopped.configuration)], stdout=log, stderr=log)
        assert stopped.run("wallet", "list").returncode == 0
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with stopped.connection() as c:
                    if fetch(c, "GET", "/readyz").status == 200:
                        break
            except OSError:
                time.sleep(0.02)
        stopped.process.terminate()
        assert stopped.process.wait(timeout=20) == 0
    stopped.command("wallet", "create", wallet.did)


def test_many_wallets_are_listed_whole(farebox):
    wallets = [PrepaidWallet.new() for _ in range(30)]
    for wallet in wallets:
        farebox.command("wallet", "create", wallet.did)
    assert {w.did for w in wallets} <= {w["wallet"] for w in farebox.command("wallet", "list")["wallets"]}


# MARK: what commands do to those who pay


def test_policy_changes_bind_the_next_payment(farebox, wallet):
    assert pay(farebox, wallet).status == 200
    farebox.command("wallet", "policy", wallet.did, "--payment-cap", "0.0005 USDC")
    response = pay(farebox, wallet)
    assert response.status == 403 and "payment-cap" in response.json()["detail"]
    farebox.command("wallet", "policy", wallet.did, "--payment-cap", "none", "--allow", "somebody")
    response = pay(farebox, wallet)
    assert response.status == 403 and "allow" in response.json()["detail"]
    farebox.command("wallet", "policy", wallet.did, "--allow-any", "--expires", "2020-01-01T00:00:00Z")
    assert "expires" in pay(farebox, wallet).json()["detail"]
    farebox.command("wallet", "policy", wallet.did, "--expires", "none")
    assert pay(farebox, wallet).status == 200


def test_rekey_closes_sessions_and_kills_the_old_key(farebox, wallet):
    secret = open_session(farebox, wallet, PATH, 100_000)
    new = PrepaidWallet.new()
    moved = farebox.command("wallet", "rekey", wallet.did, new.did)
    assert moved["wallet"] == new.did and moved["balances"]["usdc"] == str(10_000_000 - PRICE) and moved["sessions"] == []
    with farebox.connection() as c:
        assert fetch(c, "GET", PATH, {"Prepaid-Session": secret.short_form}).status in (402, 410)
    response = pay(farebox, wallet)
    assert response.status in (402, 403) and response.receipt() is None
    assert pay(farebox, new).status == 200
    refused(farebox, "wallet-exists", "wallet", "rekey", new.did, wallet.did)
    other = PrepaidWallet.new()
    farebox.create_wallet(other, "1 USDC")
    refused(farebox, "wallet-exists", "wallet", "rekey", new.did, other.did)


def test_rotated_keys_leave_open_challenges_payable(farebox, connection, wallet):
    value = wallet.transfer(challenge_of(fetch(connection, "GET", PATH), "charge"))
    challenge = challenge_of(fetch(connection, "GET", PATH), "session")
    secret = SessionSecret.new()
    assert fetch(connection, "GET", PATH, {"Authorization": wallet.open(challenge, secret, 100_000)}).status == 200
    kid = json.loads(fetch(connection, "GET", "/.well-known/jwks.json").body)["keys"][0]["kid"]
    farebox.command("keys", "rotate")
    keys = [key["kid"] for key in json.loads(fetch(connection, "GET", "/.well-known/jwks.json").body)["keys"]]
    assert keys[0] != kid and kid in keys, "the retired key is still served, behind the current one"
    response = fetch(connection, "GET", PATH, {"Authorization": value})
    assert response.status == 200 and response.receipt()["kid"] == keys[0], "the challenge of the previous secret is paid"
    assert fetch(connection, "GET", PATH, {"Authorization": wallet.bearer(challenge, secret)}).status == 200
    assert fetch(connection, "GET", PATH, {"Authorization": wallet.bearer(challenge, secret, "close")}).status == 200
    farebox.stop()
    farebox.start()
    with farebox.connection() as c:
        assert {kid, keys[0]} <= {key["kid"] for key in json.loads(fetch(c, "GET", "/.well-known/jwks.json").body)["keys"]}


def test_settings_of_a_restart_keep_sessions_terms(farebox, wallet):
    """A price that changes binds new challenges; what a session has recorded is not raised behind its back."""
    secret = open_session(farebox, wallet, PATH, 100_000)
    with farebox.connection() as c:
        old = challenge_of(fetch(c, "GET", PATH), "session")
        quoted = wallet.transfer(challenge_of(fetch(c, "GET", PATH), "charge"))
    farebox.stop()
    original = farebox.configuration.read_text()
    farebox.configuration.write_text(original.replace('id = "api"\nprefix = "/api/"\nprice = "0.001 USDC per request"', 'id = "api"\nprefix = "/api/"\nprice = "0.003 USDC per request"'))
    try:
        farebox.start()
        with farebox.connection() as c:
            before = farebox.balance(wallet)
            assert fetch(c, "GET", PATH, {"Authorization": quoted}).status == 200
            assert farebox.balance(wallet) == before - PRICE, "a quoted price holds until its challenge expires"
            assert fetch(c, "GET", PATH, {"Prepaid-Session": secret.short_form}).status == 200
            assert farebox.session(secret.session_id)["spent"] == str(2 * PRICE), "the terms that the session recorded hold"
            # A session without terms for the route cannot get the old price by an old challenge.
            other = open_session(farebox, wallet, "/dear/echo", 100_000)
            response = fetch(c, "GET", PATH, {"Authorization": wallet.bearer(old, other)})
            assert response.status == 402 and request_of(challenge_of(response, "session"))["amount"] == str(3 * PRICE)
            fresh = challenge_of(response, "session")
            assert fetch(c, "GET", PATH, {"Authorization": wallet.bearer(fresh, other)}).status == 200
            assert farebox.session(other.session_id)["spent"] == str(10 * PRICE + 3 * PRICE)
        farebox.stop()
    finally:
        farebox.configuration.write_text(original)
        farebox.start()


# MARK: watching


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*")*\})? (NaN|[+-]?Inf|[+-]?[0-9.eE+-]+)')


def exposition(text):
    """Parses Prometheus' text format 0.0.4 strictly: name with labels → value."""
    assert text.endswith("\n")
    types, samples, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in types, f"{current} stands in two places"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram", "summary", "untyped") and name == current
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            family = next((f for f in (match[1], re.sub("_(bucket|sum|count)$", "", match[1])) if f in types), None)
            assert family == current, f"{match[1]} has no type"
            key = match[1] + (match[2] or "")
            assert key not in samples
            samples[key] = float(match[3])
            assert not (types[family] == "counter" and match[1] == family and not family.endswith("_total")), family
    return types, samples


def test_metrics_are_prometheus_text_and_count(farebox, wallet):
    types, before = exposition(farebox.metrics())
    assert len(types) > 10 and all(name.startswith("farebox_") for name in types)
    assert pay(farebox, wallet).status == 200
    with farebox.connection() as c:
        assert fetch(c, "GET", "/free/echo").status == 200
    _, after = exposition(farebox.metrics())
    grown = {name: after[name] - before[name] for name in after}
    assert grown["farebox_requests_total"] == 3 and grown["farebox_requests_paid_total"] == 1
    assert grown['farebox_responses_total{class="402"}'] == 1 and grown['farebox_responses_total{class="2xx"}'] == 2
    assert all(after[name] >= before[name] for name in after if types.get(name.split("{")[0]) == "counter")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(farebox.state / "farebox.sock"))
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        octets = b""
        while chunk := s.recv(65536):
            octets += chunk
    head, _, body = octets.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"text/plain; version=0.0.4" in head
    exposition(body.decode())


def test_metrics_without_a_proxy(stopped):
    done = stopped.run("metrics")
    assert done.returncode == UNAVAILABLE and "no proxy" in done.stderr


@pytest.mark.parametrize("octets", [b"", b"garbage\r\n\r\n", b"POST /v1/wallet/create HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{{{", b"POST /v1/wallet/create HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
                                    b"POST /v1/no/such HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", b"GET /v1/wallet/list HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n"])
def test_the_operators_socket_survives_nonsense(farebox, octets):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(15)
        s.connect(str(farebox.state / "farebox.sock"))
        try:
            s.sendall(octets)
            s.shutdown(socket.SHUT_WR)
            answer = s.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
    assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d", answer), answer[:100]
    assert farebox.command("wallet", "list") is not None


def following(farebox, *arguments):
    command = [farebox.binary, "audit", "tail", "-f", "-n", "0", *arguments, "--config", str(farebox.configuration)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_audit_tail_follows_over_a_rotation(binary, upstream, tmp_path):
    farebox = Farebox(binary, tmp_path, upstream.port)
    wallet, other = PrepaidWallet.new(), PrepaidWallet.new()
    farebox.create_wallet(wallet, "1 USDC")
    farebox.create_wallet(other, "1 USDC")
    whole, mine = following(farebox, "--json", "--all"), following(farebox, "--json", "--wallet", wallet.did)
    time.sleep(1)
    for number in range(4):
        assert pay(farebox, wallet).status == 200 and pay(farebox, other).status == 200
        if number % 2:
            farebox.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
    secret = open_session(farebox, wallet, PATH, 10_000)
    time.sleep(2)
    for process in (whole, mine):
        process.terminate()
    lines = [json.loads(line) for line in whole.communicate()[0].splitlines()]
    sequences = [line["seq"] for line in lines]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences))), "a line is missing or doubled"
    assert [line["event"] for line in lines].count("charge.settled") == 8
    mine = [json.loads(line) for line in mine.communicate()[0].splitlines()]
    # The wallet's own lines may reach the file after the command has begun to follow it.
    others = ("session.debited", "wallet.created", "wallet.funded")
    assert [line["event"] for line in mine if line["event"] not in others] == ["charge.settled"] * 4 + ["session.opened"]
    assert all(line["wallet"] == wallet.did for line in mine)
    only = farebox.run("audit", "tail", "-n", "100", "--session", secret.session_id[:12], "--json").stdout.splitlines()
    assert only and all(json.loads(line)["session"] == secret.session_id for line in only)
    last = [json.loads(line) for line in farebox.run("audit", "tail", "-n", "5", "--json").stdout.splitlines()]
    assert len(last) == 5 and [line["seq"] for line in last] == sorted(line["seq"] for line in last)
    assert "checkpoint" not in [line["event"] for line in last], "they are shown where they are asked for"
    text = farebox.run("audit", "tail", "-n", "30").stdout
    assert "0.001 USDC" in text and "charge.settled" in text and "\x1b" not in text
    more = farebox.run("audit", "tail", "-n", "100000", "--json", "--all").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in more] == list(range(1, len(more) + 1)), "over all files"
    farebox.stop()
    farebox.assert_books_balance()


def test_help_everywhere(farebox):
    commands = [(), ("serve",), ("check",), ("refund",), ("metrics",), ("pay",)]
    commands += [("wallet", name) for name in "create fund defund policy freeze thaw rekey show list".split()]
    commands += [("session", name) for name in ("list", "show", "close")] + [("merchant", name) for name in ("list", "payout")]
    commands += [("ledger", name) for name in ("balance", "verify")] + [("keys", name) for name in ("list", "rotate")] + [("audit", name) for name in ("tail", "verify")]
    for command in commands:
        done = subprocess.run([farebox.binary, *command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "USAGE: farebox" in done.stdout, command
        if command and command[0] not in ("pay",):
            assert "--json" in done.stdout or command[0] == "serve", command
    assert subprocess.run([farebox.binary, "--version"], capture_output=True).returncode == 0
    assert subprocess.run([farebox.binary, "wallet", "fund"], capture_output=True).returncode == USAGE
