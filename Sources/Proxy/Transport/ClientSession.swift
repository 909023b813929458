import Bytes
import HTTP
import HTTP2
import IO

/// An HTTP/2 session with a client. Lives in a worker's slab.
struct ClientSession: ~Copyable {
  /// How far the session's end has come.
  enum End: UInt8 {
    case none
    /// The client was asked to begin no more streams; those on their way are still taken.
    case announced
    /// No more streams are taken.
    case said
    /// The client broke the protocol: what is in the output leaves, nothing else happens.
    case broken
  }

  var http2: HTTP2Session
  /// The place of the connection that carries it.
  let socket: Int
  /// The places of its streams, in no order.
  var streams: [Int32] = []
  /// Streams that are to be reset when what was written before has left.
  var breaking: [Int32] = []
  var end = End.none
  /// When no more streams are taken, once the end was announced.
  var endsAt: Int64 = .max

  init(_ http2: consuming HTTP2Session, socket: Int) {
    self.http2 = http2
    self.socket = socket
  }
}

// Sessions: HTTP/2 towards clients.
extension Worker {
  /// The preface that every session begins with (RFC 9113, section 3.4).
  private static var preface: StaticString { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" }
  /// From the announcement of a session's end to the end: what was on its way has come by then.
  private static var drainPause: Int64 { 500_000_000 }

  // MARK: Beginning

  /// Whether a connection's first octets are those of a session's preface, as far as they have come.
  @inline(__always)
  func beginsSession(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Bool {
    // A preface begins with these three, and no method that is served does.
    guard octets.count >= 3, octets[0] == UInt8(ascii: "P"), octets[1] == UInt8(ascii: "R"), octets[2] == UInt8(ascii: "I") else {
      return false
    }
    return beginsWithPreface(index, octets)
  }

  private func beginsWithPreface(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.transport == .plain, plan.listeners[Int(connection.pointee.listener)].acceptsHTTP2 else { return false }
    let count = min(octets.count, Self.preface.utf8CodeUnitCount)
    return Self.preface.withUTF8Buffer { preface in
      UnsafeRawBufferPointer(rebasing: octets[..<count]).elementsEqual(UnsafeRawBufferPointer(preface)[..<count])
    }
  }

  /// Begins a session when the whole preface is there; returns how many octets were used.
  mutating func startSessionByPreface(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    partialRequests[index] = nil
    guard octets.count >= Self.preface.utf8CodeUnitCount else {
      if connection.pointee.state == .idle {
        connection.pointee.state = .head
        connection.pointee.since = now
      }
      setDeadline(index, connection.pointee.since &+ plan.timeouts.headerRead)
      return 0
    }
    startSession(index)
    if connection.pointee.state == .multiplexed { receiveFrames(index, octets) }
    return octets.count
  }

  /// Makes a connection carry a session from its next octet on.
  mutating func startSession(_ index: Int) {
    let connection = downstreams.pointer(index)
    let http2 = HTTP2Session(role: .server, limits: plan.http2Limits, now: now)
    guard let place = sessions.insert(ClientSession(http2, socket: index)) else { return closeDownstream(index) }
    metrics.sessions.add()
    connection.pointee.session = Int32(truncatingIfNeeded: place)
    connection.pointee.state = .multiplexed
    setDeadline(index, now &+ plan.timeouts.headerRead)
    flushLater(index)
  }

  // MARK: Receiving

  /// Takes octets of a session, and does what its frames say.
  mutating func receiveFrames(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) {
    let session = sessions.pointer(Int(downstreams.pointer(index).pointee.session))
    guard session.pointee.end != .broken else { return }
    flushLater(index)
    do {
      try session.pointee.http2.receive(UnsafeRawBufferPointer(octets), now: now)
    } catch {
      metrics.sessionsBroken.add()
      loseStreams(of: index)
      session.pointee.end = .broken
    }
    takeEvents(index, octets)
  }

  /// Does what the session has found in `octets`, or what its output made happen. Of a broken session nothing is done: what came
  /// together with too much is a part of it.
  private mutating func takeEvents(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) {
    let place = Int(downstreams.pointer(index).pointee.session)
    let session = sessions.pointer(place)
    if session.pointee.end == .broken {
      while session.pointee.http2.nextEvent() != nil {}
      return
    }
    while downstreams.pointer(index).pointee.state == .multiplexed, let event = session.pointee.http2.nextEvent() {
      switch event {
      case .head(let stream, let range, let endsStream, let isTunnel):
        // Safe because: the session keeps heads in place until it receives again.
        let heads = session.pointee.http2.withHeadOctets { $0 }
        beginStream(place, stream, UnsafeRawBufferPointer(rebasing: heads[range]), endsStream: endsStream, isTunnel: isTunnel)
      case .data(let stream, let range):
        guard let at = streamPlace(session, stream) else { continue }
        take(at, UnsafeMutableRawBufferPointer(rebasing: octets[range]))
      case .trailers(let stream, let range):
        guard let at = streamPlace(session, stream) else { continue }
        let heads = session.pointee.http2.withHeadOctets { $0 }
        downstreams.pointer(at).pointee.requestTrailers.append(UnsafeRawBufferPointer(rebasing: heads[range]))
      case .ended(let stream):
        guard let at = streamPlace(session, stream) else { continue }
        downstreams.pointer(at).pointee.flags.insert(.readable)
        readDownstream(at)
      case .writable(let stream):
        guard let at = streamPlace(session, stream) else { continue }
        flush(at)
      case .closed(let stream):
        guard let at = streamPlace(session, stream) else { continue }
        streamClosed(at, isComplete: true)
      case .reset(let stream, let code):
        guard let at = streamPlace(session, stream) else { continue }
        streamClosed(at, isComplete: code == .noError)
      case .goAway, .settings: break
      }
    }
  }

  @inline(__always)
  private func streamPlace(_ session: UnsafeMutablePointer<ClientSession>, _ stream: HTTP2Stream) -> Int? {
    let tag = session.pointee.http2.tag(stream)
    return tag == .max ? nil : Int(tag)
  }

  /// Begins with the request of a new stream.
  private mutating func beginStream(
    _ place: Int, _ stream: HTTP2Stream, _ octets: UnsafeRawBufferPointer, endsStream: Bool, isTunnel: Bool
  ) {
    guard let index = addStream(place, stream) else {
      return sessions.pointer(place).pointee.http2.reset(stream, .refusedStream)
    }
    if endsStream { downstreams.pointer(index).pointee.flags.insert(.contentless) }
    requestHead.pointee.reset()
    do throws(HTTPError) {
      guard try RequestDecoder.decode(octets, limits: plan.headLimits, into: &requestHead.pointee) else {
        throw .requestLineInvalid(at: 0)
      }
    } catch {
      prepareRefusal(index)
      return fail(index, .malformed(error))
    }
    // What comes behind the head belongs to the protocol that is asked for.
    if isTunnel { downstreams.pointer(index).pointee.flags.formUnion([.tunnelAsked, .contentless]) }
    _ = beginRequest(index, octets)
    // Content that comes with the head leaves with it.
    if downstreams.pointer(index).pointee.state == .exchange { makeReady(downstream: index) }
  }

  /// Makes a connection of a stream; nil where there is no place for it.
  private mutating func addStream(_ place: Int, _ stream: HTTP2Stream) -> Int? {
    let session = sessions.pointer(place)
    let at = session.pointee.socket
    let socket = downstreams.pointer(at)
    let connection = DownstreamConnection(descriptor: -1, peer: socket.pointee.peer, listener: socket.pointee.listener)
    guard let index = downstreams.insert(connection) else { return nil }
    let made = downstreams.pointer(index)
    made.pointee.transport = .stream
    made.pointee.session = Int32(truncatingIfNeeded: place)
    made.pointee.stream = stream
    made.pointee.state = .head
    made.pointee.streamPlace = Int32(truncatingIfNeeded: session.pointee.streams.count)
    if socket.pointee.has(.redirects) { made.pointee.flags.insert(.redirects) }
    session.pointee.streams.append(Int32(truncatingIfNeeded: index))
    session.pointee.http2.setTag(stream, UInt32(truncatingIfNeeded: index))
    metrics.streams.add()
    socket.pointee.requestCount &+= 1
    if session.pointee.end == .none { setDeadline(at, .max) }
    if socket.pointee.requestCount >= plan.requestLimit { drainSession(of: at) }
    return index
  }

  // MARK: Writing

  /// Looks at a session when the turn ends: everything that its streams wrote in the turn leaves together.
  @inline(__always)
  mutating func flushLater(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.listedFlush) else { return }
    connection.pointee.flags.insert(.listedFlush)
    unflushed.append(index)
  }

  /// Sends what the sessions have to say.
  mutating func flushSessions() {
    guard !unflushed.isEmpty else { return }
    swap(&unflushed, &unflushedNow)
    for index in unflushedNow {
      guard index >= 0 else {
        guard upstreams.isInUse(~index) else { continue }
        upstreams.pointer(~index).pointee.flags.remove(.listedFlush)
        if upstreams.pointer(~index).pointee.state == .multiplexed { flushSession(upstream: ~index) }
        continue
      }
      guard downstreams.isInUse(index) else { continue }
      downstreams.pointer(index).pointee.flags.remove(.listedFlush)
      if downstreams.pointer(index).pointee.state == .multiplexed { flushSession(of: index) }
    }
    unflushedNow.removeAll(keepingCapacity: true)
  }

  private mutating func flushSession(of index: Int) {
    let connection = downstreams.pointer(index)
    let session = sessions.pointer(Int(connection.pointee.session))
    if now >= session.pointee.endsAt { endSession(of: index) }
    while connection.pointee.output.isEmpty, !connection.pointee.has(.unsent) {
      outgoing.removeAll()
      session.pointee.http2.takeOutput(into: &outgoing, limit: RelayPlan.bufferLimit)
      guard !outgoing.isEmpty else { break }
      transmit(index)
      guard connection.pointee.state == .multiplexed else { return }
    }
    takeEvents(index, UnsafeMutableRawBufferPointer(start: nil, count: 0))
    breakStreamsThatLeft(Int(connection.pointee.session))
    finishSession(of: index)
  }

  /// The socket has taken everything: the session may say more, and be read again.
  mutating func sessionDrained(of index: Int) {
    let connection = downstreams.pointer(index)
    let session = sessions.pointer(Int(connection.pointee.session))
    if session.pointee.end == .none { setDeadline(index, session.pointee.streams.isEmpty ? now &+ plan.timeouts.idle : .max) }
    flushLater(index)
    if connection.pointee.has(.readable) { makeReady(downstream: index) }
  }

  // MARK: Ends

  /// Takes no more streams, after those that are on their way; the session ends when the last one does.
  mutating func drainSession(of index: Int) {
    let session = sessions.pointer(Int(downstreams.pointer(index).pointee.session))
    guard session.pointee.end == .none else { return }
    session.pointee.end = .announced
    session.pointee.endsAt = now &+ Self.drainPause
    session.pointee.http2.startDrain()
    setDeadline(index, session.pointee.endsAt)
    flushLater(index)
  }

  /// Takes no more streams. A socket that is never without something to send has other deadlines, so its flushes come here too.
  private mutating func endSession(of index: Int) {
    let session = sessions.pointer(Int(downstreams.pointer(index).pointee.session))
    session.pointee.endsAt = .max
    guard session.pointee.end == .announced else { return }
    session.pointee.end = .said
    session.pointee.http2.finishDrain()
  }

  /// Closes a session that has said everything.
  private mutating func finishSession(of index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .multiplexed, connection.pointee.output.isEmpty, !connection.pointee.has(.unsent) else { return }
    let session = sessions.pointer(Int(connection.pointee.session))
    guard session.pointee.end == .broken || session.pointee.http2.isFinished() else { return }
    // What nghttp2 finds broken shows in the GOAWAY only.
    if session.pointee.end != .broken, session.pointee.http2.failure != nil { metrics.sessionsBroken.add() }
    loseStreams(of: index)
    // A close over frames that were not read would reset the connection, and what was said last be lost with it.
    connection.pointee.flags.insert(.readable)
    startLingering(index)
  }

  /// Nothing has happened on a session, or nothing was taken from it.
  mutating func sessionExpired(of index: Int) {
    let connection = downstreams.pointer(index)
    let session = sessions.pointer(Int(connection.pointee.session))
    if !connection.pointee.output.isEmpty || connection.pointee.has(.unsent) { return closeDownstream(index) }
    switch session.pointee.end {
    case .none: if session.pointee.streams.isEmpty { drainSession(of: index) } else { connection.pointee.deadline = .max }
    case .announced:
      endSession(of: index)
      flushLater(index)
      setDeadline(index, now &+ plan.timeouts.idle)
    case .said, .broken: if session.pointee.streams.isEmpty { closeDownstream(index) } else { connection.pointee.deadline = .max }
    }
  }

  /// The session is gone: to each of its streams that is what a lost connection is.
  mutating func loseStreams(of index: Int) {
    let session = sessions.pointer(Int(downstreams.pointer(index).pointee.session))
    while let stream = session.pointee.streams.last {
      downstreams.pointer(Int(stream)).pointee.flags.insert(.streamOver)
      // It leaves the list, whether its exchange goes on or not.
      clientLost(Int(stream))
    }
  }
}
