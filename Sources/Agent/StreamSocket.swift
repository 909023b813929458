import Encoding
import Glibc

/// Owns one connected stream socket that never blocks by itself: every wait is a `poll` with a deadline.
struct StreamSocket: ~Copyable {
  /// What a receive brought.
  enum Receipt {
    case octets(Int)
    case wouldBlock
    case closed
  }

  /// What became possible while waiting.
  struct Readiness: OptionSet {
    let rawValue: UInt8
    static let readable = Readiness(rawValue: 1)
    static let writable = Readiness(rawValue: 2)
  }

  /// The most addresses of one name that are tried, so that a name cannot stretch a connect without bound.
  static let addressLimit = 8

  private let descriptor: Int32

  private init(descriptor: Int32) { self.descriptor = descriptor }

  deinit { _ = close(descriptor) }

  /// Connects to the first address of `address` that answers.
  ///
  /// - Parameter loopbackOnly: skips every address that is not this machine's, whatever the name resolves to.
  static func connect(
    to address: WebAddress, loopbackOnly: Bool, perAddress: Duration, until deadline: Instant?
  ) throws(AgentError) -> StreamSocket {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(address.host, String(address.port), &hints, &list)
    guard code == 0, let list else { throw .resolution(host: address.host, code: code) }
    defer { freeaddrinfo(list) }
    var lastError = ECONNREFUSED
    var tried = 0
    var next: UnsafeMutablePointer<addrinfo>? = list
    // Safe because: the list is getaddrinfo's and lives until freeaddrinfo above, which runs after the last use.
    while let entry = next, tried < addressLimit {
      next = entry.pointee.ai_next
      guard let socketAddress = entry.pointee.ai_addr else { continue }
      if loopbackOnly, !isLoopback(socketAddress) { continue }
      tried += 1
      let limit = Instant.now() + perAddress
      let end = deadline.map { $0 < limit ? $0 : limit } ?? limit
      switch attempt(entry.pointee, socketAddress, until: end) {
      case .success(let descriptor): return StreamSocket(descriptor: descriptor)
      case .failure(let failure): lastError = failure.code
      }
    }
    if tried == 0 { throw .plaintextRefused(host: address.host) }
    if lastError == ETIMEDOUT { throw .timeout(.connecting) }
    throw .connection(authority: address.authority, code: lastError)
  }

  private struct SystemFailure: Error { let code: Int32 }

  private static func attempt(
    _ entry: addrinfo, _ socketAddress: UnsafeMutablePointer<sockaddr>, until deadline: Instant
  ) -> Result<Int32, SystemFailure> {
    let kind = entry.ai_socktype | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let descriptor = socket(entry.ai_family, kind, entry.ai_protocol)
    guard descriptor >= 0 else { return .failure(SystemFailure(code: errno)) }
    // Safe because: address and length come from the same addrinfo entry.
    if Glibc.connect(descriptor, socketAddress, entry.ai_addrlen) != 0 {
      var failure = errno
      if failure == EINPROGRESS {
        failure = ETIMEDOUT
        if !wait(descriptor, for: .writable, until: deadline).isEmpty { failure = pendingError(descriptor) }
      }
      guard failure == 0 else {
        _ = close(descriptor)
        return .failure(SystemFailure(code: failure))
      }
    }
    var on: Int32 = 1
    // A request is written whole, so waiting to fill a segment only costs time.
    _ = setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    return .success(descriptor)
  }

  private static func pendingError(_ descriptor: Int32) -> Int32 {
    var value: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    // Safe because: both pointers are to locals of the size that is passed.
    guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &value, &size) == 0 else { return errno }
    return value
  }

  private static func isLoopback(_ address: UnsafeMutablePointer<sockaddr>) -> Bool {
    // Safe because: the family says which structure stands behind the pointer, and getaddrinfo allocated all of it.
    switch Int32(address.pointee.sa_family) {
    case AF_INET:
      return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        UInt32(bigEndian: $0.pointee.sin_addr.s_addr) >> 24 == 127
      }
    case AF_INET6:
      return address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { pointer in
        withUnsafeBytes(of: pointer.pointee.sin6_addr) { $0.dropLast().allSatisfy { $0 == 0 } && $0.last == 1 }
      }
    default:
      return false
    }
  }

  /// Waits until the socket is ready for one of `wanted` or the deadline passes; empty means that it passed.
  ///
  /// An error or hang-up counts as ready: the following call reports it.
  func wait(for wanted: Readiness, until deadline: Instant?) -> Readiness {
    Self.wait(descriptor, for: wanted, until: deadline)
  }

  private static func wait(_ descriptor: Int32, for wanted: Readiness, until deadline: Instant?) -> Readiness {
    var events: Int16 = 0
    if wanted.contains(.readable) { events |= Int16(POLLIN) }
    if wanted.contains(.writable) { events |= Int16(POLLOUT) }
    while true {
      var entry = pollfd(fd: descriptor, events: events, revents: 0)
      // Safe because: exactly one entry is passed, and it is a local.
      let count = poll(&entry, 1, milliseconds(until: deadline))
      if count < 0 {
        guard errno == EINTR else { return wanted }
        continue
      }
      if count == 0 {
        if let deadline, Instant.now() < deadline { continue }
        return []
      }
      var ready: Readiness = []
      if entry.revents & Int16(POLLIN) != 0 { ready.insert(.readable) }
      if entry.revents & Int16(POLLOUT) != 0 { ready.insert(.writable) }
      return ready.isEmpty ? wanted : ready
    }
  }

  /// The time left as poll takes it, rounded up so that a wait never spins; -1 without a deadline.
  private static func milliseconds(until deadline: Instant?) -> Int32 {
    guard let deadline else { return -1 }
    let now = Instant.now()
    guard now < deadline else { return 0 }
    let left = (deadline - now).components
    guard left.seconds < 1_000_000 else { return 1_000_000_000 }
    return Int32(left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000) + 1
  }

  /// Hands octets to the system; returns how many it took, 0 when it takes none now.
  func send(_ octets: UnsafeRawBufferPointer) throws(AgentError) -> Int {
    while true {
      // Safe because: the buffer is valid for the call, and its own count is passed.
      let count = Glibc.send(descriptor, octets.baseAddress, octets.count, Int32(MSG_NOSIGNAL))
      if count >= 0 { return count }
      switch errno {
      case EINTR: continue
      case EAGAIN: return 0
      default: throw .connectionLost(.sending, code: errno)
      }
    }
  }

  /// Takes octets that have arrived.
  func receive(into room: UnsafeMutableRawBufferPointer, phase: AgentError.Phase) throws(AgentError) -> Receipt {
    while true {
      // Safe because: the buffer is writable for the call, and its own count is passed.
      let count = recv(descriptor, room.baseAddress, room.count, 0)
      if count > 0 { return .octets(count) }
      if count == 0 { return .closed }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      default: throw .connectionLost(phase, code: errno)
      }
    }
  }

  /// Whether an idle connection is still open and silent; anything else on it makes it useless for a next request.
  var isQuiet: Bool {
    var octet: UInt8 = 0
    // Safe because: one octet of room is passed for one octet.
    let count = recv(descriptor, &octet, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    return count < 0 && errno == EAGAIN
  }
}
