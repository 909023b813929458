import Bytes
import HTTP
import HTTP2
import IO

// Streams: one request and its response in a session with a client.
extension Worker {
  // MARK: Content of the request

  /// Says where a new stream's content stands: a head without a length may be followed by content all the same.
  mutating func streamContent(_ index: Int) {
    let connection = downstreams.pointer(index)
    if connection.pointee.has(.contentless) {
      connection.pointee.progress = .complete
    } else if requestHead.pointee.framing == .none {
      requestHead.pointee.declareContent()
      connection.pointee.progress = .stream
    }
  }

  /// The relay has used up content: the client may send as much again.
  mutating func contentUsed(_ index: Int, _ count: Int) {
    let connection = downstreams.pointer(index)
    guard count > 0, connection.pointee.session >= 0 else { return }
    let session = sessions.pointer(Int(connection.pointee.session))
    session.pointee.http2.consumed(connection.pointee.stream, count)
    flushLater(session.pointee.socket)
  }

  /// The content's end has come, and everything before it was used up.
  mutating func contentEnded(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.progress == .stream else { return }
    connection.pointee.progress = .complete
    switch connection.pointee.state {
    case .content: contentCollected(index)
    case .exchange:
      endContentIfComplete(index)
      flushUpstream(of: index)
    case .handshake, .multiplexed, .idle, .head, .beforeForward, .queued, .tunnel, .ending, .pendingAnswer, .answer, .discard, .linger, .closed:
      break
    }
  }

  // MARK: The response

  /// Notes that everything in `outgoing` so far is a head.
  @inline(__always)
  mutating func markHead(_ index: Int) {
    downstreams.pointer(index).pointee.headCount = Int32(truncatingIfNeeded: outgoing.count)
  }

  /// Hands a head and content to the stream's session; says how many octets it took.
  mutating func sendOnStream(
    _ index: Int, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer
  ) -> TransferResult {
    let connection = downstreams.pointer(index)
    guard connection.pointee.session >= 0 else { return .failed(0) }
    let session = sessions.pointer(Int(connection.pointee.session))
    flushLater(session.pointee.socket)
    let headCount = Int(connection.pointee.headCount)
    if headCount > 0 {
      connection.pointee.headCount = 0
      let isAll = headCount == first.count && second.isEmpty
      guard submit(index, session, UnsafeRawBufferPointer(rebasing: first[..<headCount]), isAll: isAll) else {
        resetStream(index, .internalError)
        return .failed(0)
      }
    }
    var taken = headCount
    let rest = UnsafeRawBufferPointer(rebasing: first[headCount...])
    if !rest.isEmpty { taken += session.pointee.http2.send(connection.pointee.stream, rest) }
    if taken == first.count, !second.isEmpty { taken += session.pointee.http2.send(connection.pointee.stream, second) }
    return taken > 0 ? .moved(taken) : .wouldBlock
  }

  /// Hands a head to the session; false where it is none.
  private mutating func submit(
    _ index: Int, _ session: UnsafeMutablePointer<ClientSession>, _ head: UnsafeRawBufferPointer, isAll: Bool
  ) -> Bool {
    let connection = downstreams.pointer(index)
    do {
      // The first digit of the status stands behind the version.
      let isInterim = head.count > 11 && head[9] == UInt8(ascii: "1") && !(head[10] == UInt8(ascii: "0") && head[11] == UInt8(ascii: "1"))
      if isInterim {
        try session.pointee.http2.submitInterim(connection.pointee.stream, head)
        return true
      }
      let isEnd =
        isAll && connection.pointee.state == .answer && connection.pointee.trailers.isEmpty && !connection.pointee.has(.broken)
      try session.pointee.http2.submitHead(connection.pointee.stream, head, endsStream: isEnd)
      if isEnd { connection.pointee.flags.insert(.headEnds) }
      return true
    } catch {
      return false
    }
  }

  /// Everything of the response was handed over: says so, and waits until it has left.
  mutating func endStream(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.session >= 0 else { return closeDownstream(index) }
    let session = sessions.pointer(Int(connection.pointee.session))
    connection.pointee.flags.insert(.streamEnded)
    if connection.pointee.has(.broken) {
      // A reset would overtake what is queued, and that is paid for.
      session.pointee.breaking.append(Int32(truncatingIfNeeded: index))
    } else if !connection.pointee.has(.headEnds) {
      connection.pointee.trailers.withUnsafeBytes { session.pointee.http2.end(connection.pointee.stream, trailers: $0) }
    }
    setDeadline(index, now &+ plan.timeouts.writeStall)
    flushLater(session.pointee.socket)
  }

  /// Resets the broken streams of which everything has left.
  mutating func breakStreamsThatLeft(_ place: Int) {
    let session = sessions.pointer(place)
    guard !session.pointee.breaking.isEmpty else { return }
    var breaking: [Int32] = []
    swap(&breaking, &session.pointee.breaking)
    for entry in breaking where downstreams.isInUse(Int(entry)) {
      let connection = downstreams.pointer(Int(entry))
      guard connection.pointee.state == .answer, connection.pointee.has(.broken), Int(connection.pointee.session) == place else { continue }
      if session.pointee.http2.queuedCount(connection.pointee.stream) == 0 {
        resetStream(Int(entry), connection.pointee.streamError)
        closeDownstream(Int(entry))
      } else {
        session.pointee.breaking.append(entry)
      }
    }
  }

  /// A stream has come to its end, or was ended by the client.
  mutating func streamClosed(_ index: Int, isComplete: Bool) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.insert(.streamOver)
    if isComplete, connection.pointee.state == .answer, connection.pointee.has(.streamEnded), !connection.pointee.has(.broken) {
      exchangeDone(index)
    } else {
      clientLost(index)
    }
  }

  /// Whether a stream's session has sent some of it since the last look.
  mutating func hasStreamMoved(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.transport == .stream, connection.pointee.session >= 0 else { return false }
    let session = sessions.pointer(Int(connection.pointee.session))
    let queued = Int32(clamping: session.pointee.http2.queuedCount(connection.pointee.stream))
    defer { connection.pointee.queuedCount = queued }
    return queued != connection.pointee.queuedCount
  }

  // MARK: Ends

  /// Ends a stream for both sides, if it is not over yet.
  mutating func resetStream(_ index: Int, _ code: HTTP2ErrorCode) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.session >= 0, !connection.pointee.has(.streamOver) else { return }
    connection.pointee.flags.insert(.streamOver)
    let session = sessions.pointer(Int(connection.pointee.session))
    session.pointee.http2.reset(connection.pointee.stream, code)
    flushLater(session.pointee.socket)
  }

  /// Takes a stream out of its session.
  mutating func leaveSession(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.session >= 0 else { return }
    resetStream(index, .cancel)
    let session = sessions.pointer(Int(connection.pointee.session))
    session.pointee.http2.setTag(connection.pointee.stream, .max)
    let position = Int(connection.pointee.streamPlace)
    let last = session.pointee.streams.removeLast()
    if position < session.pointee.streams.count {
      session.pointee.streams[position] = last
      downstreams.pointer(Int(last)).pointee.streamPlace = Int32(truncatingIfNeeded: position)
    }
    connection.pointee.session = -1
    let socket = session.pointee.socket
    guard session.pointee.streams.isEmpty, downstreams.pointer(socket).pointee.state == .multiplexed else { return }
    let isQuiet = downstreams.pointer(socket).pointee.output.isEmpty && session.pointee.end == .none
    if isQuiet { setDeadline(socket, now &+ plan.timeouts.idle) }
    flushLater(socket)
  }
}

extension HTTP2ErrorCode {
  /// The code that tells a client why a response on a stream is cut short.
  init(_ end: ExchangeEnd) {
    switch end {
    case .complete: self = .noError
    // The client's budget, not a fault.
    case .sessionStopped, .holdTimeout, .clientLeft, .abandoned: self = .cancel
    case .upstreamFailed, .upstreamBroke, .ledgerLost: self = .internalError
    }
  }
}
