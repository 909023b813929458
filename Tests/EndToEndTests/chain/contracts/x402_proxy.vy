# pragma version 0.4.3
"""
What x402's proxies for Permit2 have in common: they are the spender that payers name, and the witness says where the money may go.
"""

PERMIT2: constant(address) = 0x000000000022D473030F116dDEE9F6B43aC78BA3
MAX_SIGNATURE: constant(uint256) = 4096


struct TokenPermissions:
    token: address
    amount: uint256


struct PermitTransferFrom:
    permitted: TokenPermissions
    nonce: uint256
    deadline: uint256


struct SignatureTransferDetails:
    to: address
    requestedAmount: uint256


struct EIP2612Permit:
    value: uint256
    deadline: uint256
    r: bytes32
    s: bytes32
    v: uint8


event Settled:
    pass


event SettledWithPermit:
    pass


event EIP2612PermitFailedWithData:
    token: indexed(address)
    owner: indexed(address)
    data: Bytes[512]


interface SignatureTransfer:
    def permitWitnessTransferFrom(
        permit: PermitTransferFrom,
        details: SignatureTransferDetails,
        owner: address,
        witness: bytes32,
        kind: String[256],
        signature: Bytes[MAX_SIGNATURE],
    ): nonpayable


@internal
def settle(
    permit: PermitTransferFrom,
    amount: uint256,
    owner: address,
    to: address,
    validAfter: uint256,
    witness: bytes32,
    kind: String[256],
    signature: Bytes[MAX_SIGNATURE],
):
    if amount == 0:
        raw_revert(method_id("InvalidAmount()"))
    if owner == empty(address):
        raw_revert(method_id("InvalidOwner()"))
    if to == empty(address):
        raw_revert(method_id("InvalidDestination()"))
    if block.timestamp < validAfter:
        raw_revert(method_id("PaymentTooEarly()"))
    details: SignatureTransferDetails = SignatureTransferDetails(to=to, requestedAmount=amount)
    extcall SignatureTransfer(PERMIT2).permitWitnessTransferFrom(permit, details, owner, witness, kind, signature)


@internal
def approve(token: address, owner: address, permit2612: EIP2612Permit, amount: uint256):
    """Lets the token approve Permit2. That it fails is no harm: the allowance may be there already."""
    if permit2612.value != amount:
        raw_revert(method_id("Permit2612AmountMismatch()"))
    success: bool = False
    answer: Bytes[512] = b""
    success, answer = raw_call(
        token,
        abi_encode(
            owner, PERMIT2, permit2612.value, permit2612.deadline, permit2612.v, permit2612.r, permit2612.s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        max_outsize=512,
        revert_on_failure=False,
    )
    if not success:
        log EIP2612PermitFailedWithData(token=token, owner=owner, data=answer)
