import Bytes
import Configuration
import Encoding
import Gateway
import HTTP
import IO
import TLS

/// One server's checks, one after another: connects, asks, and reads no more than tells how it is. Used by the watching thread
/// alone.
final class ServerCheck {
  /// The server's place, its upstream's, and its number among the upstream's servers.
  let server: Int
  let upstream: Int
  let number: Int
  var state: HealthCheck
  /// When the check that runs has failed.
  private(set) var deadline = Instant(nanoseconds: .max)
  /// Which of the server's addresses is asked; moves on when one fails.
  var addressTurn = 0

  private let unixPath: String?
  private let question: CheckDialogue.Question
  /// What TLS takes from it; a configuration that leaves the server as it was may bring another one.
  var tls: Renewable<TLSClientContext>?
  private let serverName: String?
  /// What tells the server that the connection is our own; empty where it does not ask.
  private let introduction: [UInt8]
  private var descriptor: Int32 = -1
  private var isConnected = false
  private var dialogue: CheckDialogue?
  /// What the socket has not taken.
  private var output = ByteBuffer()

  init(_ plan: RelayPlan, _ upstream: Int, _ server: Int, _ health: RelayPlan.Health, at now: Instant, jitter: UInt64) {
    self.server = server
    self.upstream = upstream
    number = server - plan.upstreams[upstream].servers.lowerBound
    state = HealthCheck(health.rules, at: now, jitter: jitter)
    unixPath = plan.servers[server].unixPath
    var question = CheckDialogue.Question(request: health.request, statuses: health.statuses)
    question.assumesHTTP2 = plan.upstreams[upstream].http2 == .always && plan.upstreams[upstream].tls == nil
    self.question = question
    tls = plan.upstreams[upstream].tls
    serverName = plan.upstreams[upstream].serverName ?? plan.servers[server].host
    var introduction = ByteBuffer()
    if let version = plan.upstreams[upstream].proxyProtocol { ProxyProtocol.append(.unspecified, version, to: &introduction) }
    self.introduction = introduction.array()
  }

  deinit { close() }

  /// Whether a check is under way.
  var isRunning: Bool { descriptor >= 0 }

  /// Begins a check; whether it passed, where that is known at once.
  func begin(_ addresses: [SocketAddress], _ epoll: borrowing Epoll, token: UInt64, at now: Instant) -> Bool? {
    deadline = state.began(at: now)
    isConnected = false
    output.removeAll()
    do { dialogue = CheckDialogue(question, engine: try engine()) } catch { return false }
    let result: ConnectResult
    if let unixPath {
      result = Connector.connect(toUnixPath: unixPath)
    } else if addresses.isEmpty {
      return false
    } else {
      result = Connector.connect(to: addresses[addressTurn % addresses.count])
    }
    switch result {
    case .connected(let opened), .started(let opened): descriptor = opened
    // No descriptor is left: that says nothing about the server, which stays what it was.
    case .exhausted: return state.isUp
    case .failed: return false
    }
    do { try epoll.add(descriptor, token: token) } catch { return state.isUp }
    return nil
  }

  private func engine() throws(TLSError) -> TLSEngine? {
    guard let tls else { return nil }
    return try TLSEngine(client: tls.current, serverName: serverName)
  }

  /// Goes on after a readiness report; whether the check passed, once that is known.
  func advance(_ readiness: Readiness, at now: Instant) -> Bool? {
    guard isRunning else { return nil }
    if !isConnected {
      guard readiness.contains(.writable) || readiness.contains(.failed) || readiness.contains(.hungUp) else { return nil }
      guard Syscalls.socketError(descriptor) == 0, !readiness.contains(.failed) else { return false }
      isConnected = true
      output.append(introduction)
      if let passed = dialogue?.begin(into: &output, at: now) { return passed }
    }
    guard send() else { return false }
    return receive(now)
  }

  private func receive(_ now: Instant) -> Bool? {
    var octets = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      switch octets.withUnsafeMutableBytes({ Syscalls.receive(descriptor, into: $0) }) {
      case .moved(let count):
        let passed = octets.withUnsafeBytes { octets -> Bool? in
          dialogue?.receive(UnsafeRawBufferPointer(rebasing: octets[..<count]), into: &output, at: now)
        }
        if let passed { return passed }
        guard send() else { return false }
      case .wouldBlock: return nil
      case .ended, .failed: return false
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

  /// Gives the connection up.
  func close() {
    guard descriptor >= 0 else { return }
    Syscalls.close(descriptor)
    descriptor = -1
    deadline = Instant(nanoseconds: .max)
    dialogue = nil
  }
}
