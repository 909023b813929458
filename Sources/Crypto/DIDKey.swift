import Bytes
import Encoding

/// Names an Ed25519 key as a decentralised identifier of the method `key`: `did:key:z6Mk…`.
public enum DIDKey {
  private static let prefix = "did:key:z"
  /// The multicodec of an Ed25519 public key, 0xED, as a variable-length integer.
  private static let multicodec: [UInt8] = [0xED, 0x01]
  /// The octets of every identifier: the prefix and 47 digits of base58.
  public static let count = 56

  /// Writes the identifier of a key.
  public static func encode(_ key: Ed25519.PublicKey) -> String {
    // Thirty-four octets are far below what base58 is bounded to.
    prefix + (Base58.encode(multicodec + key.bytes) ?? "")
  }

  /// Reads an identifier in its one canonical spelling; nil for anything else, and for keys of other kinds.
  public static func decode(_ text: String) -> Ed25519.PublicKey? {
    guard text.utf8.count == count, text.utf8.starts(with: prefix.utf8),
      let octets = Base58.decode(String(decoding: text.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)),
      octets.starts(with: multicodec)
    else { return nil }
    return Ed25519.PublicKey(bytes: octets.dropFirst(multicodec.count))
  }
}
