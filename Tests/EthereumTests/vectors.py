"""Writes Vectors.swift and ../CryptoTests/KeccakVectors.swift: what other implementations say.

python -m venv v; v/bin/pip install eth-account==0.13.7 eth-abi==6.0.0 rlp==5.0.0 pycryptodome==3.24.1 pytempo==0.6.2
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


a, b = "0x" + "aa" * 20, "0x" + "bb" * 20
abi("static", ["uint256", "address", "bool", "bytes32", "uint8"], [2**256 - 1, a, True, drawn("word"), 27])
abi("dynamic", ["bytes", "string", "uint256"], [drawn("bytes", 33), "grüße", 5])
abi("empty", ["bytes", "string", "uint256[]"], [b"", "", []])
abi("arrays", ["uint256[]", "(address,uint256)[]"], [[1, 2, 3], [(a, 1), (b, 2)]])
abi("nested", ["((address,uint256)[],uint256,uint256)", "(address,bytes)[]", "string"],
    [([(a, 1), (b, 2)], 3, 4), [(a, b"x"), (b, drawn("bytes", 64))], "end"])
abi("static tuple", ["((address,uint256),uint256,uint256)", "bytes"], [((a, 1), 2, 3), b"sig"])
table("abiVectors", "(name: String, encoding: String)", rows)

if (here / "vectors_more.py").exists():
    exec((here / "vectors_more.py").read_text())
(here / "Vectors.swift").write_text("// Written by vectors.py with eth-account 0.13.7, eth-abi 6.0.0, rlp 5.0.0 and pytempo 0.6.2.\n\n" + "\n".join(lines))
