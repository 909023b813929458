"""Writes Vectors.swift and ../CryptoTests/KeccakVectors.swift: what other implementations say.

python -m venv v; v/bin/pip install eth-account==0.13.7 eth-abi==6.0.0 rlp==5.0.0 pycryptodome==3.24.1 pytempo==0.6.2 pympp==0.16.0
v/bin/python Tests/EthereumTests/vectors.py
"""
import hashlib
import pathlib
from Crypto.Hash import keccak as pycryptodome
from eth_abi import encode
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_utils import keccak, to_checksum_address

here = pathlib.Path(__file__).parent
lines = []


def digest(octets):
    return pycryptodome.new(digest_bits=256, data=octets).digest()


def drawn(name, count=32):
    """The same octets in every run."""
    return b"".join(hashlib.sha256(f"{name}/{i}".encode()).digest() for i in range(count // 32 + 1))[:count]


def table(name, type_, rows):
    lines.append(f"let {name}: [{type_}] = [")
    lines.extend(f"  {row}," for row in rows)
    lines.append("]\n")


def text(octets):
    return '"0x' + bytes(octets).hex() + '"'


# Keccak-256 of the octets 0, 1, 2, … (each modulo 251) of every count up to 300: the first eight octets of the digest.
prefixes = [digest(bytes(i % 251 for i in range(n)))[:8].hex() for n in range(301)]
rows = "\\\n".join("".join(prefixes[i:i + 7]) for i in range(0, 301, 7))
(here / "../CryptoTests/KeccakVectors.swift").write_text(f'''// Written by Tests/EthereumTests/vectors.py with pycryptodome 3.24.1.

/// For every count from 0 to 300 of the octets 0, 1, 2, … (modulo 251): the first eight octets of Keccak-256.
let keccakPrefixes = """
{rows}
"""
''')

# Signatures: secret, digest, r‖s‖v, address.
rows = []
for i in range(12):
    account = Account.from_key(drawn(f"key {i}"))
    hash_ = drawn(f"digest {i}")
    signed = account.unsafe_sign_hash(hash_)
    rows.append(f"({text(drawn(f'key {i}'))}, {text(hash_)}, {text(signed.signature)}, {to_checksum_address(account.address)!r})".replace("'", '"'))
table("signatureVectors", "(secret: String, digest: String, signature: String, address: String)", rows)

# Typed data.
key = Account.from_key(drawn("typed data"))


def typed(name, domain, types, primary, message):
    full = {"types": types, "primaryType": primary, "domain": domain, "message": message}
    signable = encode_typed_data(full_message=full)
    signed = key.sign_typed_data(full_message=full)
    rows.append(f'("{name}", {text(signable.header)}, {text(signable.body)}, {text(signed.message_hash)}, {text(signed.signature)})')


def domain_type(domain):
    order = [("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address"), ("salt", "bytes32")]
    return [{"name": n, "type": t} for n, t in order if n in domain]


def fields(*pairs):
    return [{"name": n, "type": t} for t, n in pairs]


rows = []
mail = {"name": "Ether Mail", "version": "1", "chainId": 1, "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"}
person = fields(("string", "name"), ("address", "wallet"))
typed("mail", mail, {"EIP712Domain": domain_type(mail), "Person": person,
      "Mail": fields(("Person", "from"), ("Person", "to"), ("string", "contents"))}, "Mail",
      {"from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
       "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"}, "contents": "Hello, Bob!"})
usdc = {"name": "USD Coin", "version": "2", "chainId": 8453, "verifyingContract": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}
authorization = {"from": key.address, "to": "0x00000000000000000000000000000000000000aa", "value": 1000000,
                 "validAfter": 0, "validBefore": 1800000000, "nonce": drawn("nonce")}
members = fields(("address", "from"), ("address", "to"), ("uint256", "value"), ("uint256", "validAfter"),
                 ("uint256", "validBefore"), ("bytes32", "nonce"))
for name in ("TransferWithAuthorization", "ReceiveWithAuthorization"):
    typed(name, usdc, {"EIP712Domain": domain_type(usdc), name: members}, name, authorization)
permit2 = {"name": "Permit2", "chainId": 8453, "verifyingContract": "0x000000000022D473030F116dDEE9F6B43aC78BA3"}
permitted = fields(("address", "token"), ("uint256", "amount"))
permit = {"permitted": {"token": usdc["verifyingContract"], "amount": 2**200 + 5},
          "spender": "0x402085c248EeA27D92E8b30b2C58ed07f9E20001", "nonce": 2**255 + 7, "deadline": 1800000000}
for name, witness_type, witness in (
    ("exact", fields(("address", "to"), ("uint256", "validAfter")), {"to": "0x" + "aa" * 20, "validAfter": 17}),
    ("upto", fields(("address", "to"), ("address", "facilitator"), ("uint256", "validAfter")),
     {"to": "0x" + "aa" * 20, "facilitator": "0x" + "bb" * 20, "validAfter": 17})):
    typed(name, permit2, {"EIP712Domain": domain_type(permit2), "TokenPermissions": permitted, "Witness": witness_type,
          "PermitWitnessTransferFrom": fields(("TokenPermissions", "permitted"), ("address", "spender"), ("uint256", "nonce"),
                                              ("uint256", "deadline"), ("Witness", "witness"))},
          "PermitWitnessTransferFrom", permit | {"witness": witness})
channel = {"name": "EVM Payment Channel", "version": "1", "chainId": 196, "verifyingContract": "0x" + "1234567890" * 4}
typed("voucher", channel, {"EIP712Domain": domain_type(channel), "Voucher": fields(("bytes32", "channelId"), ("uint128", "cumulativeAmount"))},
      "Voucher", {"channelId": drawn("channel"), "cumulativeAmount": 250000})
salted = {"name": "salted", "salt": drawn("salt")}
typed("arrays", salted, {"EIP712Domain": domain_type(salted), "Person": person,
      "Group": fields(("Person[]", "members"), ("string[]", "names"), ("uint256[]", "numbers"), ("bytes", "blob"), ("bool", "open"))},
      "Group", {"members": [{"name": "Cow", "wallet": "0x" + "11" * 20}, {"name": "Bob", "wallet": "0x" + "22" * 20}],
                "names": ["a", "bc"], "numbers": [1, 2**255], "blob": drawn("blob", 70), "open": True})
proof = {"name": "MPP", "version": "1", "chainId": 4217}
typed("proof", proof, {"EIP712Domain": domain_type(proof), "Proof": fields(("string", "challengeId"))}, "Proof",
      {"challengeId": "kM9xPqWvT2nJrHsY4aDfEb"})
table("typedDataVectors", "(name: String, separator: String, structHash: String, digest: String, signature: String)", rows)
personal = key.sign_message(encode_defunct(text="Günther pays 5 €"))
lines.append(f"let typedDataSigner = \"{key.address}\"")
lines.append(f"let personalMessageDigest = {text(personal.message_hash)}\n")

# ABI: types, encoding.
rows = []


def abi(name, types, values):
    rows.append(f'("{name}", {text(encode(types, values))})')


a, b = to_checksum_address("0x" + "aa" * 20), to_checksum_address("0x" + "bb" * 20)
abi("static", ["uint256", "address", "bool", "bytes32", "uint8"], [2**256 - 1, a, True, drawn("word"), 27])
abi("dynamic", ["bytes", "string", "uint256"], [drawn("bytes", 33), "grüße", 5])
abi("empty", ["bytes", "string", "uint256[]"], [b"", "", []])
abi("arrays", ["uint256[]", "(address,uint256)[]"], [[1, 2, 3], [(a, 1), (b, 2)]])
abi("nested", ["((address,uint256)[],uint256,uint256)", "(address,bytes)[]", "string"],
    [([(a, 1), (b, 2)], 3, 4), [(a, b"x"), (b, drawn("bytes", 64))], "end"])
abi("static tuple", ["((address,uint256),uint256,uint256)", "bytes"], [((a, 1), 2, 3), b"sig"])
table("abiVectors", "(name: String, encoding: String)", rows)

# Calls: what contracts are sent, by their signatures as their sources have them.
rows = []


def call(name, signature, *values):
    types = signature[signature.index("("):]
    rows.append(f'("{name}", {text(keccak(text=signature)[:4] + encode(split(types[1:-1]), values))})')


def split(types):
    """The members of a tuple's type."""
    parts, depth, last = [], 0, 0
    for i, c in enumerate(types + ","):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(types[last:i])
            last = i + 1
    return parts


word, salt, sig = drawn("word"), drawn("salt"), drawn("signature", 65)
single = (((a, 7), 8, 9), (b, 10))
call("transferFrom", "transferFrom(address,address,uint256)", a, b, 5)
call("permit", "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", a, b, 5, 6, 28, drawn("r"), drawn("s"))
call("isValidSignature", "isValidSignature(bytes32,bytes)", word, sig)
call("transferWithAuthorization", "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)", a, b, 5, 6, 7, word, sig)
call("permit2", "permitWitnessTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes32,string,bytes)",
     *single, b, word, "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)", sig)
call("permit2 batch", "permitWitnessTransferFrom(((address,uint256)[],uint256,uint256),(address,uint256)[],address,bytes32,string,bytes)",
     ([(a, 7), (b, 8)], 9, 10), [(b, 11), (a, 12)], b, word, "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)", sig)
call("nonceBitmap", "nonceBitmap(address,uint256)", a, (2**255 + 7) >> 8)
call("exact settle", "settle(((address,uint256),uint256,uint256),address,(address,uint256),bytes)", single[0], a, (b, 17), sig)
call("upto settle", "settle(((address,uint256),uint256,uint256),uint256,address,(address,address,uint256),bytes)", single[0], 6, a, (b, a, 17), sig)
call("exact settleWithPermit", "settleWithPermit((uint256,uint256,bytes32,bytes32,uint8),((address,uint256),uint256,uint256),address,(address,uint256),bytes)",
     (7, 18, drawn("r"), drawn("s"), 28), single[0], a, (b, 17), sig)
call("open", "open(address,address,uint128,bytes32,address)", a, b, 5, salt, a)
call("openWithAuthorization", "openWithAuthorization(address,address,uint128,bytes32,address,address,uint256,uint256,bytes32,bytes)", a, b, 5, salt, a, b, 6, 7, word, sig)
call("openWithPermit2", "openWithPermit2(address,address,uint128,bytes32,address,address,uint256,uint256,bytes)", a, b, 5, salt, a, b, 6, 7, sig)
call("settle", "settle(bytes32,uint128,bytes)", word, 5, sig)
call("topUp", "topUp(bytes32,uint128)", word, 5)
call("topUpWithAuthorization", "topUpWithAuthorization(bytes32,uint128,address,bytes32,uint256,uint256,bytes32,bytes)", word, 5, b, salt, 6, 7, word, sig)
call("topUpWithPermit2", "topUpWithPermit2(bytes32,uint128,address,uint256,uint256,bytes)", word, 5, b, 6, 7, sig)
call("close", "close(bytes32,uint128,bytes)", word, 5, b"")
call("requestClose", "requestClose(bytes32)", word)
call("withdraw", "withdraw(bytes32)", word)
descriptor = (a, b, a, b, salt, a, word)
call("reserve settle", "settle((address,address,address,address,bytes32,address,bytes32),uint96,bytes)", descriptor, 5, sig)
call("reserve close", "close((address,address,address,address,bytes32,address,bytes32),uint96,uint96,bytes)", descriptor, 5, 4, sig)
config = (a, b, a, b, a, 900, salt)
config_type = "(address,address,address,address,address,uint40,bytes32)"
call("batch deposit", f"deposit({config_type},uint128,address,bytes)", config, 5, b, sig)
call("batch claim", f"claimWithSignature((({config_type},uint128),bytes,uint128)[],bytes)", [((config, 5), sig, 4), ((config, 6), b"", 5)], sig)
call("batch refund", f"refundWithSignature({config_type},uint128,uint256,bytes)", config, 5, 6, sig)
table("callVectors", "(name: String, data: String)", rows)
lines.append(f"let channelIDVector = {text(keccak(encode(['address', 'address', 'address', 'bytes32', 'address', 'address', 'uint256'], [a, b, a, salt, b, a, 196])))}")
lines.append(f"let reserveIDVector = {text(keccak(encode(['address', 'address', 'address', 'address', 'bytes32', 'address', 'bytes32', 'address', 'uint256'], [*descriptor, b, 4217])))}")
batch = {"name": "x402 Batch Settlement", "version": "1", "chainId": 8453, "verifyingContract": "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"}
names = ("payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token", "withdrawDelay", "salt")
members = fields(*zip(config_type[1:-1].split(","), names))
rows = []
typed("config", batch, {"EIP712Domain": domain_type(batch), "ChannelConfig": members}, "ChannelConfig", dict(zip(names, config)))
entry = fields(("bytes32", "channelId"), ("uint128", "maxClaimableAmount"), ("uint128", "totalClaimed"))
channel_id = keccak(b"\x19\x01" + (s := encode_typed_data(full_message={"types": {"EIP712Domain": domain_type(batch), "ChannelConfig": members}, "primaryType": "ChannelConfig", "domain": batch, "message": dict(zip(names, config))})).header + s.body)
typed("claims", batch, {"EIP712Domain": domain_type(batch), "ClaimEntry": entry, "ClaimBatch": fields(("ClaimEntry[]", "claims"))}, "ClaimBatch",
      {"claims": [{"channelId": channel_id, "maxClaimableAmount": 5, "totalClaimed": 4}, {"channelId": channel_id, "maxClaimableAmount": 6, "totalClaimed": 5}]})
typed("batch voucher", batch, {"EIP712Domain": domain_type(batch), "Voucher": fields(("bytes32", "channelId"), ("uint128", "maxClaimableAmount"))}, "Voucher",
      {"channelId": word, "maxClaimableAmount": 5})
typed("permit2 batch", permit2, {"EIP712Domain": domain_type(permit2), "TokenPermissions": permitted, "Witness": fields(("address", "to"), ("uint256", "validAfter")),
      "PermitBatchWitnessTransferFrom": fields(("TokenPermissions[]", "permitted"), ("address", "spender"), ("uint256", "nonce"), ("uint256", "deadline"), ("Witness", "witness"))},
      "PermitBatchWitnessTransferFrom", {"permitted": [{"token": a, "amount": 7}, {"token": b, "amount": 8}], "spender": a, "nonce": 9, "deadline": 10,
                                         "witness": {"to": b, "validAfter": 17}})
typed("channel open", permit2, {"EIP712Domain": domain_type(permit2), "TokenPermissions": permitted,
      "ChannelOpenWitness": fields(("address", "payee"), ("bytes32", "salt"), ("address", "authorizedSigner")),
      "PermitWitnessTransferFrom": fields(("TokenPermissions", "permitted"), ("address", "spender"), ("uint256", "nonce"), ("uint256", "deadline"), ("ChannelOpenWitness", "witness"))},
      "PermitWitnessTransferFrom", {"permitted": {"token": a, "amount": 7}, "spender": b, "nonce": 9, "deadline": 10,
                                    "witness": {"payee": b, "salt": salt, "authorizedSigner": a}})
table("contractHashVectors", "(name: String, separator: String, structHash: String, digest: String, signature: String)", rows)

# Transactions signed by eth-account.
rows = []
access = [{"address": a, "storageKeys": ["0x" + drawn("key").hex()]}, {"address": b, "storageKeys": []}]
for name, members in (
    ("dynamic fee", {"type": 2, "chainId": 8453, "nonce": 7, "maxPriorityFeePerGas": 10**9, "maxFeePerGas": 2 * 10**9, "gas": 90000, "to": a, "value": 0, "data": "0x" + drawn("data", 68).hex()}),
    ("access list", {"type": 2, "chainId": 1, "nonce": 0, "maxPriorityFeePerGas": 0, "maxFeePerGas": 2**90, "gas": 2**40, "to": b, "value": 2**200, "data": "0x", "accessList": access}),
    ("creation", {"type": 2, "chainId": 2**53, "nonce": 128, "maxPriorityFeePerGas": 1, "maxFeePerGas": 255, "gas": 1000000, "value": 1, "data": "0x6000"}),
    ("type 1", {"type": 1, "chainId": 137, "nonce": 1, "gasPrice": 30 * 10**9, "gas": 50000, "to": a, "value": 5, "data": "0x00", "accessList": access}),
    ("legacy", {"chainId": 196, "nonce": 9, "gasPrice": 20 * 10**9, "gas": 21000, "to": "0x" + "35" * 20, "value": 10**18, "data": "0x"})):
    signed = key.sign_transaction(members)
    rows.append(f'("{name}", {text(signed.raw_transaction)}, {text(signed.hash)})')
table("transactionVectors", "(name: String, encoded: String, hash: String)", rows)
lines.append(f"let typedDataKey = {text(drawn('typed data'))}")

# Tempo's transactions by pytempo: the sender's, the envelope for the fee payer, and what he makes of it.
from pytempo import Call, TempoTransaction
payer_key = Account.from_key(drawn("fee payer"))
rows = []
data = keccak(text="transfer(address,uint256)")[:4] + encode(["address", "uint256"], [b, 1000000])
for name, members in (
    ("own fees", dict(fee_token="0x20c0000000000000000000000000000000000000", nonce=3)),
    ("sponsored", dict(awaiting_fee_payer=True, nonce_key=2**256 - 1, valid_before=1800000000)),
    ("window", dict(awaiting_fee_payer=True, nonce=1, nonce_key=5, valid_before=1800000000, valid_after=1700000000))):
    tx = TempoTransaction.create(chain_id=4217, gas_limit=120000, max_fee_per_gas=2 * 10**10, max_priority_fee_per_gas=10**9,
                                 calls=(Call.create(to=a, data=data), Call.create(to=b, value=0, data="0x")), **members).sign("0x" + drawn("typed data").hex())
    digest_ = tx.get_signing_hash()
    final = tx
    if tx.awaiting_fee_payer:
        import attrs
        final = attrs.evolve(tx, fee_token=bytes.fromhex("20c0" + "00" * 18)).sign("0x" + drawn("fee payer").hex(), for_fee_payer=True)
        from mpp.methods.tempo.fee_payer_envelope import encode_fee_payer_envelope
        envelope = text(encode_fee_payer_envelope(tx))
    else:
        envelope = '""'
    rows.append(f'("{name}", {text(digest_)}, {envelope}, {text(final.encode())}, {text(final.hash())})')
table("tempoVectors", "(name: String, signingDigest: String, envelope: String, encoded: String, hash: String)", rows)
lines.append(f'let tempoFeePayer = "{payer_key.address}"')
lines.append(f"let tempoFeePayerKey = {text(drawn('fee payer'))}\n")
(here / "Vectors.swift").write_text("// Written by vectors.py with eth-account 0.13.7, eth-abi 6.0.0, rlp 5.0.0 and pytempo 0.6.2.\n\n" + "\n".join(lines))
