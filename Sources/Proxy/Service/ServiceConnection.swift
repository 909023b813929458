import Bytes
import IO
import TLS

/// One connection to a service: connects, asks and listens, and may be kept for the next call. Used by the client's thread alone.
final class ServiceConnection {
  /// The service's place among the plan's upstreams.
  let upstream: Int
  /// What is asked; nil while the connection is kept for the next call.
  private(set) var call: PendingCall?
  /// When the call has failed, or the kept connection is closed: monotonic nanoseconds.
  private(set) var deadline: Int64
  /// Whether the call is not the connection's first.
  private(set) var isReused = false
  private var descriptor: Int32 = -1
  private var isConnected = false
  private var dialogue: ServiceDialogue
  /// What the socket has not taken.
  private var output = ByteBuffer()

  /// Prepares a connection for its first call.
  init(_ call: PendingCall, engine: consuming TLSEngine?) {
    upstream = call.call.upstream
    deadline = call.deadline
    dialogue = ServiceDialogue(call.call.request, limit: call.call.contentLimit, engine: engine)
    self.call = call
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

  /// Asks on a connection that was kept; false where it cannot be used.
  func reuse(_ next: PendingCall) -> Bool {
    guard call == nil, dialogue.ask(next.call.request, limit: next.call.contentLimit, into: &output) else { return false }
    call = next
    deadline = next.deadline
    isReused = true
    return send()
  }

  /// Takes the call out when it has ended, and keeps the connection until `deadline` where it can be; false where it cannot.
  func end(keptUntil deadline: Int64) -> Bool {
    call = nil
    self.deadline = deadline
    return dialogue.isReusable && output.isEmpty
  }

  /// Whether the service may know of the call.
  var isSent: Bool { dialogue.isAsked }

  /// Whether an octet of the answer has come.
  var isAnswered: Bool { dialogue.isAnswered }

  /// Goes on after a readiness report.
  func advance(_ readiness: Readiness) -> ServiceDialogue.Progress {
    if !isConnected {
      guard readiness.contains(.writable) || readiness.contains(.failed) || readiness.contains(.hungUp) else { return .more }
      guard Syscalls.socketError(descriptor) == 0, !readiness.contains(.failed) else { return .failed }
      isConnected = true
      guard dialogue.begin(into: &output) else { return .failed }
    }
    guard send() else { return .failed }
    return receive()
  }

  private func receive() -> ServiceDialogue.Progress {
    withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 16) { space in
      while true {
        switch Syscalls.receive(descriptor, into: space) {
        case .moved(let count):
          let progress = take(UnsafeRawBufferPointer(rebasing: space[..<count]))
          guard case .more = progress else { return progress }
          guard send() else { return .failed }
        case .wouldBlock: return .more
        case .ended: return call == nil ? .failed : dialogue.ended()
        case .failed: return .failed
        }
      }
    }
  }

  private func take(_ octets: UnsafeRawBufferPointer) -> ServiceDialogue.Progress {
    guard call != nil else { return dialogue.receiveIdle(octets, into: &output) ? .more : .failed }
    return dialogue.receive(octets, into: &output)
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
