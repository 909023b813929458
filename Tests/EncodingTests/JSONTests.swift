import Bytes
import Encoding
import Testing

@Suite struct JSONTests {
  @Test func readsEveryKindOfValue() throws {
    let value = try JSON.parse(
      " {\"a\" : [ null , true,false,-0, 12, -3.5e2 ,\"x\\n\\u00e9\\ud83d\\ude00\\/\" ] ,\"b\":{ },\"c\":[\t] }\r\n"
    )
    let expected: JSONValue = ["a": [nil, true, false, 0, 12, -350, "x\né😀/"], "b": [:], "c": []]
    #expect(value == expected)
    #expect(value["a"]?.arrayValue?[4].intValue == 12)
    #expect(value["a"]?.arrayValue?[1] == true)
    #expect(value["a"]?.arrayValue?[0].isNull == true)
    #expect(value["d"] == nil)
    #expect(value.objectValue?.names == ["a", "b", "c"])
  }

  @Test(arguments: [
    ("", JSONError.unexpectedEnd), (" ", .unexpectedEnd), ("[", .unexpectedEnd), ("[1", .unexpectedEnd), ("[1,", .unexpectedEnd),
    ("{\"a\"", .unexpectedEnd), ("\"a", .unexpectedEnd), ("\"\\", .unexpectedEnd), ("\"\\u12", .unexpectedEnd), ("tru", .unexpectedEnd),
    ("[1,]", .unexpectedOctet(offset: 3)), ("[,1]", .unexpectedOctet(offset: 1)), ("{,}", .unexpectedOctet(offset: 1)),
    ("{\"a\":1,}", .unexpectedOctet(offset: 7)), ("{a:1}", .unexpectedOctet(offset: 1)), ("{\"a\" 1}", .unexpectedOctet(offset: 5)),
    ("[1 2]", .unexpectedOctet(offset: 3)), ("[1}", .unexpectedOctet(offset: 2)), ("trux", .unexpectedOctet(offset: 3)),
    ("nul!", .unexpectedOctet(offset: 3)), ("+1", .unexpectedOctet(offset: 0)), (".5", .unexpectedOctet(offset: 0)),
    ("NaN", .unexpectedOctet(offset: 0)), ("'a'", .unexpectedOctet(offset: 0)), ("\u{FEFF}1", .unexpectedOctet(offset: 0)),
    ("//\n1", .unexpectedOctet(offset: 0)), ("\u{00A0}1", .unexpectedOctet(offset: 0)),
    ("1 1", .trailingOctets(offset: 2)), ("{}}", .trailingOctets(offset: 2)), ("nullx", .trailingOctets(offset: 4)),
    ("1\0", .trailingOctets(offset: 1)), ("0x1", .trailingOctets(offset: 1)), ("-", .malformedNumber(offset: 0)),
    ("01", .malformedNumber(offset: 0)), ("-01", .malformedNumber(offset: 0)), ("00", .malformedNumber(offset: 0)),
    ("1.", .malformedNumber(offset: 0)), ("1.e3", .malformedNumber(offset: 0)), ("[1e]", .malformedNumber(offset: 1)),
    ("1e+", .malformedNumber(offset: 0)), ("1e999", .numberOutOfRange(offset: 0)), ("-1e309", .numberOutOfRange(offset: 0)),
    ("1e-400", .numberOutOfRange(offset: 0)), ("0.00e-400x", .trailingOctets(offset: 9)),
    ("\"\u{01}\"", .controlCharacter(offset: 1)), ("\"a\nb\"", .controlCharacter(offset: 2)),
    ("\"\\x\"", .malformedEscape(offset: 1)), ("\"\\u12g4\"", .malformedEscape(offset: 1)), ("\"\\U0041\"", .malformedEscape(offset: 1)),
    ("\"\\ud800\"", .loneSurrogate(offset: 1)), ("\"\\ud800\\u0041\"", .loneSurrogate(offset: 1)),
    ("\"\\udc00\"", .loneSurrogate(offset: 1)), ("\"\\ud800\\ud800\"", .loneSurrogate(offset: 1)),
    ("\"\\ud800x\"", .loneSurrogate(offset: 1)),
    ("{\"a\":1,\"a\":2}", .duplicateName(offset: 7)), ("{\"a\":1,\"\\u0061\":2}", .duplicateName(offset: 7)),
    ("[{\"b\":{\"\":1,\"\":1}}]", .duplicateName(offset: 12)),
  ])
  func refuses(_ text: String, _ error: JSONError) {
    #expect(throws: error) { try JSON.parse(text) }
  }

  @Test func refusesWhatIsNotUTF8() {
    let wrong: [[UInt8]] = [
      [0x80], [0xC3], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xFF], [0xF0, 0x9F, 0x98],
    ]
    for octets in wrong {
      #expect(throws: JSONError.malformedUTF8(offset: 1)) { try JSON.parse([0x5B, 0x22] + octets + [0x22, 0x5D]) }
      #expect(throws: JSONError.malformedUTF8(offset: 1)) { try JSON.parse([0x5B, 0x22, 0x5C, 0x6E] + octets + [0x22, 0x5D]) }
    }
  }

  @Test func depthAndSizeAreBounded() throws {
    func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
    _ = try JSON.parse(nested(32))
    #expect(throws: JSONError.tooDeep(offset: 32)) { try JSON.parse(nested(33)) }
    #expect(throws: JSONError.tooDeep(offset: 32)) { try JSON.parse(String(repeating: "[", count: 1_000_000)) }
    _ = try JSON.parse("[[],[],{\"a\":[]}]", limits: JSONLimits(octets: 100, depth: 3))
    #expect(throws: JSONError.tooLarge) { try JSON.parse("[1,2]", limits: JSONLimits(octets: 4, depth: 3)) }
  }

  @Test func manyMembersAreComparedToo() throws {
    let members = (0..<40).map { "\"n\($0)\":\($0)" }
    let object = try #require(JSON.parse("{" + members.joined(separator: ",") + "}").objectValue)
    #expect(object.count == 40)
    #expect(object["n39"] == 39)
    for repeated in [0, 15, 16, 39] {
      let text = "{" + (members + ["\"n\(repeated)\":0"]).joined(separator: ",") + "}"
      #expect(throws: JSONError.duplicateName(offset: text.utf8.count - members[repeated].utf8.count - (repeated < 10 ? 1 : 0))) {
        try JSON.parse(text)
      }
    }
  }

  /// Swift takes K and the Kelvin sign for the same text; a signature does not.
  @Test func textsAreComparedByTheirOctets() throws {
    let object = try #require(JSON.parse("{\"\u{212A}\":1,\"K\":2,\"e\u{301}\":3,\"é\":4}").objectValue)
    #expect(object["K"] == 2)
    #expect(object["\u{212A}"] == 1)
    #expect(object["\u{E9}"] == 4)
    #expect(JSONValue.string("K") != .string("\u{212A}"))
    #expect(JSONValue.string("K") == "K")
  }

  @Test func equalityIgnoresTheOrderOfMembers() {
    let (left, right): (JSONObject, JSONObject) = (["a": 1, "b": [1, 2]], ["b": [1, 2], "a": 1])
    #expect(left == right)
    #expect(left.hashValue == right.hashValue)
    #expect(left != ["a": 1, "b": [2, 1]])
    #expect(left != ["a": 1])
  }

  @Test func membersAreSetInPlaceAndRemoved() {
    var object: JSONObject = ["a": 1, "b": 2]
    object.set("a", 3)
    object["c"] = "x"
    #expect(object.names == ["a", "b", "c"])
    #expect(object.remove("b") == 2)
    #expect(object.remove("b") == nil)
    object["c"] = nil
    #expect(object == ["a": 3])
  }

  @Test func numbersKnowTheirRange() {
    #expect(JSONNumber(exactly: 9_007_199_254_740_993) == nil)
    #expect(JSONNumber(exactly: -9_007_199_254_740_992)?.integer == -9_007_199_254_740_992)
    #expect(JSONNumber(UInt128.max).integer == nil)
    #expect(JSONNumber(Double.infinity) == nil)
    #expect(JSONNumber(Double.nan) == nil)
    #expect(JSONNumber(0.5)?.integer == nil)
    #expect(JSONValue.integer(UInt64(7)).intValue == 7)
  }

  @Test func writesForPeople() {
    let value: JSONValue = ["b": 1, "a": [true, nil, [:], []], "c": ["x": "y"]]
    #expect(String(decoding: JSON.serialize(value), as: UTF8.self) == "{\"b\":1,\"a\":[true,null,{},[]],\"c\":{\"x\":\"y\"}}")
    let pretty = """
      {
        "b": 1,
        "a": [
          true,
          null,
          {},
          []
        ],
        "c": {
          "x": "y"
        }
      }
      """
    #expect(String(decoding: JSON.serialize(value, pretty: true), as: UTF8.self) == pretty)
  }

  @Test func changedTextsNeverTrapAndComeBack() throws {
    let seed = [UInt8]("{\"a\":[1,-2.5e3,\"x\\u0041\\ud83d\\ude00é\",{\"b\":null,\"c\":[true,false]}],\"d\":\"\"}".utf8)
    var state: UInt64 = 42
    var accepted = 0
    for _ in 0..<40_000 {
      var text = seed
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      for change in 0..<Int(state >> 62) + 1 {
        let index = Int(state >> (8 + UInt64(change) * 7)) % text.count
        switch state >> 60 & 3 {
        case 0: text[index] = UInt8(truncatingIfNeeded: state >> 20)
        case 1: text.remove(at: index)
        case 2: text.insert(text[Int(state >> 33) % text.count], at: index)
        default: text.swapAt(index, Int(state >> 40) % text.count)
        }
      }
      guard let value = try? JSON.parse(text) else { continue }
      accepted += 1
      let canonical = JCS.serialize(value)
      let again = try JSON.parse(canonical)
      guard again == value, JCS.serialize(again) == canonical, try JSON.parse(JSON.serialize(value, pretty: true)) == value else {
        Issue.record("\(text) does not come back")
        return
      }
    }
    #expect(accepted > 500)
  }

  @Test func everyCutIsAnError() {
    let text = [UInt8]("{\"a\":[1,-2.5e3,\"x\\u0041\\ud83d\\ude00é\",{\"b\":null}]}".utf8)
    for end in text.indices { #expect(throws: JSONError.self) { try JSON.parse([UInt8](text[..<end])) } }
  }
}

@Suite struct JSONStringTests {
  /// Every text of up to 40 octets with one character of each kind at each place: reading goes by eight octets and by one.
  @Test func everyPlaceOfEveryCharacter() throws {
    let characters: [(written: String, read: String)] = [
      ("b", "b"), ("\\\"", "\""), ("\\\\", "\\"), ("\\n", "\n"), ("é", "é"), ("😀", "😀"), ("\u{7F}", "\u{7F}"),
      ("\\u0000", "\0"), (" ", " "), ("#", "#"), ("]", "]"), ("!", "!"),
    ]
    for count in 0..<40 {
      for place in 0...count {
        let (before, after) = (String(repeating: "a", count: place), String(repeating: "a", count: count - place))
        for (written, read) in characters {
          guard try JSON.parse("\"\(before)\(written)\(after)\"") == .string(before + read + after) else {
            Issue.record("\(written) at \(place) of \(count)")
            return
          }
        }
        for control in UInt8(0)..<0x20 {
          #expect(throws: JSONError.controlCharacter(offset: place + 1)) {
            try JSON.parse([0x22] + [UInt8](before.utf8) + [control] + [UInt8](after.utf8) + [0x22])
          }
        }
      }
    }
  }
}
