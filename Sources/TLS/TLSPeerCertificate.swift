public import Bytes
internal import CLibSSL
public import Encoding

/// What a peer has proved to be.
public struct TLSPeerCertificate: Hashable, Sendable {
  /// The subject as RFC 2253 writes it: one line of ASCII, everything else escaped.
  public let subject: String
  /// The SHA-256 of the certificate's DER.
  public let fingerprint: Digest32
  /// When it ceases to be valid.
  public let expires: Timestamp
  /// Whether an authority that we trust vouches for it; false only where verification was switched off.
  public let isVerified: Bool

  /// Reads the peer's certificate; nil where it has shown none.
  init?(of session: OpaquePointer) {
    guard let pointer = SSL_get1_peer_certificate(session) else { return nil }
    let certificate = Certificate(taking: pointer)
    subject = certificate.subject
    fingerprint = certificate.fingerprint
    expires = certificate.expires ?? .earliest
    isVerified = SSL_get_verify_mode(session) != SSL_VERIFY_NONE && SSL_get_verify_result(session) == Int(X509_V_OK)
  }
}
