import Bytes

/// Converts octets to and from base64url without padding (RFC 4648, section 5), in its one canonical spelling.
public enum Base64URL {
  private static let codec = Base64Codec("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

  /// Counts the digits that `count` octets take.
  public static func encodedCount(_ count: Int) -> Int { Base64Codec.digitCount(count) }

  /// Encodes octets into a string.
  public static func encode(_ octets: UnsafeRawBufferPointer) -> String { codec.string(octets, padded: false) }

  /// Encodes octets into a string.
  public static func encode(_ octets: [UInt8]) -> String { octets.withUnsafeBytes { codec.string($0, padded: false) } }

  /// Encodes a digest into a string of 43 digits.
  public static func encode(_ digest: Digest32) -> String { digest.withUnsafeBytes { codec.string($0, padded: false) } }

  /// Encodes octets into an array of digits.
  public static func encodeOctets(_ octets: UnsafeRawBufferPointer) -> [UInt8] { codec.digits(octets, padded: false) }

  /// Encodes octets into an array of digits.
  public static func encodeOctets(_ octets: [UInt8]) -> [UInt8] {
    octets.withUnsafeBytes { codec.digits($0, padded: false) }
  }

  /// Appends the digits of octets to a buffer.
  public static func append(_ octets: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    codec.append(octets, padded: false, to: &buffer)
  }

  /// Appends the digits of octets to a buffer.
  public static func append(_ octets: [UInt8], to buffer: inout ByteBuffer) {
    octets.withUnsafeBytes { codec.append($0, padded: false, to: &buffer) }
  }

  /// Appends the 43 digits of a digest to a buffer.
  public static func append(_ digest: Digest32, to buffer: inout ByteBuffer) {
    digest.withUnsafeBytes { codec.append($0, padded: false, to: &buffer) }
  }

  /// Appends the digits of the octets left in another buffer.
  public static func append(_ octets: borrowing ByteBuffer, to buffer: inout ByteBuffer) {
    octets.withUnsafeBytes { codec.append($0, padded: false, to: &buffer) }
  }

  /// Decodes digits; nil for padding, an octet outside the alphabet, an impossible length, or left-over bits that are not zero.
  public static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? { codec.octets(text) }

  /// Decodes digits, as above.
  public static func decode(_ text: [UInt8]) -> [UInt8]? { text.withUnsafeBytes { codec.octets($0) } }

  /// Decodes digits, as above.
  public static func decode(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { codec.octets(UnsafeRawBufferPointer($0)) }
  }

  /// Decodes digits and appends the octets to a buffer; false, and nothing appended, where `decode` answers nil.
  public static func decode(_ text: UnsafeRawBufferPointer, into buffer: inout ByteBuffer) -> Bool {
    codec.append(decoding: text, to: &buffer)
  }

  /// Decodes exactly 43 digits into 32 octets without allocating; nil for anything else.
  public static func decodeDigest(_ text: UnsafeRawBufferPointer) -> Digest32? {
    guard text.count == 43 else { return nil }
    var digest = Digest32()
    return digest.withUnsafeMutableBytes { codec.decode(text, into: $0) } ? digest : nil
  }

  /// Decodes exactly 43 digits into 32 octets; nil for anything else.
  public static func decodeDigest(_ text: String) -> Digest32? {
    var text = text
    return text.withUTF8 { decodeDigest(UnsafeRawBufferPointer($0)) }
  }
}
