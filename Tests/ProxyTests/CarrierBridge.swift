import Bytes
import Foundation
import Glibc
import HTTP
import HTTP2
import IO
import TLS

/// Carries what a test says in HTTP/1.1 on one end of a socket pair to a proxy that is spoken to otherwise. Its protocols are the
/// modules under test, as a client: that they agree with anybody else's is for the end-to-end tests.
struct CarrierBridge: ~Copyable {
  /// An engine at a place of its own, since optional values without copies cannot be looked into.
  private final class Engine {
    var tls: TLSEngine
    init(_ tls: consuming TLSEngine) { self.tls = tls }
  }

  private static let chunk = 64 << 10

  private let inner: Int32
  private let remote: Int32
  private let carrier: Carrier
  private var engine: Engine?
  private var http2: HTTP2Session?
  private var toRemote = ByteBuffer()
  /// Received from the test and not passed on yet.
  private var input: [UInt8] = []
  private var isDone = false

  // The exchange.
  private var stream: HTTP2Stream?
  private var head = RequestHead()
  private var progress = BodyFraming.none
  private var decoder = ChunkedDecoder()
  private var isRequestWhole = true
  private var isChunked = false
  private var isFull = false
  /// Content out of chunks that the session has not taken.
  private var unchunked: [UInt8] = []
  private var isLastChunkSeen = false

  static func connect(_ port: UInt16, _ carrier: Carrier) throws -> Wire {
    var pair: [Int32] = [0, 0]
    socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair)
    let wire = try Wire(port: port)
    let remote = withExtendedLifetime(wire) { dup(wire.descriptor) }
    let inner = pair[1]
    _ = try LoopThread(name: "bridge") {
      guard var bridge = CarrierBridge(inner: inner, remote: remote, carrier) else { return }
      bridge.run()
    }
    return Wire(descriptor: pair[0])
  }

  private init?(inner: Int32, remote: Int32, _ carrier: Carrier) {
    self.inner = inner
    self.remote = remote
    self.carrier = carrier
    if carrier.isSecure {
      guard let context = try? TLSClientContext(trust: .insecure, protocols: carrier == .h2 ? [.http2] : [.http1]),
        let engine = try? TLSEngine(client: context, serverName: "localhost")
      else { return nil }
      self.engine = Engine(engine)
    }
    if carrier.isHTTP2 { http2 = HTTP2Session(role: .client(isSecure: carrier == .h2), now: 0) }
  }

  deinit {
    close(inner)
    close(remote)
  }

  private mutating func run() {
    if engine != nil { try? engine?.tls.start(output: &toRemote) }
    while !isDone {
      flush()
      // A peer that has closed is told apart from one that has only finished by the hang-up.
      var watched = [pollfd(fd: remote, events: Int16(POLLIN), revents: 0), pollfd(fd: inner, events: wantsInner ? Int16(POLLIN) : 0, revents: 0)]
      guard poll(&watched, 2, 15_000) > 0 else { return }
      if watched[0].revents != 0 { readRemote() }
      if Int32(watched[1].revents) & POLLHUP != 0, isDone || carrier.isHTTP2 {
        leave()
        return
      }
      if watched[1].revents != 0 { readInner() }
    }
  }

  private var wantsInner: Bool {
    guard carrier.isHTTP2 else { return isEstablished }
    return isEstablished && !isFull && !(stream != nil && isRequestWhole)
  }

  private var isEstablished: Bool {
    engine?.tls.isEstablished ?? true
  }

  private mutating func leave() {
    if let stream { http2?.reset(stream, .cancel) }
    flush()
  }

  // MARK: The proxy's side

  private mutating func flush() {
    if http2 != nil, isEstablished {
      var frames = ByteBuffer()
      http2?.takeOutput(into: &frames, limit: .max / 2)
      takeEvents([])
      frames.withUnsafeBytes { octets in
        if engine == nil { toRemote.append(octets) } else { try? engine?.tls.send(octets, output: &toRemote) }
      }
    }
    toRemote.withUnsafeBytes { if !Self.sendAll(remote, $0) { isDone = true } }
    toRemote.removeAll()
  }

  private static func sendAll(_ descriptor: Int32, _ octets: UnsafeRawBufferPointer) -> Bool {
    var sent = 0
    while sent < octets.count {
      let count = send(descriptor, octets.baseAddress! + sent, octets.count - sent, Int32(MSG_NOSIGNAL))
      guard count > 0 else { return false }
      sent += count
    }
    return true
  }

  private mutating func readRemote() {
    var octets = [UInt8](repeating: 0, count: Self.chunk)
    let count = recv(remote, &octets, octets.count, 0)
    guard count > 0 else {
      // An unannounced end of TLS is a cut, as is one in the middle of a stream.
      isDone = true
      return
    }
    octets.removeLast(octets.count - count)
    if engine != nil {
      var plain = [UInt8](repeating: 0, count: count + TLSEngine.slack)
      var got: Int?
      plain.withUnsafeMutableBytes { plain in
        octets.withUnsafeBytes { got = try? engine?.tls.receive($0, into: plain, output: &toRemote) }
      }
      guard let got else {
        isDone = true
        return
      }
      octets = Array(plain[..<got])
      if engine!.tls.isEnded { isDone = true }
    }
    guard !octets.isEmpty else { return }
    if http2 == nil {
      if !octets.withUnsafeBytes({ Self.sendAll(inner, $0) }) { isDone = true }
      return
    }
    octets.withUnsafeBytes { _ = try? http2?.receive($0, now: 0) }
    takeEvents(octets)
  }

  private mutating func takeEvents(_ octets: [UInt8]) {
    while let event = http2?.nextEvent() {
      switch event {
      case .head(_, let range, let endsStream, _):
        let head = http2!.withHeadOctets { Array($0[range]) }
        write(head: head, endsStream: endsStream)
        if endsStream { responseDone() }
      case .data(let stream, let range):
        if isChunked { write("\(String(range.count, radix: 16))\r\n") }
        write(Array(octets[range]))
        if isChunked { write("\r\n") }
        http2?.consumed(stream, range.count)
      case .trailers(_, let range):
        let lines = http2!.withHeadOctets { Array($0[range]) }
        if isChunked { write("0\r\n" + String(decoding: lines, as: UTF8.self) + "\r\n") }
        isChunked = false
      case .ended:
        if isChunked { write("0\r\n\r\n") }
        responseDone()
      case .writable: isFull = false
      case .reset(let stream, let code):
        if code == .noError || stream != self.stream { continue }
        isDone = true
      case .closed, .goAway, .settings: break
      }
      pump()
    }
  }

  private mutating func responseDone() {
    stream = nil
    isFull = false
    // A request whose content nobody wants any more cannot be followed by another.
    if !isRequestWhole { isDone = true }
  }

  private mutating func write(head octets: [UInt8], endsStream: Bool) {
    var text = Self.capitalised(String(decoding: octets, as: UTF8.self))
    let status = Int(text.split(separator: " ")[1]) ?? 0
    isChunked = false
    if status >= 200, status != 204, status != 304, head.method != .head, !text.lowercased().contains("\r\ncontent-length:") {
      text.removeLast(1)
      isChunked = !endsStream
      text += isChunked ? "Transfer-Encoding: chunked\r\n\r\n" : "Content-Length: 0\r\n\r\n"
    }
    write(text)
  }

  /// Spells names as HTTP/1.1 servers mostly do.
  private static func capitalised(_ head: String) -> String {
    let lines = head.components(separatedBy: "\r\n").enumerated().map { number, line in
      guard number > 0, let colon = line.firstIndex(of: ":") else { return line }
      let name = line[..<colon].split(separator: "-").map { $0 == "www" ? "WWW" : $0.capitalized }.joined(separator: "-")
      return name + line[colon...]
    }
    return lines.joined(separator: "\r\n")
  }

  private mutating func write(_ text: String) { write(Array(text.utf8)) }

  private mutating func write(_ octets: [UInt8]) {
    if !octets.withUnsafeBytes({ Self.sendAll(inner, $0) }) {
      leave()
      isDone = true
    }
  }

  // MARK: The test's side

  private mutating func readInner() {
    var octets = [UInt8](repeating: 0, count: Self.chunk)
    let count = recv(inner, &octets, octets.count, 0)
    guard count > 0 else {
      if engine != nil { engine?.tls.end(output: &toRemote) }
      flush()
      shutdown(remote, Int32(SHUT_WR))
      isDone = true
      // What the proxy still answers is passed on.
      while http2 == nil, engine == nil {
        var rest = [UInt8](repeating: 0, count: Self.chunk)
        let count = recv(remote, &rest, rest.count, 0)
        guard count > 0, rest[..<count].withUnsafeBytes({ Self.sendAll(inner, $0) }) else { return }
      }
      return
    }
    octets.removeLast(octets.count - count)
    if http2 == nil {
      octets.withUnsafeBytes { octets in try? engine?.tls.send(octets, output: &toRemote) }
      return
    }
    input += octets
    pump()
  }

  /// Passes on what the test has said of requests, one at a time.
  private mutating func pump() {
    while !input.isEmpty || !isRequestWhole {
      if stream == nil {
        guard !input.isEmpty, beginRequest() else { return }
      } else if !isRequestWhole, !isFull {
        guard passContent() else { return }
      } else {
        return
      }
    }
  }

  private mutating func beginRequest() -> Bool {
    head.reset()
    let octets = input
    let isComplete = octets.withUnsafeBytes { try? RequestDecoder.decode($0, limits: HeadLimits(requestLine: 65536, head: 65536, fieldCount: 1000), into: &head) }
    guard isComplete == true else { return false }
    progress = head.framing
    if progress == .length(0) { progress = .none }
    isRequestWhole = progress == .none
    decoder.reset()
    let count = head.byteCount
    let isWhole = isRequestWhole
    octets.withUnsafeBytes { octets in
      stream = try? http2?.request(UnsafeRawBufferPointer(rebasing: octets[..<count]), endsStream: isWhole)
    }
    input.removeFirst(count)
    if stream == nil { isDone = true }
    return stream != nil
  }

  /// Passes content on; false where nothing more can be done now.
  private mutating func passContent() -> Bool {
    guard let stream else { return false }
    if !unchunked.isEmpty || isLastChunkSeen {
      let taken = unchunked.withUnsafeBytes { http2?.send(stream, $0) ?? 0 }
      unchunked.removeFirst(taken)
      isFull = !unchunked.isEmpty
      if isFull { return false }
      if isLastChunkSeen { endRequest() }
      return true
    }
    guard !input.isEmpty else { return false }
    switch progress {
    case .length(let left):
      let some = Array(input.prefix(Int(min(left, 1 << 30))))
      let taken = some.withUnsafeBytes { http2?.send(stream, $0) ?? 0 }
      input.removeFirst(taken)
      isFull = taken < some.count
      progress = .length(left - UInt64(taken))
      if left == UInt64(taken) { endRequest() }
    case .chunked:
      var used = 0
      let octets = input
      let event = octets.withUnsafeBytes { try? decoder.decode($0, consumed: &used) }
      input.removeFirst(used)
      switch event {
      case .data(let range): unchunked = Array(octets[range])
      case .end: isLastChunkSeen = true
      case .needMore: return false
      case nil:
        http2?.reset(stream, .protocolError)
        isDone = true
        return false
      }
    case .none, .untilClose: endRequest()
    }
    return true
  }

  private mutating func endRequest() {
    isRequestWhole = true
    isLastChunkSeen = false
    if let stream { decoder.trailers.withUnsafeBytes { http2?.end(stream, trailers: $0) } }
  }
}
