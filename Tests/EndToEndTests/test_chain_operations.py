"""What operators see of chains: their state under each fault, payments and accounts, the log's notices, the metrics, the documents."""

import json
import os
import pty
import subprocess
import threading
import time

import pytest
import requests

from chain.contracts import send
from chain.facilitator import Facilitator
from chain.wallet import new_account
from harness import CommandFailed
from paystage import COIN, GWEI, PRICE, SIGNER, SOLD_BY_ITSELF, Stage, key_file

SECRET = "/v2/secret-of-the-provider"
ACCOUNT = "usdc@eip155:84532"


class Shop:
    """A proxy that sells on the tests' chain, and what its operators ask of it."""

    def __init__(self, stage):
        self.stage, self.farebox, self.node, self.signer = stage, stage.farebox, stage.node, stage.signer

    def status(self):
        done = self.farebox.run("chain", "status", "--json")
        assert done.returncode in (0, 1), done.stderr
        answer = json.loads(done.stdout)
        assert answer["well"] == (done.returncode == 0)
        return answer

    def chain(self):
        return self.status()["chains"][0]

    def wait(self, what, seconds=20):
        """The chain's state, once it is as it should be."""
        return until(self.chain, what, seconds)

    def payments(self, *which):
        return self.farebox.command("payment", "list", *which)["payments"]

    def log(self):
        return self.farebox.log_path.read_text()


def until(read, what, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        found = read()
        if what(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def own_shop(binary, upstream, folder, node, usdc, rich, wei=100 * COIN):
    """A shop that settles itself, with so much money for gas; its node's URL carries a provider's key."""
    signer = new_account()
    node.fund(signer.address, wei)
    chain = SIGNER.format(key_file(folder, signer))
    return Shop(Stage(binary, upstream, folder / "farebox", node, usdc, rich, chain, SOLD_BY_ITSELF, [node.url + SECRET], signer=signer))


@pytest.fixture(scope="module")
def shop(binary, upstream, node, usdc, rich, tmp_path_factory):
    shop = own_shop(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich)
    shop.wait(lambda chain: chain["state"] == "usable")
    yield shop
    shop.stage.close()


@pytest.fixture
def healthy(shop, node):
    """The shop, whose node is well again behind the test."""
    fee = node.chain.base_fee
    yield shop
    node.heal()
    if node.server is None:
        node.start()
    node.set_base_fee(fee)
    node.release()
    node.mine()
    shop.wait(lambda chain: chain["state"] == "usable")


# The state of chains.


def test_a_chain_that_is_well(shop):
    stage = shop.stage
    assert stage.send(stage.payment(stage.payer())).status_code == 200
    chain = shop.wait(lambda chain: chain["sent"] and not chain["outbox"])
    assert (chain["name"], chain["chain"], chain["problems"]) == ("base-sepolia", "eip155:84532", [])
    assert chain["nodes"] == [stage.node.url] and chain["block"] > 0
    assert int(chain["gasPriceWei"]) > 0 and chain["gasPriceLimitWei"] == str(1000 * 10**9)
    assert chain["signer"]["address"] == shop.signer.address and int(chain["signer"]["balanceWei"]) > 99 * COIN
    assert int(chain["signer"]["paymentsLeft"]) > 100
    (sent,) = chain["sent"]
    assert sent["sender"] == shop.signer.address and sent["succeeded"] >= 1 and sent["failed"] == 0
    assert int(sent["gasWei"]) > 0
    text = shop.farebox.run("chain", "status")
    assert text.returncode == 0 and "base-sepolia (eip155:84532): usable" in text.stdout, text.stdout + text.stderr
    assert shop.signer.address in text.stdout and "enough for" in text.stdout
    for told in (text.stdout, shop.farebox.run("chain", "status", "--json").stdout, shop.log(), shop.farebox.run("check", str(shop.farebox.configuration)).stdout):
        assert SECRET not in told


def faults(node):
    return {
        "unreachable": node.stop,
        "other-chain": lambda: node.claim(1),
        "gas-too-dear": lambda: (node.set_base_fee(2000 * 10**9), node.mine()),
        "refused": lambda: node.fail("refusal", 10**6, "eth_blockNumber"),
    }


@pytest.mark.parametrize("code", ["unreachable", "other-chain", "gas-too-dear", "refused"])
def test_a_chain_that_cannot_be_used(healthy, node, code):
    faults(node)[code]()
    chain = healthy.wait(lambda chain: chain["state"] == "unusable")
    assert chain["fault"]["code"] == code and chain["problems"] == [chain["fault"]["message"]]
    done = healthy.farebox.run("chain", "status")
    assert done.returncode == 1 and chain["fault"]["message"] in done.stdout and "base-sepolia" in done.stderr
    assert 'farebox_chain_reachable{chain="base-sepolia"} 0' in healthy.farebox.metrics()


def test_the_log_tells_of_a_chain_that_goes_and_comes_once_a_minute(binary, upstream, node, usdc, rich, tmp_path):
    shop = own_shop(binary, upstream, tmp_path, node, usdc, rich)
    try:
        shop.wait(lambda chain: chain["state"] == "usable")
        for _ in range(2):
            node.claim(1)
            shop.wait(lambda chain: chain["state"] == "unusable")
            node.heal()
            shop.wait(lambda chain: chain["state"] == "usable")
        log = shop.log()
        assert log.count("nothing can be settled on a chain") == 1 and "a node is one of another chain" in log
        assert log.count("a chain can be used again") == 1
    finally:
        node.heal()
        shop.stage.close()


def test_a_signer_without_money_for_gas(binary, upstream, node, usdc, rich, tmp_path):
    price = int(node.rpc("eth_gasPrice"), 16)
    shop = own_shop(binary, upstream, tmp_path, node, usdc, rich, 20 * 200_000 * price)
    stage = shop.stage
    try:
        # Enough for some payments: they are sold, and operators are told.
        chain = shop.wait(lambda chain: chain["problems"])
        assert chain["state"] == "usable" and 5 <= int(chain["signer"]["paymentsLeft"]) <= 40 and "fill it up" in chain["problems"][0]
        assert not shop.status()["well"] and "a signer has little money for gas" in shop.log()
        assert stage.send(stage.payment(stage.payer())).status_code == 200
        # Not enough for one.
        left = int(node.rpc("eth_getBalance", shop.signer.address, "latest"), 16)
        send(node.rpc, shop.signer, rich.address, value=left - 21_000 * 4 * price, gas=21_000, max_fee=4 * price, tip=0)
        chain = shop.wait(lambda chain: chain["state"] == "unusable")
        assert chain["fault"]["code"] == "gas-money-missing" and chain["signer"]["paymentsLeft"] == "0"
        node.fund(shop.signer.address, COIN)
        until(shop.status, lambda status: status["well"])
    finally:
        stage.close()


def test_a_facilitator_that_does_not_answer(binary, upstream, node, usdc, rich, tmp_path):
    with Facilitator(node.url) as facilitator:
        shop = Shop(Stage.settled_by(facilitator, binary, upstream, tmp_path, node, usdc, rich))
        try:
            # Nodes that answer do not stand in for it.
            facilitator.fail("error", 10**6)
            chain = shop.wait(lambda chain: chain["state"] == "unusable")
            assert chain["facilitator"] == {"name": "local", "url": facilitator.url, "answers": False}
            facilitator.heal()
            chain = shop.wait(lambda chain: chain["state"] == "usable")
            assert chain["facilitator"]["answers"] is True and chain["problems"] == []
        finally:
            shop.farebox.stop()


def test_a_transaction_that_is_stuck_and_replaced(healthy, node):
    stage = healthy.stage
    payment, answers = stage.payment(stage.payer(), "/paid/stuck"), []
    node.hold()
    waiting = threading.Thread(target=lambda: answers.append(stage.send(payment, "/paid/stuck")))
    waiting.start()
    (transaction,) = healthy.wait(lambda chain: chain["outbox"])["outbox"]
    assert transaction["sender"] == healthy.signer.address and transaction["purpose"] == "payment"
    (open_payment,) = healthy.payments("--open")
    assert open_payment["payment"] == transaction["for"] and open_payment["state"] == "submitted" and not open_payment["unresolved"]
    (replaced,) = healthy.wait(lambda chain: chain["outbox"][0]["replaced"] > 0)["outbox"]
    assert replaced["nonce"] == transaction["nonce"] and replaced["transaction"] != transaction["transaction"]
    assert "a stuck transaction is sent again with a higher fee" in healthy.log()
    stuck = healthy.wait(lambda chain: chain["problems"])
    assert "is stuck" in stuck["problems"][0] and stuck["state"] == "usable"
    metrics = healthy.farebox.metrics()
    assert 'farebox_chain_outbox_length{chain="base-sepolia"} 1' in metrics and "farebox_chain_open_payments 1" in metrics
    node.release()
    waiting.join(40)
    answers = answers if answers and answers[0].status_code == 200 else [stage.send(payment, "/paid/stuck")]
    assert answers[0].status_code == 200
    assert healthy.wait(lambda chain: not chain["outbox"])["problems"] == [] and healthy.payments("--open") == []


def test_a_nonce_that_another_program_took_is_told(healthy, node, rich):
    stage = healthy.stage
    payment = stage.payment(stage.payer(), "/paid/taken")
    node.hold()
    answer = stage.sending(payment, "/paid/taken")
    (ours,) = healthy.wait(lambda chain: chain["outbox"])["outbox"]
    node.forget(ours["transaction"])
    send(node.rpc, stage.signer, rich.address, value=1, nonce=int(ours["nonce"]), gas=21_000, max_fee=100 * GWEI, tip=50 * GWEI)
    node.release()
    answer.result(timeout=40)
    assert stage.send_until_served(payment, "/paid/taken").status_code == 200
    assert "another program uses the signer's key" in healthy.log()
    healthy.wait(lambda chain: not chain["outbox"])


# Payments.


def unserved(shop):
    """Pays for a request that the upstream breaks off: the payment and what was sent."""
    stage, path = shop.stage, f"/paid/{time.monotonic_ns()}/die"
    payer = stage.payer()
    payment = stage.payment(payer, path)
    assert stage.send(payment, path).status_code == 502
    (found,) = [entry for entry in shop.payments("--unserved") if entry["payer"] == payer.address.lower()]
    return found, payment, path


def balance(shop):
    merchants = shop.farebox.command("merchant", "list")["merchants"]
    return int(merchants[0]["balances"].get(ACCOUNT, 0))


def test_payments_are_listed_and_shown(shop):
    found, _, _ = unserved(shop)
    assert found["state"] == "unserved" and found["amount"] == str(PRICE) and found["currency"] == ACCOUNT and found["merchant"] == "acme"
    assert len(found["payment"]) == len(found["request"]) == 64 and found["transaction"].startswith("0x") and len(found["transaction"]) == 66
    receipt = shop.node.rpc("eth_getTransactionReceipt", found["transaction"])
    assert receipt["status"] == "0x1"
    assert shop.farebox.command("payment", "show", found["payment"]) == found
    assert shop.farebox.command("payment", "show", "0x" + found["payment"]) == found
    text = shop.farebox.run("payment", "show", found["payment"]).stdout
    assert "0.001 USDC on Base Sepolia (eip155:84532)" in text and found["transaction"] in text
    listed = shop.payments()
    assert found in listed and [int(entry["reference"]) for entry in listed] == sorted((int(entry["reference"]) for entry in listed), reverse=True)
    assert shop.payments("--limit", "1") == listed[:1]
    table = shop.farebox.run("payment", "list", "--unserved").stdout
    assert "0.001 USDC@base-sepolia" in table and found["payment"] in table
    assert f"farebox_chain_unserved_payments {len(shop.payments('--unserved'))}\n" in shop.farebox.metrics()
    for arguments, status in ((["show", "00" * 32], 1), (["show", "zz"], 64), (["list", "--open", "--unserved"], 64), (["write-off", "00" * 32, "--yes"], 1)):
        assert shop.farebox.run("payment", *arguments).returncode == status, arguments


def test_a_payment_is_written_off(shop):
    found, payment, path = unserved(shop)
    before = balance(shop)
    done = shop.farebox.run("payment", "write-off", found["payment"])
    assert done.returncode == 64 and "--yes" in done.stderr and balance(shop) == before
    written = shop.farebox.command("payment", "write-off", found["payment"], "--yes")
    assert written["state"] == "written-off" and balance(shop) == before + PRICE
    again = shop.farebox.run("payment", "write-off", found["payment"], "--yes")
    assert again.returncode == 1 and balance(shop) == before + PRICE
    assert shop.stage.send(payment, path).status_code == 403
    assert found["payment"] not in [entry["payment"] for entry in shop.payments("--unserved")]
    shop.farebox.settle_log()
    lines = [json.loads(line) for line in shop.farebox.audit_path.read_text().splitlines()]
    assert [line["payment"] for line in lines if line["event"] == "payment.writtenoff"][-1] == found["payment"]


@pytest.mark.parametrize("answer, status, state", [("n\n", 1, "unserved"), ("\n", 1, "unserved"), ("y\n", 0, "written-off")])
def test_on_a_terminal_a_write_off_is_asked_for(shop, answer, status, state):
    found, _, _ = unserved(shop)
    master, slave = pty.openpty()
    command = [shop.farebox.binary, "payment", "write-off", found["payment"], "--config", str(shop.farebox.configuration)]
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    asked = b""
    while b"[y/N]" not in asked:
        asked += os.read(master, 4096)
    assert b"0.001 USDC on Base Sepolia" in asked and found["transaction"].encode() in asked
    os.write(master, answer.encode())
    process.communicate(timeout=20)
    os.close(master)
    assert process.returncode == status
    assert shop.farebox.command("payment", "show", found["payment"])["state"] == state


# Accounts.


def test_money_of_chains_has_accounts_of_its_own(shop):
    stage = shop.stage
    for _ in range(3):
        assert stage.send(stage.payment(stage.payer())).status_code == 200
    name, before, farebox = "USDC on Base Sepolia (eip155:84532)", balance(shop), shop.farebox
    assert name in farebox.run("merchant", "list").stdout and name in farebox.run("ledger", "balance").stdout
    assert f"{name}: wallets + sessions" in farebox.run("ledger", "verify").stdout
    payouts = [
        ("0.001 USDC@base-sepolia",), ("0.0005 usdc@eip155:84532",), ("0.0005", "--account", ACCOUNT), ("0.0005 USDC", "--account", "USDC@base-sepolia"),
    ]
    for number, (amount, *more) in enumerate(payouts):
        paid = farebox.command("merchant", "payout", "acme", amount, *more, "--reference", f"chain-{number}")
        assert paid["currency"] == ACCOUNT and not paid["repeated"]
    assert balance(shop) == before - 2500
    assert farebox.command("merchant", "payout", "acme", payouts[0][0], "--reference", "chain-0")["repeated"]
    dear = farebox.run("merchant", "payout", "acme", "1000 USDC@base-sepolia", "--reference", "dear")
    assert dear.returncode == 1 and f"1000 {name} are needed" in dear.stderr
    for wrong in (["1 USDC@base"], ["1 EUR@base-sepolia"], ["1 USDC@base-sepolia", "--account", "usdc"], ["1", "--account", "usdc@lab"], ["1"], ["0 USDC@base-sepolia"]):
        done = farebox.run("merchant", "payout", "acme", *wrong, "--reference", "wrong")
        assert done.returncode == 64, (wrong, done.stderr)
    # Wallets hold none of it.
    with pytest.raises(CommandFailed):
        farebox.command("wallet", "fund", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "1 USDC@base-sepolia", "--reference", "w")
    farebox.settle_log()
    tail = farebox.run("audit", "tail", "-n", "60").stdout
    assert "0.001 USDC@base-sepolia" in tail and "payment.settled" in tail


# Without a proxy.


def test_without_a_proxy_the_ledger_tells(binary, upstream, node, usdc, rich, tmp_path):
    shop = own_shop(binary, upstream, tmp_path, node, usdc, rich)
    farebox, stage = shop.farebox, shop.stage
    shop.wait(lambda chain: chain["state"] == "usable")
    assert stage.send(stage.payment(stage.payer())).status_code == 200
    found, payment, path = unserved(shop)
    shop.wait(lambda chain: not chain["outbox"])
    farebox.stop()
    status = shop.status()
    (chain,) = status["chains"]
    assert status["well"] and not status["running"] and chain["state"] == "not-running" and chain["nodes"] == [node.url]
    assert chain["sent"][0]["succeeded"] == 2 and status["payments"] == {"open": 0, "unserved": 1, "unresolved": 0}
    assert shop.payments("--unserved") == [found]
    assert "no proxy runs" in farebox.run("chain", "status").stdout
    assert farebox.command("payment", "write-off", found["payment"], "--yes")["state"] == "written-off"

    # Killed in the middle: what is on its way is told as what nobody looks after.
    farebox.start()
    shop.wait(lambda chain: chain["state"] == "usable")
    payment, answers = stage.payment(stage.payer(), "/paid/late"), []
    node.hold()
    try:

        def send():
            try:
                answers.append(stage.send(payment, "/paid/late"))
            except requests.RequestException:
                pass

        waiting = threading.Thread(target=send)
        waiting.start()
        shop.wait(lambda chain: chain["outbox"])
        farebox.kill()
        waiting.join(20)
        status = shop.status()
        assert not status["well"] and status["payments"]["open"] == 1 and len(status["chains"][0]["outbox"]) == 1
        assert "nobody looks after" in status["chains"][0]["problems"][0] and "gone on with" in status["problems"][0]
    finally:
        node.release()
    farebox.start()
    assert until(lambda: stage.send(payment, "/paid/late"), lambda response: response.status_code == 200)
    until(shop.status, lambda status: status["well"])
    farebox.stop()
    farebox.assert_books_balance()


# What others read.


def test_metrics_count_outcomes(shop):
    def counted(outcome):
        line = next(line for line in shop.farebox.metrics().splitlines() if line.startswith(f'farebox_chain_payments_total{{outcome="{outcome}"}}'))
        return int(line.split()[-1])

    settled, refused = counted("settled"), counted("refused")
    stage = shop.stage
    assert stage.send(stage.payment(stage.payer())).status_code == 200
    assert stage.send(stage.payment(stage.payer(units=10))).status_code == 402
    assert (counted("settled"), counted("refused")) == (settled + 1, refused + 1)
    text = shop.farebox.metrics()
    spent = int(shop.chain()["sent"][0]["gasWei"])
    assert f'farebox_chain_gas_spent_wei{{chain="base-sepolia"}} {spent}\n' in text
    assert 'farebox_chain_reachable{chain="base-sepolia"} 1\n' in text and 'farebox_chain_signer_balance_wei{chain="base-sepolia"} 99' in text


def test_documents_list_the_offers_of_chains(shop):
    stage = shop.stage
    document = requests.get(stage.farebox.origin + "/openapi.json", timeout=5).json()
    operation = document["paths"]["/both/{path}"]["get"]
    offers = stage.offers("/both/a")["accepts"]
    told = operation["x-chain-offers"]
    assert [offer["protocol"] for offer in told] == ["x402"] * len(offers) + ["mpp"]
    for offer, real in zip(told, offers):
        for name in ("scheme", "network", "amount", "asset", "payTo", "extra"):
            assert offer[name] == real[name], name
    assert told[-1]["method"] == "evm" and told[-1]["payTo"] == stage.merchant.address and told[-1]["network"] == "eip155:84532"
    assert {offer["method"] for offer in operation["x-payment-info"]["offers"]} == {"prepaid", "evm"}
    alone = document["paths"]["/paid/{path}"]["get"]
    assert "x-payment-info" not in alone and len(alone["x-chain-offers"]) == len(offers)
    assert "PAYMENT-REQUIRED" in alone["responses"]["402"]["headers"]
    assert "x-chain-offers" not in document["paths"]["/free/{path}"]["get"]
    text = requests.get(stage.farebox.origin + "/llms.txt", timeout=5).text
    assert "PAYMENT-SIGNATURE" in text
    assert f"x402 exact (eip3009): 0.001 USDC of the token {offers[0]['asset']} on eip155:84532 to {stage.merchant.address}" in text
    assert f"mpp evm/charge: 0.001 USDC of the token {offers[0]['asset']} on eip155:84532 to {stage.merchant.address}" in text
