"""Tempo's transactions (type 0x76) on the tests' chain: decoded, checked and executed as a node of Tempo would, as far as payments can tell.

This is a stand-in, for there is no node of Tempo to test on. It takes the signatures of secp256k1 keys; what an access key signs, a P256 key or
WebAuthn it refuses. The encodings to sign are pytempo's, not ours.
"""

import attrs
import rlp
from eth.rlp.logs import Log
from eth.rlp.receipts import Receipt
from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext
from eth_keys.datatypes import Signature as KeySignature
from eth_utils import keccak
from pytempo import Call, TempoTransaction
from pytempo.models import Signature

TYPE = 0x76
EXPIRING = 2**256 - 1
# How far ahead the end of a transaction with an expiring nonce may lie, in seconds.
LONGEST = 300
# Gas is priced in 10^-18 dollars, and tokens have 6 decimals.
ATTO_PER_UNIT = 10**12
CALL_GAS = 21_000
FEE_MANAGER = bytes.fromhex("feec000000000000000000000000000000000000")
NONCES = bytes.fromhex("4e4f4e4345000000000000000000000000000000")
RESERVE = bytes.fromhex("4d50500000000000000000000000000000000000")


def genesis():
    """What has a place in the state without a contract's source: nothing can be called there."""
    return {address: {"code": b"\xfe"} for address in (FEE_MANAGER, NONCES)}


class Refused(Exception):
    """Why a transaction is not taken."""


def integer(octets):
    return int.from_bytes(octets, "big")


def recover(digest, signature):
    if len(signature) != 65:
        raise Refused("signature type is not supported")
    found = Signature.from_bytes(bytes(signature))
    v = found.v - 27 if found.v >= 27 else found.v
    return KeySignature(vrs=(v, found.r, found.s)).recover_public_key_from_msg_hash(digest).to_canonical_address()


def message(state, sender, to, data, gas):
    return Message(gas=gas, to=to, sender=sender, value=0, data=data, code=state.get_code(to))


def execute(state, sender, calls, gas, context):
    """Runs the calls until one fails. Gives the computations."""
    done = []
    for to, data in calls:
        computation = state.computation_class.apply_message(state, message(state, sender, to, data, gas), context)
        gas = computation.get_gas_remaining()
        done.append(computation)
        if computation.is_error:
            break
    return done


class Transaction:
    """A decoded transaction, with the members that the chain asks of those of Ethereum."""

    type_id = TYPE
    to = value = data = None

    def __init__(self, raw):
        if raw[:1] != bytes([TYPE]):
            raise Refused("not a transaction of type 0x76")
        fields = rlp.decode(raw[1:])
        if len(fields) != 14:
            raise Refused("key authorizations are not supported")
        self.raw, self.hash = raw, keccak(raw)
        self.chain_id, self.max_priority_fee_per_gas, self.max_fee_per_gas, self.gas = (integer(field) for field in fields[:4])
        self.calls = [(bytes(to), integer(value), bytes(data)) for to, value, data in fields[4]]
        self.nonce_key, self.nonce = integer(fields[6]), integer(fields[7])
        self.valid_before, self.valid_after = (integer(field) if field else None for field in fields[8:10])
        self.fee_token = bytes(fields[10])
        sponsor = fields[11]
        body = TempoTransaction(
            chain_id=self.chain_id,
            max_priority_fee_per_gas=self.max_priority_fee_per_gas,
            max_fee_per_gas=self.max_fee_per_gas,
            gas_limit=self.gas,
            calls=tuple(Call.create(to=to, value=value, data=data) for to, value, data in self.calls),
            access_list=(),
            nonce_key=self.nonce_key,
            nonce=self.nonce,
            valid_before=self.valid_before,
            valid_after=self.valid_after,
            fee_token=self.fee_token or None,
            awaiting_fee_payer=bool(sponsor),
        )
        if fields[5] or fields[12]:
            raise Refused("access and authorization lists are not supported")
        preimage = body.encode_for_signing()
        self.sender = self.fee_payer = recover(keccak(preimage), fields[13])
        # What names this opening of a channel of version 2, and no other.
        self.expiring_nonce_hash = keccak(preimage + self.sender)
        if sponsor:
            if not isinstance(sponsor, list):
                raise Refused("the fee payer has not signed")
            body = attrs.evolve(body, sender_address=self.sender)
            v, r, s = (integer(part) for part in sponsor)
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])
            self.fee_payer = recover(keccak(body.encode_for_signing(for_fee_payer=True)), signature)

    def price(self, base_fee):
        return min(self.max_fee_per_gas, base_fee + self.max_priority_fee_per_gas)

    def fee(self, gas, base_fee):
        """What so much gas costs, in the token's base units."""
        return -(-gas * self.price(base_fee) // ATTO_PER_UNIT)

    def slot(self):
        """Where the next nonce of the sender's lane stands, or whether this was seen."""
        seed = self.hash if self.nonce_key == EXPIRING else self.sender + self.nonce_key.to_bytes(32, "big")
        return integer(keccak(seed))

    def check(self, chain, state, now):
        """Refuses what a node would not take into its pool."""
        if self.chain_id != chain.id:
            raise Refused(f"invalid chain id for signer: have {self.chain_id} want {chain.id}")
        if not self.calls:
            raise Refused("no calls")
        if any(value for _, value, _ in self.calls):
            raise Refused("calls carry no value on Tempo")
        if self.valid_before is not None and self.valid_before <= now:
            raise Refused("transaction expired")
        if self.valid_after is not None and self.valid_after > now:
            raise Refused("transaction not yet valid")
        if self.nonce_key == EXPIRING:
            if self.nonce or self.valid_before is None or self.valid_before > now + LONGEST:
                raise Refused("an expiring nonce wants nonce 0 and an end within 300 seconds")
            if state.get_storage(NONCES, self.slot()):
                raise Refused("already known")
        elif self.nonce < self.next_nonce(state):
            raise Refused(f"nonce too low: next nonce {self.next_nonce(state)}, tx nonce {self.nonce}")
        if not self.fee_token:
            raise Refused("no fee token")
        if self.gas < self.intrinsic_gas():
            raise Refused(f"intrinsic gas too low: gas {self.gas}, minimum needed {self.intrinsic_gas()}")
        if self.balance(chain, state) < self.fee(self.gas, chain.base_fee):
            raise Refused("insufficient funds for gas in the fee token")

    def next_nonce(self, state):
        return state.get_nonce(self.sender) if self.nonce_key == 0 else state.get_storage(NONCES, self.slot())

    def is_ready(self, chain, state, now):
        """Whether a block may hold it now."""
        if self.max_fee_per_gas < chain.base_fee or self.valid_after is not None and self.valid_after > now:
            return False
        return self.nonce_key == EXPIRING or self.nonce == self.next_nonce(state)

    def intrinsic_gas(self):
        data = b"".join(data for _, _, data in self.calls)
        return CALL_GAS * len(self.calls) + 4 * data.count(0) + 16 * (len(data) - data.count(0))

    def balance(self, chain, state):
        data = keccak(text="balanceOf(address)")[:4] + self.fee_payer.rjust(32, b"\0")
        context = BaseTransactionContext(gas_price=0, origin=self.sender)
        snapshot = state.snapshot()
        computation = state.computation_class.apply_message(state, message(state, self.sender, self.fee_token, data, 200_000), context)
        state.revert(snapshot)
        return 0 if computation.is_error else integer(computation.output)

    def run(self, chain, machine, header):
        """Executes the calls, all or none, and takes the fee. Gives the receipt. Raises `Refused` if the block cannot hold it."""
        state = machine.state
        self.check(chain, state, header.timestamp)
        state.lock_changes()
        if self.nonce_key == 0:
            state.increment_nonce(self.sender)
        else:
            state.set_storage(NONCES, self.slot(), 1 if self.nonce_key == EXPIRING else self.nonce + 1)
        state.set_storage(RESERVE, 0, integer(self.expiring_nonce_hash))
        context = BaseTransactionContext(gas_price=self.price(chain.base_fee), origin=self.sender)
        snapshot, calls = state.snapshot(), [(to, data) for to, _, data in self.calls]
        done = execute(state, self.sender, calls, self.gas - self.intrinsic_gas(), context)
        gas, failed = self.gas - done[-1].get_gas_remaining(), done[-1].is_error
        entries = [] if failed else [entry for computation in done for entry in computation.get_log_entries()]
        if failed:
            state.revert(snapshot)
        data = keccak(text="transfer(address,uint256)")[:4] + FEE_MANAGER.rjust(32, b"\0") + self.fee(gas, chain.base_fee).to_bytes(32, "big")
        paid = state.computation_class.apply_message(state, message(state, self.fee_payer, self.fee_token, data, 500_000), context)
        if paid.is_error:
            # The calls spent what the fee was to be paid with: a node charges first, and so they fail.
            state.revert(snapshot)
            entries, failed = [], True
            paid = state.computation_class.apply_message(state, message(state, self.fee_payer, self.fee_token, data, 500_000), context)
        entries += paid.get_log_entries()
        state.clear_transient_storage()
        logs = [Log(address, topics, data) for address, topics, data in entries]
        return Receipt(b"" if failed else b"\x01", header.gas_used + gas, logs)
