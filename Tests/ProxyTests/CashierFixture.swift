import Bytes
import Configuration
import Crypto
import Encoding
import Foundation
import Gateway
import HTTP
import IO
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// A folder that is removed when the last reference to it goes.
final class CashierFolder: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("cashier-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

let cashierCurrency = Currency(code: "usdc", decimals: 6)!

/// The settings of the tests' shop: one realm, two merchants, routes of every kind.
func shopSettings() throws -> Settings {
  var settings = Settings()
  settings.realm = "api.example.com"
  settings.origin = "https://api.example.com"
  settings.ledger.name = "example"
  settings.currencies = [cashierCurrency]
  settings.merchants = [Settings.Merchant(id: "acme"), Settings.Merchant(id: "other")]
  settings.upstreams = [Settings.Upstream(name: "up", endpoint: .host("127.0.0.1", port: 1))]
  settings.rates.challengesPerSecond = 0
  settings.rates.failuresPerSecond = 0
  settings.limits.outcomeBytes = 64
  func route(_ id: String, _ words: String, merchant: String = "acme") throws -> Settings.Route {
    var route = Settings.Route(id: id, path: .prefix("/\(id)"))
    route.offer = .priced(try Price(parsing: words, currencies: [cashierCurrency]))
    route.merchant = merchant
    return route
  }
  var weather = try route("weather", "0.002 USDC per request")
  weather.freeMethods = MethodSet(.options)
  var upload = try route("upload", "0.001 USDC per request")
  upload.digest = true
  upload.digestLimit = 1000
  var alternate = try route("alternate", "0.001 USDC per request")
  alternate.paymentAuthorization = true
  settings.routes = [
    weather, try route("dear", "1 USDC per request"), try route("bytes", "0.01 USDC per MB"),
    try route("both", "0.0001 USDC per request + 0.001 USDC per KB of both"), try route("other", "0.002 USDC per request", merchant: "other"),
    upload, alternate, Settings.Route(id: "free", path: .prefix("/free")),
  ]
  return settings
}

/// A shop with a real ledger in a temporary folder, one worker's cashier, and a client's wallet.
final class Shop {
  let folder: CashierFolder
  let ledger: Ledger
  let keys: KeyRing
  let settings: Settings
  var cashier: Cashier
  let wallet = Ed25519.SigningKey.generate()
  var now = Timestamp.now()
  var tick = Instant.now()

  /// - Parameter funds: base units in the wallet; nil for a wallet that the ledger does not know.
  init(_ settings: Settings? = nil, funds: UInt128? = 1_000_000_000, policy: Policy = .unlimited) throws {
    let settings = try settings ?? shopSettings()
    let folder = try CashierFolder()
    let keys = try KeyRing.open("\(folder.path)/keys", at: .now())
    var options = LedgerOptions(
      directory: "\(folder.path)/ledger", currencies: settings.currencies, realm: settings.realm, checkpointKey: keys.checkpointKey)
    options.commitDelay = .zero
    let ledger = try Ledger.open(options, at: .now())
    self.folder = folder
    self.keys = keys
    self.settings = settings
    self.ledger = ledger
    cashier = try Cashier(settings: settings, ledger: ledger, keys: keys)
    if let funds {
      _ = try ledger.createWallet(wallet.publicKey.octets, policy: policy, at: now)
      _ = try ledger.fund(wallet.publicKey.octets, currency: "usdc", amount: funds, reference: "start", at: now)
    }
  }

  deinit { ledger.close() }

  // MARK: what clients send

  /// What the cashier is asked about a request.
  enum Question {
    case admit
    /// Whether it manages a session; `.free` says yes, 405 no.
    case manages
  }

  /// Sends a request through routing's result into the cashier.
  func send(
    _ target: String, method: String = "GET", _ fields: [(String, String)] = [], body: String? = nil, streaming: Bool = false,
    client: ClientAddress = ClientAddress(ipv4: 0x7F00_0001), asking question: Question = .admit
  ) throws -> Verdict {
    try Self.send(
      &cashier, settings, target, method: method, fields, body: body, streaming: streaming, client: client, asking: question, at: now,
      tick: tick)
  }

  static func send(
    _ cashier: inout Cashier, _ settings: Settings, _ target: String, method: String = "GET", _ fields: [(String, String)] = [],
    body: String? = nil, streaming: Bool = false, client: ClientAddress = ClientAddress(ipv4: 0x7F00_0001),
    asking question: Question = .admit, at now: Timestamp, tick: Instant
  ) throws -> Verdict {
    var text = "\(method) \(target) HTTP/1.1\r\nHost: api.example.com\r\n"
    for (name, value) in fields { text += "\(name): \(value)\r\n" }
    if let body { text += "Content-Length: \(body.utf8.count)\r\n" }
    text += "\r\n"
    let octets = Array(text.utf8)
    let content = Array((body ?? "").utf8)
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map { Array($0.utf8) }
    let route = settings.routes.firstIndex { target.hasPrefix("/\($0.id)") }
    return try octets.withUnsafeBytes { raw in
      var head = RequestHead()
      try #require(try RequestDecoder.decode(raw, limits: .standard, into: &head))
      return withUnsafePointer(to: &head) { pointer in
        content.withUnsafeBytes { content in
          parts[0].withUnsafeBytes { path in
            (parts.count > 1 ? parts[1] : []).withUnsafeBytes { query in
              let request = PaidRequest(
                octets: raw, head: pointer, route: route.map { RouteIndex($0) },
                host: UnsafeRawBufferPointer(rebasing: raw[pointer.pointee.hostRange]), path: path, query: parts.count > 1 ? query : nil,
                content: body == nil ? .none : streaming ? .streaming(length: UInt64(content.count)) : .buffered(content), client: client,
                monotonic: tick)
              if question == .manages {
                return cashier.manages(request) ? .free : .answer(Answer(status: 405, fields: [], body: []))
              }
              return route == nil ? cashier.answerOwn(request, at: now) : cashier.admit(request, at: now)
            }
          }
        }
      }
    }
  }

  /// The answer to a request that is not forwarded.
  func answer(
    _ target: String, method: String = "GET", _ fields: [(String, String)] = [], body: String? = nil, _ location: SourceLocation = #_sourceLocation
  ) throws -> Answer {
    guard case .answer(let answer) = try send(target, method: method, fields, body: body) else {
      throw ShopError.unexpectedVerdict
    }
    return answer
  }

  /// The exchange of a request that is paid.
  func pay(
    _ target: String, method: String = "GET", _ fields: [(String, String)], body: String? = nil
  ) throws -> PaidExchange {
    let verdict = try send(target, method: method, fields, body: body)
    guard case .paid(let exchange) = verdict else {
      if case .answer(let answer) = verdict { Issue.record("\(answer.status) \(String(decoding: answer.body, as: UTF8.self))") }
      throw ShopError.unexpectedVerdict
    }
    return exchange
  }

  /// The challenge of an intent for a request.
  func challenge(_ target: String, _ intent: String, method: String = "GET", body: String? = nil) throws -> Challenge {
    let answer = try answer(target, method: method, body: body)
    #expect(answer.status == 402)
    return try #require(answer.challenges.first { $0.intent == intent })
  }

  /// The field that pays a request by a charge.
  func chargeFields(_ target: String, method: String = "GET", body: String? = nil) throws -> [(String, String)] {
    authorization(PrepaidCredential.transfer(try challenge(target, "charge", method: method, body: body), wallet: wallet))
  }

  /// Opens a session on a route, and ends its first exchange with an empty success.
  func openSession(_ target: String, deposit: UInt128) throws -> (challenge: Challenge, secret: SessionSecret) {
    let challenge = try challenge(target, "session")
    let secret = SessionSecret.generate()
    var exchange = try pay(target, authorization(PrepaidCredential.open(challenge, deposit: deposit, secret: secret, wallet: wallet)))
    _ = try finish(&exchange)
    return (challenge, secret)
  }

  // MARK: what upstreams do

  /// Answers an exchange and ends it; returns the response's fields and the end's parts.
  @discardableResult
  func finish(_ exchange: inout PaidExchange, status: UInt16 = 200, body: String = "") throws -> (fields: String, parts: FinalParts) {
    var fields = ByteBuffer()
    let gate = cashier.answered(
      &exchange, status: status, isEventStream: false, contentLength: UInt64(body.utf8.count), fields: &fields, at: now)
    if case .withhold = gate {
      let content = Array(body.utf8)
      let entry = fields.withUnsafeBytes { head in
        content.withUnsafeBytes { cashier.collected(&exchange, status: status, fields: head, body: $0, at: now) }
      }
      #expect(entry != .max)
    }
    let parts = cashier.finish(&exchange, .complete, at: now)
    return (fields.string(), parts)
  }

  // MARK: the books

  /// Base units in the client's wallet.
  var funds: UInt128 { ledger.walletView(wallet.publicKey.octets)?.accounts.first?.balance ?? 0 }
  /// Base units that a merchant earned.
  func earned(_ merchant: String = "acme") -> Int128 {
    ledger.merchants().first { $0.name == merchant }?.balances.first?.balance ?? 0
  }

  /// Checks that every account adds up to zero, and waits until all of it is on the disk.
  func settleBooks(_ location: SourceLocation = #_sourceLocation) {
    #expect(ledger.awaitDurable(ledger.applied), sourceLocation: location)
    #expect(ledger.verify().isBalanced, sourceLocation: location)
  }

  /// Finds a receipt in field lines and verifies it.
  func receipt(in fields: String) throws -> Receipt {
    let encoded = try #require(lines(fields, "Payment-Receipt").first)
    return try Receipt.verify(encoded) { kid in keys.signer.kid == kid ? keys.signer.key.publicKey : nil }
  }
}

enum ShopError: Error { case unexpectedVerdict }

/// The field that carries a credential.
func authorization(_ credential: JSONObject, field: String = "Authorization") -> [(String, String)] {
  [(field, Credential.fieldValue(credential))]
}

/// The short form of a session.
func short(_ secret: SessionSecret) -> [(String, String)] { [("Prepaid-Session", PrepaidSessionField.print(secret))] }

/// The values of a field in CRLF-terminated lines.
func lines(_ fields: String, _ name: String) -> [String] {
  fields.split(separator: "\r\n").filter { $0.hasPrefix("\(name): ") }.map { String($0.dropFirst(name.utf8.count + 2)) }
}

extension Answer {
  var fieldText: String { String(decoding: fields, as: UTF8.self) }
  var challenges: [Challenge] { ChallengeList.parse(lines(fieldText, "WWW-Authenticate")) }
  var json: JSONObject { (try? JSON.parse(body))?.objectValue ?? JSONObject() }
  /// The last part of the problem's type.
  var problem: String { json["type"]?.stringValue?.split(separator: "/problems/").last.map(String.init) ?? "" }
}
