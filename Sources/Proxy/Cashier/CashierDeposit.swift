import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

// Deposits: what opens a channel, and what adds to one. Each is claimed once, carried out by the desk, and never served by itself.
extension Cashier {
  // MARK: open

  /// Resolves what opens a channel. One that is open already is used by the opening's voucher: the same credential again does no harm.
  mutating func open(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, _ opening: ChannelOpening, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains else { return .answer(unavailable()) }
    if ledger.session(opening.channelID) != nil || ledger.closeResult(opening.channelID) != nil {
      return voucher(request, index, presented, opening.voucher, descriptor: opening.descriptor, at: now)
    }
    let credential = presented.credential
    guard let binding = try? RouteBinding(credential.opaque), let route = route(of: binding, request, index),
      let sold = soldSessions(route, at: now).first(where: { $0.offer.issued(presented.quote) && $0.price.version == binding.priceVersion })
    else { return .answer(failed(request, index, .invalidChallenge, detail: Self.otherRequest, at: now)) }
    if !Self.asksForNothing(request), let verdict = bindContent(request, index, credential, at: now) ?? read(request, index) { return verdict }
    guard !channelFailures.isFull(opening.channelID, request.client, at: clock) else { return .answer(problem(.rateLimited, retryAfter: 1)) }
    let token = sold.offer.offer.token
    var checked: CheckedOpening
    do throws(ChannelError) {
      checked = try inTime(credential, at: now) { (time) throws(ChannelError) in
        try presented.quote.check(
          opening, source: credential.source, token: token, escrow: sold.offer.escrow, latest: credential.expires ?? now, now: time)
      } id: { $0.transaction.id }
      if checked.transaction.awaiting != nil {
        guard let key = chains.sponsor(token.chain) else { throw .payment(.feesNotSponsored) }
        checked.transaction = try checked.transaction.sponsored(by: key, feeToken: token.address)
      }
    } catch {
      noteFailure(error, opening.channelID, request.client)
      return .answer(refusedDeposit(error, request, index, opening.channelID, credential, at: now))
    }
    // A contract that says yes today may say no tomorrow, and some escrows ask none: vouchers are signed by keys.
    guard checked.question == nil else { return .answer(refusedDeposit(.invalidSignature, request, index, opening.channelID, credential, at: now)) }
    let order = ChannelOrder(
      id: checked.channelID, challengeID: credential.challengeID, payer: checked.channel.payer.lowercase, chain: token.chain,
      descriptor: StoredChannel(escrow: sold.offer.escrow, channel: checked.channel).octets, voucher: AcceptedVoucher(checked.voucher),
      terms: SessionTerms(
        realm: settings.realm, currency: sold.offer.offer.account, merchant: route.merchant,
        routes: [RouteTerms(routeID: route.id, priceVersion: sold.price.version, price: sold.price)]),
      idleTimeout: .seconds(Int64(clamping: presented.quote.details.idleTimeout)), maximumInFlight: route.maximumInFlight, route: route.label,
      client: request.client)
    let step = ChannelStep(
      transaction: checked.transaction, channel: checked.channel, escrow: sold.offer.escrow,
      minimumDeposit: sold.offer.request.details.minimumDeposit, question: checked.question)
    let deposit = Deposit(step: step, deposit: .open(order), currency: sold.offer.offer.account, merchant: route.merchant, route: route.label)
    if let verdict = pay(deposit, request, index, credential, at: now) { return verdict }
    // Another request has opened it a moment ago.
    if ledger.session(opening.channelID) != nil || ledger.closeResult(opening.channelID) != nil {
      return voucher(request, index, presented, opening.voucher, descriptor: opening.descriptor, at: now)
    }
    // Settled, and yet no channel: it was closed again, so long ago that nothing is known of it.
    return .answer(problem(.sessionFinalized, challengeID: credential.challenge.id))
  }

  /// The route that a challenge was issued for. A request that asks for nothing but its credential is bound to its route alone, and may have
  /// come to another of its prices, for it says nothing by which one is chosen.
  private func route(of binding: RouteBinding, _ request: borrowing PaidRequest, _ index: RouteIndex) -> PricedRoute? {
    guard let route = routes[Int(index)] else { return nil }
    guard Self.asksForNothing(request) else { return isBound(binding, request, route) ? route : nil }
    if route.id == binding.route { return route }
    guard let own = request.route, variants[Int(own)] != nil else { return nil }
    return routes.lazy.compactMap { $0 }.first { $0.id == binding.route && !$0.rails.sessions.isEmpty }
  }

  // MARK: top-up

  /// Resolves what adds to a channel: never forwarded.
  mutating func topUp(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, _ topUp: ChannelTopUp, at now: Timestamp
  ) -> Verdict {
    if let verdict = deposit(request, index, presented, topUp, at: now) { return verdict }
    guard let ledger, let view = ledger.channel(topUp.channelID), let stored = StoredChannel(view.descriptor) else {
      return .answer(problem(.sessionFinalized, challengeID: presented.credential.challenge.id))
    }
    let seat = ChannelSeat(
      id: view.id, stored, challengeID: presented.credential.challenge.id, minimumDelta: presented.quote.details.minimumDelta)
    return .answer(managed(seat, view.handle, isProven: false, after: max(view.changed, ledger.applied), at: now))
  }

  /// Carries a top-up out; nil where it is done.
  mutating func deposit(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, _ topUp: ChannelTopUp, at now: Timestamp
  ) -> Verdict? {
    guard let chains else { return .answer(unavailable()) }
    let credential = presented.credential
    let view: ChannelView
    let stored: StoredChannel
    switch find(topUp.channelID, request, index, presented, descriptor: topUp.descriptor, at: now) {
    case .answer(let answer): return .answer(answer)
    case .channel(let found, let kept): (view, stored) = (found, kept)
    }
    guard let token = token(of: presented.quote, index, at: now) else {
      return .answer(failed(request, index, .invalidChallenge, detail: Self.otherRequest, at: now))
    }
    guard !channelFailures.isFull(view.id, request.client, at: clock) else { return .answer(problem(.rateLimited, retryAfter: 1)) }
    var transaction: ChannelTransaction
    do throws(ChannelError) {
      transaction = try inTime(credential, at: now) { (time) throws(ChannelError) in
        try presented.quote.check(
          topUp, source: credential.source, channel: stored.channel, standing: ChannelStanding(view.account), token: token, escrow: stored.escrow,
          latest: credential.expires ?? now, now: time)
      } id: { $0.id }
      if transaction.awaiting != nil {
        guard let key = chains.sponsor(token.chain) else { throw .payment(.feesNotSponsored) }
        transaction = try transaction.sponsored(by: key, feeToken: token.address)
      }
      // What is closing takes no more; what was deposited before is answered for all the same.
      if view.phase == .closing, transaction.id.flatMap({ ledger?.payment($0) }) == nil { throw .channelFinalized }
    } catch {
      noteFailure(error, view.id, request.client)
      return .answer(refusedDeposit(error, request, index, view.id, credential, at: now))
    }
    let step = ChannelStep(transaction: transaction, channel: stored.channel, escrow: stored.escrow)
    let deposit = Deposit(
      step: step, deposit: .topUp(channel: view.id), currency: view.currency, merchant: view.merchant, route: routes[Int(index)]?.label ?? .none)
    return pay(deposit, request, index, credential, at: now)
  }

  /// The token that a challenge asked for, as the route, or whichever other one sells sessions for it, knows it.
  private func token(of quote: ChannelSession, _ index: RouteIndex, at now: Timestamp) -> ChainToken? {
    func token(_ route: PricedRoute) -> ChainToken? {
      soldSessions(route, at: now).first {
        $0.offer.offer.token.address == quote.currency && $0.offer.offer.chain == quote.details.chainID
      }?.offer.offer.token
    }
    if let known = routes[Int(index)].flatMap(token) { return known }
    for case let route? in routes { if let known = token(route) { return known } }
    return nil
  }

  // MARK: what both are

  private struct Deposit {
    let step: ChannelStep
    let deposit: EscrowDeposit
    let currency: String
    let merchant: String
    let route: RouteLabel
  }

  /// Claims a deposit and has it carried out, or says how it stands; nil where it is done.
  private mutating func pay(
    _ deposit: Deposit, _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp
  ) -> Verdict? {
    guard let ledger, let id = deposit.step.transaction.id else { return .answer(unavailable()) }
    let challengeID = credential.challenge.id
    let channel = deposit.step.transaction.channelID
    if let told, told.id == id {
      switch told.word {
      case .settled: break
      case .refused(let refusal): return .answer(refused(refusal, request, index, channel, credential, at: now))
      case .unavailable: return .answer(problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.channelRetry))
      case .unknown, .declined: return .answer(problem(.paymentPending, challengeID: challengeID, retryAfter: Self.channelRetry))
      }
    }
    guard let view = ledger.payment(id) else {
      guard isSelling else { return .answer(unavailable()) }
      guard takesDeposits(deposit.step.escrow, to: channel) else { return .answer(problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.channelRetry)) }
      if let answer = over(request, index, credential, at: now) { return .answer(answer) }
      return claim(id, deposit, request, index, credential, at: now)
    }
    // A transaction is everybody's to see once it was broadcast: it counts for the challenge that it was brought with.
    guard view.channel == channel, view.challengeID == credential.challengeID else { return .answer(problem(.paymentMismatch, challengeID: challengeID)) }
    switch view.state {
    case .claimed, .submitted:
      let payment = payment(id, deposit, view.request, request.client, view.expires, credential, proof: view.proof)
      return .awaitSettlement(SettlementOrder.deposit(payment, deposit.step, entry: view.changed))
    case .settled, .serving, .served: return nil
    case .writtenOff: return .answer(alreadyPaid(view.reference, challengeID))
    }
  }

  /// Answers a deposit whose challenge is over: nothing of it has moved, so that it can be made again for a fresh one.
  private mutating func over(_ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp) -> Answer? {
    if ledger?.claimState(credential.challengeID) != nil {
      return failed(request, index, .sessionChallengeNotFound, detail: "The challenge has been used.", at: now)
    }
    return credential.isExpired(at: now) ? failed(request, index, .paymentExpired, at: now) : nil
  }

  private mutating func claim(
    _ id: Digest32, _ deposit: Deposit, _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp
  ) -> Verdict {
    guard let ledger else { return .answer(unavailable()) }
    // Where nothing runs out by itself, the challenge says how long the claim is remembered at least.
    let expires = max(deposit.step.transaction.expires ?? now, credential.expires ?? now)
    let payment = payment(
      id, deposit, deposit.step.transaction.channelID, request.client, expires, credential, proof: SettlementOrder.proof(of: deposit.step))
    var order = SettlementOrder.deposit(payment, deposit.step, entry: nil)
    // What a contract has to judge, and what somebody says that he has broadcast, is looked at first: the desk claims it then.
    if deposit.step.question != nil { return .awaitSettlement(order) }
    if case .hash = deposit.step.transaction.means { return .awaitSettlement(order) }
    do throws(Refusal) {
      order.entry = try ledger.awaited { () throws(Refusal) in try ledger.claim(payment, at: now) }
      return .awaitSettlement(order)
    } catch {
      switch error {
      case .sessionExists: return .answer(problem(.paymentInFlight, challengeID: credential.challenge.id, retryAfter: Self.channelRetry))
      default: return .answer(answer(error, request, index, credential, nil, at: now))
      }
    }
  }

  private func payment(
    _ id: Digest32, _ deposit: Deposit, _ request: Digest32, _ client: ClientAddress, _ expires: Timestamp, _ credential: Credential,
    proof: [UInt8]
  ) -> ChainPaymentOrder {
    ChainPaymentOrder(
      id: id, request: request, payer: deposit.step.channel.payer.lowercase, amount: deposit.step.transaction.amount ?? 0,
      currency: deposit.currency, merchant: deposit.merchant, route: deposit.route, client: client, expires: expires,
      challengeID: credential.challengeID, proof: proof, deposit: deposit.deposit)
  }

  /// Checks a deposit now. One that has run out meanwhile is checked as of a moment when it held, and counts where it is known: money that
  /// moved is never asked for again.
  private func inTime<Checked>(
    _ credential: Credential, at now: Timestamp, _ check: (Timestamp) throws(ChannelError) -> Checked, id: (Checked) -> Digest32?
  ) throws(ChannelError) -> Checked {
    do throws(ChannelError) { return try check(now) } catch {
      guard case .payment(.expired) = error, let expires = credential.expires else { throw error }
      for moment in [expires - .seconds(10), expires - settings.expires + .seconds(1)] where moment < now {
        guard let checked = try? check(moment), let id = id(checked), ledger?.payment(id) != nil else { continue }
        return checked
      }
      throw error
    }
  }

  // MARK: answers

  /// Answers a deposit that broke a rule.
  private mutating func refusedDeposit(
    _ error: ChannelError, _ request: borrowing PaidRequest, _ index: RouteIndex, _ channel: Digest32, _ credential: Credential, at now: Timestamp
  ) -> Answer {
    var members: JSONObject = ["channelId": .string(HexData.text(channel))]
    if case .depositBelowMinimum(let least) = error { members.set("required", .string(String(least))) }
    guard error.problem.status == 402 else {
      return problem(error.problem, detail: error.detail, members: members, challengeID: credential.challenge.id)
    }
    return failed(request, index, error.problem, detail: error.detail, members: members, at: now)
  }

  /// Answers a deposit that its chain did not take: nothing was charged.
  private mutating func refused(
    _ refusal: SettlementRefusal, _ request: borrowing PaidRequest, _ index: RouteIndex, _ channel: Digest32, _ credential: Credential,
    at now: Timestamp
  ) -> Answer {
    if let error = refusal.channel { return refusedDeposit(error, request, index, channel, credential, at: now) }
    let members: JSONObject = ["channelId": .string(HexData.text(channel))]
    return failed(
      request, index, .verificationFailed, detail: "The deposit did not settle: \(refusal.reason.rawValue).", members: members, at: now)
  }
}
