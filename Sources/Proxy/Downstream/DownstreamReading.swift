import Bytes
import Encoding
import HTTP
import IO

extension Worker {
  // MARK: Events

  /// Takes a readiness report about a client's connection.
  mutating func downstreamReported(_ index: Int, _ readiness: Readiness) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed, !connection.pointee.has(.gone) else { return }
    if readiness.contains(.failed) || readiness.contains(.hungUp) {
      // What was sent before a full close may still be read; without anybody to answer, nobody needs it.
      return clientLost(index)
    }
    if readiness.contains(.peerClosed) { connection.pointee.flags.formUnion([.peerClosing, .readable]) }
    if readiness.contains(.readable) { connection.pointee.flags.insert(.readable) }
    if readiness.contains(.writable), !connection.pointee.output.isEmpty || connection.pointee.has(.unsent) { flush(index) }
    if connection.pointee.has(.readable) { readDownstream(index) }
  }

  /// Goes on with a connection that was listed: octets that were received before, then those that wait.
  mutating func continueDownstream(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    if connection.pointee.awaitsTurn { continuePortions(index) }
    if !connection.pointee.input.isEmpty { useInput(index) }
    if connection.pointee.has(.readable) { readDownstream(index) }
    // A request's head on a stream waited for content to leave with it.
    if connection.pointee.transport == .stream, connection.pointee.state == .exchange { flushUpstream(of: index) }
  }

  /// Whether octets of the client can be used now.
  private func wantsInput(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.gone), !connection.pointee.has(.inputEnded) else { return false }
    switch connection.pointee.state {
    case .handshake, .multiplexed, .idle, .head, .content, .discard, .linger: return true
    case .exchange:
      guard connection.pointee.progress != .complete, !connection.pointee.has(.requestHeld) else { return false }
      return connection.pointee.input.isEmpty && upstreamTakes(connection.pointee.upstream)
    case .tunnel:
      // A stream's end must not overtake what came before it.
      return (connection.pointee.input.isEmpty || connection.pointee.transport != .stream) && tunnelTakesInput(index)
    case .beforeForward, .queued, .ending, .pendingAnswer, .answer, .closed: return false
    }
  }

  /// Receives as long as there is something, the octets are wanted, and others are not kept waiting.
  mutating func readDownstream(_ index: Int) {
    let connection = downstreams.pointer(index)
    if connection.pointee.has(.awaitsIntroduction), !takeIntroduction(index) { return }
    var reads = Self.readsPerTurn
    while connection.pointee.has(.readable), wantsInput(index) {
      guard reads > 0 else { return makeReady(downstream: index) }
      reads -= 1
      let room = max(4096, RelayPlan.bufferLimit - connection.pointee.input.count)
      switch receive(downstream: index, room: room) {
      case .octets(let octets): take(index, octets)
      case .nothing: break
      case .ended:
        if connection.pointee.transport == .stream, connection.pointee.state != .tunnel { return contentEnded(index) }
        connection.pointee.flags.insert(.inputEnded)
        return inputEnded(index)
      case .failed: return clientLost(index)
      }
    }
    noticeHalfClose(index)
  }

  /// A client that has ended its direction may still read an answer, but mostly it has gone: the upstream's head is
  /// then waited for no longer than for one that is known to have left.
  private mutating func noticeHalfClose(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.has(.peerClosing), connection.pointee.has(.paid) else { return }
    guard connection.pointee.state == .exchange, !connection.pointee.has(.headSeen) else { return }
    setDeadline(index, min(connection.pointee.deadline, now &+ plan.timeouts.abandon))
  }

  /// Uses what was received, and keeps what nobody takes yet.
  mutating func take(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) {
    let connection = downstreams.pointer(index)
    if connection.pointee.input.isEmpty {
      let used = use(index, octets)
      if connection.pointee.transport == .stream { contentUsed(index, used) }
      if used < octets.count, connection.pointee.state != .closed {
        connection.pointee.input.append(UnsafeRawBufferPointer(rebasing: octets[used...]))
      }
    } else {
      connection.pointee.input.append(UnsafeRawBufferPointer(octets))
      useInput(index)
    }
  }

  mutating func useInput(_ index: Int) {
    let connection = downstreams.pointer(index)
    // Taken out while it is used: what `use` calls may end the connection, or its reading, and release its input.
    var input = ByteBuffer()
    swap(&input, &connection.pointee.input)
    let octets = input.withUnsafeMutableBytes { $0 }
    let used = use(index, octets)
    if connection.pointee.transport == .stream { contentUsed(index, used) }
    guard connection.pointee.state != .closed, connection.pointee.state != .linger else { return }
    input.removeFirst(min(used, input.count))
    if !input.isEmpty { swap(&input, &connection.pointee.input) }
  }

  /// Uses octets from the client according to the state, and returns how many.
  private mutating func use(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    var used = 0
    loop: while used < octets.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: octets[used...])
      let count: Int
      switch connection.pointee.state {
      case .idle, .head:
        if connection.pointee.requestCount == 0, beginsSession(index, UnsafeRawBufferPointer(rest)) {
          count = startSessionByPreface(index, rest)
        } else {
          count = readHead(index, UnsafeRawBufferPointer(rest))
        }
      case .content: count = collectContent(index, rest)
      case .exchange:
        guard connection.pointee.progress != .complete else { break loop }
        count = forwardContent(index, rest)
      case .discard: count = discardContent(index, rest)
      case .tunnel: count = passToUpstream(index, UnsafeRawBufferPointer(rest))
      case .multiplexed:
        receiveFrames(index, rest)
        return octets.count
      case .linger, .closed, .handshake: return octets.count
      case .beforeForward, .queued, .ending, .pendingAnswer, .answer: break loop
      }
      guard count > 0 else { break }
      used += count
    }
    if connection.pointee.state == .exchange { flushUpstream(of: index) }
    return connection.pointee.state == .closed ? octets.count : used
  }

  // MARK: Heads

  private mutating func readHead(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    if connection.pointee.state == .idle {
      connection.pointee.state = .head
      connection.pointee.since = now
      requestHead.pointee.reset()
    } else if let partial = partialRequests.removeValue(forKey: index) {
      requestHead.pointee = partial
    } else {
      requestHead.pointee.reset()
    }
    do {
      if try RequestDecoder.decode(octets, limits: plan.headLimits, into: &requestHead.pointee) {
        return beginRequest(index, octets)
      }
    } catch {
      prepareRefusal(index)
      fail(index, .malformed(error))
      return octets.count
    }
    partialRequests[index] = requestHead.pointee
    requestHead.pointee = RequestHead()
    setDeadline(index, connection.pointee.since &+ plan.timeouts.headerRead)
    return 0
  }

  /// A head that is refused tells nothing that could be relied on, so the connection ends with the answer.
  mutating func prepareRefusal(_ index: Int) {
    let connection = downstreams.pointer(index)
    metrics.requests.add()
    connection.pointee.flags.insert(.closing)
    connection.pointee.method = .other
    connection.pointee.minorVersion = 1
    connection.pointee.progress = connection.pointee.transport == .stream && !connection.pointee.has(.contentless) ? .stream : .complete
  }

  // MARK: Content

  /// Takes content out of `octets`: how many were used, and where the content stands. Chunks are moved together.
  static func takeContent(
    _ progress: inout ContentProgress, _ decoder: inout ChunkedDecoder, _ octets: UnsafeMutableRawBufferPointer
  ) throws(HTTPError) -> (used: Int, content: Range<Int>) {
    switch progress {
    case .complete: return (0, 0..<0)
    case .length(let left):
      let count = Int(min(left, UInt64(octets.count)))
      progress = left == UInt64(count) ? .complete : .length(left - UInt64(count))
      return (count, 0..<count)
    case .untilClose, .stream: return (octets.count, 0..<octets.count)
    case .chunked:
      var used = 0
      var content = 0..<0
      while true {
        switch try decoder.decode(UnsafeRawBufferPointer(octets), consumed: &used) {
        case .needMore: return (used, content)
        case .end:
          progress = .complete
          return (used, content)
        case .data(let range):
          if content.isEmpty {
            content = range
          } else {
            // Safe because: chunks are handed out in order, so the target never passes the source.
            UnsafeMutableRawBufferPointer(rebasing: octets[content.upperBound..<content.upperBound + range.count])
              .copyMemory(from: UnsafeRawBufferPointer(rebasing: octets[range]))
            content = content.lowerBound..<content.upperBound + range.count
          }
        }
      }
    }
  }

  /// Counts content of the request; false where it is too much.
  mutating func countContent(_ index: Int, _ count: Int) -> Bool {
    let connection = downstreams.pointer(index)
    connection.pointee.contentCount &+= UInt64(count)
    return connection.pointee.contentCount <= plan.routes[Int(connection.pointee.route)].contentLimit
  }

  private mutating func discardContent(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    let used: Int
    do {
      (used, _) = try Self.takeContent(&connection.pointee.progress, &connection.pointee.decoder, octets)
    } catch {
      startLingering(index)
      return octets.count
    }
    connection.pointee.contentCount &+= UInt64(used)
    if connection.pointee.progress == .complete {
      exchangeDone(index)
    } else if connection.pointee.contentCount > RelayPlan.discardLimit {
      startLingering(index)
    }
    return used
  }

  // MARK: The end of input

  /// The client sends nothing more. Half-closed clients get the answers to what they asked.
  private mutating func inputEnded(_ index: Int) {
    let connection = downstreams.pointer(index)
    switch connection.pointee.state {
    case .handshake, .multiplexed, .idle, .head, .content, .discard, .linger: closeDownstream(index)
    case .exchange:
      if connection.pointee.progress != .complete {
        // A request cut short can never be completed.
        return clientLost(index)
      }
      connection.pointee.flags.insert(.closing)
      noticeHalfClose(index)
    case .tunnel: tunnelClientEnded(index)
    case .beforeForward, .queued, .ending, .pendingAnswer, .answer:
      connection.pointee.flags.insert(.closing)
    case .closed: break
    }
  }
}
