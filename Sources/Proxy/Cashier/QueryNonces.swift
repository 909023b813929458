import Bytes
import Encoding
import Methods
import Synchronization

/// Remembers which wallet queries have been asked, for as long as their time is accepted; one for all workers.
final class QueryNonces: Sendable {
  /// The process's own.
  static let shared = QueryNonces()
  /// The most queries that are remembered; beyond it queries are refused.
  static let limit = 65_536

  private struct Memory {
    var current: Set<Digest32> = []
    var previous: Set<Digest32> = []
    var since: Timestamp?
  }

  private let memory = Mutex(Memory())

  /// Uses a nonce; false where it has been used, or too many are remembered.
  func use(_ claim: Digest32, at now: Timestamp) -> Bool {
    memory.withLock { memory in
      // A query is accepted for a minute before and after its time, so two generations of two minutes hold it long enough.
      let since = memory.since ?? now
      let age = now - since
      if memory.since == nil || age > WalletQuery.tolerance * 2 || age < .zero - WalletQuery.tolerance * 2 {
        memory.previous = age > WalletQuery.tolerance * 4 ? [] : memory.current
        memory.current = []
        memory.since = now
      }
      guard !memory.current.contains(claim), !memory.previous.contains(claim), memory.current.count < Self.limit else { return false }
      memory.current.insert(claim)
      return true
    }
  }
}
