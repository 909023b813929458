/// Holds an unsigned 256-bit number, for products and sums of amounts before they are divided again.
@frozen
public struct UInt256: Hashable, Sendable {
  /// The upper 128 bits.
  public let high: UInt128
  /// The lower 128 bits.
  public let low: UInt128

  /// Makes a number from its halves.
  @inlinable
  public init(high: UInt128 = 0, low: UInt128) {
    self.high = high
    self.low = low
  }

  /// Multiplies two 128-bit numbers; the product always fits.
  @inlinable
  public init(multiplying left: UInt128, by right: UInt128) {
    let product = left.multipliedFullWidth(by: right)
    self.init(high: product.high, low: product.low)
  }

  /// Adds two numbers; nil when the sum passes 256 bits.
  @inlinable
  public func adding(_ other: UInt256) -> UInt256? {
    let (low, carries) = self.low.addingReportingOverflow(other.low)
    let (sum, passes) = self.high.addingReportingOverflow(other.high)
    let (high, overflows) = sum.addingReportingOverflow(carries ? 1 : 0)
    return passes || overflows ? nil : UInt256(high: high, low: low)
  }

  /// Subtracts a number; nil when it is the larger one.
  @inlinable
  public func subtracting(_ other: UInt256) -> UInt256? {
    guard other <= self else { return nil }
    let (low, borrows) = self.low.subtractingReportingOverflow(other.low)
    return UInt256(high: self.high - other.high - (borrows ? 1 : 0), low: low)
  }

  /// Divides by a 128-bit number.
  ///
  /// - Returns: the quotient, nil when it passes 128 bits, and the remainder; for the divisor zero nil and 0.
  @inlinable
  public func dividedByUInt128(_ divisor: UInt128) -> (quotient: UInt128?, remainder: UInt128) {
    guard divisor != 0 else { return (nil, 0) }
    if high == 0 {
      let (quotient, remainder) = low.quotientAndRemainder(dividingBy: divisor)
      return (quotient, remainder)
    }
    let (quotient, remainder) = divisor.dividingFullWidth((high % divisor, low))
    return (high < divisor ? quotient : nil, remainder)
  }
}

extension UInt256: Comparable {
  /// Compares the upper halves, then the lower ones.
  @inlinable
  public static func < (left: UInt256, right: UInt256) -> Bool {
    left.high == right.high ? left.low < right.low : left.high < right.high
  }
}
