/// One call of an HTTP service that the proxy itself asks: a pricer, a node of a chain, a facilitator, a signer.
struct ServiceCall: Sendable {
  /// The service's place among the plan's upstreams.
  let upstream: Int
  /// The request, whole (HTTP/1.1).
  let request: [UInt8]
  /// Nanoseconds from now until it has failed.
  let timeout: Int64
  /// Octets of an answer's content.
  var contentLimit = ServiceDialogue.contentLimit
  /// Whether it may be said twice: a connection that was kept open, and turns out to be dead, is then replaced by a fresh one. What
  /// moves money never is.
  var mayRepeat = false
}

/// What a service answered.
struct ServiceReply: Sendable {
  var status: UInt16
  /// Seconds that it holds by its own words; nil where it says nothing.
  var maximumAge: Int64?
  var content: [UInt8]
}

/// What came of a call.
enum ServiceOutcome: Sendable {
  case answered(ServiceReply)
  /// No octet of the request left: the service does not know of it.
  case notSent
  /// It may have been received, and no answer can be told.
  case unanswered
}
