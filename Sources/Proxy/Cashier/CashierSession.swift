import Bytes
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

/// What an open asks for.
struct OpenPayload {
  let wallet: Ed25519.PublicKey
  /// Base units.
  let deposit: UInt128
  let session: Digest32
  let signature: [UInt8]
}

// Sessions: opening one, and the requests that its bearer makes.
extension Cashier {
  // MARK: open

  /// Verifies an open's credential, moves the deposit, and has the request served by the new session.
  mutating func open(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, _ payload: OpenPayload, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)], isSelling else { return .answer(unavailable()) }
    guard let (quote, price) = quoted(request, route, credential, at: now) else {
      return .answer(failed(request, index, .invalidChallenge, detail: Self.otherRequest, at: now))
    }
    if let verdict = bindContent(request, index, credential, at: now) ?? read(request, index) { return verdict }
    guard payload.deposit >= quote.minimumDeposit else {
      let members: JSONObject = ["required": .string(String(quote.minimumDeposit))]
      let detail = "The deposit is below the minimum."
      return .answer(challenge(request, index, .paymentInsufficient, detail: detail, members: members, at: now))
    }
    // The same credential again is told that its session is open, however old it is by then.
    let isUsed = ledger.claimState(credential.challengeID) != nil
    if !isUsed, credential.isExpired(at: now) { return .answer(failed(request, index, .paymentExpired, at: now)) }
    guard PrepaidSignature.isValid(payload.signature, wallet: payload.wallet, credential: credential.signedObject) else {
      return .answer(failed(request, index, .sessionInvalidSignature, at: now))
    }
    var key: OutcomeKey?
    if request.head.pointee.has(.idempotencyKey) {
      switch outcome(request, index, payer: payload.wallet.octets) {
      case .verdict(let verdict): return verdict
      case .fresh(let fresh): key = fresh
      }
    }
    if let refused = refused(request, index, wallet: payload.wallet.octets, session: payload.session) { return .answer(refused) }
    return open(request, index, credential, payload, quote, price, key: key, at: now)
  }

  private mutating func open(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, _ payload: OpenPayload, _ quote: PrepaidSession,
    _ price: Price, key: OutcomeKey?, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    let terms = RouteTerms(routeID: route.id, priceVersion: price.version, price: price)
    let order = SessionOrder(
      challengeID: credential.challengeID, sessionID: payload.session, wallet: payload.wallet.octets, deposit: payload.deposit,
      terms: SessionTerms(realm: settings.realm, currency: quote.currency, merchant: quote.recipient, routes: [terms]),
      idleTimeout: route.idleTimeout, maximumInFlight: route.maximumInFlight, expires: credential.expires ?? now, route: route.label,
      client: request.client)
    let stub = receiptStub(request, credential, amount: payload.deposit, quote.currency, quote.recipient, session: payload.session)
    do throws(Refusal) {
      let (handle, lsn) = try ledger.open(order, at: now) { stub.encoded($0) }
      let session = ResolvedSession(
        handle: handle, id: payload.session, wallet: payload.wallet.octets, price: price,
        source: .wallet(
          SessionReceipt(
            method: Prepaid.method, sessionID: payload.session.hex, challengeID: credential.challenge.id, currency: quote.currency,
            recipient: quote.recipient)))
      do throws(Refusal) {
        var exchange = try beginByVolume(request, index, session, key: key, at: now)
        // An open is durable before the upstream is asked, whatever the method.
        exchange.forwardAfter = max(exchange.replyAfter, lsn)
        exchanges[exchange.place].opening = stub
        return .paid(exchange)
      } catch {
        // The deposit has moved, so this is no 402: the client is told that its session is open, and asks again by it.
        let receipt = String(decoding: ledger.storedAnswer(credential.challengeID) ?? [], as: UTF8.self)
        return .answer(problem(.alreadyOpen, members: ["receipt": .string(receipt)], challengeID: credential.challenge.id, after: lsn))
      }
    } catch {
      let payment = RefusedPayment(
        wallet: payload.wallet.octets, session: payload.session, amount: payload.deposit, currency: quote.currency,
        recipient: quote.recipient)
      return .answer(answer(error, request, index, credential, payment, at: now))
    }
  }

  /// What an open's challenge quoted, and the price that it named; nil where it does not hold for this request. All of the
  /// binding is compared, with what the route is sold for now and with what it was sold for when the challenge was issued.
  private func quoted(
    _ request: borrowing PaidRequest, _ route: PricedRoute, _ credential: Credential, at now: Timestamp
  ) -> (PrepaidSession, Price)? {
    guard let binding = try? RouteBinding(credential.opaque), let quote = try? PrepaidSession(parsing: credential.request),
      isBound(binding, request, route), isOurs(credential, quote.details)
    else { return nil }
    let price = route.terms(at: now) { price, merchant, intents in
      intents.contains(.session) && binding.priceVersion == price.version && quote.rates == price.parts
        && quote.currency == price.currency.code && quote.recipient == merchant
    }
    guard let price else { return nil }
    return (quote, price)
  }

  // MARK: bearer

  /// Serves a request whose credential was resolved before; nil where that is to be done again.
  mutating func cached(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ value: PresentedCredential.Value, at now: Timestamp
  ) -> Verdict? {
    // What a request costs whose price is asked for does not follow from its credential.
    guard routes[Int(index)]?.pricing == nil else { return nil }
    guard let session = cache.find(value, route: index) else { return cachedVoucher(request, index, value, at: now) }
    if let verdict = read(request, index) { return verdict }
    if let refused = refused(request, index, wallet: session.wallet, session: session.id) { return .answer(refused) }
    do throws(Refusal) {
      if request.head.pointee.has(.idempotencyKey) { return try serve(request, index, session, at: now) }
      return .paid(try beginByVolume(request, index, session, key: nil, at: now))
    } catch {
      switch error {
      // The session has ended, or the ledger was read back: the credential is resolved again.
      case .sessionClosed, .sessionClosing, .unavailable, .unknownSession:
        cache.remove(value, route: index)
        return nil
      default:
        return .answer(answer(error, request, index, nil, nil, at: now))
      }
    }
  }

  /// Resolves a bearer credential and serves its request. The short form comes without `credential`, and adds no terms.
  mutating func bearer(
    _ request: borrowing PaidRequest, _ index: RouteIndex, session: Digest32, secret: SessionSecret, credential: Credential?,
    at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)], isSelling else { return .answer(unavailable()) }
    guard secret.opens(session) else { return .answer(failed(request, index, .verificationFailed, at: now)) }
    guard let handle = ledger.session(session), let view = ledger.view(handle) else {
      return .answer(failed(request, index, ledger.closeResult(session) == nil ? .sessionNotFound : .sessionFinalized, at: now))
    }
    // Of a wallet's sessions only those of a restored ledger are suspended.
    if view.state == .suspended { return .answer(problem(.sessionUnconfirmed, retryAfter: Self.confirmationRetry)) }
    guard view.state == .open else { return .answer(problem(.sessionFinalized)) }
    if let verdict = read(request, index) { return verdict }
    guard view.terms.realm == settings.realm else { return .answer(failed(request, index, .sessionNotFound, at: now)) }
    if let credential {
      guard let quote = try? PrepaidSession(parsing: credential.request), isOurs(credential, quote.details),
        quote.currency == view.terms.currency, quote.recipient == view.terms.merchant
      else { return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was issued for another session.", at: now)) }
    }
    if pricing.isUnknown {
      // Decided about again when the price is known.
      pricing.isNeeded = true
      return .answer(unavailable())
    }
    let price: Price
    if let recorded = view.terms.routes.first(where: { $0.routeID == route.id }) {
      price = recorded.price
    } else if hasAccepted(view, route) {
      price = route.price
    } else {
      if let refusal = addTerms(request, index, route, credential, handle, view, at: now) { return .answer(refusal) }
      price = route.price
    }
    let resolved = ResolvedSession(
      handle: handle, id: session, wallet: view.wallet, price: price,
      source: .wallet(
        SessionReceipt(
          method: Prepaid.method, sessionID: session.hex, challengeID: credential?.challenge.id ?? Base64URL.encode(view.challengeID),
          currency: view.terms.currency, recipient: view.terms.merchant)))
    if let refused = refused(request, index, wallet: view.wallet, session: session) { return .answer(refused) }
    do throws(Refusal) {
      let verdict = try serve(request, index, resolved, at: now)
      // A field says nothing about a credential that came in a message.
      if route.pricing == nil, !request.isCall, let value = PresentedCredential.only(request.octets, request.head) {
        cache.insert(value, route: index, resolved)
      }
      return verdict
    } catch {
      return .answer(answer(error, request, index, credential, nil, at: now))
    }
  }

  /// Records the terms of another route of the same recipient, as its authentic challenge quoted them; nil where that is done.
  private mutating func addTerms(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ route: PricedRoute, _ credential: Credential?, _ handle: SessionHandle,
    _ view: SessionView, at now: Timestamp
  ) -> Answer? {
    let detail = "The session has no terms for this route at its present price."
    guard let ledger, let credential, route.intents.contains(.session), let binding = try? RouteBinding(credential.opaque),
      let quote = try? PrepaidSession(parsing: credential.request), binding.route == route.id,
      binding.priceVersion == route.price.version, quote.rates == route.price.parts, route.merchant == view.terms.merchant,
      route.price.currency.code == view.terms.currency, view.terms.realm == settings.realm
    else { return challenge(request, index, .paymentRequired, detail: detail, at: now) }
    do throws(Refusal) {
      try ledger.addTerms(handle, RouteTerms(routeID: route.id, priceVersion: route.price.version, price: route.price), at: now)
      return nil
    } catch {
      return answer(error, request, index, credential, nil, at: now)
    }
  }

  /// Looks up the idempotency key where there is one, and debits the request.
  mutating func serve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ session: ResolvedSession, at now: Timestamp
  ) throws(Refusal) -> Verdict {
    guard request.head.pointee.has(.idempotencyKey) else { return .paid(try beginByVolume(request, index, session, key: nil, at: now)) }
    switch outcome(request, index, payer: session.wallet) {
    case .verdict(let verdict): return verdict
    case .fresh(let key): return .paid(try beginByVolume(request, index, session, key: key, at: now))
    }
  }

  // MARK: debits

  /// Debits a session's request: its own price, and the first steps of what is metered.
  mutating func begin(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ session: ResolvedSession, key: OutcomeKey?, at now: Timestamp
  ) throws(Refusal) -> PaidExchange {
    if session.price.isComposite, !request.isUpgrade { return try beginTallied(request, index, session, key: key, at: now) }
    guard let ledger, let label = routes[Int(index)]?.label else { throw .unavailable }
    let method = request.head.pointee.method
    let rates = session.rates(of: request)
    let isMetered = !rates.isEmpty
    let context = DebitContext(route: label, client: request.client, writesLine: !isMetered, units: 1)
    let epoch = ledger.epoch
    if let key { try ledger.reserve(key) }
    var last: LSN
    do throws(Refusal) {
      last = try debit(
        ledger, session.handle, cost: try rates.firstCost(besides: session.requestCost, collected: Self.collectedOctets(request)),
        context: context, at: now)
    } catch {
      if let key { ledger.release(key) }
      throw error
    }
    let place = exchanges.take()
    remember(request, index, at: place)
    exchanges[place].begin(session, context, key)
    exchanges[place].isUpgrade = request.isUpgrade
    if isMetered { last = startMeters(request, rates, place, begun: last, at: now) }
    var exchange = PaidExchange(forwardAfter: Self.waitsForDisk(method) ? last : 0, replyAfter: last, epoch: epoch, place: place)
    exchange.metersRequest = rates.request != nil
    exchange.metersResponse = rates.response != nil
    exchange.metersRequestMessages = rates.requestMessages != nil
    exchange.metersResponseMessages = rates.responseMessages != nil
    exchange.metersSeconds = rates.seconds != nil
    exchange.wantsTrailer = isMetered && !request.isUpgrade && request.head.pointee.acceptsTrailers
    exchange.holdTimeout = routes[Int(index)]?.holdTimeout ?? exchange.holdTimeout
    exchanges[place].wantsTrailer = exchange.wantsTrailer
    return exchange
  }

  /// Whether a request may change something, so that its debit is durable before the upstream sees it.
  static func waitsForDisk(_ method: Method) -> Bool {
    switch method {
    case .get, .head, .options, .query: false
    case .post, .put, .patch, .delete, .trace, .connect, .other: true
    }
  }

  /// The octets of content that were collected before the cashier was asked; nil where there are none, or they are still to come.
  private static func collectedOctets(_ request: borrowing PaidRequest) -> UInt64? {
    guard case .buffered(let octets) = request.content else { return nil }
    return UInt64(octets.count)
  }

  /// Debits the first steps, as far as the budget goes; the first octets are debited already.
  private mutating func startMeters(
    _ request: borrowing PaidRequest, _ rates: MeteredRates, _ place: UInt32, begun: LSN, at now: Timestamp
  ) -> LSN {
    exchanges[place].isMetered = true
    var length: UInt64?
    switch request.content {
    // What an upgraded connection will bring, nobody knows.
    case .none: length = request.isUpgrade ? nil : 0
    case .buffered(let octets): length = UInt64(octets.count)
    case .streaming(let announced): length = announced
    }
    var last = begun
    if let rate = rates.request, let octets = Self.collectedOctets(request) {
      // What was collected goes upstream with the head: it is paid with the request.
      var meter = Meter(rate: rate, expected: octets, at: now)
      meter.debit(octets, entry: begun, at: now)
      meter.pass(octets)
      exchanges[place].requestMeter = meter
    } else if let rate = rates.request {
      var meter = Meter(rate: rate, expected: length, at: now)
      last = max(last, firstStep(&meter, place, wanted: min(length ?? Meter.firstStep, Meter.leastStep), begun: begun, at: now))
      exchanges[place].requestMeter = meter
    }
    if let rate = rates.response {
      var meter = Meter(rate: rate, at: now)
      last = max(last, firstStep(&meter, place, wanted: Meter.firstStep, begun: begun, at: now))
      exchanges[place].responseMeter = meter
    }
    for (other, rate) in [(MeterPlace.requestMessages, rates.requestMessages), (.responseMessages, rates.responseMessages), (.seconds, rates.seconds)] {
      guard let rate else { continue }
      var meter = Meter(rate: rate, at: now)
      last = max(last, firstStep(&meter, place, wanted: meter.first, begun: begun, at: now))
      exchanges[place][meter: other] = meter
    }
    return last
  }

  /// Debits what the first octet, paid with the request, lacks of a first step.
  private func firstStep(_ meter: inout Meter, _ place: UInt32, wanted: UInt64, begun: LSN, at now: Timestamp) -> LSN {
    guard let ledger, case .debited(let handle) = exchanges[place].payment, wanted > 1,
      let step = try? ledger.extend(handle, rate: meter.rate, wanted: wanted - 1, atLeast: 0, at: now), step.units > 0
    else {
      meter.debit(1, entry: begun, at: now)
      return begun
    }
    meter.debit(step.units + 1, entry: step.lsn, at: now)
    return step.lsn
  }
}
