# pragma version 0.4.3
"""
A wallet with one owner that signs as a contract does (ERC-1271), and calls what the owner wants called.
"""

import signatures

owner: public(address)


@deploy
def __init__(owner: address):
    self.owner = owner


@external
def execute(target: address, data: Bytes[8192]) -> Bytes[4096]:
    assert msg.sender == self.owner, "not the owner"
    return raw_call(target, data, max_outsize=4096)


@external
def rotate(owner: address):
    assert msg.sender == self.owner, "not the owner"
    self.owner = owner


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[4096]) -> bytes4:
    if signatures.recover(digest, signature, False) == self.owner:
        return 0x1626ba7e
    # As most wallets have it: the owner's signature, and words of the wallet's own behind it.
    if len(signature) > 65 and signatures.recover(digest, slice(signature, 0, 65), False) == self.owner:
        return 0x1626ba7e
    return 0xffffffff
