"""Two workers beside one, and a ledger with very many sessions."""

import os
import secrets
import signal
import sqlite3
import time

from counted import resident
from harness import CONFIGURATION, Farebox, open_session
from prepaid import PrepaidWallet
from processes import LOAD_CORE, PROXY_CORE, cpu_nanoseconds, pinned

WORKERS = "workers"
SESSIONS = "sessions-1m"


def workers(bench):
    """CPU per request with two workers and with one.

    There are two cores for load, upstream and proxy together, so throughput tells nothing of two workers: what would keep them from being
    twice as fast, waiting and caches that move between cores, is CPU that a request costs more. Both have both cores.
    """
    both = ["taskset", "-c", f"{PROXY_CORE},{LOAD_CORE}"]
    proxies = {}
    for count in (1, 2):
        proxy = Farebox(bench.options.farebox, bench.folder / f"farebox-{count}-workers", bench.upstream.port, workers=count, prefix=both)
        wallet = PrepaidWallet.new()
        proxy.create_wallet(wallet, "1000000 USDC")
        proxies[count] = proxy, [open_session(proxy, wallet, "/paid", 100_000_000).short_form for _ in range(100)]
    try:
        for _ in range(bench.options.repetitions):
            for count, (proxy, values) in proxies.items():
                bench.measure(WORKERS, f"{count} worker" + "s" * (count > 1), proxy, "/paid", field="Prepaid-Session", values=values, connections=64)
    finally:
        for proxy, _ in proxies.values():
            proxy.stop()


def clone(ledger, count):
    """Adds `count` open sessions to a ledger that is closed: the image of one that was opened by its payer, under other numbers and names,
    and without its money, so that the books still balance."""
    database = sqlite3.connect(ledger)
    database.execute("PRAGMA synchronous = OFF")
    balance_key, balance = database.execute("SELECT key, image FROM record WHERE kind = 5 ORDER BY key LIMIT 1").fetchone()
    (details,) = database.execute("SELECT image FROM record WHERE kind = 4 AND key = ?", (balance_key,)).fetchone()
    claims = database.execute("SELECT key, image FROM record WHERE kind = 7")
    claim_key, claim = next((key, image) for key, image in claims if key in details)
    first = 1 << 40

    def records():
        for number in range(first, first + count):
            key, octets = number.to_bytes(8, "big") + bytes(24), number.to_bytes(8, "little")
            # Both begin with the session's number; behind it stands its name, which is the hash of a secret. Its opening is claimed.
            name, challenge = secrets.token_bytes(32), secrets.token_bytes(32)
            yield 4, key, octets + name + details[40:].replace(claim_key, challenge)
            yield 7, challenge, claim[:1] + name + claim[33:]
            # Deposit, settled and total stand between the merchant and the last 36 octets.
            yield 5, key, octets + balance[8:26] + bytes(len(balance) - 62) + balance[-36:]

    with database:
        database.executemany("INSERT INTO record(kind, key, image) VALUES(?, ?, ?)", records())
    database.close()


def sessions(bench):
    """Start, memory and cost per request where a million sessions are open and a thousand are used, beside a thousand."""
    count = 100_000 if bench.options.quick else 1_000_000
    proxy = Farebox(bench.options.farebox, bench.folder / "farebox-sessions", bench.upstream.port, workers=1, prefix=pinned(PROXY_CORE, []))
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "1000000 USDC")
    values = [open_session(proxy, wallet, "/paid", 100_000_000).short_form for _ in range(1000)]
    load = dict(field="Prepaid-Session", values=values, connections=64)
    before = {}
    try:
        for _ in range(bench.options.repetitions):
            bench.measure(SESSIONS, "1,000 open", proxy, "/paid", **load)
        proxy.stop()
        proxy.start()
        before = resident(proxy.pid)
        proxy.stop()
        clone(proxy.state / "ledger" / "ledger.db", count)
        began = time.monotonic()
        proxy.start()
        bench.record(SESSIONS, "all open", {"start_s": time.monotonic() - began, "octets": (resident(proxy.pid) - before) / count})
        for _ in range(bench.options.repetitions):
            bench.measure(SESSIONS, f"{count:,} open", proxy, "/paid", **load)
    finally:
        proxy.process.kill()
