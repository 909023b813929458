import Crypto
import Encoding

/// The signature of a payment: Ed25519 over `prepaid-v1`, a line feed, and the canonical form of the credential object as sent,
/// without `payload.signature`. So it covers the echoed challenge, and with it amount, recipient, resource and expiry.
public enum PrepaidSignature {
  /// Makes the octets that are signed; nil when the credential has no object `payload`.
  public static func octets(of credential: JSONObject) -> [UInt8]? {
    var object = credential
    guard var payload = object["payload"]?.objectValue else { return nil }
    payload.remove("signature")
    object.set("payload", .object(payload))
    return Array(Prepaid.paymentContext.utf8) + JCS.serialize(object)
  }

  /// Tells whether a signature is the wallet's, over this credential.
  public static func isValid(_ signature: [UInt8], wallet: Ed25519.PublicKey, credential: JSONObject) -> Bool {
    guard let octets = octets(of: credential) else { return false }
    return octets.withUnsafeBytes { signed in
      signature.withUnsafeBytes { wallet.isValidSignature($0, of: signed) }
    }
  }

  /// Tells whether a signature is the wallet's, over a credential as it was parsed.
  public static func isValid(_ signature: [UInt8], wallet: Ed25519.PublicKey, credential: JSONValue) -> Bool {
    guard let object = credential.objectValue else { return false }
    return isValid(signature, wallet: wallet, credential: object)
  }

  /// Signs a credential object whose payload has no signature yet, and puts it in.
  public static func sign(_ credential: JSONObject, key: Ed25519.SigningKey) -> JSONObject {
    guard var payload = credential["payload"]?.objectValue, let octets = octets(of: credential) else { return credential }
    let signature = octets.withUnsafeBytes { key.sign($0) }
    payload.set("signature", .string(Base64URL.encode(signature)))
    var signed = credential
    signed.set("payload", .object(payload))
    return signed
  }
}
