import Bytes

/// Which of the three reserved bits a sender may set, by the extensions that were agreed on.
public enum WebSocketExtensions: UInt8, Sendable, Hashable {
  /// None.
  case none
  /// The first, on the frame that begins a message (RFC 7692 section 6).
  case compression
  /// Any, since what they mean is not known here.
  case unknown
}

/// Looks on while the frames of one direction pass unchanged: knows where frames and messages begin, and refuses what
/// RFC 6455 section 5 refuses. It keeps no octets and never sees the payload.
///
/// Whoever drives it calls `begin` with the octets from a frame's first one on, and `pass` as payload goes on its way.
public struct WebSocketScanner: Sendable {
  /// Whose frames they are.
  public enum Sender: Sendable, Hashable {
    case client
    case server
  }

  /// Most octets of a frame's header.
  public static let headerLimit = 14
  /// Most empty fragments in a row: they are free, and so could be sent without end.
  public static let emptyLimit = 256

  private let sender: Sender
  private let extensions: WebSocketExtensions
  /// Payload octets of the frame in progress that have not passed.
  public private(set) var payloadLeft: UInt64 = 0
  /// Whether a message has begun whose last frame has not.
  public private(set) var isInMessage = false
  /// Whether a Close frame has begun: nothing may follow it.
  public private(set) var isClosed = false
  private var emptyCount = 0

  /// Begins before the first frame.
  public init(sender: Sender, extensions: WebSocketExtensions) {
    self.sender = sender
    self.extensions = extensions
  }

  /// Whether the octets that passed so far end with a frame.
  @inlinable public var isBetweenFrames: Bool { payloadLeft == 0 }

  /// Counts payload that passes, at most `payloadLeft` octets.
  public mutating func pass(_ count: Int) {
    payloadLeft -= min(payloadLeft, UInt64(clamping: count))
  }

  /// Reads the header of the next frame at the front of `octets`; nil, and nothing changed, where more octets are needed.
  ///
  /// - Precondition: the payload of the frame before has passed.
  public mutating func begin(_ octets: UnsafeRawBufferPointer) throws(WebSocketError) -> WebSocketFrame? {
    precondition(payloadLeft == 0, "the frame before has not passed")
    let span = octets.bytes
    guard span.byteCount > 0 else { return nil }
    if isClosed { throw .afterClose }
    let first = span.octet(0)
    guard let opcode = WebSocketOpcode(rawValue: first & 0x0F) else { throw .opcodeReserved(first & 0x0F) }
    let isFinal = first & 0x80 != 0
    try check(opcode, isFinal: isFinal, reserved: first & 0x70)
    guard span.byteCount > 1 else { return nil }
    let second = span.octet(1)
    switch sender {
    case .client: if second & 0x80 == 0 { throw .unmasked }
    case .server: if second & 0x80 != 0 { throw .masked }
    }
    if opcode.isControl, second & 0x7F > 125 { throw .controlTooLong }
    if opcode == .close, second & 0x7F == 1 { throw .closeTooShort }
    guard let (length, lengthEnd) = try Self.length(span, short: second & 0x7F) else { return nil }
    let headerCount = lengthEnd + (sender == .client ? 4 : 0)
    guard span.byteCount >= headerCount else { return nil }
    if !opcode.isControl {
      emptyCount = length == 0 && !isFinal ? emptyCount + 1 : 0
      if emptyCount > Self.emptyLimit { throw .fragmentsEmpty }
      isInMessage = !isFinal
    }
    if opcode == .close { isClosed = true }
    payloadLeft = length
    return WebSocketFrame(opcode: opcode, isFinal: isFinal, headerCount: headerCount, payloadCount: length)
  }

  private func check(_ opcode: WebSocketOpcode, isFinal: Bool, reserved: UInt8) throws(WebSocketError) {
    switch opcode {
    case .close, .ping, .pong: if !isFinal { throw .controlFragmented }
    case .continuation: if !isInMessage { throw .continuationUnexpected }
    case .text, .binary: if isInMessage { throw .messageInterrupted }
    }
    guard reserved != 0 else { return }
    switch extensions {
    case .none: throw .reservedBitSet
    case .compression: if reserved != 0x40 || opcode.isControl || opcode == .continuation { throw .reservedBitSet }
    case .unknown: break
    }
  }

  /// Reads the length in any of its three forms, and where it ends; nil where more octets are needed.
  private static func length(_ octets: RawSpan, short: UInt8) throws(WebSocketError) -> (UInt64, end: Int)? {
    let end: Int
    switch short {
    case 126: end = 4
    case 127: end = 10
    default: return (UInt64(short), 2)
    }
    if short == 127, octets.byteCount > 2, octets.octet(2) & 0x80 != 0 { throw .lengthTooLarge }
    guard octets.byteCount >= end else { return nil }
    var length: UInt64 = 0
    for index in 2..<end { length = length << 8 | UInt64(octets.octet(index)) }
    guard length > (short == 126 ? 125 : 0xFFFF) else { throw .lengthNotMinimal }
    return (length, end)
  }
}
