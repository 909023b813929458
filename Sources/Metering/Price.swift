import Crypto
import Payments

/// What a route costs: one currency, up to eight rates that are added up, and the least and the most that an exchange costs.
///
/// In words: `0.002 USDC per request`, `0.01 USDC per MB` (of response content), `… per MiB of request`, `… per KB of both`,
/// `0.5 USDC per 1000 requests`, `… per second`, `minute` or `hour`, `… per event`, `… per M input tokens`, `… per K output tokens`,
/// `… per call`, `… per unit` (what the upstream reports), and sums of them: `0.001 USDC per request + 0.01 USDC per MB, at most
/// 0.05 USDC`. Upgraded connections also have `… per message of both` (without "of": the server's).
public struct Price: Sendable, Hashable {
  /// The most parts of one price.
  public static let maximumParts = 8

  /// The currency of every part.
  public let currency: Currency
  /// The rates, in the order in which they were written; the first is the one a session's request object leads with.
  public let parts: [Rate]
  /// The least that an exchange costs, in base units; 0 where there is no such bound.
  public let minimum: UInt128
  /// The most that an exchange costs, in base units; the highest number where there is no such bound.
  public let maximum: UInt128
  /// Whether any part counts more than requests and calls, so that the cost is not known before the exchange.
  public let isMetered: Bool
  /// Whether an exchange without an upgrade has to be added up as a whole: some part counts events, tokens, reported units or seconds,
  /// or what is metered has a minimum or a maximum.
  public let isComposite: Bool
  /// Whether any part counts what only an upgraded connection has: messages.
  public let needsUpgrade: Bool
  /// Whether any part counts tokens, of input or output.
  public let countsTokens: Bool
  /// Whether any part counts server-sent events.
  public let countsEvents: Bool
  /// Whether any part counts units that the upstream reports.
  public let countsUnits: Bool
  /// Whether any part counts seconds.
  public let countsSeconds: Bool
  /// What one request costs before its first octet of content; between minimum and maximum where nothing else counts.
  public let requestCost: ExactCost
  /// What an octet of request content costs, all parts that count it together; nil where none does.
  public let requestRate: Rate?
  /// What an octet of response content costs, all parts that count it together; nil where none does.
  public let responseRate: Rate?
  /// What a message of the client's costs on a WebSocket connection, beside its octets; nil where it costs nothing.
  public let requestMessageRate: Rate?
  /// What a message of the server's costs; nil where it costs nothing.
  public let responseMessageRate: Rate?
  /// What a second costs; nil where it costs nothing.
  public let secondRate: Rate?
  /// A short name of exactly this price: 16 hexadecimal digits of a digest over currency, rates and bounds.
  public let version: String

  /// Makes a price; nil unless it has one to eight parts, no two of which count the same, all of their sums fit, and the minimum is not
  /// above a maximum that is above zero.
  public init?(currency: Currency, parts: [Rate], minimum: UInt128 = 0, maximum: UInt128 = .max) {
    guard !parts.isEmpty, parts.count <= Self.maximumParts, minimum <= maximum, maximum > 0 else { return nil }
    guard Set(parts.map(\.unit)).count == parts.count else { return nil }
    var cost = ExactCost.zero
    for part in parts where part.unit.isOnce {
      guard let one = ExactCost(units: 1, rate: part), let sum = cost.adding(one) else { return nil }
      cost = sum
    }
    let requestOctets = parts.filter { $0.unit.isByte && $0.unit.countsRequest }
    let responseOctets = parts.filter { $0.unit.isByte && $0.unit.countsResponse }
    let requestMessages = parts.filter { $0.unit.kind == .message && $0.unit.countsRequest }
    let responseMessages = parts.filter { $0.unit.kind == .message && $0.unit.countsResponse }
    requestRate = Self.sum(of: requestOctets, unit: .requestByte)
    responseRate = Self.sum(of: responseOctets, unit: .responseByte)
    requestMessageRate = Self.sum(of: requestMessages, unit: .requestMessage)
    responseMessageRate = Self.sum(of: responseMessages, unit: .responseMessage)
    secondRate = parts.first { $0.unit == .second }
    guard (requestRate == nil) == requestOctets.isEmpty, (responseRate == nil) == responseOctets.isEmpty else { return nil }
    guard (requestMessageRate == nil) == requestMessages.isEmpty, (responseMessageRate == nil) == responseMessages.isEmpty else { return nil }
    self.currency = currency
    self.parts = parts
    self.minimum = minimum
    self.maximum = maximum
    let kinds = Set(parts.map(\.unit.kind))
    let isMetered = parts.contains { !$0.unit.isOnce }
    self.isMetered = isMetered
    countsTokens = kinds.contains(.token)
    countsEvents = kinds.contains(.event)
    countsUnits = kinds.contains(.reported)
    countsSeconds = kinds.contains(.second)
    isComposite = isMetered && (minimum > 0 || maximum < .max || !kinds.isDisjoint(with: [.token, .event, .reported, .second]))
    needsUpgrade = kinds.contains(.message)
    requestCost = isMetered ? cost : Self.bounded(cost, minimum, maximum)
    version = Self.version(of: parts, currency: currency, minimum: minimum, maximum: maximum)
  }

  /// What costs nothing, in a currency: the price of an exchange within an allowance. It has no parts, and no words that could be read.
  public static func free(_ currency: Currency) -> Price { Price(free: currency) }

  private init(free currency: Currency) {
    self.currency = currency
    parts = []
    minimum = 0
    maximum = 0
    isMetered = false
    isComposite = false
    needsUpgrade = false
    countsTokens = false
    countsEvents = false
    countsUnits = false
    countsSeconds = false
    requestCost = .zero
    requestRate = nil
    responseRate = nil
    requestMessageRate = nil
    responseMessageRate = nil
    secondRate = nil
    version = "free"
  }

  /// Whether no exchange costs more by this price than by another of the same currency: each part is there, and none is dearer.
  public func isAtMost(_ other: Price) -> Bool {
    guard currency == other.currency, minimum <= other.minimum, maximum <= other.maximum else { return false }
    var units = parts.map(\.unit)
    // Cached tokens may have lost a rate of their own, and then cost what input costs.
    if units.contains(.inputToken), !units.contains(.cachedInputToken) { units.append(.cachedInputToken) }
    return units.allSatisfy { unit in
      guard let part = rate(countedFor: unit), let rate = other.rate(countedFor: unit) else { return false }
      let own = part.amount.multipliedFullWidth(by: UInt128(rate.unitSize))
      let others = rate.amount.multipliedFullWidth(by: UInt128(part.unitSize))
      return (own.high, own.low) <= (others.high, others.low)
    }
  }

  /// The rate at which a unit is counted: cached tokens without one of their own by that of input.
  private func rate(countedFor unit: Unit) -> Rate? {
    rate(of: unit) ?? (unit == .cachedInputToken ? rate(of: .inputToken) : nil)
  }

  /// The same price with other bounds; nil where the minimum is above the maximum.
  public func bounded(minimum: UInt128, maximum: UInt128) -> Price? {
    Price(currency: currency, parts: parts, minimum: minimum, maximum: maximum)
  }

  /// Finds the rate that counts a unit.
  public func rate(of unit: Unit) -> Rate? {
    parts.first { $0.unit == unit }
  }

  /// What a charge for one request asks for, in base units, rounded up: what it costs where that is known before, and otherwise the
  /// maximum where there is one.
  public var chargeAmount: UInt128 { isMetered && maximum < .max ? maximum : leastAmount }

  /// The least that one exchange costs, in base units, rounded up.
  public var leastAmount: UInt128 { Self.bounded(requestCost, minimum, maximum).ceiling }

  /// Prices an exchange: one request and the octets of content that passed; nil when the sum passes 128 bits.
  public func cost(requestBytes: UInt64, responseBytes: UInt64) -> ExactCost? {
    cost(of: Quantities(requestOctets: requestBytes, responseOctets: responseBytes))
  }

  /// Prices an exchange: one request or call and what it used, between minimum and maximum; nil when the sum passes 128 bits.
  public func cost(of quantities: Quantities) -> ExactCost? {
    var sum = requestCost
    for part in parts where !part.unit.isOnce {
      guard let count = count(of: part.unit, in: quantities) else { return nil }
      guard count > 0 else { continue }
      guard let cost = ExactCost(units: count, rate: part), let next = sum.adding(cost) else { return nil }
      sum = next
    }
    return Self.bounded(sum, minimum, maximum)
  }

  /// How much of a unit was used; nil past 64 bits.
  private func count(of unit: Unit, in quantities: Quantities) -> UInt64? {
    switch unit {
    case .request, .call: return 1
    case .requestByte: return quantities.requestOctets
    case .responseByte: return quantities.responseOctets
    case .byte: return Self.sum(quantities.requestOctets, quantities.responseOctets)
    case .requestMessage, .responseMessage, .message: return 0
    case .second: return quantities.seconds
    case .event: return quantities.events
    case .inputToken:
      let hasCachedPart = parts.contains { $0.unit == .cachedInputToken }
      return hasCachedPart ? quantities.inputTokens : Self.sum(quantities.inputTokens, quantities.cachedInputTokens)
    case .cachedInputToken: return quantities.cachedInputTokens
    case .outputToken: return quantities.outputTokens
    case .reported: return quantities.units
    }
  }

  private static func sum(_ left: UInt64, _ right: UInt64) -> UInt64? {
    let (sum, overflows) = left.addingReportingOverflow(right)
    return overflows ? nil : sum
  }

  private static func bounded(_ cost: ExactCost, _ minimum: UInt128, _ maximum: UInt128) -> ExactCost {
    min(max(cost, ExactCost(whole: minimum)), ExactCost(whole: maximum))
  }

  /// What a session must be able to pay to begin: a request, and one of each unit that an upgraded connection is metered in; nil
  /// when the sum passes 128 bits.
  public var upgradeCost: ExactCost? {
    var sum = requestCost
    for rate in [requestRate, responseRate, requestMessageRate, responseMessageRate, secondRate] {
      guard let rate else { continue }
      guard let cost = ExactCost(units: 1, rate: rate), let next = sum.adding(cost) else { return nil }
      sum = next
    }
    return sum
  }

  /// Adds rates up to one over their least common size; nil for none, or where it does not fit.
  private static func sum(of rates: [Rate], unit: Unit) -> Rate? {
    guard var sum = rates.first else { return nil }
    for rate in rates.dropFirst() {
      let factor = rate.unitSize / greatestCommonDivisor(sum.unitSize, rate.unitSize)
      let (size, overflows) = sum.unitSize.multipliedReportingOverflow(by: factor)
      guard !overflows else { return nil }
      let (left, leftOverflows) = sum.amount.multipliedReportingOverflow(by: UInt128(size / sum.unitSize))
      let (right, rightOverflows) = rate.amount.multipliedReportingOverflow(by: UInt128(size / rate.unitSize))
      let (amount, overflowsToo) = left.addingReportingOverflow(right)
      guard !leftOverflows, !rightOverflows, !overflowsToo, let next = Rate(amount: amount, unitSize: size, unit: unit) else { return nil }
      sum = next
    }
    return Rate(amount: sum.amount, unitSize: sum.unitSize, unit: unit)
  }

  private static func greatestCommonDivisor(_ left: UInt64, _ right: UInt64) -> UInt64 {
    right == 0 ? left : greatestCommonDivisor(right, left % right)
  }

  private static func version(of parts: [Rate], currency: Currency, minimum: UInt128, maximum: UInt128) -> String {
    var text = "price-v1|\(currency.code)|\(currency.decimals)"
    for part in parts { text += "|\(part.amount)/\(part.unitSize)/\(part.unit.rawValue)" }
    // Prices without bounds keep the versions that they had before there were any.
    if minimum > 0 { text += "|min/\(minimum)" }
    if maximum < .max { text += "|max/\(maximum)" }
    return String(SHA256.hash(text).hex.prefix(16))
  }
}
