import Foundation
import Glibc
import Synchronization

/// A server on loopback whose every connection is served by a script, so that a test can answer octet by octet, late, or
/// not at all.
final class ScriptedServer: Sendable {
  /// One accepted connection; blocks its own thread, for ten seconds at most.
  struct Connection {
    /// Counts from 0 in the order of acceptance.
    let index: Int
    fileprivate let descriptor: Int32

    /// A request as it came.
    struct Request {
      let head: String
      let body: [UInt8]

      var method: String { String(head.prefix { $0 != " " }) }
      var target: String { String(head.split(separator: " ").dropFirst().first ?? "") }

      func first(_ name: String) -> String? {
        for line in head.components(separatedBy: "\r\n").dropFirst() {
          let parts = line.split(separator: ":", maxSplits: 1)
          if parts.count == 2, parts[0].lowercased() == name { return parts[1].trimmingCharacters(in: .whitespaces) }
        }
        return nil
      }
    }

    /// Reads a request, its body by `Content-Length`; nil where the client is gone.
    func request(awaitingBody: Bool = true) -> Request? {
      var octets: [UInt8] = []
      while true {
        if let end = octets.firstRange(of: Array("\r\n\r\n".utf8)) {
          let head = String(decoding: octets[..<end.lowerBound], as: UTF8.self)
          var body = Array(octets[end.upperBound...])
          let request = Request(head: head, body: [])
          let count = awaitingBody ? Int(request.first("content-length") ?? "0") ?? 0 : 0
          while body.count < count {
            guard let more = receive() else { return nil }
            body += more
          }
          return Request(head: head, body: body)
        }
        guard let more = receive() else { return nil }
        octets += more
      }
    }

    func receive() -> [UInt8]? {
      var chunk = [UInt8](repeating: 0, count: 65536)
      let count = recv(descriptor, &chunk, chunk.count, 0)
      return count > 0 ? Array(chunk[..<count]) : nil
    }

    @discardableResult
    func send(_ octets: some Collection<UInt8>) -> Bool {
      var rest = Array(octets)[...]
      while !rest.isEmpty {
        let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard count > 0 else { return false }
        rest = rest.dropFirst(count)
      }
      return true
    }

    @discardableResult
    func send(_ text: String) -> Bool { send(text.utf8) }

    /// Ends the connection so that the client sees a reset rather than an end.
    func reset() {
      var option = linger(l_onoff: 1, l_linger: 0)
      _ = setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }
  }

  let port: UInt16
  private let descriptor: Int32

  /// Starts a server; `script` runs once for every connection, which is closed when it returns.
  init(_ script: @escaping @Sendable (Connection) -> Void) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        _ = bind(listener, address, size)
        listen(listener, 64)
        _ = getsockname(listener, address, &size)
      }
    }
    descriptor = listener
    port = UInt16(bigEndian: address.sin_port)
    let count = Box(0)
    Thread.detachNewThread {
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return }
        var on: Int32 = 1
        setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let index = count.next()
        Thread.detachNewThread {
          script(Connection(index: index, descriptor: connection))
          close(connection)
        }
      }
    }
  }

  deinit {
    shutdown(descriptor, Int32(SHUT_RDWR))
    close(descriptor)
  }

  var url: String { "http://127.0.0.1:\(port)" }

  private final class Box: Sendable {
    private let value: Mutex<Int>
    init(_ start: Int) { value = Mutex(start) }
    func next() -> Int {
      value.withLock { value in
        defer { value += 1 }
        return value
      }
    }
  }
}

/// Collects what several threads saw.
final class Journal<Element: Sendable>: Sendable {
  private let elements = Mutex<[Element]>([])

  func add(_ element: Element) { elements.withLock { $0.append(element) } }
  var all: [Element] { elements.withLock { $0 } }
}
