import Bytes
import Crypto
import Encoding

/// One offer of a 402: a `Payment` challenge of `WWW-Authenticate`
/// (draft-httpauth-payment-02, "Challenge").
public struct Challenge: Sendable, Hashable {
  /// The value of the `header` parameter, and the field that it selects.
  public static let alternateField = "Payment-Authorization"
  /// The most octets of the `request` parameter as encoded.
  public static let requestLimit = 16 * 1024

  /// b64u of the binding's HMAC where this proxy issued it; any text where another server did.
  public let id: String
  public let realm: String
  public let method: String
  public let intent: String
  /// b64u of the JCS of the request object, as on the wire.
  public let request: String
  /// RFC 3339.
  public let expires: String?
  /// Content digest of the request's body (RFC 9530).
  public let digest: String?
  /// b64u of the JCS of a flat object of strings, as on the wire.
  public let opaque: String?
  /// Whether the credential goes into `Payment-Authorization` in place of `Authorization`.
  public let selectsAlternateField: Bool
  /// For display only; the binding does not cover it.
  public let description: String?

  /// Takes over parameters that have been checked, with an id from elsewhere.
  init(
    id: String, realm: String, method: String, intent: String, request: String, expires: String?,
    digest: String?, opaque: String?, selectsAlternateField: Bool, description: String?
  ) {
    self.id = id
    self.realm = realm
    self.method = method
    self.intent = intent
    self.request = request
    self.expires = expires
    self.digest = digest
    self.opaque = opaque
    self.selectsAlternateField = selectsAlternateField
    self.description = description
  }

  /// Issues a challenge: serialises `request` and `opaque` by JCS and computes the id with the current secret.
  ///
  /// - Throws: `ambiguousBinding`, `controlCharacter`, `malformed` or `tooLarge` where a parameter cannot be bound or sent.
  public init(
    realm: String, method: String, intent: String, request: JSONObject, expires: Timestamp,
    digest: Digest32? = nil, opaque: JSONObject? = nil, selectsAlternateField: Bool = false,
    description: String? = nil, secrets: ChallengeSecrets
  ) throws(PaymentError) {
    guard MethodIdentifier.isMethod(method) else { throw .malformed(.method) }
    guard MethodIdentifier.isIntent(intent) else { throw .malformed(.intent) }
    if let opaque { try Challenge.checkFlat(opaque) }
    let encoded = Base64URL.encode(JCS.serialize(request))
    guard encoded.utf8.count <= Challenge.requestLimit else { throw .tooLarge(limit: Challenge.requestLimit) }
    let unbound = Challenge(
      id: "", realm: realm, method: method, intent: intent, request: encoded, expires: expires.rfc3339,
      digest: digest.map { ContentDigest.text($0) },
      opaque: opaque.map { Base64URL.encode(JCS.serialize($0)) },
      selectsAlternateField: selectsAlternateField, description: description)
    for (member, value) in unbound.parameters {
      guard QuotedString.isPrintable(value) else { throw .controlCharacter(member) }
    }
    let tag = try unbound.bindingInput().withUnsafeBytes { secrets.current.authenticate($0) }
    self = unbound.with(id: Base64URL.encode(tag))
  }

  private func with(id: String) -> Challenge {
    Challenge(
      id: id, realm: realm, method: method, intent: intent, request: request, expires: expires, digest: digest,
      opaque: opaque, selectsAlternateField: selectsAlternateField, description: description)
  }

  /// The octets that the id authenticates: seven slots joined by `|`, and an eighth where `header` is present
  /// ("Recommended: HMAC-SHA256 Binding").
  ///
  /// - Throws: `ambiguousBinding` where a slot holds the separator.
  func bindingInput() throws(PaymentError) -> [UInt8] {
    let slots: [(PaymentError.Member, String)] = [
      (.realm, realm), (.method, method), (.intent, intent), (.request, request),
      (.expires, expires ?? ""), (.digest, digest ?? ""), (.opaque, opaque ?? ""),
    ]
    var octets: [UInt8] = []
    octets.reserveCapacity(slots.reduce(64) { $0 + $1.1.utf8.count })
    for (index, (member, value)) in slots.enumerated() {
      guard !value.utf8.contains(0x7C) else { throw .ambiguousBinding(member) }
      if index > 0 { octets.append(0x7C) }
      octets.append(contentsOf: value.utf8)
    }
    if selectsAlternateField {
      octets.append(0x7C)
      octets.append(contentsOf: Challenge.alternateField.utf8)
    }
    return octets
  }

  /// The parameters that are present, in the order in which they are sent.
  private var parameters: [(PaymentError.Member, String)] {
    var list: [(PaymentError.Member, String)] = [
      (.id, id), (.realm, realm), (.method, method), (.intent, intent), (.request, request),
    ]
    if let expires { list.append((.expires, expires)) }
    if let digest { list.append((.digest, digest)) }
    if let description { list.append((.description, description)) }
    if selectsAlternateField { list.append((.header, Challenge.alternateField)) }
    if let opaque { list.append((.opaque, opaque)) }
    return list
  }

  /// Appends the value of one `WWW-Authenticate` line.
  public func append(to out: inout ByteBuffer) {
    out.append("Payment " as StaticString)
    for (index, (member, value)) in parameters.enumerated() {
      if index > 0 { out.append(", " as StaticString) }
      out.append(member.rawValue)
      out.append("=" as StaticString)
      QuotedString.append(value, to: &out)
    }
  }

  /// The value of one `WWW-Authenticate` line.
  public var fieldValue: String {
    var out = ByteBuffer()
    append(to: &out)
    return out.string()
  }

  /// Decodes the request object.
  public func requestObject() throws(PaymentError) -> JSONObject {
    try EncodedObject.decode(request, limit: Challenge.requestLimit)
  }

  /// The instant of `expires`; nil where it is absent or no RFC 3339 date-time.
  public var expiry: Timestamp? { expires.flatMap { Timestamp(rfc3339: $0) } }

  /// The `challenge` member of a credential for this challenge: every parameter unchanged.
  public var echo: JSONObject {
    var object = JSONObject()
    for (member, value) in parameters { object.set(member.rawValue, .string(value)) }
    return object
  }

  /// Tells whether the realm is `host` or one of its parent domains; without regard to case.
  public func covers(host: String) -> Bool {
    let realm = realm.lowercased()
    let host = host.lowercased()
    return host == realm || (realm.utf8.contains(0x2E) && host.hasSuffix("." + realm))
  }

  static func checkFlat(_ opaque: JSONObject) throws(PaymentError) {
    for (_, value) in opaque.members where value.stringValue == nil { throw .malformed(.opaque) }
  }
}
