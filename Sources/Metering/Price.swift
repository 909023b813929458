import Crypto
import Payments

/// What a route costs: one currency and up to four rates that are added up.
///
/// In words: `0.002 USDC per request`, `0.01 USDC per MB` (of response content), `… per MiB of request`, `… per KB of both`,
/// `0.5 USDC per 1000 requests`, and sums of them: `0.001 USDC per request + 0.01 USDC per MB`. Upgraded connections also
/// have `… per message of both` (without "of": the server's) and `… per second`, `minute` or `hour`.
public struct Price: Sendable, Hashable {
  /// The most parts of one price.
  public static let maximumParts = 4

  /// The currency of every part.
  public let currency: Currency
  /// The rates, in the order in which they were written; the first is the one a session's request object leads with.
  public let parts: [Rate]
  /// Whether any part counts more than requests; such a route is sold by session only.
  public let isMetered: Bool
  /// Whether any part counts what only an upgraded connection has: messages or seconds.
  public let needsUpgrade: Bool
  /// What one request costs before its first octet of content.
  public let requestCost: ExactCost
  /// What an octet of request content costs, all parts that count it together; nil where none does.
  public let requestRate: Rate?
  /// What an octet of response content costs, all parts that count it together; nil where none does.
  public let responseRate: Rate?
  /// What a message of the client's costs on a WebSocket connection, beside its octets; nil where it costs nothing.
  public let requestMessageRate: Rate?
  /// What a message of the server's costs; nil where it costs nothing.
  public let responseMessageRate: Rate?
  /// What a second of an upgraded connection costs; nil where it costs nothing.
  public let secondRate: Rate?
  /// A short name of exactly this price: 16 hexadecimal digits of a digest over currency and rates.
  public let version: String

  /// Makes a price; nil unless it has one to four parts, no two of which count the same, and all of their sums fit.
  public init?(currency: Currency, parts: [Rate]) {
    guard !parts.isEmpty, parts.count <= Self.maximumParts else { return nil }
    guard Set(parts.map(\.unit)).count == parts.count else { return nil }
    var cost = ExactCost.zero
    for part in parts where part.unit == .request {
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
    self.isMetered = parts.contains { $0.unit != .request }
    self.needsUpgrade = parts.contains { $0.unit.needsUpgrade }
    self.requestCost = cost
    self.version = Self.version(of: parts, currency: currency)
  }

  /// Finds the rate that counts a unit.
  public func rate(of unit: Unit) -> Rate? {
    parts.first { $0.unit == unit }
  }

  /// What a charge for one request costs, in base units, rounded up.
  public var chargeAmount: UInt128 { requestCost.ceiling }

  /// Prices an exchange: one request and the octets of content that passed; nil when the sum passes 128 bits.
  public func cost(requestBytes: UInt64, responseBytes: UInt64) -> ExactCost? {
    var sum = requestCost
    for (count, rate) in [(requestBytes, requestRate), (responseBytes, responseRate)] {
      guard let rate, count > 0 else { continue }
      guard let cost = ExactCost(units: count, rate: rate), let next = sum.adding(cost) else { return nil }
      sum = next
    }
    return sum
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

  private static func version(of parts: [Rate], currency: Currency) -> String {
    var text = "price-v1|\(currency.code)|\(currency.decimals)"
    for part in parts { text += "|\(part.amount)/\(part.unitSize)/\(part.unit.rawValue)" }
    return String(SHA256.hash(text).hex.prefix(16))
  }
}
