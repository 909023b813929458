import Bytes

// Strings, section 3.2.2.2.
extension JCS {
  /// Writes one string with its quotes and escapes to the end of a buffer.
  public static func append(string: String, to buffer: inout ByteBuffer) {
    var string = string
    string.withUTF8 { append(utf8: UnsafeRawBufferPointer($0), to: &buffer) }
  }

  /// Writes one string, given as its UTF-8, with its quotes and escapes to the end of a buffer.
  ///
  /// The octets are not validated: what is not UTF-8 goes through as it is.
  public static func append(utf8 octets: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    buffer.reserve(octets.count + 2)
    buffer.append(byte: 0x22)
    var runStart = 0
    for index in octets.indices {
      let octet = octets[index]
      if octet >= 0x20, octet != 0x22, octet != 0x5C { continue }
      buffer.append(UnsafeRawBufferPointer(rebasing: octets[runStart..<index]))
      appendEscape(octet, to: &buffer)
      runStart = index &+ 1
    }
    buffer.append(UnsafeRawBufferPointer(rebasing: octets[runStart...]))
    buffer.append(byte: 0x22)
  }

  private static func appendEscape(_ octet: UInt8, to buffer: inout ByteBuffer) {
    switch octet {
    case 0x22: buffer.append("\\\"")
    case 0x5C: buffer.append("\\\\")
    case 0x08: buffer.append("\\b")
    case 0x09: buffer.append("\\t")
    case 0x0A: buffer.append("\\n")
    case 0x0C: buffer.append("\\f")
    case 0x0D: buffer.append("\\r")
    default:
      buffer.append("\\u00")
      buffer.append(byte: Hex.digit(octet >> 4))
      buffer.append(byte: Hex.digit(octet & 15))
    }
  }
}
