import Encoding

/// Names of members that decide something. They are found by what a JSON reader makes of them, escapes included; a name that
/// differs from one of them by its case only is refused, since readers that ignore case (Go's among them) take it for the same.
struct MemberNames {
  /// Which members have been seen, to find one that is there twice.
  private var seen: UInt32 = 0
  private let names: [StaticString]
  /// The longest of the names, in octets.
  private let longest: Int

  /// Looks for at most 32 names of ASCII.
  init(_ names: [StaticString]) {
    self.names = names
    longest = names.reduce(0) { max($0, $1.utf8CodeUnitCount) }
  }

  /// Finds which name a member has; nil where it has another one.
  ///
  /// - Throws: `duplicateMember`, `ambiguousMember`.
  mutating func find(_ name: Range<Int>, in scanner: JSONScanner) throws(MCPError) -> Int? {
    let octets = scanner.octets(name.lowerBound + 1..<name.upperBound - 1)
    // An escaped octet takes six; three octets of UTF-8 may stand for one of ASCII.
    guard octets.count <= longest * 6 else { return nil }
    if octets.allSatisfy({ $0 < 0x80 && $0 != 0x5C }) { return try find(octets, at: name.lowerBound) }
    guard let text = try? JSON.parse(scanner.octets(name)), let string = text.stringValue else { return nil }
    var found: Int?
    try Array(string.utf8).withUnsafeBufferPointer { (decoded) throws(MCPError) in
      found = try find(UnsafeRawBufferPointer(decoded), at: name.lowerBound)
    }
    return found
  }

  private mutating func find(_ octets: UnsafeRawBufferPointer, at offset: Int) throws(MCPError) -> Int? {
    for (index, name) in names.enumerated() {
      // Safe because: the literal's octets live for ever, and are as many as it says.
      let known = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
      if known.count == octets.count, known.elementsEqual(octets) {
        guard seen & 1 << UInt32(index) == 0 else { throw .duplicateMember(offset: offset) }
        seen |= 1 << UInt32(index)
        return index
      }
      if Self.isFolded(octets, to: known) { throw .ambiguousMember(offset: offset) }
    }
    return nil
  }

  /// Compares without regard to case, by Unicode's simple folding: beside A to Z that concerns U+017F (s) and U+212A (k).
  private static func isFolded(_ octets: UnsafeRawBufferPointer, to known: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    for expected in known {
      guard index < octets.count else { return false }
      var octet = octets[index]
      var width = 1
      if octet == 0xC5, index + 1 < octets.count, octets[index + 1] == 0xBF { (octet, width) = (0x73, 2) }
      if octet == 0xE2, index + 2 < octets.count, octets[index + 1] == 0x84, octets[index + 2] == 0xAA { (octet, width) = (0x6B, 3) }
      guard lowercased(octet) == lowercased(expected) else { return false }
      index += width
    }
    return index == octets.count
  }

  private static func lowercased(_ octet: UInt8) -> UInt8 { (0x41...0x5A).contains(octet) ? octet | 0x20 : octet }
}
