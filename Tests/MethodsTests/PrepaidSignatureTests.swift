import Bytes
import Crypto
import Encoding
import Methods
import Payments
import Testing

private func seed(_ octet: UInt8) throws -> Ed25519.SigningKey {
  try #require(Ed25519.SigningKey(seed: SecretBytes([UInt8](repeating: octet, count: 32))))
}

private func challenge(intent: String = "charge") throws -> Challenge {
  try Challenge(
    realm: "api.example.com", method: Prepaid.method, intent: intent, request: ["amount": "5", "currency": "usdc"],
    expires: Timestamp(microseconds: 1_800_000_000_000_000), opaque: ["n": "AAAA"],
    secrets: try ChallengeSecrets(current: SecretBytes([UInt8](repeating: 1, count: 32))))
}

private func signature(_ credential: JSONObject) throws -> [UInt8] {
  let payload = try #require(credential["payload"]?.objectValue)
  let text = try #require(payload["signature"]?.stringValue)
  return try #require(Base64URL.decode(text))
}

@Suite struct PrepaidSignatureTests {
  @Test func coversTheCredentialWithoutItsSignature() throws {
    let credential: JSONObject = [
      "payload": ["type": "transfer", "signature": "x", "wallet": "w"], "challenge": ["id": "c"], "source": "w",
    ]
    let octets = try #require(PrepaidSignature.octets(of: credential))
    #expect(
      String(decoding: octets, as: UTF8.self)
        == "prepaid-v1\n{\"challenge\":{\"id\":\"c\"},\"payload\":{\"type\":\"transfer\",\"wallet\":\"w\"},\"source\":\"w\"}")
    #expect(PrepaidSignature.octets(of: ["payload": "x"]) == nil)
    #expect(PrepaidSignature.octets(of: ["challenge": "x"]) == nil)
  }

  @Test func everyClientCredentialParsesAndVerifies() throws {
    let key = try seed(3)
    let secret = SessionSecret.generate()
    let charge = try challenge()
    let session = try challenge(intent: "session")
    let credentials: [(JSONObject, String)] = [
      (PrepaidCredential.transfer(charge, wallet: key), "charge"),
      (PrepaidCredential.open(session, deposit: 9, secret: secret, wallet: key), "session"),
      (PrepaidCredential.topUp(session, additionalDeposit: 9, session: secret.id, wallet: key), "session"),
      (PrepaidCredential.close(session, session: secret.id, wallet: key), "session"),
      (PrepaidCredential.bearer(session, secret: secret), "session"),
      (PrepaidCredential.status(session, secret: secret), "session"),
      (PrepaidCredential.close(session, secret: secret), "session"),
    ]
    for (index, (object, intent)) in credentials.enumerated() {
      let payload = try #require(object["payload"]?.objectValue)
      _ = try PrepaidPayload(parsing: payload, intent: intent, source: object["source"]?.stringValue)
      guard index < 4 else { continue }
      let valid = try signature(object)
      #expect(PrepaidSignature.isValid(valid, wallet: key.publicKey, credential: object))
      #expect(!PrepaidSignature.isValid(valid, wallet: try seed(4).publicKey, credential: object))
    }
  }

  @Test func everyAlterationBreaksTheSignature() throws {
    let key = try seed(3)
    let object = PrepaidCredential.transfer(try challenge(), wallet: key)
    let valid = try signature(object)
    let echo = try #require(object["challenge"]?.objectValue)
    for member in echo.members {
      var altered = echo
      altered.set(member.name, .string((member.value.stringValue ?? "") + "x"))
      var credential = object
      credential.set("challenge", .object(altered))
      #expect(!PrepaidSignature.isValid(valid, wallet: key.publicKey, credential: credential), "\(member.name)")
    }
    var more = object
    more.set("extra", "1")
    #expect(!PrepaidSignature.isValid(valid, wallet: key.publicKey, credential: more))
    for index in valid.indices {
      var flipped = valid
      flipped[index] ^= 1
      #expect(!PrepaidSignature.isValid(flipped, wallet: key.publicKey, credential: object))
    }
    #expect(!PrepaidSignature.isValid([], wallet: key.publicKey, credential: object))
  }

  @Test func signatureDoesNotDependOnTheOrderOfMembers() throws {
    let key = try seed(3)
    let object = PrepaidCredential.transfer(try challenge(), wallet: key)
    var reversed = JSONObject()
    for member in object.members.reversed() { reversed.set(member.name, member.value) }
    #expect(PrepaidSignature.isValid(try signature(object), wallet: key.publicKey, credential: reversed))
  }
}
