import Encoding
import Gateway
import IO

/// The watching thread's loop: checks that run, and what comes next.
struct WatchRounds: ~Copyable {
  private struct LookUp {
    let server: Int
    let every: Int64
    var next: Instant
  }

  /// The token of the waker; no server has it.
  private static let wakerToken = UInt64.max

  private let epoll: Epoll
  private let board: UpstreamBoard
  private let resolver: UpstreamResolver
  /// By the server's place.
  private var checks: [Int: ServerCheck] = [:]
  private var lookUps: [LookUp] = []

  /// Makes the loop over an epoll instance in which nothing but the waker is registered, by `makeEpoll`.
  init(epoll: consuming Epoll, board: UpstreamBoard, resolver: UpstreamResolver) {
    self.epoll = epoll
    self.board = board
    self.resolver = resolver
  }

  /// Opens the epoll instance, with the waker in it.
  static func makeEpoll(_ waker: Waker) throws(IOError) -> Epoll {
    let epoll = try Epoll()
    try epoll.add(waker.descriptor, token: wakerToken)
    return epoll
  }

  /// Goes over to other orders. Checks of servers that stay go on.
  mutating func adopt(_ orders: UpstreamWatch.Orders, at now: Instant) {
    var kept: [Int: ServerCheck] = [:]
    var lookUps: [LookUp] = []
    for place in orders.upstreams {
      let upstream = orders.plan.upstreams[place]
      for server in upstream.servers {
        if let health = upstream.health {
          let check =
            checks.removeValue(forKey: server)
            ?? ServerCheck(orders.plan, place, server, health, at: now, jitter: .random(in: 0...UInt64.max))
          check.tls = upstream.tls
          kept[server] = check
        }
        if upstream.resolveEvery > 0, orders.plan.servers[server].hasName {
          let known = self.lookUps.first { $0.server == server && $0.every == upstream.resolveEvery }
          lookUps.append(
            known ?? LookUp(server: server, every: upstream.resolveEvery, next: now.advanced(nanoseconds: upstream.resolveEvery)))
        }
      }
    }
    for check in checks.values { check.close() }
    checks = kept
    self.lookUps = lookUps
  }

  /// Waits for what comes next, and does it.
  mutating func turn() {
    let count = epoll.wait(milliseconds: sleepMilliseconds(Instant.now()))
    let now = Instant.now()
    for report in 0..<count {
      let token = epoll.token(report)
      guard token != Self.wakerToken, let check = checks[Int(truncatingIfNeeded: token)] else { continue }
      if let passed = check.advance(epoll.readiness(report), at: now) { end(check, passed, now) }
    }
    for check in checks.values { lookAfter(check, now) }
    for index in lookUps.indices where lookUps[index].next <= now {
      lookUps[index].next = now.advanced(nanoseconds: lookUps[index].every)
      resolver.refresh(lookUps[index].server, unlessWithin: lookUps[index].every / 2)
    }
  }

  /// Ends every check that runs.
  mutating func end() {
    for check in checks.values { check.close() }
    checks = [:]
  }

  private func lookAfter(_ check: ServerCheck, _ now: Instant) {
    if check.isRunning {
      if check.deadline <= now { end(check, false, now) }
    } else if let next = check.state.nextCheck, next <= now {
      let addresses = resolver.addresses(check.server)
      if addresses.isEmpty { resolver.wanted(check.server) }
      if let passed = check.begin(addresses, epoll, token: UInt64(check.server), at: now) { end(check, passed, now) }
    }
  }

  private func end(_ check: ServerCheck, _ passed: Bool, _ now: Instant) {
    check.close()
    if !passed { check.addressTurn &+= 1 }
    switch check.state.ended(passed: passed, at: now, jitter: .random(in: 0...UInt64.max)) {
    case .wentUp: board.found(check.upstream, check.number, isUp: true)
    case .wentDown: board.found(check.upstream, check.number, isUp: false)
    case nil: break
    }
  }

  private func sleepMilliseconds(_ now: Instant) -> Int32 {
    var next = Instant(nanoseconds: .max)
    for check in checks.values { next = min(next, check.isRunning ? check.deadline : check.state.nextCheck ?? next) }
    for lookUp in lookUps { next = min(next, lookUp.next) }
    guard next.nanoseconds != .max else { return -1 }
    return Int32(clamping: max(0, next.nanoseconds(since: now)) / 1_000_000 + 1)
  }
}
