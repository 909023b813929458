import Bytes
import HTTP
import HTTP2
import IO

/// How a stream with a server came to its end before the response did.
enum StreamLoss {
  /// The server did nothing with the request, and says so.
  case refused
  /// The server, or a rule that it broke, ended this stream alone.
  case reset
  /// The session is gone.
  case withSession
}

// Streams: one request and its response in a session with a server.
extension Worker {
  // MARK: The request

  /// Hands the head and content of a request to the stream's session; says how many octets it took.
  mutating func sendOnStream(upstream slot: Int, _ octets: UnsafeRawBufferPointer) -> TransferResult {
    let upstream = upstreams.pointer(slot)
    let session = serverSessions.pointer(Int(upstream.pointee.session))
    flushLater(upstream: session.pointee.socket)
    var taken = 0
    if upstream.pointee.stream == .none {
      let index = Int(upstream.pointee.downstream)
      // Another protocol is asked for on HTTP/1.1 only.
      guard downstreams.pointer(index).pointee.tunnel < 0 else { return .failed(0) }
      let count = min(Int(downstreams.pointer(index).pointee.requestHeadCount), octets.count)
      let isAll = count == octets.count && isRequestWhole(index) && downstreams.pointer(index).pointee.requestTrailers.isEmpty
      do {
        upstream.pointee.stream = try session.pointee.http2.request(
          UnsafeRawBufferPointer(rebasing: octets[..<count]), endsStream: isAll, tag: UInt32(truncatingIfNeeded: slot))
      } catch {
        return .failed(0)
      }
      if isAll { upstream.pointee.flags.insert(.requestEnded) }
      metrics.serverStreams.add()
      if session.pointee.unheardSince == 0 { session.pointee.unheardSince = now }
      taken = count
    }
    let rest = UnsafeRawBufferPointer(rebasing: octets[taken...])
    if !rest.isEmpty { taken += session.pointee.http2.send(upstream.pointee.stream, rest) }
    return taken > 0 ? .moved(taken) : .wouldBlock
  }

  /// Whether all of a request's content has been written for its upstream.
  private func isRequestWhole(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    return connection.pointee.progress == .complete && connection.pointee.prepared.isEmpty && !connection.pointee.has(.requestHeld)
  }

  /// Ends the request on a stream when everything of it was handed over.
  mutating func endRequest(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.stream != .none, !upstream.pointee.has(.requestEnded), upstream.pointee.downstream >= 0 else { return }
    let index = Int(upstream.pointee.downstream)
    guard isRequestWhole(index) else { return }
    upstream.pointee.flags.insert(.requestEnded)
    var trailers = ByteBuffer()
    let connection = downstreams.pointer(index)
    if connection.pointee.transport == .stream {
      trailers.append(connection.pointee.requestTrailers)
    } else if connection.pointee.requestFraming == .chunked {
      ResponseRewriter.appendTrailers(connection.pointee.decoder, to: &trailers)
    }
    let session = serverSessions.pointer(Int(upstream.pointee.session))
    trailers.withUnsafeBytes { session.pointee.http2.end(upstream.pointee.stream, trailers: $0) }
    flushLater(upstream: session.pointee.socket)
  }

  // MARK: The response

  /// Takes a head of the response.
  mutating func takeHead(upstream slot: Int, _ octets: UnsafeRawBufferPointer, endsStream: Bool) {
    let upstream = upstreams.pointer(slot)
    let index = Int(upstream.pointee.downstream)
    upstream.pointee.flags.insert(.answering)
    responseHead.pointee.reset()
    let method = downstreams.pointer(index).pointee.method
    let isHead =
      (try? ResponseDecoder.decode(octets, limits: plan.responseHeadLimits, requestMethod: method, into: &responseHead.pointee)) == true
    guard isHead else { return upstreamFailed(slot, .upstreamMalformed) }
    if responseHead.pointee.isInterim { return passInterim(index, octets) }
    upstream.pointee.flags.insert(.headSeen)
    serverAnswered(upstream.pointee.pool, status: responseHead.pointee.status)
    // The stream says where content ends; its length is held against what the head says by the session.
    upstream.pointee.progress = endsStream || responseHead.pointee.framing == .none ? .complete : .stream
    if endsStream { responseHead.pointee.declareEmpty() }
    beginResponse(slot, index, octets)
    guard upstream.pointee.state == .busy else { return }
    if endsStream { responseComplete(slot, index) } else { transmit(index) }
  }

  /// Takes content of the response; the server may send more of it when the client's side has room again.
  mutating func takeContent(upstream slot: Int, _ content: UnsafeRawBufferPointer) {
    let upstream = upstreams.pointer(slot)
    let index = Int(upstream.pointee.downstream)
    guard upstream.pointee.has(.headSeen) else { return upstreamFailed(slot, .upstreamMalformed) }
    upstream.pointee.unused += content.count
    deliver(index, content, isWhole: false)
    guard upstream.pointee.state == .busy else { return }
    transmit(index)
    guard upstream.pointee.state == .busy else { return }
    openWindow(upstream: slot)
  }

  /// Lets the server send as much as was passed on, where the client's side has room.
  mutating func openWindow(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.unused > 0, upstream.pointee.downstream >= 0, hasRoom(Int(upstream.pointee.downstream)) else { return }
    let session = serverSessions.pointer(Int(upstream.pointee.session))
    session.pointee.http2.consumed(upstream.pointee.stream, upstream.pointee.unused)
    upstream.pointee.unused = 0
    flushLater(upstream: session.pointee.socket)
  }

  /// The response is complete.
  mutating func takeEnd(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.has(.headSeen) else { return upstreamFailed(slot, .upstreamMalformed) }
    upstream.pointee.progress = .complete
    responseComplete(slot, Int(upstream.pointee.downstream))
  }

  // MARK: Ends

  /// A stream ended before its response did.
  mutating func lose(upstream slot: Int, _ loss: StreamLoss) {
    let upstream = upstreams.pointer(slot)
    upstream.pointee.flags.insert(.streamOver)
    switch loss {
    // It has had no effect, whatever was sent of it.
    case .refused:
      upstream.pointee.sentCount = 0
      serverSessions.pointer(Int(upstream.pointee.session)).pointee.refusedAt = now
    // The server is there and has failed, which is not how an old connection ends that was closed meanwhile.
    case .reset: upstream.pointee.flags.remove(.reused)
    case .withSession: break
    }
    upstreamFailed(slot, .upstreamClosed)
  }

  /// Takes a stream out of its session, and cancels what is not complete.
  mutating func leaveSession(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.session >= 0 else { return }
    let session = serverSessions.pointer(Int(upstream.pointee.session))
    if upstream.pointee.stream != .none {
      // Content that the server has not taken would keep the stream open, though its response is complete.
      let isWhole =
        upstream.pointee.has(.headSeen) && upstream.pointee.progress == .complete && upstream.pointee.has(.requestEnded)
        && session.pointee.http2.queuedCount(upstream.pointee.stream) == 0
      if !isWhole, !upstream.pointee.has(.streamOver) {
        session.pointee.http2.reset(upstream.pointee.stream, .cancel)
        doubt(session: Int(upstream.pointee.session))
      }
      session.pointee.http2.setTag(upstream.pointee.stream, .max)
    }
    let position = Int(upstream.pointee.streamPlace)
    let last = session.pointee.streams.removeLast()
    if position < session.pointee.streams.count {
      session.pointee.streams[position] = last
      upstreams.pointer(Int(last)).pointee.streamPlace = Int32(truncatingIfNeeded: position)
    }
    upstream.pointee.session = -1
    let socket = session.pointee.socket
    serveWaitingLater(upstream.pointee.pool)
    guard upstreams.pointer(socket).pointee.state == .multiplexed else { return }
    flushLater(upstream: socket)
    guard session.pointee.streams.isEmpty else { return }
    upstreams.pointer(socket).pointee.deadline = now &+ plan.timeouts.upstreamKeepAlive
    wheel.schedule(socket * 2 + 1, deadline: upstreams.pointer(socket).pointee.deadline)
  }
}
