import Bytes
import Crypto
import Encoding

/// Reads a server's key set, the public keys of its invoices and receipts (RFC 7517, RFC 8037).
enum ServerKeys {
  static let path = "/.well-known/jwks.json"
  /// The keys of one server at most: retired keys stay, but nobody rotates that often.
  static let limit = 1024

  /// Reads the Ed25519 keys of a document, by `kid`; keys of other kinds are passed over.
  ///
  /// - Throws: `.serverKeys(.malformed)` where the document is no key set, or a `kid` is not its key's RFC 7638 thumbprint.
  static func parse(_ octets: [UInt8]) throws(AgentError) -> [String: Ed25519.PublicKey] {
    guard let json = try? JSON.parse(octets), let list = json.objectValue?["keys"]?.arrayValue, list.count <= limit
    else { throw .serverKeys(.malformed) }
    var keys: [String: Ed25519.PublicKey] = [:]
    for entry in list {
      guard let object = entry.objectValue else { throw .serverKeys(.malformed) }
      guard object["kty"]?.stringValue == "OKP", object["crv"]?.stringValue == "Ed25519" else { continue }
      guard let kid = object["kid"]?.stringValue, let text = object["x"]?.stringValue,
        let octets = Base64URL.decode(text), let key = Ed25519.PublicKey(bytes: octets), JWK.thumbprint(key) == kid
      else { throw .serverKeys(.malformed) }
      keys[kid] = key
    }
    return keys
  }
}
