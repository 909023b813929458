# pragma version 0.4.3
"""
The reserve of channels of the MPP draft "tempo session", version 2, which on Tempo is no contract but a part of the chain: it needs nobody's approval to
pull a deposit, and the chain tells it which transaction opens a channel.
"""

import signatures

MAX_SIGNATURE: constant(uint256) = 4096
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
NAME: constant(bytes32) = keccak256("TIP20 Channel Reserve")
CLOSE_GRACE_PERIOD: public(constant(uint64)) = 900
VOUCHER_TYPEHASH: public(constant(bytes32)) = keccak256("Voucher(bytes32 channelId,uint96 cumulativeAmount)")


struct Descriptor:
    payer: address
    payee: address
    operator: address
    token: address
    salt: bytes32
    authorizedSigner: address
    expiringNonceHash: bytes32


struct State:
    settled: uint96
    deposit: uint96
    closeRequestedAt: uint32


struct Channel:
    descriptor: Descriptor
    state: State


event ChannelOpened:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    operator: address
    token: address
    authorizedSigner: address
    salt: bytes32
    expiringNonceHash: bytes32
    deposit: uint96


event Settled:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    cumulativeAmount: uint96
    deltaPaid: uint96
    newSettled: uint96


event TopUp:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    additionalDeposit: uint96
    newDeposit: uint96


event CloseRequested:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    closeGraceEnd: uint256


event ChannelClosed:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    settledToPayee: uint96
    refundedToPayer: uint96


event CloseRequestCancelled:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)


interface Token:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable
    def transferFrom(sender: address, receiver: address, amount: uint256) -> bool: nonpayable


# The first slot is the chain's to write: what names the transaction that is running.
running: bytes32
states: HashMap[bytes32, State]
known: HashMap[bytes32, bool]


@internal
@view
def identify(channel: Descriptor) -> bytes32:
    return keccak256(abi_encode(channel, self, chain.id))


@internal
@view
def separator() -> bytes32:
    return keccak256(abi_encode(DOMAIN, NAME, keccak256("1"), chain.id, self))


@internal
@view
def digest(channelId: bytes32, cumulativeAmount: uint96) -> bytes32:
    structure: bytes32 = keccak256(abi_encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount))
    return keccak256(concat(b"\x19\x01", self.separator(), structure))


@internal
@view
def living(channelId: bytes32) -> State:
    if not self.known[channelId]:
        raw_revert(method_id("ChannelNotFound()"))
    if self.states[channelId].deposit == 0:
        raw_revert(method_id("ChannelFinalized()"))
    return self.states[channelId]


@internal
@view
def payee_only(channel: Descriptor):
    if msg.sender != channel.payee and (channel.operator == empty(address) or msg.sender != channel.operator):
        raw_revert(method_id("NotPayee()"))


@internal
@view
def payer_only(channel: Descriptor):
    if msg.sender != channel.payer:
        raw_revert(method_id("NotPayer()"))


@internal
def pay(token: address, receiver: address, amount: uint96):
    if amount > 0:
        assert extcall Token(token).transfer(receiver, convert(amount, uint256))


@internal
@view
def check(channel: Descriptor, channelId: bytes32, state: State, amount: uint96, signature: Bytes[MAX_SIGNATURE]):
    if amount > state.deposit:
        raw_revert(method_id("AmountExceedsDeposit()"))
    signer: address = channel.authorizedSigner if channel.authorizedSigner != empty(address) else channel.payer
    if not signatures.agrees(signer, self.digest(channelId, amount), signature, True):
        raw_revert(method_id("InvalidSignature()"))


@external
@view
def computeChannelId(
    payer: address, payee: address, operator: address, token: address, salt: bytes32, authorizedSigner: address, expiringNonceHash: bytes32
) -> bytes32:
    return keccak256(abi_encode(payer, payee, operator, token, salt, authorizedSigner, expiringNonceHash, self, chain.id))


@external
@view
def getVoucherDigest(channelId: bytes32, cumulativeAmount: uint96) -> bytes32:
    return self.digest(channelId, cumulativeAmount)


@external
@view
def domainSeparator() -> bytes32:
    return self.separator()


@external
@view
def getChannel(descriptor: Descriptor) -> Channel:
    return Channel(descriptor=descriptor, state=self.states[self.identify(descriptor)])


@external
@view
def getChannelState(channelId: bytes32) -> State:
    return self.states[channelId]


@external
@view
def getChannelStatesBatch(channelIds: DynArray[bytes32, 32]) -> DynArray[State, 32]:
    found: DynArray[State, 32] = []
    for channelId: bytes32 in channelIds:
        found.append(self.states[channelId])
    return found


@external
@nonreentrant
def open(payee: address, operator: address, token: address, deposit: uint96, salt: bytes32, authorizedSigner: address) -> bytes32:
    if payee == empty(address):
        raw_revert(method_id("InvalidPayee()"))
    if deposit == 0:
        raw_revert(method_id("ZeroDeposit()"))
    channel: Descriptor = Descriptor(
        payer=msg.sender,
        payee=payee,
        operator=operator,
        token=token,
        salt=salt,
        authorizedSigner=authorizedSigner,
        expiringNonceHash=self.running,
    )
    channelId: bytes32 = self.identify(channel)
    if self.known[channelId]:
        raw_revert(method_id("ChannelAlreadyExists()"))
    self.known[channelId] = True
    self.states[channelId] = State(settled=0, deposit=deposit, closeRequestedAt=0)
    log ChannelOpened(
        channelId=channelId,
        payer=msg.sender,
        payee=payee,
        operator=operator,
        token=token,
        authorizedSigner=authorizedSigner,
        salt=salt,
        expiringNonceHash=self.running,
        deposit=deposit,
    )
    assert extcall Token(token).transferFrom(msg.sender, self, convert(deposit, uint256))
    return channelId


@external
@nonreentrant
def topUp(descriptor: Descriptor, additionalDeposit: uint96):
    self.payer_only(descriptor)
    channelId: bytes32 = self.identify(descriptor)
    state: State = self.living(channelId)
    if additionalDeposit == 0:
        raw_revert(method_id("ZeroDeposit()"))
    if state.closeRequestedAt != 0:
        self.states[channelId].closeRequestedAt = 0
        log CloseRequestCancelled(channelId=channelId, payer=descriptor.payer, payee=descriptor.payee)
    self.states[channelId].deposit = state.deposit + additionalDeposit
    log TopUp(
        channelId=channelId,
        payer=descriptor.payer,
        payee=descriptor.payee,
        additionalDeposit=additionalDeposit,
        newDeposit=state.deposit + additionalDeposit,
    )
    assert extcall Token(descriptor.token).transferFrom(msg.sender, self, convert(additionalDeposit, uint256))


@external
@nonreentrant
def settle(descriptor: Descriptor, cumulativeAmount: uint96, signature: Bytes[MAX_SIGNATURE]):
    self.payee_only(descriptor)
    channelId: bytes32 = self.identify(descriptor)
    state: State = self.living(channelId)
    if cumulativeAmount <= state.settled:
        raw_revert(method_id("AmountNotIncreasing()"))
    self.check(descriptor, channelId, state, cumulativeAmount, signature)
    delta: uint96 = cumulativeAmount - state.settled
    self.states[channelId].settled = cumulativeAmount
    log Settled(
        channelId=channelId,
        payer=descriptor.payer,
        payee=descriptor.payee,
        cumulativeAmount=cumulativeAmount,
        deltaPaid=delta,
        newSettled=cumulativeAmount,
    )
    self.pay(descriptor.token, descriptor.payee, delta)


@internal
def finish(channel: Descriptor, channelId: bytes32, state: State, captured: uint96):
    self.states[channelId] = empty(State)
    refund: uint96 = state.deposit - captured
    log ChannelClosed(channelId=channelId, payer=channel.payer, payee=channel.payee, settledToPayee=captured, refundedToPayer=refund)
    self.pay(channel.token, channel.payee, captured - state.settled)
    self.pay(channel.token, channel.payer, refund)


@external
@nonreentrant
def close(descriptor: Descriptor, cumulativeAmount: uint96, captureAmount: uint96, signature: Bytes[MAX_SIGNATURE]):
    """Captures some of what the voucher allows, and no less than was settled."""
    self.payee_only(descriptor)
    channelId: bytes32 = self.identify(descriptor)
    state: State = self.living(channelId)
    if captureAmount > cumulativeAmount or captureAmount < state.settled:
        raw_revert(method_id("CaptureAmountInvalid()"))
    if captureAmount > state.settled:
        self.check(descriptor, channelId, state, cumulativeAmount, signature)
    self.finish(descriptor, channelId, state, captureAmount)


@external
def requestClose(descriptor: Descriptor):
    self.payer_only(descriptor)
    channelId: bytes32 = self.identify(descriptor)
    state: State = self.living(channelId)
    if state.closeRequestedAt == 0:
        self.states[channelId].closeRequestedAt = convert(block.timestamp, uint32)
        end: uint256 = block.timestamp + convert(CLOSE_GRACE_PERIOD, uint256)
        log CloseRequested(channelId=channelId, payer=descriptor.payer, payee=descriptor.payee, closeGraceEnd=end)


@external
@nonreentrant
def withdraw(descriptor: Descriptor):
    self.payer_only(descriptor)
    channelId: bytes32 = self.identify(descriptor)
    state: State = self.living(channelId)
    if state.closeRequestedAt == 0 or block.timestamp < convert(state.closeRequestedAt, uint256) + convert(CLOSE_GRACE_PERIOD, uint256):
        raw_revert(method_id("CloseNotReady()"))
    self.finish(descriptor, channelId, state, state.settled)
