import Encoding
import Ethereum

/// What a facilitator can do (x402 v2 section 7.3).
public struct SupportedResponse: Sendable, Hashable {
  /// The most octets of the JSON.
  public static let limit = 256 * 1024
  /// The most kinds, and the most of extensions and of signers.
  public static let countLimit = 1024

  /// One kind of payment; kinds that this proxy does not speak are passed over.
  public struct Kind: Sendable, Hashable {
    public let version: X402Version
    public let scheme: X402Scheme
    public let network: X402Network
    public let extra: JSONObject
  }

  /// Empty while a facilitator is starting: to be asked for again.
  public let kinds: [Kind]
  public let extensions: [String]
  /// Addresses by pattern of networks: `eip155:*`.
  public let signers: [String: [String]]

  /// Reads the answer's body.
  ///
  /// - Throws: `tooLarge`, `malformedJSON`, `notAnObject`, `missing`, `malformed`, `tooMany`.
  public init(json: UnsafeRawBufferPointer) throws(X402Error) {
    let members = try X402Text.parse(json, limit: Self.limit)
    var kinds: [Kind] = []
    for value in try members.array(.kinds, limit: Self.countLimit) {
      guard let object = value.objectValue else { throw .malformed(.kinds) }
      if let kind = try Kind(X402Members(object)) { kinds.append(kind) }
    }
    self.kinds = kinds
    extensions = members[.extensions] == nil ? [] : try Self.strings(try members.array(.extensions, limit: Self.countLimit), .extensions)
    var signers: [String: [String]] = [:]
    for member in try members.optionalObject(.signers).members.prefix(Self.countLimit) {
      guard let list = member.value.arrayValue, list.count <= Self.countLimit else { throw .malformed(.signers) }
      signers[member.name] = try Self.strings(list, .signers)
    }
    self.signers = signers
  }

  private static func strings(_ values: [JSONValue], _ member: X402Error.Member) throws(X402Error) -> [String] {
    var strings: [String] = []
    for value in values {
      guard let string = value.stringValue else { throw .malformed(member) }
      strings.append(string)
    }
    return strings
  }

  /// Finds a kind.
  public func kind(_ scheme: X402Scheme, on network: X402Network, version: X402Version = .v2) -> Kind? {
    kinds.first { $0.version == version && $0.scheme == scheme && $0.network == network }
  }

  /// Who settles upto payments on a network: what the offer's `extra.facilitatorAddress` must be.
  public func facilitatorAddress(on network: X402Network) -> Address? {
    kind(.upto, on: network)?.extra["facilitatorAddress"]?.stringValue.flatMap { Address(wire: $0) }
  }

  /// Who signs claims and refunds where that is left to the facilitator: what the offer's `extra.receiverAuthorizer` is then.
  public func receiverAuthorizer(on network: X402Network) -> Address? {
    kind(.batchSettlement, on: network)?.extra["receiverAuthorizer"]?.stringValue.flatMap { Address(wire: $0) }
  }
}

extension SupportedResponse.Kind {
  /// Reads an element; nil for what this proxy does not speak.
  init?(_ members: X402Members) throws(X402Error) {
    let schemeText = try members.string(.scheme)
    let networkText = try members.string(.network)
    guard let version = members[.x402Version]?.intValue.flatMap({ X402Version(rawValue: $0) }),
      let scheme = X402Scheme(rawValue: schemeText), let network = X402Network(networkText, version: version)
    else { return nil }
    self.init(version: version, scheme: scheme, network: network, extra: try members.optionalObject(.extra))
  }
}
