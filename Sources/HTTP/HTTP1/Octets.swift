// Reading octets out of a span, one at a time and eight at a time. Every load is bounds-checked by RawSpan.

extension RawSpan {
  /// Reads the octet at an offset; out of bounds is a trap.
  @inline(__always)
  func octet(_ index: Int) -> UInt8 {
    // Safe because: RawSpan checks the bounds, and every bit pattern is a UInt8.
    unsafeLoad(fromByteOffset: index, as: UInt8.self)
  }

  /// Reads the octet at an offset that may be past a range's end, then zero.
  @inline(__always)
  func octet(at index: Int, before end: Int) -> UInt8 {
    index < end ? octet(index) : 0
  }

  /// Reads eight octets, the first in the lowest bits.
  @inline(__always)
  func word(_ index: Int) -> UInt64 {
    // Safe because: RawSpan checks the bounds, and every bit pattern is a UInt64.
    UInt64(littleEndian: unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self))
  }

  /// Compares octets with a spelling, exactly; the caller knows that as many octets follow.
  func equals(_ spelling: StaticString, at start: Int) -> Bool {
    // Safe because: a StaticString with a pointer representation holds utf8CodeUnitCount octets for ever.
    let expected = UnsafeRawBufferPointer(start: spelling.utf8Start, count: spelling.utf8CodeUnitCount).bytes
    guard start + expected.byteCount <= byteCount else { return false }
    for index in 0..<expected.byteCount where octet(start + index) != expected.octet(index) { return false }
    return true
  }

  /// Compares octets with a lower-case spelling of letters, digits and hyphens, ignoring the case of letters.
  @inline(__always)
  func equalsIgnoringCase(_ spelling: StaticString, at start: Int, count: Int) -> Bool {
    guard count == spelling.utf8CodeUnitCount, start + count <= byteCount else { return false }
    // Safe because: a StaticString with a pointer representation holds utf8CodeUnitCount octets for ever.
    let expected = UnsafeRawBufferPointer(start: spelling.utf8Start, count: count).bytes
    guard count >= 8 else {
      for index in 0..<count where !expected.octet(index).isFolded(from: octet(start + index)) { return false }
      return true
    }
    var index = 0
    while index &+ 8 <= count {
      guard expected.word(index).isFolded(from: word(start &+ index)) else { return false }
      index &+= 8
    }
    // The last word overlaps what was compared, which spares a loop over the rest.
    return expected.word(count &- 8).isFolded(from: word(start &+ count &- 8))
  }

  /// Compares two ranges of octets, ignoring the case of letters.
  func equalsIgnoringCase(_ range: Range<Int>, _ other: RawSpan, _ otherRange: Range<Int>) -> Bool {
    guard range.count == otherRange.count else { return false }
    for index in 0..<range.count
    where octet(range.lowerBound + index).lowercased != other.octet(otherRange.lowerBound + index).lowercased {
      return false
    }
    return true
  }

  /// Gives the range without the spaces and tabs at its ends (OWS).
  @inline(__always)
  func trimmed(_ range: Range<Int>) -> Range<Int> {
    var start = range.lowerBound
    var end = range.upperBound
    while start < end, octet(start).isBlank { start &+= 1 }
    while end > start, octet(end &- 1).isBlank { end &-= 1 }
    return start..<end
  }
}

extension UInt64 {
  /// Tells whether a lower-case word is what another becomes when its letters are lowered.
  ///
  /// Only octets that are letters in `self` are folded: 0x20 must not turn a CR into a hyphen.
  @inline(__always)
  func isFolded(from word: UInt64) -> Bool {
    word | ((self & 0x4040_4040_4040_4040) >> 1) == self
  }
}

extension UInt8 {
  @inline(__always)
  func isFolded(from octet: UInt8) -> Bool { octet | ((self & 0x40) >> 1) == self }

  /// Tells whether the octet is a space or a tab.
  @inline(__always)
  var isBlank: Bool { self == 0x20 || self == 0x09 }

  @inline(__always)
  var isDigit: Bool { self &- 0x30 < 10 }

  /// The octet with A to Z lowered.
  @inline(__always)
  var lowercased: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }

  /// The value of a hexadecimal digit, or nothing.
  @inline(__always)
  var hexadecimalValue: UInt8? {
    if self &- 0x30 < 10 { return self &- 0x30 }
    let lowered = self | 0x20
    return lowered &- 0x61 < 6 ? lowered &- 0x57 : nil
  }
}

/// A set of ASCII octets, one bit each.
struct OctetClass: Sendable {
  let low: UInt64
  let high: UInt64

  @inline(__always)
  func contains(_ octet: UInt8) -> Bool {
    octet < 0x80 && ((octet < 0x40 ? low : high) >> UInt64(octet & 0x3F)) & 1 != 0
  }

  /// `tchar` of RFC 9110 section 5.6.2: letters, digits and !#$%&'*+-.^_`|~
  static let token = OctetClass(low: 0x03ff_6cfa_0000_0000, high: 0x57ff_ffff_c7ff_fffe)
  /// `unreserved` of RFC 3986: letters, digits and -._~
  static let unreserved = OctetClass(low: 0x03ff_6000_0000_0000, high: 0x47ff_fffe_87ff_fffe)
  /// What may stand in a path unescaped: `pchar` of RFC 3986, the slash, and []|^, which browsers leave alone.
  static let path = OctetClass(low: 0x2fff_ffd2_0000_0000, high: 0x57ff_fffe_efff_ffff)
  /// What may stand in a query unescaped: the same, and ?{}` besides.
  static let query = OctetClass(low: 0xafff_ffd2_0000_0000, high: 0x7fff_ffff_efff_ffff)
  /// Letters, digits and -._ of a host name.
  static let hostName = OctetClass(low: 0x03ff_6000_0000_0000, high: 0x07ff_fffe_87ff_fffe)
  /// Hexadecimal digits, the colon and the dot of an IP literal.
  static let address = OctetClass(low: 0x07ff_4000_0000_0000, high: 0x0000_007e_0000_007e)
}

/// Scans for the octet that ends an element, eight octets at a time.
///
/// In each test the lowest set bit is exact: a borrow can only make false hits above a true one.
enum Scan {
  private static let ones: UInt64 = 0x0101_0101_0101_0101
  private static let tops: UInt64 = 0x8080_8080_8080_8080

  /// Marks octets below `bound` (at most 0x80).
  @inline(__always)
  private static func below(_ word: UInt64, _ bound: UInt64) -> UInt64 { (word &- ones &* bound) & ~word }

  /// Marks octets equal to `octet`.
  @inline(__always)
  private static func equal(_ word: UInt64, _ octet: UInt64) -> UInt64 {
    let difference = word ^ (ones &* octet)
    return (difference &- ones) & ~difference
  }

  /// Finds the first control octet but the tab, from `start`, or the span's end.
  @inline(__always)
  static func endOfValue(_ octets: RawSpan, from start: Int) -> Int {
    let count = octets.byteCount
    var index = start
    while true {
      while index &+ 8 <= count {
        let word = octets.word(index)
        let hits = (below(word, 0x20) | equal(word, 0x7F)) & tops
        if hits != 0 {
          index &+= hits.trailingZeroBitCount >> 3
          break
        }
        index &+= 8
      }
      while index < count {
        let octet = octets.octet(index)
        if octet == 0x09 {
          index &+= 1
          break
        }
        if octet < 0x20 || octet == 0x7F { return index }
        index &+= 1
      }
      if index >= count { return count }
    }
  }

  /// Finds the first colon, space or control octet below a space, from `start`, or the span's end.
  @inline(__always)
  static func endOfName(_ octets: RawSpan, from start: Int) -> Int {
    let count = octets.byteCount
    var index = start
    while index &+ 8 <= count {
      let word = octets.word(index)
      let hits = (below(word, 0x21) | equal(word, 0x3A)) & tops
      if hits != 0 { return index &+ (hits.trailingZeroBitCount >> 3) }
      index &+= 8
    }
    while index < count {
      let octet = octets.octet(index)
      if octet <= 0x20 || octet == 0x3A { return index }
      index &+= 1
    }
    return count
  }

  /// Finds the first octet that is not visible ASCII, from `start`, or the span's end.
  @inline(__always)
  static func endOfVisible(_ octets: RawSpan, from start: Int) -> Int {
    let count = octets.byteCount
    var index = start
    while index &+ 8 <= count {
      let word = octets.word(index)
      let hits = (below(word, 0x21) | equal(word, 0x7F) | word) & tops
      if hits != 0 { return index &+ (hits.trailingZeroBitCount >> 3) }
      index &+= 8
    }
    while index < count {
      let octet = octets.octet(index)
      if octet <= 0x20 || octet >= 0x7F { return index }
      index &+= 1
    }
    return count
  }

  /// Tells whether a range has at least one octet and only letters, digits and hyphens.
  @inline(__always)
  static func isPlainName(_ octets: RawSpan, _ range: Range<Int>) -> Bool {
    guard range.count >= 8 else {
      for index in range where !isPlain(octets.octet(index)) { return false }
      return !range.isEmpty
    }
    var index = range.lowerBound
    while index &+ 8 <= range.upperBound {
      guard isPlain(octets.word(index)) else { return false }
      index &+= 8
    }
    return isPlain(octets.word(range.upperBound &- 8))
  }

  private static func isPlain(_ octet: UInt8) -> Bool {
    (octet | 0x20) &- 0x61 < 26 || octet.isDigit || octet == UInt8(ascii: "-")
  }

  /// Tells the same of eight octets. The sums stay below 256 in each octet, once none has its top bit.
  @inline(__always)
  private static func isPlain(_ word: UInt64) -> Bool {
    guard word & tops == 0 else { return false }
    let folded = word | ones &* 0x20
    let letters = (folded &+ ones &* (0x80 - 0x61)) & ~(folded &+ ones &* (0x80 - 0x7B))
    let digits = (word &+ ones &* (0x80 - 0x30)) & ~(word &+ ones &* (0x80 - 0x3A))
    let hyphens = ~((word ^ ones &* 0x2D) &+ ones &* 0x7F)
    return (letters | digits | hyphens) & tops == tops
  }

  /// Finds the first line feed from `start`, or the span's end.
  @inline(__always)
  static func lineFeed(_ octets: RawSpan, from start: Int) -> Int {
    let count = octets.byteCount
    var index = start
    while index &+ 8 <= count {
      let hits = equal(octets.word(index), 0x0A) & tops
      if hits != 0 { return index &+ (hits.trailingZeroBitCount >> 3) }
      index &+= 8
    }
    while index < count, octets.octet(index) != 0x0A { index &+= 1 }
    return index
  }
}
