import Bytes
import Configuration
import Dispatch
import Crypto
import Encoding
import HTTP
import Metering
import Methods
import Payments
import Synchronization
import Testing

@testable import Ledger
@testable import Proxy

@Suite struct CashierChargeTests {
  @Test func anUnpaidRequestIsToldThePriceAndChangesNothing() throws {
    let shop = try Shop()
    let before = shop.ledger.applied
    let answer = try shop.answer("/weather/bern?day=1")
    #expect(answer.status == 402)
    #expect(answer.problem == "payment-required")
    #expect(answer.challenges.map(\.intent) == ["charge", "session"])
    #expect(lines(answer.fieldText, "Cache-Control") == ["no-store"])
    let jws = try #require(lines(answer.fieldText, "Payment-Invoice").first)
    let invoice = try Invoice.verify(jws, issuer: "https://api.example.com", at: shop.now) { _ in shop.keys.signer.key.publicKey }
    #expect(answer.json["invoice"]?.stringValue == jws)
    for challenge in answer.challenges {
      try invoice.check(challenge)
      #expect(challenge.realm == "api.example.com")
    }
    let charge = try PrepaidCharge(parsing: try answer.challenges[0].requestObject())
    #expect(charge.amount == 2000)
    #expect(charge.recipient == "acme")
    #expect(charge.details.resource == Resource(method: "GET", url: "https://api.example.com/weather/bern?day=1"))
    let session = try PrepaidSession(parsing: try answer.challenges[1].requestObject())
    #expect(session.minimumDeposit >= 2000)
    #expect(session.suggestedDeposit >= session.minimumDeposit)
    #expect(shop.ledger.applied == before)
  }

  @Test func noTwoChallengesAreTheSame() throws {
    let shop = try Shop()
    let ids = try (0..<20).flatMap { _ in try shop.answer("/weather").challenges.map(\.id) }
    #expect(Set(ids).count == 40)
  }

  @Test func aMeteredRouteIsSoldBySessionOnly() throws {
    let shop = try Shop()
    #expect(try shop.answer("/bytes/file").challenges.map(\.intent) == ["session"])
  }

  @Test func aChargeIsHeldThenSettledThenReceipted() throws {
    let shop = try Shop()
    let start = shop.funds
    let fields = try shop.chargeFields("/weather/bern")
    var exchange = try shop.pay("/weather/bern", fields)
    #expect(shop.funds == start - 2000)
    #expect(shop.earned() == 0)
    #expect(exchange.forwardAfter > 0)
    #expect(exchange.forwardAfter == exchange.replyAfter)
    var response = ByteBuffer()
    let gate = shop.cashier.answered(
      &exchange, status: 200, isEventStream: false, contentLength: 3, fields: &response, at: shop.now)
    guard case .reply(let after) = gate else { throw ShopError.unexpectedVerdict }
    #expect(after > exchange.forwardAfter)
    #expect(shop.earned() == 2000)
    let receipt = try shop.receipt(in: response.string())
    #expect(receipt.amount == 2000)
    #expect(receipt.intent == "charge")
    #expect(receipt.resource == Resource(method: "GET", url: "https://api.example.com/weather/bern"))
    #expect(receipt.session == nil)
    #expect(lines(response.string(), "Cache-Control") == ["private"])
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    shop.settleBooks()

    // The same credential again, however it is spelled: 403 with the reference, and no challenge.
    for value in [fields[0].1, fields[0].1.replacing("Payment ", with: "pAYMENT   ")] {
      let replay = try shop.answer("/weather/bern", [("Authorization", value)])
      #expect(replay.status == 403)
      #expect(replay.json["reference"]?.stringValue == receipt.reference)
      #expect(replay.challenges.isEmpty)
    }
    #expect(shop.funds == start - 2000)
  }

  @Test(arguments: [UInt16(301), 404, 500, 402])
  func aStatusThatCostsNothingGivesTheMoneyBack(status: UInt16) throws {
    let shop = try Shop()
    let start = shop.funds
    let fields = try shop.chargeFields("/weather")
    var exchange = try shop.pay("/weather", fields)
    let (response, _) = try shop.finish(&exchange, status: status)
    #expect(lines(response, "Payment-Receipt").isEmpty)
    #expect(shop.funds == start)
    // The claim is free again until the challenge expires.
    var again = try shop.pay("/weather", fields)
    try shop.finish(&again)
    #expect(shop.funds == start - 2000)
    shop.settleBooks()
  }

  @Test func aCredentialInFlightIsAConflict() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    var exchange = try shop.pay("/weather", fields)
    let other = try shop.answer("/weather", fields)
    #expect(other.status == 409)
    #expect(other.challenges.isEmpty)
    try shop.finish(&exchange)
  }

  @Test(arguments: [
    (ExchangeEnd.upstreamFailed(beforeHead: true), false), (.clientLeft(requestForwarded: false, headSeen: false, safe: false), false),
    (.clientLeft(requestForwarded: true, headSeen: false, safe: true), false),
    (.clientLeft(requestForwarded: true, headSeen: false, safe: false), true), (.abandoned(safe: true), false),
    (.abandoned(safe: false), true),
  ])
  func whatAnEndWithoutAHeadCosts(end: ExchangeEnd, costs: Bool) throws {
    let shop = try Shop()
    let start = shop.funds
    var exchange = try shop.pay("/weather", method: "POST", try shop.chargeFields("/weather", method: "POST"))
    _ = shop.cashier.finish(&exchange, end, at: shop.now)
    #expect(shop.funds == (costs ? start - 2000 : start))
    shop.settleBooks()
  }

  // MARK: alterations

  /// Every member of the challenge altered, with everything signed anew by the wallet: the HMAC still sees it.
  @Test(arguments: ["id", "realm", "method", "intent", "request", "expires", "opaque", "digest", "header"])
  func everyAlterationOfTheChallengeIsSeen(member: String) throws {
    let shop = try Shop()
    let start = shop.funds
    let before = shop.ledger.applied
    let challenge = try shop.challenge("/weather", "charge")
    var echo = challenge.echo
    switch member {
    case "expires": echo.set(member, "2999-01-01T00:00:00Z")
    case "request":
      var request = try challenge.requestObject()
      request.set("amount", "1")
      echo.set(member, .string(Base64URL.encode(JCS.serialize(request))))
    case "opaque":
      let octets = try #require(challenge.opaque.flatMap { Base64URL.decode($0) })
      var opaque = try #require(try JSON.parse(octets).objectValue)
      opaque.set("target", "/dear")
      echo.set(member, .string(Base64URL.encode(JCS.serialize(opaque))))
    case "id": echo.set(member, .string(String(challenge.id.reversed())))
    case "intent": echo.set(member, "session")
    case "header": echo.set(member, "Payment-Authorization")
    case "digest": echo.set(member, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
    default: echo.set(member, .string((echo[member]?.stringValue ?? "") + "x"))
    }
    let unsigned: JSONObject = [
      "challenge": .object(echo), "source": .string(DIDKey.encode(shop.wallet.publicKey)),
      "payload": ["type": "transfer", "wallet": .string(DIDKey.encode(shop.wallet.publicKey))],
    ]
    let answer = try shop.answer("/weather", authorization(PrepaidSignature.sign(unsigned, key: shop.wallet)))
    #expect(answer.status == (member == "method" ? 400 : 402))
    #expect(answer.problem == (member == "method" ? "method-unsupported" : "invalid-challenge") || member == "id")
    #expect(answer.status == 400 || !answer.challenges.isEmpty)
    #expect(shop.funds == start)
    #expect(shop.ledger.applied == before)
  }

  @Test(arguments: [
    ("/dear", "GET"), ("/weather/other", "GET"), ("/weather?x=1", "GET"), ("/weather", "POST"), ("/weather", "HEAD"), ("/other", "GET"),
    ("/weather?", "GET"),
  ])
  func aCredentialPaysForItsOwnRequestOnly(target: String, method: String) throws {
    let shop = try Shop()
    let start = shop.funds
    let answer = try shop.answer(target, method: method, try shop.chargeFields("/weather"))
    #expect(answer.status == 402)
    #expect(answer.problem == "invalid-challenge")
    #expect(shop.funds == start)
  }

  @Test func aChallengeOfAnotherServerIsUnknown() throws {
    let shop = try Shop()
    let stranger = try Shop()
    let challenge = try stranger.challenge("/weather", "charge")
    let answer = try shop.answer("/weather", authorization(PrepaidCredential.transfer(challenge, wallet: shop.wallet)))
    #expect(answer.status == 402)
    #expect(answer.problem == "invalid-challenge")
  }

  @Test func aRotatedSecretStillVerifies() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    try shop.keys.rotate(.challenge, at: shop.now)
    var exchange = try shop.pay("/weather", fields)
    try shop.finish(&exchange)
    #expect(shop.earned() == 2000)
  }

  @Test func anExpiredChallengeIsRefusedAndAFutureOneStillHolds() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    shop.now = shop.now + .seconds(301)
    let answer = try shop.answer("/weather", fields)
    #expect(answer.status == 402)
    #expect(answer.problem == "payment-expired")
    #expect(!answer.challenges.isEmpty)
    #expect(shop.earned() == 0)
  }

  @Test func aChargePaysItsQuotedAmountAfterThePriceChanged() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    var settings = shop.settings
    settings.routes[0].offer = .priced(try Price(parsing: "0.005 USDC per request", currencies: [cashierCurrency]))
    shop.cashier = try Cashier(settings: settings, ledger: shop.ledger, keys: shop.keys)
    var exchange = try shop.pay("/weather", fields)
    try shop.finish(&exchange)
    #expect(shop.earned() == 2000)
  }

  @Test func anyOtherSignatureIsRefusedWithoutALine() throws {
    let shop = try Shop()
    let before = shop.ledger.applied
    let challenge = try shop.challenge("/weather", "charge")
    var credential = PrepaidCredential.transfer(challenge, wallet: shop.wallet)
    credential.set("note", "added after signing")
    let altered = try shop.answer("/weather", authorization(credential))
    #expect(altered.status == 402)
    #expect(altered.problem == "verification-failed")
    var payload = try #require(PrepaidCredential.transfer(challenge, wallet: .generate())["payload"]?.objectValue)
    payload.set("wallet", .string(DIDKey.encode(shop.wallet.publicKey)))
    let stolen: JSONObject = ["challenge": .object(challenge.echo), "payload": .object(payload)]
    #expect(try shop.answer("/weather", authorization(stolen)).problem == "verification-failed")
    #expect(shop.ledger.applied == before)
    #expect(shop.earned() == 0)
  }

  @Test func everyBitOfTheCredentialCounts() throws {
    let shop = try Shop()
    let value = try shop.chargeFields("/weather")[0].1
    let octets = Array(value.utf8)
    for index in stride(from: 8, to: octets.count, by: 7) {
      var altered = octets
      altered[index] = altered[index] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      guard case .answer(let answer) = try shop.send("/weather", [("Authorization", String(decoding: altered, as: UTF8.self))]) else {
        Issue.record("octet \(index) may be altered")
        continue
      }
      #expect([400, 402].contains(answer.status))
    }
    #expect(shop.earned() == 0)
  }

  // MARK: several, and garbage

  @Test func severalCredentialsAreRefused() throws {
    let shop = try Shop()
    let one = try shop.chargeFields("/weather")[0].1
    let two = try shop.chargeFields("/weather")[0].1
    let secret = SessionSecret.generate()
    let several: [[(String, String)]] = [
      [("Authorization", one), ("Authorization", two)],
      [("Authorization", "\(one), \(two)")],
      [("Authorization", "Bearer abc, \(one)")],
      [("Authorization", one), ("Authorization", "Bearer abc")],
      [("Authorization", one), ("Payment-Authorization", two)],
      [("Authorization", one)] + short(secret),
      short(secret) + short(secret),
      [("Payment-Authorization", one), ("Payment-Authorization", one)],
    ]
    for fields in several {
      let answer = try shop.answer("/weather", fields)
      #expect(answer.status == 400, "\(fields.map(\.0))")
      #expect(answer.challenges.isEmpty)
    }
    #expect(shop.earned() == 0)
  }

  @Test(arguments: [
    "Payment", "Payment ", "Payment !!!", "Payment e30", "Payment eyJhIjoxfQ", "Payment eyJhIjoxLCJhIjoyfQ", "Payment bnVsbA",
    "Payment \(String(repeating: "A", count: 20000))",
  ])
  func garbageIsTheClientsToRepair(value: String) throws {
    let shop = try Shop()
    let answer = try shop.answer("/weather", [("Authorization", value)])
    #expect(answer.status == 402)
    #expect(answer.problem == "malformed-credential")
    #expect(!answer.challenges.isEmpty)
    #expect(lines(answer.fieldText, "Cache-Control") == ["no-store"])
  }

  @Test func anotherSchemeIsNoCredential() throws {
    let shop = try Shop()
    #expect(try shop.answer("/weather", [("Authorization", "Bearer abc")]).problem == "payment-required")
    #expect(try shop.answer("/weather", [("Payment-Authorization", "Bearer abc")]).problem == "malformed-credential")
  }

  @Test func aCredentialCountsOnlyInTheFieldThatItsChallengeSelected() throws {
    let shop = try Shop()
    let challenge = try shop.challenge("/alternate", "charge")
    #expect(challenge.selectsAlternateField)
    let credential = PrepaidCredential.transfer(challenge, wallet: shop.wallet)
    #expect(try shop.answer("/alternate", authorization(credential)).problem == "invalid-challenge")
    var exchange = try shop.pay(
      "/alternate", authorization(credential, field: "Payment-Authorization") + [("Authorization", "Bearer upstream")])
    try shop.finish(&exchange)
    #expect(shop.earned() == 1000)
    let plain = PrepaidCredential.transfer(try shop.challenge("/weather", "charge"), wallet: shop.wallet)
    #expect(try shop.answer("/weather", authorization(plain, field: "Payment-Authorization")).problem == "invalid-challenge")
  }

  @Test func theBodyIsBoundWhereTheRouteAsks() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/upload", method: "POST", body: "one")
    let other = try shop.answer("/upload", method: "POST", fields, body: "two")
    #expect(other.problem == "invalid-challenge")
    #expect(try shop.answer("/upload", method: "POST", fields).problem == "invalid-challenge")
    guard case .collectBody(let limit) = try shop.send("/upload", method: "POST", fields, body: "one", streaming: true) else {
      throw ShopError.unexpectedVerdict
    }
    #expect(limit == 1000)
    var exchange = try shop.pay("/upload", method: "POST", fields, body: "one")
    try shop.finish(&exchange)
    #expect(shop.earned() == 1000)
    // A challenge of a probe without a body does not pay for one with a body.
    let probe = try shop.chargeFields("/upload", method: "POST")
    #expect(try shop.answer("/upload", method: "POST", probe, body: "one").problem == "invalid-challenge")
  }

  // MARK: refusals of the ledger

  @Test func tooLittleMoneyIsInsufficient() throws {
    let shop = try Shop(funds: 1999)
    let answer = try shop.answer("/weather", try shop.chargeFields("/weather"))
    #expect(answer.status == 402)
    #expect(answer.problem == "payment-insufficient")
    #expect(shop.funds == 1999)
    let unknown = try Shop(funds: nil)
    let before = unknown.ledger.applied
    #expect(try unknown.answer("/weather", try unknown.chargeFields("/weather")).problem == "payment-insufficient")
    #expect(unknown.ledger.applied == before)
  }

  @Test(arguments: [
    (Policy(caps: ["usdc": Policy.Caps(daily: 1999)]), "daily-cap"), (Policy(caps: ["usdc": Policy.Caps(payment: 1)]), "payment-cap"),
    (Policy(allowed: ["other"]), "allow"), (Policy(expires: Timestamp(microseconds: 1)), "expires"),
  ])
  func aPolicyRefusalNamesTheLimitAndInvitesToNothing(policy: Policy, limit: String) throws {
    let shop = try Shop(policy: policy)
    let answer = try shop.answer("/weather", try shop.chargeFields("/weather"))
    #expect(answer.status == 403)
    #expect(answer.problem == "policy-denied")
    #expect(answer.json["type"]?.stringValue == "https://api.example.com/problems/policy-denied")
    #expect(answer.json["detail"]?.stringValue?.contains(limit) == true)
    #expect(answer.challenges.isEmpty)
    #expect(shop.earned() == 0)
  }

  @Test func aFrozenWalletPaysNothing() throws {
    let shop = try Shop()
    _ = try shop.ledger.freeze(shop.wallet.publicKey.octets, at: shop.now)
    let answer = try shop.answer("/weather", try shop.chargeFields("/weather"))
    #expect(answer.status == 403)
    #expect(answer.json["detail"]?.stringValue?.contains("frozen") == true)
  }

  // MARK: races and floods

  @Test func ofSixtyFourConcurrentUsesExactlyOneIsServed() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    let served = Atomic<Int>(0)
    let refused = Atomic<Int>(0)
    let (settings, ledger, keys, now, tick) = (shop.settings, shop.ledger, shop.keys, shop.now, shop.tick)
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      guard var cashier = try? Cashier(settings: settings, ledger: ledger, keys: keys) else { return }
      for _ in 0..<8 {
        switch try? Shop.send(&cashier, settings, "/weather", fields, at: now, tick: tick) {
        case .paid(var exchange):
          served.add(1, ordering: .relaxed)
          var response = ByteBuffer()
          _ = cashier.answered(&exchange, status: 200, isEventStream: false, contentLength: 0, fields: &response, at: now)
          _ = cashier.finish(&exchange, .complete, at: now)
        case .answer(let answer) where answer.status == 403 || answer.status == 409: refused.add(1, ordering: .relaxed)
        default: break
        }
      }
    }
    #expect(served.load(ordering: .relaxed) == 1)
    #expect(refused.load(ordering: .relaxed) == 63)
    #expect(shop.earned() == 2000)
    shop.settleBooks()
  }

  @Test func floodsAreToldToWait() throws {
    var settings = try shopSettings()
    settings.rates.challengesPerSecond = 1
    settings.rates.challengeBurst = 3
    settings.rates.failuresPerSecond = 1
    settings.rates.failureBurst = 2
    let shop = try Shop(settings)
    let statuses = try (0..<5).map { _ in try shop.answer("/weather").status }
    #expect(statuses == [402, 402, 402, 429, 429])
    let bad = [("Authorization", "Payment e30")]
    let client = ClientAddress(ipv4: 0x0A00_0001)
    var later: [UInt16] = []
    for _ in 0..<4 {
      guard case .answer(let answer) = try shop.send("/weather", bad, client: client) else { continue }
      later.append(answer.status)
      if answer.status == 429 { #expect(lines(answer.fieldText, "Retry-After").count == 1) }
    }
    #expect(later == [402, 402, 429, 429])
    // Another client is not held back, and time gives back.
    guard case .answer(let other) = try shop.send("/weather", client: ClientAddress(ipv4: 0x0A00_0002)) else { return }
    #expect(other.status == 402)
    shop.tick = shop.tick + .seconds(10)
    #expect(try shop.answer("/weather").status == 402)
  }

  @Test func withoutALedgerNothingIsSold() throws {
    let shop = try Shop()
    shop.cashier = try Cashier(settings: shop.settings, ledger: nil, keys: shop.keys)
    for fields in [[], [("Authorization", "Payment e30")], short(.generate())] {
      let answer = try shop.answer("/weather", fields)
      #expect(answer.status == 503)
      #expect(lines(answer.fieldText, "Retry-After").count == 1)
      #expect(answer.challenges.isEmpty)
    }
    guard case .free = try shop.send("/free/x") else { throw ShopError.unexpectedVerdict }
  }

  @Test func aClosedLedgerSellsNothing() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    shop.ledger.close()
    #expect(try shop.answer("/weather", fields).status == 503)
    #expect(try shop.answer("/weather").status == 503)
  }

  /// With the disk nearly full a challenge would invite to a payment that is refused; what is open can still be managed.
  @Test func aLedgerThatOnlyClosesIssuesNoChallenge() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 100_000)
    let status = authorization(PrepaidCredential.status(challenge, secret: secret))
    shop.ledger.setAvailability(.closingOnly)
    let answer = try shop.answer("/weather", [("Authorization", "Payment e30")])
    #expect(answer.status == 503)
    #expect(answer.challenges.isEmpty)
    #expect(try shop.answer("/weather", status).status == 200)
  }

  // MARK: free methods and preflights

  @Test func onlyListedMethodsAreFree() throws {
    let shop = try Shop()
    guard case .free = try shop.send("/weather", method: "OPTIONS") else { throw ShopError.unexpectedVerdict }
    for method in ["HEAD", "POST", "PUT", "DELETE", "PATCH", "QUERY", "BREW"] {
      #expect(try shop.answer("/weather", method: method).status == 402, "\(method)")
    }
    #expect(try shop.answer("/dear", method: "OPTIONS").status == 402)
  }

  @Test func contentIsCollectedOnlyWhileTheClientsRateAllowsIt() throws {
    var settings = try shopSettings()
    settings.rates.challengesPerSecond = 1
    settings.rates.challengeBurst = 2
    let shop = try Shop(settings)
    for _ in 0..<2 {
      guard case .collectBody(let limit) = try shop.send("/upload", method: "POST", body: "x", streaming: true) else {
        throw ShopError.unexpectedVerdict
      }
      #expect(limit == 1000)
    }
    // Both are answered, for they have been counted; the content of a third request is not begun with.
    #expect(try shop.answer("/upload", method: "POST", body: "x").status == 402)
    #expect(try shop.answer("/upload", method: "POST", body: "x").status == 402)
    guard case .answer(let answer) = try shop.send("/upload", method: "POST", body: "x", streaming: true) else {
      throw ShopError.unexpectedVerdict
    }
    #expect(answer.status == 429)
    #expect(lines(answer.fieldText, "Retry-After") == ["1"])
  }

  @Test func aPreflightIsFree() throws {
    var settings = try shopSettings()
    settings.cors.origins = ["https://app.example"]
    settings.cors.exposedFields = ["X-Total-Count", "ETag"]
    let shop = try Shop(settings)
    let asks = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")]
    let answer = try shop.answer("/dear", method: "OPTIONS", asks)
    #expect(answer.status == 204)
    #expect(lines(answer.fieldText, "Access-Control-Allow-Origin") == ["https://app.example"])
    // Pages may read the challenge, and the paid response's receipt.
    let unpaid = try shop.answer("/weather", [asks[0]])
    let exposed = lines(unpaid.fieldText, "Access-Control-Expose-Headers").first ?? ""
    #expect(exposed.contains("WWW-Authenticate") && exposed.contains("Retry-After") && exposed.hasSuffix(", X-Total-Count, ETag"), "\(exposed)")
    var exchange = try shop.pay("/weather", try shop.chargeFields("/weather") + [asks[0]])
    let (fields, _) = try shop.finish(&exchange)
    #expect(lines(fields, "Access-Control-Expose-Headers").first?.contains("Payment-Receipt") == true)
  }
}
