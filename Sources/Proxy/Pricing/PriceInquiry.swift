import Bytes
import IO
import TLS

/// One question under way: connects, asks and listens. Used by the desk's thread alone.
final class PriceInquiry {
  let question: PriceQuestion
  /// When it has failed, monotonic nanoseconds.
  let deadline: Int64
  private var descriptor: Int32 = -1
  private var isConnected = false
  private var dialogue: PriceDialogue
  /// What the socket has not taken.
  private var output = ByteBuffer()

  /// Prepares a question.
  init(_ question: PriceQuestion, engine: consuming TLSEngine?, at now: Int64) {
    self.question = question
    deadline = now &+ question.timeout
    dialogue = PriceDialogue(question.request, engine: engine)
  }

  deinit { if descriptor >= 0 { Syscalls.close(descriptor) } }

  /// Begins to connect; false where that failed at once.
  func begin(_ address: SocketAddress, _ epoll: borrowing Epoll, token: UInt64) -> Bool {
    switch Connector.connect(to: address) {
    case .connected(let opened), .started(let opened): descriptor = opened
    case .exhausted, .failed: return false
    }
    do { try epoll.add(descriptor, token: token) } catch { return false }
    return true
  }

  /// Goes on after a readiness report.
  func advance(_ readiness: Readiness) -> PriceDialogue.Progress {
    if !isConnected {
      guard readiness.contains(.writable) || readiness.contains(.failed) || readiness.contains(.hungUp) else { return .more }
      guard Syscalls.socketError(descriptor) == 0, !readiness.contains(.failed) else { return .failed }
      isConnected = true
      guard dialogue.begin(into: &output) else { return .failed }
    }
    guard send() else { return .failed }
    return receive()
  }

  private func receive() -> PriceDialogue.Progress {
    var octets = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      switch octets.withUnsafeMutableBytes({ Syscalls.receive(descriptor, into: $0) }) {
      case .moved(let count):
        let progress = octets.withUnsafeBytes { dialogue.receive(UnsafeRawBufferPointer(rebasing: $0[..<count]), into: &output) }
        guard case .more = progress else { return progress }
        guard send() else { return .failed }
      case .wouldBlock: return .more
      case .ended: return dialogue.ended()
      case .failed: return .failed
      }
    }
  }

  /// Sends what is to be sent, as much as the socket takes; false where the connection is dead.
  private func send() -> Bool {
    while !output.isEmpty {
      switch output.withUnsafeBytes({ Syscalls.send(descriptor, $0) }) {
      case .moved(let count): output.removeFirst(count)
      case .wouldBlock: return true
      case .ended, .failed: return false
      }
    }
    return true
  }
}
