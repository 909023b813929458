import Bytes
import Testing

@Suite struct DecimalUInt128Tests {
  @Test func readsTheOneSpelling() {
    let values: [UInt128] = [
      0, 1, 9, 10, 9_999_999_999_999_999_999, 10_000_000_000_000_000_000, UInt128(UInt64.max), UInt128(UInt64.max) + 1, .max,
      .max - 1, .max / 10,
    ]
    for value in values { #expect(DecimalUInt128.parse(String(value)) == value) }
  }

  @Test(arguments: [
    "", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_000", "٣",
    "340282366920938463463374607431768211456", "999999999999999999999999999999999999999",
    "1000000000000000000000000000000000000000", "0000000000000000000000000000000000000001",
  ])
  func refusesEverythingElse(_ text: String) {
    #expect(DecimalUInt128.parse(text) == nil)
  }
}

@Suite struct Digest32Tests {
  /// Runs in release builds too: there an optimizer once read the octets before they had been written.
  @Test func wordsAreReadOfTheOctets() throws {
    for seed in UInt8(0)..<200 {
      let octets = (0..<32).map { UInt8(truncatingIfNeeded: $0) &* 7 &+ seed &* 31 }
      let digest = try #require(Digest32(bytes: octets))
      let narrow = digest.withUnsafeBytes { UInt32(bigEndian: $0.loadUnaligned(as: UInt32.self)) }
      let wide = digest.withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 24, as: UInt64.self)) }
      #expect(narrow == octets[..<4].reduce(0) { $0 << 8 | UInt32($1) })
      #expect(wide == octets[24...].reduce(0) { $0 << 8 | UInt64($1) })
      #expect(digest.withUnsafeBytes { [UInt8]($0) } == octets)
    }
  }

  private let octets = (0..<32).map { UInt8($0 * 8) }

  @Test func keepsItsOctets() throws {
    let digest = try #require(Digest32(bytes: octets))
    #expect(digest.bytes == octets)
    #expect(octets.withUnsafeBytes { Digest32($0) } == digest)
    #expect(Digest32(hex: digest.hex) == digest)
    #expect(digest.hex.hasPrefix("0008101820"))
    var buffer = ByteBuffer()
    buffer.append(digest)
    buffer.append(hex: digest)
    #expect(buffer.array() == octets + [UInt8](digest.hex.utf8))
  }

  @Test func refusesOtherCountsAndSpellings() {
    #expect(Digest32(bytes: octets.dropLast()) == nil)
    #expect(Digest32(bytes: octets + [0]) == nil)
    let hex = String(repeating: "a", count: 64)
    #expect(Digest32(hex: hex) != nil)
    for wrong in [hex.uppercased(), String(hex.dropLast()), hex + "a", String(hex.dropLast()) + "g", String(hex.dropLast(2)) + "é"] {
      #expect(Digest32(hex: wrong) == nil)
    }
  }

  @Test func everyOctetCounts() throws {
    let digest = try #require(Digest32(bytes: octets))
    for index in 0..<32 {
      var changed = octets
      changed[index] &+= 1
      let other = try #require(Digest32(bytes: changed))
      #expect(other != digest)
      #expect(digest < other)
      #expect(!(other < digest))
    }
  }
}

@Suite struct SecretBytesTests {
  @Test func neverPrintsItself() {
    let secret = SecretBytes([0x73, 0x33, 0x63, 0x72])
    var dumped = ""
    dump(secret, to: &dumped)
    for text in ["\(secret)", String(reflecting: secret), dumped, String(describing: [secret])] {
      #expect(text.contains("<secret>"))
      #expect(!text.contains("115"))
    }
    #expect(secret.count == 4)
    #expect(secret.withUnsafeBytes { [UInt8]($0) } == [0x73, 0x33, 0x63, 0x72])
    #expect(SecretBytes(count: 3) { $0[1] = 5 }.withUnsafeBytes { [UInt8]($0) } == [0, 5, 0])
  }
}
