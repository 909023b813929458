import Bytes
import HTTP
import TLS

/// What is said on one question's connection: a request of HTTP/1.1, inside TLS where there is an engine, and its answer. Octets in,
/// octets out; the socket is the question's.
struct PriceDialogue: ~Copyable {
  /// Octets of an answer's head, and of its content.
  static let headLimit = 16 << 10
  static let contentLimit = 16 << 10
  /// Interim responses before an answer.
  private static let interimLimit = 10

  /// What a pricer answered.
  struct Reply {
    var status: UInt16
    /// Seconds that it holds by its own words; nil where it says nothing.
    var maximumAge: Int64?
    var content: [UInt8]
  }

  enum Progress {
    case more
    case done(Reply)
    case failed
  }

  private let request: [UInt8]
  private var engine: TLSEngine?
  private var isAsked = false
  private var received = ByteBuffer()
  private var plaintext = ByteBuffer()
  private var head = ResponseHead()
  private var hasHead = false
  private var interims = 0
  private var decoder = ChunkedDecoder()
  private var reply = Reply(status: 0, maximumAge: nil, content: [])

  init(_ request: [UInt8], engine: consuming TLSEngine?) {
    self.request = request
    self.engine = engine
  }

  /// The connection stands: appends what is sent first; false where that cannot be made.
  mutating func begin(into output: inout ByteBuffer) -> Bool {
    guard engine != nil else {
      isAsked = true
      output.append(request)
      return true
    }
    do { try engine?.start(output: &output) } catch { return false }
    return true
  }

  /// Takes what came, and appends what is to be sent.
  mutating func receive(_ octets: UnsafeRawBufferPointer, into output: inout ByteBuffer) -> Progress {
    guard engine != nil else {
      received.append(octets)
      return judge(isEnded: false)
    }
    plaintext.removeAll()
    do {
      _ = try plaintext.withUnsafeWritable(minimumCapacity: octets.count + TLSEngine.slack) { (space) throws(TLSError) in
        try engine?.receive(octets, into: space, output: &output) ?? 0
      }
      received.append(plaintext)
      if !isAsked, engine?.isEstablished == true {
        isAsked = true
        let request = self.request
        try request.span.bytes.withUnsafeBytes { (octets) throws(TLSError) in try engine?.send(octets, output: &output) }
      }
    } catch { return .failed }
    return judge(isEnded: engine?.isEnded == true)
  }

  /// The pricer has closed the connection. Inside TLS only its own word ends content that has no other end.
  mutating func ended() -> Progress {
    guard engine == nil || engine?.isEnded == true else { return .failed }
    return judge(isEnded: true)
  }

  private mutating func judge(isEnded: Bool) -> Progress {
    guard hasHead || readHead() else { return .failed }
    guard hasHead else { return isEnded ? .failed : .more }
    switch takeContent(isEnded: isEnded) {
    case .done(let reply): return .done(reply)
    case .failed: return .failed
    case .more: return isEnded ? .failed : .more
    }
  }

  /// Reads the head where it is complete; false where it never will be one.
  private mutating func readHead() -> Bool {
    while true {
      head.reset()
      do {
        let isWhole = try received.withUnsafeBytes { (octets) throws(HTTPError) in
          try ResponseDecoder.decode(octets, limits: HeadLimits(head: Self.headLimit), requestMethod: .post, into: &head)
        }
        guard isWhole else { return received.count <= Self.headLimit }
      } catch { return false }
      guard head.isInterim else { break }
      interims += 1
      guard interims <= Self.interimLimit else { return false }
      received.removeFirst(head.byteCount)
    }
    hasHead = true
    reply.status = head.status
    received.withUnsafeBytes { octets in
      for field in head.fields where field.name == .cacheControl {
        let age = CacheLifetime.seconds(field.value(in: octets))
        if let age { reply.maximumAge = min(reply.maximumAge ?? age, age) }
      }
      // Coded content was not asked for.
      if head.has(.contentEncoding) { reply.status = 0 }
    }
    received.removeFirst(head.byteCount)
    return true
  }

  private mutating func takeContent(isEnded: Bool) -> Progress {
    switch head.framing {
    case .none: return .done(reply)
    case .length(let count):
      guard count <= UInt64(Self.contentLimit) else { return .failed }
      guard received.count >= Int(count) else { return .more }
      reply.content = Array(received.array().prefix(Int(count)))
      return .done(reply)
    case .untilClose:
      guard received.count <= Self.contentLimit else { return .failed }
      guard isEnded else { return .more }
      reply.content = received.array()
      return .done(reply)
    case .chunked: return takeChunks()
    }
  }

  private mutating func takeChunks() -> Progress {
    let octets = received.array()
    received.removeAll()
    var used = 0
    while true {
      let event: ChunkEvent
      do {
        event = try octets.span.bytes.withUnsafeBytes { (octets) throws(HTTPError) in try decoder.decode(octets, consumed: &used) }
      } catch { return .failed }
      switch event {
      case .needMore: return .more
      case .end: return .done(reply)
      case .data(let range):
        guard reply.content.count + range.count <= Self.contentLimit else { return .failed }
        reply.content += octets[range]
      }
    }
  }
}

/// How long an answer may be used again (RFC 9111, section 5.2.2).
enum CacheLifetime {
  /// Reads one `Cache-Control` value: 0 for `no-store` and `no-cache`, the seconds of `max-age`; nil where it says neither.
  static func seconds(_ value: UnsafeRawBufferPointer) -> Int64? {
    var least: Int64?
    for part in String(decoding: value, as: UTF8.self).lowercased().split(separator: ",") {
      let words = part.split(separator: "=", maxSplits: 1).map { $0.filter { $0 != " " && $0 != "\t" && $0 != "\"" } }
      switch words.first {
      case "no-store", "no-cache": least = 0
      case "max-age":
        // What cannot be read holds for nothing.
        let age = words.count == 2 ? UInt32(words[1]).map { Int64($0) } ?? 0 : 0
        least = min(least ?? age, age)
      default: break
      }
    }
    return least
  }
}
