# pragma version 0.4.3
"""
Permit2's SignatureTransfer as its interface says, for its canonical address: transfers of one token, with a witness or without.
"""

import permit2_state

initializes: permit2_state

MAX_SIGNATURE: constant(uint256) = 4096
MAX_TYPE: constant(uint256) = 1024
OVERLOADS: constant(address) = 0x000000000000000000000000000000000000fA02
TYPE: constant(bytes32) = keccak256(
    "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)"
)
STUB: constant(String[128]) = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"


struct PermitTransferFrom:
    permitted: permit2_state.TokenPermissions
    nonce: uint256
    deadline: uint256


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return permit2_state.domain()


@external
@view
def nonceBitmap(owner: address, word: uint256) -> uint256:
    return permit2_state.nonceBitmap[owner][word]


@external
def invalidateUnorderedNonces(wordPos: uint256, mask: uint256):
    permit2_state.nonceBitmap[msg.sender][wordPos] |= mask
    log permit2_state.UnorderedNonceInvalidation(owner=msg.sender, word=wordPos, mask=mask)


@external
def permitTransferFrom(
    permit: PermitTransferFrom,
    transferDetails: permit2_state.SignatureTransferDetails,
    owner: address,
    signature: Bytes[MAX_SIGNATURE],
):
    permit2_state.use(owner, permit.nonce, permit.deadline)
    structure: bytes32 = keccak256(
        abi_encode(TYPE, permit2_state.permissions(permit.permitted), msg.sender, permit.nonce, permit.deadline)
    )
    permit2_state.verify(owner, structure, signature)
    permit2_state.move(permit.permitted, owner, transferDetails)


@external
def permitWitnessTransferFrom(
    permit: PermitTransferFrom,
    transferDetails: permit2_state.SignatureTransferDetails,
    owner: address,
    witness: bytes32,
    witnessTypeString: String[MAX_TYPE],
    signature: Bytes[MAX_SIGNATURE],
):
    permit2_state.use(owner, permit.nonce, permit.deadline)
    kind: bytes32 = keccak256(concat(STUB, witnessTypeString))
    structure: bytes32 = keccak256(
        abi_encode(kind, permit2_state.permissions(permit.permitted), msg.sender, permit.nonce, permit.deadline, witness)
    )
    permit2_state.verify(owner, structure, signature)
    permit2_state.move(permit.permitted, owner, transferDetails)


@external
def __default__():
    raw_call(OVERLOADS, msg.data, is_delegate_call=True)
