import Bytes
import Encoding
import Testing

@Suite struct HexTests {
  @Test func comesBackAndIsStrict() {
    let octets = [UInt8](0...255)
    let text = Hex.encode(octets)
    #expect(text.hasPrefix("000102"))
    #expect(text.hasSuffix("fdfeff"))
    #expect(Hex.decode(text) == octets)
    var buffer = ByteBuffer()
    octets.withUnsafeBytes { Hex.append($0, to: &buffer) }
    #expect(buffer.string() == text)
    #expect(Hex.decode("") == [])
    for wrong in ["0", "0G", "AB", "aB", "0 ", "0x", "é", "g0", "/0", ":0", "`0"] { #expect(Hex.decode(wrong) == nil) }
  }
}

@Suite struct Base58Tests {
  /// Examples of draft-msporny-base58, section 5.
  @Test func encodesTheVectors() {
    #expect(Base58.encode([UInt8]("Hello World!".utf8)) == "2NEpo7TZRRrLZSi2U")
    #expect(
      Base58.encode([UInt8]("The quick brown fox jumps over the lazy dog.".utf8))
        == "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z")
    #expect(Base58.encode([0, 0, 0x28, 0x7F, 0xB4, 0xCD]) == "11233QC4")
    #expect(Base58.decode("11233QC4") == [0, 0, 0x28, 0x7F, 0xB4, 0xCD])
    #expect(Base58.encode([]) == "")
    #expect(Base58.decode("") == [])
  }

  @Test func everyLengthComesBack() {
    var state: UInt64 = 3
    for count in 0...Base58.maximumCount {
      let random = (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 40)
      }
      for octets in [random, [UInt8](repeating: 255, count: count), [UInt8](repeating: 0, count: count), [0, 0] + random.dropFirst(2)]
      where octets.count <= Base58.maximumCount {
        guard let text = Base58.encode(octets), Base58.decode(text) == octets else {
          Issue.record("\(octets) does not come back")
          return
        }
      }
    }
  }

  @Test func refusesForeignDigitsAndWhatIsTooLong() {
    for wrong in ["0", "O", "I", "l", " ", "1 ", "é", "+", "z6Mk0"] { #expect(Base58.decode(wrong) == nil) }
    #expect(Base58.encode([UInt8](repeating: 1, count: Base58.maximumCount + 1)) == nil)
    #expect(Base58.decode(String(repeating: "1", count: Base58.maximumCount + 1)) == nil)
    #expect(Base58.decode(String(repeating: "z", count: Base58.maximumDigits)) == nil)
    #expect(Base58.decode(String(repeating: "z", count: Base58.maximumDigits + 1)) == nil)
  }
}
