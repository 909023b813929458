import Bytes

extension Cashier {
  /// Names the session or the wallet that pays an exchange, for a relay that sends what belongs together to one server.
  func payer(of exchange: borrowing PaidExchange, prefersSession: Bool) -> Digest32? {
    guard exchange.place != PaidExchange.none else { return nil }
    if let session = exchanges[exchange.place].session { return prefersSession ? session.id : session.wallet }
    return exchanges[exchange.place].payer
  }
}
