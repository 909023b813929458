"""kill -9 and power cuts under mixed paid load, again and again: nothing acknowledged is lost, nothing counted twice, the audit log verifies, and
the ledger opens without anybody's help."""

import os
import random
import subprocess
import time

import pytest

from fragile_disk import FragileDisk, missing
from harness import CONFIGURATION, Farebox
from remembering import Crowd, Payer

CYCLES = int(os.environ.get("FAREBOX_KILL_CYCLES", "30"))
CUTS = int(os.environ.get("FAREBOX_POWER_CUTS", "10"))
FIRST_STARTS = max(6, CUTS // 2)
SEED = int(os.environ.get("FAREBOX_CRASH_SEED", "0")) or random.randrange(1 << 32)
PAYERS = 8
# Renamed often, so that cuts meet renames.
AUDIT = """
[audit]
rotate = "64 KiB"
checkpoint-every = 32
"""


def test_kill_9_cycles(binary, upstream, tmp_path):
    print(f"FAREBOX_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    proxy = Farebox(binary, tmp_path, upstream.port, configuration=CONFIGURATION + AUDIT)
    crowd = Crowd(proxy, PAYERS, SEED)
    for cycle in range(CYCLES):
        time.sleep(0.05 + chance.random() * 0.4)
        crowd.meet()
        proxy.kill()
        proxy.start()
        crowd.check()
        if cycle % 10 == 9:
            proxy.command("ledger", "verify")
    time.sleep(0.3)
    crowd.stop()


needs_disk = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@needs_disk
def test_power_cuts(binary, upstream, tmp_path):
    print(f"FAREBOX_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    with FragileDisk(tmp_path / "state") as disk:
        proxy = Farebox(binary, tmp_path, upstream.port, configuration=CONFIGURATION + AUDIT)
        crowd = Crowd(proxy, PAYERS, SEED)
        for cut in range(CUTS):
            time.sleep(0.1 + chance.random())
            crowd.meet()
            disk.cut(SEED + cut)
            proxy.kill()
            disk.restore()
            proxy.start()
            crowd.check()
            proxy.assert_books_balance()
        time.sleep(0.3)
        crowd.stop()


@needs_disk
def test_power_cuts_at_the_first_start(binary, upstream, tmp_path):
    """Keys, ledger and log are made on the first start: whatever of it a cut leaves, the next start makes the rest."""
    print(f"FAREBOX_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    for number in range(FIRST_STARTS):
        folder = tmp_path / str(number)
        with FragileDisk(folder / "state") as disk:
            proxy = Farebox(binary, folder, upstream.port, starts=False)
            for again in range(2):
                starting = subprocess.Popen([proxy.binary, "serve", str(proxy.configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(chance.random() * 0.12)
                disk.cut(SEED + 2 * number + again)
                starting.kill()
                starting.wait()
                disk.restore()
            proxy.start()
            payer = Payer(proxy, SEED)
            payer.charge()
            payer.settle_up()
            proxy.stop()
            proxy.assert_books_balance()
