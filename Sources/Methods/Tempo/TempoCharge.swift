import Bytes
import Encoding
import Ethereum

/// The request object of a charge by the method `tempo` (draft-tempo-charge-00 "Request Schema").
public struct TempoCharge: Sendable, Hashable {
  /// The method's identifier.
  public static let method = "tempo"
  /// The intent's identifier.
  public static let intent = "charge"
  /// The chain of an offer that names none.
  public static let defaultChainID: UInt64 = 42431

  /// Names who broadcasts a transaction.
  public enum Mode: String, Sendable, Hashable, CaseIterable {
    /// We do, and the payer hands it over signed.
    case pull
    /// The payer does, and hands over its hash.
    case push
  }

  /// A part of the amount that goes to somebody else.
  public struct Split: Sendable, Hashable {
    /// Who gets it.
    public let recipient: Address
    /// Base units, more than none.
    public let amount: UInt128
    /// The memo that the transfer must have; nil where any or none will do.
    public let memo: Digest32?

    /// Takes the members.
    public init(recipient: Address, amount: UInt128, memo: Digest32? = nil) {
      self.recipient = recipient
      self.amount = amount
      self.memo = memo
    }
  }

  /// The total that the payer pays, in base units; for nothing he proves who he is.
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
  /// Whether we pay the fees.
  public let feePayer: Bool
  /// The memo that the recipient's transfer must have; nil where any or none will do.
  public let memo: Digest32?
  /// What goes to others.
  public let splits: [Split]
  /// Who may broadcast; nil where the offer does not say, so that either may.
  public let supportedModes: [Mode]?

  /// Makes the object's content.
  public init(
    amount: UInt128, currency: Address, recipient: Address, description: String? = nil, externalId: String? = nil, chainID: UInt64,
    feePayer: Bool = false, memo: Digest32? = nil, splits: [Split] = [], supportedModes: [Mode]? = nil
  ) {
    self.amount = amount
    self.currency = currency
    self.recipient = recipient
    self.description = description
    self.externalId = externalId
    self.chainID = chainID
    self.feePayer = feePayer
    self.memo = memo
    self.splits = splits
    self.supportedModes = supportedModes
  }

  /// Reads a request object; members that are unknown are passed over, since later versions may add some.
  ///
  /// - Throws: `missing`, `malformed`, `overflow`, `tooLong`, `splitsReachAmount`.
  public init(parsing object: JSONObject) throws(ChainChargeError) {
    let members = ChainMembers(object)
    let details = members[.methodDetails] == nil ? ChainMembers(JSONObject()) : try members.members(.methodDetails)
    amount = try members.units(.amount)
    currency = try members.address(.currency)
    recipient = try members.address(.recipient)
    description = try members.optionalString(.description)
    externalId = try members.optionalString(.externalId)
    chainID = details[.chainId] == nil ? Self.defaultChainID : try details.whole(.chainId)
    feePayer = try details.flag(.feePayer)
    memo = details[.memo] == nil ? nil : try details.word(.memo)
    splits = try Self.splits(details)
    supportedModes = try Self.modes(details)
    guard chainID > 0 else { throw .malformed(.chainId) }
    guard amount == 0 && splits.isEmpty || remainder != nil else { throw .splitsReachAmount }
  }

  private static func splits(_ details: ChainMembers) throws(ChainChargeError) -> [Split] {
    guard details[.splits] != nil else { return [] }
    var splits: [Split] = []
    for members in try details.objects(.splits, limit: EVMCharge.splitLimit) {
      let memo = members[.memo] == nil ? nil : try members.word(.memo)
      let amount = try members.units(.amount)
      guard amount > 0 else { throw .malformed(.amount) }
      splits.append(Split(recipient: try members.address(.recipient), amount: amount, memo: memo))
    }
    guard !splits.isEmpty else { throw .malformed(.splits) }
    return splits
  }

  private static func modes(_ details: ChainMembers) throws(ChainChargeError) -> [Mode]? {
    guard details[.supportedModes] != nil else { return nil }
    let modes = try details.array(.supportedModes, limit: 16).compactMap { $0.stringValue.flatMap { Mode(rawValue: $0) } }
    guard !modes.isEmpty else { throw .malformed(.supportedModes) }
    return modes
  }

  /// What the splits leave for the recipient, in base units; nil where that is nothing.
  public var remainder: UInt128? { amount.remainder(after: splits.map(\.amount)) }

  /// Whether a mode may be chosen.
  public func accepts(_ mode: Mode) -> Bool { supportedModes?.contains(mode) ?? true }

  /// The transfers that a payment consists of.
  ///
  /// - Parameters:
  ///   - unasked: what the recipient's memo must be where the offer asks for none.
  func transfers(from payer: Address?, unasked: ExpectedMemo) throws(ChainChargeError) -> [ExpectedTransfer] {
    guard let remainder else { throw .splitsReachAmount }
    let first = ExpectedTransfer(
      token: currency, from: payer, to: recipient, amount: remainder, memo: memo.map { .exact($0) } ?? unasked)
    return [first]
      + splits.map { split in
        ExpectedTransfer(
          token: currency, from: payer, to: split.recipient, amount: split.amount, memo: split.memo.map { .exact($0) } ?? .any)
      }
  }

  /// The request object.
  public var object: JSONObject {
    var details: JSONObject = ["chainId": .integer(chainID)]
    if feePayer { details.set("feePayer", true) }
    if let memo { details.set("memo", .string(HexData.text(memo))) }
    if !splits.isEmpty { details.set("splits", .array(splits.map { .object($0.object) })) }
    if let supportedModes { details.set("supportedModes", .array(supportedModes.map { .string($0.rawValue) })) }
    var object: JSONObject = [
      "amount": "\(amount)", "currency": .string(currency.checksummed), "recipient": .string(recipient.checksummed),
      "methodDetails": .object(details),
    ]
    if let description { object.set("description", .string(description)) }
    if let externalId { object.set("externalId", .string(externalId)) }
    return object
  }
}

extension TempoCharge.Split {
  fileprivate var object: JSONObject {
    var object: JSONObject = ["amount": "\(amount)", "recipient": .string(recipient.checksummed)]
    if let memo { object.set("memo", .string(HexData.text(memo))) }
    return object
  }
}
