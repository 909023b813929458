# pragma version 0.4.3
"""
The token's functions that take a signature as one string of octets, so that a contract may have signed. The token runs them on its own storage.
"""

import token_state

initializes: token_state

MAX_SIGNATURE: constant(uint256) = 4096


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, signature: Bytes[MAX_SIGNATURE]):
    token_state.permit(owner, spender, amount, deadline, signature)


@external
def transferWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    after: uint256,
    before: uint256,
    nonce: bytes32,
    signature: Bytes[MAX_SIGNATURE],
):
    token_state.authorized(True, sender, receiver, amount, after, before, nonce, signature)


@external
def receiveWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    after: uint256,
    before: uint256,
    nonce: bytes32,
    signature: Bytes[MAX_SIGNATURE],
):
    token_state.authorized(False, sender, receiver, amount, after, before, nonce, signature)


@external
def cancelAuthorization(authorizer: address, nonce: bytes32, signature: Bytes[MAX_SIGNATURE]):
    token_state.cancel(authorizer, nonce, signature)
