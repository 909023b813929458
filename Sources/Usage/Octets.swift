// Reading octets out of a span, one at a time and eight at a time. Every load is bounds-checked by RawSpan.

extension RawSpan {
  /// Reads the octet at an offset; out of bounds is a trap.
  @inline(__always)
  func octet(_ index: Int) -> UInt8 {
    // Safe because: RawSpan checks the bounds, and every bit pattern is a UInt8.
    unsafeLoad(fromByteOffset: index, as: UInt8.self)
  }

  /// Reads eight octets, the first in the lowest bits.
  @inline(__always)
  func word(_ index: Int) -> UInt64 {
    // Safe because: RawSpan checks the bounds, and every bit pattern is a UInt64.
    UInt64(littleEndian: unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self))
  }

  /// Compares a range of octets with a spelling.
  func equals(_ spelling: StaticString, _ range: Range<Int>) -> Bool {
    guard spelling.utf8CodeUnitCount == range.count else { return false }
    return spelling.withUTF8Buffer { expected in
      for index in 0..<expected.count where octet(range.lowerBound + index) != expected[index] { return false }
      return true
    }
  }

  /// Compares a range of octets with a spelling in lower case, ignoring the case of ASCII letters.
  func equalsIgnoringCase(_ spelling: StaticString, _ range: Range<Int>) -> Bool {
    guard spelling.utf8CodeUnitCount == range.count else { return false }
    return spelling.withUTF8Buffer { expected in
      for index in 0..<expected.count {
        let octet = octet(range.lowerBound + index)
        guard (octet &- 0x41 < 26 ? octet | 0x20 : octet) == expected[index] else { return false }
      }
      return true
    }
  }
}

/// Scans for the octet that ends a run, eight octets at a time.
///
/// In each test the lowest set bit is exact: a borrow can only make false hits above a true one.
enum OctetRun {
  @inline(__always)
  static func equal(_ word: UInt64, _ octet: UInt64) -> UInt64 {
    let difference = word ^ (0x0101_0101_0101_0101 &* octet)
    return (difference &- 0x0101_0101_0101_0101) & ~difference
  }

  /// Finds the first quotation mark, backslash or control character, or `end`.
  @inline(__always)
  static func endOfString(_ octets: RawSpan, from start: Int, before end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
      let word = octets.word(index)
      let controls = (word &- 0x2020_2020_2020_2020) & ~word
      let hits = (equal(word, 0x22) | equal(word, 0x5C) | controls) & 0x8080_8080_8080_8080
      if hits != 0 { return index &+ (hits.trailingZeroBitCount >> 3) }
      index &+= 8
    }
    while index < end {
      let octet = octets.octet(index)
      if octet == 0x22 || octet == 0x5C || octet < 0x20 { return index }
      index &+= 1
    }
    return end
  }

  /// Finds the first line feed or carriage return, or `end`.
  @inline(__always)
  static func endOfLine(_ octets: RawSpan, from start: Int, before end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
      let word = octets.word(index)
      let hits = (equal(word, 0x0A) | equal(word, 0x0D)) & 0x8080_8080_8080_8080
      if hits != 0 { return index &+ (hits.trailingZeroBitCount >> 3) }
      index &+= 8
    }
    while index < end {
      let octet = octets.octet(index)
      if octet == 0x0A || octet == 0x0D { return index }
      index &+= 1
    }
    return end
  }

  /// Finds the first line feed, or `end`.
  @inline(__always)
  static func lineFeed(_ octets: RawSpan, from start: Int, before end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
      let hits = equal(octets.word(index), 0x0A) & 0x8080_8080_8080_8080
      if hits != 0 { return index &+ (hits.trailingZeroBitCount >> 3) }
      index &+= 8
    }
    while index < end, octets.octet(index) != 0x0A { index &+= 1 }
    return index
  }
}
