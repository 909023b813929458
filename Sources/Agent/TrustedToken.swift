import Bytes
import Ethereum
import Methods
import Payments

/// A token that the agent pays with, by its own knowledge: what a server says of decimals and domains never decides what is paid.
public struct TrustedToken: Sendable, Hashable {
  /// The chain, the contract, its currency with decimals, its EIP-712 domain, and how it can be moved.
  public let token: ChainToken

  /// Takes a token.
  public init(_ token: ChainToken) { self.token = token }

  /// Reads `eip155:84532:0x…=usdc:6`, and behind it `:USDC:2` where the token takes authorizations (EIP-3009) under an EIP-712 domain of
  /// that name and version. Without a domain the token is paid through Permit2 only.
  ///
  /// - Returns: nil for anything else, for an address whose checksum is wrong included.
  public init?(_ words: String) {
    let sides = words.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard sides.count == 2 else { return nil }
    let place = sides[0].split(separator: ":", omittingEmptySubsequences: false)
    guard place.count == 3, let chain = ChainID(place[0] + ":" + place[1]), let address = Address(String(place[2])) else { return nil }
    let facts = sides[1].split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    guard facts.count == 2 || facts.count == 4, let decimals = UInt8(facts[1]),
      let currency = Currency(code: facts[0].lowercased(), decimals: decimals)
    else { return nil }
    let domain = facts.count == 4 ? (facts[2], facts[3]) : nil
    if let domain { guard !domain.0.isEmpty, !domain.1.isEmpty else { return nil } }
    token = ChainToken(
      chain: chain.number, address: address, currency: currency, name: domain?.0, version: domain?.1, supportsEIP3009: domain != nil,
      supportsPermit2: true)
  }

  private init?(chain: UInt64, _ address: String, name: String, supportsPermit2: Bool) {
    guard let address = Address(address), let usdc = Currency(code: "usdc", decimals: 6) else { return nil }
    token = ChainToken(
      chain: chain, address: address, currency: usdc, name: name, version: "2", supportsEIP3009: true, supportsPermit2: supportsPermit2)
  }

  /// The tokens that are known without being told: USDC on the chains that the proxy knows by name. A test compares the two tables.
  public static let known: [TrustedToken] = [
    TrustedToken(chain: 8453, "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", name: "USD Coin", supportsPermit2: true),
    TrustedToken(chain: 84532, "0x036CbD53842c5426634e7929541eC2318f3dCF7e", name: "USDC", supportsPermit2: true),
    TrustedToken(chain: 137, "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", name: "USD Coin", supportsPermit2: false),
    TrustedToken(chain: 80002, "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", name: "USDC", supportsPermit2: false),
  ].compactMap { $0 }

  /// The chain of a common name, of `eip155:` and a number, or of a number; nil for anything else.
  public static func chain(named name: String) -> UInt64? {
    X402Network(name: name)?.chainID ?? ChainID(name)?.number ?? ChainID("eip155:\(name)")?.number
  }

  /// The chain's name where it has a common one, else its number: `base`, `eip155:31337`.
  public static func chainName(_ chain: UInt64) -> String { X402Network(chainID: chain).name ?? ChainID(chain).description }
}
