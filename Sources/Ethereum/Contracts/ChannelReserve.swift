import Bytes
import Crypto

/// Encodes and hashes what concerns Tempo's channels in the chain itself (draft-tempo-session with protocol v2).
///
/// Amounts have 96 bits there; what is larger is refused.
public enum ChannelReserve {
  /// The greatest amount, 2⁹⁶ − 1.
  public static let maximumAmount = UInt128(1) << 96 - 1

  /// The domain of vouchers.
  public static func domain(chainID: UInt64, escrow: Address) -> TypedData.Domain {
    TypedData.Domain(name: "TIP20 Channel Reserve", version: "1", chainID: chainID, verifyingContract: escrow)
  }

  /// The hash of a voucher's type; behind it stand the channel's id and the amount.
  public static let voucherTypeHash = TypedData.typeHash("Voucher(bytes32 channelId,uint96 cumulativeAmount)")

  /// Hashes a voucher.
  ///
  /// - Throws: `numberTooLarge` past 96 bits.
  public static func voucher(channelID: Digest32, cumulativeAmount: UInt128) throws(EthereumError) -> Digest32 {
    guard cumulativeAmount <= maximumAmount else { throw .numberTooLarge }
    var hash = TypedData.StructHash(voucherTypeHash)
    hash.append(channelID)
    hash.append(cumulativeAmount)
    return hash.finalize()
  }

  /// Says which channel is meant, in every call again.
  public struct Descriptor: Hashable, Sendable {
    /// Who deposited.
    public var payer: Address
    /// Who is paid.
    public var payee: Address
    /// Who else may act for the payee; zero for nobody.
    public var `operator`: Address
    /// The token.
    public var token: Address
    /// What the payer drew.
    public var salt: Digest32
    /// Who signs vouchers; zero for the payer.
    public var authorizedSigner: Address
    /// The hash of the transaction that opened the channel, see `TempoTransaction.expiringNonceHash`.
    public var expiringNonceHash: Digest32

    /// Takes the members.
    public init(
      payer: Address, payee: Address, operator: Address, token: Address, salt: Digest32, authorizedSigner: Address,
      expiringNonceHash: Digest32
    ) {
      self.payer = payer
      self.payee = payee
      self.operator = `operator`
      self.token = token
      self.salt = salt
      self.authorizedSigner = authorizedSigner
      self.expiringNonceHash = expiringNonceHash
    }

    fileprivate var values: [ABIValue] {
      [
        .address(payer), .address(payee), .address(`operator`), .address(token), .fixedBytes(salt), .address(authorizedSigner),
        .fixedBytes(expiringNonceHash),
      ]
    }

    /// Derives the channel's identifier as the chain does.
    public func channelID(escrow: Address, chainID: UInt64) -> Digest32 {
      ABI.hash(values + [.address(escrow), .uint(chainID)])
    }

    /// Who signs vouchers: the authorized signer, or the payer where there is none.
    public var signer: Address { authorizedSigner.isZero ? payer : authorizedSigner }
  }
}

extension ChannelReserve {
  private static let uint96 = ABIType.uint(96)
  private static let descriptor = ABIType.tuple([.address, .address, .address, .address, .bytes32, .address, .bytes32])

  /// Opens a channel with the caller's tokens: payee, operator, token, deposit, salt, authorized signer.
  public static let open = ABIFunction(
    "open", [.address, .address, .address, uint96, .bytes32, .address], returns: [.bytes32])
  /// Pays the payee what a voucher says and was not settled yet.
  public static let settle = ABIFunction("settle", [descriptor, uint96, .bytes])
  /// Adds the caller's tokens to a channel.
  public static let topUp = ABIFunction("topUp", [descriptor, uint96])
  /// Takes at most what a voucher says and gives the rest back.
  public static let close = ABIFunction("close", [descriptor, uint96, uint96, .bytes])
  /// Begins the payer's forced close.
  public static let requestClose = ABIFunction("requestClose", [descriptor])
  /// Ends the payer's forced close.
  public static let withdraw = ABIFunction("withdraw", [descriptor])
  /// Asks for a channel's state: settled, deposit, second of Unix time in which a forced close began.
  public static let getChannelState = ABIFunction(
    "getChannelState", [.bytes32], returns: [.tuple([uint96, uint96, .uint(32)])])

  private static let parties: [ABIEvent.Parameter] = [.indexed(.bytes32), .indexed(.address), .indexed(.address)]
  /// A channel was opened: channel, payer, payee; operator, token, authorized signer, salt, expiring nonce's hash, deposit.
  public static let channelOpened = ABIEvent(
    "ChannelOpened",
    parties + [.plain(.address), .plain(.address), .plain(.address), .plain(.bytes32), .plain(.bytes32), .plain(uint96)])
  /// A channel was settled: channel, payer, payee; cumulative amount, what was paid, what is settled now.
  public static let settled = ABIEvent("Settled", parties + [.plain(uint96), .plain(uint96), .plain(uint96)])
  /// Tokens were added: channel, payer, payee; how many, the deposit now.
  public static let toppedUp = ABIEvent("TopUp", parties + [.plain(uint96), .plain(uint96)])
  /// A forced close began: channel, payer, payee; the second of Unix time in which it may end.
  public static let closeRequested = ABIEvent("CloseRequested", parties + [.plain(.uint256)])
  /// A forced close was given up: channel, payer, payee.
  public static let closeRequestCancelled = ABIEvent("CloseRequestCancelled", parties)
  /// A channel was closed: channel, payer, payee; what the payee and what the payer got.
  public static let channelClosed = ABIEvent("ChannelClosed", parties + [.plain(uint96), .plain(uint96)])

  /// Encodes `settle`.
  ///
  /// - Throws: `numberTooLarge` past 96 bits.
  public static func settle(
    _ channel: Descriptor, cumulativeAmount: UInt128, signature: [UInt8]
  ) throws(EthereumError) -> [UInt8] {
    guard cumulativeAmount <= maximumAmount else { throw .numberTooLarge }
    return settle.call(.tuple(channel.values), .uint(cumulativeAmount), .bytes(signature))
  }

  /// Encodes `close`: what is taken may be less than what the voucher says.
  ///
  /// - Throws: `numberTooLarge` past 96 bits.
  public static func close(
    _ channel: Descriptor, cumulativeAmount: UInt128, captureAmount: UInt128, signature: [UInt8]
  ) throws(EthereumError) -> [UInt8] {
    guard cumulativeAmount <= maximumAmount, captureAmount <= maximumAmount else { throw .numberTooLarge }
    return close.call(.tuple(channel.values), .uint(cumulativeAmount), .uint(captureAmount), .bytes(signature))
  }

  /// Encodes `getChannelState`.
  public static func getChannelState(_ channelID: Digest32) -> [UInt8] { getChannelState.call(.fixedBytes(channelID)) }
}
