# pragma version 0.4.3
"""
x402's proxy for exact payments by Permit2: what was permitted goes to the payee that was signed, whole.
"""

import x402_proxy

MAX_SIGNATURE: constant(uint256) = 4096
WITNESS_TYPE_STRING: public(constant(String[256])) = "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)"
WITNESS_TYPEHASH: public(constant(bytes32)) = keccak256("Witness(address to,uint256 validAfter)")
PERMIT2: public(constant(address)) = 0x000000000022D473030F116dDEE9F6B43aC78BA3


struct Witness:
    to: address
    validAfter: uint256


@internal
def pay(permit: x402_proxy.PermitTransferFrom, owner: address, witness: Witness, signature: Bytes[MAX_SIGNATURE]):
    structure: bytes32 = keccak256(abi_encode(WITNESS_TYPEHASH, witness.to, witness.validAfter))
    x402_proxy.settle(
        permit, permit.permitted.amount, owner, witness.to, witness.validAfter, structure, WITNESS_TYPE_STRING, signature
    )


@external
@nonreentrant
def settle(permit: x402_proxy.PermitTransferFrom, owner: address, witness: Witness, signature: Bytes[MAX_SIGNATURE]):
    self.pay(permit, owner, witness, signature)
    log x402_proxy.Settled()


@external
@nonreentrant
def settleWithPermit(
    permit2612: x402_proxy.EIP2612Permit,
    permit: x402_proxy.PermitTransferFrom,
    owner: address,
    witness: Witness,
    signature: Bytes[MAX_SIGNATURE],
):
    x402_proxy.approve(permit.permitted.token, owner, permit2612, permit.permitted.amount)
    self.pay(permit, owner, witness, signature)
    log x402_proxy.SettledWithPermit()
