import Bytes

extension ClientAddress: CustomStringConvertible {
  /// The address as text (RFC 5952): `192.0.2.1`, `2001:db8::1`.
  public var description: String {
    var buffer = ByteBuffer()
    append(to: &buffer)
    return buffer.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  /// Appends the address as text (RFC 5952), without brackets.
  public func append(to buffer: inout ByteBuffer) {
    guard isIPv4 else { return appendIPv6(to: &buffer) }
    var text = InlineArray<15, UInt8>(repeating: 0x2E)
    var count = 0
    for place in 0..<4 {
      let part = UInt8(truncatingIfNeeded: low >> UInt64(24 - 8 * place))
      if part >= 100 {
        text[count] = 0x30 + part / 100
        count += 1
      }
      if part >= 10 {
        text[count] = 0x30 + part / 10 % 10
        count += 1
      }
      text[count] = 0x30 + part % 10
      // The octet behind the number is a dot already.
      count += place == 3 ? 1 : 2
    }
    buffer.append(text.span.bytes.extracting(0..<count))
  }

  private func group(_ index: Int) -> UInt16 {
    UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> UInt64(48 - index % 4 * 16))
  }

  private func appendIPv6(to buffer: inout ByteBuffer) {
    let gap = longestZeros
    var index = 0
    while index < 8 {
      if index == gap.lowerBound, gap.count > 1 {
        buffer.append("::")
        index = gap.upperBound
        continue
      }
      if index > 0, index != gap.upperBound || gap.count < 2 { buffer.append(byte: UInt8(ascii: ":")) }
      buffer.append(hexadecimal: UInt64(group(index)))
      index += 1
    }
  }

  /// The first of the longest runs of zero groups.
  private var longestZeros: Range<Int> {
    var longest = 0..<0
    var start = 0
    for index in 0..<8 {
      if group(index) != 0 { start = index + 1 } else if index + 1 - start > longest.count { longest = start..<index + 1 }
    }
    return longest
  }
}
