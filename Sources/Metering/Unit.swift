/// Names what a rate counts.
///
/// An octet counts as it passes: content after transfer coding and before content decoding. Header fields, framing and
/// the proxy's own events are free.
public enum Unit: UInt8, Sendable, Hashable, CaseIterable {
  /// One request that the upstream was asked for.
  case request
  /// One octet of request content.
  case requestByte
  /// One octet of response content.
  case responseByte
  /// One octet of content in either direction.
  case byte

  /// The unit's name in `unitType` of a session's request object.
  public var wireName: String {
    switch self {
    case .request: "request"
    case .requestByte, .responseByte, .byte: "byte"
    }
  }

  /// The member `direction` that stands beside `unitType` "byte" where it is not the usual one, the response's.
  public var wireDirection: String? {
    switch self {
    case .request, .responseByte: nil
    case .requestByte: "request"
    case .byte: "both"
    }
  }

  /// Reads the two members that name a unit on the wire; nil when the names are unknown.
  public init?(wireName: String, direction: String?) {
    switch (wireName, direction) {
    case ("request", nil): self = .request
    case ("byte", nil), ("byte", "response"): self = .responseByte
    case ("byte", "request"): self = .requestByte
    case ("byte", "both"): self = .byte
    default: return nil
    }
  }

  /// Whether the unit counts octets.
  @inlinable
  public var isByte: Bool {
    switch self {
    case .request: false
    case .requestByte, .responseByte, .byte: true
    }
  }

  /// Whether octets of request content count.
  @inlinable
  public var countsRequestBytes: Bool {
    switch self {
    case .request, .responseByte: false
    case .requestByte, .byte: true
    }
  }

  /// Whether octets of response content count.
  @inlinable
  public var countsResponseBytes: Bool {
    switch self {
    case .request, .requestByte: false
    case .responseByte, .byte: true
    }
  }
}
