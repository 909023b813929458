import IO

// What an upstream's octets go through: the only place where the relay touches an upstream's socket.
extension Worker {
  /// Receives at most `room` octets of an upstream, and notes in the connection's flags whether more may be there.
  @inline(__always)
  mutating func receive(upstream slot: Int, room: Int) -> Received {
    let upstream = upstreams.pointer(slot)
    switch upstream.pointee.transport {
    case .plain: break
    case .tls: return receiveSealed(upstream: slot, room: room)
    case .stream:
      // Responses are handed over as they come; only the loss of the stream is received.
      upstream.pointee.flags.remove(.readable)
      return .failed
    }
    let space = UnsafeMutableRawBufferPointer(rebasing: received[..<min(room, RelayPlan.bufferLimit)])
    switch Syscalls.receive(upstream.pointee.descriptor, into: space) {
    case .moved(let count):
      if count < space.count, !upstream.pointee.has(.peerClosing) { upstream.pointee.flags.remove(.readable) }
      return .octets(UnsafeMutableRawBufferPointer(rebasing: space[..<count]))
    case .wouldBlock:
      upstream.pointee.flags.remove(.readable)
      return .nothing
    case .ended:
      upstream.pointee.flags.remove(.readable)
      return .ended
    case .failed:
      upstream.pointee.flags.remove(.readable)
      return .failed
    }
  }

  /// Sends octets of a request, which must not be empty; says how many were taken.
  @inline(__always)
  mutating func send(upstream slot: Int, _ octets: UnsafeRawBufferPointer) -> TransferResult {
    switch upstreams.pointer(slot).pointee.transport {
    case .plain: Syscalls.send(upstreams.pointer(slot).pointee.descriptor, octets)
    case .tls: sendSealed(upstream: slot, octets)
    case .stream: sendOnStream(upstream: slot, octets)
    }
  }

  /// Ends our direction; the upstream's stays open.
  mutating func endOutput(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    switch upstream.pointee.transport {
    case .plain: break
    case .tls: sealEnd(Int(upstream.pointee.secure), upstream.pointee.descriptor)
    case .stream: return
    }
    Syscalls.shutdownWrite(upstream.pointee.descriptor)
  }

  /// Gives up what carries the connection.
  mutating func closeTransport(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    switch upstream.pointee.transport {
    case .plain: break
    case .tls: sealEnd(Int(upstream.pointee.secure), upstream.pointee.descriptor)
    case .stream: return leaveSession(upstream: slot)
    }
    Syscalls.close(upstream.pointee.descriptor)
    metrics.upstreamConnectionsOpen.subtract()
  }

  /// Frees what carried a connection that is freed.
  mutating func buryTransport(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    if upstream.pointee.secure >= 0 { secureSockets.remove(Int(upstream.pointee.secure)) }
    if upstream.pointee.transport != .stream, upstream.pointee.session >= 0 { serverSessions.remove(Int(upstream.pointee.session)) }
  }
}
