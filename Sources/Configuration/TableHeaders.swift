/// Looks at the heads of a document's tables before the parser does.
///
/// The parser takes for granted that a head's name begins as names do, and ends the whole process where one does not: a slip of the pen in
/// a file that is read anew would stop the proxy. Over text that is TOML up to such a head, this finds it; it decides nothing else.
enum TableHeaders {
  /// Gives where the name of the first head stands that begins with what cannot begin a name; nil where there is none.
  static func fault(in text: String) -> Position? {
    var scanner = TableHeaderScanner(octets: Array(text.utf8))
    return scanner.fault().map { scanner.position(of: $0) }
  }
}

private struct TableHeaderScanner {
  let octets: [UInt8]
  private var index = 0
  /// Lists and inline tables that are open.
  private var depth = 0
  /// Whether nothing but blanks stands before on the line.
  private var isLineBlank = true

  init(octets: [UInt8]) { self.octets = octets }

  mutating func fault() -> Int? {
    if octets.starts(with: [0xEF, 0xBB, 0xBF]) { index = 3 }
    while index < octets.count {
      let octet = octets[index]
      switch octet {
      case UInt8(ascii: "\n"): isLineBlank = true
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): break
      case UInt8(ascii: "#"):
        skipComment()
        continue
      case UInt8(ascii: "\""), UInt8(ascii: "'"):
        isLineBlank = false
        skipString(octet)
        continue
      case UInt8(ascii: "["):
        if isLineBlank, depth == 0, let fault = headFault() { return fault }
        isLineBlank = false
        depth += 1
      case UInt8(ascii: "{"):
        isLineBlank = false
        depth += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        isLineBlank = false
        depth = max(0, depth - 1)
      default: isLineBlank = false
      }
      index += 1
    }
    return nil
  }

  /// Looks behind the brackets that stand here. What ends there is for the parser, which says what is missing.
  private func headFault() -> Int? {
    var place = index + 1
    if place < octets.count, octets[place] == UInt8(ascii: "[") { place += 1 }
    while place < octets.count, octets[place] == UInt8(ascii: " ") || octets[place] == UInt8(ascii: "\t") { place += 1 }
    guard place < octets.count else { return nil }
    switch octets[place] {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
      UInt8(ascii: "_"), UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "]"):
      return nil
    default: return place
    }
  }

  private mutating func skipComment() {
    while index < octets.count, octets[index] != UInt8(ascii: "\n") { index += 1 }
  }

  private func isTriple(_ quote: UInt8) -> Bool {
    index + 2 < octets.count && octets[index] == quote && octets[index + 1] == quote && octets[index + 2] == quote
  }

  private mutating func skipString(_ quote: UInt8) {
    let isLong = isTriple(quote)
    index += isLong ? 3 : 1
    while index < octets.count {
      if octets[index] == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
        index += 2
      } else if isLong, isTriple(quote) {
        // Up to two quotes may stand before the closing three.
        while index < octets.count, octets[index] == quote { index += 1 }
        return
      } else if !isLong, octets[index] == UInt8(ascii: "\n") {
        return
      } else if !isLong, octets[index] == quote {
        index += 1
        return
      } else {
        index += 1
      }
    }
  }

  /// The place as people count it, in characters from 1.
  func position(of place: Int) -> Position {
    let line = octets[..<place].count { $0 == UInt8(ascii: "\n") } + 1
    let start = octets[..<place].lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    return Position(line: line, column: octets[start..<place].count { $0 & 0xC0 != 0x80 } + 1)
  }
}
