/// Names an instant of the monotonic clock, in nanoseconds since an arbitrary start.
///
/// Sums that would pass 64 bits stop at their end.
@frozen
public struct Instant: Hashable, Sendable {
  /// Nanoseconds since the clock's start.
  public let nanoseconds: Int64

  /// Makes an instant from nanoseconds since the clock's start.
  @inlinable
  public init(nanoseconds: Int64) {
    self.nanoseconds = nanoseconds
  }

  /// Moves an instant by nanoseconds; cheaper than by a `Duration`.
  @inlinable
  public func advanced(nanoseconds delta: Int64) -> Instant {
    let (sum, overflows) = nanoseconds.addingReportingOverflow(delta)
    return Instant(nanoseconds: overflows ? (delta < 0 ? .min : .max) : sum)
  }

  /// Moves an instant by milliseconds; cheaper than by a `Duration`.
  @inlinable
  public func advanced(milliseconds delta: Int64) -> Instant {
    let (product, overflows) = delta.multipliedReportingOverflow(by: 1_000_000)
    return advanced(nanoseconds: overflows ? (delta < 0 ? .min : .max) : product)
  }

  /// Counts the nanoseconds from another instant to this one; negative where this is the earlier one.
  @inlinable
  public func nanoseconds(since other: Instant) -> Int64 {
    let (difference, overflows) = nanoseconds.subtractingReportingOverflow(other.nanoseconds)
    return overflows ? (nanoseconds < other.nanoseconds ? .min : .max) : difference
  }

  /// Moves an instant.
  public static func + (instant: Instant, duration: Duration) -> Instant {
    instant.advanced(nanoseconds: duration.clampedNanoseconds)
  }

  /// Moves an instant back.
  public static func - (instant: Instant, duration: Duration) -> Instant {
    instant.advanced(nanoseconds: -duration.clampedNanoseconds)
  }

  /// Measures from the second instant to the first.
  public static func - (left: Instant, right: Instant) -> Duration {
    .nanoseconds(left.nanoseconds(since: right))
  }
}

extension Instant: Comparable {
  /// Compares the instants' order in time.
  @inlinable
  public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }
}
