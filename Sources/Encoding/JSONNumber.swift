/// Holds a JSON number as the double that RFC 8785 makes of it; whole numbers up to 2⁵³ in size are exact.
public struct JSONNumber: Hashable, Sendable {
  /// The greatest whole number that stands for itself only: 2⁵³.
  public static let maximumInteger: Int64 = 9_007_199_254_740_992

  /// The number; finite.
  public let double: Double

  /// Makes a number; nil for an infinite one or none at all.
  public init?(_ value: Double) {
    guard value.isFinite else { return nil }
    double = value
  }

  /// Makes a number of a whole one; past 2⁵³ it is rounded to the nearest double, past the doubles to the greatest of them.
  public init(_ value: some BinaryInteger) {
    let rounded = Double(value)
    if rounded.isFinite {
      double = rounded
    } else {
      double = value < 0 ? -Double.greatestFiniteMagnitude : Double.greatestFiniteMagnitude
    }
  }

  /// Makes a number of a whole one; nil when it is past 2⁵³ in size.
  public init?(exactly value: some BinaryInteger) {
    guard value.magnitude <= Self.maximumInteger.magnitude else { return nil }
    double = Double(value)
  }

  /// The whole number where it is one and at most 2⁵³ in size.
  public var integer: Int64? {
    guard double.magnitude <= Double(Self.maximumInteger) else { return nil }
    return Int64(exactly: double)
  }
}

extension JSONNumber: ExpressibleByIntegerLiteral {
  /// Makes a number of a literal, rounded past 2⁵³.
  public init(integerLiteral value: Int64) { self.init(value) }
}
