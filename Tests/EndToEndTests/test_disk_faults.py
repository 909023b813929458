"""A disk that refuses, fails or can only be read: nothing is sold meanwhile, what is free goes on, and when the disk is well again so is the proxy,
with nobody's help and with its books in order, even if the power is cut afterwards."""

import os
import random
import time

import pytest

from fragile_disk import CHANGING, SYNCING, FragileDisk, missing
from harness import CONFIGURATION, Farebox, challenge_of, fetch, open_session
from prepaid import PrepaidWallet
from remembering import PRICE, Crowd

ROUNDS = int(os.environ.get("FAREBOX_DISK_FAULTS", "25"))
SEED = int(os.environ.get("FAREBOX_CRASH_SEED", "0")) or random.randrange(1 << 32)
PATH = "/api/echo"
AUDIT = """
[audit]
rotate = "64 KiB"
checkpoint-every = 32
"""
pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def status_of(proxy, headers=(), path=PATH):
    with proxy.connection() as c:
        return fetch(c, "GET", path, headers).status


@pytest.mark.parametrize("calls,error", [(["write"], "EIO"), (["write"], "ENOSPC"), (["fsync"], "EIO"), ([*CHANGING, *SYNCING], "EROFS"), (["write", "read", *SYNCING], "EIO")],
                         ids=["write-EIO", "write-ENOSPC", "sync-EIO", "EROFS", "everything-EIO"])
def test_a_failing_disk_stops_sales_and_nothing_else(binary, upstream, tmp_path, calls, error):
    with FragileDisk(tmp_path / "state") as disk:
        proxy = Farebox(binary, tmp_path, upstream.port)
        wallet = PrepaidWallet.new()
        proxy.create_wallet(wallet, "10 USDC")
        secret = open_session(proxy, wallet, PATH, 1_000_000)
        key = {"Prepaid-Session": secret.short_form}
        with proxy.connection() as c:
            value = wallet.transfer(challenge_of(fetch(c, "GET", PATH), "charge"))
        paid = 1
        for seed in range(2):
            disk.fail(calls, error, times=None)
            wait_for(lambda: status_of(proxy, key) == 503, 5, "sales stop")
            # The request that met the fault was forwarded while the disk worked.
            time.sleep(0.3)
            served = upstream.count(PATH)
            with proxy.connection() as c:
                for headers in 5 * (key, {"Authorization": value}, {}):
                    time.sleep(0.05)
                    response = fetch(c, "GET", PATH, headers)
                    assert response.status == 503 and int(response.get("retry-after")) > 0 and response.receipt() is None, (response.status, response.body)
                    assert response.problem() == "ledger-unavailable"
                for _ in range(20):
                    assert fetch(c, "GET", "/free/other").status == 200
                assert fetch(c, "GET", "/healthz").status == 200 and fetch(c, "GET", "/readyz").status == 503
            assert upstream.count(PATH) == served, "the upstream was asked"
            disk.mend()
            wait_for(lambda: status_of(proxy, key) == 200, 5, "sales go on")
            with proxy.connection() as c:
                assert fetch(c, "GET", PATH, {"Authorization": value}).status == (200 if seed == 0 else 403)
                paid += sum(fetch(c, "GET", PATH, key).status == 200 for _ in range(10))
            spent = int(proxy.session(secret.session_id)["spent"])
            assert spent >= (paid + seed + 1) * PRICE
            # What a failed sync has left in the caches only is not on the disk: what was sold since has to be.
            disk.cut(SEED + seed)
            proxy.kill()
            disk.restore()
            proxy.start()
            assert int(proxy.session(secret.session_id)["spent"]) >= spent, "what was acknowledged is lost"
            assert proxy.balance(wallet) == 9_000_000 - PRICE
            proxy.assert_books_balance()
        proxy.stop()
        proxy.assert_books_balance()


@pytest.mark.parametrize("faults", [[(["fsync"], 1)], [(["fsync"], 2)], [(["fsync"], 1), (["write"], 1)]], ids=["commit", "commit-fold", "commit-database"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_gap_in_the_log_is_closed(binary, upstream, tmp_path, error, faults):
    """A sync that failed leaves pages that can be read and are not on the disk; what is sold behind them is kept all the same, also where the ledger
    finds no room when it is opened again."""
    with FragileDisk(tmp_path / "state") as disk:
        proxy = Farebox(binary, tmp_path, upstream.port)
        wallet = PrepaidWallet.new()
        proxy.create_wallet(wallet, "10 USDC")
        secret = open_session(proxy, wallet, PATH, 5_000_000)
        key = {"Prepaid-Session": secret.short_form}
        for seed in range(6):
            with proxy.connection() as c:
                assert [fetch(c, "GET", PATH, key).status for _ in range(30)] == 30 * [200]
            disk.fail(["fsync"], "EIO", path="-wal")
            for calls, times in faults:
                # The write is one to the database: the log's own are not refused.
                disk.fail(calls, error, times=times, path="ledger.db" if "write" in calls else "-wal")
            wait_for(lambda: status_of(proxy, key) == 503, 5, "a commit fails")
            wait_for(lambda: status_of(proxy, key) == 200, 10, "sales go on")
            disk.mend()
            with proxy.connection() as c:
                assert [fetch(c, "GET", PATH, key).status for _ in range(30)] == 30 * [200]
            spent = int(proxy.session(secret.session_id)["spent"])
            disk.cut(SEED + seed)
            proxy.kill()
            disk.restore()
            proxy.start()
            assert int(proxy.session(secret.session_id)["spent"]) >= spent, "what was acknowledged is lost"
            proxy.assert_books_balance()
        proxy.stop()
        proxy.assert_books_balance()


def test_any_call_may_fail_under_load(binary, upstream, tmp_path):
    """Some n-th call fails, once or a few times, and is followed by a power cut now and then."""
    print(f"FAREBOX_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    with FragileDisk(tmp_path / "state") as disk:
        proxy = Farebox(binary, tmp_path, upstream.port, configuration=CONFIGURATION + AUDIT)
        crowd = Crowd(proxy, 6, SEED)
        pid, hits = proxy.pid, 0
        for number in range(ROUNDS):
            calls = chance.choice([["write"], ["write"], ["fsync"], ["fsync"], ["fsyncdir"], ["truncate"], ["rename", "create"], ["read"], ["open"]])
            times = chance.choice([1, 1, 2, 5])
            crowd.meet(times)
            disk.fail(calls, chance.choice(["EIO", "EIO", "ENOSPC", "EROFS"]), after=chance.randrange(60), times=times)
            time.sleep(0.3 + 0.4 * chance.random())
            # What is called often has to be struck, however slow the machine; names change seldom.
            deadline = time.monotonic() + 5
            while set(calls) & {"write", "fsync"} and not sum(disk.hits()) and time.monotonic() < deadline:
                time.sleep(0.05)
            hits += sum(disk.hits())
            disk.mend()
            crowd.check()
            assert proxy.pid == pid and proxy.process.poll() is None, proxy.log_path.read_text()[-2000:]
            if chance.random() < 0.2:
                crowd.meet()
                disk.cut(SEED + number)
                proxy.kill()
                disk.restore()
                proxy.start()
                pid = proxy.pid
        assert hits > 0, "no fault"
        with proxy.connection() as c:
            wait_for(lambda: fetch(c, "GET", "/readyz").status == 200, 10, "ready")
        time.sleep(0.3)
        crowd.stop()
