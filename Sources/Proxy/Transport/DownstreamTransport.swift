import IO

/// What came of receiving from a connection, whatever carries its octets.
enum Received {
  /// These, in the worker's receive buffer; valid until the next receive.
  case octets(UnsafeMutableRawBufferPointer)
  /// None are there now.
  case nothing
  /// The peer has finished sending.
  case ended
  /// The connection is dead.
  case failed
}

// What a client's octets go through: the only place where the relay touches a client's socket.
extension Worker {
  /// Receives at most `room` octets of a client, and notes in the connection's flags whether more may be there.
  @inline(__always)
  mutating func receive(downstream index: Int, room: Int) -> Received {
    let connection = downstreams.pointer(index)
    let space = UnsafeMutableRawBufferPointer(rebasing: received[..<min(room, received.count)])
    switch Syscalls.receive(connection.pointee.descriptor, into: space) {
    case .moved(let count):
      // A short read has emptied the socket; the next octet makes an edge. Only the peer's end needs another look.
      if count < space.count, !connection.pointee.has(.peerClosing) { connection.pointee.flags.remove(.readable) }
      metrics.octetsReceived.add(UInt64(count))
      return .octets(UnsafeMutableRawBufferPointer(rebasing: space[..<count]))
    case .wouldBlock:
      connection.pointee.flags.remove(.readable)
      return .nothing
    case .ended:
      connection.pointee.flags.remove(.readable)
      return .ended
    case .failed:
      connection.pointee.flags.remove(.readable)
      return .failed
    }
  }

  /// Sends `first`, then `second`, either of which may be empty but not both; says how many octets were taken.
  @inline(__always)
  mutating func send(
    downstream index: Int, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer
  ) -> TransferResult {
    let descriptor = downstreams.pointer(index).pointee.descriptor
    if second.isEmpty { return Syscalls.send(descriptor, first) }
    if first.isEmpty { return Syscalls.send(descriptor, second) }
    return Syscalls.send(descriptor, first, second)
  }

  /// Ends our direction; the peer's stays open.
  mutating func endOutput(downstream index: Int) {
    Syscalls.shutdownWrite(downstreams.pointer(index).pointee.descriptor)
  }

  /// Makes the coming end look like what it is: content that was cut short.
  mutating func breakOff(downstream index: Int) {
    Syscalls.resetOnClose(downstreams.pointer(index).pointee.descriptor)
  }

  /// Gives up what carries the connection.
  mutating func closeTransport(downstream index: Int) {
    let connection = downstreams.pointer(index)
    Syscalls.close(connection.pointee.descriptor)
    metrics.connectionsOpen.subtract()
    if connection.pointee.isCounted {
      control.clients.leave(connection.pointee.peer)
      connection.pointee.isCounted = false
    }
    if acceptAgainAt != .max { acceptAgainAt = now }
  }

  /// Whether nobody between the client and us can read along.
  func isSecure(downstream index: Int) -> Bool { false }
}
