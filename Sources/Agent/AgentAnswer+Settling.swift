import Encoding
import Methods
import Payments

// What an answer's head, events and trailers say of the payment.
extension AgentAnswer {
  /// Notes what was presented, and checks the head's receipt.
  func settle(_ head: ReceivedHead) throws(AgentError) {
    switch purchase.presented {
    case .nothing: return
    case .transfer(let offer):
      payment = AgentPayment(kind: .charge, currency: offer.currency)
      try take(head, .charge(offer), offer.challenge)
    case .open(let offer, let session):
      try settleOpen(head, offer, session)
    case .chain(let offer): settle(head, offer)
    case .openChannel(let offer, let channel): try settle(head, channel, offer.challenge, opened: true)
    case .voucher(let channel, let challenge): try settle(head, channel, challenge, opened: false)
    case .bearer(let session, let challenge):
      if session.state == .opening { try purchase.agent.note(session.sessionID) { $0.state = .open } }
      let kind = payment?.kind ?? .session
      payment = AgentPayment(kind: kind, currency: session.currency, session: session)
      meter = StreamMeter(challenge: challenge, spent: session.spent)
      let echoed = purchase.usesShortForm(with: challenge) ? nil : challenge
      try take(head, .bearer(sessionID: session.sessionID), echoed)
    }
  }

  /// Checks what the head says of a payment on a chain. The server's signature is checked where it signs: others than this proxy do not.
  private func settle(_ head: ReceivedHead, _ offer: ChainOffer) {
    payment = AgentPayment(kind: .charge, currency: offer.currency)
    payment?.rail = offer.rail
    guard let payer = purchase.agent.accountKey?.address else { return }
    let isTold = ["payment-response", "x-payment-response", "payment-receipt"].contains { head.first($0) != nil }
    guard (200..<300).contains(head.status) || isTold else { return }
    switch ChainReceipt.read(head, of: offer, payer: payer) {
    case .success(let receipt):
      guard isAuthentic(receipt, head) else { return fault(.signature) }
      payment?.chain = receipt
      purchase.observe(.settled(receipt, offer.currency))
    case .failure(let problem): fault(problem.fault)
    }
  }

  private func fault(_ fault: AgentError.ReceiptFault) {
    payment?.fault = fault
    purchase.observe(.receiptFault(fault))
  }

  private func isAuthentic(_ receipt: ChainReceipt, _ head: ReceivedHead) -> Bool {
    guard payment?.rail == .evm, (try? Receipt.parse(receipt.field))?.signature != nil else { return true }
    guard let keys = try? purchase.agent.keys(for: head, at: purchase.request.address) else { return false }
    return (try? Receipt.verify(receipt.field) { keys[$0] }) != nil
  }

  private func settleOpen(_ head: ReceivedHead, _ offer: PrepaidOffer, _ session: KeptSession) throws(AgentError) {
    var open = session
    open.state = .open
    // Whatever the status, an answer that is no refusal says that the session was opened.
    try purchase.agent.note(session.sessionID) { $0.state = .open }
    payment = AgentPayment(kind: .opened, currency: offer.currency, session: open)
    meter = StreamMeter(challenge: offer.challenge, spent: 0)
    try take(head, .open(sessionID: session.sessionID, deposit: session.deposit), offer.challenge)
  }

  /// Checks a receipt; one is promised on 2xx only, and elsewhere its absence says nothing.
  private func take(
    _ head: ReceivedHead, _ expectation: ReceiptCheck.Expectation, _ challenge: Challenge?
  ) throws(AgentError) {
    let value = head.first("payment-receipt")
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

  /// Takes a receipt over, and the figures of the session that it tells.
  func note(_ receipt: Receipt, isSigned: Bool) throws(AgentError) {
    payment?.receipt = receipt
    purchase.observe(.receipt(receipt, isSigned: isSigned))
    guard let figures = receipt.session, payment?.session?.sessionID == figures.id else { return }
    let (deposit, overflow) = figures.spent.addingReportingOverflow(figures.remaining)
    guard !overflow else { return }
    payment?.session?.spent = figures.spent
    payment?.session?.deposit = deposit
    purchase.spending.learn(spent: figures.spent, at: .now())
    try purchase.agent.note(figures.id) { session in
      session.spent = figures.spent
      session.deposit = deposit
    }
  }

  /// Learns what the whole answer has cost.
  func learnCost() throws(AgentError) {
    guard let session = payment?.session else { return }
    if let value = body.trailers.first(where: { $0.name.lowercased() == "payment-receipt" })?.value,
      let receipt = try? Receipt.parse(value), receipt.session?.id == session.sessionID
    {
      return try note(receipt, isSigned: false)
    }
    if meter?.countsContent == true { try learnFigures(of: session) }
  }

  /// Asks what a metered body has cost. A trailer with the final receipt is not asked for, since the length of the body
  /// would be lost by it, and with it the progress and the exact amount of a top-up.
  func learnFigures(of session: KeptSession) throws(AgentError) {
    for round in 1...Self.figuresLimit {
      guard let state = try? purchase.agent.status(of: session), state.deposit >= state.spent else { return }
      payment?.session?.deposit = state.deposit
      payment?.session?.spent = state.spent
      purchase.spending.learn(spent: state.spent, at: .now())
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
