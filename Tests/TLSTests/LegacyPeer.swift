import Bytes
import CLibSSL
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

extension TLSClientContext {
  /// Limits what is offered, to meet a server as an older client would. Before the first connection only.
  func limit(maximum: TLSVersion, ciphers: String?) -> Bool {
    libssl_ctx_set_versions(pointer, TLSVersion.tls12.number, maximum.number) == 1
      && (ciphers.map { SSL_CTX_set_cipher_list(pointer, $0) == 1 } ?? true)
  }
}

extension TLSEngine {
  /// Asks for a new handshake, or in TLS 1.3 for new keys, as a client may try to; whether libssl was ready to.
  mutating func beginAgain() -> Bool {
    SSL_clear_options(session, libssl_op_no_renegotiation)
    return version == .tls12 ? SSL_renegotiate(session) == 1 : SSL_key_update(session, SSL_KEY_UPDATE_REQUESTED) == 1
  }
}
