import IO
import TLS

// TLS towards upstreams.
extension Worker {
  /// Begins with TLS on a connection that stands; the request goes out when it is agreed on.
  mutating func startHandshake(upstream slot: Int, _ context: TLSClientContext) {
    let upstream = upstreams.pointer(slot)
    let server = upstream.pointee.pool
    let name = plan.upstreams[plan.servers[server].upstream].serverName ?? plan.servers[server].host
    do throws(TLSError) {
      let protocols: [TLSApplicationProtocol]? = isApart(Int(upstream.pointee.downstream), server) ? [.http1] : nil
      let engine = try TLSEngine(client: context, serverName: name, protocols: protocols)
      guard let place = secureSockets.insert(SecureSocket(engine)) else { throw .resourcesExhausted }
      upstream.pointee.transport = .tls
      upstream.pointee.secure = Int32(truncatingIfNeeded: place)
      upstream.pointee.state = .handshake
      try secureSockets.pointer(place).pointee.engine.start(output: &sealed)
      sendRecords(place, upstream.pointee.descriptor)
      noteUnsent(slot)
    } catch {
      sealed.removeAll()
      upstreamFailed(slot, .upstreamInsecure(error))
    }
  }

  /// Goes on with a handshake; a connection whose request was given up meanwhile is closed.
  mutating func continueHandshake(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    while upstream.pointee.has(.readable), upstream.pointee.state == .handshake {
      switch receive(upstream: slot, room: RelayPlan.bufferLimit) {
      case .octets(let octets):
        // What an upstream says before it was asked is a session's beginning, or nothing good.
        if upstream.pointee.state == .multiplexed {
          receiveFrames(upstream: slot, octets)
        } else {
          upstreamFailed(slot, .upstreamMalformed)
        }
      case .nothing: break
      case .ended, .failed:
        // The reason why was told where it was found.
        if upstream.pointee.state == .handshake { upstreamFailed(slot, .upstreamClosed) }
      }
    }
    switch upstream.pointee.state {
    case .busy: if upstream.pointee.has(.readable) { readUpstream(slot) }
    case .multiplexed: if upstream.pointee.has(.readable) { readSession(upstream: slot) }
    case .connecting, .handshake, .idle, .linger, .closed: break
    }
  }

  /// Receives ciphertext of an upstream and gives what is in it.
  mutating func receiveSealed(upstream slot: Int, room: Int) -> Received {
    let upstream = upstreams.pointer(slot)
    let place = Int(upstream.pointee.secure)
    if secureSockets.pointer(place).pointee.engine.isEnded {
      upstream.pointee.flags.remove(.readable)
      return .ended
    }
    let space = UnsafeMutableRawBufferPointer(rebasing: ciphertext[..<min(room, ciphertext.count)])
    switch Syscalls.receive(upstream.pointee.descriptor, into: space) {
    case .moved(let count):
      if count < space.count, !upstream.pointee.has(.peerClosing) { upstream.pointee.flags.remove(.readable) }
      return open(upstream: slot, UnsafeRawBufferPointer(rebasing: space[..<count]))
    case .wouldBlock:
      upstream.pointee.flags.remove(.readable)
      return .nothing
    // Content that ends with the connection must not be cut by anybody on the way.
    case .ended, .failed:
      upstream.pointee.flags.remove(.readable)
      return .failed
    }
  }

  private mutating func open(upstream slot: Int, _ octets: UnsafeRawBufferPointer) -> Received {
    let upstream = upstreams.pointer(slot)
    let place = Int(upstream.pointee.secure)
    let secure = secureSockets.pointer(place)
    let count: Int
    do {
      count = try openRecords(place, upstream.pointee.descriptor, octets)
    } catch {
      upstream.pointee.flags.remove(.readable)
      if upstream.pointee.state == .handshake { upstreamFailed(slot, .upstreamInsecure(error)) }
      return .failed
    }
    noteUnsent(slot)
    if upstream.pointee.state == .handshake, secure.pointee.engine.isEstablished {
      agreed(upstream: slot, isHTTP2: secure.pointee.engine.applicationProtocol == .http2)
    }
    if secure.pointee.engine.isEnded { upstream.pointee.flags.insert(.readable) }
    guard upstream.pointee.state != .closed, count > 0 else { return .nothing }
    return .octets(UnsafeMutableRawBufferPointer(rebasing: received[..<count]))
  }

  /// Encrypts and sends to an upstream.
  mutating func sendSealed(upstream slot: Int, _ octets: UnsafeRawBufferPointer) -> TransferResult {
    let upstream = upstreams.pointer(slot)
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    let result = sealRecords(Int(upstream.pointee.secure), upstream.pointee.descriptor, octets, nothing)
    noteUnsent(slot)
    return result
  }

  private mutating func noteUnsent(_ slot: Int) {
    let upstream = upstreams.pointer(slot)
    if !secureSockets.pointer(Int(upstream.pointee.secure)).pointee.pending.isEmpty { upstream.pointee.flags.insert(.unsent) }
  }

  /// Sends the records that wait for an upstream's socket; false where some still do. A dead socket is found when it is read.
  mutating func flushTransport(upstream slot: Int) -> Bool {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.has(.unsent) else { return true }
    guard case .moved = flushRecords(Int(upstream.pointee.secure), upstream.pointee.descriptor) else { return false }
    upstream.pointee.flags.remove(.unsent)
    return true
  }

  /// Reads a connection in the pool: TLS says things of its own between two requests; anything else ends it.
  mutating func readIdle(upstream slot: Int) {
    let upstream = upstreams.pointer(slot)
    guard upstream.pointee.transport == .tls else { return closeUpstream(slot) }
    while upstream.pointee.has(.readable), upstream.pointee.state == .idle {
      guard case .nothing = receive(upstream: slot, room: RelayPlan.bufferLimit) else { return closeUpstream(slot) }
    }
  }
}
