import Encoding
import IO
import Synchronization

/// Looks the servers' names up, away from the loops: at start, regularly, and when a connect failed, then at most once in
/// `interval`. What was found last stays where a look-up fails.
final class UpstreamResolver: Sendable {
  /// Nanoseconds between two look-ups of one name that were asked for.
  static let interval: Int64 = 5_000_000_000

  /// Finds the addresses of a host; it may block, and gives nothing where the name is not known.
  typealias Resolve = @Sendable (_ host: String, _ port: UInt16) -> [SocketAddress]

  /// Asks as the system is configured to.
  static let bySystem: Resolve = { (try? SocketAddress.resolve($0, port: $1)) ?? [] }

  private struct Known {
    var servers: [RelayPlan.Server]
    /// What was found last.
    var addresses: [[SocketAddress]]
    /// When each name was looked up last.
    var asked: [Int64]

    mutating func adopt(_ servers: [RelayPlan.Server]) {
      // A place that a configuration took which then could not be gone over to may be another server's now.
      for (place, (old, new)) in zip(self.servers, servers).enumerated() where old.host != new.host || old.port != new.port {
        addresses[place] = []
      }
      self.servers = servers
      while addresses.count < servers.count {
        addresses.append([])
        asked.append(.min / 2)
      }
    }
  }

  private let offload = Offload()
  private let resolve: Resolve
  private let controls = Mutex<[WorkerControl]>([])
  private let known = Mutex(Known(servers: [], addresses: [], asked: []))

  /// Prepares a resolver.
  init(_ servers: [RelayPlan.Server], resolve: @escaping Resolve = UpstreamResolver.bySystem) {
    self.resolve = resolve
    adopt(servers)
  }

  /// Takes the servers of another configuration; those that were known keep their places.
  func adopt(_ servers: [RelayPlan.Server]) { known.withLock { $0.adopt(servers) } }

  /// Names the workers that learn the results.
  func serve(_ workers: [WorkerControl]) { controls.withLock { $0 = workers } }

  /// What was found last.
  func addresses(_ server: Int) -> [SocketAddress] { known.withLock { $0.addresses[server] } }

  /// Looks a server up; blocks. Nothing where the name is not known, or a Unix socket needs no address.
  func lookUp(_ server: Int) -> [SocketAddress] {
    _ = renew(server)
    return addresses(server)
  }

  /// Looks a server up and keeps what was found; blocks. Returns whether that is news.
  private func renew(_ server: Int) -> Bool {
    let (host, port) = known.withLock { ($0.servers[server].host, $0.servers[server].port) }
    guard let host else { return false }
    let addresses = resolve(host, port)
    guard !addresses.isEmpty else { return false }
    return known.withLock { known in
      // Name servers turn the order of addresses around; that is no change.
      if known.addresses[server].count == addresses.count, Set(known.addresses[server]) == Set(addresses) { return false }
      known.addresses[server] = addresses
      return true
    }
  }

  /// A server could not be reached: looks it up again soon.
  func wanted(_ server: Int) { refresh(server, unlessWithin: Self.interval) }

  /// Looks a server up again and tells the workers what is new, unless that was begun within so many nanoseconds.
  func refresh(_ server: Int, unlessWithin interval: Int64) {
    let now = Instant.now().nanoseconds
    let isDue = known.withLock { known in
      guard known.servers[server].host != nil, now - known.asked[server] >= interval else { return false }
      known.asked[server] = now
      return true
    }
    guard isDue else { return }
    offload.run { [self] in
      guard renew(server) else { return }
      let addresses = addresses(server)
      for control in controls.withLock({ $0 }) { control.mailbox.send(.resolved(server: server, addresses: addresses)) }
    }
  }
}
