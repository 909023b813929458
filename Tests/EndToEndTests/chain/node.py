"""A node of the chain: JSON-RPC 2.0 over HTTP on loopback as geth speaks it, with the faults that a server's operator dreads, on demand.

In a test process it is an object (`Node()`); `python -m chain.node --port 8545` runs it alone, and its controls are methods under `test_`.
"""

import argparse
import json
from collections import Counter

from eth_utils import to_checksum_address

from chain import contracts, tempo
from chain.evm import Chain, Refusal
from chain.loopback import Faults, Service
from chain.methods import Methods, octets_of

BASE_SEPOLIA = 84532


class Node(Service):
    """A chain with the tests' contracts in its genesis, answering on a loopback port of its own until it is closed.

    Faults know a request by its methods; besides those of every service there are `refusal` (an error of the node, nothing done) and `null` (a result
    of null, nothing done).
    """

    def __init__(self, chain_id=BASE_SEPOLIA, port=0, accounts=None):
        genesis = contracts.genesis() | tempo.genesis()
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
        found = getattr(self if control else self.methods, method, None) if control or method.startswith(("eth_", "net_", "web3_", "tempo_")) else None
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
    node.serve_until_told()


if __name__ == "__main__":
    main()
