import HTTP
import Synchronization

/// Counts the connections of each client (IPv4 address or IPv6 /64) over all workers.
///
/// The kernel spreads a client's connections unevenly over the workers' listeners: a share of the limit for each worker
/// would refuse clients that keep to it, and the whole of it for each would allow several times as many. So the count is
/// one for all; its lock is taken when a connection begins and ends, never for a request.
final class ClientConnections: Sendable {
  private let limit: Atomic<Int>
  /// Has only clients with connections, and so no more entries than there may be connections.
  private let counts = Mutex<[ClientAddress: Int]>([:])

  /// Allows each client `limit` connections at once.
  init(limit: Int) { self.limit = Atomic(limit) }

  /// Changes the limit for connections to come.
  func adopt(limit: Int) { self.limit.store(limit, ordering: .relaxed) }

  /// Counts a connection of the client; false, and not counted, where it has all that it may have.
  func enter(_ client: ClientAddress) -> Bool {
    counts.withLock { counts in
      let count = counts[client.limitKey, default: 0]
      guard count < limit.load(ordering: .relaxed) else { return false }
      counts[client.limitKey] = count + 1
      return true
    }
  }

  /// Counts out a connection that was counted.
  func leave(_ client: ClientAddress) {
    counts.withLock { counts in
      guard let count = counts[client.limitKey] else { return }
      counts[client.limitKey] = count > 1 ? count - 1 : nil
    }
  }
}
