public import Encoding

/// Decides from the outcomes of checks whether a server is up, and when it is asked next. It asks nothing itself.
public struct HealthCheck: Sendable {
  /// When and how often a server is asked, and what its answers mean.
  public struct Rules: Sendable, Hashable {
    /// Nanoseconds between two checks.
    public var interval: Int64
    /// Nanoseconds that a check may take.
    public var timeout: Int64
    /// Passed checks in a row that bring a server up.
    public var rise: Int
    /// Failed checks in a row that take it down.
    public var fall: Int

    public init(interval: Int64, timeout: Int64, rise: Int, fall: Int) {
      self.interval = max(1, interval)
      self.timeout = max(1, timeout)
      self.rise = max(1, rise)
      self.fall = max(1, fall)
    }
  }

  /// What an outcome has changed.
  public enum Change: Equatable, Sendable {
    case wentUp
    case wentDown
  }

  private let rules: Rules
  /// Whether the server can be used. It is believed to be up until the first check has ended, which alone decides.
  public private(set) var isUp = true
  /// When the next check begins; `nil` while one runs.
  public private(set) var nextCheck: Instant?
  private var isKnown = false
  /// Outcomes in a row that speak against `isUp`.
  private var against = 0

  /// Begins with a check within the interval's first tenth; `jitter` is random, so that not all are asked at once.
  public init(_ rules: Rules, at now: Instant, jitter: UInt64) {
    self.rules = rules
    nextCheck = now.advanced(nanoseconds: Self.share(rules.interval / 10, jitter))
  }

  /// Says when a check that begins at `now` has failed for want of an answer.
  public mutating func began(at now: Instant) -> Instant {
    nextCheck = nil
    return now.advanced(nanoseconds: rules.timeout)
  }

  /// Takes a check's outcome. The next one begins an interval later, a tenth more or less by `jitter`.
  public mutating func ended(passed: Bool, at now: Instant, jitter: UInt64) -> Change? {
    let tenth = rules.interval / 10
    nextCheck = now.advanced(nanoseconds: rules.interval - tenth + Self.share(2 * tenth, jitter))
    defer { isKnown = true }
    guard passed != isUp else {
      against = 0
      return nil
    }
    against += 1
    guard !isKnown || against >= (passed ? rules.rise : rules.fall) else { return nil }
    against = 0
    isUp = passed
    return passed ? .wentUp : .wentDown
  }

  private static func share(_ range: Int64, _ random: UInt64) -> Int64 {
    range > 0 ? Int64(random % UInt64(range)) : 0
  }
}
