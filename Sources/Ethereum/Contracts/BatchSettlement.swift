import Bytes
import Crypto

/// Encodes and hashes what concerns the contract of x402's scheme batch-settlement.
public enum BatchSettlement {
  /// Where the contract stands.
  public static let address = Address(0x4020_074E_9DF2_CE1D, 0xEE5A_9C1B_5C3F_541D, 0x02A1_0003)
  /// Who collects deposits by EIP-3009.
  public static let authorizationCollector = Address(0x4020_8060_8947_0A89, 0x826C_B9FB_1F40_5915, 0x0B55_0004)
  /// Who collects deposits by Permit2.
  public static let permit2Collector = Address(0x4020_425F_AF3B_746C, 0x082C_2F94_2B4E_5159, 0x887B_0005)
  /// The greatest delay of a withdrawal in seconds that its type holds.
  public static let maximumDelay = UInt64(1) << 40 - 1

  /// The domain of vouchers.
  public static func domain(chainID: UInt64, contract: Address = address) -> TypedData.Domain {
    TypedData.Domain(name: "x402 Batch Settlement", version: "1", chainID: chainID, verifyingContract: contract)
  }

  private static let configTypeHash = TypedData.typeHash(
    "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)")
  /// The hash of a voucher's type; behind it stand the channel's id and the amount.
  public static let voucherTypeHash = TypedData.typeHash("Voucher(bytes32 channelId,uint128 maxClaimableAmount)")
  private static let refundTypeHash = TypedData.typeHash("Refund(bytes32 channelId,uint256 nonce,uint128 amount)")
  private static let entryType = "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
  private static let entryTypeHash = TypedData.typeHash(entryType)
  private static let batchTypeHash = TypedData.typeHash("ClaimBatch(ClaimEntry[] claims)" + entryType)

  /// Says which channel is meant, in every call again.
  public struct ChannelConfig: Hashable, Sendable {
    /// Who deposits.
    public var payer: Address
    /// Who signs vouchers; zero for the payer by ERC-1271.
    public var payerAuthorizer: Address
    /// Who is paid.
    public var receiver: Address
    /// Who signs claims and refunds.
    public var receiverAuthorizer: Address
    /// The token.
    public var token: Address
    /// The seconds that a withdrawal waits; 40 bits.
    public let withdrawDelay: UInt64
    /// What the payer drew.
    public var salt: Digest32

    /// Takes the members; nil for a delay of more than 40 bits.
    public init?(
      payer: Address, payerAuthorizer: Address, receiver: Address, receiverAuthorizer: Address, token: Address,
      withdrawDelay: UInt64, salt: Digest32
    ) {
      guard withdrawDelay <= BatchSettlement.maximumDelay else { return nil }
      self.payer = payer
      self.payerAuthorizer = payerAuthorizer
      self.receiver = receiver
      self.receiverAuthorizer = receiverAuthorizer
      self.token = token
      self.withdrawDelay = withdrawDelay
      self.salt = salt
    }

    /// Hashes the struct.
    public var structHash: Digest32 {
      var hash = TypedData.StructHash(BatchSettlement.configTypeHash)
      hash.append(payer)
      hash.append(payerAuthorizer)
      hash.append(receiver)
      hash.append(receiverAuthorizer)
      hash.append(token)
      hash.append(UInt128(withdrawDelay))
      hash.append(salt)
      return hash.finalize()
    }

    /// Derives the channel's identifier: the digest of the struct in the contract's domain.
    public func channelID(in domain: TypedData.PreparedDomain) -> Digest32 { domain.digest(structHash) }

    fileprivate var value: ABIValue {
      .tuple([
        .address(payer), .address(payerAuthorizer), .address(receiver), .address(receiverAuthorizer), .address(token),
        .uint(withdrawDelay), .fixedBytes(salt),
      ])
    }
  }

  /// Holds a voucher with what is claimed of it.
  public struct Claim: Hashable, Sendable {
    /// The channel.
    public var channel: ChannelConfig
    /// The most that the voucher lets claim, all in all.
    public var maxClaimableAmount: UInt128
    /// The voucher's signature.
    public var signature: [UInt8]
    /// What is claimed, all in all.
    public var totalClaimed: UInt128

    /// Takes the members.
    public init(channel: ChannelConfig, maxClaimableAmount: UInt128, signature: [UInt8], totalClaimed: UInt128) {
      self.channel = channel
      self.maxClaimableAmount = maxClaimableAmount
      self.signature = signature
      self.totalClaimed = totalClaimed
    }

    fileprivate var value: ABIValue {
      .tuple([.tuple([channel.value, .uint(maxClaimableAmount)]), .bytes(signature), .uint(totalClaimed)])
    }
  }

  /// Hashes a voucher.
  public static func voucher(channelID: Digest32, maxClaimableAmount: UInt128) -> Digest32 {
    var hash = TypedData.StructHash(voucherTypeHash)
    hash.append(channelID)
    hash.append(maxClaimableAmount)
    return hash.finalize()
  }

  /// Hashes a refund, which the receiver's authorizer signs.
  public static func refund(channelID: Digest32, nonce: Word256, amount: UInt128) -> Digest32 {
    var hash = TypedData.StructHash(refundTypeHash)
    hash.append(channelID)
    hash.append(nonce)
    hash.append(amount)
    return hash.finalize()
  }

  /// Hashes a batch of claims, which the receiver's authorizer signs.
  public static func claimBatch(_ claims: [Claim], in domain: TypedData.PreparedDomain) -> Digest32 {
    var hash = TypedData.StructHash(batchTypeHash)
    hash.append(
      elements: claims.map { claim in
        var entry = TypedData.StructHash(entryTypeHash)
        entry.append(claim.channel.channelID(in: domain))
        entry.append(claim.maxClaimableAmount)
        entry.append(claim.totalClaimed)
        return entry.finalize()
      })
    return hash.finalize()
  }

  /// Derives the EIP-3009 nonce of a deposit.
  public static func depositNonce(channelID: Digest32, salt: Word256) -> Digest32 {
    ABI.hash([.fixedBytes(channelID), .uint(salt)])
  }

  /// Encodes what the EIP-3009 collector is handed.
  public static func collectorData(validAfter: Word256, validBefore: Word256, salt: Word256, signature: [UInt8]) -> [UInt8] {
    ABI.encode([.uint(validAfter), .uint(validBefore), .uint(salt), .bytes(signature)])
  }

  /// Encodes what the Permit2 collector is handed; the token's own permit may be empty.
  public static func collectorData(nonce: Word256, deadline: Word256, signature: [UInt8], permit: [UInt8]) -> [UInt8] {
    ABI.encode([.uint(nonce), .uint(deadline), .bytes(signature), .bytes(permit)])
  }

  private static let depositWitnessTypeHash = TypedData.typeHash("DepositWitness(bytes32 channelId)")
  /// The witness's type of a deposit by Permit2.
  public static let depositWitnessType = Permit2.WitnessType(
    "DepositWitness witness)DepositWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)")

  /// Hashes the witness of a deposit by Permit2.
  public static func depositWitness(channelID: Digest32) -> Digest32 {
    TypedData.hashStruct(depositWitnessTypeHash, channelID)
  }
}

extension BatchSettlement {
  private static let config = ABIType.tuple([.address, .address, .address, .address, .address, .uint(40), .bytes32])
  private static let uint128 = ABIType.uint(128)
  private static let claims = ABIType.array(.tuple([.tuple([config, uint128]), .bytes, uint128]))

  /// Deposits: channel, amount, collector, what it is handed.
  public static let deposit = ABIFunction("deposit", [config, uint128, .address, .bytes])
  /// Claims of vouchers.
  public static let claim = ABIFunction("claim", [claims])
  /// Claims of vouchers by the receiver's authorizer's signature.
  public static let claimWithSignature = ABIFunction("claimWithSignature", [claims, .bytes])
  /// Pays a receiver all that was claimed of a token.
  public static let settle = ABIFunction("settle", [.address, .address])
  /// Gives an amount back to the payer.
  public static let refund = ABIFunction("refund", [config, uint128])
  /// Gives an amount back to the payer by the receiver's authorizer's signature.
  public static let refundWithSignature = ABIFunction("refundWithSignature", [config, uint128, .uint256, .bytes])
  /// Asks for a channel's balance and what was claimed of it.
  public static let channels = ABIFunction("channels", [.bytes32], returns: [uint128, uint128])
  /// Asks for a pending withdrawal's amount and the second of Unix time in which it began.
  public static let pendingWithdrawals = ABIFunction("pendingWithdrawals", [.bytes32], returns: [uint128, .uint(40)])
  /// Asks for what was claimed for a receiver, and settled.
  public static let receivers = ABIFunction("receivers", [.address, .address], returns: [uint128, uint128])
  /// Asks for the next refund's nonce.
  public static let refundNonce = ABIFunction("refundNonce", [.bytes32], returns: [.uint256])

  /// Tells that a receiver was paid all that was claimed for him: receiver, token, who has asked for it, amount.
  public static let settled = ABIEvent("Settled", [.indexed(.address), .indexed(.address), .indexed(.address), .plain(uint128)])
  /// Makes several calls in one, all or none; answers what each has answered.
  public static let multicall = ABIFunction("multicall", [.array(.bytes)], returns: [.array(.bytes)])

  /// Encodes `multicall`.
  public static func multicall(_ calls: [[UInt8]]) -> [UInt8] { multicall.call(.array(calls.map { .bytes($0) })) }

  /// Encodes `channels`.
  public static func channels(_ channelID: Digest32) -> [UInt8] { channels.call(.fixedBytes(channelID)) }

  /// Encodes `pendingWithdrawals`.
  public static func pendingWithdrawals(_ channelID: Digest32) -> [UInt8] { pendingWithdrawals.call(.fixedBytes(channelID)) }

  /// Encodes `receivers`.
  public static func receivers(receiver: Address, token: Address) -> [UInt8] { receivers.call(.address(receiver), .address(token)) }

  /// Encodes `refundNonce`.
  public static func refundNonce(_ channelID: Digest32) -> [UInt8] { refundNonce.call(.fixedBytes(channelID)) }

  /// Encodes `deposit`.
  public static func deposit(
    _ channel: ChannelConfig, amount: UInt128, collector: Address, collectorData: [UInt8]
  ) -> [UInt8] {
    deposit.call(channel.value, .uint(amount), .address(collector), .bytes(collectorData))
  }

  /// Encodes `claim`.
  public static func claim(_ vouchers: [Claim]) -> [UInt8] { claim.call(.array(vouchers.map(\.value))) }

  /// Encodes `claimWithSignature`.
  public static func claim(_ vouchers: [Claim], authorizerSignature: [UInt8]) -> [UInt8] {
    claimWithSignature.call(.array(vouchers.map(\.value)), .bytes(authorizerSignature))
  }

  /// Encodes `settle`.
  public static func settle(receiver: Address, token: Address) -> [UInt8] {
    settle.call(.address(receiver), .address(token))
  }

  /// Encodes `refund`.
  public static func refund(_ channel: ChannelConfig, amount: UInt128) -> [UInt8] {
    refund.call(channel.value, .uint(amount))
  }

  /// Encodes `refundWithSignature`.
  public static func refund(_ channel: ChannelConfig, amount: UInt128, nonce: Word256, signature: [UInt8]) -> [UInt8] {
    refundWithSignature.call(channel.value, .uint(amount), .uint(nonce), .bytes(signature))
  }
}
