import Bytes
import Crypto
import Encoding
import Testing

private func octets(_ hex: String) throws -> [UInt8] { try #require(Hex.decode(hex)) }

private func signingKey(_ hex: String) throws -> Ed25519.SigningKey {
  try #require(Ed25519.SigningKey(seed: SecretBytes(octets(hex))))
}

private let firstSeed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"

@Suite struct Ed25519Tests {
  // RFC 8032, section 7.1, tests 1 to 3.
  @Test(arguments: [
    (
      firstSeed, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    ),
    (
      "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    ),
    (
      "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
      "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    ),
  ])
  func signsTheVectors(_ seed: String, _ publicKey: String, _ message: String, _ signature: String) throws {
    let key = try signingKey(seed)
    let message = try octets(message)
    #expect(key.publicKey.octets.hex == publicKey)
    #expect(Hex.encode(key.sign(message)) == signature)
    var buffer = ByteBuffer()
    message.withUnsafeBytes { key.sign($0, into: &buffer) }
    #expect(try buffer.array() == octets(signature))
    #expect(try key.publicKey.isValidSignature(octets(signature), of: message))
    #expect(key.seed.withUnsafeBytes { Hex.encode($0) } == seed)
  }

  @Test func refusesEveryChangedBit() throws {
    let key = try signingKey(firstSeed)
    let message = [UInt8]("a message".utf8)
    let signature = key.sign(message)
    for bit in 0..<signature.count * 8 {
      var changed = signature
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(!key.publicKey.isValidSignature(changed, of: message))
    }
    #expect(!key.publicKey.isValidSignature(signature, of: message + [0]))
    #expect(!key.publicKey.isValidSignature(signature + [0], of: message))
    #expect(!key.publicKey.isValidSignature([UInt8](signature.dropLast()), of: message))
    #expect(!key.publicKey.isValidSignature([], of: message))
  }

  /// A scalar with the group's order added signs the same point, and must not count (RFC 8032, section 5.1.7).
  @Test func refusesTheSecondSpellingOfAScalar() throws {
    let order = try octets("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
    let key = try signingKey(firstSeed)
    var signature = key.sign([])
    var carry = 0
    for index in 0..<32 {
      carry += Int(signature[32 + index]) + Int(order[index])
      signature[32 + index] = UInt8(carry & 255)
      carry >>= 8
    }
    #expect(!key.publicKey.isValidSignature(signature, of: [] as [UInt8]))
  }

  /// The neutral point as key and as R, with the scalar zero, satisfies the equation for every message.
  @Test func refusesKeysOfSmallOrder() throws {
    let neutral = [1] + [UInt8](repeating: 0, count: 31)
    let key = try #require(Ed25519.PublicKey(bytes: neutral))
    #expect(!key.isValidSignature(neutral + [UInt8](repeating: 0, count: 32), of: [UInt8]("any".utf8)))
  }

  @Test func seedsHave32OctetsAndAreNotPrinted() throws {
    #expect(Ed25519.SigningKey(seed: SecretBytes([1, 2, 3])) == nil)
    #expect(Ed25519.PublicKey(bytes: [1, 2, 3]) == nil)
    let key = Ed25519.SigningKey.generate()
    #expect(key.publicKey != Ed25519.SigningKey.generate().publicKey)
    var dumped = ""
    dump(key, to: &dumped)
    #expect("\(key) \(dumped)" == "<secret> - <secret>\n")
  }
}

@Suite struct DIDKeyTests {
  /// The examples of the did:key specification: the keys of the seeds zero and one.
  @Test func writesTheVectors() throws {
    for (last, did) in [
      ("00", "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
      ("01", "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG"),
    ] {
      let key = try signingKey(String(repeating: "00", count: 31) + last).publicKey
      #expect(DIDKey.encode(key) == did)
      #expect(DIDKey.decode(did) == key)
    }
    for _ in 0..<50 {
      let key = Ed25519.PublicKey(Random.digest32())
      #expect(DIDKey.encode(key).utf8.count == DIDKey.count)
      #expect(DIDKey.decode(DIDKey.encode(key)) == key)
    }
    for octet in [UInt8(0), 255] {
      let key = try #require(Ed25519.PublicKey(bytes: [UInt8](repeating: octet, count: 32)))
      #expect(DIDKey.decode(DIDKey.encode(key)) == key)
    }
  }

  @Test(arguments: [
    "", "did:key:", "did:key:z", "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
    "DID:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW",
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWpp", "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW0",
    "did:key:z16MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW", "did:\u{212A}ey:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDoo",
    // An X25519 key.
    "did:key:z6LSbgq3GejX88eiAYWmZ9EiddS3GaXodvm8MJJyEH7bqXgz",
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp#z6Mk", "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDoo\u{1F511}",
  ])
  func refusesEverythingElse(_ text: String) {
    #expect(DIDKey.decode(text) == nil)
  }
}

@Suite struct JWKTests {
  // RFC 8037, appendix A.
  @Test func hasTheThumbprintOfTheVector() throws {
    let key = try signingKey(firstSeed).publicKey
    #expect(JWK.thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
    let json = JWK.publicJSON(key, kid: "one")
    #expect(json["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    let parsed = try #require(JWK.parse(json))
    #expect(parsed.kid == "one")
    #expect(parsed.key == key)
  }

  @Test func readsOnlyKeysItCanUse() throws {
    let good = try #require(JWK.publicJSON(signingKey(firstSeed).publicKey, kid: "one").objectValue)
    let changes: [(String, JSONValue?)] = [
      ("kty", "EC"), ("crv", "X25519"), ("kid", nil), ("kid", 1), ("use", "enc"), ("alg", "ES256"), ("x", nil), ("x", "11qY"),
    ]
    for (name, value) in changes {
      var object = good
      object[name] = value
      #expect(JWK.parse(.object(object)) == nil)
    }
    var least = good
    least["use"] = nil
    least["alg"] = nil
    #expect(JWK.parse(.object(least)) != nil)
  }
}
