import Bytes
import Crypto
import Encoding
import Methods
import Payments

/// What a close came to, in base units.
public struct ClosedSession: Sendable {
  /// The session as it was kept.
  public let session: KeptSession
  /// What the session cost and what went back to the wallet; nil where the server had closed it before and says no more.
  public let result: SessionClosed?
  /// The signed receipt; nil where none came or it does not hold.
  public let receipt: Receipt?
}

// What is asked about a session is never forwarded to the upstream: a request without a body to any of the session's
// addresses, whose credential says `status`, `topUp` or `close` (PREPAID.md, "Session").
extension Agent {
  /// Asks where a session stands; free, and no use of the session.
  ///
  /// - Throws: `.sessionGone` where the server does not know it.
  public func status(of session: KeptSession) throws(AgentError) -> SessionStatus {
    let (challenge, request, secret) = try means(of: session)
    let credential = PrepaidCredential.status(challenge, secret: secret)
    let (head, octets) = try askRepeatedly(request, extra: [field(challenge, credential)])
    try refuse(head, octets, from: request.address, document: .status)
    guard let object = (try? JSON.parse(octets))?.objectValue, let state = try? SessionStatus(parsing: object) else {
      throw .document(.status)
    }
    return state
  }

  /// Closes a session: what is left goes back to the wallet.
  ///
  /// The session's own secret is the proof, so no wallet key is needed. The session is forgotten once it is closed.
  public func close(_ session: KeptSession) throws(AgentError) -> ClosedSession {
    let (challenge, request, secret) = try means(of: session)
    let credential = PrepaidCredential.close(challenge, secret: secret)
    let (head, octets) = try askRepeatedly(request, extra: [field(challenge, credential)])
    do throws(AgentError) {
      try refuse(head, octets, from: request.address, document: .close)
    } catch .sessionGone {
      try forget(session.sessionID)
      return ClosedSession(session: session, result: nil, receipt: nil)
    } catch {
      throw error
    }
    guard let object = (try? JSON.parse(octets))?.objectValue, let closed = try? SessionClosed(parsing: object) else {
      throw .document(.close)
    }
    try forget(session.sessionID)
    let check = ReceiptCheck(
      expectation: .close(sessionID: session.sessionID), challengeID: challenge.id, request: nil,
      keys: try keys(for: head, at: request.address))
    return ClosedSession(session: session, result: closed, receipt: try? check.check(head.first("payment-receipt")).get())
  }

  /// Raises a session's budget.
  ///
  /// A top-up echoes a challenge that was not used before, so a fresh one is asked for and checked as for any payment. The
  /// same credential is sent again where the answer is lost: the server adds it once.
  ///
  /// - Returns: the signed receipt; nil where the top-up was made and its receipt does not hold.
  func topUp(
    _ session: KeptSession, by amount: UInt128, request: AgentRequest
  ) throws(AgentError) -> Receipt? {
    guard let walletKey else { throw .noWalletKey }
    guard let sessionID = Digest32(hex: session.sessionID) else { throw .sessionGone }
    let probe = try AgentRequest(method: request.method == "HEAD" ? "GET" : request.method, address: request.address)
    let challenge = try freshChallenge(for: session, probe: probe, request: request)
    let credential = PrepaidCredential.topUp(
      challenge, additionalDeposit: amount, session: sessionID, wallet: walletKey.signingKey)
    let head: ReceivedHead
    let octets: [UInt8]
    do throws(AgentError) {
      (head, octets) = try askRepeatedly(probe, extra: [field(challenge, credential)])
    } catch {
      throw error.isLoss ? .answerLost(reference: session.sessionID) : error
    }
    try refuse(head, octets, from: request.address, document: .topUp)
    try note(session.sessionID) { $0.deposit &+= amount }
    let check = ReceiptCheck(
      expectation: .topUp(sessionID: session.sessionID, amount: amount), challengeID: challenge.id, request: nil,
      keys: try keys(for: head, at: request.address))
    return try? check.check(head.first("payment-receipt")).get()
  }

  /// Asks for a challenge, without content first; where the content decides the price, with it.
  private func freshChallenge(
    for session: KeptSession, probe: AgentRequest, request: AgentRequest
  ) throws(AgentError) -> Challenge {
    var asked = probe
    var (head, octets) = try ask(probe)
    if head.status != 402, !request.content.isEmpty, !request.has("authorization") {
      asked = request
      (head, octets) = try ask(request)
    }
    guard head.status == 402 else { throw .unexpectedStatus(head.status, .topUp) }
    let check = OfferCheck(request: asked, now: Timestamp.now())
    let offers = ChallengeList.parse(head.all("www-authenticate")).compactMap { PrepaidOffer($0) }
    guard let offer = offers.first(where: { $0.fits(session, origin: probe.address.origin) }) else {
      throw .noUsableOffer
    }
    try check.check(offer)
    let invoice =
      head.first("payment-invoice") ?? ProblemDocument(octets, from: probe.address)?.invoice
    _ = try check.check(offer, invoice: invoice, keys: try keys(of: probe.address, signing: invoice))
    return offer.challenge
  }

  /// Turns a session that a broken-off call left behind as `opening` into an open one, or forgets it.
  ///
  /// - Returns: the session with its true budget; nil where it was never opened or is closed.
  func settled(_ session: KeptSession) throws(AgentError) -> KeptSession? {
    switch session.state {
    case .open: return session
    case .opening: break
    }
    let state: SessionStatus
    do throws(AgentError) {
      state = try status(of: session)
    } catch .sessionGone {
      try forget(session.sessionID)
      return nil
    } catch {
      throw error
    }
    switch state.phase {
    case .open: break
    case .closing, .closed:
      try forget(session.sessionID)
      return nil
    }
    var open = session
    open.state = .open
    open.deposit = state.deposit
    open.spent = state.spent
    try keep(open)
    return open
  }

  // MARK: - Means

  /// A challenge of the session, a request without a body to where it was issued for, and the secret.
  private func means(
    of session: KeptSession
  ) throws(AgentError) -> (challenge: Challenge, request: AgentRequest, secret: SessionSecret) {
    guard let route = session.routes.last, let secret = SessionSecret(hex: session.preimage) else { throw .sessionGone }
    let address = try WebAddress(session.origin).with(target: route.path)
    // An answer to HEAD would have no body to read the session's figures from.
    return (route.challenge, try AgentRequest(method: route.method == "HEAD" ? "GET" : route.method, address: address), secret)
  }

  /// The field that carries a credential, as the challenge selected it.
  func field(_ challenge: Challenge, _ credential: JSONObject) -> AgentRequest.Field {
    let name = challenge.selectsAlternateField ? Challenge.alternateField : "Authorization"
    return AgentRequest.Field(name: name, value: Credential.fieldValue(credential))
  }

  /// The keys that a receipt in this head needs.
  func keys(for head: ReceivedHead, at address: WebAddress) throws(AgentError) -> [String: Ed25519.PublicKey] {
    let kid = head.first("payment-receipt").flatMap { try? Receipt.parse($0) }?.kid
    return try keys(of: address, with: kid)
  }

  /// The keys that an invoice needs.
  func keys(of address: WebAddress, signing invoice: String?) throws(AgentError) -> [String: Ed25519.PublicKey] {
    let header = invoice?.split(separator: ".").first.flatMap { Base64URL.decode(String($0)) }
    let kid = header.flatMap { try? JSON.parse($0) }?.objectValue?["kid"]?.stringValue
    return try keys(of: address, with: kid)
  }

  /// Throws what stands against a management request that was not answered by 200.
  private func refuse(
    _ head: ReceivedHead, _ octets: [UInt8], from address: WebAddress, document: AgentError.DocumentKind
  ) throws(AgentError) {
    guard head.status != 200 else { return }
    guard let problem = ProblemDocument(octets, from: address) else {
      throw head.status == 410 ? .sessionGone : .unexpectedStatus(head.status, document)
    }
    switch problem.problem {
    case .sessionNotFound, .sessionFinalized: throw .sessionGone
    case .policyDenied: throw .refusedByPolicy(detail: problem.detail)
    case .some: throw .rejected(status: head.status, problem: problem.name, detail: problem.detail)
    case nil: throw .unexpectedStatus(head.status, document)
    }
  }
}
