import Bytes
import Encoding
import Gateway
import HTTP
import IO

extension Worker {
  // MARK: Choosing

  /// Whether the upstream of a route takes no request now; asked before any money moves. Nothing is counted.
  func refusal(of route: RouteIndex) -> Failure? {
    let upstream = plan.routes[Int(route)].upstream
    // Almost always.
    if !control.board.usable(upstream, at: now).isEmpty { return nil }
    switch control.board.decision(upstream, at: now) {
    case .usable: return nil
    case .refused(let seconds):
      metrics.upstreamRefusals.add()
      return .upstreamUnavailable(retryAfter: seconds)
    }
  }

  /// Chooses the server for a request that is sent for the first time.
  mutating func chooseServer(_ index: Int) throws(Refused) -> Int {
    let upstream = plan.routes[Int(downstreams.pointer(index).pointee.route)].upstream
    budgets[upstream].requested()
    var usable = control.board.usable(upstream, at: now)
    if usable.isEmpty {
      switch control.board.begin(upstream, at: now) {
      case .usable(let servers): usable = servers
      case .refused(let seconds):
        metrics.upstreamRefusals.add()
        throw Refused(failure: .upstreamUnavailable(retryAfter: seconds))
      }
    }
    guard let server = choose(index, upstream, among: usable) else { throw Refused(failure: .upstreamUnreachable) }
    return server
  }

  /// Whether there is a server that has not failed this request.
  func hasOther(_ index: Int, _ upstream: Int) -> Bool {
    !control.board.usable(upstream, at: now).subtracting(downstreams.pointer(index).pointee.tried).isEmpty
  }

  private mutating func choose(_ index: Int, _ upstream: Int, among usable: ServerSet) -> Int? {
    let servers = plan.upstreams[upstream].servers
    if servers.count == 1 { return usable.isEmpty ? nil : servers.lowerBound }
    let key = downstreams.pointer(index).pointee.balanceKey
    return balancers.pointer(upstream).pointee.choose(among: usable, key: key).map { servers.lowerBound + $0 }
  }

  /// Works out by what a request is hashed; nothing where its upstream does not hash.
  @inline(__always)
  mutating func setBalanceKey(_ index: Int, _ octets: UnsafeRawBufferPointer) {
    let upstream = plan.routes[Int(downstreams.pointer(index).pointee.route)].upstream
    if plan.upstreams[upstream].policy == .hash { downstreams.pointer(index).pointee.balanceKey = balanceKey(index, upstream, octets) }
  }

  private func balanceKey(_ index: Int, _ upstream: Int, _ octets: UnsafeRawBufferPointer) -> UInt64 {
    let connection = downstreams.pointer(index)
    let address = connection.pointee.client.limitKey
    var digest: Digest32?
    switch plan.upstreams[upstream].key {
    case .none, .address: break
    case .session: digest = cashier.payer(of: connection.pointee.exchange, prefersSession: true)
    case .wallet: digest = cashier.payer(of: connection.pointee.exchange, prefersSession: false)
    case .field(let name):
      for field in requestHead.pointee.fields where Self.isNamed(field.name(in: octets), name) {
        return BalanceKey.hash(field.value(in: octets))
      }
    }
    if let digest { return digest.withUnsafeBytes { BalanceKey.hash($0) } }
    return BalanceKey.hash(address.high, address.low)
  }

  private static func isNamed(_ octets: UnsafeRawBufferPointer, _ name: [UInt8]) -> Bool {
    guard octets.count == name.count else { return false }
    for index in name.indices {
      let octet = octets[index]
      guard (octet &- 0x41 < 26 ? octet | 0x20 : octet) == name[index] else { return false }
    }
    return true
  }

  // MARK: Connections

  /// Makes tables for the plan's servers and upstreams that have none; `found` has their addresses, in order.
  mutating func addServers(_ found: [[SocketAddress]]) {
    metrics.servers.grow(to: plan.servers.count)
    for (server, found) in zip(plan.servers[addresses.count...], found) {
      // Places are given in order, so each is the slab's next.
      guard let made = pools.insert(UpstreamPool(limits: server.pool)), made == addresses.count else {
        preconditionFailure("a server's place is not the next")
      }
      addresses.append(ServerAddresses(found, seed: control.seed))
    }
    let begun = Instant(nanoseconds: now)
    for upstream in plan.upstreams[budgets.count...] {
      let servers = plan.servers[upstream.servers]
      let identities = servers.map { server in Array(server.label.utf8).withUnsafeBytes { BalanceKey.hash($0) } }
      _ = balancers.insert(
        Balancer(policy: upstream.policy, weights: servers.map(\.weight), identities: identities, seed: control.seed))
      budgets.append(RetryBudget(at: begun))
    }
  }

  /// Gets a connection to a server for a request whose head stands in `prepared`.
  mutating func lease(_ index: Int, _ server: Int, fresh: Bool = false) {
    switch place(index, server, fresh: fresh) {
    case .reuse(let slot): assign(index, Int(slot))
    case .connect: connect(index, server)
    case .wait: awaitPlace(index, server)
    case .refuse: fail(index, .upstreamBusy)
    }
  }

  /// Finds a place at a server for a request.
  @inline(__always)
  mutating func place(_ index: Int, _ server: Int, fresh: Bool = false) -> UpstreamPool.Lease {
    if plan.servers[server].mayMultiplex, !isApart(index, server) { return leaseShared(index, server, fresh: fresh) }
    return pools.pointer(server).pointee.lease(ticket: ticket(index), fresh: fresh)
  }

  /// Whether a request gets a connection of its own that speaks HTTP/1.1, though the server may speak HTTP/2: it asks for a switch,
  /// and that is done with HTTP/1.1.
  func isApart(_ index: Int, _ server: Int) -> Bool {
    maySwitch(index) && plan.upstreams[plan.servers[server].upstream].http2 != .always
  }

  /// Waits until another request gives its connection to the server back.
  mutating func awaitPlace(_ index: Int, _ server: Int) {
    downstreams.pointer(index).pointee.state = .queued
    downstreams.pointer(index).pointee.queuedAt = Int32(truncatingIfNeeded: server)
    setDeadline(index, now &+ times(index).connect)
  }

  /// How long the upstream may take on the exchange's route.
  @inline(__always)
  func times(_ index: Int) -> RelayPlan.UpstreamTimes {
    plan.routes[Int(downstreams.pointer(index).pointee.route)].times
  }

  /// Sends a request that failed at `server`, and stands in `prepared`, to another one, or to another address of the same
  /// where that makes sense. False, and nothing has happened, where there is none or the budget for retries is used up.
  mutating func sendElsewhere(_ index: Int, from server: Int) -> Bool {
    let connection = downstreams.pointer(index)
    let upstream = plan.servers[server].upstream
    connection.pointee.tried.insert(ServerSet(server: server - plan.upstreams[upstream].servers.lowerBound))
    let usable = control.board.usable(upstream, at: now)
    var rest = usable.subtracting(connection.pointee.tried)
    if rest.isEmpty, Int(connection.pointee.attempt) < addresses[server].all.count { rest = usable }
    guard let other = choose(index, upstream, among: rest), budgets[upstream].spend(at: Instant(nanoseconds: now)) else { return false }
    metrics.upstreamRetries.add()
    lease(index, other, fresh: true)
    return true
  }

  // MARK: Outcomes

  /// A server has failed an attempt, whether or not the request goes elsewhere.
  mutating func serverFailed(_ server: Int, _ failure: Failure) {
    guard let fault = ServerNotice.Fault(failure) else { return }
    control.notices.failed(server, fault, at: now)
    metrics.servers.failures(server)
    let upstream = plan.servers[server].upstream
    control.board.failed(upstream, server - plan.upstreams[upstream].servers.lowerBound, at: now)
  }

  /// A request has failed for good by its upstream's fault.
  mutating func requestFailed(_ server: Int, _ failure: Failure) {
    metrics.upstreamFailures.add()
    let upstream = plan.servers[server].upstream
    if plan.upstreams[upstream].breaker != nil, ServerNotice.Fault(failure) != nil { control.board.ended(upstream, failed: true, at: now) }
  }

  /// A server has answered; what its status says of it.
  mutating func serverAnswered(_ server: Int, status: UInt16) {
    control.notices.served(server)
    let upstream = plan.servers[server].upstream
    let place = server - plan.upstreams[upstream].servers.lowerBound
    // Only such statuses can count as failures without a look at the sets.
    if status >= 400, plan.upstreams[upstream].ejectingStatuses.contains(status) {
      metrics.servers.failures(server)
      control.board.failed(upstream, place, at: now)
    } else {
      control.board.served(upstream, place)
    }
    if plan.upstreams[upstream].breaker != nil {
      control.board.ended(upstream, failed: plan.upstreams[upstream].breakingStatuses.contains(status), at: now)
    }
  }
}

/// Says why no server was chosen.
struct Refused: Error {
  let failure: Failure
}
