import Encoding
import HTTP

/// Speaks HTTP/1.1 over one connection, one exchange at a time.
///
/// It blocks its caller, never longer than its limits say. What has arrived and is not yet used stays in one fixed buffer,
/// so an answer of any size costs the same memory.
final class HTTPConnection {
  /// The octets of the buffer: room for the largest head, and a step of a body.
  static let bufferByteCount = 65536

  let origin: WebAddress
  /// The time of the last use, for the age limit of idle connections.
  private(set) var lastUse = Instant.now()

  private var carrier: Carrier
  private let limits: HTTPLimits
  private var deadline: Instant?
  private var buffer = [UInt8](repeating: 0, count: HTTPConnection.bufferByteCount)
  private var start = 0
  private var end = 0
  private var head = ResponseHead()
  private var mustClose = false
  /// Whether an exchange is under way.
  private(set) var isLent = false

  init(carrier: consuming Carrier, origin: WebAddress, limits: HTTPLimits) {
    self.carrier = carrier
    self.origin = origin
    self.limits = limits
  }

  /// Whether another request may be sent: all of the last answer was read, and the server has not closed.
  var isReusable: Bool { !mustClose && start == end && carrier.isQuiet() }

  /// Notes the start of an exchange that has to end by the deadline, where there is one.
  func lend(until deadline: Instant?) {
    isLent = true
    self.deadline = deadline
  }

  /// Notes the end of an exchange, its body read.
  func rest() {
    lastUse = Instant.now()
    isLent = false
  }

  /// Keeps the connection from being used again.
  func spoil() { mustClose = true }

  /// Whether no further request will be sent, now or later.
  var isSpoiled: Bool { mustClose }

  /// The earlier of the limit of this wait and the one for everything.
  private func limit(_ duration: Duration) -> Instant {
    let end = Instant.now() + duration
    return deadline.map { $0 < end ? $0 : end } ?? end
  }

  private func timeout(_ phase: AgentError.Phase) -> AgentError {
    if let deadline, Instant.now() >= deadline { return .timeout(.whole) }
    return .timeout(phase)
  }

  // MARK: - Sending

  /// Sends a request and reads the final answer's head.
  ///
  /// A server may answer before it has read everything (a 402 usually does); the rest is then not sent, and the connection
  /// is not used again.
  func exchange(
    head octets: [UInt8], content: RequestContent, expectsContinue: Bool, isHead: Bool
  ) throws(AgentError) -> ReceivedHead {
    let method: Method = isHead ? .head : .get
    var interim = 0
    var final = try send(octets[...], method: method, interim: &interim)
    if final == nil, expectsContinue {
      final = try awaitHead(method, until: limit(limits.continueWait), interim: &interim, stopsAtContinue: true)
      if final != nil { mustClose = true }
    }
    if final == nil {
      _ = try content.forEachStep { (step) throws(AgentError) in
        final = try send(step, method: method, interim: &interim)
        return final == nil
      }
      if final != nil { mustClose = true }
    }
    if let final { return final }
    let until = limit(limits.head)
    guard let answer = try awaitHead(method, until: until, interim: &interim, stopsAtContinue: false) else {
      throw timeout(.awaitingHead)
    }
    return answer
  }

  private func send(
    _ octets: ArraySlice<UInt8>, method: Method, interim: inout Int
  ) throws(AgentError) -> ReceivedHead? {
    let result: Result<ReceivedHead?, AgentError> = octets.withUnsafeBytes { buffer in
      do throws(AgentError) {
        return .success(try send(buffer, method: method, interim: &interim))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// Sends all octets, or stops at a final answer.
  private func send(
    _ octets: UnsafeRawBufferPointer, method: Method, interim: inout Int
  ) throws(AgentError) -> ReceivedHead? {
    var sent = 0
    var until = limit(limits.writeStall)
    while sent < octets.count {
      let ready = carrier.wait(for: [.writable, .readable], until: until)
      if ready.isEmpty { throw timeout(.sending) }
      if ready.contains(.readable) {
        // The socket stays readable after the server's close, so the answer that precedes it is looked for first.
        switch try fill(.sending) {
        case .some: if let answer = try decodeHead(method, interim: &interim) { return answer }
        case .silent: break
        case .closed: throw .connectionLost(.sending, code: 0)
        }
      }
      guard ready.contains(.writable) else { continue }
      let count: Int
      do throws(AgentError) {
        count = try carrier.send(UnsafeRawBufferPointer(rebasing: octets[sent...]))
      } catch {
        // A server that refuses a large request answers and closes; the answer says more than the broken pipe.
        guard case .some? = try? fill(.sending), let answer = try decodeHead(method, interim: &interim) else { throw error }
        mustClose = true
        return answer
      }
      if count > 0 { until = limit(limits.writeStall) }
      sent += count
    }
    return nil
  }

  // MARK: - Receiving

  enum Fill { case some, silent, closed }

  /// Takes what has arrived into the buffer; never waits.
  private func fill(_ phase: AgentError.Phase) throws(AgentError) -> Fill {
    if start == end {
      start = 0
      end = 0
    } else if end == buffer.count {
      guard start > 0 else { throw .responseTooLarge }
      buffer.replaceSubrange(0..<(end - start), with: buffer[start..<end])
      end -= start
      start = 0
    }
    let from = end
    let result: Result<StreamSocket.Receipt, AgentError> = buffer.withUnsafeMutableBytes { storage in
      do throws(AgentError) {
        return .success(try carrier.receive(into: UnsafeMutableRawBufferPointer(rebasing: storage[from...]), phase: phase))
      } catch {
        return .failure(error)
      }
    }
    switch try result.get() {
    case .octets(let count):
      end += count
      return .some
    case .wouldBlock: return .silent
    case .closed: return .closed
    }
  }

  /// Waits for octets until `until`.
  private func waitForOctets(_ phase: AgentError.Phase, until: Instant) throws(AgentError) -> Fill {
    while true {
      let result = try fill(phase)
      guard case .silent = result else { return result }
      if carrier.wait(for: .readable, until: until).isEmpty { return .silent }
    }
  }

  /// Reads heads until a final one; nil where the time passed, or the server said to continue and that was waited for.
  private func awaitHead(
    _ method: Method, until: Instant, interim: inout Int, stopsAtContinue: Bool
  ) throws(AgentError) -> ReceivedHead? {
    while true {
      let before = interim
      if let answer = try decodeHead(method, interim: &interim) { return answer }
      if stopsAtContinue, interim > before { return nil }
      switch try waitForOctets(.awaitingHead, until: until) {
      case .some: continue
      case .silent: return nil
      case .closed: throw .connectionLost(.awaitingHead, code: 0)
      }
    }
  }

  /// Decodes a final head from the buffer, counting the interim ones before it.
  private func decodeHead(_ method: Method, interim: inout Int) throws(AgentError) -> ReceivedHead? {
    while start < end {
      let result: Result<ReceivedHead?, HTTPError> = buffer.withUnsafeBytes { storage in
        let octets = UnsafeRawBufferPointer(rebasing: storage[start..<end])
        do throws(HTTPError) {
          let isComplete = try ResponseDecoder.decode(octets, limits: .standard, requestMethod: method, into: &head)
          return .success(isComplete ? ReceivedHead(head, octets) : nil)
        } catch {
          return .failure(error)
        }
      }
      switch result {
      case .failure(let error): throw .malformedResponse(error)
      case .success(nil): return nil
      case .success(let received?):
        start += head.byteCount
        let keepsAlive = head.keepAlive
        head.reset()
        guard received.status < 200 else {
          if !keepsAlive || received.framing == .untilClose { mustClose = true }
          return received
        }
        interim += 1
        guard interim <= HTTPLimits.interimLimit else { throw .responseTooLarge }
      }
    }
    return nil
  }

  /// Lends the octets of a body that have arrived, waiting for some until `until`.
  ///
  /// - Parameter use: gets all that is there and says how many octets it used up.
  func read<R>(
    until: Instant?, _ use: (UnsafeRawBufferPointer) throws(AgentError) -> (result: R, byteCount: Int)
  ) throws(AgentError) -> BodyRead<R> {
    if start == end {
      let last = limit(limits.bodySilence)
      let wanted = until.map { $0 < last ? $0 : last } ?? last
      switch try waitForOctets(.receivingBody, until: wanted) {
      case .some: break
      case .closed: return .closed
      case .silent:
        if let until, Instant.now() >= until { return .silent }
        throw timeout(.receivingBody)
      }
    }
    let result: Result<(result: R, byteCount: Int), AgentError> = buffer.withUnsafeBytes { storage in
      do throws(AgentError) {
        return .success(try use(UnsafeRawBufferPointer(rebasing: storage[start..<end])))
      } catch {
        return .failure(error)
      }
    }
    let used = try result.get()
    start += used.byteCount
    return .some(used.result)
  }
}

/// What reading from a connection brought.
enum BodyRead<R> {
  case some(R)
  case silent
  case closed
}
