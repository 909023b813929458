/// Tells whether a resource's URI is written in its one normal form (RFC 3986, section 6).
///
/// Servers normalise URIs before they look a resource up, and not all alike. A price by URI would be passed by with another
/// spelling of the same, so where resources are priced only what cannot be shortened, folded or unescaped is read.
enum ResourceURI {
  /// Schemes whose URIs are read as web addresses are: with two slashes and a path.
  private static let special: Set<String> = ["file", "ftp", "http", "https", "ws", "wss"]
  private static let defaultPorts = ["ftp": ":21", "http": ":80", "https": ":443", "ws": ":80", "wss": ":443"]

  /// Whether nobody could take the URI for another one.
  static func isCanonical(_ text: String) -> Bool {
    let octets = Array(text.utf8)
    guard octets.allSatisfy(isPlain), areEscapesNeeded(octets) else { return false }
    guard let colon = octets.firstIndex(of: 0x3A), colon > 0, octets[0] >= 0x61, octets[0] <= 0x7A else { return false }
    for octet in octets[..<colon] {
      switch octet {
      case 0x61...0x7A, 0x30...0x39, 0x2B, 0x2D, 0x2E: break
      default: return false
      }
    }
    let scheme = String(decoding: octets[..<colon], as: UTF8.self)
    var rest = octets[(colon + 1)...].prefix { $0 != 0x3F }
    if rest.starts(with: [0x2F, 0x2F]) {
      let authority = rest.dropFirst(2).prefix { $0 != 0x2F }
      guard isAuthority(authority, scheme) else { return false }
      rest = rest.dropFirst(2 + authority.count)
      if special.contains(scheme), rest.isEmpty { return false }
    } else if special.contains(scheme) {
      return false
    }
    return isPath(rest)
  }

  /// Visible octets of ASCII that a URI may hold, but for a number sign: fragments are for clients.
  private static func isPlain(_ octet: UInt8) -> Bool {
    switch octet {
    case 0x21, 0x24...0x3B, 0x3D, 0x3F...0x5B, 0x5D, 0x5F, 0x61...0x7A, 0x7E: true
    default: false
    }
  }

  /// Whether each escape has upper-case digits and stands for what cannot be written without it, and for no slash.
  private static func areEscapesNeeded(_ octets: [UInt8]) -> Bool {
    var index = 0
    while index < octets.count {
      guard octets[index] == 0x25 else {
        index += 1
        continue
      }
      guard index + 2 < octets.count, let high = digit(octets[index + 1]), let low = digit(octets[index + 2]) else { return false }
      switch high << 4 | low {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E, 0x2F, 0x5C, 0x00: return false
      default: break
      }
      index += 3
    }
    return true
  }

  static func digit(_ octet: UInt8) -> UInt8? {
    switch octet {
    case 0x30...0x39: octet - 0x30
    case 0x41...0x46: octet - 0x41 + 10
    default: nil
    }
  }

  private static func isAuthority(_ authority: ArraySlice<UInt8>, _ scheme: String) -> Bool {
    if authority.contains(where: { (0x41...0x5A).contains($0) || $0 == 0x40 || $0 == 0x25 }) { return false }
    let text = String(decoding: authority, as: UTF8.self)
    if text.hasSuffix(":") || text.hasSuffix(".") { return false }
    if let port = defaultPorts[scheme], text.hasSuffix(port) { return false }
    // A file's host is this one, by whatever name.
    if scheme == "file" { return authority.isEmpty }
    return !special.contains(scheme) || !authority.isEmpty
  }

  /// Whether a path has no dots or empty segments that a reader would take out.
  private static func isPath(_ path: ArraySlice<UInt8>) -> Bool {
    let segments = path.split(separator: 0x2F, omittingEmptySubsequences: false)
    for (index, segment) in segments.enumerated() {
      if segment.elementsEqual([0x2E]) || segment.elementsEqual([0x2E, 0x2E]) { return false }
      if segment.isEmpty, index > 0, index < segments.count - 1 { return false }
    }
    return true
  }
}
