import Bytes
import Crypto

/// Holds a transaction with its signature, as it is broadcast.
public struct SignedTransaction: Hashable, Sendable {
  /// What was signed.
  public let transaction: Transaction
  /// The signature.
  public let signature: ECDSASignature
  /// Who signed it.
  public let sender: Address
  /// The octets that are broadcast.
  public let encoded: [UInt8]
  /// The transaction's hash, by which it is asked for.
  public let hash: Digest32

  init(_ transaction: Transaction, signature: ECDSASignature, sender: Address) {
    self.transaction = transaction
    self.signature = signature
    self.sender = sender
    encoded = transaction.encode(with: signature)
    hash = Keccak256.hash(encoded)
  }

  /// Takes a transaction with a signature that was made elsewhere.
  ///
  /// - Throws: `signatureOfNobody`.
  public init(_ transaction: Transaction, signature: ECDSASignature) throws(EthereumError) {
    guard let sender = signature.recover(transaction.signingDigest) else { throw .signatureOfNobody }
    self.init(transaction, signature: signature, sender: sender)
  }

  /// Reads a signed transaction of one of the three kinds, and recovers who signed it.
  ///
  /// - Throws: the rule that is broken; a transaction without a chain (before EIP-155) is refused, for it could be sent on every chain.
  public init(decoding octets: UnsafeRawBufferPointer, limits: RLP.Limits = .standard) throws(EthereumError) {
    switch octets.first {
    case .some(0xC0...0xFF): try self.init(legacy: try RLP.decode(octets, limits: limits))
    case .some(1): try self.init(kind: .accessList, item: try RLP.decode(Self.payload(octets), limits: limits))
    case .some(2): try self.init(kind: .dynamicFee, item: try RLP.decode(Self.payload(octets), limits: limits))
    default: throw .transaction(.unknownType)
    }
  }

  /// Reads a signed transaction, as above.
  public init(decoding octets: [UInt8], limits: RLP.Limits = .standard) throws(EthereumError) {
    self = try octets.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try SignedTransaction(decoding: UnsafeRawBufferPointer(octets), limits: limits)
    }
  }

  private static func payload(_ octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: octets.dropFirst())
  }

  private init(kind: Transaction.Kind, item: RLPItem) throws(EthereumError) {
    let isDynamic = kind == .dynamicFee
    var fields = try RLPFields(item, counts: isDynamic ? 12...12 : 11...11)
    let (chainID, nonce) = (try fields.uint64(), try fields.uint64())
    let priority = try fields.uint128()
    let fee = isDynamic ? try fields.uint128() : priority
    let gasLimit = try fields.uint64()
    let (to, value, data) = (try fields.optionalAddress(), try fields.number(), try fields.octets())
    let transaction = Transaction(
      kind: kind, chainID: chainID, nonce: nonce, maxPriorityFeePerGas: priority, maxFeePerGas: fee, gasLimit: gasLimit, to: to,
      value: value, data: data, accessList: try AccessListEntry.entries(try fields.list()))
    let parity = try fields.uint64()
    guard let yParity = UInt8(exactly: parity), yParity <= 1 else { throw .malformedSignature }
    let (r, s) = (try fields.number().octets, try fields.number().octets)
    try self.init(transaction, signature: try ECDSASignature(r: r, s: s, yParity: yParity))
  }

  private init(legacy item: RLPItem) throws(EthereumError) {
    var fields = try RLPFields(item, counts: 9...9)
    let (nonce, price, gasLimit) = (try fields.uint64(), try fields.uint128(), try fields.uint64())
    let (to, value, data) = (try fields.optionalAddress(), try fields.number(), try fields.octets())
    // EIP-155: v is twice the chain and 35 or 36.
    guard let v = try fields.number().uint128, v >= 37, let chainID = UInt64(exactly: (v - 35) / 2) else {
      throw .transaction(.wrongChain)
    }
    let (r, s) = (try fields.number().octets, try fields.number().octets)
    let signature = try ECDSASignature(r: r, s: s, yParity: UInt8((v - 35) % 2))
    try self.init(
      Transaction(
        kind: .legacy, chainID: chainID, nonce: nonce, maxPriorityFeePerGas: price, maxFeePerGas: price, gasLimit: gasLimit,
        to: to, value: value, data: data),
      signature: signature)
  }
}
