import Bytes
import Gateway
import HTTP
import IO

extension Worker {
  // MARK: Events

  /// Takes a readiness report about an upstream's connection.
  mutating func upstreamReported(_ slot: Int, _ readiness: Readiness) {
    let upstream = upstreams.pointer(slot)
    let ends = readiness.contains(.failed) || readiness.contains(.hungUp) || readiness.contains(.peerClosed)
    switch upstream.pointee.state {
    case .closed: return
    case .connecting:
      guard readiness.contains(.writable) || ends else { return }
      if readiness.contains(.readable) { upstream.pointee.flags.insert(.readable) }
      connectDecided(slot)
      guard upstream.pointee.state == .busy else { return }
    case .handshake, .multiplexed: return sessionReported(slot, readiness, ends: ends)
    case .idle:
      // Nobody asked for anything: whatever comes ends it.
      guard ends || readiness.contains(.readable) else { return }
      upstream.pointee.flags.insert(.readable)
      if ends { upstream.pointee.flags.insert(.peerClosing) }
      return readIdle(upstream: slot)
    case .linger:
      upstream.pointee.flags.insert(.readable)
      return discardUpstream(slot)
    case .busy: break
    }
    if ends { upstream.pointee.flags.formUnion([.peerClosing, .readable]) }
    if readiness.contains(.readable) { upstream.pointee.flags.insert(.readable) }
    if readiness.contains(.writable), upstream.pointee.unsentCount > 0 || upstream.pointee.has(.unsent) {
      flushUpstream(slot)
      guard upstream.pointee.state == .busy else { return }
      requestWasTaken(slot)
    }
    if upstream.pointee.has(.readable) { readUpstream(slot) }
  }

  /// Takes a readiness report about a connection on which TLS is agreed on, or which carries a session.
  private mutating func sessionReported(_ slot: Int, _ readiness: Readiness, ends: Bool) {
    let upstream = upstreams.pointer(slot)
    if ends { upstream.pointee.flags.formUnion([.peerClosing, .readable]) }
    if readiness.contains(.readable) { upstream.pointee.flags.insert(.readable) }
    if upstream.pointee.state == .handshake {
      if readiness.contains(.writable) { _ = flushTransport(upstream: slot) }
      return continueHandshake(upstream: slot)
    }
    if readiness.contains(.writable), !upstream.pointee.output.isEmpty || upstream.pointee.has(.unsent) { flushLater(upstream: slot) }
    readSession(upstream: slot)
  }

  /// The upstream has room again: more of the request may follow.
  mutating func requestWasTaken(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.unsentCount == 0, !upstream.pointee.has(.unsent) else { return }
    let index = Int(upstream.pointee.downstream)
    let connection = downstreams.pointer(index)
    if connection.pointee.state == .tunnel { return tunnelRequestTaken(index) }
    if connection.pointee.progress == .complete {
      awaitNext(index)
    } else if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) {
      makeReady(downstream: index)
    }
  }

  // MARK: Reading

  /// How many octets of the response its client's side has room for.
  private func room(_ index: Int) -> Int {
    let connection = downstreams.pointer(index)
    if connection.pointee.has(.gone) || !connection.pointee.has(.headSeen) { return RelayPlan.bufferLimit }
    if connection.pointee.has(.dry) || connection.pointee.has(.awaitsGrant) { return 0 }
    if connection.pointee.has(.withheld) { return RelayPlan.bufferLimit }
    if !connection.pointee.output.isEmpty || connection.pointee.has(.unsent), connection.pointee.gate == 0 { return 0 }
    return RelayPlan.bufferLimit - connection.pointee.output.count - connection.pointee.held.count
  }

  /// Whether the client's side has room for more of the response.
  func hasRoom(_ index: Int) -> Bool { room(index) >= Self.leastRoom }

  /// Least room that is worth a receive.
  private static var leastRoom: Int { 4096 }

  /// Receives from an upstream as long as there is something and the client's side has room.
  mutating func readUpstream(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    if upstream.pointee.state == .multiplexed { return readSession(upstream: slot) }
    var reads = Self.readsPerTurn
    if upstream.pointee.state == .busy, downstreams.pointer(Int(upstream.pointee.downstream)).pointee.state == .tunnel {
      return readTunnel(slot)
    }
    while upstream.pointee.has(.readable), upstream.pointee.state == .busy {
      let index = Int(upstream.pointee.downstream)
      if downstreams.pointer(index).pointee.state == .tunnel { return readTunnel(slot) }
      let room = room(index)
      guard room >= Self.leastRoom else { return }
      guard reads > 0 else { return makeReady(upstream: slot) }
      reads -= 1
      if maySplice(slot, index), spliceContent(slot, index) { continue }
      switch receive(upstream: slot, room: room) {
      case .octets(let octets): take(slot, index, octets)
      case .nothing: break
      case .ended: return upstreamEnded(slot)
      case .failed: return upstreamFailed(slot, .upstreamClosed)
      }
    }
    if upstream.pointee.state == .idle, upstream.pointee.has(.readable) { readIdle(upstream: slot) }
  }

  private mutating func take(_ slot: Int, _ index: Int, _ octets: UnsafeMutableRawBufferPointer) {
    let upstream = upstreams.pointer(slot)
    upstream.pointee.flags.insert(.answering)
    if upstream.pointee.input.isEmpty {
      let used = useResponse(slot, index, octets)
      if used < octets.count, upstream.pointee.state == .busy {
        upstream.pointee.input.append(UnsafeRawBufferPointer(rebasing: octets[used...]))
      }
      return
    }
    upstream.pointee.input.append(UnsafeRawBufferPointer(octets))
    // Taken out while it is used: what `useResponse` calls may close this connection and release its input.
    var input = ByteBuffer()
    swap(&input, &upstream.pointee.input)
    let whole = input.withUnsafeMutableBytes { $0 }
    let used = useResponse(slot, index, whole)
    guard upstream.pointee.state == .busy else { return }
    input.removeFirst(min(used, input.count))
    if !input.isEmpty { swap(&input, &upstream.pointee.input) }
  }

  /// Uses octets of a response: heads, then content. Returns how many were used; the rest is a head's first part.
  private mutating func useResponse(_ slot: Int, _ index: Int, _ octets: UnsafeMutableRawBufferPointer) -> Int {
    let upstream = upstreams.pointer(slot)
    var used = 0
    while !upstream.pointee.has(.headSeen) {
      let rest = UnsafeRawBufferPointer(rebasing: octets[used...])
      guard !rest.isEmpty else { return used }
      responseHead.pointee.reset()
      do {
        let method = downstreams.pointer(index).pointee.method
        guard
          try ResponseDecoder.decode(
            rest, limits: plan.responseHeadLimits, requestMethod: method, maySwitch: maySwitch(index), into: &responseHead.pointee)
        else { return used }
      } catch {
        upstreamFailed(slot, .upstreamMalformed)
        return octets.count
      }
      let count = responseHead.pointee.byteCount
      let head = UnsafeRawBufferPointer(rebasing: rest[..<count])
      used += count
      if responseHead.pointee.isInterim {
        passInterim(index, head)
      } else if responseHead.pointee.status == 101 {
        serverAnswered(upstream.pointee.pool, status: 101)
        beginTunnel(slot, index, head)
        guard upstream.pointee.state == .busy, downstreams.pointer(index).pointee.state == .tunnel else { return octets.count }
        if used < octets.count { takeTunnelled(slot, UnsafeRawBufferPointer(rebasing: octets[used...])) }
        return octets.count
      } else {
        upstream.pointee.flags.insert(.headSeen)
        serverAnswered(upstream.pointee.pool, status: responseHead.pointee.status)
        if responseHead.pointee.keepAlive { upstream.pointee.flags.insert(.persistent) }
        upstream.pointee.progress = ContentProgress(responseHead.pointee.framing)
        // The trailers of an earlier response on this connection are not this one's, whatever its framing.
        if upstream.pointee.progress == .chunked || !upstream.pointee.decoder.trailers.isEmpty { upstream.pointee.decoder.reset() }
        beginResponse(slot, index, head)
      }
      guard upstream.pointee.state == .busy else { return octets.count }
    }
    let rest = UnsafeMutableRawBufferPointer(rebasing: octets[used...])
    let range: Range<Int>
    let count: Int
    do {
      (count, range) = try Self.takeContent(&upstream.pointee.progress, &upstream.pointee.decoder, rest)
    } catch {
      upstreamFailed(slot, .upstreamMalformed)
      return octets.count
    }
    used += count
    let isWhole = upstream.pointee.progress == .complete
    if !range.isEmpty { deliver(index, UnsafeRawBufferPointer(rebasing: rest[range]), isWhole: isWhole) }
    guard upstream.pointee.state == .busy else { return octets.count }
    if isWhole {
      // Octets behind the response belong to nothing that was asked: the connection is not to be trusted.
      if used < octets.count { upstream.pointee.flags.remove(.persistent) }
      responseComplete(slot, index)
      return octets.count
    }
    transmit(index)
    return used
  }

  /// The whole response has come: the connection is free for others, while the client's side may still be at it.
  mutating func responseComplete(_ slot: Int, _ index: Int) {
    let upstream = upstreams.pointer(slot)
    let connection = downstreams.pointer(index)
    if upstream.pointee.progress == .complete, connection.pointee.responseFraming == .chunked || connection.pointee.transport == .stream {
      passTrailers(slot, index)
    }
    if connection.pointee.exchange.isTallied { readTrailers(slot, index) }
    let isReusable =
      upstream.pointee.has(.persistent) && !upstream.pointee.has(.deaf) && upstream.pointee.unsentCount == 0 && connection.pointee.progress == .complete
      && !upstream.pointee.has(.peerClosing) && !upstream.pointee.has(.unsent) && (!upstream.pointee.has(.readable) || upstream.pointee.transport == .tls)
      && connection.pointee.prepared.isEmpty
    connection.pointee.upstream = -1
    connection.pointee.flags.insert(.responseWhole)
    connection.pointee.state = .ending
    upstream.pointee.downstream = -1
    upstream.pointee.state = .idle
    if isReusable { release(slot) } else { closeUpstream(slot) }
    if upstream.pointee.state == .idle, upstream.pointee.has(.readable) { readIdle(upstream: slot) }
    continueEnding(index)
  }

  /// Keeps the response's trailers for the client.
  private mutating func passTrailers(_ slot: Int, _ index: Int) {
    let upstream = upstreams.pointer(slot)
    let connection = downstreams.pointer(index)
    var lines = ByteBuffer()
    if upstream.pointee.transport != .stream { ResponseRewriter.appendTrailers(upstream.pointee.decoder, to: &lines) }
    let sent = upstream.pointee.transport == .stream ? upstream.pointee.trailers.withUnsafeBytes { $0 } : lines.withUnsafeBytes { $0 }
    guard !sent.isEmpty else { return }
    ResponseRewriter.appendTrailers(
      sent, fields: plan.routes[Int(connection.pointee.route)].responseFields, keepsDigests: !connection.pointee.changesContent,
      to: &connection.pointee.trailers)
  }

  /// Shows the cashier the response's trailers.
  private mutating func readTrailers(_ slot: Int, _ index: Int) {
    let upstream = upstreams.pointer(slot)
    let connection = downstreams.pointer(index)
    if upstream.pointee.transport == .stream {
      upstream.pointee.trailers.withUnsafeBytes { cashier.readTrailers(connection.pointee.exchange, $0) }
    } else {
      var lines = ByteBuffer()
      ResponseRewriter.appendTrailers(upstream.pointee.decoder, to: &lines)
      lines.withUnsafeBytes { cashier.readTrailers(connection.pointee.exchange, $0) }
    }
  }

  // MARK: Ends

  /// The upstream sends nothing more.
  mutating func upstreamEnded(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    if upstream.pointee.has(.headSeen), upstream.pointee.progress == .untilClose {
      upstream.pointee.flags.remove(.persistent)
      return responseComplete(slot, Int(upstream.pointee.downstream))
    }
    upstreamFailed(slot, .upstreamClosed)
  }

  /// A connection to an upstream failed: its request is sent again where that is safe, else the exchange ends.
  mutating func upstreamFailed(_ slot: Int, _ failure: Failure) {
    let upstream = upstreams.pointer(slot)
    let index = Int(upstream.pointee.downstream)
    let pool = upstream.pointee.pool
    let wasConnecting = upstream.pointee.state == .connecting || upstream.pointee.state == .handshake
    guard index >= 0, upstream.pointee.state != .closed else { return closeUpstream(slot) }
    let connection = downstreams.pointer(index)
    connection.pointee.upstream = -1
    upstream.pointee.downstream = -1
    if wasConnecting {
      swap(&connection.pointee.prepared, &upstream.pointee.output)
      closeUpstream(slot)
      return connectFailed(index, pool, upstream.pointee.address, failure)
    }
    let attempt = Retry.Attempt(
      number: Int(connection.pointee.attempt), isReused: upstream.pointee.has(.reused),
      isSent: upstream.pointee.sentCount > 0, isReplayable: upstream.pointee.has(.replayable),
      hasOther: hasOther(index, plan.servers[pool].upstream))
    var decision = Retry.Decision.fail
    if failure == .upstreamClosed, !upstream.pointee.has(.answering), !connection.pointee.has(.gone), connection.pointee.prepared.isEmpty {
      decision = Retry.decision(
        attempt, method: connection.pointee.method, retries: plan.upstreams[plan.servers[pool].upstream].retries)
    }
    if decision != .fail { swap(&connection.pointee.prepared, &upstream.pointee.output) }
    let headSeen = upstream.pointee.has(.headSeen)
    closeUpstream(slot)
    switch decision {
    case .again:
      metrics.upstreamRetries.add()
      return lease(index, pool, fresh: true)
    case .elsewhere:
      serverFailed(pool, failure)
      if sendElsewhere(index, from: pool) { return }
    case .fail: serverFailed(pool, failure)
    }
    requestFailed(pool, failure)
    if headSeen { responseBroken(index, .upstreamBroke) } else { fail(index, failure) }
  }
}
