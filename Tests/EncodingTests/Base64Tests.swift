import Bytes
import Encoding
import Testing

@Suite struct Base64Tests {
  // RFC 4648, section 10.
  private let vectors = [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ("foobar", "Zm9vYmFy"),
  ]

  @Test func encodesTheVectors() {
    for (plain, padded) in vectors {
      let octets = [UInt8](plain.utf8)
      let bare = padded.filter { $0 != "=" }
      #expect(Base64.encode(octets) == padded)
      #expect(Base64.decode(padded) == octets)
      #expect(Base64URL.encode(octets) == bare)
      #expect(Base64URL.encodeOctets(octets) == [UInt8](bare.utf8))
      #expect(Base64URL.decode(bare) == octets)
      #expect(Base64URL.encodedCount(octets.count) == bare.utf8.count)
      var buffer = ByteBuffer()
      Base64URL.append(octets, to: &buffer)
      octets.withUnsafeBytes { Base64.append($0, to: &buffer) }
      #expect(buffer.string() == bare + padded)
    }
  }

  @Test func everyLengthComesBack() {
    var octets: [UInt8] = []
    for index in 0..<300 {
      #expect(Base64URL.decode(Base64URL.encode(octets)) == octets)
      #expect(Base64.decode(Base64.encode(octets)) == octets)
      let text = Base64URL.encodeOctets(octets)
      var buffer = ByteBuffer()
      #expect(text.withUnsafeBytes { Base64URL.decode($0, into: &buffer) })
      #expect(buffer.array() == octets)
      octets.append(UInt8(truncatingIfNeeded: index &* 167 &+ 91))
    }
  }

  @Test func everyDigitHasItsPlace() {
    let all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    #expect(Base64URL.decode(all).map { Base64URL.encode($0) } == all)
    let standard = all.replacing("-", with: "+").replacing("_", with: "/")
    #expect(Base64.decode(standard).map { Base64.encode($0) } == standard)
    #expect(Base64URL.decode(standard) == nil)
    #expect(Base64.decode(all) == nil)
  }

  /// Of all texts of one to three octets, exactly the canonical ones are read.
  @Test func onlyCanonicalTextsAreRead() {
    for first in UInt8.min...UInt8.max {
      #expect(Base64URL.decode([first]) == nil)
      for second in UInt8.min...UInt8.max {
        if let octets = Base64URL.decode([first, second]), Base64URL.encodeOctets(octets) != [first, second] {
          Issue.record("\(first) \(second) is read as \(octets)")
        }
        if let octets = Base64URL.decode([0x41, first, second]), Base64URL.encodeOctets(octets) != [0x41, first, second] {
          Issue.record("A \(first) \(second) is read as \(octets)")
        }
      }
    }
  }

  @Test(arguments: ["Zg", "Zg=", "Zg===", "Zh==", "Zm8", "Zm9=", "=", "====", "Zm9v=", "Zm9vZg=x", "Zm 9v", "Z===", "Zg==Zg=="])
  func paddedTextIsStrict(_ text: String) {
    #expect(Base64.decode(text) == nil)
  }

  @Test func nothingIsAppendedOfAWrongText() {
    var buffer = ByteBuffer()
    buffer.append("kept")
    let isDecoded = [UInt8]("Zm9vYmF!".utf8).withUnsafeBytes { Base64URL.decode($0, into: &buffer) }
    #expect(!isDecoded)
    #expect(buffer.string() == "kept")
  }

  @Test func digestsHaveTheirOwnWay() throws {
    let digest = try #require(Digest32(bytes: (0..<32).map { UInt8($0 * 7) }))
    let text = Base64URL.encode(digest)
    #expect(text == Base64URL.encode(digest.bytes))
    #expect(Base64URL.decodeDigest(text) == digest)
    #expect(Base64.encode(digest) == Base64.encode(digest.bytes))
    #expect(Base64URL.decodeDigest(String(text.dropLast())) == nil)
    #expect(Base64URL.decodeDigest(text + "A") == nil)
    #expect(Base64URL.decodeDigest(String(text.dropLast()) + "!") == nil)
  }
}
