import HTTP
import Ledger

// What upgraded connections wait for: seconds, money, the disk, and their peers.
extension Worker {
  /// How long a connection is left to its upstream after both peers have said Close, or the client has and is gone; nanoseconds.
  private static var closeTimeout: Int64 { 5_000_000_000 }

  /// Sees that the connection is looked at when something of it comes due.
  mutating func scheduleTunnel(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .tunnel else { return }
    setDeadline(index, tunnels.pointer(Int(connection.pointee.tunnel)).pointee.deadline)
  }

  /// When a connection has to be looked at that does not take what is written.
  func writeDeadline(_ index: Int) -> Int64 {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .tunnel else { return now &+ plan.timeouts.writeStall }
    return tunnels.pointer(Int(connection.pointee.tunnel)).pointee.deadline
  }

  /// The connection's deadline has passed.
  mutating func tunnelExpired(_ index: Int) {
    let tunnel = tunnels.pointer(Int(downstreams.pointer(index).pointee.tunnel))
    if now >= tunnel.pointee.holdDeadline {
      metrics.timeouts.add()
      metrics.tunnelsUnpaid.add()
      return endTunnel(index, .holdTimeout, client: Farewell(.policyViolation, "The session's budget is used up."), upstream: .gone)
    }
    if now >= tunnel.pointee.closeDeadline {
      metrics.timeouts.add()
      return closeTunnel(index, tunnel.pointee.ending ?? TunnelEnding(end: .complete))
    }
    if now >= tunnel.pointee.idleDeadline, !tunnel.pointee.isHeld {
      metrics.timeouts.add()
      return endTunnel(index, .complete, client: Farewell(.goingAway, "Nothing passed for too long."), upstream: .gone)
    }
    tickTunnel(index)
    scheduleTunnel(index)
  }

  /// Pays for the seconds that have begun.
  mutating func tickTunnel(_ index: Int) {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    while tunnel.pointee.clockWait == .nothing {
      // While something waits for money no time passes.
      let time = tunnel.pointee.pausedAt != 0 ? tunnel.pointee.pausedAt : now
      guard time >= tunnel.pointee.secondEnds else { return }
      let begun = UInt64(clamping: (time - tunnel.pointee.secondEnds) / Tunnel.second) + 1
      switch cashier.grantSeconds(&connection.pointee.exchange, begun, at: wall) {
      case .granted(let seconds): tunnel.pointee.secondEnds &+= Int64(clamping: seconds) &* Tunnel.second
      case .waitDurable:
        tunnel.pointee.clockWait = .disk
        makeWaiting(index)
      case .dry:
        tunnel.pointee.clockWait = .budget
        holdTunnel(index)
      case .stop: return stopTunnel(index)
      }
    }
  }

  /// Something waits for money: for the route's hold timeout at most, while the clock stands still.
  mutating func holdTunnel(_ index: Int) {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    if tunnel.pointee.pausedAt == 0 {
      tunnel.pointee.pausedAt = now
      tunnel.pointee.holdDeadline = now &+ connection.pointee.exchange.holdTimeout
      metrics.streamsDry.add()
      scheduleTunnel(index)
    }
    makeWaiting(index)
  }

  /// Goes on with what waited, as far as the ledger has moved.
  mutating func resumeTunnel(_ index: Int, hasChanged: Bool) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .tunnel else { return }
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    func mayTry(_ wait: TunnelFlow.Wait) -> Bool { wait == .disk || (wait == .budget && hasChanged) }
    if mayTry(tunnel.pointee.clockWait) {
      tunnel.pointee.clockWait = .nothing
      tickTunnel(index)
      guard connection.pointee.state == .tunnel else { return }
    }
    // Who waited for money is tried first: where it still lacks, and time is sold, the other one waits as well.
    let isClientFirst = tunnel.pointee.fromClient.wait == .budget
    if mayTry(tunnel.pointee.fromUpstream.wait) { tunnel.pointee.fromUpstream.wait = .nothing }
    if mayTry(tunnel.pointee.fromClient.wait) { tunnel.pointee.fromClient.wait = .nothing }
    if isClientFirst, !connection.pointee.input.isEmpty { useInput(index) }
    guard connection.pointee.state == .tunnel else { return }
    if connection.pointee.upstream >= 0 { readTunnel(Int(connection.pointee.upstream)) }
    guard connection.pointee.state == .tunnel else { return }
    if !isClientFirst, !connection.pointee.input.isEmpty { useInput(index) }
    guard connection.pointee.state == .tunnel else { return }
    if connection.pointee.has(.readable) { makeReady(downstream: index) }
    if tunnel.pointee.pausedAt != 0, !tunnel.pointee.isHeld {
      if tunnel.pointee.secondEnds != .max { tunnel.pointee.secondEnds &+= now &- tunnel.pointee.pausedAt }
      tunnel.pointee.pausedAt = 0
      tunnel.pointee.holdDeadline = .max
      tunnel.pointee.idleDeadline = now &+ times(index).idle
    }
    if tunnel.pointee.isWaiting || connection.pointee.gate != 0 { makeWaiting(index) }
    scheduleTunnel(index)
  }

  /// The client has taken everything: more of the upstream's may follow.
  mutating func tunnelDrained(_ index: Int) {
    let connection = downstreams.pointer(index)
    scheduleTunnel(index)
    guard connection.pointee.upstream >= 0 else { return }
    let upstream = upstreams.pointer(Int(connection.pointee.upstream))
    if tunnels.pointer(Int(connection.pointee.tunnel)).pointee.fromUpstream.isEnded, upstream.pointee.input.isEmpty {
      return tunnelUpstreamEnded(index)
    }
    if upstream.pointee.has(.readable) || !upstream.pointee.input.isEmpty { makeReady(upstream: Int(connection.pointee.upstream)) }
  }

  /// Once both peers have said Close, the server ends the connection; it has a while for that.
  mutating func noticeCloses(_ index: Int) {
    let tunnel = tunnels.pointer(Int(downstreams.pointer(index).pointee.tunnel))
    guard tunnel.pointee.isWebSocket, tunnel.pointee.fromClient.hasClosed, tunnel.pointee.fromUpstream.hasClosed else { return }
    beginClosing(index)
  }

  /// Leaves the rest to the server, for a while. Nothing is sold any more, so no more time is either.
  mutating func beginClosing(_ index: Int) {
    let tunnel = tunnels.pointer(Int(downstreams.pointer(index).pointee.tunnel))
    guard tunnel.pointee.closeDeadline == .max, tunnel.pointee.ending == nil else { return }
    tunnel.pointee.closeDeadline = now &+ Self.closeTimeout
    tunnel.pointee.secondEnds = .max
    tunnel.pointee.clockWait = .nothing
    scheduleTunnel(index)
  }
}
