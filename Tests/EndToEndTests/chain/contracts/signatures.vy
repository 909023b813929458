# pragma version 0.4.3
"""
Signatures over a digest: of a key (65 octets r, s, v, or 64 by EIP-2098 where the caller allows them), or of a contract (ERC-1271).
"""

MAX_SIGNATURE: constant(uint256) = 4096
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
MAGIC: constant(bytes4) = 0x1626ba7e


@internal
@pure
def signer_of(digest: bytes32, v: uint256, r: uint256, s: uint256) -> address:
    """The key's address, or none if the signature is malleable or no signature at all."""
    if s > HALF_ORDER or (v != 27 and v != 28):
        return empty(address)
    return ecrecover(digest, v, r, s)


@internal
@pure
def recover(digest: bytes32, signature: Bytes[MAX_SIGNATURE], compact: bool) -> address:
    if len(signature) == 65:
        r: uint256 = convert(slice(signature, 0, 32), uint256)
        s: uint256 = convert(slice(signature, 32, 32), uint256)
        return self.signer_of(digest, convert(slice(signature, 64, 1), uint256), r, s)
    if compact and len(signature) == 64:
        r: uint256 = convert(slice(signature, 0, 32), uint256)
        vs: uint256 = convert(slice(signature, 32, 32), uint256)
        return self.signer_of(digest, 27 + (vs >> 255), r, (vs << 1) >> 1)
    return empty(address)


@internal
@view
def contract_agrees(wallet: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE]) -> bool:
    success: bool = False
    answer: Bytes[32] = b""
    success, answer = raw_call(
        wallet,
        abi_encode(digest, signature, method_id=method_id("isValidSignature(bytes32,bytes)")),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    return success and len(answer) == 32 and convert(slice(answer, 0, 4), bytes4) == MAGIC


@internal
@view
def agrees(signer: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE], compact: bool) -> bool:
    """A contract speaks for itself, and no key in its place."""
    if signer.is_contract:
        return self.contract_agrees(signer, digest, signature)
    return signer != empty(address) and self.recover(digest, signature, compact) == signer
