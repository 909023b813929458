import Encoding
import Foundation
import HTTP
import TLS

/// Sends requests and keeps connections for the next one.
///
/// It follows no redirect and repeats nothing: what may be sent again is for the payment's progress to decide.
final class HTTPClient {
  let limits: HTTPLimits
  /// Allows plain HTTP to hosts other than this machine.
  let allowsPlaintext: Bool
  /// The end of the time for everything, nil where there is none.
  private var deadline: Instant?
  private var idle: [HTTPConnection] = []
  private var context: TLSClientContext?

  init(limits: HTTPLimits, allowsPlaintext: Bool) {
    self.limits = limits
    self.allowsPlaintext = allowsPlaintext
  }

  /// Starts the time that a call may take altogether.
  func restartClock(at now: Instant) { deadline = limits.whole.map { now + $0 } }

  /// Waits, no longer than everything may take.
  func pause(for duration: Duration) throws(AgentError) {
    guard let deadline, Instant.now() + duration >= deadline else { return Pause.wait(for: duration) }
    Pause.wait(for: deadline - Instant.now())
    throw .timeout(.whole)
  }

  /// Sends one request and reads the head of its answer.
  ///
  /// - Parameter extra: the agent's own fields, such as a credential; they follow the caller's.
  func send(_ request: AgentRequest, extra: [AgentRequest.Field] = []) throws(AgentError) -> (ReceivedHead, ResponseBody) {
    let address = request.address
    guard address.scheme == .https || address.isLoopback || allowsPlaintext else { throw .plaintextRefused(host: address.host) }
    let byteCount = try request.content.byteCount()
    let expects = byteCount >= HTTPLimits.expectByteCount
    let head = Self.head(of: request, extra: extra, byteCount: byteCount, expects: expects)
    let connection = try connect(to: address)
    let received: ReceivedHead
    do throws(AgentError) {
      received = try connection.exchange(
        head: head, content: request.content, expectsContinue: expects, isHead: request.isHead)
    } catch {
      connection.spoil()
      throw error
    }
    let body = ResponseBody(connection: connection, framing: received.framing)
    keep(connection)
    return (received, body)
  }

  /// The idle list holds connections whose body is still being read too: they become reusable at its end.
  private func keep(_ connection: HTTPConnection) {
    guard !idle.contains(where: { $0 === connection }) else { return }
    idle.removeAll { $0.isSpoiled }
    if idle.count >= HTTPLimits.idleConnectionLimit { idle.removeFirst() }
    idle.append(connection)
  }

  private func connect(to address: WebAddress) throws(AgentError) -> HTTPConnection {
    let now = Instant.now()
    if let deadline, now >= deadline { throw .timeout(.whole) }
    idle.removeAll { connection in
      !connection.isLent && (!connection.isReusable || now - connection.lastUse >= limits.idleAge)
    }
    if let connection = idle.first(where: { !$0.isLent && $0.origin.hasSameOrigin(as: address) }) {
      connection.lend(until: deadline)
      return connection
    }
    let connection = HTTPConnection(carrier: try carrier(to: address), origin: address, limits: limits)
    connection.lend(until: deadline)
    return connection
  }

  private func carrier(to address: WebAddress) throws(AgentError) -> Carrier {
    let isSecure = address.scheme == .https
    let socket = try StreamSocket.connect(
      to: address, loopbackOnly: !isSecure && !allowsPlaintext, perAddress: limits.connect, until: deadline)
    guard isSecure else { return Carrier(socket) }
    let limit = Instant.now() + limits.connect
    return try Carrier.secure(socket, try context(for: address), host: address.host, until: deadline.map { min($0, limit) } ?? limit)
  }

  /// What all connections over TLS have in common; the authorities are read when the first one is made.
  private func context(for address: WebAddress) throws(AgentError) -> TLSClientContext {
    if let context { return context }
    do throws(TLSError) {
      let made = try TLSClientContext(trust: .authorities(try Self.systemAuthorities()))
      context = made
      return made
    } catch { throw .tls(host: address.host, error) }
  }

  /// Reads the authorities of the file that `SSL_CERT_FILE` names, or else of the system.
  private static func systemAuthorities() throws(TLSError) -> TLSAuthorities {
    let named = ProcessInfo.processInfo.environment["SSL_CERT_FILE"] ?? ""
    let paths = named.isEmpty ? TLSAuthorities.systemPaths : [named]
    for path in paths {
      if let pem = FileManager.default.contents(atPath: path) { return try TLSAuthorities(pem: [UInt8](pem)) }
    }
    throw .systemAuthoritiesMissing
  }

  /// Writes the request line and the fields; the caller's own come after the framing, the agent's last.
  static func head(
    of request: AgentRequest, extra: [AgentRequest.Field], byteCount: UInt64, expects: Bool
  ) -> [UInt8] {
    var text = "\(request.method) \(request.address.target) HTTP/1.1\r\nHost: \(request.address.authority)\r\n"
    if byteCount > 0 || !request.isSafe { text += "Content-Length: \(byteCount)\r\n" }
    if expects { text += "Expect: 100-continue\r\n" }
    if !request.has("user-agent") { text += "User-Agent: farebox\r\n" }
    if !request.has("accept") { text += "Accept: */*\r\n" }
    for field in request.fields + extra { text += "\(field.name): \(field.value)\r\n" }
    return Array((text + "\r\n").utf8)
  }
}
