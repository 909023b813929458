import Bytes
import Crypto
import Encoding

/// Signs receipts and invoices with one Ed25519 key.
public struct DocumentSigner: Sendable {
  public let key: Ed25519.SigningKey
  /// The RFC 7638 thumbprint of the key.
  public let kid: String
  /// b64u of the invoices' JOSE header, and the dot behind it.
  let invoiceHeader: [UInt8]

  public init(_ key: Ed25519.SigningKey) {
    self.key = key
    kid = JWK.thumbprint(key.publicKey)
    let header: JSONObject = ["alg": "EdDSA", "kid": .string(kid), "typ": .string(Invoice.type)]
    invoiceHeader = Base64URL.encodeOctets(JCS.serialize(header)) + [0x2E]
  }
}
