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
    switch connection.pointee.transport {
    case .plain: break
    case .tls: return receiveSealed(index, room: room)
    case .stream:
      // Content is handed over as it comes; what is left to receive is the end.
      connection.pointee.flags.remove(.readable)
      return .ended
    }
    let space = UnsafeMutableRawBufferPointer(rebasing: received[..<min(room, RelayPlan.bufferLimit)])
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
    let connection = downstreams.pointer(index)
    switch connection.pointee.transport {
    case .plain:
      // Nothing overtakes what stands in the pipe.
      guard connection.pointee.pipe < 0 else { return .wouldBlock }
      let descriptor = connection.pointee.descriptor
      if second.isEmpty { return Syscalls.send(descriptor, first) }
      if first.isEmpty { return Syscalls.send(descriptor, second) }
      return Syscalls.send(descriptor, first, second)
    case .tls: return sendSealed(index, first, second)
    case .stream: return sendOnStream(index, first, second)
    }
  }

  /// Sends what waits in the transport; false where some of it still does, or the connection was lost over it.
  mutating func flushTransport(downstream index: Int) -> Bool {
    switch downstreams.pointer(index).pointee.transport {
    case .plain: return flushPipe(index)
    case .tls: return flushSealed(index)
    case .stream: return true
    }
  }

  /// Ends our direction; the peer's stays open.
  mutating func endOutput(downstream index: Int) {
    let connection = downstreams.pointer(index)
    switch connection.pointee.transport {
    case .plain: break
    case .tls: sealEnd(Int(connection.pointee.secure), connection.pointee.descriptor)
    case .stream: return
    }
    Syscalls.shutdownWrite(connection.pointee.descriptor)
  }

  /// Makes the coming end look like what it is: content that was cut short.
  mutating func breakOff(downstream index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.transport != .stream else { return }
    Syscalls.resetOnClose(connection.pointee.descriptor)
  }

  /// Gives up what carries the connection.
  mutating func closeTransport(downstream index: Int) {
    let connection = downstreams.pointer(index)
    switch connection.pointee.transport {
    case .plain: returnPipe(index)
    // Content that is cut short must not look ended.
    case .tls: if !connection.pointee.has(.broken) { sealEnd(Int(connection.pointee.secure), connection.pointee.descriptor) }
    case .stream: return leaveSession(index)
    }
    Syscalls.close(connection.pointee.descriptor)
    clientCount -= 1
    metrics.connectionsOpen.subtract()
    if connection.pointee.isCounted {
      control.clients.leave(connection.pointee.peer)
      connection.pointee.isCounted = false
    }
    if acceptAgainAt != .max { acceptAgainAt = now }
  }

  /// Frees what carried a connection that is freed.
  mutating func buryTransport(downstream index: Int) {
    let connection = downstreams.pointer(index)
    if connection.pointee.secure >= 0 { secureSockets.remove(Int(connection.pointee.secure)) }
    if connection.pointee.transport != .stream, connection.pointee.session >= 0 { sessions.remove(Int(connection.pointee.session)) }
  }

  /// Whether nobody between the client and us can read along.
  func isSecure(downstream index: Int) -> Bool { secureSocket(of: index) != nil }

  /// Finds the TLS that a connection, or the session of a stream, runs over; nil: none.
  func secureSocket(of index: Int) -> Int? {
    let connection = downstreams.pointer(index)
    switch connection.pointee.transport {
    case .plain: return nil
    case .tls: return Int(connection.pointee.secure)
    case .stream:
      guard connection.pointee.session >= 0 else { return nil }
      let place = downstreams.pointer(sessions.pointer(Int(connection.pointee.session)).pointee.socket).pointee.secure
      return place >= 0 ? Int(place) : nil
    }
  }
}
