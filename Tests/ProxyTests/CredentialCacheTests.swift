import Bytes
import Crypto
import Encoding
import HTTP
import Ledger
import Metering
import Payments
import Testing

@testable import Proxy

@Suite struct CredentialCacheTests {
  private func session(_ shop: Shop) throws -> ResolvedSession {
    let (_, secret) = try shop.openSession("/weather", deposit: 10000)
    let handle = try #require(shop.ledger.session(secret.id))
    let price = try Price(parsing: "0.002 USDC per request", currencies: [cashierCurrency])
    return ResolvedSession(
      handle: handle, id: secret.id, wallet: shop.wallet.publicKey.octets, price: price,
      source: .wallet(SessionReceipt(method: "prepaid", sessionID: "s", challengeID: "c", currency: "usdc", recipient: "acme")))
  }

  private func withValue<Result>(
    _ text: String, _ field: FieldName = .authorization, _ body: (PresentedCredential.Value) -> Result
  ) -> Result {
    let octets = Array(text.utf8)
    return octets.withUnsafeBytes { body(PresentedCredential.Value(octets: $0, field: field)) }
  }

  @Test func findsExactlyWhatWentIn() throws {
    let shop = try Shop()
    let session = try session(shop)
    var cache = CredentialCache(seed: 1)
    let text = "Payment " + String(repeating: "abcdefgh", count: 40)
    withValue(text) { cache.insert($0, route: 3, session) }
    #expect(withValue(text) { cache.find($0, route: 3)?.id } == session.id)
    #expect(withValue(text) { cache.find($0, route: 4) } == nil)
    #expect(withValue(text, .paymentAuthorization) { cache.find($0, route: 3) } == nil)
    #expect(withValue(text + "a") { cache.find($0, route: 3) } == nil)
    // Every single octet counts, those before the hashed end too.
    let octets = Array(text.utf8)
    for index in octets.indices {
      var altered = octets
      altered[index] ^= 1
      let other = String(decoding: altered, as: UTF8.self)
      #expect(withValue(other) { cache.find($0, route: 3) } == nil)
    }
    withValue(text) { cache.remove($0, route: 3) }
    #expect(withValue(text) { cache.find($0, route: 3) } == nil)
  }

  @Test func staysWithinItsPlaces() throws {
    let shop = try Shop()
    let session = try session(shop)
    var cache = CredentialCache(seed: 2)
    for number in 0..<3 * CredentialCache.capacity { withValue("Payment \(number)") { cache.insert($0, route: 0, session) } }
    var found = 0
    for number in 0..<3 * CredentialCache.capacity {
      if withValue("Payment \(number)", .authorization, { cache.find($0, route: 0) }) != nil { found += 1 }
    }
    #expect(found <= CredentialCache.capacity)
    #expect(found > CredentialCache.capacity / 2)
    // What came in last is there.
    let last = "Payment \(3 * CredentialCache.capacity - 1)"
    #expect(withValue(last) { cache.find($0, route: 0) } != nil)
    let long = String(repeating: "x", count: CredentialCache.octetLimit + 1)
    withValue(long) { cache.insert($0, route: 0, session) }
    #expect(withValue(long) { cache.find($0, route: 0) } == nil)
  }
}

@Suite struct QueryNoncesTests {
  @Test func aNonceIsRememberedForAsLongAsItsTimeIsAccepted() {
    let nonces = QueryNonces()
    var now = Timestamp(seconds: 1_800_000_000)
    let first = SHA256.hash("first")
    #expect(nonces.use(first, at: now))
    for _ in 0..<120 {
      now = now + .seconds(1)
      #expect(!nonces.use(first, at: now))
      #expect(nonces.use(SHA256.hash("other \(now)"), at: now))
    }
    // A clock that is set back forgets nothing that would be accepted again.
    #expect(!nonces.use(first, at: now + .seconds(-100)))
  }

  @Test func aFullMemoryRefuses() {
    let nonces = QueryNonces()
    let now = Timestamp(seconds: 1_800_000_000)
    for number in 0..<QueryNonces.limit { _ = nonces.use(SHA256.hash("\(number)"), at: now) }
    #expect(!nonces.use(SHA256.hash("one more"), at: now))
  }
}
