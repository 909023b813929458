import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

// Vouchers: one signature check for each that is new, none for one that comes again, and nothing is asked of a chain.
extension Cashier {
  /// Resolves a voucher, and serves what its request asks for.
  mutating func voucher(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, _ voucher: SessionVoucher,
    descriptor: ChannelDescriptor?, at now: Timestamp
  ) -> Verdict {
    let view: ChannelView
    let stored: StoredChannel
    switch find(voucher.channelID, request, index, presented, descriptor: descriptor, at: now) {
    case .answer(let answer): return .answer(answer)
    case .channel(let found, let kept): (view, stored) = (found, kept)
    }
    let challengeID = presented.credential.challenge.id
    switch view.phase {
    case .open: break
    case .unconfirmed: return .answer(answer(.sessionUnconfirmed, request, index, presented.credential, nil, at: now))
    case .suspended: return .answer(refused(.channelNotFound, request, index, view, stored, presented, at: now))
    case .closing: return .answer(refused(.channelFinalized, request, index, view, stored, presented, at: now))
    }
    guard isSelling else { return .answer(unavailable()) }
    guard isWatched(stored.escrow, view.id) else { return .answer(problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.channelRetry)) }
    let seat = ChannelSeat(id: view.id, stored, challengeID: challengeID, minimumDelta: presented.quote.details.minimumDelta)
    let isAccepted: Bool
    switch check(voucher, seat, view, request, index, presented, at: now) {
    case .verdict(let verdict): return verdict
    case .valid(let advances): isAccepted = !advances
    }
    if let refused = refused(request, index, wallet: seat.payer, session: seat.id) { return .answer(refused) }
    let accepted = isAccepted ? nil : AcceptedVoucher(voucher)
    let isProven: Bool
    do throws(Refusal) { isProven = try isPayers(voucher, view, presented.credential, at: now) } catch {
      return .answer(answer(error, request, index, seat, at: now))
    }
    if isProven { chains?.payers.note(view.id, request.client) }
    guard !Self.asksForNothing(request) else {
      return .answer(take(accepted, view.handle, seat, request, index, isProven: isProven, at: now))
    }
    guard isProven else { return .answer(short(request, index, seat, missing: 1, isProven: false, after: 0, at: now)) }
    if let verdict = read(request, index) { return verdict }
    let price: Price
    switch terms(request, index, presented, view, seat, at: now) {
    case .answer(let answer): return .answer(answer)
    case .price(let agreed): price = agreed
    }
    let session = ResolvedSession(handle: view.handle, id: seat.id, wallet: seat.payer, price: price, source: .channel(seat))
    let verdict = serve(request, index, session, seat, accepting: accepted, at: now)
    if case .paid = verdict, !request.isCall, let value = PresentedCredential.only(request.octets, request.head) {
      vouchers.insert(value, route: index, session, voucher)
    }
    return verdict
  }

  /// Whether a credential, whose voucher was verified, comes from the channel's payer.
  ///
  /// What was handed out on the chain is everybody's to read, whether it landed or not: there only its payer knows the challenges by which he
  /// has used the channel. One that comes with what nobody else can have is one of them from then on.
  func isPayers(_ voucher: SessionVoucher, _ view: ChannelView, _ credential: Credential, at now: Timestamp) throws(Refusal) -> Bool {
    if view.isPayers(credential.challengeID) { return true }
    guard !view.isPublic(voucher.cumulativeAmount) else { return false }
    _ = try ledger?.prove(view.handle, by: credential.challengeID, at: now)
    return true
  }

  /// What a look at a voucher found.
  private enum Checked {
    /// It is valid; whether it is above the last one.
    case valid(advances: Bool)
    case verdict(Verdict)
  }

  /// Checks a voucher against the channel as it stands.
  private mutating func check(
    _ voucher: SessionVoucher, _ seat: ChannelSeat, _ view: ChannelView, _ request: borrowing PaidRequest, _ index: RouteIndex,
    _ presented: ChannelCredential, at now: Timestamp
  ) -> Checked {
    let stored = StoredChannel(escrow: seat.escrow, channel: seat.channel)
    // The last one again needs no look at its signature: strangers' failures do not keep its payer from it.
    guard voucher == seat.voucher(view.voucher) || !channelFailures.isFull(seat.id, request.client, at: clock) else {
      return .verdict(.answer(problem(.rateLimited, retryAfter: 1)))
    }
    let question: WalletQuestion?
    let effect: VoucherEffect
    do throws(ChannelError) {
      (effect, question) = try seat.key.check(
        voucher, after: seat.voucher(view.voucher), standing: ChannelStanding(view.account), minimumDelta: seat.minimumDelta, rules: seat.rules,
        wallets: .refused)
    } catch {
      noteFailure(error, seat.id, request.client)
      return .verdict(.answer(refused(error, request, index, view, stored, presented, at: now)))
    }
    if let question, let verdict = ask(question, request, index, view, stored, presented, at: now) { return .verdict(verdict) }
    switch effect {
    case .repeated, .unchanged: return .valid(advances: false)
    case .advances: return .valid(advances: true)
    }
  }

  /// Counts a signature that did not verify.
  mutating func noteFailure(_ error: ChannelError, _ channel: Digest32, _ client: ClientAddress) {
    switch error {
    case .invalidSignature, .signerMismatch, .payment: channelFailures.count(channel, client, at: clock)
    default: break
    }
  }

  /// Has the signer's contract asked; nil where it has said yes.
  mutating func ask(
    _ question: WalletQuestion, _ request: borrowing PaidRequest, _ index: RouteIndex, _ view: ChannelView, _ stored: StoredChannel,
    _ presented: ChannelCredential, at now: Timestamp
  ) -> Verdict? {
    let order = SettlementOrder.question(question, chain: stored.escrow.chain)
    guard let told, told.id == order.id else { return .awaitSettlement(order) }
    switch told.word {
    case .settled: return nil
    case .refused:
      channelFailures.count(view.id, request.client, at: clock)
      return .answer(refused(.invalidSignature, request, index, view, stored, presented, at: now))
    case .unknown, .unavailable, .declined:
      return .answer(problem(.railUnavailable, challengeID: presented.credential.challenge.id, retryAfter: Self.channelRetry))
    }
  }

  // MARK: terms

  private enum Agreed {
    case price(Price)
    case answer(Answer)
  }

  /// The price at which a channel's requests are served on a route: what was recorded, or what the credential's challenge asked for.
  private mutating func terms(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, _ view: ChannelView, _ seat: ChannelSeat,
    at now: Timestamp
  ) -> Agreed {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    if let recorded = view.terms.routes.first(where: { $0.routeID == route.id }) { return .price(recorded.price) }
    guard let binding = try? RouteBinding(presented.credential.opaque), binding.route == route.id, binding.priceVersion == route.price.version,
      route.merchant == view.merchant, route.rails.sessions.contains(where: { $0.issued(presented.quote) && $0.offer.account == view.currency })
    else {
      var hint = ChannelHint(view, StoredChannel(escrow: seat.escrow, channel: seat.channel), required: view.budget)
      hint.isProven = true
      self.hint = hint
      defer { self.hint = nil }
      let detail = "The session has no terms for this route at its present price."
      return .answer(challenge(request, index, .paymentRequired, detail: detail, members: hint.members, at: now))
    }
    do throws(Refusal) {
      try ledger.addTerms(view.handle, RouteTerms(routeID: route.id, priceVersion: route.price.version, price: route.price), at: now)
      return .price(route.price)
    } catch {
      return .answer(answer(error, request, index, seat, at: now))
    }
  }

  // MARK: serving

  /// Takes a voucher whose request asks for nothing else.
  private mutating func take(
    _ voucher: AcceptedVoucher?, _ handle: SessionHandle, _ seat: ChannelSeat, _ request: borrowing PaidRequest, _ index: RouteIndex,
    isProven: Bool = true, at now: Timestamp
  ) -> Answer {
    guard let ledger else { return unavailable() }
    do throws(Refusal) {
      // What came before is told in the answer: it waits for the entry of that, as for its own.
      let entry = try voucher.map { voucher throws(Refusal) in try ledger.accept(handle, voucher, at: now) } ?? ledger.applied
      return managed(seat, handle, isProven: isProven, after: entry, at: now)
    } catch {
      return answer(error, request, index, seat, at: now)
    }
  }

  /// Serves a request, and accepts the voucher that came with it in the entry of its debit. Where the request is refused the voucher is
  /// accepted all the same: its payer has signed for more, and counts on that.
  mutating func serve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ session: ResolvedSession, _ seat: ChannelSeat, accepting voucher: AcceptedVoucher?,
    at now: Timestamp
  ) -> Verdict {
    accepting = voucher
    defer { accepting = nil }
    do throws(Refusal) {
      return try serve(request, index, session, at: now)
    } catch {
      var entry: LSN = 0
      if let voucher { entry = (try? ledger?.accept(session.handle, voucher, at: now)) ?? 0 }
      return .answer(answer(error, request, index, seat, after: entry, at: now))
    }
  }

  /// Debits a session's request ahead, with the voucher that came with it where one did.
  mutating func debit(
    _ ledger: Ledger, _ handle: SessionHandle, cost: ExactCost, hold: ExactCost = .zero, context: DebitContext, at now: Timestamp
  ) throws(Refusal) -> LSN {
    guard let voucher = accepting.take() else { return try ledger.begin(handle, cost: cost, hold: hold, context: context, at: now) }
    return try ledger.begin(handle, accepting: voucher, cost: cost, hold: hold, context: context, at: now)
  }

  // MARK: what was seen before

  /// Serves a request whose credential is the last one of its channel, or begins as that did; nil where it is to be resolved whole.
  mutating func cachedVoucher(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ value: PresentedCredential.Value, at now: Timestamp
  ) -> Verdict? {
    guard value.field != .prepaidSession, isSelling, let match = vouchers.find(value, route: index) else { return nil }
    switch match {
    case .repeated(let entry): return repeated(request, index, value, entry, at: now)
    case .fresh(let entry, let start):
      guard let seat = entry.session.channel, let payload = VoucherCache.payload(of: value, after: entry, start: start),
        case .voucher(let voucher, let descriptor, nil)? = try? ChannelPayload(parsing: payload, rules: seat.rules),
        voucher.channelID == seat.id, descriptor ?? seat.channel == seat.channel
      else { return nil }
      return fresh(request, index, value, entry, seat, voucher, at: now)
    }
  }

  /// The same octets again: their signature was verified.
  private mutating func repeated(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ value: PresentedCredential.Value, _ entry: VoucherCache.Entry, at now: Timestamp
  ) -> Verdict? {
    guard let seat = entry.session.channel, isWatched(seat.escrow, seat.id) else { return nil }
    if !seat.rules.takesLowerVouchers {
      guard let figures = ledger?.figures(entry.session.handle), figures.deposit <= entry.voucher.cumulativeAmount else { return nil }
    }
    return served(request, index, value, entry, seat, nil, at: now)
  }

  /// Another voucher of the same challenge: its signature is all that is left to be checked.
  private mutating func fresh(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ value: PresentedCredential.Value, _ entry: VoucherCache.Entry, _ seat: ChannelSeat,
    _ voucher: SessionVoucher, at now: Timestamp
  ) -> Verdict? {
    guard isWatched(seat.escrow, seat.id), let figures = ledger?.figures(entry.session.handle), figures.isOpen else { return nil }
    let accepted = figures.deposit
    let advances = voucher.cumulativeAmount > accepted
    // What is refused is answered where all is looked at.
    guard advances ? voucher.cumulativeAmount - accepted >= seat.minimumDelta : seat.rules.takesLowerVouchers || voucher.cumulativeAmount == accepted
    else { return nil }
    guard !knownFailures.isFull(seat.id, request.client, at: clock) else { return .answer(problem(.rateLimited, retryAfter: 1)) }
    do throws(ChannelError) {
      guard try seat.key.verify(voucher, wallets: .refused) == nil else { return nil }
    } catch {
      knownFailures.count(seat.id, request.client, at: clock)
      guard let view = ledger?.channel(seat.id) else { return nil }
      return .answer(refused(error, request, index, view, StoredChannel(escrow: seat.escrow, channel: seat.channel), nil, at: now))
    }
    let verdict = served(request, index, value, entry, seat, advances ? AcceptedVoucher(voucher) : nil, at: now)
    switch verdict {
    case .paid: vouchers.replace(entry, by: value, voucher)
    case .answer(let answer) where answer.status == 204: vouchers.replace(entry, by: value, voucher)
    default: break
    }
    return verdict
  }

  private mutating func served(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ value: PresentedCredential.Value, _ entry: VoucherCache.Entry, _ seat: ChannelSeat,
    _ voucher: AcceptedVoucher?, at now: Timestamp
  ) -> Verdict? {
    let session = entry.session
    guard let ledger, ledger.isCurrent(session.handle), ledger.figures(session.handle)?.isOpen == true else {
      // The channel has ended, or the ledger was read back: the credential is resolved again.
      vouchers.remove(value, route: index)
      return nil
    }
    if let refused = refused(request, index, wallet: seat.payer, session: seat.id) { return .answer(refused) }
    guard !Self.asksForNothing(request) else { return .answer(take(voucher, session.handle, seat, request, index, at: now)) }
    if let verdict = read(request, index) { return verdict }
    return serve(request, index, session, seat, accepting: voucher, at: now)
  }
}
