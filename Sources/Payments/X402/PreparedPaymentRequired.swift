import Bytes
import Encoding

/// The constant octets of a route's `PaymentRequired`.
struct PreparedPaymentRequired: Sendable {
  /// The offers' objects.
  private let accepts: [[UInt8]]
  /// From behind the offers to the end of the declared extensions, in the middle of `extensions`.
  private let declarations: [UInt8]
  /// Base64 of all that stands in front of a request's own, without padding.
  let encodedPrefix: [UInt8]
  /// `resource` but for its URL.
  let resource: [UInt8]
  /// The declarations that found room.
  let extensions: [ExtensionDeclaration]
  /// Whether schemas found room, other than the bazaar's.
  let hasSchemas: Bool

  /// What is left out, one after the other, until the rest is small enough.
  private enum Economy: Int, CaseIterable, Comparable {
    case none
    /// Schemas, which only describe; but the bazaar's, without which no facilitator lists the route.
    case noSchemas
    /// The service's name, tags and icon.
    case noDecoration
    /// The bazaar's example of an answer.
    case noOutput
    /// From here on only for the limit's sake: the bazaar.
    case noBazaar
    /// Every extension, and the description.
    case bare

    static func < (left: Economy, right: Economy) -> Bool { left.rawValue < right.rawValue }
  }

  /// - Throws: `tooLarge` where the bare offers leave no room for an URL.
  init(
    offers: [PaymentRequirements], resource: ResourceInfo, extensions: [ExtensionDeclaration], signIn: SignInWithX?, offersAreSigned: Bool
  ) throws(X402Error) {
    var accepts: [[UInt8]] = []
    for offer in offers {
      var out = ByteBuffer()
      offer.append(to: &out)
      accepts.append(out.array())
    }
    for economy in Economy.allCases {
      let candidate = PreparedPaymentRequired(accepts, resource, extensions, economy)
      let aim = economy < .noOutput ? PaymentRequiredPrinter.aim : PaymentRequiredPrinter.limit
      let size = candidate.estimate(signIn, signedOffers: offersAreSigned ? offers.count : 0)
      guard size + PaymentRequiredPrinter.urlReserve > aim else {
        self = candidate
        return
      }
    }
    throw .tooLarge(limit: PaymentRequiredPrinter.limit)
  }

  private init(_ accepts: [[UInt8]], _ resource: ResourceInfo, _ extensions: [ExtensionDeclaration], _ economy: Economy) {
    self.accepts = accepts
    hasSchemas = economy < .noSchemas
    var kept: [ExtensionDeclaration] = []
    for declaration in extensions where economy < .bare {
      guard declaration.key == Bazaar.key else {
        kept.append(declaration)
        continue
      }
      if economy < .noOutput { kept.append(declaration) } else if economy < .noBazaar { kept.append(Bazaar.withoutOutput(declaration)) }
    }
    self.extensions = kept
    var out = ByteBuffer()
    var info = resource
    if economy == .bare { info.description = nil }
    info.appendDecoration(isFull: economy < .noDecoration, to: &out)
    self.resource = out.array()
    out.removeAll()
    out.append("],\"extensions\":{" as StaticString)
    for (index, declaration) in kept.enumerated() {
      if index > 0 { out.append(byte: 0x2C) }
      declaration.append(withSchema: hasSchemas || declaration.key == Bazaar.key, to: &out)
    }
    declarations = out.array()
    out.removeAll()
    Self.appendPrefix(accepts, declarations, nil, to: &out)
    encodedPrefix = out.withUnsafeBytes { octets in
      var encoded = ByteBuffer()
      Base64.append(octets, to: &encoded)
      return encoded.array()
    }
  }

  /// Appends all that stands in front of a request's own.
  func appendPrefix(_ correction: ChannelCorrection?, to out: inout ByteBuffer) {
    Self.appendPrefix(accepts, declarations, correction, to: &out)
  }

  private static func appendPrefix(
    _ accepts: [[UInt8]], _ declarations: [UInt8], _ correction: ChannelCorrection?, to out: inout ByteBuffer
  ) {
    let start = out.count
    out.append("{\"x402Version\":2,\"accepts\":[" as StaticString)
    for (index, accept) in accepts.enumerated() {
      if index > 0 { out.append(byte: 0x2C) }
      if let correction, correction.offer == index {
        correction.append(into: accept, to: &out)
      } else {
        out.append(accept)
      }
    }
    out.append(declarations)
    // White space makes the count a multiple of three, so that the base64 of what follows joins without padding.
    let excess = (out.count - start) % 3
    if excess > 0 { out.append(repeating: 0x20, count: 3 - excess) }
  }

  /// The octets of the field's value, but for the URL.
  private func estimate(_ signIn: SignInWithX?, signedOffers: Int) -> Int {
    var tail = 64 + resource.count
    if let signIn {
      tail += 320 + signIn.domain.utf8.count + (signIn.statement?.utf8.count ?? 0) + signIn.networks.count * 48 + (hasSchemas ? 820 : 0)
    }
    if signedOffers > 0 { tail += signedOffers * 620 + (hasSchemas ? 320 : 40) }
    return encodedPrefix.count + (tail * 4 + 2) / 3
  }
}

extension ChannelCorrection {
  /// Appends an offer's object with what corrects its client as the last members of `extra`.
  fileprivate func append(into accept: [UInt8], to out: inout ByteBuffer) {
    // The offers of channels always have an `extra`, which is their last member.
    guard accept.suffix(2).elementsEqual([0x7D, 0x7D]) else { return out.append(accept) }
    out.append(accept.dropLast(2))
    out.append(",\"channelState\":" as StaticString)
    channelState.append(to: &out)
    if let voucherState {
      out.append(",\"voucherState\":" as StaticString)
      voucherState.append(to: &out)
    }
    out.append("}}" as StaticString)
  }
}
