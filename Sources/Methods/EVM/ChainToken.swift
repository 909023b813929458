import Ethereum
import Payments

/// A token as configured, with what checking its signatures needs prepared.
public struct ChainToken: Sendable, Hashable {
  /// The chain's id (EIP-155).
  public let chain: UInt64
  /// The contract.
  public let address: Address
  /// The currency whose base units are the token's.
  public let currency: Currency
  /// The name of the contract's EIP-712 domain; nil where it verifies no signatures.
  public let name: String?
  /// The version of the contract's EIP-712 domain.
  public let version: String?
  /// Whether Permit2 may move it.
  public let supportsPermit2: Bool
  /// The Permit2 contract of its chain.
  public let permit2: Address

  /// The token's own domain; nil where it does not implement EIP-3009.
  let domain: TypedData.PreparedDomain?
  let permit2Domain: TypedData.PreparedDomain

  /// Whether the token implements EIP-3009 under a known domain.
  public var supportsEIP3009: Bool { domain != nil }

  /// Prepares a token.
  ///
  /// - Parameters:
  ///   - supportsEIP3009: has no effect without name and version.
  public init(
    chain: UInt64, address: Address, currency: Currency, name: String?, version: String?, supportsEIP3009: Bool,
    supportsPermit2: Bool, permit2: Address = Permit2.address
  ) {
    self.chain = chain
    self.address = address
    self.currency = currency
    self.name = name
    self.version = version
    self.supportsPermit2 = supportsPermit2
    self.permit2 = permit2
    if let name, let version, supportsEIP3009 {
      domain = TypedData.Domain(name: name, version: version, chainID: chain, verifyingContract: address).prepared
    } else {
      domain = nil
    }
    permit2Domain = Permit2.domain(chainID: chain, contract: permit2).prepared
  }
}
