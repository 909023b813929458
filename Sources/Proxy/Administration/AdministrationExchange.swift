import Bytes
import Encoding
import Glibc
import HTTP

/// One request on the operators' socket, and its answer; the connection ends with it.
struct AdministrationExchange: Sendable {
  private let descriptor: Int32
  private let deadline: Instant

  init(_ descriptor: Int32, deadline: Instant) {
    self.descriptor = descriptor
    self.deadline = deadline
  }

  /// A request as far as it concerns us.
  private struct Request: Sendable {
    var method: Method
    var path: String
    var content: [UInt8]

    /// Whether it starts programs, or asks name servers or nodes.
    var takesLong: Bool { path == "/v1/reload" || path == "/v1/upgrade" || path == "/v1/payment/resolve" }
  }

  private struct Reply: Sendable {
    var status: UInt16
    var type: StaticString
    var content: [UInt8]

    static func json(_ status: UInt16, _ value: JSONValue) -> Reply {
      Reply(status: status, type: "application/json", content: JSON.serialize(value) + [0x0A])
    }

    static func failure(_ status: UInt16, _ code: String, _ message: String) -> Reply {
      json(status, ["error": .string(code), "message": .string(message)])
    }
  }

  /// Reads the request, carries it out, writes the answer and closes the connection; a peer that is too slow gets none.
  ///
  /// - Parameter apart: carries out on another thread what may take long; false where it cannot now.
  func run(_ source: AdministrationServer.Source, apart: (@escaping @Sendable (_ release: () -> Void) -> Void) -> Bool) {
    switch read() {
    case .success(let request):
      guard request.takesLong else { return end(answer(request, source)) }
      let isBegun = apart { release in
        let reply = answer(request, source)
        release()
        end(reply)
      }
      if !isBegun { end(Self.busy) }
    case .failure(let failure): end(failure.reply)
    }
  }

  private func end(_ reply: Reply?) {
    if let reply { write(reply) }
    close(descriptor)
  }

  private static let busy = Reply.failure(503, "busy", "another reload or upgrade is under way")

  // MARK: Answering

  private func answer(_ request: Request, _ source: AdministrationServer.Source) -> Reply {
    let isRead = request.method == .get || request.method == .head
    switch request.path {
    case "/metrics":
      guard isRead else { return Self.wrongMethod }
      var text = ByteBuffer()
      source.metrics(&text)
      return Reply(status: 200, type: "text/plain; version=0.0.4; charset=utf-8", content: text.withUnsafeBytes { [UInt8]($0) })
    case "/healthz":
      return isRead ? Reply.json(200, ["status": "ok"]) : Self.wrongMethod
    case "/readyz":
      guard isRead else { return Self.wrongMethod }
      return source.isReady() ? Reply.json(200, ["status": "ready"]) : Reply.json(503, ["status": "not ready"])
    default: break
    }
    guard request.path.hasPrefix("/v1/") else { return .failure(404, "not-found", "there is /metrics, /healthz, /readyz and /v1/<command>") }
    guard request.method == .post else { return Self.wrongMethod }
    return command(String(request.path.dropFirst("/v1/".count)), request.content, source)
  }

  private static let wrongMethod = Reply.failure(405, "method-not-allowed", "commands are posted, everything else is read with GET")

  private func command(_ name: String, _ content: [UInt8], _ source: AdministrationServer.Source) -> Reply {
    if let operation = AdministrationServer.Source.Operation(rawValue: name), let operate = source.operate {
      switch operate(operation) {
      case .success(let value): return .json(200, value)
      case .failure(let failure): return .json(failure.status, failure.json)
      }
    }
    guard let administration = source.administration() else {
      return .json(AdministrationError.noLedger.status, AdministrationError.noLedger.json)
    }
    guard let value = try? JSON.parse(content.isEmpty ? Array("{}".utf8) : content), let object = value.objectValue else {
      return .failure(400, "malformed-json", "the content is no JSON object")
    }
    do throws(AdministrationError) {
      return .json(200, try administration.run(name, object, at: Timestamp.now()))
    } catch {
      return .json(error.status, error.json)
    }
  }

  // MARK: Reading

  /// Why there is no request; without a reply the peer is gone or too slow.
  private struct ReadFailure: Error {
    var reply: Reply?
  }

  private func read() -> Result<Request, ReadFailure> {
    var octets: [UInt8] = []
    var head = RequestHead()
    var needed = Int.max
    let limits = HeadLimits(requestLine: 1024, head: AdministrationServer.headLimit, fieldCount: 50)
    while true {
      if needed == .max {
        switch Self.decode(octets, limits, &head) {
        case .success(false): break
        case .success(true):
          guard let count = Self.contentCount(head.framing) else {
            return .failure(ReadFailure(reply: .failure(411, "length-required", "Content-Length is needed")))
          }
          guard count <= UInt64(AdministrationServer.contentLimit) else {
            return .failure(ReadFailure(reply: .failure(413, "too-large", "the content is longer than 64 KiB")))
          }
          needed = head.byteCount + Int(count)
        case .failure(let error):
          return .failure(ReadFailure(reply: .failure(error.status, "bad-request", "the head breaks a rule of RFC 9112: \(error)")))
        }
      }
      if octets.count >= needed { return .success(request(octets, head, needed)) }
      guard fill(&octets) else { return .failure(ReadFailure(reply: nil)) }
    }
  }

  private static func decode(_ octets: [UInt8], _ limits: HeadLimits, _ head: inout RequestHead) -> Result<Bool, HTTPError> {
    octets.withUnsafeBytes { raw in
      do throws(HTTPError) { return .success(try RequestDecoder.decode(raw, limits: limits, into: &head)) } catch { return .failure(error) }
    }
  }

  private static func contentCount(_ framing: BodyFraming) -> UInt64? {
    switch framing {
    case .none: 0
    case .length(let count): count
    case .chunked, .untilClose: nil
    }
  }

  private func request(_ octets: [UInt8], _ head: RequestHead, _ end: Int) -> Request {
    let target = String(decoding: octets[head.targetRange], as: UTF8.self)
    let path = target.prefix { $0 != "?" }
    return Request(method: head.method, path: String(path), content: Array(octets[head.byteCount..<end]))
  }

  private func fill(_ octets: inout [UInt8]) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 16_384)
    while AdministrationPause.ready(descriptor, POLLIN, until: deadline) {
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count > 0 {
        octets += chunk[..<count]
        return true
      }
      if count < 0, errno == EINTR || errno == EAGAIN { continue }
      return false
    }
    return false
  }

  // MARK: Writing

  private func write(_ reply: Reply) {
    var buffer = ByteBuffer()
    buffer.append("HTTP/1.1 " as StaticString)
    buffer.append(decimal: UInt64(reply.status))
    buffer.append(" \r\ncontent-type: " as StaticString)
    buffer.append(reply.type)
    buffer.append("\r\ncontent-length: " as StaticString)
    buffer.append(decimal: UInt64(reply.content.count))
    buffer.append("\r\ncache-control: no-store\r\nconnection: close\r\n\r\n" as StaticString)
    buffer.append(reply.content)
    // A command may have waited for the disk: taking the answer has a time of its own.
    let deadline = Instant.now() + .seconds(5)
    buffer.withUnsafeBytes { octets in
      var sent = 0
      while sent < octets.count, AdministrationPause.ready(descriptor, POLLOUT, until: deadline) {
        let count = send(descriptor, octets.baseAddress?.advanced(by: sent), octets.count - sent, Int32(MSG_NOSIGNAL))
        if count > 0 {
          sent += count
        } else if errno != EINTR, errno != EAGAIN {
          return
        }
      }
    }
  }
}
