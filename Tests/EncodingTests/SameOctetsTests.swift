import Encoding
import Testing

@Suite struct SameOctetsTests {
  @Test func everyOctetOfEveryLengthCounts() {
    for count in 0...40 {
      let octets = [UInt8](repeating: 0x61, count: count)
      let text = String(decoding: octets, as: UTF8.self)
      #expect(text.hasSameOctets(as: String(decoding: octets, as: UTF8.self)))
      #expect(!text.hasSameOctets(as: text + "a"))
      for index in octets.indices {
        var other = octets
        other[index] = 0x62
        #expect(!text.hasSameOctets(as: String(decoding: other, as: UTF8.self)))
      }
    }
  }

  @Test func equivalentTextsAreTwo() {
    // Equal to Swift, and of the same length: U+0340 and U+0300.
    #expect("a\u{340}" == "a\u{300}" && !"a\u{340}".hasSameOctets(as: "a\u{300}"))
    #expect("K" == "\u{212A}" && !"K".hasSameOctets(as: "\u{212A}"))
    let long = String(repeating: "é", count: 20)
    #expect(long.hasSameOctets(as: String(repeating: "\u{E9}", count: 20)) && !long.hasSameOctets(as: String(repeating: "e\u{301}", count: 20)))
  }
}
