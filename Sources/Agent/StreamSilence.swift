/// Measures silence inside a body: looks come after one second, then ever more seldom while nothing happens.
struct StreamSilence {
  /// The longest time between two looks.
  static let longest = Duration.seconds(8)

  private(set) var interval = Duration.seconds(1)
  private(set) var total = Duration.zero

  /// Notes that the interval has passed in silence.
  mutating func grow() {
    total += interval
    interval = min(interval * 2, Self.longest)
  }

  /// Notes that something came.
  mutating func end() {
    interval = .seconds(1)
    total = .zero
  }
}
