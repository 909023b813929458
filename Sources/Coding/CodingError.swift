/// Says why coded content cannot be read (any further).
public enum CodingError: Error, Hashable, Sendable {
  /// The octets break a rule of their coding.
  case malformed
  /// Octets follow the end of the coded content.
  case trailingOctets
  /// The content ended in the middle.
  case truncated
  /// More came out of the octets than ``CodingLimits`` allows.
  case tooLarge
  /// The coding asks for more memory than it may have, or there is none.
  case outOfMemory
}

/// Bounds of what coded content may become.
///
/// They bound the work, not the memory, which a piece's size bounds: what one response makes an onlooker decode in all, and at once for what
/// has come. The ratio is what deflate can do at most (RFC 1951: 258 octets for two bits), so that no text of a model's, however repetitive,
/// passes it in gzip; br and zstd can do more, and what they may is the allowance.
public struct CodingLimits: Sendable, Hashable {
  /// Most octets that come out, of one response.
  public var octets: UInt64
  /// Octets that come out for each octet that goes in, beyond ``allowance``.
  public var ratio: UInt64
  /// Octets that come out whatever went in: short content may be very repetitive.
  public var allowance: UInt64

  /// Sets the limits; each is at least 1.
  public init(octets: UInt64 = 512 << 20, ratio: UInt64 = 1032, allowance: UInt64 = 8 << 20) {
    self.octets = max(1, octets)
    self.ratio = max(1, ratio)
    self.allowance = max(1, allowance)
  }

  /// 512 MiB, 1,032 times what came, and 8 MiB.
  public static let standard = CodingLimits()

  /// Whether so much may have come out of so much.
  func allows(_ produced: UInt64, of consumed: UInt64) -> Bool {
    guard produced <= octets else { return false }
    let (scaled, overflows) = consumed.multipliedReportingOverflow(by: ratio)
    if overflows { return true }
    let (most, carries) = scaled.addingReportingOverflow(allowance)
    return carries || produced <= most
  }
}
