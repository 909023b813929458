/// How often something may happen: so many times in a period in the long run, `burst` at once.
public struct RateLimit: Sendable, Hashable {
  /// Nanoseconds that one event costs.
  public let interval: Int64
  /// Events at once.
  public let burst: UInt32

  /// The longest period of a rate, in seconds.
  public static let longestPeriod: Int64 = 86_400

  /// Makes a limit; a rate or burst of zero refuses everything.
  public init(perSecond: UInt32, burst: UInt32) { self.init(count: perSecond, seconds: 1, burst: burst) }

  /// Makes a limit of `count` events in a period of seconds; a count or burst of zero refuses everything.
  public init(count: UInt32, seconds: Int64, burst: UInt32) {
    let period = min(max(seconds, 1), Self.longestPeriod) * 1_000_000_000
    interval = count == 0 ? 0 : max(1, period / Int64(count))
    self.burst = burst
  }

  /// Reads `100/s`, `60/min` or `1000/h`, with ` burst 200` behind it; without, as many come at once as the period has.
  public init?(_ text: String) {
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 1 || words.count == 3 && words[1] == "burst" else { return nil }
    let rate = words[0].split(separator: "/", omittingEmptySubsequences: false)
    let periods: [Substring: Int64] = ["s": 1, "min": 60, "h": 3600, "d": 86_400]
    guard rate.count == 2, let count = Self.count(rate[0]), let seconds = periods[rate[1]] else { return nil }
    guard let burst = words.count == 3 ? Self.count(words[2]) : count else { return nil }
    self.init(count: count, seconds: seconds, burst: burst)
  }

  private static func count(_ text: Substring) -> UInt32? {
    guard let count = UInt32(text), (1...1_000_000_000).contains(count), text.first != "+" else { return nil }
    return count
  }

  /// Nanoseconds that a client may be ahead of its rate when it asks for one event more.
  var allowance: Int64 {
    let (product, overflows) = interval.multipliedReportingOverflow(by: Int64(burst) - 1)
    return overflows ? .max / 4 : min(product, .max / 4)
  }
  var refusesAll: Bool { interval == 0 || burst == 0 }
}

/// Tells whether something may happen.
public enum RateDecision: Equatable, Sendable {
  case admitted
  /// Not now; in so many seconds (Retry-After), at least 1.
  case refused(retryAfter: UInt32)
}
