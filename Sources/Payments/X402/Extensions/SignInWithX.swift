import Bytes
import Encoding

/// The extension `sign-in-with-x`, as a 402 declares it: who has paid already proves by a signature of its wallet that it is the same.
public struct SignInWithX: Sendable, Hashable {
  /// The extension's key.
  public static let key = "sign-in-with-x"
  /// The request field of the proof.
  public static let fieldName = "SIGN-IN-WITH-X"
  /// How old a proof may be.
  public static let maximumAge = Duration.seconds(300)

  /// The public origin, as configured and never as a request says: `https://api.example.com`.
  public let origin: String
  /// The origin's authority, with its port where it has one.
  public let domain: String
  /// A sentence for the person that signs.
  public let statement: String?
  public let networks: [X402Network]
  /// How long the challenge holds.
  public let lifetime: Duration

  /// Takes what the declaration says.
  ///
  /// - Throws: `malformed(.uri)` where the origin is not scheme and authority, `controlCharacter(.statement)`.
  public init(
    origin: String, statement: String? = nil, networks: [X402Network], lifetime: Duration = SignInWithX.maximumAge
  ) throws(X402Error) {
    guard let (origin, domain) = SignInProof.split(origin) else { throw .malformed(.uri) }
    guard statement.map({ SignInProof.isPrintable($0) }) ?? true else { throw .controlCharacter(.statement) }
    self.origin = origin
    self.domain = domain
    self.statement = statement
    self.networks = networks
    self.lifetime = lifetime
  }

  /// Appends `"sign-in-with-x":{…}` for one request.
  ///
  /// - Parameters:
  ///   - uri: the resource, as it stands within JSON.
  ///   - nonce: 16 octets that are used once.
  func append(
    uri: UnsafeRawBufferPointer, nonce: (UInt64, UInt64), now: Timestamp, withSchema: Bool, to out: inout ByteBuffer
  ) {
    out.append("\"sign-in-with-x\":{\"info\":{\"domain\":" as StaticString)
    JCS.append(string: domain, to: &out)
    out.append(",\"uri\":\"" as StaticString)
    out.append(uri)
    out.append("\",\"version\":\"1\",\"nonce\":\"" as StaticString)
    Swift.withUnsafeBytes(of: nonce) { Hex.append($0, to: &out) }
    out.append("\",\"issuedAt\":\"" as StaticString)
    out.append(now.rfc3339Milliseconds)
    out.append("\",\"expirationTime\":\"" as StaticString)
    out.append((now + lifetime).rfc3339Milliseconds)
    out.append(byte: 0x22)
    if let statement {
      out.append(",\"statement\":" as StaticString)
      JCS.append(string: statement, to: &out)
    }
    out.append(",\"resources\":[\"" as StaticString)
    out.append(uri)
    out.append("\"]},\"supportedChains\":[" as StaticString)
    for (index, network) in networks.enumerated() {
      if index > 0 { out.append(byte: 0x2C) }
      out.append("{\"chainId\":\"eip155:" as StaticString)
      out.append(decimal: network.chainID)
      out.append("\",\"type\":\"eip191\"}" as StaticString)
    }
    out.append(byte: 0x5D)
    if withSchema {
      out.append(",\"schema\":" as StaticString)
      out.append(Self.schema)
    }
    out.append(byte: 0x7D)
  }

  private static let schema: [UInt8] = {
    let text: JSONValue = ["type": "string"]
    let uri: JSONValue = ["type": "string", "format": "uri"]
    let time: JSONValue = ["type": "string", "format": "date-time"]
    return JSON.serialize([
      "$schema": .string(ExtensionDeclaration.dialect), "type": "object",
      "properties": [
        "domain": text, "address": text, "statement": text, "uri": uri, "version": text, "chainId": text, "type": text, "nonce": text,
        "issuedAt": time, "expirationTime": time, "notBefore": time, "requestId": text, "resources": ["type": "array", "items": uri],
        "signature": text,
      ],
      "required": ["domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature"],
    ])
  }()
}
