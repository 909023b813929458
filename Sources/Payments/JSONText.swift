import Bytes

// Pieces of JSON text that are written around prepared ones.
extension ByteBuffer {
  /// Appends an URL inside a JSON string: origin, path, and `?` with the query where there is one.
  mutating func appendURL(origin: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer?) {
    append(origin)
    appendTarget(path: path, query: query)
  }

  /// Appends path and query inside a JSON string.
  mutating func appendTarget(path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer?) {
    appendEscaped(path)
    if let query {
      append(byte: 0x3F)
      appendEscaped(query)
    }
  }

  /// Appends ASCII inside a JSON string, escaped as JCS does (RFC 8785 section 3.2.2.2). Canonical targets hold no
  /// control characters, so the long form stands only for what cannot occur.
  mutating func appendEscaped(_ text: UnsafeRawBufferPointer) {
    guard text.contains(where: { $0 < 0x20 || $0 == 0x22 || $0 == 0x5C }) else { return append(text) }
    for octet in text {
      switch octet {
      case 0x22, 0x5C:
        append(byte: 0x5C)
        append(byte: octet)
      case 0..<0x20:
        append("\\u00" as StaticString)
        append(byte: octet < 0x10 ? 0x30 : 0x31)
        append(byte: octet & 0xF < 10 ? 0x30 + (octet & 0xF) : 0x57 + (octet & 0xF))
      default: append(byte: octet)
      }
    }
  }
}
