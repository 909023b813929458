"""Verifies a Farebox audit log without any of Farebox's code.

    python audit_verifier.py --key VERIFIER_KEY [--pin FILE] audit.jsonl

`VERIFIER_KEY` is the checkpoint key as `farebox keys list --json` prints it (C2SP signed-note form: name+id+key). The files that
were rotated are looked for beside the log. Ends with 0 where everything holds, with 1 and the first bad line otherwise.

Every line is JCS (RFC 8785) with `prev`, the SHA-256 of the line before, and `seq`, counted from 1. The lines are the leaves of an
RFC 6962 tree. A checkpoint is a line of its own, and a leaf as well: `size` and `root` of the tree before it, `totals` of every
amount that was moved, and a C2SP checkpoint `note`, signed by Ed25519, whose extension line is the SHA-256 of the checkpoint's own
line without its note.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EVENTS = frozenset("""start stop configuration.loaded challenges keys.rotated charge.settled charge.voided payment.refused session.opened
session.debited session.returned session.toppedup session.closed wallet.created wallet.funded wallet.defunded wallet.policy wallet.frozen
wallet.thawed wallet.rekeyed merchant.payout refund checkpoint""".split())
MONEY = frozenset("""charge.settled session.opened session.debited session.returned session.toppedup session.closed wallet.funded
wallet.defunded merchant.payout refund""".split())
NO_LINE = "0" * 64


class Tree:
    """The Merkle tree hash of RFC 6962, section 2.1, grown leaf by leaf."""

    def __init__(self):
        self.size, self.peaks = 0, []

    def append(self, leaf: bytes):
        node, size = hashlib.sha256(b"\0" + leaf).digest(), self.size
        while size & 1:
            node, size = hashlib.sha256(b"\1" + self.peaks.pop() + node).digest(), size >> 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        node = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            node = hashlib.sha256(b"\1" + left + node).digest()
        return node


@dataclass(frozen=True)
class VerifierKey:
    name: str
    identifier: bytes
    key: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        name, identifier, encoded = text.strip().split("+", 2)
        octets = base64.b64decode(encoded, validate=True)
        if len(octets) != 33 or octets[0] != 1:
            raise ValueError("not an Ed25519 key")
        expected = hashlib.sha256(name.encode() + b"\n" + octets).digest()[:4]
        if expected.hex() != identifier:
            raise ValueError("the key's identifier does not fit the key")
        return cls(name, expected, octets[1:])

    def text_of(self, note: str) -> str | None:
        """The signed text of a note, or None where this key has not signed it."""
        text, gap, signatures = note.rpartition("\n\n")
        if not gap or not signatures.endswith("\n"):
            return None
        text += "\n"
        for line in signatures[:-1].split("\n"):
            match = re.fullmatch("\u2014 ([^ ]+) ([A-Za-z0-9+/=]+)", line)
            if not match or match[1] != self.name:
                continue
            octets = base64.b64decode(match[2], validate=True)
            if octets[:4] != self.identifier:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(self.key).verify(octets[4:], text.encode())
                return text
            except InvalidSignature:
                return None
        return None


@dataclass(frozen=True)
class Pin:
    """A state of the log that was kept elsewhere."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """Reads a checkpoint's note, a checkpoint's line, or a receipt (JSON, or base64url of it)."""
        if "\n\n" in text:
            lines = text.split("\n")
            return cls(int(lines[1]), base64.b64decode(lines[2], validate=True))
        text = text.strip()
        if not text.startswith("{"):
            text = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        members = json.loads(text)
        if "logSize" in members:
            return cls(int(members["logSize"]), root_octets(members["logRoot"]))
        return cls(int(members["size"]), root_octets(members["root"]))


def root_octets(text: str) -> bytes:
    return bytes.fromhex(text) if re.fullmatch("[0-9a-f]{64}", text) else base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


@dataclass
class Report:
    lines: int = 0
    first_sequence: int = 1
    last_sequence: int = 0
    checkpoints: int = 0
    """Lines behind the last checkpoint: chained, but not signed."""
    uncovered: int = 0
    pinned: bool = False
    """The first line that is wrong, and why; None where everything holds."""
    fault: str | None = None
    file: str | None = None
    line: int | None = None
    sequence: int | None = None
    totals: dict = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        return self.fault is None

    @property
    def may_be_cut(self) -> bool:
        """Whether lines may be missing at the end without a trace."""
        return not self.pinned

    def fail(self, fault, place, sequence):
        self.fault, (self.file, self.line), self.sequence = fault, place, sequence
        return self


def files_of(path) -> list[Path]:
    path = Path(path)
    rotated = sorted(p for p in path.parent.iterdir() if re.fullmatch(re.escape(path.name) + r"\.\d{20}", p.name))
    return rotated + ([path] if path.exists() else [])


def unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def parse_line(octets: bytes):
    """The members of a line; None where it is not a canonical line of this log."""
    try:
        members = json.loads(octets.decode(), object_pairs_hook=unique)
        if not isinstance(members, dict) or rfc8785.dumps(members) != octets:
            return None
        whole = type(members["seq"]) is int and members["seq"] > 0 and re.fullmatch("[0-9a-f]{64}", members["prev"])
        if not whole or members["event"] not in EVENTS or (members["event"] == "checkpoint") != ("note" in members):
            return None
        return members
    except (ValueError, KeyError, TypeError, RecursionError, rfc8785.CanonicalizationError):
        return None


def checkpoint_text(members: dict, keys) -> str | None:
    """The signed text of a checkpoint's note, where a key signed it and it covers the rest of the line."""
    bare = rfc8785.dumps({name: value for name, value in members.items() if name != "note"})
    for key in keys:
        text = key.text_of(members["note"]) if isinstance(members["note"], str) else None
        if text is None:
            continue
        lines = text.split("\n")
        if len(lines) == 5 and lines[0] == key.name and lines[3] == "line " + hashlib.sha256(bare).hexdigest():
            return text
    return None


def count(members: dict, totals: dict) -> bool:
    """Adds what a line moves to the totals; False where the line does not say it."""
    digits = members.get("refunded" if members["event"] == "session.closed" else "amount")
    currency = members.get("currency")
    if not isinstance(digits, str) or not re.fullmatch("0|[1-9][0-9]*", digits) or not isinstance(currency, str):
        return False
    sums = totals.setdefault(currency, {})
    sums[members["event"]] = str(int(sums.get(members["event"], "0")) + int(digits))
    return True


def chain_fault(lines, index, members, previous, expected, keys):
    """What a line that does not fit the line before it says: (fault, index of the line that is wrong)."""
    if members["prev"] == previous:
        return None if members["seq"] == expected else ("altered", index)
    if members["seq"] != expected:
        later = any((other := parse_line(octets)) and other["seq"] == expected for octets, _ in lines[index + 1:])
        return ("reordered" if members["seq"] < expected or later else "removed", index)
    # Either this line or the one before it was altered: what commits to this one tells.
    follower = parse_line(lines[index + 1][0]) if index + 1 < len(lines) else None
    if members["event"] == "checkpoint":
        intact = checkpoint_text(members, keys) is not None
    elif follower is not None:
        intact = follower["prev"] == hashlib.sha256(lines[index][0]).hexdigest()
    else:
        intact = index + 1 == len(lines)
    return ("altered", index - 1 if intact and index > 0 else index)


def verify(path, keys, pin: Pin | None = None, begins_later=False) -> Report:
    """Verifies a log with its rotated files; one whose oldest files are kept elsewhere only where `begins_later` says so."""
    report = Report()
    lines = []
    for file in files_of(path):
        octets = file.read_bytes()
        whole = octets.split(b"\n")
        if whole.pop():
            whole.append(None)
        lines += [(line, (str(file), number)) for number, line in enumerate(whole, 1)]
    if not lines:
        raise FileNotFoundError(path)
    tree, totals, previous, expected, covered = Tree(), report.totals, NO_LINE, 1, 0
    for index, (octets, place) in enumerate(lines):
        if octets is None:
            return report.fail("partial", place, expected)
        members = parse_line(octets)
        if members is None:
            return report.fail("altered", place, expected)
        if index == 0 and begins_later and members["seq"] > 1:
            # The beginning is kept elsewhere: chain and signatures can be verified from here on, the tree and the totals cannot.
            report.first_sequence = expected = members["seq"]
            previous = members["prev"]
        if fault := chain_fault(lines, index, members, previous, expected, keys):
            return report.fail(fault[0], lines[fault[1]][1], expected - (index - fault[1]))
        if members["event"] == "checkpoint":
            text = checkpoint_text(members, keys)
            if text is None or members["size"] + 1 != expected or text.split("\n")[1:3] != [str(members["size"]), base64.b64encode(bytes.fromhex(members["root"])).decode()]:
                return report.fail("signature", place, expected)
            if report.first_sequence == 1:
                if members["root"] != tree.root().hex():
                    return report.fail("root", place, expected)
                if members["totals"] != totals:
                    return report.fail("totals", place, expected)
            report.checkpoints += 1
            covered = expected
        if members["event"] in MONEY and not count(members, totals):
            return report.fail("altered", place, expected)
        previous = hashlib.sha256(octets).hexdigest()
        tree.append(octets)
        report.lines, report.last_sequence, expected = report.lines + 1, expected, expected + 1
        if pin and report.first_sequence == 1 and tree.size == pin.size:
            if tree.root() != pin.root:
                return report.fail("pin", place, report.last_sequence)
            report.pinned = True
    report.uncovered = report.last_sequence - covered if covered else report.lines
    if pin and report.first_sequence == 1 and pin.size > 0 and not report.pinned:
        return report.fail("cut", (lines[-1][1][0], lines[-1][1][1] + 1), expected)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--key", action="append", required=True, help="a checkpoint key, as name+id+key")
    parser.add_argument("--pin", type=Path, help="a checkpoint or receipt that was kept elsewhere")
    parser.add_argument("--begins-later", action="store_true", help="the oldest files are kept elsewhere")
    parser.add_argument("log")
    arguments = parser.parse_args()
    report = verify(arguments.log, [VerifierKey.parse(k) for k in arguments.key], Pin.parse(arguments.pin.read_text()) if arguments.pin else None, arguments.begins_later)
    if not report.valid:
        print(f"{report.file}:{report.line}: line {report.sequence} of the log: {report.fault}")
        return 1
    print(f"{report.lines} lines, {report.checkpoints} checkpoints hold; {report.uncovered} lines behind the last one are chained, not signed")
    if report.may_be_cut:
        print("whether lines were cut off at the end cannot be told without a checkpoint or receipt kept elsewhere (--pin)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
