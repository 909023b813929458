extension Timestamp {
  /// The most digits of a second's fraction.
  public static let maximumFractionDigits = 9

  /// Reads a date and time of RFC 3339, section 5.6, of any offset, from 1970 to 9999 in UTC.
  ///
  /// Nil for anything else, for a leap second, and for a fraction of more than nine digits; those after the sixth are dropped.
  public init?(rfc3339 text: String) {
    var text = text
    guard let time = text.withUTF8({ Timestamp(rfc3339: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = time
  }

  /// Reads a date and time, as above.
  public init?(rfc3339 octets: [UInt8]) {
    guard let time = octets.withUnsafeBytes({ Timestamp(rfc3339: $0) }) else { return nil }
    self = time
  }

  /// Reads a date and time, as above.
  public init?(rfc3339 octets: UnsafeRawBufferPointer) {
    guard octets.count >= 20, octets[4] == 0x2D, octets[7] == 0x2D, octets[10] | 0x20 == 0x74, octets[13] == 0x3A,
      octets[16] == 0x3A, let year = Self.number(octets, 0..<4), let month = Self.number(octets, 5..<7),
      let day = Self.number(octets, 8..<10), let date = CivilDate(year: year, month: month, day: day),
      let clock = Self.clock(octets, at: 11), let second = Self.number(octets, 17..<19), second < 60
    else { return nil }
    var index = 19
    guard let fraction = Self.fraction(octets, &index), let offset = Self.offset(octets, at: index) else { return nil }
    let seconds = date.daysSince1970 * 86_400 + clock * 60 + second - offset * 60
    guard seconds >= 0, seconds <= Timestamp.latest.seconds else { return nil }
    self.init(microseconds: Int64(seconds) * 1_000_000 + fraction)
  }

  private static func number(_ octets: UnsafeRawBufferPointer, _ range: Range<Int>) -> Int? {
    var value = 0
    for index in range {
      guard octets[index] >= 0x30, octets[index] <= 0x39 else { return nil }
      value = value * 10 + Int(octets[index] & 15)
    }
    return value
  }

  /// Reads hours and minutes, as minutes; the caller has looked at the colon between them.
  private static func clock(_ octets: UnsafeRawBufferPointer, at index: Int) -> Int? {
    guard let hour = number(octets, index..<index + 2), hour < 24, let minute = number(octets, index + 3..<index + 5),
      minute < 60
    else { return nil }
    return hour * 60 + minute
  }

  /// Reads the fraction of a second, if there is one, in microseconds.
  private static func fraction(_ octets: UnsafeRawBufferPointer, _ index: inout Int) -> Int64? {
    guard octets[index] == 0x2E else { return 0 }
    index += 1
    let start = index
    var value: Int64 = 0
    while index < octets.count, octets[index] >= 0x30, octets[index] <= 0x39 {
      if index - start < 6 { value = value * 10 + Int64(octets[index] & 15) }
      index += 1
      if index - start > maximumFractionDigits { return nil }
    }
    guard index > start else { return nil }
    for _ in min(index - start, 6)..<6 { value *= 10 }
    return value
  }

  /// Reads the offset from UTC, in minutes, up to the end of the text.
  private static func offset(_ octets: UnsafeRawBufferPointer, at index: Int) -> Int? {
    guard index < octets.count else { return nil }
    switch octets[index] {
    case 0x5A, 0x7A: return octets.count == index + 1 ? 0 : nil
    case 0x2B, 0x2D:
      guard octets.count == index + 6, octets[index + 3] == 0x3A, let minutes = clock(octets, at: index + 1) else { return nil }
      return octets[index] == 0x2D ? -minutes : minutes
    default: return nil
    }
  }
}
