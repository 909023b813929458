import HTTP
import IO
import Ledger

// Content that nobody has to look at, between two bare sockets: it passes inside the kernel, counted and paid for like any other.
extension Worker {
  /// Most octets of one response that are on their way at once.
  private static var spliceLimit: Int { 256 << 10 }
  /// Where no more than this is left, or may pass, octets are copied: a pipe would cost more than it saves.
  private static var copiedLimit: Int { 32 << 10 }
  /// Pipes that are kept for later ones.
  private static var idlePipeLimit: Int { 32 }
  /// How long no pipe is asked for after the system gave none, nanoseconds.
  private static var pipePause: Int64 { 1_000_000_000 }
  /// Most pipes of a worker; one in so many connections of clients can have one, since each takes two descriptors.
  static var pipeLimit: Int { 256 }
  static var connectionsPerPipe: Int { 16 }

  /// Whether a response's content may pass inside the kernel now: nothing waits before it, and nobody has to see or change it.
  @inline(__always)
  func maySplice(_ slot: Int, _ index: Int) -> Bool {
    let upstream = upstreams.pointer(slot)
    guard case .length(let left) = upstream.pointee.progress, left > UInt64(Self.copiedLimit) else { return false }
    guard upstream.pointee.transport == .plain, upstream.pointee.has(.headSeen), upstream.pointee.input.isEmpty, areSpliced else { return false }
    let connection = downstreams.pointer(index)
    return connection.pointee.transport == .plain && connection.pointee.state == .exchange && connection.pointee.responseFraming == .length
      && connection.pointee.gate == 0 && connection.pointee.output.isEmpty && connection.pointee.held.isEmpty
      && connection.pointee.flags.isDisjoint(with: [.gone, .withheld, .eventStream, .dry, .awaitsGrant, .unsent])
      && connection.pointee.mcp == nil && !connection.pointee.exchange.keepsAnswer && !connection.pointee.exchange.isTallied
      // What stands in the pipe was granted and is counted later: nobody may take it back meanwhile, as a request's meter would that runs dry.
      && (!connection.pointee.exchange.metersRequest || connection.pointee.progress == .complete)
  }

  /// Moves what has come of a response to its client, as far as the budget goes; false where it has to be copied.
  ///
  /// The last octet is always received: that shows that nothing follows it, so that the connection can serve the next request.
  mutating func spliceContent(_ slot: Int, _ index: Int) -> Bool {
    let upstream = upstreams.pointer(slot)
    let connection = downstreams.pointer(index)
    guard case .length(let left) = upstream.pointee.progress else { return false }
    var limit = Int(min(left - 1, UInt64(Self.spliceLimit)))
    if connection.pointee.has(.paid), connection.pointee.exchange.metersResponse {
      // What has to wait for its grant is received, and held as any content is.
      guard case .granted(let granted) = cashier.grant(&connection.pointee.exchange, wanted: UInt64(limit), atLeast: 1, at: wall) else { return false }
      limit = Int(clamping: granted)
    }
    guard limit > Self.copiedLimit, let place = takePipe() else { return false }
    connection.pointee.pipe = Int32(place)
    switch pipes.pointer(place).pointee.fill(from: upstream.pointee.descriptor, limit: limit) {
    case .moved(let count):
      upstream.pointee.progress = .length(left - UInt64(count))
      if connection.pointee.progress == .complete { setDeadline(index, now &+ times(index).idle) }
      _ = flushPipe(index)
    case .wouldBlock:
      upstream.pointee.flags.remove(.readable)
      returnPipe(index)
    case .ended:
      upstream.pointee.flags.remove(.readable)
      returnPipe(index)
      upstreamEnded(slot)
    case .failed(let code):
      returnPipe(index)
      if SplicePipe.isUnsupported(code) {
        areSpliced = false
        return false
      }
      upstream.pointee.flags.remove(.readable)
      upstreamFailed(slot, .upstreamClosed)
    }
    return true
  }

  /// Moves what a connection's pipe holds to the client; false where some of it still waits, or the connection was lost over it.
  ///
  /// Octets count as delivered when they leave the pipe.
  mutating func flushPipe(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.pipe >= 0 else { return true }
    let pipe = pipes.pointer(Int(connection.pointee.pipe))
    while pipe.pointee.count > 0 {
      switch pipe.pointee.drain(to: connection.pointee.descriptor) {
      case .moved(let count):
        metrics.octetsSent.add(UInt64(count))
        connection.pointee.flags.insert(.departed)
        connection.pointee.contentSent &+= UInt64(count)
        if connection.pointee.has(.paid) { cashier.delivered(&connection.pointee.exchange, UInt64(count)) }
      case .wouldBlock, .ended:
        connection.pointee.flags.insert(.unsent)
        setDeadline(index, writeDeadline(index))
        return false
      case .failed:
        clientLost(index)
        return false
      }
    }
    connection.pointee.flags.remove(.unsent)
    returnPipe(index)
    return true
  }

  private mutating func takePipe() -> Int? {
    if let place = idlePipes.popLast() { return Int(place) }
    guard now >= pipesAgainAt, pipes.count < min(Self.pipeLimit, plan.connectionLimit / Self.connectionsPerPipe) else { return nil }
    guard let pipe = SplicePipe(capacity: Self.spliceLimit) else {
      pipesAgainAt = now &+ Self.pipePause
      return nil
    }
    return pipes.insert(pipe)
  }

  /// Gives a connection's pipe back; what is still in it is lost, and was neither sent nor counted.
  mutating func returnPipe(_ index: Int) {
    let connection = downstreams.pointer(index)
    let place = Int(connection.pointee.pipe)
    guard place >= 0 else { return }
    connection.pointee.pipe = -1
    connection.pointee.flags.remove(.unsent)
    if pipes.pointer(place).pointee.count == 0, idlePipes.count < Self.idlePipeLimit {
      idlePipes.append(Int32(place))
    } else {
      pipes.remove(place)
    }
  }
}
