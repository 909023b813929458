import Metering
import Payments

/// Estimates what a session's answer costs while it streams; the receipt decides.
struct StreamMeter {
  private let rates: [Rate]
  private let before: UInt128

  init?(challenge: Challenge, spent: UInt128) {
    guard let offer = PrepaidOffer(challenge), case .session(let terms) = offer.terms else { return nil }
    rates = terms.rates
    before = spent
  }

  /// Whether the length of an answer decides what it costs.
  var countsOctets: Bool { rates.contains { !$0.unit.isOnce } }

  /// The exact cost of a response of so many octets, rounded up once; nil where it overflows.
  private func cost(of byteCount: UInt64) -> UInt128? {
    var sum = ExactCost.zero
    for rate in rates {
      let units: UInt64
      switch rate.unit {
      case .request, .call: units = 1
      case .responseByte, .byte: units = byteCount
      // Only an upgraded connection has messages; the rest is not told by octets, and the receipt says it.
      case .requestByte, .requestMessage, .responseMessage, .message, .second, .event, .inputToken, .cachedInputToken, .outputToken, .reported: units = 0
      }
      guard let part = ExactCost(units: units, rate: rate), let next = sum.adding(part) else { return nil }
      sum = next
    }
    return sum.ceiling
  }

  /// What the session has spent after so many octets of the answer.
  func spent(after byteCount: UInt64) -> UInt128? {
    guard let cost = cost(of: byteCount) else { return nil }
    let (sum, overflow) = before.addingReportingOverflow(cost)
    return overflow ? nil : sum
  }

  /// What has to be added so that the rest of an answer of known length can come; nil where the length is not known.
  func rest(after byteCount: UInt64, of total: UInt64?, remaining: UInt128) -> UInt128? {
    guard let total, total > byteCount, let all = cost(of: total), let done = cost(of: byteCount), all > done else { return nil }
    // One unit more covers the rounding of a budget that other answers share.
    let rest = all - done + 1
    return rest > remaining ? rest - remaining : 1
  }
}
