import Bytes
import Configuration
import Encoding
import Gateway
import HTTP
import IO

/// One server's checks, one after another: connects, asks, and reads no more than the answer's head. Used by the watching
/// thread alone.
final class ServerCheck {
  /// Octets of an answer's head before it counts as failed.
  private static let headLimit = 16 << 10

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
  private let statuses: Settings.StatusSet
  /// What is sent; empty where a connection is all that is asked for.
  private let request: [UInt8]
  private let onlyConnects: Bool
  private var descriptor: Int32 = -1
  private var isConnected = false
  private var answer = ByteBuffer()
  private var head = ResponseHead()

  init(_ plan: RelayPlan, _ upstream: Int, _ server: Int, _ health: RelayPlan.Health, at now: Instant, jitter: UInt64) {
    self.server = server
    self.upstream = upstream
    number = server - plan.upstreams[upstream].servers.lowerBound
    state = HealthCheck(health.rules, at: now, jitter: jitter)
    unixPath = plan.servers[server].unixPath
    statuses = health.statuses
    onlyConnects = health.request == nil
    var request = ByteBuffer()
    // The connection is our own, and says so.
    if let version = plan.upstreams[upstream].proxyProtocol { ProxyProtocol.append(.unspecified, version, to: &request) }
    if let octets = health.request { request.append(octets) }
    self.request = request.array()
  }

  deinit { close() }

  /// Whether a check is under way.
  var isRunning: Bool { descriptor >= 0 }

  /// Begins a check; whether it passed, where that is known at once.
  func begin(_ addresses: [SocketAddress], _ epoll: borrowing Epoll, token: UInt64, at now: Instant) -> Bool? {
    deadline = state.began(at: now)
    answer.removeAll()
    isConnected = false
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

  /// Goes on after a readiness report; whether the check passed, once that is known.
  func advance(_ readiness: Readiness) -> Bool? {
    guard isRunning else { return nil }
    if !isConnected {
      guard readiness.contains(.writable) || readiness.contains(.failed) || readiness.contains(.hungUp) else { return nil }
      guard Syscalls.socketError(descriptor) == 0, !readiness.contains(.failed) else { return false }
      isConnected = true
      // A new socket takes so little whole.
      if !request.isEmpty {
        let sent = request.withUnsafeBytes { Syscalls.send(descriptor, $0) == .moved($0.count) }
        guard sent else { return false }
      }
      if onlyConnects { return true }
    }
    return read()
  }

  private func read() -> Bool? {
    while true {
      var result = TransferResult.wouldBlock
      _ = answer.withUnsafeWritable(minimumCapacity: 4096) { space in
        result = Syscalls.receive(descriptor, into: space)
        if case .moved(let count) = result { return count }
        return 0
      }
      switch result {
      case .moved:
        if let passed = judge() { return passed }
      case .wouldBlock: return nil
      case .ended, .failed: return false
      }
    }
  }

  /// Looks at what has come of the answer; interim ones are passed over.
  private func judge() -> Bool? {
    while true {
      head.reset()
      do {
        let isComplete = try answer.withUnsafeBytes { (octets) throws(HTTPError) in
          try ResponseDecoder.decode(octets, limits: HeadLimits(head: Self.headLimit), requestMethod: .get, into: &head)
        }
        guard isComplete else { return answer.count > Self.headLimit ? false : nil }
      } catch { return false }
      guard head.isInterim else { return statuses.contains(head.status) }
      answer.removeFirst(head.byteCount)
    }
  }

  /// Gives the connection up.
  func close() {
    guard descriptor >= 0 else { return }
    Syscalls.close(descriptor)
    descriptor = -1
    deadline = Instant(nanoseconds: .max)
    answer.removeAll()
  }
}
