import Bytes
import Encoding
import Testing

import Usage

private let paths = JSONPaths([
  ("n", .value(1)), ("s", .value(2)), ("o", .value(3)), ("o.n", .value(4)), ("l[]", .value(5)), ("l[][]", .value(6)), ("deep.a[].b.c", .value(7)),
  ("t", .content(0)), ("t.media", .content(1)), ("p[]", .content(2)), ("long_name_of_many_octets", .value(8)),
], root: 0)

/// Everything a passage reports, as text, with the counts at the end.
private func report(_ pieces: [ArraySlice<UInt8>], _ paths: JSONPaths = paths) -> [String] {
  var passage = JSONPassage(paths)
  var found: [String] = []
  for piece in pieces {
    piece.withUnsafeBytes { octets in
      var index = 0
      while true {
        let event = passage.next(in: octets.bytes, at: &index, before: octets.count)
        if event == .needsMore { break }
        if case .text(let field) = event {
          found.append("text \(field) \(String(decoding: passage.text, as: UTF8.self))\(passage.isTextWhole ? "" : " cut")")
        } else {
          found.append("\(event)")
        }
      }
      #expect(index == octets.count)
    }
  }
  found.append("\(passage.isComplete) \((0..<4).map { passage.contentOctets[$0] })")
  return found
}

private func report(_ text: String, _ paths: JSONPaths = paths) -> [String] { report([Array(text.utf8)[...]], paths) }

@Suite struct JSONPassageTests {
  @Test func chosenPathsAreReportedAtEverySplit() {
    let text = """
       { "n" : -0.0, "x": {"n": 1, "o": {"n": 2}}, "s": "a\\u00e9\\n\\ud83d\\ude00\\/z", "o": {"y": [1, {"n": 3}], "n": 42},
      "l": [true, null, 1.5e1, [7, "x"], {}], "deep": {"a": [{"b": {"c": 1e2}}, {"b": {"c": false}}, [{"b": {"c": 5}}]]},
      "\\u006e": 12, "long_name_of_many_octets": "", "t": {"k\\n": ["\\u4e2d", 10, true], "media": "abc"}, "p": ["one", [1, 2], 3] }
      """
    let expected = [
      "opened(0)", "number(1, Usage.JSONPassage.Number.whole(0))", "text 2 aé\n😀/z", "opened(3)", "number(4, Usage.JSONPassage.Number.whole(42))", "closed(3)",
      "boolean(5, true)", "null(5)", "number(5, Usage.JSONPassage.Number.whole(15))", "opened(5)", "number(6, Usage.JSONPassage.Number.whole(7))", "text 6 x",
      "closed(5)", "opened(5)", "closed(5)", "number(7, Usage.JSONPassage.Number.whole(100))", "boolean(7, false)",
      "number(1, Usage.JSONPassage.Number.whole(12))", "text 8 ", "closed(0)",
    ]
    // {"k\n":["中",10,true],"media":""} with a line feed of one octet, the text of media apart, and what "one", [1,2] and 3 have.
    let counts = "true [33, 3, 9, 0]"
    let octets = Array(text.utf8)
    #expect(report(text) == expected + [counts])
    for cut in 0...octets.count { #expect(report(pieces(octets, at: [cut])) == expected + [counts]) }
    #expect(report(octets.indices.map { octets[$0...$0] }) == expected + [counts])
  }

  @Test(arguments: [
    ("0", JSONPassage.Number.whole(0)), ("-0", .whole(0)), ("-0.0e5", .whole(0)), ("12", .whole(12)), ("12.0", .whole(12)), ("12.000000000000000000000000000", .whole(12)),
    ("1.2e1", .whole(12)), ("120e-1", .whole(12)), ("1200000E-5", .whole(12)), ("0.00012e+5", .whole(12)), ("18446744073709551615", .whole(.max)),
    ("18446744073709551616", .tooLarge), ("1844674407370955161500000e-5", .whole(.max)), ("1e19", .whole(10_000_000_000_000_000_000)), ("1e20", .tooLarge),
    ("1e999999999999999999999", .tooLarge), ("1e-999999999999999999999", .fraction), ("0e999999999999999999999", .whole(0)), ("-1", .negative), ("-0.1", .negative),
    ("-99999999999999999999999999", .negative), ("1.5", .fraction), ("0.1", .fraction), ("123456789012345678901234567890", .tooLarge),
  ])
  func numbersAreExact(text: String, number: JSONPassage.Number) {
    let octets = Array(#"{"n":"#.utf8) + Array(text.utf8) + Array("}".utf8)
    let expected = ["opened(0)", "\(JSONPassage.Event.number(1, number))", "closed(0)", "true [0, 0, 0, 0]"]
    for cut in 0...octets.count { #expect(report(pieces(octets, at: [cut])) == expected, "\(text)") }
  }

  @Test func longTextsAreCutAndLongNamesLeadNowhere() {
    let long = String(repeating: "x", count: 1000)
    #expect(report(#"{"s":""# + long + #""}"#)[1] == "text 2 " + String(repeating: "x", count: 128) + " cut")
    #expect(report(#"{"s":""# + String(repeating: "x", count: 128) + #""}"#)[1] == "text 2 " + String(repeating: "x", count: 128))
    #expect(report(#"{""# + long + #"":1,"n":2}"#) == report(#"{"m":1,"n":2}"#))
    #expect(report(#"{"n\ud800":1,"s":"a\ud800b"}"#) == ["opened(0)", "text 2 ab cut", "closed(0)", "true [0, 0, 0, 0]"])
    #expect(report(#"{"s":"\udc00\ud800\u0041"}"#)[1] == "text 2 A cut")
  }

  @Test func escapesCountAsTheirOctets() {
    func count(_ content: String) -> String { report(#"{"t":""# + content + #""}"#).last! }
    #expect(count(#"\n\"\\\/\b\f\r\t"#) == "true [8, 0, 0, 0]")
    #expect(count(#"\u0041\u00e9\u4e2d\ud83d\ude00"#) == "true [10, 0, 0, 0]")
    #expect(count(#"\ud83dx\ud83d\n\ude00"#) == "true [11, 0, 0, 0]")
    #expect(count("é中😀") == "true [9, 0, 0, 0]")
  }

  @Test func whatIsNoJSONIsSaidOnce() {
    let texts = [
      "{]", "[}", "{,}", "[,]", "[1,]", "{\"a\":1,}", "{\"a\"}", "{\"a\":}", "{a:1}", "01", "-", "1.", "1.e5", ".5", "+1", "1e", "1e+", "tru", "nul1", "truee", "\"\\x\"",
      "\"\\u12g4\"", "\"a\nb\"", "\"a\u{1}\"", "1 2", "[] []", "{} x", "\u{1}", "'a'", "[1 2]", "{\"a\" 1}", "\u{FEFF}{}", "--1", "1-", "NaN", "[\"a\":1]", "{1:2}",
    ]
    for text in texts {
      let octets = Array(text.utf8)
      let whole = report([octets[...]])
      #expect(whole.last!.hasPrefix("false"), "\(text)")
      #expect(whole.filter { $0.hasPrefix("wrong") }.count <= 1, "\(text)")
      for cut in 0...octets.count { #expect(report(pieces(octets, at: [cut])) == whole, "\(text)") }
    }
  }

  @Test func depthIsBounded() {
    let limit = JSONPassage.depthLimit
    let deep = String(repeating: "[", count: limit) + String(repeating: "]", count: limit)
    #expect(report(deep).last == "true [0, 0, 0, 0]")
    #expect(report("[" + deep + "]").contains("wrong(Usage.JSONPassage.Fault.tooDeep)"))
    let mixed = String(repeating: #"{"a":["#, count: limit / 2) + String(repeating: "]}", count: limit / 2)
    #expect(report(mixed).last == "true [0, 0, 0, 0]")
    #expect(report(mixed.exchanging("]}]}", for: "}]]}")).last!.hasPrefix("false"))
  }

  @Test func elementsOfARootArrayMayBeLookedAtAsTheRoot() {
    let paths = JSONPaths([("n", .value(1))], root: 0, elementsLikeRoot: true)
    #expect(report(#"[{"n":1},{"n":2}]"#, paths).filter { $0.hasPrefix("number") }.count == 2)
    #expect(report(#"[{"n":1},{"n":2}]"#).filter { $0.hasPrefix("number") }.isEmpty)
  }

  @Test func namesMayBeComparedWithoutCase() {
    let paths = JSONPaths([("num_predict", .value(1))], ignoringCase: true)
    #expect(report(#"{"NUM_predict":1,"num\u005fPREDICT":2,"num\u007fpredict":3,"NUM?PREDICT":4}"#, paths).count == 3)
    #expect(report(#"{"NUM_PREDICT":1}"#, JSONPaths([("num_predict", .value(1))])).count == 1)
  }

  @Test func aPassageGoesOnWithAnotherText() {
    var passage = JSONPassage(paths)
    for text in [#"{"n":1"#, #"{"t":"abc"}"#, "[", #""\u00"#, #"{"t":"de"}"#] {
      passage.restart()
      #expect(passage.isAtStart)
      Array(text.utf8).withUnsafeBytes { octets in
        var index = 0
        while passage.next(in: octets.bytes, at: &index, before: octets.count) != .needsMore {}
      }
    }
    #expect(passage.isComplete)
    #expect(passage.contentOctets[0] == 5)
  }

  /// The strict parser accepts a subset: what it takes is complete, what it refuses for its grammar is not.
  @Test func agreesWithTheStrictParser() throws {
    var generator = SeededGenerator(seed: 3)
    let alphabet = Array(#"{}[],:"\ 01.-+eEtrufalsn9d8"#.utf8)
    let samples = [#"{"a":[1,-2.5e3,true,{"b":null}],"c":"x\u00e9\n"}"#, #"[[],{},"",0,[false]]"#, #"{"s":"\\\"","n":1E+2}"#].map { Array($0.utf8) }
    var accepted = 0
    for round in 0..<6000 {
      var octets = round % 4 == 0 ? [] : samples.randomElement(using: &generator)!
      for _ in 0..<(round % 4 == 0 ? Int.random(in: 1...7, using: &generator) : Int.random(in: 1...2, using: &generator)) {
        let place = Int.random(in: 0...octets.count, using: &generator)
        if Bool.random(using: &generator) || place == octets.count {
          octets.insert(alphabet.randomElement(using: &generator)!, at: place)
        } else if Bool.random(using: &generator) {
          octets[place] = alphabet.randomElement(using: &generator)!
        } else {
          octets.remove(at: place)
        }
      }
      let isComplete = report(pieces(octets, upTo: 3, &generator)).last!.hasPrefix("true")
      do throws(JSONError) {
        _ = try JSON.parse(octets)
        accepted += 1
        #expect(isComplete, "\(String(decoding: octets, as: UTF8.self))")
      } catch {
        switch error {
        case .loneSurrogate, .malformedUTF8, .duplicateName, .numberOutOfRange: break
        case .tooLarge, .tooDeep, .unexpectedEnd, .unexpectedOctet, .trailingOctets, .malformedNumber, .controlCharacter, .malformedEscape:
          #expect(!isComplete, "\(String(decoding: octets, as: UTF8.self)) \(error)")
        }
      }
    }
    #expect(accepted > 500)
  }
}
