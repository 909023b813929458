"""The stand itself: the chain that the other tests pay on does what a chain does, its contracts do what theirs do, and its faults happen."""

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from mpp import Challenge, Credential
from mpp.methods.evm import client as evm
from mpp.methods.evm import server as evm_server
from mpp.runtime import CredentialParams
from x402 import x402Client, x402ClientSync
from x402.http import FacilitatorConfig, HTTPFacilitatorClientSync
from x402.http.clients import x402_requests, x402HttpxClient
from x402.mechanisms.evm.batch_settlement.authorizer_signer import LocalAuthorizerSigner
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.exact import ExactEvmScheme, register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402.mechanisms.evm.upto import UptoEvmClientScheme
from x402.schemas import PaymentRequirements

from chain import version1
from chain.contracts import Contract, Reverted, send, signed
from chain.credentials import challenge_hash
from chain.evm import Refusal
from chain.shop import FastAPIShop, FlaskShop, sell_by_pympp
from chain.wallet import MAXIMUM, PERMIT2, Client, authorization, hexadecimal, malleated, new_account, sign, token_domain, vrs

COIN = 10**18
GWEI = 10**9


@pytest.fixture
def bob():
    return new_account()


@pytest.fixture
def domain(node, usdc):
    return token_domain(node.chain_id, usdc.address)


def refusal(node, method, *parameters):
    with pytest.raises(Refusal) as caught:
        node.rpc(method, *parameters)
    return caught.value


def reason(contract, name, *arguments, sender=None):
    """The reason for which a call is refused."""
    with pytest.raises(Refusal) as caught:
        contract.call(name, *arguments, sender=sender)
    return caught.value.message.removeprefix("execution reverted: ")


# The node.


def test_the_node_answers_over_http_as_geth_does(node, rich):
    client = Client(node.url)
    assert client.rpc("eth_chainId") == hex(84532) and client.rpc("net_version") == "84532"
    assert int(client.rpc("eth_getBalance", rich.address, "latest"), 16) > COIN
    assert client.rpc("eth_getTransactionReceipt", "0x" + "11" * 32) is None
    assert client.rpc("eth_getTransactionByHash", "0x" + "11" * 32) is None
    assert client.rpc("eth_getBlockByNumber", "0x99999", False) is None
    block = client.rpc("eth_getBlockByNumber", "latest", True)
    assert client.rpc("eth_getBlockByHash", block["hash"], True) == block
    assert int(client.rpc("eth_feeHistory", 2, "latest", [50])["baseFeePerGas"][-1], 16) == node.chain.base_fee
    batch = [{"jsonrpc": "2.0", "id": n, "method": "eth_blockNumber", "params": []} for n in range(3)] + [{"jsonrpc": "2.0", "id": 3, "method": "eth_no"}]
    answers = requests.post(node.url, json=batch, timeout=5).json()
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3] and answers[3]["error"]["code"] == -32601
    assert requests.post(node.url, data=b"{", timeout=5).json()["error"]["code"] == -32700


def test_transactions_of_both_types_are_mined_at_once(node, usdc, payer, bob):
    receipt = node.rpc("eth_getTransactionReceipt", send(node.rpc, payer, bob.address, value=5))
    assert receipt["status"] == "0x1" and receipt["type"] == "0x2" and receipt["from"] == payer.address.lower()
    legacy = {"chainId": node.chain_id, "nonce": 1, "gas": 21000, "gasPrice": 3 * GWEI, "to": bob.address, "value": 6}
    found = node.rpc("eth_sendRawTransaction", "0x" + payer.sign_transaction(legacy).raw_transaction.hex())
    assert node.rpc("eth_getTransactionByHash", found)["type"] == "0x0" and int(node.rpc("eth_getBalance", bob.address), 16) == 11
    assert int(node.rpc("eth_getBalance", bob.address, hex(node.height - 1)), 16) == 5
    assert node.rpc("eth_getTransactionReceipt", found)["blockHash"] == node.rpc("eth_getBlockByNumber", "latest")["hash"]


def test_the_pool_refuses_as_geth_does(node, payer, bob):
    raw = signed(node.rpc, payer, bob.address, value=1)
    node.hold()
    try:
        node.rpc("eth_sendRawTransaction", raw)
        assert refusal(node, "eth_sendRawTransaction", raw).message == "already known"
        offers = {"nonce": 0, "value": 1, "gas": 21000}
        again = signed(node.rpc, payer, bob.address, max_fee=4 * GWEI + 1, tip=GWEI + 1, **offers)
        assert refusal(node, "eth_sendRawTransaction", again).message == "replacement transaction underpriced"
    finally:
        node.release()
    assert refusal(node, "eth_sendRawTransaction", raw).message == "nonce too low: next nonce 1, tx nonce 0"
    poor = signed(node.rpc, bob, payer.address, value=COIN)
    assert refusal(node, "eth_sendRawTransaction", poor).message.startswith("insufficient funds for gas * price + value")
    other = payer.sign_transaction({"chainId": 1, "nonce": 1, "gas": 21000, "gasPrice": GWEI, "to": bob.address, "value": 1})
    assert refusal(node, "eth_sendRawTransaction", "0x" + other.raw_transaction.hex()).message == "invalid chain id for signer: have 1 want 84532"
    assert refusal(node, "eth_sendRawTransaction", "0x02c0").message.startswith("failed to decode")


def test_a_stuck_transaction_is_replaced_by_one_that_pays_more(node, payer, bob):
    node.hold()
    stuck = send(node.rpc, payer, bob.address, value=1, nonce=0, max_fee=2 * GWEI, tip=GWEI)
    later = send(node.rpc, payer, bob.address, value=2, nonce=1)
    assert node.rpc("eth_getTransactionCount", payer.address, "pending") == "0x2" and node.rpc("eth_getTransactionCount", payer.address, "latest") == "0x0"
    assert node.rpc("eth_getTransactionByHash", stuck)["blockHash"] is None and node.rpc("eth_getTransactionReceipt", stuck) is None
    node.set_base_fee(3 * GWEI)
    node.mine()
    assert node.rpc("eth_getTransactionReceipt", later) is None
    better = send(node.rpc, payer, bob.address, value=1, nonce=0, max_fee=8 * GWEI, tip=2 * GWEI)
    node.mine()
    assert node.rpc("eth_getTransactionReceipt", better)["status"] == "0x1" and node.rpc("eth_getTransactionReceipt", later)["status"] == "0x1"
    assert node.rpc("eth_getTransactionByHash", stuck) is None
    node.set_base_fee(GWEI)
    node.release()


def test_a_reverted_call_carries_its_data(node, usdc, payer, bob):
    call = {"from": bob.address, "to": usdc.address, "data": usdc.data("transfer", payer.address, 1)}
    for method in ("eth_call", "eth_estimateGas"):
        refused = refusal(node, method, call)
        assert refused.code == 3 and refused.message == "execution reverted: ERC20: transfer amount exceeds balance" and refused.data.startswith("0x08c379a0")
    with pytest.raises(Reverted) as caught:
        usdc.run(payer, "transfer", bob.address, 10**9)
    assert caught.value.receipt["status"] == "0x0" and caught.value.receipt["logs"] == []


def test_an_estimate_suffices_and_little_less_does_not(node, usdc, payer, bob):
    call = {"from": payer.address, "to": usdc.address, "data": usdc.data("transfer", bob.address, 5)}
    gas = int(node.rpc("eth_estimateGas", call), 16)
    assert usdc.run(payer, "transfer", bob.address, 5, gas=gas)["status"] == "0x1"
    with pytest.raises(Reverted):
        usdc.run(payer, "transfer", new_account().address, 5, gas=int(gas * 0.95))


def test_logs_are_found_by_block_address_and_topic(node, usdc, payer, bob):
    first = node.height + 1
    receipt = usdc.run(payer, "transfer", bob.address, 7)
    usdc.run(payer, "approve", bob.address, 7)
    transfer = receipt["logs"][0]["topics"][0]
    query = {"fromBlock": hex(first), "toBlock": "latest", "address": usdc.address}
    assert len(node.rpc("eth_getLogs", query)) == 2
    assert node.rpc("eth_getLogs", query | {"topics": [transfer]}) == receipt["logs"]
    assert node.rpc("eth_getLogs", query | {"topics": [None, None, "0x" + bob.address[2:].lower().rjust(64, "0")]})[0]["data"] == "0x" + f"{7:064x}"
    assert node.rpc("eth_getLogs", {"blockHash": receipt["blockHash"]}) == receipt["logs"]


def test_a_reorganisation_unmakes_blocks(node, usdc, payer, bob):
    before = node.height
    kept, lost = usdc.run(payer, "transfer", bob.address, 1), usdc.run(payer, "transfer", bob.address, 10)
    node.reorganise(2, drop=[lost["transactionHash"]])
    assert node.height == before + 3 and usdc.call("balanceOf", bob.address) == 1
    assert node.rpc("eth_getTransactionReceipt", lost["transactionHash"]) is None and node.rpc("eth_getBlockByHash", lost["blockHash"]) is None
    again = node.rpc("eth_getTransactionReceipt", kept["transactionHash"])
    assert again["status"] == "0x1" and again["blockHash"] != kept["blockHash"]
    node.revert(before)
    assert usdc.call("balanceOf", bob.address) == 0 and node.rpc("eth_getTransactionByHash", kept["transactionHash"])["blockHash"] is None
    node.mine()
    assert usdc.call("balanceOf", bob.address) == 1


def test_the_faults_happen_and_end(node, usdc, payer, bob):
    client = Client(node.url, timeout=5)
    raw = usdc.data("transfer", bob.address, 3)
    node.fail("lost", names="eth_sendRawTransaction")
    client.rpc("eth_chainId")
    with pytest.raises(requests.ConnectionError):
        send(client.rpc, payer, usdc.address, raw)
    assert usdc.call("balanceOf", bob.address) == 3
    node.fail("refused")
    with pytest.raises(requests.ConnectionError):
        client.rpc("eth_chainId")
    for kind in ("error", "limited", "malformed"):
        node.fail(kind)
        with pytest.raises(requests.JSONDecodeError):
            client.rpc("eth_chainId")
    node.fail("refusal")
    with pytest.raises(RuntimeError, match="overloaded"):
        client.rpc("eth_chainId")
    node.fail("null", names=["eth_getTransactionReceipt"])
    assert client.rpc("eth_getTransactionReceipt", "0x" + "00" * 32) is None
    node.fail("late", seconds=0.4)
    with pytest.raises(requests.ReadTimeout):
        Client(node.url, timeout=0.1).rpc("eth_chainId")
    node.claim(1)
    assert client.rpc("eth_chainId") == "0x1"
    node.fail("error", count=1000)
    node.heal()
    assert client.rpc("eth_chainId") == hex(84532)
    node.stop()
    with pytest.raises(requests.ConnectionError):
        client.rpc("eth_chainId")
    node.start()
    assert client.rpc("eth_chainId") == hex(84532)


def test_a_node_is_controlled_over_http_too(node, usdc, payer, bob):
    client = Client(node.url)
    client.rpc("test_hold")
    found = Contract(client.rpc, "Token", "usdc").transact(payer, "transfer", bob.address, 4)
    assert client.rpc("eth_getTransactionReceipt", found) is None
    client.rpc("test_mine")
    client.rpc("test_release")
    assert usdc.call("balanceOf", bob.address) == 4
    client.rpc("test_fund", bob.address, 9)
    assert client.rpc("eth_getBalance", bob.address) == "0x9"
    client.rpc("test_fail", "refusal", 1, ["eth_gasPrice"])
    with pytest.raises(RuntimeError):
        client.rpc("eth_gasPrice")


# The token.


def test_the_token_moves_by_authorization_once(node, usdc, payer, bob, domain, rich):
    arguments, message = authorization(domain, payer.address, bob.address, 1000)
    signature = sign(payer, message)
    assert usdc.call("DOMAIN_SEPARATOR") == message.header
    receipt = usdc.run(rich, "transferWithAuthorization", *arguments, *vrs(signature))
    assert [name for name, _ in usdc.logs(receipt)] == ["AuthorizationUsed", "Transfer"]
    assert usdc.call("balanceOf", bob.address) == 1000 and usdc.call("authorizationState", payer.address, arguments[5])
    used = "FiatTokenV2: authorization is used or canceled"
    assert reason(usdc, "transferWithAuthorization", *arguments, *vrs(signature)) == used
    usdc.run(rich, "misbehave", True)
    assert usdc.run(rich, "transferWithAuthorization", *arguments, *vrs(signature))["logs"] == []
    usdc.run(rich, "misbehave", False)
    assert usdc.call("balanceOf", bob.address) == 1000


def test_the_token_refuses_authorizations(node, usdc, payer, bob, domain, rich):
    def why(signer=payer, change=lambda signature: signature, name="transferWithAuthorization", **options):
        arguments, message = authorization(domain, payer.address, bob.address, options.pop("value", 1), **options)
        return reason(usdc, name, *arguments, *vrs(change(sign(signer, message))))

    now = node.chain.now()
    assert why(after=now + 60) == "FiatTokenV2: authorization is not yet valid"
    assert why(before=now - 60) == "FiatTokenV2: authorization is expired"
    assert why(signer=bob) == why(change=malleated) == "FiatTokenV2: invalid signature"
    assert why(value=10**9) == "ERC20: transfer amount exceeds balance"
    assert why(name="receiveWithAuthorization", kind="ReceiveWithAuthorization") == "FiatTokenV2: caller must be the payee"
    usdc.run(rich, "pause", True)
    assert why() == "Pausable: paused"
    usdc.run(rich, "pause", False)


# x402's own client, server and facilitator.


@pytest.fixture(scope="module")
def merchant(node):
    account = new_account()
    node.fund(account.address)
    return account


@pytest.fixture(scope="module", params=[FlaskShop, FastAPIShop])
def shop(request, facilitator, usdc, merchant):
    shop = request.param(facilitator, usdc.address, merchant.address, LocalAuthorizerSigner(merchant))
    yield shop
    shop.close()


def schemes(client, account, node):
    """The client, able to pay by every scheme."""
    register_exact_evm_client(client, account)
    client.register("eip155:*", UptoEvmClientScheme(account))
    return client.register("eip155:*", BatchSettlementEvmScheme(EthAccountSignerWithRPC(account, node.url)))


def settlement(response):
    return json.loads(base64.b64decode(response.headers["payment-response"]))


def test_requests_pays_by_every_scheme(node, usdc, payer, merchant, shop):
    usdc.run(payer, "approve", PERMIT2, MAXIMUM)
    session = x402_requests(schemes(x402ClientSync(), payer, node))
    before = usdc.call("balanceOf", merchant.address)
    for page, earned in (("exact", 1000), ("permit2", 2000), ("upto", 2300), ("batch", 2300), ("batch", 2300)):
        response = session.get(f"{shop.url}/{page}", timeout=10)
        assert response.status_code == 200 and response.json() == {"page": page}
        assert settlement(response)["success"] and usdc.call("balanceOf", merchant.address) == before + earned
    assert settlement(response)["extra"]["channelState"]["chargedCumulativeAmount"] == "2000" and settlement(response)["transaction"] == ""


def test_a_shop_claims_settles_and_refunds_a_batch_channel(node, usdc, payer, merchant, facilitator):
    shop = FlaskShop(facilitator, usdc.address, merchant.address, LocalAuthorizerSigner(merchant))
    scheme = BatchSettlementEvmScheme(EthAccountSignerWithRPC(payer, node.url))
    session = x402_requests(x402ClientSync().register("eip155:*", scheme))
    before, earned = usdc.call("balanceOf", payer.address), usdc.call("balanceOf", merchant.address)
    assert [session.get(shop.url + "/batch", timeout=10).status_code for _ in range(3)] == [200] * 3
    books = shop.batch.create_channel_manager_sync(HTTPFacilitatorClientSync(FacilitatorConfig(url=facilitator.url)), facilitator.network)
    assert len(books.claim_and_settle()["claims"]) == 1
    assert usdc.call("balanceOf", merchant.address) == earned + 3000
    assert scheme.refund(shop.url + "/batch").success
    assert usdc.call("balanceOf", payer.address) == before - 3000
    shop.close()


def test_httpx_pays_by_every_scheme(node, usdc, payer, merchant, shop):
    async def run():
        async with x402HttpxClient(schemes(x402Client(), payer, node)) as client:
            return [await client.get(f"{shop.url}/{page}") for page in ("exact", "permit2", "upto", "batch")]

    usdc.run(payer, "approve", PERMIT2, MAXIMUM)
    before = usdc.call("balanceOf", merchant.address)
    assert [response.status_code for response in asyncio.run(run())] == [200] * 4
    assert usdc.call("balanceOf", merchant.address) == before + 2300


def test_clients_of_version_1_pay_a_shop_of_version_1(usdc, payer, merchant, facilitator):
    shop = version1.Shop(facilitator, merchant.address)
    before = usdc.call("balanceOf", merchant.address)
    answers = [version1.pay(payer, [shop.url + "/paid"], library)[0] for library in ("requests", "httpx")]
    shop.close()
    assert [answer["status"] for answer in answers] == [200, 200] and usdc.call("balanceOf", merchant.address) == before + 2000
    assert all(json.loads(base64.b64decode(answer["headers"]["x-payment-response"]))["success"] for answer in answers)


def test_the_facilitator_fails_on_demand(node, usdc, payer, merchant, facilitator):
    scheme = ExactEvmScheme(payer)
    terms = {
        "scheme": "exact",
        "network": facilitator.network,
        "asset": usdc.address,
        "amount": "1000",
        "payTo": merchant.address,
        "maxTimeoutSeconds": 60,
        "extra": {"name": "USDC", "version": "2"},
    }
    payload = scheme.create_payment_payload(PaymentRequirements.model_validate(terms))
    body = {"x402Version": 2, "paymentPayload": {"x402Version": 2, "accepted": terms, "payload": payload}, "paymentRequirements": terms}

    def ask(path, timeout=10):
        return requests.post(facilitator.url + path, json=body, timeout=timeout)

    assert ask("/verify").json()["isValid"]
    facilitator.fail("error", names="/settle")
    assert ask("/verify").status_code == 200 and ask("/settle").status_code == 500
    facilitator.fail("late", names="/verify", seconds=0.4)
    with pytest.raises(requests.ReadTimeout):
        ask("/verify", 0.1)
    before = usdc.call("balanceOf", merchant.address)
    facilitator.fail("pending", names="/settle")
    pending = ask("/settle").json()
    assert not pending["success"] and pending["errorReason"] == "settlement_pending" and pending["transaction"].startswith("0x")
    facilitator.fail("lost", names="/settle")
    with pytest.raises(requests.ConnectionError):
        ask("/settle")
    assert usdc.call("balanceOf", merchant.address) == before + 1000
    again = ask("/settle").json()
    assert not again["success"] or again["transaction"] == pending["transaction"]
    assert usdc.call("balanceOf", merchant.address) == before + 1000


# pympp.


def test_what_pympp_signs_moves_the_money(node, usdc, payer, merchant, rich):
    details = {"chainId": node.chain_id, "credentialTypes": ["authorization"], "decimals": 6}
    request = {"amount": "700", "currency": usdc.address, "recipient": merchant.address, "methodDetails": details}
    challenge = Challenge.create(secret_key="secret", realm="api.example.com", method="evm", intent="charge", request=request)
    domain = {"name": "USDC", "version": "2"}
    method = evm.charge(currency=usdc.address, account=payer, chain_id=node.chain_id, decimals=6, authorization=domain, max_amount="1")
    made = Credential.from_authorization(asyncio.run(method.create_credential(CredentialParams(challenge=challenge)))).payload
    parameters = {"id": challenge.id, "realm": challenge.realm}
    assert made["nonce"] == hexadecimal(challenge_hash(parameters, "json"))
    before = usdc.call("balanceOf", merchant.address)
    times = [int(made[name]) for name in ("value", "validAfter", "validBefore")]
    signature = bytes.fromhex(made["signature"][2:])
    usdc.run(rich, "transferWithAuthorization", made["from"], made["to"], *times, bytes.fromhex(made["nonce"][2:]), *vrs(signature))
    assert usdc.call("balanceOf", merchant.address) == before + 700


def test_pympp_sells_to_pympp_through_the_facilitator(node, usdc, payer, facilitator):
    merchant = new_account()
    terms = {"currency": usdc.address, "chain_id": node.chain_id, "decimals": 6, "authorization": {"name": "USDC", "version": "2"}}
    offered = evm_server.charge(**terms, recipient=merchant.address, facilitator=facilitator.url)
    receipt = asyncio.run(sell_by_pympp(offered, evm.charge(**terms, account=payer), amount="0.001"))
    assert receipt.status == "success" and node.rpc("eth_getTransactionReceipt", receipt.reference)["status"] == "0x1"
    assert usdc.call("balanceOf", merchant.address) == 1000


def test_the_node_and_the_facilitator_run_as_processes(payer):
    def start(*arguments):
        process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
        return process, json.loads(process.stdout.readline())

    node, told = start("chain.node", "--port", "0", "--chain-id", "8453", "--fund", payer.address)
    facilitator, at = start("chain.facilitator", "--rpc", told["url"], "--fund")
    try:
        client = Client(told["url"])
        coin = Contract(client.rpc, "Token", "usd-coin")
        coin.run(payer, "mint", payer.address, 5)
        assert coin.call("balanceOf", payer.address) == 5 and coin.call("name") == "USD Coin"
        assert int(client.rpc("eth_getBalance", at["address"]), 16) == COIN
        kinds = requests.get(at["url"] + "/supported", timeout=5).json()["kinds"]
        assert {kind["scheme"] for kind in kinds if kind["network"] == "eip155:8453"} == {"exact", "upto", "batch-settlement"}
    finally:
        for process in (facilitator, node):
            process.terminate()
            assert process.wait(10) == 0
            process.stdout.close()
