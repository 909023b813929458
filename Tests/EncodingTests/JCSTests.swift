import Bytes
import Encoding
import Testing

@Suite struct JCSTests {
  private func canonical(_ text: String) throws -> String { String(decoding: JCS.serialize(try JSON.parse(text)), as: UTF8.self) }

  // RFC 8785, appendix B.
  @Test(arguments: [
    (0x0000_0000_0000_0000, "0"), (0x8000_0000_0000_0000, "0"), (0x0000_0000_0000_0001, "5e-324"),
    (0x8000_0000_0000_0001, "-5e-324"), (0x7FEF_FFFF_FFFF_FFFF, "1.7976931348623157e+308"),
    (0xFFEF_FFFF_FFFF_FFFF, "-1.7976931348623157e+308"), (0x4340_0000_0000_0000, "9007199254740992"),
    (0xC340_0000_0000_0000, "-9007199254740992"), (0x4430_0000_0000_0000, "295147905179352830000"),
    (0x44B5_2D02_C7E1_4AF5, "9.999999999999997e+22"), (0x44B5_2D02_C7E1_4AF6, "1e+23"),
    (0x44B5_2D02_C7E1_4AF7, "1.0000000000000001e+23"), (0x444B_1AE4_D6E2_EF4E, "999999999999999700000"),
    (0x444B_1AE4_D6E2_EF4F, "999999999999999900000"), (0x444B_1AE4_D6E2_EF50, "1e+21"),
    (0x3EB0_C6F7_A0B5_ED8C, "9.999999999999997e-7"), (0x3EB0_C6F7_A0B5_ED8D, "0.000001"),
    (0x41B3_DE43_5555_5553, "333333333.3333332"), (0x41B3_DE43_5555_5554, "333333333.33333325"),
    (0x41B3_DE43_5555_5555, "333333333.3333333"), (0x41B3_DE43_5555_5556, "333333333.3333334"),
    (0x41B3_DE43_5555_5557, "333333333.33333343"), (0xBECB_F647_612F_3696, "-0.0000033333333333333333"),
    (0x4314_3FF3_C1CB_0959, "1424953923781206.2"),
  ] as [(UInt64, String)])
  func writesTheNumbers(_ bits: UInt64, _ text: String) throws {
    let number = try #require(JSONNumber(Double(bitPattern: bits)))
    var buffer = ByteBuffer()
    JCS.append(number: number, to: &buffer)
    #expect(buffer.string() == text)
    #expect(try JSON.parse(text).numberValue?.double == Double(bitPattern: bits))
  }

  @Test func everyNumberReadsBack() throws {
    var state: UInt64 = 1
    for _ in 0..<20_000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let value = Double(bitPattern: state ^ state >> 29)
      guard let number = JSONNumber(value) else { continue }
      let octets = JCS.serialize(.number(number))
      guard try JSON.parse(octets).numberValue?.double == value else {
        Issue.record("\(value) does not come back")
        return
      }
    }
  }

  // RFC 8785, sections 3.2.2 and 3.2.4.
  @Test func writesTheSample() throws {
    let text = """
      {
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\"\\/",
        "literals": [null, true, false]
      }
      """
    let expected =
      "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
      + "\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
    #expect(try canonical(text) == expected)
  }

  // RFC 8785, section 3.2.3.
  @Test func sortsTheSample() throws {
    let text = """
      {"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
       "\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}
      """
    let object = try #require(JSON.parse(JCS.serialize(try JSON.parse(text))).objectValue)
    #expect(
      object.members.map { $0.value } == [
        "Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis", "Euro Sign", "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
      ])
  }

  @Test func sortsAsUTF16Does() {
    let names = [
      "", "a", "aa", "ab", "b", "\u{7F}", "\u{80}", "\u{7FF}", "\u{800}", "\u{D7FF}",
      "\u{E000}", "\u{F000}", "\u{FFFD}", "\u{10000}", "\u{10FFFF}", "a\u{FFFF}",
      "a\u{10000}",
    ]
    let object = JSONObject(names.map { ($0, JSONValue.null) })
    let sorted = names.sorted { $0.utf16.lexicographicallyPrecedes($1.utf16) }
    let expected = "{" + sorted.map { "\"\($0)\":null" }.joined(separator: ",") + "}"
    #expect(JCS.serialize(object) == [UInt8](expected.utf8))
  }

  @Test func escapesNoMoreThanIsNeeded() {
    for octet in UInt8(0)...0x7F {
      var buffer = ByteBuffer()
      JCS.append(string: "a\(Character(Unicode.Scalar(octet)))b", to: &buffer)
      let escaped =
        switch octet {
        case 0x08: "\\b"
        case 0x09: "\\t"
        case 0x0A: "\\n"
        case 0x0C: "\\f"
        case 0x0D: "\\r"
        case 0x22: "\\\""
        case 0x5C: "\\\\"
        case 0..<0x10: "\\u000" + String(octet, radix: 16)
        case 0x10..<0x20: "\\u00" + String(octet, radix: 16)
        default: String(Character(Unicode.Scalar(octet)))
        }
      #expect(buffer.array() == [UInt8]("\"a\(escaped)b\"".utf8))
    }
  }
}
