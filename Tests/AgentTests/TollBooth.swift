import Bytes
import Crypto
import Encoding
import Foundation
import Methods
import Metering
import Payments
import Synchronization

@testable import Agent

/// A paid server of the real codecs and the smallest of books, whose faults a test chooses: what the agent must survive
/// cannot be asked of a proxy that works.
///
/// `/charge` costs 2,000 units a request. `/body` and `/events` sell 100 octets at one unit each, by session.
final class TollBooth: Sendable {
  /// What goes wrong with a request that carries a credential, one fault each time, in this order.
  enum Fault: Sendable {
    case none
    /// The request is not looked at, and the connection ends.
    case dropBefore
    /// The payment is taken, and the connection ends without an answer.
    case dropAfter
    /// The payment is not taken, and a 402 comes again.
    case askAgain
    case inFlight
    case denied
    case unavailable
  }

  /// How the booth lies in its challenges and receipts.
  enum Lie: Sendable {
    case none, realm, resource, noInvoice, foreignInvoice, otherInvoice, issuer, expired, receiptAmount, receiptKey, noReceipt, keysChange
    case decimalsChange
  }

  struct Session: Sendable {
    var deposit: UInt128
    var spent: UInt128 = 0
    var required: UInt128 = 0
    var isOpen = true
    var topUps: [String: UInt128] = [:]
  }

  struct Books: Sendable {
    var faults: [Fault] = []
    var lie = Lie.none
    var charges: [String] = []
    var sessions: [String: Session] = [:]
    var opens: [String] = []
    var bearers = 0
    var unpaid = 0
    var keys: [String] = []
    var announces = true
  }

  static let price: UInt128 = 2000
  static let bodyByteCount = 100

  let books = Mutex(Books())
  private let secrets: ChallengeSecrets
  private let signer: DocumentSigner
  private let stranger: DocumentSigner
  private let portBox = Mutex<UInt16>(0)

  init() throws {
    secrets = try ChallengeSecrets(current: SecretBytes(Random.bytes(32)))
    signer = DocumentSigner(Ed25519.SigningKey.generate())
    stranger = DocumentSigner(Ed25519.SigningKey.generate())
  }

  var origin: String { "http://127.0.0.1:\(portBox.withLock { $0 })" }

  /// Opens the booth.
  func serve() -> ScriptedServer {
    let server = ScriptedServer { [self] connection in
      while let request = connection.request() {
        guard answer(request, connection) else { return }
      }
    }
    portBox.withLock { $0 = server.port }
    return server
  }

  // MARK: - Requests

  /// Answers one request; false ends the connection.
  private func answer(_ request: ScriptedServer.Connection.Request, _ connection: ScriptedServer.Connection) -> Bool {
    if request.target == ServerKeys.path { return send(connection, 200, keyDocument()) }
    if request.target == Prepaid.walletPath { return wallet(request, connection) }
    if request.target == "/free" { return send(connection, 200, Array("free".utf8)) }
    if let short = request.first("prepaid-session"), let session = shortSession(short) {
      books.withLock { $0.bearers += 1 }
      return stream(session, false, request, nil, connection)
    }
    guard let field = request.first("authorization"), let credential = parse(field) else {
      books.withLock { $0.unpaid += 1 }
      return refuse(request, connection, .paymentRequired)
    }
    if let key = request.first("idempotency-key") { books.withLock { $0.keys.append(key) } }
    let isManagement = (try? payload(credential))?.isManagement ?? false
    let fault = isManagement ? .none : books.withLock { $0.faults.isEmpty ? .none : $0.faults.removeFirst() }
    switch fault {
    case .none: break
    case .dropBefore: return false
    case .askAgain: return refuse(request, connection, .verificationFailed)
    case .inFlight: return problem(connection, .paymentInFlight)
    case .denied: return problem(connection, .policyDenied, detail: "daily-cap")
    case .unavailable: return problem(connection, .ledgerUnavailable)
    case .dropAfter:
      _ = take(credential)
      return false
    }
    return serve(request, credential, connection)
  }

  private func wallet(_ request: ScriptedServer.Connection.Request, _ connection: ScriptedServer.Connection) -> Bool {
    let query = request.body.withUnsafeBytes { try? WalletQuery(parsing: $0) }
    guard let query, query.isAuthentic, query.isTimely(at: .now()) else { return problem(connection, .queryRefused) }
    let sessions = books.withLock { $0.sessions }.compactMap { id, session -> WalletState.Session? in
      let status = SessionStatus(
        phase: .open, deposit: session.deposit, spent: session.spent, held: 0, remaining: session.deposit - session.spent, required: 0)
      return Digest32(hex: id).map { WalletState.Session(id: $0, currency: "usdc", recipient: "acme", state: status) }
    }
    let state = WalletState(
      wallet: query.wallet, ledger: "test", time: .now(), balances: [.init(currency: "usdc", decimals: 6, available: 5000)],
      policy: ["daily-cap": ["usdc": "9000"]], left: ["daily-cap": ["usdc": "7000"]], sessions: sessions)
    return send(connection, 200, JCS.serialize(.object(state.object)))
  }

  private func shortSession(_ field: String) -> String? {
    let parsed = Array(field.utf8).withUnsafeBytes { try? PrepaidSessionField.parse($0) }
    guard let parsed, parsed.secret.opens(parsed.session) else { return nil }
    return books.withLock { $0.sessions[parsed.session.hex] } == nil ? nil : parsed.session.hex
  }

  private func parse(_ field: String) -> Credential? {
    guard field.hasPrefix("Payment ") else { return nil }
    let token = Array(field.dropFirst(8).utf8)
    let credential = token.withUnsafeBytes { try? Credential.parse($0, field: .authorization) }
    guard let credential, credential.isAuthentic(secrets) else { return nil }
    return credential
  }

  private func payload(_ credential: Credential) throws -> PrepaidPayload {
    try PrepaidPayload(parsing: credential.payload, intent: credential.challenge.intent, source: credential.source)
  }

  /// What the books say to a payment.
  private enum Outcome {
    case paid(Receipt)
    case session(String, isOpen: Bool)
    case refused(PaymentProblem, JSONObject)
    case managed([UInt8], Receipt?)
  }

  private func take(_ credential: Credential) -> Outcome {
    guard let payload = try? payload(credential), let signed = credential.signedObject.objectValue else {
      return .refused(.malformedCredential, [:])
    }
    let id = credential.challenge.id
    return books.withLock { books in
      switch payload {
      case .transfer(let wallet, let signature):
        guard PrepaidSignature.isValid(signature, wallet: wallet, credential: signed) else { return .refused(.verificationFailed, [:]) }
        guard !books.charges.contains(id) else { return .refused(.alreadyPaid, ["reference": "7"]) }
        books.charges.append(id)
        let amount = books.lie == .receiptAmount ? Self.price + 1 : Self.price
        return .paid(receipt(credential, reference: "7", amount: amount, session: nil))
      case .open(let wallet, let deposit, let session, let signature):
        guard PrepaidSignature.isValid(signature, wallet: wallet, credential: signed) else { return .refused(.verificationFailed, [:]) }
        guard !books.opens.contains(id) else { return .refused(.alreadyOpen, [:]) }
        books.opens.append(id)
        books.sessions[session.hex] = Session(deposit: deposit)
        return .session(session.hex, isOpen: true)
      case .bearer(let session, let secret):
        guard secret.opens(session), books.sessions[session.hex]?.isOpen == true else { return .refused(.sessionNotFound, [:]) }
        books.bearers += 1
        return .session(session.hex, isOpen: false)
      case .status(let session, _):
        guard let known = books.sessions[session.hex], known.isOpen else { return .refused(.sessionNotFound, [:]) }
        let status = SessionStatus(
          phase: .open, deposit: known.deposit, spent: known.spent, held: 0, remaining: known.deposit - known.spent,
          required: known.required)
        return .managed(JCS.serialize(.object(status.object)), nil)
      case .topUp(let session, let amount, _):
        books.sessions[session.hex]?.topUps[id] = amount
        books.sessions[session.hex]?.deposit += amount
        books.sessions[session.hex]?.required = 0
        guard let known = books.sessions[session.hex] else { return .refused(.sessionNotFound, [:]) }
        return .managed(
          Array("{\"status\":\"ok\"}".utf8),
          receipt(credential, reference: session.hex, amount: amount, session: (session.hex, known)))
      case .close(let session, _):
        guard let known = books.sessions[session.hex], known.isOpen else { return .refused(.sessionFinalized, [:]) }
        books.sessions[session.hex]?.isOpen = false
        let closed = SessionClosed(spent: known.spent, refunded: known.deposit - known.spent)
        return .managed(
          JCS.serialize(.object(closed.object)),
          receipt(credential, reference: session.hex, amount: known.spent, session: (session.hex, known)))
      }
    }
  }

  private func receipt(
    _ credential: Credential?, reference: String, amount: UInt128, session: (String, Session)?
  ) -> Receipt {
    let details = credential?.request["methodDetails"]?["resource"]
    let resource = (try? Resource(details)) ?? Resource(method: "GET", url: "http://invalid/")
    return Receipt(
      method: "prepaid", intent: credential?.challenge.intent ?? "session", timestamp: .now(), reference: reference,
      challengeID: credential?.challenge.id ?? "-", amount: amount, currency: "usdc", recipient: "acme", resource: resource,
      session: session.map { Receipt.Session(id: $0.0, spent: $0.1.spent, remaining: $0.1.deposit - $0.1.spent, units: 0) })
  }

  private func encoded(_ receipt: Receipt) -> String {
    let lie = books.withLock { $0.lie }
    let signed = receipt.signed(by: lie == .receiptKey ? stranger : signer, log: .init(size: 3, root: Digest32()))
    return String(decoding: signed.encoded, as: UTF8.self)
  }

  // MARK: - Answers

  private func serve(
    _ request: ScriptedServer.Connection.Request, _ credential: Credential, _ connection: ScriptedServer.Connection
  ) -> Bool {
    switch take(credential) {
    case .refused(let refusal, let members):
      return refusal.status == 402 ? refuse(request, connection, refusal) : problem(connection, refusal, members: members)
    case .managed(let body, let receipt):
      return send(connection, 200, body, receipt: receipt.map { encoded($0) })
    case .paid(let receipt):
      let isMissing = books.withLock { $0.lie == .noReceipt }
      return send(connection, 200, Array("paid".utf8), receipt: isMissing ? nil : encoded(receipt))
    case .session(let id, let isOpen):
      return stream(id, isOpen, request, credential, connection)
    }
  }

  /// Sends 100 octets as the budget lasts, and waits for top-ups for three seconds.
  private func stream(
    _ id: String, _ isOpen: Bool, _ request: ScriptedServer.Connection.Request, _ credential: Credential?,
    _ connection: ScriptedServer.Connection
  ) -> Bool {
    let isEvents = request.target.hasPrefix("/events")
    let known = books.withLock { $0.sessions[id] } ?? Session(deposit: 0)
    let first = receipt(credential, reference: id, amount: isOpen ? known.deposit : 0, session: (id, known))
    let text = isOpen ? encoded(first) : String(decoding: first.encoded, as: UTF8.self)
    connection.send(
      "HTTP/1.1 200 OK\r\nPayment-Receipt: \(text)\r\n"
        + (isEvents
          ? "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
          : "Content-Type: text/plain\r\nContent-Length: \(Self.bodyByteCount)\r\n\r\n"))
    var sent = 0
    var waited = 0
    while sent < Self.bodyByteCount {
      let grant = books.withLock { books -> (Int, Bool) in
        guard var session = books.sessions[id] else { return (0, false) }
        let left = Int(clamping: session.deposit - session.spent)
        let count = min(left, Self.bodyByteCount - sent)
        session.spent += UInt128(count)
        let isNew = count == 0 && session.required == 0
        session.required = count == 0 ? 1 : 0
        books.sessions[id] = session
        return (count, isNew && books.announces)
      }
      if grant.0 > 0 {
        let octets = [UInt8](repeating: UInt8(ascii: "x"), count: grant.0)
        connection.send(isEvents ? Array("\(String(grant.0, radix: 16))\r\n".utf8) + octets + Array("\r\n".utf8) : octets)
        sent += grant.0
        continue
      }
      if isEvents, grant.1 {
        let event = SessionEvent.needTopUp(session: Digest32(hex: id) ?? Digest32(), spent: 0, required: 1).octets
        let octets = Array("\n\n".utf8) + event
        connection.send(Array("\(String(octets.count, radix: 16))\r\n".utf8) + octets + Array("\r\n".utf8))
      }
      waited += 1
      guard waited < 600 else { return false }
      usleep(5000)
    }
    guard isEvents else { return true }
    let final = books.withLock { $0.sessions[id] } ?? Session(deposit: 0)
    let trailer = receipt(credential, reference: id, amount: UInt128(Self.bodyByteCount), session: (id, final))
    connection.send("0\r\nPayment-Receipt: \(String(decoding: trailer.encoded, as: UTF8.self))\r\n\r\n")
    return true
  }

  private func send(_ connection: ScriptedServer.Connection, _ status: Int, _ body: [UInt8], receipt: String? = nil) -> Bool {
    var head = "HTTP/1.1 \(status) OK\r\nContent-Length: \(body.count)\r\n"
    if let receipt { head += "Payment-Receipt: \(receipt)\r\n" }
    return connection.send(Array((head + "\r\n").utf8) + body)
  }

  private func problem(
    _ connection: ScriptedServer.Connection, _ problem: PaymentProblem, detail: String? = nil, members: JSONObject? = nil
  ) -> Bool {
    let body = problem.document(origin: origin, detail: detail, members: members)
    let head = "HTTP/1.1 \(problem.status) Problem\r\nContent-Type: application/problem+json\r\nContent-Length: \(body.count)\r\n\r\n"
    return connection.send(Array(head.utf8) + body)
  }

  private func keyDocument() -> [UInt8] {
    let changes = books.withLock { $0.lie == .keysChange }
    let key = changes ? stranger : signer
    let document: JSONObject = ["keys": .array([JWK.publicJSON(key.key.publicKey, kid: key.kid)])]
    return JCS.serialize(.object(document))
  }

  // MARK: - Challenges

  private func refuse(
    _ request: ScriptedServer.Connection.Request, _ connection: ScriptedServer.Connection, _ problem: PaymentProblem
  ) -> Bool {
    guard let challenge = try? challenge(for: request), let invoice = try? invoice(for: challenge, request) else { return false }
    let lie = books.withLock { $0.lie }
    let body = problem.document(origin: origin)
    var head = "HTTP/1.1 402 Payment Required\r\nWWW-Authenticate: \(challenge.fieldValue)\r\n"
    if lie != .noInvoice { head += "Payment-Invoice: \(invoice)\r\n" }
    head += "Content-Type: application/problem+json\r\nContent-Length: \(body.count)\r\n\r\n"
    return connection.send(Array(head.utf8) + (request.method == "HEAD" ? [] : body))
  }

  private func challenge(for request: ScriptedServer.Connection.Request) throws -> Challenge {
    let lie = books.withLock { $0.lie }
    let url = origin + (lie == .resource ? "/other" : request.target)
    let details = PrepaidDetails(
      decimals: lie == .decimalsChange ? 18 : 6, ledger: "test", resource: Resource(method: request.method, url: url))
    let object: JSONObject
    if request.target.hasPrefix("/charge") {
      object = PrepaidCharge(amount: Self.price, currency: "usdc", recipient: "acme", details: details).object
    } else {
      guard let rate = Rate(amount: 1, unitSize: 1, unit: .responseByte) else { throw PrepaidError.malformed }
      object = PrepaidSession(
        rates: [rate], currency: "usdc", recipient: "acme", suggestedDeposit: 60, minimumDeposit: 10, idleTimeout: 60,
        details: details
      ).object
    }
    return try Challenge(
      realm: lie == .realm ? "example.com" : "127.0.0.1", method: "prepaid",
      intent: request.target.hasPrefix("/charge") ? "charge" : "session", request: object,
      expires: .now() + .seconds(lie == .expired ? -5 : 300), opaque: ["n": .string(Base64URL.encode(Random.bytes(16)))],
      secrets: secrets)
  }

  private func invoice(for challenge: Challenge, _ request: ScriptedServer.Connection.Request) throws -> String {
    let lie = books.withLock { $0.lie }
    let object = try challenge.requestObject()
    let amount = object["amount"]?.stringValue.flatMap { UInt128($0) } ?? 0
    let invoice = Invoice(
      issuer: lie == .issuer ? "https://example.com" : origin, issuedAt: .now(), expires: .now() + .seconds(300),
      resource: Resource(method: request.method, url: origin + request.target),
      offers: [
        Invoice.Offer(
          id: lie == .otherInvoice ? "another" : challenge.id, method: challenge.method, intent: challenge.intent, amount: amount,
          currency: "usdc", recipient: "acme", request: SHA256.hash(challenge.request))
      ])
    return String(decoding: invoice.signed(by: lie == .foreignInvoice ? stranger : signer), as: UTF8.self)
  }
}
