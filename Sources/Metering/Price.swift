import Crypto
import Payments

/// What a route costs: one currency and up to four rates that are added up.
///
/// In words: `0.002 USDC per request`, `0.01 USDC per MB` (of response content), `… per MiB of request`, `… per KB of both`,
/// `0.5 USDC per 1000 requests`, and sums of them: `0.001 USDC per request + 0.01 USDC per MB`.
public struct Price: Sendable, Hashable {
  /// The most parts of one price.
  public static let maximumParts = 4

  /// The currency of every part.
  public let currency: Currency
  /// The rates, in the order in which they were written; the first is the one a session's request object leads with.
  public let parts: [Rate]
  /// Whether any part counts octets; such a route is sold by session only.
  public let isMetered: Bool
  /// What one request costs before its first octet of content.
  public let requestCost: ExactCost
  /// What an octet of request content costs, all parts that count it together; nil where none does.
  public let requestRate: Rate?
  /// What an octet of response content costs, all parts that count it together; nil where none does.
  public let responseRate: Rate?
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
    let request = parts.filter(\.unit.countsRequestBytes)
    let response = parts.filter(\.unit.countsResponseBytes)
    requestRate = Self.sum(of: request, unit: .requestByte)
    responseRate = Self.sum(of: response, unit: .responseByte)
    guard (requestRate == nil) == request.isEmpty, (responseRate == nil) == response.isEmpty else { return nil }
    self.currency = currency
    self.parts = parts
    self.isMetered = parts.contains { $0.unit.isByte }
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
