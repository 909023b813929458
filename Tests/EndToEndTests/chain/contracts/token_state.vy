# pragma version 0.4.3
"""
What the token keeps, and what its functions and their overloads have in common. Vyper has no overloads of a name: those that take a signature
as one string of octets stand in a contract of their own, which the token runs on its own storage. Both hold this module and nothing else.
"""

import signatures

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256


event TransferWithMemo:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256
    memo: indexed(bytes32)


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    amount: uint256


event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


MAX_SIGNATURE: constant(uint256) = 4096
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
PERMIT: constant(bytes32) = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
TRANSFER: constant(bytes32) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
RECEIVE: constant(bytes32) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CANCEL: constant(bytes32) = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)")

overloads: address
name: String[64]
symbol: String[16]
version: String[16]
decimals: uint8
totalSupply: uint256
balanceOf: HashMap[address, uint256]
allowance: HashMap[address, HashMap[address, uint256]]
nonces: HashMap[address, uint256]
authorizationState: HashMap[address, HashMap[bytes32, bool]]
paused: bool
# Some tokens answer a used authorization without a revert and without a transfer.
silent: bool


@internal
@view
def digest_of(structure: bytes32) -> bytes32:
    domain: bytes32 = keccak256(abi_encode(DOMAIN, keccak256(self.name), keccak256(self.version), chain.id, self))
    return keccak256(concat(b"\x19\x01", domain, structure))


@internal
def move(sender: address, receiver: address, amount: uint256):
    assert not self.paused, "Pausable: paused"
    assert receiver != empty(address), "ERC20: transfer to the zero address"
    assert self.balanceOf[sender] >= amount, "ERC20: transfer amount exceeds balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, amount=amount)


@internal
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, signature: Bytes[MAX_SIGNATURE]):
    assert not self.paused, "Pausable: paused"
    assert block.timestamp <= deadline, "FiatTokenV2: permit is expired"
    structure: bytes32 = keccak256(abi_encode(PERMIT, owner, spender, amount, self.nonces[owner], deadline))
    assert signatures.agrees(owner, self.digest_of(structure), signature, False), "EIP2612: invalid signature"
    self.nonces[owner] += 1
    self.allowance[owner][spender] = amount
    log Approval(owner=owner, spender=spender, amount=amount)


@internal
def authorized(
    transfers: bool,
    sender: address,
    receiver: address,
    amount: uint256,
    after: uint256,
    before: uint256,
    nonce: bytes32,
    signature: Bytes[MAX_SIGNATURE],
):
    assert not self.paused, "Pausable: paused"
    assert transfers or receiver == msg.sender, "FiatTokenV2: caller must be the payee"
    assert block.timestamp > after, "FiatTokenV2: authorization is not yet valid"
    assert block.timestamp < before, "FiatTokenV2: authorization is expired"
    if self.silent and self.authorizationState[sender][nonce]:
        return
    assert not self.authorizationState[sender][nonce], "FiatTokenV2: authorization is used or canceled"
    structure: bytes32 = keccak256(
        abi_encode(TRANSFER if transfers else RECEIVE, sender, receiver, amount, after, before, nonce)
    )
    assert signatures.agrees(sender, self.digest_of(structure), signature, False), "FiatTokenV2: invalid signature"
    self.authorizationState[sender][nonce] = True
    log AuthorizationUsed(authorizer=sender, nonce=nonce)
    self.move(sender, receiver, amount)


@internal
def cancel(authorizer: address, nonce: bytes32, signature: Bytes[MAX_SIGNATURE]):
    assert not self.paused, "Pausable: paused"
    assert not self.authorizationState[authorizer][nonce], "FiatTokenV2: authorization is used or canceled"
    structure: bytes32 = keccak256(abi_encode(CANCEL, authorizer, nonce))
    assert signatures.agrees(authorizer, self.digest_of(structure), signature, False), "FiatTokenV2: invalid signature"
    self.authorizationState[authorizer][nonce] = True
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)


@internal
@pure
def packed(v: uint8, r: bytes32, s: bytes32) -> Bytes[65]:
    return concat(r, s, convert(v, bytes1))
