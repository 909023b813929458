import Bytes
import Encoding

/// The short form of a bearer credential: `Prepaid-Session: <sessionId>; key=<preimage>`.
///
/// It adds no terms to a session, and leaves `Authorization` free for the upstream's own scheme.
public enum PrepaidSessionField {
  /// The field's name as it is sent.
  public static let name = "Prepaid-Session"

  /// Reads a field value; throws `malformedField` unless it has exactly the two parts, each of 64 lower-case hexadecimal digits.
  public static func parse(_ value: UnsafeRawBufferPointer) throws(PrepaidError) -> (session: Digest32, secret: SessionSecret) {
    let key = Array("key=".utf8)
    guard value.count >= 64 + 1 + key.count + 64, value.count <= 64 + 8 + key.count + 64 else { throw .malformedField }
    var index = 64
    func skipSpaces() { while index < value.count, value[index] == 0x20 || value[index] == 0x09 { index += 1 } }
    skipSpaces()
    guard index < value.count, value[index] == UInt8(ascii: ";") else { throw .malformedField }
    index += 1
    skipSpaces()
    guard value.count - index == key.count + 64, value[index..<index + key.count].elementsEqual(key) else { throw .malformedField }
    guard let session = Digest32(hex: String(decoding: value[..<64], as: UTF8.self)),
      let secret = SessionSecret(hex: String(decoding: value[(index + key.count)...], as: UTF8.self))
    else { throw .malformedField }
    return (session, secret)
  }

  /// Prints the field value for a session's secret.
  public static func print(_ secret: SessionSecret) -> String {
    "\(secret.id.hex); key=\(secret.hex)"
  }
}
