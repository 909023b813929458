import Glibc

/// Waits: between two presentations of one credential 0.1 s, then twice as long each time.
enum Pause {
  /// The doublings after which the pause no longer grows.
  static let doublingLimit = 5

  static func wait(_ repeats: Int) { wait(for: duration(repeats)) }

  /// How long the pause before a repetition is.
  static func duration(_ repeats: Int) -> Duration {
    let doublings = min(max(0, repeats - 1), doublingLimit)
    return .milliseconds(100 << doublings)
  }

  static func wait(for duration: Duration) {
    let milliseconds = max(0, duration.components.seconds) * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
    // Safe because: the structure is a local; a signal may end the pause early, which harms nothing.
    var time = timespec(tv_sec: Int(milliseconds / 1000), tv_nsec: Int(milliseconds % 1000 * 1_000_000))
    _ = nanosleep(&time, nil)
  }
}
