import Bytes
import Encoding
import Glibc
import HTTP

/// Speaks to a running proxy's `AdministrationServer`; blocking, for commands.
public struct AdministrationClient {
  /// Why there is no answer.
  public enum Failure: Error, Sendable, Equatable {
    /// Nobody listens: no socket, or one left over.
    case notRunning
    /// The socket belongs to another user.
    case notPermitted
    /// The path is longer than a socket's may be.
    case pathTooLong
    /// The proxy did not answer within the limit.
    case timeout
    /// What came back was no answer.
    case malformedAnswer
    /// A system call failed.
    case failed(errno: Int32)
  }

  /// A status and content.
  public struct Answer: Sendable {
    /// The HTTP status.
    public let status: UInt16
    /// The content's octets, JSON or text.
    public let content: [UInt8]
  }

  /// The longest answer: a page of a thousand wallets or sessions fits.
  private static let answerLimit = 16 << 20
  /// How long an answer may take: a command waits ten seconds for the disk at most.
  private static let patience = Duration.seconds(30)

  private let socketPath: String

  /// Makes a client; nothing is connected yet.
  public init(socketPath: String) {
    self.socketPath = socketPath
  }

  /// Whether a proxy listens and answers.
  public var answers: Bool { (try? get("/healthz"))?.status == 200 }

  /// Posts a command.
  public func post(_ command: String, _ object: JSONObject) throws(Failure) -> Answer {
    try exchange("POST", "/v1/\(command)", JSON.serialize(.object(object)))
  }

  /// Reads a page such as `/metrics`.
  public func get(_ path: String) throws(Failure) -> Answer {
    try exchange("GET", path, [])
  }

  private func exchange(_ method: String, _ path: String, _ content: [UInt8]) throws(Failure) -> Answer {
    let descriptor = try connected()
    defer { close(descriptor) }
    let deadline = Instant.now() + Self.patience
    let head = "\(method) \(path) HTTP/1.1\r\nhost: farebox\r\ncontent-length: \(content.count)\r\nconnection: close\r\n\r\n"
    try send(Array(head.utf8) + content, descriptor, deadline)
    return try Self.parse(try receive(descriptor, deadline))
  }

  private func connected() throws(Failure) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = Array(socketPath.utf8)
    let capacity = MemoryLayout.size(ofValue: address.sun_path)
    guard path.count < capacity else { throw .pathTooLong }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .failed(errno: errno) }
    let length = socklen_t(MemoryLayout<sockaddr_un>.size)
    // Safe because: sockaddr_un is one of the layouts that a sockaddr pointer may point at, and its size goes with it.
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
    }
    guard result == 0 else {
      let number = errno
      close(descriptor)
      switch number {
      case ENOENT, ECONNREFUSED, ENOTDIR: throw .notRunning
      case EACCES, EPERM: throw .notPermitted
      default: throw .failed(errno: number)
      }
    }
    return descriptor
  }

  private func send(_ octets: [UInt8], _ descriptor: Int32, _ deadline: Instant) throws(Failure) {
    var start = 0
    while start < octets.count {
      guard AdministrationPause.ready(descriptor, POLLOUT, until: deadline) else { throw .timeout }
      let count = octets[start...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      }
      if count > 0 {
        start += count
      } else if errno != EINTR, errno != EAGAIN {
        throw .failed(errno: errno)
      }
    }
  }

  private func receive(_ descriptor: Int32, _ deadline: Instant) throws(Failure) -> [UInt8] {
    var octets: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      guard AdministrationPause.ready(descriptor, POLLIN, until: deadline) else { throw .timeout }
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count < 0, errno == EINTR || errno == EAGAIN { continue }
      guard count >= 0 else { throw .failed(errno: errno) }
      guard count > 0 else { return octets }
      octets += chunk[..<count]
      guard octets.count <= Self.answerLimit else { throw .malformedAnswer }
    }
  }

  private static func parse(_ octets: [UInt8]) throws(Failure) -> Answer {
    var head = ResponseHead()
    let limits = HeadLimits(requestLine: 1024, head: AdministrationServer.headLimit, fieldCount: 50)
    let isComplete = octets.withUnsafeBytes { raw in
      (try? ResponseDecoder.decode(raw, limits: limits, requestMethod: .post, into: &head)) == true
    }
    guard isComplete, case .length(let count) = head.framing, octets.count - head.byteCount == Int(clamping: count) else {
      throw .malformedAnswer
    }
    return Answer(status: head.status, content: Array(octets[head.byteCount...]))
  }
}
