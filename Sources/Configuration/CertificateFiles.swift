import Bytes
public import Encoding
import Glibc
import Synchronization
public import TLS

/// Why the files of an identity or of authorities cannot be used.
public enum CertificateFileError: Error, Hashable, Sendable {
  /// A file cannot be read.
  case file(path: String, SmallFile.Failure)
  /// What stands in it is refused.
  case refused(path: String, TLSError)

  /// The file.
  public var path: String {
    switch self {
    case .file(let path, _), .refused(let path, _): path
    }
  }
}

/// Reads certificates and keys, and sets contexts up by them. Everything is read anew at each call.
public enum CertificateFiles {
  /// The most octets of one file.
  public static let byteLimit = 1 << 20

  /// Reads an identity that is valid at `now`.
  public static func identity(_ certificate: Settings.Certificate, now: Timestamp) throws(CertificateFileError) -> TLSIdentity {
    let chain = try read(certificate.chain)
    let key = try readSecret(certificate.key)
    do throws(TLSError) { return try TLSIdentity(chain: chain, key: key, now: now) } catch {
      throw .refused(path: error.isAboutKey ? certificate.key : certificate.chain, error)
    }
  }

  /// Reads authorities.
  public static func authorities(_ path: String) throws(CertificateFileError) -> TLSAuthorities {
    let pem = try read(path)
    do throws(TLSError) { return try TLSAuthorities(pem: pem) } catch { throw .refused(path: path, error) }
  }

  /// Reads the authorities that the system trusts: the file that `SSL_CERT_FILE` names, or the first of the usual places.
  public static func systemAuthorities() throws(CertificateFileError) -> TLSAuthorities {
    let named = getenv("SSL_CERT_FILE").map { String(cString: $0) } ?? ""
    guard let path = named.isEmpty ? TLSAuthorities.systemPaths.first(where: { access($0, R_OK) == 0 }) : named else {
      throw .refused(path: TLSAuthorities.systemPaths[0], .systemAuthoritiesMissing)
    }
    let pem = try read(path)
    return try lastSystem.withLock { (last) throws(CertificateFileError) in
      if let last, last.isRead(from: pem) { return last }
      do throws(TLSError) {
        let read = try TLSAuthorities(pem: pem)
        last = read
        return read
      } catch { throw .refused(path: path, error) }
    }
  }

  /// The system's authorities as they were read last: they take a megabyte or two, which all upstreams share.
  private static let lastSystem = Mutex<TLSAuthorities?>(nil)

  /// Sets up what a listener's connections have in common.
  public static func context(
    _ listener: Settings.Listener.TLS, protocols: [TLSApplicationProtocol], ticketKeys: TLSTicketKeys, now: Timestamp
  ) throws(CertificateFileError) -> TLSServerContext {
    var identities: [TLSIdentity] = []
    for certificate in listener.certificates { identities.append(try identity(certificate, now: now)) }
    var policy: TLSClientPolicy?
    if let clients = listener.clients {
      policy = TLSClientPolicy(authorities: try authorities(clients.authorities), isRequired: clients.isRequired)
    }
    do throws(TLSError) {
      return try TLSServerContext(
        identities: identities, protocols: protocols, ticketKeys: ticketKeys, clients: policy, minimum: listener.minimum)
    } catch {
      var path = listener.certificates.first?.chain ?? ""
      if case .nameMissing(let number) = error { path = listener.certificates[number - 1].chain }
      throw .refused(path: path, error)
    }
  }

  /// Sets up what the connections to an upstream have in common.
  public static func context(
    _ upstream: Settings.Upstream.TLS, protocols: [TLSApplicationProtocol], now: Timestamp
  ) throws(CertificateFileError) -> TLSClientContext {
    let trust: TLSServerTrust
    if upstream.isInsecure {
      trust = .insecure
    } else {
      trust = .authorities(try trusted(upstream))
    }
    var identity: TLSIdentity?
    if let certificate = upstream.certificate { identity = try Self.identity(certificate, now: now) }
    do throws(TLSError) {
      return try TLSClientContext(trust: trust, identity: identity, protocols: protocols, minimum: upstream.minimum)
    } catch {
      throw .refused(path: upstream.certificate?.chain ?? upstream.authorities ?? "", error)
    }
  }

  private static func trusted(_ upstream: Settings.Upstream.TLS) throws(CertificateFileError) -> TLSAuthorities {
    guard let path = upstream.authorities else { return try systemAuthorities() }
    return try authorities(path)
  }

  private static func read(_ path: String) throws(CertificateFileError) -> [UInt8] {
    do throws(SmallFile.Failure) { return try SmallFile.read(path, limit: byteLimit) } catch { throw .file(path: path, error) }
  }

  private static func readSecret(_ path: String) throws(CertificateFileError) -> SecretBytes {
    do throws(SmallFile.Failure) { return try SmallFile.readSecret(path, limit: byteLimit) } catch { throw .file(path: path, error) }
  }
}

extension Settings.Listener.TLS {
  /// The files that are read for it.
  public var files: [String] {
    certificates.flatMap { [$0.chain, $0.key] } + (clients.map { [$0.authorities] } ?? [])
  }
}

extension Settings.Upstream.TLS {
  /// The files that are read for it, those of the system left out.
  public var files: [String] {
    (authorities.map { [$0] } ?? []) + (certificate.map { [$0.chain, $0.key] } ?? [])
  }
}

extension TLSError {
  /// Whether the private key's file is to blame.
  var isAboutKey: Bool {
    switch self {
    case .keyMissing, .keyUnreadable, .keyEncrypted, .keyMismatch: true
    case .certificateMissing, .certificateUnreadable, .certificateExpired, .certificateNotYetValid, .certificateOutOfOrder,
      .certificateWeak, .identityMissing, .nameMissing, .authorityMissing, .authorityUnreadable, .systemAuthoritiesMissing,
      .serverNameInvalid, .peerCertificate, .peerCertificateMissing, .plainHTTP, .notTLS, .versionUnsupported, .cipherMismatch,
      .applicationProtocolMismatch, .alertReceived, .protocolBroken, .notEstablished, .resourcesExhausted:
      false
    }
  }
}
