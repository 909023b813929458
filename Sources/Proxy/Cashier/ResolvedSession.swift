import Bytes
import Ledger
import Metering
import Payments

/// A session as a bearer credential opens it on one route: everything that a request of it needs again and again. An object,
/// since every request takes it in hand.
final class ResolvedSession: Sendable {
  let handle: SessionHandle
  let id: Digest32
  /// The wallet's key.
  let wallet: Digest32
  let currency: String
  /// What each request costs before its first octet, and what octets cost, by the terms that the session recorded.
  let requestCost: ExactCost
  let requestRate: Rate?
  let responseRate: Rate?
  let receipt: SessionReceipt

  /// Takes from a price what each request needs of it.
  init(handle: SessionHandle, id: Digest32, wallet: Digest32, price: Price, receipt: SessionReceipt) {
    self.handle = handle
    self.id = id
    self.wallet = wallet
    currency = price.currency.code
    requestCost = price.requestCost
    requestRate = price.requestRate
    responseRate = price.responseRate
    self.receipt = receipt
  }
}
