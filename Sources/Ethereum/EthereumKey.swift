import Bytes
import Crypto

/// Holds the secret key of an account, which is erased with its last copy and never printed.
public struct EthereumKey: Sendable {
  private let key: Secp256k1.SigningKey
  /// The account's address.
  public let address: Address

  /// Takes a secret of 32 octets; nil for another count, for zero, and from the order of the group on.
  public init?(secret: SecretBytes) {
    guard let key = Secp256k1.SigningKey(secret: secret) else { return nil }
    self.key = key
    address = Address(key.publicKey)
  }

  /// Reads a key file's content: 64 hexadecimal digits, `0x` before and one line feed after them or not.
  ///
  /// The caller erases the octets that he read.
  ///
  /// - Throws: `malformedKeyFile` or `keyOutOfRange`.
  public init(keyFile content: UnsafeRawBufferPointer) throws(EthereumError) {
    var digits = content
    if digits.last == 0x0A { digits = UnsafeRawBufferPointer(rebasing: digits.dropLast()) }
    if let unprefixed = HexData.digits(of: digits) { digits = unprefixed }
    guard digits.count == Secp256k1.secretCount * 2 else { throw .malformedKeyFile }
    var isRead = false
    let secret = SecretBytes(count: Secp256k1.secretCount) { isRead = HexData.read(digits, into: $0) }
    guard isRead else { throw .malformedKeyFile }
    guard let key = EthereumKey(secret: secret) else { throw .keyOutOfRange }
    self = key
  }

  /// Reads a key file's content, as above.
  public init(keyFile content: [UInt8]) throws(EthereumError) {
    self = try content.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try EthereumKey(keyFile: UnsafeRawBufferPointer(octets))
    }
  }

  /// Draws a new key.
  public static func generate() -> EthereumKey {
    EthereumKey(Secp256k1.SigningKey.generate())
  }

  private init(_ key: Secp256k1.SigningKey) {
    self.key = key
    address = Address(key.publicKey)
  }

  /// Signs a digest by RFC 6979: always the same signature for the same digest.
  public func sign(_ digest: Digest32) -> ECDSASignature {
    // A scalar r past the order has no spelling in Ethereum; nobody has ever found a digest that gives one.
    guard let parts = key.sign(digest) else { preconditionFailure("a signature has a spelling") }
    return ECDSASignature(parts)
  }
}

extension EthereumKey: CustomStringConvertible, CustomReflectable {
  /// A fixed word in the place of the key.
  public var description: String { "<secret>" }
  /// A mirror without children.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
