import Bytes
import Encoding
import Ethereum
import Metering
import Payments

/// The request object of a session over a channel: method `evm`, or `tempo` (drafts, "Request Schema").
///
/// `unitSize`, `prices`, `minimum`, `maximum`, `minimumDeposit`, `idleTimeout` and `decimals` of `methodDetails` are additions: they say
/// what the drafts' one price of one unit cannot.
public struct ChannelSession: Sendable, Hashable {
  /// The chain of Tempo's sessions that name none.
  public static let tempoChain: UInt64 = 4217

  /// What kind of channel pays.
  public let rules: ChannelProtocol
  /// The price of `unitSize` units, in base units.
  public let amount: UInt128
  /// What is counted; nil where the offer does not say.
  public let unitType: String?
  /// What a payer that has no opinion should deposit, in base units.
  public let suggestedDeposit: UInt128?
  /// The token's contract.
  public let currency: Address
  /// Who is paid: the channel's payee.
  public let recipient: Address
  /// What is bought, for people.
  public let description: String?
  /// The merchant's own reference.
  public let externalId: String?
  /// How the session is paid, besides the price.
  public let details: ChannelDetails

  /// Makes the object's content.
  public init(
    rules: ChannelProtocol, amount: UInt128, unitType: String?, suggestedDeposit: UInt128? = nil, currency: Address,
    recipient: Address, description: String? = nil, externalId: String? = nil, details: ChannelDetails
  ) {
    self.rules = rules
    self.amount = amount
    self.unitType = unitType
    self.suggestedDeposit = suggestedDeposit
    self.currency = currency
    self.recipient = recipient
    self.description = description
    self.externalId = externalId
    self.details = details
  }

  /// Makes the content of an offer at a price.
  ///
  /// - Parameters:
  ///   - rates: at least one, the leading one first.
  public init(
    rules: ChannelProtocol, rates: [Rate], suggestedDeposit: UInt128?, currency: Address, recipient: Address,
    description: String? = nil, details: ChannelDetails
  ) {
    let leading = rates[0]
    var details = details
    details.unitSize = leading.unitSize
    details.prices = rates.count > 1 || leading.unit.wireDirection != nil ? rates : []
    self.init(
      rules: rules, amount: leading.amount, unitType: leading.unit.wireName, suggestedDeposit: suggestedDeposit, currency: currency,
      recipient: recipient, description: description, details: details)
  }

  /// Reads the request object of a method's session; members that are unknown are passed over, since later versions may add some.
  ///
  /// - Parameters:
  ///   - method: the challenge's.
  /// - Throws: `missing`, `malformed`, `overflow`, `tooLong`; `unknownType` for another method or protocol.
  public init(parsing object: JSONObject, method: String) throws(ChainChargeError) {
    let members = ChainMembers(object)
    let details = try members.members(.methodDetails)
    rules = try Self.rules(method, details)
    amount = try members.units(.amount)
    unitType = try members.optionalString(.unitType)
    suggestedDeposit = members[.suggestedDeposit] == nil ? nil : try members.units(.suggestedDeposit)
    currency = try members.address(.currency)
    recipient = try members.address(.recipient)
    description = try members.optionalString(.description)
    externalId = try members.optionalString(.externalId)
    self.details = try ChannelDetails(details, rules: rules)
    guard amount > 0 else { throw .malformed(.amount) }
    if let leading = self.details.prices.first {
      // The leading price is told twice; a client that shows one and pays by the other must not exist.
      guard leading.amount == amount else { throw .malformed(.amount) }
      guard leading.unitSize == self.details.unitSize else { throw .malformed(.unitSize) }
      guard leading.unit.wireName == unitType else { throw .malformed(.unitType) }
    }
  }

  private static func rules(_ method: String, _ details: ChainMembers) throws(ChainChargeError) -> ChannelProtocol {
    switch method {
    case ChannelProtocol.evm.method: return .evm
    case ChannelProtocol.tempoV2.method:
      switch try details.optionalString(.sessionProtocol) {
      case nil, "v1": return .tempoV1
      case "v2": return .tempoV2
      default: throw .unknownType
      }
    default: throw .unknownType
    }
  }

  /// The rates by which the session is charged; nil where the offer counts what is unknown here.
  public var rates: [Rate]? {
    if !details.prices.isEmpty { return details.prices }
    guard let unit = Unit(wireName: unitType ?? "request", direction: nil),
      let rate = Rate(amount: amount, unitSize: details.unitSize, unit: unit)
    else { return nil }
    return [rate]
  }

  /// The price by which the session is charged, in a currency with the token's decimals; nil where the sums do not fit.
  public func price(in currency: Currency) -> Price? {
    rates.flatMap { Price(currency: currency, parts: $0, minimum: details.minimum, maximum: details.maximum) }
  }

  /// Whether a way of depositing is accepted: an offer that names none takes what the payer sends himself.
  public func accepts(_ kind: ChannelFunding.Kind) -> Bool {
    switch rules {
    case .evm: (details.credentialTypes ?? [.hash]).contains(kind) && kind != .transaction
    case .tempoV1, .tempoV2: kind == .transaction
    case .batch: false
    }
  }

  /// The request object.
  public var object: JSONObject {
    var object: JSONObject = [
      "amount": "\(amount)", "currency": .string(currency.checksummed), "recipient": .string(recipient.checksummed),
      "methodDetails": .object(details.object(rules: rules)),
    ]
    if let unitType { object.set("unitType", .string(unitType)) }
    if let suggestedDeposit { object.set("suggestedDeposit", "\(suggestedDeposit)") }
    if let description { object.set("description", .string(description)) }
    if let externalId { object.set("externalId", .string(externalId)) }
    return object
  }
}
