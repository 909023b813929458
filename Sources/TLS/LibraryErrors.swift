internal import CLibSSL

/// Reads libssl's errors of this thread, which is always left without any.
enum LibraryErrors {
  /// Forgets what is left over: cheap where nothing is.
  @inline(__always)
  static func clear() {
    if ERR_peek_error() != 0 { ERR_clear_error() }
  }

  /// Whether the first error is a PEM reader's «no further block», which ends a file; clears all.
  static func isEndOfPEM() -> Bool {
    let code = ERR_peek_last_error()
    defer { ERR_clear_error() }
    return libssl_error_library(code) == ERR_LIB_PEM && libssl_error_reason(code) == PEM_R_NO_START_LINE
  }

  /// The first reason that libssl itself gave; 0 where it gave none. Clears all.
  static func takeReason() -> Int32 {
    var reason: Int32 = 0
    while true {
      let code = ERR_get_error()
      if code == 0 { return reason }
      if reason == 0 && libssl_error_library(code) == ERR_LIB_SSL { reason = libssl_error_reason(code) }
    }
  }
}

extension TLSError {
  /// The alerts' numbers begin here among libssl's reasons.
  private static let alertOffset: Int32 = 1000

  /// Translates a reason of libssl; the verification's result says more where a certificate was the cause.
  init(reason: Int32, verification: Int) {
    switch reason {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: self = .peerCertificate(TLSCertificateFault(code: Int32(truncatingIfNeeded: verification)))
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: self = .peerCertificateMissing
    case SSL_R_HTTP_REQUEST: self = .plainHTTP
    case SSL_R_HTTPS_PROXY_REQUEST, SSL_R_WRONG_VERSION_NUMBER: self = .notTLS
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_WRONG_SSL_VERSION, SSL_R_UNKNOWN_PROTOCOL,
      SSL_R_NO_PROTOCOLS_AVAILABLE, SSL_R_BAD_LEGACY_VERSION:
      self = .versionUnsupported
    case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_GROUPS, SSL_R_NO_SUITABLE_KEY_SHARE, SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM,
      SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, SSL_R_NO_CIPHERS_AVAILABLE:
      self = .cipherMismatch
    case SSL_R_NO_APPLICATION_PROTOCOL: self = .applicationProtocolMismatch
    case SSL_R_EE_KEY_TOO_SMALL, SSL_R_CA_KEY_TOO_SMALL, SSL_R_CA_MD_TOO_WEAK: self = .certificateWeak
    case Self.alertOffset...(Self.alertOffset + 255): self = .alertReceived(UInt8(truncatingIfNeeded: reason - Self.alertOffset))
    case 0: self = .resourcesExhausted
    default: self = .protocolBroken(reason: reason)
    }
  }
}

extension TLSCertificateFault {
  /// Translates libcrypto's result of a verification.
  init(code: Int32) {
    switch code {
    case X509_V_ERR_CERT_HAS_EXPIRED: self = .expired
    case X509_V_ERR_CERT_NOT_YET_VALID: self = .notYetValid
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_UNTRUSTED:
      self = .unknownAuthority
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: self = .selfSigned
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH: self = .nameMismatch
    case X509_V_ERR_INVALID_PURPOSE, X509_V_ERR_INVALID_CA, X509_V_ERR_CERT_REJECTED: self = .wrongPurpose
    case X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK: self = .weak
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: self = .badSignature
    default: self = .other(code)
    }
  }
}
