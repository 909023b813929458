/// A version of the protocol that we speak.
public enum TLSVersion: Hashable, Sendable, CaseIterable {
  /// TLS 1.2 (RFC 5246).
  case tls12
  /// TLS 1.3 (RFC 8446).
  case tls13
}

extension TLSVersion {
  /// The number on the wire.
  var number: Int32 {
    switch self {
    case .tls12: 0x0303
    case .tls13: 0x0304
    }
  }

  init?(number: Int32) {
    guard let version = Self.allCases.first(where: { $0.number == number }) else { return nil }
    self = version
  }
}
