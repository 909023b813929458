import Encoding
import Metering
import Methods
import Payments

/// What is known of the channel that pays for an answer while it comes.
struct ChannelCount {
  let terms: VoucherTerms
  let challenge: Challenge
  /// What the server can have charged for everything before this answer, by the agent's count.
  let counted: UInt128
  /// What was spent before this answer.
  let spent: UInt128
  /// The vouchers that were sent while the answer came.
  var vouchers = 0
  /// The highest voucher that the server asked for.
  var asked: UInt128?
  /// What the server says that it has charged.
  var told: UInt128?
  /// Whether the stream's own last event told the cost.
  var isTold = false
  /// Why no more is signed, until the server asks.
  var cap: AgentError?
}

// How an answer is paid for by a channel: the voucher is raised before it runs out, never beyond what has come by the agent's own count and a
// window; what the server says of it is compared with the count.
extension AgentAnswer {
  /// Notes what was presented, and checks the head's receipt.
  func settle(_ head: ReceivedHead, _ channel: KeptChannel, _ challenge: Challenge, opened: Bool) throws(AgentError) {
    // Whatever the status, an answer that is no refusal says that the channel is open.
    let open = try purchase.agent.change(channel.channelID) { kept in
      if kept.state == .opening { kept.underWay = nil }
      kept.state = .open
    }
    let kind = payment?.kind ?? (opened ? .opened : .session)
    payment = AgentPayment(kind: kind, currency: channel.currency)
    payment?.rail = .evm
    payment?.channel = open
    guard let terms = VoucherTerms(challenge, currency: channel.currency) else { return }
    meter = StreamMeter(price: terms.price, spent: open.spent)
    let before = open.counted > purchase.reserved ? open.counted - purchase.reserved : 0
    count = ChannelCount(terms: terms, challenge: challenge, counted: before, spent: min(open.told, before))
    guard (200..<300).contains(head.status) || head.first("payment-receipt") != nil else { return }
    take(ChannelReceiptCheck(open).check(head.first("payment-receipt")))
  }

  private func take(_ result: Result<ChannelReceipt, ReceiptProblem>) {
    switch result {
    case .success(let receipt):
      payment?.channelReceipt = receipt
      count?.told = receipt.spent
      payment?.channel?.learn(told: receipt.spent)
      purchase.spending.learn(spent: receipt.spent, at: .now())
      if let currency = payment?.currency { purchase.observe(.channelReceipt(receipt, currency)) }
    case .failure(let problem): note(problem.fault)
    }
  }

  private func note(_ fault: AgentError.ReceiptFault) {
    payment?.fault = fault
    purchase.observe(.receiptFault(fault))
  }

  // MARK: - Events

  /// Acts on an event that the server put into the stream for the channel.
  func act(onChannelEvent event: PaymentEventScanner.PaymentEvent) {
    guard let channel = payment?.channel else { return }
    switch event.name {
    case .needVoucher:
      guard case .needVoucher(let id, let required, _, _) = try? ChannelStreamEvent(needVoucher: Array(event.data.utf8)), id == channel.channelID
      else { return }
      let asked = max(count?.asked ?? 0, required)
      count?.asked = asked
    case .receipt:
      take(ChannelReceiptCheck(channel).check(text: event.data))
      count?.isTold = true
    case .needTopUp, .timeout: break
    }
  }

  // MARK: - Running dry

  /// What this answer costs by what has come, at most; nil where it overflows.
  private var cost: UInt128? {
    count?.terms.cost(of: earlier.adding(tally.quantities), isEstimate: tally.isEstimate)
  }

  /// Sends a higher voucher where the server asks for one, or will soon have to.
  func keepFlowing() throws(AgentError) {
    guard let count, let channel = payment?.channel, count.terms.price.isMetered, let cost else { return }
    if let pause, Instant.now() < pause.until { return }
    let step = purchase.agent.options.step?.units(in: channel.currency)
    if let asked = count.asked {
      self.count?.asked = nil
      // What cannot be counted here is believed up to what was signed, and a window beyond it each time.
      let known = count.terms.isCountable ? Agent.sum(count.counted, cost) : max(Agent.sum(count.counted, cost), channel.signed)
      let ceiling = Agent.sum(known, count.terms.widestWindow(step: step))
      guard asked <= ceiling else { throw .overCount(required: asked, counted: ceiling, currency: channel.currency) }
      guard asked > channel.signed else { return }
      if pause == nil { purchase.observe(.waiting(Amount(units: asked - channel.signed, currency: channel.currency.code), channel.currency)) }
      return try raise(channel, least: asked, cost: cost, step: step)
    }
    let window = count.terms.window(after: count.vouchers, step: step)
    let spent = Agent.sum(count.spent, cost)
    guard count.cap == nil, (channel.signed > spent ? channel.signed - spent : 0) < window / 2 else { return }
    do throws(AgentError) {
      try raise(channel, least: channel.signed, cost: cost, step: step)
    } catch {
      // What came is paid for; whether more is needed shows when the server asks.
      guard !error.isLoss else { throw error }
      self.count?.cap = error
    }
  }

  /// Signs for a window beyond what has come, or for the rest where its length is known, and shows the voucher beside the stream.
  private func raise(_ channel: KeptChannel, least: UInt128, cost: UInt128, step: UInt128?) throws(AgentError) {
    guard let count else { return }
    var wanted = Agent.sum(Agent.sum(count.spent, cost), count.terms.window(after: count.vouchers, step: step))
    if let whole { wanted = min(wanted, Agent.sum(count.spent, whole)) }
    wanted = min(max(wanted, least), Agent.sum(channel.deposit, least > channel.deposit ? least - channel.deposit : 0))
    guard wanted > channel.signed else { return }
    switch try purchase.sign(channel, least: least, wanted: wanted, count.terms, counting: purchase.reserved, at: .now()) {
    case .signed(let raised):
      pause = nil
      guard raised.signed > channel.signed else { return }
      self.count?.vouchers += 1
      payment?.channel = raised
      purchase.observe(.voucher(Amount(units: raised.signed, currency: raised.currency.code), raised.currency))
      try show(raised, count.challenge)
    case .wait(let moment):
      if pause == nil { purchase.observe(.pacing(moment - Instant.now())) }
      let rate = purchase.agent.options.rate?.units(in: channel.currency) ?? 0
      pause = (moment, .overRate(price: wanted - channel.signed, rate: rate, currency: channel.currency))
    }
  }

  private func show(_ channel: KeptChannel, _ challenge: Challenge) throws(AgentError) {
    let request = purchase.request
    do throws(AgentError) {
      let now = try purchase.agent.show(channel, challenge, to: request.address, method: request.method)
      payment?.channel = now
      purchase.spending.learn(spent: now.told, at: .now())
    } catch {
      // The body itself will show what has happened to the connection or the channel.
      switch error {
      case .sessionGone, .rejected(status: 503, _, _), .rejected(status: 429, _, _): return
      case .receipt(let fault): note(fault)
      default: guard error.isLoss else { throw error }
      }
    }
  }

  /// What the whole answer costs where its length tells; nil where it does not.
  private var whole: UInt128? {
    guard let count, count.terms.price.parts.allSatisfy({ $0.unit.isOnce || $0.unit.isByte }), let length = head.contentLength else { return nil }
    var quantities = earlier.adding(tally.quantities)
    quantities.responseOctets = max(quantities.responseOctets, length)
    return count.terms.cost(of: quantities, isEstimate: false)
  }

  /// A second of silence: the upstream may be slow, or what is signed used up. A window more is signed where the count allows it.
  func lookAfterChannel() throws(AgentError) {
    guard let count, count.terms.price.isMetered, let channel = payment?.channel, let cost else { return }
    let step = purchase.agent.options.step?.units(in: channel.currency)
    let ceiling = Agent.sum(Agent.sum(count.spent, cost), count.terms.widestWindow(step: step))
    guard count.cap == nil, channel.signed < ceiling else { return try show(channel, count.challenge) }
    do throws(AgentError) {
      try raise(channel, least: channel.signed, cost: cost, step: step)
    } catch {
      guard !error.isLoss else { throw error }
      self.count?.cap = error
    }
  }

  // MARK: - The end

  /// Learns what the whole answer has cost, by the server's last word and by the count.
  func learnChannelCost() throws(AgentError) {
    guard let count, let channel = payment?.channel else { return }
    if let value = body.trailers.first(where: { $0.name.lowercased() == "payment-receipt" })?.value {
      take(ChannelReceiptCheck(channel).check(value))
    } else if meter?.countsContent == true, !count.isTold {
      try learnFigures(of: channel, count)
    }
    let told = self.count?.told
    let before = purchase.reserved
    let cost = cost ?? before
    // What cannot be counted here is believed up to what was signed.
    let own = count.terms.isCountable ? cost : max(cost, min(told.map { $0 > count.counted ? $0 - count.counted : 0 } ?? before, before))
    purchase.reserved = 0
    payment?.channel = try purchase.agent.change(channel.channelID) { kept in
      kept.count(own, instead: before)
      // A server that does not say what it took is believed to have taken what was delivered.
      if let told { kept.learn(told: told) } else if (200..<300).contains(head.status) { kept.told = kept.counted }
    }
    if let told, told > Agent.sum(count.counted, own), !tally.isEstimate { note(.amount) }
  }

  /// Asks what a metered body has cost, again where the server still holds what it had counted ahead.
  private func learnFigures(of channel: KeptChannel, _ count: ChannelCount) throws(AgentError) {
    for round in 1...Self.channelFiguresLimit {
      try show(channel, count.challenge)
      guard let told = payment?.channel?.told else { return }
      self.count?.told = told
      guard count.terms.isCountable, let cost, told > Agent.sum(count.counted, cost), round < Self.channelFiguresLimit else { return }
      Pause.wait(round)
    }
  }

  /// The questions after a body until the server has given back what it held.
  private static let channelFiguresLimit = 4
}
