import Encoding
import TLS

extension CertificateFileError {
  /// What would have been right, in words.
  public var expected: String {
    switch self {
    case .file(_, let failure): failure.reason
    case .refused(_, let error): error.expected
    }
  }

  /// What to do about it.
  public var advice: String? {
    switch self {
    case .file(_, .notPermitted): "make the file readable for the user that runs the proxy"
    case .file: nil
    case .refused(_, let error): error.advice
    }
  }
}

extension TLSError {
  /// What a file should have held, in words.
  fileprivate var expected: String {
    switch self {
    case .certificateMissing: "one or more certificates in PEM (-----BEGIN CERTIFICATE-----)"
    case .certificateUnreadable(let position): "certificates in PEM; number \(position) cannot be read"
    case .certificateExpired(let position, let end): "certificates that are valid; \(Self.ordinal(position)) expired at \(end)"
    case .certificateNotYetValid(let position, let begin): "certificates that are valid; \(Self.ordinal(position)) is valid from \(begin) on"
    case .certificateOutOfOrder(let position): "each certificate's issuer behind it; number \(position) did not issue number \(position - 1)"
    case .certificateWeak: "keys of at least 2048 bits (RSA) or 224 (elliptic curve), and signatures that do not use SHA-1"
    case .keyMissing: "a private key in PEM (-----BEGIN PRIVATE KEY-----)"
    case .keyUnreadable: "a private key that can be read"
    case .keyEncrypted: "a private key without a password"
    case .keyMismatch: "the private key of the chain's first certificate; this is another one's"
    case .identityMissing: "at least one certificate"
    case .nameMissing: "a certificate with DNS names, since clients choose by them; only the first may be without"
    case .authorityMissing: "one or more certificates of authorities in PEM (-----BEGIN CERTIFICATE-----)"
    case .authorityUnreadable(let position): "certificates in PEM; number \(position) cannot be read"
    case .systemAuthoritiesMissing: "the system's certificate authorities"
    case .serverNameInvalid, .peerCertificate, .peerCertificateMissing, .plainHTTP, .notTLS, .versionUnsupported, .cipherMismatch,
      .applicationProtocolMismatch, .alertReceived, .protocolBroken, .notEstablished, .resourcesExhausted:
      "what the TLS library accepts (\(self))"
    }
  }

  fileprivate var advice: String? {
    switch self {
    case .certificateExpired: "renew it"
    case .certificateOutOfOrder: "write the own certificate first, then the intermediate ones, and leave the root out"
    case .keyEncrypted: "take the password off: openssl pkey -in FILE -out NEW"
    case .keyMismatch: "name the key that the certificate was requested with"
    case .systemAuthoritiesMissing: "install ca-certificates, or name a file: ca = \"ca.pem\""
    case .certificateMissing, .certificateUnreadable, .certificateNotYetValid, .certificateWeak, .keyMissing, .keyUnreadable,
      .identityMissing, .nameMissing, .authorityMissing, .authorityUnreadable, .serverNameInvalid, .peerCertificate,
      .peerCertificateMissing, .plainHTTP, .notTLS, .versionUnsupported, .cipherMismatch, .applicationProtocolMismatch,
      .alertReceived, .protocolBroken, .notEstablished, .resourcesExhausted:
      nil
    }
  }

  private static func ordinal(_ position: Int) -> String { position == 1 ? "this one" : "number \(position)" }
}
