import Bytes
import Configuration
import Encoding
import HTTP
import HTTP2
import TLS

/// What is said on one check's connection: a request and as much of its answer as tells the status, in HTTP/1.1 or HTTP/2, with
/// TLS or without. Octets in, octets out; the socket is the check's.
struct CheckDialogue: ~Copyable {
  /// Octets of an answer's head before the check has failed.
  private static let headLimit = 16 << 10

  /// What is asked, and what is heard.
  struct Question: Sendable {
    /// The request as HTTP/1.1 octets; nil where a connection is all that is asked for.
    var request: [UInt8]?
    var statuses: Settings.StatusSet
    /// Whether HTTP/2 is spoken without having been agreed on.
    var assumesHTTP2 = false
  }

  private let question: Question
  private var engine: TLSEngine?
  private var session: HTTP2Session?
  private var isAsked = false
  /// What has come of an HTTP/1.1 answer.
  private var answer = ByteBuffer()
  private var plaintext = ByteBuffer()
  private var head = ResponseHead()

  /// Prepares a dialogue, inside TLS where there is an engine.
  init(_ question: Question, engine: consuming TLSEngine?) {
    self.question = question
    self.engine = engine
  }

  /// The connection stands: appends what is sent first; whether the check passed, where that is known.
  mutating func begin(into output: inout ByteBuffer, at now: Instant) -> Bool? {
    guard engine != nil else { return ask(&output, now) }
    do { try engine?.start(output: &output) } catch { return false }
    return nil
  }

  /// Takes what came, and appends what is to be sent; whether the check passed, once that is known.
  mutating func receive(_ octets: UnsafeRawBufferPointer, into output: inout ByteBuffer, at now: Instant) -> Bool? {
    guard engine != nil else { return take(octets, &output, now) }
    plaintext.removeAll()
    do {
      _ = try plaintext.withUnsafeWritable(minimumCapacity: octets.count + TLSEngine.slack) { (space) throws(TLSError) in
        try engine?.receive(octets, into: space, output: &output) ?? 0
      }
    } catch { return false }
    if !isAsked, engine?.isEstablished == true, let passed = ask(&output, now) { return passed }
    var plain = ByteBuffer()
    swap(&plain, &plaintext)
    defer { swap(&plain, &plaintext) }
    return plain.isEmpty ? nil : plain.withUnsafeBytes { take($0, &output, now) }
  }

  private mutating func ask(_ output: inout ByteBuffer, _ now: Instant) -> Bool? {
    isAsked = true
    guard let request = question.request else { return true }
    guard question.assumesHTTP2 || engine?.applicationProtocol == .http2 else {
      return request.withUnsafeBytes { put($0, &output) } ? nil : false
    }
    session = HTTP2Session(role: .client(isSecure: engine != nil), now: now.nanoseconds)
    do { _ = try request.withUnsafeBytes { (octets) throws(HTTP2Error) in try session?.request(octets, endsStream: true) } } catch { return false }
    return sendFrames(&output) ? nil : false
  }

  /// Appends octets as the connection carries them; false where TLS is over.
  private mutating func put(_ octets: UnsafeRawBufferPointer, _ output: inout ByteBuffer) -> Bool {
    guard engine != nil else {
      output.append(octets)
      return true
    }
    do { try engine?.send(octets, output: &output) } catch { return false }
    return true
  }

  private mutating func take(_ octets: UnsafeRawBufferPointer, _ output: inout ByteBuffer, _ now: Instant) -> Bool? {
    guard session != nil else {
      answer.append(octets)
      return judge()
    }
    do { try session?.receive(octets, now: now.nanoseconds) } catch { return false }
    while let event = session?.nextEvent() {
      switch event {
      case .head(_, let range, _, _):
        var status: UInt16?
        session?.withHeadOctets { octets in
          head.reset()
          let isWhole = try? ResponseDecoder.decode(
            UnsafeRawBufferPointer(rebasing: octets[range]), limits: HeadLimits(head: Self.headLimit), requestMethod: .get, into: &head)
          if isWhole == true { status = head.status }
        }
        guard let status else { return false }
        if status >= 200 { return question.statuses.contains(status) }
      case .ended, .closed, .reset, .goAway: return false
      case .data, .trailers, .writable, .settings: break
      }
    }
    return sendFrames(&output) ? nil : false
  }

  private mutating func sendFrames(_ output: inout ByteBuffer) -> Bool {
    var frames = ByteBuffer()
    session?.takeOutput(into: &frames, limit: Self.headLimit)
    return frames.isEmpty || frames.withUnsafeBytes { put($0, &output) }
  }

  /// Looks at what has come of an answer; interim ones are passed over.
  private mutating func judge() -> Bool? {
    while true {
      head.reset()
      do {
        let isWhole = try answer.withUnsafeBytes { (octets) throws(HTTPError) in
          try ResponseDecoder.decode(octets, limits: HeadLimits(head: Self.headLimit), requestMethod: .get, into: &head)
        }
        guard isWhole else { return answer.count > Self.headLimit ? false : nil }
      } catch { return false }
      guard head.isInterim else { return question.statuses.contains(head.status) }
      answer.removeFirst(head.byteCount)
    }
  }
}
