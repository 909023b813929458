# pragma version 0.4.3
"""
The escrow of the MPP draft "evm session": the mandatory core, and the whole profile of relayed operations.
"""

import channels
import signatures

initializes: channels

MAX_SIGNATURE: constant(uint256) = 4096
NAME: constant(bytes32) = keccak256("EVM Payment Channel")
SETTLE: constant(bytes32) = keccak256("SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)")
CLOSE: constant(bytes32) = keccak256("CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)")
OPEN_WITNESS: constant(bytes32) = keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)")
OPEN_KIND: constant(String[256]) = "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)"
TOP_UP_WITNESS: constant(bytes32) = keccak256("ChannelTopUpWitness(bytes32 channelId)")
TOP_UP_KIND: constant(String[256]) = "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)"
PERMIT2: public(constant(address)) = 0x000000000022D473030F116dDEE9F6B43aC78BA3
CLOSE_GRACE_PERIOD: public(constant(uint64)) = 900
VOUCHER_TYPEHASH: public(constant(bytes32)) = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)")


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


interface SignatureTransfer:
    def permitWitnessTransferFrom(
        permit: PermitTransferFrom,
        details: SignatureTransferDetails,
        owner: address,
        witness: bytes32,
        kind: String[256],
        signature: Bytes[MAX_SIGNATURE],
    ): nonpayable


interface Authorizing:
    def receiveWithAuthorization(
        sender: address, receiver: address, amount: uint256, after: uint256, before: uint256, nonce: bytes32, signature: Bytes[MAX_SIGNATURE]
    ): nonpayable


used: HashMap[address, HashMap[bytes32, HashMap[uint256, bool]]]


# What anybody may read.

@external
@view
def getChannel(channelId: bytes32) -> channels.Channel:
    return channels.channels[channelId]


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


# The mandatory core.

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
    channels.settle(NAME, channelId, cumulativeAmount, signature, False)


@external
@nonreentrant
def close(channelId: bytes32, cumulativeAmount: uint128, signature: Bytes[MAX_SIGNATURE]):
    channels.payee_only(channelId)
    channels.close(NAME, channelId, cumulativeAmount, signature, False)


@external
def requestClose(channelId: bytes32):
    channels.payer_only(channelId)
    channels.request_close(channelId)


@external
@nonreentrant
def withdraw(channelId: bytes32):
    channels.payer_only(channelId)
    channels.withdraw(channelId)


# Relayed: the payer pays by a signature, and anybody submits it.

@internal
def pull_authorized(
    token: address, sender: address, amount: uint128, after: uint256, before: uint256, nonce: bytes32, signature: Bytes[MAX_SIGNATURE]
):
    extcall Authorizing(token).receiveWithAuthorization(sender, self, convert(amount, uint256), after, before, nonce, signature)


@internal
def pull_permitted(
    token: address,
    owner: address,
    amount: uint128,
    nonce: uint256,
    deadline: uint256,
    witness: bytes32,
    kind: String[256],
    signature: Bytes[MAX_SIGNATURE],
):
    permitted: TokenPermissions = TokenPermissions(token=token, amount=convert(amount, uint256))
    permit: PermitTransferFrom = PermitTransferFrom(permitted=permitted, nonce=nonce, deadline=deadline)
    details: SignatureTransferDetails = SignatureTransferDetails(to=self, requestedAmount=convert(amount, uint256))
    extcall SignatureTransfer(PERMIT2).permitWitnessTransferFrom(permit, details, owner, witness, kind, signature)


@external
@nonreentrant
def openWithAuthorization(
    payee: address,
    token: address,
    deposit: uint128,
    salt: bytes32,
    authorizedSigner: address,
    sender: address,
    validAfter: uint256,
    validBefore: uint256,
    nonce: bytes32,
    signature: Bytes[MAX_SIGNATURE],
) -> bytes32:
    if nonce != keccak256(abi_encode(sender, payee, token, salt, authorizedSigner)):
        raw_revert(method_id("NonceMismatch()"))
    channelId: bytes32 = channels.open(sender, payee, token, deposit, salt, authorizedSigner)
    self.pull_authorized(token, sender, deposit, validAfter, validBefore, nonce, signature)
    return channelId


@external
@nonreentrant
def openWithPermit2(
    payee: address,
    token: address,
    deposit: uint128,
    salt: bytes32,
    authorizedSigner: address,
    sender: address,
    nonce: uint256,
    deadline: uint256,
    signature: Bytes[MAX_SIGNATURE],
) -> bytes32:
    channelId: bytes32 = channels.open(sender, payee, token, deposit, salt, authorizedSigner)
    witness: bytes32 = keccak256(abi_encode(OPEN_WITNESS, payee, salt, authorizedSigner))
    self.pull_permitted(token, sender, deposit, nonce, deadline, witness, OPEN_KIND, signature)
    return channelId


@external
@nonreentrant
def topUpWithAuthorization(
    channelId: bytes32,
    additionalDeposit: uint128,
    sender: address,
    topUpSalt: bytes32,
    validAfter: uint256,
    validBefore: uint256,
    nonce: bytes32,
    signature: Bytes[MAX_SIGNATURE],
):
    if nonce != keccak256(abi_encode(channelId, additionalDeposit, sender, topUpSalt)):
        raw_revert(method_id("NonceMismatch()"))
    channels.top_up(channelId, additionalDeposit)
    token: address = channels.channels[channelId].token
    self.pull_authorized(token, sender, additionalDeposit, validAfter, validBefore, nonce, signature)


@external
@nonreentrant
def topUpWithPermit2(
    channelId: bytes32, additionalDeposit: uint128, sender: address, nonce: uint256, deadline: uint256, signature: Bytes[MAX_SIGNATURE]
):
    channels.top_up(channelId, additionalDeposit)
    witness: bytes32 = keccak256(abi_encode(TOP_UP_WITNESS, channelId))
    token: address = channels.channels[channelId].token
    self.pull_permitted(token, sender, additionalDeposit, nonce, deadline, witness, TOP_UP_KIND, signature)


# Relayed: the payee authorizes a settlement by a signature, and anybody submits it.

@internal
def authorize(kind: bytes32, channelId: bytes32, cumulativeAmount: uint128, nonce: uint256, deadline: uint256, signature: Bytes[MAX_SIGNATURE]):
    payee: address = channels.living(channelId).payee
    if block.timestamp > deadline:
        raw_revert(method_id("AuthorizationExpired()"))
    if self.used[payee][channelId][nonce]:
        raw_revert(method_id("NonceAlreadyUsed()"))
    digest: bytes32 = channels.digest(NAME, keccak256(abi_encode(kind, channelId, cumulativeAmount, nonce, deadline)))
    if not signatures.agrees(payee, digest, signature, False):
        raw_revert(method_id("InvalidSignature()"))
    self.used[payee][channelId][nonce] = True


@external
@nonreentrant
def settleWithAuthorization(
    channelId: bytes32,
    cumulativeAmount: uint128,
    nonce: uint256,
    deadline: uint256,
    payeeSignature: Bytes[MAX_SIGNATURE],
    voucherSignature: Bytes[MAX_SIGNATURE],
):
    self.authorize(SETTLE, channelId, cumulativeAmount, nonce, deadline, payeeSignature)
    channels.settle(NAME, channelId, cumulativeAmount, voucherSignature, False)


@external
@nonreentrant
def closeWithAuthorization(
    channelId: bytes32,
    cumulativeAmount: uint128,
    nonce: uint256,
    deadline: uint256,
    payeeSignature: Bytes[MAX_SIGNATURE],
    voucherSignature: Bytes[MAX_SIGNATURE],
):
    self.authorize(CLOSE, channelId, cumulativeAmount, nonce, deadline, payeeSignature)
    channels.close(NAME, channelId, cumulativeAmount, voucherSignature, False)
