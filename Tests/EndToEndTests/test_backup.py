"""Backups of a ledger under load, what a restoration brings back, and what it no longer lets anybody do."""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time

import pytest

from harness import Farebox, challenge_of, fetch, open_session
from prepaid import PrepaidWallet, SessionSecret


@pytest.fixture
def proxy(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, workers=2)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


def refused(proxy, code, status, *arguments):
    done = proxy.run(*arguments, "--json")
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    error = json.loads(done.stderr)
    assert error["error"] == code, error
    return error


def pay(proxy, wallet, path="/api/x"):
    """A charge: the challenge's credential, and the answer."""
    with proxy.connection() as connection:
        credential = wallet.transfer(challenge_of(fetch(connection, "GET", path), "charge"))
        return credential, fetch(connection, "GET", path, {"Authorization": credential})


def ask(proxy, secret, path="/paid"):
    with proxy.connection() as connection:
        return fetch(connection, "GET", path, {"Prepaid-Session": secret.short_form})


class Buyers:
    """Sessions and charges, one after another, from several threads; counts what was answered, and the longest wait for an answer."""

    def __init__(self, proxy, wallet, count=4):
        self.proxy, self.wallet = proxy, wallet
        self.isOver = False
        self.answers, self.faults, self.longest = 0, [], 0.0
        secrets = [open_session(proxy, wallet, "/paid", 200_000_000) for _ in range(count)]
        self.threads = [threading.Thread(target=self.use, args=(secret,)) for secret in secrets]
        self.threads.append(threading.Thread(target=self.charge))
        for thread in self.threads:
            thread.start()

    def count(self, status, since):
        self.longest = max(self.longest, time.monotonic() - since)
        if status == 200:
            self.answers += 1
        else:
            self.faults.append(status)

    def use(self, secret):
        with self.proxy.connection() as connection:
            while not self.isOver:
                since = time.monotonic()
                self.count(fetch(connection, "GET", "/paid", {"Prepaid-Session": secret.short_form}).status, since)

    def charge(self):
        while not self.isOver:
            since = time.monotonic()
            self.count(pay(self.proxy, self.wallet)[1].status, since)

    def stop(self):
        self.isOver = True
        for thread in self.threads:
            thread.join()


def audit_lines(folder, name="audit.jsonl"):
    """Every line of a log with its octets, oldest first."""
    files = sorted(path for path in folder.iterdir() if path.name.startswith(name + ".") and path.name[len(name) + 1 :].isdigit())
    if (folder / name).exists():
        files.append(folder / name)
    return [line for path in files for line in path.read_bytes().splitlines()]


def test_a_backup_under_load_is_of_one_commit(proxy, tmp_path):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1000 USDC")
    buyers = Buyers(proxy, wallet)
    target = tmp_path / "backup"
    made = []
    try:
        for number in range(4):
            time.sleep(0.5)
            before = buyers.answers
            manifest = proxy.command("ledger", "backup", str(target), *(["--force"] if number else []))
            made.append(manifest)
            assert buyers.answers > before, "nobody was served while the copy was made"
            if number == 1:
                proxy.process.send_signal(signal.SIGUSR1)
    finally:
        buyers.stop()
    assert not buyers.faults and buyers.answers > 100, (buyers.faults[:5], buyers.answers)
    manifest = made[-1]
    assert int(manifest["entry"]) > int(made[0]["entry"]) and manifest["format"] == "farebox-backup"
    # What others see of it.
    names = {entry["name"] for entry in manifest["files"]} | {"manifest.json"}
    assert {path.name for path in target.iterdir()} == names and len(names) >= 4
    for entry in manifest["files"]:
        octets = (target / entry["name"]).read_bytes()
        assert len(octets) == int(entry["octets"]) and hashlib.sha256(octets).hexdigest() == entry["sha256"]
        assert stat.S_IMODE((target / entry["name"]).stat().st_mode) == 0o600
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    lines = audit_lines(target)
    assert len(lines) == int(manifest["audit"]["lines"]) and json.loads(lines[-1])["seq"] == len(lines)
    assert hashlib.sha256(lines[-1]).hexdigest() == manifest["audit"]["last"]
    # The log of the backup is the beginning of the proxy's own, octet by octet, and adds up to the books.
    proxy.settle_log()
    assert audit_lines(proxy.state)[: len(lines)] == lines
    events = [json.loads(line) for line in lines]
    debited = sum(int(event["amount"]) for event in events if event["event"] in ("session.debited", "charge.settled"))
    debited -= sum(int(event["amount"]) for event in events if event["event"] == "session.returned")
    assert int(manifest["books"][0]["merchants"]) == debited > 0
    database = sqlite3.connect(f"file:{target}/ledger.db?immutable=1", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA user_version").fetchone() == (manifest["schema"],)
    # Secrets are not in it.
    secrets = [line.split()[0] for name in ("challenge.secret", "receipt.key", "checkpoint.key") for line in (proxy.state / "keys" / name).read_text().splitlines()[1:]]
    for path in target.iterdir():
        assert not any(secret.encode() in path.read_bytes() for secret in secrets)


def test_what_a_restoration_brings_back(proxy, tmp_path):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, "/paid", 100_000)
    for _ in range(5):
        assert ask(proxy, secret).status == 200
    used, answer = pay(proxy, wallet)
    assert answer.status == 200
    with proxy.connection() as connection:
        unused = wallet.transfer(challenge_of(fetch(connection, "GET", "/api/x"), "charge"))
        unopened = challenge_of(fetch(connection, "HEAD", "/paid"), "session")
    backup = tmp_path / "backup"
    manifest = proxy.command("ledger", "backup", str(backup))
    refused(proxy, "backup-exists", 73, "ledger", "backup", str(backup))
    refused(proxy, "backup-exists", 73, "ledger", "backup", str(proxy.state), "--force")
    spent = int(proxy.session(secret.session_id)["spent"])
    balance = proxy.balance(wallet)
    # After it: a session goes on, one is opened, a charge is paid.
    for _ in range(7):
        assert ask(proxy, secret).status == 200
    late = open_session(proxy, wallet, "/paid", 50_000)
    forgotten, answer = pay(proxy, wallet)
    assert answer.status == 200
    refused(proxy, "ledger-locked", 69, "ledger", "restore", str(backup))
    proxy.stop()

    def files():
        # The lock names the process that took it last.
        return {path.name: path.read_bytes() for path in proxy.state.rglob("*") if path.is_file() and path.name != "ledger.lock"}

    before = files()
    checked = proxy.command("ledger", "restore", str(backup), "--check")
    assert checked["restored"] is False and checked["sessions"] == 1
    assert files() == before
    lines = audit_lines(proxy.state)
    done = proxy.command("ledger", "restore", str(backup))
    assert done["restored"] and done["sessions"] == 1 and done["entry"] == manifest["entry"]
    assert done["abandoned"] == f"{len(lines)}:{hashlib.sha256(lines[-1]).hexdigest()}"
    assert all(os.path.isdir(folder) for folder in done["replaced"])
    proxy.assert_books_balance()
    proxy.start()

    # The log goes on behind the backup's last line, and says so.
    proxy.settle_log()
    after = audit_lines(proxy.state)
    assert after[: len(audit_lines(backup))] == audit_lines(backup)
    events = [json.loads(line) for line in after]
    restored = [event for event in events if event["event"] == "ledger.restored"]
    assert [event["count"] for event in restored] == ["1"] and restored[0]["reference"] == done["abandoned"]
    assert proxy.balance(wallet) == balance

    # The session waits, and its money with it.
    listed = proxy.command("session", "list")["sessions"]
    assert [session["state"] for session in listed] == ["suspended"] and int(listed[0]["spent"]) == spent
    for answer in (ask(proxy, secret), ask(proxy, secret)):
        assert answer.status == 503 and answer.problem() == "session-unconfirmed" and answer.get("retry-after") == "60"
    with proxy.connection() as connection:
        closing = fetch(connection, "GET", "/paid", {"Authorization": wallet.bearer(unopened, secret, "close")})
        assert closing.status == 503, closing.body
    # Nothing from before is paid with any more, whether the backup knows of it or not; what it knows of it says.
    with proxy.connection() as connection:
        for credential in (unused, forgotten):
            answer = fetch(connection, "GET", "/api/x", {"Authorization": credential})
            assert answer.status == 402 and answer.problem() == "invalid-challenge", answer.body
        assert fetch(connection, "GET", "/api/x", {"Authorization": used}).status == 403
        answer = fetch(connection, "HEAD", "/paid", {"Authorization": wallet.open(unopened, SessionSecret.new(), 10_000)})
        assert answer.status == 402
    assert ask(proxy, late).status in (402, 404, 410)
    assert proxy.balance(wallet) == balance
    # Confirmed, it goes on where the backup was, with its old challenge too.
    refused(proxy, "unknown-session", 1, "session", "confirm", late.session_id)
    assert proxy.run("session", "confirm").returncode == 64
    assert proxy.command("session", "confirm", secret.session_id)["confirmed"] == 1
    assert ask(proxy, secret).status == 200
    with proxy.connection() as connection:
        assert fetch(connection, "GET", "/paid", {"Authorization": wallet.bearer(unopened, secret)}).status == 200
    assert int(proxy.session(secret.session_id)["spent"]) == spent + 2000
    assert pay(proxy, wallet)[1].status == 200
    assert proxy.command("session", "confirm", "--all")["confirmed"] == 0
    # A restart does not open what waits, nor shut what does not.
    proxy.stop()
    proxy.start()
    assert ask(proxy, secret).status == 200


def test_a_backup_serves_a_machine_that_has_nothing(binary, upstream, tmp_path):
    first = Farebox(binary, tmp_path / "first", upstream.port, workers=1)
    wallet = PrepaidWallet.new()
    first.create_wallet(wallet, "10 USDC")
    receipt = pay(first, wallet)[1].receipt()
    keys = json.loads(first.run("keys", "list", "--json").stdout)["keys"]
    backup, bare = tmp_path / "with-keys", tmp_path / "without"
    first.command("ledger", "backup", str(backup), "--with-keys")
    first.command("ledger", "backup", str(bare))
    assert (backup / "checkpoint.key").exists() and not (backup / "challenge.secret").exists() and not (bare / "checkpoint.key").exists()
    first.stop()
    kept = first.state
    shutil.rmtree(kept)
    refused(first, "keys", 66, "ledger", "restore", str(bare))
    # Keys are taken over with a backup that is sound, and not before.
    database = (backup / "ledger.db").read_bytes()
    (backup / "ledger.db").write_bytes(database[:-1])
    refused(first, "backup-altered", 2, "ledger", "restore", str(backup))
    assert not list((kept / "keys").glob("*.key"))
    (backup / "ledger.db").write_bytes(database)
    assert first.command("ledger", "restore", str(backup))["restored"]
    first.start()
    try:
        again = json.loads(first.run("keys", "list", "--json").stdout)["keys"]
        assert {key["kid"] for key in keys if "kid" in key} <= {key.get("kid") for key in again}
        assert first.balance(wallet) == 9_999_000 and receipt["kid"] in {key.get("kid") for key in again}
        assert pay(first, wallet)[1].status == 200
        first.assert_books_balance()
    finally:
        first.stop()
    # Another proxy's ledger is not put in this one's place.
    other = Farebox(binary, tmp_path / "other", upstream.port, workers=1)
    other.stop()
    refused(other, "not-a-backup", 66, "ledger", "restore", str(tmp_path / "nowhere"))
    refused(other, "other-keys", 1, "ledger", "restore", str(backup))


def test_a_restoration_that_is_killed_is_the_old_ledger_or_the_new_one(proxy, tmp_path):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    backup = tmp_path / "backup"
    proxy.command("ledger", "backup", str(backup))
    assert pay(proxy, wallet)[1].status == 200
    proxy.stop()
    pristine = tmp_path / "pristine"
    shutil.copytree(proxy.state, pristine)
    command = [proxy.binary, "ledger", "restore", str(backup), "--config", str(proxy.configuration)]
    start = time.monotonic()
    assert subprocess.run(command, capture_output=True, env=proxy.environment).returncode == 0
    length = time.monotonic() - start
    seen = set()
    random.seed(6)
    for turn in range(14):
        shutil.rmtree(proxy.state)
        shutil.copytree(pristine, proxy.state)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=proxy.environment)
        # The first has hardly begun, the last is left to end.
        if turn < 13:
            time.sleep(0 if turn == 0 else length * random.uniform(0.1, 1.05))
            process.kill()
        process.wait()
        balance = proxy.balance(wallet)
        assert balance in (10_000_000, 9_999_000)
        seen.add(balance)
        proxy.assert_books_balance()
    assert seen == {10_000_000, 9_999_000}
    proxy.start()


def test_a_place_that_cannot_be_written_is_told_and_nobody_is_harmed(proxy, tmp_path):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    refused(proxy, "backup-unwritable", 73, "ledger", "backup", str(tmp_path / "no" / "such" / "folder"))
    refused(proxy, "backup-unwritable", 73, "ledger", "backup", "/proc/backup")
    assert pay(proxy, wallet)[1].status == 200
    # A command that was ended leaves nothing that stands in the next one's way.
    command = [proxy.binary, "ledger", "backup", str(tmp_path / "b"), "--config", str(proxy.configuration)]
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=proxy.environment)
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.wait()
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
    deadline = time.monotonic() + 30
    while proxy.run("ledger", "backup", str(tmp_path / "b")).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert pay(proxy, wallet)[1].status == 200


def test_without_a_proxy_too_and_people_can_read_it(proxy, tmp_path):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    secret = open_session(proxy, wallet, "/paid", 100_000)
    proxy.stop()
    done = proxy.run("ledger", "backup", str(tmp_path / "b"))
    assert done.returncode == 0 and "proved" in done.stdout and "10 USDC issued" in done.stdout, done
    done = proxy.run("ledger", "restore", str(tmp_path / "b"))
    assert done.returncode == 0 and "session confirm" in done.stdout, done
    assert proxy.command("session", "confirm", "--all")["confirmed"] == 1
    done = proxy.run("audit", "tail", "-n", "3")
    assert "session.confirmed" in done.stdout and "ledger.restored" in done.stdout, done.stdout
    proxy.start()
    assert ask(proxy, secret).status == 200


def test_a_newer_ledger_is_refused_with_what_is_needed(proxy):
    proxy.stop()
    path = proxy.state / "ledger" / "ledger.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE writer SET build = '9.9.9'")
        database.execute("PRAGMA user_version = 99")
    database.close()
    for arguments in (("serve",), ("ledger", "verify")):
        command = [proxy.binary, *arguments, *([str(proxy.configuration)] if arguments == ("serve",) else ["--config", str(proxy.configuration)])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=proxy.environment)
        assert done.returncode == 65 and "farebox 9.9.9" in done.stderr + done.stdout and "nothing has been changed" in done.stderr + done.stdout, done
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)
        database.execute("PRAGMA user_version = 4")
        database.execute("DROP TABLE writer")
    database.close()
    # An older one is brought up, and kept beside it.
    proxy.start()
    assert (proxy.state / "ledger" / "ledger.db.version-4").exists()
