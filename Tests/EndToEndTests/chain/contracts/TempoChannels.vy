# pragma version 0.4.3
"""
The escrow of the MPP draft "tempo session", version 1, as it stands on Tempo: a channel is read in another order than the draft writes it.
"""

import channels

initializes: channels

MAX_SIGNATURE: constant(uint256) = 4096
NAME: constant(bytes32) = keccak256("Tempo Stream Channel")
CLOSE_GRACE_PERIOD: public(constant(uint64)) = 900
VOUCHER_TYPEHASH: public(constant(bytes32)) = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)")


struct State:
    finalized: bool
    closeRequestedAt: uint64
    payer: address
    payee: address
    token: address
    authorizedSigner: address
    deposit: uint128
    settled: uint128


@internal
@view
def state(channelId: bytes32) -> State:
    channel: channels.Channel = channels.channels[channelId]
    return State(
        finalized=channel.finalized,
        closeRequestedAt=channel.closeRequestedAt,
        payer=channel.payer,
        payee=channel.payee,
        token=channel.token,
        authorizedSigner=channel.authorizedSigner,
        deposit=channel.deposit,
        settled=channel.settled,
    )


@external
@view
def getChannel(channelId: bytes32) -> State:
    return self.state(channelId)


@external
@view
def getChannelsBatch(channelIds: DynArray[bytes32, 32]) -> DynArray[State, 32]:
    states: DynArray[State, 32] = []
    for channelId: bytes32 in channelIds:
        states.append(self.state(channelId))
    return states


@external
@view
def computeChannelId(payer: address, payee: address, token: address, salt: bytes32, authorizedSigner: address) -> bytes32:
    return channels.identify(payer, payee, token, salt, authorizedSigner)


@external
@view
def getVoucherDigest(channelId: bytes32, cumulativeAmount: uint128) -> bytes32:
    return channels.voucher_digest(NAME, channelId, cumulativeAmount)


@external
@view
def domainSeparator() -> bytes32:
    return channels.separator(NAME)


@external
@nonreentrant
def open(payee: address, token: address, deposit: uint128, salt: bytes32, authorizedSigner: address) -> bytes32:
    channelId: bytes32 = channels.open(msg.sender, payee, token, deposit, salt, authorizedSigner)
    channels.pull(token, msg.sender, deposit)
    return channelId


@external
@nonreentrant
def topUp(channelId: bytes32, additionalDeposit: uint128):
    channels.payer_only(channelId)
    channels.top_up(channelId, additionalDeposit)
    channels.pull(channels.channels[channelId].token, msg.sender, additionalDeposit)


@external
@nonreentrant
def settle(channelId: bytes32, cumulativeAmount: uint128, signature: Bytes[MAX_SIGNATURE]):
    channels.payee_only(channelId)
    channels.settle(NAME, channelId, cumulativeAmount, signature, True)


@external
@nonreentrant
def close(channelId: bytes32, cumulativeAmount: uint128, signature: Bytes[MAX_SIGNATURE]):
    channels.payee_only(channelId)
    channels.close(NAME, channelId, cumulativeAmount, signature, True)


@external
def requestClose(channelId: bytes32):
    channels.payer_only(channelId)
    channels.request_close(channelId)


@external
@nonreentrant
def withdraw(channelId: bytes32):
    channels.payer_only(channelId)
    channels.withdraw(channelId)
