import Bytes
import Encoding
import IO
import TLS

/// The client's thread: calls that are under way, and connections that are kept.
struct ServiceRounds: ~Copyable {
  /// The token of the waker; no connection has it.
  private static let wakerToken = UInt64.max
  /// Connections to one service that are kept open, and for how long: nanoseconds.
  private static let keptLimit = 8
  private static let keptTime: Int64 = 20_000_000_000

  private let epoll: Epoll
  private let client: ServiceClient
  private var connections: [UInt64: ServiceConnection] = [:]
  /// The tokens of kept connections, by service, oldest first.
  private var kept: [Int: [UInt64]] = [:]
  /// Counts connections.
  private var number: UInt64 = 0

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
    let count = epoll.wait(milliseconds: sleepMilliseconds(Instant.now().nanoseconds))
    let now = Instant.now().nanoseconds
    guard let (calls, plan) = client.takeCalls() else {
      for connection in connections.values { connection.call?.completion(connection.isSent ? .unanswered : .notSent) }
      return false
    }
    for report in 0..<count {
      let token = epoll.token(report)
      guard token != Self.wakerToken, let connection = connections[token] else { continue }
      switch connection.advance(epoll.readiness(report)) {
      case .more: break
      case .done(let reply): end(token, connection, reply, now)
      case .failed: fail(token, connection, plan, now)
      }
    }
    for call in calls { begin(call, plan, now) }
    for (token, connection) in connections where connection.deadline <= now { expire(token, connection) }
    return true
  }

  private mutating func begin(_ call: PendingCall, _ plan: RelayPlan?, _ now: Int64) {
    // What must not be said twice has a connection of its own.
    while call.call.mayRepeat, let token = kept[call.call.upstream]?.popLast() {
      guard let connection = connections[token] else { continue }
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

  private mutating func expire(_ token: UInt64, _ connection: ServiceConnection) {
    connections[token] = nil
    guard let call = connection.call else {
      kept[connection.upstream]?.removeAll { $0 == token }
      return
    }
    call.completion(connection.isSent ? .unanswered : .notSent)
  }

  private func sleepMilliseconds(_ now: Int64) -> Int32 {
    guard let next = connections.values.lazy.map(\.deadline).min() else { return -1 }
    return Int32(clamping: max(0, next &- now) / 1_000_000 + 1)
  }
}
