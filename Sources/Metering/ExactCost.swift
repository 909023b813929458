/// An exact sum of costs: whole base units and a fraction over one fixed denominator.
///
/// A session's cost is one such sum over all its prices and units, rounded up once. So a stream that is cut in a thousand
/// pieces costs what it costs in one.
@frozen
public struct ExactCost: Sendable, Hashable {
  /// 2⁴⁰ · 3² · 5¹²: every decimal and binary size from one octet to a terabyte divides it, and so do per cents of them.
  @inlinable
  public static var denominator: UInt128 { 2_415_919_104_000_000_000_000 }

  /// Nothing.
  @inlinable
  public static var zero: ExactCost { ExactCost(whole: 0, remainder: 0) }

  /// Whole base units.
  public let whole: UInt128
  /// The fraction's numerator, below `denominator`.
  public let numerator: UInt128

  @inlinable
  init(whole: UInt128, remainder: UInt128) {
    self.whole = whole
    self.numerator = remainder
  }

  /// Makes a sum from its two parts, as they are stored; nil when the numerator is not below the denominator.
  @inlinable
  public init?(whole: UInt128, numerator: UInt128) {
    guard numerator < Self.denominator else { return nil }
    self.init(whole: whole, remainder: numerator)
  }

  /// Makes a sum of whole base units.
  @inlinable
  public init(whole: UInt128) {
    self.init(whole: whole, remainder: 0)
  }

  /// Prices a number of units; nil when the result passes 128 bits.
  @inlinable
  public init?(units: UInt64, rate: Rate) {
    let size = UInt128(rate.unitSize)
    let product = rate.amount.multipliedFullWidth(by: UInt128(units))
    let quotient: UInt128
    let remainder: UInt128
    if product.high == 0 {
      (quotient, remainder) = product.low.quotientAndRemainder(dividingBy: size)
    } else {
      guard product.high < size else { return nil }
      (quotient, remainder) = size.dividingFullWidth(product)
    }
    // The remainder is below the size, so scaling it up to the denominator cannot overflow.
    self.init(whole: quotient, remainder: remainder * (Self.denominator / size))
  }

  /// Adds two sums; nil when the result passes 128 bits.
  @inlinable
  public func adding(_ other: ExactCost) -> ExactCost? {
    var remainder = numerator + other.numerator
    var (sum, overflows) = whole.addingReportingOverflow(other.whole)
    if overflows { return nil }
    if remainder >= Self.denominator {
      remainder -= Self.denominator
      (sum, overflows) = sum.addingReportingOverflow(1)
      if overflows { return nil }
    }
    return ExactCost(whole: sum, remainder: remainder)
  }

  /// Subtracts a sum; nil when it is the larger one.
  @inlinable
  public func subtracting(_ other: ExactCost) -> ExactCost? {
    guard other <= self else { return nil }
    if numerator >= other.numerator {
      return ExactCost(whole: whole - other.whole, remainder: numerator - other.numerator)
    }
    return ExactCost(whole: whole - other.whole - 1, remainder: Self.denominator - other.numerator + numerator)
  }

  /// The sum in base units, rounded up; the highest number where rounding would pass it.
  @inlinable
  public var ceiling: UInt128 {
    guard numerator > 0 else { return whole }
    let (up, overflows) = whole.addingReportingOverflow(1)
    return overflows ? .max : up
  }
}

extension ExactCost: Comparable {
  /// Compares two sums exactly.
  @inlinable
  public static func < (left: ExactCost, right: ExactCost) -> Bool {
    left.whole == right.whole ? left.numerator < right.numerator : left.whole < right.whole
  }
}
