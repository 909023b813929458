import Bytes
import Encoding
import Synchronization

/// Remembers which nonces of sign-ins were used, for all workers of the process, as long as one could be used again.
final class UsedNonces: Sendable {
  /// The most at once; beyond it no sign-in is taken, since none is forgotten before its time.
  static let limit = 65_536

  private struct State {
    var times: [Digest32: Timestamp] = [:]
    /// In the order in which they came, from the first that is still remembered on.
    var nonces: [Digest32] = []
    var first = 0
  }

  /// Makes nonces this process's own: which ones another one took is not known here.
  let salt = UInt64.random(in: .min ... .max)
  private let span: Duration
  private let limit: Int
  private let state = Mutex(State())

  /// - Parameter span: how long a nonce can be used.
  init(span: Duration, limit: Int = UsedNonces.limit) {
    self.span = span
    self.limit = limit
  }

  /// Uses a nonce; false where it was used, or where too many were.
  func use(_ nonce: Digest32, at now: Timestamp) -> Bool {
    state.withLock { state in
      while state.first < state.nonces.count, let time = state.times[state.nonces[state.first]], time + span < now {
        state.times[state.nonces[state.first]] = nil
        state.first += 1
      }
      if state.first > limit {
        state.nonces.removeFirst(state.first)
        state.first = 0
      }
      guard state.times[nonce] == nil, state.times.count < limit else { return false }
      state.times[nonce] = now
      state.nonces.append(nonce)
      return true
    }
  }
}
