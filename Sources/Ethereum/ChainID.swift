import Bytes

/// Holds the number of an EVM chain (EIP-155), written `eip155:` and the number (CAIP-2).
public struct ChainID: Hashable, Sendable {
  /// The number.
  public let number: UInt64

  /// Takes a number.
  public init(_ number: UInt64) {
    self.number = number
  }

  /// Reads `eip155:` and a number without leading zeros from 1 to 2⁶⁴ − 1; nil for anything else.
  public init?(_ text: String) {
    guard text.hasPrefix("eip155:"), let number = DecimalUInt128.parse(text.utf8.dropFirst(7)).flatMap({ UInt64(exactly: $0) }),
      number > 0
    else { return nil }
    self.init(number)
  }
}

extension ChainID: CustomStringConvertible {
  /// The text.
  public var description: String { "eip155:\(number)" }
}

/// Holds an account on a chain, written `did:pkh:eip155:`, the chain's number and the address (did:pkh over CAIP-10).
public struct AccountDID: Hashable, Sendable {
  /// The chain.
  public var chain: ChainID
  /// The account.
  public var address: Address

  /// Takes the members.
  public init(chain: ChainID, address: Address) {
    self.chain = chain
    self.address = address
  }

  /// Reads the text; letters of the address may have either case, of both cases they must be EIP-55's.
  ///
  /// - Throws: `malformedAccount`, `malformedAddress` or `addressChecksumMismatch`.
  public init(text: String) throws(EthereumError) {
    let parts = text.split(separator: ":", maxSplits: 4, omittingEmptySubsequences: false)
    guard parts.count == 5, parts[0] == "did", parts[1] == "pkh", let chain = ChainID(parts[2] + ":" + parts[3]) else {
      throw .malformedAccount
    }
    self.init(chain: chain, address: try Address(text: String(parts[4])))
  }

  /// Reads the text, as above; nil for anything else.
  public init?(_ text: String) {
    guard let account = try? AccountDID(text: text) else { return nil }
    self = account
  }
}

extension AccountDID: CustomStringConvertible {
  /// The text, with the address's checksum.
  public var description: String { "did:pkh:\(chain):\(address.checksummed)" }
}
