/// What is spoken inside of TLS, as ALPN names it (RFC 7301).
public enum TLSApplicationProtocol: Hashable, Sendable, CaseIterable {
  /// HTTP/2: `h2`.
  case http2
  /// HTTP/1.1: `http/1.1`.
  case http1
}

extension TLSApplicationProtocol {
  /// The identifier on the wire (RFC 7301, section 6).
  var identifier: StaticString {
    switch self {
    case .http2: "h2"
    case .http1: "http/1.1"
    }
  }

  /// Whether the octets are the identifier.
  func isNamed(by octets: UnsafeRawBufferPointer) -> Bool {
    identifier.withUTF8Buffer { $0.elementsEqual(octets) }
  }

  /// A list in the order of preference, each identifier behind its length.
  static func list(_ protocols: [TLSApplicationProtocol]) -> [UInt8] {
    protocols.flatMap { name in name.identifier.withUTF8Buffer { [UInt8($0.count)] + $0 } }
  }
}
