/// Reads `HTTP/1.1` and `HTTP/1.0`.
enum Version {
  /// Octets of a version.
  static let count = 8

  /// "HTTP/1." in the lower seven octets of a little-endian word.
  private static let prefix: UInt64 = 0x002E_312F_5054_5448

  /// Gives the minor version at `start`, nothing when more octets are needed.
  @inline(__always)
  static func read(_ octets: RawSpan, from start: Int) throws(HTTPError) -> UInt8? {
    if start &+ count <= octets.byteCount {
      let word = octets.word(start)
      if word & 0x00FF_FFFF_FFFF_FFFF == prefix, word >> 57 == 0x18 { return UInt8(truncatingIfNeeded: word >> 56) & 1 }
    }
    return try refuse(octets, from: start)
  }

  /// Tells an incomplete version from one that is wrong and one that is another.
  private static func refuse(_ octets: RawSpan, from start: Int) throws(HTTPError) -> UInt8? {
    let name: InlineArray<5, UInt8> = [0x48, 0x54, 0x54, 0x50, 0x2F]
    for offset in 0..<count {
      guard start + offset < octets.byteCount else { return nil }
      let octet = octets.octet(start + offset)
      let isRight =
        switch offset {
        case 0..<5: octet == name[offset]
        case 6: octet == UInt8(ascii: ".")
        default: octet.isDigit
        }
      guard isRight else { throw .versionInvalid(at: start + offset) }
    }
    throw .versionUnsupported(at: start)
  }
}
