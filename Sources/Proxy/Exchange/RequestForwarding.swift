import Bytes
import Gateway
import HTTP
import IO
import Ledger

extension Worker {
  // MARK: Beginning

  /// Forwards the request whose head is `octets`: at once, or when its entry is durable and a connection is free.
  mutating func forward(_ index: Int, _ octets: UnsafeRawBufferPointer, _ whole: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    setBalanceKey(index, octets)
    if connection.pointee.has(.paid), !isDurable(connection.pointee.exchange.forwardAfter) {
      writeHead(index, octets, whole, into: &connection.pointee.prepared)
      connection.pointee.state = .beforeForward
      setDeadline(index, .max)
      return makeWaiting(index)
    }
    let server: Int
    do { server = try chooseServer(index) } catch { return fail(index, error.failure) }
    switch place(index, server) {
    case .reuse(let slot):
      let upstream = upstreams.pointer(Int(slot))
      attach(index, Int(slot))
      writeHead(index, octets, whole, into: &upstream.pointee.output)
      awaitNext(index)
      // Content that came with the head goes in the same send, so the caller flushes.
      if connection.pointee.progress == .complete { flushUpstream(of: index) }
    case .connect:
      writeHead(index, octets, whole, into: &connection.pointee.prepared)
      connect(index, server)
    case .wait:
      writeHead(index, octets, whole, into: &connection.pointee.prepared)
      awaitPlace(index, server)
    case .refuse: fail(index, .upstreamBusy)
    }
  }

  /// Forwards a request whose head was written before: its entry is durable now.
  mutating func forwardPrepared(_ index: Int) {
    let server: Int
    do { server = try chooseServer(index) } catch { return fail(index, error.failure) }
    lease(index, server)
  }

  /// Gives a connection that is free to a request that waited for one.
  mutating func assign(_ index: Int, _ slot: Int) {
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(slot)
    attach(index, slot)
    swap(&upstream.pointee.output, &connection.pointee.prepared)
    connection.pointee.prepared.release()
    guard isFramed(index, for: slot) else { return breakExchange(index, .upstreamClosed) }
    awaitNext(index)
    continueRequest(index)
  }

  /// Whether a connection can carry a request as it is written: content without a length that was for a stream has no chunks.
  func isFramed(_ index: Int, for slot: Int) -> Bool {
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.transport != .stream, connection.pointee.requestFraming == .chunked else { return true }
    return !plan.servers[upstream.pointee.pool].mayMultiplex || upstream.pointee.output.count <= Int(connection.pointee.requestHeadCount)
  }

  func ticket(_ index: Int) -> UInt64 { UInt64(downstreams.generation(index)) << 32 | UInt64(index) }

  /// Writes the upstream's head, with the collected content behind it.
  private mutating func writeHead(
    _ index: Int, _ octets: UnsafeRawBufferPointer, _ whole: UnsafeRawBufferPointer, into buffer: inout ByteBuffer
  ) {
    let connection = downstreams.pointer(index)
    let hasCollected = connection.pointee.has(.collected) && requestHead.pointee.framing != .none
    let framing = hasCollected ? .length(UInt64(connection.pointee.collected.count)) : requestHead.pointee.framing
    connection.pointee.requestFraming = OutgoingFraming(framing)
    buffer.removeAll()
    let route = Int(connection.pointee.route)
    let forwarding = Forwarding(
      peer: connection.pointee.peer, client: connection.pointee.client,
      isTrusted: !plan.trustedProxies.isEmpty && Forwarded.isTrusted(connection.pointee.peer, plan.trustedProxies),
      isSecure: isSecure(downstream: index), isHTTP2: connection.pointee.transport == .stream)
    if plan.routes[route].rewritesPath {
      var rewritten = ByteBuffer(capacity: whole.count + 64)
      plan.routes[route].append(target: whole, to: &rewritten)
      rewritten.withUnsafeBytes { target in
        RequestRewriter.append(
          requestHead.pointee, octets: octets, target: target, framing: framing, fields: plan.routes[route].fields,
          forwarding: forwarding, to: &buffer)
      }
    } else {
      RequestRewriter.append(
        requestHead.pointee, octets: octets, target: whole, framing: framing, fields: plan.routes[route].fields,
        forwarding: forwarding, to: &buffer)
    }
    if connection.pointee.has(.expectsContinue), connection.pointee.progress != .complete {
      // Put before the empty line that ends the head: the upstream itself decides whether it wants the content.
      buffer.truncate(to: buffer.count - 2)
      buffer.append("Expect: 100-continue\r\n\r\n")
    }
    if let place = secureSocket(of: index), !secureSockets.pointer(place).pointee.subject.isEmpty {
      buffer.truncate(to: buffer.count - 2)
      buffer.append(plan.listeners[Int(connection.pointee.listener)].subjectField)
      buffer.append(": ")
      buffer.append(secureSockets.pointer(place).pointee.subject)
      buffer.append("\r\n\r\n")
    }
    appendUpgrade(index, to: &buffer)
    connection.pointee.requestHeadCount = Int32(truncatingIfNeeded: buffer.count)
    if hasCollected {
      buffer.append(connection.pointee.collected)
      releaseCollected(index)
      connection.pointee.keptHead.release()
    }
  }

  /// Ties a client's connection and an upstream's together for an exchange.
  mutating func attach(_ index: Int, _ slot: Int) {
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(slot)
    connection.pointee.upstream = Int32(truncatingIfNeeded: slot)
    connection.pointee.state = .exchange
    connection.pointee.attempt &+= 1
    noteAsked(index)
    upstream.pointee.downstream = Int32(truncatingIfNeeded: index)
    upstream.pointee.sentCount = 0
    upstream.pointee.progress = .complete
    upstream.pointee.deadline = .max
    upstream.pointee.flags.formIntersection([.readable, .peerClosing, .reused, .listedReady, .last])
    upstream.pointee.flags.insert(.replayable)
    if upstream.pointee.state == .idle { upstream.pointee.state = .busy }
    begin(at: slot)
  }

  // MARK: Content

  /// Whether an upstream connection takes more of the request.
  func upstreamTakes(_ slot: Int32) -> Bool {
    guard slot >= 0 else { return false }
    let upstream = upstreams.pointer(Int(slot))
    if upstream.pointee.has(.deaf) || upstream.pointee.has(.unsent) { return false }
    // Before it is known what is spoken, nobody knows how content is framed.
    if upstream.pointee.state != .busy, plan.servers[upstream.pointee.pool].mayMultiplex { return false }
    if upstream.pointee.unsentCount == 0 { return true }
    return upstream.pointee.sentCount == 0 && upstream.pointee.output.count < RelayPlan.bufferLimit / 4
  }

  /// Passes content of the request on, as much as the upstream takes; returns how many octets were used.
  mutating func forwardContent(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    guard upstreamTakes(connection.pointee.upstream), !connection.pointee.has(.requestHeld) else { return 0 }
    let used: Int
    let range: Range<Int>
    do {
      (used, range) = try Self.takeContent(&connection.pointee.progress, &connection.pointee.decoder, octets)
    } catch {
      connection.pointee.flags.insert(.closing)
      breakExchange(index, .malformed(error))
      return octets.count
    }
    guard countContent(index, range.count) else {
      connection.pointee.flags.insert(.closing)
      breakExchange(index, .contentTooLarge)
      return octets.count
    }
    connection.pointee.flags.remove(.expectsContinue)
    let content = UnsafeRawBufferPointer(rebasing: octets[range])
    if connection.pointee.has(.paid), connection.pointee.exchange.metersRequest {
      connection.pointee.prepared.append(content)
      passHeldContent(index)
    } else {
      passContent(index, content)
      endContentIfComplete(index)
    }
    if connection.pointee.state == .exchange, connection.pointee.progress != .complete {
      setDeadline(index, contentDeadline(index))
    }
    return used
  }

  /// Passes metered request content on as far as the budget goes.
  mutating func passHeldContent(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.remove(.requestHeld)
    while !connection.pointee.prepared.isEmpty {
      switch cashier.sent(&connection.pointee.exchange, UInt64(connection.pointee.prepared.count), at: wall) {
      case .granted(let granted):
        let count = min(Int(clamping: granted), connection.pointee.prepared.count)
        guard count > 0 else { return }
        let content = connection.pointee.prepared.withUnsafeBytes { $0 }
        passContent(index, UnsafeRawBufferPointer(rebasing: content[..<count]))
        guard connection.pointee.state == .exchange else { return }
        connection.pointee.prepared.removeFirst(count)
      case .waitDurable:
        connection.pointee.flags.insert(.requestHeld)
        return makeWaiting(index)
      case .dry:
        connection.pointee.flags.insert(.requestHeld)
        return becomeDry(index)
      case .stop: return breakExchange(index, .sessionEnded)
      }
    }
    connection.pointee.prepared.release()
    endContentIfComplete(index)
  }

  /// Hands content to the upstream's connection in the request's framing.
  private mutating func passContent(_ index: Int, _ content: UnsafeRawBufferPointer) {
    guard !content.isEmpty else { return }
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(Int(connection.pointee.upstream))
    // A stream may be refused after the fact, so a short request is kept until it is answered.
    let isKept =
      upstream.pointee.transport == .stream && upstream.pointee.has(.replayable)
      && upstream.pointee.output.count + content.count <= RelayPlan.bufferLimit / 4
    if upstream.pointee.sentCount > 0, upstream.pointee.unsentCount == 0, !isKept {
      // What has left before is not kept any more: the request cannot be sent again from here on.
      upstream.pointee.flags.remove(.replayable)
      upstream.pointee.output.removeAll()
      upstream.pointee.sentCount = 0
    }
    var isChunked = connection.pointee.requestFraming == .chunked
    if isChunked, plan.servers[upstream.pointee.pool].mayMultiplex {
      isChunked = upstream.pointee.transport != .stream
      // Framed for this connection, it cannot be sent again on a stream; what a stream has got, on another one only.
      if isChunked { upstream.pointee.flags.remove(.replayable) }
    }
    if isChunked {
      upstream.pointee.output.append(hexadecimal: UInt64(content.count))
      upstream.pointee.output.append("\r\n")
      upstream.pointee.output.append(content)
      return upstream.pointee.output.append("\r\n")
    }
    guard upstream.pointee.state == .busy, upstream.pointee.output.isEmpty, !upstream.pointee.has(.replayable) else {
      return upstream.pointee.output.append(content)
    }
    switch send(upstream: Int(connection.pointee.upstream), content) {
    case .moved(let count):
      if count < content.count { upstream.pointee.output.append(UnsafeRawBufferPointer(rebasing: content[count...])) }
    case .wouldBlock, .ended: upstream.pointee.output.append(content)
    case .failed: becomeDeaf(Int(connection.pointee.upstream))
    }
  }

  /// The upstream takes nothing more. It may have answered before it closed, so that is read before the exchange is
  /// given up.
  mutating func becomeDeaf(_ slot: Int) {
    upstreams.pointer(slot).pointee.flags.formUnion([.deaf, .readable])
    upstreams.pointer(slot).pointee.flags.remove(.persistent)
    makeReady(upstream: slot)
  }

  /// Ends the request towards the upstream when its content has passed.
  mutating func endContentIfComplete(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .exchange, connection.pointee.progress == .complete else { return }
    let upstream = upstreams.pointer(Int(connection.pointee.upstream))
    if connection.pointee.requestFraming == .chunked, upstream.pointee.transport != .stream {
      upstream.pointee.output.append("0\r\n")
      if connection.pointee.transport == .stream {
        upstream.pointee.output.append(connection.pointee.requestTrailers)
      } else {
        ResponseRewriter.appendTrailers(connection.pointee.decoder, to: &upstream.pointee.output)
      }
      upstream.pointee.output.append("\r\n")
    }
    awaitNext(index)
  }

  // MARK: Sending

  /// Goes on with a request on a new connection: sends what is written, and takes content that came before.
  mutating func continueRequest(_ index: Int) {
    let connection = downstreams.pointer(index)
    flushUpstream(of: index)
    guard connection.pointee.state == .exchange, connection.pointee.progress != .complete else { return }
    if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) { makeReady(downstream: index) }
  }

  /// Sends what is written of the request.
  mutating func flushUpstream(of index: Int) {
    let slot = Int(downstreams.pointer(index).pointee.upstream)
    guard slot >= 0 else { return }
    flushUpstream(slot)
  }

  mutating func flushUpstream(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.state == .busy, !upstream.pointee.has(.deaf) else { return }
    if upstream.pointee.has(.unsent), !flushTransport(upstream: slot) { return }
    while upstream.pointee.unsentCount > 0 {
      // Safe because: the send ends before `output` changes.
      let octets = upstream.pointee.output.withUnsafeBytes { $0 }
      let unsent = UnsafeRawBufferPointer(rebasing: octets[upstream.pointee.sentCount...])
      switch send(upstream: slot, unsent) {
      case .moved(let count):
        upstream.pointee.sentCount += count
        downstreams.pointer(Int(upstream.pointee.downstream)).pointee.flags.insert(.forwarded)
        // A short send has filled the socket; the next room makes an edge.
        if count < unsent.count { return }
      case .wouldBlock, .ended: return
      case .failed: return becomeDeaf(slot)
      }
    }
    if upstream.pointee.transport == .stream { endRequest(upstream: slot) }
  }
}

extension OutgoingFraming {
  init(_ framing: BodyFraming) {
    switch framing {
    case .none: self = .none
    case .length: self = .length
    case .chunked: self = .chunked
    case .untilClose: self = .untilClose
    }
  }
}
