import Bytes
import Crypto

/// Encodes and hashes what concerns a channel's escrow contract (draft-evm-session; draft-tempo-session with protocol v1).
public enum ChannelEscrow {
  /// The domain's name in draft-evm-session.
  public static let domainName = "EVM Payment Channel"
  /// The domain's name in draft-tempo-session, protocol v1.
  public static let tempoDomainName = "Tempo Stream Channel"

  /// The domain of vouchers.
  public static func domain(name: String = domainName, chainID: UInt64, escrow: Address) -> TypedData.Domain {
    TypedData.Domain(name: name, version: "1", chainID: chainID, verifyingContract: escrow)
  }

  /// The hash of a voucher's type; behind it stand the channel's id and the amount.
  public static let voucherTypeHash = TypedData.typeHash("Voucher(bytes32 channelId,uint128 cumulativeAmount)")
  private static let settleTypeHash = TypedData.typeHash(
    "SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)")
  private static let closeTypeHash = TypedData.typeHash(
    "CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)")

  /// Hashes a voucher.
  public static func voucher(channelID: Digest32, cumulativeAmount: UInt128) -> Digest32 {
    var hash = TypedData.StructHash(voucherTypeHash)
    hash.append(channelID)
    hash.append(cumulativeAmount)
    return hash.finalize()
  }

  /// Hashes a payee's authorization of a settlement that somebody else submits.
  public static func settleAuthorization(
    channelID: Digest32, cumulativeAmount: UInt128, nonce: Word256, deadline: Word256
  ) -> Digest32 {
    authorization(settleTypeHash, channelID, cumulativeAmount, nonce, deadline)
  }

  /// Hashes a payee's authorization of a close that somebody else submits.
  public static func closeAuthorization(
    channelID: Digest32, cumulativeAmount: UInt128, nonce: Word256, deadline: Word256
  ) -> Digest32 {
    authorization(closeTypeHash, channelID, cumulativeAmount, nonce, deadline)
  }

  private static func authorization(
    _ typeHash: Digest32, _ channelID: Digest32, _ amount: UInt128, _ nonce: Word256, _ deadline: Word256
  ) -> Digest32 {
    var hash = TypedData.StructHash(typeHash)
    hash.append(channelID)
    hash.append(amount)
    hash.append(nonce)
    hash.append(deadline)
    return hash.finalize()
  }

  /// Derives a channel's identifier as the contract does.
  public static func channelID(
    payer: Address, payee: Address, token: Address, salt: Digest32, authorizedSigner: Address, escrow: Address, chainID: UInt64
  ) -> Digest32 {
    ABI.hash([
      .address(payer), .address(payee), .address(token), .fixedBytes(salt), .address(authorizedSigner), .address(escrow),
      .uint(chainID),
    ])
  }

  /// Derives the EIP-3009 nonce of an `openWithAuthorization`.
  public static func openNonce(
    from: Address, payee: Address, token: Address, salt: Digest32, authorizedSigner: Address
  ) -> Digest32 {
    ABI.hash([.address(from), .address(payee), .address(token), .fixedBytes(salt), .address(authorizedSigner)])
  }

  /// Derives the EIP-3009 nonce of a `topUpWithAuthorization`.
  public static func topUpNonce(channelID: Digest32, additionalDeposit: UInt128, from: Address, salt: Digest32) -> Digest32 {
    ABI.hash([.fixedBytes(channelID), .uint(additionalDeposit), .address(from), .fixedBytes(salt)])
  }
}

// Permit2's witnesses of deposits.
extension ChannelEscrow {
  /// The witness's type of an open.
  public static let openWitnessType = Permit2.WitnessType(
    "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)")
  /// The witness's type of a topUp.
  public static let topUpWitnessType = Permit2.WitnessType(
    "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)")
  private static let openWitnessTypeHash = TypedData.typeHash(
    "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)")
  private static let topUpWitnessTypeHash = TypedData.typeHash("ChannelTopUpWitness(bytes32 channelId)")

  /// Hashes the witness of an open.
  public static func openWitness(payee: Address, salt: Digest32, authorizedSigner: Address) -> Digest32 {
    var hash = TypedData.StructHash(openWitnessTypeHash)
    hash.append(payee)
    hash.append(salt)
    hash.append(authorizedSigner)
    return hash.finalize()
  }

  /// Hashes the witness of a topUp.
  public static func topUpWitness(channelID: Digest32) -> Digest32 {
    TypedData.hashStruct(topUpWitnessTypeHash, channelID)
  }
}
