import Encoding
import Ethereum
import Synchronization

/// Remembers whose payments have cost gas and brought nothing: what passes a simulation and is undone on the chain can be had again and
/// again, at our expense.
final class PaidReverts: Sendable {
  /// How long one counts.
  static let span = Duration.seconds(600)
  /// So many in that time are too many: of an account with a key, which may have spent its money twice by accident; of a contract, whose
  /// code can tell a simulation from the chain; and of all whose fees we pay.
  static let keyLimit = 3
  static let contractLimit = 1
  static let sponsoredLimit = 20
  /// The most accounts that are remembered; the oldest go first.
  static let accountLimit = 4096

  private struct State {
    var times: [Address: [Instant]] = [:]
    var sponsored: [Instant] = []
  }

  private let state = Mutex(State())

  /// One was undone.
  func note(_ payer: Address, isSponsored: Bool = false, at now: Instant = .now()) {
    state.withLock { state in
      if isSponsored { state.sponsored = state.sponsored.filter { now - $0 < Self.span }.suffix(Self.sponsoredLimit) + [now] }
      if state.times[payer] == nil, state.times.count >= Self.accountLimit {
        state.times = state.times.filter { now - ($0.value.last ?? now) < Self.span }
        if state.times.count >= Self.accountLimit, let oldest = state.times.min(by: { ($0.value.last ?? now) < ($1.value.last ?? now) })?.key {
          state.times[oldest] = nil
        }
      }
      state.times[payer] = (state.times[payer] ?? []).filter { now - $0 < Self.span }.suffix(Self.keyLimit) + [now]
    }
  }

  /// Whether nothing is sent for an account at the moment.
  func isBarred(_ payer: Address, isContract: Bool, at now: Instant = .now()) -> Bool {
    let count = state.withLock { $0.times[payer]?.count(where: { now - $0 < Self.span }) ?? 0 }
    return count >= (isContract ? Self.contractLimit : Self.keyLimit)
  }

  /// Whether nobody's fees are paid at the moment.
  func isSponsoringOver(at now: Instant = .now()) -> Bool {
    state.withLock { $0.sponsored.count(where: { now - $0 < Self.span }) >= Self.sponsoredLimit }
  }
}
