import Bytes
import HTTP

/// Names one resource of a web server: scheme, host, port and the request target, split once and strictly.
///
/// A client that pays compares addresses (the resource of a challenge, the realm), so every address has one spelling
/// here: the scheme and the host in lower case, the port as a number, an empty path as `/`, no user information and no
/// fragment (RFC 3986, RFC 9110 section 4.2).
public struct WebAddress: Hashable, Sendable, CustomStringConvertible {
  /// Says how the server is spoken to.
  public enum Scheme: String, Sendable {
    case http
    case https

    /// The port that the scheme stands for when an address names none.
    public var defaultPort: UInt16 {
      switch self {
      case .http: 80
      case .https: 443
      }
    }
  }

  /// Bounds the octets of an address, so that a hostile document cannot make a long one.
  public static let byteLimit = 8192

  /// How the server is spoken to.
  public let scheme: Scheme
  /// The host in lower case; an IPv6 literal without its brackets.
  public let host: String
  /// The port, named or the scheme's own.
  public let port: UInt16
  /// The path and, after `?`, the query, as they go into the request line.
  public let target: String

  /// Reads an absolute `http` or `https` address; an address without a scheme is taken as `http`, as curl does.
  ///
  /// - Throws: `AgentError.address` naming the broken rule.
  public init(_ text: String) throws(AgentError) {
    guard text.utf8.count <= Self.byteLimit else { throw .address(.tooLong) }
    guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }) else {
      throw .address(.forbiddenOctet)
    }
    var rest = Substring(text)
    var scheme = Scheme.http
    if let mark = rest.firstRange(ofASCII: "://") {
      guard let named = Scheme(rawValue: rest[..<mark.lowerBound].lowercased()) else { throw .address(.scheme) }
      scheme = named
      rest = rest[mark.upperBound...]
    }
    if let mark = rest.firstIndex(of: "#") { rest = rest[..<mark] }
    let authorityEnd = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
    let (host, port) = try Self.split(authority: rest[..<authorityEnd])
    let tail = rest[authorityEnd...]
    self.scheme = scheme
    self.host = host
    self.port = port ?? scheme.defaultPort
    self.target = Self.canonical(tail.isEmpty ? "/" : tail.first == "?" ? "/" + tail : String(tail))
  }

  /// The target in the form that the proxy matches and names in its challenges; what has none is sent as it is, and the
  /// server says why it refuses it.
  private static func canonical(_ target: String) -> String {
    var text = target
    return text.withUTF8 { octets in
      var buffer = ByteBuffer()
      guard let form = try? CanonicalTarget.canonicalise(UnsafeRawBufferPointer(octets), into: &buffer),
        !form.isUnchanged
      else { return target }
      return buffer.withUnsafeBytes { String(decoding: $0[form.range], as: UTF8.self) }
    }
  }

  private init(scheme: Scheme, host: String, port: UInt16, target: String) {
    self.scheme = scheme
    self.host = host
    self.port = port
    self.target = target
  }

  private static func split(authority: Substring) throws(AgentError) -> (host: String, port: UInt16?) {
    guard !authority.contains("@") else { throw .address(.userInformation) }
    var host = authority
    var portText: Substring?
    if authority.first == "[" {
      guard let end = authority.firstIndex(of: "]") else { throw .address(.host) }
      host = authority[authority.index(after: authority.startIndex)..<end]
      let after = authority[authority.index(after: end)...]
      guard after.isEmpty || after.first == ":" else { throw .address(.host) }
      portText = after.isEmpty ? nil : after.dropFirst()
      guard host.utf8.allSatisfy({ isIPv6Octet($0) }), host.contains(":") else { throw .address(.host) }
    } else if let colon = authority.firstIndex(of: ":") {
      host = authority[..<colon]
      portText = authority[authority.index(after: colon)...]
    }
    let isLiteral = authority.first == "["
    guard !host.isEmpty, host.utf8.count <= 255, isLiteral || host.utf8.allSatisfy({ isHostOctet($0) }) else {
      throw .address(.host)
    }
    guard let portText, !portText.isEmpty else { return (host.lowercased(), nil) }
    guard portText.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let port = UInt16(portText), port > 0 else {
      throw .address(.port)
    }
    return (host.lowercased(), port)
  }

  private static func isHostOctet(_ octet: UInt8) -> Bool {
    switch octet {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  private static func isIPv6Octet(_ octet: UInt8) -> Bool {
    switch octet {
    case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "."):
      true
    default: false
    }
  }

  /// The same server with another target; `target` begins with `/`.
  public func with(target: String) -> WebAddress {
    WebAddress(scheme: scheme, host: host, port: port, target: target)
  }

  /// The value of the `Host` field: the port stands only where it is not the scheme's own.
  public var authority: String {
    let name = host.contains(":") ? "[\(host)]" : host
    return port == scheme.defaultPort ? name : "\(name):\(port)"
  }

  /// The serialised origin, as RFC 6454 section 6.2 writes it.
  public var origin: String { "\(scheme.rawValue)://\(authority)" }

  /// The target's path, without its query.
  public var path: String { String(target.prefix { $0 != "?" }) }

  /// The whole address.
  public var description: String { origin + target }

  /// Whether both addresses name the same scheme, host and port.
  public func hasSameOrigin(as other: WebAddress) -> Bool {
    scheme == other.scheme && host == other.host && port == other.port
  }

  /// Whether the host is this machine by its name alone (RFC 6761 section 6.3) or a loopback literal: there a plain
  /// connection is no risk.
  public var isLoopback: Bool {
    host == "localhost" || host.hasSuffix(".localhost") || host == "::1" || isLoopbackIPv4
  }

  private var isLoopbackIPv4: Bool {
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.first == "127" && parts.allSatisfy { UInt8($0) != nil }
  }

  /// Whether the host is an address rather than a name; an address has no parent domain.
  var isNumeric: Bool {
    host.contains(":") || host.utf8.allSatisfy { $0 == UInt8(ascii: ".") || ($0 >= 0x30 && $0 <= 0x39) }
  }
}

extension Substring {
  /// Finds the first place where `text` stands, octet by octet.
  fileprivate func firstRange(ofASCII text: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      formIndex(after: &start)
    }
    return nil
  }
}
