import Glibc
import IO

/// A blocking TCP connection for tests: writes text, reads until something is there, gives up after ten seconds.
final class Wire: @unchecked Sendable {
  // Safe because: each wire is used by one thread at a time.
  let descriptor: Int32
  private var buffered: [UInt8] = []

  init(descriptor: Int32) {
    self.descriptor = descriptor
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var one: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
  }

  convenience init(port: UInt16) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else {
      close(descriptor)
      throw WireError.cannotConnect(errno)
    }
    self.init(descriptor: descriptor)
  }

  deinit { close(descriptor) }

  func send(_ text: String) { send(Array(text.utf8)) }

  func send(_ octets: [UInt8]) {
    var sent = 0
    while sent < octets.count {
      let count = octets[sent...].withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else { return }
      sent += count
    }
  }

  /// Ends our direction.
  func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Makes closing a reset.
  func resetOnClose() {
    var now = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
  }

  /// Receives once; empty at the end or after the time limit.
  func receiveSome(_ most: Int = 65536) -> [UInt8] {
    if !buffered.isEmpty {
      defer { buffered = [] }
      return buffered
    }
    return receive(most)
  }

  private func receive(_ most: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: most) { $1 = max(0, recv(descriptor, $0.baseAddress, most, 0)) }
  }

  private func fill() -> Bool {
    let more = receive(65536)
    buffered += more
    return !more.isEmpty
  }

  /// Reads up to and with `mark`.
  func read(through mark: String) throws -> String {
    let wanted = Array(mark.utf8)
    var searched = 0
    while true {
      if buffered.count >= wanted.count {
        for start in max(0, searched - wanted.count)...(buffered.count - wanted.count)
        where buffered[start..<start + wanted.count].elementsEqual(wanted) {
          let text = String(decoding: buffered[..<(start + wanted.count)], as: UTF8.self)
          buffered.removeFirst(start + wanted.count)
          return text
        }
        searched = buffered.count
      }
      guard fill() else { throw WireError.ended(String(decoding: buffered, as: UTF8.self)) }
    }
  }

  /// Reads exactly so many octets.
  func read(_ count: Int) throws -> [UInt8] {
    while buffered.count < count {
      guard fill() else { throw WireError.ended(String(decoding: buffered.prefix(200), as: UTF8.self)) }
    }
    defer { buffered.removeFirst(count) }
    return Array(buffered[..<count])
  }

  /// Reads to the end.
  func readToEnd() -> String {
    while fill() {}
    defer { buffered = [] }
    return String(decoding: buffered, as: UTF8.self)
  }

  /// Whether the peer closes (or resets) without sending another octet.
  func isEnded() -> Bool { buffered.isEmpty && receiveSome().isEmpty }

  /// A response: its head, and its content without the transfer coding.
  struct Response {
    var status: Int
    var head: String
    var body: String
    /// The trailer lines of a chunked one.
    var trailers = ""

    func field(_ name: String) -> String? {
      for line in head.split(separator: "\r\n").dropFirst() {
        let parts = line.split(separator: ":", maxSplits: 1)
        if parts.count == 2, parts[0].lowercased() == name.lowercased() {
          return String(parts[1].drop { $0 == " " })
        }
      }
      return nil
    }
  }

  /// Reads one response by its framing.
  func response(toHead: Bool = false) throws -> Response {
    let head = try read(through: "\r\n\r\n")
    let status = Int(head.split(separator: " ")[1]) ?? 0
    var response = Response(status: status, head: head, body: "")
    if toHead || status == 204 || status == 304 || status < 200 { return response }
    if response.field("Transfer-Encoding") == "chunked" {
      while true {
        let line = try read(through: "\r\n")
        let size = Int(line.dropLast(1), radix: 16) ?? 0
        if size == 0 { break }
        response.body += String(decoding: try read(size), as: UTF8.self)
        _ = try read(2)
      }
      while true {
        let line = try read(through: "\r\n")
        if line == "\r\n" { break }
        response.trailers += line
      }
    } else if let length = response.field("Content-Length").flatMap({ Int($0) }) {
      response.body = String(decoding: try read(length), as: UTF8.self)
    } else {
      response.body = readToEnd()
    }
    return response
  }

  func request(_ text: String) throws -> Response {
    send(text)
    return try response()
  }
}

enum WireError: Error {
  case cannotConnect(Int32)
  case ended(String)
}
