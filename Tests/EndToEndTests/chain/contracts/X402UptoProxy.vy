# pragma version 0.4.3
"""
x402's proxy for metered payments by Permit2: the facilitator that was signed decides how much of what was permitted goes to the payee.
"""

import x402_proxy

MAX_SIGNATURE: constant(uint256) = 4096
WITNESS_TYPE_STRING: public(constant(String[256])) = "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)"
WITNESS_TYPEHASH: public(constant(bytes32)) = keccak256("Witness(address to,address facilitator,uint256 validAfter)")
PERMIT2: public(constant(address)) = 0x000000000022D473030F116dDEE9F6B43aC78BA3


struct Witness:
    to: address
    facilitator: address
    validAfter: uint256


@internal
def check(permit: x402_proxy.PermitTransferFrom, amount: uint256, witness: Witness):
    if amount > permit.permitted.amount:
        raw_revert(method_id("AmountExceedsPermitted()"))
    if msg.sender != witness.facilitator:
        raw_revert(method_id("UnauthorizedFacilitator()"))


@internal
def pay(
    permit: x402_proxy.PermitTransferFrom, amount: uint256, owner: address, witness: Witness, signature: Bytes[MAX_SIGNATURE]
):
    structure: bytes32 = keccak256(abi_encode(WITNESS_TYPEHASH, witness.to, witness.facilitator, witness.validAfter))
    x402_proxy.settle(permit, amount, owner, witness.to, witness.validAfter, structure, WITNESS_TYPE_STRING, signature)


@external
@nonreentrant
def settle(
    permit: x402_proxy.PermitTransferFrom, amount: uint256, owner: address, witness: Witness, signature: Bytes[MAX_SIGNATURE]
):
    self.check(permit, amount, witness)
    self.pay(permit, amount, owner, witness, signature)
    log x402_proxy.Settled()


@external
@nonreentrant
def settleWithPermit(
    permit2612: x402_proxy.EIP2612Permit,
    permit: x402_proxy.PermitTransferFrom,
    amount: uint256,
    owner: address,
    witness: Witness,
    signature: Bytes[MAX_SIGNATURE],
):
    self.check(permit, amount, witness)
    x402_proxy.approve(permit.permitted.token, owner, permit2612, permit.permitted.amount)
    self.pay(permit, amount, owner, witness, signature)
    log x402_proxy.SettledWithPermit()
