import IO

extension Worker {
  /// Sets when something must have happened on a client's connection; what that is depends on its state.
  @inline(__always)
  mutating func setDeadline(_ index: Int, _ deadline: Int64) {
    downstreams.pointer(index).pointee.deadline = deadline
    if deadline != .max { wheel.schedule(index * 2, deadline: deadline) }
  }

  /// Sets the deadline of an exchange that waits for the rest of its request's content, or else for the upstream's head.
  mutating func awaitNext(_ index: Int) {
    let connection = downstreams.pointer(index)
    // Who has left waits no longer than that allows.
    guard !connection.pointee.has(.gone) else { return }
    let isClientsTurn = connection.pointee.progress != .complete && !connection.pointee.has(.expectsContinue)
    setDeadline(index, isClientsTurn ? contentDeadline(index) : now &+ times(index).firstOctet)
  }

  /// Looks at every connection whose timer has come due.
  mutating func expireTimers() {
    wheel.expire(now: now, into: &expired)
    for entry in expired {
      let index = entry / 2
      if entry & 1 == 0 {
        guard downstreams.isInUse(index) else { continue }
        if downstreams.pointer(index).pointee.secondEnds <= now { secondBegan(index) }
        let deadline = downstreams.pointer(index).pointee.deadline
        if deadline <= now { downstreamExpired(index) } else if deadline != .max { wheel.schedule(entry, deadline: deadline) }
      } else {
        guard upstreams.isInUse(index) else { continue }
        let deadline = upstreams.pointer(index).pointee.deadline
        if deadline > now {
          if deadline != .max { wheel.schedule(entry, deadline: deadline) }
        } else if upstreams.pointer(index).pointee.state == .idle || upstreams.pointer(index).pointee.state == .linger {
          closeUpstream(index)
        } else if upstreams.pointer(index).pointee.state == .multiplexed {
          sessionExpired(upstream: index)
        }
      }
    }
    expired.removeAll(keepingCapacity: true)
  }

  private mutating func downstreamExpired(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    // Most deadlines of a tunnel are a second's end.
    if connection.pointee.state != .tunnel { metrics.timeouts.add() }
    switch connection.pointee.state {
    case .closed: break
    case .handshake, .idle, .discard, .linger: closeDownstream(index)
    case .multiplexed: sessionExpired(of: index)
    case .head:
      connection.pointee.flags.insert(.closing)
      connection.pointee.method = .other
      fail(index, .headTimeout)
    case .content:
      connection.pointee.flags.insert(.closing)
      fail(index, .contentTimeout)
    case .beforeForward: connection.pointee.deadline = .max
    case .pendingAnswer: if !priceOverdue(index), !paymentOverdue(index) { connection.pointee.deadline = .max }
    case .queued: fail(index, .upstreamBusy)
    case .exchange: exchangeExpired(index)
    case .tunnel: tunnelExpired(index)
    case .ending:
      if connection.pointee.has(.dry) {
        responseBroken(index, .holdTimeout)
      } else {
        writeExpired(index)
      }
    case .answer: writeExpired(index)
    }
  }

  /// The client takes nothing: unless we are the ones who wait, for the disk.
  private mutating func writeExpired(_ index: Int) {
    if downstreams.pointer(index).pointee.gate != 0 || hasStreamMoved(index) { return setDeadline(index, now &+ plan.timeouts.writeStall) }
    clientLost(index)
  }

  private mutating func exchangeExpired(_ index: Int) {
    let connection = downstreams.pointer(index)
    let slot = Int(connection.pointee.upstream)
    let isSafe = connection.pointee.method.isSafe
    if connection.pointee.has(.gone) || (connection.pointee.has(.peerClosing) && connection.pointee.has(.paid) && !connection.pointee.has(.headSeen)) {
      let isForwarded = connection.pointee.has(.forwarded)
      let end = isForwarded ? ExchangeEnd.abandoned(safe: isSafe) : .clientLeft(requestForwarded: false, headSeen: false, safe: isSafe)
      _ = finishPaid(index, end)
      return closeDownstream(index)
    }
    if connection.pointee.has(.dry) {
      detachUpstream(index)
      if connection.pointee.has(.headSeen) { return responseBroken(index, .holdTimeout) }
      return holdExpiredBeforeHead(index)
    }
    if slot >= 0, upstreams.pointer(slot).pointee.state == .connecting || upstreams.pointer(slot).pointee.state == .handshake { return upstreamFailed(slot, .upstreamRefusesTime) }
    if !connection.pointee.output.isEmpty || connection.pointee.has(.unsent) { return writeExpired(index) }
    if connection.pointee.progress != .complete, upstreamTakes(connection.pointee.upstream), !connection.pointee.has(.requestHeld) {
      connection.pointee.flags.insert(.closing)
      return breakExchange(index, .contentTimeout)
    }
    if slot >= 0 {
      let server = upstreams.pointer(slot).pointee.pool
      serverFailed(server, .upstreamSilent)
      requestFailed(server, .upstreamSilent)
    }
    breakExchange(index, .upstreamSilent)
  }

  /// The budget ran dry over the request's content, and nobody topped it up: that costs what it costs a client that leaves.
  private mutating func holdExpiredBeforeHead(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.insert(.closing)
    let parts = finishPaid(index, .abandoned(safe: connection.pointee.method.isSafe))
    var reply = parts.answer ?? Failure.contentTimeout.answer()
    reply.fields += parts.fieldLines
    reply.after = max(reply.after, parts.after)
    answer(index, reply)
  }
}
