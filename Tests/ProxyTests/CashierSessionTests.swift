import Bytes
import Configuration
import Crypto
import Dispatch
import Encoding
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Synchronization
import Testing

@testable import Proxy

@Suite struct CashierSessionTests {
  // MARK: open

  @Test func anOpenMovesTheDepositAndServesTheRequest() throws {
    let shop = try Shop()
    let start = shop.funds
    let challenge = try shop.challenge("/weather", "session")
    let secret = SessionSecret.generate()
    let fields = authorization(PrepaidCredential.open(challenge, deposit: 10000, secret: secret, wallet: shop.wallet))
    var exchange = try shop.pay("/weather", fields)
    #expect(shop.funds == start - 10000)
    #expect(exchange.forwardAfter > 0)
    let (response, _) = try shop.finish(&exchange)
    let receipt = try shop.receipt(in: response)
    #expect(receipt.amount == 10000)
    #expect(receipt.reference == secret.id.hex)
    #expect(receipt.session?.spent == 2000)
    #expect(receipt.session?.remaining == 8000)
    #expect(shop.earned() == 2000)

    // The same credential again: a conflict that carries the open receipt, however old it is.
    for seconds in [0, 4000] {
      shop.now = shop.now + .seconds(seconds)
      let again = try shop.answer("/weather", fields)
      #expect(again.status == 409)
      #expect(again.problem == "already-open")
      let stored = try #require(again.json["receipt"]?.stringValue)
      let open = try Receipt.verify(stored) { _ in shop.keys.signer.key.publicKey }
      #expect(open.amount == 10000)
    }
    #expect(shop.funds == start - 10000)
    shop.settleBooks()
  }

  @Test func aSessionIDIsUsedOnce() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.funds
    let other = try shop.challenge("/weather", "session")
    let answer = try shop.answer(
      "/weather", authorization(PrepaidCredential.open(other, deposit: 10000, secret: secret, wallet: shop.wallet)))
    #expect(answer.status == 409)
    #expect(shop.funds == before)
  }

  @Test func aDepositBelowTheMinimumOpensNothing() throws {
    let shop = try Shop()
    let challenge = try shop.challenge("/weather", "session")
    let start = shop.funds
    let fields = authorization(PrepaidCredential.open(challenge, deposit: 1999, secret: .generate(), wallet: shop.wallet))
    let answer = try shop.answer("/weather", fields)
    #expect(answer.status == 402)
    #expect(answer.json["required"]?.stringValue == "2000")
    #expect(shop.funds == start)
  }

  @Test(arguments: ["/dear", "/weather/other", "/weather?x=1", "/other"])
  func anOpenIsBoundToItsRequest(target: String) throws {
    let shop = try Shop()
    let start = shop.funds
    let challenge = try shop.challenge("/weather", "session")
    let fields = authorization(PrepaidCredential.open(challenge, deposit: 5_000_000, secret: .generate(), wallet: shop.wallet))
    let answer = try shop.answer(target, fields)
    #expect(answer.status == 402)
    #expect(answer.problem == "invalid-challenge")
    #expect(shop.funds == start)
  }

  @Test func anOpenAtAnOldPriceIsToldTheNewOne() throws {
    let shop = try Shop()
    let challenge = try shop.challenge("/weather", "session")
    var settings = shop.settings
    settings.routes[0].offer = .priced(try Price(parsing: "0.001 USDC per request", currencies: [cashierCurrency]))
    shop.cashier = try Cashier(settings: settings, ledger: shop.ledger, keys: shop.keys)
    let fields = authorization(PrepaidCredential.open(challenge, deposit: 10000, secret: .generate(), wallet: shop.wallet))
    #expect(try shop.answer("/weather", fields).status == 402)
  }

  @Test func anOpenNeedsAFreshChallengeAndTheWalletsSignature() throws {
    let shop = try Shop()
    let start = shop.funds
    let challenge = try shop.challenge("/weather", "session")
    var credential = PrepaidCredential.open(challenge, deposit: 10000, secret: .generate(), wallet: shop.wallet)
    credential.set("note", "x")
    #expect(try shop.answer("/weather", authorization(credential)).problem == "session/invalid-signature")
    shop.now = shop.now + .seconds(301)
    let late = authorization(PrepaidCredential.open(challenge, deposit: 10000, secret: .generate(), wallet: shop.wallet))
    #expect(try shop.answer("/weather", late).problem == "payment-expired")
    #expect(shop.funds == start)
  }

  @Test func aChargesChallengeOpensNothingAndASessionsPaysNothing() throws {
    let shop = try Shop()
    let charge = try shop.challenge("/weather", "charge")
    let session = try shop.challenge("/weather", "session")
    let open = PrepaidCredential.open(charge, deposit: 10000, secret: .generate(), wallet: shop.wallet)
    let transfer = PrepaidCredential.transfer(session, wallet: shop.wallet)
    #expect(try shop.answer("/weather", authorization(open)).problem == "invalid-payload")
    #expect(try shop.answer("/weather", authorization(transfer)).problem == "invalid-payload")
    #expect(shop.earned() == 0)
  }

  @Test func aPolicyBindsOpenAndTopUp() throws {
    let shop = try Shop(policy: Policy(caps: ["usdc": Policy.Caps(session: 15000)], maximumSessions: 1))
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let another = try shop.challenge("/weather", "session")
    let open = PrepaidCredential.open(another, deposit: 5000, secret: .generate(), wallet: shop.wallet)
    let refused = try shop.answer("/weather", authorization(open))
    #expect(refused.status == 403)
    #expect(refused.json["limit"]?.stringValue == "max-sessions")
    _ = challenge
    let topUp = PrepaidCredential.topUp(another, additionalDeposit: 5001, session: secret.id, wallet: shop.wallet)
    let beyond = try shop.answer("/weather", authorization(topUp))
    #expect(beyond.status == 403)
    #expect(beyond.json["limit"]?.stringValue == "session-cap")
    let within = PrepaidCredential.topUp(another, additionalDeposit: 5000, session: secret.id, wallet: shop.wallet)
    #expect(try shop.answer("/weather", authorization(within)).status == 200)
  }

  // MARK: bearer

  @Test func aBearerPaysEachRequestAndNeedsNoFurtherChallenge() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let bearer = authorization(PrepaidCredential.bearer(challenge, secret: secret))
    // The opening challenge serves for the session's whole life, on every path of the route.
    shop.now = shop.now + .seconds(3600)
    for (index, target) in ["/weather", "/weather/zurich?day=2", "/weather"].enumerated() {
      var exchange = try shop.pay(target, bearer)
      #expect(exchange.forwardAfter == 0)
      let (fields, _) = try shop.finish(&exchange)
      let encoded = try #require(lines(fields, "Payment-Receipt").first)
      let receipt = try Receipt.parse(encoded)
      #expect(receipt.amount == 2000)
      #expect(receipt.challengeID == challenge.id)
      #expect(receipt.session?.spent == UInt128(4000 + index * 2000))
      #expect(receipt.resource.url == "https://api.example.com\(target)")
      #expect(receipt.kid == nil)
    }
    // 10,000 pay for five: one by the open, three above, and one more.
    var last = try shop.pay("/weather", short(secret))
    try shop.finish(&last)
    let dry = try shop.answer("/weather", bearer)
    #expect(dry.status == 402)
    #expect(dry.problem == "session/insufficient-balance")
    #expect(dry.json["required"]?.stringValue == "2000")
    #expect(!dry.challenges.isEmpty)
    #expect(shop.earned() == 10000)
    shop.settleBooks()
  }

  @Test func methodsThatChangeSomethingWaitForTheDisk() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    for (method, waits) in [("GET", false), ("HEAD", false), ("QUERY", false), ("POST", true), ("PUT", true), ("DELETE", true), ("BREW", true)] {
      var exchange = try shop.pay("/weather", method: method, short(secret))
      #expect((exchange.forwardAfter > 0) == waits, "\(method)")
      #expect(exchange.replyAfter > 0)
      try shop.finish(&exchange)
    }
  }

  @Test func aBearerOfOneSessionDoesNotOpenAnother() throws {
    let shop = try Shop()
    let (challenge, mine) = try shop.openSession("/weather", deposit: 10000)
    let (_, theirs) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.earned()
    var credential = PrepaidCredential.bearer(challenge, secret: mine)
    credential.set("payload", ["action": "bearer", "sessionId": .string(theirs.id.hex), "preimage": .string(mine.hex)])
    #expect(try shop.answer("/weather", authorization(credential)).problem == "verification-failed")
    #expect(try shop.answer("/weather", [("Prepaid-Session", "\(theirs.id.hex); key=\(mine.hex)")]).problem == "verification-failed")
    #expect(try shop.answer("/weather", [("Prepaid-Session", "x")]).problem == "malformed-credential")
    let unknown = try shop.answer("/weather", short(.generate()))
    #expect(unknown.status == 410)
    #expect(unknown.problem == "session/channel-not-found")
    #expect(shop.earned() == before)
  }

  /// The cache of verified credentials must not forget the field that the challenge selected.
  @Test func aBearerCountsOnlyInTheFieldThatItsChallengeSelected() throws {
    let shop = try Shop()
    let challenge = try shop.challenge("/alternate", "session")
    let secret = SessionSecret.generate()
    let open = PrepaidCredential.open(challenge, deposit: 100_000, secret: secret, wallet: shop.wallet)
    var opened = try shop.pay("/alternate", authorization(open, field: "Payment-Authorization"))
    try shop.finish(&opened)
    let bearer = PrepaidCredential.bearer(challenge, secret: secret)
    for _ in 0..<2 {
      var exchange = try shop.pay("/alternate", authorization(bearer, field: "Payment-Authorization"))
      try shop.finish(&exchange)
      #expect(try shop.answer("/alternate", authorization(bearer)).problem == "invalid-challenge")
    }
    #expect(shop.earned() == 3000)
  }

  @Test func aBearerOfACheapRouteDoesNotOpenADearOne() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 5_000_000)
    let before = shop.earned()
    for fields in [authorization(PrepaidCredential.bearer(challenge, secret: secret)), short(secret)] {
      let answer = try shop.answer("/dear", fields)
      #expect(answer.status == 402)
      #expect(!answer.challenges.isEmpty)
    }
    #expect(shop.earned() == before)
    // With the dear route's own challenge its terms are added, and the short form then works there too.
    let dear = try shop.challenge("/dear", "session")
    var first = try shop.pay("/dear", authorization(PrepaidCredential.bearer(dear, secret: secret)))
    try shop.finish(&first)
    #expect(shop.earned() == before + 1_000_000)
    var second = try shop.pay("/dear", short(secret))
    try shop.finish(&second)
    var third = try shop.pay("/dear", authorization(PrepaidCredential.bearer(challenge, secret: secret)))
    try shop.finish(&third)
    #expect(shop.earned() == before + 3_000_000)
  }

  @Test func anotherRecipientsRouteIsNotTheSessions() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let other = try shop.challenge("/other", "session")
    let answer = try shop.answer("/other", authorization(PrepaidCredential.bearer(other, secret: secret)))
    #expect(answer.status == 402)
    #expect(shop.earned("other") == 0)
  }

  @Test func recordedTermsSurviveAChangeOfPricesAndSecrets() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 100_000)
    let dear = try shop.challenge("/dear", "session")
    var settings = shop.settings
    settings.routes[0].offer = .priced(try Price(parsing: "0.02 USDC per request", currencies: [cashierCurrency]))
    settings.routes[1].offer = .priced(try Price(parsing: "2 USDC per request", currencies: [cashierCurrency]))
    try shop.keys.rotate(.challenge, at: shop.now)
    shop.cashier = try Cashier(settings: settings, ledger: shop.ledger, keys: shop.keys)
    let before = shop.earned()
    for fields in [authorization(PrepaidCredential.bearer(challenge, secret: secret)), short(secret)] {
      var exchange = try shop.pay("/weather", fields)
      try shop.finish(&exchange)
    }
    #expect(shop.earned() == before + 4000)
    // Terms that were not recorded are told anew at the present price.
    let answer = try shop.answer("/dear", authorization(PrepaidCredential.bearer(dear, secret: secret)))
    #expect(answer.status == 402)
    let session = try #require(answer.challenges.first { $0.intent == "session" })
    #expect(try PrepaidSession(parsing: try session.requestObject()).rates[0].amount == 2_000_000)
  }

  @Test(arguments: ["id", "realm", "request", "expires", "opaque"])
  func aBearersChallengeIsVerifiedForAuthenticity(member: String) throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    var credential = PrepaidCredential.bearer(challenge, secret: secret)
    var echo = challenge.echo
    switch member {
    case "expires": echo.set(member, "2999-01-01T00:00:00Z")
    case "request", "opaque": echo.set(member, "e30")
    case "id": echo.set(member, .string(Base64URL.encode(SHA256.hash("another"))))
    default: echo.set(member, "other.example.com")
    }
    credential.set("challenge", .object(echo))
    let answer = try shop.answer("/weather", authorization(credential))
    #expect(answer.status == 402)
    #expect(answer.problem == "invalid-challenge")
  }

  @Test func ofTwoHundredConcurrentRequestsExactlyTheBudgetsHundredArePaid() throws {
    var wide = try shopSettings()
    wide.routes[0].maxInFlight = 4096
    let shop = try Shop(wide)
    // One request is paid by the open itself.
    let (_, secret) = try shop.openSession("/weather", deposit: 101 * 2000)
    let paid = Atomic<Int>(0)
    let refused = Atomic<Int>(0)
    let (settings, ledger, keys, now, tick) = (shop.settings, shop.ledger, shop.keys, shop.now, shop.tick)
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      guard var cashier = try? Cashier(settings: settings, ledger: ledger, keys: keys) else { return }
      var exchanges: [PaidExchange] = []
      for _ in 0..<25 {
        switch try? Shop.send(&cashier, settings, "/weather", short(secret), at: now, tick: tick) {
        case .paid(let exchange): exchanges.append(exchange)
        case .answer(let answer) where answer.status == 402: refused.add(1, ordering: .relaxed)
        default: break
        }
      }
      paid.add(exchanges.count, ordering: .relaxed)
      for index in exchanges.indices {
        var response = ByteBuffer()
        _ = cashier.answered(&exchanges[index], status: 200, isEventStream: false, contentLength: 0, fields: &response, at: now)
        _ = cashier.finish(&exchanges[index], .complete, at: now)
      }
    }
    #expect(paid.load(ordering: .relaxed) == 100)
    #expect(refused.load(ordering: .relaxed) == 100)
    #expect(shop.earned() == 101 * 2000)
    shop.settleBooks()
  }

  @Test func moreInFlightThanTheRouteAllowsWait() throws {
    var settings = try shopSettings()
    settings.routes[0].maxInFlight = 2
    let shop = try Shop(settings)
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    var first = try shop.pay("/weather", short(secret))
    var second = try shop.pay("/weather", short(secret))
    #expect(try shop.answer("/weather", short(secret)).status == 429)
    try shop.finish(&first)
    var third = try shop.pay("/weather", short(secret))
    try shop.finish(&second)
    try shop.finish(&third)
    shop.settleBooks()
  }

  @Test(arguments: [UInt16(500), 404, 304])
  func aSessionsRequestThatFailsCostsNothing(status: UInt16) throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.earned()
    var exchange = try shop.pay("/weather", short(secret))
    let (fields, _) = try shop.finish(&exchange, status: status)
    #expect(lines(fields, "Payment-Receipt").isEmpty)
    #expect(lines(fields, "Cache-Control") == ["private"])
    #expect(shop.earned() == before)
    var broken = try shop.pay("/weather", short(secret))
    _ = shop.cashier.finish(&broken, .upstreamFailed(beforeHead: true), at: shop.now)
    #expect(shop.earned() == before)
    shop.settleBooks()
  }

  @Test func aWalletThatIsFrozenStopsItsSessions() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    var exchange = try shop.pay("/weather", short(secret))
    let before = shop.cashier.mustStop(exchange)
    _ = try shop.ledger.freeze(shop.wallet.publicKey.octets, at: shop.now)
    let after = shop.cashier.mustStop(exchange)
    #expect(!before)
    #expect(after)
    #expect(try shop.answer("/weather", short(secret)).status == 410)
    _ = shop.cashier.finish(&exchange, .sessionStopped, at: shop.now)
    #expect(try shop.answer("/weather", short(secret)).status == 410)
    shop.settleBooks()
  }
}
