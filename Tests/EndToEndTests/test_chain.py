"""The stand itself: the chain that the other tests pay on does what a chain does, its contracts do what theirs do, and its faults happen."""

import asyncio
import base64
import json

import pytest
import requests
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_requests, x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client

from chain.contracts import Contract, Reverted, send, signed
from chain.evm import Refusal
from chain.facilitator import Facilitator
from chain.node import Node
from chain.shop import FastAPIShop, FlaskShop
from chain.wallet import Client, authorization, digest, malleated, new_account, sign, token_domain, vrs

COIN = 10**18
GWEI = 10**9
MILLION = 1_000_000_000_000


@pytest.fixture(scope="module")
def rich():
    return new_account()


@pytest.fixture(scope="module")
def node(rich):
    with Node(accounts={rich.address: 10**6 * COIN}) as node:
        yield node


@pytest.fixture(scope="module")
def token(node, rich):
    token = Contract(node.rpc, "Token", "usdc")
    token.run(rich, "mint", rich.address, MILLION)
    return token


@pytest.fixture
def alice(node, token, rich):
    account = new_account()
    node.fund(account.address, COIN)
    token.run(rich, "mint", account.address, 1_000_000)
    return account


@pytest.fixture
def bob():
    return new_account()


@pytest.fixture
def domain(node, token):
    return token_domain(node.chain_id, token.address)


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


def test_transactions_of_both_types_are_mined_at_once(node, token, alice, bob):
    receipt = node.rpc("eth_getTransactionReceipt", send(node.rpc, alice, bob.address, value=5))
    assert receipt["status"] == "0x1" and receipt["type"] == "0x2" and receipt["from"] == alice.address.lower()
    legacy = {"chainId": node.chain_id, "nonce": 1, "gas": 21000, "gasPrice": 3 * GWEI, "to": bob.address, "value": 6}
    found = node.rpc("eth_sendRawTransaction", "0x" + alice.sign_transaction(legacy).raw_transaction.hex())
    assert node.rpc("eth_getTransactionByHash", found)["type"] == "0x0" and int(node.rpc("eth_getBalance", bob.address), 16) == 11
    assert int(node.rpc("eth_getBalance", bob.address, hex(node.height - 1)), 16) == 5
    assert node.rpc("eth_getTransactionReceipt", found)["blockHash"] == node.rpc("eth_getBlockByNumber", "latest")["hash"]


def test_the_pool_refuses_as_geth_does(node, alice, bob):
    raw = signed(node.rpc, alice, bob.address, value=1)
    node.hold()
    try:
        node.rpc("eth_sendRawTransaction", raw)
        assert refusal(node, "eth_sendRawTransaction", raw).message == "already known"
        offers = {"nonce": 0, "value": 1, "gas": 21000}
        again = signed(node.rpc, alice, bob.address, max_fee=4 * GWEI + 1, tip=GWEI + 1, **offers)
        assert refusal(node, "eth_sendRawTransaction", again).message == "replacement transaction underpriced"
    finally:
        node.release()
    assert refusal(node, "eth_sendRawTransaction", raw).message == "nonce too low: next nonce 1, tx nonce 0"
    poor = signed(node.rpc, bob, alice.address, value=COIN)
    assert refusal(node, "eth_sendRawTransaction", poor).message.startswith("insufficient funds for gas * price + value")
    other = alice.sign_transaction({"chainId": 1, "nonce": 1, "gas": 21000, "gasPrice": GWEI, "to": bob.address, "value": 1})
    assert refusal(node, "eth_sendRawTransaction", "0x" + other.raw_transaction.hex()).message == "invalid chain id for signer: have 1 want 84532"
    assert refusal(node, "eth_sendRawTransaction", "0x02c0").message.startswith("failed to decode")


def test_a_stuck_transaction_is_replaced_by_one_that_pays_more(node, alice, bob):
    node.hold()
    stuck = send(node.rpc, alice, bob.address, value=1, nonce=0, max_fee=2 * GWEI, tip=GWEI)
    later = send(node.rpc, alice, bob.address, value=2, nonce=1)
    assert node.rpc("eth_getTransactionCount", alice.address, "pending") == "0x2" and node.rpc("eth_getTransactionCount", alice.address, "latest") == "0x0"
    assert node.rpc("eth_getTransactionByHash", stuck)["blockHash"] is None and node.rpc("eth_getTransactionReceipt", stuck) is None
    node.set_base_fee(3 * GWEI)
    node.mine()
    assert node.rpc("eth_getTransactionReceipt", later) is None
    better = send(node.rpc, alice, bob.address, value=1, nonce=0, max_fee=8 * GWEI, tip=2 * GWEI)
    node.mine()
    assert node.rpc("eth_getTransactionReceipt", better)["status"] == "0x1" and node.rpc("eth_getTransactionReceipt", later)["status"] == "0x1"
    assert node.rpc("eth_getTransactionByHash", stuck) is None
    node.set_base_fee(GWEI)
    node.release()


def test_a_reverted_call_carries_its_data(node, token, alice, bob):
    call = {"from": bob.address, "to": token.address, "data": token.data("transfer", alice.address, 1)}
    for method in ("eth_call", "eth_estimateGas"):
        refused = refusal(node, method, call)
        assert refused.code == 3 and refused.message == "execution reverted: ERC20: transfer amount exceeds balance" and refused.data.startswith("0x08c379a0")
    with pytest.raises(Reverted) as caught:
        token.run(alice, "transfer", bob.address, 10**9)
    assert caught.value.receipt["status"] == "0x0" and caught.value.receipt["logs"] == []


def test_an_estimate_suffices_and_little_less_does_not(node, token, alice, bob):
    call = {"from": alice.address, "to": token.address, "data": token.data("transfer", bob.address, 5)}
    gas = int(node.rpc("eth_estimateGas", call), 16)
    assert token.run(alice, "transfer", bob.address, 5, gas=gas)["status"] == "0x1"
    with pytest.raises(Reverted):
        token.run(alice, "transfer", new_account().address, 5, gas=int(gas * 0.95))


def test_logs_are_found_by_block_address_and_topic(node, token, alice, bob):
    first = node.height + 1
    receipt = token.run(alice, "transfer", bob.address, 7)
    token.run(alice, "approve", bob.address, 7)
    transfer = receipt["logs"][0]["topics"][0]
    query = {"fromBlock": hex(first), "toBlock": "latest", "address": token.address}
    assert len(node.rpc("eth_getLogs", query)) == 2
    assert node.rpc("eth_getLogs", query | {"topics": [transfer]}) == receipt["logs"]
    assert node.rpc("eth_getLogs", query | {"topics": [None, None, "0x" + bob.address[2:].lower().rjust(64, "0")]})[0]["data"] == "0x" + f"{7:064x}"
    assert node.rpc("eth_getLogs", {"blockHash": receipt["blockHash"]}) == receipt["logs"]


def test_a_reorganisation_unmakes_blocks(node, token, alice, bob):
    before = node.height
    kept, lost = token.run(alice, "transfer", bob.address, 1), token.run(alice, "transfer", bob.address, 10)
    node.reorganise(2, drop=[lost["transactionHash"]])
    assert node.height == before + 3 and token.call("balanceOf", bob.address) == 1
    assert node.rpc("eth_getTransactionReceipt", lost["transactionHash"]) is None and node.rpc("eth_getBlockByHash", lost["blockHash"]) is None
    again = node.rpc("eth_getTransactionReceipt", kept["transactionHash"])
    assert again["status"] == "0x1" and again["blockHash"] != kept["blockHash"]
    node.revert(before)
    assert token.call("balanceOf", bob.address) == 0 and node.rpc("eth_getTransactionByHash", kept["transactionHash"])["blockHash"] is None
    node.mine()
    assert token.call("balanceOf", bob.address) == 1


def test_the_faults_happen_and_end(node, token, alice, bob):
    client = Client(node.url, timeout=5)
    raw = token.data("transfer", bob.address, 3)
    node.fail("lost", names="eth_sendRawTransaction")
    client.rpc("eth_chainId")
    with pytest.raises(requests.ConnectionError):
        send(client.rpc, alice, token.address, raw)
    assert token.call("balanceOf", bob.address) == 3
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


def test_a_node_is_controlled_over_http_too(node, token, alice, bob):
    client = Client(node.url)
    client.rpc("test_hold")
    found = Contract(client.rpc, "Token", "usdc").transact(alice, "transfer", bob.address, 4)
    assert client.rpc("eth_getTransactionReceipt", found) is None
    client.rpc("test_mine")
    client.rpc("test_release")
    assert token.call("balanceOf", bob.address) == 4
    client.rpc("test_fund", bob.address, 9)
    assert client.rpc("eth_getBalance", bob.address) == "0x9"
    client.rpc("test_fail", "refusal", 1, ["eth_gasPrice"])
    with pytest.raises(RuntimeError):
        client.rpc("eth_gasPrice")


# The token.


def test_the_token_moves_by_authorization_once(node, token, alice, bob, domain, rich):
    arguments, message = authorization(domain, alice.address, bob.address, 1000)
    signature = sign(alice, message)
    assert token.call("DOMAIN_SEPARATOR") == message.header
    receipt = token.run(rich, "transferWithAuthorization", *arguments, *vrs(signature))
    assert [name for name, _ in token.logs(receipt)] == ["AuthorizationUsed", "Transfer"]
    assert token.call("balanceOf", bob.address) == 1000 and token.call("authorizationState", alice.address, arguments[5])
    used = "FiatTokenV2: authorization is used or canceled"
    assert reason(token, "transferWithAuthorization", *arguments, *vrs(signature)) == used
    token.run(rich, "misbehave", True)
    assert token.run(rich, "transferWithAuthorization", *arguments, *vrs(signature))["logs"] == []
    token.run(rich, "misbehave", False)
    assert token.call("balanceOf", bob.address) == 1000


def test_the_token_refuses_authorizations(node, token, alice, bob, domain, rich):
    def why(signer=alice, change=lambda signature: signature, name="transferWithAuthorization", **options):
        arguments, message = authorization(domain, alice.address, bob.address, options.pop("value", 1), **options)
        return reason(token, name, *arguments, *vrs(change(sign(signer, message))))

    now = node.chain.now()
    assert why(after=now + 60) == "FiatTokenV2: authorization is not yet valid"
    assert why(before=now - 60) == "FiatTokenV2: authorization is expired"
    assert why(signer=bob) == why(change=malleated) == "FiatTokenV2: invalid signature"
    assert why(value=10**9) == "ERC20: transfer amount exceeds balance"
    assert why(name="receiveWithAuthorization", kind="ReceiveWithAuthorization") == "FiatTokenV2: caller must be the payee"
    token.run(rich, "pause", True)
    assert why() == "Pausable: paused"
    token.run(rich, "pause", False)


# x402's own client, server and facilitator.


@pytest.fixture(scope="module")
def facilitator(node):
    with Facilitator(node.url) as facilitator:
        node.fund(facilitator.address, COIN)
        yield facilitator


@pytest.fixture(scope="module")
def merchant():
    return new_account()


@pytest.fixture(scope="module")
def flask_shop(facilitator, token, merchant):
    shop = FlaskShop(facilitator, token.address, merchant.address)
    yield shop
    shop.close()


@pytest.fixture(scope="module")
def fastapi_shop(facilitator, token, merchant):
    shop = FastAPIShop(facilitator, token.address, merchant.address)
    yield shop
    shop.close()


def settlement(response):
    return json.loads(base64.b64decode(response.headers["payment-response"]))


def test_requests_pays_exact_to_flask(node, token, alice, merchant, flask_shop):
    before = token.call("balanceOf", merchant.address)
    session = x402_requests(register_exact_evm_client(x402ClientSync(), alice))
    response = session.get(flask_shop.url + "/exact", timeout=10)
    assert response.status_code == 200 and response.json() == {"page": "exact"}
    assert settlement(response)["success"] and token.call("balanceOf", merchant.address) == before + 1000
    assert node.rpc("eth_getTransactionReceipt", settlement(response)["transaction"])["status"] == "0x1"


def test_httpx_pays_exact_to_fastapi(token, alice, merchant, fastapi_shop):
    async def run():
        async with x402HttpxClient(register_exact_evm_client(x402Client(), alice)) as client:
            return await client.get(fastapi_shop.url + "/exact")

    before = token.call("balanceOf", merchant.address)
    assert asyncio.run(run()).status_code == 200
    assert token.call("balanceOf", merchant.address) == before + 1000
