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

// Scheme batch-settlement of x402: one deposit into a channel, then a voucher with each request, one request at a time. A voucher is durable before
// anything is served for it, and what it pays for is charged once the upstream has answered; what was charged is claimed later.
extension Cashier {
  private static var batchRetry: UInt32 { 5 }
  /// Seconds after which a payer may ask again for whom no more gas is paid today.
  private static var gasRetry: UInt32 { 3_600 }
  /// How long a channel must not have been used before a voucher that everybody can read closes it, from where its payer came last.
  static var restBeforeRefund: Duration { .seconds(60) }

  /// A payment of batch-settlement, and the offer that it was made for.
  private struct PresentedBatch {
    let offer: RouteRails.Offer
    let requirements: PaymentRequirements
    let escrow: SessionEscrow
    let payment: BatchPayment
    /// What the payment deposits: how the ledger calls it, and base units; nil where it deposits nothing.
    var deposit: (id: Digest32, amount: UInt128)?

    var id: Digest32 { payment.voucher.channelID }
  }

  /// Whether a route's offers of batch-settlement can be kept at the moment.
  func keepsBatches(_ rails: RouteRails) -> Bool {
    rails.batches.allSatisfy { takesDeposits(SessionEscrow.batch(chain: $0.chain)) }
  }

  /// Resolves a payment by batch-settlement; nil where it is for no offer that is sold here.
  mutating func batch(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ payload: PaymentPayload, _ sold: [RouteRails], at now: Timestamp
  ) -> Verdict? {
    guard let rails = sold.first(where: { payload.match($0.requirements) != nil }), let printer = rails.printer,
      let place = payload.match(rails.requirements), rails.isBatch(place)
    else { return nil }
    guard let ledger, let id = Self.channel(of: payload) else { return .answer(unavailable()) }
    guard printer.mismatchedExtension(in: payload) == nil else { return .answer(failed(request, index, X402Reason.extensionEchoMismatch, at: now)) }
    if let resource = payload.resource, !names(resource.url, request) {
      return .answer(failed(request, index, X402Reason.invalidPayload, at: now))
    }
    guard !request.isUpgrade else { return .answer(problem(.badRequest, detail: "A connection that is switched is not sold by x402.")) }
    let offer = rails.x402[place]
    let escrow = SessionEscrow.batch(chain: offer.chain)
    let last = ledger.channel(id).map { SessionVoucher(channelID: id, cumulativeAmount: $0.voucher.amount, signature: $0.voucher.signature) }
    let payment: BatchPayment
    do throws(BatchChannelError) {
      payment = try BatchPayment(payload, against: rails.requirements[place], token: offer.token, escrow: escrow, last: last, now: now)
    } catch { return .answer(failed(request, index, error.x402Reason, at: now)) }
    var presented = PresentedBatch(offer: offer, requirements: rails.requirements[place], escrow: escrow, payment: payment)
    switch payment.kind {
    case .refund(let amount): return refund(request, index, presented, amount, at: now)
    case .deposit(let transaction):
      if let verdict = deposit(request, index, presented, transaction, at: now) { return verdict }
      presented.deposit = transaction.id.map { ($0, transaction.amount ?? 0) }
    case .voucher: break
    }
    return pay(request, index, presented, at: now)
  }

  private static func channel(of payload: PaymentPayload) -> Digest32? {
    switch payload.payment {
    case .batchDeposit(_, let voucher, _), .batchVoucher(_, let voucher), .batchRefund(_, let voucher, amount: _): voucher.channelID
    case .exactEIP3009, .exactPermit2, .uptoPermit2: nil
    }
  }

  // MARK: vouchers

  /// Serves what a voucher pays for.
  private mutating func pay(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains, let route = routes[Int(index)] else { return .answer(unavailable()) }
    guard let view = ledger.channel(presented.id) else { return adopt(request, index, presented, at: now) }
    if let answer = objection(request, index, presented, view, at: now) { return .answer(answer) }
    guard isSelling else { return .answer(unavailable()) }
    guard isWatched(presented.escrow, view.id) else { return .answer(problem(.railUnavailable, retryAfter: Self.batchRetry)) }
    let payer = presented.payment.config.payer
    var hash = SHA256()
    hash.update("eip155")
    hash.update(payer.bytes)
    if let refused = refused(request, index, wallet: hash.finalize(), session: presented.id) { return .answer(refused) }
    if let verdict = read(request, index) { return verdict }
    let epoch = ledger.epoch
    let entry: LSN
    let voucher = AcceptedVoucher(presented.payment.voucher)
    do throws(Refusal) {
      entry = try ledger.begin(view.handle, paying: presented.offer.amount, by: voucher, at: now)
    } catch { return .answer(answer(error, request, index, presented, at: now)) }
    chains.payers.note(view.id, request.client)
    let place = exchanges.take()
    remember(request, index, at: place)
    exchanges[place].payment = .debited(view.handle)
    exchanges[place].context = DebitContext(route: route.label, client: request.client, writesLine: false, units: 1)
    exchanges[place].amount = presented.offer.amount
    exchanges[place].wallet = Digest32()
    exchanges[place].reference = 0
    exchanges[place].currency = presented.offer.account
    exchanges[place].recipient = presented.offer.recipient.checksummed
    exchanges[place].batch = BatchSeat(
      view, payer: payer, amount: presented.offer.amount, voucher: voucher, refundNonce: chains.refundNonce(view.chain, view.id),
      deposit: presented.deposit.map { (ledger.payment($0.id)?.transaction, $0.amount) })
    return .paid(PaidExchange(forwardAfter: entry, replyAfter: entry, epoch: epoch, place: place))
  }

  /// Has the chain asked for a channel that the ledger does not know: it may be of a time that a restored copy of the ledger has not seen.
  private mutating func adopt(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, at now: Timestamp
  ) -> Verdict {
    let transaction = ChannelTransaction(.open, channelID: presented.id, id: nil, amount: nil, expires: nil, means: .none, transfers: [])
    guard isSelling, let chains else { return .answer(unavailable()) }
    guard takesDeposits(presented.escrow), chains.hasPlace(for: request.client) else { return .answer(problem(.railUnavailable, retryAfter: Self.batchRetry)) }
    guard let step = step(presented, transaction, opens: true), let channel = channelOrder(request, index, presented, step) else {
      return .answer(corrected(request, index, presented, .batchCumulativeAmountMismatch, nil, at: now))
    }
    let order = SettlementOrder.adoption(step, channel, client: request.client)
    guard let told, told.id == order.id else { return .awaitSettlement(order) }
    if case .refused = told.word { admission.failed(request.client, at: request.monotonic) }
    return .answer(answer(told.word, request, index, presented, at: now) ?? problem(.paymentPending, retryAfter: Self.batchRetry))
  }

  /// Why a payment does not fit its channel as that stands; nil where it does.
  private mutating func objection(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ view: ChannelView, at now: Timestamp
  ) -> Answer? {
    guard let route = routes[Int(index)], StoredChannel(view.descriptor)?.escrow == presented.escrow, view.merchant == route.merchant,
      view.currency == presented.offer.account
    else { return failed(request, index, X402Reason.batchReceiverMismatch, at: now) }
    switch view.phase {
    case .open:
      guard !view.account.isEnding else { return busy(request, index, isClosing: true, at: now) }
      guard view.inFlight == 0 else { return busy(request, index, at: now) }
    case .suspended: return failed(request, index, X402Reason.batchChannelNotFound, at: now)
    case .unconfirmed: return answer(.sessionUnconfirmed, request, index, nil, nil, at: now)
    case .closing: return busy(request, index, isClosing: true, at: now)
    }
    let channel = BatchChannel(
      presented.payment.config, charged: view.debited, last: nil, balance: view.account.deposit, totalClaimed: view.account.settled)
    do throws(BatchChannelError) {
      try channel.admit(presented.payment, amount: presented.offer.amount)
      return nil
    } catch {
      switch error {
      case .cumulativeMismatch, .belowClaimed: return corrected(request, index, presented, error.x402Reason, view, at: now)
      default: return failed(request, index, error.x402Reason, at: now)
      }
    }
  }

  /// Answers a refusal of the ledger.
  private mutating func answer(
    _ refusal: Refusal, _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, at now: Timestamp
  ) -> Answer {
    switch refusal {
    case .channelBusy:
      // Another worker was faster: what it has charged is told, where it is done.
      guard let view = ledger?.channel(presented.id), let answer = objection(request, index, presented, view, at: now) else {
        return busy(request, index, at: now)
      }
      return answer
    case .sessionClosing, .sessionClosed: return busy(request, index, isClosing: true, at: now)
    case .channelSuspended, .unknownSession, .sessionExists, .claimInFlight: return busy(request, index, at: now)
    case .beyondDeposit: return failed(request, index, X402Reason.batchCumulativeExceedsBalance, at: now)
    default: return answer(refusal, request, index, nil, nil, at: now)
    }
  }

  /// 402: another request of the channel has not ended, and the same payment may be made again in a moment; or the channel is being closed, which
  /// is for its chain to do.
  private mutating func busy(_ request: borrowing PaidRequest, _ index: RouteIndex, isClosing: Bool = false, at now: Timestamp) -> Answer {
    chainReason = .batchChannelBusy
    var answer = challenge(request, index, .verificationFailed, at: now)
    answer.fields += Array("Retry-After: \(isClosing ? Self.batchRetry : 1)\r\n".utf8)
    return answer
  }

  /// 402 for a payer who has lost count: what was charged, and the voucher that proves it ("Corrective 402"). Vouchers that were claimed by are
  /// everybody's to read, and to ask with: none is told that has not bought what it is for, and none that is not public to who may be anybody.
  private mutating func corrected(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ reason: X402Reason, _ view: ChannelView?, at now: Timestamp
  ) -> Answer {
    chainReason = reason
    let place = routes[Int(index)]?.rails.requirements.firstIndex { offer in
      offer.scheme == .batchSettlement && offer.network == presented.requirements.network && offer.assetAddress == presented.requirements.assetAddress
    }
    if let view, let place {
      // Who has only what was claimed by, and comes from elsewhere, may be anybody: he gets nothing by which the channel could be closed.
      let isAnybody = view.isPublic(presented.payment.voucher.cumulativeAmount) && chains?.payers.isLast(view.id, request.client) != true
      let told = view.charged.flatMap { isAnybody && !view.isPublic($0.amount) ? nil : $0 }
      let voucher = told.map { VoucherState(signedMaxClaimable: $0.amount, signature: $0.signature) }
      correction = ChannelCorrection(offer: place, channelState: state(view), voucherState: voucher)
    }
    var answer = challenge(request, index, .verificationFailed, at: now)
    answer.after = max(answer.after, view?.changed ?? 0)
    return answer
  }

  private func state(_ view: ChannelView) -> ChannelState {
    ChannelState(
      channelID: view.id, balance: view.account.deposit, totalClaimed: view.account.settled, withdrawRequestedAt: view.account.closeRequestedAt,
      refundNonce: chains?.refundNonce(view.chain, view.id) ?? 0, chargedCumulativeAmount: view.debited)
  }

  // MARK: the upstream's head

  /// Charges what has succeeded, and appends what its payer is told; returns the entry that the response waits for.
  mutating func answered(_ place: UInt32, _ seat: BatchSeat, to fields: inout ByteBuffer, at now: Timestamp) -> LSN {
    var entry: LSN = 0
    if exchanges[place].isCharged {
      entry = charge(place, seat, at: now)
    } else {
      giveBack(place, cause: .upstreamStatus, at: now)
    }
    seat.response.appendField(.v2, to: &fields)
    return entry
  }

  /// Debits what the voucher of a request was held for.
  mutating func charge(_ place: UInt32, _ seat: BatchSeat, at now: Timestamp) -> LSN {
    guard let ledger else { return Self.never }
    do throws(Refusal) {
      let entry = try ledger.charge(seat.handle, seat.amount, by: seat.voucher, context: exchanges[place].context, at: now)
      exchanges[place].payment = .ended
      seat.isCharged = true
      chains?.gas.charged(seat.payer, at: now)
      return entry
    } catch {
      // The ledger takes nothing, or was read back: nothing is delivered that it does not know of, and the channel is free again.
      giveBack(place, cause: .upstreamFailed, at: now)
      return Self.never
    }
  }

  // MARK: deposits

  /// Has a deposit carried out, and says how it stands; nil where it is done.
  private mutating func deposit(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ transaction: ChannelTransaction, at now: Timestamp
  ) -> Verdict? {
    guard let ledger, let chains, let id = transaction.id else { return .answer(unavailable()) }
    if let known = ledger.payment(id) {
      guard known.channel == presented.id else { return .answer(problem(.paymentMismatch)) }
      switch known.state {
      case .settled, .serving, .served: return nil
      case .writtenOff: return .answer(alreadyPaid(known.reference, nil))
      case .claimed, .submitted:
        if let told, told.id == id { return .answer(problem(.paymentPending, retryAfter: Self.batchRetry)) }
        return SettlementOrder(known, epoch: ledger.epoch).map { .awaitSettlement($0) } ?? .answer(problem(.paymentPending, retryAfter: Self.batchRetry))
      }
    }
    if let told, told.id == id, let answer = answer(told.word, request, index, presented, at: now) { return .answer(answer) }
    // Nothing is deposited for a voucher that buys nothing.
    let view = ledger.channel(presented.id)
    if let view, let answer = objection(request, index, presented, view, at: now) { return .answer(answer) }
    guard isSelling else { return .answer(unavailable()) }
    guard takesDeposits(presented.escrow, to: presented.id), chains.hasPlace(for: request.client) else {
      return .answer(problem(.railUnavailable, retryAfter: Self.batchRetry))
    }
    guard chains.gas.hasLeft(presented.payment.config.payer, at: now) else { return .answer(problem(.rateLimited, retryAfter: Self.gasRetry)) }
    guard let step = step(presented, transaction, opens: view == nil) else {
      return .answer(corrected(request, index, presented, .batchCumulativeAmountMismatch, nil, at: now))
    }
    guard let payment = payment(request, index, presented, step, opens: view == nil) else { return .answer(unavailable()) }
    // What would not succeed leaves no trace: the desk claims it.
    return .awaitSettlement(SettlementOrder.deposit(payment, step, entry: nil))
  }

  /// What the desk is to do; nil where the voucher cannot be a channel's first one here.
  private func step(_ presented: PresentedBatch, _ transaction: ChannelTransaction, opens: Bool) -> ChannelStep? {
    var transaction = transaction
    let (claimed, isBelow) = presented.payment.voucher.cumulativeAmount.subtractingReportingOverflow(presented.offer.amount)
    if opens {
      guard !isBelow else { return nil }
      transaction.step = .open
    }
    var step = ChannelStep(transaction: transaction, channel: ChannelDescriptor(presented.payment.config), escrow: presented.escrow)
    step.claimed = opens ? claimed : nil
    return step
  }

  private func payment(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ step: ChannelStep, opens: Bool
  ) -> ChainPaymentOrder? {
    guard let route = routes[Int(index)], let id = step.transaction.id, let expires = step.transaction.expires else { return nil }
    let offer = presented.offer
    var deposit = EscrowDeposit.topUp(channel: presented.id)
    if opens, let channel = channelOrder(request, index, presented, step) { deposit = .open(channel) }
    return ChainPaymentOrder(
      id: id, request: presented.id, payer: step.channel.payer.lowercase, amount: step.transaction.amount ?? 0, currency: offer.account,
      merchant: route.merchant, route: route.label, client: request.client, expires: expires, proof: SettlementOrder.proof(of: step), deposit: deposit)
  }

  /// The channel as the ledger is to know it.
  private func channelOrder(_ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ step: ChannelStep) -> ChannelOrder? {
    guard let route = routes[Int(index)] else { return nil }
    return ChannelOrder(
      id: presented.id, challengeID: Digest32(), payer: step.channel.payer.lowercase, chain: presented.offer.chain,
      descriptor: StoredChannel(escrow: step.escrow, channel: step.channel).octets, voucher: AcceptedVoucher(presented.payment.voucher),
      terms: SessionTerms(
        realm: settings.realm, currency: presented.offer.account, merchant: route.merchant,
        routes: [RouteTerms(routeID: route.id, priceVersion: route.price.version, price: route.price)]),
      idleTimeout: route.idleTimeout, maximumInFlight: 1, route: route.label, client: request.client, isResumable: true)
  }

  /// Answers what the desk has said of a deposit that is not claimed; nil where it is as new.
  private mutating func answer(
    _ word: SettlementWord, _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, at now: Timestamp
  ) -> Answer? {
    switch word {
    case .settled: return problem(.paymentPending, retryAfter: Self.batchRetry)
    case .unavailable: return problem(.railUnavailable, retryAfter: Self.batchRetry)
    case .unknown: return problem(.paymentPending, retryAfter: Self.batchRetry)
    case .declined(let refusal): return answer(refusal, request, index, presented, at: now)
    case .refused(let refusal):
      switch refusal.channel {
      case .amountNotIncreasing: return corrected(request, index, presented, .batchCumulativeAmountMismatch, nil, at: now)
      // What its payer is about to take away pays for nothing.
      case .closeRequested, .amountExceedsDeposit: return failed(request, index, X402Reason.batchCumulativeExceedsBalance, at: now)
      default:
        let reason = refusal.transaction == nil ? X402Reason.batchDepositSimulationFailed : .batchDepositTransactionFailed
        return failed(request, index, reason, at: now)
      }
    }
  }

  // MARK: refunds

  /// Closes a channel at its payer's wish: what was charged is claimed, and all the rest goes back to him; or a part of it, where he wants no more.
  private mutating func refund(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ amount: UInt128?, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains else { return .answer(unavailable()) }
    guard let view = ledger.channel(presented.id) else {
      if case .closed(let record)? = ledger.closeResult(presented.id), let outcome = record.channel {
        return .answer(refunded(presented, record, outcome))
      }
      return .answer(failed(request, index, X402Reason.batchChannelNotFound, at: now))
    }
    if let told, told.id == view.id {
      let isRefused: Bool = if case .refused = told.word { true } else { false }
      return .answer(isRefused ? failed(request, index, X402Reason.batchRefundTransactionFailed, at: now) : problem(.paymentPending, retryAfter: Self.batchRetry))
    }
    if view.phase == .closing {
      return .awaitSettlement(SettlementOrder.close(channel: view.id, chain: view.chain, isBatch: true, entry: view.changed))
    }
    var order: SettlementOrder?
    if let amount {
      let part = SettlementOrder.giveBack(channel: view.id, amount, chain: view.chain, entry: view.changed, client: request.client)
      if let told, told.id == part.id { return .answer(returned(told.word, request, index, presented, amount, view, at: now)) }
      if amount != view.account.deposit - min(view.account.deposit, view.debited) { order = part }
    }
    if let answer = objection(request, index, presented, view, at: now) { return .answer(answer) }
    // What a voucher was accepted for that has bought nothing yet stays there for it.
    if order != nil, let amount, amount > view.account.deposit - min(view.account.deposit, view.budget) {
      return .answer(failed(request, index, X402Reason.batchRefundAmountInvalid, at: now))
    }
    // What was claimed by is everybody's to read, and the payer's own wish looks no different: it is followed where he buys nothing just now, and
    // it comes from where he has bought last.
    if view.isPublic(view.debited) {
      guard chains.payers.isLast(view.id, request.client) else {
        chainReason = .batchRefundPayload
        let detail = "This voucher was claimed by and is public: ask from where the channel was used last, buy something first, or withdraw."
        return .answer(failed(request, index, .verificationFailed, detail: detail, at: now))
      }
      guard now - view.lastUse >= Self.restBeforeRefund else { return .answer(busy(request, index, at: now)) }
    }
    let payer = presented.payment.config.payer
    // A part's is taken where it is submitted.
    guard order == nil ? chains.gas.take(payer, at: now) : chains.gas.hasLeft(payer, at: now) else {
      return .answer(problem(.rateLimited, retryAfter: Self.gasRetry))
    }
    if let order { return .awaitSettlement(order) }
    do throws(Refusal) {
      // Another worker may have begun to serve a voucher of the channel since it was looked at: that is not cut off.
      let entry = try ledger.beginClose(view.handle, cause: .payer, voucher: nil, onlyAtRest: true, at: now)
      return .awaitSettlement(SettlementOrder.close(channel: view.id, chain: view.chain, isBatch: true, entry: entry))
    } catch {
      chains.gas.giveBack(payer, at: now)
      return .answer(answer(error, request, index, presented, at: now))
    }
  }

  /// Answers what became of a part that its payer wanted back.
  private mutating func returned(
    _ word: SettlementWord, _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: PresentedBatch, _ amount: UInt128, _ view: ChannelView,
    at now: Timestamp
  ) -> Answer {
    switch word {
    case .settled: break
    case .refused: return failed(request, index, X402Reason.batchRefundTransactionFailed, at: now)
    case .unknown, .declined, .unavailable: return problem(.paymentPending, retryAfter: Self.batchRetry)
    }
    var fields = ByteBuffer()
    fields.append("Content-Type: application/json\r\nCache-Control: no-store\r\n")
    SettlementResponse(
      isSuccess: true, payer: presented.payment.config.payer.checksummed, transaction: chains?.returned(view.chain, view.id),
      network: X402Network(chainID: presented.offer.chain), amount: .units(amount), channelState: state(view)
    ).appendField(.v2, to: &fields)
    return Answer(status: 200, fields: fields.array(), body: Array("{}".utf8), after: view.changed)
  }

  private func refunded(_ presented: PresentedBatch, _ record: ClosedSession, _ outcome: ClosedChannel) -> Answer {
    var fields = ByteBuffer()
    fields.append("Content-Type: application/json\r\nCache-Control: no-store\r\n")
    SettlementResponse(
      isSuccess: true, payer: presented.payment.config.payer.checksummed, transaction: outcome.transaction,
      network: X402Network(chainID: presented.offer.chain), amount: .units(record.refunded),
      channelState: ChannelState(
        channelID: presented.id, balance: outcome.captured, totalClaimed: outcome.captured,
        refundNonce: chains?.refundNonce(presented.offer.chain, presented.id) ?? 0, chargedCumulativeAmount: record.spent)
    ).appendField(.v2, to: &fields)
    return Answer(status: 200, fields: fields.array(), body: Array("{}".utf8), after: record.lsn)
  }
}
