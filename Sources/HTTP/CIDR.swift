/// A block of addresses as in `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291); a bare address is a block of one.
public struct CIDR: Hashable, Sendable {
  /// The first address of the block.
  public let base: ClientAddress
  /// Leading bits that are fixed, counted in the IPv6 form: 96 more than written for IPv4.
  public let prefixLength: UInt8

  /// Reads a block; nothing when the text is no address, the length too large, or a bit behind the prefix is set.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = ClientAddress(String(parts[0])) else { return nil }
    let width = address.isIPv4 && !parts[0].utf8.contains(UInt8(ascii: ":")) ? 32 : 128
    var length = width
    if parts.count == 2 {
      let digits = parts[1].utf8
      guard (1...3).contains(digits.count), digits.allSatisfy({ $0.isDigit }),
        digits.count == 1 || digits.first != UInt8(ascii: "0"), let written = Int(parts[1]), written <= width
      else { return nil }
      length = written
    }
    self.init(base: address, prefixLength: UInt8(length + 128 - width))
  }

  /// Makes a block; nothing when a bit behind the prefix is set or the length exceeds 128.
  public init?(base: ClientAddress, prefixLength: UInt8) {
    guard prefixLength <= 128 else { return nil }
    self.base = base
    self.prefixLength = prefixLength
    guard base.high & ~highMask == 0, base.low & ~lowMask == 0 else { return nil }
  }

  private var highMask: UInt64 { prefixLength >= 64 ? .max : ~(UInt64.max >> UInt64(prefixLength)) }
  private var lowMask: UInt64 { prefixLength <= 64 ? 0 : prefixLength == 128 ? .max : ~(UInt64.max >> UInt64(prefixLength - 64)) }

  /// Tells whether the address is in the block.
  public func contains(_ address: ClientAddress) -> Bool {
    (address.high ^ base.high) & highMask == 0 && (address.low ^ base.low) & lowMask == 0
  }
}
