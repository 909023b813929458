import Configuration
import Encoding
import Ledger
import Metering

// Responses sold by the request that do not come whole: what of their price goes back.
extension Cashier {
  /// What goes back of an exchange's price.
  enum Refund: Equatable {
    case none
    case all
    /// All but the delivered share of the announced length, which is at least 1.
    case undelivered(UInt64, of: UInt64)
  }

  /// How many octets of a response may be withheld until it is whole and paid for then; nil where it is paid for at its head.
  func withholds(
    _ place: UInt32, _ exchange: borrowing PaidExchange, status: UInt16, isEventStream: Bool, _ contentLength: UInt64?
  ) -> Int? {
    guard let settlement = routes[Int(exchanges[place].route)]?.settlement, settlement.isAtEnd, status != 101, !isEventStream, !exchange.isMetered,
      !exchange.isTallied, contentLength.map({ $0 <= UInt64(settlement.limit) }) ?? true
    else { return nil }
    return settlement.limit
  }

  /// Whether a part of the exchange's price may go back after it was settled.
  func mayRefund(_ place: UInt32) -> Bool {
    guard let settlement = routes[Int(exchanges[place].route)]?.settlement else { return false }
    return exchanges[place].isCharged && isSoldWhole(place) && (settlement.broken != .none || settlement.left != .none)
  }

  /// Whether the exchange is sold by the request and by nothing else; a switched connection is sold by the switch.
  private func isSoldWhole(_ place: UInt32) -> Bool {
    !exchanges[place].isMetered && exchanges[place].tally == nil && !exchanges[place].isUpgrade
  }

  /// What goes back of an exchange that ends so.
  func refund(_ place: UInt32, _ exchange: borrowing PaidExchange, _ end: ExchangeEnd) -> Refund {
    guard let settlement = routes[Int(exchanges[place].route)]?.settlement, exchanges[place].isCharged, isSoldWhole(place) else { return .none }
    let rule: Settings.Settlement.Refund
    switch end {
    case .upstreamBroke, .upstreamFailed(beforeHead: false):
      // Of a payment on a chain no part goes back: all of it is served once more.
      rule = settlement.broken == .share && exchanges[place].chain != nil ? .all : settlement.broken
    case .clientLeft(requestForwarded: _, headSeen: true, safe: _): rule = settlement.left
    case .complete, .upstreamFailed, .clientLeft, .abandoned, .sessionStopped, .holdTimeout, .ledgerLost: return .none
    }
    switch rule {
    case .none: return .none
    case .all:
      // Nothing has left of what is withheld. Elsewhere who does not take what there is could make the upstream break off.
      let hasTakenAll = !exchange.isClientBehind
      if hasTakenAll || exchanges[place].isWithheld { return .all }
    case .share: if exchanges[place].isWithheld { return .all }
    }
    guard let length = exchanges[place].announcedLength, length > 0 else { return .none }
    return exchange.deliveredOctets == 0 ? .all : .undelivered(min(exchange.deliveredOctets, length), of: length)
  }

  /// What a session's request costs in the end: what was used, less what goes back, in whole base units.
  func remainder(_ place: UInt32, _ refund: Refund) -> ExactCost {
    let used = exchanges[place].used
    switch refund {
    case .none: return used
    case .all: return .zero
    case .undelivered(let delivered, let length):
      return min(used, ExactCost(whole: Self.share(of: used.ceiling, delivered, of: length)))
    }
  }

  /// Ends a charge that stayed open, and gives back what goes back of it.
  mutating func endOpenCharge(_ place: UInt32, _ refund: Refund, at now: Timestamp) {
    guard let ledger, let hold = exchanges[place].openCharge else { return }
    let amount = exchanges[place].amount
    switch refund {
    case .none: ledger.end(hold, givingBack: 0, at: now)
    case .all: ledger.end(hold, givingBack: amount, at: now)
    // A payment on a chain goes back whole or not at all, and its hold may be less than was paid: others have parts of it.
    case .undelivered(let delivered, _) where exchanges[place].chain != nil: ledger.end(hold, givingBack: delivered == 0 ? amount : 0, at: now)
    case .undelivered(let delivered, let length):
      ledger.end(hold, givingBack: amount - min(amount, Self.share(of: amount, delivered, of: length)), at: now)
    }
    exchanges[place].openCharge = nil
  }

  /// The share of an amount, rounded up: what was delivered is paid for.
  static func share(of amount: UInt128, _ part: UInt64, of whole: UInt64) -> UInt128 {
    guard part < whole else { return amount }
    let product = amount.multipliedFullWidth(by: UInt128(part))
    // The share is below the amount, so the quotient fits.
    let (quotient, rest) = UInt128(whole).dividingFullWidth(product)
    return rest > 0 ? quotient + 1 : quotient
  }
}
