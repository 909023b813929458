import Bytes
import Crypto
import Encoding

/// Names the request field that a credential arrived in.
public enum CredentialField: Sendable, Hashable {
  case authorization, paymentAuthorization
}

/// A parsed Payment credential (draft-httpauth-payment-02, "Credentials"); not yet authentic, and never printed.
public struct Credential: Sendable, CustomStringConvertible {
  /// The most octets of the token, as encoded.
  public static let limit = 64 * 1024

  /// The echoed challenge, every member as it was sent.
  public let challenge: Challenge
  /// The decoded id: one value however it was spelled.
  public let challengeID: Digest32
  /// The decoded `request` of the challenge.
  public let request: JSONObject
  /// The decoded `opaque` of the challenge; empty where there is none.
  public let opaque: JSONObject
  public let source: String?
  public let payload: JSONObject
  public let field: CredentialField
  /// The credential as sent, for signatures over its JCS.
  public let signedObject: JSONValue

  /// Keeps payment data out of logs.
  public var description: String { "<credential>" }

  /// The instant of `expires`; nil where it is absent or malformed.
  public var expires: Timestamp? { challenge.expiry }

  /// Parses the token68 that follows the scheme.
  ///
  /// Unknown members are ignored, as the draft demands; they stay in `signedObject`.
  ///
  /// - Throws: `tooLarge`, `severalCredentials`, `notBase64URL`, `malformedJSON`, `notAnObject`, `missing`, `malformed`,
  ///   `unknownChallenge` where the id is none of ours in form, `fieldNotSelected` where the challenge selected another field.
  public static func parse(
    _ token: UnsafeRawBufferPointer, field: CredentialField, limit: Int = Credential.limit
  ) throws(PaymentError) -> Credential {
    guard token.count <= limit else { throw .tooLarge(limit: limit) }
    guard !token.isEmpty, let octets = Base64URL.decode(token) else { throw .notBase64URL }
    return try Credential(reading: try EncodedObject.parse(octets), field: field)
  }

  /// Reads the decoded object; nil for `field`: it came in none, as in the messages of other transports, and any may have been selected.
  ///
  /// - Throws: as `parse`, but for what concerns its encoding.
  public init(reading object: JSONObject, field: CredentialField?) throws(PaymentError) {
    guard let echo = object["challenge"] else { throw .missing(.challenge) }
    guard let echo = echo.objectValue else { throw .malformed(.challenge) }
    guard let payload = object["payload"] else { throw .missing(.payload) }
    guard let payload = payload.objectValue else { throw .malformed(.payload) }
    let challenge = try Challenge(echo: echo)
    guard let id = Base64URL.decodeDigest(challenge.id) else { throw .unknownChallenge }
    let opaque = try challenge.opaque.map { text throws(PaymentError) in
      try EncodedObject.decode(text, limit: Challenge.requestLimit)
    }
    if let opaque { try Challenge.checkFlat(opaque) }
    let selected = challenge.selectsAlternateField ? CredentialField.paymentAuthorization : .authorization
    guard field ?? selected == selected else { throw .fieldNotSelected }
    self.challenge = challenge
    challengeID = id
    request = try challenge.requestObject()
    self.opaque = opaque ?? JSONObject()
    source = try object.optionalString(.source)
    self.payload = payload
    self.field = selected
    signedObject = .object(object)
  }

  /// Tells whether one of the secrets issued the echoed challenge.
  ///
  /// The slots are taken as echoed first. Clients that decode `request` or `opaque` and serialise them again, or drop
  /// the colons of a digest, are met by a second try over the canonical forms.
  public func isAuthentic(_ secrets: ChallengeSecrets) -> Bool {
    if isBound(challenge, secrets) { return true }
    let canonical = Challenge(
      id: challenge.id, realm: challenge.realm, method: challenge.method, intent: challenge.intent,
      request: Base64URL.encode(JCS.serialize(request)), expires: challenge.expires,
      digest: challenge.digest.flatMap { ContentDigest.parse($0) }.map { ContentDigest.text($0) } ?? challenge.digest,
      opaque: challenge.opaque.map { _ in Base64URL.encode(JCS.serialize(opaque)) },
      selectsAlternateField: challenge.selectsAlternateField, description: nil)
    guard canonical.request != challenge.request || canonical.opaque != challenge.opaque || canonical.digest != challenge.digest
    else { return false }
    return isBound(canonical, secrets)
  }

  private func isBound(_ challenge: Challenge, _ secrets: ChallengeSecrets) -> Bool {
    guard let input = try? challenge.bindingInput() else { return false }
    return input.withUnsafeBytes { secrets.isValid(challengeID, $0) }
  }

  /// Tells whether the challenge's time is over; one without a readable `expires` always is.
  public func isExpired(at now: Timestamp) -> Bool {
    guard let expires else { return true }
    return now >= expires
  }
}

extension Challenge {
  /// Reads the `challenge` member of a credential.
  fileprivate init(echo: JSONObject) throws(PaymentError) {
    let method = try echo.string(.method)
    guard MethodIdentifier.isMethod(method) else { throw .malformed(.method) }
    let intent = try echo.string(.intent)
    guard MethodIdentifier.isIntent(intent) else { throw .malformed(.intent) }
    let header = try echo.optionalString(.header)
    guard header == nil || header == Challenge.alternateField else { throw .malformed(.header) }
    // An empty string fills its slot as an absent member does: it would be a second spelling of one challenge.
    for member in [PaymentError.Member.expires, .digest, .opaque] where echo[member.rawValue] == "" { throw .malformed(member) }
    self.init(
      id: try echo.string(.id), realm: try echo.string(.realm), method: method, intent: intent,
      request: try echo.string(.request), expires: try echo.optionalString(.expires),
      digest: try echo.optionalString(.digest), opaque: try echo.optionalString(.opaque),
      selectsAlternateField: header != nil, description: try echo.optionalString(.description))
  }
}

// What a client sends.
extension Credential {
  /// Builds the credential's object; a method's signature is made over its JCS and then set into `payload`.
  public static func object(challenge: Challenge, source: String?, payload: JSONObject) -> JSONObject {
    var object: JSONObject = ["challenge": .object(challenge.echo), "payload": .object(payload)]
    if let source { object.set("source", .string(source)) }
    return object
  }

  /// Encodes the credential as the value of the field that its challenge selected.
  public static func fieldValue(_ object: JSONObject) -> String {
    "Payment " + Base64URL.encode(JCS.serialize(object))
  }
}
