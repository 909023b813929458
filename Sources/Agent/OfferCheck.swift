import Crypto
import Encoding
import Payments

/// Checks what a client must know before it pays (PREPAID.md, "The challenge"): that the challenge is of the host it talks to,
/// for the request it made, and that the provider has signed the offer.
///
/// Without these checks a provider could pass on somebody else's challenge, and have its clients pay for what others get.
struct OfferCheck {
  /// How far ahead of this machine's clock an invoice may have been issued.
  static let clockTolerance = Duration.seconds(60)

  let request: AgentRequest
  let now: Timestamp

  /// Checks the challenge by itself.
  ///
  /// - Throws: `.offer` naming the first check that fails.
  func check(_ offer: PrepaidOffer) throws(AgentError) {
    try check(offer.challenge)
    guard names(offer.details.resource) else { throw .offer(.resource) }
    try check(digest: offer.details.resource.digest)
  }

  /// Checks what a challenge of any method says beside its request object.
  ///
  /// - Throws: `.offer` naming the first check that fails.
  func check(_ challenge: Challenge) throws(AgentError) {
    guard covers(challenge.realm) else { throw .offer(.realm) }
    guard let expiry = challenge.expiry, now < expiry else { throw .offer(.expired) }
    try check(digest: challenge.digest)
    guard challenge.selectsAlternateField || !request.has("authorization") else { throw .offer(.header) }
  }

  /// The realm is the host, or a parent domain of it; an address has no parents, and neither has a top-level domain children.
  private func covers(_ realm: String) -> Bool {
    let realm = realm.lowercased()
    let address = request.address
    if realm == address.host || realm == address.authority { return true }
    return !address.isNumeric && realm.split(separator: ".").count > 1 && address.host.hasSuffix("." + realm)
  }

  /// Whether the resource is the request: the method and every part of the address.
  func names(_ resource: Resource) -> Bool {
    guard resource.method == request.method, let address = try? WebAddress(resource.url) else { return false }
    return address == request.address
  }

  private func check(digest named: String?) throws(AgentError) {
    guard let named else { return }
    guard try ContentDigest.parse(named) == request.content.digest() else { throw .offer(.digest) }
  }

  /// Verifies the invoice, and that it lists the offer as the challenge makes it.
  func check(_ offer: PrepaidOffer, invoice jws: String?, keys: [String: Ed25519.PublicKey]) throws(AgentError) -> Invoice {
    guard let jws else { throw .offer(.invoiceMissing) }
    let invoice: Invoice
    do throws(PaymentError) {
      invoice = try Invoice.verify(jws, issuer: issuer(of: jws, realm: offer.challenge.realm), at: now) { keys[$0] }
    } catch {
      throw .offer(Self.fault(error))
    }
    guard invoice.issuedAt - now <= Self.clockTolerance else { throw .offer(.invoiceTime) }
    guard names(invoice.resource) else { throw .offer(.invoiceResource) }
    do throws(PaymentError) { try invoice.check(offer.challenge) } catch { throw .offer(.invoiceOffer) }
    return invoice
  }

  /// The issuer that the invoice has to name: the origin that was asked, or the realm's where that is a parent domain.
  private func issuer(of jws: String, realm: String) -> String {
    let origin = request.address.origin
    let part = jws.split(separator: ".", omittingEmptySubsequences: false).dropFirst().first
    guard let octets = part.flatMap({ Base64URL.decode(String($0)) }),
      let named = (try? JSON.parse(octets))?.objectValue?["iss"]?.stringValue, let address = try? WebAddress(named)
    else { return origin }
    return address.host == realm.lowercased() || address.authority == realm.lowercased() ? named : origin
  }

  private static func fault(_ error: PaymentError) -> AgentError.OfferFault {
    switch error {
    case .expired: .invoiceTime
    case .malformed(.iss), .missing(.iss): .invoiceIssuer
    default: .invoiceSignature
    }
  }
}
