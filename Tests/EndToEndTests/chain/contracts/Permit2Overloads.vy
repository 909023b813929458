# pragma version 0.4.3
"""
Permit2's functions that move several tokens by one signature, which bear the names of those that move one. Permit2 runs them on its own storage.
"""

import permit2_state

initializes: permit2_state

MAX_SIGNATURE: constant(uint256) = 4096
MAX_TYPE: constant(uint256) = 1024
MAX_TRANSFERS: constant(uint256) = 16
TYPE: constant(bytes32) = keccak256(
    "PermitBatchTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)"
)
STUB: constant(String[128]) = "PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline,"


struct PermitBatchTransferFrom:
    permitted: DynArray[permit2_state.TokenPermissions, MAX_TRANSFERS]
    nonce: uint256
    deadline: uint256


@internal
@pure
def permissions(permitted: DynArray[permit2_state.TokenPermissions, MAX_TRANSFERS]) -> bytes32:
    hashes: DynArray[bytes32, MAX_TRANSFERS] = []
    for one: permit2_state.TokenPermissions in permitted:
        hashes.append(permit2_state.permissions(one))
    # The encoding of the array has its offset and its length before its members.
    encoded: Bytes[64 + 32 * MAX_TRANSFERS] = abi_encode(hashes)
    return keccak256(slice(encoded, 64, len(encoded) - 64))


@internal
def transfer(
    permit: PermitBatchTransferFrom,
    transferDetails: DynArray[permit2_state.SignatureTransferDetails, MAX_TRANSFERS],
    owner: address,
):
    for index: uint256 in range(len(permit.permitted), bound=MAX_TRANSFERS):
        permit2_state.move(permit.permitted[index], owner, transferDetails[index])


@external
def permitTransferFrom(
    permit: PermitBatchTransferFrom,
    transferDetails: DynArray[permit2_state.SignatureTransferDetails, MAX_TRANSFERS],
    owner: address,
    signature: Bytes[MAX_SIGNATURE],
):
    if len(permit.permitted) != len(transferDetails):
        raw_revert(method_id("LengthMismatch()"))
    permit2_state.use(owner, permit.nonce, permit.deadline)
    structure: bytes32 = keccak256(
        abi_encode(TYPE, self.permissions(permit.permitted), msg.sender, permit.nonce, permit.deadline)
    )
    permit2_state.verify(owner, structure, signature)
    self.transfer(permit, transferDetails, owner)


@external
def permitWitnessTransferFrom(
    permit: PermitBatchTransferFrom,
    transferDetails: DynArray[permit2_state.SignatureTransferDetails, MAX_TRANSFERS],
    owner: address,
    witness: bytes32,
    witnessTypeString: String[MAX_TYPE],
    signature: Bytes[MAX_SIGNATURE],
):
    if len(permit.permitted) != len(transferDetails):
        raw_revert(method_id("LengthMismatch()"))
    permit2_state.use(owner, permit.nonce, permit.deadline)
    kind: bytes32 = keccak256(concat(STUB, witnessTypeString))
    structure: bytes32 = keccak256(
        abi_encode(kind, self.permissions(permit.permitted), msg.sender, permit.nonce, permit.deadline, witness)
    )
    permit2_state.verify(owner, structure, signature)
    self.transfer(permit, transferDetails, owner)
