"""`farebox pay` on chains, end to end: through the proxy, which settles itself or by a facilitator, and at servers that others wrote."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from x402.mechanisms.evm.batch_settlement.authorizer_signer import LocalAuthorizerSigner

from chain import version1
from chain.shop import FastAPIShop, FlaskShop
from chain.wallet import PERMIT2, new_account
from paystage import PRICE

MAXIMUM = 2**256 - 1
OVER_MAXIMUM, REJECTED, NOT_PAYABLE, ANSWER_LOST, KEEPER, OVER_LIMIT = 80, 82, 83, 85, 87, 90


class Agent:
    """`farebox pay` with a folder and an account of its own."""

    def __init__(self, binary, folder, account):
        self.binary, self.account, self.folder = binary, account, folder
        self.key = folder / "evm.key"
        self.key.write_text(account.key.hex() + "\n")
        self.key.chmod(0o600)
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "FAREBOX_EVM_KEY_FILE": str(self.key)}

    def __call__(self, *arguments, **environment):
        command = [self.binary, "pay", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=90, env={**self.environment, **environment})
        told = done.stdout.decode() + done.stderr.decode()
        assert self.account.key.hex().removeprefix("0x") not in told
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr.decode())

    def pay(self, *arguments):
        """Pays, and gives what the JSON says of it."""
        body = self.folder / "body"
        done = self("--max", "0.01 USDC", "--json", "-o", body, *arguments)
        assert done.code == 0, done.err
        return SimpleNamespace(body=body.read_bytes(), **json.loads(done.out))


@pytest.fixture
def agent(binary, tmp_path, node, usdc, rich):
    account = new_account()
    usdc.run(rich, "mint", account.address, 1_000_000)
    return Agent(binary, tmp_path, account)


def approve(node, usdc, agent):
    node.fund(agent.account.address)
    usdc.run(agent.account, "approve", PERMIT2, MAXIMUM)


# Through the proxy.


def test_x402_pays_and_tells_the_transaction(stage, agent):
    before = stage.received
    paid = agent.pay("--rail", "x402", stage.farebox.origin + "/paid/hello?a=1")
    assert stage.received == before + PRICE
    assert (paid.rail, paid.network, paid.amount, paid.currency) == ("x402", "eip155:84532", "1000", "usdc")
    assert paid.payer.lower() == agent.account.address.lower() and paid.recipients == [stage.merchant.address]
    assert stage.node.rpc("eth_getTransactionReceipt", paid.transaction)["status"] == "0x1"


def test_evm_pays_by_authorization(own, agent):
    before = own.received
    paid = agent.pay("--rail", "evm", own.farebox.origin + "/both/hello")
    assert own.received == before + PRICE and paid.rail == "evm" and paid.network == "eip155:84532"
    assert own.node.rpc("eth_getTransactionReceipt", paid.transaction)["status"] == "0x1"


def test_evm_pays_by_permit2_where_the_token_takes_nothing_else(own, agent, node, usdc):
    approve(node, usdc, agent)
    before = own.received
    # Without the token's EIP-712 domain no authorization can be signed.
    words = f"eip155:84532:{usdc.address}=usdc:6"
    done = agent("-v", "--rail", "evm", "--token", words, "--max", "0.01 USDC", own.farebox.origin + "/both/permit")
    assert done.code == 0, done.err
    assert "by permit2 of token" in done.err and own.received == before + PRICE


def test_a_post_with_content(stage, agent):
    before = stage.received
    agent.pay("-d", "x=1", stage.farebox.origin + "/paid/echo")
    assert stage.received == before + PRICE


def test_a_prepaid_wallet_goes_first(own, agent):
    did = agent("--new-key").out.decode().strip()
    own.farebox.create_wallet(SimpleNamespace(did=did), "1 USDC")
    before = own.received
    assert agent.pay(own.farebox.origin + "/both/a").rail == "prepaid" and own.received == before
    assert agent.pay("--rail", "x402", own.farebox.origin + "/both/a").rail == "x402" and own.received == before + PRICE
    # All rails are counted together.
    assert json.loads(agent("--limits", "--json").out)["spentToday"] == {"usdc": "0.002"}


def test_a_quote_shows_every_offer(own, agent):
    done = agent("--dry-run", own.farebox.origin + "/both/a")
    assert done.code == 0, done.err
    text = done.out.decode()
    for words in ("prepaid charge: 0.001 USDC", "evm charge: 0.001 USDC on base-sepolia", "x402 v2 charge: 0.001 USDC on base-sepolia", own.merchant.address):
        assert words in text, text
    offers = json.loads(agent("--quote", "--json", own.farebox.origin + "/both/a").out)["offers"]
    assert {"prepaid", "evm", "x402"} == {offer["rail"] for offer in offers}


def test_nothing_is_paid_unasked(stage, agent, tmp_path):
    before, url = stage.received, stage.farebox.origin + "/paid/a"
    bare = agent(url)
    assert bare.code == OVER_MAXIMUM and "0.001 USDC" in bare.err
    assert agent("--max", "0.0009 USDC", url).code == OVER_MAXIMUM
    assert agent("--rail", "prepaid", "--max", "1 USDC", url).code == NOT_PAYABLE
    nobody = agent("--max", "1 USDC", url, FAREBOX_EVM_KEY_FILE="")
    assert nobody.code == NOT_PAYABLE and "--evm-key" in nobody.err
    agent.key.chmod(0o644)
    assert agent("--max", "1 USDC", url).code == KEEPER
    assert stage.received == before


def test_limits_are_kept(stage, agent):
    before, url = stage.received, stage.farebox.origin + "/paid/limits"
    shown = agent("--limit-day", "0.0015 USDC")
    assert shown.code == 0 and b"day 0.0015 USDC" in shown.out
    agent.pay(url)
    done = agent("--max", "1 USDC", url)
    assert done.code == OVER_LIMIT and "0.0005" in done.err and "--limits" in done.err
    agent("--limit-day", "none USDC")
    agent("--limit-recipient", "0x" + "11" * 20)
    assert agent("--max", "1 USDC", url).code == OVER_LIMIT
    agent("--limit-recipient", stage.merchant.address.lower())
    agent.pay(url)
    assert stage.received == before + 2 * PRICE


def test_who_has_no_money_is_told(stage, binary, tmp_path):
    done = Agent(binary, tmp_path, new_account())("--max", "1 USDC", stage.farebox.origin + "/paid/a")
    assert done.code == REJECTED and "402" in done.err, done.err


def test_a_payment_that_is_pending_is_shown_again(by_facilitator, agent):
    before = by_facilitator.received
    by_facilitator.facilitator.fail("pending", 1, "/settle")
    agent.pay(by_facilitator.farebox.origin + "/paid/pending")
    assert by_facilitator.received == before + PRICE


def test_a_lost_settlement_is_paid_once(by_facilitator, agent):
    before = by_facilitator.received
    by_facilitator.facilitator.fail("lost", 1, "/settle")
    # While the proxy does not know, a call ends without an answer, and the next one goes on with its payment in the place of another.
    for _ in range(10):
        done = agent("--max", "1 USDC", "--max-time", "8", by_facilitator.farebox.origin + "/paid/lost")
        if done.code == 0:
            break
        assert done.code == ANSWER_LOST and "the same call again goes on with it" in done.err, done.err
    assert done.code == 0 and by_facilitator.received == before + PRICE
    assert json.loads(agent("--limits", "--json").out)["spentToday"] == {"usdc": "0.001"}


# At servers that others wrote.


@pytest.fixture(scope="module", params=[FlaskShop, FastAPIShop])
def shop(request, facilitator, node, usdc):
    merchant = new_account()
    node.fund(merchant.address)
    shop = request.param(facilitator, usdc.address, merchant.address, LocalAuthorizerSigner(merchant))
    shop.merchant = merchant
    yield shop
    shop.close()


def test_an_official_server_is_paid(shop, agent, node, usdc):
    approve(node, usdc, agent)
    before = usdc.call("balanceOf", shop.merchant.address)
    for page in ("exact", "permit2"):
        paid = agent.pay(f"{shop.url}/{page}")
        assert json.loads(paid.body) == {"page": page} and (paid.rail, paid.amount) == ("x402", "1000")
        assert node.rpc("eth_getTransactionReceipt", paid.transaction)["status"] == "0x1"
    assert usdc.call("balanceOf", shop.merchant.address) == before + 2 * PRICE
    for page in ("upto", "batch"):
        done = agent("--max", "1 USDC", f"{shop.url}/{page}")
        assert done.code == NOT_PAYABLE and "only exact" in done.err


def test_an_official_server_refuses_who_has_no_money(shop, binary, tmp_path):
    done = Agent(binary, tmp_path, new_account())("--max", "1 USDC", shop.url + "/exact")
    assert done.code == REJECTED and "insufficient" in done.err, done.err


def test_a_token_that_is_not_known_is_not_paid(facilitator, agent, node, rich):
    merchant, other = new_account(), "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
    shop = FlaskShop(facilitator, other, merchant.address, LocalAuthorizerSigner(merchant))
    done = agent("--max", "1 USDC", shop.url + "/exact")
    assert done.code == NOT_PAYABLE and f"--token eip155:84532:{other}" in done.err
    shop.close()


def test_an_official_server_of_version_1_is_paid(facilitator, agent, usdc):
    merchant = new_account()
    shop = version1.Shop(facilitator, merchant.address)
    paid = agent.pay(shop.url + "/paid")
    shop.close()
    assert json.loads(paid.body) == {"page": "paid"} and (paid.rail, paid.network) == ("x402", "eip155:84532")
    assert usdc.call("balanceOf", merchant.address) == PRICE
