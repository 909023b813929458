import Bytes

/// Names what a frame carries (RFC 6455 section 11.8).
public enum WebSocketOpcode: UInt8, Sendable, Hashable {
  case continuation = 0
  case text = 1
  case binary = 2
  case close = 8
  case ping = 9
  case pong = 10

  /// Whether the frame speaks of the connection, and may stand between the fragments of a message.
  @inlinable public var isControl: Bool { rawValue >= 8 }
}

/// What the header of a frame says.
public struct WebSocketFrame: Sendable, Hashable {
  /// What the frame carries.
  public let opcode: WebSocketOpcode
  /// Whether its message ends with it.
  public let isFinal: Bool
  /// Octets of the header, the masking key included: 2 to 14.
  public let headerCount: Int
  /// Octets of the payload.
  public let payloadCount: UInt64

  /// Whether a message begins with the frame.
  @inlinable public var startsMessage: Bool {
    switch opcode {
    case .text, .binary: true
    case .continuation, .close, .ping, .pong: false
    }
  }
}

/// Why a WebSocket connection is closed (RFC 6455 section 7.4.1).
public enum WebSocketCloseCode: UInt16, Sendable, Hashable {
  /// An endpoint goes away: a server that shuts down, a client that left.
  case goingAway = 1001
  /// A frame broke a rule.
  case protocolError = 1002
  /// A policy was broken: here, nobody paid.
  case policyViolation = 1008
  /// The server met a condition that it did not expect.
  case internalError = 1011
}

/// Writes control frames of the proxy's own.
public enum WebSocketWriter {
  /// Most octets of a control frame's payload.
  public static let payloadLimit = 125

  /// Appends a Close frame with a code and a reason, of which at most 123 octets are told.
  ///
  /// - Parameter mask: the masking key of a client's frame, which nobody may foretell; nil: the frame is a server's.
  public static func appendClose(_ code: WebSocketCloseCode, reason: StaticString, mask: UInt32?, to output: inout ByteBuffer) {
    var payload = [UInt8(truncatingIfNeeded: code.rawValue >> 8), UInt8(truncatingIfNeeded: code.rawValue)]
    reason.withUTF8Buffer { payload.append(contentsOf: $0.prefix(payloadLimit - 2)) }
    append(.close, payload, mask: mask, to: &output)
  }

  /// Appends a Ping frame; of the payload at most 125 octets are sent.
  public static func appendPing(_ payload: [UInt8] = [], mask: UInt32?, to output: inout ByteBuffer) {
    append(.ping, Array(payload.prefix(payloadLimit)), mask: mask, to: &output)
  }

  private static func append(_ opcode: WebSocketOpcode, _ payload: [UInt8], mask: UInt32?, to output: inout ByteBuffer) {
    output.append(byte: 0x80 | opcode.rawValue)
    output.append(byte: (mask == nil ? 0 : 0x80) | UInt8(truncatingIfNeeded: payload.count))
    guard let mask else { return output.append(payload) }
    let key = (0..<4).map { UInt8(truncatingIfNeeded: mask >> UInt32(24 - 8 * $0)) }
    output.append(key)
    output.append(payload.enumerated().map { $0.element ^ key[$0.offset & 3] })
  }
}
