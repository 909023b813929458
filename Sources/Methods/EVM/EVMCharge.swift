import Bytes
import Encoding
import Ethereum

/// The request object of a charge by the method `evm` (draft-evm-charge-00 "Request Schema").
public struct EVMCharge: Sendable, Hashable {
  /// The method's identifier.
  public static let method = "evm"
  /// The intent's identifier.
  public static let intent = "charge"
  /// The most splits.
  public static let splitLimit = 10

  /// Names what a payer hands over.
  public enum CredentialType: String, Sendable, Hashable, CaseIterable {
    /// A permit of Permit2; we submit it.
    case permit2
    /// An authorization of the token (EIP-3009); we submit it.
    case authorization
    /// The payer's signed transaction; we broadcast it.
    case transaction
    /// The hash of a transaction that the payer has broadcast.
    case hash
  }

  /// A part of the amount that goes to somebody else.
  public struct Split: Sendable, Hashable {
    /// Who gets it.
    public let recipient: Address
    /// Base units.
    public let amount: UInt128
    /// A label for people.
    public let memo: String?

    /// Takes the members.
    public init(recipient: Address, amount: UInt128, memo: String? = nil) {
      self.recipient = recipient
      self.amount = amount
      self.memo = memo
    }
  }

  /// The total that the payer pays, in base units.
  public let amount: UInt128
  /// The token's contract.
  public let currency: Address
  /// Who gets what the splits leave.
  public let recipient: Address
  /// What is bought, for people.
  public let description: String?
  /// The merchant's own reference.
  public let externalId: String?
  /// The chain's id (EIP-155).
  public let chainID: UInt64
  /// The Permit2 contract of the chain.
  public let permit2: Address
  /// Who submits permits, and is their spender; nil where the offer does not say, so that permits cannot be signed.
  ///
  /// The draft has no member for it, though every permit's signature covers it: this is `methodDetails.spender`, an addition.
  public let spender: Address?
  /// What is accepted, best first; nil where the offer does not say.
  public let credentialTypes: [CredentialType]?
  /// The token's decimals, for people.
  public let decimals: UInt8?
  /// What goes to others, in order.
  public let splits: [Split]

  /// Makes the object's content.
  public init(
    amount: UInt128, currency: Address, recipient: Address, description: String? = nil, externalId: String? = nil, chainID: UInt64,
    permit2: Address = Permit2.address, spender: Address? = nil, credentialTypes: [CredentialType]?, decimals: UInt8? = nil,
    splits: [Split] = []
  ) {
    self.amount = amount
    self.currency = currency
    self.recipient = recipient
    self.description = description
    self.externalId = externalId
    self.chainID = chainID
    self.permit2 = permit2
    self.spender = spender
    self.credentialTypes = credentialTypes
    self.decimals = decimals
    self.splits = splits
  }

  /// Reads a request object; members that are unknown are passed over, since later versions may add some.
  ///
  /// - Throws: `missing`, `malformed`, `overflow`, `tooLong`, `splitsReachAmount`.
  public init(parsing object: JSONObject) throws(ChainChargeError) {
    let members = ChainMembers(object)
    let details = try members.members(.methodDetails)
    amount = try members.units(.amount)
    currency = try members.address(.currency)
    recipient = try members.address(.recipient)
    description = try members.optionalString(.description)
    externalId = try members.optionalString(.externalId)
    chainID = try details.whole(.chainId)
    // The draft calls the member required and gives it a default; neither of the clients sends it.
    permit2 = details[.permit2Address] == nil ? Permit2.address : try details.address(.permit2Address)
    spender = details[.spender] == nil ? nil : try details.address(.spender)
    credentialTypes = try Self.types(details)
    decimals = try Self.decimals(details)
    splits = try Self.splits(details)
    guard amount > 0 else { throw .malformed(.amount) }
    guard chainID > 0 else { throw .malformed(.chainId) }
    guard remainder != nil else { throw .splitsReachAmount }
  }

  private static func types(_ details: ChainMembers) throws(ChainChargeError) -> [CredentialType]? {
    guard details[.credentialTypes] != nil else { return nil }
    // Types of later versions are nothing that we could send.
    return try details.array(.credentialTypes, limit: 16).compactMap { $0.stringValue.flatMap { CredentialType(rawValue: $0) } }
  }

  private static func decimals(_ details: ChainMembers) throws(ChainChargeError) -> UInt8? {
    guard details[.decimals] != nil else { return nil }
    guard let decimals = UInt8(exactly: try details.whole(.decimals)) else { throw .malformed(.decimals) }
    return decimals
  }

  private static func splits(_ details: ChainMembers) throws(ChainChargeError) -> [Split] {
    guard details[.splits] != nil else { return [] }
    var splits: [Split] = []
    for members in try details.objects(.splits, limit: splitLimit) {
      let memo = try members.optionalString(.memo)
      guard memo?.unicodeScalars.count ?? 0 <= 256 else { throw .tooLong(.memo, limit: 256) }
      splits.append(Split(recipient: try members.address(.recipient), amount: try members.units(.amount), memo: memo))
    }
    guard !splits.isEmpty else { throw .malformed(.splits) }
    return splits
  }

  /// What the splits leave for the recipient, in base units; nil where that is nothing.
  public var remainder: UInt128? { amount.remainder(after: splits.map(\.amount)) }

  /// Whether a type is accepted; an offer that names none accepts what the payer sends himself.
  public func accepts(_ type: CredentialType) -> Bool {
    guard let credentialTypes else { return type == .transaction || type == .hash }
    return credentialTypes.contains(type)
  }

  /// The transfers in the order in which permits hold them.
  func transfers() throws(ChainChargeError) -> [EVMPermit.Transfer] {
    guard let remainder else { throw .splitsReachAmount }
    return [EVMPermit.Transfer(to: recipient, amount: remainder)] + splits.map { EVMPermit.Transfer(to: $0.recipient, amount: $0.amount) }
  }

  /// The request object.
  public var object: JSONObject {
    var details: JSONObject = [
      "chainId": .integer(chainID), "permit2Address": .string(permit2.checksummed),
    ]
    if let spender { details.set("spender", .string(spender.checksummed)) }
    if let credentialTypes { details.set("credentialTypes", .array(credentialTypes.map { .string($0.rawValue) })) }
    if let decimals { details.set("decimals", .integer(decimals)) }
    if !splits.isEmpty { details.set("splits", .array(splits.map { .object($0.object) })) }
    var object: JSONObject = [
      "amount": "\(amount)", "currency": .string(currency.checksummed), "recipient": .string(recipient.checksummed),
      "methodDetails": .object(details),
    ]
    if let description { object.set("description", .string(description)) }
    if let externalId { object.set("externalId", .string(externalId)) }
    return object
  }

  /// The members that a receipt has besides those of every method (draft-evm-charge-00 "Receipt Generation").
  public var receiptMembers: JSONObject {
    var members: JSONObject = ["chainId": .integer(chainID)]
    if let externalId { members.set("externalId", .string(externalId)) }
    return members
  }
}

extension EVMCharge.Split {
  fileprivate var object: JSONObject {
    var object: JSONObject = ["recipient": .string(recipient.checksummed), "amount": "\(amount)"]
    if let memo { object.set("memo", .string(memo)) }
    return object
  }
}
