internal import CLibSSL

/// Owns one SSL_CTX, set up as both roles need it: Mozilla's intermediate profile (version 5.7), neither renegotiation nor
/// compression, and no buffers held while a connection is idle.
final class ContextHandle: @unchecked Sendable {
  // Safe because: a context is changed only while it is set up, before another thread sees it; libssl counts its owners.
  let pointer: OpaquePointer

  /// TLS 1.2's ciphers. Those with finite-field Diffie-Hellman are left out: everybody has elliptic curves, and these are slow.
  private static let ciphers = """
    ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305
    """
  /// TLS 1.3's ciphers.
  private static let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
  private static let groups = "X25519:prime256v1:secp384r1"
  /// 112 bits: RSA from 2048, no SHA-1 in signatures.
  private static let securityLevel: Int32 = 2
  /// The longest chain of a peer, in certificates between its own and an authority.
  private static let depth: Int32 = 8
  /// The most octets of a peer's chain.
  private static let chainOctets = 64 << 10

  init(isServer: Bool, minimum: TLSVersion) throws(TLSError) {
    LibraryErrors.clear()
    guard let made = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else { throw .resourcesExhausted }
    pointer = made
    let forbidden: UInt64 = libssl_op_no_renegotiation | libssl_op_no_compression
    SSL_CTX_clear_options(made, libssl_op_legacy)
    SSL_CTX_set_options(made, forbidden)
    SSL_CTX_set_security_level(made, Self.securityLevel)
    SSL_CTX_set_verify_depth(made, Self.depth)
    // What is shown is what the file holds: libssl would look for the rest of a chain in each handshake, at a tenth of its cost.
    _ = libssl_ctx_set_mode(made, libssl_mode_release_buffers | libssl_mode_no_auto_chain)
    _ = libssl_ctx_set_max_chain(made, Self.chainOctets)
    SSL_CTX_set_info_callback(made, RecordPassage.stepped)
    guard libssl_ctx_set_versions(made, minimum.number, TLSVersion.tls13.number) == 1,
      SSL_CTX_set_cipher_list(made, Self.ciphers) == 1, SSL_CTX_set_ciphersuites(made, Self.suites) == 1,
      libssl_ctx_set_groups(made, Self.groups) == 1
    else { throw Self.refusal() }
  }

  deinit { SSL_CTX_free(pointer) }

  /// Adds a chain and its key.
  func use(_ identity: TLSIdentity) throws(TLSError) {
    LibraryErrors.clear()
    guard SSL_CTX_use_certificate(pointer, identity.chain[0].pointer) == 1 else { throw Self.refusal() }
    guard SSL_CTX_use_PrivateKey(pointer, identity.key.pointer) == 1 else { throw Self.refusal() }
    for certificate in identity.chain.dropFirst() {
      guard libssl_ctx_add_chain(pointer, certificate.pointer) == 1 else { throw Self.refusal() }
    }
  }

  /// Trusts authorities for what peers show.
  func trust(_ authorities: TLSAuthorities) throws(TLSError) {
    libssl_ctx_set_store(pointer, authorities.store)
  }

  static func refusal() -> TLSError { TLSError(reason: LibraryErrors.takeReason(), verification: 0) }
}
