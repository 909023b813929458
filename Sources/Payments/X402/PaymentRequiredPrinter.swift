import Bytes
import Encoding

/// Prints what a priced route's 402 says in x402: the field of version 2, the body of version 1, and the object of other transports.
///
/// Everything that is the same for each request of the route is serialised once, the field's base64 included; what a request adds
/// (its URL, the reason, a sign-in's nonce, signed offers) stands at the end of the object, so that one 402 encodes little more.
public struct PaymentRequiredPrinter: Sendable {
  /// The octets that a field's value is kept below by leaving out what serves display and validation only: intermediaries are
  /// known that drop fields beyond.
  public static let aim = 2048
  /// The most octets of a field's value; there, whole extensions are left out.
  public static let limit = 8192
  /// The octets of the aim that are kept for the URL.
  static let urlReserve = 256
  /// The most offers of one 402.
  public static let offerLimit = 16

  /// The offers in the provider's order.
  public let offers: [PaymentRequirements]
  /// What is sold, without its URL.
  public let resource: ResourceInfo
  /// What is declared of sign-in-with-x; nil where who paid cannot come back.
  public let signIn: SignInWithX?
  /// Signs each offer of each 402; nil for no signed offers. It may change with the key.
  public var offerReceipt: OfferReceipt?
  let offerLifetime: Duration

  /// What of the declared extensions found room.
  public let extensions: [ExtensionDeclaration]
  private let prepared: PreparedPaymentRequired
  private let requirementsV1: [PreparedRequirementsV1]

  /// Prepares a route's offers at one price.
  ///
  /// - Parameters:
  ///   - extensions: payment-identifier, bazaar; in the order of their worth.
  ///   - offerReceipt: signs each offer of each 402, at the cost of one signature each; nil for no signed offers.
  ///   - signsOffers: whether room is kept for signed offers, though who signs them is told later.
  ///   - offerLifetime: how long a signed offer binds the server.
  /// - Throws: `missing(.accepts)`, `tooMany(.accepts)`; `tooLarge` where not even the bare offers are below the limit.
  public init(
    offers: [PaymentRequirements], resource: ResourceInfo, extensions: [ExtensionDeclaration] = [], signIn: SignInWithX? = nil,
    offerReceipt: OfferReceipt? = nil, signsOffers: Bool = false, offerLifetime: Duration = .seconds(300)
  ) throws(X402Error) {
    guard !offers.isEmpty else { throw .missing(.accepts) }
    guard offers.count <= Self.offerLimit else { throw .tooMany(.accepts, limit: Self.offerLimit) }
    self.offers = offers
    self.resource = resource
    self.signIn = signIn
    self.offerReceipt = offerReceipt
    self.offerLifetime = offerLifetime
    prepared = try PreparedPaymentRequired(
      offers: offers, resource: resource, extensions: extensions, signIn: signIn, offersAreSigned: signsOffers || offerReceipt != nil)
    self.extensions = prepared.extensions
    // The strict client of version 1 refuses the whole body for a network that it does not know, so such offers stand there
    // only where they are the only ones.
    let named = offers.filter(\.network.isKnownToStrictClients)
    requirementsV1 = (named.isEmpty ? offers : named).compactMap { PreparedRequirementsV1($0, info: resource) }
  }

  /// Whether version 1 has words for any of the offers.
  public var speaksV1: Bool { !requirementsV1.isEmpty }

  /// Appends the object of version 2, as other transports carry it.
  public func append(json occasion: PaymentRequiredOccasion, correction: ChannelCorrection? = nil, to out: inout ByteBuffer) {
    append(occasion, correction, Detail(signsIn: true, signsOffers: true, hasQuery: true), to: &out)
  }

  /// Appends the field line `PAYMENT-REQUIRED` with its CR LF.
  ///
  /// Where the URL makes it larger than the limit, signed offers are left out, then the sign-in, then the URL's query.
  ///
  /// - Throws: `tooLarge` where that does not help; nothing is appended then.
  public func appendField(
    _ occasion: PaymentRequiredOccasion, correction: ChannelCorrection? = nil, to out: inout ByteBuffer
  ) throws(X402Error) {
    let start = out.count
    for detail in Detail.all {
      out.append("PAYMENT-REQUIRED: " as StaticString)
      let valueStart = out.count
      var json = ByteBuffer(capacity: 512)
      if correction == nil {
        out.append(prepared.encodedPrefix)
        appendTail(occasion, detail, to: &json)
      } else {
        append(occasion, correction, detail, to: &json)
      }
      json.withUnsafeBytes { Base64.append($0, to: &out) }
      guard out.count - valueStart > Self.limit else {
        out.append("\r\n" as StaticString)
        return
      }
      out.truncate(to: start)
    }
    throw .tooLarge(limit: Self.limit)
  }

  /// Appends the members of version 1's body, without braces, so that they may stand beside those of a problem document:
  /// `"x402Version":1,"error":"…","accepts":[…]`. Nothing where version 1 has no words for the offers.
  public func appendBodyMembers(_ occasion: PaymentRequiredOccasion, to out: inout ByteBuffer) {
    guard speaksV1 else { return }
    out.append("\"x402Version\":1,\"error\":\"" as StaticString)
    Self.appendReason(occasion, to: &out)
    out.append("\",\"accepts\":[" as StaticString)
    var url = ByteBuffer(capacity: 256)
    occasion.appendURL(to: &url)
    for (index, requirement) in requirementsV1.enumerated() {
      if index > 0 { out.append(byte: 0x2C) }
      url.withUnsafeBytes { requirement.append(url: $0, to: &out) }
    }
    out.append(byte: 0x5D)
  }

  /// Appends the body of version 1, or `{}` where it has no words for the offers.
  public func appendBody(_ occasion: PaymentRequiredOccasion, to out: inout ByteBuffer) {
    out.append(byte: 0x7B)
    appendBodyMembers(occasion, to: &out)
    out.append(byte: 0x7D)
  }

  /// Names the extension that a payment echoes otherwise than it was declared; nil where none is. In version 1 nothing is echoed.
  public func mismatchedExtension(in payload: PaymentPayload) -> String? {
    guard payload.version == .v2 else { return nil }
    return extensions.first { !$0.isEchoed(by: payload.extensions) }?.key
  }

  /// What of a request's own is printed.
  private struct Detail {
    let signsIn: Bool
    let signsOffers: Bool
    let hasQuery: Bool

    static let all = [
      Detail(signsIn: true, signsOffers: true, hasQuery: true), Detail(signsIn: true, signsOffers: false, hasQuery: true),
      Detail(signsIn: false, signsOffers: false, hasQuery: true), Detail(signsIn: false, signsOffers: false, hasQuery: false),
    ]
  }

  private func append(
    _ occasion: PaymentRequiredOccasion, _ correction: ChannelCorrection?, _ detail: Detail, to out: inout ByteBuffer
  ) {
    prepared.appendPrefix(correction, to: &out)
    appendTail(occasion, detail, to: &out)
  }

  /// Appends what follows the prepared part: the extensions of this request, the error and the resource.
  private func appendTail(_ occasion: PaymentRequiredOccasion, _ detail: Detail, to out: inout ByteBuffer) {
    var comma = prepared.extensions.isEmpty ? "" : "," as StaticString
    if let signIn, detail.signsIn {
      out.append(comma)
      comma = ","
      var url = ByteBuffer(capacity: 256)
      url.appendURL(origin: occasion.origin, path: occasion.path, query: detail.hasQuery ? occasion.query : nil)
      url.withUnsafeBytes {
        signIn.append(uri: $0, nonce: occasion.nonce, now: occasion.now, withSchema: prepared.hasSchemas, to: &out)
      }
    }
    if let offerReceipt, detail.signsOffers {
      out.append(comma)
      // What is signed is the URL itself, without the escapes that it needs within JSON.
      var url = ByteBuffer(capacity: 256)
      occasion.appendURL(to: &url)
      let text = url.string()
      OfferReceipt.append(
        offers: offers.map { offerReceipt.offer($0, url: text, validUntil: occasion.now + offerLifetime) },
        withSchema: prepared.hasSchemas, to: &out)
    }
    out.append("},\"error\":\"" as StaticString)
    Self.appendReason(occasion, to: &out)
    out.append("\",\"resource\":{" as StaticString)
    out.append(prepared.resource)
    out.append("\"url\":\"" as StaticString)
    out.appendURL(origin: occasion.origin, path: occasion.path, query: detail.hasQuery ? occasion.query : nil)
    out.append("\"}}" as StaticString)
  }

  private static func appendReason(_ occasion: PaymentRequiredOccasion, to out: inout ByteBuffer) {
    if let reason = occasion.reason {
      out.append(reason.rawValue)
    } else {
      out.append("Payment required" as StaticString)
    }
  }
}
