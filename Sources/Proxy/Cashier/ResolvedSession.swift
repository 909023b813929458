import Bytes
import Ledger
import Metering
import Payments

/// A session as a bearer credential opens it on one route: everything that a request of it needs again and again. An object,
/// since every request takes it in hand.
final class ResolvedSession: Sendable {
  /// What pays for the session's requests, and so how their receipts say it.
  enum Source: Sendable {
    case wallet(SessionReceipt)
    case channel(ChannelSeat)
  }

  let handle: SessionHandle
  /// What each request costs before its first octet, by the terms that the session recorded.
  let requestCost: ExactCost
  let source: Source
  private let isMetered: Bool
  // What is not needed for each request stands behind what is: sessions are many, and caches are small.
  let id: Digest32
  /// The wallet's key; what stands for it where a channel pays.
  let wallet: Digest32
  let price: Price
  private let metered: MeteredRates

  /// Takes from a price what each request needs of it.
  init(handle: SessionHandle, id: Digest32, wallet: Digest32, price: Price, source: Source) {
    self.handle = handle
    self.id = id
    self.wallet = wallet
    self.price = price
    requestCost = price.requestCost
    metered = MeteredRates(
      request: price.requestRate, response: price.responseRate, requestMessages: price.requestMessageRate,
      responseMessages: price.responseMessageRate, seconds: price.secondRate)
    isMetered = !metered.isEmpty
    self.source = source
  }

  /// The same session, for an exchange at another price.
  func at(_ price: Price) -> ResolvedSession { ResolvedSession(handle: handle, id: id, wallet: wallet, price: price, source: source) }

  /// The channel that pays; nil where a wallet does.
  var channel: ChannelSeat? {
    switch source {
    case .wallet: nil
    case .channel(let seat): seat
    }
  }

  /// The code of the session's currency.
  var currency: String { price.currency.code }

  /// What a request is metered in: an upgraded connection in everything, others in the octets that they may have.
  func rates(of request: borrowing PaidRequest) -> MeteredRates {
    guard isMetered else { return MeteredRates() }
    if request.isUpgrade { return metered }
    var rates = MeteredRates()
    if case .none = request.content {} else { rates.request = metered.request }
    // An answer to HEAD has no content.
    if request.head.pointee.method != .head { rates.response = metered.response }
    return rates
  }
}
