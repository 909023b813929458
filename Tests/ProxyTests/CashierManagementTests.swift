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

@Suite struct CashierManagementTests {
  // MARK: top-up

  @Test(arguments: ["GET", "HEAD", "POST"])
  func aTopUpAddsOnceWhateverTheMethod(method: String) throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.funds
    let challenge = try shop.challenge("/weather", "session")
    let fields = authorization(PrepaidCredential.topUp(challenge, additionalDeposit: 5000, session: secret.id, wallet: shop.wallet))
    let answer = try shop.answer("/weather?anything=1", method: method, fields)
    #expect(answer.status == 200)
    #expect(answer.json == ["status": "ok"])
    #expect(answer.after > 0)
    let receipt = try shop.receipt(in: answer.fieldText)
    #expect(receipt.amount == 5000)
    #expect(receipt.session?.remaining == 13000)
    #expect(shop.funds == before - 5000)
    // The same credential again, long after: the stored answer, and nothing moves.
    shop.now = shop.now + .seconds(5000)
    let again = try shop.answer("/weather", method: method, fields)
    #expect(again.status == 200)
    #expect(lines(again.fieldText, "Payment-Receipt") == lines(answer.fieldText, "Payment-Receipt"))
    #expect(shop.funds == before - 5000)
    shop.settleBooks()
  }

  @Test func theOpeningDepositIsNoTopUp() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.funds
    // The opening challenge is used up, and the opening signature covers another payload.
    let reused = PrepaidCredential.topUp(challenge, additionalDeposit: 10000, session: secret.id, wallet: shop.wallet)
    let answer = try shop.answer("/weather", authorization(reused))
    #expect(answer.status == 403)
    #expect(answer.problem == "already-paid")
    #expect(shop.funds == before)
  }

  @Test func onlyTheSessionsWalletTopsItUp() throws {
    let shop = try Shop()
    let stranger = Ed25519.SigningKey.generate()
    _ = try shop.ledger.createWallet(stranger.publicKey.octets, at: shop.now)
    _ = try shop.ledger.fund(stranger.publicKey.octets, currency: "usdc", amount: 10000, reference: "theirs", at: shop.now)
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let challenge = try shop.challenge("/weather", "session")
    let foreign = PrepaidCredential.topUp(challenge, additionalDeposit: 5000, session: secret.id, wallet: stranger)
    #expect(try shop.answer("/weather", authorization(foreign)).problem == "session-mismatch")
    var unsigned = foreign
    unsigned.remove("source")
    #expect(try shop.answer("/weather", authorization(unsigned)).problem == "session/invalid-signature")
  }

  @Test func aTopUpForAnotherRecipientIsForbidden() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.funds
    let challenge = try shop.challenge("/other", "session")
    let topUp = PrepaidCredential.topUp(challenge, additionalDeposit: 5000, session: secret.id, wallet: shop.wallet)
    let answer = try shop.answer("/other", authorization(topUp))
    #expect(answer.status == 403)
    #expect(shop.funds == before)
  }

  @Test func aTopUpNeedsAFreshChallengeALiveSessionAndMoney() throws {
    let shop = try Shop(funds: 20000)
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let challenge = try shop.challenge("/weather", "session")
    let tooMuch = PrepaidCredential.topUp(challenge, additionalDeposit: 10001, session: secret.id, wallet: shop.wallet)
    #expect(try shop.answer("/weather", authorization(tooMuch)).problem == "payment-insufficient")
    let unknown = PrepaidCredential.topUp(challenge, additionalDeposit: 1, session: SHA256.hash("x"), wallet: shop.wallet)
    #expect(try shop.answer("/weather", authorization(unknown)).status == 410)
    let good = PrepaidCredential.topUp(challenge, additionalDeposit: 1, session: secret.id, wallet: shop.wallet)
    shop.now = shop.now + .seconds(301)
    #expect(try shop.answer("/weather", authorization(good)).problem == "payment-expired")
    shop.now = shop.now + .seconds(-301)
    _ = try shop.answer("/weather", authorization(PrepaidCredential.close(challenge, secret: secret)))
    #expect(try shop.answer("/weather", authorization(good)).status == 410)
    #expect(shop.funds == 18000)
  }

  @Test func managementHasNoContent() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let fields = authorization(PrepaidCredential.status(challenge, secret: secret))
    #expect(try shop.answer("/weather", method: "POST", fields, body: "x").status == 400)
  }

  @Test func onlyManagementPassesWithAMethodThatTheRouteDoesNotKnow() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    func manages(_ fields: [(String, String)], method: String = "POST", body: String? = nil) throws -> Bool {
      let verdict = try shop.send("/weather", method: method, fields, body: body, asking: .manages)
      guard case .free = verdict else { return false }
      return true
    }
    let close = authorization(PrepaidCredential.close(challenge, secret: secret))
    #expect(try manages(close))
    #expect(try manages(authorization(PrepaidCredential.status(challenge, secret: secret)), method: "HEAD"))
    #expect(try !manages(close, body: "x"))
    #expect(try !manages(close, method: "OPTIONS"))
    #expect(try !manages(close + [("Access-Control-Request-Method", "POST")]))
    #expect(try !manages(authorization(PrepaidCredential.bearer(challenge, secret: secret))))
    #expect(try !manages(short(secret)))
    #expect(try !manages([("Authorization", "Payment e30")]))
    #expect(try !manages([]))
  }

  // MARK: status

  @Test func statusTellsTheFiguresAndCostsNothing() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let before = shop.ledger.applied
    let fields = authorization(PrepaidCredential.status(challenge, secret: secret))
    let answer = try shop.answer("/weather", fields)
    #expect(answer.status == 200)
    #expect(
      try SessionStatus(parsing: answer.json)
        == SessionStatus(phase: .open, deposit: 10000, spent: 2000, held: 0, remaining: 8000, required: 0))
    #expect(lines(answer.fieldText, "Payment-Receipt").isEmpty)
    #expect(shop.ledger.applied == before)
    var wrong = PrepaidCredential.status(challenge, secret: secret)
    wrong.set("payload", ["action": "status", "sessionId": .string(secret.id.hex), "preimage": .string(SessionSecret.generate().hex)])
    #expect(try shop.answer("/weather", authorization(wrong)).problem == "verification-failed")
    #expect(try shop.answer("/weather", authorization(PrepaidCredential.status(challenge, secret: .generate()))).status == 410)
  }

  // MARK: close

  @Test func aCloseRefundsTheRestOnce() throws {
    let shop = try Shop()
    let start = shop.funds
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    // The challenge is not judged by its age.
    shop.now = shop.now + .seconds(4000)
    let fields = authorization(PrepaidCredential.close(challenge, secret: secret))
    let answer = try shop.answer("/weather", method: "POST", fields)
    #expect(answer.status == 200)
    #expect(try SessionClosed(parsing: answer.json) == SessionClosed(spent: 2000, refunded: 8000))
    let receipt = try shop.receipt(in: answer.fieldText)
    #expect(receipt.amount == 2000)
    #expect(receipt.session?.spent == 2000)
    #expect(receipt.reference == secret.id.hex)
    #expect(shop.funds == start - 2000)
    let again = try shop.answer("/weather", fields)
    #expect(again.json == answer.json)
    #expect(again.status == 200)
    #expect(shop.funds == start - 2000)
    #expect(try shop.answer("/weather", short(secret)).problem == "session/channel-finalized")
    let status = try shop.answer("/weather", authorization(PrepaidCredential.status(challenge, secret: secret)))
    #expect(status.json["state"]?.stringValue == "closed")
    shop.settleBooks()
  }

  @Test func theWalletClosesWithoutTheSecret() throws {
    let shop = try Shop()
    let start = shop.funds
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let stranger = PrepaidCredential.close(challenge, session: secret.id, wallet: .generate())
    #expect(try shop.answer("/weather", authorization(stranger)).problem == "session/signer-mismatch")
    var altered = PrepaidCredential.close(challenge, session: secret.id, wallet: shop.wallet)
    altered.set("note", "x")
    #expect(try shop.answer("/weather", authorization(altered)).problem == "session/invalid-signature")
    let wrong = PrepaidCredential.close(challenge, secret: .generate())
    #expect(try shop.answer("/weather", authorization(wrong)).status == 410)
    let good = PrepaidCredential.close(challenge, session: secret.id, wallet: shop.wallet)
    #expect(try shop.answer("/weather", authorization(good)).status == 200)
    #expect(shop.funds == start - 2000)
  }

  @Test func aCloseWaitsForTheSessionsExchanges() throws {
    let shop = try Shop()
    let start = shop.funds
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    var exchange = try shop.pay("/weather", short(secret))
    let fields = authorization(PrepaidCredential.close(challenge, secret: secret))
    guard case .pending(var pending) = try shop.send("/weather", fields) else { throw ShopError.unexpectedVerdict }
    #expect(shop.cashier.resume(&pending, at: shop.now) == nil)
    // No new request, and a second close waits beside the first.
    #expect(try shop.answer("/weather", short(secret)).status == 410)
    guard case .pending(var second) = try shop.send("/weather", fields) else { throw ShopError.unexpectedVerdict }
    let mustStop = shop.cashier.mustStop(exchange)
    #expect(mustStop)
    try shop.finish(&exchange)
    let answer = try #require(shop.cashier.resume(&pending, at: shop.now))
    #expect(try SessionClosed(parsing: answer.json) == SessionClosed(spent: 4000, refunded: 6000))
    #expect(answer.after > 0)
    #expect(shop.cashier.resume(&second, at: shop.now)?.json == answer.json)
    #expect(shop.funds == start - 4000)
    shop.settleBooks()
  }

  @Test func aSessionThatTimeClosedIsGone() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let handle = try #require(shop.ledger.session(secret.id))
    _ = try shop.ledger.beginClose(handle, cause: .idle, at: shop.now)
    let answer = try shop.answer("/weather", authorization(PrepaidCredential.close(challenge, secret: secret)))
    #expect(answer.status == 410)
    #expect(answer.json["refunded"]?.stringValue == "8000")
  }

  // MARK: the wallet query

  private func query(_ shop: Shop, _ key: Ed25519.SigningKey? = nil, nonce: String, at time: Timestamp? = nil) throws -> Answer {
    let body = WalletQuery.sign(time: time ?? shop.now, nonce: nonce, key: key ?? shop.wallet)
    return try shop.answer(Prepaid.walletPath, method: "POST", body: String(decoding: body, as: UTF8.self))
  }

  @Test func aWalletSeesItsBalanceCapsAndSessions() throws {
    let policy = Policy(caps: ["usdc": Policy.Caps(daily: 50000, session: 20000)], maximumSessions: 3)
    let shop = try Shop(funds: 100_000, policy: policy)
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let answer = try query(shop, nonce: "nonce-0001")
    #expect(answer.status == 200)
    #expect(answer.json["wallet"]?.stringValue == DIDKey.encode(shop.wallet.publicKey))
    #expect(answer.json["balances"]?.arrayValue?.first?["available"]?.stringValue == "90000")
    #expect(answer.json["policy"]?["daily-cap"]?["usdc"]?.stringValue == "50000")
    #expect(answer.json["left"]?["daily-cap"]?["usdc"]?.stringValue == "40000")
    #expect(answer.json["left"]?["max-sessions"]?.stringValue == "2")
    let session = try #require(answer.json["sessions"]?.arrayValue?.first)
    #expect(session["sessionId"]?.stringValue == secret.id.hex)
    #expect(session["remaining"]?.stringValue == "8000")
    #expect(lines(answer.fieldText, "Cache-Control") == ["no-store"])
  }

  @Test func aQueryIsTimelyItsOwnersAndUsedOnce() throws {
    let shop = try Shop()
    #expect(try query(shop, nonce: "nonce-0002").status == 200)
    #expect(try query(shop, nonce: "nonce-0002").status == 403)
    #expect(try query(shop, nonce: "nonce-0003", at: shop.now + .seconds(61)).status == 403)
    #expect(try query(shop, nonce: "nonce-0004", at: shop.now + .seconds(-61)).status == 403)
    let body = WalletQuery.sign(time: shop.now, nonce: "nonce-0005", key: .generate())
    var object = try #require(try JSON.parse(body).objectValue)
    object.set("wallet", .string(DIDKey.encode(shop.wallet.publicKey)))
    let forged = String(decoding: JCS.serialize(object), as: UTF8.self)
    #expect(try shop.answer(Prepaid.walletPath, method: "POST", body: forged).status == 403)
    #expect(try shop.answer(Prepaid.walletPath, method: "POST", body: "{").status == 403)
    #expect(try shop.answer(Prepaid.walletPath, method: "POST").status == 400)
    #expect(try shop.answer(Prepaid.walletPath).status == 405)
  }

  /// Whoever makes keys by the thousand must not use up the memory for nonces.
  @Test func strangersTakeUpNoNonces() throws {
    let stranger = Ed25519.SigningKey.generate()
    let shop = try Shop()
    #expect(try query(shop, stranger, nonce: "nonce-0009").status == 403)
    _ = try shop.ledger.createWallet(stranger.publicKey.octets, at: shop.now)
    #expect(try query(shop, stranger, nonce: "nonce-0009").status == 200)
    #expect(try query(shop, stranger, nonce: "nonce-0009").status == 403)
  }

  @Test func registrationIsTheOperatorsToAllow() throws {
    let stranger = Ed25519.SigningKey.generate()
    let shop = try Shop()
    #expect(try query(shop, stranger, nonce: "nonce-0006").status == 403)
    #expect(shop.ledger.walletView(stranger.publicKey.octets) == nil)
    var settings = shop.settings
    settings.registration = true
    shop.cashier = try Cashier(settings: settings, ledger: shop.ledger, keys: shop.keys)
    let answer = try query(shop, stranger, nonce: "nonce-0007")
    #expect(answer.status == 200)
    #expect(answer.after > 0)
    #expect(shop.ledger.walletView(stranger.publicKey.octets)?.accounts.first?.balance == 0)
  }

  /// Whoever makes keys by the thousand must not fill the ledger and the log with wallets.
  @Test func registrationsCountAgainstTheClientsRate() throws {
    var settings = try shopSettings()
    settings.registration = true
    settings.rates.challengesPerSecond = 1
    settings.rates.challengeBurst = 2
    let shop = try Shop(settings)
    let before = shop.ledger.applied
    var statuses: [UInt16] = []
    for number in 0..<4 {
      let answer = try query(shop, .generate(), nonce: "nonce-100\(number)")
      statuses.append(answer.status)
      if answer.status == 429 { #expect(lines(answer.fieldText, "Retry-After") == ["1"]) }
    }
    #expect(statuses == [200, 200, 429, 429])
    #expect(shop.ledger.applied == before + 2)
    // Wallets that exist are not held back.
    #expect(try query(shop, nonce: "nonce-1009").status == 200)
  }

  @Test func discoveryDocumentsAreServed() throws {
    let shop = try Shop()
    for path in ["/openapi.json", "/llms.txt", "/.well-known/jwks.json"] {
      #expect(try shop.answer(path).status == 200)
      #expect(try shop.answer(path, method: "POST").status == 405)
    }
    #expect(String(decoding: try shop.answer("/.well-known/jwks.json").body, as: UTF8.self).contains(shop.keys.signer.kid))
    try shop.keys.rotate(.receipt, at: shop.now)
    #expect(String(decoding: try shop.answer("/.well-known/jwks.json").body, as: UTF8.self).contains(shop.keys.signer.kid))
    guard case .free = try shop.send("/.well-known/other") else { throw ShopError.unexpectedVerdict }
  }
}
