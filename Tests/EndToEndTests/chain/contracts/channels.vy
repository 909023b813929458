# pragma version 0.4.3
"""
Streaming payment channels of the MPP drafts: what every escrow for them keeps and checks. `name` is the hash of the escrow's name in its EIP-712 domain.
"""

import signatures

MAX_SIGNATURE: constant(uint256) = 4096
GRACE: constant(uint64) = 900
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
VOUCHER: constant(bytes32) = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)")


struct Channel:
    payer: address
    payee: address
    token: address
    authorizedSigner: address
    deposit: uint128
    settled: uint128
    closeRequestedAt: uint64
    finalized: bool


event ChannelOpened:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    token: address
    authorizedSigner: address
    salt: bytes32
    deposit: uint256


event Settled:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    cumulativeAmount: uint256
    deltaPaid: uint256
    newSettled: uint256


event CloseRequested:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    closeGraceEnd: uint256


event CloseRequestCancelled:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)


event TopUp:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    additionalDeposit: uint256
    newDeposit: uint256


event ChannelClosed:
    channelId: indexed(bytes32)
    payer: indexed(address)
    payee: indexed(address)
    settledToPayee: uint256
    refundedToPayer: uint256


interface Token:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable
    def transferFrom(sender: address, receiver: address, amount: uint256) -> bool: nonpayable


channels: HashMap[bytes32, Channel]


@internal
@view
def separator(name: bytes32) -> bytes32:
    return keccak256(abi_encode(DOMAIN, name, keccak256("1"), chain.id, self))


@internal
@view
def digest(name: bytes32, structure: bytes32) -> bytes32:
    return keccak256(concat(b"\x19\x01", self.separator(name), structure))


@internal
@view
def voucher_digest(name: bytes32, channelId: bytes32, cumulativeAmount: uint128) -> bytes32:
    return self.digest(name, keccak256(abi_encode(VOUCHER, channelId, cumulativeAmount)))


@internal
@view
def identify(payer: address, payee: address, token: address, salt: bytes32, authorizedSigner: address) -> bytes32:
    return keccak256(abi_encode(payer, payee, token, salt, authorizedSigner, self, chain.id))


@internal
@view
def living(channelId: bytes32) -> Channel:
    channel: Channel = self.channels[channelId]
    if channel.payer == empty(address):
        raw_revert(method_id("ChannelNotFound()"))
    if channel.finalized:
        raw_revert(method_id("ChannelFinalized()"))
    return channel


@internal
def open(payer: address, payee: address, token: address, deposit: uint128, salt: bytes32, authorizedSigner: address) -> bytes32:
    """Records a channel. Its deposit is the caller's to pull."""
    if payee == empty(address):
        raw_revert(method_id("InvalidPayee()"))
    if deposit == 0:
        raw_revert(method_id("ZeroDeposit()"))
    channelId: bytes32 = self.identify(payer, payee, token, salt, authorizedSigner)
    if self.channels[channelId].payer != empty(address):
        raw_revert(method_id("ChannelAlreadyExists()"))
    self.channels[channelId] = Channel(
        payer=payer,
        payee=payee,
        token=token,
        authorizedSigner=authorizedSigner,
        deposit=deposit,
        settled=0,
        closeRequestedAt=0,
        finalized=False,
    )
    log ChannelOpened(
        channelId=channelId,
        payer=payer,
        payee=payee,
        token=token,
        authorizedSigner=authorizedSigner,
        salt=salt,
        deposit=convert(deposit, uint256),
    )
    return channelId


@internal
def top_up(channelId: bytes32, additionalDeposit: uint128):
    """Records more of a deposit. It is the caller's to pull."""
    channel: Channel = self.living(channelId)
    if additionalDeposit == 0:
        raw_revert(method_id("ZeroDeposit()"))
    if additionalDeposit > max_value(uint128) - channel.deposit:
        raw_revert(method_id("DepositOverflow()"))
    if channel.closeRequestedAt != 0:
        self.channels[channelId].closeRequestedAt = 0
        log CloseRequestCancelled(channelId=channelId, payer=channel.payer, payee=channel.payee)
    self.channels[channelId].deposit = channel.deposit + additionalDeposit
    log TopUp(
        channelId=channelId,
        payer=channel.payer,
        payee=channel.payee,
        additionalDeposit=convert(additionalDeposit, uint256),
        newDeposit=convert(channel.deposit + additionalDeposit, uint256),
    )


@internal
def pull(token: address, payer: address, amount: uint128):
    assert extcall Token(token).transferFrom(payer, self, convert(amount, uint256), default_return_value=True)


@internal
def pay(token: address, receiver: address, amount: uint128):
    if amount > 0:
        assert extcall Token(token).transfer(receiver, convert(amount, uint256), default_return_value=True)


@internal
@view
def check(name: bytes32, channel: Channel, channelId: bytes32, cumulativeAmount: uint128, signature: Bytes[MAX_SIGNATURE], compact: bool):
    if cumulativeAmount <= channel.settled:
        raw_revert(method_id("AmountNotIncreasing()"))
    if cumulativeAmount > channel.deposit:
        raw_revert(method_id("AmountExceedsDeposit()"))
    signer: address = channel.authorizedSigner if channel.authorizedSigner != empty(address) else channel.payer
    if not signatures.agrees(signer, self.voucher_digest(name, channelId, cumulativeAmount), signature, compact):
        raw_revert(method_id("InvalidSignature()"))


@internal
def settle(name: bytes32, channelId: bytes32, cumulativeAmount: uint128, signature: Bytes[MAX_SIGNATURE], compact: bool):
    channel: Channel = self.living(channelId)
    self.check(name, channel, channelId, cumulativeAmount, signature, compact)
    delta: uint128 = cumulativeAmount - channel.settled
    self.channels[channelId].settled = cumulativeAmount
    log Settled(
        channelId=channelId,
        payer=channel.payer,
        payee=channel.payee,
        cumulativeAmount=convert(cumulativeAmount, uint256),
        deltaPaid=convert(delta, uint256),
        newSettled=convert(cumulativeAmount, uint256),
    )
    self.pay(channel.token, channel.payee, delta)


@internal
def close(name: bytes32, channelId: bytes32, cumulativeAmount: uint128, signature: Bytes[MAX_SIGNATURE], compact: bool):
    """Settles what the voucher says, or nothing if it says no more than was settled, and refunds the rest."""
    channel: Channel = self.living(channelId)
    delta: uint128 = 0
    if cumulativeAmount > channel.settled:
        self.check(name, channel, channelId, cumulativeAmount, signature, compact)
        delta = cumulativeAmount - channel.settled
    self.finish(channelId, channel, delta)
    self.pay(channel.token, channel.payee, delta)


@internal
def finish(channelId: bytes32, channel: Channel, delta: uint128):
    refund: uint128 = channel.deposit - channel.settled - delta
    self.channels[channelId].settled = channel.settled + delta
    self.channels[channelId].finalized = True
    log ChannelClosed(
        channelId=channelId,
        payer=channel.payer,
        payee=channel.payee,
        settledToPayee=convert(channel.settled + delta, uint256),
        refundedToPayer=convert(refund, uint256),
    )
    self.pay(channel.token, channel.payer, refund)


@internal
@view
def payer_only(channelId: bytes32):
    if self.living(channelId).payer != msg.sender:
        raw_revert(method_id("NotPayer()"))


@internal
@view
def payee_only(channelId: bytes32):
    if self.living(channelId).payee != msg.sender:
        raw_revert(method_id("NotPayee()"))


@internal
def request_close(channelId: bytes32):
    channel: Channel = self.living(channelId)
    if channel.closeRequestedAt == 0:
        self.channels[channelId].closeRequestedAt = convert(block.timestamp, uint64)
        log CloseRequested(
            channelId=channelId,
            payer=channel.payer,
            payee=channel.payee,
            closeGraceEnd=block.timestamp + convert(GRACE, uint256),
        )


@internal
def withdraw(channelId: bytes32):
    channel: Channel = self.living(channelId)
    if channel.closeRequestedAt == 0 or block.timestamp < convert(channel.closeRequestedAt + GRACE, uint256):
        raw_revert(method_id("CloseNotReady()"))
    self.finish(channelId, channel, 0)
