import Encoding

/// Verifies JSON objects in the compact serialisation of RFC 7515, by EdDSA (RFC 8037) alone.
public enum JWS {
  /// The most octets of a serialisation that is verified.
  public static let maximumCount = 65_536

  /// Verifies a serialisation, and returns its header and payload.
  ///
  /// `keys` finds a key by the header's `kid`. Whoever calls compares `typ` and what the payload says.
  ///
  /// - Throws: the rule that the serialisation breaks; nothing of it is to be believed then.
  public static func verifyCompact(
    _ text: String, keys: (_ kid: String) -> Ed25519.PublicKey?
  ) throws(JWSError) -> (header: JSONObject, payload: JSONObject) {
    let octets = [UInt8](text.utf8)
    guard octets.count <= maximumCount else { throw .tooLarge }
    let parts = octets.split(separator: 0x2E, omittingEmptySubsequences: false)
    guard parts.count == 3, let signature = Base64URL.decode([UInt8](parts[2])), signature.count == Ed25519.signatureCount
    else { throw .malformed }
    let header = try object(parts[0], else: .malformedHeader)
    guard header["alg"] == "EdDSA" else { throw .unsupportedAlgorithm }
    guard header["crit"] == nil else { throw .criticalExtension }
    guard let kid = header["kid"]?.stringValue else { throw .missingKeyID }
    guard let key = keys(kid) else { throw .unknownKey }
    let signed = octets[..<parts[1].endIndex]
    guard key.isValidSignature(signature, of: [UInt8](signed)) else { throw .invalidSignature }
    return (header, try object(parts[1], else: .malformedPayload))
  }

  private static func object(_ part: ArraySlice<UInt8>, else error: JWSError) throws(JWSError) -> JSONObject {
    guard let octets = Base64URL.decode([UInt8](part)), let value = try? JSON.parse(octets), let object = value.objectValue
    else { throw error }
    return object
  }
}
