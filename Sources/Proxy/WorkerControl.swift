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
  /// What the worker has gone over to last.
  let adoption = Mutex(Adoption())
  let accessLog: AccessLog?

  init(
    resolver: UpstreamResolver, notices: NoticeBoard, clients: ClientConnections, accessLog: AccessLog? = nil
  ) throws(IOError) {
    self.accessLog = accessLog
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

  private let upstreams: Mutex<[RelayPlan.Upstream]>
  private let offload = Offload()
  private let controls = Mutex<[WorkerControl]>([])
  private let asked: Mutex<[Int64]>

  init(_ upstreams: [RelayPlan.Upstream]) {
    self.upstreams = Mutex(upstreams)
    asked = Mutex(Array(repeating: 0, count: upstreams.count))
  }

  /// Takes the upstreams of another configuration; those that were known keep their places.
  func adopt(_ upstreams: [RelayPlan.Upstream]) {
    self.upstreams.withLock { $0 = upstreams }
    asked.withLock { times in while times.count < upstreams.count { times.append(0) } }
  }

  /// Names the workers that learn the results.
  func serve(_ workers: [WorkerControl]) { controls.withLock { $0 = workers } }

  /// Looks an upstream up; blocks. Nothing where the name is not known, or a Unix socket needs no address.
  func lookUp(_ upstream: Int) -> [SocketAddress] {
    let known = upstreams.withLock { $0[upstream] }
    guard let host = known.host else { return [] }
    return (try? SocketAddress.resolve(host, port: known.port)) ?? []
  }

  /// Looks an upstream up again soon, and tells the workers.
  func wanted(_ upstream: Int) {
    guard upstreams.withLock({ $0[upstream].host }) != nil else { return }
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
