internal import Bytes
internal import CLibSSL
internal import Crypto
public import Encoding

/// Whether and by whom clients are vouched for.
public struct TLSClientPolicy: Sendable {
  /// Who may vouch for clients; their subjects are told to clients.
  public var authorities: TLSAuthorities
  /// Whether a client without a certificate is refused. One that shows a certificate that is not accepted always is.
  public var isRequired: Bool

  /// Makes a policy.
  public init(authorities: TLSAuthorities, isRequired: Bool) {
    self.authorities = authorities
    self.isRequired = isRequired
  }
}

/// What a server's connections have in common: identities, protocols, ticket keys. Shared by all threads.
public final class TLSServerContext: @unchecked Sendable {
  // Safe because: everything is set up in init and only read afterwards; libssl's own counters are atomic.

  /// How many tickets a TLS 1.3 client gets at once. Each connection that resumes brings a new one, and a second costs a twentieth of
  /// the handshake for whoever opens two at once.
  private static let ticketsPerHandshake = 1

  /// One a group of identities that prove the same names; the first is for whoever asks for nothing that we know.
  private let contexts: [ContextHandle]
  /// Places in `contexts` by exact name, and by what follows a wildcard's `*`.
  private let exact: [String: Int]
  private let wildcards: [String: Int]
  private let protocols: [TLSApplicationProtocol]
  private let ticketKeys: TLSTicketKeys
  /// When the first of all certificates ceases to be valid.
  public let expires: Timestamp
  /// Whether clients may show certificates.
  let asksForCertificate: Bool

  /// Sets up a context.
  ///
  /// - Parameters:
  ///   - identities: one or more; the first is for clients that name no server, or none that we know. Two that prove the same
  ///     names by different kinds of keys are offered together.
  ///   - protocols: what is spoken inside, the most wanted first. A client that offers none of them is refused.
  ///   - ticketKeys: what seals tickets.
  ///   - clients: whether clients show certificates; nil where they are not asked.
  ///   - minimum: the oldest version that is spoken.
  public init(
    identities: [TLSIdentity], protocols: [TLSApplicationProtocol] = [.http2, .http1], ticketKeys: TLSTicketKeys,
    clients: TLSClientPolicy? = nil, minimum: TLSVersion = .tls12
  ) throws(TLSError) {
    guard !identities.isEmpty else { throw .identityMissing }
    var (contexts, heads): ([ContextHandle], [TLSIdentity]) = ([], [])
    var (exact, wildcards): ([String: Int], [String: Int]) = ([:], [:])
    for (number, identity) in identities.enumerated() {
      if let place = heads.firstIndex(where: { $0.complements(identity) }) {
        try contexts[place].use(identity)
        continue
      }
      guard number == 0 || !identity.names.isEmpty else { throw .nameMissing(identity: number + 1) }
      let context = try ContextHandle(isServer: true, minimum: minimum)
      try context.use(identity)
      for name in identity.names {
        if name.hasPrefix("*.") {
          wildcards[String(name.dropFirst()), default: contexts.count] += 0
        } else {
          exact[name, default: contexts.count] += 0
        }
      }
      contexts.append(context)
      heads.append(identity)
    }
    (self.contexts, self.exact, self.wildcards) = (contexts, exact, wildcards)
    (self.protocols, self.ticketKeys) = (protocols, ticketKeys)
    asksForCertificate = clients != nil
    expires = identities.map(\.expires).min() ?? .latest
    for context in contexts { try prepare(context, clients) }
  }

  var pointer: OpaquePointer { contexts[0].pointer }

  private func prepare(_ handle: ContextHandle, _ clients: TLSClientPolicy?) throws(TLSError) {
    let context = handle.pointer
    // Safe because: every connection keeps this object, so libssl's callbacks, which only connections cause, find it alive.
    let this = Unmanaged.passUnretained(self).toOpaque()
    guard libssl_ctx_set_index_data(context, this) == 1 else { throw .resourcesExhausted }
    libssl_ctx_set_session_cache(context, Int(SSL_SESS_CACHE_OFF))
    SSL_CTX_set_timeout(context, Int(TLSTicketKeys.ticketLifetime.components.seconds))
    guard SSL_CTX_set_num_tickets(context, Self.ticketsPerHandshake) == 1 else { throw .resourcesExhausted }
    libssl_ctx_set_server_name_callback(context, Self.serverNameCame, this)
    SSL_CTX_set_alpn_select_cb(context, Self.protocolsCame, this)
    guard SSL_CTX_set_tlsext_ticket_key_evp_cb(context, Self.ticketKeyIsNeeded) == 1 else { throw .resourcesExhausted }
    var scope = SHA256()
    if let clients {
      try handle.trust(clients.authorities)
      SSL_CTX_set_client_CA_list(context, libssl_names_copy(clients.authorities.names))
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (clients.isRequired ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nil)
      scope.update(clients.authorities.digest)
      scope.update(byte: clients.isRequired ? 1 : 0)
    }
    // A session resumes only where clients are vouched for in the same way: keys are shared by listeners that differ.
    let accepted = scope.finalize().withUnsafeBytes {
      SSL_CTX_set_session_id_context(context, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt32($0.count))
    }
    guard accepted == 1 else { throw .resourcesExhausted }
  }

  /// The place of a name's context: exactly, then by a wildcard in the place of the first label.
  private func place(of name: String) -> Int? {
    var name = name.lowercased()
    if name.hasSuffix(".") { name.removeLast() }
    if let place = exact[name] { return place }
    guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { return nil }
    return wildcards[String(name[dot...])]
  }

  // MARK: libssl's questions

  private static func from(_ pointer: UnsafeMutableRawPointer?) -> TLSServerContext? {
    pointer.map { Unmanaged<TLSServerContext>.fromOpaque($0).takeUnretainedValue() }
  }

  private static let serverNameCame: @convention(c) (OpaquePointer?, UnsafeMutablePointer<Int32>?, UnsafeMutableRawPointer?) -> Int32 = {
    session, _, argument in
    guard let context = from(argument), let name = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name) else {
      return SSL_TLSEXT_ERR_NOACK
    }
    guard let place = context.place(of: String(cString: name)) else { return SSL_TLSEXT_ERR_NOACK }
    if place != 0 { SSL_set_SSL_CTX(session, context.contexts[place].pointer) }
    return SSL_TLSEXT_ERR_OK
  }

  private static let protocolsCame:
    @convention(c) (
      OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, UnsafeMutablePointer<UInt8>?, UnsafePointer<UInt8>?, UInt32,
      UnsafeMutableRawPointer?
    ) -> Int32 = { _, chosen, chosenCount, offered, count, argument in
      guard let context = from(argument), let chosen, let chosenCount, let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
      let octets = UnsafeRawBufferPointer(start: offered, count: Int(count))
      for name in context.protocols {
        var position = 0
        while position < octets.count {
          let end = position + 1 + Int(octets[position])
          guard end <= octets.count else { return SSL_TLSEXT_ERR_ALERT_FATAL }
          if name.isNamed(by: UnsafeRawBufferPointer(rebasing: octets[(position + 1)..<end])) {
            // Safe because: libssl keeps what the client offered until it has copied the choice.
            chosen.pointee = offered + position + 1
            chosenCount.pointee = octets[position]
            return SSL_TLSEXT_ERR_OK
          }
          position = end
        }
      }
      return SSL_TLSEXT_ERR_ALERT_FATAL
    }

  private static let ticketKeyIsNeeded:
    @convention(c) (
      OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?, OpaquePointer?, Int32
    ) -> Int32 = { session, name, iv, cipher, mac, sealing in
      guard let context = from(libssl_ctx_index_data(SSL_get_SSL_CTX(session))), let name, let iv, let cipher, let mac else { return -1 }
      // Safe because: libssl gives 16 octets for the name, and for the vector as many as its longest.
      return context.ticketKeys.prepare(
        name: UnsafeMutableRawBufferPointer(start: name, count: 16), iv: UnsafeMutableRawBufferPointer(start: iv, count: 16),
        cipher: cipher, mac: mac, sealing: sealing == 1, isUsedOnce: SSL_version(session) == TLSVersion.tls13.number)
    }
}
