/// Names what an upstream did to its content before it sent it (RFC 9110, section 8.4).
public enum ContentCoding: Sendable, Hashable {
  /// Nothing: the content is as it is.
  case identity
  /// RFC 1952, one member or several.
  case gzip
  /// RFC 1950; what servers send under this name without its wrapping (RFC 1951) is read too.
  case deflate
  /// RFC 7932.
  case brotli
  /// RFC 8878, with windows of at most 8 MiB (RFC 9659).
  case zstandard
  /// Several codings one over another, or one that is not known: nothing can be said of the content.
  case unreadable

  /// Reads one value of `Content-Encoding`. Names are compared without regard to case; empty elements and `identity` count for nothing.
  public init(_ value: RawSpan) {
    self = .identity
    var start = 0
    while start < value.byteCount {
      var end = start
      while end < value.byteCount, value.octet(end) != UInt8(ascii: ",") { end += 1 }
      var (first, last) = (start, end)
      while first < last, Self.isBlank(value.octet(first)) { first += 1 }
      while last > first, Self.isBlank(value.octet(last - 1)) { last -= 1 }
      if first < last { add(Self.named(value, first..<last)) }
      start = end + 1
    }
  }

  /// Adds what another line of the field says.
  public mutating func add(_ other: ContentCoding) {
    switch (self, other) {
    case (_, .identity): break
    case (.identity, _): self = other
    case (.gzip, _), (.deflate, _), (.brotli, _), (.zstandard, _), (.unreadable, _): self = .unreadable
    }
  }

  private static func isBlank(_ octet: UInt8) -> Bool { octet == 0x20 || octet == 0x09 }

  private static func named(_ value: RawSpan, _ range: Range<Int>) -> ContentCoding {
    let names: [(StaticString, ContentCoding)] = [
      ("gzip", .gzip), ("br", .brotli), ("zstd", .zstandard), ("deflate", .deflate), ("identity", .identity), ("x-gzip", .gzip),
    ]
    for (name, coding) in names where equals(value, range, name) { return coding }
    return .unreadable
  }

  private static func equals(_ value: RawSpan, _ range: Range<Int>, _ name: StaticString) -> Bool {
    guard range.count == name.utf8CodeUnitCount else { return false }
    return name.withUTF8Buffer { expected in
      for offset in 0..<expected.count {
        let octet = value.octet(range.lowerBound + offset)
        let lower = octet >= 0x41 && octet <= 0x5A ? octet | 0x20 : octet
        if lower != expected[offset] { return false }
      }
      return true
    }
  }
}

extension RawSpan {
  @inline(__always)
  func octet(_ index: Int) -> UInt8 { unsafeLoad(fromByteOffset: index, as: UInt8.self) }
}
