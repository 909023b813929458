import Encoding
import Methods
import Payments

/// What was paid for an answer.
public struct AgentPayment: Sendable {
  /// How the money moved.
  public enum Kind: Sendable {
    case charge
    /// A session that this call opened.
    case opened
    /// A session that was open before.
    case session
  }

  /// How the money moved.
  public let kind: Kind
  /// The currency of every figure of the payment.
  public let currency: Currency
  /// The receipt; at the body's end the final one where the server sends it.
  public internal(set) var receipt: Receipt?
  /// What is wrong with the receipt, nil where nothing is.
  public internal(set) var fault: AgentError.ReceiptFault?
  /// The session that paid, as last heard of.
  public internal(set) var session: KeptSession?
}

/// Hands on the answer to a request as a stream, and keeps it flowing: where it runs dry, the session is topped up within
/// what the caller allows.
public final class AgentAnswer {
  /// The head of the answer that the payment brought.
  public let head: ReceivedHead
  /// What was paid; nil where the answer was free, or an error that cost nothing.
  public private(set) var payment: AgentPayment?
  /// The octets of the body that were handed out.
  public private(set) var byteCount: UInt64 = 0

  private let purchase: Purchase
  private let body: ResponseBody
  private var prefix: [UInt8]
  private var scanner: PaymentEventScanner?
  private var silence = StreamSilence()
  private var pendingFailure: AgentError?
  private var meter: StreamMeter?
  private var isFinished = false

  init(purchase: Purchase, answer: RawAnswer) throws(AgentError) {
    self.purchase = purchase
    head = answer.head
    body = answer.body
    prefix = answer.prefix
    try settle()
  }

  /// What is known of the session's budget, nil where no session pays.
  public var budget: SessionBudget? {
    guard let session = payment?.session else { return nil }
    let estimate = isFinished ? session.spent : meter?.spent(after: byteCount) ?? session.spent
    return SessionBudget(
      currency: session.currency, deposit: session.deposit, spent: min(max(estimate, session.spent), session.deposit))
  }

  /// Waits for the next octets of the body; nil at its end.
  ///
  /// - Throws: `.overMaximum` where the stream needs more than the caller allows, `.cutShort` where it ends too early, and
  ///   what else can go wrong on the way. What was handed out before stays paid.
  public func next() throws(AgentError) -> [UInt8]? {
    if !prefix.isEmpty {
      let octets = prefix
      prefix = []
      byteCount += UInt64(octets.count)
      return octets
    }
    if let pendingFailure { throw pendingFailure }
    while true {
      let isSession = payment?.session != nil
      switch try body.next(until: isSession ? Instant.now() + silence.interval : nil) {
      case .octets(let octets):
        silence.end()
        byteCount += UInt64(octets.count)
        scan(octets)
        return octets
      case .silent: try lookAfterSilence()
      case .end:
        try finish()
        return nil
      }
    }
  }

  /// Reads the rest of the body, whatever it is, so that the final receipt is known and the connection can be used again.
  public func drain() throws(AgentError) { while try next() != nil {} }

  // MARK: - The head's receipt

  private func settle() throws(AgentError) {
    switch purchase.presented {
    case .nothing: return
    case .transfer(let offer):
      payment = AgentPayment(kind: .charge, currency: offer.currency)
      try take(head.first("payment-receipt"), .charge(offer), offer.challenge)
    case .open(let offer, let session):
      try settleOpen(offer, session)
    case .bearer(let session, let challenge):
      if session.state == .opening { try purchase.agent.note(session.sessionID) { $0.state = .open } }
      payment = AgentPayment(kind: .session, currency: session.currency, session: session)
      meter = StreamMeter(challenge: challenge, spent: session.spent)
      let echoed = purchase.usesShortForm(with: challenge) ? nil : challenge
      try take(head.first("payment-receipt"), .bearer(sessionID: session.sessionID), echoed)
    }
    if head.mediaType == "text/event-stream" { scanner = PaymentEventScanner() }
  }

  private func settleOpen(_ offer: PrepaidOffer, _ session: KeptSession) throws(AgentError) {
    var open = session
    open.state = .open
    // Whatever the status, an answer that is no refusal says that the session was opened.
    try purchase.agent.note(session.sessionID) { $0.state = .open }
    payment = AgentPayment(kind: .opened, currency: offer.currency, session: open)
    meter = StreamMeter(challenge: offer.challenge, spent: 0)
    try take(head.first("payment-receipt"), .open(sessionID: session.sessionID, deposit: session.deposit), offer.challenge)
  }

  /// Checks a receipt; one is promised on 2xx only, and elsewhere its absence says nothing.
  private func take(
    _ value: String?, _ expectation: ReceiptCheck.Expectation, _ challenge: Challenge?
  ) throws(AgentError) {
    guard (200..<300).contains(head.status) || value != nil else { return }
    let check = ReceiptCheck(
      expectation: expectation, challengeID: challenge?.id, request: purchase.request,
      keys: expectation.isSigned ? try purchase.agent.keys(for: head, at: purchase.request.address) : [:])
    switch check.check(value) {
    case .success(let receipt): try note(receipt, isSigned: expectation.isSigned)
    case .failure(let problem):
      payment?.fault = problem.fault
      purchase.observe(.receiptFault(problem.fault))
    }
  }

  private func note(_ receipt: Receipt, isSigned: Bool) throws(AgentError) {
    payment?.receipt = receipt
    purchase.observe(.receipt(receipt, isSigned: isSigned))
    guard let figures = receipt.session, payment?.session?.sessionID == figures.id else { return }
    let (deposit, overflow) = figures.spent.addingReportingOverflow(figures.remaining)
    guard !overflow else { return }
    payment?.session?.spent = figures.spent
    payment?.session?.deposit = deposit
    try purchase.agent.note(figures.id) { session in
      session.spent = figures.spent
      session.deposit = deposit
    }
  }

  // MARK: - Running dry

  /// Finds the proxy's own events; a top-up that fails is told after the octets that came with it.
  private func scan(_ octets: [UInt8]) {
    guard scanner != nil else { return }
    var events: [PaymentEventScanner.PaymentEvent] = []
    scanner?.scan(octets) { events.append($0) }
    for event in events {
      do throws(AgentError) {
        try act(on: event)
      } catch {
        pendingFailure = error
      }
    }
  }

  private func act(on event: PaymentEventScanner.PaymentEvent) throws(AgentError) {
    switch event.name {
    case .needTopUp:
      guard let object = (try? JSON.parse(event.data))?.objectValue,
        object["sessionId"]?.stringValue == payment?.session?.sessionID
      else { return }
      try lookForDryness()
    case .receipt:
      guard let receipt = try? Receipt.parse(event.data), receipt.session?.id == payment?.session?.sessionID else { return }
      try note(receipt, isSigned: false)
    case .timeout: return
    }
  }

  /// A second of silence: the upstream may be slow, or the budget used up. Only the server knows.
  private func lookAfterSilence() throws(AgentError) {
    silence.grow()
    if silence.total >= purchase.agent.options.limits.bodySilence { throw .timeout(.receivingBody) }
    try lookForDryness()
  }

  private func lookForDryness() throws(AgentError) {
    guard let session = payment?.session else { return }
    let state: SessionStatus
    do throws(AgentError) {
      state = try purchase.agent.status(of: session)
    } catch {
      // The body itself will show what has happened to the connection or the session.
      if error.isLoss || error == .sessionGone { return }
      throw error
    }
    payment?.session?.deposit = state.deposit
    payment?.session?.spent = min(state.spent, state.deposit)
    guard state.required > 0, state.phase == .open, let now = payment?.session else { return }
    let code = now.currency.code
    purchase.observe(.waiting(Amount(units: state.required, currency: code), now.currency))
    let wanted = meter?.rest(after: byteCount, of: head.contentLength, remaining: state.remaining) ?? now.suggestedDeposit
    let plan = SpendingPlan(options: purchase.agent.options, outlay: purchase.outlay)
    payment?.session = try purchase.raise(now, by: try plan.topUp(state.required, wanted: wanted, in: now.currency))
    silence.end()
  }

  // MARK: - The end

  private func finish() throws(AgentError) {
    guard !isFinished else { return }
    isFinished = true
    guard let session = payment?.session else { return }
    if let value = body.trailers.first(where: { $0.name.lowercased() == "payment-receipt" })?.value,
      let receipt = try? Receipt.parse(value), receipt.session?.id == session.sessionID
    {
      return try note(receipt, isSigned: false)
    }
    if meter?.countsOctets == true { try learnFigures(of: session) }
  }

  /// Asks what a metered body has cost. A trailer with the final receipt is not asked for, since the length of the body
  /// would be lost by it, and with it the progress and the exact amount of a top-up.
  private func learnFigures(of session: KeptSession) throws(AgentError) {
    for round in 1...Self.figuresLimit {
      guard let state = try? purchase.agent.status(of: session), state.deposit >= state.spent else { return }
      payment?.session?.deposit = state.deposit
      payment?.session?.spent = state.spent
      guard state.held == 0 || round == Self.figuresLimit else {
        Pause.wait(round)
        continue
      }
      return try purchase.agent.note(session.sessionID) { session in
        session.deposit = state.deposit
        session.spent = state.spent
      }
    }
  }

  /// The questions after a body until the proxy has given back what it held.
  private static let figuresLimit = 3
}
