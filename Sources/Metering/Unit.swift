/// Names what a rate counts.
///
/// An octet counts as it passes: content after transfer coding and before content decoding. Header fields, framing and
/// the proxy's own events are free. On a connection that was upgraded to WebSocket the content is the payload of its
/// messages; control frames are free.
public enum Unit: UInt8, Sendable, Hashable, CaseIterable {
  /// One request that the upstream was asked for.
  case request
  /// One octet of request content.
  case requestByte
  /// One octet of response content.
  case responseByte
  /// One octet of content in either direction.
  case byte
  /// One WebSocket message of the client's.
  case requestMessage
  /// One WebSocket message of the server's.
  case responseMessage
  /// One WebSocket message in either direction.
  case message
  /// One second that the exchange lasts, from the first octet of its response on, or that an upgraded connection lasts; one that
  /// has begun counts whole.
  case second
  /// One server-sent event of the upstream's.
  case event
  /// One token of a model's input that did not come from a cache.
  case inputToken
  /// One token of a model's input that was read from a cache; where no part of a price counts these they cost what input costs.
  case cachedInputToken
  /// One token of a model's output.
  case outputToken
  /// One call of a tool or method, by JSON-RPC or MCP.
  case call
  /// One unit of the upstream's own, as many as it reports in its response.
  case reported

  /// What a unit counts, whatever its direction.
  public enum Kind: UInt8, Sendable, Hashable {
    case request
    case byte
    case message
    case second
    case event
    case token
    case call
    case reported
  }

  /// What the unit counts.
  @inlinable
  public var kind: Kind {
    switch self {
    case .request: .request
    case .requestByte, .responseByte, .byte: .byte
    case .requestMessage, .responseMessage, .message: .message
    case .second: .second
    case .event: .event
    case .inputToken, .cachedInputToken, .outputToken: .token
    case .call: .call
    case .reported: .reported
    }
  }

  /// The unit's name in `unitType` of a session's request object.
  public var wireName: String {
    switch kind {
    case .request: "request"
    case .byte: "byte"
    case .message: "message"
    case .second: "second"
    case .event: "event"
    case .token: "token"
    case .call: "call"
    case .reported: "unit"
    }
  }

  /// The member `direction` that stands beside `unitType` "byte" or "message" where it is not the usual one, the response's, and
  /// always beside "token", which has no usual one.
  public var wireDirection: String? {
    switch self {
    case .request, .responseByte, .responseMessage, .second, .event, .call, .reported: nil
    case .requestByte, .requestMessage: "request"
    case .byte, .message: "both"
    case .inputToken: "input"
    case .cachedInputToken: "cached-input"
    case .outputToken: "output"
    }
  }

  /// Reads the two members that name a unit on the wire; nil when the names are unknown.
  public init?(wireName: String, direction: String?) {
    switch (wireName, direction) {
    case ("request", nil): self = .request
    case ("byte", nil), ("byte", "response"): self = .responseByte
    case ("byte", "request"): self = .requestByte
    case ("byte", "both"): self = .byte
    case ("message", nil), ("message", "response"): self = .responseMessage
    case ("message", "request"): self = .requestMessage
    case ("message", "both"): self = .message
    case ("second", nil): self = .second
    case ("event", nil): self = .event
    case ("token", "input"): self = .inputToken
    case ("token", "cached-input"): self = .cachedInputToken
    case ("token", "output"): self = .outputToken
    case ("call", nil): self = .call
    case ("unit", nil): self = .reported
    default: return nil
    }
  }

  /// Whether the unit counts octets.
  @inlinable
  public var isByte: Bool { kind == .byte }

  /// Whether the unit is only there on a connection that was upgraded.
  @inlinable
  public var needsUpgrade: Bool {
    switch kind {
    case .message: true
    case .request, .byte, .second, .event, .token, .call, .reported: false
    }
  }

  /// Whether the unit is there once in each exchange, and so known before it begins.
  @inlinable
  public var isOnce: Bool {
    switch kind {
    case .request, .call: true
    case .byte, .message, .second, .event, .token, .reported: false
    }
  }

  /// Whether what the client sends counts, by octets or messages.
  @inlinable
  public var countsRequest: Bool {
    switch self {
    case .requestByte, .byte, .requestMessage, .message: true
    case .request, .responseByte, .responseMessage, .second, .event, .inputToken, .cachedInputToken, .outputToken, .call, .reported: false
    }
  }

  /// Whether what the server sends counts, by octets or messages.
  @inlinable
  public var countsResponse: Bool {
    switch self {
    case .responseByte, .byte, .responseMessage, .message: true
    case .request, .requestByte, .requestMessage, .second, .event, .inputToken, .cachedInputToken, .outputToken, .call, .reported: false
    }
  }
}
