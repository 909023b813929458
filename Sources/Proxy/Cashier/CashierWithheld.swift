import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// Exact payments of x402 that are settled after the answer, on routes with `settlement = "after"`: verified and promised first, settled when
// the upstream has answered with what costs something, and answered then. What fails on the way costs nothing and leaves the payment good.
extension Cashier {
  // MARK: the request

  /// Goes on with a payment whose answer is, or was, withheld; nil where it was promised only, and is looked at again.
  mutating func goOn(
    _ request: borrowing PaidRequest, _ index: RouteIndex, withheld view: ChainPromiseView, _ presented: PresentedPayment, at now: Timestamp
  ) -> Verdict? {
    guard let route = routes[Int(index)] else { return .answer(unavailable()) }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    guard view.request == digest, view.presented == presented.digest else {
      return .answer(telling(view, problem(.paymentMismatch), presented.dialect, nil, at: now))
    }
    return goOn(request, index, withheld: view, presented, isClient: view.client.limitKey == request.client.limitKey, at: now)
  }

  /// The same for a payment that its payer has brought, by itself or by the name that he has for it.
  mutating func goOn(
    _ request: borrowing PaidRequest, _ index: RouteIndex, withheld view: ChainPromiseView, _ presented: PresentedPayment,
    isClient isSameClient: Bool, at now: Timestamp
  ) -> Verdict? {
    guard let ledger else { return .answer(unavailable()) }
    switch view.state {
    case .promised: return nil
    case .serving: return .answer(problem(.paymentInFlight, retryAfter: 1))
    case .owed:
      guard isSameClient else { return .answer(problem(.paymentInFlight, retryAfter: Self.pendingRetry)) }
      let epoch = ledger.epoch
      guard told?.id != view.id, let payment = ledger.payment(view.id), let order = SettlementOrder(payment, epoch: epoch) else {
        return .answer(telling(view, underWay(.unknown, nil), presented.dialect, nil, at: now))
      }
      return .awaitSettlement(order)
    case .kept, .lost:
      guard view.state == .kept, isSameClient,
        case .stored(let stored)? = ledger.outcome(OutcomeKey(key: view.name ?? view.id, request: view.request)), stored.body != nil
      else { return .answer(telling(view, alreadyPaid(view.reference, nil), presented.dialect, nil, at: now)) }
      ledger.delivered(OutcomeKey(key: view.name ?? view.id, request: view.request), at: now)
      return .answer(telling(view, replay(stored), presented.dialect, resource(of: request).url, at: now))
    }
  }

  /// Takes a payment that passed every check that needs no network, has it looked at, and then serves for it.
  mutating func withhold(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ presented: PresentedPayment,
    _ facilitated: [UInt8]?, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains, let route = routes[Int(index)] else { return .answer(unavailable()) }
    guard !request.isUpgrade else { return .answer(problem(.badRequest, detail: "A connection that is switched is not sold by x402.")) }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    let word = told.flatMap { $0.id == charge.id ? $0.word : nil }
    let proof = SettlementOrder.proof(chain: offer.chain, charge: charge, facilitated: facilitated, since: chains.block(offer.chain))
    var payment = ChainPaymentOrder(
      id: charge.id, request: digest, payer: charge.payer.lowercase, recipient: offer.recipient.checksummed, presented: presented.digest,
      name: identifier, amount: charge.amount, currency: offer.account, merchant: route.merchant, route: route.label, client: request.client,
      expires: charge.expires, proof: proof)
    payment.isWithheld = true
    var order = SettlementOrder(payment: payment, chain: offer.chain, charge: charge, facilitated: facilitated, since: chains.block(offer.chain), entry: nil)
    order.isPromise = true
    guard now + WithheldPayment.least < charge.expires else {
      return .answer(failed(request, index, X402Reason.exactPayloadAuthorizationValidBefore, at: now))
    }
    guard let view = ledger.promise(charge.id) else {
      guard isSelling else { return .answer(unavailable()) }
      guard isReachable(offer), chains.hasPlace(for: request.client) else { return .answer(problem(.railUnavailable, retryAfter: Self.pendingRetry)) }
      guard proof.count <= LedgerLimit.proofOctets.most else {
        admission.failed(request.client, at: request.monotonic)
        return .answer(problem(.badRequest, detail: "The payment's signature is too long."))
      }
      // Nothing is asked of the upstream whose answer could not be kept.
      guard ledger.keepsWithheld(settings.limits.outcomeBytes, of: payment.payer, client: request.client) else {
        return .answer(problem(.railUnavailable, retryAfter: Self.pendingRetry))
      }
      // A contract's signature is judged by the contract first: nothing is kept for what may be rubbish.
      if charge.signatureCheck != .recovered { return .awaitSettlement(order) }
      do throws(Refusal) {
        order.entry = try ledger.awaited { () throws(Refusal) in try ledger.promise(payment, at: now) }
        return .awaitSettlement(order)
      } catch { return .answer(answer(error, request, index, nil, nil, at: now)) }
    }
    guard view.client.limitKey == request.client.limitKey else { return .answer(problem(.paymentInFlight, retryAfter: Self.pendingRetry)) }
    order.entry = AwaitedEntry(lsn: view.changed, epoch: ledger.epoch)
    guard let word else { return .awaitSettlement(order) }
    // Only what was looked at just now is served for: the payer may have spent his money meanwhile.
    guard case .settled = word else { return .answer(underWay(word, nil)) }
    return serve(request, index, offer, charge, presented, digest, proof, at: now)
  }

  private mutating func serve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ presented: PresentedPayment,
    _ digest: Digest32, _ proof: [UInt8], at now: Timestamp
  ) -> Verdict {
    guard let ledger, case .x402(let version) = presented.dialect else { return .answer(unavailable()) }
    let epoch = ledger.epoch
    // As it was called when it was taken: under that its answer is forgotten with it.
    let key = OutcomeKey(key: ledger.promise(charge.id)?.name ?? charge.id, request: digest)
    let entry: LSN
    do throws(Refusal) { entry = try ledger.serve(promise: charge.id, request: digest, at: now) } catch {
      return .answer(answer(error, request, index, nil, nil, at: now))
    }
    let place = exchanges.take()
    remember(request, index, at: place)
    // Nothing is held here: the payer has promised the price.
    exchanges[place].payment = .ended
    exchanges[place].amount = charge.amount
    exchanges[place].currency = offer.account
    exchanges[place].recipient = offer.recipient.checksummed
    exchanges[place].chain = ChainReceipt(dialect: presented.dialect, chain: offer.chain, payer: charge.payer, transaction: nil)
    exchanges[place].withheld = WithheldPayment(
      id: charge.id, chain: offer.chain, payer: charge.payer, version: version, proof: proof, url: resource(of: request).url,
      key: key, signInKey: routes[Int(index)]?.signIn == nil ? nil : Self.signInKey(charge.payer, digest))
    var exchange = PaidExchange(forwardAfter: entry, replyAfter: entry, epoch: epoch, place: place)
    exchange.settlesAfter = true
    return .paid(exchange)
  }

  // MARK: the response

  /// Says that a response that costs something is withheld, or refused where it is too long for that.
  mutating func withhold(_ place: UInt32, status: UInt16, isEventStream: Bool, _ contentLength: UInt64?) -> AnswerGate {
    let limit = settings.limits.outcomeBytes
    guard status != 101, !isEventStream, contentLength.map({ $0 <= UInt64(limit) }) ?? true else {
      exchanges[place].isCharged = false
      return .refuse
    }
    exchanges[place].announcedLength = contentLength
    exchanges[place].isWithheld = true
    return .withhold(limit: limit)
  }

  /// Takes a withheld response that is whole: from here on its price is owed, and it is kept. Returns what is to be settled, and what answers
  /// then; nil where nothing is owed, since the ledger did not take it.
  mutating func withheld(
    _ exchange: borrowing PaidExchange, status: UInt16, fields: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer, at now: Timestamp
  ) -> (payment: WithheldPayment, order: SettlementOrder?)? {
    let place = exchange.place
    guard place != PaidExchange.none, let ledger, let payment = exchanges[place].withheld else { return nil }
    exchanges[place].isWithheld = false
    let outcome = StoredOutcome(status: status, head: Array(fields), body: Array(body), receipt: [])
    do throws(Refusal) {
      _ = try ledger.owe(withheld: outcome, as: payment.key, promise: payment.id, epoch: exchange.epoch, proof: payment.proof, at: now)
    } catch {
      exchanges[place].isCharged = false
      return nil
    }
    payment.outcome = outcome
    payment.corsLines = exchanges[place].corsLines
    guard let view = ledger.payment(payment.id) else { return (payment, nil) }
    return (payment, SettlementOrder(view, epoch: exchange.epoch))
  }

  /// Ends an exchange: what is not owed is good again.
  mutating func endWithheld(_ place: UInt32, _ exchange: borrowing PaidExchange, at now: Timestamp) {
    guard let payment = exchanges[place].withheld, payment.outcome == nil else { return }
    ledger?.renew(promise: payment.id, epoch: exchange.epoch, at: now)
    uncount(place, at: now)
  }

  /// Answers for what was withheld, after the desk's word on its payment.
  mutating func answer(_ payment: WithheldPayment, _ word: SettlementWord, at now: Timestamp) -> Answer {
    let dialect = ChainReceipt.Dialect.x402(payment.version)
    guard let ledger, let view = ledger.promise(payment.id) else { return withCORS(unsettled(payment, word), payment) }
    guard view.state == .kept, let outcome = payment.outcome else {
      return withCORS(telling(view, underWay(.unknown, nil), dialect, nil, at: now), payment)
    }
    ledger.delivered(payment.key, at: now)
    if let key = payment.signInKey {
      // Where that cannot be kept, he pays again.
      _ = try? ledger.store(StoredOutcome(status: 0, head: [], body: nil, receipt: Array(String(now.microseconds).utf8)), for: key, at: now)
    }
    // Its own lines say already which pages may read it.
    return telling(view, replay(outcome), dialect, payment.url, at: now)
  }

  private func withCORS(_ answer: Answer, _ payment: WithheldPayment) -> Answer {
    var answer = answer
    answer.fields += payment.corsLines
    return answer
  }

  /// The answer in place of one that was withheld, and whose payment nobody knows any more. Nothing was charged where it was refused; of all else
  /// money may have moved.
  private func unsettled(_ payment: WithheldPayment, _ word: SettlementWord) -> Answer {
    guard case .refused(let refusal) = word else { return underWay(.unknown, nil) }
    var answer = problem(.verificationFailed, detail: "The payment did not settle: \(refusal.reason.rawValue). Nothing was charged.")
    var lines = ByteBuffer()
    SettlementResponse(
      isSuccess: false, reason: refusal.reason, payer: payment.payer.checksummed, transaction: refusal.transaction,
      network: X402Network(chainID: payment.chain)
    ).appendField(payment.version, to: &lines)
    answer.fields += lines.array()
    return answer
  }

  /// Adds to an answer what became of its payment.
  ///
  /// - Parameter url: what was bought, where the answer is it: then the settlement is signed, where that is asked for.
  private func telling(
    _ view: ChainPromiseView, _ answer: Answer, _ dialect: ChainReceipt.Dialect, _ url: String?, at now: Timestamp
  ) -> Answer {
    guard case .x402(let version) = dialect else { return answer }
    let (chain, payer) = (ChainPaymentView.chainID(of: view.currency), Address(view.payer) ?? .zero)
    var settlement = response(view, chain: chain, payer: payer)
    if view.state != .kept { settlement.amount = .unsaid }
    if let url, settings.x402.signs, version == .v2, (200...299).contains(answer.status), let signer = offerReceipt {
      let receipt = signer.receipt(
        url: url, network: X402Network(chainID: chain), payer: payer.checksummed, issuedAt: now, transaction: settlement.transaction)
      settlement.extensions = JSONObject([(OfferReceipt.key, OfferReceipt.entry(receipt: receipt))])
    }
    var answer = answer
    var lines = ByteBuffer()
    settlement.appendField(version, to: &lines)
    answer.fields += lines.array()
    return answer
  }
}
