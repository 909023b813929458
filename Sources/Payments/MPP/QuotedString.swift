import Bytes

/// Writes quoted-strings (RFC 9110 section 5.6.4).
enum QuotedString {
  /// Tells whether every octet may stand in a quoted-string: HTAB, printable ASCII and UTF-8 beyond it.
  static func isPrintable(_ text: String) -> Bool {
    text.utf8.allSatisfy { $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }
  }

  /// Appends `text` in quotes; what `isPrintable` refuses is written as a space, so that no value leaves its line.
  static func append(_ text: String, to out: inout ByteBuffer) {
    out.append(byte: 0x22)
    if text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x22 && $0 != 0x5C && $0 != 0x7F }) {
      out.append(text)
    } else {
      for octet in text.utf8 {
        switch octet {
        case 0x22, 0x5C:
          out.append(byte: 0x5C)
          out.append(byte: octet)
        case 0x09, 0x20...0x7E, 0x80...0xFF: out.append(byte: octet)
        default: out.append(byte: 0x20)
        }
      }
    }
    out.append(byte: 0x22)
  }
}
