"""Writes SessionVectors.swift: channels, vouchers and deposits as eth-account signs and eth-abi encodes them.

python -m venv v; v/bin/pip install eth-account==0.13.7 eth-abi==6.0.0
v/bin/python Tests/MethodsTests/EVM/Session/session_vectors.py
"""
import hashlib
import pathlib
from eth_abi import encode
from eth_account import Account
from eth_utils import keccak, to_checksum_address

lines = ["// Written by session_vectors.py with eth-account 0.13.7 and eth-abi 6.0.0.\n"]


def drawn(name, count=32):
    """The same octets in every run."""
    return hashlib.sha256(name.encode()).digest()[:count]


def address(name):
    return to_checksum_address(drawn(name, 20))


def text(octets):
    return '"0x' + bytes(octets).hex() + '"'


def table(name, type_, rows):
    lines.append(f"let {name}: [{type_}] = [")
    lines.extend(f"  {row}," for row in rows)
    lines.append("]\n")


def signed(key, domain, types, message):
    result = Account.sign_typed_data(key.key, domain, types, message)
    return bytes(result.message_hash), bytes(result.signature)


CHAIN = 8453
ESCROW, TOKEN, PAYEE = address("escrow"), address("token"), address("payee")
PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
ZERO = "0x" + "00" * 20
payer, signer = Account.from_key(drawn("payer")), Account.from_key(drawn("signer"))

lines.append("let sessionChain: UInt64 = 8453")
for name, value in [("Escrow", ESCROW), ("Token", TOKEN), ("Payee", PAYEE), ("Payer", payer.address), ("Signer", signer.address)]:
    lines.append(f'let session{name} = "{value}"')
lines.append(f"let sessionPayerKey = {text(drawn('payer'))}")
lines.append(f"let sessionSignerKey = {text(drawn('signer'))}\n")

# Channels and vouchers.

RULES = [
    ("evm", "EVM Payment Channel", "uint128"),
    ("tempoV1", "Tempo Stream Channel", "uint128"),
    ("tempoV2", "TIP20 Channel Reserve", "uint96"),
]
rows = []
for rules, name, amount_type in RULES:
    for index, authorized in enumerate([ZERO, signer.address]):
        salt, operator, nonce_hash = drawn(f"salt {index}"), address("operator"), drawn("open")
        if rules == "tempoV2":
            members = [payer.address, PAYEE, operator, TOKEN, salt, authorized, nonce_hash, ESCROW, CHAIN]
            types = ["address"] * 4 + ["bytes32", "address", "bytes32", "address", "uint256"]
        else:
            members = [payer.address, PAYEE, TOKEN, salt, authorized, ESCROW, CHAIN]
            types = ["address"] * 3 + ["bytes32", "address", "address", "uint256"]
        channel = keccak(encode(types, members))
        for amount in [0, 1, 250_000, 2**96 - 1] + ([2**128 - 1] if amount_type == "uint128" else []):
            digest, signature = signed(
                payer if authorized == ZERO else signer,
                {"name": name, "version": "1", "chainId": CHAIN, "verifyingContract": ESCROW},
                {"Voucher": [{"name": "channelId", "type": "bytes32"}, {"name": "cumulativeAmount", "type": amount_type}]},
                {"channelId": channel, "cumulativeAmount": amount})
            rows.append(f'(.{rules}, {text(salt)}, "{authorized}", {text(channel)}, "{amount}", {text(digest)}, {text(signature)})')
lines.append(f'let sessionOperator = "{address("operator")}"')
lines.append(f"let sessionNonceHash = {text(drawn('open'))}\n")
table(
    "voucherVectors",
    "(rules: ChannelProtocol, salt: String, signer: String, channel: String, amount: String, digest: String, signature: String)",
    rows)

# Deposits.
SALT, TOPUP_SALT = drawn("salt 1"), drawn("top-up salt")
CHANNEL = keccak(encode(
    ["address"] * 3 + ["bytes32", "address", "address", "uint256"],
    [payer.address, PAYEE, TOKEN, SALT, signer.address, ESCROW, CHAIN]))
BEFORE, DEPOSIT, MORE = 1_900_000_000, 10_000_000, 5_000_000
USDC = {"name": "USD Coin", "version": "2", "chainId": CHAIN, "verifyingContract": TOKEN}
RECEIVE = {"ReceiveWithAuthorization": [
    {"name": n, "type": t} for n, t in [
        ("from", "address"), ("to", "address"), ("value", "uint256"), ("validAfter", "uint256"), ("validBefore", "uint256"),
        ("nonce", "bytes32")]]}


def authorization(value, nonce):
    return signed(payer, USDC, RECEIVE, {
        "from": payer.address, "to": ESCROW, "value": value, "validAfter": 0, "validBefore": BEFORE, "nonce": nonce})[1]


def permit(value, nonce, type_, members, witness):
    types = {
        "PermitWitnessTransferFrom": [
            {"name": "permitted", "type": "TokenPermissions"}, {"name": "spender", "type": "address"},
            {"name": "nonce", "type": "uint256"}, {"name": "deadline", "type": "uint256"}, {"name": "witness", "type": type_}],
        "TokenPermissions": [{"name": "token", "type": "address"}, {"name": "amount", "type": "uint256"}],
        type_: [{"name": n, "type": t} for n, t in members],
    }
    domain = {"name": "Permit2", "chainId": CHAIN, "verifyingContract": PERMIT2}
    return signed(payer, domain, types, {
        "permitted": {"token": TOKEN, "amount": value}, "spender": ESCROW, "nonce": nonce, "deadline": BEFORE,
        "witness": witness})[1]


def call(signature, values):
    types = signature[signature.index("(") + 1:-1].split(",")
    return keccak(signature.encode())[:4] + encode(types, values)


open_nonce = keccak(encode(["address", "address", "address", "bytes32", "address"], [payer.address, PAYEE, TOKEN, SALT, signer.address]))
topup_nonce = keccak(encode(["bytes32", "uint128", "address", "bytes32"], [CHANNEL, MORE, payer.address, TOPUP_SALT]))
open_signature, topup_signature = authorization(DEPOSIT, open_nonce), authorization(MORE, topup_nonce)
open_permit = permit(
    DEPOSIT, 7, "ChannelOpenWitness", [("payee", "address"), ("salt", "bytes32"), ("authorizedSigner", "address")],
    {"payee": PAYEE, "salt": SALT, "authorizedSigner": signer.address})
topup_permit = permit(MORE, 8, "ChannelTopUpWitness", [("channelId", "bytes32")], {"channelId": CHANNEL})
voucher = signed(
    signer, {"name": "EVM Payment Channel", "version": "1", "chainId": CHAIN, "verifyingContract": ESCROW},
    {"Voucher": [{"name": "channelId", "type": "bytes32"}, {"name": "cumulativeAmount", "type": "uint128"}]},
    {"channelId": CHANNEL, "cumulativeAmount": 250_000})[1]
opening = [PAYEE, TOKEN, DEPOSIT, SALT, signer.address, payer.address]
for name, value in {
    "Channel": CHANNEL, "Salt": SALT, "TopUpSalt": TOPUP_SALT, "OpenNonce": open_nonce, "TopUpNonce": topup_nonce,
    "OpenSignature": open_signature, "TopUpSignature": topup_signature, "OpenPermit": open_permit, "TopUpPermit": topup_permit,
    "Voucher": voucher,
    "OpenByAuthorization": call(
        "openWithAuthorization(address,address,uint128,bytes32,address,address,uint256,uint256,bytes32,bytes)",
        opening + [0, BEFORE, open_nonce, open_signature]),
    "OpenByPermit": call(
        "openWithPermit2(address,address,uint128,bytes32,address,address,uint256,uint256,bytes)",
        opening + [7, BEFORE, open_permit]),
    "TopUpByAuthorization": call(
        "topUpWithAuthorization(bytes32,uint128,address,bytes32,uint256,uint256,bytes32,bytes)",
        [CHANNEL, MORE, payer.address, TOPUP_SALT, 0, BEFORE, topup_nonce, topup_signature]),
    "TopUpByPermit": call(
        "topUpWithPermit2(bytes32,uint128,address,uint256,uint256,bytes)",
        [CHANNEL, MORE, payer.address, 8, BEFORE, topup_permit]),
    "Settle": call("settle(bytes32,uint128,bytes)", [CHANNEL, 250_000, voucher]),
    "Close": call("close(bytes32,uint128,bytes)", [CHANNEL, 250_000, voucher]),
}.items():
    lines.append(f"let session{name} = {text(value)}")

# x402's batch-settlement.
BATCH, COLLECTOR, PERMIT_COLLECTOR = (
    "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003", "0x4020806089470a89826cB9fB1f4059150b550004",
    "0x4020425FAf3B746C082C2f942b4E5159887B0005")
CONFIG = [("payer", "address"), ("payerAuthorizer", "address"), ("receiver", "address"), ("receiverAuthorizer", "address"),
          ("token", "address"), ("withdrawDelay", "uint40"), ("salt", "bytes32")]
DOMAIN = {"name": "x402 Batch Settlement", "version": "1", "chainId": CHAIN, "verifyingContract": to_checksum_address(BATCH)}
config = {"payer": payer.address, "payerAuthorizer": signer.address, "receiver": PAYEE, "receiverAuthorizer": address("authorizer"),
          "token": TOKEN, "withdrawDelay": 900, "salt": SALT}
batch_id = signed(payer, DOMAIN, {"ChannelConfig": [{"name": n, "type": t} for n, t in CONFIG]}, config)[0]
batch_voucher = signed(signer, DOMAIN, {"Voucher": [
    {"name": "channelId", "type": "bytes32"}, {"name": "maxClaimableAmount", "type": "uint128"}]},
    {"channelId": batch_id, "maxClaimableAmount": 1000})[1]
deposit_nonce = keccak(encode(["bytes32", "uint256"], [batch_id, int.from_bytes(TOPUP_SALT, "big")]))
batch_deposit = signed(payer, USDC, RECEIVE, {
    "from": payer.address, "to": to_checksum_address(COLLECTOR), "value": 100_000, "validAfter": 0, "validBefore": BEFORE,
    "nonce": deposit_nonce})[1]
batch_permit = signed(payer, {"name": "Permit2", "chainId": CHAIN, "verifyingContract": PERMIT2}, {
    "PermitWitnessTransferFrom": [
        {"name": "permitted", "type": "TokenPermissions"}, {"name": "spender", "type": "address"},
        {"name": "nonce", "type": "uint256"}, {"name": "deadline", "type": "uint256"}, {"name": "witness", "type": "DepositWitness"}],
    "TokenPermissions": [{"name": "token", "type": "address"}, {"name": "amount", "type": "uint256"}],
    "DepositWitness": [{"name": "channelId", "type": "bytes32"}],
}, {"permitted": {"token": TOKEN, "amount": 100_000}, "spender": to_checksum_address(PERMIT_COLLECTOR), "nonce": 9,
    "deadline": BEFORE, "witness": {"channelId": batch_id}})[1]
tuple_type = "(address,address,address,address,address,uint40,bytes32)"
selector = keccak(f"deposit({tuple_type},uint128,address,bytes)".encode())[:4]


def deposit(collector, data):
    return selector + encode([tuple_type, "uint128", "address", "bytes"], [tuple(config.values()), 100_000, collector, data])


for name, value in {
    "Channel": batch_id, "Voucher": batch_voucher, "Deposit": batch_deposit, "Permit": batch_permit,
    "DepositCall": deposit(COLLECTOR, encode(
        ["uint256", "uint256", "uint256", "bytes"], [0, BEFORE, int.from_bytes(TOPUP_SALT, "big"), batch_deposit])),
    "PermitCall": deposit(PERMIT_COLLECTOR, encode(["uint256", "uint256", "bytes", "bytes"], [9, BEFORE, batch_permit, b""])),
}.items():
    lines.append(f"let batch{name} = {text(value)}")
lines.append(f'let batchAuthorizer = "{address("authorizer")}"')

lines.insert(1, "import Methods\n")
here = pathlib.Path(__file__).parent
(here / "SessionVectors.swift").write_text("\n".join(lines) + "\n")
