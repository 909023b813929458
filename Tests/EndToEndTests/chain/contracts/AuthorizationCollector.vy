# pragma version 0.4.3
"""
x402's collector of deposits by EIP-3009, for its canonical address: the nonce of the authorization names the channel.
"""

BATCH_SETTLEMENT: constant(address) = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003


interface Token:
    def receiveWithAuthorization(
        sender: address, receiver: address, amount: uint256, after: uint256, before: uint256, nonce: bytes32, signature: Bytes[1024]
    ): nonpayable
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable


@external
def collect(payer: address, token: address, amount: uint256, channelId: bytes32, collectorData: Bytes[2048]):
    if msg.sender != BATCH_SETTLEMENT:
        raw_revert(method_id("OnlyX402BatchSettlement()"))
    after: uint256 = 0
    before: uint256 = 0
    salt: uint256 = 0
    signature: Bytes[1024] = b""
    after, before, salt, signature = abi_decode(collectorData, (uint256, uint256, uint256, Bytes[1024]))
    nonce: bytes32 = keccak256(abi_encode(channelId, salt))
    extcall Token(token).receiveWithAuthorization(payer, self, amount, after, before, nonce, signature)
    assert extcall Token(token).transfer(BATCH_SETTLEMENT, amount, default_return_value=True)
