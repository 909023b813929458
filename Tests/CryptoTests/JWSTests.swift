import Bytes
import Crypto
import Encoding
import Testing

@Suite struct JWSTests {
  private let key: Ed25519.SigningKey

  init() throws {
    let seed = try #require(Base64URL.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
    key = try #require(Ed25519.SigningKey(seed: SecretBytes(seed)))
  }

  private func text(_ header: String, _ payload: String, key other: Ed25519.SigningKey? = nil) -> String {
    let signed = Base64URL.encode([UInt8](header.utf8)) + "." + Base64URL.encode([UInt8](payload.utf8))
    return signed + "." + Base64URL.encode((other ?? key).sign([UInt8](signed.utf8)))
  }

  private func verify(_ text: String) throws(JWSError) -> (header: JSONObject, payload: JSONObject) {
    let known = key.publicKey
    return try JWS.verifyCompact(text) { $0 == "k1" ? known : nil }
  }

  // RFC 8037, appendix A.4.
  @Test func theKeySignsTheVector() {
    #expect(
      text("{\"alg\":\"EdDSA\"}", "Example of Ed25519 signing")
        == "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        + "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
  }

  @Test func verifiesWhatTheKeySigned() throws {
    let signed = text("{\"alg\":\"EdDSA\",\"kid\":\"k1\",\"typ\":\"x\"}", "{\"a\":[1,2]}")
    let (header, payload) = try verify(signed)
    #expect(header == ["alg": "EdDSA", "kid": "k1", "typ": "x"])
    #expect(payload == ["a": [1, 2]])
  }

  @Test func refusesEveryChangedOctet() {
    let signed = [UInt8](text("{\"alg\":\"EdDSA\",\"kid\":\"k1\"}", "{\"a\":1}").utf8)
    for index in signed.indices {
      for octet in [UInt8(0x41), 0x2E, 0x3D, 0x5F, 0x00] where signed[index] != octet {
        var changed = signed
        changed[index] = octet
        #expect(throws: JWSError.self) { try verify(String(decoding: changed, as: UTF8.self)) }
      }
      #expect(throws: JWSError.self) { try verify(String(decoding: signed[..<index], as: UTF8.self)) }
    }
  }

  @Test func namesTheBrokenRule() {
    let cases: [(String, JWSError)] = [
      ("", .malformed), ("a.b", .malformed), (text("{}", "{}") + ".x", .malformed),
      (text("[]", "{}"), .malformedHeader), (text("{", "{}"), .malformedHeader),
      (text("{\"alg\":\"EdDSA\",\"alg\":\"none\",\"kid\":\"k1\"}", "{}"), .malformedHeader),
      (text("{\"alg\":\"none\",\"kid\":\"k1\"}", "{}"), .unsupportedAlgorithm),
      (text("{\"kid\":\"k1\"}", "{}"), .unsupportedAlgorithm),
      (text("{\"alg\":\"EdDSA\",\"kid\":\"k1\",\"crit\":[\"b64\"]}", "{}"), .criticalExtension),
      (text("{\"alg\":\"EdDSA\"}", "{}"), .missingKeyID), (text("{\"alg\":\"EdDSA\",\"kid\":1}", "{}"), .missingKeyID),
      (text("{\"alg\":\"EdDSA\",\"kid\":\"k2\"}", "{}"), .unknownKey),
      (text("{\"alg\":\"EdDSA\",\"kid\":\"k1\"}", "{}", key: .generate()), .invalidSignature),
      (text("{\"alg\":\"EdDSA\",\"kid\":\"k1\"}", "1"), .malformedPayload),
      (text("{\"alg\":\"EdDSA\",\"kid\":\"k1\"}", "no"), .malformedPayload),
      (String(repeating: "a", count: JWS.maximumCount + 1), .tooLarge),
    ]
    for (text, error) in cases {
      #expect(throws: error) { try verify(text) }
    }
  }
}
