import Bytes
import Gateway
import HTTP
import HTTP2
import IO

/// An HTTP/2 session with a server. Lives in a worker's slab.
struct ServerSession: ~Copyable {
  var http2: HTTP2Session
  /// The place of the connection that carries it.
  let socket: Int
  /// The places of its streams, in no order.
  var streams: [Int32] = []
  /// Whether no more requests go out on it.
  var isEnding = false
  /// When the first request went out since anything was heard from the server; 0: something was.
  var unheardSince: Int64 = 0
  /// When the server refused a request that had gone out on it; 0: it never did.
  var refusedAt: Int64 = 0

  init(_ http2: consuming HTTP2Session, socket: Int) {
    self.http2 = http2
    self.socket = socket
  }
}

/// What a worker knows of a server that may speak HTTP/2: which sessions there are, and who waits for one.
struct Multiplex {
  enum Spoken { case unknown, http1, http2 }

  var spoken = Spoken.unknown
  /// The connections whose sessions take requests, the newest first.
  var sessions: [Int32] = []
  /// Whether a connection is being opened; the others wait, since it may serve them all.
  var isOpening = false
  /// Requests that wait, by their tickets.
  var waiting: [UInt64] = []
  /// Whether they are looked at when the turn ends.
  var isListed = false
}

// Sessions: HTTP/2 towards upstreams.
extension Worker {
  /// How long a server may say nothing at all, though it was asked, before a request that is given up counts against its session.
  private static var silenceLimit: Int64 { 5_000_000_000 }

  // MARK: Leases

  /// Gets a place for a request at a server that may speak HTTP/2: a stream of a session, or else a connection.
  mutating func leaseShared(_ index: Int, _ server: Int, fresh: Bool) -> UpstreamPool.Lease {
    while multiplexes.count <= server { multiplexes.append(Multiplex()) }
    if multiplexes[server].spoken == .http1 { return pools.pointer(server).pointee.lease(ticket: ticket(index), fresh: fresh) }
    let pool = pools.pointer(server)
    let isFull = pool.pointee.connectionCount >= pool.pointee.limits.connections
    // Sent again, a request avoids the session that has just refused it, where there is another or may be one.
    var found = fresh ? addStream(server, avoidsRefusal: true) : nil
    if found == nil, !fresh || isFull || multiplexes[server].sessions.count > 1 { found = addStream(server) }
    if let found { return .reuse(slot: Int32(truncatingIfNeeded: found)) }
    guard multiplexes[server].isOpening || isFull else {
      multiplexes[server].isOpening = true
      return pool.pointee.lease(ticket: ticket(index), fresh: true)
    }
    guard multiplexes[server].waiting.count < pool.pointee.limits.waiting else { return .refuse }
    multiplexes[server].waiting.append(ticket(index))
    return .wait
  }

  /// Makes a place of a stream in a session that has room; nil where none has. `avoidsRefusal`: not in one that refused in this turn.
  private mutating func addStream(_ server: Int, avoidsRefusal: Bool = false) -> Int? {
    for socket in multiplexes[server].sessions {
      let place = Int(upstreams.pointer(Int(socket)).pointee.session)
      let session = serverSessions.pointer(place)
      if avoidsRefusal, session.pointee.refusedAt == now { continue }
      guard !session.pointee.isEnding, session.pointee.streams.count < plan.upstreamHTTP2Limits.concurrentStreams, session.pointee.http2.canRequest(),
        let slot = upstreams.insert(UpstreamConnection(descriptor: -1, pool: server, state: .idle))
      else { continue }
      let made = upstreams.pointer(slot)
      made.pointee.transport = .stream
      made.pointee.session = Int32(truncatingIfNeeded: place)
      made.pointee.streamPlace = Int32(truncatingIfNeeded: session.pointee.streams.count)
      made.pointee.flags.insert(.reused)
      session.pointee.streams.append(Int32(truncatingIfNeeded: slot))
      return slot
    }
    return nil
  }

  /// A connection's attempt is over, whatever came of it: who waited for it is looked at when the turn ends.
  mutating func openingEnded(_ server: Int) {
    guard server < multiplexes.count else { return }
    multiplexes[server].isOpening = false
    serveWaitingLater(server)
  }

  mutating func serveWaitingLater(_ server: Int) {
    guard server < multiplexes.count, !multiplexes[server].waiting.isEmpty, !multiplexes[server].isListed else { return }
    multiplexes[server].isListed = true
    unserved.append(server)
  }

  /// Looks at the requests that wait for sessions.
  mutating func serveWaiting() {
    guard !unserved.isEmpty else { return }
    var servers: [Int] = []
    swap(&servers, &unserved)
    for server in servers {
      multiplexes[server].isListed = false
      var waiting: [UInt64] = []
      swap(&waiting, &multiplexes[server].waiting)
      for ticket in waiting {
        if let index = waiter(ticket, server) { lease(index, server) }
      }
    }
  }

  // MARK: Beginning

  /// It is known what a new connection speaks: its request goes out.
  mutating func agreed(upstream slot: Int, isHTTP2: Bool) {
    let upstream = upstreams.pointer(slot)
    let server = upstream.pointee.pool
    let index = Int(upstream.pointee.downstream)
    if isHTTP2 { return startSession(upstream: slot) }
    guard isFramed(index, for: slot) else { return upstreamFailed(slot, .upstreamClosed) }
    upstream.pointee.state = .busy
    // A connection that was opened to be switched speaks HTTP/1.1 whatever the server would choose.
    if plan.servers[server].mayMultiplex, !isApart(index, server) {
      multiplexes[server].spoken = .http1
      upstream.pointee.flags.remove(.opening)
      openingEnded(server)
    }
    awaitNext(index)
    continueRequest(index)
  }

  /// Makes a connection carry a session; the request that it was opened for becomes its first stream.
  mutating func startSession(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    let server = upstream.pointee.pool
    let index = Int(upstream.pointee.downstream)
    let connection = downstreams.pointer(index)
    while multiplexes.count <= server { multiplexes.append(Multiplex()) }
    let http2 = HTTP2Session(role: .client(isSecure: upstream.pointee.transport == .tls), limits: plan.upstreamHTTP2Limits, now: now)
    guard let place = serverSessions.insert(ServerSession(http2, socket: slot)) else { return upstreamFailed(slot, .upstreamClosed) }
    end(at: slot)
    upstream.pointee.session = Int32(truncatingIfNeeded: place)
    upstream.pointee.state = .multiplexed
    upstream.pointee.downstream = -1
    upstream.pointee.sentCount = 0
    upstream.pointee.flags.remove(.opening)
    multiplexes[server].spoken = .http2
    // The newest comes first: an older one may have refused what this one was opened for.
    multiplexes[server].sessions.insert(Int32(truncatingIfNeeded: slot), at: 0)
    metrics.serverSessions.add()
    connection.pointee.upstream = -1
    connection.pointee.attempt &-= 1
    swap(&connection.pointee.prepared, &upstream.pointee.output)
    upstream.pointee.output.removeAll()
    flushLater(upstream: slot)
    upstream.pointee.deadline = now &+ plan.timeouts.upstreamKeepAlive
    wheel.schedule(slot * 2 + 1, deadline: upstream.pointee.deadline)
    openingEnded(server)
    lease(index, server)
  }

  // MARK: Receiving

  /// Receives from a session as long as there is something and others are not kept waiting.
  mutating func readSession(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    var reads = Self.readsPerTurn
    while upstream.pointee.has(.readable), upstream.pointee.state == .multiplexed {
      guard reads > 0 else { return makeReady(upstream: slot) }
      reads -= 1
      switch receive(upstream: slot, room: RelayPlan.bufferLimit) {
      case .octets(let octets): receiveFrames(upstream: slot, octets)
      case .nothing: break
      case .ended, .failed: return closeUpstream(slot)
      }
    }
  }

  /// Takes octets of a session, and does what its frames say.
  mutating func receiveFrames(upstream slot: Int, _ octets: UnsafeMutableRawBufferPointer) {
    let session = serverSessions.pointer(Int(upstreams.pointer(slot).pointee.session))
    session.pointee.unheardSince = 0
    flushLater(upstream: slot)
    do { try session.pointee.http2.receive(UnsafeRawBufferPointer(octets), now: now) } catch {
      serverFailed(upstreams.pointer(slot).pointee.pool, .upstreamMalformed)
      return endSession(upstream: slot)
    }
    takeEvents(upstream: slot, octets)
  }

  private mutating func takeEvents(upstream slot: Int, _ octets: UnsafeMutableRawBufferPointer) {
    let upstream = upstreams.pointer(slot)
    let session = serverSessions.pointer(Int(upstream.pointee.session))
    while upstream.pointee.state == .multiplexed, let event = session.pointee.http2.nextEvent() {
      switch event {
      case .head(let stream, let range, let endsStream, _):
        guard let at = streamPlace(session, stream) else { continue }
        // Safe because: the session keeps heads in place until it receives again.
        let heads = session.pointee.http2.withHeadOctets { $0 }
        takeHead(upstream: at, UnsafeRawBufferPointer(rebasing: heads[range]), endsStream: endsStream)
      case .data(let stream, let range):
        guard let at = streamPlace(session, stream) else { continue }
        takeContent(upstream: at, UnsafeRawBufferPointer(rebasing: octets[range]))
      case .trailers(let stream, let range):
        guard let at = streamPlace(session, stream) else { continue }
        let heads = session.pointee.http2.withHeadOctets { $0 }
        upstreams.pointer(at).pointee.trailers.append(UnsafeRawBufferPointer(rebasing: heads[range]))
      case .ended(let stream):
        guard let at = streamPlace(session, stream) else { continue }
        takeEnd(upstream: at)
      case .writable(let stream):
        guard let at = streamPlace(session, stream) else { continue }
        flushUpstream(at)
        if upstreams.pointer(at).pointee.state == .busy { requestWasTaken(at) }
      case .closed(let stream):
        guard let at = streamPlace(session, stream) else { continue }
        lose(upstream: at, .reset)
      case .reset(let stream, let code):
        guard let at = streamPlace(session, stream) else { continue }
        lose(upstream: at, code == .refusedStream ? .refused : .reset)
      case .goAway: retire(upstream: slot)
      case .settings: serveWaitingLater(upstream.pointee.pool)
      }
    }
  }

  @inline(__always)
  private func streamPlace(_ session: UnsafeMutablePointer<ServerSession>, _ stream: HTTP2Stream) -> Int? {
    let tag = session.pointee.http2.tag(stream)
    return tag == .max ? nil : Int(tag)
  }

  // MARK: Writing

  /// Looks at a session when the turn ends.
  @inline(__always)
  mutating func flushLater(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard !upstream.pointee.has(.listedFlush) else { return }
    upstream.pointee.flags.insert(.listedFlush)
    unflushed.append(~slot)
  }

  /// Sends what a session has to say.
  mutating func flushSession(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    let session = serverSessions.pointer(Int(upstream.pointee.session))
    while flushSocket(upstream: slot) {
      outgoing.removeAll()
      session.pointee.http2.takeOutput(into: &outgoing, limit: RelayPlan.bufferLimit)
      guard !outgoing.isEmpty else { break }
      upstream.pointee.output.append(outgoing)
    }
    outgoing.removeAll()
    takeEvents(upstream: slot, UnsafeMutableRawBufferPointer(start: nil, count: 0))
    guard upstream.pointee.state == .multiplexed, upstream.pointee.output.isEmpty, !upstream.pointee.has(.unsent) else { return }
    if session.pointee.http2.isFinished() || (session.pointee.isEnding && session.pointee.streams.isEmpty) { closeUpstream(slot) }
  }

  /// Sends the frames that wait; false where some still do.
  private mutating func flushSocket(upstream slot: Int) -> Bool {
    let upstream = upstreams.pointer(slot)
    guard flushTransport(upstream: slot) else { return false }
    while !upstream.pointee.output.isEmpty {
      // Safe because: `output` does not change before the send has returned.
      let octets = upstream.pointee.output.withUnsafeBytes { $0 }
      switch send(upstream: slot, octets) {
      case .moved(let count):
        upstream.pointee.output.removeFirst(count)
        if count < octets.count { return false }
      // A dead socket is found when it is read.
      case .wouldBlock, .ended, .failed: return false
      }
    }
    if upstream.pointee.output.capacity > RelayPlan.bufferLimit { upstream.pointee.output.release() }
    return !upstream.pointee.has(.unsent)
  }

  // MARK: Ends

  /// Sends no more requests on a session; it is closed with its last stream.
  mutating func retire(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    serverSessions.pointer(Int(upstream.pointee.session)).pointee.isEnding = true
    multiplexes[upstream.pointee.pool].sessions.removeAll { $0 == Int32(truncatingIfNeeded: slot) }
    flushLater(upstream: slot)
  }

  /// A request on a session is given up. Where nothing at all has come since it was asked, the network may have gone without a word,
  /// and TCP would take many minutes to notice: what is asked from now on goes elsewhere.
  mutating func doubt(session place: Int) {
    let session = serverSessions.pointer(place)
    guard session.pointee.unheardSince != 0, !session.pointee.isEnding else { return }
    if now &- session.pointee.unheardSince >= min(plan.timeouts.firstOctet, Self.silenceLimit) { retire(upstream: session.pointee.socket) }
  }

  /// Nothing was asked of a session for a while.
  mutating func sessionExpired(upstream slot: Int) {
    let session = serverSessions.pointer(Int(upstreams.pointer(slot).pointee.session))
    guard session.pointee.streams.isEmpty else { return }
    session.pointee.http2.terminate(.noError)
    retire(upstream: slot)
  }

  /// Gives a session up that broke the protocol; why is still said.
  private mutating func endSession(upstream slot: Int) {
    retire(upstream: slot)
    loseStreams(upstream: slot)
  }

  /// The session is gone, and its streams with it.
  mutating func loseStreams(upstream slot: Int) {
    let session = serverSessions.pointer(Int(upstreams.pointer(slot).pointee.session))
    while let stream = session.pointee.streams.last {
      lose(upstream: Int(stream), .withSession)
      // What fails may not stay in the list.
      if session.pointee.streams.last == stream { closeUpstream(Int(stream)) }
    }
  }
}
