"""kill -9 under paid load, again and again: no acknowledged debit lost, none counted twice, the audit log verifies."""

import os
import random
import threading
import time

import pytest

from harness import Farebox, challenge_of, fetch, open_session
from prepaid import PrepaidWallet, SessionSecret

CYCLES = int(os.environ.get("FAREBOX_KILL_CYCLES", "50"))
CLIENTS = 8
PRICE = 1000


class Client(threading.Thread):
    """Uses one session and pays charges, and remembers what it was told."""

    def __init__(self, proxy, wallet, secret, seed):
        super().__init__(daemon=True)
        self.proxy, self.wallet, self.secret = proxy, wallet, secret
        self.random = random.Random(seed)
        self.acknowledged_session = 0
        self.uncertain_session = 0
        self.charges = {}
        self.stopping = False

    def run(self):
        while not self.stopping:
            try:
                with self.proxy.connection(timeout=5) as c:
                    while not self.stopping:
                        if self.random.random() < 0.7:
                            self.use_session(c)
                        else:
                            self.pay_charge(c)
            except (OSError, AssertionError, ValueError):
                time.sleep(0.02)

    def use_session(self, c):
        self.uncertain_session += 1
        response = fetch(c, "GET", "/api/echo", {"Prepaid-Session": self.secret.short_form})
        if response.complete:
            self.uncertain_session -= 1
            if response.status == 200:
                self.acknowledged_session += 1

    def pay_charge(self, c):
        response = fetch(c, "GET", "/api/echo")
        if response.status != 402:
            return
        value = self.wallet.transfer(challenge_of(response, "charge"))
        self.charges[value] = None
        response = fetch(c, "GET", "/api/echo", {"Authorization": value})
        if response.complete and response.status == 200:
            self.charges[value] = response.receipt()["reference"]


def test_kill_9_cycles(binary, upstream, tmp_path):
    proxy = Farebox(binary, tmp_path, upstream.port)
    wallets = [PrepaidWallet.new() for _ in range(CLIENTS)]
    for wallet in wallets:
        proxy.create_wallet(wallet, "1000 USDC")
    clients = [Client(proxy, w, open_session(proxy, w, "/api/echo", 500_000_000), n) for n, w in enumerate(wallets)]
    for client in clients:
        client.start()
    random.seed(20)
    for cycle in range(CYCLES):
        time.sleep(0.05 + random.random() * 0.25)
        proxy.kill()
        proxy.start()
        if cycle % 10 == 9:
            proxy.command("ledger", "verify")
    for client in clients:
        client.stopping = True
    for client in clients:
        client.join(timeout=20)
    for client in clients:
        opening = 1
        view = proxy.session(client.secret.session_id)
        requests_paid = int(view["spent"]) // PRICE - opening
        assert int(view["spent"]) % PRICE == 0
        assert client.acknowledged_session <= requests_paid <= client.acknowledged_session + client.uncertain_session, "an acknowledged debit was lost, or one counted twice"
        settled = 0
        with proxy.connection() as c:
            for value, reference in client.charges.items():
                response = fetch(c, "GET", "/api/echo", {"Authorization": value})
                if reference is not None:
                    assert response.status == 403 and reference in response.body.decode(), "an acknowledged charge was lost"
                settled += 1 if response.status in (200, 403) else 0
        balance = proxy.balance(client.wallet)
        assert balance == 1_000_000_000 - 500_000_000 - settled * PRICE
    total = sum(c.acknowledged_session for c in clients)
    assert total > CYCLES, "hardly any load"
    proxy.stop()
    proxy.assert_books_balance()
