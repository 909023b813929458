import Bytes
import Encoding

/// A parsed 402 of x402, as a client reads it: the field of version 2 or the body of version 1.
public struct PaymentRequired: Sendable {
  /// The most octets of a field's value or a body.
  public static let limit = 64 * 1024
  /// The most offers.
  public static let offerLimit = 64

  /// One way to pay, and its object as it was received, which a payment echoes.
  public struct Offer: Sendable, Hashable {
    public let requirements: PaymentRequirements
    public let object: JSONObject
    /// The URL of version 1's `resource`; nil in version 2.
    public let resource: String?
  }

  public let version: X402Version
  /// What the server says to it; nil where it says nothing.
  public let error: String?
  /// The resource as it was received; nil in version 1.
  public let resource: JSONObject?
  public let resourceURL: String?
  /// The offers that are understood here, in the server's order; there may be none.
  public let offers: [Offer]
  public let extensions: JSONObject

  /// Parses the field `PAYMENT-REQUIRED`.
  ///
  /// - Throws: `tooLarge`, `notBase64`, and what `init(json:)` throws.
  public init(fieldValue: UnsafeRawBufferPointer) throws(X402Error) {
    let json = try X402Text.decode(fieldValue, limit: Self.limit)
    self = try json.withUnsafeBufferPointer { (json) throws(X402Error) in try PaymentRequired(json: UnsafeRawBufferPointer(json)) }
  }

  /// Parses a body, or the object of another transport.
  ///
  /// - Throws: `malformedJSON`, `notAnObject`, `missing`, `malformed`, `unsupportedVersion`, `tooMany`.
  public init(json: UnsafeRawBufferPointer) throws(X402Error) {
    let members = try X402Text.parse(json, limit: Self.limit)
    guard members[.x402Version] != nil else { throw .missing(.x402Version) }
    guard let version = members[.x402Version]?.intValue.flatMap({ X402Version(rawValue: $0) }) else { throw .unsupportedVersion }
    self.version = version
    error = try members.optionalString(.error)
    extensions = try members.optionalObject(.extensions)
    let resource = version == .v2 && members[.resource] != nil ? try members.members(.resource) : nil
    self.resource = resource?.object
    resourceURL = try resource?.string(.url)
    var offers: [Offer] = []
    for value in try members.array(.accepts, limit: Self.offerLimit) {
      guard let object = value.objectValue else { throw .malformed(.accepts) }
      if let offer = try Self.offer(X402Members(object), version) { offers.append(offer) }
    }
    self.offers = offers
  }

  /// Reads an offer; nil for a scheme, network or amount that is not understood here: others of the list may be.
  private static func offer(_ members: X402Members, _ version: X402Version) throws(X402Error) -> Offer? {
    do {
      let requirements = try PaymentRequirements(members, version: version)
      let resource = version == .v1 ? try members.optionalString(.resource) : nil
      return Offer(requirements: requirements, object: members.object, resource: resource)
    } catch {
      switch error {
      case .unknownScheme, .unknownNetwork, .overflow: return nil
      case .tooLarge, .notBase64, .malformedJSON, .notAnObject, .missing, .malformed, .signatureTooLong, .tooMany, .controlCharacter,
        .unsupportedVersion, .versionMismatch, .unknownTransfer:
        throw error
      }
    }
  }
}
