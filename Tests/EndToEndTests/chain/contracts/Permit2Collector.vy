# pragma version 0.4.3
"""
x402's collector of deposits by Permit2, for its canonical address: the witness names the channel.
"""

BATCH_SETTLEMENT: constant(address) = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003
PERMIT2: constant(address) = 0x000000000022D473030F116dDEE9F6B43aC78BA3
WITNESS: constant(bytes32) = keccak256("DepositWitness(bytes32 channelId)")
KIND: constant(String[128]) = "DepositWitness witness)DepositWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)"


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
        kind: String[128],
        signature: Bytes[1024],
    ): nonpayable


@internal
def approve(token: address, payer: address, amount: uint256, data: Bytes[160]):
    """Lets the token approve Permit2. That it fails is no harm: the allowance may be there already."""
    value: uint256 = 0
    deadline: uint256 = 0
    v: uint8 = 0
    r: bytes32 = empty(bytes32)
    s: bytes32 = empty(bytes32)
    value, deadline, v, r, s = abi_decode(data, (uint256, uint256, uint8, bytes32, bytes32))
    if value != amount:
        raw_revert(method_id("Permit2612AmountMismatch()"))
    success: bool = False
    answer: Bytes[512] = b""
    success, answer = raw_call(
        token,
        abi_encode(
            payer, PERMIT2, value, deadline, v, r, s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        max_outsize=512,
        revert_on_failure=False,
    )
    if not success:
        log EIP2612PermitFailedWithData(token=token, owner=payer, data=answer)


@external
def collect(payer: address, token: address, amount: uint256, channelId: bytes32, collectorData: Bytes[2048]):
    if msg.sender != BATCH_SETTLEMENT:
        raw_revert(method_id("OnlyX402BatchSettlement()"))
    nonce: uint256 = 0
    deadline: uint256 = 0
    signature: Bytes[1024] = b""
    permit2612: Bytes[160] = b""
    nonce, deadline, signature, permit2612 = abi_decode(collectorData, (uint256, uint256, Bytes[1024], Bytes[160]))
    if len(permit2612) > 0:
        self.approve(token, payer, amount, permit2612)
    permitted: TokenPermissions = TokenPermissions(token=token, amount=amount)
    permit: PermitTransferFrom = PermitTransferFrom(permitted=permitted, nonce=nonce, deadline=deadline)
    details: SignatureTransferDetails = SignatureTransferDetails(to=BATCH_SETTLEMENT, requestedAmount=amount)
    witness: bytes32 = keccak256(abi_encode(WITNESS, channelId))
    extcall SignatureTransfer(PERMIT2).permitWitnessTransferFrom(permit, details, payer, witness, KIND, signature)
