import Bytes
import Crypto

/// Holds the signature of a Tempo transaction's sender.
public enum TempoSignature: Hashable, Sendable {
  /// Holds a signature that is checked here.
  case secp256k1(ECDSASignature)
  /// Holds a signature of another kind with the account that it names; only the chain can tell whether it is right.
  case unverified(account: Address, octets: [UInt8])

  /// The signature as it stands in a transaction.
  var octets: [UInt8] {
    switch self {
    case .secp256k1(let signature): signature.bytes
    case .unverified(_, let octets): octets
    }
  }

  /// Reads a signature of one of the kinds that Tempo knows: secp256k1, P256, WebAuthn, or one by an access key.
  init(_ octets: [UInt8]) throws(EthereumError) {
    if octets.count == 65 {
      self = .secp256k1(try ECDSASignature(bytes: octets))
      return
    }
    guard let kind = octets.first else { throw .transaction(.unknownSignature) }
    let account: Address? =
      switch kind {
      case 1 where octets.count == 130: Address(truncating: Keccak256.hash([UInt8](octets[65..<129])))
      case 2 where octets.count >= 129: Address(truncating: Keccak256.hash([UInt8](octets.suffix(64))))
      case 3 where octets.count > 21, 4 where octets.count > 21: Address(bytes: octets[1..<21])
      default: nil
      }
    guard let account else { throw .transaction(.unknownSignature) }
    self = .unverified(account: account, octets: octets)
  }
}

/// Holds a Tempo transaction with its sender's signature, as it is broadcast or waits for its fee payer.
public struct SignedTempoTransaction: Hashable, Sendable {
  /// What was signed.
  public let transaction: TempoTransaction
  /// The sender's signature.
  public let signature: TempoSignature
  /// Who signed it, or for whom the signature says that it was signed.
  public let sender: Address
  /// The octets that are broadcast once nobody is awaited.
  public let encoded: [UInt8]
  /// The transaction's hash, by which it is asked for once nobody is awaited.
  public let hash: Digest32

  init(_ transaction: TempoTransaction, signature: TempoSignature, sender: Address) {
    self.transaction = transaction
    self.signature = signature
    self.sender = sender
    encoded = transaction.encode(with: signature)
    hash = Keccak256.hash(encoded)
  }

  /// The envelope in which the transaction goes to its fee payer.
  public var envelope: [UInt8] { transaction.encodeEnvelope(sender: sender, signature: signature) }

  /// Whether the sender's signature was checked, and is not only the chain's to check.
  public var isSenderProven: Bool {
    switch signature {
    case .secp256k1: true
    case .unverified: false
    }
  }

  /// Who pays the fees; nil while he is awaited, or where his signature is nobody's.
  public var feePayer: Address? {
    switch transaction.feePayment {
    case .sender: sender
    case .awaited: nil
    case .signed(let signature): signature.recover(transaction.feePayerDigest(sender: sender))
    }
  }

  /// Signs as the fee payer, who chooses the token.
  ///
  /// - Throws: `notAwaitingFeePayer`, or `unexpectedFeeToken` where the sender chose one.
  public func sponsored(by key: EthereumKey, feeToken: Address) throws(EthereumError) -> SignedTempoTransaction {
    guard transaction.feePayment == .awaited else { throw .transaction(.notAwaitingFeePayer) }
    guard transaction.feeToken == nil else { throw .transaction(.unexpectedFeeToken) }
    var transaction = transaction
    transaction.feeToken = feeToken
    transaction.feePayment = .signed(key.sign(transaction.feePayerDigest(sender: sender)))
    return SignedTempoTransaction(transaction, signature: signature, sender: sender)
  }
}

extension SignedTempoTransaction {
  /// Reads a signed transaction (0x76) or an envelope for its fee payer (0x78), and recovers who signed it.
  ///
  /// - Throws: the rule that is broken; `wrongSender` where an envelope names another sender.
  public init(decoding octets: UnsafeRawBufferPointer, limits: RLP.Limits = .standard) throws(EthereumError) {
    let isEnvelope: Bool
    switch octets.first {
    case .some(TempoTransaction.type): isEnvelope = false
    case .some(TempoTransaction.feePayerType): isEnvelope = true
    default: throw .transaction(.unknownType)
    }
    let item = try RLP.decode(UnsafeRawBufferPointer(rebasing: octets.dropFirst()), limits: limits)
    var fields = try RLPFields(item, counts: 14...15)
    var named: Address?
    let transaction = try TempoTransaction(&fields, isEnvelope: isEnvelope, named: &named)
    let signature = try TempoSignature(try fields.octets())
    let sender: Address
    switch signature {
    case .secp256k1(let signature):
      guard let recovered = signature.recover(transaction.signingDigest) else { throw .signatureOfNobody }
      sender = recovered
    case .unverified(let account, _): sender = account
    }
    if let named, named != sender { throw .transaction(.wrongSender) }
    self.init(transaction, signature: signature, sender: sender)
    if case .signed = transaction.feePayment, feePayer == nil { throw .signatureOfNobody }
  }

  /// Reads a signed transaction or an envelope, as above.
  public init(decoding octets: [UInt8], limits: RLP.Limits = .standard) throws(EthereumError) {
    self = try octets.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try SignedTempoTransaction(decoding: UnsafeRawBufferPointer(octets), limits: limits)
    }
  }
}

extension TempoTransaction {
  /// Reads the fields before the sender's signature; an envelope names the sender where a transaction has the fee payer's signature.
  fileprivate init(_ fields: inout RLPFields, isEnvelope: Bool, named: inout Address?) throws(EthereumError) {
    let chainID = try fields.uint64()
    let (priority, fee, gasLimit) = (try fields.uint128(), try fields.uint128(), try fields.uint64())
    let calls = try Call.calls(try fields.list())
    let accessList = try AccessListEntry.entries(try fields.list())
    let (nonceKey, nonce) = (try fields.number(), try fields.uint64())
    let (before, after) = (try fields.uint64(), try fields.uint64())
    let feeToken = try fields.optionalAddress()
    let feePayment: FeePayment
    if isEnvelope {
      named = try fields.address()
      feePayment = .awaited
    } else {
      feePayment = try FeePayment(try fields.item(), index: fields.index - 1)
    }
    let authorizations = try fields.list()
    let keyAuthorization = fields.left == 2 ? try fields.item() : nil
    self.init(
      chainID: chainID, maxPriorityFeePerGas: priority, maxFeePerGas: fee, gasLimit: gasLimit, calls: calls,
      accessList: accessList, nonceKey: nonceKey, nonce: nonce, validBefore: before == 0 ? nil : before,
      validAfter: after == 0 ? nil : after, feeToken: feeToken, feePayment: feePayment, authorizationList: authorizations,
      keyAuthorization: keyAuthorization)
  }
}

extension TempoTransaction.Call {
  fileprivate static func calls(_ items: [RLPItem]) throws(EthereumError) -> [TempoTransaction.Call] {
    var calls: [TempoTransaction.Call] = []
    for item in items {
      var fields = try RLPFields(item, counts: 3...3)
      calls.append(
        TempoTransaction.Call(to: try fields.optionalAddress(), value: try fields.number(), data: try fields.octets()))
    }
    return calls
  }
}

extension TempoTransaction.FeePayment {
  fileprivate init(_ item: RLPItem, index: Int) throws(EthereumError) {
    switch item {
    case .octets([]): self = .sender
    case .octets([0]): self = .awaited
    case .octets: throw .rlpField(.wrongSize, index: index)
    case .list:
      var fields = try RLPFields(item, counts: 3...3)
      let parity = try fields.uint64()
      guard let yParity = UInt8(exactly: parity), yParity <= 1 else { throw .malformedSignature }
      let (r, s) = (try fields.number().octets, try fields.number().octets)
      self = .signed(try ECDSASignature(r: r, s: s, yParity: yParity))
    }
  }
}
