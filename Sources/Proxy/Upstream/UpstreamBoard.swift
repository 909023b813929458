import Encoding
import Gateway
import Synchronization

/// What all workers know together about the upstreams' servers: which are up, which are left alone, and whether an
/// upstream is asked at all. Checks and the workers' own failures write it.
///
/// On a request's path it costs two loads without a lock: what can be used, and until when that holds without a look.
final class UpstreamBoard: Sendable {
  /// Says whether a request of an upstream can be served.
  enum Decision: Equatable {
    case usable(ServerSet)
    /// By none of its servers; perhaps in so many seconds.
    case refused(retryAfter: UInt32)
  }

  /// What is decided under the lock.
  private struct Judgement {
    /// Servers that take requests at all: those with a weight.
    let all: ServerSet
    /// Servers that failed their checks.
    var down: ServerSet = []
    var ejection: Ejection
    var breaker: CircuitBreaker?

    /// What could be used if the breaker did not count: those that are neither down nor ejected. Where that leaves none, what
    /// passes its checks is better than nothing, whatever requests have told.
    var standing: ServerSet {
      let up = all.subtracting(down)
      let standing = up.subtracting(ejection.ejected)
      return standing.isEmpty ? up : standing
    }

    var isClosed: Bool {
      switch breaker?.state {
      case nil, .closed: true
      case .open, .halfOpen: false
      }
    }
  }

  private struct Place: ~Copyable {
    let name: String
    let labels: [String]
    /// Seconds until a server that is down may be found up.
    let checkSeconds: UInt32
    /// The servers that can be used; none where the lock must be asked.
    let usable: Atomic<UInt64>
    /// Monotonic nanoseconds from which on `usable` may be out of date.
    let holdsUntil = Atomic<Int64>(.max)
    /// Servers of whose successes the ejection wants to know.
    let suspected = Atomic<UInt64>(0)
    let judgement: Mutex<Judgement>

    init(_ upstream: RelayPlan.Upstream, _ servers: ArraySlice<RelayPlan.Server>) {
      name = upstream.name
      labels = servers.map(\.label)
      checkSeconds = upstream.health?.rules.secondsToRise ?? 1
      var all: ServerSet = []
      for (number, server) in servers.enumerated() where server.weight > 0 { all.insert(ServerSet(server: number)) }
      let judgement = Judgement(
        all: all, ejection: Ejection(upstream.ejection, serverCount: servers.count), breaker: upstream.breaker.map { CircuitBreaker($0) })
      usable = Atomic(judgement.standing.rawValue)
      self.judgement = Mutex(judgement)
    }
  }

  private let notices: NoticeBoard
  private let count = Mutex(0)
  // Safe because: allocated in init for as many places as there can be, freed in deinit. A place is filled before any worker
  // has a plan that names it, never moves, and everything in it may be shared by threads.
  private nonisolated(unsafe) let places: UnsafeMutablePointer<Place>

  init(notices: NoticeBoard) {
    self.notices = notices
    places = .allocate(capacity: PlanPlaces.upstreamLimit)
  }

  deinit {
    places.deinitialize(count: count.withLock { $0 })
    places.deallocate()
  }

  /// Makes places for the upstreams that a plan has and the one before it had not.
  func adopt(_ plan: RelayPlan) {
    count.withLock { count in
      while count < plan.upstreams.count {
        (places + count).initialize(to: Place(plan.upstreams[count], plan.servers[plan.upstreams[count].servers]))
        count += 1
      }
    }
  }

  // MARK: Asking

  /// The servers that can be used now; none where `decision` or `begin` must be asked.
  @inline(__always)
  func usable(_ upstream: Int, at now: Int64) -> ServerSet {
    if now < places[upstream].holdsUntil.load(ordering: .relaxed) {
      return ServerSet(rawValue: places[upstream].usable.load(ordering: .relaxed))
    }
    return letReturn(upstream, at: now)
  }

  /// Servers whose time is over come back.
  private func letReturn(_ upstream: Int, at now: Int64) -> ServerSet {
    let (back, usable) = places[upstream].judgement.withLock { judgement in
      let back = judgement.ejection.returned(at: Instant(nanoseconds: now))
      publish(upstream, judgement)
      return (back, judgement.isClosed ? judgement.standing : [])
    }
    report(back, of: upstream) { .serverReturned(upstream: $0, server: $1) }
    return usable
  }

  /// Says whether a request could be served now, and counts nothing.
  func decision(_ upstream: Int, at now: Int64) -> Decision {
    let usable = usable(upstream, at: now)
    if !usable.isEmpty { return .usable(usable) }
    return places[upstream].judgement.withLock { judgement in
      decide(upstream, judgement, judgement.breaker?.decision(at: Instant(nanoseconds: now)) ?? .admitted)
    }
  }

  /// Says whether a request is served now; one that tries out an upstream that failed is counted.
  func begin(_ upstream: Int, at now: Int64) -> Decision {
    let usable = usable(upstream, at: now)
    if !usable.isEmpty { return .usable(usable) }
    return places[upstream].judgement.withLock { judgement in
      // Without a server to send it to, a trial would be wasted.
      guard !judgement.standing.isEmpty else { return decide(upstream, judgement, .admitted) }
      return decide(upstream, judgement, judgement.breaker?.admit(at: Instant(nanoseconds: now)) ?? .admitted)
    }
  }

  private func decide(_ upstream: Int, _ judgement: borrowing Judgement, _ decision: CircuitBreaker.Decision) -> Decision {
    switch decision {
    case .refused(let seconds): return .refused(retryAfter: seconds)
    case .admitted:
      let standing = judgement.standing
      return standing.isEmpty ? .refused(retryAfter: places[upstream].checkSeconds) : .usable(standing)
    }
  }

  // MARK: Telling

  /// A server has failed a request, or an attempt at one.
  func failed(_ upstream: Int, _ server: Int, at now: Int64) {
    let time = places[upstream].judgement.withLock { judgement -> Int64? in
      let time = judgement.ejection.failed(
        server, usable: judgement.all.subtracting(judgement.down), at: Instant(nanoseconds: now))
      publish(upstream, judgement)
      return time
    }
    guard let time else { return }
    report(ServerSet(server: server), of: upstream) { .serverEjected(upstream: $0, server: $1, milliseconds: time / 1_000_000) }
  }

  /// A server has answered a request in a way that is no failure of its own.
  @inline(__always)
  func served(_ upstream: Int, _ server: Int) {
    if places[upstream].suspected.load(ordering: .relaxed) >> UInt64(server) & 1 == 1 { rehabilitate(upstream, server) }
  }

  private func rehabilitate(_ upstream: Int, _ server: Int) {
    places[upstream].judgement.withLock { judgement in
      judgement.ejection.succeeded(server)
      publish(upstream, judgement)
    }
  }

  /// A request has ended, whichever servers it was tried on; only for upstreams with a breaker.
  func ended(_ upstream: Int, failed: Bool, at now: Int64) {
    let change = places[upstream].judgement.withLock { judgement -> CircuitBreaker.Change? in
      let change = judgement.breaker?.record(failed: failed, at: Instant(nanoseconds: now))
      if change != nil { publish(upstream, judgement) }
      return change
    }
    switch change {
    case .opened: notices.changed(.breakerOpened(upstream: places[upstream].name))
    case .closed: notices.changed(.breakerClosed(upstream: places[upstream].name))
    case nil: break
    }
  }

  /// A check has found a server up or down.
  func found(_ upstream: Int, _ server: Int, isUp: Bool) {
    places[upstream].judgement.withLock { judgement in
      if isUp { judgement.down.remove(ServerSet(server: server)) } else { judgement.down.insert(ServerSet(server: server)) }
      publish(upstream, judgement)
    }
    report(ServerSet(server: server), of: upstream) {
      isUp ? .serverUp(upstream: $0, server: $1) : .serverDown(upstream: $0, server: $1)
    }
  }

  /// Makes known what was decided. While the breaker is not closed nothing is usable without asking.
  private func publish(_ upstream: Int, _ judgement: borrowing Judgement) {
    let usable: ServerSet = judgement.isClosed ? judgement.standing : []
    places[upstream].usable.store(usable.rawValue, ordering: .relaxed)
    places[upstream].suspected.store(judgement.ejection.suspected.rawValue, ordering: .relaxed)
    places[upstream].holdsUntil.store(judgement.ejection.nextReturn?.nanoseconds ?? .max, ordering: .relaxed)
  }

  private func report(_ servers: ServerSet, of upstream: Int, _ notice: (String, String) -> ServerNotice) {
    var rest = servers
    while let server = rest.popFirst() {
      notices.changed(notice(places[upstream].name, places[upstream].labels[server]))
    }
  }

  // MARK: Reading

  /// What metrics say of an upstream.
  struct View {
    var down: ServerSet
    var ejected: ServerSet
    var isBreakerOpen: Bool
  }

  /// Reads how an upstream stands.
  func view(_ upstream: Int) -> View {
    places[upstream].judgement.withLock { judgement in
      View(down: judgement.down, ejected: judgement.ejection.ejected, isBreakerOpen: !judgement.isClosed)
    }
  }
}

extension HealthCheck.Rules {
  /// Whole seconds, at least 1, after which a server that is well again is found to be.
  fileprivate var secondsToRise: UInt32 {
    let (nanoseconds, overflows) = interval.multipliedReportingOverflow(by: Int64(rise))
    return overflows ? .max : UInt32(clamping: max(1, nanoseconds / 1_000_000_000 + (nanoseconds % 1_000_000_000 > 0 ? 1 : 0)))
  }
}
