"""A node of the chain: JSON-RPC 2.0 over HTTP on loopback as geth speaks it, with the faults that a server's operator dreads, on demand.

In a test process it is an object (`Node()`); `python -m chain.node --port 8545` runs it alone, and its controls are methods under `test_`.
"""

import argparse
import json
import signal
from collections import Counter

from eth_utils import to_checksum_address

from chain import contracts
from chain.evm import CALL_GAS, GAS_LIMIT, TIP, Chain, Refusal
from chain.loopback import Faults, Service

BASE_SEPOLIA = 84532


def quantity(number):
    return hex(number)


def octets(data):
    return "0x" + bytes(data).hex()


def number_of(value, name="value"):
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise Refusal(-32602, f"invalid argument: {name}") from error


def octets_of(value, length=None):
    try:
        assert value[:2] == "0x"
        data = bytes.fromhex(value[2:])
        assert length is None or len(data) == length
        return data
    except (TypeError, ValueError, AssertionError) as error:
        raise Refusal(-32602, f"invalid argument: {str(value)[:80]}") from error


class Methods:
    """The methods of the node, by name."""

    def __init__(self, chain):
        self.chain = chain
        # What eth_chainId and net_version say, when not the truth.
        self.claimed_id = None

    def number(self, tag):
        """The number of the block that a tag, a number, or an object (EIP-1898) names."""
        height = len(self.chain.blocks) - 1
        if tag in (None, "latest", "pending", "safe", "finalized"):
            return height
        if tag == "earliest":
            return 0
        if isinstance(tag, dict):
            if "blockHash" in tag:
                return self.number_by_hash(tag["blockHash"])
            tag = tag.get("blockNumber")
        number = number_of(tag, "block")
        if number > height:
            raise Refusal(-32000, "header not found")
        return number

    def number_by_hash(self, value):
        wanted = octets_of(value, 32)
        for number in range(len(self.chain.blocks) - 1, -1, -1):
            if self.chain.blocks[number].header.hash == wanted:
                return number
        raise Refusal(-32000, "header not found")

    # The chain.

    def eth_chainId(self):
        return quantity(self.claimed_id or self.chain.id)

    def net_version(self):
        return str(self.claimed_id or self.chain.id)

    def web3_clientVersion(self):
        return "farebox-tests/py-evm"

    def eth_syncing(self):
        return False

    def eth_blockNumber(self):
        return quantity(len(self.chain.blocks) - 1)

    def eth_gasPrice(self):
        return quantity(self.chain.base_fee + TIP)

    def eth_maxPriorityFeePerGas(self):
        return quantity(TIP)

    def eth_feeHistory(self, count, newest="latest", percentiles=None):
        count, newest = count if isinstance(count, int) else number_of(count), self.number(newest)
        oldest = max(0, newest - count + 1)
        blocks = self.chain.blocks[oldest : newest + 1]
        history = {
            "oldestBlock": quantity(oldest),
            "baseFeePerGas": [quantity(block.header.base_fee_per_gas) for block in blocks] + [quantity(self.chain.base_fee)],
            "gasUsedRatio": [block.header.gas_used / GAS_LIMIT for block in blocks],
        }
        if percentiles:
            history["reward"] = [[quantity(TIP)] * len(percentiles) for _ in blocks]
        return history

    # Accounts.

    def eth_getBalance(self, address, tag="latest"):
        return quantity(self.chain.state(self.number(tag)).get_balance(octets_of(address, 20)))

    def eth_getCode(self, address, tag="latest"):
        return octets(self.chain.state(self.number(tag)).get_code(octets_of(address, 20)))

    def eth_getStorageAt(self, address, slot, tag="latest"):
        value = self.chain.state(self.number(tag)).get_storage(octets_of(address, 20), number_of(slot))
        return octets(value.to_bytes(32, "big"))

    def eth_getTransactionCount(self, address, tag="latest"):
        account = octets_of(address, 20)
        if tag == "pending":
            return quantity(self.chain.pending_nonce(account))
        return quantity(self.chain.state(self.number(tag)).get_nonce(account))

    # Execution.

    @staticmethod
    def arguments(call):
        data = call.get("input", call.get("data")) or "0x"
        return {
            "sender": octets_of(call["from"], 20) if call.get("from") else bytes(20),
            "to": octets_of(call["to"], 20) if call.get("to") else None,
            "data": octets_of(data),
            "value": number_of(call.get("value") or "0x0"),
            "gas": number_of(call["gas"]) if call.get("gas") else CALL_GAS,
        }

    def eth_call(self, call, tag="latest"):
        return octets(self.chain.call(self.number(tag), **self.arguments(call)))

    def eth_estimateGas(self, call, tag="latest"):
        return quantity(self.chain.estimate(self.number(tag), **self.arguments(call)))

    def eth_sendRawTransaction(self, raw):
        return octets(self.chain.send(octets_of(raw)))

    # Transactions and blocks.

    def eth_getTransactionReceipt(self, value):
        place = self.chain.places.get(octets_of(value, 32))
        if place is None:
            return None
        number, index = place
        block = self.chain.blocks[number]
        transaction, receipt = block.transactions[index], block.receipts[index]
        before = block.receipts[index - 1].gas_used if index else 0
        created = block.created[index]
        return {
            "transactionHash": octets(transaction.hash),
            "transactionIndex": quantity(index),
            "blockHash": octets(block.header.hash),
            "blockNumber": quantity(number),
            "from": octets(transaction.sender),
            "to": octets(transaction.to) if transaction.to else None,
            "contractAddress": octets(created) if created else None,
            "cumulativeGasUsed": quantity(receipt.gas_used),
            "gasUsed": quantity(receipt.gas_used - before),
            "effectiveGasPrice": quantity(self.price(transaction, block)),
            "type": quantity(transaction.type_id or 0) if hasattr(transaction, "type_id") else "0x0",
            "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
            "logsBloom": octets(receipt.bloom.to_bytes(256, "big")),
            "logs": list(self.logs(number, index)),
        }

    @staticmethod
    def price(transaction, block):
        base = block.header.base_fee_per_gas
        return min(transaction.max_fee_per_gas, base + transaction.max_priority_fee_per_gas)

    def logs(self, number, index):
        block = self.chain.blocks[number]
        first = sum(len(receipt.logs) for receipt in block.receipts[:index])
        for position, log in enumerate(block.receipts[index].logs):
            yield {
                "address": octets(log.address),
                "topics": [octets(topic.to_bytes(32, "big")) for topic in log.topics],
                "data": octets(log.data),
                "blockNumber": quantity(number),
                "blockHash": octets(block.header.hash),
                "transactionHash": octets(block.transactions[index].hash),
                "transactionIndex": quantity(index),
                "logIndex": quantity(first + position),
                "removed": False,
            }

    def eth_getLogs(self, query):
        if "blockHash" in query:
            first = last = self.number_by_hash(query["blockHash"])
        else:
            first, last = self.number(query.get("fromBlock", "latest")), min(self.range_end(query), len(self.chain.blocks) - 1)
        addresses = query.get("address") or []
        addresses = {address.lower() for address in ([addresses] if isinstance(addresses, str) else addresses)}
        wanted = [[topic] if isinstance(topic, str) else topic for topic in query.get("topics") or []]
        found = []
        for number in range(first, last + 1):
            for index in range(len(self.chain.blocks[number].transactions)):
                for log in self.logs(number, index):
                    if addresses and log["address"] not in addresses or len(wanted) > len(log["topics"]):
                        continue
                    if all(not choice or topic in [c.lower() for c in choice] for choice, topic in zip(wanted, log["topics"])):
                        found.append(log)
        return found

    def range_end(self, query):
        """A range of logs may end above the chain's height."""
        tag = query.get("toBlock", "latest")
        return int(tag, 16) if isinstance(tag, str) and tag.startswith("0x") else self.number(tag)

    def transaction(self, transaction, place=None):
        legacy = not getattr(transaction, "type_id", None)
        y_parity = transaction.y_parity
        answer = {
            "hash": octets(transaction.hash),
            "type": quantity(0 if legacy else transaction.type_id),
            "from": octets(transaction.sender),
            "to": octets(transaction.to) if transaction.to else None,
            "nonce": quantity(transaction.nonce),
            "gas": quantity(transaction.gas),
            "value": quantity(transaction.value),
            "input": octets(transaction.data),
            "chainId": quantity(self.chain.id),
            "r": quantity(transaction.r),
            "s": quantity(transaction.s),
            "v": quantity(35 + 2 * self.chain.id + y_parity if legacy else y_parity),
            "blockHash": None,
            "blockNumber": None,
            "transactionIndex": None,
        }
        if not legacy:
            answer |= {
                "maxFeePerGas": quantity(transaction.max_fee_per_gas),
                "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
                "accessList": [],
                "yParity": quantity(y_parity),
            }
        answer["gasPrice"] = quantity(transaction.max_fee_per_gas)
        if place is not None:
            number, index = place
            block = self.chain.blocks[number]
            answer |= {"blockHash": octets(block.header.hash), "blockNumber": quantity(number), "transactionIndex": quantity(index)}
            answer["gasPrice"] = quantity(self.price(transaction, block))
        return answer

    def eth_getTransactionByHash(self, value):
        wanted = octets_of(value, 32)
        place = self.chain.places.get(wanted)
        if place is not None:
            return self.transaction(self.chain.blocks[place[0]].transactions[place[1]], place)
        pooled = self.chain.pooled(wanted)
        return None if pooled is None else self.transaction(pooled)

    def block(self, number, full):
        block = self.chain.blocks[number]
        header = block.header
        return {
            "number": quantity(number),
            "hash": octets(header.hash),
            "parentHash": octets(header.parent_hash),
            "timestamp": quantity(header.timestamp),
            "baseFeePerGas": quantity(header.base_fee_per_gas),
            "gasLimit": quantity(header.gas_limit),
            "gasUsed": quantity(header.gas_used),
            "miner": octets(header.coinbase),
            "stateRoot": octets(header.state_root),
            "transactionsRoot": octets(header.transaction_root),
            "receiptsRoot": octets(header.receipt_root),
            "logsBloom": octets(header.bloom.to_bytes(256, "big")),
            "extraData": octets(header.extra_data),
            "difficulty": "0x0",
            "mixHash": octets(header.mix_hash),
            "nonce": octets(header.nonce),
            "sha3Uncles": octets(header.uncles_hash),
            "size": "0x400",
            "uncles": [],
            "transactions": [
                self.transaction(transaction, (number, index)) if full else octets(transaction.hash) for index, transaction in enumerate(block.transactions)
            ],
        }

    def eth_getBlockByNumber(self, tag, full=False):
        try:
            return self.block(self.number(tag), full)
        except Refusal as refusal:
            if refusal.code == -32602:
                raise
            return None

    def eth_getBlockByHash(self, value, full=False):
        try:
            return self.block(self.number_by_hash(value), full)
        except Refusal as refusal:
            if refusal.code == -32602:
                raise
            return None


class Node(Service):
    """A chain with the tests' contracts in its genesis, answering on a loopback port of its own until it is closed.

    Faults know a request by its methods; besides those of every service there are `refusal` (an error of the node, nothing done) and `null` (a result
    of null, nothing done).
    """

    def __init__(self, chain_id=BASE_SEPOLIA, port=0, accounts=None):
        genesis = contracts.genesis()
        for address, balance in (accounts or {}).items():
            genesis[octets_of(address, 20)] = {"balance": balance}
        self.chain = Chain(chain_id, genesis)
        self.methods = Methods(self.chain)
        # How often each method was asked for.
        self.calls = Counter()
        super().__init__(port, Faults("refusal", "null"))

    @property
    def chain_id(self):
        return self.chain.id

    # Answers.

    def names(self, path, body):
        try:
            request = json.loads(body or b"null")
        except ValueError:
            return []
        calls = request if isinstance(request, list) else [request]
        return [str(call.get("method")) for call in calls if isinstance(call, dict) and not str(call.get("method")).startswith("test_")] or ["control"]

    def answer(self, path, body, fault):
        try:
            request = json.loads(body or b"")
        except ValueError:
            return 200, self.encode(self.error(None, -32700, "parse error"))
        calls = request if isinstance(request, list) else [request]
        if fault and fault.kind == "refusal":
            answers = [self.error(call.get("id"), -32000, "node is overloaded") for call in calls]
        elif fault and fault.kind == "null":
            answers = [{"jsonrpc": "2.0", "id": call.get("id"), "result": None} for call in calls]
        else:
            answers = [self.result(call) for call in calls]
        return 200, self.encode(answers if isinstance(request, list) else answers[0])

    @staticmethod
    def encode(value):
        return json.dumps(value, separators=(",", ":")).encode()

    @staticmethod
    def error(identifier, code, message, data=None):
        error = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        return {"jsonrpc": "2.0", "id": identifier, "error": error}

    def result(self, call):
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return self.error(None, -32600, "invalid request")
        try:
            result = self.run(call["method"], call.get("params") or [])
            return {"jsonrpc": "2.0", "id": call.get("id"), "result": result}
        except Refusal as refusal:
            return self.error(call.get("id"), refusal.code, refusal.message, refusal.data)

    def run(self, method, parameters):
        control = method.startswith("test_")
        found = getattr(self, method, None) if control else getattr(self.methods, method, None) if method.startswith(("eth_", "net_", "web3_")) else None
        if found is None:
            raise Refusal(-32601, f"the method {method} does not exist/is not available")
        if not control:
            self.calls[method] += 1
        with self.chain.lock:
            try:
                return found(*parameters) if isinstance(parameters, list) else found(**parameters)
            except (TypeError, KeyError, AttributeError) as error:
                raise Refusal(-32602, f"invalid argument: {error}") from error

    def rpc(self, method, *parameters):
        """Asks the node in this process, past its faults. Raises what it refuses."""
        return self.run(method, list(parameters))

    # Controls.

    def heal(self):
        """Ends all faults, and a wrong chain id."""
        super().heal()
        self.methods.claimed_id = None

    def claim(self, chain_id):
        """Says from now on that this is another chain."""
        self.methods.claimed_id = chain_id

    def hold(self):
        """From now on transactions wait in the pool until they are mined by hand."""
        self.chain.held = True

    def release(self):
        """Mines what waits, and mines by itself from now on."""
        self.chain.held = False
        self.chain.mine()

    def mine(self, count=1, without=()):
        self.chain.mine(count, [octets_of(value, 32) for value in without])

    @property
    def height(self):
        return len(self.chain.blocks) - 1

    snapshot = height

    def revert(self, number, drop=()):
        """Goes back to block `number`, what was mined since to the pool again but for the transactions in `drop`. Nothing is mined."""
        self.chain.revert(number, [octets_of(value, 32) for value in drop])

    def reorganise(self, depth, drop=()):
        """Replaces the last `depth` blocks by one more of others without the transactions in `drop`."""
        self.chain.reorganise(depth, [octets_of(value, 32) for value in drop])

    def forget(self, value):
        """Drops a transaction from the pool."""
        self.chain.drop(octets_of(value, 32))

    def advance(self, seconds):
        """Sets the chain's clock forward and mines a block, so that calls see the new time."""
        self.chain.ahead += seconds
        self.chain.mine()

    def fund(self, address, wei=10**18):
        self.chain.fund(octets_of(address, 20), wei)

    def set_base_fee(self, wei):
        """What the next blocks ask for: transactions that offer less are stuck."""
        self.chain.base_fee = wei

    # The controls again, as methods.

    def test_fail(self, kind, count=1, methods=(), seconds=0.0):
        self.fail(kind, count, methods, seconds)

    def test_heal(self):
        self.heal()

    def test_claim(self, chain_id):
        self.claim(chain_id)

    def test_hold(self):
        self.hold()

    def test_release(self):
        self.release()

    def test_mine(self, count=1, without=()):
        self.mine(count, without)
        return self.height

    def test_snapshot(self):
        return self.height

    def test_revert(self, number, drop=()):
        self.revert(number, drop)

    def test_reorganise(self, depth, drop=()):
        self.reorganise(depth, drop)
        return self.height

    def test_forget(self, value):
        self.forget(value)

    def test_advance(self, seconds):
        self.advance(seconds)

    def test_fund(self, address, wei=10**18):
        self.fund(address, int(wei))

    def test_baseFee(self, wei):
        self.set_base_fee(wei)

    def test_calls(self):
        return dict(self.calls)

    def test_contracts(self):
        return {name: to_checksum_address(address) for name, address in contracts.ADDRESSES.items()}


def main():
    parser = argparse.ArgumentParser(description="A chain on loopback, for tests.")
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--chain-id", type=int, default=BASE_SEPOLIA)
    parser.add_argument("--fund", action="append", default=[], metavar="ADDRESS", help="gives an account 1000 coins")
    options = parser.parse_args()
    node = Node(options.chain_id, options.port, {address: 1000 * 10**18 for address in options.fund})
    print(json.dumps({"url": node.url, "chainId": node.chain_id, "contracts": node.test_contracts()}), flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    node.close()


if __name__ == "__main__":
    main()
