import Bytes
import HTTP
import TLS

/// What is said on one connection to a service: requests of HTTP/1.1, one after another, inside TLS where there is an engine, and their
/// answers. Octets in, octets out; the socket is the connection's.
struct ServiceDialogue: ~Copyable {
  /// Octets of an answer's head, and of its content where the call says nothing else.
  static let headLimit = 16 << 10
  static let contentLimit = 16 << 10
  /// Interim responses before an answer.
  private static let interimLimit = 10

  enum Progress {
    case more
    case done(ServiceReply)
    case failed
  }

  private var request: [UInt8]
  private var limit: Int
  private var engine: TLSEngine?
  /// Whether octets of the request have been handed to the connection.
  private(set) var isAsked = false
  /// Whether an octet of the answer has come.
  private(set) var isAnswered = false
  /// Whether another request may follow: the answer was whole, and neither side ends the connection with it.
  private(set) var isReusable = false
  private var received = ByteBuffer()
  private var plaintext = ByteBuffer()
  private var head = ResponseHead()
  private var hasHead = false
  private var interims = 0
  private var decoder = ChunkedDecoder()
  private var reply = ServiceReply(status: 0, maximumAge: nil, content: [])

  init(_ request: [UInt8], limit: Int = contentLimit, engine: consuming TLSEngine?) {
    self.request = request
    self.limit = limit
    self.engine = engine
  }

  /// Says the next request on the connection, whose last answer was whole; false where that cannot be.
  mutating func ask(_ request: [UInt8], limit: Int, into output: inout ByteBuffer) -> Bool {
    guard isReusable else { return false }
    self.request = request
    self.limit = limit
    isAsked = false
    isAnswered = false
    isReusable = false
    hasHead = false
    interims = 0
    decoder = ChunkedDecoder()
    reply = ServiceReply(status: 0, maximumAge: nil, content: [])
    return say(into: &output)
  }

  /// Hands the request to the connection.
  private mutating func say(into output: inout ByteBuffer) -> Bool {
    isAsked = true
    guard engine != nil else {
      output.append(request)
      return true
    }
    let request = self.request
    do {
      try request.span.bytes.withUnsafeBytes { (octets) throws(TLSError) in try engine?.send(octets, output: &output) }
    } catch { return false }
    return true
  }

  /// The connection stands: appends what is sent first; false where that cannot be made.
  mutating func begin(into output: inout ByteBuffer) -> Bool {
    guard engine != nil else { return say(into: &output) }
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
    } catch { return .failed }
    if !isAsked, engine?.isEstablished == true {
      guard say(into: &output) else { return .failed }
    }
    return judge(isEnded: engine?.isEnded == true)
  }

  /// The service has closed the connection. Inside TLS only its own word ends content that has no other end.
  mutating func ended() -> Progress {
    guard engine == nil || engine?.isEnded == true else { return .failed }
    return judge(isEnded: true)
  }

  /// Takes what came while nothing was asked: false where the connection is of no more use. TLS has things to say then, HTTP has not.
  mutating func receiveIdle(_ octets: UnsafeRawBufferPointer, into output: inout ByteBuffer) -> Bool {
    guard engine != nil else { return false }
    plaintext.removeAll()
    do {
      _ = try plaintext.withUnsafeWritable(minimumCapacity: octets.count + TLSEngine.slack) { (space) throws(TLSError) in
        try engine?.receive(octets, into: space, output: &output) ?? 0
      }
    } catch { return false }
    return plaintext.isEmpty && engine?.isEnded != true
  }

  private mutating func judge(isEnded: Bool) -> Progress {
    if !received.isEmpty { isAnswered = true }
    // What was not asked for is no answer.
    guard isAsked || received.isEmpty else { return .failed }
    guard hasHead || readHead() else { return .failed }
    guard hasHead else { return isEnded ? .failed : .more }
    switch takeContent(isEnded: isEnded) {
    case .done(let reply):
      // Octets behind the answer belong to nothing that was asked.
      isReusable = !isEnded && head.keepAlive && received.isEmpty && head.framing != .untilClose
      return .done(reply)
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
      guard count <= UInt64(limit) else { return .failed }
      guard received.count >= Int(count) else { return .more }
      reply.content = Array(received.array().prefix(Int(count)))
      received.removeFirst(Int(count))
      return .done(reply)
    case .untilClose:
      guard received.count <= limit else { return .failed }
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
      case .end:
        octets.withUnsafeBytes { received.append(UnsafeRawBufferPointer(rebasing: $0[used...])) }
        return .done(reply)
      case .data(let range):
        guard reply.content.count + range.count <= limit else { return .failed }
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
