import Bytes
import Crypto
import Encoding
import Payments

/// Makes the credentials of the prepaid method, on the client's side.
///
/// Each is the credential's object; `Credential.fieldValue` encodes it.
public enum PrepaidCredential {
  /// Pays the charge of a challenge.
  public static func transfer(_ challenge: Challenge, wallet: Ed25519.SigningKey) -> JSONObject {
    let payload: JSONObject = ["type": "transfer", "wallet": .string(DIDKey.encode(wallet.publicKey))]
    return PrepaidSignature.sign(credential(challenge, payload, source: wallet), key: wallet)
  }

  /// Opens a session with a deposit in base units.
  public static func open(_ challenge: Challenge, deposit: UInt128, secret: SessionSecret, wallet: Ed25519.SigningKey) -> JSONObject {
    let payload: JSONObject = [
      "action": "open", "wallet": .string(DIDKey.encode(wallet.publicKey)), "deposit": .string(String(deposit)),
      "sessionId": .string(secret.id.hex),
    ]
    return PrepaidSignature.sign(credential(challenge, payload, source: wallet), key: wallet)
  }

  /// Authenticates a request of a session.
  public static func bearer(_ challenge: Challenge, secret: SessionSecret) -> JSONObject {
    credential(challenge, ["action": "bearer", "sessionId": .string(secret.id.hex), "preimage": .string(secret.hex)], source: nil)
  }

  /// Adds to a session's budget, in base units.
  public static func topUp(
    _ challenge: Challenge, additionalDeposit: UInt128, session: Digest32, wallet: Ed25519.SigningKey
  ) -> JSONObject {
    let payload: JSONObject = [
      "action": "topUp", "sessionId": .string(session.hex), "additionalDeposit": .string(String(additionalDeposit)),
    ]
    return PrepaidSignature.sign(credential(challenge, payload, source: wallet), key: wallet)
  }

  /// Asks for a session's state.
  public static func status(_ challenge: Challenge, secret: SessionSecret) -> JSONObject {
    credential(challenge, ["action": "status", "sessionId": .string(secret.id.hex), "preimage": .string(secret.hex)], source: nil)
  }

  /// Ends a session by its secret.
  public static func close(_ challenge: Challenge, secret: SessionSecret) -> JSONObject {
    credential(challenge, ["action": "close", "sessionId": .string(secret.id.hex), "preimage": .string(secret.hex)], source: nil)
  }

  /// Ends a session by its wallet's signature, where the secret is lost.
  public static func close(_ challenge: Challenge, session: Digest32, wallet: Ed25519.SigningKey) -> JSONObject {
    let payload: JSONObject = [
      "action": "close", "sessionId": .string(session.hex), "wallet": .string(DIDKey.encode(wallet.publicKey)),
    ]
    return PrepaidSignature.sign(credential(challenge, payload, source: wallet), key: wallet)
  }

  private static func credential(_ challenge: Challenge, _ payload: JSONObject, source: Ed25519.SigningKey?) -> JSONObject {
    Credential.object(challenge: challenge, source: source.map { DIDKey.encode($0.publicKey) }, payload: payload)
  }
}
