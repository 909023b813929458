import Bytes
import Crypto
import Encoding
import Ethereum
import Methods
import Payments

// What a purchase does where a channel pays. What is signed stands in the channel's file before it leaves.
extension Purchase {
  /// What signing for more came to.
  enum Signing {
    case signed(KeptChannel)
    /// The minute has cost what it may; at this moment it can be asked again.
    case wait(until: Instant)
  }

  /// Whether a channel can pay for the request: one that asks for nothing is taken for a voucher alone.
  private var suitsChannels: Bool {
    guard agent.accountKey != nil, agent.options.preference != .charge, agent.options.rail ?? .evm == .evm, !request.isHead else { return false }
    return request.method != "POST" || !request.content.isEmpty || request.address.target.contains("?")
  }

  private func step(in currency: Currency) -> UInt128? { agent.options.step?.units(in: currency) }

  private func need(_ terms: VoucherTerms, _ currency: Currency) -> (least: UInt128, wanted: UInt128) {
    terms.need(requestOctets: (try? request.content.byteCount()) ?? 0, step: step(in: currency))
  }

  // MARK: - Choosing

  /// An open channel that was used for this method and path before, with its challenge.
  func keptChannel() throws(AgentError) -> (KeptChannel, Challenge)? {
    guard suitsChannels else { return nil }
    try countDoubtful()
    for channel in try agent.channels() where isUsable(channel) {
      guard let challenge = channel.challenge(method: request.method, path: request.address.path),
        challenge.selectsAlternateField || !request.has("authorization"), let open = try agent.settled(channel),
        let terms = VoucherTerms(challenge, currency: open.currency), admits(open, terms)
      else { continue }
      return (open, challenge)
    }
    return nil
  }

  /// An open channel that can buy by the terms of one of the offers.
  func channel(fitting offers: [ChannelOffer]) throws(AgentError) -> (KeptChannel, ChannelOffer)? {
    guard suitsChannels else { return nil }
    for offer in offers {
      for channel in try agent.channels() where isUsable(channel) && offer.fits(channel, origin: request.address.origin) {
        if let open = try agent.settled(channel), admits(open, offer.terms) { return (open, offer) }
      }
    }
    return nil
  }

  /// The sessions over channels that the caller's choices leave, best first.
  func openable(_ chains: ChainOffers) -> [ChannelOffer] {
    guard suitsChannels else { return [] }
    let code = agent.options.currencyCode
    return chains.channels.filter { offer in
      (agent.options.chain ?? offer.chain.number) == offer.chain.number && (code == nil || offer.currency.code == code)
    }
  }

  /// Whether a channel is the server's, the account's, and of the chain and currency that the caller named, where he named any.
  private func isUsable(_ channel: KeptChannel) -> Bool {
    guard channel.state != .gone, channel.origin == request.address.origin, channel.payer == agent.accountKey?.address else { return false }
    guard (agent.options.chain ?? channel.chain) == channel.chain else { return false }
    return agent.options.currencyCode.map { $0 == channel.currency.code } ?? true
  }

  private func admits(_ channel: KeptChannel, _ terms: VoucherTerms) -> Bool {
    let need = need(terms, channel.currency)
    guard spending.admits(channel, need: need.least, price: terms.mostForAnswer, at: .now()) else { return false }
    return need.least <= channel.remaining || (try? spending.deposit(more: need.least - channel.remaining, to: channel)) != nil
  }

  /// Takes the first of some offers whose channel may be opened; where none may, the first one's error is told.
  func take(_ offers: [ChannelOffer]) throws(AgentError) -> PaymentProgress.Event {
    var first: AgentError?
    try countDoubtful()
    for offer in offers {
      do throws(AgentError) {
        let need = need(offer.terms, offer.currency)
        let deposit = try spending.deposit(of: offer, need: need.least)
        _ = try spending.voucher(need.least, wanted: min(need.wanted, deposit), ahead: 0, in: offer.currency, at: .now())
        channelOffer = offer
        observe(.chosenChannel(offer))
        return .channelOffered
      } catch {
        if first == nil { first = error }
      }
    }
    throw first ?? .noUsableOffer
  }

  // MARK: - Opening

  /// Signs a deposit and the first voucher, writes both down, and sends them.
  func openChannel() throws(AgentError) -> PaymentProgress.Event {
    guard let offer = channelOffer, let key = agent.accountKey?.key else { return .nothingOffered }
    let need = need(offer.terms, offer.currency)
    let deposit = try spending.deposit(of: offer, need: need.least)
    let first = try firstVoucher(need, within: deposit, offer.currency)
    try agent.reserve(
      PaymentPlan(amount: deposit, currency: offer.currency, recipients: [offer.session.recipient.lowercase], session: deposit))
    let salt = Random.digest32()
    let descriptor = offer.session.channel(payer: key.address, salt: salt)
    var channel = KeptChannel(
      channelID: descriptor.id(in: offer.session.sessionEscrow), origin: request.address.origin, realm: offer.challenge.realm,
      chain: offer.chain.number, escrow: offer.session.details.escrow, token: offer.session.currency, currency: offer.currency,
      payee: offer.session.recipient, payer: key.address, salt: salt, state: .opening, deposit: deposit, signed: first,
      counted: max(first, need.wanted), told: 0, suggestedDeposit: offer.suggestedDeposit, routes: [])
    channel.remember(offer.challenge, method: request.method, path: request.address.path)
    let payload: ChannelPayload
    do throws(ChannelError) {
      let voucher = channel.voucher(first, by: key)
      switch offer.means {
      case .authorization:
        payload = try offer.session.openByAuthorization(
          descriptor, deposit: deposit, voucher: voucher, by: key, token: offer.token.token, until: offer.expires)
      case .permit2:
        payload = try offer.session.openByPermit(
          descriptor, deposit: deposit, voucher: voucher, by: key, token: offer.token.token, nonce: Word256(Random.digest32()),
          until: offer.expires)
      }
    } catch {
      throw .signing(error.charge)
    }
    let field = agent.field(offer.challenge, payload, of: key.address, chain: channel.chain)
    channel.underWay = KeptChannel.Deposit(amount: deposit, expires: offer.expires, field: field)
    try agent.keep(channel)
    spending.deposit(deposit)
    spending.use(channel, price: 0)
    // All of it is counted as what was signed in this call.
    spending.heldBefore = 0
    spending.signed &+= first
    reserved = channel.counted
    presented = .openChannel(offer, channel)
    observe(.paying(Amount(units: deposit, currency: offer.currency.code), offer.currency))
    set(field)
    return try exchange()
  }

  private func firstVoucher(
    _ need: (least: UInt128, wanted: UInt128), within deposit: UInt128, _ currency: Currency
  ) throws(AgentError) -> UInt128 {
    switch try spending.voucher(need.least, wanted: min(need.wanted, deposit), ahead: 0, in: currency, at: .now()) {
    case .add(let amount): return amount
    case .wait: throw .overRate(price: need.least, rate: agent.options.rate?.units(in: currency) ?? 0, currency: currency)
    }
  }

  /// Leaves a channel whose first open was refused. What was signed for it counts as deposited until it has run out, since a server can submit
  /// it whatever it says. After a repetition it may be open, and the next call that would use the channel finds out.
  func leaveUnopenedChannel() throws(AgentError) {
    guard case .openChannel(_, let channel) = presented, isFirstPresentation, let deposit = channel.underWay else { return }
    reserved = 0
    try agent.change(channel.channelID) { $0.refuse(deposit, at: .now()) }
  }

  /// Finds out once a call what its server could still submit.
  private func countDoubtful() throws(AgentError) {
    if spending.doubtful == nil { spending.doubtful = try agent.doubtful(request.address.origin) }
  }

  // MARK: - Vouchers

  /// Signs for the request where that is not done already, and makes ready what carries the voucher.
  func present(_ channel: KeptChannel, _ challenge: Challenge) throws(AgentError) {
    guard let key = agent.accountKey?.key, let terms = VoucherTerms(challenge, currency: channel.currency) else { throw .noUsableOffer }
    let need = need(terms, channel.currency)
    spending.use(channel, price: terms.mostForAnswer)
    let least = Agent.sum(channel.spent, need.least)
    let signed = try signed(channel, least: least, wanted: Agent.sum(channel.spent, need.wanted), terms, counting: need.wanted)
    presented = .voucher(signed, challenge)
    set(agent.voucherField(challenge, of: signed, by: key))
  }

  /// Signs, waiting where a minute has cost what it may.
  private func signed(
    _ channel: KeptChannel, least: UInt128, wanted: UInt128, _ terms: VoucherTerms, counting sum: UInt128
  ) throws(AgentError) -> KeptChannel {
    while true {
      let now = Instant.now()
      switch try sign(channel, least: least, wanted: wanted, terms, counting: sum, at: now) {
      case .signed(let channel): return channel
      case .wait(let moment):
        observe(.pacing(moment - now))
        try agent.client.pause(for: moment - now)
      }
    }
  }

  /// Raises what a channel's voucher says, within every limit; the deposit first, where it does not hold that much.
  ///
  /// - Parameters:
  ///   - least: What has to be signed for in all, over the channel's life.
  ///   - wanted: What is signed for in all where the limits allow it.
  ///   - sum: What is counted for this call at least.
  func sign(
    _ channel: KeptChannel, least: UInt128, wanted: UInt128, _ terms: VoucherTerms, counting sum: UInt128, at now: Instant
  ) throws(AgentError) -> Signing {
    var channel = channel
    var (more, most) = (Self.excess(of: least, over: channel.signed), Self.excess(of: wanted, over: channel.signed))
    // A smaller step than the server takes is no step.
    if more > 0 { more = max(more, terms.minimumDelta) }
    if most > 0 { most = max(most, terms.minimumDelta) }
    guard most > 0 else { return .signed(try count(channel, signing: channel.signed, sum)) }
    let lacking = Self.excess(of: Agent.sum(channel.signed, more), over: channel.deposit)
    if more > 0, lacking > 0 { channel = try topUp(channel, by: lacking) }
    most = min(max(most, more), Self.excess(of: channel.deposit, over: channel.signed))
    let amount: UInt128
    do throws(AgentError) {
      switch try spending.voucher(more, wanted: most, ahead: channel.ahead, in: channel.currency, at: now) {
      case .wait(let moment): return .wait(until: moment)
      case .add(let allowed): amount = allowed
      }
    } catch {
      // What is signed already is enough to begin with.
      guard more == 0 else { throw error }
      return .signed(try count(channel, signing: channel.signed, sum))
    }
    guard more > 0 || amount >= max(terms.minimumDelta, 1) else { return .signed(try count(channel, signing: channel.signed, sum)) }
    spending.signed &+= amount
    return .signed(try count(channel, signing: Agent.sum(channel.signed, amount), sum))
  }

  private static func excess(of whole: UInt128, over part: UInt128) -> UInt128 { whole > part ? whole - part : 0 }

  /// Writes down what is about to be signed, and counts it for this call.
  private func count(_ channel: KeptChannel, signing amount: UInt128, _ sum: UInt128) throws(AgentError) -> KeptChannel {
    let before = reserved
    var now = before
    let changed = try agent.change(channel.channelID) { kept in
      kept.signed = max(kept.signed, amount)
      let others = Self.excess(of: kept.counted, over: before)
      // Until the call's end the server may have charged all that is signed.
      now = max(sum, before, Self.excess(of: kept.signed, over: others))
      kept.count(now, instead: before)
    }
    reserved = now
    return changed
  }

  /// Adds to a channel's deposit within the limits.
  private func topUp(_ channel: KeptChannel, by lacking: UInt128) throws(AgentError) -> KeptChannel {
    let amount = try spending.deposit(more: lacking, to: channel)
    try agent.reserve(
      PaymentPlan(
        amount: amount, currency: channel.currency, recipients: [channel.payee.lowercase], session: Agent.sum(channel.deposit, amount)))
    spending.deposit(amount)
    let raised = try agent.topUp(channel, by: amount, request: request)
    let code = channel.currency.code
    observe(.toppedUp(Amount(units: amount, currency: code), deposit: Amount(units: raised.deposit, currency: code), channel.currency))
    return raised
  }

  /// What the server wants signed in all, by its problem document; otherwise one unit more than is signed.
  func requiredCumulative(_ problem: ProblemDocument?, _ channel: KeptChannel) -> UInt128 {
    func units(_ name: String) -> UInt128? { problem?.members[name]?.stringValue.flatMap { DecimalUInt128.parse($0.utf8) } }
    if let required = units("requiredCumulative") { return required }
    guard let accepted = units("acceptedCumulative"), let more = units("requiredTopUp") else { return Agent.sum(channel.signed, 1) }
    return Agent.sum(accepted, more)
  }

  /// Signs for what the server lacks, as far as the agent's own count bears it out.
  func raiseVoucher(_ channel: KeptChannel, _ challenge: Challenge) throws(AgentError) -> PaymentProgress.Event {
    guard let key = agent.accountKey?.key, let terms = VoucherTerms(challenge, currency: channel.currency) else { return .nothingOffered }
    // A server that takes no smaller steps asks for one of them.
    let margin = terms.price.isMetered ? terms.widestWindow(step: step(in: channel.currency)) : terms.minimumDelta
    let ceiling = Agent.sum(channel.counted, margin)
    guard required <= ceiling else { throw .overCount(required: required, counted: ceiling, currency: channel.currency) }
    let raised = try signed(channel, least: required, wanted: required, terms, counting: reserved)
    presented = .voucher(raised, challenge)
    set(agent.voucherField(challenge, of: raised, by: key))
    return .toppedUp
  }

  /// Looks whether a lost request cost anything.
  func inspect(_ channel: KeptChannel, _ challenge: Challenge, before: UInt128) throws(AgentError) -> PaymentProgress.Event {
    guard let now = try? agent.show(channel, challenge, to: request.address, method: request.method), now.told == before else { return .touched }
    presented = .voucher(now, challenge)
    if let key = agent.accountKey?.key { set(agent.voucherField(challenge, of: now, by: key)) }
    return .untouched
  }

  // MARK: - The end

  /// Gives back what was counted for a call that ended without an answer, where nothing can have been served for it.
  func releaseCount(after error: AgentError) {
    switch error {
    case .rejected(status: 503, _, _), .answerLost, .paymentPending, .timeout: return
    default: if !error.isLoss { releaseCount() }
    }
  }

  /// Gives back what was counted for a request that was refused: nothing was served for it.
  func releaseCount() {
    guard reserved > 0 else { return }
    let channelID: Digest32
    switch presented {
    case .voucher(let channel, _): channelID = channel.channelID
    case .nothing, .transfer, .open, .bearer, .chain, .openChannel: return
    }
    let before = reserved
    reserved = 0
    _ = try? agent.change(channelID) { $0.count(0, instead: before) }
  }
}

extension VoucherTerms {
  /// The most that one answer costs, in base units; nil where what comes decides and nothing bounds it.
  var mostForAnswer: UInt128? { price.isMetered ? (price.maximum < .max ? price.maximum : nil) : price.leastAmount }

  /// The furthest that a server may run ahead of what has come: its own steps may be larger than the caller's.
  func widestWindow(step: UInt128?) -> UInt128 { max(step ?? 0, window(after: Self.doublingLimit, step: nil)) }
}
