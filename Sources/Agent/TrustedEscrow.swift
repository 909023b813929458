import Bytes
import Ethereum
import Methods

/// A contract that the agent deposits into for sessions, by its caller's word: whoever is named as the escrow could keep all that is deposited.
public struct TrustedEscrow: Sendable, Hashable {
  /// The chain's id (EIP-155).
  public let chain: UInt64
  /// The contract.
  public let address: Address

  /// Takes a contract.
  public init(chain: UInt64, address: Address) {
    self.chain = chain
    self.address = address
  }

  /// Reads `eip155:84532:0x…`.
  ///
  /// - Returns: nil for anything else, for an address whose checksum is wrong included.
  public init?(_ words: String) {
    let parts = words.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 3, let chain = ChainID(parts[0] + ":" + parts[1]), let address = Address(String(parts[2])), !address.isZero else {
      return nil
    }
    self.init(chain: chain.number, address: address)
  }

  /// The contract as `init(_:)` reads it.
  public var words: String { "\(ChainID(chain)):\(address.checksummed)" }
}
