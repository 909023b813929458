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
  /// One second that an upgraded connection lasts; one that has begun counts whole.
  case second

  /// What a unit counts, whatever its direction.
  public enum Kind: UInt8, Sendable, Hashable {
    case request
    case byte
    case message
    case second
  }

  /// What the unit counts.
  @inlinable
  public var kind: Kind {
    switch self {
    case .request: .request
    case .requestByte, .responseByte, .byte: .byte
    case .requestMessage, .responseMessage, .message: .message
    case .second: .second
    }
  }

  /// The unit's name in `unitType` of a session's request object.
  public var wireName: String {
    switch kind {
    case .request: "request"
    case .byte: "byte"
    case .message: "message"
    case .second: "second"
    }
  }

  /// The member `direction` that stands beside `unitType` "byte" or "message" where it is not the usual one, the response's.
  public var wireDirection: String? {
    switch self {
    case .request, .responseByte, .responseMessage, .second: nil
    case .requestByte, .requestMessage: "request"
    case .byte, .message: "both"
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
    case .request, .byte: false
    case .message, .second: true
    }
  }

  /// Whether what the client sends counts, by octets or messages.
  @inlinable
  public var countsRequest: Bool {
    switch self {
    case .request, .responseByte, .responseMessage, .second: false
    case .requestByte, .byte, .requestMessage, .message: true
    }
  }

  /// Whether what the server sends counts, by octets or messages.
  @inlinable
  public var countsResponse: Bool {
    switch self {
    case .request, .requestByte, .requestMessage, .second: false
    case .responseByte, .byte, .responseMessage, .message: true
    }
  }
}
