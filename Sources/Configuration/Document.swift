import TOMLKit

/// A TOML document as plain values, each with its place.
struct Document {
  /// The longest configuration file, in octets.
  static let byteLimit = 1 << 20

  /// One value and where it and its key stand.
  struct Node {
    var value: Value
    var key: Position?
    var position: Position?
  }

  /// A TOML value; dates and times are of no use here and only have a type.
  indirect enum Value {
    case string(String)
    case integer(Int)
    case double(Double)
    case boolean(Bool)
    case array([Node])
    case table([String: Node])
    case date

    /// The type's name as a message says it.
    var typeName: String {
      switch self {
      case .string: "a string"
      case .integer: "a whole number"
      case .double: "a number with a point"
      case .boolean: "a boolean"
      case .array: "an array"
      case .table: "a table"
      case .date: "a date or time"
      }
    }

    /// The value as a message repeats it; what is long or nested is left out.
    var spelling: String? {
      switch self {
      case .string(let text):
        text.unicodeScalars.count > 120 ? nil : "\"\(text.map { $0.isNewline ? " " : String($0) }.joined())\""
      case .integer(let number): String(number)
      case .double(let number): String(number)
      case .boolean(let flag): flag ? "true" : "false"
      case .array, .table, .date: nil
      }
    }
  }

  let root: [String: Node]

  /// Parses a document.
  ///
  /// - Throws: one diagnostic with the place where the text stops being TOML.
  init(_ text: String) throws(ConfigurationSyntaxError) {
    // The parser takes a C string and would silently end at a NUL.
    if let index = text.utf8.firstIndex(of: 0) {
      let before = text.utf8[..<index]
      let line = before.count { $0 == UInt8(ascii: "\n") } + 1
      throw ConfigurationSyntaxError(position: Position(line: line, column: 1), expected: "text without NUL characters")
    }
    if let position = TableHeaders.fault(in: text) {
      throw ConfigurationSyntaxError(position: position, expected: "the name of a table: letters, digits, - and _, or a text in quotes")
    }
    let table: TOMLTable
    do {
      table = try TOMLTable(string: text)
    } catch let error as TOMLParseError {
      let begin = error.source.begin
      throw ConfigurationSyntaxError(position: Position(line: begin.line, column: begin.column), parserWords: error.description)
    } catch {
      throw ConfigurationSyntaxError(position: nil, expected: "TOML 1.0")
    }
    // The same holds for one that an escape makes; where it is not wanted anyway, the spelling costs nothing.
    for escape in ["\\u0000", "\\U00000000"] where text.contains(escape) {
      throw ConfigurationSyntaxError(position: nil, expected: "text without NUL characters")
    }
    root = Self.members(table, SourceMap(text).root)
  }

  private static func members(_ table: TOMLTable, _ places: SourceMap.Entry?) -> [String: Node] {
    var members: [String: Node] = [:]
    for name in table.keys {
      guard let value = table[name] else { continue }
      members[name] = node(value, places?.members[name])
    }
    return members
  }

  private static func node(_ value: any TOMLValueConvertible, _ place: SourceMap.Entry?) -> Node {
    Node(value: converted(value, place), key: place?.key, position: place?.value)
  }

  private static func converted(_ value: any TOMLValueConvertible, _ place: SourceMap.Entry?) -> Value {
    switch value.type {
    case .string: return value.string.map { .string($0) } ?? .date
    case .int: return value.int.map { .integer($0) } ?? .date
    case .double: return value.double.map { .double($0) } ?? .date
    case .bool: return value.bool.map { .boolean($0) } ?? .date
    case .table: return value.table.map { .table(members($0, place)) } ?? .date
    case .array:
      guard let array = value.array else { return .date }
      var nodes: [Node] = []
      for index in 0..<array.count {
        let places = place?.elements ?? []
        nodes.append(node(array[index], index < places.count ? places[index] : nil))
      }
      return .array(nodes)
    case .date, .time, .dateTime: return .date
    }
  }
}

/// Says where a text stops being TOML, and what the parser wanted there.
struct ConfigurationSyntaxError: Error {
  let position: Position?
  let expected: String?
  var advice: String?

  init(position: Position?, expected: String) {
    self.position = position
    self.expected = expected
  }

  /// Takes the parser's sentence apart: `Error while parsing table header: expected ']', saw '\n'`.
  init(position: Position?, parserWords: String) {
    self.position = position
    let prefix = "Error while parsing "
    guard parserWords.hasPrefix(prefix), let colon = parserWords.firstRange(of: ": ") else {
      expected = "TOML 1.0"
      advice = parserWords
      return
    }
    let place = String(parserWords[parserWords.index(parserWords.startIndex, offsetBy: prefix.count)..<colon.lowerBound])
    let fault = String(parserWords[colon.upperBound...])
    if fault.hasPrefix("expected ") {
      expected = fault.dropFirst("expected ".count) + " in a \(place)"
    } else {
      expected = "a \(place)"
      advice = fault
    }
  }
}
