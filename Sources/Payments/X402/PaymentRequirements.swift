import Bytes
import Encoding
import Ethereum

/// One way to pay: an element of `accepts`, and what a payment says it chose (x402 v2 section 5.1.2; v1 section 5.1).
public struct PaymentRequirements: Sendable, Hashable {
  public let scheme: X402Scheme
  public let network: X402Network
  /// Base units: the price for exact, the most that may be charged for upto and batch-settlement.
  public let amount: UInt128
  /// The token's contract, as text, so that its spelling (EIP-55) stays; compared as an address.
  public let asset: String
  /// The recipient, likewise.
  public let payTo: String
  /// How long the payer's authorization is to hold, in seconds.
  public let maxTimeoutSeconds: UInt32
  /// What the scheme needs: the token's EIP-712 `name` and `version`, `assetTransferMethod`, `paymentFlow`, `facilitatorAddress`,
  /// `receiverAuthorizer`, `withdrawDelay`, …
  public let extra: JSONObject

  public init(
    scheme: X402Scheme, network: X402Network, amount: UInt128, asset: String, payTo: String, maxTimeoutSeconds: UInt32,
    extra: JSONObject = JSONObject()
  ) {
    self.scheme = scheme
    self.network = network
    self.amount = amount
    self.asset = asset
    self.payTo = payTo
    self.maxTimeoutSeconds = maxTimeoutSeconds
    self.extra = extra
  }

  /// Reads the object of either version; unknown members are passed over.
  ///
  /// - Throws: `unknownScheme`, `unknownNetwork`, `missing`, `malformed`, `overflow`.
  init(_ members: X402Members, version: X402Version) throws(X402Error) {
    let schemeText = try members.string(.scheme)
    let networkText = try members.string(.network)
    guard let scheme = X402Scheme(rawValue: schemeText), version == .v2 || scheme == .exact else { throw .unknownScheme }
    guard let network = X402Network(networkText, version: version) else { throw .unknownNetwork }
    let seconds = try members.whole(.maxTimeoutSeconds)
    guard let maxTimeoutSeconds = UInt32(exactly: seconds) else { throw .overflow(.maxTimeoutSeconds) }
    self.init(
      scheme: scheme, network: network, amount: try members.units(version == .v2 ? .amount : .maxAmountRequired),
      asset: try members.string(.asset), payTo: try members.string(.payTo), maxTimeoutSeconds: maxTimeoutSeconds,
      extra: try members.optionalObject(.extra))
  }

  /// The token's contract; nil where `asset` is no address.
  public var assetAddress: Address? { Address(wire: asset) }
  /// The recipient's address; nil where `payTo` is none.
  public var payToAddress: Address? { Address(wire: payTo) }

  /// How the token moves; nil for a method that is unknown.
  public var assetTransferMethod: AssetTransferMethod? {
    guard let value = extra["assetTransferMethod"] else { return scheme == .upto ? .permit2 : .eip3009 }
    return value.stringValue.flatMap { AssetTransferMethod(rawValue: $0) }
  }

  /// The order of settling and working; nil for a flow that is unknown.
  public var paymentFlow: PaymentFlow? {
    guard let value = extra["paymentFlow"] else { return .authorization }
    return value.stringValue.flatMap { PaymentFlow(rawValue: $0) }
  }

  /// The token's EIP-712 domain; nil where `extra` does not name it.
  public var tokenDomain: (name: String, version: String)? {
    guard let name = extra["name"]?.stringValue, let version = extra["version"]?.stringValue else { return nil }
    return (name, version)
  }

  /// The only address that may settle an upto payment; nil where `extra` does not name it.
  public var facilitatorAddress: Address? { extra["facilitatorAddress"]?.stringValue.flatMap { Address(wire: $0) } }
  /// Who signs a channel's claims and refunds; nil where `extra` does not name it.
  public var receiverAuthorizer: Address? { extra["receiverAuthorizer"]?.stringValue.flatMap { Address(wire: $0) } }
  /// How long a payer waits for a withdrawal from a channel, in seconds; nil where `extra` does not name it.
  public var withdrawDelay: UInt64? { extra["withdrawDelay"]?.intValue.flatMap { UInt64(exactly: $0) } }
  /// The least deposit in base units; nil where there is none.
  public var minimumDeposit: UInt128? { extra["minDeposit"]?.stringValue.flatMap { DecimalUInt128.parse($0) } }
}

// Writing.
extension PaymentRequirements {
  /// Appends the object of version 2; `extra` is its last member, so that the object ends with `}}` where `extra` is not empty.
  ///
  /// - Parameters:
  ///   - amount: stands in for the amount, as a settlement of what was used needs it.
  public func append(amount: UInt128? = nil, to out: inout ByteBuffer) {
    out.append("{\"scheme\":\"" as StaticString)
    out.append(scheme.rawValue)
    out.append("\",\"network\":\"eip155:" as StaticString)
    out.append(decimal: network.chainID)
    out.append("\",\"amount\":\"" as StaticString)
    out.append(decimal: amount ?? self.amount)
    out.append(byte: 0x22)
    appendRest(to: &out)
    out.append(byte: 0x7D)
  }

  /// Appends the object of version 1; false, and nothing appended, where the network has no name there or the scheme is not exact.
  ///
  /// The strict client of version 1 wants `resource`, `description` and `mimeType` as strings.
  public func appendV1(resource: UnsafeRawBufferPointer, info: ResourceInfo, to out: inout ByteBuffer) -> Bool {
    guard let prepared = PreparedRequirementsV1(self, info: info) else { return false }
    prepared.append(url: resource, to: &out)
    return true
  }

  /// Appends the members that both versions share, each with a comma in front of it.
  func appendRest(to out: inout ByteBuffer) {
    out.append(",\"asset\":" as StaticString)
    JCS.append(string: asset, to: &out)
    out.append(",\"payTo\":" as StaticString)
    JCS.append(string: payTo, to: &out)
    out.append(",\"maxTimeoutSeconds\":" as StaticString)
    out.append(decimal: UInt64(maxTimeoutSeconds))
    guard !extra.isEmpty else { return }
    out.append(",\"extra\":" as StaticString)
    JSON.append(.object(extra), to: &out)
  }
}
