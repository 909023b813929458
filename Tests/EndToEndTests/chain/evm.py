"""Blocks, state and the pool of a chain of our own over py-evm: the EVM and its rules are py-evm's, the order of things is the tests' to decide."""

import threading
import time
from dataclasses import dataclass, field

import rlp
from eth.db.atomic import AtomicDB
from eth.db.chain import ChainDB
from eth.exceptions import Revert, VMError
from eth.rlp.headers import BlockHeader
from eth.vm.chain_context import ChainContext
from eth.vm.forks import PragueVM
from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext
from eth_utils import ValidationError, keccak

from chain import tempo

GWEI = 10**9
GAS_LIMIT = 30_000_000
CALL_GAS = 25_000_000
# The gas that a client of the chain is told to offer on top of the base fee.
TIP = GWEI
# By how many percent both fees of a transaction must exceed those of the pooled one that it replaces.
BUMP = 10
COINBASE = bytes.fromhex("c0ffee0000000000000000000000000000000000")
PRECOMPILES = [number.to_bytes(20, "big") for number in range(1, 11)]


class Refusal(Exception):
    """What a node answers instead of a result."""

    def __init__(self, code, message, data=None):
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


@dataclass
class Block:
    header: object
    transactions: list = field(default_factory=list)
    receipts: list = field(default_factory=list)
    created: list = field(default_factory=list)
    withdrawals: list = field(default_factory=list)


@dataclass
class Execution:
    output: bytes
    error: object
    gas: int


def revert_text(output):
    """The reason in a revert's data, if it is a string."""
    if output[:4] == b"\x08\xc3y\xa0" and len(output) >= 68:
        length = int.from_bytes(output[36:68], "big")
        return output[68 : 68 + length].decode(errors="replace")
    return None


def intrinsic_gas(data, creates):
    zeros = data.count(0)
    gas = 21_000 + 4 * zeros + 16 * (len(data) - zeros)
    return gas + 32_000 + 2 * ((len(data) + 31) // 32) if creates else gas


class Chain:
    """A chain of blocks from a genesis of `{address: {"balance", "nonce", "code", "storage"}}`. Every method takes the chain's lock. Beside the
    transactions of Ethereum it takes those of Tempo."""

    def __init__(self, chain_id, genesis=None, base_fee=GWEI):
        self.id = chain_id
        self.lock = threading.RLock()
        self.base_fee = base_fee
        self.held = False
        # How far the chain's clock is ahead of the machine's, in seconds.
        self.ahead = 0
        self.forks = 0
        # Transactions by sender and nonce, those of Tempo by hash, with the order of their arrival.
        self.pool = {}
        self.lanes = {}
        self.arrivals = 0
        self.database = AtomicDB()
        self.chaindb = ChainDB(self.database)
        self.context = ChainContext(chain_id)
        self.blocks = [Block(self.genesis_header(genesis or {}))]
        self.places = {}
        self.persist(self.blocks[0].header)

    def genesis_header(self, accounts):
        before = BlockHeader(difficulty=0, block_number=-1, gas_limit=0)
        state = PragueVM.build_state(self.database, before, self.context)
        for address, account in accounts.items():
            state.set_balance(address, account.get("balance", 0))
            state.set_nonce(address, account.get("nonce", 0))
            state.set_code(address, account.get("code", b""))
            for slot, value in account.get("storage", {}).items():
                state.set_storage(address, slot, value)
        state.persist()
        return PragueVM.create_genesis_header(
            difficulty=0, gas_limit=GAS_LIMIT, timestamp=int(time.time()), state_root=state.state_root, base_fee_per_gas=self.base_fee, coinbase=COINBASE)

    def persist(self, header):
        self.database.set(header.hash, rlp.encode(header))

    # Reading.

    @property
    def head(self):
        return self.blocks[-1]

    def now(self):
        return max(int(time.time()) + self.ahead, self.head.header.timestamp)

    def virtual_machine(self, parent):
        """A machine for the block after `parent`."""
        header = PragueVM.create_header_from_parent(
            parent, gas_limit=GAS_LIMIT, timestamp=max(parent.timestamp, int(time.time()) + self.ahead), coinbase=COINBASE, extra_data=b"fork %d" % self.forks)
        return PragueVM(header.copy(base_fee_per_gas=self.base_fee), self.chaindb, self.context, None)

    def state(self, number=None):
        with self.lock:
            return self.virtual_machine((self.head if number is None else self.blocks[number]).header).state

    def pending_nonce(self, address):
        with self.lock:
            nonce, pooled = self.state().get_nonce(address), self.pool.get(address, {})
            while nonce in pooled:
                nonce += 1
            return nonce

    def execute(self, number, sender, to, data, value, gas):
        """Runs a call on the state after block `number`, and forgets what it changed."""
        with self.lock:
            state = self.state(number)
            creates = to is None
            left = gas - intrinsic_gas(data, creates)
            if left < 0:
                raise Refusal(-32000, f"intrinsic gas too low: gas {gas}, minimum needed {gas - left}")
            for address in (sender, to or COINBASE, COINBASE, *PRECOMPILES):
                state.mark_address_warm(address)
            context = BaseTransactionContext(gas_price=self.base_fee, origin=sender)
            if creates:
                created = keccak(rlp.encode([sender, state.get_nonce(sender)]))[12:]
                message = Message(gas=left, to=b"", sender=sender, value=value, data=b"", code=data, create_address=created)
                computation = state.computation_class.apply_create_message(state, message, context)
            else:
                message = Message(gas=left, to=to, sender=sender, value=value, data=data, code=state.get_code(to))
                computation = state.computation_class.apply_message(state, message, context)
            error = computation.error if computation.is_error else None
            return Execution(computation.output, error, gas - computation.get_gas_remaining())

    def call(self, number, sender, to, data, value=0, gas=CALL_GAS):
        done = self.execute(number, sender, to, data, value, min(gas, CALL_GAS))
        if done.error is not None:
            raise self.refusal(done)
        return done.output

    def estimate(self, number, sender, to, data, value=0, gas=CALL_GAS):
        """The least gas that the call succeeds with, to one percent. What runs on its last 64th of the gas needs more than it uses."""
        ceiling = min(gas, CALL_GAS)
        done = self.execute(number, sender, to, data, value, ceiling)
        if done.error is not None:
            raise self.refusal(done)
        tokens = sum(1 if octet == 0 else 4 for octet in data)
        low, high = max(done.gas, 21_000 + 10 * tokens) - 1, ceiling
        while high - low > max(1, low // 100):
            trial = min(low + max(1, low // 64), (low + high) // 2) if high == ceiling else (low + high) // 2
            if self.execute(number, sender, to, data, value, trial).error is None:
                high = trial
            else:
                low = trial
        return high

    @staticmethod
    def refusal(done):
        if isinstance(done.error, Revert):
            reason = revert_text(done.output)
            return Refusal(3, "execution reverted" + (f": {reason}" if reason else ""), "0x" + done.output.hex())
        assert isinstance(done.error, VMError), done.error
        name = type(done.error).__name__
        known = {"OutOfGas": "out of gas", "InsufficientFunds": "insufficient funds for transfer", "InvalidInstruction": "invalid opcode"}
        return Refusal(-32000, known.get(name, name))

    # The pool.

    def send(self, raw):
        """Takes a signed transaction as geth does, and mines it unless the chain is held. Gives its hash."""
        with self.lock:
            if raw[:1] == bytes([tempo.TYPE]):
                transaction = self.admit_tempo(raw)
            else:
                try:
                    transaction = PragueVM.get_transaction_builder().decode(raw)
                    sender = transaction.sender
                except Exception as error:
                    raise Refusal(-32000, f"failed to decode transaction: {type(error).__name__}") from error
                self.admit(transaction, sender)
            self.put(transaction)
            if not self.held:
                self.mine()
            return transaction.hash

    def put(self, transaction):
        self.arrivals += 1
        if isinstance(transaction, tempo.Transaction):
            self.lanes[transaction.hash] = (self.arrivals, transaction)
        else:
            self.pool.setdefault(transaction.sender, {})[transaction.nonce] = (self.arrivals, transaction)

    def admit_tempo(self, raw):
        try:
            transaction = tempo.Transaction(raw)
        except tempo.Refused as refused:
            raise Refusal(-32000, str(refused)) from refused
        except Exception as error:
            raise Refusal(-32000, f"failed to decode transaction: {type(error).__name__}") from error
        if transaction.hash in self.lanes:
            raise Refusal(-32000, "already known")
        try:
            transaction.check(self, self.state(), self.now())
        except tempo.Refused as refused:
            raise Refusal(-32000, str(refused)) from refused
        return transaction

    def waiting(self):
        """Everything in the pool."""
        return [transaction for queue in (*self.pool.values(), self.lanes) for _, transaction in queue.values()]

    def admit(self, transaction, sender):
        if transaction.chain_id != self.id:
            raise Refusal(-32000, f"invalid chain id for signer: have {transaction.chain_id} want {self.id}")
        if transaction.gas > GAS_LIMIT:
            raise Refusal(-32000, "exceeds block gas limit")
        cap, tip = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
        if tip > cap:
            raise Refusal(-32000, f"max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}")
        needed = intrinsic_gas(transaction.data, transaction.to == b"")
        if transaction.gas < needed:
            raise Refusal(-32000, f"intrinsic gas too low: gas {transaction.gas}, minimum needed {needed}")
        pooled = self.pool.get(sender, {}).get(transaction.nonce)
        if pooled is not None and pooled[1].hash == transaction.hash:
            raise Refusal(-32000, "already known")
        state = self.state()
        next_nonce, balance = state.get_nonce(sender), state.get_balance(sender)
        if transaction.nonce < next_nonce:
            raise Refusal(-32000, f"nonce too low: next nonce {next_nonce}, tx nonce {transaction.nonce}")
        cost = transaction.gas * cap + transaction.value
        if balance < cost:
            raise Refusal(-32000, f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {cost - balance}")
        if pooled is not None:
            old = pooled[1]
            enough = all(new * 100 >= was * (100 + BUMP) for new, was in ((cap, old.max_fee_per_gas), (tip, old.max_priority_fee_per_gas)))
            if not enough:
                raise Refusal(-32000, "replacement transaction underpriced")

    def pooled(self, transaction_hash):
        with self.lock:
            return next((transaction for transaction in self.waiting() if transaction.hash == transaction_hash), None)

    def drop(self, transaction_hash):
        """Forgets a pooled transaction, as nodes do under load."""
        with self.lock:
            for transaction in self.waiting():
                if transaction.hash == transaction_hash:
                    self.remove(transaction)

    # Mining.

    def mine(self, count=1, without=()):
        """Mines `count` blocks, the first with everything of the pool that can pay the base fee and whose turn it is but for the hashes `without`."""
        with self.lock:
            for _ in range(count):
                self.mine_block(without)

    def mine_block(self, without=(), withdrawals=()):
        parent = self.head.header
        machine = self.virtual_machine(parent)
        header, block = machine.get_header(), Block(None, withdrawals=list(withdrawals))
        while (transaction := self.next_transaction(machine.state, header, without)) is not None:
            self.remove(transaction)
            created = None
            try:
                if isinstance(transaction, tempo.Transaction):
                    receipt = transaction.run(self, machine, header)
                else:
                    receipt, computation = machine.apply_transaction(header, transaction)
                    created = computation.msg.storage_address if computation.msg.is_create else None
            except (ValidationError, tempo.Refused):
                continue
            header = machine.add_receipt_to_header(header, receipt)
            block.transactions.append(transaction)
            block.receipts.append(receipt)
            block.created.append(created)
        for address, amount in withdrawals:
            machine.state.delta_balance(address, amount)
        # The roots of a header are of Ethereum's transactions only.
        rooted = [pair for pair in zip(block.transactions, block.receipts) if not isinstance(pair[0], tempo.Transaction)]
        filled = machine.set_block_transactions_and_withdrawals(machine.get_block(), header, [t for t, _ in rooted], [r for _, r in rooted])
        block.header = machine.finalize_block(filled).block.header
        self.persist(block.header)
        self.blocks.append(block)
        for index, transaction in enumerate(block.transactions):
            self.places[transaction.hash] = (len(self.blocks) - 1, index)

    def next_transaction(self, state, header, without):
        ready = []
        for sender, queue in self.pool.items():
            arrived, transaction = queue.get(state.get_nonce(sender), (None, None))
            if transaction is None or transaction.hash in without or transaction.max_fee_per_gas < self.base_fee:
                continue
            ready.append((arrived, transaction))
        ready += [
            (arrived, transaction)
            for arrived, transaction in self.lanes.values()
            if transaction.hash not in without and transaction.is_ready(self, state, header.timestamp)
        ]
        ready = [(arrived, transaction) for arrived, transaction in ready if header.gas_used + transaction.gas <= header.gas_limit]
        return min(ready, key=lambda pair: pair[0])[1] if ready else None

    def remove(self, transaction):
        self.lanes.pop(transaction.hash, None)
        queue = self.pool.get(transaction.sender, {})
        if queue.get(transaction.nonce, (None, None))[1] is transaction:
            del queue[transaction.nonce]

    def fund(self, address, wei):
        """Mines a block that gives `address` so much of the chain's own coin."""
        with self.lock:
            self.mine_block(without=[transaction.hash for transaction in self.waiting()], withdrawals=[(address, wei)])

    # Reorganisations.

    def revert(self, number, drop=()):
        """Goes back to block `number`. What was mined after it is pooled again, but for the hashes in `drop`, which never were. What
        `fund` gave is given again in the first block of the new branch."""
        with self.lock:
            assert 0 <= number <= len(self.blocks) - 1, number
            orphans, self.blocks = self.blocks[number + 1 :], self.blocks[: number + 1]
            self.forks += 1
            withdrawals = []
            for block in orphans:
                withdrawals += block.withdrawals
                for transaction in block.transactions:
                    del self.places[transaction.hash]
                    replaced = transaction.nonce in self.pool.get(transaction.sender, {})
                    if transaction.hash not in drop and (not replaced or isinstance(transaction, tempo.Transaction)):
                        self.put(transaction)
            if withdrawals:
                self.mine_block(without=[transaction.hash for transaction in self.waiting()], withdrawals=withdrawals)

    def reorganise(self, depth, drop=()):
        """Replaces the last `depth` blocks by one more of others, without the transactions in `drop`."""
        with self.lock:
            top = len(self.blocks) + 1
            self.revert(len(self.blocks) - 1 - depth, drop)
            while len(self.blocks) < top:
                self.mine_block()
