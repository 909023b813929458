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
  /// What messages and seconds of an upgraded connection cost.
  let requestMessageRate: Rate?
  let responseMessageRate: Rate?
  let secondRate: Rate?
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
    requestMessageRate = price.requestMessageRate
    responseMessageRate = price.responseMessageRate
    secondRate = price.secondRate
    self.receipt = receipt
  }

  /// What a request is metered in: an upgraded connection in everything, others in the octets that they may have.
  func rates(of request: borrowing PaidRequest) -> MeteredRates {
    if request.isUpgrade {
      return MeteredRates(
        request: requestRate, response: responseRate, requestMessages: requestMessageRate, responseMessages: responseMessageRate,
        seconds: secondRate)
    }
    var rates = MeteredRates()
    if case .none = request.content {} else { rates.request = requestRate }
    // An answer to HEAD has no content.
    if request.head.pointee.method != .head { rates.response = responseRate }
    return rates
  }
}
