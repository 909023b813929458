import Encoding
import IO
import Synchronization

/// What other threads hold of a worker.
final class WorkerControl: Sendable {
  let waker: Waker
  let mailbox: Mailbox<WorkerMessage>
  let metrics = WorkerMetrics()
  let resolver: UpstreamResolver
  let notices: NoticeBoard
  let clients: ClientConnections

  init(resolver: UpstreamResolver, notices: NoticeBoard, clients: ClientConnections) throws(IOError) {
    waker = try Waker()
    mailbox = Mailbox(waker: waker)
    self.resolver = resolver
    self.notices = notices
    self.clients = clients
  }
}

/// Looks the upstreams' names up again, away from the loops: when a connect failed, at most once in `interval`.
final class UpstreamResolver: Sendable {
  /// Nanoseconds between two look-ups of one name.
  static let interval: Int64 = 5_000_000_000

  private let upstreams: [RelayPlan.Upstream]
  private let offload = Offload()
  private let controls = Mutex<[WorkerControl]>([])
  private let asked: Mutex<[Int64]>

  init(_ upstreams: [RelayPlan.Upstream]) {
    self.upstreams = upstreams
    asked = Mutex(Array(repeating: 0, count: upstreams.count))
  }

  /// Names the workers that learn the results.
  func serve(_ workers: [WorkerControl]) { controls.withLock { $0 = workers } }

  /// Looks an upstream up; blocks. Nothing where the name is not known, or a Unix socket needs no address.
  func lookUp(_ upstream: Int) -> [SocketAddress] {
    guard let host = upstreams[upstream].host else { return [] }
    return (try? SocketAddress.resolve(host, port: upstreams[upstream].port)) ?? []
  }

  /// Looks an upstream up again soon, and tells the workers.
  func wanted(_ upstream: Int) {
    guard upstreams[upstream].host != nil else { return }
    let now = Instant.now().nanoseconds
    let isDue = asked.withLock { times in
      guard now - times[upstream] >= Self.interval else { return false }
      times[upstream] = now
      return true
    }
    guard isDue else { return }
    offload.run { [self] in
      let found = lookUp(upstream)
      guard !found.isEmpty else { return }
      for control in controls.withLock({ $0 }) { control.mailbox.send(.resolved(upstream: upstream, addresses: found)) }
    }
  }
}
