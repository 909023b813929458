import Bytes
import Crypto
import Encoding
import Methods
import Testing

private let now = Timestamp(microseconds: 1_800_000_000_000_000)

private func parse(_ body: [UInt8]) throws(PrepaidError) -> WalletQuery {
  let result: Result<WalletQuery, PrepaidError> = body.withUnsafeBytes { raw in
    do throws(PrepaidError) { return .success(try WalletQuery(parsing: raw)) } catch { return .failure(error) }
  }
  return try result.get()
}

private func altered(_ body: [UInt8], _ name: String, _ value: JSONValue) throws -> [UInt8] {
  var object = try #require(try JSON.parse(body).objectValue)
  object.set(name, value)
  return JCS.serialize(.object(object))
}

@Suite struct WalletQueryTests {
  private let key = Ed25519.SigningKey.generate()

  @Test func readsAndVerifiesWhatItSigns() throws {
    let body = WalletQuery.sign(time: now, nonce: "0123456789abcdef", key: key)
    let query = try parse(body)
    #expect(query.wallet == key.publicKey)
    #expect(query.isAuthentic)
    #expect(query.isTimely(at: now))
    #expect(query.nonce == "0123456789abcdef")
  }

  @Test func isTimelyForAMinuteEitherWay() throws {
    let query = try parse(WalletQuery.sign(time: now, nonce: "0123456789abcdef", key: key))
    #expect(query.isTimely(at: now + .seconds(60)))
    #expect(query.isTimely(at: now + .seconds(-60)))
    #expect(!query.isTimely(at: now + .seconds(61)))
    #expect(!query.isTimely(at: now + .seconds(-61)))
  }

  @Test func everyAlterationIsSeen() throws {
    let body = WalletQuery.sign(time: now, nonce: "0123456789abcdef", key: key)
    let other = DIDKey.encode(Ed25519.SigningKey.generate().publicKey)
    for (name, value) in [("wallet", JSONValue.string(other)), ("time", "2027-01-15T08:00:01Z"), ("nonce", "0123456789abcdee")] {
      #expect(try !parse(try altered(body, name, value)).isAuthentic)
    }
    #expect(throws: PrepaidError.unexpectedMember) { _ = try parse(try altered(body, "extra", "1")) }
    for name in ["wallet", "time", "nonce", "signature"] {
      #expect(throws: PrepaidError.self) { _ = try parse(try altered(body, name, 5)) }
      #expect(throws: PrepaidError.self) { _ = try parse(try altered(body, name, "")) }
    }
  }

  @Test func refusesWhatIsNoQuery() {
    for text in ["", "[]", "{}", "null", #"{"wallet":"a","wallet":"b"}"#, String(repeating: " ", count: 5000)] {
      #expect(throws: PrepaidError.self) { _ = try parse(Array(text.utf8)) }
    }
  }

  @Test func everyCutIsRefused() throws {
    let body = WalletQuery.sign(time: now, nonce: "0123456789abcdef", key: key)
    for count in 0..<body.count {
      #expect(throws: PrepaidError.self) { _ = try parse(Array(body[..<count])) }
    }
  }

  @Test func claimsOfANonceAreTheWalletsOwn() throws {
    let first = try parse(WalletQuery.sign(time: now, nonce: "0123456789abcdef", key: key))
    let later = try parse(WalletQuery.sign(time: now + .seconds(5), nonce: "0123456789abcdef", key: key))
    let other = try parse(WalletQuery.sign(time: now, nonce: "0123456789abcdef", key: .generate()))
    #expect(first.claim == later.claim)
    #expect(first.claim != other.claim)
  }
}
