/// Names an instant of the wall clock, in microseconds since 1970-01-01T00:00:00Z, up to the end of the year 9999.
///
/// What would lie outside that range is moved to its nearer end, so that every instant can be written.
@frozen
public struct Timestamp: Hashable, Sendable {
  /// Microseconds since 1970 in UTC, leap seconds not counted: 0 … 253402300799999999.
  public let microseconds: Int64

  /// The first instant: 1970-01-01T00:00:00Z.
  @inlinable
  public static var earliest: Timestamp { Timestamp(microseconds: 0) }
  /// The last instant: the last microsecond of the year 9999.
  @inlinable
  public static var latest: Timestamp { Timestamp(microseconds: 253_402_300_799_999_999) }

  /// Makes an instant from microseconds since 1970; moved into the range.
  @inlinable
  public init(microseconds: Int64) {
    self.microseconds = min(max(microseconds, 0), 253_402_300_799_999_999)
  }

  /// Makes an instant from whole seconds since 1970; moved into the range.
  @inlinable
  public init(seconds: Int64) {
    let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000)
    self.init(microseconds: overflows ? (seconds < 0 ? 0 : .max) : product)
  }

  /// Whole seconds since 1970, rounded down.
  @inlinable
  public var seconds: Int64 { microseconds / 1_000_000 }

  /// Whole days since 1970-01-01 in UTC.
  @inlinable
  public var day: Int32 { Int32(truncatingIfNeeded: microseconds / 86_400_000_000) }

  /// Whole months since January 1970 in UTC.
  public var month: Int32 {
    let date = CivilDate(daysSince1970: Int(day))
    return Int32(truncatingIfNeeded: (date.year - 1970) * 12 + date.month - 1)
  }

  /// Moves an instant; the result stays inside the range, and what is below a microsecond is dropped.
  public static func + (time: Timestamp, duration: Duration) -> Timestamp {
    let (sum, overflows) = time.microseconds.addingReportingOverflow(duration.clampedMicroseconds)
    return Timestamp(microseconds: overflows ? .max : sum)
  }

  /// Moves an instant back; the result stays inside the range, and what is below a microsecond is dropped.
  public static func - (time: Timestamp, duration: Duration) -> Timestamp {
    let (difference, overflows) = time.microseconds.subtractingReportingOverflow(duration.clampedMicroseconds)
    return Timestamp(microseconds: overflows ? .max : difference)
  }

  /// Measures from the second instant to the first; negative where the first is the earlier one.
  public static func - (left: Timestamp, right: Timestamp) -> Duration {
    .microseconds(left.microseconds - right.microseconds)
  }
}

extension Timestamp: Comparable {
  /// Compares the instants' order in time.
  @inlinable
  public static func < (left: Timestamp, right: Timestamp) -> Bool { left.microseconds < right.microseconds }
}

extension Timestamp: CustomStringConvertible {
  /// The instant as RFC 3339 writes it, with milliseconds.
  public var description: String { rfc3339Milliseconds }
}

extension Duration {
  /// Whole microseconds, moved into 64 bits.
  var clampedMicroseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000)
    let (sum, passes) = product.addingReportingOverflow(attoseconds / 1_000_000_000_000)
    return overflows || passes ? (seconds < 0 ? -.max : .max) : sum
  }

  /// Whole nanoseconds, moved into 64 bits.
  var clampedNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, passes) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
    return overflows || passes ? (seconds < 0 ? -.max : .max) : sum
  }
}
