/// Walks over a JSON text (RFC 8259) and tells where its values stand, without building any of them.
///
/// What is found is an octet range of the text, so that a message can be passed on octet for octet but for what is cut out of it.
struct JSONScanner {
  /// Where a member's name (its quotes included) and its value stand.
  struct Member {
    let name: Range<Int>
    let value: Range<Int>
  }

  let text: UnsafeRawBufferPointer

  /// Checks that the text is one value and nothing after it but white space; returns where the value stands.
  func value() throws(MCPError) -> Range<Int> {
    let start = space(0)
    let end = try skip(start, RPCText.depthLimit)
    guard space(end) == text.count else { throw .notJSON(offset: end) }
    return start..<end
  }

  /// Calls `body` with each member of the object at `range`, which ``value()`` has checked.
  func forEachMember(of range: Range<Int>, _ body: (Member) throws(MCPError) -> Void) throws(MCPError) {
    var index = space(range.lowerBound + 1)
    while octet(index) == 0x22 {
      let name = index..<(try skipString(index))
      let start = space(space(name.upperBound) + 1)
      let value = start..<(try skip(start, RPCText.depthLimit))
      try body(Member(name: name, value: value))
      index = space(value.upperBound)
      guard octet(index) == 0x2C else { return }
      index = space(index + 1)
    }
  }

  /// Calls `body` with each element of the array at `range`, which ``value()`` has checked.
  func forEachElement(of range: Range<Int>, _ body: (Range<Int>) throws(MCPError) -> Void) throws(MCPError) {
    var index = space(range.lowerBound + 1)
    guard octet(index) != 0x5D else { return }
    while true {
      let value = index..<(try skip(index, RPCText.depthLimit))
      try body(value)
      index = space(value.upperBound)
      guard octet(index) == 0x2C else { return }
      index = space(index + 1)
    }
  }

  func isObject(_ range: Range<Int>) -> Bool { octet(range.lowerBound) == 0x7B }
  func isArray(_ range: Range<Int>) -> Bool { octet(range.lowerBound) == 0x5B }
  func isString(_ range: Range<Int>) -> Bool { octet(range.lowerBound) == 0x22 }
  func isTrue(_ range: Range<Int>) -> Bool { octet(range.lowerBound) == 0x74 }

  /// The octets of a range.
  func octets(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: text[range]) }

  // MARK: Values

  /// The octet at `index`; 0, which no text has outside of a string, behind the end.
  @inline(__always)
  private func octet(_ index: Int) -> UInt8 { index < text.count ? text[index] : 0 }

  private func space(_ start: Int) -> Int {
    var index = start
    while index < text.count {
      switch text[index] {
      case 0x20, 0x09, 0x0A, 0x0D: index &+= 1
      default: return index
      }
    }
    return index
  }

  /// Checks the value at `start`; returns where it ends.
  private func skip(_ start: Int, _ levels: Int) throws(MCPError) -> Int {
    switch octet(start) {
    case 0x7B: return try skipObject(start, levels)
    case 0x5B: return try skipArray(start, levels)
    case 0x22: return try skipString(start)
    case 0x74: return try skip("true", start)
    case 0x66: return try skip("false", start)
    case 0x6E: return try skip("null", start)
    case 0x2D, 0x30...0x39: return try skipNumber(start)
    default: throw .notJSON(offset: start)
    }
  }

  private func skip(_ word: StaticString, _ start: Int) throws(MCPError) -> Int {
    for offset in 0..<word.utf8CodeUnitCount {
      // Safe because: the offset is below the literal's count of octets.
      guard octet(start + offset) == word.utf8Start[offset] else { throw .notJSON(offset: start) }
    }
    return start + word.utf8CodeUnitCount
  }

  private func skipObject(_ start: Int, _ levels: Int) throws(MCPError) -> Int {
    guard levels > 0 else { throw .tooDeep(offset: start) }
    var index = space(start + 1)
    if octet(index) == 0x7D { return index + 1 }
    while true {
      guard octet(index) == 0x22 else { throw .notJSON(offset: index) }
      index = space(try skipString(index))
      guard octet(index) == 0x3A else { throw .notJSON(offset: index) }
      index = space(try skip(space(index + 1), levels - 1))
      switch octet(index) {
      case 0x7D: return index + 1
      case 0x2C: index = space(index + 1)
      default: throw .notJSON(offset: index)
      }
    }
  }

  private func skipArray(_ start: Int, _ levels: Int) throws(MCPError) -> Int {
    guard levels > 0 else { throw .tooDeep(offset: start) }
    var index = space(start + 1)
    if octet(index) == 0x5D { return index + 1 }
    while true {
      index = space(try skip(index, levels - 1))
      switch octet(index) {
      case 0x5D: return index + 1
      case 0x2C: index = space(index + 1)
      default: throw .notJSON(offset: index)
      }
    }
  }

  private func skipNumber(_ start: Int) throws(MCPError) -> Int {
    var index = start
    if octet(index) == 0x2D { index += 1 }
    let isZero = octet(index) == 0x30
    let whole = index
    index = try skipDigits(index)
    guard !isZero || index == whole + 1 else { throw .notJSON(offset: start) }
    if octet(index) == 0x2E { index = try skipDigits(index + 1) }
    if octet(index) | 0x20 == 0x65 {
      index += 1
      if octet(index) == 0x2B || octet(index) == 0x2D { index += 1 }
      index = try skipDigits(index)
    }
    return index
  }

  private func skipDigits(_ start: Int) throws(MCPError) -> Int {
    var index = start
    while (0x30...0x39).contains(octet(index)) { index += 1 }
    guard index > start else { throw .notJSON(offset: start) }
    return index
  }
}

// Strings, section 7.
extension JSONScanner {
  /// Checks the string at `start`; returns where it ends, behind its closing quote.
  private func skipString(_ start: Int) throws(MCPError) -> Int {
    var index = start + 1
    while true {
      index = plainEnd(index)
      guard index < text.count else { throw .notJSON(offset: index) }
      let octet = text[index]
      switch octet {
      case 0x22: return index + 1
      case 0x5C: index = try skipEscape(index)
      case 0..<0x20: throw .notJSON(offset: index)
      case 0x20..<0x80: index += 1
      default: index = try skipCharacter(index)
      }
    }
  }

  /// Passes eight octets at a time as long as none of them is a quote, a backslash, a control character or not ASCII.
  private func plainEnd(_ start: Int) -> Int {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let highs: UInt64 = 0x8080_8080_8080_8080
    var index = start
    while text.count &- index >= 8 {
      // Safe because: eight octets are left, and the load asks for no alignment.
      let word = text.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      let (quotes, slashes) = (word ^ ones &* 0x22, word ^ ones &* 0x5C)
      let marks = (quotes &- ones) & ~quotes | (slashes &- ones) & ~slashes | (word &- ones &* 0x20) & ~word | word
      if marks & highs != 0 { return index }
      index &+= 8
    }
    return index
  }

  private func skipEscape(_ start: Int) throws(MCPError) -> Int {
    switch octet(start + 1) {
    case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: return start + 2
    case 0x75:
      let unit = try unit(start + 2)
      guard unit & 0xF800 == 0xD800 else { return start + 6 }
      guard unit < 0xDC00, octet(start + 6) == 0x5C, octet(start + 7) == 0x75, try self.unit(start + 8) & 0xFC00 == 0xDC00 else {
        throw .notJSON(offset: start)
      }
      return start + 12
    default: throw .notJSON(offset: start)
    }
  }

  /// The UTF-16 code unit that four hexadecimal digits write.
  private func unit(_ start: Int) throws(MCPError) -> UInt16 {
    var unit: UInt16 = 0
    for index in start..<start + 4 {
      let octet = octet(index)
      switch octet {
      case 0x30...0x39: unit = unit << 4 | UInt16(octet & 15)
      case 0x41...0x46, 0x61...0x66: unit = unit << 4 | UInt16((octet & 15) + 9)
      default: throw .notJSON(offset: index)
      }
    }
    return unit
  }

  /// Checks one character of several octets (RFC 3629, section 4).
  private func skipCharacter(_ start: Int) throws(MCPError) -> Int {
    let first = text[start]
    let second = octet(start + 1)
    let range: ClosedRange<UInt8>
    let count: Int
    switch first {
    case 0xC2...0xDF: (range, count) = (0x80...0xBF, 2)
    case 0xE0: (range, count) = (0xA0...0xBF, 3)
    case 0xE1...0xEC, 0xEE, 0xEF: (range, count) = (0x80...0xBF, 3)
    case 0xED: (range, count) = (0x80...0x9F, 3)
    case 0xF0: (range, count) = (0x90...0xBF, 4)
    case 0xF1...0xF3: (range, count) = (0x80...0xBF, 4)
    case 0xF4: (range, count) = (0x80...0x8F, 4)
    default: throw .notJSON(offset: start)
    }
    guard range.contains(second) else { throw .notJSON(offset: start) }
    for index in start + 2..<max(start + 2, start + count) where octet(index) & 0xC0 != 0x80 { throw .notJSON(offset: start) }
    return start + count
  }
}
