import Bytes
import Crypto
import Encoding

/// Holds the Ed25519 key that a wallet belongs to, read from a private file.
///
/// The file has one line: the 32 octets of the seed (RFC 8032 section 5.1.5) in hexadecimal; a file of just those 32
/// octets is read too.
public struct WalletKey: Sendable {
  /// Signs payments and wallet queries.
  public let signingKey: Ed25519.SigningKey

  /// Takes a key from elsewhere.
  public init(signingKey: Ed25519.SigningKey) { self.signingKey = signingKey }

  /// The wallet's id, `did:key:z6Mk…`.
  public var wallet: String { DIDKey.encode(signingKey.publicKey) }

  /// Reads a key file.
  ///
  /// - Returns: nil where there is no file.
  /// - Throws: `AgentError.keeper` where others may read the file, or it is not a key.
  public static func load(path: String) throws(AgentError) -> WalletKey? {
    guard let octets = try KeeperFolder.read(path: path) else { return nil }
    if octets.count == Ed25519.seedCount { return WalletKey(signingKey: try signingKey(seed: octets, path: path)) }
    let line = octets.last == 0x0A ? octets.dropLast() : octets[...]
    guard line.count == 64, let seed = Digest32(hex: String(decoding: line, as: UTF8.self)) else {
      throw .keeper(.malformed(path: path))
    }
    return WalletKey(signingKey: try signingKey(seed: seed.bytes, path: path))
  }

  /// Makes a new key and writes it to a file of mode 0600 that must not exist yet.
  public static func create(path: String) throws(AgentError) -> WalletKey {
    let seed = Random.bytes(32)
    let key = try signingKey(seed: seed, path: path)
    try KeeperFolder.replace(path: path, with: Array((Hex.encode(seed) + "\n").utf8), exclusive: true)
    return WalletKey(signingKey: key)
  }

  private static func signingKey(seed: [UInt8], path: String) throws(AgentError) -> Ed25519.SigningKey {
    guard let key = Ed25519.SigningKey(seed: SecretBytes(seed)) else { throw .keeper(.malformed(path: path)) }
    return key
  }
}
