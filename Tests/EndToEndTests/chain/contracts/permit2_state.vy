# pragma version 0.4.3
"""
What Permit2's SignatureTransfer keeps, and what its functions and their overloads for several tokens have in common (Vyper has no overloads of a
name: those stand in a contract of their own, which Permit2 runs on its own storage).
"""

MAX_SIGNATURE: constant(uint256) = 4096
MAX_TYPE: constant(uint256) = 1024
MAX_TRANSFERS: constant(uint256) = 16
HEAD: constant(bytes32) = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)")
TOKEN_PERMISSIONS: constant(bytes32) = keccak256("TokenPermissions(address token,uint256 amount)")
MAGIC: constant(bytes4) = 0x1626ba7e


struct TokenPermissions:
    token: address
    amount: uint256


struct SignatureTransferDetails:
    to: address
    requestedAmount: uint256


event UnorderedNonceInvalidation:
    owner: indexed(address)
    word: uint256
    mask: uint256


nonceBitmap: HashMap[address, HashMap[uint256, uint256]]


@internal
@view
def domain() -> bytes32:
    return keccak256(abi_encode(HEAD, keccak256("Permit2"), chain.id, self))


@internal
@pure
def permissions(permitted: TokenPermissions) -> bytes32:
    return keccak256(abi_encode(TOKEN_PERMISSIONS, permitted))


@internal
def use(owner: address, nonce: uint256, deadline: uint256):
    if block.timestamp > deadline:
        raw_revert(abi_encode(deadline, method_id=method_id("SignatureExpired(uint256)")))
    bit: uint256 = 1 << (nonce & 255)
    if self.nonceBitmap[owner][nonce >> 8] & bit != 0:
        raw_revert(method_id("InvalidNonce()"))
    self.nonceBitmap[owner][nonce >> 8] |= bit


@internal
@view
def verify(owner: address, structure: bytes32, signature: Bytes[MAX_SIGNATURE]):
    digest: bytes32 = keccak256(concat(b"\x19\x01", self.domain(), structure))
    if owner.is_contract:
        success: bool = False
        answer: Bytes[32] = b""
        success, answer = raw_call(
            owner,
            abi_encode(digest, signature, method_id=method_id("isValidSignature(bytes32,bytes)")),
            max_outsize=32,
            is_static_call=True,
            revert_on_failure=False,
        )
        if not (success and len(answer) == 32 and convert(slice(answer, 0, 4), bytes4) == MAGIC):
            raw_revert(method_id("InvalidContractSignature()"))
        return
    r: uint256 = 0
    s: uint256 = 0
    v: uint256 = 0
    if len(signature) == 65:
        r = convert(slice(signature, 0, 32), uint256)
        s = convert(slice(signature, 32, 32), uint256)
        v = convert(slice(signature, 64, 1), uint256)
    elif len(signature) == 64:
        r = convert(slice(signature, 0, 32), uint256)
        s = convert(slice(signature, 32, 32), uint256)
        v = 27 + (s >> 255)
        s = (s << 1) >> 1
    else:
        raw_revert(method_id("InvalidSignatureLength()"))
    # Permit2 takes a high s too: its nonces are what stops a second use.
    signer: address = ecrecover(digest, v, r, s)
    if signer == empty(address):
        raw_revert(method_id("InvalidSignature()"))
    if signer != owner:
        raw_revert(method_id("InvalidSigner()"))


@internal
def move(permitted: TokenPermissions, owner: address, details: SignatureTransferDetails):
    if details.requestedAmount > permitted.amount:
        raw_revert(abi_encode(permitted.amount, method_id=method_id("InvalidAmount(uint256)")))
    success: bool = False
    answer: Bytes[32] = b""
    success, answer = raw_call(
        permitted.token,
        abi_encode(owner, details.to, details.requestedAmount, method_id=method_id("transferFrom(address,address,uint256)")),
        max_outsize=32,
        revert_on_failure=False,
    )
    assert success and (len(answer) == 0 or convert(answer, uint256) == 1), "TRANSFER_FROM_FAILED"
