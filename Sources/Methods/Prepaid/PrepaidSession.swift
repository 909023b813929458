import Bytes
import Encoding
import Metering
import Payments

/// The request object of a session by the prepaid method.
public struct PrepaidSession: Sendable, Hashable {
  /// The rates, the leading one first.
  public let rates: [Rate]
  /// The ledger's code of the asset, in lower case.
  public let currency: String
  /// The merchant account that is credited.
  public let recipient: String
  /// What a client that has no opinion should deposit, in base units.
  public let suggestedDeposit: UInt128
  /// The least deposit of an open, in base units.
  public let minimumDeposit: UInt128
  /// The least that one exchange costs, in base units; 0 where there is no such bound.
  public let minimum: UInt128
  /// The most that one exchange costs, in base units; the highest number where there is no such bound.
  public let maximum: UInt128
  /// Seconds without anything in flight after which the session is closed and refunded.
  public let idleTimeout: UInt64
  /// What is bought, for people.
  public let description: String?
  /// How ledger, decimals and resource are told.
  public let details: PrepaidDetails

  /// Makes the object's content; `rates` has at least one.
  public init(
    rates: [Rate], currency: String, recipient: String, suggestedDeposit: UInt128, minimumDeposit: UInt128, idleTimeout: UInt64,
    minimum: UInt128 = 0, maximum: UInt128 = .max, description: String? = nil, details: PrepaidDetails
  ) {
    self.rates = rates
    self.currency = currency
    self.recipient = recipient
    self.suggestedDeposit = suggestedDeposit
    self.minimumDeposit = minimumDeposit
    self.idleTimeout = idleTimeout
    self.minimum = minimum
    self.maximum = maximum
    self.description = description
    self.details = details
  }

  /// Reads a request object; members that are unknown are passed over, since later versions may add some.
  public init(parsing object: JSONObject) throws(PrepaidError) {
    var members = PrepaidMembers(object)
    currency = try members.string(.currency)
    recipient = try members.string(.recipient)
    suggestedDeposit = try members.amount(.suggestedDeposit)
    description = try members.optionalString(.description)
    let amount = try members.amount(.amount)
    let unitType = try members.string(.unitType)
    let detailsObject = try members.object(.methodDetails)
    details = try PrepaidDetails(parsing: detailsObject)
    var more = PrepaidMembers(detailsObject)
    minimumDeposit = try more.amount(.minimumDeposit)
    idleTimeout = try more.count(.idleTimeout)
    minimum = more.has(.minimum) ? try more.amount(.minimum) : 0
    maximum = more.has(.maximum) ? try more.amount(.maximum) : .max
    guard maximum > 0 else { throw .invalid(.maximum) }
    guard minimum <= maximum else { throw .contradiction(.minimum) }
    let unitSize = more.has(.unitSize) ? try more.count(.unitSize) : 1
    guard let prices = more.optionalValue(.prices) else {
      guard let unit = Unit(wireName: unitType, direction: nil) else { throw .invalid(.unitType) }
      guard let rate = Rate(amount: amount, unitSize: unitSize, unit: unit) else { throw .invalid(.amount) }
      rates = [rate]
      return
    }
    rates = try Self.rates(prices)
    // The leading rate is told twice; a client that shows one and pays by the other must not exist.
    guard rates[0].amount == amount else { throw .contradiction(.amount) }
    guard rates[0].unitSize == unitSize else { throw .contradiction(.unitSize) }
    guard rates[0].unit.wireName == unitType else { throw .contradiction(.unitType) }
  }

  /// Reads rates as `prices` lists them.
  static func rates(_ value: JSONValue) throws(PrepaidError) -> [Rate] {
    guard let list = value.arrayValue, !list.isEmpty, list.count <= Price.maximumParts else { throw .invalid(.prices) }
    var rates: [Rate] = []
    for element in list {
      guard let object = element.objectValue else { throw .invalid(.prices) }
      var members = PrepaidMembers(object)
      let amount = try members.amount(.amount)
      let size = try members.count(.unitSize)
      let name = try members.string(.unitType)
      let direction = try members.optionalString(.direction)
      guard let unit = Unit(wireName: name, direction: direction), !rates.contains(where: { $0.unit == unit }) else {
        throw .invalid(.unitType)
      }
      guard let rate = Rate(amount: amount, unitSize: size, unit: unit) else { throw .invalid(.amount) }
      rates.append(rate)
    }
    return rates
  }

  /// The price by which the session is debited; nil where the currency's decimals or the sums of the rates do not fit.
  public var price: Price? {
    Currency(code: currency, decimals: details.decimals).flatMap { Price(currency: $0, parts: rates, minimum: minimum, maximum: maximum) }
  }

  /// The request object. `prices` stands where there are several rates, or where the leading one has a direction: its entries may
  /// have `direction` ("request" or "both"; of tokens "input", "cached-input" or "output"); a `unitType` of "byte" without one counts
  /// the response. `minimum` and `maximum` of one exchange stand where they are set.
  public var object: JSONObject {
    let leading = rates[0]
    var details = details.object
    details.set("unitSize", .string(String(leading.unitSize)))
    details.set("minimumDeposit", .string(String(minimumDeposit)))
    details.set("idleTimeout", .string(String(idleTimeout)))
    if minimum > 0 { details.set("minimum", .string(String(minimum))) }
    if maximum < .max { details.set("maximum", .string(String(maximum))) }
    if rates.count > 1 || leading.unit.wireDirection != nil {
      details.set("prices", Self.list(rates))
    }
    var object: JSONObject = [
      "amount": .string(String(leading.amount)), "currency": .string(currency), "recipient": .string(recipient),
      "unitType": .string(leading.unit.wireName), "suggestedDeposit": .string(String(suggestedDeposit)),
      "methodDetails": .object(details),
    ]
    if let description { object.set("description", .string(description)) }
    return object
  }

  /// Rates as `prices` lists them.
  public static func list(_ rates: [Rate]) -> JSONValue { .array(rates.map { .object(entry($0)) }) }

  private static func entry(_ rate: Rate) -> JSONObject {
    var entry: JSONObject = [
      "unitType": .string(rate.unit.wireName), "unitSize": .string(String(rate.unitSize)), "amount": .string(String(rate.amount)),
    ]
    if let direction = rate.unit.wireDirection { entry.set("direction", .string(direction)) }
    return entry
  }
}
