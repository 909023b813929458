/// Names the rule of WebSocket framing (RFC 6455 section 5) that a frame broke.
public enum WebSocketError: Error, Sendable, Hashable {
  /// The opcode is one of the reserved ones.
  case opcodeReserved(UInt8)
  /// A reserved bit is set that no extension was agreed on for.
  case reservedBitSet
  /// A control frame is not its message's last.
  case controlFragmented
  /// A control frame has more than 125 octets of payload.
  case controlTooLong
  /// A Close frame has one octet: too few for a code.
  case closeTooShort
  /// A length is written longer than it needs to be.
  case lengthNotMinimal
  /// A length has its highest bit set.
  case lengthTooLarge
  /// A client's frame is not masked.
  case unmasked
  /// A server's frame is masked.
  case masked
  /// A continuation frame belongs to no message.
  case continuationUnexpected
  /// A message begins inside another one.
  case messageInterrupted
  /// More than `WebSocketScanner.emptyLimit` fragments in a row are empty.
  case fragmentsEmpty
  /// Octets follow a Close frame.
  case afterClose
}
