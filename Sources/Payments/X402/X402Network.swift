import Bytes
import Ethereum

/// Tells the versions of the protocol apart.
public enum X402Version: Int, Sendable, Hashable {
  case v1 = 1
  case v2 = 2
}

/// Names an EVM chain as x402 does: `eip155:N` (CAIP-2) in version 2, a word in version 1.
public struct X402Network: Hashable, Sendable {
  /// The chain's id (EIP-155).
  public let chainID: UInt64

  /// Names a chain by its id.
  public init(chainID: UInt64) { self.chainID = chainID }

  /// The chain as the rest of the program names it.
  public var chain: ChainID { ChainID(chainID) }

  /// Reads `eip155:N`; nil for other namespaces, for leading zeros, and past 64 bits.
  public init?(caip2 text: String) {
    guard text.utf8.starts(with: Self.namespace.utf8),
      let number = DecimalUInt128.parse(text.utf8.dropFirst(Self.namespace.utf8.count)), let id = UInt64(exactly: number), id > 0
    else { return nil }
    chainID = id
  }

  /// Reads a name of version 1; nil for one that is not in the table.
  public init?(name: String) {
    guard let entry = Self.names.first(where: { $0.name.hasSameOctets(as: name) }) else { return nil }
    chainID = entry.chainID
  }

  /// Reads a network as a version of the protocol writes it.
  public init?(_ text: String, version: X402Version) {
    switch version {
    case .v1: self.init(name: text)
    case .v2: self.init(caip2: text)
    }
  }

  /// The name of version 2: `eip155:N`.
  public var caip2: String { "\(Self.namespace)\(chainID)" }

  /// The name of version 1; nil where the chain has none.
  public var name: String? { Self.names.first { $0.chainID == chainID }?.name }

  /// The name as a version of the protocol writes it; nil where the chain has none.
  public func text(_ version: X402Version) -> String? {
    switch version {
    case .v1: name
    case .v2: caip2
    }
  }

  /// Whether the strict client of version 1 (PyPI x402 0.3.0) knows the chain; it refuses a whole 402 that names another one.
  var isKnownToStrictClients: Bool {
    switch chainID {
    case 8453, 84532, 43113, 43114: true
    default: false
    }
  }

  private static let namespace = "eip155:"

  /// The names of version 1, as the official packages list them.
  private static let names: [(name: String, chainID: UInt64)] = [
    ("base", 8453), ("base-sepolia", 84532), ("ethereum", 1), ("polygon", 137), ("polygon-amoy", 80002), ("avalanche", 43114),
    ("avalanche-fuji", 43113), ("abstract", 2741), ("abstract-testnet", 11124), ("iotex", 4689), ("sei", 1329),
    ("sei-testnet", 1328), ("peaq", 3338), ("story", 1513), ("educhain", 656_476), ("skale-base-sepolia", 1_444_673_419),
    ("megaeth", 4326), ("monad", 143), ("monad-testnet", 10143), ("stable", 988), ("stable-testnet", 2201), ("celo", 42220),
    ("flare", 14),
  ]
}

extension X402Network: CustomStringConvertible {
  /// The name of version 2.
  public var description: String { caip2 }
}
