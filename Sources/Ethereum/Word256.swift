import Bytes

/// Holds an unsigned number of 256 bits, as contracts and signed messages carry it.
///
/// Money inside the proxy has 128 bits: `uint128` is nil for what does not fit, which is then refused.
public struct Word256: Hashable, Sendable {
  /// The upper 128 bits.
  public let high: UInt128
  /// The lower 128 bits.
  public let low: UInt128

  /// The greatest number.
  public static let maximum = Word256(high: .max, low: .max)
  /// The least number.
  public static let zero = Word256(high: 0, low: 0)

  /// Takes the two halves.
  public init(high: UInt128, low: UInt128) {
    self.high = high
    self.low = low
  }

  /// Takes a smaller number.
  public init(_ value: UInt128) { self.init(high: 0, low: value) }

  /// Takes a smaller number.
  public init(_ value: UInt64) { self.init(high: 0, low: UInt128(value)) }

  /// Takes the octets of a digest as a big-endian number.
  public init(_ octets: Digest32) {
    self = octets.withUnsafeBytes { octets in
      // Safe because: a digest has 32 octets, and the loads ask for no alignment.
      Word256(
        high: UInt128(bigEndian: octets.loadUnaligned(fromByteOffset: 0, as: UInt128.self)),
        low: UInt128(bigEndian: octets.loadUnaligned(fromByteOffset: 16, as: UInt128.self)))
    }
  }

  /// Takes an address as a number, as the ABI pads it.
  public init(_ address: Address) {
    var octets = Digest32()
    octets.withUnsafeMutableBytes { out in
      address.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: out[12...]).copyMemory(from: $0) }
    }
    self.init(octets)
  }

  /// Takes at most 32 octets as a big-endian number; nil for more.
  public init?(bigEndian octets: some Collection<UInt8>) {
    guard octets.count <= 32 else { return nil }
    var (high, low): (UInt128, UInt128) = (0, 0)
    for octet in octets {
      high = high << 8 | low >> 120
      low = low << 8 | UInt128(octet)
    }
    self.init(high: high, low: low)
  }

  /// The number as 32 big-endian octets.
  public var octets: Digest32 {
    var octets = Digest32()
    octets.withUnsafeMutableBytes { out in
      out.storeBytes(of: high.bigEndian, toByteOffset: 0, as: UInt128.self)
      out.storeBytes(of: low.bigEndian, toByteOffset: 16, as: UInt128.self)
    }
    return octets
  }

  /// The number where it has at most 128 bits.
  public var uint128: UInt128? { high == 0 ? low : nil }

  /// The number where it has at most 64 bits.
  public var uint64: UInt64? { high == 0 ? UInt64(exactly: low) : nil }

  /// The address in the lower 160 bits; nil where a bit above them is set.
  public var address: Address? { high >> 32 == 0 ? Address(truncating: octets) : nil }

  /// The number as octets without leading zeros; none for zero.
  public var trimmed: ArraySlice<UInt8> { octets.bytes.drop { $0 == 0 } }

  /// Whether the number is zero.
  public var isZero: Bool { high == 0 && low == 0 }

  /// Adds; nil past 256 bits.
  public func adding(_ other: Word256) -> Word256? {
    let (low, carries) = low.addingReportingOverflow(other.low)
    let (sum, overflows) = high.addingReportingOverflow(other.high)
    let (high, overflowsToo) = sum.addingReportingOverflow(carries ? 1 : 0)
    return overflows || overflowsToo ? nil : Word256(high: high, low: low)
  }

  /// Subtracts; nil below zero.
  public func subtracting(_ other: Word256) -> Word256? {
    let (low, borrows) = low.subtractingReportingOverflow(other.low)
    let (difference, underflows) = high.subtractingReportingOverflow(other.high)
    let (high, underflowsToo) = difference.subtractingReportingOverflow(borrows ? 1 : 0)
    return underflows || underflowsToo ? nil : Word256(high: high, low: low)
  }

  /// Multiplies; nil past 256 bits.
  public func multiplied(by factor: UInt64) -> Word256? {
    let (above, low) = low.multipliedFullWidth(by: UInt128(factor))
    let (product, overflows) = high.multipliedReportingOverflow(by: UInt128(factor))
    let (high, overflowsToo) = product.addingReportingOverflow(above)
    return overflows || overflowsToo ? nil : Word256(high: high, low: UInt128(low))
  }
}

extension Word256: Comparable {
  /// Orders as numbers.
  public static func < (left: Word256, right: Word256) -> Bool {
    left.high != right.high ? left.high < right.high : left.low < right.low
  }
}

extension Word256: ExpressibleByIntegerLiteral {
  /// Takes a literal.
  public init(integerLiteral value: UInt64) { self.init(value) }
}
