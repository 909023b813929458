import HTTP
import IO
import TLS

// TLS towards clients.
extension Worker {
  /// Begins with TLS on a connection that was just accepted; false where there is no memory for it.
  mutating func startHandshake(_ index: Int, _ context: TLSServerContext) -> Bool {
    let connection = downstreams.pointer(index)
    guard let engine = try? TLSEngine(server: context), let place = secureSockets.insert(SecureSocket(engine)) else { return false }
    connection.pointee.transport = .tls
    connection.pointee.secure = Int32(truncatingIfNeeded: place)
    connection.pointee.state = .handshake
    return true
  }

  /// Receives ciphertext of a client and gives what is in it.
  mutating func receiveSealed(_ index: Int, room: Int) -> Received {
    let connection = downstreams.pointer(index)
    let secure = secureSockets.pointer(Int(connection.pointee.secure))
    if secure.pointee.engine.isEnded {
      connection.pointee.flags.remove(.readable)
      return .ended
    }
    let space = UnsafeMutableRawBufferPointer(rebasing: ciphertext[..<min(room, ciphertext.count)])
    switch Syscalls.receive(connection.pointee.descriptor, into: space) {
    case .moved(let count):
      if count < space.count, !connection.pointee.has(.peerClosing) { connection.pointee.flags.remove(.readable) }
      metrics.octetsReceived.add(UInt64(count))
      return open(index, UnsafeRawBufferPointer(rebasing: space[..<count]))
    case .wouldBlock:
      connection.pointee.flags.remove(.readable)
      return .nothing
    // An end that TLS did not announce may be anybody's work (RFC 8446, section 6.1).
    case .ended, .failed:
      connection.pointee.flags.remove(.readable)
      return .failed
    }
  }

  /// Decrypts what was received, and takes notice of the handshake's end.
  private mutating func open(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Received {
    let connection = downstreams.pointer(index)
    let place = Int(connection.pointee.secure)
    let secure = secureSockets.pointer(place)
    let count: Int
    do {
      count = try openRecords(place, connection.pointee.descriptor, octets)
    } catch {
      if connection.pointee.state == .handshake { metrics.handshakesFailed.add() }
      connection.pointee.flags.remove(.readable)
      return .failed
    }
    if !secure.pointee.pending.isEmpty { connection.pointee.flags.insert(.unsent) }
    if connection.pointee.state == .handshake, secure.pointee.engine.isEstablished { handshakeDone(index) }
    // The end that came with these octets is received next.
    if secure.pointee.engine.isEnded { connection.pointee.flags.insert(.readable) }
    guard connection.pointee.state != .closed, count > 0 else { return .nothing }
    return .octets(UnsafeMutableRawBufferPointer(rebasing: received[..<count]))
  }

  private mutating func handshakeDone(_ index: Int) {
    let connection = downstreams.pointer(index)
    let secure = secureSockets.pointer(Int(connection.pointee.secure))
    metrics.handshakes.add()
    if secure.pointee.engine.isResumed { metrics.handshakesResumed.add() }
    let isTold = !plan.listeners[Int(connection.pointee.listener)].subjectField.isEmpty
    if isTold, let certificate = secure.pointee.engine.peerCertificate, certificate.isVerified {
      secure.pointee.subject = Array(certificate.subject.utf8)
    }
    connection.pointee.state = .idle
    setDeadline(index, now &+ plan.timeouts.headerRead)
    if secure.pointee.engine.applicationProtocol == .http2 { startSession(index) }
  }

  /// Encrypts and sends to a client.
  mutating func sendSealed(_ index: Int, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> TransferResult {
    let connection = downstreams.pointer(index)
    let place = Int(connection.pointee.secure)
    let result = sealRecords(place, connection.pointee.descriptor, first, second)
    if !secureSockets.pointer(place).pointee.pending.isEmpty { connection.pointee.flags.insert(.unsent) }
    return result
  }

  /// Sends the records that wait for a client's socket; false where some still do, or the connection was lost.
  mutating func flushSealed(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    switch flushRecords(Int(connection.pointee.secure), connection.pointee.descriptor) {
    case .moved:
      connection.pointee.flags.remove(.unsent)
      return true
    case .wouldBlock, .ended:
      setDeadline(index, now &+ plan.timeouts.writeStall)
      return false
    case .failed:
      clientLost(index)
      return false
    }
  }
}
