import Bytes

extension Timestamp {
  /// The instant in UTC as RFC 3339 writes it, in whole seconds: `2026-11-21T10:15:00Z`.
  public var rfc3339: String {
    var buffer = ByteBuffer(capacity: 32)
    append(rfc3339: &buffer)
    return buffer.string()
  }

  /// The instant in UTC as RFC 3339 writes it, with three digits of the second's fraction.
  public var rfc3339Milliseconds: String {
    var buffer = ByteBuffer(capacity: 32)
    append(rfc3339Milliseconds: &buffer)
    return buffer.string()
  }

  /// The instant as the fixed date of HTTP (RFC 9110, section 5.6.7): `Sat, 21 Nov 2026 10:15:00 GMT`.
  public var imfFixdate: String {
    var buffer = ByteBuffer(capacity: 32)
    append(imfFixdate: &buffer)
    return buffer.string()
  }

  /// Appends the twenty octets of `rfc3339`.
  public func append(rfc3339 buffer: inout ByteBuffer) {
    appendDateTime(to: &buffer)
    buffer.append(byte: 0x5A)
  }

  /// Appends the 24 octets of `rfc3339Milliseconds`.
  public func append(rfc3339Milliseconds buffer: inout ByteBuffer) {
    appendDateTime(to: &buffer)
    buffer.append(byte: 0x2E)
    buffer.append(decimal: UInt64(microseconds / 1000 % 1000), digits: 3)
    buffer.append(byte: 0x5A)
  }

  /// Appends the 29 octets of `imfFixdate`.
  public func append(imfFixdate buffer: inout ByteBuffer) {
    let date = CivilDate(daysSince1970: Int(day))
    // 1970-01-01 was a Thursday.
    Self.append(Self.weekdays, (Int(day) + 4) % 7, to: &buffer)
    buffer.append(", ")
    buffer.append(decimal: UInt64(date.day), digits: 2)
    buffer.append(byte: 0x20)
    Self.append(Self.months, date.month - 1, to: &buffer)
    buffer.append(byte: 0x20)
    buffer.append(decimal: UInt64(date.year), digits: 4)
    buffer.append(byte: 0x20)
    appendClock(to: &buffer)
    buffer.append(" GMT")
  }

  private static var weekdays: StaticString { "SunMonTueWedThuFriSat" }
  private static var months: StaticString { "JanFebMarAprMayJunJulAugSepOctNovDec" }

  /// Appends one of the names of three letters.
  private static func append(_ names: StaticString, _ index: Int, to buffer: inout ByteBuffer) {
    names.withUTF8Buffer { octets in
      buffer.append(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(octets)[index * 3..<index * 3 + 3]))
    }
  }

  private func appendDateTime(to buffer: inout ByteBuffer) {
    let date = CivilDate(daysSince1970: Int(day))
    buffer.append(decimal: UInt64(date.year), digits: 4)
    buffer.append(byte: 0x2D)
    buffer.append(decimal: UInt64(date.month), digits: 2)
    buffer.append(byte: 0x2D)
    buffer.append(decimal: UInt64(date.day), digits: 2)
    buffer.append(byte: 0x54)
    appendClock(to: &buffer)
  }

  private func appendClock(to buffer: inout ByteBuffer) {
    let second = seconds % 86_400
    buffer.append(decimal: UInt64(second / 3600), digits: 2)
    buffer.append(byte: 0x3A)
    buffer.append(decimal: UInt64(second / 60 % 60), digits: 2)
    buffer.append(byte: 0x3A)
    buffer.append(decimal: UInt64(second % 60), digits: 2)
  }
}
