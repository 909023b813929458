import Bytes
import Ethereum

/// Holds the key of an account on EVM chains, read from a private file and never printed.
public struct AccountKey: Sendable {
  /// Signs payments.
  public let key: EthereumKey

  /// Takes a key from elsewhere.
  public init(_ key: EthereumKey) { self.key = key }

  /// The account's address.
  public var address: Address { key.address }

  /// Reads a key file: the secret's 64 hexadecimal digits, `0x` before and a line end after them or not.
  ///
  /// - Throws: `AgentError.keeper` where there is no such file, others may read it, or it is not a key.
  public static func load(path: String) throws(AgentError) -> AccountKey {
    guard var octets = try KeeperFolder.read(path: path) else { throw .keeper(.unreadable(path: path, code: 2)) }
    defer { for index in octets.indices { octets[index] = 0 } }
    do throws(EthereumError) { return AccountKey(try EthereumKey(keyFile: octets)) } catch { throw .keeper(.malformed(path: path)) }
  }
}
