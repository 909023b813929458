import Bytes
import Crypto
import HTTP
import HTTP2
import IO
import Ledger

/// What a peer of a WebSocket connection is told when it is closed.
struct Farewell {
  let code: WebSocketCloseCode
  let reason: StaticString

  init(_ code: WebSocketCloseCode, _ reason: StaticString) {
    self.code = code
    self.reason = reason
  }

  /// To the upstream, whose fault it is not.
  static var gone: Farewell { Farewell(.goingAway, "The client has gone.") }
}

// How upgraded connections end.
extension Worker {
  /// How long the rest of a frame is waited for that is passing when the connection ends, nanoseconds: a Close frame fits only behind it.
  private static var frameTimeout: Int64 { 500_000_000 }

  /// Ends an upgraded connection, at once or after the frame that is passing.
  mutating func endTunnel(_ index: Int, _ end: ExchangeEnd, client: Farewell?, upstream: Farewell?) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .tunnel else { return }
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    let ending = TunnelEnding(end: end, client: client, upstream: upstream)
    guard awaitsFrame(index, ending) else { return closeTunnel(index, ending) }
    guard tunnel.pointee.ending == nil else { return }
    tunnel.pointee.ending = ending
    tunnel.pointee.closeDeadline = now &+ Self.frameTimeout
    tunnel.pointee.holdDeadline = .max
    tunnel.pointee.secondEnds = .max
    tunnel.pointee.clockWait = .nothing
    scheduleTunnel(index)
    if connection.pointee.upstream >= 0 { makeReady(upstream: Int(connection.pointee.upstream)) }
  }

  /// Whether half a frame has passed to the client whose rest, paid for, may still come from an upstream that is well.
  private func awaitsFrame(_ index: Int, _ ending: TunnelEnding) -> Bool {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    guard ending.client != nil, ending.upstream != nil, !connection.pointee.has(.gone), connection.pointee.upstream >= 0 else { return false }
    guard tunnel.pointee.isWebSocket, !tunnel.pointee.fromUpstream.isBetweenFrames, tunnel.pointee.fromUpstream.wait != .budget else { return false }
    switch ending.end {
    case .ledgerLost: return false
    case .complete, .upstreamFailed, .upstreamBroke, .clientLeft, .abandoned, .sessionStopped, .holdTimeout:
      return tunnel.pointee.ending == nil || now < tunnel.pointee.closeDeadline
    }
  }

  /// Gives back what was granted to frames that have not passed whole.
  mutating func returnUnpassed(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.tunnel >= 0 else { return }
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    cashier.takeBack(&connection.pointee.exchange, isClients: true, octets: tunnel.pointee.fromClient.paid)
    cashier.takeBack(&connection.pointee.exchange, isClients: false, octets: tunnel.pointee.fromUpstream.paid)
    tunnel.pointee.fromClient.paid = 0
    tunnel.pointee.fromUpstream.paid = 0
  }

  /// Ends an upgraded connection: what it used is settled, each peer is told why as far as it has not closed by itself, and both
  /// connections end.
  mutating func closeTunnel(_ index: Int, _ ending: TunnelEnding) {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    let end = ending.end
    let isWebSocket = tunnel.pointee.isWebSocket
    let fromClient = tunnel.pointee.fromClient
    let fromUpstream = tunnel.pointee.fromUpstream
    returnUnpassed(index)
    _ = finishPaid(index, end)
    releaseTunnel(index)
    let slot = Int(connection.pointee.upstream)
    connection.pointee.upstream = -1
    if slot >= 0 {
      if let farewell = ending.upstream, isWebSocket, fromClient.isBetweenFrames, !fromClient.hasClosed {
        let octets = Self.closeFrame(farewell, mask: Random.bytes(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        octets.withUnsafeBytes { sendToUpstream(slot, $0) }
      }
      lingerUpstream(slot)
    }
    if connection.pointee.has(.gone) { return closeDownstream(index) }
    if let client = ending.client {
      if isWebSocket, fromUpstream.isBetweenFrames {
        if !fromUpstream.hasClosed { outgoing.append(Self.closeFrame(client, mask: nil)) }
      } else {
        // In the middle of a frame, or of what nobody here understands, only the connection's end can tell.
        connection.pointee.flags.insert(.broken)
      }
    }
    connection.pointee.streamError = HTTP2ErrorCode(end)
    connection.pointee.flags.insert(.closing)
    // The client's own Close may still come: it is read until the client has ended, too.
    if connection.pointee.transport != .stream { connection.pointee.progress = .untilClose }
    connection.pointee.state = .answer
    setDeadline(index, now &+ plan.timeouts.writeStall)
    transmit(index)
  }

  private static func closeFrame(_ farewell: Farewell, mask: UInt32?) -> [UInt8] {
    var frame = ByteBuffer()
    WebSocketWriter.appendClose(farewell.code, reason: farewell.reason, mask: mask, to: &frame)
    return frame.array()
  }

  /// The session that pays is closing or frozen, or its money is for another.
  mutating func stopTunnel(_ index: Int) {
    endTunnel(index, .sessionStopped, client: Farewell(.policyViolation, "The session was closed."), upstream: .gone)
  }

  /// The ledger was read back: what was promised is void.
  mutating func loseTunnel(_ index: Int) {
    endTunnel(index, .ledgerLost, client: Farewell(.internalError, "Payments cannot be recorded at the moment."), upstream: .gone)
  }

  /// The proxy goes away.
  mutating func drainTunnel(_ index: Int) {
    endTunnel(
      index, .complete, client: Farewell(.goingAway, "The server goes away."), upstream: Farewell(.goingAway, "The proxy goes away."))
  }

  // MARK: Peers that end

  /// The client sends nothing more.
  mutating func tunnelClientEnded(_ index: Int) {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    tunnel.pointee.fromClient.isEnded = true
    if !tunnel.pointee.isWebSocket { return endUpstreamIfDone(index) }
    // After Close the server's is still on its way.
    if tunnel.pointee.fromClient.hasClosed { return beginClosing(index) }
    tunnelClientLost(index)
  }

  /// The client's connection is dead, or as good as that.
  mutating func tunnelClientLost(_ index: Int) {
    let connection = downstreams.pointer(index)
    metrics.clientsLeft.add()
    if !connection.pointee.has(.gone) {
      closeTransport(downstream: index)
      connection.pointee.flags.insert(.gone)
      connection.pointee.output.release()
    }
    endTunnel(
      index, .clientLeft(requestForwarded: true, headSeen: true, safe: true), client: nil, upstream: .gone)
  }

  /// The upstream sends nothing more.
  mutating func tunnelUpstreamEnded(_ index: Int) {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    tunnel.pointee.fromUpstream.isEnded = true
    let slot = Int(connection.pointee.upstream)
    // What came before waits for money or the client.
    guard slot < 0 || upstreams.pointer(slot).pointee.input.isEmpty else { return }
    if tunnel.pointee.isWebSocket {
      guard tunnel.pointee.fromUpstream.hasClosed else { return tunnelUpstreamFailed(index) }
      return endTunnel(index, .complete, client: nil, upstream: nil)
    }
    if tunnel.pointee.fromClient.isEnded { return endTunnel(index, .complete, client: nil, upstream: nil) }
    // A stream cannot be ended in one direction by half.
    if connection.pointee.transport == .stream { return endTunnel(index, .complete, client: nil, upstream: nil) }
    // The client may go on sending; it is told once everything before has left.
    if connection.pointee.output.isEmpty, !connection.pointee.has(.unsent) { endOutput(downstream: index) }
  }

  /// The upstream's connection broke.
  mutating func tunnelUpstreamFailed(_ index: Int) {
    endTunnel(index, .upstreamBroke, client: Farewell(.internalError, "The upstream server broke off."), upstream: nil)
  }

  /// Tells an upstream that the client has ended its direction, where everything before has left.
  mutating func endUpstreamIfDone(_ index: Int) {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    guard !tunnel.pointee.isWebSocket, tunnel.pointee.fromClient.isEnded, connection.pointee.input.isEmpty else { return }
    if tunnel.pointee.fromUpstream.isEnded { return endTunnel(index, .complete, client: nil, upstream: nil) }
    guard connection.pointee.upstream >= 0 else { return }
    let upstream = upstreams.pointer(Int(connection.pointee.upstream))
    guard upstream.pointee.unsentCount == 0, !upstream.pointee.has(.unsent) else { return }
    endOutput(upstream: Int(connection.pointee.upstream))
  }

  // MARK: Upstreams that are left

  /// Ends our direction of an upstream's connection that serves nobody any more, and reads the other for a while: closed at once,
  /// it would be reset, and our last octets lost with it.
  mutating func lingerUpstream(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.state == .busy, !upstream.pointee.has(.deaf) else { return closeUpstream(slot) }
    flushUpstreamOutput(slot)
    guard upstream.pointee.state == .busy, upstream.pointee.unsentCount == 0, !upstream.pointee.has(.peerClosing) else {
      return closeUpstream(slot)
    }
    endOutput(upstream: slot)
    upstream.pointee.state = .linger
    upstream.pointee.downstream = -1
    upstream.pointee.input.release()
    upstream.pointee.output.release()
    upstream.pointee.sentCount = 0
    end(at: slot)
    upstream.pointee.deadline = now &+ plan.timeouts.linger
    wheel.schedule(slot * 2 + 1, deadline: upstream.pointee.deadline)
    if upstream.pointee.has(.readable) { makeReady(upstream: slot) }
  }

  private mutating func flushUpstreamOutput(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.unsentCount > 0 else { return }
    // Safe because: the send ends before `output` changes.
    let octets = upstream.pointee.output.withUnsafeBytes { $0 }
    if case .moved(let count) = send(upstream: slot, UnsafeRawBufferPointer(rebasing: octets[upstream.pointee.sentCount...])) {
      upstream.pointee.sentCount += count
    }
  }

  /// Reads and throws away what an upstream says that is left.
  mutating func discardUpstream(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    for _ in 0..<Self.readsPerTurn {
      guard upstream.pointee.has(.readable), upstream.pointee.state == .linger else { return }
      switch receive(upstream: slot, room: RelayPlan.bufferLimit) {
      case .octets, .nothing: break
      case .ended, .failed: return closeUpstream(slot)
      }
    }
    makeReady(upstream: slot)
  }
}
