# pragma version 0.4.3
"""
A stablecoin as USDC's contract is seen from outside: EIP-20, EIP-2612 and EIP-3009, with what tests need: anybody mints, pauses, and makes it
misbehave. It has no constructor: a chain's genesis holds its code, and in its storage its name, version and decimals.
"""

import token_state

initializes: token_state

MAX_SIGNATURE: constant(uint256) = 4096
# The reserve of channels on Tempo is a part of that chain, and needs nobody's approval.
RESERVE: constant(address) = 0x4d50500000000000000000000000000000000000


@external
def mint(receiver: address, amount: uint256):
    token_state.totalSupply += amount
    token_state.balanceOf[receiver] += amount
    log token_state.Transfer(sender=empty(address), receiver=receiver, amount=amount)


@external
def pause(paused: bool):
    token_state.paused = paused


@external
def misbehave(silent: bool):
    """From now on a used authorization is answered without a revert, and moves nothing."""
    token_state.silent = silent


@external
@view
def name() -> String[64]:
    return token_state.name


@external
@view
def symbol() -> String[16]:
    return token_state.symbol


@external
@view
def version() -> String[16]:
    return token_state.version


@external
@view
def decimals() -> uint8:
    return token_state.decimals


@external
@view
def totalSupply() -> uint256:
    return token_state.totalSupply


@external
@view
def balanceOf(owner: address) -> uint256:
    return token_state.balanceOf[owner]


@external
@view
def allowance(owner: address, spender: address) -> uint256:
    return token_state.allowance[owner][spender]


@external
@view
def nonces(owner: address) -> uint256:
    return token_state.nonces[owner]


@external
@view
def authorizationState(authorizer: address, nonce: bytes32) -> bool:
    return token_state.authorizationState[authorizer][nonce]


@external
@view
def paused() -> bool:
    return token_state.paused


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return keccak256(
        abi_encode(token_state.DOMAIN, keccak256(token_state.name), keccak256(token_state.version), chain.id, self)
    )


@external
def transfer(receiver: address, amount: uint256) -> bool:
    token_state.move(msg.sender, receiver, amount)
    return True


@external
def transferWithMemo(receiver: address, amount: uint256, memo: bytes32):
    """As the tokens of Tempo (TIP-20) have it."""
    token_state.move(msg.sender, receiver, amount)
    log token_state.TransferWithMemo(sender=msg.sender, receiver=receiver, amount=amount, memo=memo)


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    allowed: uint256 = token_state.allowance[sender][msg.sender] if msg.sender != RESERVE else max_value(uint256)
    assert allowed >= amount, "ERC20: transfer amount exceeds allowance"
    if allowed != max_value(uint256):
        token_state.allowance[sender][msg.sender] = allowed - amount
    token_state.move(sender, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    assert not token_state.paused, "Pausable: paused"
    token_state.allowance[msg.sender][spender] = amount
    log token_state.Approval(owner=msg.sender, spender=spender, amount=amount)
    return True


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    token_state.permit(owner, spender, amount, deadline, token_state.packed(v, r, s))


@external
def transferWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    after: uint256,
    before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    token_state.authorized(True, sender, receiver, amount, after, before, nonce, token_state.packed(v, r, s))


@external
def receiveWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    after: uint256,
    before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    token_state.authorized(False, sender, receiver, amount, after, before, nonce, token_state.packed(v, r, s))


@external
def cancelAuthorization(authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    token_state.cancel(authorizer, nonce, token_state.packed(v, r, s))


@external
def __default__():
    raw_call(token_state.overloads, msg.data, is_delegate_call=True)
