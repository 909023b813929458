internal import Bytes
internal import CLibSSL
internal import Crypto

/// The certificate authorities that vouch for peers.
public final class TLSAuthorities: @unchecked Sendable {
  // Safe because: the store and the names are only read after init; the store's own cache has libcrypto's lock.
  let store: OpaquePointer
  /// Their subjects, which a server names to clients.
  let names: OpaquePointer
  /// Tells two sets of authorities apart, so that no session of one is resumed under another.
  let digest: Digest32

  /// Reads one or more certificates in PEM.
  public init(pem: [UInt8]) throws(TLSError) {
    let certificates: [Certificate]
    switch pem.withUnsafeBytes({ Certificate.read(pem: $0) }) {
    case .success(let read): certificates = read
    case .failure(let broken): throw .authorityUnreadable(position: broken.position)
    }
    guard !certificates.isEmpty else { throw .authorityMissing }
    guard let store = X509_STORE_new() else { throw .resourcesExhausted }
    guard let names = libssl_names_new() else {
      X509_STORE_free(store)
      throw .resourcesExhausted
    }
    self.store = store
    self.names = names
    digest = SHA256.hash(pem)
    for certificate in certificates {
      guard X509_STORE_add_cert(store, certificate.pointer) == 1, libssl_names_push(names, certificate.pointer) == 1 else {
        LibraryErrors.clear()
        throw .resourcesExhausted
      }
    }
  }

  /// Whether exactly this text was read.
  public func isRead(from pem: [UInt8]) -> Bool { SHA256.hash(pem) == digest }

  deinit {
    X509_STORE_free(store)
    libssl_names_free(names)
  }

  /// Where systems keep their bundle, the first that exists counts; `SSL_CERT_FILE` stands above them.
  public static let systemPaths = [
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
  ]
}
