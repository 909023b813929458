import Bytes
import Ethereum

/// Why the file of an account's key cannot be used.
public enum KeyFileError: Error, Hashable, Sendable {
  /// It cannot be read, or others than its owner can.
  case file(SmallFile.Failure)
  /// What stands in it is no key.
  case malformed(EthereumError)

  /// What would have been right.
  public var expected: String {
    switch self {
    case .malformed(.keyOutOfRange): "a secret key of secp256k1, which is neither zero nor as large as the order of its group"
    case .malformed, .file(.tooLarge): "a file with 64 hexadecimal digits, with or without 0x before them (they are not shown here)"
    case .file(let failure): failure.reason
    }
  }
}

/// Reads the file of the key that signs and pays for our transactions.
public enum KeyFile {
  /// The most octets of the file: there is nothing but the key in it.
  public static let byteLimit = 256

  /// Reads a key from a file that nobody but its owner can read; no copy of the secret stays behind.
  public static func read(_ path: String) throws(KeyFileError) -> EthereumKey {
    let content: SecretBytes
    do throws(SmallFile.Failure) { content = try SmallFile.readSecret(path, limit: byteLimit, hidden: 0o077) } catch { throw .file(error) }
    do throws(EthereumError) {
      return try content.withUnsafeBytes { (octets) throws(EthereumError) in try EthereumKey(keyFile: octets) }
    } catch { throw .malformed(error) }
  }
}
