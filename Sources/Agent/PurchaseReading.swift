import Crypto
import Encoding
import Methods
import Payments

/// An answer as it came, with its problem document read where it has one.
struct RawAnswer {
  let head: ReceivedHead
  let body: ResponseBody
  /// The octets of the body that were read already.
  let prefix: [UInt8]
  let problem: ProblemDocument?

  /// Takes a head and reads the body where it is a problem document of a status that payments use.
  init(head: ReceivedHead, body: ResponseBody, from address: WebAddress) throws(AgentError) {
    self.head = head
    self.body = body
    let isProblem = Self.statuses.contains(head.status) && head.mediaType == "application/problem+json"
    // The offers of x402's version 1 stand in the body.
    guard isProblem || (head.status == 402 && head.mediaType == "application/json"), !body.isEnded else {
      prefix = []
      problem = nil
      return
    }
    prefix = try body.collect(limit: ProblemDocument.byteLimit)
    problem = isProblem ? ProblemDocument(prefix, from: address) : nil
  }

  /// The statuses of payment problems.
  private static let statuses: Set<UInt16> = Set(PaymentProblem.allCases.map(\.status))
}

// What an answer means depends on what was presented: a 402 is an offer before a payment, and a refusal after it.
extension Purchase {
  func event(for answer: RawAnswer) throws(AgentError) -> PaymentProgress.Event {
    if case .chain(let offer) = presented, let event = chainEvent(for: answer, offer) { return event }
    if answer.head.status == 402 { return try paymentRequired(answer) }
    guard let problem = answer.problem?.problem else { return .answered }
    if case .nothing = presented { return .answered }
    switch problem {
    case .paymentInFlight, .idempotencyInFlight: return .inFlight
    case .alreadyOpen: return .alreadyOpen
    case .alreadyPaid, .outcomeNotKept: return .settledBefore
    case .policyDenied:
      try forgetUnopened()
      try leaveUnopenedChannel()
      return .denied
    case .sessionNotFound, .sessionFinalized:
      if case .bearer(let session, _) = presented { try agent.forget(session.sessionID) }
      if case .voucher(let channel, _) = presented {
        reserved = 0
        try agent.change(channel.channelID) { $0.leave(at: .now()) }
      }
      return .sessionGone
    case .ledgerUnavailable, .tooManyInFlight, .rateLimited, .railUnavailable, .sessionUnconfirmed: return .unavailable
    // The same payment is to be shown again, and no other one made.
    case .paymentPending: return .inFlight
    case .paymentRequired, .malformedCredential, .invalidChallenge, .verificationFailed, .paymentExpired,
      .paymentInsufficient, .invalidPayload, .paymentActionRequired, .internalPaymentError, .badRequest,
      .methodUnsupported, .sessionInsufficientBalance, .sessionInvalidSignature, .sessionSignerMismatch,
      .sessionAmountExceedsDeposit, .sessionDeltaTooSmall, .sessionChallengeNotFound, .sessionTransactionReverted, .sessionExists,
      .sessionMismatch, .idempotencyMismatch, .queryRefused, .bodyTooLarge, .notSold, .paymentMismatch:
      return .refused
    }
  }

  private func paymentRequired(_ answer: RawAnswer) throws(AgentError) -> PaymentProgress.Event {
    switch presented {
    case .transfer, .chain: return .refused
    case .open:
      try forgetUnopened()
      return .refused
    case .openChannel:
      try leaveUnopenedChannel()
      return .refused
    case .voucher(let channel, _):
      if answer.problem?.problem == .sessionInsufficientBalance {
        required = requiredCumulative(answer.problem, channel)
        return .budgetShort
      }
      releaseCount()
      return try choose(answer)
    case .bearer(let session, _):
      if answer.problem?.problem == .sessionInsufficientBalance {
        required = shortfall(answer.problem, session)
        return .budgetShort
      }
      return try choose(answer)
    case .nothing: return try choose(answer)
    }
  }

  /// What has to be added, as the problem says it; otherwise one unit, and the wish for more decides.
  private func shortfall(_ problem: ProblemDocument?, _ session: KeptSession) -> UInt128 {
    problem?.required ?? 1
  }

  /// What an answer says of a payment on a chain; nil where it is to be read as after any payment.
  private func chainEvent(for answer: RawAnswer, _ offer: ChainOffer) -> PaymentProgress.Event? {
    let head = answer.head
    if let refusal = ChainRefusal(head, body: answer.prefix, offer: offer) {
      self.refusal = refusal
      if refusal.isPending, head.status >= 400 { return .inFlight }
      if head.status == 402 { return refusal.isDefinitive ? .refusedUnmoved : .refused }
      return nil
    }
    if head.status == 402 {
      switch answer.problem?.problem {
      case .malformedCredential, .invalidChallenge, .verificationFailed, .paymentExpired, .paymentInsufficient, .invalidPayload,
        .methodUnsupported:
        return .refusedUnmoved
      default: return .refused
      }
    }
    // A server that is not ready says when to come back; the same payment is shown again.
    return head.status == 503 && answer.problem == nil && head.first("retry-after") != nil ? .unavailable : nil
  }

  /// Chooses among the offers, and checks the chosen one.
  private func choose(_ answer: RawAnswer) throws(AgentError) -> PaymentProgress.Event {
    failure = .noUsableOffer
    do throws(AgentError) {
      let isPrepaid = agent.options.rail ?? .prepaid == .prepaid
      let offers = isPrepaid ? ChallengeList.parse(answer.head.all("www-authenticate")).compactMap { PrepaidOffer($0) } : []
      if let offer = offers.first(where: { $0.isSession }), agent.options.preference != .charge,
        let session = try session(fitting: offer)
      {
        try verify(offer, answer)
        try spending.check(terms: offer)
        if !presents(sessionFitting: offer) { presented = .bearer(session, offer.challenge) }
        self.offer = offer
        return .bearerOffered
      }
      let chains = ChainOffers(answer.head, body: answer.prefix, request: request, options: agent.options, now: Timestamp.now())
      let sessions = openable(chains)
      if let (channel, offer) = try channel(fitting: sessions) {
        (channelToUse, channelOffer) = (channel, offer)
        return .bearerOffered
      }
      guard !isContinuation else { return .nothingOffered }
      let candidates = payable(chains)
      // A prepaid wallet goes first; who has none pays on a chain where he can.
      if let offer = preferred(offers), agent.walletKey != nil || (candidates.isEmpty && sessions.isEmpty) || agent.accountKey == nil {
        return try take(offer, answer)
      }
      if !sessions.isEmpty, prefersChannel(sessions, to: candidates) { return try take(sessions) }
      guard !candidates.isEmpty else {
        let refused = chains.refused + chains.usable.map { $0.refused(.notChosen) } + chains.channels.map { $0.refused(.notChosen) }
        guard refused.isEmpty else { throw .noPayableOffer(refused) }
        return .nothingOffered
      }
      guard agent.accountKey != nil else { throw .noAccountKey }
      return try take(candidates)
    } catch {
      if error.isLoss { throw error }
      failure = error
      return .nothingOffered
    }
  }

  /// The offers on chains that the caller's choices leave, best first.
  private func payable(_ chains: ChainOffers) -> [ChainOffer] {
    guard agent.options.preference != .session, agent.options.rail != .prepaid else { return [] }
    let code = agent.options.currencyCode
    return chains.usable.filter { offer in
      (agent.options.rail ?? offer.rail) == offer.rail && (code == nil || offer.currency.code == code)
        && (agent.options.chain ?? offer.chain.number) == offer.chain.number
    }
  }

  /// Whether a channel is opened rather than a charge paid on a chain: by the same reasons as a session of a prepaid wallet.
  private func prefersChannel(_ sessions: [ChannelOffer], to charges: [ChainOffer]) -> Bool {
    guard !charges.isEmpty else { return true }
    guard let offer = sessions.first, offer.price.isMetered || request.asksForStream else { return false }
    return (try? spending.deposit(of: offer, need: 1)) != nil
  }

  /// Takes a prepaid offer that holds and may be paid.
  private func take(_ offer: PrepaidOffer, _ answer: RawAnswer) throws(AgentError) -> PaymentProgress.Event {
    try verify(offer, answer)
    guard agent.walletKey != nil else { throw .noWalletKey }
    try agent.admit(offer, of: request.address.origin)
    self.offer = offer
    switch offer.terms {
    case .charge(let charge):
      try spending.check(charge: charge.amount, in: offer.currency, at: .now())
      return .chargeOffered
    case .session(let terms):
      _ = try spending.deposit(for: terms, in: offer.currency, at: .now())
      return .openOffered
    }
  }

  /// Takes the first of some offers on chains that may be paid; where none may, the first one's error is told.
  private func take(_ candidates: [ChainOffer]) throws(AgentError) -> PaymentProgress.Event {
    var first: AgentError?
    for offer in candidates {
      do throws(AgentError) {
        try spending.check(charge: offer.amount, in: offer.currency, at: .now())
        chainOffer = offer
        observe(.chosen(offer))
        return .chainOffered
      } catch {
        if first == nil { first = error }
      }
    }
    throw first ?? .noUsableOffer
  }

  private func presents(sessionFitting offer: PrepaidOffer) -> Bool {
    guard case .bearer(let session, _) = presented else { return false }
    return offer.fits(session, origin: request.address.origin)
  }

  /// Forgets a session whose first open was refused: no money has moved. After a repetition that is not certain, and the
  /// session stays until the server has said that it does not know it.
  private func forgetUnopened() throws(AgentError) {
    guard case .open(_, let session) = presented, isFirstPresentation else { return }
    try agent.forget(session.sessionID)
  }

  /// The first offer of the kind that the caller wants, in a currency that the limit names.
  private func preferred(_ offers: [PrepaidOffer]) -> PrepaidOffer? {
    let code = agent.options.currencyCode
    let payable = offers.filter { code == nil || $0.currency.code == code }
    switch agent.options.preference {
    case .charge: return payable.first { !$0.isSession }
    case .session: return payable.first { $0.isSession }
    case .offered: return (prefersSession(payable) ? nil : payable.first { !$0.isSession }) ?? payable.first { $0.isSession } ?? payable.first
    }
  }

  /// Whether a session is the better way: for a stream, or where what comes decides the price; but not where its least deposit is more
  /// than may leave.
  private func prefersSession(_ payable: [PrepaidOffer]) -> Bool {
    guard let offer = payable.first(where: { $0.isSession }), case .session(let terms) = offer.terms else { return false }
    guard offer.isMetered || request.asksForStream else { return false }
    return (try? spending.deposit(for: terms, in: offer.currency, at: .now())) != nil
  }

  private func verify(_ offer: PrepaidOffer, _ answer: RawAnswer) throws(AgentError) {
    let check = OfferCheck(request: request, now: Timestamp.now())
    try check.check(offer)
    let jws = answer.head.first("payment-invoice") ?? answer.problem?.invoice
    let keys = try agent.keys(of: request.address, signing: jws)
    let invoice = try check.check(offer, invoice: jws, keys: keys)
    observe(.challenged(offer, invoice))
  }
}
