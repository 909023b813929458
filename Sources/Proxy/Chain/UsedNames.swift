import Bytes
import Synchronization

/// Remembers what names stand for that were used lately, for all workers; at the limit the older half is forgotten.
final class UsedNames<Value: Sendable>: Sendable {
  private struct State {
    var values: [Digest32: Value] = [:]
    /// In the order in which they came.
    var names: [Digest32] = []
  }

  private let limit: Int
  private let state = Mutex(State())

  init(limit: Int) { self.limit = limit }

  /// Uses a name, unless it stands for something that still counts; what it stands for then.
  func use(_ name: Digest32, for value: Value, unless counts: (Value) -> Bool) -> Value? {
    state.withLock { state in
      if let known = state.values[name] {
        if counts(known) { return known }
      } else {
        state.names.append(name)
      }
      state.values[name] = value
      if state.names.count > limit {
        for old in state.names.prefix(limit / 2) { state.values[old] = nil }
        state.names.removeFirst(limit / 2)
      }
      return nil
    }
  }
}
