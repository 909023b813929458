import Gateway
import HTTP
import IO

extension Worker {
  /// Most addresses of an upstream that one request tries to connect to.
  static var connectLimit: UInt8 { 3 }

  /// Opens a connection for a request whose head stands in `prepared`; its place in the pool is counted already.
  mutating func connect(_ index: Int, _ pool: Int) {
    let connection = downstreams.pointer(index)
    let result: ConnectResult
    if let path = plan.upstreams[pool].unixPath {
      result = Connector.connect(toUnixPath: path)
    } else if addresses[pool].isEmpty {
      control.resolver.wanted(pool)
      result = .failed(0)
    } else {
      let choice = Int(connection.pointee.attempt) % addresses[pool].count
      result = Connector.connect(to: addresses[pool][choice])
    }
    metrics.upstreamConnects.add()
    switch result {
    case .connected(let descriptor): adopt(index, pool, descriptor, .busy)
    case .started(let descriptor): adopt(index, pool, descriptor, .connecting)
    case .failed:
      connection.pointee.attempt &+= 1
      placeFreed(pool, slot: -1)
      connectFailed(index, pool, .upstreamUnreachable)
    case .exhausted:
      control.notices.exhausted(.descriptorsExhausted, at: now)
      placeFreed(pool, slot: -1)
      fail(index, .descriptorsExhausted)
    }
  }

  private mutating func adopt(_ index: Int, _ pool: Int, _ descriptor: Int32, _ state: UpstreamConnection.State) {
    guard let slot = upstreams.insert(UpstreamConnection(descriptor: descriptor, pool: pool, state: state)) else {
      Syscalls.close(descriptor)
      placeFreed(pool, slot: -1)
      return fail(index, .upstreamBusy)
    }
    metrics.upstreamConnectionsOpen.add()
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(slot)
    attach(index, slot)
    swap(&upstream.pointee.output, &connection.pointee.prepared)
    connection.pointee.prepared.release()
    do {
      try epoll.add(descriptor, token: Self.token(.upstream, index: slot, generation: upstreams.generation(slot)))
    } catch {
      return upstreamFailed(slot, .descriptorsExhausted)
    }
    if state == .connecting {
      setDeadline(index, now &+ plan.timeouts.connect)
    } else {
      awaitNext(index)
      continueRequest(index)
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
    awaitNext(index)
    continueRequest(index)
  }

  /// No connection came about: nothing has left, so another address may be tried, whatever the method.
  mutating func connectFailed(_ index: Int, _ pool: Int, _ failure: Failure) {
    let connection = downstreams.pointer(index)
    let choices = UInt8(clamping: addresses[pool].count)
    control.resolver.wanted(pool)
    guard connection.pointee.attempt < min(max(choices, 2), Self.connectLimit), !connection.pointee.has(.gone) else {
      metrics.upstreamFailures.add()
      if let fault = ServerNotice.Fault(failure) { control.notices.failed(pool, fault, at: now) }
      return fail(index, failure)
    }
    metrics.upstreamRetries.add()
    switch pools.pointer(pool).pointee.lease(ticket: ticket(index), fresh: true) {
    case .connect: connect(index, pool)
    case .wait:
      connection.pointee.state = .queued
      setDeadline(index, now &+ plan.timeouts.connect)
    case .reuse(let slot): assign(index, Int(slot))
    case .refuse: fail(index, .upstreamBusy)
    }
  }

  /// Tells the pool that a connection is gone; a request that waits may open one in its place.
  mutating func placeFreed(_ pool: Int, slot: Int32) {
    var ticket = pools.pointer(pool).pointee.closed(slot: slot)
    while let waiting = ticket {
      if let index = waiter(waiting) { return connect(index, pool) }
      ticket = pools.pointer(pool).pointee.unused()
    }
  }

  /// Finds the request of a ticket, if it still waits.
  private func waiter(_ ticket: UInt64) -> Int? {
    let index = Int(ticket & 0xffff_ffff)
    guard downstreams.isCurrent(index, generation: UInt32(truncatingIfNeeded: ticket >> 32)) else { return nil }
    return downstreams.pointer(index).pointee.state == .queued ? index : nil
  }

  /// Gives a connection back that may serve another request.
  mutating func release(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    let pool = upstream.pointee.pool
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
        if let index = waiter(ticket) { return assign(index, slot) }
      }
    }
  }

  /// Closes an upstream's connection, whatever it does; the exchange on it must have been settled before.
  mutating func closeUpstream(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.state != .closed else { return }
    upstream.pointee.state = .closed
    upstream.pointee.downstream = -1
    upstream.pointee.output.release()
    upstream.pointee.input.release()
    closeTransport(upstream: slot)
    closedUpstreams.append(slot)
    placeFreed(upstream.pointee.pool, slot: Int32(truncatingIfNeeded: slot))
  }
}
