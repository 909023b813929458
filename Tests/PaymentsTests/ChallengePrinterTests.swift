import Bytes
import Crypto
import Encoding
import Testing

@testable import Payments

@Suite struct ChallengePrinterTests {
  static let issuer = "https://api.example.com"

  static func offers() throws -> [Offer] {
    [
      Offer(
        method: "prepaid", intent: "charge", amount: 2_000, currency: "usdc", recipient: "acme", description: #"A "quote""#,
        request: try object(#"{"amount":"2000","currency":"usdc","recipient":"acme","description":"é \u0001","methodDetails":{"ledger":"l","decimals":6}}"#)),
      Offer(
        method: "prepaid", intent: "session", amount: 10_000, currency: "usdc", recipient: "acme",
        request: try object(#"{"amount":"10000","currency":"usdc","recipient":"acme","unitType":"byte","methodDetails":{"unitSize":"1000000","ledger":"l","decimals":6}}"#)),
    ]
  }

  static func printer(alternate: Bool = false) throws -> ChallengePrinter {
    try ChallengePrinter(
      route: "quotes", realm: "api.example.com", issuer: issuer, priceVersion: "0123456789abcdef", selectsAlternateField: alternate,
      offers: offers())
  }

  struct Printed {
    let fields: [(name: String, value: String)]
    let body: JSONObject
    let challenges: [Challenge]
    var invoice: String { fields.first { $0.name == "Payment-Invoice" }?.value ?? "" }
  }

  static func print(
    _ printer: ChallengePrinter, method: String = "GET", path: String = "/quotes/today", query: String? = "unit=eur",
    change: (inout ChallengeOccasion) -> Void = { _ in }
  ) throws -> Printed {
    var fields = ByteBuffer()
    var body = ByteBuffer()
    var scratch = ChallengeScratch()
    try octets(method, issuer, path, query) { method, origin, path, query in
      var occasion = ChallengeOccasion(method: method, origin: origin, path: path, query: query, now: noon, nonce: (1, 2))
      change(&occasion)
      try printer.print(occasion, secrets: secrets(), signer: signer(), scratch: &scratch, fields: &fields, body: &body)
    }
    let text = fields.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    #expect(text.hasSuffix("\r\n"))
    let lines = text.split(separator: "\r\n").map { line in
      let parts = line.split(separator: ":", maxSplits: 1)
      return (name: String(parts[0]), value: String(parts[1].dropFirst()))
    }
    return Printed(
      fields: lines, body: try #require(JSON.parse(body.withUnsafeBytes { Array($0) }).objectValue),
      challenges: ChallengeList.parse(lines.filter { $0.name == "WWW-Authenticate" }.map(\.value)))
  }

  private func opaque(_ challenge: Challenge) throws -> JSONObject {
    try EncodedObject.decode(try #require(challenge.opaque), limit: Challenge.requestLimit)
  }

  @Test func printsWhatAChallengeOfItsOwnWouldBe() throws {
    for alternate in [false, true] {
      let printed = try Self.print(try Self.printer(alternate: alternate))
      #expect(printed.challenges.map(\.intent) == ["charge", "session"])
      for (challenge, offer) in zip(printed.challenges, try Self.offers()) {
        var request = offer.request
        var details = try #require(request["methodDetails"]?.objectValue)
        details.set("resource", ["method": "GET", "url": "https://api.example.com/quotes/today?unit=eur"])
        request.set("methodDetails", .object(details))
        let expected = try Challenge(
          realm: "api.example.com", method: "prepaid", intent: offer.intent, request: request, expires: noon + .seconds(300),
          opaque: [
            "method": "GET", "n": "AQAAAAAAAAACAAAAAAAAAA", "price": "0123456789abcdef", "route": "quotes",
            "target": "/quotes/today?unit=eur",
          ], selectsAlternateField: alternate, description: offer.description, secrets: secrets())
        #expect(challenge == expected)
      }
    }
  }

  @Test func schemeComesFirstAndNothingIsCached() throws {
    let printed = try Self.print(try Self.printer())
    #expect(printed.fields.map(\.name) == ["WWW-Authenticate", "WWW-Authenticate", "Payment-Invoice", "Cache-Control", "Content-Type"])
    #expect(printed.fields[0].value.hasPrefix("Payment id=\""))
    #expect(printed.fields[3].value == "no-store")
    #expect(printed.fields[4].value == "application/problem+json")
  }

  @Test func documentNamesChallengeAndInvoice() throws {
    let printed = try Self.print(try Self.printer()) {
      $0.problem = .sessionInsufficientBalance
      $0.detail = "Needs \"more\"."
      $0.members = ["required": "12"]
    }
    #expect(printed.body["type"] == "https://paymentauth.org/problems/session/insufficient-balance")
    #expect(printed.body["status"]?.intValue == 402)
    #expect(printed.body["detail"] == "Needs \"more\".")
    #expect(printed.body["challengeId"]?.stringValue == printed.challenges[0].id)
    #expect(printed.body["invoice"]?.stringValue == printed.invoice)
    #expect(printed.body["required"] == "12")
  }

  @Test func invoiceListsEveryChallenge() throws {
    let signer = try signer()
    let printed = try Self.print(try Self.printer())
    let invoice = try Invoice.verify(printed.invoice, issuer: Self.issuer, at: noon) { $0 == signer.kid ? signer.key.publicKey : nil }
    #expect(invoice.offers.count == 2)
    #expect(invoice.resource == Resource(method: "GET", url: "https://api.example.com/quotes/today?unit=eur"))
    #expect(invoice.issuedAt == noon)
    #expect(invoice.expires == noon + .seconds(300))
    for challenge in printed.challenges { #expect(throws: Never.self) { try invoice.check(challenge) } }
    // The same claims, serialised as an object, make the same document.
    #expect(String(decoding: invoice.signed(by: signer), as: UTF8.self) == printed.invoice)
  }

  @Test func digestIsBoundAndShown() throws {
    let digest = SHA256.hash("body")
    let printed = try Self.print(try Self.printer(), method: "POST") { $0.digest = digest }
    for challenge in printed.challenges {
      #expect(challenge.digest == ContentDigest.text(digest))
      let resource = try challenge.requestObject()["methodDetails"]?["resource"]
      #expect(try Resource(resource).digest == ContentDigest.text(digest))
    }
  }

  @Test func orderIsTheClients() throws {
    let printer = try Self.printer()
    let preferences = try #require(Array("prepaid/session, prepaid/charge;q=0.5".utf8).withUnsafeBytes { AcceptPayment($0) })
    #expect(try Self.print(printer) { $0.order = printer.order(preferences) }.challenges.map(\.intent) == ["session", "charge"])
    let only = try #require(Array("prepaid/session".utf8).withUnsafeBytes { AcceptPayment($0) })
    let printed = try Self.print(printer) { $0.order = printer.order(only) }
    #expect(printed.challenges.map(\.intent) == ["session"])
    #expect(printed.body["challengeId"]?.stringValue == printed.challenges[0].id)
  }

  @Test func noOrderStillOffersEverything() throws {
    #expect(try Self.print(try Self.printer()) { $0.order = [] }.challenges.count == 2)
  }

  @Test func credentialsForItVerify() throws {
    for challenge in try Self.print(try Self.printer()).challenges {
      let value = Credential.fieldValue(["challenge": .object(challenge.echo), "payload": [:]])
      let credential = try parse(value)
      #expect(credential.isAuthentic(try secrets()))
      let binding = try RouteBinding(credential.opaque)
      #expect(binding.route == "quotes")
      #expect(binding.priceVersion == "0123456789abcdef")
      octets("GET", "", "/quotes/today", "unit=eur") { method, _, path, query in
        #expect(binding.names(method: method, path: path, query: query))
        #expect(!binding.names(method: method, path: path, query: nil))
      }
      for (method, path, query) in [("POST", "/quotes/today", "unit=eur"), ("GET", "/quotes/toda", "y?unit=eur"), ("GET", "/quotes/today", "unit=usd"), ("GET", "/quotes/today?unit=eur", nil)] as [(String, String, String?)] {
        octets(method, "", path, query) { method, _, path, query in
          // The last has the same octets; canonical paths hold no question mark.
          if query != nil { #expect(!binding.names(method: method, path: path, query: query)) }
        }
      }
    }
  }

  @Test func longTargetsAreBoundByTheirHash() throws {
    let long = "/" + String(repeating: "a", count: RouteBinding.targetLimit)
    for query in [nil, "", "x=1"] as [String?] {
      let printed = try Self.print(try Self.printer(), path: long, query: query)
      let opaque = try opaque(printed.challenges[0])
      #expect(opaque["target"] == nil)
      let binding = try RouteBinding(opaque)
      octets("GET", "", long, query) { method, _, path, query in #expect(binding.names(method: method, path: path, query: query)) }
      octets("GET", "", long, "x=2") { method, _, path, query in #expect(!binding.names(method: method, path: path, query: query)) }
    }
    // One octet less stands in clear.
    let short = String(long.dropLast())
    #expect(try opaque(Self.print(Self.printer(), path: short, query: nil).challenges[0])["target"]?.stringValue == short)
  }

  @Test func oddTargetsStayJSON() throws {
    let printed = try Self.print(try Self.printer(), path: "/a\"b\\c", query: "")
    #expect(try opaque(printed.challenges[0])["target"] == "/a\"b\\c?")
    #expect(try Resource(printed.challenges[0].requestObject()["methodDetails"]?["resource"]).url == "https://api.example.com/a\"b\\c?")
  }

  @Test func aRequestBeyondTheLimitIsRefused() throws {
    #expect(throws: PaymentError.tooLarge(limit: Challenge.requestLimit)) {
      try Self.print(try Self.printer(), path: "/" + String(repeating: "a", count: 13_000))
    }
    #expect(throws: Never.self) { try Self.print(try Self.printer(), path: "/" + String(repeating: "a", count: 8_000)) }
  }

  @Test func scratchLeavesNothingBehind() throws {
    let printer = try Self.printer()
    var scratch = ChallengeScratch()
    var outputs: [[UInt8]] = []
    for path in ["/one", "/a/longer/one", "/one"] {
      var fields = ByteBuffer()
      var body = ByteBuffer()
      try octets("GET", Self.issuer, path, nil) { method, origin, path, query in
        let occasion = ChallengeOccasion(method: method, origin: origin, path: path, query: query, now: noon, nonce: (1, 2))
        try printer.print(occasion, secrets: secrets(), signer: signer(), scratch: &scratch, fields: &fields, body: &body)
      }
      outputs.append(fields.withUnsafeBytes { Array($0) } + body.withUnsafeBytes { Array($0) })
    }
    #expect(outputs[0] == outputs[2])
    #expect(outputs[0] != outputs[1])
  }

  @Test func constantsAreCheckedOnce() throws {
    let offer = try Self.offers()[0]
    func make(_ offer: Offer?, realm: String = "r") throws {
      _ = try ChallengePrinter(route: "x", realm: realm, issuer: "https://r", priceVersion: "v", offers: offer.map { [$0] } ?? [])
    }
    #expect(throws: PaymentError.missing(.offers)) { try make(nil) }
    #expect(throws: PaymentError.ambiguousBinding(.realm)) { try make(offer, realm: "a|b") }
    #expect(throws: PaymentError.controlCharacter(.realm)) { try make(offer, realm: "a\nb") }
    #expect(throws: PaymentError.malformed(.request)) {
      try make(Offer(method: "m", intent: "charge", amount: 1, currency: "x", recipient: nil, request: JSONObject()))
    }
    #expect(throws: PaymentError.controlCharacter(.description)) {
      try make(Offer(method: "m", intent: "charge", amount: 1, currency: "x", recipient: nil, description: "a\r\nb", request: offer.request))
    }
  }
}
