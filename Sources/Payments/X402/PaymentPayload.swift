import Bytes
import Encoding
import Ethereum

/// A parsed payment of x402 (`PaymentPayload`); nothing of it is verified yet, and it is never printed.
public struct PaymentPayload: Sendable, CustomStringConvertible {
  /// The most octets of a field's value, as encoded.
  public static let fieldLimit = 32 * 1024
  /// The most octets of the JSON.
  public static let limit = 24 * 1024
  /// The most octets of one signature: those of contracts (ERC-1271, ERC-6492) are longer than a key's 65.
  public static let signatureLimit = 4096
  /// The most extensions that a client echoes.
  public static let extensionLimit = 32

  /// Names the field that a payment arrives in.
  public enum Field: Sendable, Hashable {
    /// `PAYMENT-SIGNATURE`, of version 2.
    case paymentSignature
    /// `X-PAYMENT`, of version 1.
    case xPayment

    var version: X402Version {
      switch self {
      case .paymentSignature: .v2
      case .xPayment: .v1
      }
    }
  }

  public let version: X402Version
  public let scheme: X402Scheme
  public let network: X402Network
  /// The offer that was chosen; nil in version 1.
  public let accepted: PaymentRequirements?
  /// What the client says it buys; unsigned, and nil where it does not say.
  public let resource: ResourceInfo?
  /// What the scheme needs.
  public let payment: SchemePayload
  /// The echoed extensions; empty where there are none.
  public let extensions: JSONObject
  /// The JSON as it was sent: what a facilitator is given.
  public let json: [UInt8]

  /// Keeps payment data out of logs.
  public var description: String { "<payment>" }

  /// Parses a field's value: base64 of either alphabet, padded or not.
  ///
  /// - Throws: `tooLarge`, `notBase64`, `malformedJSON`, `notAnObject`, `versionMismatch`, and what `init(json:)` throws.
  public static func parse(_ value: UnsafeRawBufferPointer, field: Field) throws(X402Error) -> PaymentPayload {
    let payload = try PaymentPayload(json: try X402Text.decode(value, limit: fieldLimit))
    guard payload.version == field.version else { throw .versionMismatch }
    return payload
  }

  /// Reads the JSON, as other transports carry it.
  ///
  /// - Throws: `tooLarge`, `malformedJSON`, `notAnObject`; `unsupportedVersion`, `unknownScheme`, `unknownNetwork`, `unknownTransfer` for
  ///   what this proxy does not speak; `missing`, `malformed`, `overflow`, `signatureTooLong`, `tooMany` for what is not of its form.
  public init(json: [UInt8]) throws(X402Error) {
    let members = try X402Text.parse(json, limit: Self.limit)
    guard members[.x402Version] != nil else { throw .missing(.x402Version) }
    guard let version = members[.x402Version]?.intValue.flatMap({ X402Version(rawValue: $0) }) else { throw .unsupportedVersion }
    switch version {
    case .v1:
      let schemeText = try members.string(.scheme)
      let networkText = try members.string(.network)
      guard schemeText == X402Scheme.exact.rawValue else { throw .unknownScheme }
      guard let network = X402Network(name: networkText) else { throw .unknownNetwork }
      (scheme, self.network, accepted, resource) = (.exact, network, nil, nil)
    case .v2:
      let accepted = try PaymentRequirements(try members.members(.accepted), version: .v2)
      (scheme, network, self.accepted) = (accepted.scheme, accepted.network, accepted)
      resource = members[.resource] == nil ? nil : try ResourceInfo(try members.members(.resource))
    }
    payment = try SchemePayload(try members.members(.payload), scheme: scheme)
    extensions = try members.optionalObject(.extensions)
    guard extensions.count <= Self.extensionLimit else { throw .tooMany(.extensions, limit: Self.extensionLimit) }
    self.version = version
    self.json = json
  }

  /// The account that the money comes from.
  public var payer: Address { payment.payer }
}

// What a client sends.
extension PaymentPayload {
  /// Builds the object of version 2.
  ///
  /// - Parameters:
  ///   - accepted: the offer as it was received, so that nothing of it is lost.
  public static func object(
    accepted: JSONObject, payment: SchemePayload, resource: JSONObject? = nil, extensions: JSONObject = JSONObject()
  ) -> JSONObject {
    var object: JSONObject = ["x402Version": 2, "accepted": .object(accepted), "payload": .object(payment.json)]
    if let resource { object.set("resource", .object(resource)) }
    if !extensions.isEmpty { object.set("extensions", .object(extensions)) }
    return object
  }

  /// Builds the object of version 1; nil where the network has no name there.
  public static func objectV1(network: X402Network, payment: SchemePayload) -> JSONObject? {
    guard let name = network.name else { return nil }
    return ["x402Version": 1, "scheme": "exact", "network": .string(name), "payload": .object(payment.json)]
  }

  /// Encodes the object as the field's value.
  public static func fieldValue(_ object: JSONObject) -> String { Base64.encode(JSON.serialize(.object(object))) }
}
