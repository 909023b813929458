import Bytes
import Encoding
import Gateway
import HTTP

// Requests beyond the rates of those who make them: 429, before any money moves.
extension Cashier {
  /// 429 for a client that asks too often, whatever it asks for; `count`: for so much at once.
  @inline(__always)
  func refusedByAddress(_ client: ClientAddress, count: UInt32 = 1, at now: Instant) -> Answer? {
    refusal(admission.request(client, count: count, at: now), "Too many requests from this address.")
  }

  /// 429 where the session, its wallet or the route is asked too often.
  func refusedByService(wallet: Digest32?, session: Digest32?, rate: (key: Digest32, limit: RateLimit)?, count: UInt32 = 1, at now: Instant) -> Answer? {
    refusal(
      admission.service(wallet: wallet, session: session, route: rate, count: count, at: now), "Too many requests of this session, wallet or route.")
  }

  /// The same for a request whose credential is verified.
  func refused(_ request: borrowing PaidRequest, _ index: RouteIndex, wallet: Digest32, session: Digest32?) -> Answer? {
    let rate = routes[Int(index)]?.rate
    guard rate != nil || admission.limits.wallet != nil || admission.limits.session != nil else { return nil }
    return refusedByService(wallet: wallet, session: session, rate: rate, at: request.monotonic)
  }

  private func refusal(_ decision: RateDecision, _ detail: String) -> Answer? {
    switch decision {
    case .admitted: nil
    case .refused(let seconds): problem(.rateLimited, detail: detail, retryAfter: seconds)
    }
  }
}
