import Encoding
import Metering
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
  /// The rail that it moved on.
  public internal(set) var rail = Rail.prepaid
  /// What the server tells of a payment on a chain; nil on other rails, and where that does not hold.
  public internal(set) var chain: ChainReceipt?
  /// The currency of every figure of the payment.
  public let currency: Currency
  /// The receipt; at the body's end the final one where the server sends it.
  public internal(set) var receipt: Receipt?
  /// What is wrong with the receipt, nil where nothing is.
  public internal(set) var fault: AgentError.ReceiptFault?
  /// The session that paid, as last heard of.
  public internal(set) var session: KeptSession?
  /// The channel that paid, as last heard of.
  public internal(set) var channel: KeptChannel?
  /// The last receipt of the channel that does not contradict what was signed.
  public internal(set) var channelReceipt: ChannelReceipt?
}

/// Hands on the answer to a request as a stream, and keeps it flowing: where it runs dry, the session is topped up within
/// what the caller allows; where the connection is lost, the rest is asked for if that costs nothing again.
public final class AgentAnswer {
  /// The head of the answer that the payment brought.
  public let head: ReceivedHead
  /// What was paid; nil where the answer was free, or an error that cost nothing.
  public internal(set) var payment: AgentPayment?
  /// The octets of the body that were handed out.
  public private(set) var byteCount: UInt64 = 0

  var purchase: Purchase
  var body: ResponseBody
  var prefix: [UInt8]
  var meter: StreamMeter?
  var tally: StreamTally
  /// What came before the connection was lost.
  var earlier = Quantities()
  var scanner: PaymentEventScanner?
  var ownEventCount: UInt64 = 0
  /// The upstream's events that came before the connection was lost.
  var earlierEventCount: UInt64 = 0
  /// Follows an event stream.
  var position: EventStreamPosition?
  var resumption = Resumption(way: .none)
  /// What was handed out, where a replayed answer has to begin with it.
  var delivered: [UInt8] = []
  /// A top-up that the minute does not allow before this moment.
  var pause: (until: Instant, failure: AgentError)?
  /// The count of the channel that pays; nil where none does.
  var count: ChannelCount?
  /// Whether the server ended the stream because nothing was topped up.
  var hasTimedOut = false

  private var silence = StreamSilence()
  private var pendingFailure: AgentError?
  private var isFinished = false

  init(purchase: Purchase, answer: RawAnswer) throws(AgentError) {
    self.purchase = purchase
    head = answer.head
    body = answer.body
    prefix = answer.prefix
    tally = StreamTally(requestOctets: (try? purchase.request.content.byteCount()) ?? 0)
    try settle(head)
    tally.readUsage(of: purchase.request, head: head)
    resumption = Resumption(way: wayOn)
    if isEventStream {
      position = EventStreamPosition(withholds: resumption.way == .events)
      if payment?.session != nil || payment?.channel != nil { scanner = PaymentEventScanner() }
    }
  }

  /// What is known of the session's budget, nil where no session pays.
  public var budget: SessionBudget? {
    if let channel = payment?.channel {
      let estimate = isFinished ? channel.spent : meter?.spent(after: earlier.adding(tally.quantities)) ?? channel.spent
      return SessionBudget(currency: channel.currency, deposit: channel.deposit, spent: min(max(estimate, channel.spent), channel.deposit))
    }
    guard let session = payment?.session else { return nil }
    let estimate = isFinished ? session.spent : meter?.spent(after: tally.quantities) ?? session.spent
    return SessionBudget(
      currency: session.currency, deposit: session.deposit, spent: min(max(estimate, session.spent), session.deposit))
  }

  /// What the answer has used by now, in the words of its session's price, each part of it; empty where no session pays.
  public var used: [UsedUnits] {
    guard let meter else { return [] }
    let all = earlier.adding(tally.quantities)
    return meter.price.parts.map { part in
      UsedUnits(
        name: UsedUnits.name(of: part.unit), count: UsedUnits.count(of: part.unit, in: all),
        isEstimate: part.unit.kind == .token && tally.isEstimate)
    }
  }

  /// Waits for the next octets of the body; nil at its end.
  ///
  /// - Throws: `.overMaximum` or `.overRate` where the stream needs more than the caller allows, `.cutShort` where it ends too early,
  ///   and what else can go wrong on the way. What was handed out before stays paid.
  public func next() throws(AgentError) -> [UInt8]? {
    while true {
      if !prefix.isEmpty {
        let octets = prefix
        prefix = []
        return hand(octets)
      }
      if let pendingFailure { throw pendingFailure }
      switch try read() {
      case nil: continue
      case .octets(let octets):
        silence.end()
        let passed = take(octets)
        if !passed.isEmpty { return hand(passed) }
      case .silent: try lookAfterSilence()
      case .end:
        if let rest = try end() { return hand(rest) }
        if isFinished { return nil }
      }
    }
  }

  /// Reads the rest of the body, whatever it is, so that the final receipt is known and the connection can be used again.
  public func drain() throws(AgentError) { while try next() != nil {} }

  private func hand(_ octets: [UInt8]) -> [UInt8] {
    byteCount += UInt64(octets.count)
    if resumption.way == .replay { delivered += octets }
    return octets
  }

  // MARK: - Reading

  /// Reads what comes next; nil where the connection was lost and the body goes on over another one.
  private func read() throws(AgentError) -> ResponseBody.Part? {
    let isWatched = payment?.session != nil || payment?.channel != nil
    do throws(AgentError) {
      return try body.next(until: isWatched ? Instant.now() + silence.interval : nil)
    } catch {
      guard error.losesBody else { throw error }
      return try resume(after: pause?.failure ?? count?.cap ?? error) ? nil : .end
    }
  }

  /// The upstream's events that are whole by now, the proxy's own left out.
  var eventCount: UInt64 {
    guard let count = position?.eventCount, count > ownEventCount else { return 0 }
    return count - ownEventCount
  }

  private func take(_ octets: [UInt8]) -> [UInt8] {
    let passed = position?.take(octets) ?? octets
    scan(octets)
    tally.take(octets, events: eventCount > earlierEventCount ? eventCount - earlierEventCount : 0, at: .now())
    if count != nil {
      do throws(AgentError) { try keepFlowing() } catch { if pendingFailure == nil { pendingFailure = error } }
    }
    if purchase.spending.isPaced, let estimate = meter?.spent(after: tally.quantities) {
      purchase.spending.learn(spent: estimate, at: .now())
    }
    if !passed.isEmpty { _ = resumption.receive(.progressed) }
    return passed
  }

  /// The body has ended: returns what was withheld of it; nil where nothing was, or where its rest was asked for.
  private func end() throws(AgentError) -> [UInt8]? {
    if hasTimedOut, try resume(after: pause?.failure ?? .cutShort(received: byteCount)) { return nil }
    let rest = position?.finish() ?? []
    try finish()
    return rest.isEmpty ? nil : rest
  }

  // MARK: - Running dry

  /// Finds the proxy's own events; a top-up that fails is told after the octets that came with it.
  private func scan(_ octets: [UInt8]) {
    guard scanner != nil else { return }
    var events: [PaymentEventScanner.PaymentEvent] = []
    scanner?.scan(octets) { events.append($0) }
    for event in events {
      ownEventCount += 1
      do throws(AgentError) {
        try act(on: event)
      } catch {
        pendingFailure = error
      }
    }
  }

  private func act(on event: PaymentEventScanner.PaymentEvent) throws(AgentError) {
    if count != nil { return act(onChannelEvent: event) }
    switch event.name {
    case .needTopUp:
      guard isOwn(event) else { return }
      try lookForDryness()
    case .receipt:
      guard let receipt = try? Receipt.parse(event.data), receipt.session?.id == payment?.session?.sessionID else { return }
      try note(receipt, isSigned: false)
    case .timeout: if isOwn(event) { hasTimedOut = true }
    case .needVoucher: break
    }
  }

  private func isOwn(_ event: PaymentEventScanner.PaymentEvent) -> Bool {
    let object = (try? JSON.parse(event.data))?.objectValue
    return object != nil && object?["sessionId"]?.stringValue == payment?.session?.sessionID
  }

  /// A second of silence: the upstream may be slow, or the budget used up. Only the server knows.
  private func lookAfterSilence() throws(AgentError) {
    silence.grow()
    if silence.total >= purchase.agent.options.limits.bodySilence { throw .timeout(.receivingBody) }
    if let pause, Instant.now() < pause.until { return }
    if count != nil { return try lookAfterChannel() }
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
    purchase.spending.learn(spent: state.spent, at: .now())
    guard state.required > 0, state.phase == .open, let now = payment?.session else { return }
    try topUp(now, required: state.required, remaining: state.remaining)
  }

  private func topUp(_ session: KeptSession, required: UInt128, remaining: UInt128) throws(AgentError) {
    // The tally began anew where the answer was continued.
    let length = head.contentLength.map { $0 - min($0, earlier.responseOctets) }
    let rest = meter?.rest(after: tally.quantities, of: length, remaining: remaining)
    if pause == nil { purchase.observe(.waiting(Amount(units: required, currency: session.currency.code), session.currency)) }
    switch try purchase.spending.topUp(required, rest: rest, of: session, at: .now()) {
    case .add(let amount):
      pause = nil
      payment?.session = try purchase.raise(session, by: amount)
    case .wait(let moment):
      if pause == nil { purchase.observe(.pacing(moment - Instant.now())) }
      let rate = purchase.agent.options.rate?.units(in: session.currency) ?? 0
      pause = (moment, .overRate(price: required, rate: rate, currency: session.currency))
    }
    silence.end()
  }

  // MARK: - The end

  private func finish() throws(AgentError) {
    guard !isFinished else { return }
    isFinished = true
    if count != nil { return try learnChannelCost() }
    try learnCost()
  }
}

extension AgentError {
  /// Whether a body ended because of the connection, so that its rest might come over another one.
  var losesBody: Bool {
    switch self {
    case .cutShort, .connectionLost: true
    case .timeout(let phase): phase == .receivingBody
    case .address, .tls, .plaintextRefused, .requestField, .contentUnreadable, .resolution, .connection, .malformedResponse,
      .responseTooLarge, .noUsableOffer, .offer, .overMaximum, .overRate, .noWalletKey, .noAccountKey, .noPayableOffer, .signing,
      .overLimit, .overCount, .paymentPending, .refusedByPolicy, .rejected, .answerLost,
      .sessionGone, .receipt, .serverKeys, .document, .unexpectedStatus, .keeper:
      false
    }
  }
}
