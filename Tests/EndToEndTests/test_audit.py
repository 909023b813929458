"""The audit log: an independent verifier agrees with `farebox audit verify`, tampering is found and named, and nothing is lost or doubled."""

import base64
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import rfc8785

import audit_verifier
from audit_verifier import Pin, VerifierKey
from harness import CONFIGURATION, Farebox, challenge_of, fetch
from prepaid import PrepaidWallet, SessionSecret, b64u_decode

AUDIT = """
[audit]
checkpoint-every = 16
{audit}
"""
TAMPERINGS = 300
ROUNDS = 12


def configuration(audit=""):
    return CONFIGURATION + AUDIT.replace("{audit}", audit)


def charge(connection, wallet, path="/api/echo"):
    challenge = challenge_of(fetch(connection, "GET", path), "charge")
    return fetch(connection, "GET", path, {"Authorization": wallet.transfer(challenge)})


def trade(proxy, rounds):
    """Makes events of every kind that a day brings; gives the wallet and the last signed receipt."""
    wallet, poor = PrepaidWallet.new(), PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    proxy.create_wallet(poor, "1 USDC", "--payment-cap", "0.0001 USDC")
    receipt = None
    with proxy.connection() as c:
        for number in range(rounds):
            paid = charge(c, wallet)
            assert paid.status == 200
            receipt = paid.get("payment-receipt")
            assert charge(c, wallet, "/api/status/500").status == 500
            assert charge(c, poor).status == 403
            challenge = challenge_of(fetch(c, "GET", "/api/echo"), "session")
            secret = SessionSecret.new()
            assert fetch(c, "GET", "/api/echo", {"Authorization": wallet.open(challenge, secret, 20_000)}).status == 200
            for _ in range(3):
                assert fetch(c, "GET", "/api/echo", {"Prepaid-Session": secret.short_form}).status == 200
            fresh = challenge_of(fetch(c, "GET", "/api/echo"), "session")
            assert fetch(c, "POST", "/api/echo", {"Authorization": wallet.top_up(fresh, secret.session_id, 1_000), "Content-Length": "0"}).status == 200
            assert fetch(c, "GET", "/api/echo", {"Authorization": wallet.bearer(challenge, secret, "close")}).status == 200
        assert fetch(c, "GET", "/api/echo").status == 402
    proxy.command("wallet", "freeze", poor.did)
    proxy.command("wallet", "thaw", poor.did)
    proxy.command("wallet", "policy", poor.did, "--payment-cap", "0.5 USDC")
    proxy.command("wallet", "defund", poor.did, "0.25 USDC", "--reference", f"back-{poor.did[-8:]}")
    proxy.command("merchant", "payout", "acme", "0.001 USDC", "--reference", f"payout-{poor.did[-8:]}")
    proxy.command("refund", json.loads(b64u_decode(receipt))["reference"])
    proxy.command("keys", "rotate", "challenge")
    return wallet, receipt


def verifier_keys(proxy):
    return [VerifierKey.parse(proxy.command("keys", "list")["checkpointVerifier"])]


def lines_of(path):
    return [line for file in audit_verifier.files_of(path) for line in file.read_bytes().splitlines()]


class Copy:
    """A folder with the proxy's keys and a log that may be spoilt, for `audit verify` without a proxy."""

    def __init__(self, proxy, folder):
        self.proxy, self.state = proxy, folder / "copy"
        self.state.mkdir()
        shutil.copytree(proxy.state / "keys", self.state / "keys")
        self.log = self.state / "audit.jsonl"
        text = proxy.configuration.read_text().replace(f'state = "{proxy.state}"', f'state = "{self.state}"')
        self.configuration = folder / "copy.conf"
        self.configuration.write_text(text)

    def verify(self, *arguments):
        command = [self.proxy.binary, "audit", "verify", *arguments, "--json", "--config", str(self.configuration)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, 2), done.stderr
        report = json.loads(done.stdout)
        assert report["valid"] == (done.returncode == 0)
        return report

    def words(self, *arguments):
        return subprocess.run([self.proxy.binary, "audit", "verify", *arguments, "--config", str(self.configuration)], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def kept(binary, upstream, tmp_path_factory):
    """A proxy that has traded and stopped, a copy of its log, its keys, and a receipt."""
    folder = tmp_path_factory.mktemp("audit")
    proxy = Farebox(binary, folder, upstream.port, configuration=configuration())
    _, receipt = trade(proxy, ROUNDS)
    keys = verifier_keys(proxy)
    proxy.stop()
    return Copy(proxy, folder), lines_of(proxy.audit_path), keys, receipt


def both(copy, keys, lines, *arguments, pin=None):
    copy.log.write_bytes(b"".join(line + b"\n" for line in lines))
    return audit_verifier.verify(copy.log, keys, pin), copy.verify(*arguments)


def test_both_verifiers_agree_on_a_sound_log(kept):
    copy, lines, keys, _ = kept
    ours, theirs = both(copy, keys, lines)
    assert ours.valid and theirs["valid"], (ours, theirs)
    assert ours.lines == theirs["lines"] == len(lines) > 100
    assert ours.checkpoints == theirs["checkpoints"] > 5
    assert ours.uncovered == 0, "a stop ends with a checkpoint"
    assert ours.may_be_cut and theirs["mayBeCut"]
    events = {json.loads(line)["event"] for line in lines}
    expected = audit_verifier.EVENTS - {"session.returned", "wallet.rekeyed"}
    assert expected <= events, expected - events


def test_lines_hold_no_secrets(kept):
    copy, lines, _, _ = kept
    text = b"".join(lines).decode()
    for word in ("preimage", "signature", "Authorization", "payload"):
        assert word not in text


def test_one_line_a_paid_exchange(kept):
    _, lines, _, _ = kept
    events = [json.loads(line)["event"] for line in lines]
    assert events.count("charge.settled") == events.count("charge.voided") == ROUNDS
    assert events.count("session.opened") == events.count("session.toppedup") == events.count("session.closed") == ROUNDS
    assert events.count("session.debited") == ROUNDS * 4
    assert events.count("payment.refused") == ROUNDS


def tamper(lines, random):
    """One tampering: what was done, the lines after it, and the sequences that may be named as the first wrong one."""
    lines = list(lines)
    kind = random.choice(["alter", "alter", "alter", "remove", "duplicate", "reorder", "swap", "insert", "rewrite"])
    at = random.randrange(len(lines) - 1)
    if kind == "alter":
        at = random.randrange(len(lines))
        line, place = lines[at], random.randrange(len(lines[at]))
        octet = random.choice([o for o in range(32, 127) if o != line[place]])
        lines[at] = line[:place] + bytes([octet]) + line[place + 1:]
        return kind, lines, {at + 1}
    if kind == "remove":
        del lines[at]
        return kind, lines, {at + 1}
    if kind == "duplicate":
        lines.insert(at + 1, lines[at])
        return kind, lines, {at + 2}
    if kind == "reorder":
        other = random.choice([i for i in range(len(lines)) if i != at])
        lines.insert(other, lines.pop(at))
        return kind, lines, {min(at, other) + 1}
    if kind == "swap":
        other = random.choice([i for i in range(len(lines)) if i != at])
        lines[at], lines[other] = lines[other], lines[at]
        return kind, lines, {min(at, other) + 1}
    members = json.loads(lines[at])
    if kind == "insert":
        forged = {**members, "event": "wallet.funded", "amount": "1000000", "currency": "usdc", "seq": at + 2, "prev": hashlib.sha256(lines[at]).hexdigest()}
        for name in ("note", "root", "size", "totals"):
            forged.pop(name, None)
        lines.insert(at + 1, rfc8785.dumps(forged))
        return kind, lines, {at + 2, at + 3}
    # A line is rewritten, and the chain behind it made to fit: only the signatures can tell, at the next checkpoint.
    at = next(i for i in range(at, -1, -1) if json.loads(lines[i])["event"] != "checkpoint")
    members = json.loads(lines[at])
    members["time"] = "2020-01-01T00:00:00.000Z"
    lines[at] = rfc8785.dumps(members)
    following = next(i for i in range(at, len(lines)) if json.loads(lines[i])["event"] == "checkpoint")
    for index in range(at + 1, len(lines)):
        members = json.loads(lines[index])
        members["prev"] = hashlib.sha256(lines[index - 1]).hexdigest()
        lines[index] = rfc8785.dumps(members)
    return kind, lines, set(range(at + 1, following + 2))


def test_every_tampering_is_found_and_named(kept):
    copy, lines, keys, _ = kept
    seeded = random.Random(20261121)
    failures = []
    for number in range(TAMPERINGS):
        kind, spoilt, places = tamper(lines, seeded)
        ours, theirs = both(copy, keys, spoilt)
        named = (ours.sequence, (theirs.get("defect") or {}).get("sequence"))
        if ours.valid or theirs["valid"] or not set(named) <= places:
            failures.append((number, kind, "expected", sorted(places)[:4], "named by Python, farebox", named, ours.fault, theirs.get("defect")))
    assert not failures, "\n".join(map(str, failures[:20])) + f"\n{len(failures)} of {TAMPERINGS}"


def test_a_forged_signature_and_a_stranger_s_key_are_refused(kept):
    copy, lines, keys, _ = kept
    at = next(i for i, line in enumerate(lines) if b'"event":"checkpoint"' in line)
    members = json.loads(lines[at])
    text, _, signature = members["note"].rpartition("\n\n")
    members["note"] = f"{text}\n\n" + signature.replace(signature[-20:-4], "A" * 16)
    spoilt = [*lines[:at], rfc8785.dumps(members), *lines[at + 1:]]
    ours, theirs = both(copy, keys, spoilt)
    assert ours.sequence == theirs["defect"]["sequence"] == at + 1
    stranger = VerifierKey(keys[0].name, keys[0].identifier, bytes(32))
    assert not audit_verifier.verify(copy.log, [stranger]).valid


def test_a_cut_at_the_end_shows_only_against_a_pin(kept, tmp_path):
    copy, lines, keys, receipt = kept
    checkpoints = [i for i, line in enumerate(lines) if b'"event":"checkpoint"' in line]
    cut = lines[: checkpoints[1] + 1]
    ours, theirs = both(copy, keys, cut)
    assert ours.valid and theirs["valid"], "nothing inside the log tells"
    assert ours.may_be_cut and theirs["mayBeCut"]
    words = copy.words()
    assert words.returncode == 0 and "--pin" in words.stdout + words.stderr, words

    note = json.loads(lines[checkpoints[-1]])["note"]
    members = json.loads(b64u_decode(receipt))
    assert int(members["logSize"]) > len(cut), "the receipt is later than the cut"
    for name, text in [("note", note), ("line", lines[checkpoints[-1]].decode()), ("receipt", receipt), ("receipt.json", json.dumps(members))]:
        pin = tmp_path / name
        pin.write_text(text)
        ours, theirs = both(copy, keys, cut, "--pin", str(pin), pin=Pin.parse(text))
        assert not ours.valid and not theirs["valid"], name
        assert ours.sequence == theirs["defect"]["sequence"] == len(cut) + 1, name
        ours, theirs = both(copy, keys, lines, "--pin", str(pin), pin=Pin.parse(text))
        assert ours.pinned and theirs["valid"] and theirs["pinned"] and not theirs["mayBeCut"], name

    pin = tmp_path / "wrong"
    pin.write_text(json.dumps({"size": int(members["logSize"]), "root": "00" * 32}))
    ours, theirs = both(copy, keys, lines, "--pin", str(pin), pin=Pin.parse(pin.read_text()))
    assert not ours.valid and not theirs["valid"]


def test_a_missing_beginning_is_said(kept):
    copy, lines, keys, _ = kept
    ours, theirs = both(copy, keys, lines[5:])
    assert ours.sequence == theirs["defect"]["sequence"] == 1 and ours.fault == theirs["defect"]["fault"] == "removed"
    theirs = copy.verify("--begins-later")
    ours = audit_verifier.verify(copy.log, keys, begins_later=True)
    assert ours.valid and theirs["valid"] and ours.first_sequence == theirs["first"] == 6
    assert "from line 6 on" in copy.words("--begins-later").stdout


def test_a_folder_without_a_log_is_an_error(kept):
    copy, _, _, _ = kept
    copy.log.unlink(missing_ok=True)
    done = copy.words()
    assert done.returncode == 66 and "audit.jsonl" in done.stderr


def sequences(proxy):
    return [json.loads(line)["seq"] for line in lines_of(proxy.audit_path)]


def wait_for(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_rotation_by_signal_carries_the_chain_over(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration())
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    keys = verifier_keys(proxy)
    for number in range(1, 4):
        with proxy.connection() as c:
            for _ in range(5):
                assert charge(c, wallet).status == 200
        proxy.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: len(audit_verifier.files_of(proxy.audit_path)) == number + 1)
    files = audit_verifier.files_of(proxy.audit_path)
    for file in files[:-1]:
        assert int(file.name.rsplit(".", 1)[1]) == json.loads(file.read_bytes().splitlines()[0])["seq"]
        assert json.loads(file.read_bytes().splitlines()[-1])["event"] == "checkpoint", "a file ends with a checkpoint"
    with proxy.connection() as c:
        assert charge(c, wallet).status == 200
    proxy.stop()
    assert sequences(proxy) == list(range(1, len(sequences(proxy)) + 1))
    report = audit_verifier.verify(proxy.audit_path, keys)
    assert report.valid and report.uncovered == 0, report
    proxy.assert_books_balance()
    # A start without a single line in the current file goes on where the rotated ones ended.
    proxy.start()
    proxy.stop()
    assert audit_verifier.verify(proxy.audit_path, keys).valid
    # The removal of a whole rotated file in the middle is seen.
    files[1].rename(tmp_path / "hidden")
    done = proxy.run("audit", "verify")
    assert done.returncode == 2 and not audit_verifier.verify(proxy.audit_path, keys).valid


def test_rotation_by_size(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration('rotate = "8 KiB"'))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    with proxy.connection() as c:
        for _ in range(120):
            assert charge(c, wallet).status == 200
    keys = verifier_keys(proxy)
    proxy.stop()
    files = audit_verifier.files_of(proxy.audit_path)
    assert len(files) > 3
    assert all(8_192 <= file.stat().st_size < 16_384 for file in files[:-1])
    assert audit_verifier.verify(proxy.audit_path, keys).valid
    assert sequences(proxy) == list(range(1, len(sequences(proxy)) + 1))
    proxy.assert_books_balance()


def test_renamed_by_somebody_else_and_signalled_as_logrotate_does(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration())
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    keys = verifier_keys(proxy)
    moved = tmp_path / "moved.jsonl"
    proxy.audit_path.rename(moved)
    proxy.process.send_signal(signal.SIGUSR1)
    wait_for(proxy.audit_path.exists)
    with proxy.connection() as c:
        assert charge(c, wallet).status == 200
    proxy.stop()
    whole = tmp_path / "whole.jsonl"
    whole.write_bytes(moved.read_bytes() + proxy.audit_path.read_bytes())
    assert audit_verifier.verify(whole, keys).valid


@pytest.mark.parametrize("damage", ["half a line more", "last line cut", "last three lines gone", "file gone"])
def test_a_file_that_a_crash_cut_short_is_repaired_at_start(binary, upstream, tmp_path, damage):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration())
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1 USDC")
    keys = verifier_keys(proxy)
    with proxy.connection() as c:
        for _ in range(5):
            assert charge(c, wallet).status == 200
    proxy.kill()
    octets = proxy.audit_path.read_bytes()
    if damage == "half a line more":
        proxy.audit_path.write_bytes(octets + b'{"amount":"1","ev')
    elif damage == "last line cut":
        proxy.audit_path.write_bytes(octets[:-40])
    elif damage == "last three lines gone":
        proxy.audit_path.write_bytes(b"".join(octets.splitlines(keepends=True)[:-3]))
    else:
        proxy.audit_path.unlink()
    proxy.start()
    proxy.settle_log()
    assert proxy.audit_path.read_bytes().startswith(octets), "what was written before is there again, octet for octet"
    proxy.stop()
    assert audit_verifier.verify(proxy.audit_path, keys).valid
    assert sequences(proxy) == list(range(1, len(sequences(proxy)) + 1))
    proxy.assert_books_balance()


def test_no_line_twice_or_missing_after_kills_under_load_and_rotation(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=configuration('rotate = "64 KiB"'))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    keys = verifier_keys(proxy)
    paid, lock = [], threading.Lock()

    def load(stop):
        while not stop.is_set():
            try:
                with proxy.connection(timeout=3) as c:
                    while not stop.is_set():
                        response = charge(c, wallet)
                        if response.status == 200:
                            with lock:
                                paid.append(response.receipt()["reference"])
            except (OSError, ConnectionError, AssertionError, StopIteration, ValueError):
                time.sleep(0.02)

    for number in range(6):
        stop = threading.Event()
        threads = [threading.Thread(target=load, args=(stop,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        if number % 2:
            proxy.process.send_signal(signal.SIGUSR1)
            time.sleep(0.01 * number)
        proxy.kill()
        stop.set()
        for thread in threads:
            thread.join()
        proxy.start()
    proxy.stop()
    numbers = sequences(proxy)
    assert numbers == list(range(1, len(numbers) + 1))
    report = audit_verifier.verify(proxy.audit_path, keys)
    assert report.valid, report
    settled = [json.loads(line)["reference"] for line in lines_of(proxy.audit_path) if b'"event":"charge.settled"' in line]
    assert len(settled) == len(set(settled)) and set(paid) <= set(settled) and len(paid) > 50
    proxy.assert_books_balance()


def test_the_verifier_runs_as_a_program(kept):
    copy, lines, keys, _ = kept
    key = keys[0]
    text = f"{key.name}+{key.identifier.hex()}+{base64.b64encode(bytes([1]) + key.key).decode()}"
    both(copy, keys, lines)
    script = Path(audit_verifier.__file__)
    sound = subprocess.run([sys.executable, str(script), "--key", text, str(copy.log)], capture_output=True, text=True)
    assert sound.returncode == 0 and "hold" in sound.stdout and "--pin" in sound.stdout
    copy.log.write_bytes(copy.log.read_bytes().replace(b'"wallet.thawed"', b'"wallet.frozen"', 1))
    spoilt = subprocess.run([sys.executable, str(script), "--key", text, str(copy.log)], capture_output=True, text=True)
    assert spoilt.returncode == 1 and "altered" in spoilt.stdout
    # Farebox verifies a copy anywhere with no more than the key.
    elsewhere = subprocess.run([copy.proxy.binary, "audit", "verify", "--file", str(copy.log), "--key", text], capture_output=True, text=True, cwd=copy.state)
    assert elsewhere.returncode == 2 and "was altered" in elsewhere.stderr, elsewhere
