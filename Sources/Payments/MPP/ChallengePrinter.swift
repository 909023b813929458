import Bytes
import Crypto
import Encoding

/// Prints a priced route's 402: challenges, signed invoice and problem document.
///
/// Everything that is the same for each request of the route is serialised once, when the configuration is read;
/// one 402 costs one HMAC and one hash per offer, and one signature.
public struct ChallengePrinter: Sendable {
  /// The offers in the provider's order, for ranking and for the discovery documents.
  public private(set) var offers: [Offer]
  /// How long a challenge holds.
  public let lifetime: Duration
  /// Where our problem types and the invoice's `iss` stand: `https://api.example.com`.
  public let issuer: String

  private var prepared: [PreparedOffer]
  private let issuerClaim: [UInt8]
  private let opaqueEnd: [UInt8]
  private let alternateSlot: [UInt8]

  /// Prepares a route's offers.
  ///
  /// - Parameters:
  ///   - route: the route's id, as bound in `opaque`.
  ///   - realm: the host, or a parent domain of it; without `|`.
  ///   - issuer: the realm's origin, without a slash at its end.
  ///   - lifetime: of whole seconds.
  /// - Throws: `malformed`, `ambiguousBinding` or `controlCharacter` where a constant cannot be sent or bound;
  ///   `missing(.offers)` where there are none, unless `isOptional`: the route is then sold by another dialect alone, and its 402 has neither
  ///   challenge nor invoice.
  public init(
    route: String, realm: String, issuer: String, priceVersion: String, selectsAlternateField: Bool = false,
    lifetime: Duration = .seconds(300), offers: [Offer], isOptional: Bool = false
  ) throws(PaymentError) {
    guard !offers.isEmpty || isOptional else { throw .missing(.offers) }
    var prepared: [PreparedOffer] = []
    for offer in offers {
      prepared.append(try PreparedOffer(offer, realm: realm, selectsAlternateField: selectsAlternateField))
    }
    self.prepared = prepared
    self.offers = offers
    self.lifetime = lifetime
    self.issuer = issuer
    var out = ByteBuffer()
    out.append(",\"iss\":" as StaticString)
    JCS.append(string: issuer, to: &out)
    out.append(",\"offers\":[" as StaticString)
    issuerClaim = out.array()
    out.removeAll()
    out.append("\",\"price\":" as StaticString)
    JCS.append(string: priceVersion, to: &out)
    out.append(",\"route\":" as StaticString)
    JCS.append(string: route, to: &out)
    opaqueEnd = out.array()
    alternateSlot = selectsAlternateField ? Array("|\(Challenge.alternateField)".utf8) : []
  }

  /// The same printer with another offer at a place: what one request is offered differs from what all are.
  ///
  /// - Throws: as above.
  public func replacing(_ place: Int, with offer: Offer, realm: String) throws(PaymentError) -> ChallengePrinter {
    guard offers.indices.contains(place) else { throw .missing(.offers) }
    var printer = self
    printer.offers[place] = offer
    printer.prepared[place] = try PreparedOffer(offer, realm: realm, selectsAlternateField: !alternateSlot.isEmpty)
    return printer
  }

  /// Returns the order in which a client's preferences put the offers.
  public func order(_ preferences: AcceptPayment) -> [Int] {
    preferences.rank(offers.map { ($0.method, $0.intent) })
  }

  /// Appends the 402's field lines (challenges, invoice, `Cache-Control`, `Content-Type`) to `fields` and its
  /// document to `body`.
  ///
  /// - Throws: `tooLarge` where the URL makes `request` exceed 16 KiB; both buffers are then to be dropped.
  public func print(
    _ occasion: ChallengeOccasion, secrets: ChallengeSecrets, signer: DocumentSigner, scratch: inout ChallengeScratch,
    fields: inout ByteBuffer, body: inout ByteBuffer
  ) throws(PaymentError) {
    guard !prepared.isEmpty else { return printBare(occasion, fields: &fields, body: &body) }
    let expires = occasion.now + lifetime
    prepare(occasion, expires: expires, &scratch)
    scratch.claims.removeAll()
    scratch.claims.append("{\"exp\":" as StaticString)
    scratch.claims.append(decimal: UInt64(clamping: expires.seconds))
    scratch.claims.append(",\"iat\":" as StaticString)
    scratch.claims.append(decimal: UInt64(clamping: occasion.now.seconds))
    scratch.claims.append(issuerClaim)
    scratch.firstID.removeAll()
    if let order = occasion.order, !order.isEmpty {
      for index in order where prepared.indices.contains(index) {
        try append(prepared[index], secrets, &scratch, to: &fields)
      }
    } else {
      for offer in prepared { try append(offer, secrets, &scratch, to: &fields) }
    }
    scratch.claims.append("],\"resource\":" as StaticString)
    scratch.claims.append(scratch.resource)
    scratch.claims.append(byte: 0x7D)
    sign(signer, &scratch)
    fields.append("Payment-Invoice: " as StaticString)
    fields.append(scratch.invoice)
    fields.append("\r\nCache-Control: no-store\r\nContent-Type: application/problem+json\r\n" as StaticString)
    occasion.problem.appendOpen(origin: issuer, detail: occasion.detail, to: &body)
    body.append(",\"challengeId\":\"" as StaticString)
    body.append(scratch.firstID)
    body.append("\",\"invoice\":\"" as StaticString)
    body.append(scratch.invoice)
    body.append(byte: 0x22)
    occasion.problem.appendClose(occasion.members, to: &body)
  }

  /// Prints the problem alone.
  private func printBare(_ occasion: ChallengeOccasion, fields: inout ByteBuffer, body: inout ByteBuffer) {
    fields.append("Cache-Control: no-store\r\nContent-Type: application/problem+json\r\n" as StaticString)
    occasion.problem.appendOpen(origin: issuer, detail: occasion.detail, to: &body)
    occasion.problem.appendClose(occasion.members, to: &body)
  }

  /// Writes what all offers of this 402 share: resource, opaque, expires, digest.
  private func prepare(_ occasion: ChallengeOccasion, expires: Timestamp, _ scratch: inout ChallengeScratch) {
    scratch.expires.removeAll()
    expires.append(rfc3339: &scratch.expires)
    scratch.digest.removeAll()
    scratch.resource.removeAll()
    scratch.resource.append(byte: 0x7B)
    if let digest = occasion.digest {
      scratch.digest.append(ContentDigest.text(digest))
      scratch.resource.append("\"digest\":\"" as StaticString)
      scratch.resource.append(scratch.digest)
      scratch.resource.append("\"," as StaticString)
    }
    scratch.resource.append("\"method\":\"" as StaticString)
    scratch.resource.append(occasion.method)
    scratch.resource.append("\",\"url\":\"" as StaticString)
    scratch.resource.appendURL(origin: occasion.origin, path: occasion.path, query: occasion.query)
    scratch.resource.append("\"}" as StaticString)
    scratch.json.removeAll()
    scratch.json.append("{\"method\":\"" as StaticString)
    scratch.json.append(occasion.method)
    scratch.json.append("\",\"n\":\"" as StaticString)
    withUnsafeBytes(of: occasion.nonce) { Base64URL.append($0, to: &scratch.json) }
    scratch.json.append(opaqueEnd)
    if occasion.path.count + (occasion.query.map { $0.count + 1 } ?? 0) <= RouteBinding.targetLimit {
      scratch.json.append(",\"target\":\"" as StaticString)
      scratch.json.appendTarget(path: occasion.path, query: occasion.query)
    } else {
      scratch.json.append(",\"targetHash\":\"" as StaticString)
      scratch.json.append(RouteBinding.hash(path: occasion.path, query: occasion.query))
    }
    scratch.json.append("\"}" as StaticString)
    scratch.opaque.removeAll()
    Base64URL.append(scratch.json, to: &scratch.opaque)
  }

  /// Appends one challenge's line, and its entry to the invoice's claims.
  private func append(
    _ offer: PreparedOffer, _ secrets: ChallengeSecrets, _ scratch: inout ChallengeScratch, to fields: inout ByteBuffer
  ) throws(PaymentError) {
    scratch.json.removeAll()
    scratch.json.append(offer.requestPrefix)
    scratch.json.append(scratch.resource)
    scratch.json.append(offer.requestSuffix)
    scratch.request.removeAll()
    Base64URL.append(scratch.json, to: &scratch.request)
    guard scratch.request.count <= Challenge.requestLimit else { throw .tooLarge(limit: Challenge.requestLimit) }
    scratch.binding.removeAll()
    scratch.binding.append(offer.bindingPrefix)
    scratch.binding.append(scratch.request)
    scratch.binding.append(byte: 0x7C)
    scratch.binding.append(scratch.expires)
    scratch.binding.append(byte: 0x7C)
    scratch.binding.append(scratch.digest)
    scratch.binding.append(byte: 0x7C)
    scratch.binding.append(scratch.opaque)
    scratch.binding.append(alternateSlot)
    let tag = scratch.binding.withUnsafeBytes { secrets.current.authenticate($0) }
    let hash = scratch.request.withUnsafeBytes { SHA256.hash($0) }

    fields.append("WWW-Authenticate: Payment id=\"" as StaticString)
    Base64URL.append(tag, to: &fields)
    fields.append(offer.lineMiddle)
    fields.append(scratch.request)
    fields.append("\", expires=\"" as StaticString)
    fields.append(scratch.expires)
    fields.append(byte: 0x22)
    if !scratch.digest.isEmpty {
      fields.append(", digest=\"" as StaticString)
      fields.append(scratch.digest)
      fields.append(byte: 0x22)
    }
    fields.append(offer.lineEnd)
    fields.append(scratch.opaque)
    fields.append("\"\r\n" as StaticString)

    if scratch.firstID.isEmpty {
      Base64URL.append(tag, to: &scratch.firstID)
    } else {
      scratch.claims.append(byte: 0x2C)
    }
    scratch.claims.append(offer.invoicePrefix)
    Base64URL.append(tag, to: &scratch.claims)
    scratch.claims.append(offer.invoiceMiddle)
    Base64URL.append(hash, to: &scratch.claims)
    scratch.claims.append("\"}" as StaticString)
  }

  /// Makes the compact JWS of the claims.
  private func sign(_ signer: DocumentSigner, _ scratch: inout ChallengeScratch) {
    scratch.invoice.removeAll()
    scratch.invoice.append(signer.invoiceHeader)
    Base64URL.append(scratch.claims, to: &scratch.invoice)
    scratch.signature.removeAll()
    scratch.invoice.sign(signer.key, to: &scratch.signature)
    scratch.invoice.append(byte: 0x2E)
    Base64URL.append(scratch.signature, to: &scratch.invoice)
  }
}

extension ByteBuffer {
  /// Appends the signature of this buffer's octets to another.
  fileprivate borrowing func sign(_ key: Ed25519.SigningKey, to out: inout ByteBuffer) {
    withUnsafeBytes { key.sign($0, into: &out) }
  }
}
