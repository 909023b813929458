import Bytes
import Crypto
import Encoding
import Methods
import Payments

/// Carries one request from the first question to its answer: performs what `PaymentProgress` decides, and tells it what came.
final class Purchase {
  /// The credential that the last request carried.
  enum Presented {
    case nothing
    case transfer(PrepaidOffer)
    case open(PrepaidOffer, KeptSession)
    case bearer(KeptSession, Challenge)
    /// A payment on a chain, signed once.
    case chain(ChainOffer)
    /// The deposit and the first voucher of a new channel.
    case openChannel(ChannelOffer, KeptChannel)
    /// The highest voucher of a channel.
    case voucher(KeptChannel, Challenge)
  }

  let agent: Agent
  let request: AgentRequest
  let observe: (AgentEvent) -> Void
  /// What the call may spend and has spent.
  var spending: Spending
  var presented = Presented.nothing
  /// What the last 402 offers, after every check.
  var offer: PrepaidOffer?
  /// What the last 402 offers on a chain, chosen in the place of `offer`.
  var chainOffer: ChainOffer?
  /// The session over a channel that the last 402 offers, chosen in the place of `offer`.
  var channelOffer: ChannelOffer?
  /// The open channel that can pay by `channelOffer`.
  var channelToUse: KeptChannel?
  /// What is counted in the channel's file for this call.
  var reserved: UInt128 = 0
  /// Why the server did not take a payment on a chain.
  var refusal: ChainRefusal?
  /// Why nothing of the last answer can be used.
  var failure: AgentError?
  /// What an insufficient session needs more, or what a channel has to have signed in all.
  var required: UInt128 = 0
  var answer: RawAnswer?

  var progress: PaymentProgress
  var extra: [AgentRequest.Field] = []
  private let idempotencyKey: AgentRequest.Field?
  /// The file of the payment on a chain that is under way.
  var pending: String?
  /// Whether the rest of an answer is asked for, which nothing new is paid for but top-ups.
  let isContinuation: Bool

  init(agent: Agent, request: AgentRequest, observe: @escaping (AgentEvent) -> Void) {
    self.agent = agent
    self.request = request
    self.observe = observe
    isContinuation = false
    spending = Spending(options: agent.options)
    let isKeyedByCaller = request.has("idempotency-key")
    idempotencyKey =
      request.isSafe || isKeyedByCaller
      ? nil : AgentRequest.Field(name: "Idempotency-Key", value: "\"\(Hex.encode(Random.bytes(16)))\"")
    progress = PaymentProgress(
      isKeyed: isKeyedByCaller || !request.isSafe, isSafe: request.isSafe, bearsKeptSession: false,
      refusalRetries: agent.options.refusalRetries)
  }

  /// Asks for the rest of an answer, with the same session if it was paid for, and on the same account.
  init(continuing purchase: Purchase, request: AgentRequest) {
    agent = purchase.agent
    self.request = request
    observe = purchase.observe
    isContinuation = true
    spending = purchase.spending
    idempotencyKey = nil
    progress = PaymentProgress(isKeyed: false, isSafe: true, bearsKeptSession: false)
  }

  func run() throws(AgentError) -> AgentAnswer {
    do throws(AgentError) {
      let answer = try answered()
      conclude(isKnown: true)
      return try AgentAnswer(purchase: self, answer: answer)
    } catch {
      releaseCount(after: error)
      let fate = fate(of: error)
      conclude(isKnown: fate.isKnown)
      throw fate.error
    }
  }

  /// Whether the server can tell a repetition of the request by a key.
  var isKeyed: Bool {
    if request.has("idempotency-key") { return true }
    guard idempotencyKey != nil else { return false }
    return switch presented {
    case .nothing: false
    case .transfer, .open, .bearer, .chain, .openChannel, .voucher: true
    }
  }

  /// Sends the last request again as it was; nil where the answer is not the one that was kept.
  func replayed() throws(AgentError) -> RawAnswer? {
    guard isKeyed else { return nil }
    return switch try exchange() {
    case .answered: answer
    case .lost, .inFlight, .unavailable: throw failure ?? .connectionLost(.awaitingHead, code: 0)
    case .chargeOffered, .openOffered, .bearerOffered, .chainOffered, .channelOffered, .nothingOffered, .budgetShort, .toppedUp, .alreadyOpen,
      .settledBefore, .denied, .sessionGone, .refused, .refusedUnmoved, .untouched, .touched:
      nil
    }
  }

  func answered() throws(AgentError) -> RawAnswer {
    var action = PaymentProgress.Action.ask
    if let earlier = try goOnWithEarlier() {
      action = earlier
    } else if let session = try keptSession() {
      progress = PaymentProgress(
        isKeyed: progress.isKeyed, isSafe: progress.isSafe, bearsKeptSession: true, refusalRetries: progress.refusalRetries)
      present(session, challenge: session.challenge(method: request.method, path: request.address.path))
      action = .bear
    } else if let (channel, challenge) = try keptChannel() {
      progress = PaymentProgress(
        isKeyed: progress.isKeyed, isSafe: progress.isSafe, bearsKeptSession: true, refusalRetries: progress.refusalRetries)
      try present(channel, challenge)
      action = .bear
    }
    while true {
      switch action {
      case .ask:
        presented = .nothing
        extra = []
        action = progress.receive(try exchange())
      case .pay(.charge): action = progress.receive(try payCharge())
      case .pay(.open): action = progress.receive(try openSession())
      case .pay(.chain): action = progress.receive(try payOnChain())
      case .pay(.channel): action = progress.receive(try openChannel())
      case .bear: action = progress.receive(try bear())
      case .repeatAfterPause(let repeats):
        if case .nothing = presented {} else { observe(.repeating(count: repeats)) }
        try pause(repeats)
        action = progress.receive(try exchange())
      case .inspect: action = progress.receive(try inspect())
      case .topUp: action = progress.receive(try topUp())
      case .deliver: return try delivered()
      case .stop(let stop): throw error(for: stop)
      }
    }
  }

  /// Whether the credential of a payment was sent once only.
  var isFirstPresentation: Bool {
    switch progress.state {
    case .paying(_, let repeats): repeats == 0
    case .asking, .bearing, .toppingUp, .inspecting, .delivered, .stopped: false
    }
  }

  // MARK: - Credentials

  /// An open session that was used for this method and path before.
  private func keptSession() throws(AgentError) -> KeptSession? {
    guard agent.options.preference != .charge, agent.options.rail ?? .prepaid == .prepaid else { return nil }
    let origin = request.address.origin
    for session in try agent.sessions() where session.origin == origin && isUsable(session) {
      guard let challenge = session.challenge(method: request.method, path: request.address.path) else { continue }
      guard let open = try agent.settled(session), admits(open, PrepaidOffer(challenge)) else { continue }
      return open
    }
    return nil
  }

  private func admits(_ session: KeptSession, _ offer: PrepaidOffer?) -> Bool {
    spending.admits(session, price: offer?.mostForAnswer, at: .now())
  }

  /// An open session that can buy by the offer's terms.
  func session(fitting offer: PrepaidOffer) throws(AgentError) -> KeptSession? {
    for session in try agent.sessions() where offer.fits(session, origin: request.address.origin) && isUsable(session) {
      if let open = try agent.settled(session), admits(open, offer) { return open }
    }
    return nil
  }

  /// Whether a session is of the wallet and the currency that the caller named, where he named any.
  private func isUsable(_ session: KeptSession) -> Bool {
    if let key = agent.walletKey, key.wallet != session.wallet { return false }
    guard let code = agent.options.currencyCode else { return true }
    return session.currency.code == code
  }

  private func present(_ session: KeptSession, challenge: Challenge?) {
    guard let challenge, let secret = SessionSecret(hex: session.preimage) else { return }
    presented = .bearer(session, challenge)
    spending.use(session, price: PrepaidOffer(challenge)?.mostForAnswer)
    if usesShortForm(with: challenge) {
      set(AgentRequest.Field(name: PrepaidSessionField.name, value: PrepaidSessionField.print(secret)))
    } else {
      set(agent.field(challenge, PrepaidCredential.bearer(challenge, secret: secret)))
    }
  }

  /// The caller's own `Authorization` is for the upstream; the short form leaves that field to him.
  func usesShortForm(with challenge: Challenge) -> Bool {
    request.has("authorization") && !challenge.selectsAlternateField
  }

  func set(_ credential: AgentRequest.Field) {
    extra = [credential]
    if let idempotencyKey { extra.append(idempotencyKey) }
  }

  private func payCharge() throws(AgentError) -> PaymentProgress.Event {
    guard let offer, case .charge(let charge) = offer.terms, let key = agent.walletKey else { return .nothingOffered }
    try agent.reserve(PaymentPlan(amount: charge.amount, currency: offer.currency, recipients: [charge.recipient]))
    spending.charge(charge.amount, at: .now())
    presented = .transfer(offer)
    observe(.paying(Amount(units: charge.amount, currency: charge.currency), offer.currency))
    set(agent.field(offer.challenge, PrepaidCredential.transfer(offer.challenge, wallet: key.signingKey)))
    return try exchange()
  }

  private func openSession() throws(AgentError) -> PaymentProgress.Event {
    guard let offer, case .session(let terms) = offer.terms, let key = agent.walletKey else { return .nothingOffered }
    let deposit = try spending.deposit(for: terms, in: offer.currency, at: .now())
    try agent.reserve(PaymentPlan(amount: deposit, currency: offer.currency, recipients: [offer.recipient], session: deposit))
    let secret = SessionSecret.generate()
    var session = KeptSession(
      sessionID: secret.id.hex, preimage: secret.hex, origin: request.address.origin, realm: offer.challenge.realm,
      ledger: offer.details.ledger, currency: offer.currency, recipient: offer.recipient, wallet: key.wallet,
      state: .opening, deposit: deposit, spent: 0, suggestedDeposit: terms.suggestedDeposit, routes: [])
    session.remember(offer.challenge, method: request.method, path: request.address.path)
    // Written down before the deposit leaves: whatever happens now, the secret that gets it back is kept.
    try agent.keep(session)
    spending.open(session)
    presented = .open(offer, session)
    observe(.paying(Amount(units: deposit, currency: offer.currency.code), offer.currency))
    let credential = PrepaidCredential.open(offer.challenge, deposit: deposit, secret: secret, wallet: key.signingKey)
    set(agent.field(offer.challenge, credential))
    return try exchange()
  }

  /// Presents a session: the kept one, the one that fits the offer, or the one that this request opened.
  private func bear() throws(AgentError) -> PaymentProgress.Event {
    if let channel = channelToUse, let channelOffer {
      channelToUse = nil
      let kept = try agent.change(channel.channelID) {
        $0.remember(channelOffer.challenge, method: request.method, path: request.address.path)
      }
      try present(kept, channelOffer.challenge)
    }
    switch presented {
    case .voucher(let channel, _): observe(.usingChannel(channel))
    case .openChannel(let offer, let channel): try present(channel, offer.challenge)
    case .bearer(let session, let challenge):
      if let offer, offer.fits(session, origin: request.address.origin) {
        try remember(offer, session)
      } else {
        present(session, challenge: challenge)
        observe(.usingSession(session))
      }
    case .open(let offer, let session):
      present(session, challenge: offer.challenge)
    case .nothing, .transfer, .chain:
      guard let offer, let session = try session(fitting: offer) else { return .nothingOffered }
      try remember(offer, session)
    }
    return try exchange()
  }

  private func remember(_ offer: PrepaidOffer, _ session: KeptSession) throws(AgentError) {
    var session = session
    session.remember(offer.challenge, method: request.method, path: request.address.path)
    try agent.keep(session)
    self.offer = nil
    present(session, challenge: offer.challenge)
    observe(.usingSession(session))
  }

  // MARK: - The exchange

  func exchange() throws(AgentError) -> PaymentProgress.Event {
    answer?.body.discard()
    answer = nil
    do throws(AgentError) {
      let (head, body) = try agent.client.send(request, extra: extra)
      let raw = try RawAnswer(head: head, body: body, from: request.address)
      answer = raw
      return try event(for: raw)
    } catch {
      // Where nothing was paid and nothing could be sent, there is nothing to find out by trying again.
      if case .nothing = presented, case .connection = error { throw error }
      guard error.isLoss else { throw error }
      failure = error
      return .lost
    }
  }

  /// Looks whether a session's lost request cost anything: repeated without looking, it might cost twice.
  private func inspect() throws(AgentError) -> PaymentProgress.Event {
    let session: KeptSession
    let before: UInt128
    switch presented {
    case .bearer(let kept, _): (session, before) = (kept, kept.spent)
    case .open(_, let opened): (session, before) = (opened, 0)
    case .voucher(let channel, let challenge): return try inspect(channel, challenge, before: channel.told)
    case .nothing, .transfer, .chain, .openChannel: return .touched
    }
    for round in 1...Self.inspectionLimit {
      guard let state = try? agent.status(of: session) else { return .touched }
      guard state.phase == .open, state.spent == before || state.held > 0 else { return .touched }
      if state.held == 0 {
        if case .open(let offer, let opened) = presented { present(opened, challenge: offer.challenge) }
        return .untouched
      }
      Pause.wait(round)
    }
    return .touched
  }

  /// The looks at a session whose lost request is still in flight; together with the pauses about seven seconds.
  private static let inspectionLimit = 6

  private func topUp() throws(AgentError) -> PaymentProgress.Event {
    if case .voucher(let channel, let challenge) = presented { return try raiseVoucher(channel, challenge) }
    guard case .bearer(let session, let challenge) = presented else { return .refused }
    var current = session
    if spending.isPaced, let state = try? agent.status(of: session) {
      current.deposit = state.deposit
      current.spent = min(state.spent, state.deposit)
      spending.learn(spent: current.spent, at: .now())
    }
    while true {
      let now = Instant.now()
      switch try spending.topUp(required, rest: nil, of: current, at: now) {
      case .wait(let moment):
        observe(.pacing(moment - now))
        try agent.client.pause(for: moment - now)
      case .add(let amount):
        let raised = try raise(current, by: amount)
        offer = nil
        present(raised, challenge: challenge)
        return .toppedUp
      }
    }
  }

  /// Raises a session's budget and tells the observer.
  func raise(_ session: KeptSession, by amount: UInt128) throws(AgentError) -> KeptSession {
    let (whole, overflow) = session.deposit.addingReportingOverflow(amount)
    try agent.reserve(
      PaymentPlan(amount: amount, currency: session.currency, recipients: [session.recipient], session: overflow ? .max : whole))
    spending.add(amount)
    let receipt = try agent.topUp(session, by: amount, request: request)
    var raised = session
    raised.deposit &+= amount
    let code = session.currency.code
    observe(
      .toppedUp(Amount(units: amount, currency: code), deposit: Amount(units: raised.deposit, currency: code), session.currency))
    if let receipt { observe(.receipt(receipt, isSigned: true)) } else { observe(.receiptFault(.signature)) }
    return raised
  }

  // MARK: - The end

  private func delivered() throws(AgentError) -> RawAnswer {
    guard let answer else { throw failure ?? .noUsableOffer }
    return answer
  }

  private func error(for stop: PaymentProgress.Stop) -> AgentError {
    let problem = answer?.problem
    // x402's own word for it says more than the problem around it.
    let name = refusal?.name ?? problem?.name ?? "payment-rejected"
    let rejected = AgentError.rejected(status: answer?.head.status ?? 0, problem: name, detail: problem?.detail ?? "")
    switch stop {
    case .unpayable: return failure ?? .noUsableOffer
    case .rejected, .unavailable: return rejected
    case .denied: return .refusedByPolicy(detail: problem?.detail ?? "")
    case .settled: return .answerLost(reference: problem?.reference)
    case .answerLost: return .answerLost(reference: problem?.reference)
    case .network: return failure ?? .connectionLost(.awaitingHead, code: 0)
    }
  }
}
