/// A client's address as audit lines carry it: 16 octets, IPv4 in its mapped form.
@frozen
public struct AuditAddress: Sendable, Hashable {
  /// The first eight octets, big-endian.
  public var high: UInt64
  /// The last eight.
  public var low: UInt64

  @inlinable
  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Makes an address from four octets, big-endian.
  @inlinable
  public init(ipv4: UInt32) {
    self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(ipv4))
  }

  /// No address: the line has no `client`.
  @inlinable
  public static var none: AuditAddress { AuditAddress(high: 0, low: 0) }

  /// The address in text: dotted for IPv4, RFC 5952 for IPv6, nil for none.
  public var text: String? {
    if self == .none { return nil }
    if high == 0, low >> 32 == 0xFFFF {
      return "\(UInt8(truncatingIfNeeded: low >> 24)).\(UInt8(truncatingIfNeeded: low >> 16)).\(UInt8(truncatingIfNeeded: low >> 8)).\(UInt8(truncatingIfNeeded: low))"
    }
    let groups = (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> (48 - 16 * UInt64($0 & 3))) }
    // RFC 5952 section 4.2: the longest run of at least two zero groups is written as "::", the first one where several are as long.
    var best = 0..<0
    var start = 0
    while start < 8 {
      var end = start
      while end < 8, groups[end] == 0 { end += 1 }
      if end - start >= 2, end - start > best.count { best = start..<end }
      start = max(end, start + 1)
    }
    let hex = { (part: ArraySlice<UInt16>) in part.map { String($0, radix: 16) }.joined(separator: ":") }
    return best.isEmpty ? hex(groups[...]) : "\(hex(groups[..<best.lowerBound]))::\(hex(groups[best.upperBound...]))"
  }
}
