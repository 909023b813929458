import Testing

@testable import Configuration

/// Reads a document and follows a path of keys and element numbers.
private func node(_ text: String, _ path: String...) throws -> Document.Node {
  var members = try Document(text).root
  var elements: [Document.Node] = []
  var found: Document.Node?
  for step in path {
    found = Int(step).map { elements[$0] } ?? members[step]
    switch try #require(found).value {
    case .table(let table): members = table
    case .array(let array): elements = array
    case .string, .integer, .double, .boolean, .date: break
    }
  }
  return try #require(found)
}

@Suite struct DocumentTests {
  /// The parser ends the whole process where a table's name begins so, if it comes to it.
  @Test(arguments: [
    ("[;x]\n", 1, 2), ("a = 1\n[é]\n", 2, 2), ("[[#]]", 1, 3), ("a = \"\"\"\n[;\n\"\"\"\"\n  [ ?]\n", 4, 5), ("[\n]", 1, 2), ("l = [\n[1]]\n[=]", 3, 2), ("[[[a]]]", 1, 3),
  ])
  func aTableWithoutANameIsAnErrorAndNotTheEnd(_ text: String, _ line: Int, _ column: Int) {
    do throws(ConfigurationSyntaxError) {
      _ = try Document(text)
      Issue.record("it was read")
    } catch {
      #expect(error.position == Position(line: line, column: column))
    }
  }

  @Test func whatLooksLikeATableInsideOfValuesIsNone() throws {
    let document = try Document("a = [\n[';'], # [;\n['x']]\nb = '[;'\nc = \"\"\"\n[;x\n\\\"\"\"\"\"\"\n[ 'd e' ]\n[[\"f\"]]\n")
    #expect(Set(document.root.keys) == ["a", "b", "c", "d e", "f"])
  }

  @Test func positionsOfEveryForm() throws {
    let text = """
      # comment = 1
      a = 1
        "b c".'d' = "x # [y] \\" = z"   # tail
      long = \"\"\"
      k = 1
      [t]
      \"\"\"\"
      list = [ 1,
        { x = 'é', y = [2, 3] },
      ]
      [table . "sub"]
      k='v'
      [[rows]]
      n = 1
      [[rows]]
      n = 2
      [rows.deep]
      m.o = 2020-01-01
      """
    let cases: [([String], Int, Int)] = [
      (["a"], 2, 5), (["b c", "d"], 3, 15), (["long"], 4, 8), (["list"], 8, 8), (["list", "0"], 8, 10), (["list", "1", "x"], 9, 9),
      (["list", "1", "y", "1"], 9, 22), (["table", "sub", "k"], 12, 3), (["rows", "0"], 13, 1), (["rows", "0", "n"], 14, 5),
      (["rows", "1"], 15, 1), (["rows", "1", "n"], 16, 5), (["rows", "1", "deep", "m", "o"], 18, 7),
    ]
    for (path, line, column) in cases {
      var members = try Document(text).root
      var elements: [Document.Node] = []
      var found: Document.Node?
      for step in path {
        found = Int(step).map { elements[$0] } ?? members[step]
        guard let found else { break }
        switch found.value {
        case .table(let table): members = table
        case .array(let array): elements = array
        case .string, .integer, .double, .boolean, .date: break
        }
      }
      #expect(found?.position == Position(line: line, column: column), "\(path)")
    }
  }

  @Test func valuesKeepTheirTypes() throws {
    let text = "s = 'x'\ni = 7\nd = 1.5\nb = true\nt = 10:00:00\na = []\n"
    #expect(try node(text, "s").value.typeName == "a string")
    #expect(try node(text, "i").value.typeName == "a whole number")
    #expect(try node(text, "d").value.typeName == "a number with a point")
    #expect(try node(text, "b").value.typeName == "a boolean")
    #expect(try node(text, "t").value.typeName == "a date or time")
    #expect(try node(text, "a").value.typeName == "an array")
  }

  @Test(arguments: ["a = ", "[a", "a = 1\na = 2", "a = \"\\x\"", "= 1", "a = [1", "\u{0}", "a = 1\n\u{0}b = 2", "a = \"x\\u0000y\""])
  func whatIsNoDocumentIsRefused(_ text: String) {
    #expect(throws: ConfigurationSyntaxError.self) { try Document(text) }
  }

  /// The scanner runs after the parser, but it must end on any text.
  @Test func scannerEndsOnAnyText() {
    var state: UInt64 = 42
    let pieces = ["[", "]", "{", "}", "\"", "'", "=", ".", ",", "a", " ", "\n", "#", "\\", "\"\"\"", "é", "\r"]
    for _ in 0..<3000 {
      var text = ""
      for _ in 0..<24 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        text += pieces[Int(state >> 33) % pieces.count]
      }
      let map = SourceMap(text)
      #expect(map.root.elements.count <= text.unicodeScalars.count)
    }
  }
}
