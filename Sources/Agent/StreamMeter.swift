import Encoding
import Metering
import Methods
import Payments

/// Estimates what a session's answer costs while it streams; the receipt decides.
struct StreamMeter {
  /// By what the session is debited.
  let price: Price
  private let before: UInt128

  init?(challenge: Challenge, spent: UInt128) {
    guard let offer = PrepaidOffer(challenge), case .session(let terms) = offer.terms, let price = terms.price else { return nil }
    self.init(price: price, spent: spent)
  }

  init(price: Price, spent: UInt128) {
    self.price = price
    before = spent
  }

  /// Whether what comes decides what an answer costs.
  var countsContent: Bool { price.parts.contains { !$0.unit.isOnce } }

  /// Whether a second answer costs something even if nothing more comes.
  var costsAnew: Bool { price.minimum > 0 || price.parts.contains { $0.unit.isOnce && $0.amount > 0 } }

  /// What the session has spent when so much has come; nil where it overflows.
  func spent(after quantities: Quantities) -> UInt128? {
    guard let cost = price.cost(of: quantities)?.ceiling else { return nil }
    let (sum, overflow) = before.addingReportingOverflow(cost)
    return overflow ? nil : sum
  }

  /// What has to be added so that the rest of an answer of known length can come; nil where the length is not known, or not what is paid for.
  func rest(after quantities: Quantities, of total: UInt64?, remaining: UInt128) -> UInt128? {
    guard let total, total > quantities.responseOctets else { return nil }
    var whole = quantities
    whole.responseOctets = total
    guard let all = price.cost(of: whole)?.ceiling, let done = price.cost(of: quantities)?.ceiling, all > done else { return nil }
    // One unit more covers the rounding of a budget that other answers share.
    let rest = all - done + 1
    return rest > remaining ? rest - remaining : 1
  }
}
