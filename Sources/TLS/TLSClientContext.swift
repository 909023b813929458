internal import CLibSSL

/// How a client finds out whether a server is the one that it wanted.
public enum TLSServerTrust: Sendable {
  /// By these authorities and the server's name.
  case authorities(TLSAuthorities)
  /// Not at all: whoever answers is taken for the server. Only by an operator's explicit word.
  case insecure
}

/// What connections to one upstream have in common. Shared by all threads.
public final class TLSClientContext: @unchecked Sendable {
  // Safe because: everything is set up in init and only read afterwards; the sessions have a lock of their own.
  private let handle: ContextHandle
  /// Sessions that servers let us resume.
  let sessions = SessionShelf()
  /// Whether servers are verified.
  public let isVerifying: Bool

  /// Sets up a context.
  ///
  /// - Parameters:
  ///   - trust: how the server is verified.
  ///   - identity: what is shown to a server that asks for a certificate.
  ///   - protocols: what can be spoken inside, the most wanted first.
  ///   - minimum: the oldest version that is spoken.
  public init(
    trust: TLSServerTrust, identity: TLSIdentity? = nil, protocols: [TLSApplicationProtocol] = [.http1], minimum: TLSVersion = .tls12
  ) throws(TLSError) {
    handle = try ContextHandle(isServer: false, minimum: minimum)
    let context = handle.pointer
    if let identity { try handle.use(identity) }
    switch trust {
    case .authorities(let authorities):
      isVerifying = true
      try handle.trust(authorities)
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    case .insecure:
      isVerifying = false
      SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
    }
    let list = TLSApplicationProtocol.list(protocols)
    guard list.isEmpty || SSL_CTX_set_alpn_protos(context, list, UInt32(list.count)) == 0 else { throw .resourcesExhausted }
    libssl_ctx_set_session_cache(context, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
    SSL_CTX_sess_set_new_cb(context) { session, ticket in
      // Safe because: every client connection has its passage there, for as long as libssl knows the connection.
      guard let ticket, let passage = libssl_index_data(session)?.assumingMemoryBound(to: RecordPassage.self) else { return 0 }
      guard let shelf = passage.pointee.shelf else { return 0 }
      return shelf.put(ticket, for: passage.pointee.serverName) ? 1 : 0
    }
  }

  var pointer: OpaquePointer { handle.pointer }
}
