/// Reads one JSON text from its first octet to its last.
struct JSONParser {
  /// Up to so many members, names are compared with one another; above, a set is faster.
  private static let comparedNames = 16

  private let text: UnsafeRawBufferPointer
  private var index = 0
  private var levelsLeft: Int

  init(text: UnsafeRawBufferPointer, depth: Int) {
    self.text = text
    levelsLeft = depth
  }

  mutating func parse() throws(JSONError) -> JSONValue {
    skipSpace()
    let value = try parseValue()
    skipSpace()
    guard index == text.count else { throw .trailingOctets(offset: index) }
    return value
  }

  private mutating func skipSpace() {
    while index < text.count {
      switch text[index] {
      case 0x20, 0x09, 0x0A, 0x0D: index &+= 1
      default: return
      }
    }
  }

  private func peek() throws(JSONError) -> UInt8 {
    guard index < text.count else { throw .unexpectedEnd }
    return text[index]
  }

  private mutating func parseValue() throws(JSONError) -> JSONValue {
    switch try peek() {
    case 0x7B: return .object(try parseObject())
    case 0x5B: return .array(try parseArray())
    case 0x22: return .string(try parseString())
    case 0x74:
      try expect("true")
      return .bool(true)
    case 0x66:
      try expect("false")
      return .bool(false)
    case 0x6E:
      try expect("null")
      return .null
    case 0x2D, 0x30...0x39: return .number(try parseNumber())
    default: throw .unexpectedOctet(offset: index)
    }
  }

  private mutating func expect(_ word: StaticString) throws(JSONError) {
    for offset in 0..<word.utf8CodeUnitCount {
      // Safe because: the offset is below the literal's count of octets.
      guard try peek() == word.utf8Start[offset] else { throw .unexpectedOctet(offset: index) }
      index &+= 1
    }
  }

  private mutating func descend() throws(JSONError) {
    guard levelsLeft > 0 else { throw .tooDeep(offset: index) }
    levelsLeft -= 1
    index &+= 1
    skipSpace()
  }

  private mutating func parseArray() throws(JSONError) -> [JSONValue] {
    try descend()
    var elements: [JSONValue] = []
    if try peek() != 0x5D {
      while true {
        elements.append(try parseValue())
        if try !parseSeparator(closing: 0x5D) { break }
      }
    }
    index &+= 1
    levelsLeft += 1
    return elements
  }

  private mutating func parseObject() throws(JSONError) -> JSONObject {
    try descend()
    var members: [(name: String, value: JSONValue)] = []
    var names: Set<[UInt8]> = []
    if try peek() != 0x7D {
      while true {
        let start = index
        guard try peek() == 0x22 else { throw .unexpectedOctet(offset: index) }
        let name = try parseString()
        guard Self.isNew(name, members, &names) else { throw .duplicateName(offset: start) }
        skipSpace()
        guard try peek() == 0x3A else { throw .unexpectedOctet(offset: index) }
        index &+= 1
        skipSpace()
        members.append((name, try parseValue()))
        if try !parseSeparator(closing: 0x7D) { break }
      }
    }
    index &+= 1
    levelsLeft += 1
    return JSONObject(distinct: members)
  }

  /// Passes a comma and says true, or stops before the closing octet and says false.
  private mutating func parseSeparator(closing: UInt8) throws(JSONError) -> Bool {
    skipSpace()
    let octet = try peek()
    if octet == closing { return false }
    guard octet == 0x2C else { throw .unexpectedOctet(offset: index) }
    index &+= 1
    skipSpace()
    return true
  }

  private static func isNew(
    _ name: String, _ members: [(name: String, value: JSONValue)], _ names: inout Set<[UInt8]>
  ) -> Bool {
    if members.count < comparedNames {
      return !members.contains { $0.name.hasSameOctets(as: name) }
    }
    if names.isEmpty { names = Set(members.map { [UInt8]($0.name.utf8) }) }
    return names.insert([UInt8](name.utf8)).inserted
  }
}

// Strings, section 7.
extension JSONParser {
  private mutating func parseString() throws(JSONError) -> String {
    let start = index
    index &+= 1
    var runStart = index
    var decoded: [UInt8] = []
    while true {
      skipPlain()
      let octet = try peek()
      switch octet {
      case 0x22:
        let run = UnsafeRawBufferPointer(rebasing: text[runStart..<index])
        index &+= 1
        if decoded.isEmpty { return try Self.string(run, at: start) }
        decoded.append(contentsOf: run)
        return try decoded.withUnsafeBufferPointer { (octets) throws(JSONError) -> String in
          try Self.string(UnsafeRawBufferPointer(octets), at: start)
        }
      case 0x5C:
        decoded.append(contentsOf: text[runStart..<index])
        try parseEscape(into: &decoded)
        runStart = index
      case 0..<0x20: throw .controlCharacter(offset: index)
      default: index &+= 1
      }
    }
  }

  /// Passes eight octets at a time as long as none of them ends a run: no quote, no backslash, no control character.
  private mutating func skipPlain() {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let highs: UInt64 = 0x8080_8080_8080_8080
    while text.count &- index >= 8 {
      // Safe because: eight octets are left, and the load asks for no alignment.
      let word = text.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      let (quotes, slashes) = (word ^ ones &* 0x22, word ^ ones &* 0x5C)
      // A borrow may mark a plain octet above a marked one; the octets are then looked at one by one, and nothing is missed.
      let marks = (quotes &- ones) & ~quotes | (slashes &- ones) & ~slashes | (word &- ones &* 0x20) & ~word
      if marks & highs != 0 { return }
      index &+= 8
    }
  }

  private static func string(_ octets: UnsafeRawBufferPointer, at start: Int) throws(JSONError) -> String {
    // The validating initialiser is generic and looks its types up at run time, which costs more than all the rest.
    if isASCII(octets) {
      return String(unsafeUninitializedCapacity: octets.count) { out in
        UnsafeMutableRawBufferPointer(out).copyMemory(from: octets)
        return octets.count
      }
    }
    guard let string = String(validating: octets.assumingMemoryBound(to: UInt8.self), as: UTF8.self) else {
      throw .malformedUTF8(offset: start)
    }
    return string
  }

  private static func isASCII(_ octets: UnsafeRawBufferPointer) -> Bool {
    var seen: UInt64 = 0
    var index = 0
    while octets.count &- index >= 8 {
      // Safe because: eight octets are left, and the load asks for no alignment.
      seen |= octets.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      index &+= 8
    }
    while index < octets.count {
      seen |= UInt64(octets[index])
      index &+= 1
    }
    return seen & 0x8080_8080_8080_8080 == 0
  }

  private mutating func parseEscape(into decoded: inout [UInt8]) throws(JSONError) {
    let start = index
    index &+= 1
    let octet = try peek()
    index &+= 1
    switch octet {
    case 0x22, 0x5C, 0x2F: decoded.append(octet)
    case 0x62: decoded.append(0x08)
    case 0x66: decoded.append(0x0C)
    case 0x6E: decoded.append(0x0A)
    case 0x72: decoded.append(0x0D)
    case 0x74: decoded.append(0x09)
    case 0x75:
      let unit = try parseUnit(start)
      var code = UInt32(unit)
      if unit & 0xFC00 == 0xD800 {
        guard index &+ 1 < text.count, text[index] == 0x5C, text[index &+ 1] == 0x75 else {
          throw .loneSurrogate(offset: start)
        }
        index &+= 2
        let low = try parseUnit(start)
        guard low & 0xFC00 == 0xDC00 else { throw .loneSurrogate(offset: start) }
        code = 0x10000 + (UInt32(unit & 0x3FF) << 10 | UInt32(low & 0x3FF))
      }
      guard let scalar = Unicode.Scalar(code) else { throw .loneSurrogate(offset: start) }
      decoded.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    default: throw .malformedEscape(offset: start)
    }
  }

  private mutating func parseUnit(_ start: Int) throws(JSONError) -> UInt16 {
    var unit: UInt16 = 0
    for _ in 0..<4 {
      let octet = try peek()
      switch octet {
      case 0x30...0x39: unit = unit << 4 | UInt16(octet & 15)
      case 0x41...0x46, 0x61...0x66: unit = unit << 4 | UInt16((octet & 15) + 9)
      default: throw .malformedEscape(offset: start)
      }
      index &+= 1
    }
    return unit
  }
}

// Numbers, section 6.
extension JSONParser {
  /// Whole numbers of so many digits are below 2⁵³ and need no rounding.
  private static let exactDigits = 15

  private mutating func parseNumber() throws(JSONError) -> JSONNumber {
    let start = index
    let isNegative = text[index] == 0x2D
    if isNegative { index &+= 1 }
    let wholeStart = index
    var isZero = try parseDigits(start)
    guard index - wholeStart == 1 || text[wholeStart] != 0x30 else { throw .malformedNumber(offset: start) }
    let whole = wholeStart..<index
    var isWhole = true
    if index < text.count, text[index] == 0x2E {
      index &+= 1
      isWhole = false
      if try !parseDigits(start) { isZero = false }
    }
    if index < text.count, text[index] | 0x20 == 0x65 {
      index &+= 1
      isWhole = false
      if index < text.count, text[index] == 0x2B || text[index] == 0x2D { index &+= 1 }
      _ = try parseDigits(start)
    }
    if isWhole, whole.count <= Self.exactDigits {
      let value = text[whole].reduce(Int64(0)) { $0 &* 10 &+ Int64($1 & 15) }
      return JSONNumber(isNegative ? -value : value)
    }
    let word = String(decoding: UnsafeRawBufferPointer(rebasing: text[start..<index]), as: UTF8.self)
    guard let value = Double(word), let number = JSONNumber(value), value != 0 || isZero else {
      throw .numberOutOfRange(offset: start)
    }
    return number
  }

  /// Passes at least one digit; says whether all were zero.
  private mutating func parseDigits(_ start: Int) throws(JSONError) -> Bool {
    let first = index
    var isZero = true
    while index < text.count, text[index] >= 0x30, text[index] <= 0x39 {
      if text[index] != 0x30 { isZero = false }
      index &+= 1
    }
    guard index > first else { throw .malformedNumber(offset: start) }
    return isZero
  }
}
