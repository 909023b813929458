import Bytes
import Crypto

/// Holds a Tempo transaction (type 0x76) before its sender signs it: several calls, a lane of nonces, a window, and fees paid in a
/// token by the sender or by somebody else.
public struct TempoTransaction: Hashable, Sendable {
  /// The first octet of a transaction, and of what its sender signs.
  public static let type: UInt8 = 0x76
  /// The first octet of what the fee payer signs, and of an envelope on its way to him.
  public static let feePayerType: UInt8 = 0x78

  /// Holds one of the calls, which succeed or fail together.
  public struct Call: Hashable, Sendable {
    /// The contract; nil where the call creates one.
    public var to: Address?
    /// What goes with it.
    public var value: Word256
    /// The call's octets.
    public var data: [UInt8]

    /// Takes the members.
    public init(to: Address?, value: Word256 = 0, data: [UInt8]) {
      self.to = to
      self.value = value
      self.data = data
    }
  }

  /// Says who pays the fees.
  public enum FeePayment: Hashable, Sendable {
    /// The sender does.
    case sender
    /// Somebody else will, and has not signed yet.
    case awaited
    /// Somebody else does, and signed.
    case signed(ECDSASignature)
  }

  /// The chain.
  public var chainID: UInt64
  /// The most that whoever makes the block gets for a unit of gas.
  public var maxPriorityFeePerGas: UInt128
  /// The most for a unit of gas.
  public var maxFeePerGas: UInt128
  /// The most units of gas.
  public var gasLimit: UInt64
  /// The calls in their order.
  public var calls: [Call]
  /// What it declares beforehand.
  public var accessList: [AccessListEntry]
  /// The lane of nonces; the greatest one is for transactions that expire instead of being counted.
  public var nonceKey: Word256
  /// How many transactions went through the lane before.
  public var nonce: UInt64
  /// The second of Unix time before which it is valid; nil for ever.
  public var validBefore: UInt64?
  /// The second of Unix time after which it is valid; nil for always.
  public var validAfter: UInt64?
  /// The token that fees are paid in; nil for the account's own choice, or for the fee payer's.
  public var feeToken: Address?
  /// Who pays the fees.
  public var feePayment: FeePayment
  /// Authorizations of code for accounts, as they came.
  public var authorizationList: [RLPItem]
  /// An authorization of an access key, as it came.
  public var keyAuthorization: RLPItem?

  /// Takes the members.
  public init(
    chainID: UInt64, maxPriorityFeePerGas: UInt128, maxFeePerGas: UInt128, gasLimit: UInt64, calls: [Call],
    accessList: [AccessListEntry] = [], nonceKey: Word256 = 0, nonce: UInt64, validBefore: UInt64? = nil, validAfter: UInt64? = nil,
    feeToken: Address? = nil, feePayment: FeePayment = .sender, authorizationList: [RLPItem] = [], keyAuthorization: RLPItem? = nil
  ) {
    self.chainID = chainID
    self.maxPriorityFeePerGas = maxPriorityFeePerGas
    self.maxFeePerGas = maxFeePerGas
    self.gasLimit = gasLimit
    self.calls = calls
    self.accessList = accessList
    self.nonceKey = nonceKey
    self.nonce = nonce
    self.validBefore = validBefore
    self.validAfter = validAfter
    self.feeToken = feeToken
    self.feePayment = feePayment
    self.authorizationList = authorizationList
    self.keyAuthorization = keyAuthorization
  }

  /// The lane of transactions that expire.
  public static let expiringNonceKey = Word256.maximum
}

extension TempoTransaction {
  /// Encodes the fields with what stands in the fee token's and the fee payer's place, and what follows them.
  private func encode(type: UInt8, feeToken: RLPItem, feePayer: RLPItem, signature: RLPItem?) -> [UInt8] {
    var fields: [RLPItem] = [
      .number(chainID), .number(maxPriorityFeePerGas), .number(maxFeePerGas), .number(gasLimit),
      .list(calls.map { .list([.address($0.to), .number($0.value), .octets($0.data)]) }), .list(accessList.map(\.item)),
      .number(nonceKey), .number(nonce), .number(validBefore ?? 0), .number(validAfter ?? 0), feeToken, feePayer,
      .list(authorizationList),
    ]
    if let keyAuthorization { fields.append(keyAuthorization) }
    if let signature { fields.append(signature) }
    var buffer = ByteBuffer()
    buffer.append(byte: type)
    RLP.append(.list(fields), to: &buffer)
    return buffer.array()
  }

  /// What the sender signs: where somebody else pays, the fee token is left to him.
  private var signedOctets: [UInt8] {
    switch feePayment {
    case .sender: encode(type: Self.type, feeToken: .address(feeToken), feePayer: .octets([]), signature: nil)
    case .awaited, .signed: encode(type: Self.type, feeToken: .octets([]), feePayer: .octets([0]), signature: nil)
    }
  }

  /// The digest that the sender signs.
  public var signingDigest: Digest32 { Keccak256.hash(signedOctets) }

  /// The digest that the fee payer signs: the transaction with its fee token, for this sender.
  public func feePayerDigest(sender: Address) -> Digest32 {
    Keccak256.hash(encode(type: Self.feePayerType, feeToken: .address(feeToken), feePayer: .address(sender), signature: nil))
  }

  /// The hash that a channel opened by this transaction is named by (draft-tempo-session, protocol v2).
  public func expiringNonceHash(sender: Address) -> Digest32 {
    Keccak256.hash(signedOctets + sender.bytes)
  }

  /// Encodes the transaction with its sender's signature; while a fee payer is awaited, his place is kept by one zero octet.
  func encode(with signature: TempoSignature) -> [UInt8] {
    let feePayer: RLPItem =
      switch feePayment {
      case .sender: .octets([])
      case .awaited: .octets([0])
      case .signed(let signature):
        .list([.number(UInt64(signature.yParity)), .number(Word256(signature.r)), .number(Word256(signature.s))])
      }
    return encode(type: Self.type, feeToken: .address(feeToken), feePayer: feePayer, signature: .octets(signature.octets))
  }

  /// Encodes the envelope in which the transaction goes to its fee payer.
  func encodeEnvelope(sender: Address, signature: TempoSignature) -> [UInt8] {
    encode(type: Self.feePayerType, feeToken: .address(feeToken), feePayer: .address(sender), signature: .octets(signature.octets))
  }

  /// Signs the transaction.
  public func signed(by key: EthereumKey) -> SignedTempoTransaction {
    SignedTempoTransaction(self, signature: .secp256k1(key.sign(signingDigest)), sender: key.address)
  }

  /// Checks what can be checked without the chain.
  ///
  /// - Throws: the rule that is broken.
  public func check(chainID expected: UInt64) throws(EthereumError) {
    guard chainID == expected else { throw .transaction(.wrongChain) }
    guard !calls.isEmpty else { throw .transaction(.noCalls) }
    guard calls.dropFirst().allSatisfy({ $0.to != nil }) else { throw .transaction(.unexpectedCreation) }
    guard nonce < .max else { throw .transaction(.nonceTooLarge) }
    guard maxPriorityFeePerGas <= maxFeePerGas else { throw .transaction(.priorityAboveFee) }
    guard gasLimit >= 21_000 else { throw .transaction(.gasTooLow) }
    if let validBefore, let validAfter, validBefore <= validAfter { throw .transaction(.emptyWindow) }
    if feePayment == .awaited, feeToken != nil { throw .transaction(.unexpectedFeeToken) }
  }

  /// The most that the fees may come to, in the units of gas prices; nil past 256 bits.
  public var maximumFee: Word256? { Word256(maxFeePerGas).multiplied(by: gasLimit) }
}
