import Bytes
import Encoding
import HTTP2

/// One end of an HTTP/2 connection over a wire, for one thread: what it hears is kept until it is asked for.
final class HTTP2Peer {
  let wire: Wire
  private var session: HTTP2Session
  private(set) var heads: [HTTP2Stream: String] = [:]
  private(set) var trailers: [HTTP2Stream: String] = [:]
  private(set) var content: [HTTP2Stream: [UInt8]] = [:]
  private(set) var order: [HTTP2Stream] = []
  private(set) var ended: Set<HTTP2Stream> = []
  private(set) var resets: [HTTP2Stream: HTTP2ErrorCode] = [:]
  private(set) var isOver = false

  init(_ wire: Wire, _ role: HTTP2Role) {
    self.wire = wire
    session = HTTP2Session(role: role, now: Instant.now().nanoseconds)
  }

  func flush() {
    var frames = ByteBuffer()
    session.takeOutput(into: &frames, limit: 1 << 30)
    takeEvents([])
    if !frames.isEmpty { wire.send(frames.array()) }
  }

  /// Goes on until the condition holds; false where the connection ends first, or is silent for too long.
  func run(until isDone: (HTTP2Peer) -> Bool) -> Bool {
    while !isDone(self) {
      flush()
      let octets = wire.receiveSome()
      guard !octets.isEmpty else {
        isOver = true
        return isDone(self)
      }
      let isWell = octets.withUnsafeBytes { octets in
        do throws(HTTP2Error) {
          try session.receive(octets, now: Instant.now().nanoseconds)
          return true
        } catch { return false }
      }
      guard isWell else { return false }
      takeEvents(octets)
      flush()
    }
    return true
  }

  private func takeEvents(_ octets: [UInt8]) {
    while let event = session.nextEvent() {
      switch event {
      case .head(let stream, let range, let endsStream, _):
        heads[stream] = session.withHeadOctets { String(decoding: $0[range], as: UTF8.self) }
        order.append(stream)
        if endsStream { ended.insert(stream) }
      case .data(let stream, let range):
        content[stream, default: []] += octets[range]
        session.consumed(stream, range.count)
      case .trailers(let stream, let range): trailers[stream] = session.withHeadOctets { String(decoding: $0[range], as: UTF8.self) }
      case .ended(let stream): ended.insert(stream)
      case .reset(let stream, let code): resets[stream] = code
      case .closed, .writable, .goAway, .settings: break
      }
    }
  }

  // MARK: What it says

  func request(_ text: String, endsStream: Bool = true) throws -> HTTP2Stream {
    var text = text
    return try text.withUTF8 { octets in try session.request(UnsafeRawBufferPointer(octets), endsStream: endsStream) }
  }

  func answer(_ stream: HTTP2Stream, _ head: String, _ content: String = "", trailers: String = "", ends: Bool = true) {
    var (head, content, trailers) = (head, content, trailers)
    let isAll = content.isEmpty && trailers.isEmpty && ends
    head.withUTF8 { octets in try? session.submitHead(stream, UnsafeRawBufferPointer(octets), endsStream: isAll) }
    guard !isAll else { return flush() }
    content.withUTF8 { octets in _ = session.send(stream, UnsafeRawBufferPointer(octets)) }
    if ends { trailers.withUTF8 { octets in session.end(stream, trailers: UnsafeRawBufferPointer(octets)) } }
    flush()
  }

  func send(_ stream: HTTP2Stream, _ content: String, ends: Bool) {
    var content = content
    content.withUTF8 { octets in _ = session.send(stream, UnsafeRawBufferPointer(octets)) }
    if ends { session.end(stream) }
    flush()
  }

  func reset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
    session.reset(stream, code)
    flush()
  }

  /// Takes no requests that have not been answered, and says so.
  func goAway() {
    session.finishDrain()
    flush()
  }
}
