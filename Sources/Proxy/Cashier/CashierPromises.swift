import Bytes
import Crypto
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

// Scheme upto of x402: a maximum is signed, the exchange is metered, and what it used is settled afterwards.
extension Cashier {
  /// Resolves a payment by the scheme upto; nil where it is for no offer that is sold here.
  mutating func upto(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ payload: PaymentPayload, _ sold: [RouteRails], at now: Timestamp
  ) -> Verdict? {
    guard let rails = sold.first(where: { payload.match($0.requirements) != nil }), let printer = rails.printer,
      let place = payload.match(rails.requirements)
    else { return nil }
    guard printer.mismatchedExtension(in: payload) == nil else { return .answer(failed(request, index, X402Reason.extensionEchoMismatch, at: now)) }
    if let resource = payload.resource, !names(resource.url, request) {
      return .answer(failed(request, index, X402Reason.invalidPayload, at: now))
    }
    return upto(request, index, rails.x402[place], rails.requirements[place], payload, printer.resource, at: now)
  }

  private mutating func upto(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ requirements: PaymentRequirements,
    _ payload: PaymentPayload, _ info: ResourceInfo, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains, let route = routes[Int(index)], let facilitator = requirements.facilitatorAddress else { return .answer(unavailable()) }
    guard !request.isUpgrade else { return .answer(problem(.badRequest, detail: "A connection that is switched is not sold by x402.")) }
    let payment: UptoEVM
    do throws(ChainChargeError) {
      payment = try check(payload, requirements, offer, facilitator, at: now)
    } catch { return .answer(failed(request, index, error.x402Reason, at: now)) }
    // What the price depends on is read first: all of the content that a payment is bound to.
    if let verdict = read(request, index) { return verdict }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    let charge = payment.charge
    let presented = SHA256.hash(JCS.serialize(.object(payload.payment.json)))
    let told = self.told.flatMap { $0.id == charge.id ? $0.word : nil }
    // What was served for is gone by its record below: nothing invites to pay for it again.
    let isServed = ledger.promise(charge.id).map { $0.state != .promised } ?? false
    switch isServed ? nil : told {
    case .refused(let refusal)?: return .answer(refused(request, index, refusal, .x402(.v2), at: now))
    case .declined(let refusal)?: return .answer(answer(refusal, request, index, nil, nil, at: now))
    case .unavailable?: return .answer(problem(.railUnavailable, retryAfter: Self.pendingRetry))
    case .unknown?: return .answer(problem(.paymentPending, retryAfter: Self.pendingRetry))
    case .settled?, nil: break
    }
    let brought = PresentedPayment(dialect: .x402(.v2), digest: presented, credential: nil)
    if let verdict = identify(request, index, payload, charge, brought, at: now) { return verdict }
    var resource = info
    resource.url = self.resource(of: request).url
    let seat = PromiseSeat(payment, chain: offer.chain, facilitated: offer.isFacilitated ? (payload, requirements, resource) : nil)
    guard let view = ledger.promise(charge.id) else {
      guard ledger.payment(charge.id) == nil else { return .answer(problem(.paymentMismatch)) }
      guard isSelling else { return .answer(unavailable()) }
      guard isReachable(offer), chains.hasPlace(for: request.client) else { return .answer(problem(.railUnavailable, retryAfter: Self.pendingRetry)) }
      // What cannot be settled for want of time or place is told before anything is served.
      guard now + PromiseSeat.least < seat.end else { return .answer(failed(request, index, X402Reason.permit2DeadlineExpired, at: now)) }
      guard let proof = seat.proof(seat.maximum, since: .max), proof.count <= LedgerLimit.proofOctets.most else {
        admission.failed(request.client, at: request.monotonic)
        return .answer(problem(.badRequest, detail: "The payment is too long."))
      }
      return promise(request, index, offer, charge, seat, digest, presented, at: now)
    }
    guard view.request == digest, view.presented == presented else { return .answer(problem(.paymentMismatch)) }
    let isSameClient = view.client.limitKey == request.client.limitKey
    switch view.state {
    case .promised:
      guard isSameClient else { return .answer(problem(.paymentInFlight, retryAfter: Self.pendingRetry)) }
      // Only what was looked at just now is served for: the payer may have spent his money meanwhile.
      guard case .settled? = told else {
        return .awaitSettlement(order(seat, charge, terms(request, route, offer, charge, digest, presented), entry: AwaitedEntry(lsn: view.changed)))
      }
      guard now + PromiseSeat.least < seat.end else { return .answer(failed(request, index, X402Reason.permit2DeadlineExpired, at: now)) }
      return serve(request, index, offer, payment, seat, digest, at: now)
    case .serving: return .answer(problem(.paymentInFlight, retryAfter: 1))
    case .owed, .kept, .lost:
      guard isSameClient, var stored = storedOutcome(of: charge.id, digest) else {
        return .answer(telling(view, alreadyPaid(view.reference, nil), payer: charge.payer))
      }
      stored.receipt = []
      return .answer(telling(view, replay(stored), payer: charge.payer))
    }
  }

  /// Checks a payment now; one that has run out is checked as of a moment when it held, where it is known.
  private func check(
    _ payload: PaymentPayload, _ requirements: PaymentRequirements, _ offer: RouteRails.Offer, _ facilitator: Address, at now: Timestamp
  ) throws(ChainChargeError) -> UptoEVM {
    do throws(ChainChargeError) {
      return try UptoEVM.check(payload, against: requirements, token: offer.token, facilitator: facilitator, wallets: .refused, now: now)
    } catch {
      guard case .expired = error, case .uptoPermit2(let permit) = payload.payment else { throw error }
      // Past this no clock comes, and the arithmetic of instants would.
      let moment = Timestamp(seconds: Int64(min(permit.deadline, 1 << 40))) - .seconds(10)
      guard moment < now,
        let payment = try? UptoEVM.check(payload, against: requirements, token: offer.token, facilitator: facilitator, wallets: .refused, now: moment),
        ledger?.promise(payment.charge.id) != nil
      else { throw error }
      return payment
    }
  }

  private func terms(
    _ request: borrowing PaidRequest, _ route: PricedRoute, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ digest: Digest32,
    _ presented: Digest32
  ) -> ChainPaymentOrder {
    ChainPaymentOrder(
      id: charge.id, request: digest, payer: charge.payer.lowercase, presented: presented, name: identifier, amount: charge.amount, currency: offer.account,
      merchant: route.merchant, route: route.label, client: request.client, expires: charge.expires)
  }

  private func order(_ seat: PromiseSeat, _ charge: ChainCharge, _ payment: ChainPaymentOrder, entry: AwaitedEntry?) -> SettlementOrder {
    var order = SettlementOrder(payment: payment, chain: seat.chain, charge: charge, facilitated: seat.content(seat.maximum), entry: entry)
    order.isPromise = true
    return order
  }

  /// Takes a new promise, and has the chain looked at.
  private mutating func promise(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ seat: PromiseSeat,
    _ digest: Digest32, _ presented: Digest32, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    let payment = terms(request, route, offer, charge, digest, presented)
    do throws(Refusal) {
      let entry = try ledger.awaited { () throws(Refusal) in try ledger.promise(payment, at: now) }
      return .awaitSettlement(order(seat, charge, payment, entry: entry))
    } catch { return .answer(answer(error, request, index, nil, nil, at: now)) }
  }

  /// Begins an exchange whose budget is the maximum.
  private mutating func serve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ payment: UptoEVM, _ seat: PromiseSeat,
    _ digest: Digest32, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    let facts = self.facts.take() ?? (route.price.countsTokens ? RequestFacts(request, usage: route.usage) : RequestFacts())
    let content = Self.contentOctets(request)
    let maximum = ExactCost(whole: seat.maximum)
    guard let least = route.price.cost(of: Self.least(facts, content)), let most = route.price.cost(of: Self.most(facts, content, units: route.usage.mostUnits)),
      least <= maximum, !route.usage.refusesBeyondBudget || most <= maximum
    else {
      ledger.forget(promise: seat.id, at: now)
      return .answer(problem(.badRequest, detail: "The request may cost more than the most that a payment of x402 covers here."))
    }
    let epoch = ledger.epoch
    let entry: LSN
    do throws(Refusal) { entry = try ledger.serve(promise: seat.id, request: digest, at: now) } catch {
      return .answer(answer(error, request, index, nil, nil, at: now))
    }
    let place = exchanges.take()
    remember(request, index, at: place)
    // What is debited is debited nowhere but here: the whole maximum is promised.
    exchanges[place].payment = .ended
    exchanges[place].promise = seat
    exchanges[place].isMetered = true
    exchanges[place].tally = Tally(
      route.price, facts, octetsPerToken: route.usage.octetsPerToken, octets: content.buffered, tab: ExchangeTab(debited: maximum, entry: entry, at: now))
    exchanges[place].idempotency = outcomeKey(seat.id, digest)
    exchanges[place].currency = offer.account
    exchanges[place].recipient = offer.recipient.checksummed
    exchanges[place].chain = ChainReceipt(dialect: .x402(.v2), chain: offer.chain, payer: payment.charge.payer, transaction: nil)
    var exchange = PaidExchange(forwardAfter: entry, replyAfter: entry, epoch: epoch, place: place)
    exchange.isTallied = true
    exchange.metersResponse = true
    exchange.changesContent = facts.change != nil
    exchange.wantsTrailer = request.head.pointee.acceptsTrailers
    exchanges[place].wantsTrailer = exchange.wantsTrailer
    return .paid(exchange)
  }

  // MARK: while it is served

  /// Tells whether an exchange's cost may come to `cost`: up to the maximum, and in time for its settlement.
  func coverPromised(_ exchange: borrowing PaidExchange, _ tally: Tally, _ seat: PromiseSeat, _ cost: ExactCost?, at now: Timestamp) -> GrantResult {
    guard let ledger, let cost, now < seat.end else { return .stop }
    tally.tab.publish(durable: ledger.durable)
    // Looked at after the number: with another epoch the promise is void, and the relay ends the exchange.
    guard ledger.epoch == exchange.epoch else { return .waitDurable(Self.never) }
    switch tally.tab.standing(for: cost) {
    case .covered:
      tally.resume(at: clock)
      return .granted(0)
    case .awaits(let entry): return .waitDurable(entry)
    case .short: return .stop
    }
  }

  // MARK: the end

  /// Ends a promise's exchange: what was used is owed from here on, and settled in the background.
  mutating func endPromise(_ place: UInt32, _ exchange: borrowing PaidExchange, _ end: ExchangeEnd, _ parts: inout FinalParts, at now: Timestamp) {
    guard let ledger, let seat = exchanges[place].promise, !exchanges[place].isPromiseEnded else { return }
    exchanges[place].isPromiseEnded = true
    guard owes(place, end), let tally = exchanges[place].tally else {
      ledger.renew(promise: seat.id, epoch: exchange.epoch, at: now)
      return
    }
    let amount = min(tally.used.ceiling, seat.maximum)
    exchanges[place].amount = amount
    guard let proof = seat.proof(amount, since: chains?.block(seat.chain)),
      let entry = try? ledger.owe(amount, promise: seat.id, epoch: exchange.epoch, proof: proof, at: now)
    else {
      parts.after = Self.never
      return
    }
    parts.after = max(parts.after, entry)
    if exchanges[place].wantsTrailer, let view = ledger.promise(seat.id) {
      var line = ByteBuffer()
      response(view, chain: seat.chain, payer: exchanges[place].chain?.payer).appendField(.v2, to: &line)
      parts.trailer += line.array()
    }
    // The keeper finds it where there is no place for it now.
    if amount > 0, let view = ledger.payment(seat.id), let order = SettlementOrder(view, epoch: exchange.epoch) { _ = chains?.settle(order, nil) }
  }

  /// Whether an exchange that ends so owes what it used.
  private func owes(_ place: UInt32, _ end: ExchangeEnd) -> Bool {
    switch end {
    case .complete, .sessionStopped, .holdTimeout, .upstreamBroke, .upstreamFailed(beforeHead: false), .clientLeft(requestForwarded: _, headSeen: true, safe: _):
      exchanges[place].isCharged
    // The upstream may have done what cannot be undone.
    case .clientLeft(requestForwarded: true, headSeen: false, safe: let safe), .abandoned(safe: let safe): !safe
    case .upstreamFailed(beforeHead: true), .clientLeft, .ledgerLost: false
    }
  }

  /// What a payer is told of a promise: the settlement itself, once it is known.
  func response(_ view: ChainPromiseView, chain: UInt64, payer: Address?) -> SettlementResponse {
    let transaction = ledger?.payment(view.id)?.transaction
    var response = SettlementResponse(
      isSuccess: view.state == .kept, payer: payer?.checksummed, transaction: transaction, network: X402Network(chainID: chain),
      amount: .units(view.amount))
    switch view.state {
    case .promised, .serving, .owed: response.reason = .settlementPending
    case .lost: response.reason = .uptoTransactionFailed
    case .kept: break
    }
    return response
  }

  func telling(_ view: ChainPromiseView, _ answer: Answer, payer: Address) -> Answer {
    var answer = answer
    var line = ByteBuffer()
    response(view, chain: ChainPaymentView.chainID(of: view.currency), payer: payer).appendField(.v2, to: &line)
    answer.fields += line.array()
    return answer
  }
}
