import Bytes
import Testing

@testable import Ledger

@Suite struct SqueezingTests {
  private func squeezed(_ octets: [UInt8]) -> [UInt8] {
    var out = ByteBuffer()
    octets.withUnsafeBytes { Squeezing.append($0, to: &out) }
    return out.array()
  }

  private func expanded(_ short: [UInt8]) -> [UInt8]? {
    var out = ByteBuffer()
    out.append(byte: 0x21)
    guard short.withUnsafeBytes({ Squeezing.expand($0, to: &out) }) else {
      #expect(out.count == 1, "what does not expand leaves nothing behind")
      return nil
    }
    return Array(out.array().dropFirst())
  }

  @Test func zerosCostOneOctetInEight() {
    #expect(squeezed([]) == [0, 0, 0, 0])
    #expect(squeezed([0, 0, 0, 0, 0, 0, 0, 0]) == [8, 0, 0, 0, 0])
    #expect(squeezed([1, 0, 0, 0, 0, 0, 0, 2, 3, 0]) == [10, 0, 0, 0, 0b1000_0001, 1, 2, 1, 3])
    #expect(squeezed([UInt8](repeating: 9, count: 16)).count == 4 + 18)
  }

  @Test func everyLengthComesBack() {
    var random = SystemRandomNumberGenerator()
    for count in 0..<200 {
      for density in [0, 3, 7, 10] {
        let octets = (0..<count).map { _ in Int.random(in: 0..<10, using: &random) < density ? UInt8.random(in: 0...255, using: &random) : 0 }
        #expect(expanded(squeezed(octets)) == octets)
      }
    }
  }

  @Test func whatIsCutOrTooLongIsRefused() {
    let whole = squeezed([1, 2, 0, 0, 5, 0, 0, 8, 9, 0, 11])
    for count in 0..<whole.count { #expect(expanded(Array(whole[..<count])) == nil) }
    #expect(expanded(whole + [0]) == nil)
    // A length that no input of this size can have, and a bit beyond the last octet.
    #expect(expanded([255, 255, 255, 255, 0]) == nil)
    #expect(expanded([1, 0, 0, 0, 0b10, 7]) == nil)
  }
}
