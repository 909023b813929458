import Bytes
import Configuration
import Crypto
import Encoding
import Foundation
import Glibc
import HTTP
import IO
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// A running proxy with the tests' shop before a scripted upstream, a real ledger, and a client's wallet.
final class PaidRelay: @unchecked Sendable {
  // Safe because: everything in it is immutable or safe to share.
  let folder: CashierFolder
  let ledger: Ledger
  let server: Server
  let port: UInt16
  private let carrier = Carrier.current
  private let translator: Translator
  let wallet = Ed25519.SigningKey.generate()

  init(upstreamPort: UInt16, funds: UInt128 = 1_000_000_000, gate: CommitGate? = nil, challengeReport: Duration? = nil, _ configure: (inout Settings) -> Void = { _ in }) throws {
    translator = try Translator(to: upstreamPort)
    var settings = try shopSettings()
    settings.listeners = [.init(.address("127.0.0.1", port: 0))]
    settings.workers = 1
    settings.upstreams = [Settings.Upstream(name: "up", endpoint: .host("127.0.0.1", port: translator.port))]
    configure(&settings)
    let folder = try CashierFolder()
    let keys = try KeyRing.open("\(folder.path)/keys", at: .now())
    let options = LedgerOptions(
      directory: "\(folder.path)/ledger", currencies: settings.currencies, realm: settings.realm, checkpointKey: keys.checkpointKey)
    ledger = try gate.map { try Ledger.open(options, gate: $0) } ?? Ledger.open(options, at: .now())
    self.folder = folder
    _ = try ledger.createWallet(wallet.publicKey.octets, at: .now())
    _ = try ledger.fund(wallet.publicKey.octets, currency: "usdc", amount: funds, reference: "start", at: .now())
    var plan = try RelayPlan(settings)
    try Translator.configure(&plan)
    plan.listeners[0].tls = try carrier.context().map(Renewable.init)
    if let challengeReport { plan.timeouts.challengeReport = challengeReport.nanoseconds }
    server = Server(settings: settings, plan: plan, ledger: ledger, keys: keys)
    try server.start()
    port = try #require(server.ports.first)
  }

  deinit {
    server.stop()
    server.join()
    ledger.close()
  }

  func connect() throws -> Wire { try carrier.connect(port) }

  static func request(
    _ target: String, method: String = "GET", _ fields: [(String, String)] = [], body: String? = nil
  ) -> String {
    var text = "\(method) \(target) HTTP/1.1\r\nHost: api.example.com\r\n"
    for (name, value) in fields { text += "\(name): \(value)\r\n" }
    if let body { text += "Content-Length: \(body.utf8.count)\r\n" }
    return text + "\r\n" + (body ?? "")
  }

  /// One request on a connection of its own.
  func send(
    _ target: String, method: String = "GET", _ fields: [(String, String)] = [], body: String? = nil
  ) throws -> Wire.Response {
    try connect().request(Self.request(target, method: method, fields, body: body))
  }

  func challenge(_ target: String, _ intent: String, method: String = "GET", body: String? = nil) throws -> Challenge {
    let response = try send(target, method: method, body: body)
    #expect(response.status == 402)
    return try #require(ChallengeList.parse(lines(response.head, "WWW-Authenticate")).first { $0.intent == intent })
  }

  func chargeFields(_ target: String, method: String = "GET", body: String? = nil) throws -> [(String, String)] {
    authorization(PrepaidCredential.transfer(try challenge(target, "charge", method: method, body: body), wallet: wallet))
  }

  /// Opens a session whose first request is served whole.
  func openSession(_ target: String, deposit: UInt128) throws -> SessionSecret {
    let secret = SessionSecret.generate()
    let credential = PrepaidCredential.open(try challenge(target, "session"), deposit: deposit, secret: secret, wallet: wallet)
    let response = try send(target, authorization(credential))
    #expect(response.status == 200, "\(response.head)\(response.body.prefix(300))")
    return secret
  }

  func topUp(_ target: String, _ amount: UInt128, _ secret: SessionSecret) throws {
    let credential = PrepaidCredential.topUp(
      try challenge(target, "session"), additionalDeposit: amount, session: secret.id, wallet: wallet)
    let response = try send(target, method: "POST", authorization(credential))
    #expect(response.status == 200)
  }

  var funds: UInt128 { ledger.walletView(wallet.publicKey.octets)?.accounts.first?.balance ?? 0 }

  func view(_ secret: SessionSecret) throws -> SessionView {
    try #require(ledger.session(secret.id).flatMap { ledger.view($0) })
  }

  /// The audit log's lines of one kind.
  func auditLines(_ event: String) -> [JSONValue] {
    let octets = FileManager.default.contents(atPath: "\(folder.path)/ledger/audit.jsonl").map { [UInt8]($0) } ?? []
    return octets.split(separator: 0x0A).compactMap { try? JSON.parse(Array($0)) }.filter { $0["event"]?.stringValue == event }
  }

  /// Waits until a condition holds, for five seconds at most.
  func wait(until isDone: () -> Bool) -> Bool {
    for _ in 0..<250 {
      if isDone() { return true }
      Pause.milliseconds(20)
    }
    return isDone()
  }
}
