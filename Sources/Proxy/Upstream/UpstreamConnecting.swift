import Gateway
import HTTP
import IO

extension Worker {
  /// Opens a connection for a request whose head stands in `prepared`; its place in the pool is counted already.
  mutating func connect(_ index: Int, _ server: Int) {
    let connection = downstreams.pointer(index)
    let result: ConnectResult
    var address: SocketAddress?
    if let path = plan.servers[server].unixPath {
      result = Connector.connect(toUnixPath: path)
    } else if let choice = addresses[server].next(at: now) {
      address = choice
      result = Connector.connect(to: choice)
    } else {
      control.resolver.wanted(server)
      result = .failed(0)
    }
    metrics.upstreamConnects.add()
    switch result {
    case .connected(let descriptor): adopt(index, server, descriptor, address, .busy)
    case .started(let descriptor): adopt(index, server, descriptor, address, .connecting)
    case .failed:
      if !isApart(index, server) { openingEnded(server) }
      connection.pointee.attempt &+= 1
      placeFreed(server, slot: -1)
      connectFailed(index, server, address, .upstreamUnreachable)
    case .exhausted:
      control.notices.exhausted(.descriptorsExhausted, at: now)
      if !isApart(index, server) { openingEnded(server) }
      placeFreed(server, slot: -1)
      fail(index, .descriptorsExhausted)
    }
  }

  private mutating func adopt(
    _ index: Int, _ pool: Int, _ descriptor: Int32, _ address: SocketAddress?, _ state: UpstreamConnection.State
  ) {
    guard let slot = upstreams.insert(UpstreamConnection(descriptor: descriptor, pool: pool, state: state)) else {
      Syscalls.close(descriptor)
      if !isApart(index, pool) { openingEnded(pool) }
      placeFreed(pool, slot: -1)
      return fail(index, .upstreamBusy)
    }
    metrics.upstreamConnectionsOpen.add()
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(slot)
    upstream.pointee.address = address
    attach(index, slot)
    if plan.servers[pool].mayMultiplex, !isApart(index, pool), multiplexes[pool].isOpening { upstream.pointee.flags.insert(.opening) }
    swap(&upstream.pointee.output, &connection.pointee.prepared)
    connection.pointee.prepared.release()
    do {
      try epoll.add(descriptor, token: Self.token(.upstream, index: slot, generation: upstreams.generation(slot)))
    } catch {
      return upstreamFailed(slot, .descriptorsExhausted)
    }
    if state == .connecting {
      setDeadline(index, now &+ times(index).connect)
    } else {
      connected(index, slot)
    }
  }

  /// A connect has succeeded or failed.
  mutating func connectDecided(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    let index = Int(upstream.pointee.downstream)
    guard Syscalls.socketError(upstream.pointee.descriptor) == 0 else {
      return upstreamFailed(slot, .upstreamUnreachable)
    }
    upstream.pointee.state = .busy
    connected(index, slot)
  }

  /// A new connection stands: the request goes out on it.
  private mutating func connected(_ index: Int, _ slot: Int) {
    guard introduce(index, slot) else { return upstreamFailed(slot, .upstreamClosed) }
    let upstream = plan.servers[upstreams.pointer(slot).pointee.pool].upstream
    if let context = plan.upstreams[upstream].tls {
      // The time to connect is the time to agree as well.
      setDeadline(index, now &+ times(index).connect)
      return startHandshake(upstream: slot, context.current)
    }
    if plan.upstreams[upstream].http2 == .always { return startSession(upstream: slot) }
    awaitNext(index)
    continueRequest(index)
  }

  /// No connection came about: nothing has left, so another address or server may be tried, whatever the method.
  mutating func connectFailed(_ index: Int, _ server: Int, _ address: SocketAddress?, _ failure: Failure) {
    let connection = downstreams.pointer(index)
    control.resolver.wanted(server)
    if let address { addresses[server].failed(address, at: now) }
    serverFailed(server, failure)
    let upstream = plan.servers[server].upstream
    let attempt = Retry.Attempt(number: Int(connection.pointee.attempt), isReused: false, isSent: false, isReplayable: true)
    let decision = Retry.decision(attempt, method: connection.pointee.method, retries: plan.upstreams[upstream].retries)
    if decision != .fail, !connection.pointee.has(.gone), sendElsewhere(index, from: server) { return }
    requestFailed(server, failure)
    fail(index, failure)
  }

  /// A look-up has found these addresses of a server: what was opened to others serves no further request.
  mutating func addressesChanged(_ server: Int, _ found: [SocketAddress]) {
    guard !found.isEmpty, found != addresses[server].all else { return }
    addresses[server].adopt(found)
    for slot in 0..<upstreams.placeCount where upstreams.isInUse(slot) {
      let upstream = upstreams.pointer(slot)
      guard upstream.pointee.pool == server, let address = upstream.pointee.address, !found.contains(address) else { continue }
      switch upstream.pointee.state {
      case .idle: closeUpstream(slot)
      case .multiplexed: retire(upstream: slot)
      case .busy, .connecting, .handshake: upstream.pointee.flags.insert(.last)
      case .linger, .closed: break
      }
    }
  }

  /// Tells the pool that a connection is gone; a request that waits may open one in its place.
  mutating func placeFreed(_ pool: Int, slot: Int32) {
    // Those who wait for a session may open a connection for one now.
    serveWaitingLater(pool)
    guard let ticket = pools.pointer(pool).pointee.closed(slot: slot) else { return }
    freedPlaces.append((ticket, pool))
    // Where connects fail at once, each frees the next one's place: they are listed, since calls inside of each other would take
    // as much stack as there are requests that wait.
    guard freedPlaces.count == 1 else { return }
    var next = 0
    while next < freedPlaces.count {
      let (ticket, server) = freedPlaces[next]
      next += 1
      if let index = waiter(ticket, server) {
        connect(index, server)
      } else if let other = pools.pointer(server).pointee.unused() {
        freedPlaces.append((other, server))
      }
    }
    freedPlaces.removeAll(keepingCapacity: true)
  }

  /// Finds the request of a ticket, if it still waits for the server. The ticket is the connection's, whose next request may wait
  /// for another one by now.
  func waiter(_ ticket: UInt64, _ server: Int) -> Int? {
    let index = Int(ticket & 0xffff_ffff)
    guard downstreams.isCurrent(index, generation: UInt32(truncatingIfNeeded: ticket >> 32)) else { return nil }
    let connection = downstreams.pointer(index)
    return connection.pointee.state == .queued && Int(connection.pointee.queuedAt) == server ? index : nil
  }

  /// Gives a connection back that may serve another request.
  mutating func release(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    let pool = upstream.pointee.pool
    if upstream.pointee.has(.last) { return closeUpstream(slot) }
    end(at: slot)
    upstream.pointee.downstream = -1
    upstream.pointee.state = .idle
    upstream.pointee.flags.insert(.reused)
    upstream.pointee.output.removeAll()
    upstream.pointee.sentCount = 0
    if upstream.pointee.output.capacity > 8192 { upstream.pointee.output.release() }
    while true {
      switch pools.pointer(pool).pointee.released(slot: Int32(truncatingIfNeeded: slot)) {
      case .keep:
        upstream.pointee.deadline = now &+ plan.timeouts.upstreamKeepAlive
        return wheel.schedule(slot * 2 + 1, deadline: upstream.pointee.deadline)
      case .close: return closeUpstream(slot)
      case .assign(let ticket):
        if let index = waiter(ticket, pool) { return assign(index, slot) }
      }
    }
  }

  /// Closes an upstream's connection, whatever it does; the exchange on it must have been settled before.
  mutating func closeUpstream(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.state != .closed else { return }
    end(at: slot)
    if upstream.pointee.state == .multiplexed {
      retire(upstream: slot)
      loseStreams(upstream: slot)
    }
    upstream.pointee.state = .closed
    upstream.pointee.downstream = -1
    upstream.pointee.output.release()
    upstream.pointee.input.release()
    closeTransport(upstream: slot)
    closedUpstreams.append(slot)
    guard upstream.pointee.transport != .stream else { return }
    if upstream.pointee.has(.opening) { openingEnded(upstream.pointee.pool) }
    placeFreed(upstream.pointee.pool, slot: Int32(truncatingIfNeeded: slot))
    // Who waits for a session may open a connection in the place of this one.
    serveWaitingLater(upstream.pointee.pool)
  }

  /// Counts a request that begins at a connection's server.
  @inline(__always)
  mutating func begin(at slot: Int) {
    let upstream = upstreams.pointer(slot)
    upstream.pointee.flags.insert(.counted)
    let server = upstream.pointee.pool
    metrics.servers.began(server)
    let of = plan.servers[server].upstream
    balancers.pointer(of).pointee.began(server - plan.upstreams[of].servers.lowerBound)
  }

  /// Counts it out.
  @inline(__always)
  mutating func end(at slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.has(.counted) else { return }
    upstream.pointee.flags.remove(.counted)
    let server = upstream.pointee.pool
    metrics.servers.ended(server)
    let of = plan.servers[server].upstream
    balancers.pointer(of).pointee.ended(server - plan.upstreams[of].servers.lowerBound)
  }
}
