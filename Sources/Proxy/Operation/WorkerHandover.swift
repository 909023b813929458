import Bytes
import HTTP
import IO

extension Worker {
  /// How long a connection that cannot be passed on may be silent before it is ended, in nanoseconds. A client that is just
  /// about to send its next request would otherwise find it closed; with `Connection: close` in an answer it knows.
  static var quietTime: Int64 { 1_000_000_000 }

  /// Begins to hand connections over: accepts nothing more, and goes on with what is in flight as if it did not end.
  mutating func startHandover(_ channel: MessageChannel) {
    guard !isDraining else { return }
    successor = channel
    startDraining()
  }

  /// Whether the connection need not end with this process: its state is nothing but its socket.
  func mayHandOver(_ index: Int) -> Bool {
    guard let successor, !successor.hasFailed else { return false }
    let connection = downstreams.pointer(index)
    guard connection.pointee.transport == .plain, connection.pointee.state != .multiplexed, connection.pointee.state != .tunnel else { return false }
    return !connection.pointee.has(.closing) && !connection.pointee.has(.inputEnded) && !connection.pointee.has(.gone)
      && !connection.pointee.has(.awaitsIntroduction)
  }

  /// Whether the end of this process is the end of the connection.
  @inline(__always)
  func endsConnection(_ index: Int) -> Bool { isDraining && !mayHandOver(index) }

  /// Passes on every connection that waits for a request, with what has come of it. At the end of a turn, when no octet is on its
  /// way through the worker.
  mutating func handOverIdle() {
    for index in 0..<downstreams.placeCount where downstreams.isInUse(index) {
      switch downstreams.pointer(index).pointee.state {
      // One that takes nothing more costs a second once, and not for each connection.
      case .idle, .head: if mayHandOver(index) { handOver(index) } else { giveNotice(index) }
      // One that was agreed on only after the others were told.
      case .multiplexed: drainSession(of: index)
      case .handshake, .content, .beforeForward, .queued, .exchange, .tunnel, .ending, .pendingAnswer, .answer, .discard, .linger, .closed: break
      }
    }
  }

  /// Gives a connection that cannot be passed on the time that it may go on, when the others begin to go over.
  mutating func giveNotice(_ index: Int) {
    let connection = downstreams.pointer(index)
    switch connection.pointee.state {
    case .idle: setDeadline(index, min(connection.pointee.deadline, now &+ Self.quietTime))
    case .handshake: setDeadline(index, min(connection.pointee.deadline, now &+ 3 * Self.quietTime))
    case .multiplexed: drainSession(of: index)
    case .head, .content, .beforeForward, .queued, .pendingAnswer: connection.pointee.flags.insert(.closing)
    // Once the head has left that says the connection stays, it stays for one request more.
    case .exchange: if !connection.pointee.has(.headSeen) || connection.pointee.has(.withheld) { connection.pointee.flags.insert(.closing) }
    case .tunnel: drainTunnel(index)
    case .ending, .answer, .discard, .linger, .closed: break
    }
  }

  private mutating func handOver(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard let successor else { return }
    let passed = Handover.Connection(
      descriptor: connection.pointee.descriptor, peer: connection.pointee.peer, peerPort: connection.pointee.peerPort,
      listener: plan.listeners[Int(connection.pointee.listener)].name, input: connection.pointee.input.array())
    guard Handover.pass(passed, successor) else { return giveNotice(index) }
    // The socket lives on in the other process, and would be reported here as long as it does.
    epoll.remove(connection.pointee.descriptor)
    closeDownstream(index)
  }

  /// Takes a connection over that another process had.
  mutating func takeOver(_ connection: Handover.Connection) {
    // What was spoken without TLS goes on so, whatever became of its listener.
    let place = plan.listeners.firstIndex { $0.name == connection.listener && $0.tls == nil } ?? plan.listeners.firstIndex { $0.tls == nil }
    guard let place else { return Syscalls.close(connection.descriptor) }
    let listener = Int32(truncatingIfNeeded: place)
    guard let index = welcome(connection.descriptor, connection.peer, port: connection.peerPort, listener), !connection.input.isEmpty
    else { return }
    downstreams.pointer(index).pointee.input.append(connection.input)
    makeReady(downstream: index)
  }
}
