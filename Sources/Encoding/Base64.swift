import Bytes

/// Converts octets to and from base64 with padding (RFC 4648, section 4), in its one canonical spelling.
public enum Base64 {
  private static let codec = Base64Codec("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

  /// Encodes octets into a string.
  public static func encode(_ octets: UnsafeRawBufferPointer) -> String { codec.string(octets, padded: true) }

  /// Encodes octets into a string.
  public static func encode(_ octets: [UInt8]) -> String { octets.withUnsafeBytes { codec.string($0, padded: true) } }

  /// Encodes a digest into a string of 44 digits.
  public static func encode(_ digest: Digest32) -> String { digest.withUnsafeBytes { codec.string($0, padded: true) } }

  /// Appends the digits of octets, and their padding, to a buffer.
  public static func append(_ octets: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    codec.append(octets, padded: true, to: &buffer)
  }

  /// Appends the 44 digits of a digest to a buffer.
  public static func append(_ digest: Digest32, to buffer: inout ByteBuffer) {
    digest.withUnsafeBytes { codec.append($0, padded: true, to: &buffer) }
  }

  /// Decodes padded digits; nil for missing or superfluous padding, a foreign octet, or left-over bits that are not zero.
  public static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard text.count % 4 == 0 else { return nil }
    var digits = text.count
    while digits > 0, text.count - digits < 2, text[digits - 1] == 0x3D { digits -= 1 }
    return codec.octets(UnsafeRawBufferPointer(rebasing: text[..<digits]))
  }

  /// Decodes padded digits, as above.
  public static func decode(_ text: [UInt8]) -> [UInt8]? { text.withUnsafeBytes { decode($0) } }

  /// Decodes padded digits, as above.
  public static func decode(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { decode(UnsafeRawBufferPointer($0)) }
  }
}
