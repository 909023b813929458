import Bytes

/// Keeps payments out of shared caches (draft-httpauth-payment-02, "Caching").
public enum CacheControl {
  /// The value that goes with every 402.
  public static let challenge: StaticString = "no-store"

  /// Tells whether a field value already names `private` for the whole response (not for single fields, `private="…"`).
  public static func isPrivate(_ value: UnsafeRawBufferPointer) -> Bool {
    var start = 0
    var position = 0
    var quoted = false
    while position <= value.count {
      let octet = position < value.count ? value[position] : 0x2C
      if quoted, octet == 0x5C, position < value.count {
        position += 1
      } else if octet == 0x22 {
        quoted.toggle()
      } else if octet == 0x2C, !quoted || position == value.count {
        if isPrivateDirective(value[start..<min(position, value.count)]) { return true }
        start = position + 1
      }
      position += 1
    }
    return false
  }

  /// Appends what upstream said with `private` added; only `private` where it said nothing.
  ///
  /// Never replaces a directive: of `public` and `private` the latter rules for shared caches (RFC 9111 section 3).
  public static func appendPrivate(upstream: UnsafeRawBufferPointer?, to out: inout ByteBuffer) {
    if let upstream, !upstream.isEmpty {
      out.append(upstream)
      if isPrivate(upstream) { return }
      out.append(", " as StaticString)
    }
    out.append("private" as StaticString)
  }

  private static func isPrivateDirective(_ text: Slice<UnsafeRawBufferPointer>) -> Bool {
    var text = text
    while let first = text.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
    while let last = text.last, last == 0x20 || last == 0x09 { text = text.dropLast() }
    let name: StaticString = "private"
    guard text.count == name.utf8CodeUnitCount else { return false }
    return text.enumerated().allSatisfy { $0.element | 0x20 == name.utf8Start[$0.offset] }
  }
}
