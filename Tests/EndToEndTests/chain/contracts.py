"""The contracts of the tests: compiled once from their Vyper sources, placed in a chain's genesis at their canonical addresses, and called."""

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path

import vyper
from eth_abi import decode, encode
from eth_utils import keccak, to_checksum_address

SOURCES = Path(__file__).parent / "contracts"


def address(text):
    return bytes.fromhex(text.removeprefix("0x"))


# Where each contract stands: those that others deployed, where they deployed them.
ADDRESSES = {
    name: address(text)
    for name, text in {
        "usdc": "036CbD53842c5426634e7929541eC2318f3dCF7e",
        "usd-coin": "833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "path-usd": "20c0000000000000000000000000000000000000",
        "token-overloads": "000000000000000000000000000000000000fa01",
        "permit2": "000000000022D473030F116dDEE9F6B43aC78BA3",
        "permit2-overloads": "000000000000000000000000000000000000fa02",
        "exact-proxy": "402085c248EeA27D92E8b30b2C58ed07f9E20001",
        "upto-proxy": "4020A4f3b7b90ccA423B9fabCc0CE57C6C240002",
        "batch-settlement": "4020074e9dF2ce1deE5A9C1b5c3f541D02a10003",
        "authorization-collector": "4020806089470a89826cB9fB1f4059150b550004",
        "permit2-collector": "4020425FAf3B746C082C2f942b4E5159887B0005",
        "multicall3": "cA11bde05977b3631167028862bE2a173976CA11",
        "evm-channels": "00000000000000000000000000000000000fa4b0",
        "tempo-channels": "33b901018174DDabE4841042ab76ba85D4e24f25",
        "tempo-reserve": "4d50500000000000000000000000000000000000",
    }.items()
}

# The tokens: USDC as on Base Sepolia and as on Base, and pathUSD as on Tempo. (name, symbol, version, decimals)
TOKENS = {
    "usdc": ("USDC", "USDC", "2", 6),
    "usd-coin": ("USD Coin", "USDC", "2", 6),
    "path-usd": ("pathUSD", "pathUSD", "1", 6),
}

# What stands in the genesis besides the tokens: the contract by its place.
PLACES = {
    "token-overloads": "TokenOverloads",
    "permit2": "Permit2",
    "permit2-overloads": "Permit2Overloads",
    "exact-proxy": "X402ExactProxy",
    "upto-proxy": "X402UptoProxy",
    "batch-settlement": "BatchSettlement",
    "authorization-collector": "AuthorizationCollector",
    "permit2-collector": "Permit2Collector",
    "multicall3": "Multicall3",
    "evm-channels": "EvmChannels",
    "tempo-channels": "TempoChannels",
    "tempo-reserve": "TempoReserve",
}


@cache
def compiled():
    """Every contract's `abi`, `code` (as it stands on the chain), `creation` and storage `layout`, from a cache in the temporary folder."""
    paths = sorted(SOURCES.glob("*.vy"))
    key = hashlib.sha256(vyper.__version__.encode() + b"".join(path.name.encode() + path.read_bytes() for path in paths)).hexdigest()[:24]
    cached = Path(tempfile.gettempdir()) / f"farebox-contracts-{os.getuid()}" / f"{key}.json"
    if cached.exists():
        return json.loads(cached.read_text())
    from vyper.cli.vyper_compile import compile_files

    contracts = [str(path) for path in paths if path.stem[0].isupper()]
    outputs = compile_files(contracts, ["abi", "bytecode", "bytecode_runtime", "layout"], paths=[str(SOURCES)])
    result = {
        Path(path).stem: {
            "abi": output["abi"],
            "code": output["bytecode_runtime"],
            "creation": output["bytecode"],
            "layout": output["layout"].get("storage_layout", {}),
        }
        for path, output in outputs.items()
    }
    cached.parent.mkdir(mode=0o700, exist_ok=True)
    draft = cached.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(result))
    draft.replace(cached)
    return result


def code_of(name):
    return bytes.fromhex(compiled()[name]["code"][2:])


def stored(layout, **values):
    """The slots that hold these values, of the types that Vyper keeps in this layout."""
    slots = {}
    for name, value in values.items():
        slot = layout[name]["slot"]
        if isinstance(value, str):
            data = value.encode()
            slots[slot] = len(data)
            for index in range(0, len(data), 32):
                slots[slot + 1 + index // 32] = int.from_bytes(data[index : index + 32].ljust(32, b"\0"), "big")
        else:
            slots[slot] = int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)
    return slots


def token_account(name, symbol, version, decimals):
    """A token as it stands in a genesis."""
    layout = compiled()["Token"]["layout"]["token_state"]
    storage = stored(layout, overloads=ADDRESSES["token-overloads"], name=name, symbol=symbol, version=version, decimals=decimals)
    return {"code": code_of("Token"), "storage": storage}


def genesis():
    accounts = {ADDRESSES[place]: token_account(*token) for place, token in TOKENS.items()}
    return accounts | {ADDRESSES[place]: {"code": code_of(name)} for place, name in PLACES.items()}


class Reverted(Exception):
    """A transaction that was mined and failed. `receipt` says where."""

    def __init__(self, receipt):
        super().__init__(f"transaction {receipt['transactionHash']} reverted")
        self.receipt = receipt


def canonical(item):
    kind = item["type"]
    if kind.startswith("tuple"):
        return "(" + ",".join(canonical(component) for component in item["components"]) + ")" + kind[5:]
    return kind


class Contract:
    """A contract at an address. `rpc(method, *parameters)` asks a node, in this process (`Node.rpc`) or over HTTP (`wallet.Client.rpc`)."""

    def __init__(self, rpc, name, place):
        self.rpc = rpc
        self.address = to_checksum_address(ADDRESSES[place] if place in ADDRESSES else place)
        self.name = name
        self.functions, self.events = {}, {}
        for item in compiled()[name]["abi"]:
            if item["type"] == "function":
                self.functions.setdefault(item["name"], []).append(item)
            elif item["type"] == "event":
                self.events[keccak(text=f"{item['name']}({','.join(canonical(i) for i in item['inputs'])})")] = item

    def function(self, name, arguments):
        """The function of this name with so many arguments, or of this whole signature."""
        bare = name.split("(")[0]
        for item in self.functions[bare]:
            signature = f"{bare}({','.join(canonical(i) for i in item['inputs'])})"
            if signature == name or bare == name and len(item["inputs"]) == len(arguments):
                return signature, item
        raise KeyError(name)

    def data(self, name, *arguments):
        signature, item = self.function(name, arguments)
        return "0x" + (keccak(text=signature)[:4] + encode([canonical(i) for i in item["inputs"]], arguments)).hex()

    def call(self, name, *arguments, sender=None, tag="latest"):
        _, item = self.function(name, arguments)
        call = {"to": self.address, "data": self.data(name, *arguments)}
        if sender is not None:
            call["from"] = sender
        output = bytes.fromhex(self.rpc("eth_call", call, tag)[2:])
        values = decode([canonical(i) for i in item["outputs"]], output)
        return values[0] if len(values) == 1 else values or None

    def transact(self, account, name, *arguments, **fields):
        """Sends the call from `account` (eth-account's) and gives its hash, mined or not."""
        return send(self.rpc, account, self.address, self.data(name, *arguments), **fields)

    def run(self, account, name, *arguments, **fields):
        """Sends the call and gives its receipt. Raises `Reverted` if it failed."""
        receipt = self.rpc("eth_getTransactionReceipt", self.transact(account, name, *arguments, **fields))
        if receipt["status"] != "0x1":
            raise Reverted(receipt)
        return receipt

    def logs(self, receipt):
        """The events that this contract emitted in a receipt's transaction: pairs of a name and a dictionary."""
        found = []
        for log in receipt["logs"]:
            item = self.events.get(bytes.fromhex(log["topics"][0][2:])) if log["topics"] else None
            if item is None or log["address"].lower() != self.address.lower():
                continue
            indexed = [i for i in item["inputs"] if i["indexed"]]
            plain = [i for i in item["inputs"] if not i["indexed"]]
            values = {i["name"]: decode([canonical(i)], bytes.fromhex(topic[2:]))[0] for i, topic in zip(indexed, log["topics"][1:])}
            values |= dict(zip([i["name"] for i in plain], decode([canonical(i) for i in plain], bytes.fromhex(log["data"][2:]))))
            found.append((item["name"], values))
        return found


def send(rpc, account, to, data="0x", value=0, nonce=None, gas=None, max_fee=None, tip=None):
    """Signs a transaction of type 2 with `account` and sends it. Gives its hash."""
    return rpc("eth_sendRawTransaction", signed(rpc, account, to, data, value, nonce, gas, max_fee, tip))


def signed(rpc, account, to, data="0x", value=0, nonce=None, gas=None, max_fee=None, tip=None):
    """The octets of a signed transaction of type 2, in hexadecimal."""
    transaction = {
        "chainId": int(rpc("eth_chainId"), 16),
        "nonce": int(rpc("eth_getTransactionCount", account.address, "pending"), 16) if nonce is None else nonce,
        "gas": gas or 1_500_000,
        "maxFeePerGas": max_fee or 2 * int(rpc("eth_gasPrice"), 16),
        "maxPriorityFeePerGas": tip if tip is not None else int(rpc("eth_maxPriorityFeePerGas"), 16),
        "value": value,
        "data": data,
    }
    if to is not None:
        transaction["to"] = to_checksum_address(to)
    return "0x" + account.sign_transaction(transaction).raw_transaction.hex()


def deploy(rpc, account, name, *arguments):
    """Creates a contract of this name, and gives it."""
    constructor = next((item for item in compiled()[name]["abi"] if item["type"] == "constructor"), {"inputs": []})
    data = compiled()[name]["creation"] + encode([canonical(i) for i in constructor["inputs"]], arguments).hex()
    receipt = rpc("eth_getTransactionReceipt", send(rpc, account, None, data, gas=8_000_000))
    if receipt["status"] != "0x1":
        raise Reverted(receipt)
    return Contract(rpc, name, receipt["contractAddress"])
