import Testing

@testable import TLS

/// A client that is as old, or as limited, as a test wants.
enum LegacyPeer {
  static func client(maximum: TLSVersion, ciphers: String? = nil) throws -> TLSClientContext {
    let context = try TLSClientContext(trust: .authorities(try Certificates.shared.authorities()), protocols: [.http2, .http1])
    try #require(context.limit(maximum: maximum, ciphers: ciphers))
    return context
  }
}
