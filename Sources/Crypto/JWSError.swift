/// Names the rule of RFC 7515 or RFC 8037 that a serialisation breaks.
public enum JWSError: Error, Hashable, Sendable {
  /// It has more octets than `JWS.maximumCount`.
  case tooLarge
  /// It has not three parts, or its signature is not 64 octets in base64url.
  case malformed
  /// The header is no JSON object in base64url.
  case malformedHeader
  /// The header's `alg` is not `EdDSA`.
  case unsupportedAlgorithm
  /// The header has `crit`: an extension that must be understood.
  case criticalExtension
  /// The header's `kid` is missing or no string.
  case missingKeyID
  /// No key has the header's `kid`.
  case unknownKey
  /// The signature is not the key's.
  case invalidSignature
  /// The payload is no JSON object in base64url.
  case malformedPayload
}
