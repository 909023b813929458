import Bytes
import Encoding
import IO
import TLS

/// The client's thread: calls that are under way, and connections that are kept.
struct ServiceRounds: ~Copyable {
  /// The token of the waker; no connection has it.
  private static let wakerToken = UInt64.max
  /// Connections to one service that are kept open, and for how long: nanoseconds.
  private static let keptLimit = 64
  private static let keptTime: Int64 = 20_000_000_000
  /// How lately a kept connection must have been used for a call that may not be repeated, nanoseconds: no service gives them up so soon.
  private static let freshTime: Int64 = 1_000_000_000
  /// How often work is taken, which the work before has led to, before sockets are looked at again.
  private static let workRounds = 16

  private let epoll: Epoll
  private let client: ServiceClient
  private var connections: [UInt64: ServiceConnection] = [:]
  /// The tokens of kept connections, by service, oldest first.
  private var kept: [Int: [UInt64]] = [:]
  /// Counts connections.
  private var number: UInt64 = 0
  /// No connection's deadline comes before it, monotonic nanoseconds.
  private var nextDeadline = Int64.max

  /// Makes the loop over an epoll instance in which nothing but the waker is registered.
  init(epoll: consuming Epoll, client: ServiceClient) {
    self.epoll = epoll
    self.client = client
  }

  /// Opens the epoll instance, with the waker in it.
  static func makeEpoll(_ waker: Waker) throws(IOError) -> Epoll {
    let epoll = try Epoll()
    try epoll.add(waker.descriptor, token: wakerToken)
    return epoll
  }

  /// Waits for what comes next, and does it; false once the client is stopped.
  mutating func turn() -> Bool {
    let count = epoll.wait(milliseconds: client.maySleep() ? sleepMilliseconds(Instant.now().nanoseconds) : 0)
    let now = Instant.now().nanoseconds
    guard var (work, plan) = client.take() else { return stop() }
    for report in 0..<count {
      let token = epoll.token(report)
      guard token != Self.wakerToken, let connection = connections[token] else { continue }
      switch connection.advance(epoll.readiness(report)) {
      case .more: break
      case .done(let reply): end(token, connection, reply, now)
      case .failed: fail(token, connection, plan, now)
      }
    }
    var rounds = 0
    while true {
      for call in work.calls { begin(call, plan, now) }
      for job in work.jobs { client.run(job) }
      rounds += 1
      // What is left is the next turn's.
      guard rounds < Self.workRounds else { break }
      guard let next = client.take() else { return stop() }
      if next.work.isEmpty { break }
      (work, plan) = next
    }
    if now >= nextDeadline { expire(now) }
    return true
  }

  private func stop() -> Bool {
    for connection in connections.values { connection.call?.completion(connection.isSent ? .unanswered : .notSent) }
    return false
  }

  private mutating func begin(_ call: PendingCall, _ plan: RelayPlan?, _ now: Int64) {
    nextDeadline = min(nextDeadline, call.deadline)
    while let token = kept[call.call.upstream]?.last {
      guard let connection = connections[token] else {
        kept[call.call.upstream]?.removeLast()
        continue
      }
      // A service may close a connection just when it is asked. What must not be said twice goes where that is least likely.
      guard call.call.mayRepeat || connection.deadline &- now > Self.keptTime - Self.freshTime else { break }
      kept[call.call.upstream]?.removeLast()
      if connection.reuse(call) { return }
      connections[token] = nil
    }
    connect(call, plan)
  }

  private mutating func connect(_ call: PendingCall, _ plan: RelayPlan?) {
    number &+= 1
    let upstream = call.call.upstream
    guard let plan, plan.upstreams.indices.contains(upstream), let server = plan.upstreams[upstream].servers.first,
      let address = address(of: server)
    else { return call.completion(.notSent) }
    let connection: ServiceConnection
    do {
      connection = ServiceConnection(call, engine: try Self.engine(plan, upstream, server))
    } catch { return call.completion(.notSent) }
    guard connection.begin(address, epoll, token: number) else {
      client.resolver.wanted(server)
      return call.completion(.notSent)
    }
    connections[number] = connection
  }

  /// The server's addresses in turn; a name that is not known yet is looked up for the next time.
  private func address(of server: Int) -> SocketAddress? {
    let addresses = client.resolver.addresses(server)
    guard !addresses.isEmpty else {
      client.resolver.wanted(server)
      return nil
    }
    return addresses[Int(number % UInt64(addresses.count))]
  }

  private static func engine(_ plan: RelayPlan, _ upstream: Int, _ server: Int) throws(TLSError) -> TLSEngine? {
    guard let tls = plan.upstreams[upstream].tls else { return nil }
    return try TLSEngine(client: tls.current, serverName: plan.upstreams[upstream].serverName ?? plan.servers[server].host, protocols: [.http1])
  }

  private mutating func end(_ token: UInt64, _ connection: ServiceConnection, _ reply: ServiceReply, _ now: Int64) {
    let call = connection.call
    if connection.end(keptUntil: now &+ Self.keptTime), kept[connection.upstream, default: []].count < Self.keptLimit {
      nextDeadline = min(nextDeadline, connection.deadline)
      kept[connection.upstream, default: []].append(token)
    } else {
      connections[token] = nil
    }
    call?.completion(.answered(reply))
  }

  private mutating func fail(_ token: UInt64, _ connection: ServiceConnection, _ plan: RelayPlan?, _ now: Int64) {
    connections[token] = nil
    guard let call = connection.call else {
      kept[connection.upstream]?.removeAll { $0 == token }
      return
    }
    // The service closed a kept connection just when it was asked: that says nothing about the service.
    if connection.isReused, call.call.mayRepeat, !connection.isAnswered, call.deadline > now { return connect(call, plan) }
    call.completion(connection.isSent ? .unanswered : .notSent)
  }

  /// Ends what has lasted too long.
  private mutating func expire(_ now: Int64) {
    nextDeadline = .max
    for (token, connection) in connections {
      guard connection.deadline <= now else {
        nextDeadline = min(nextDeadline, connection.deadline)
        continue
      }
      connections[token] = nil
      guard let call = connection.call else {
        kept[connection.upstream]?.removeAll { $0 == token }
        continue
      }
      call.completion(connection.isSent ? .unanswered : .notSent)
    }
  }

  private func sleepMilliseconds(_ now: Int64) -> Int32 {
    nextDeadline == .max ? -1 : Int32(clamping: max(0, nextDeadline &- now) / 1_000_000 + 1)
  }
}
