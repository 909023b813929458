import Bytes
import Configuration
import Crypto
import Encoding
import HTTP
import Ledger
import Methods
import Payments
import Testing

@testable import Proxy

private let key = [("Idempotency-Key", "order-1")]

@Suite struct CashierIdempotencyTests {
  @Test func aRepeatedChargeGetsItsStoredOutcome() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather", method: "POST")
    var exchange = try shop.pay("/weather", method: "POST", fields + key)
    let inFlight = try shop.answer("/weather", method: "POST", fields + key)
    #expect(inFlight.status == 409)
    let (head, _) = try shop.finish(&exchange, status: 201, body: "created")
    let receipt = try #require(lines(head, "Payment-Receipt").first)
    #expect(shop.earned() == 2000)

    // The same credential, however old it is by then; and another one under the same key.
    shop.now = shop.now + .seconds(600)
    let other = try shop.chargeFields("/weather", method: "POST")
    for credential in [fields, other] {
      let replay = try shop.answer("/weather", method: "POST", credential + key)
      #expect(replay.status == 201)
      #expect(replay.body == Array("created".utf8))
      #expect(lines(replay.fieldText, "Payment-Receipt") == [receipt])
    }
    #expect(shop.earned() == 2000)
    // Another key pays again.
    var next = try shop.pay("/weather", method: "POST", other + [("Idempotency-Key", "order-2")])
    try shop.finish(&next)
    #expect(shop.earned() == 4000)
    shop.settleBooks()
  }

  @Test func anotherBodyUnderTheSameKeyIsRefused() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather", method: "POST")
    var exchange = try shop.pay("/weather", method: "POST", fields + key, body: "one")
    try shop.finish(&exchange)
    let other = try shop.chargeFields("/weather", method: "POST")
    let answer = try shop.answer("/weather", method: "POST", other + key, body: "two")
    #expect(answer.status == 422)
    #expect(shop.earned() == 2000)
    guard case .collectBody = try shop.send("/weather", method: "POST", other + key, body: "one", streaming: true) else {
      throw ShopError.unexpectedVerdict
    }
  }

  @Test func theKeyIsThePayersAndTheTargetsOwn() throws {
    let shop = try Shop()
    var exchange = try shop.pay("/weather/a", try shop.chargeFields("/weather/a") + key)
    try shop.finish(&exchange)
    var elsewhere = try shop.pay("/weather/b", try shop.chargeFields("/weather/b") + key)
    try shop.finish(&elsewhere)
    let stranger = Ed25519.SigningKey.generate()
    _ = try shop.ledger.createWallet(stranger.publicKey.octets, at: shop.now)
    _ = try shop.ledger.fund(stranger.publicKey.octets, currency: "usdc", amount: 10000, reference: "theirs", at: shop.now)
    let challenge = try shop.challenge("/weather/a", "charge")
    var theirs = try shop.pay("/weather/a", authorization(PrepaidCredential.transfer(challenge, wallet: stranger)) + key)
    try shop.finish(&theirs)
    #expect(shop.earned() == 6000)
  }

  @Test func anAnswerThatIsTooLargeIsAConflictWithTheReceipt() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    var exchange = try shop.pay("/weather", fields + key)
    let (head, _) = try shop.finish(&exchange, body: String(repeating: "x", count: 65))
    let again = try shop.answer("/weather", fields + key)
    #expect(again.status == 409)
    #expect(again.json["receipt"]?.stringValue == lines(head, "Payment-Receipt").first)
    #expect(again.challenges.isEmpty)
    #expect(shop.earned() == 2000)
  }

  @Test func whatCostNothingIsNotKept() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    var failed = try shop.pay("/weather", fields + key)
    try shop.finish(&failed, status: 500)
    var again = try shop.pay("/weather", fields + key)
    try shop.finish(&again, body: "ok")
    #expect(try shop.answer("/weather", fields + key).body == Array("ok".utf8))
    #expect(shop.earned() == 2000)
  }

  @Test func aSessionsRequestIsRepeatedForFree() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 100_000)
    let before = shop.earned()
    var exchange = try shop.pay("/weather", short(secret) + key)
    #expect(try shop.answer("/weather", short(secret) + key).status == 409)
    try shop.finish(&exchange, body: "sunny")
    for fields in [short(secret), authorization(PrepaidCredential.bearer(challenge, secret: secret)), try shop.chargeFields("/weather")] {
      let replay = try shop.answer("/weather", fields + key)
      #expect(replay.status == 200)
      #expect(replay.body == Array("sunny".utf8))
    }
    #expect(shop.earned() == before + 2000)
    var failed = try shop.pay("/weather/x", short(secret) + key)
    try shop.finish(&failed, status: 503)
    var again = try shop.pay("/weather/x", short(secret) + key)
    try shop.finish(&again)
    #expect(shop.earned() == before + 4000)
    shop.settleBooks()
  }

  @Test func anUnpaidRequestLearnsNothingByAKey() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    var exchange = try shop.pay("/weather", fields + key)
    try shop.finish(&exchange, body: "secret")
    #expect(try shop.answer("/weather", key).status == 402)
    var credential = PrepaidCredential.transfer(try shop.challenge("/weather", "charge"), wallet: shop.wallet)
    credential.set("note", "x")
    #expect(try shop.answer("/weather", authorization(credential) + key).problem == "verification-failed")
  }

  /// The head has said that the request costs something, and the content was being collected.
  @Test func leavingEarlyIsNoWayOutAndABrokenUpstreamCostsNothing() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    for fields in [try shop.chargeFields("/weather", method: "POST"), short(secret)] {
      let before = shop.earned()
      let left = ExchangeEnd.clientLeft(requestForwarded: true, headSeen: true, safe: false)
      for (number, (end, cost)) in [(ExchangeEnd.upstreamBroke, Int128(0)), (left, 2000)].enumerated() {
        var exchange = try shop.pay("/weather", method: "POST", fields + [("Idempotency-Key", "\(fields.count)-\(number)-\(before)")])
        var head = ByteBuffer()
        let gate = shop.cashier.answered(&exchange, status: 200, isEventStream: false, contentLength: nil, fields: &head, at: shop.now)
        guard case .withhold = gate else { throw ShopError.unexpectedVerdict }
        _ = shop.cashier.finish(&exchange, end, at: shop.now)
        #expect(shop.earned() == before + cost)
      }
    }
    shop.settleBooks()
  }

  /// Who closes the session while the response is collected must not be served for nothing either.
  @Test func closingTheSessionIsNoWayOutOfAWithheldResponse() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    let before = shop.earned()
    var exchange = try shop.pay("/weather", method: "POST", short(secret) + key)
    var head = ByteBuffer()
    let gate = shop.cashier.answered(&exchange, status: 200, isEventStream: false, contentLength: nil, fields: &head, at: shop.now)
    guard case .withhold = gate else { throw ShopError.unexpectedVerdict }
    _ = shop.cashier.finish(&exchange, .sessionStopped, at: shop.now)
    #expect(shop.earned() == before + 2000)
    #expect(try shop.answer("/weather", method: "POST", short(secret) + key).status == 409)
    shop.settleBooks()
  }

  /// What is told again must be on the disk: a commit that fails would make it untrue.
  @Test func whatIsToldAgainWaitsForItsEntry() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather", method: "POST")
    var exchange = try shop.pay("/weather", method: "POST", fields + key)
    try shop.finish(&exchange, body: "ok")
    let settled = shop.ledger.applied
    #expect(try shop.answer("/weather", method: "POST", fields + key).after >= settled)
    #expect(try shop.answer("/weather", method: "POST", fields).after >= settled)
    let challenge = try shop.challenge("/weather", "session")
    let open = authorization(PrepaidCredential.open(challenge, deposit: 100_000, secret: .generate(), wallet: shop.wallet))
    var opened = try shop.pay("/weather", open)
    let again = try shop.answer("/weather", open)
    #expect(again.problem == "already-open")
    #expect(again.after >= opened.replyAfter)
    try shop.finish(&opened)
  }

  @Test func aMalformedKeyIsRefused() throws {
    let shop = try Shop()
    let fields = try shop.chargeFields("/weather")
    for keys in [[("Idempotency-Key", "")], key + key, [("Idempotency-Key", String(repeating: "k", count: 256))]] {
      #expect(try shop.answer("/weather", fields + keys).status == 400)
    }
    #expect(shop.earned() == 0)
  }
}
