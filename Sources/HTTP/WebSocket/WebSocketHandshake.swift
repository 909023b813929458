import Bytes
import Encoding

/// Reads the fields of the opening handshake (RFC 6455 section 4).
public enum WebSocketHandshake {
  /// What is wrong with a client's handshake.
  public enum Fault: Sendable, Hashable {
    /// `Sec-WebSocket-Key` is missing where it is needed, repeated, or not 16 octets in base64.
    case keyInvalid
    /// `Sec-WebSocket-Version` is not 13.
    case versionUnsupported
  }

  /// What the server hashes behind the key to show that it understood (RFC 6455 section 1.3).
  public static let accepting: StaticString = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

  /// Finds what is wrong with a request's handshake.
  ///
  /// - Parameter isTunnel: it is an extended CONNECT, which needs no key (RFC 8441 section 5).
  public static func fault(_ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer, isTunnel: Bool) -> Fault? {
    guard let version = only("sec-websocket-version", head.section, octets), version.elementsEqual("13".utf8) else {
      return .versionUnsupported
    }
    if isTunnel, !hasKey(head, octets) { return nil }
    guard let key = key(head, octets), key.count == 24, Base64.decode(key)?.count == 16 else { return .keyInvalid }
    return nil
  }

  /// The key of a client's handshake; nil where there is not exactly one.
  public static func key(_ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    only("sec-websocket-key", head.section, octets)
  }

  private static func hasKey(_ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer) -> Bool {
    for field in head.section.fields where isNamed("sec-websocket-key", field, octets.bytes) { return true }
    return false
  }

  /// The server's proof; nil where there is not exactly one.
  public static func accept(_ head: borrowing ResponseHead, _ octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    only("sec-websocket-accept", head.section, octets)
  }

  /// Which reserved bits the extensions allow that the server agreed to.
  public static func extensions(_ head: borrowing ResponseHead, _ octets: UnsafeRawBufferPointer) -> WebSocketExtensions {
    let span = octets.bytes
    var found = WebSocketExtensions.none
    for field in head.section.fields where isNamed("sec-websocket-extensions", field, span) {
      var elements = ListElements(span, field.valueRange)
      while let element = elements.next() {
        var end = element.lowerBound
        while end < element.upperBound, span.octet(end) != UInt8(ascii: ";"), span.octet(end) != 0x20, span.octet(end) != 0x09 { end += 1 }
        guard span.equalsIgnoringCase("permessage-deflate", at: element.lowerBound, count: end - element.lowerBound) else { return .unknown }
        found = .compression
      }
    }
    return found
  }

  private static func only(
    _ name: StaticString, _ section: borrowing FieldSection, _ octets: UnsafeRawBufferPointer
  ) -> UnsafeRawBufferPointer? {
    var found: Field?
    for field in section.fields where isNamed(name, field, octets.bytes) {
      guard found == nil else { return nil }
      found = field
    }
    return found?.value(in: octets)
  }

  private static func isNamed(_ name: StaticString, _ field: Field, _ octets: RawSpan) -> Bool {
    field.name == .other && octets.equalsIgnoringCase(name, at: Int(field.nameStart), count: Int(field.nameCount))
  }
}
