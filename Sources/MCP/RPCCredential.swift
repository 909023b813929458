import Bytes
import Encoding
import Payments

/// Turns challenges, credentials and receipts between the form of HTTP's fields (b64u of canonical JSON) and that of `_meta` and
/// `error.data`, where `request` and `opaque` stand as objects (draft-payment-transport-mcp-00 "Challenge Structure").
public enum RPCCredential {
  /// Makes the object that `Authorization` would carry of the one in `_meta`: `request` and `opaque` become the b64u of their canonical
  /// form, everything else stays. A method's signature covers that object, as its draft says.
  ///
  /// - Throws: `credentialTooLarge`, `credentialNotJSON`, `credentialMalformed`.
  public static func textForm(_ octets: UnsafeRawBufferPointer) throws(MCPError) -> JSONObject {
    guard octets.count <= Credential.limit else { throw .credentialTooLarge }
    let value: JSONValue
    do { value = try JSON.parse(octets) } catch { throw .credentialNotJSON }
    guard var credential = value.objectValue, var challenge = credential["challenge"]?.objectValue else { throw .credentialMalformed }
    for member in ["request", "opaque"] {
      switch challenge[member] {
      case .object(let object): challenge.set(member, .string(Base64URL.encode(JCS.serialize(object))))
      // The text form is what a client has that took the challenge from a field.
      case .string, nil: break
      case .null, .bool, .number, .array: throw .credentialMalformed
      }
    }
    credential.set("challenge", .object(challenge))
    return credential
  }

  /// Makes the object of `error.data.challenges` of a challenge; nil where its parameters cannot be decoded, which none of ours can.
  public static func object(of challenge: Challenge) -> JSONObject? {
    var object = challenge.echo
    guard let request = try? challenge.requestObject() else { return nil }
    object.set("request", .object(request))
    if let opaque = challenge.opaque {
      guard let octets = Base64URL.decode(opaque), let decoded = (try? JSON.parse(octets))?.objectValue else { return nil }
      object.set("opaque", .object(decoded))
    }
    return object
  }

  /// Decodes a receipt to the JSON text that stands in `_meta`; nil where it is none.
  public static func receipt(_ encoded: [UInt8]) -> [UInt8]? {
    encoded.withUnsafeBytes { Base64URL.decode($0) }
  }
}
