import Bytes

/// Converts octets to and from lower-case hexadecimal digits.
public enum Hex {
  /// Encodes octets into a string.
  public static func encode(_ octets: UnsafeRawBufferPointer) -> String {
    String(unsafeUninitializedCapacity: octets.count * 2) { out in
      write(octets, into: UnsafeMutableRawBufferPointer(out))
      return octets.count * 2
    }
  }

  /// Encodes octets into a string.
  public static func encode(_ octets: [UInt8]) -> String { octets.withUnsafeBytes { encode($0) } }

  /// Appends the digits of octets to a buffer.
  public static func append(_ octets: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    buffer.withUnsafeWritable(minimumCapacity: octets.count * 2) { out in
      write(octets, into: out)
      return octets.count * 2
    }
  }

  /// Decodes lower-case digits; nil for an odd number of them or for any other octet.
  public static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard text.count % 2 == 0 else { return nil }
    var octets: [UInt8] = []
    octets.reserveCapacity(text.count / 2)
    for index in stride(from: 0, to: text.count, by: 2) {
      guard let high = value(text[index]), let low = value(text[index + 1]) else { return nil }
      octets.append(high << 4 | low)
    }
    return octets
  }

  /// Decodes lower-case digits, as above.
  public static func decode(_ text: [UInt8]) -> [UInt8]? { text.withUnsafeBytes { decode($0) } }

  /// Decodes lower-case digits, as above.
  public static func decode(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { decode(UnsafeRawBufferPointer($0)) }
  }

  private static func write(_ octets: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) {
    for (index, octet) in octets.enumerated() {
      out[index * 2] = digit(octet >> 4)
      out[index * 2 + 1] = digit(octet & 15)
    }
  }

  static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 | value : 0x57 &+ value }

  private static func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit & 15
    case 0x61...0x66: digit - 0x57
    default: nil
    }
  }
}
