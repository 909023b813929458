import Bytes
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// The requests that manage a session: never forwarded, and recognised by their action and the absent content alone.
extension Cashier {
  /// How long a close waits for its session's exchanges.
  private static var closeLimit: Duration { .seconds(30) }

  /// Whether a request, of any method, manages a session: it has no content, and its credential's action says so.
  func manages(_ request: borrowing PaidRequest) -> Bool {
    guard let index = request.route, Int(index) < routes.count, case .none = request.content,
      let freeMethods = routes[Int(index)]?.freeMethods ?? variants[Int(index)]?.freeMethods
    else { return false }
    let head = request.head
    guard !freeMethods.allows(head.pointee.method), !head.pointee.has(.accessControlRequestMethod),
      case .token(let range, let field) = PresentedCredential(request.octets, head),
      let credential = try? Credential.parse(UnsafeRawBufferPointer(rebasing: request.octets[range]), field: field)
    else { return false }
    if Self.isOfChannel(credential) { return managesChannel(request, credential) }
    guard
      let payload = try? PrepaidPayload(parsing: credential.payload, intent: credential.challenge.intent, source: credential.source)
    else { return false }
    return payload.isManagement
  }

  /// Answers a management request; `payload` is a top-up, status or close.
  mutating func manage(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, _ payload: PrepaidPayload, at now: Timestamp
  ) -> Verdict {
    switch payload {
    case .topUp(let session, let deposit, let signature):
      return .answer(topUp(request, index, credential, session: session, deposit: deposit, signature: signature, at: now))
    case .status(let session, let secret):
      return .answer(status(request, index, session: session, secret: secret, at: now))
    case .close(let session, let proof):
      return close(request, index, credential, session: session, proof: proof, at: now)
    case .transfer, .open, .bearer:
      return .answer(problem(.badRequest))
    }
  }

  // MARK: top-up

  /// Whose session it is, and in what.
  private struct Ownership {
    var wallet: Digest32
    var currency: String
    var recipient: String
  }

  private func ownership(of session: Digest32) -> Ownership? {
    guard let ledger else { return nil }
    if let view = ledger.session(session).flatMap({ ledger.view($0) }) {
      return Ownership(wallet: view.wallet, currency: view.terms.currency, recipient: view.terms.merchant)
    }
    guard case .closed(let record) = ledger.closeResult(session) else { return nil }
    return Ownership(wallet: record.wallet, currency: record.currency, recipient: record.merchant)
  }

  private mutating func topUp(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, session: Digest32, deposit: UInt128,
    signature: [UInt8], at now: Timestamp
  ) -> Answer {
    guard let ledger else { return unavailable() }
    guard let quote = try? PrepaidSession(parsing: credential.request) else { return failed(request, index, .invalidChallenge, at: now) }
    guard let owner = ownership(of: session) else { return failed(request, index, .sessionNotFound, at: now) }
    let decimals = settings.currencies.first { $0.code == owner.currency }?.decimals
    guard isOurs(credential, quote.details), quote.currency == owner.currency, quote.recipient == owner.recipient,
      quote.details.decimals == decimals
    else {
      return problem(.sessionMismatch, challengeID: credential.challenge.id)
    }
    let wallet = Ed25519.PublicKey(owner.wallet)
    guard credential.source == nil || credential.source == DIDKey.encode(wallet) else {
      return problem(.sessionMismatch, challengeID: credential.challenge.id)
    }
    // The same credential again gets its stored answer, however old it is by then.
    let isUsed = ledger.claimState(credential.challengeID) != nil
    if !isUsed, credential.isExpired(at: now) { return failed(request, index, .paymentExpired, at: now) }
    guard PrepaidSignature.isValid(signature, wallet: wallet, credential: credential.signedObject) else {
      return failed(request, index, .sessionInvalidSignature, at: now)
    }
    let order = TopUpOrder(
      challengeID: credential.challengeID, credential: Self.digest(of: credential), sessionID: session, wallet: owner.wallet,
      amount: deposit, currency: quote.currency, merchant: quote.recipient, expires: credential.expires ?? now,
      client: request.client)
    let stub = receiptStub(request, credential, amount: deposit, owner.currency, owner.recipient, session: session)
    do throws(Refusal) {
      let (receipt, lsn) = try ledger.topUp(order, at: now) { stub.encoded($0) }
      return managed(["status": "ok"], receipt: receipt, after: lsn)
    } catch {
      let payment = RefusedPayment(
        wallet: owner.wallet, session: session, amount: deposit, currency: quote.currency, recipient: quote.recipient)
      return answer(error, request, index, credential, payment, at: now)
    }
  }

  /// A credential's digest over its canonical form: one value, however it was spelled.
  private static func digest(of credential: Credential) -> Digest32 { SHA256.hash(JCS.serialize(credential.signedObject)) }

  // MARK: status

  private mutating func status(
    _ request: borrowing PaidRequest, _ index: RouteIndex, session: Digest32, secret: SessionSecret, at now: Timestamp
  ) -> Answer {
    guard let ledger else { return unavailable() }
    guard secret.opens(session) else { return failed(request, index, .verificationFailed, at: now) }
    if let view = ledger.session(session).flatMap({ ledger.view($0) }) {
      return managed(SessionStatus(view).object, receipt: nil, after: 0)
    }
    switch ledger.closeResult(session) {
    case .closed(let record):
      let status = SessionStatus(phase: .closed, deposit: record.deposit, spent: record.spent, held: 0, remaining: 0, required: 0)
      return managed(status.object, receipt: nil, after: record.lsn)
    case .pending: return problem(.sessionFinalized)
    case nil: return failed(request, index, .sessionNotFound, at: now)
    }
  }

  // MARK: close

  private mutating func close(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, session: Digest32, proof: PrepaidPayload.CloseProof,
    at now: Timestamp
  ) -> Verdict {
    guard let ledger else { return .answer(unavailable()) }
    guard let owner = ownership(of: session) else { return .answer(failed(request, index, .sessionNotFound, at: now)) }
    switch proof {
    case .secret(let secret):
      guard secret.opens(session) else { return .answer(failed(request, index, .verificationFailed, at: now)) }
    case .wallet(let wallet, let signature):
      guard wallet.octets == owner.wallet else { return .answer(failed(request, index, .sessionSignerMismatch, at: now)) }
      guard PrepaidSignature.isValid(signature, wallet: wallet, credential: credential.signedObject) else {
        return .answer(failed(request, index, .sessionInvalidSignature, at: now))
      }
    }
    let claim = Self.digest(of: credential)
    let stub = receiptStub(request, credential, amount: 0, owner.currency, owner.recipient, session: session)
    var pending = PendingAnswer(session: session, since: now, claim: claim, stub: stub)
    if let handle = ledger.session(session) {
      do throws(Refusal) {
        pending.after = try ledger.beginClose(handle, cause: .payer, claim: claim, at: now) { stub.encoded($0, amount: $0.spent) }
      } catch {
        // Closed in between by somebody else: what came of it is told below.
        if error == .unavailable { return .answer(unavailable()) }
        if error == .sessionUnconfirmed { return .answer(answer(error, request, index, credential, nil, at: now)) }
      }
    }
    if let answer = resume(&pending, at: now) { return .answer(answer) }
    return .pending(pending)
  }

  /// Asks for the answer of a close again; nil while exchanges of the session are still in flight.
  mutating func resume(_ pending: inout PendingAnswer, at now: Timestamp) -> Answer? {
    guard var answer = result(&pending, at: now) else { return nil }
    answer.fields += pending.corsLines
    return answer
  }

  private mutating func result(_ pending: inout PendingAnswer, at now: Timestamp) -> Answer? {
    guard let ledger, isAvailable else { return unavailable() }
    switch ledger.closeResult(pending.session) {
    case .pending:
      return now - pending.since > Self.closeLimit ? unavailable() : nil
    case .closed(let record):
      return closed(record, &pending, at: now)
    case nil:
      // The ledger was read back, and the close was not in it.
      return unavailable()
    }
  }

  private func closed(_ record: ClosedSession, _ pending: inout PendingAnswer, at now: Timestamp) -> Answer {
    let object = SessionClosed(spent: record.spent, refunded: record.refunded).object
    if let receipt = record.answer { return managed(object, receipt: receipt, after: record.lsn) }
    // Closed by time or by operators: the credential did not do it, and the session is gone.
    guard let ledger, record.claim == pending.claim, let stub = pending.stub else {
      let members: JSONObject = ["spent": .string(String(record.spent)), "refunded": .string(String(record.refunded))]
      return problem(.sessionFinalized, members: members, after: record.lsn)
    }
    // A restart came between the close and its answer.
    let log = ledger.lastCheckpoint
    var facts = ReceiptFacts(time: record.time, logSize: log.size, logRoot: log.root)
    facts.deposit = record.deposit
    facts.spent = record.spent
    facts.refunded = record.refunded
    facts.units = record.units
    let receipt = stub.encoded(facts, amount: record.spent)
    return managed(object, receipt: receipt, after: ledger.store(answer: receipt, ofClosed: pending.session, at: now))
  }

  // MARK: answers

  /// 200 with an object, and a receipt where money moved.
  private func managed(_ object: JSONObject, receipt: [UInt8]?, after: LSN) -> Answer {
    var lines = Array("Content-Type: application/json\r\nCache-Control: no-store\r\n".utf8)
    if let receipt { lines += Array("Payment-Receipt: ".utf8) + receipt + Array("\r\n".utf8) }
    return Answer(status: 200, fields: lines, body: JCS.serialize(object), after: after)
  }
}

extension SessionStatus {
  /// Takes the figures from the ledger's view of an open or closing session.
  init(_ view: SessionView) {
    let phase: Phase
    switch view.state {
    case .open: phase = .open
    case .closing, .suspended: phase = .closing
    case .closed: phase = .closed
    }
    self.init(
      phase: phase, deposit: view.deposit, spent: view.spent, held: view.held, remaining: view.remaining, required: view.required)
  }
}
