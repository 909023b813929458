"""The methods of a node that every Ethereum client knows, over a chain of the tests."""

from eth.vm.transaction_context import BaseTransactionContext

from chain import tempo
from chain.evm import CALL_GAS, GAS_LIMIT, TIP, Refusal


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

    def eth_sendRawTransactionSync(self, raw, milliseconds=None):
        """Sends and gives the receipt (EIP-7966), which a held chain does not have, however long one waits."""
        found = self.eth_sendRawTransaction(raw)
        receipt = self.eth_getTransactionReceipt(found)
        if receipt is None:
            raise Refusal(4, "the transaction was added to the mempool but wasn't processed in time", found)
        return receipt

    def tempo_simulateV1(self, payload, tag="latest"):
        """Whether the calls of a transaction of Tempo would succeed: those in `calls`, and the one that the transaction itself is, last."""
        blocks = []
        for block in payload["blockStateCalls"]:
            results = []
            for simulated in block["calls"]:
                calls = [*simulated.get("calls", []), simulated]
                sender = octets_of(simulated["from"], 20)
                context = BaseTransactionContext(gas_price=0, origin=sender)
                pairs = [(octets_of(call["to"], 20), octets_of(call.get("data") or call.get("input") or "0x")) for call in calls]
                last = tempo.execute(self.chain.state(self.number(tag)), sender, pairs, CALL_GAS, context)[-1]
                result = {"status": "0x0" if last.is_error else "0x1", "returnData": octets(last.output), "logs": []}
                result["gasUsed"] = quantity(CALL_GAS - last.get_gas_remaining())
                if last.is_error:
                    result["error"] = {"code": 3, "message": "execution reverted", "data": octets(last.output)}
                results.append(result)
            blocks.append({"calls": results})
        return {"blocks": blocks}

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
        answer = {
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
            "type": quantity(getattr(transaction, "type_id", None) or 0),
            "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
            "logsBloom": octets(receipt.bloom.to_bytes(256, "big")),
            "logs": list(self.logs(number, index)),
        }
        if isinstance(transaction, tempo.Transaction):
            answer |= {"feePayer": octets(transaction.fee_payer), "feeToken": octets(transaction.fee_token)}
        return answer

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
        if isinstance(transaction, tempo.Transaction):
            answer = self.of_tempo(transaction)
        else:
            answer = self.of_ethereum(transaction)
        answer |= {"blockHash": None, "blockNumber": None, "transactionIndex": None, "gasPrice": quantity(transaction.max_fee_per_gas)}
        if place is not None:
            number, index = place
            block = self.chain.blocks[number]
            answer |= {"blockHash": octets(block.header.hash), "blockNumber": quantity(number), "transactionIndex": quantity(index)}
            answer["gasPrice"] = quantity(self.price(transaction, block))
        return answer

    @staticmethod
    def of_tempo(transaction):
        return {
            "hash": octets(transaction.hash),
            "type": quantity(tempo.TYPE),
            "from": octets(transaction.sender),
            "chainId": quantity(transaction.chain_id),
            "nonceKey": quantity(transaction.nonce_key),
            "nonce": quantity(transaction.nonce),
            "gas": quantity(transaction.gas),
            "maxFeePerGas": quantity(transaction.max_fee_per_gas),
            "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
            "feeToken": octets(transaction.fee_token),
            "feePayer": octets(transaction.fee_payer),
            "validBefore": None if transaction.valid_before is None else quantity(transaction.valid_before),
            "validAfter": None if transaction.valid_after is None else quantity(transaction.valid_after),
            "calls": [{"to": octets(to), "value": quantity(value), "input": octets(data)} for to, value, data in transaction.calls],
        }

    def of_ethereum(self, transaction):
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
        }
        if not legacy:
            answer |= {
                "maxFeePerGas": quantity(transaction.max_fee_per_gas),
                "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
                "accessList": [],
                "yParity": quantity(y_parity),
            }
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
