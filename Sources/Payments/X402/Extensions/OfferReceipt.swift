import Bytes
import Crypto
import Encoding
import Ethereum

/// The extension `offer-receipt`: signed offers in the 402 and a signed receipt in its settlement, as compact JWS by EdDSA over JCS.
public struct OfferReceipt: Sendable {
  /// The extension's key.
  public static let key = "offer-receipt"

  private let key: Ed25519.SigningKey
  /// b64u of the JOSE header, and the dot behind it.
  private let header: [UInt8]

  /// Takes the signing key and the DID URL under which it is published: `did:web:api.example.com#key-1`.
  ///
  /// - Throws: `malformed(.kid)` where that is empty or not printable ASCII.
  public init(_ key: Ed25519.SigningKey, kid: String) throws(X402Error) {
    guard !kid.isEmpty, kid.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw .malformed(.kid) }
    self.key = key
    header = Base64URL.encodeOctets(JCS.serialize(["alg": "EdDSA", "kid": .string(kid)] as JSONObject)) + [0x2E]
  }

  /// Signs an offer's terms for a URL.
  ///
  /// - Parameters:
  ///   - validUntil: to the second; nil for an offer that names no end.
  public func offer(_ requirements: PaymentRequirements, url: String, validUntil: Timestamp?) -> String {
    var payload: JSONObject = [
      "version": 1, "resourceUrl": .string(url), "scheme": .string(requirements.scheme.rawValue),
      "network": .string(requirements.network.caip2), "asset": .string(requirements.asset), "payTo": .string(requirements.payTo),
      "amount": "\(requirements.amount)",
    ]
    if let validUntil { payload.set("validUntil", .integer(validUntil.seconds)) }
    return sign(payload)
  }

  /// Signs that a payment was received and served.
  ///
  /// - Parameters:
  ///   - transaction: nil where it is kept private.
  public func receipt(url: String, network: X402Network, payer: String, issuedAt: Timestamp, transaction: Digest32?) -> String {
    var payload: JSONObject = [
      "version": 1, "network": .string(network.caip2), "resourceUrl": .string(url), "payer": .string(payer),
      "issuedAt": .integer(issuedAt.seconds),
    ]
    if let transaction { payload.set("transaction", .string(HexData.text(transaction))) }
    return sign(payload)
  }

  /// The extension's entry of a settlement's `extensions`, around a signed receipt.
  public static func entry(receipt: String) -> JSONValue {
    ["info": ["receipt": ["format": "jws", "signature": .string(receipt)]], "schema": .object(schema(["receipt": artifact], "receipt"))]
  }

  private func sign(_ payload: JSONObject) -> String {
    var out = ByteBuffer()
    out.append(header)
    Base64URL.append(JCS.serialize(payload), to: &out)
    let signature = out.withUnsafeBytes { key.sign($0) }
    out.append(byte: 0x2E)
    Base64URL.append(signature, to: &out)
    return out.string()
  }

  /// Appends `"offer-receipt":{…}` with signed offers in the order of `accepts`.
  static func append(offers: [String], withSchema: Bool, to out: inout ByteBuffer) {
    out.append("\"offer-receipt\":{\"info\":{\"offers\":[" as StaticString)
    for (index, offer) in offers.enumerated() {
      if index > 0 { out.append(byte: 0x2C) }
      out.append("{\"format\":\"jws\",\"acceptIndex\":" as StaticString)
      out.append(decimal: index)
      out.append(",\"signature\":\"" as StaticString)
      out.append(offer)
      out.append("\"}" as StaticString)
    }
    out.append("]}" as StaticString)
    if withSchema {
      out.append(",\"schema\":" as StaticString)
      out.append(offersSchema)
    }
    out.append(byte: 0x7D)
  }

  private static let artifact: JSONValue = [
    "type": "object", "properties": ["format": ["type": "string", "const": "jws"], "signature": ["type": "string"]],
    "required": ["format", "signature"],
  ]

  private static let offersSchema: [UInt8] = {
    let element: JSONValue = [
      "type": "object",
      "properties": ["format": ["type": "string", "const": "jws"], "acceptIndex": ["type": "integer"], "signature": ["type": "string"]],
      "required": ["format", "signature"],
    ]
    return JSON.serialize(.object(schema(["offers": ["type": "array", "items": element]], "offers")))
  }()

  private static func schema(_ properties: JSONObject, _ required: String) -> JSONObject {
    [
      "$schema": .string(ExtensionDeclaration.dialect), "type": "object", "properties": .object(properties),
      "required": [.string(required)],
    ]
  }
}
