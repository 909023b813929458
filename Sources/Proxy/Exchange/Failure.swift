import Bytes
import HTTP
import TLS

/// Why the relay answers a request by itself, or gives one up: one case per cause, with its status and words.
enum Failure: Equatable {
  // The client's side.
  case malformed(HTTPError)
  case headTimeout
  case contentTimeout
  case contentTooLarge
  /// The client has as much content waiting here, in all its requests, as it may have.
  case clientContentUsed
  case noRoute
  case methodNotAllowed(MethodSet)
  case hostUnknown
  // The upstream's side.
  case upstreamUnreachable
  case upstreamRefusesTime
  case upstreamClosed
  case upstreamMalformed
  case upstreamSilent
  /// It has not proved to be the right one, or TLS could not be agreed on.
  case upstreamInsecure(TLSError)
  case upstreamBusy
  /// None of its servers is up, or too much of it failed: nothing is sent before so many seconds.
  case upstreamUnavailable(retryAfter: UInt32)
  /// It answered 402.
  case upstreamWantsPayment
  /// Its answer has to be whole before it is paid for, and is too long for that, or has no end.
  case upstreamTooLong
  // Our own.
  case contentMemoryUsed
  case descriptorsExhausted
  case ledgerUnavailable
  case sessionEnded
  case notReady
  /// What the request costs is not known.
  case priceUnknown

  /// The status of the answer.
  var status: UInt16 {
    switch self {
    case .malformed(let error): error.status
    case .headTimeout, .contentTimeout: 408
    case .contentTooLarge: 413
    case .clientContentUsed: 429
    case .noRoute: 404
    case .methodNotAllowed: 405
    case .hostUnknown: 421
    case .upstreamUnreachable, .upstreamClosed, .upstreamMalformed, .upstreamInsecure, .upstreamWantsPayment, .upstreamTooLong: 502
    case .upstreamRefusesTime, .upstreamSilent: 504
    case .upstreamBusy, .upstreamUnavailable, .contentMemoryUsed, .descriptorsExhausted, .ledgerUnavailable, .notReady, .priceUnknown: 503
    case .sessionEnded: 410
    }
  }

  /// The sentence that tells the client what went wrong.
  var detail: StaticString {
    switch self {
    case .malformed: "The request breaks a rule of HTTP that this server holds to."
    case .headTimeout: "The request's head did not arrive in time."
    case .contentTimeout: "The request's content did not arrive in time."
    case .contentTooLarge: "The request's content is larger than this server accepts."
    case .clientContentUsed: "This server holds too much content of other requests from this address that are not complete."
    case .noRoute: "Nothing is served under this path."
    case .methodNotAllowed: "This path does not serve the method."
    case .hostUnknown: "This server does not serve the host."
    case .upstreamUnreachable: "The upstream server cannot be reached."
    case .upstreamRefusesTime: "The upstream server did not accept a connection in time."
    case .upstreamClosed: "The upstream server closed the connection before it answered."
    case .upstreamMalformed: "The upstream server's answer breaks a rule of HTTP."
    case .upstreamSilent: "The upstream server did not answer in time."
    case .upstreamInsecure: "No secure connection to the upstream server came about."
    case .upstreamBusy: "Too many requests wait for the upstream server."
    case .upstreamUnavailable: "The upstream server is not available at the moment. Nothing is charged."
    case .upstreamWantsPayment: "The upstream server wants to be paid for this request itself. Nothing is charged for it here."
    case .upstreamTooLong: "The upstream server's answer is longer than what can be held until it is paid for. Nothing is charged."
    case .contentMemoryUsed: "This server holds too much content of other requests."
    case .descriptorsExhausted: "This server has no connection left for the upstream server."
    case .ledgerUnavailable: "Payments cannot be recorded at the moment. Whether this one was shows when the same credential is sent again."
    case .sessionEnded: "The session was closed while the request was served."
    case .notReady: "This server is not ready."
    case .priceUnknown: "The price of this request cannot be determined at the moment. Nothing is charged."
    }
  }

  /// When the client may come back, in seconds, where it is told.
  var retryAfter: UInt32? {
    switch self {
    case .upstreamUnavailable(let seconds): seconds
    case .clientContentUsed, .upstreamBusy, .contentMemoryUsed, .descriptorsExhausted, .ledgerUnavailable, .notReady, .priceUnknown: 1
    case .malformed, .headTimeout, .contentTimeout, .contentTooLarge, .noRoute, .methodNotAllowed, .hostUnknown,
      .upstreamUnreachable, .upstreamRefusesTime, .upstreamClosed, .upstreamMalformed, .upstreamSilent, .upstreamInsecure, .upstreamWantsPayment,
      .upstreamTooLong,
      .sessionEnded:
      nil
    }
  }

  /// Makes the problem document (RFC 9457) that answers with this failure.
  func answer() -> Answer {
    var fields = ByteBuffer()
    fields.append("Content-Type: application/problem+json\r\nCache-Control: no-store\r\n")
    if let retryAfter {
      fields.append("Retry-After: ")
      fields.append(decimal: UInt64(retryAfter))
      fields.append("\r\n")
    }
    if case .methodNotAllowed(let allowed) = self {
      fields.append("Allow: ")
      for (index, method) in allowed.named.enumerated() {
        if index > 0 { fields.append(", ") }
        fields.append(method.name)
      }
      fields.append("\r\n")
    }
    var body = ByteBuffer()
    body.append("{\"type\":\"about:blank\",\"title\":\"")
    body.append(Status.reason(status))
    body.append("\",\"status\":")
    body.append(decimal: UInt64(status))
    body.append(",\"detail\":\"")
    body.append(detail)
    if case .malformed(let error) = self {
      body.append("\",\"rule\":\"")
      body.append(Self.rule(error))
      body.append("\",\"position\":")
      body.append(decimal: UInt64(max(0, error.position)))
      body.append("}\n")
    } else {
      body.append("\"}\n")
    }
    return Answer(status: status, fields: fields.array(), body: body.array())
  }

  /// Names the broken rule by the case's name.
  private static func rule(_ error: HTTPError) -> String {
    String(String(describing: error).prefix { $0 != "(" })
  }
}
