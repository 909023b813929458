/// Reads `uri-host [":" port]` (RFC 3986 section 3.2), strictly: host names of letters, digits, `-`, `.` and `_`, IPv4
/// addresses and bracketed IPv6 literals; no user information, no escapes, no empty port.
public enum Authority {
  /// Octets of the longest host name (RFC 1035 section 2.3.4).
  public static let longestName = 255

  /// Gives how many octets of a valid authority stand before the port's colon; nothing when it is invalid.
  @inline(__always)
  static func nameCount(_ octets: RawSpan, _ range: Range<Int>) -> Int? {
    var index = range.lowerBound
    let end = range.upperBound
    while index < end, OctetClass.hostName.contains(octets.octet(index)) { index &+= 1 }
    if index == range.lowerBound {
      guard index < end, octets.octet(index) == UInt8(ascii: "["), let close = literalEnd(octets, range) else { return nil }
      index = close
    }
    let count = index &- range.lowerBound
    guard count <= longestName else { return nil }
    return index == end || isPort(octets, index..<end) ? count : nil
  }

  /// Tells whether the octets are a valid authority.
  public static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
    nameCount(bytes.bytes, 0..<bytes.count) != nil
  }

  /// Splits a valid authority into its name and its port; nothing when it is invalid.
  public static func split(_ authority: String) -> (name: String, port: UInt16?)? {
    var authority = authority
    return authority.withUTF8 { utf8 in
      let bytes = UnsafeRawBufferPointer(utf8)
      guard let count = nameCount(bytes.bytes, 0..<bytes.count) else { return nil }
      let name = String(decoding: bytes[..<count], as: UTF8.self)
      guard count < bytes.count else { return (name, nil) }
      return (name, UInt16(String(decoding: bytes[(count + 1)...], as: UTF8.self)))
    }
  }

  private static func isPort(_ octets: RawSpan, _ range: Range<Int>) -> Bool {
    guard octets.octet(range.lowerBound) == UInt8(ascii: ":"), (2...6).contains(range.count) else { return false }
    var port = 0
    for index in range.dropFirst() {
      guard octets.octet(index).isDigit else { return false }
      port = port * 10 + Int(octets.octet(index) - 0x30)
    }
    return port <= 0xFFFF
  }

  /// Finds the end of a bracketed IPv6 literal.
  private static func literalEnd(_ octets: RawSpan, _ range: Range<Int>) -> Int? {
    var index = range.lowerBound + 1
    while index < range.upperBound, OctetClass.address.contains(octets.octet(index)) { index += 1 }
    guard index < range.upperBound, octets.octet(index) == UInt8(ascii: "]") else { return nil }
    guard ClientAddress(ipv6Text: octets, range.lowerBound + 1..<index) != nil else { return nil }
    return index + 1
  }

  /// Finds the authority of an `http` or `https` target in absolute-form.
  static func range(inAbsoluteTarget octets: RawSpan, _ target: Range<Int>) -> Range<Int>? {
    var start = target.lowerBound
    if target.count > 7, octets.equalsIgnoringScheme("http://", at: start) {
      start += 7
    } else if target.count > 8, octets.equalsIgnoringScheme("https://", at: start) {
      start += 8
    } else {
      return nil
    }
    var end = start
    while end < target.upperBound, octets.octet(end) != UInt8(ascii: "/"), octets.octet(end) != UInt8(ascii: "?"),
      octets.octet(end) != UInt8(ascii: "#")
    { end += 1 }
    return end > start ? start..<end : nil
  }
}

extension RawSpan {
  /// Compares a scheme and its slashes, ignoring the case of letters.
  fileprivate func equalsIgnoringScheme(_ scheme: StaticString, at start: Int) -> Bool {
    guard start + scheme.utf8CodeUnitCount <= byteCount else { return false }
    // Safe because: a StaticString with a pointer representation holds utf8CodeUnitCount octets for ever.
    let expected = UnsafeRawBufferPointer(start: scheme.utf8Start, count: scheme.utf8CodeUnitCount).bytes
    return equalsIgnoringCase(start..<start + expected.byteCount, expected, 0..<expected.byteCount)
  }
}
