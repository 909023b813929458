import Bytes
import IO
import TLS

/// TLS on one socket, and what of it the socket has not taken. Lives in a worker's slab.
struct SecureSocket: ~Copyable {
  var engine: TLSEngine
  /// Records that were made and have not left. Nothing more is encrypted before it is empty.
  var pending = ByteBuffer()
  /// Whom the peer has proved to be, as RFC 2253 writes it; empty: nobody.
  var subject: [UInt8] = []

  init(_ engine: consuming TLSEngine) { self.engine = engine }

  /// Plaintext that is encrypted before the socket is tried.
  static let sealLimit = 64 << 10
  /// Most octets of records that wait for the socket while the peer still sends.
  static let pendingLimit = 192 << 10
}

// TLS on a socket, of clients and upstreams alike.
extension Worker {
  /// Decrypts what was received into the receive buffer, and sends what TLS itself has to answer.
  mutating func openRecords(_ place: Int, _ descriptor: Int32, _ octets: UnsafeRawBufferPointer) throws(TLSError) -> Int {
    let secure = secureSockets.pointer(place)
    let count: Int
    do {
      count = try secure.pointee.engine.receive(octets, into: received, output: &sealed)
    } catch {
      // The alert that says why.
      sendRecords(place, descriptor)
      throw error
    }
    if !sealed.isEmpty {
      sendRecords(place, descriptor)
      // Answers pile up for a peer that only asks, and takes nothing.
      guard secure.pointee.pending.count <= SecureSocket.pendingLimit else { throw .resourcesExhausted }
    }
    return count
  }

  /// Encrypts and sends both; says how many octets were taken, which then leave before anything later.
  mutating func sealRecords(
    _ place: Int, _ descriptor: Int32, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer
  ) -> TransferResult {
    guard secureSockets.pointer(place).pointee.pending.isEmpty else { return .wouldBlock }
    var taken = 0
    guard seal(place, descriptor, first, &taken), seal(place, descriptor, second, &taken) else {
      sealed.removeAll()
      return .failed(0)
    }
    sendRecords(place, descriptor)
    return taken > 0 ? .moved(taken) : .wouldBlock
  }

  /// Encrypts into `sealed`, and sends when enough has come together; false where TLS is over.
  private mutating func seal(_ place: Int, _ descriptor: Int32, _ octets: UnsafeRawBufferPointer, _ taken: inout Int) -> Bool {
    let secure = secureSockets.pointer(place)
    var rest = octets
    while !rest.isEmpty {
      if sealed.count >= SecureSocket.sealLimit { sendRecords(place, descriptor) }
      guard secure.pointee.pending.isEmpty else { return true }
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(SecureSocket.sealLimit))
      do { try secure.pointee.engine.send(piece, output: &sealed) } catch { return false }
      taken += piece.count
      rest = UnsafeRawBufferPointer(rebasing: rest[piece.count...])
    }
    return true
  }

  /// Sends the records in `sealed`, behind those that wait; what the socket does not take waits.
  mutating func sendRecords(_ place: Int, _ descriptor: Int32) {
    guard !sealed.isEmpty else { return }
    let secure = secureSockets.pointer(place)
    if secure.pointee.pending.isEmpty {
      // Safe because: `sealed` does not change before the send has returned.
      let octets = sealed.withUnsafeBytes { $0 }
      var sent = 0
      switch Syscalls.send(descriptor, octets) {
      case .moved(let count): sent = count
      // A socket that is dead is reported as such; until then nothing more is encrypted.
      case .wouldBlock, .ended, .failed: break
      }
      if sent < octets.count { secure.pointee.pending.append(UnsafeRawBufferPointer(rebasing: octets[sent...])) }
    } else {
      secure.pointee.pending.append(sealed)
    }
    // A worker keeps what most sends need, not what the largest did.
    if sealed.capacity > 4 * SecureSocket.sealLimit { sealed.release() } else { sealed.removeAll() }
  }

  /// Sends the records that wait. `.moved`: all have left.
  mutating func flushRecords(_ place: Int, _ descriptor: Int32) -> TransferResult {
    let secure = secureSockets.pointer(place)
    var sent = 0
    while !secure.pointee.pending.isEmpty {
      // Safe because: `pending` does not change before the send has returned.
      let octets = secure.pointee.pending.withUnsafeBytes { $0 }
      switch Syscalls.send(descriptor, octets) {
      case .moved(let count):
        sent += count
        secure.pointee.pending.removeFirst(count)
        if count < octets.count { return .wouldBlock }
      case .wouldBlock, .ended: return .wouldBlock
      case .failed(let code): return .failed(code)
      }
    }
    secure.pointee.pending.release()
    return .moved(sent)
  }

  /// Says close_notify behind everything else, as far as the socket takes it.
  mutating func sealEnd(_ place: Int, _ descriptor: Int32) {
    secureSockets.pointer(place).pointee.engine.end(output: &sealed)
    sendRecords(place, descriptor)
  }
}
