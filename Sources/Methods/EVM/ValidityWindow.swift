import Encoding
import Ethereum

/// The time in which what was signed can settle.
enum ValidityWindow {
  /// The seconds that are left at least, so that a transaction still finds its block.
  static let margin: UInt64 = 6
  /// The seconds ahead at most: what is longer valid would have to be remembered for as long.
  static let limit: UInt64 = 86_400

  /// Checks a window, and returns its end.
  ///
  /// - Parameters:
  ///   - after: the second after which it is open.
  ///   - before: the second until which it is open.
  ///   - latest: seconds of Unix time that are accepted though they lie beyond the limit.
  static func check(
    after: Word256, before: Word256, now: Timestamp, latest: UInt64 = 0, means: ChainChargeError.Means
  ) throws(ChainChargeError) -> Timestamp {
    let seconds = UInt64(clamping: now.seconds)
    guard before >= Word256(seconds &+ margin) else { throw .expired(means) }
    guard after <= Word256(seconds) else { throw .notYetValid(means) }
    guard before <= Word256(max(seconds &+ limit, latest)), let end = before.uint64 else { throw .validTooLong(means) }
    return Timestamp(seconds: Int64(clamping: end))
  }
}
