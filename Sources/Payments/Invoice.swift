import Bytes
import Crypto
import Encoding

/// What a 402 asks for, signed: the claims of the compact JWS in `Payment-Invoice`
/// (PREPAID.md, "Receipts, invoices, keys"; RFC 7515, RFC 8037).
public struct Invoice: Sendable, Hashable {
  /// The JOSE header's `typ`.
  public static let type = "payment-invoice+jwt"
  /// The most offers that are read.
  public static let offerLimit = 32

  public struct Offer: Sendable, Hashable {
    /// The challenge's id.
    public let id: String
    public let method: String
    public let intent: String
    public let amount: UInt128
    public let currency: String
    public let recipient: String?
    /// SHA-256 of the challenge's `request` parameter as it stands on the wire.
    public let request: Digest32

    public init(
      id: String, method: String, intent: String, amount: UInt128, currency: String, recipient: String?, request: Digest32
    ) {
      self.id = id
      self.method = method
      self.intent = intent
      self.amount = amount
      self.currency = currency
      self.recipient = recipient
      self.request = request
    }
  }

  /// The origin of the realm.
  public let issuer: String
  /// Of whole seconds.
  public let issuedAt: Timestamp
  /// Of whole seconds.
  public let expires: Timestamp
  public let resource: Resource
  public let offers: [Offer]

  public init(issuer: String, issuedAt: Timestamp, expires: Timestamp, resource: Resource, offers: [Offer]) {
    self.issuer = issuer
    self.issuedAt = issuedAt
    self.expires = expires
    self.resource = resource
    self.offers = offers
  }

  /// The claims.
  public var json: JSONObject {
    [
      "exp": .integer(expires.seconds), "iat": .integer(issuedAt.seconds), "iss": .string(issuer),
      "offers": .array(offers.map { .object($0.json) }), "resource": .object(resource.json),
    ]
  }

  /// Returns the compact JWS.
  public func signed(by signer: DocumentSigner) -> [UInt8] {
    var out = ByteBuffer()
    out.append(signer.invoiceHeader)
    Base64URL.append(JCS.serialize(json), to: &out)
    let signature = out.withUnsafeBytes { signer.key.sign($0) }
    out.append(byte: 0x2E)
    Base64URL.append(signature, to: &out)
    return out.array()
  }

  /// Verifies signature, type, issuer and time.
  ///
  /// - Parameter issuer: the origin that the client talks to.
  /// - Throws: `tooLarge`, `notBase64URL`, `malformedJSON`, `invalidSignature`, `unknownKey`, `wrongType`, `missing`, `malformed`, or
  ///   `expired` where `exp` has passed.
  public static func verify(
    _ jws: String, issuer: String, at now: Timestamp, keys: (_ kid: String) -> Ed25519.PublicKey?
  ) throws(PaymentError) -> Invoice {
    let (header, claims) = try documents(jws, keys: keys)
    guard header["typ"] == .string(type) else { throw .wrongType }
    let invoice = try Invoice(claims)
    guard invoice.issuer == issuer else { throw .malformed(.iss) }
    guard now < invoice.expires else { throw .expired }
    return invoice
  }

  /// Checks that the invoice lists the challenge: id, hash of its request, and what the request asks for.
  ///
  /// - Throws: `challengeNotListed` or `offerMismatch`.
  public func check(_ challenge: Challenge) throws(PaymentError) {
    guard let offer = offers.first(where: { $0.id == challenge.id }) else { throw .challengeNotListed }
    guard offer.request == SHA256.hash(challenge.request) else { throw .challengeNotListed }
    guard offer.method == challenge.method else { throw .offerMismatch(.method) }
    guard offer.intent == challenge.intent else { throw .offerMismatch(.intent) }
    let request = try challenge.requestObject()
    guard try request.units(.amount) == offer.amount else { throw .offerMismatch(.amount) }
    guard try request.string(.currency) == offer.currency else { throw .offerMismatch(.currency) }
    guard try request.optionalString(.recipient) == offer.recipient else { throw .offerMismatch(.recipient) }
  }

  /// Verifies the serialisation and decodes its parts.
  private static func documents(
    _ jws: String, keys: (_ kid: String) -> Ed25519.PublicKey?
  ) throws(PaymentError) -> (header: JSONObject, payload: JSONObject) {
    do throws(JWSError) {
      return try JWS.verifyCompact(jws, keys: keys)
    } catch {
      switch error {
      case .tooLarge: throw .tooLarge(limit: JWS.maximumCount)
      case .unknownKey: throw .unknownKey
      case .invalidSignature: throw .invalidSignature
      case .unsupportedAlgorithm, .criticalExtension, .missingKeyID: throw .wrongType
      case .malformed, .malformedHeader: throw .notBase64URL
      case .malformedPayload: throw .malformedJSON
      }
    }
  }

  private init(_ claims: JSONObject) throws(PaymentError) {
    guard let values = claims["offers"]?.arrayValue else { throw .missing(.offers) }
    guard (1...Invoice.offerLimit).contains(values.count) else { throw .malformed(.offers) }
    var offers: [Offer] = []
    for value in values {
      guard let object = value.objectValue else { throw .malformed(.offers) }
      offers.append(try Offer(object))
    }
    self.init(
      issuer: try claims.string(.iss), issuedAt: try Invoice.instant(claims, .iat), expires: try Invoice.instant(claims, .exp),
      resource: try Resource(claims["resource"]), offers: offers)
  }

  private static func instant(_ claims: JSONObject, _ member: PaymentError.Member) throws(PaymentError) -> Timestamp {
    guard let value = claims[member.rawValue] else { throw .missing(member) }
    // The year 9999 bounds what a Timestamp spells.
    guard let seconds = value.intValue, (0...253_402_300_799).contains(seconds) else { throw .malformed(member) }
    return Timestamp(seconds: Int64(seconds))
  }
}

extension Invoice.Offer {
  var json: JSONObject {
    var object: JSONObject = [
      "amount": .string(String(amount)), "currency": .string(currency), "id": .string(id), "intent": .string(intent),
      "method": .string(method), "request": .string(Base64URL.encode(request)),
    ]
    if let recipient { object.set("recipient", .string(recipient)) }
    return object
  }

  fileprivate init(_ object: JSONObject) throws(PaymentError) {
    guard let request = Base64URL.decodeDigest(try object.string(.request)) else {
      throw .malformed(.request)
    }
    self.init(
      id: try object.string(.id), method: try object.string(.method), intent: try object.string(.intent),
      amount: try object.units(.amount), currency: try object.string(.currency),
      recipient: try object.optionalString(.recipient), request: request)
  }
}
