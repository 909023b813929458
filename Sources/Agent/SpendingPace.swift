import Encoding

/// Measures what was spent within the last minute, and says how much more may be made available, and when.
///
/// What is spent is noted at the moment when it becomes known, which is never before it was spent; so whatever a session holds may be
/// spent at once, and no minute ever costs more than a limit that was asked about before.
struct SpendingPace: Equatable, Sendable {
  /// The time over which spending is added up.
  static let window = Duration.seconds(60)
  /// What was spent within one such time is noted as one sum, at its end.
  static let grain = Duration.seconds(1)

  private var notes: [Note] = []

  private struct Note: Equatable {
    let since: Instant
    var until: Instant
    var amount: UInt128
  }

  /// Notes that an amount was spent, now at the latest. At most 62 sums are kept: older ones have left the window.
  mutating func spend(_ amount: UInt128, at now: Instant) {
    notes.removeAll { now - $0.until >= Self.window }
    guard amount > 0 else { return }
    if let last = notes.last, now - last.since < Self.grain {
      notes[notes.count - 1].until = now
      notes[notes.count - 1].amount = Self.sum(last.amount, amount)
    } else {
      notes.append(Note(since: now, until: now, amount: amount))
    }
  }

  /// What may be made available now, beside what a session holds already, so that no minute costs more than `limit`.
  func room(within limit: UInt128, beside held: UInt128, at now: Instant) -> UInt128 {
    let used = notes.reduce(held) { now - $1.until >= Self.window ? $0 : Self.sum($0, $1.amount) }
    return limit > used ? limit - used : 0
  }

  /// The first moment, now or later, at which an amount may be made available; nil where there is none, however long the wait.
  func moment(for amount: UInt128, within limit: UInt128, beside held: UInt128, at now: Instant) -> Instant? {
    guard amount <= limit, held <= limit - amount else { return nil }
    var moment = now
    var next = notes.startIndex
    while room(within: limit, beside: held, at: moment) < amount {
      guard next < notes.endIndex else { return nil }
      moment = max(moment, notes[next].until + Self.window)
      next += 1
    }
    return moment
  }

  private static func sum(_ left: UInt128, _ right: UInt128) -> UInt128 {
    let (sum, overflow) = left.addingReportingOverflow(right)
    return overflow ? .max : sum
  }
}
