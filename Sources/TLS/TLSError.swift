public import Encoding

/// Names the rule of TLS or X.509 that was broken. Positions of certificates count from 1, as a person counts them in a file.
public enum TLSError: Error, Hashable, Sendable {
  // What was loaded.

  /// No certificate stands in the PEM text.
  case certificateMissing
  /// A certificate's PEM or DER is broken.
  case certificateUnreadable(position: Int)
  /// A certificate of the chain is no longer valid.
  case certificateExpired(position: Int, at: Timestamp)
  /// A certificate of the chain is not valid yet.
  case certificateNotYetValid(position: Int, from: Timestamp)
  /// A certificate did not issue the one that stands before it (RFC 5246, section 7.4.2).
  case certificateOutOfOrder(position: Int)
  /// A certificate's key is shorter than 112 bits of security, or its signature uses a broken hash.
  case certificateWeak
  /// No private key stands in the PEM text.
  case keyMissing
  /// The private key's PEM or DER is broken, or its kind is unknown.
  case keyUnreadable
  /// The private key needs a password.
  case keyEncrypted
  /// The private key does not belong to the chain's first certificate.
  case keyMismatch
  /// A server needs one identity at least.
  case identityMissing
  /// An identity beyond the first has no DNS name by which a client could ask for it; counted from 1.
  case nameMissing(identity: Int)
  /// No certificate authority stands in the PEM text.
  case authorityMissing
  /// A certificate authority's PEM or DER is broken.
  case authorityUnreadable(position: Int)
  /// The system's bundle of certificate authorities cannot be found.
  case systemAuthoritiesMissing
  /// What should be verified is neither a DNS name nor an IP address.
  case serverNameInvalid

  // What a peer did.

  /// The peer's certificate was not accepted.
  case peerCertificate(TLSCertificateFault)
  /// The client has shown no certificate, and must.
  case peerCertificateMissing
  /// The client speaks HTTP without TLS.
  case plainHTTP
  /// What came is no TLS record.
  case notTLS
  /// The peer speaks no version that we do.
  case versionUnsupported
  /// No cipher, group or signature scheme is known to both sides.
  case cipherMismatch
  /// No application protocol is known to both sides (RFC 7301, section 3.2).
  case applicationProtocolMismatch
  /// The peer ended the connection by a fatal alert (RFC 8446, section 6.2).
  case alertReceived(UInt8)
  /// The peer broke the protocol in another way; the number is libssl's.
  case protocolBroken(reason: Int32)

  // What our side did.

  /// Nothing can be sent before the handshake is finished, or after the end.
  case notEstablished
  /// The library could not get memory or random octets.
  case resourcesExhausted
}

/// Why a peer's certificate was not accepted.
public enum TLSCertificateFault: Hashable, Sendable {
  /// It, or one above it, is no longer valid.
  case expired
  /// It, or one above it, is not valid yet.
  case notYetValid
  /// No authority that is trusted issued it.
  case unknownAuthority
  /// It issued itself, and is not trusted.
  case selfSigned
  /// It is valid for other names only.
  case nameMismatch
  /// It may not be used for this.
  case wrongPurpose
  /// A key is too short or a signature's hash broken.
  case weak
  /// A signature in the chain is wrong.
  case badSignature
  /// Another rule of RFC 5280; the number is libcrypto's.
  case other(Int32)
}
