/// Finds where keys and values of a TOML document stand.
///
/// TOMLKit reports positions of syntax errors only. This scanner runs after it, over text that is known to be valid, and
/// records positions; it decides nothing about values, and a construct that it misread would only cost a position.
struct SourceMap {
  /// The places of one key and its value, and of what the value holds.
  final class Entry {
    var key: Position?
    var value: Position?
    var members: [String: Entry] = [:]
    var elements: [Entry] = []

    func member(_ name: String) -> Entry {
      if let known = members[name] { return known }
      let entry = Entry()
      members[name] = entry
      return entry
    }
  }

  /// The document's own table.
  let root = Entry()
  private let octets: [UInt8]
  private var index = 0
  private var line = 1
  private var column = 1

  /// Scans a document.
  init(_ text: String) {
    octets = Array(text.utf8)
    var table = root
    while true {
      skipBlank(lines: true)
      guard let octet = peek else { return }
      if octet == UInt8(ascii: "[") {
        table = header()
      } else {
        pair(in: table)
      }
    }
  }

  private var peek: UInt8? { index < octets.count ? octets[index] : nil }
  private var position: Position { Position(line: line, column: column) }

  private mutating func advance(_ count: Int = 1) {
    for _ in 0..<count where index < octets.count {
      if octets[index] == UInt8(ascii: "\n") {
        line += 1
        column = 1
      } else if octets[index] & 0xC0 != 0x80 {
        column += 1
      }
      index += 1
    }
  }

  private mutating func skipBlank(lines: Bool) {
    while let octet = peek {
      switch octet {
      case UInt8(ascii: " "), UInt8(ascii: "\t"): advance()
      case UInt8(ascii: "\r") where lines, UInt8(ascii: "\n") where lines: advance()
      case UInt8(ascii: "#"): while let next = peek, next != UInt8(ascii: "\n") { _ = next; advance() }
      case 0xEF where index == 0: index = min(3, octets.count)
      default: return
      }
    }
  }

  private mutating func header() -> Entry {
    let start = position
    advance()
    let isArray = peek == UInt8(ascii: "[")
    if isArray { advance() }
    let parts = key()
    while let octet = peek, octet != UInt8(ascii: "\n"), octet != UInt8(ascii: "#") { _ = octet; advance() }
    var table = root
    for (number, part) in parts.enumerated() {
      let member = table.member(part.name)
      if isArray, number == parts.count - 1 {
        let element = Entry()
        element.key = start
        element.value = start
        member.elements.append(element)
        member.key = member.key ?? start
        member.value = member.value ?? start
        return element
      }
      member.key = member.key ?? start
      member.value = member.value ?? start
      table = member.elements.last ?? member
    }
    return table
  }

  private mutating func pair(in table: Entry) {
    let before = index
    var entry = table
    for part in key() {
      entry = entry.member(part.name)
      entry.key = entry.key ?? part.position
      entry.value = entry.value ?? part.position
    }
    skipBlank(lines: false)
    if peek == UInt8(ascii: "=") { advance() }
    skipBlank(lines: false)
    value(into: entry)
    // Progress is certain even over text that is no TOML.
    if index == before { advance() }
  }

  private mutating func key() -> [(name: String, position: Position)] {
    var parts: [(name: String, position: Position)] = []
    while true {
      skipBlank(lines: false)
      let start = position
      guard let octet = peek else { return parts }
      if octet == UInt8(ascii: "\"") || octet == UInt8(ascii: "'") {
        parts.append((quoted(octet), start))
      } else {
        let first = index
        while let next = peek, Self.isBare(next) { _ = next; advance() }
        guard index > first else { return parts }
        parts.append((String(decoding: octets[first..<index], as: UTF8.self), start))
      }
      skipBlank(lines: false)
      guard peek == UInt8(ascii: ".") else { return parts }
      advance()
    }
  }

  private static func isBare(_ octet: UInt8) -> Bool {
    switch octet {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// Reads a quoted key; an escape other than of the quote or a backslash keeps its spelling, for it only names a position.
  private mutating func quoted(_ quote: UInt8) -> String {
    var content: [UInt8] = []
    advance()
    while let octet = peek, octet != quote, octet != UInt8(ascii: "\n") {
      advance()
      if octet == UInt8(ascii: "\\"), quote == UInt8(ascii: "\""), let escaped = peek {
        if escaped != quote, escaped != octet { content.append(octet) }
        content.append(escaped)
        advance()
      } else {
        content.append(octet)
      }
    }
    advance()
    return String(decoding: content, as: UTF8.self)
  }

  private mutating func value(into entry: Entry) {
    entry.value = position
    switch peek {
    case UInt8(ascii: "\""), UInt8(ascii: "'"): skipString()
    case UInt8(ascii: "["): array(into: entry)
    case UInt8(ascii: "{"): inlineTable(into: entry)
    default:
      while let octet = peek {
        switch octet {
        case UInt8(ascii: ","), UInt8(ascii: "]"), UInt8(ascii: "}"), UInt8(ascii: "#"), UInt8(ascii: "\n"), UInt8(ascii: "\r"): return
        default: advance()
        }
      }
    }
  }

  private mutating func skipString() {
    guard let quote = peek else { return }
    let isLong = octets[index...].prefix(3).count == 3 && octets[index...].prefix(3).allSatisfy { $0 == quote }
    guard isLong else {
      _ = quoted(quote)
      return
    }
    advance(3)
    while let octet = peek {
      if octet == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
        advance(2)
      } else if octet == quote, octets[index...].prefix(3).count == 3, octets[index...].prefix(3).allSatisfy({ $0 == quote }) {
        // Up to two quotes may stand before the closing three.
        while peek == quote { advance() }
        return
      } else {
        advance()
      }
    }
  }

  private mutating func array(into entry: Entry) {
    advance()
    while true {
      skipBlank(lines: true)
      guard let octet = peek else { return }
      if octet == UInt8(ascii: "]") {
        advance()
        return
      }
      if octet == UInt8(ascii: ",") {
        advance()
        continue
      }
      let element = Entry()
      let before = index
      value(into: element)
      element.key = element.value
      entry.elements.append(element)
      if index == before { advance() }
    }
  }

  private mutating func inlineTable(into entry: Entry) {
    advance()
    while true {
      skipBlank(lines: true)
      guard let octet = peek else { return }
      if octet == UInt8(ascii: "}") {
        advance()
        return
      }
      if octet == UInt8(ascii: ",") {
        advance()
        continue
      }
      pair(in: entry)
    }
  }
}
