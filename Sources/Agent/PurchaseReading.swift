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
    guard Self.statuses.contains(head.status), head.mediaType == "application/problem+json", !body.isEnded else {
      prefix = []
      problem = nil
      return
    }
    prefix = try body.collect(limit: ProblemDocument.byteLimit)
    problem = ProblemDocument(prefix, from: address)
  }

  /// The statuses of payment problems.
  private static let statuses: Set<UInt16> = Set(PaymentProblem.allCases.map(\.status))
}

// What an answer means depends on what was presented: a 402 is an offer before a payment, and a refusal after it.
extension Purchase {
  func event(for answer: RawAnswer) throws(AgentError) -> PaymentProgress.Event {
    if answer.head.status == 402 { return try paymentRequired(answer) }
    guard let problem = answer.problem?.problem else { return .answered }
    if case .nothing = presented { return .answered }
    switch problem {
    case .paymentInFlight, .idempotencyInFlight: return .inFlight
    case .alreadyOpen: return .alreadyOpen
    case .alreadyPaid, .outcomeNotKept: return .settledBefore
    case .policyDenied:
      try forgetUnopened()
      return .denied
    case .sessionNotFound, .sessionFinalized:
      if case .bearer(let session, _) = presented { try agent.forget(session.sessionID) }
      return .sessionGone
    case .ledgerUnavailable, .tooManyInFlight, .rateLimited, .railUnavailable: return .unavailable
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
    case .transfer: return .refused
    case .open:
      try forgetUnopened()
      return .refused
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

  /// Chooses among the offers, and checks the chosen one.
  private func choose(_ answer: RawAnswer) throws(AgentError) -> PaymentProgress.Event {
    let offers = ChallengeList.parse(answer.head.all("www-authenticate")).compactMap { PrepaidOffer($0) }
    let origin = request.address.origin
    failure = .noUsableOffer
    do throws(AgentError) {
      if let offer = offers.first(where: { $0.isSession }), agent.options.preference != .charge,
        let session = try session(fitting: offer)
      {
        try verify(offer, answer)
        try spending.check(terms: offer)
        if !presents(sessionFitting: offer) { presented = .bearer(session, offer.challenge) }
        self.offer = offer
        return .bearerOffered
      }
      guard !isContinuation, let offer = preferred(offers) else { return .nothingOffered }
      try verify(offer, answer)
      guard agent.walletKey != nil else { throw .noWalletKey }
      try agent.admit(offer, of: origin)
      self.offer = offer
      switch offer.terms {
      case .charge(let charge):
        try spending.check(charge: charge.amount, in: offer.currency, at: .now())
        return .chargeOffered
      case .session(let terms):
        _ = try spending.deposit(for: terms, in: offer.currency, at: .now())
        return .openOffered
      }
    } catch {
      if error.isLoss { throw error }
      failure = error
      return .nothingOffered
    }
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
