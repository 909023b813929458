import Bytes
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// Charges: one payment for one request.
extension Cashier {
  /// Verifies a charge's credential and sets its money aside.
  mutating func charge(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, wallet: Ed25519.PublicKey, signature: [UInt8],
    at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    guard isSelling else { return .answer(unavailable()) }
    let quote: PrepaidCharge
    switch quoted(request, index, credential, at: now) {
    case .answer(let answer): return .answer(answer)
    case .quote(let charge): quote = charge
    }
    if let verdict = bindContent(request, index, credential, at: now) { return verdict }

    let hasKey = request.head.pointee.has(.idempotencyKey)
    // A repeated request is told its stored outcome before its used or expired credential is held against it.
    if !hasKey, let answer = spent(request, index, credential, at: now) { return .answer(answer) }
    guard PrepaidSignature.isValid(signature, wallet: wallet, credential: credential.signedObject) else {
      return .answer(failed(request, index, .verificationFailed, at: now))
    }
    var key: OutcomeKey?
    if hasKey {
      switch outcome(request, index, payer: wallet.octets) {
      case .verdict(let verdict): return verdict
      case .fresh(let fresh): key = fresh
      }
      if let answer = spent(request, index, credential, at: now) { return .answer(answer) }
    }
    if let refused = refused(request, index, wallet: wallet.octets, session: nil) { return .answer(refused) }
    let order = ChargeOrder(
      challengeID: credential.challengeID, wallet: wallet.octets, amount: quote.amount, currency: quote.currency, merchant: quote.recipient,
      route: route.label, expires: credential.expires ?? now, client: request.client, idempotency: key)
    do throws(Refusal) {
      let hold = try ledger.hold(order, at: now)
      return .paid(begin(request, index, hold: hold, order, credential))
    } catch {
      let payment = RefusedPayment(
        wallet: wallet.octets, session: nil, amount: quote.amount, currency: quote.currency, recipient: quote.recipient)
      return .answer(answer(error, request, index, credential, payment, at: now))
    }
  }

  /// What a charge's challenge quoted, or why it does not hold for this request.
  private enum Quoted {
    case quote(PrepaidCharge)
    case answer(Answer)
  }

  /// Compares everything that the challenge binds with the request. Of the price only currency and recipient are compared:
  /// a charge pays for its quoted amount until the challenge expires, even when the price has changed since.
  private mutating func quoted(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp
  ) -> Quoted {
    guard let route = routes[Int(index)], route.intents.contains(.charge) || !route.former.isEmpty else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The route is not sold by charge.", at: now))
    }
    let quote: PrepaidCharge
    let binding: RouteBinding
    do {
      binding = try RouteBinding(credential.opaque)
      quote = try PrepaidCharge(parsing: credential.request)
    } catch {
      return .answer(failed(request, index, .invalidChallenge, at: now))
    }
    let terms = route.terms(at: now) { price, merchant, intents in
      intents.contains(.charge) && quote.currency == price.currency.code && quote.recipient == merchant
    }
    guard isBound(binding, request, route), isOurs(credential, quote.details), terms != nil else {
      return .answer(failed(request, index, .invalidChallenge, detail: Self.otherRequest, at: now))
    }
    return .quote(quote)
  }

  static var otherRequest: String { "The challenge was issued for another request." }

  /// Whether the binding names this route, method, path and query.
  func isBound(_ binding: RouteBinding, _ request: borrowing PaidRequest, _ route: PricedRoute) -> Bool {
    let method = UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange])
    return binding.route == route.id && binding.names(method: method, path: request.path, query: request.query)
  }

  /// Whether a challenge was issued for this realm and ledger.
  func isOurs(_ credential: Credential, _ details: PrepaidDetails) -> Bool {
    credential.challenge.realm == settings.realm && details.ledger == settings.ledger.name
  }

  /// Compares the content with the digest that the challenge binds; nil where that is in order.
  mutating func bindContent(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp
  ) -> Verdict? {
    guard let route = routes[Int(index)] else { return nil }
    let bound = credential.challenge.digest
    guard route.bindsDigest || bound != nil else { return nil }
    let actual: Digest32?
    switch request.content {
    case .none: actual = nil
    case .streaming: return .collectBody(limit: route.digestLimit)
    case .buffered(let octets): actual = octets.isEmpty ? nil : SHA256.hash(octets)
    }
    guard bound.map({ ContentDigest.parse($0) }) == actual.map({ .some($0) }) else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was issued for other content.", at: now))
    }
    return nil
  }

  /// Answers a credential whose challenge has been used or has expired; nil where it has not.
  mutating func spent(_ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp) -> Answer? {
    switch ledger?.claimState(credential.challengeID) {
    case .held: return problem(.paymentInFlight, challengeID: credential.challenge.id)
    case .settled(let reference): return alreadyPaid(reference, credential.challenge.id)
    case nil: break
    }
    guard credential.isExpired(at: now) else { return nil }
    return failed(request, index, .paymentExpired, at: now)
  }

  private mutating func begin(
    _ request: borrowing PaidRequest, _ index: RouteIndex, hold: Hold, _ order: ChargeOrder, _ credential: Credential
  ) -> PaidExchange {
    let place = exchanges.take()
    remember(request, index, at: place)
    exchanges[place].payment = .held(hold)
    exchanges[place].payer = order.wallet
    exchanges[place].amount = order.amount
    exchanges[place].wallet = order.wallet
    exchanges[place].reference = hold.id
    exchanges[place].currency = order.currency
    exchanges[place].recipient = order.merchant
    exchanges[place].challengeID = credential.challenge.id
    exchanges[place].idempotency = order.idempotency
    // A charge is durable before the upstream is asked, whatever the method.
    return PaidExchange(forwardAfter: hold.lsn, replyAfter: hold.lsn, epoch: hold.epoch, place: place)
  }

  /// Keeps what receipts say of the request.
  mutating func remember(_ request: borrowing PaidRequest, _ index: RouteIndex, at place: UInt32) {
    let method = UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange])
    let origin = request.host.isEmpty ? ownOrigin : scheme
    exchanges[place].remember(index, method: method, scheme: origin, host: request.host, path: request.path, query: request.query)
  }
}
