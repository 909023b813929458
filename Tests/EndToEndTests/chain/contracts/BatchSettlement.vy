# pragma version 0.4.3
"""
x402's escrow for batch-settlement, for its canonical address: channels that are paid into by collectors, claimed by cumulative vouchers, and settled.
"""

import signatures

MAX_SIGNATURE: constant(uint256) = 512
MAX_CLAIMS: constant(uint256) = 32
MIN_WITHDRAW_DELAY: public(constant(uint40)) = 900
MAX_WITHDRAW_DELAY: public(constant(uint40)) = 2592000
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
CONFIG: constant(bytes32) = keccak256(
    "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
)
VOUCHER: constant(bytes32) = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)")
REFUND: constant(bytes32) = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)")
ENTRY: constant(bytes32) = keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)")
BATCH: constant(bytes32) = keccak256(
    "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
)


struct ChannelConfig:
    payer: address
    payerAuthorizer: address
    receiver: address
    receiverAuthorizer: address
    token: address
    withdrawDelay: uint40
    salt: bytes32


struct ChannelState:
    balance: uint128
    totalClaimed: uint128


struct WithdrawalState:
    amount: uint128
    initiatedAt: uint40


struct ReceiverState:
    totalClaimed: uint128
    totalSettled: uint128


struct Voucher:
    channel: ChannelConfig
    maxClaimableAmount: uint128


struct VoucherClaim:
    voucher: Voucher
    signature: Bytes[MAX_SIGNATURE]
    totalClaimed: uint128


event ChannelCreated:
    channelId: indexed(bytes32)
    config: ChannelConfig


event ChannelClosed:
    channelId: indexed(bytes32)
    config: ChannelConfig


event Deposited:
    channelId: indexed(bytes32)
    sender: indexed(address)
    amount: uint128
    newBalance: uint128


event Claimed:
    channelId: indexed(bytes32)
    sender: indexed(address)
    claimAmount: uint128
    newTotalClaimed: uint128


event Settled:
    receiver: indexed(address)
    token: indexed(address)
    sender: indexed(address)
    amount: uint128


event Refunded:
    channelId: indexed(bytes32)
    sender: indexed(address)
    amount: uint128


event WithdrawInitiated:
    channelId: indexed(bytes32)
    amount: uint128
    finalizeAfter: uint40


event WithdrawFinalized:
    channelId: indexed(bytes32)
    sender: indexed(address)
    amount: uint128


interface Token:
    def balanceOf(owner: address) -> uint256: view
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable


interface Collector:
    def collect(payer: address, token: address, amount: uint256, channelId: bytes32, collectorData: Bytes[2048]): nonpayable


channels: public(HashMap[bytes32, ChannelState])
refundNonce: public(HashMap[bytes32, uint256])
pendingWithdrawals: public(HashMap[bytes32, WithdrawalState])
receivers: public(HashMap[address, HashMap[address, ReceiverState]])


# Digests.

@internal
@view
def digest(structure: bytes32) -> bytes32:
    domain: bytes32 = keccak256(abi_encode(DOMAIN, keccak256("x402 Batch Settlement"), keccak256("1"), chain.id, self))
    return keccak256(concat(b"\x19\x01", domain, structure))


@internal
@view
def identify(config: ChannelConfig) -> bytes32:
    return self.digest(keccak256(abi_encode(CONFIG, config)))


@internal
@view
def voucher_digest(channelId: bytes32, maxClaimableAmount: uint128) -> bytes32:
    return self.digest(keccak256(abi_encode(VOUCHER, channelId, maxClaimableAmount)))


@internal
@view
def refund_digest(channelId: bytes32, nonce: uint256, amount: uint128) -> bytes32:
    return self.digest(keccak256(abi_encode(REFUND, channelId, nonce, amount)))


@internal
@view
def batch_digest(claims: DynArray[VoucherClaim, MAX_CLAIMS]) -> bytes32:
    entries: DynArray[bytes32, MAX_CLAIMS] = []
    for one: VoucherClaim in claims:
        channelId: bytes32 = self.identify(one.voucher.channel)
        entries.append(keccak256(abi_encode(ENTRY, channelId, one.voucher.maxClaimableAmount, one.totalClaimed)))
    root: bytes32 = keccak256(b"")
    if len(entries) > 0:
        # The encoding of the array has its offset and its length before its members.
        encoded: Bytes[64 + 32 * MAX_CLAIMS] = abi_encode(entries)
        root = keccak256(slice(encoded, 64, len(encoded) - 64))
    return self.digest(keccak256(abi_encode(BATCH, root)))


@external
@view
def getChannelId(config: ChannelConfig) -> bytes32:
    return self.identify(config)


@external
@view
def getVoucherDigest(channelId: bytes32, maxClaimableAmount: uint128) -> bytes32:
    return self.voucher_digest(channelId, maxClaimableAmount)


@external
@view
def getRefundDigest(channelId: bytes32, nonce: uint256, amount: uint128) -> bytes32:
    return self.refund_digest(channelId, nonce, amount)


@external
@view
def getClaimBatchDigest(voucherClaims: DynArray[VoucherClaim, MAX_CLAIMS]) -> bytes32:
    return self.batch_digest(voucherClaims)


# Several calls in one.

@external
def multicall(data: DynArray[Bytes[8192], 8]) -> DynArray[Bytes[256], 8]:
    results: DynArray[Bytes[256], 8] = []
    for call: Bytes[8192] in data:
        results.append(raw_call(self, call, max_outsize=256, is_delegate_call=True))
    return results


# Deposits.

@external
@nonreentrant
def deposit(config: ChannelConfig, amount: uint128, collector: address, collectorData: Bytes[2048]):
    nobody: address = empty(address)
    if config.payer == nobody or config.receiver == nobody or config.receiverAuthorizer == nobody or config.token == nobody:
        raw_revert(method_id("InvalidChannel()"))
    if config.withdrawDelay < MIN_WITHDRAW_DELAY or config.withdrawDelay > MAX_WITHDRAW_DELAY:
        raw_revert(method_id("WithdrawDelayOutOfRange()"))
    if amount == 0:
        raw_revert(method_id("ZeroDeposit()"))
    if collector == nobody:
        raw_revert(method_id("InvalidCollector()"))
    channelId: bytes32 = self.identify(config)
    state: ChannelState = self.channels[channelId]
    if amount > max_value(uint128) - state.balance:
        raw_revert(method_id("DepositOverflow()"))
    self.channels[channelId].balance = state.balance + amount
    before: uint256 = staticcall Token(config.token).balanceOf(self)
    extcall Collector(collector).collect(config.payer, config.token, convert(amount, uint256), channelId, collectorData)
    if staticcall Token(config.token).balanceOf(self) != before + convert(amount, uint256):
        raw_revert(method_id("DepositCollectionFailed()"))
    if state.balance == 0 and state.totalClaimed == 0:
        log ChannelCreated(channelId=channelId, config=config)
    log Deposited(channelId=channelId, sender=msg.sender, amount=amount, newBalance=state.balance + amount)


# Claims and settlement.

@internal
def apply(one: VoucherClaim):
    channelId: bytes32 = self.identify(one.voucher.channel)
    state: ChannelState = self.channels[channelId]
    if one.totalClaimed <= state.totalClaimed:
        return
    if one.totalClaimed > one.voucher.maxClaimableAmount:
        raw_revert(method_id("ClaimExceedsCeiling()"))
    if one.totalClaimed > state.balance:
        raw_revert(method_id("ClaimExceedsBalance()"))
    digest: bytes32 = self.voucher_digest(channelId, one.voucher.maxClaimableAmount)
    authorizer: address = one.voucher.channel.payerAuthorizer
    good: bool = False
    if authorizer != empty(address):
        good = signatures.recover(digest, one.signature, False) == authorizer
    else:
        good = signatures.agrees(one.voucher.channel.payer, digest, one.signature, False)
    if not good:
        raw_revert(method_id("InvalidSignature()"))
    delta: uint128 = one.totalClaimed - state.totalClaimed
    self.channels[channelId].totalClaimed = one.totalClaimed
    self.receivers[one.voucher.channel.receiver][one.voucher.channel.token].totalClaimed += delta
    log Claimed(channelId=channelId, sender=msg.sender, claimAmount=delta, newTotalClaimed=one.totalClaimed)


@external
@nonreentrant
def claim(voucherClaims: DynArray[VoucherClaim, MAX_CLAIMS]):
    if len(voucherClaims) == 0:
        raw_revert(method_id("EmptyBatch()"))
    for one: VoucherClaim in voucherClaims:
        if msg.sender != one.voucher.channel.receiverAuthorizer and msg.sender != one.voucher.channel.receiver:
            raw_revert(method_id("NotAuthorizedToClaim()"))
        self.apply(one)


@external
@nonreentrant
def claimWithSignature(voucherClaims: DynArray[VoucherClaim, MAX_CLAIMS], authorizerSignature: Bytes[MAX_SIGNATURE]):
    if len(voucherClaims) == 0:
        raw_revert(method_id("EmptyBatch()"))
    authorizer: address = voucherClaims[0].voucher.channel.receiverAuthorizer
    if not signatures.agrees(authorizer, self.batch_digest(voucherClaims), authorizerSignature, False):
        raw_revert(method_id("InvalidSignature()"))
    for one: VoucherClaim in voucherClaims:
        if one.voucher.channel.receiverAuthorizer != authorizer:
            raw_revert(method_id("NotReceiverAuthorizer()"))
        self.apply(one)


@external
@nonreentrant
def settle(receiver: address, token: address):
    state: ReceiverState = self.receivers[receiver][token]
    amount: uint128 = state.totalClaimed - state.totalSettled
    if amount == 0:
        return
    self.receivers[receiver][token].totalSettled = state.totalClaimed
    assert extcall Token(token).transfer(receiver, convert(amount, uint256), default_return_value=True)
    log Settled(receiver=receiver, token=token, sender=msg.sender, amount=amount)


# Withdrawals and refunds.

@internal
def give_back(config: ChannelConfig, channelId: bytes32, amount: uint128):
    state: ChannelState = self.channels[channelId]
    if state.balance == 0 and state.totalClaimed == 0:
        log ChannelClosed(channelId=channelId, config=config)
    if amount > 0:
        assert extcall Token(config.token).transfer(config.payer, convert(amount, uint256), default_return_value=True)


@external
@nonreentrant
def initiateWithdraw(config: ChannelConfig, amount: uint128):
    if msg.sender != config.payer and msg.sender != config.payerAuthorizer:
        raw_revert(method_id("InvalidChannel()"))
    if amount == 0:
        raw_revert(method_id("NothingToWithdraw()"))
    channelId: bytes32 = self.identify(config)
    if self.pendingWithdrawals[channelId].initiatedAt != 0:
        raw_revert(method_id("WithdrawalAlreadyPending()"))
    state: ChannelState = self.channels[channelId]
    if amount > state.balance - state.totalClaimed:
        raw_revert(method_id("WithdrawAmountExceedsAvailable()"))
    now: uint40 = convert(block.timestamp, uint40)
    self.pendingWithdrawals[channelId] = WithdrawalState(amount=amount, initiatedAt=now)
    log WithdrawInitiated(channelId=channelId, amount=amount, finalizeAfter=now + config.withdrawDelay)


@external
@nonreentrant
def finalizeWithdraw(config: ChannelConfig):
    if msg.sender != config.payer and msg.sender != config.payerAuthorizer:
        raw_revert(method_id("NotAuthorizedToFinalizeWithdraw()"))
    channelId: bytes32 = self.identify(config)
    pending: WithdrawalState = self.pendingWithdrawals[channelId]
    if pending.initiatedAt == 0:
        raw_revert(method_id("WithdrawalNotPending()"))
    if block.timestamp < convert(pending.initiatedAt, uint256) + convert(config.withdrawDelay, uint256):
        raw_revert(method_id("WithdrawDelayNotElapsed()"))
    state: ChannelState = self.channels[channelId]
    amount: uint128 = min(pending.amount, state.balance - state.totalClaimed)
    self.pendingWithdrawals[channelId] = empty(WithdrawalState)
    self.channels[channelId].balance = state.balance - amount
    log WithdrawFinalized(channelId=channelId, sender=msg.sender, amount=amount)
    self.give_back(config, channelId, amount)


@internal
def execute_refund(config: ChannelConfig, requested: uint128):
    if requested == 0:
        raw_revert(method_id("ZeroRefund()"))
    channelId: bytes32 = self.identify(config)
    self.refundNonce[channelId] += 1
    state: ChannelState = self.channels[channelId]
    amount: uint128 = min(requested, state.balance - state.totalClaimed)
    if amount == 0:
        return
    self.channels[channelId].balance = state.balance - amount
    pending: WithdrawalState = self.pendingWithdrawals[channelId]
    if pending.initiatedAt != 0:
        if amount >= pending.amount:
            self.pendingWithdrawals[channelId] = empty(WithdrawalState)
        else:
            self.pendingWithdrawals[channelId].amount = pending.amount - amount
    log Refunded(channelId=channelId, sender=msg.sender, amount=amount)
    self.give_back(config, channelId, amount)


@external
@nonreentrant
def refund(config: ChannelConfig, amount: uint128):
    if msg.sender != config.receiverAuthorizer and msg.sender != config.receiver:
        raw_revert(method_id("NotAuthorizedToRefund()"))
    self.execute_refund(config, amount)


@external
@nonreentrant
def refundWithSignature(config: ChannelConfig, amount: uint128, nonce: uint256, receiverAuthorizerSignature: Bytes[MAX_SIGNATURE]):
    channelId: bytes32 = self.identify(config)
    if nonce != self.refundNonce[channelId]:
        raw_revert(method_id("InvalidRefundNonce()"))
    digest: bytes32 = self.refund_digest(channelId, nonce, amount)
    if not signatures.agrees(config.receiverAuthorizer, digest, receiverAuthorizerSignature, False):
        raw_revert(method_id("InvalidSignature()"))
    self.execute_refund(config, amount)
