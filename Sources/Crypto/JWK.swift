import Bytes
import Encoding

/// Writes Ed25519 public keys as JSON Web Keys (RFC 7517, RFC 8037).
public enum JWK {
  /// Computes the thumbprint of RFC 7638, in base64url.
  public static func thumbprint(_ key: Ed25519.PublicKey) -> String {
    let members: JSONObject = ["crv": "Ed25519", "kty": "OKP", "x": .string(Base64URL.encode(key.octets))]
    return Base64URL.encode(SHA256.hash(JCS.serialize(members)))
  }

  /// Makes the public key's JSON, for signatures by EdDSA.
  public static func publicJSON(_ key: Ed25519.PublicKey, kid: String) -> JSONValue {
    [
      "kty": "OKP", "crv": "Ed25519", "x": .string(Base64URL.encode(key.octets)), "kid": .string(kid), "use": "sig",
      "alg": "EdDSA",
    ]
  }

  /// Reads an Ed25519 public key and its identifier; nil for keys of other kinds, uses or algorithms, or without identifier.
  public static func parse(_ value: JSONValue) -> (kid: String, key: Ed25519.PublicKey)? {
    guard value["kty"] == "OKP", value["crv"] == "Ed25519", let kid = value["kid"]?.stringValue,
      value["use"].map({ $0 == "sig" }) ?? true, value["alg"].map({ $0 == "EdDSA" }) ?? true,
      let octets = value["x"]?.stringValue.flatMap({ Base64URL.decodeDigest($0) })
    else { return nil }
    return (kid, Ed25519.PublicKey(octets))
  }
}
