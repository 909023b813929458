"""The contracts of the tests' chain: each function once and each refusal once, against signatures of eth-account."""

import os
import time

import pytest
from eth_abi import encode
from eth_utils import keccak

from chain.contracts import Contract, compiled, deploy
from chain.evm import Refusal
from chain.node import Node
from chain.wallet import (
    EXACT_WITNESS,
    MAXIMUM,
    OPEN_WITNESS,
    PAYMENT_WITNESS,
    TOP_UP_WITNESS,
    UPTO_WITNESS,
    ZERO,
    authorization,
    channel_domain,
    channel_id,
    compact,
    digest,
    malleated,
    new_account,
    open_nonce,
    payee_message,
    permit2_message,
    permit_message,
    sign,
    token_domain,
    top_up_nonce,
    typed,
    voucher_message,
    vrs,
    witness_hash,
    witness_type,
)

SOON = int(time.time()) + 3600


@pytest.fixture
def bob():
    return new_account()


@pytest.fixture
def domain(node, usdc):
    return token_domain(node.chain_id, usdc.address)


@pytest.fixture(scope="module")
def permit2(node):
    return Contract(node.rpc, "Permit2", "permit2")


@pytest.fixture
def approved(payer, usdc, permit2):
    """A payer who has approved Permit2."""
    usdc.run(payer, "approve", permit2.address, MAXIMUM)
    return payer


def refused(contract, name, *arguments, sender=None):
    """The error with which a call is refused: its reason, or the four octets of its name."""
    with pytest.raises(Refusal) as caught:
        contract.call(name, *arguments, sender=sender)
    assert caught.value.code == 3, caught.value.message
    text = caught.value.message.removeprefix("execution reverted").removeprefix(": ")
    return text or caught.value.data[:10]


def error(signature):
    """The four octets of an error's name."""
    return "0x" + keccak(text=signature)[:4].hex()


def test_overloads_run_on_the_storage_of_what_they_overload():
    for name in ("Token", "Permit2"):
        assert compiled()[name]["layout"] == compiled()[f"{name}Overloads"]["layout"]


# The token.


def test_the_token_is_approved_by_permit(node, usdc, payer, bob, domain):
    message = permit_message(domain, payer.address, bob.address, 50, 0, SOON)
    usdc.run(payer, "permit", payer.address, bob.address, 50, SOON, *vrs(sign(payer, message)))
    assert usdc.call("allowance", payer.address, bob.address) == 50 and usdc.call("nonces", payer.address) == 1
    assert refused(usdc, "permit", payer.address, bob.address, 50, SOON, *vrs(sign(payer, message))) == "EIP2612: invalid signature"
    assert refused(usdc, "permit", payer.address, bob.address, 50, 1, *vrs(sign(payer, message))) == "FiatTokenV2: permit is expired"
    node.fund(bob.address)
    usdc.run(bob, "transferFrom", payer.address, bob.address, 20)
    assert usdc.call("allowance", payer.address, bob.address) == 30
    assert refused(usdc, "transferFrom", payer.address, bob.address, 31, sender=bob.address) == "ERC20: transfer amount exceeds allowance"


def test_the_token_takes_signatures_as_one_string(node, usdc, payer, bob, domain, rich):
    for name in ("transferWithAuthorization", "receiveWithAuthorization"):
        kind = name[0].upper() + name[1:]
        sender = payer if name[0] == "t" else bob
        node.fund(bob.address)
        arguments, message = authorization(domain, payer.address, bob.address, 10, kind=kind)
        overload = Contract(node.rpc, "TokenOverloads", usdc.address)
        overload.run(sender, name, *arguments, sign(payer, message))
        assert refused(overload, name, *arguments, sign(payer, message), sender=sender.address) == "FiatTokenV2: authorization is used or canceled"
    assert usdc.call("balanceOf", bob.address) == 20
    arguments, message = authorization(domain, payer.address, bob.address, 10, kind="ReceiveWithAuthorization")
    usdc.run(bob, "receiveWithAuthorization", *arguments, *vrs(sign(payer, message)))
    assert usdc.call("balanceOf", bob.address) == 30


def test_an_authorization_is_cancelled(node, usdc, payer, bob, domain, rich):
    arguments, message = authorization(domain, payer.address, bob.address, 10)
    members = {"authorizer": payer.address, "nonce": arguments[5]}
    cancel = sign(payer, typed(domain, "CancelAuthorization", "address authorizer,bytes32 nonce", members))
    receipt = usdc.run(rich, "cancelAuthorization", payer.address, arguments[5], *vrs(cancel))
    assert usdc.logs(receipt)[0][0] == "AuthorizationCanceled"
    assert refused(usdc, "transferWithAuthorization", *arguments, *vrs(sign(payer, message))) == "FiatTokenV2: authorization is used or canceled"
    overload = Contract(node.rpc, "TokenOverloads", usdc.address)
    assert refused(overload, "cancelAuthorization", payer.address, os.urandom(32), cancel) == "FiatTokenV2: invalid signature"


def test_a_contract_pays_by_its_own_signature_only(node, usdc, payer, bob, domain, rich):
    wallet = deploy(node.rpc, rich, "SmartWallet", payer.address)
    usdc.run(rich, "mint", wallet.address, 100)
    overload = Contract(node.rpc, "TokenOverloads", usdc.address)
    arguments, message = authorization(domain, wallet.address, bob.address, 60)
    assert refused(overload, "transferWithAuthorization", *arguments, sign(bob, message)) == "FiatTokenV2: invalid signature"
    overload.run(rich, "transferWithAuthorization", *arguments, sign(payer, message))
    assert usdc.call("balanceOf", bob.address) == 60
    wallet.run(payer, "execute", usdc.address, bytes.fromhex(usdc.data("transfer", bob.address, 40)[2:]))
    assert usdc.call("balanceOf", bob.address) == 100
    wallet.run(payer, "rotate", bob.address)
    assert wallet.call("isValidSignature", digest(message), sign(payer, message)) == bytes.fromhex("ffffffff")
    assert refused(wallet, "execute", usdc.address, b"", sender=payer.address) == "not the owner"


# Permit2.


def test_permit2_moves_one_token(node, usdc, permit2, approved, bob, rich):
    assert permit2.call("DOMAIN_SEPARATOR") == permit2_message(node.chain_id, (usdc.address, 1), bob.address, 0, 0).header
    message = permit2_message(node.chain_id, (usdc.address, 100), rich.address, 7, SOON)
    call = ("permitTransferFrom", ((usdc.address, 100), 7, SOON), (bob.address, 60), approved.address)
    permit2.run(rich, *call, sign(approved, message))
    assert usdc.call("balanceOf", bob.address) == 60 and permit2.call("nonceBitmap", approved.address, 0) == 1 << 7
    assert refused(permit2, *call, sign(approved, message), sender=rich.address) == error("InvalidNonce()")


def test_permit2_moves_several_tokens(node, usdc, permit2, approved, bob, rich):
    carol = new_account()
    batch = Contract(node.rpc, "Permit2Overloads", permit2.address)
    permitted = [(usdc.address, 100), (usdc.address, 5)]
    message = permit2_message(node.chain_id, permitted, rich.address, 300, SOON)
    batch.run(rich, "permitTransferFrom", (permitted, 300, SOON), [(bob.address, 100), (carol.address, 5)], approved.address, sign(approved, message))
    assert (usdc.call("balanceOf", bob.address), usdc.call("balanceOf", carol.address)) == (100, 5)
    assert permit2.call("nonceBitmap", approved.address, 1) == 1 << 44
    call = ((permitted, 301, SOON), [(bob.address, 100)], approved.address, b"")
    assert refused(batch, "permitTransferFrom", *call) == error("LengthMismatch()")


def test_permit2_binds_a_witness(node, usdc, permit2, approved, bob, rich):
    values = {"challengeHash": keccak(text="challenge"), "externalId": "order 7"}
    permit, details = ((usdc.address, 100), 1, SOON), (bob.address, 100)
    witness = witness_hash(PAYMENT_WITNESS, values), witness_type(PAYMENT_WITNESS)
    message = permit2_message(node.chain_id, (usdc.address, 100), rich.address, 1, SOON, PAYMENT_WITNESS, values)
    call = ("permitWitnessTransferFrom", permit, details, approved.address)
    other = witness_hash(PAYMENT_WITNESS, values | {"externalId": ""})
    assert refused(permit2, *call, other, witness[1], sign(approved, message), sender=rich.address) == error("InvalidSigner()")
    permit2.run(rich, *call, *witness, sign(approved, message))
    batch = Contract(node.rpc, "Permit2Overloads", permit2.address)
    permitted = [(usdc.address, 3), (usdc.address, 4)]
    message = permit2_message(node.chain_id, permitted, rich.address, 2, SOON, PAYMENT_WITNESS, values)
    moves = [(bob.address, 3), (bob.address, 4)]
    batch.run(rich, "permitWitnessTransferFrom", (permitted, 2, SOON), moves, approved.address, *witness, compact(sign(approved, message)))
    assert usdc.call("balanceOf", bob.address) == 107


def test_permit2_refuses(node, usdc, permit2, approved, bob, rich):
    def why(amount=100, asked=100, deadline=SOON, signer=approved, change=lambda signature: signature, owner=approved.address, spender=rich.address):
        message = permit2_message(node.chain_id, (usdc.address, amount), rich.address, 9, deadline)
        call = ((usdc.address, amount), 9, deadline), (bob.address, asked), owner, change(sign(signer, message))
        return refused(permit2, "permitTransferFrom", *call, sender=spender)

    assert why(deadline=1) == error("SignatureExpired(uint256)")
    assert why(asked=101) == error("InvalidAmount(uint256)")
    assert why(signer=bob) == why(spender=bob.address) == error("InvalidSigner()")
    assert why(change=lambda signature: signature[:63]) == error("InvalidSignatureLength()")
    assert why(change=lambda signature: signature[:64] + b"\5") == error("InvalidSignature()")
    assert why(owner=deploy(node.rpc, rich, "SmartWallet", bob.address).address) == error("InvalidContractSignature()")
    assert why(amount=10**9, asked=10**9) == "TRANSFER_FROM_FAILED"
    permit2.run(approved, "invalidateUnorderedNonces", 0, 1 << 9)
    assert why() == error("InvalidNonce()")


# x402's proxies.


def test_the_exact_proxy_pays_whom_the_witness_names(node, usdc, approved, bob, rich, domain):
    proxy = Contract(node.rpc, "X402ExactProxy", "exact-proxy")
    values = {"to": bob.address, "validAfter": 0}
    message = permit2_message(node.chain_id, (usdc.address, 100), proxy.address, 1, SOON, EXACT_WITNESS, values)
    permit, signature = ((usdc.address, 100), 1, SOON), sign(approved, message)
    assert proxy.call("WITNESS_TYPE_STRING") == witness_type(EXACT_WITNESS)
    assert refused(proxy, "settle", permit, approved.address, (rich.address, 0), signature) == error("InvalidSigner()")
    assert refused(proxy, "settle", permit, approved.address, (bob.address, SOON), signature) == error("PaymentTooEarly()")
    assert refused(proxy, "settle", permit, approved.address, (ZERO, 0), signature) == error("InvalidDestination()")
    assert refused(proxy, "settle", permit, ZERO, (bob.address, 0), signature) == error("InvalidOwner()")
    proxy.run(rich, "settle", permit, approved.address, (bob.address, 0), signature)
    assert usdc.call("balanceOf", bob.address) == 100


def test_the_exact_proxy_approves_by_permit_first(node, usdc, payer, bob, rich, domain, permit2):
    proxy = Contract(node.rpc, "X402ExactProxy", "exact-proxy")
    message = permit2_message(node.chain_id, (usdc.address, 100), proxy.address, 1, SOON, EXACT_WITNESS, {"to": bob.address, "validAfter": 0})
    v, r, s = vrs(sign(payer, permit_message(domain, payer.address, permit2.address, 100, 0, SOON)))
    call = ((usdc.address, 100), 1, SOON), payer.address, (bob.address, 0), sign(payer, message)
    assert refused(proxy, "settleWithPermit", (99, SOON, r, s, v), *call) == error("Permit2612AmountMismatch()")
    proxy.run(rich, "settleWithPermit", (100, SOON, r, s, v), *call)
    assert usdc.call("balanceOf", bob.address) == 100


def test_the_upto_proxy_pays_what_its_facilitator_says(node, usdc, approved, bob, rich):
    proxy = Contract(node.rpc, "X402UptoProxy", "upto-proxy")
    witness = (bob.address, rich.address, 0)
    values = dict(zip(("to", "facilitator", "validAfter"), witness))
    message = permit2_message(node.chain_id, (usdc.address, 100), proxy.address, 1, SOON, UPTO_WITNESS, values)
    permit, signature = ((usdc.address, 100), 1, SOON), sign(approved, message)
    assert refused(proxy, "settle", permit, 30, approved.address, witness, signature) == error("UnauthorizedFacilitator()")
    assert refused(proxy, "settle", permit, 101, approved.address, witness, signature, sender=rich.address) == error("AmountExceedsPermitted()")
    assert refused(proxy, "settle", permit, 0, approved.address, witness, signature, sender=rich.address) == error("InvalidAmount()")
    proxy.run(rich, "settle", permit, 30, approved.address, witness, signature)
    assert usdc.call("balanceOf", bob.address) == 30
    assert refused(proxy, "settle", permit, 30, approved.address, witness, signature, sender=rich.address) == error("InvalidNonce()")


# The escrows of MPP sessions.


@pytest.fixture(scope="module")
def later(rich):
    """A chain whose clock may be set forward."""
    with Node(accounts={rich.address: 10**24}) as node:
        yield node


class Stand:
    """A channel's two sides on a chain of their own."""

    def __init__(self, node, rich, escrow, name, contract="EvmChannels"):
        self.node, self.rich = node, rich
        self.payer, self.payee = new_account(), new_account()
        self.token = Contract(node.rpc, "Token", "usdc")
        self.escrow = Contract(node.rpc, contract, escrow)
        self.domain = channel_domain(node.chain_id, self.escrow.address, name)
        self.salt = os.urandom(32)
        for account in (self.payer, self.payee):
            node.fund(account.address)
        self.token.run(rich, "mint", self.payer.address, 10_000)
        for spender in (self.escrow.address, Contract(node.rpc, "Permit2", "permit2").address):
            self.token.run(self.payer, "approve", spender, MAXIMUM)
        self.id = self.identify()

    def identify(self, signer=ZERO):
        return channel_id(self.node.chain_id, self.escrow.address, self.payer.address, self.payee.address, self.token.address, self.salt, signer)

    def open(self, deposit=1000, signer=ZERO):
        receipt = self.escrow.run(self.payer, "open", self.payee.address, self.token.address, deposit, self.salt, signer)
        self.id = self.identify(signer)
        return receipt

    def voucher(self, amount, signer=None):
        return sign(signer or self.payer, voucher_message(self.domain, self.id, amount))

    def why(self, account, name, *arguments):
        return refused(self.escrow, name, *arguments, sender=account.address)

    def balances(self):
        return tuple(self.token.call("balanceOf", who) for who in (self.payer.address, self.payee.address, self.escrow.address))

    def held(self):
        """What the escrow held before this stand."""
        return self.token.call("balanceOf", self.escrow.address)


@pytest.fixture
def stand(later, rich):
    return Stand(later, rich, "evm-channels", "EVM Payment Channel")


def test_a_channel_is_opened_settled_and_closed(stand):
    held = stand.held()
    names = [name for name, _ in stand.escrow.logs(stand.open(1000))]
    assert names == ["ChannelOpened"] and stand.id == stand.escrow.call(
        "computeChannelId", stand.payer.address, stand.payee.address, stand.token.address, stand.salt, ZERO)
    assert stand.escrow.call("domainSeparator") == voucher_message(stand.domain, stand.id, 1).header
    assert stand.escrow.call("getVoucherDigest", stand.id, 77) == digest(voucher_message(stand.domain, stand.id, 77))
    stand.escrow.run(stand.payee, "settle", stand.id, 300, stand.voucher(300))
    stand.escrow.run(stand.payer, "topUp", stand.id, 500)
    receipt = stand.escrow.run(stand.payee, "close", stand.id, 700, stand.voucher(700))
    assert stand.escrow.logs(receipt)[0][1]["refundedToPayer"] == 800
    assert stand.balances() == (10_000 - 700, 700, held)
    channel = stand.escrow.call("getChannel", stand.id)
    assert channel == (stand.payer.address.lower(), stand.payee.address.lower(), stand.token.address.lower(), ZERO, 1500, 700, 0, True)


def test_a_channel_is_closed_by_force_after_its_grace(stand):
    held = stand.held()
    stand.open(1000)
    stand.escrow.run(stand.payee, "settle", stand.id, 100, stand.voucher(100))
    assert stand.why(stand.payer, "withdraw", stand.id) == error("CloseNotReady()")
    stand.escrow.run(stand.payer, "requestClose", stand.id)
    stand.escrow.run(stand.payer, "topUp", stand.id, 1)
    assert stand.escrow.call("getChannel", stand.id)[6] == 0
    stand.escrow.run(stand.payer, "requestClose", stand.id)
    stand.node.advance(800)
    assert stand.why(stand.payer, "withdraw", stand.id) == error("CloseNotReady()")
    stand.escrow.run(stand.payee, "settle", stand.id, 150, stand.voucher(150))
    stand.node.advance(200)
    stand.escrow.run(stand.payer, "withdraw", stand.id)
    assert stand.balances() == (9_850, 150, held)
    assert stand.why(stand.payer, "withdraw", stand.id) == stand.why(stand.payer, "requestClose", stand.id) == error("ChannelFinalized()")


def test_the_escrow_refuses(stand):
    stand.open(1000)
    assert stand.why(stand.payer, "open", stand.payee.address, stand.token.address, 5, stand.salt, ZERO) == error("ChannelAlreadyExists()")
    assert stand.why(stand.payer, "open", stand.payee.address, stand.token.address, 0, os.urandom(32), ZERO) == error("ZeroDeposit()")
    assert stand.why(stand.payer, "open", ZERO, stand.token.address, 5, stand.salt, ZERO) == error("InvalidPayee()")
    assert stand.why(stand.payee, "settle", os.urandom(32), 1, b"") == error("ChannelNotFound()")
    for name in ("settle", "close"):
        assert stand.why(stand.payer, name, stand.id, 1, stand.voucher(1)) == error("NotPayee()")
        assert stand.why(stand.payee, name, stand.id, 1001, stand.voucher(1001)) == error("AmountExceedsDeposit()")
        for bad in (stand.voucher(2), stand.voucher(1, stand.payee), malleated(stand.voucher(1)), b"", compact(stand.voucher(1))):
            assert stand.why(stand.payee, name, stand.id, 1, bad) == error("InvalidSignature()")
    for name, more in (("topUp", (1,)), ("requestClose", ()), ("withdraw", ())):
        assert stand.why(stand.payee, name, stand.id, *more) == error("NotPayer()")
    assert stand.why(stand.payer, "topUp", stand.id, 0) == error("ZeroDeposit()")
    assert stand.why(stand.payer, "topUp", stand.id, 2**128 - 1) == error("DepositOverflow()")
    stand.escrow.run(stand.payee, "settle", stand.id, 10, stand.voucher(10))
    assert stand.why(stand.payee, "settle", stand.id, 10, stand.voucher(10)) == error("AmountNotIncreasing()")
    stand.escrow.run(stand.payee, "close", stand.id, 10, b"")
    assert stand.why(stand.payee, "settle", stand.id, 11, stand.voucher(11)) == error("ChannelFinalized()")
    assert stand.why(stand.payer, "open", stand.payee.address, stand.token.address, 5, stand.salt, ZERO) == error("ChannelAlreadyExists()")


def test_a_named_signer_signs_and_a_wallet_may_be_one(stand):
    key = new_account()
    stand.open(1000, key.address)
    assert stand.why(stand.payee, "settle", stand.id, 5, stand.voucher(5)) == error("InvalidSignature()")
    stand.escrow.run(stand.payee, "settle", stand.id, 5, stand.voucher(5, key))
    wallet = deploy(stand.node.rpc, stand.rich, "SmartWallet", key.address)
    stand.salt = os.urandom(32)
    stand.open(1000, wallet.address)
    stand.escrow.run(stand.payee, "close", stand.id, 9, stand.voucher(9, key))
    assert stand.token.call("balanceOf", stand.payee.address) == 14


def test_a_channel_is_opened_and_filled_by_authorizations(stand):
    held, token = stand.held(), token_domain(stand.node.chain_id, stand.token.address)
    soon = stand.node.chain.now() + 600

    def pull(amount, nonce):
        arguments, message = authorization(token, stand.payer.address, stand.escrow.address, amount, 0, soon, nonce, "ReceiveWithAuthorization")
        return arguments[3:], sign(stand.payer, message)

    channel = (stand.payee.address, stand.token.address, 400, stand.salt, ZERO, stand.payer.address)
    times, signature = pull(400, open_nonce(stand.payer.address, stand.payee.address, stand.token.address, stand.salt))
    stolen = (stand.rich.address, *channel[1:])
    assert stand.why(stand.rich, "openWithAuthorization", *stolen, *times, signature) == error("NonceMismatch()")
    stand.escrow.run(stand.rich, "openWithAuthorization", *channel, *times, signature)
    salt = os.urandom(32)
    times, signature = pull(50, top_up_nonce(stand.id, 50, stand.payer.address, salt))
    assert stand.why(stand.rich, "topUpWithAuthorization", stand.id, 50, stand.payer.address, os.urandom(32), *times, signature) == error("NonceMismatch()")
    stand.escrow.run(stand.rich, "topUpWithAuthorization", stand.id, 50, stand.payer.address, salt, *times, signature)
    assert stand.balances() == (9_550, 0, held + 450)


def test_a_channel_is_opened_and_filled_by_permit2(stand):
    held, soon = stand.held(), stand.node.chain.now() + 600

    def pull(amount, nonce, witness, values):
        message = permit2_message(stand.node.chain_id, (stand.token.address, amount), stand.escrow.address, nonce, soon, witness, values)
        return nonce, soon, sign(stand.payer, message)

    values = {"payee": stand.payee.address, "salt": stand.salt, "authorizedSigner": ZERO}
    channel = (stand.payee.address, stand.token.address, 400, stand.salt, ZERO, stand.payer.address)
    signed = pull(400, 1, OPEN_WITNESS, values)
    assert stand.why(stand.rich, "openWithPermit2", stand.rich.address, *channel[1:], *signed) == error("InvalidSigner()")
    stand.escrow.run(stand.rich, "openWithPermit2", *channel, *signed)
    stand.escrow.run(stand.rich, "topUpWithPermit2", stand.id, 50, stand.payer.address, *pull(50, 2, TOP_UP_WITNESS, {"channelId": stand.id}))
    assert stand.balances() == (9_550, 0, held + 450)


def test_a_payee_settles_and_closes_by_signatures(stand):
    held, soon = stand.held(), stand.node.chain.now() + 600
    stand.open(1000)

    def call(kind, amount, nonce, deadline=soon, signer=stand.payee):
        return stand.id, amount, nonce, deadline, sign(signer, payee_message(stand.domain, kind, stand.id, amount, nonce, deadline)), stand.voucher(amount)

    settle, close = "settleWithAuthorization", "closeWithAuthorization"
    assert stand.why(stand.rich, settle, *call("SettleAuthorization", 9, 1, 1)) == error("AuthorizationExpired()")
    assert stand.why(stand.rich, settle, *call("SettleAuthorization", 9, 1, signer=stand.payer)) == error("InvalidSignature()")
    assert stand.why(stand.rich, settle, *call("CloseAuthorization", 9, 1)) == error("InvalidSignature()")
    stand.escrow.run(stand.rich, settle, *call("SettleAuthorization", 9, 1))
    assert stand.why(stand.rich, close, *call("CloseAuthorization", 20, 1)) == error("NonceAlreadyUsed()")
    stand.escrow.run(stand.rich, close, *call("CloseAuthorization", 20, 2))
    assert stand.balances() == (9_980, 20, held)


def test_the_escrow_of_tempo(later, rich):
    stand = Stand(later, rich, "tempo-channels", "Tempo Stream Channel", "TempoChannels")
    held = stand.held()
    stand.open(1000)
    assert stand.escrow.call("getVoucherDigest", stand.id, 7) == digest(voucher_message(stand.domain, stand.id, 7))
    stand.escrow.run(stand.payee, "settle", stand.id, 7, compact(stand.voucher(7)))
    stand.escrow.run(stand.payer, "topUp", stand.id, 10)
    assert stand.escrow.call("getChannelsBatch", [stand.id])[0][6:] == (1010, 7)
    stand.escrow.run(stand.payer, "requestClose", stand.id)
    assert stand.why(stand.payer, "withdraw", stand.id) == error("CloseNotReady()")
    receipt = stand.escrow.run(stand.payee, "close", stand.id, 20, stand.voucher(20))
    assert [name for name, _ in stand.escrow.logs(receipt)] == ["ChannelClosed"] and stand.balances() == (9_980, 20, held)
    assert stand.escrow.call("getChannel", stand.id)[0] is True


# x402's escrow for batch-settlement.


CONFIG = "address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt"


class Batch:
    def __init__(self, node, rich):
        self.node, self.rich = node, rich
        self.payer, self.receiver = new_account(), new_account()
        self.token = Contract(node.rpc, "Token", "usdc")
        self.escrow = Contract(node.rpc, "BatchSettlement", "batch-settlement")
        for account in (self.payer, self.receiver):
            node.fund(account.address)
        self.token.run(rich, "mint", self.payer.address, 10_000)
        self.token.run(self.payer, "approve", Contract(node.rpc, "Permit2", "permit2").address, MAXIMUM)
        self.domain = channel_domain(node.chain_id, self.escrow.address, "x402 Batch Settlement")
        self.config = (self.payer.address, self.payer.address, self.receiver.address, self.receiver.address, self.token.address, 900, os.urandom(32))
        self.id = digest(typed(self.domain, "ChannelConfig", CONFIG, dict(zip([member.split(" ")[1] for member in CONFIG.split(",")], self.config))))
        self.soon = node.chain.now() + 600

    def deposit(self, amount):
        collector = Contract(self.node.rpc, "AuthorizationCollector", "authorization-collector")
        salt = int.from_bytes(os.urandom(32), "big")
        token = token_domain(self.node.chain_id, self.token.address)
        nonce = keccak(encode(["bytes32", "uint256"], [self.id, salt]))
        _, message = authorization(token, self.payer.address, collector.address, amount, 0, self.soon, nonce, "ReceiveWithAuthorization")
        data = encode(["uint256", "uint256", "uint256", "bytes"], [0, self.soon, salt, sign(self.payer, message)])
        return self.escrow.run(self.rich, "deposit", self.config, amount, collector.address, data)

    def deposit_by_permit2(self, amount):
        collector = Contract(self.node.rpc, "Permit2Collector", "permit2-collector")
        witness = ("DepositWitness", "bytes32 channelId")
        message = permit2_message(self.node.chain_id, (self.token.address, amount), collector.address, 5, self.soon, witness, {"channelId": self.id})
        data = encode(["uint256", "uint256", "bytes", "bytes"], [5, self.soon, sign(self.payer, message), b""])
        return self.escrow.run(self.rich, "deposit", self.config, amount, collector.address, data)

    def claim(self, total, ceiling=None, signer=None):
        ceiling = total if ceiling is None else ceiling
        message = typed(self.domain, "Voucher", "bytes32 channelId,uint128 maxClaimableAmount", {"channelId": self.id, "maxClaimableAmount": ceiling})
        return ((self.config, ceiling), sign(signer or self.payer, message), total)

    def why(self, account, name, *arguments):
        return refused(self.escrow, name, *arguments, sender=account.address)


@pytest.fixture
def batch(later, rich):
    return Batch(later, rich)


def test_a_batch_channel_is_filled_claimed_and_settled(batch):
    assert batch.escrow.call("getChannelId", batch.config) == batch.id
    assert [name for name, _ in batch.escrow.logs(batch.deposit(1000))] == ["ChannelCreated", "Deposited"]
    batch.deposit_by_permit2(500)
    assert batch.escrow.call("channels", batch.id) == (1500, 0)
    batch.escrow.run(batch.receiver, "claim", [batch.claim(300)])
    entries = [{"channelId": batch.id, "maxClaimableAmount": 450, "totalClaimed": 400}]
    message = typed(batch.domain, "ClaimBatch", "ClaimEntry[] claims", {"claims": entries},
                    ClaimEntry="bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed")
    claims = [batch.claim(400, 450)]
    assert batch.escrow.call("getClaimBatchDigest", claims) == digest(message)
    assert batch.why(batch.rich, "claimWithSignature", claims, sign(batch.payer, message)) == error("InvalidSignature()")
    batch.escrow.run(batch.rich, "claimWithSignature", claims, sign(batch.receiver, message))
    batch.escrow.run(batch.rich, "settle", batch.receiver.address, batch.token.address)
    assert batch.token.call("balanceOf", batch.receiver.address) == 400
    assert batch.escrow.call("receivers", batch.receiver.address, batch.token.address) == (400, 400)


def test_a_batch_channel_is_refunded_and_withdrawn_from(batch):
    batch.deposit(1000)
    message = typed(batch.domain, "Refund", "bytes32 channelId,uint256 nonce,uint128 amount", {"channelId": batch.id, "nonce": 0, "amount": 100})
    assert batch.escrow.call("getRefundDigest", batch.id, 0, 100) == digest(message)
    signature = sign(batch.receiver, message)
    assert batch.why(batch.rich, "refundWithSignature", batch.config, 100, 1, signature) == error("InvalidRefundNonce()")
    assert batch.why(batch.rich, "refundWithSignature", batch.config, 101, 0, signature) == error("InvalidSignature()")
    batch.escrow.run(batch.rich, "refundWithSignature", batch.config, 100, 0, signature)
    batch.escrow.run(batch.receiver, "refund", batch.config, 100)
    assert batch.escrow.call("refundNonce", batch.id) == 2 and batch.token.call("balanceOf", batch.payer.address) == 9_200
    batch.escrow.run(batch.payer, "initiateWithdraw", batch.config, 800)
    assert batch.why(batch.payer, "finalizeWithdraw", batch.config) == error("WithdrawDelayNotElapsed()")
    batch.escrow.run(batch.receiver, "claim", [batch.claim(50)])
    batch.node.advance(901)
    batch.escrow.run(batch.payer, "finalizeWithdraw", batch.config)
    assert batch.token.call("balanceOf", batch.payer.address) == 9_950 and batch.escrow.call("channels", batch.id) == (50, 50)


def test_the_batch_escrow_refuses(batch):
    batch.deposit(1000)
    assert batch.why(batch.rich, "claim", [batch.claim(1)]) == error("NotAuthorizedToClaim()")
    assert batch.why(batch.receiver, "claim", []) == error("EmptyBatch()")
    assert batch.why(batch.receiver, "claim", [batch.claim(2, 1)]) == error("ClaimExceedsCeiling()")
    assert batch.why(batch.receiver, "claim", [batch.claim(1001)]) == error("ClaimExceedsBalance()")
    assert batch.why(batch.receiver, "claim", [batch.claim(1, signer=batch.rich)]) == error("InvalidSignature()")
    assert batch.why(batch.payer, "refund", batch.config, 1) == error("NotAuthorizedToRefund()")
    assert batch.why(batch.receiver, "refund", batch.config, 0) == error("ZeroRefund()")
    assert batch.why(batch.receiver, "initiateWithdraw", batch.config, 1) == error("InvalidChannel()")
    assert batch.why(batch.payer, "initiateWithdraw", batch.config, 1001) == error("WithdrawAmountExceedsAvailable()")
    assert batch.why(batch.payer, "finalizeWithdraw", batch.config) == error("WithdrawalNotPending()")
    short = (*batch.config[:5], 899, batch.config[6])
    assert batch.why(batch.rich, "deposit", short, 1, batch.rich.address, b"") == error("WithdrawDelayOutOfRange()")
    assert batch.why(batch.rich, "deposit", batch.config, 0, batch.rich.address, b"") == error("ZeroDeposit()")
    collector = Contract(batch.node.rpc, "AuthorizationCollector", "authorization-collector")
    call = (batch.payer.address, batch.token.address, 1, batch.id, b"")
    assert refused(collector, "collect", *call) == error("OnlyX402BatchSettlement()")
