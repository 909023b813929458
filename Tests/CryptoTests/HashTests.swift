import Bytes
import Crypto
import Encoding
import Testing

@Suite struct SHA256Tests {
  // FIPS 180-4's examples.
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
  ])
  func hashesTheVectors(_ text: String, _ hex: String) {
    #expect(SHA256.hash(text).hex == hex)
    #expect(SHA256.hash([UInt8](text.utf8)).hex == hex)
  }

  @Test func splitsDoNotMatter() {
    let octets = (0..<200).map { UInt8($0) }
    let whole = SHA256.hash(octets)
    for split in 0...octets.count {
      var hash = SHA256()
      hash.update([UInt8](octets[..<split]))
      let copy = hash
      hash.update([UInt8](octets[split...]))
      #expect(hash.finalize() == whole)
      #expect(hash.finalize() == whole)
      #expect(copy.finalize() == SHA256.hash([UInt8](octets[..<split])))
    }
  }
}

@Suite struct HMACKeyTests {
  private static func key(_ octets: [UInt8]) -> HMACKey { HMACKey(secret: SecretBytes(octets)) }

  // RFC 4231, test cases 1, 2, 3, 6 and 7.
  @Test func authenticatesTheVectors() {
    let long = [UInt8](repeating: 0xAA, count: 131)
    let text =
      "This is a test using a larger than block-size key and a larger than block-size data. "
      + "The key needs to be hashed before being used by the HMAC algorithm."
    let vectors: [([UInt8], [UInt8], String)] = [
      (.init(repeating: 0x0B, count: 20), .init("Hi There".utf8), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
      (
        .init("Jefe".utf8), .init("what do ya want for nothing?".utf8),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
      ),
      (
        .init(repeating: 0xAA, count: 20), .init(repeating: 0xDD, count: 50),
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
      ),
      (
        long, .init("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
      ),
      (long, .init(text.utf8), "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    ]
    for (secret, message, hex) in vectors {
      let key = Self.key(secret)
      let tag = key.authenticate(message)
      #expect(tag.hex == hex)
      #expect(key.isValid(tag, for: message))
      #expect(!key.isValid(tag, for: message + [0]))
      #expect("\(key)" == "<secret>")
    }
  }

  /// The reference implementations' challenge identifier for one request.
  @Test func bindsTheGoldenChallenge() {
    let request = Base64URL.encode(JCS.serialize(["amount": "1000000"] as JSONObject))
    let slots = ["api.example.com", "tempo", "charge", request, "", "", ""].joined(separator: "|")
    let tag = Self.key([UInt8]("test-vector-secret".utf8)).authenticate(slots)
    #expect(Base64URL.encode(tag) == "X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4")
  }
}

@Suite struct RandomTests {
  @Test func drawsDiffer() {
    #expect(Random.digest32() != Random.digest32())
    #expect(Random.bytes(16).count == 16)
    #expect(Random.bytes(0).isEmpty)
    #expect(Random.secret(32).count == 32)
  }

  @Test func comparesInConstantTime() {
    #expect(constantTimeEqual([1, 2, 3], [1, 2, 3]))
    #expect(!constantTimeEqual([1, 2, 3], [1, 2, 4]))
    #expect(!constantTimeEqual([1, 2, 3], [1, 2]))
    #expect(constantTimeEqual([], []))
  }
}
