public import Encoding

/// A time over which volume is counted, in UTC.
public enum Period: UInt8, Sendable, Hashable, CaseIterable {
  case hour
  case day
  case month

  /// Reads the word of a configuration.
  public init?(word: some StringProtocol) {
    guard let period = Period.allCases.first(where: { $0.word == word }) else { return nil }
    self = period
  }

  /// The word that a configuration has for it.
  public var word: String {
    switch self {
    case .hour: "hour"
    case .day: "day"
    case .month: "month"
    }
  }

  /// Counts the periods from the beginning of 1970 to the one that an instant lies in.
  public func number(at time: Timestamp) -> Int64 {
    switch self {
    case .hour: time.microseconds / 3_600_000_000
    case .day: Int64(time.day)
    case .month: Int64(time.month)
    }
  }

  /// The longest that one lasts.
  public var longest: Duration {
    switch self {
    case .hour: .seconds(3600)
    case .day: .seconds(86_400)
    case .month: .seconds(31 * 86_400)
    }
  }
}
