import Crypto
import Encoding
import Ethereum
import Payments

// What a purchase does where the payment is made on a chain.
extension Purchase {
  /// Signs a payment on a chain, counts it, and sends it; what is repeated later are the same octets.
  func payOnChain() throws(AgentError) -> PaymentProgress.Event {
    guard let chainOffer, let key = agent.accountKey else { return .nothingOffered }
    let field = try ChainPayment.field(for: chainOffer, by: key.key, entropy: Random.digest32(), now: Timestamp.now())
    try agent.reserve(
      PaymentPlan(amount: chainOffer.amount, currency: chainOffer.currency, recipients: chainOffer.recipients.map(\.lowercase)))
    spending.charge(chainOffer.amount, at: .now())
    // A payment before it was refused, by the server's words with nothing moved.
    conclude(isKnown: true)
    set(field)
    pending = try agent.keep(PendingPayment(offer: chainOffer, payer: key.address, fields: extra), for: request)
    presented = .chain(chainOffer)
    refusal = nil
    observe(.paying(Amount(units: chainOffer.amount, currency: chainOffer.currency.code), chainOffer.currency))
    return try exchange()
  }

  /// Goes on with the payment of an earlier call for the same purchase, whose fate is not known; nil where there is none.
  func goOnWithEarlier() throws(AgentError) -> PaymentProgress.Action? {
    guard !isContinuation, let (name, payment) = try agent.pendingPayment(for: request) else { return nil }
    pending = name
    presented = .chain(payment.offer)
    extra = payment.fields
    observe(.chosen(payment.offer))
    progress = PaymentProgress(isKeyed: progress.isKeyed, isSafe: progress.isSafe, state: .paying(.chain, repeats: 1))
    return .repeatAfterPause(repeats: 1)
  }

  /// Waits before a repetition: longer each time, and on a chain as long as the server asks within bounds.
  func pause(_ repeats: Int) throws(AgentError) {
    switch presented {
    case .chain, .openChannel: break
    case .nothing, .transfer, .open, .bearer, .voucher: return Pause.wait(repeats)
    }
    let asked = answer?.head.first("retry-after").flatMap { Int64($0) } ?? 0
    try agent.client.pause(for: max(Pause.duration(repeats), .seconds(min(max(0, asked), Self.retryAfterLimit))))
  }

  /// The most seconds that a server may have a repetition wait.
  private static let retryAfterLimit: Int64 = 10

  /// What an error says of a payment on a chain: a call that ends before an answer came has not learnt what became of it.
  func fate(of error: AgentError) -> (error: AgentError, isKnown: Bool) {
    if case .openChannel(let offer, _) = presented, leavesOpen(error) { return (.paymentPending(expires: offer.expires), true) }
    guard case .chain(let offer) = presented, progress.state != .stopped(.settled), leavesOpen(error) else { return (error, true) }
    // Without a keeper the next call knows nothing of it.
    return (pending == nil ? .answerLost(reference: nil) : .paymentPending(expires: offer.expires), false)
  }

  /// Whether an error leaves it open what became of a payment.
  private func leavesOpen(_ error: AgentError) -> Bool {
    switch error {
    case .timeout, .answerLost(reference: nil), .rejected(status: 503, _, _): true
    default: error.isLoss
    }
  }

  /// Ends the care for the payment under way. A file that cannot be removed is no reason to lose an answer: the next call shows the payment
  /// again, which pays nothing new.
  func conclude(isKnown: Bool) {
    guard let name = pending else { return }
    pending = nil
    try? agent.conclude(name, isKnown: isKnown)
  }
}
