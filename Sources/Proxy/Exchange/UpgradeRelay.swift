import Bytes
import HTTP
import IO

// Octets of connections that were switched to another protocol: they pass unchanged, in both directions, as far as they are
// paid for.
extension Worker {
  /// A frame of at most so many octets begins only when all of it is paid for, so that a budget's end cuts none.
  private static var wholeFrameLimit: UInt64 { 4 << 20 }

  private static let fromClientOffset = MemoryLayout<Tunnel>.offset(of: \Tunnel.fromClient) ?? 0
  private static let fromUpstreamOffset = MemoryLayout<Tunnel>.offset(of: \Tunnel.fromUpstream) ?? 0

  // MARK: From the client

  /// Whether octets of the client can be used now.
  func tunnelTakesInput(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.tunnel >= 0, connection.pointee.upstream >= 0 else { return false }
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    guard tunnel.pointee.fromClient.wait == .nothing, tunnel.pointee.ending == nil else { return false }
    guard !tunnel.pointee.isStopped(tunnel.pointee.fromClient) else { return false }
    let upstream = upstreams.pointer(Int(connection.pointee.upstream))
    return upstream.pointee.unsentCount == 0 && !upstream.pointee.has(.deaf)
  }

  /// Passes octets of the client on; returns how many were used.
  mutating func passToUpstream(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Int {
    guard tunnelTakesInput(index) else { return 0 }
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    tunnel.pointee.idleDeadline = now &+ times(index).idle
    let count = payable(index, isClients: true, octets)
    metrics.tunnelOctetsFromClients.add(UInt64(count))
    if count > 0 { sendToUpstream(Int(connection.pointee.upstream), UnsafeRawBufferPointer(rebasing: octets[..<count])) }
    switch tunnel.pointee.fromClient.fault {
    case .malformed:
      metrics.tunnelsMalformed.add()
      endTunnel(
        index, .clientLeft(requestForwarded: true, headSeen: true, safe: true),
        client: Farewell(.protocolError, "The client sent a malformed frame."), upstream: .gone)
      return octets.count
    case .stopped:
      stopTunnel(index)
      return octets.count
    case nil: break
    }
    noticeCloses(index)
    return count
  }

  /// Sends octets to an upstream at once, and keeps what its connection does not take.
  mutating func sendToUpstream(_ slot: Int, _ octets: UnsafeRawBufferPointer) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.unsentCount == 0 else { return upstream.pointee.output.append(octets) }
    upstream.pointee.output.removeAll()
    upstream.pointee.sentCount = 0
    switch send(upstream: slot, octets) {
    case .moved(let count): upstream.pointee.output.append(UnsafeRawBufferPointer(rebasing: octets[min(count, octets.count)...]))
    case .wouldBlock, .ended: upstream.pointee.output.append(octets)
    case .failed: becomeDeaf(slot)
    }
  }

  /// The upstream has taken everything: more of the client's may follow.
  mutating func tunnelRequestTaken(_ index: Int) {
    let connection = downstreams.pointer(index)
    if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) { makeReady(downstream: index) }
    endUpstreamIfDone(index)
  }

  // MARK: From the upstream

  /// How many octets the client's side has room for.
  private func tunnelRoom(_ index: Int) -> Int {
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    guard tunnel.pointee.fromUpstream.wait == .nothing, !tunnel.pointee.isStopped(tunnel.pointee.fromUpstream) else { return 0 }
    if !connection.pointee.output.isEmpty || connection.pointee.has(.unsent), connection.pointee.gate == 0 { return 0 }
    return RelayPlan.bufferLimit - connection.pointee.output.count
  }

  /// Passes on what waits, then receives as long as there is something and the client's side has room.
  mutating func readTunnel(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    var reads = Self.readsPerTurn
    useTunnelInput(slot)
    while upstream.pointee.has(.readable), upstream.pointee.state == .busy {
      let index = Int(upstream.pointee.downstream)
      let room = tunnelRoom(index) - upstream.pointee.input.count
      guard room >= 4096 else { return }
      guard reads > 0 else { return makeReady(upstream: slot) }
      reads -= 1
      switch receive(upstream: slot, room: room) {
      case .octets(let octets): takeTunnelled(slot, UnsafeRawBufferPointer(octets))
      case .nothing: break
      case .ended: return tunnelUpstreamEnded(index)
      case .failed: return tunnelUpstreamFailed(index)
      }
    }
  }

  /// Passes octets of the upstream on, and keeps what may not pass yet.
  mutating func takeTunnelled(_ slot: Int, _ octets: UnsafeRawBufferPointer) {
    let upstream = upstreams.pointer(slot)
    let index = Int(upstream.pointee.downstream)
    tunnels.pointer(Int(downstreams.pointer(index).pointee.tunnel)).pointee.idleDeadline = now &+ times(index).idle
    guard upstream.pointee.input.isEmpty else {
      upstream.pointee.input.append(octets)
      return useTunnelInput(slot)
    }
    let used = passToClient(index, octets)
    guard used < octets.count, upstream.pointee.state == .busy else { return }
    upstream.pointee.input.append(UnsafeRawBufferPointer(rebasing: octets[used...]))
  }

  private mutating func useTunnelInput(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard !upstream.pointee.input.isEmpty else { return }
    // Taken out while it is used: what is called may close this connection and release its input.
    var input = ByteBuffer()
    swap(&input, &upstream.pointee.input)
    let octets = input.withUnsafeBytes { $0 }
    let used = passToClient(Int(upstream.pointee.downstream), octets)
    guard upstream.pointee.state == .busy else { return }
    input.removeFirst(min(used, input.count))
    if !input.isEmpty { return swap(&input, &upstream.pointee.input) }
    let index = Int(upstream.pointee.downstream)
    if tunnels.pointer(Int(downstreams.pointer(index).pointee.tunnel)).pointee.fromUpstream.isEnded { tunnelUpstreamEnded(index) }
  }

  private mutating func passToClient(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Int {
    guard tunnelRoom(index) > 0 else { return 0 }
    let connection = downstreams.pointer(index)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    let count = payable(index, isClients: false, octets)
    metrics.tunnelOctetsFromUpstreams.add(UInt64(count))
    if count > 0 { transmit(index, UnsafeRawBufferPointer(rebasing: octets[..<count])) }
    guard connection.pointee.state == .tunnel else { return octets.count }
    switch tunnel.pointee.fromUpstream.fault {
    case .malformed:
      metrics.tunnelsMalformed.add()
      endTunnel(
        index, .upstreamBroke, client: Farewell(.internalError, "The upstream server sent a malformed frame."),
        upstream: Farewell(.protocolError, "Malformed frame."))
      return octets.count
    case .stopped:
      stopTunnel(index)
      return octets.count
    case nil: break
    }
    if let ending = tunnel.pointee.ending, tunnel.pointee.fromUpstream.isBetweenFrames {
      closeTunnel(index, ending)
      return octets.count
    }
    if !connection.pointee.output.isEmpty { scheduleTunnel(index) }
    noticeCloses(index)
    return count
  }

  // MARK: What may pass

  /// Finds how many of the octets may pass now, and counts them as passed.
  private mutating func payable(_ index: Int, isClients: Bool, _ octets: UnsafeRawBufferPointer) -> Int {
    let place = Int(downstreams.pointer(index).pointee.tunnel)
    let flow: UnsafeMutablePointer<TunnelFlow> = self.flow(place, isClients)
    guard flow.pointee.fault == nil else { return 0 }
    var used = 0
    if !tunnels.pointer(place).pointee.isWebSocket {
      guard !tunnels.pointer(place).pointee.isStandingStill else { return 0 }
      while used < octets.count, case let count = payableOctets(index, flow, isClients, octets.count - used), count > 0 { used += count }
      return used
    }
    while used < octets.count {
      if flow.pointee.frame == nil, flow.pointee.scanner.isBetweenFrames {
        // The connection ends here.
        if tunnels.pointer(place).pointee.ending != nil { break }
        do throws(WebSocketError) {
          flow.pointee.frame = try flow.pointee.scanner.begin(UnsafeRawBufferPointer(rebasing: octets[used...]))
        } catch {
          flow.pointee.fault = .malformed
          return used
        }
        if flow.pointee.frame == nil { break }
      }
      if let frame = flow.pointee.frame {
        guard mayBegin(index, flow, isClients, frame) else { break }
        flow.pointee.frame = nil
        flow.pointee.isData = !frame.opcode.isControl
        if frame.startsMessage, isClients { metrics.tunnelMessagesFromClients.add() }
        if frame.startsMessage, !isClients { metrics.tunnelMessagesFromUpstreams.add() }
        used += frame.headerCount
        continue
      }
      var count = min(octets.count - used, Int(clamping: flow.pointee.scanner.payloadLeft))
      if flow.pointee.isData {
        guard !tunnels.pointer(place).pointee.isStandingStill else { break }
        count = payableOctets(index, flow, isClients, count)
        if count == 0 { break }
      }
      flow.pointee.scanner.pass(count)
      used += count
    }
    return used
  }

  /// Whether a frame may begin: one of a message only when it is paid for, whole where it is not too long for that, and time runs.
  private mutating func mayBegin(
    _ index: Int, _ flow: UnsafeMutablePointer<TunnelFlow>, _ isClients: Bool, _ frame: WebSocketFrame
  ) -> Bool {
    guard !frame.opcode.isControl else { return true }
    guard !tunnels.pointer(Int(downstreams.pointer(index).pointee.tunnel)).pointee.isStandingStill else { return false }
    let octets = flow.pointee.metersOctets ? min(frame.payloadCount, Self.wholeFrameLimit) : 0
    let messages: UInt64 = flow.pointee.metersMessages && frame.startsMessage ? 1 : 0
    guard octets > 0 || messages > 0 else { return true }
    let result = cashier.grantFrame(
      &downstreams.pointer(index).pointee.exchange, isClients: isClients, octets: octets, messages: messages, at: wall)
    guard isGranted(index, flow, result) != nil else { return false }
    flow.pointee.paid = octets
    return true
  }

  /// Counts octets of content that pass, at most `count` and as many as are paid for.
  private mutating func payableOctets(
    _ index: Int, _ flow: UnsafeMutablePointer<TunnelFlow>, _ isClients: Bool, _ count: Int
  ) -> Int {
    let connection = downstreams.pointer(index)
    var passing = count
    if flow.pointee.metersOctets {
      if flow.pointee.paid == 0 {
        // No more than what is here: the rest of the budget may be for the other direction.
        let result = cashier.grantOctets(&connection.pointee.exchange, isClients: isClients, wanted: UInt64(count), at: wall)
        guard let granted = isGranted(index, flow, result) else { return 0 }
        flow.pointee.paid = granted
      }
      passing = min(count, Int(clamping: flow.pointee.paid))
      flow.pointee.paid -= UInt64(passing)
    }
    if !isClients { connection.pointee.contentSent &+= UInt64(passing) }
    return passing
  }

  /// What a grant gives; nil, and the direction waits, where it gives nothing now.
  private mutating func isGranted(_ index: Int, _ flow: UnsafeMutablePointer<TunnelFlow>, _ result: GrantResult) -> UInt64? {
    switch result {
    case .granted(let units): return units
    case .waitDurable:
      flow.pointee.wait = .disk
      makeWaiting(index)
    case .dry:
      flow.pointee.wait = .budget
      holdTunnel(index)
    case .stop: flow.pointee.fault = .stopped
    }
    return nil
  }

  // Safe because: a slab's values do not move, and the tunnel of a connection in state `tunnel` is in use.
  private func flow(_ place: Int, _ isClients: Bool) -> UnsafeMutablePointer<TunnelFlow> {
    let tunnel = tunnels.pointer(place)
    let offset = isClients ? Self.fromClientOffset : Self.fromUpstreamOffset
    return (UnsafeMutableRawPointer(tunnel) + offset).assumingMemoryBound(to: TunnelFlow.self)
  }
}
