import Bytes
import Crypto
import Encoding
import Methods
import Payments

/// A client that pays: it asks, reads the 402, checks it, pays by charge or session, and hands the answer on as a stream.
///
/// An agent blocks its caller and belongs to one thread. One agent may make many calls, one after the other; its
/// connections and sessions are used again.
///
/// ```swift
/// let keeper = try Keeper.standard()
/// var options = AgentOptions()
/// options.maximum = SpendingLimit("0.05 USDC")
/// let agent = Agent(options: options, keeper: keeper, walletKey: try keeper.walletKey())
/// let answer = try agent.fetch(try AgentRequest(address: try WebAddress("http://127.0.0.1:8402/v1/quotes")))
/// while let octets = try answer.next() { … }
/// ```
public final class Agent {
  let options: AgentOptions
  let walletKey: WalletKey?
  let accountKey: AccountKey?
  let client: HTTPClient
  let keeper: Keeper?
  private var sessionsInMemory: [KeptSession] = []
  var channelsInMemory: [KeptChannel] = []
  private var keysByOrigin: [String: [String: Ed25519.PublicKey]] = [:]

  /// Makes an agent.
  ///
  /// - Parameters:
  ///   - keeper: Keeps open sessions and the servers' keys for the next time; without one they last as long as the agent.
  ///   - walletKey: Pays from prepaid wallets; without one the agent can only use open sessions and what is free.
  ///   - accountKey: Pays on EVM chains; without one nothing is paid there.
  public init(options: AgentOptions = AgentOptions(), keeper: Keeper?, walletKey: WalletKey?, accountKey: AccountKey? = nil) {
    self.options = options
    self.keeper = keeper
    self.walletKey = walletKey
    self.accountKey = accountKey
    client = HTTPClient(limits: options.limits, allowsPlaintext: options.allowsPlaintext)
  }

  /// Makes a request and pays for it where that is asked and allowed.
  ///
  /// A payment is made at most once: where an answer is lost, the same credential is sent again, which the server takes for
  /// the same payment; a 402 after the payment ends the call.
  ///
  /// - Parameter observe: hears what happens, on the caller's thread, until the answer's body has been read.
  /// - Throws: `AgentError`; where the answer's status is an error that is not about payment, the answer is returned.
  public func fetch(
    _ request: AgentRequest, observe: @escaping (AgentEvent) -> Void = { _ in }
  ) throws(AgentError) -> AgentAnswer {
    client.restartClock(at: .now())
    return try Purchase(agent: self, request: request, observe: observe).run()
  }

  // MARK: - Sessions

  /// Lists the sessions that this agent knows to be open, or that may be.
  public func sessions() throws(AgentError) -> [KeptSession] {
    guard let keeper else { return sessionsInMemory }
    return try keeper.sessions()
  }

  /// Writes a session down, new or with new routes.
  func keep(_ session: KeptSession) throws(AgentError) {
    if let keeper { return try keeper.save(session) }
    sessionsInMemory.removeAll { $0.sessionID == session.sessionID }
    guard sessionsInMemory.count < Keeper.sessionLimit else {
      throw .keeper(.tooManySessions(limit: Keeper.sessionLimit))
    }
    sessionsInMemory.append(session)
  }

  /// Notes what was learnt of a session's budget.
  func note(_ sessionID: String, _ change: (inout KeptSession) -> Void) throws(AgentError) {
    if let keeper { return try keeper.update(sessionID, change) }
    for index in sessionsInMemory.indices where sessionsInMemory[index].sessionID == sessionID {
      change(&sessionsInMemory[index])
    }
  }

  func forget(_ sessionID: String) throws(AgentError) {
    if let keeper { return try keeper.forget(sessionID) }
    sessionsInMemory.removeAll { $0.sessionID == sessionID }
  }

  // MARK: - Limits

  /// Writes a payment down before it is sent; nil without a keeper.
  func keep(_ payment: PendingPayment, for request: AgentRequest) throws(AgentError) -> String? {
    try keeper?.keep(payment, for: PendingPayment.name(of: request))
  }

  /// Tells whether the fate of a payment is known now.
  func conclude(_ name: String, isKnown: Bool) throws(AgentError) { try keeper?.conclude(name, isKnown: isKnown) }

  /// The payment of an earlier call for the same purchase whose fate is not known.
  func pendingPayment(for request: AgentRequest) throws(AgentError) -> (String, PendingPayment)? {
    guard let keeper, let accountKey else { return nil }
    return try keeper.adoptPending(PendingPayment.name(of: request), payer: accountKey.address, tokens: options.tokens, now: Timestamp.now())
  }

  /// Compares a payment with the limits that are kept for all calls, and counts it before it leaves. Without a keeper there are none.
  func reserve(_ plan: PaymentPlan) throws(AgentError) { try keeper?.reserve(plan) }

  // MARK: - Keys

  /// The keys of a server, asked for once, and compared with those that it had before.
  ///
  /// - Parameter kid: A key that must be among them; where it is not, the set is asked for again, for keys rotate.
  func keys(of address: WebAddress, with kid: String? = nil) throws(AgentError) -> [String: Ed25519.PublicKey] {
    if let known = keysByOrigin[address.origin], kid == nil || known[kid ?? ""] != nil { return known }
    let request = try AgentRequest(address: address.with(target: ServerKeys.path))
    let (head, octets) = try ask(request)
    guard head.status == 200 else { throw .unexpectedStatus(head.status, .keys) }
    let keys = try ServerKeys.parse(octets)
    try keeper?.admit(keys, of: address.origin)
    keysByOrigin[address.origin] = keys
    return keys
  }

  /// Compares a currency's decimals with what this server said before.
  func admit(_ offer: PrepaidOffer, of origin: String) throws(AgentError) {
    try keeper?.admit(offer.currency, ledger: offer.details.ledger, of: origin)
  }

  /// Makes a request of the agent's own and reads the whole answer, a small document.
  func ask(_ request: AgentRequest, extra: [AgentRequest.Field] = []) throws(AgentError) -> (ReceivedHead, [UInt8]) {
    let (head, body) = try client.send(request, extra: extra)
    return (head, try body.collect(limit: HTTPLimits.documentByteLimit))
  }

  /// Makes an idempotent request of the agent's own, again where its answer is lost.
  func askRepeatedly(
    _ request: AgentRequest, extra: [AgentRequest.Field]
  ) throws(AgentError) -> (ReceivedHead, [UInt8]) {
    var repeats = 0
    while true {
      do throws(AgentError) {
        return try ask(request, extra: extra)
      } catch {
        guard error.isLoss, repeats < PaymentProgress.repeatLimit else { throw error }
        repeats += 1
        Pause.wait(repeats)
      }
    }
  }
}

extension AgentError {
  /// Whether a request was or may have been sent and no answer came.
  var isLoss: Bool {
    switch self {
    case .connection, .connectionLost, .cutShort, .malformedResponse: true
    case .timeout(let phase): phase != .whole
    case .address, .tls, .plaintextRefused, .requestField, .contentUnreadable, .resolution,
      .responseTooLarge, .noUsableOffer, .offer, .overMaximum, .overRate, .noWalletKey, .noAccountKey, .noPayableOffer, .signing,
      .overLimit, .overCount, .paymentPending, .refusedByPolicy, .rejected, .answerLost,
      .sessionGone, .receipt, .serverKeys, .document, .unexpectedStatus, .keeper:
      false
    }
  }
}
