/// One field line of a head, as offsets from the head's first octet. The value is without the blanks around it.
public struct Field: Sendable, Hashable {
  /// Offset of the name's first octet.
  public let nameStart: UInt32
  /// Offset of the value's first octet.
  public let valueStart: UInt32
  /// Octets of the value.
  public let valueCount: UInt32
  /// Octets of the name, at most `HeadLimits.fieldName`.
  public let nameCount: UInt16
  /// Which name it is.
  public let name: FieldName

  @inline(__always)
  init(name: FieldName, nameRange: Range<Int>, valueRange: Range<Int>) {
    nameStart = UInt32(truncatingIfNeeded: nameRange.lowerBound)
    nameCount = UInt16(truncatingIfNeeded: nameRange.count)
    valueStart = UInt32(truncatingIfNeeded: valueRange.lowerBound)
    valueCount = UInt32(truncatingIfNeeded: valueRange.count)
    self.name = name
  }

  /// Where the name stands.
  @inlinable public var nameRange: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
  /// Where the value stands.
  @inlinable public var valueRange: Range<Int> { Int(valueStart)..<Int(valueStart) + Int(valueCount) }

  /// Gives the value's octets out of the octets that the head was decoded from.
  @inlinable public func value(in octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: octets[valueRange])
  }

  /// Gives the name's octets out of the octets that the head was decoded from.
  @inlinable public func name(in octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: octets[nameRange])
  }
}

/// Tells where a message's content ends (RFC 9112 section 6.3).
public enum BodyFraming: Equatable, Sendable {
  case none
  case length(UInt64)
  case chunked
  /// Until the connection closes; responses only.
  case untilClose
}

/// Bounds of a head. What is larger is refused with 414 or 431.
public struct HeadLimits: Sendable, Hashable {
  /// Octets of the request or status line, CRLF included.
  public var requestLine: Int
  /// Octets of the whole head; at most 1 MiB.
  public var head: Int
  /// Field lines.
  public var fieldCount: Int

  /// Octets of one field name.
  public static let fieldName = 256
  /// The largest `head` that offsets and memory are made for.
  public static let largestHead = 1 << 20

  /// Sets the limits; each is brought into the range that the decoders work in.
  public init(requestLine: Int = 8192, head: Int = 32768, fieldCount: Int = 100) {
    self.requestLine = min(max(requestLine, 16), Self.largestHead)
    self.head = min(max(head, 64), Self.largestHead)
    self.fieldCount = max(fieldCount, 1)
  }

  /// 8 KiB, 32 KiB and 100 lines.
  public static let standard = HeadLimits()
}
