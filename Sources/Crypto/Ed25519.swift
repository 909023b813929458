import Bytes
internal import CSodium

/// Signs and verifies by Ed25519 (RFC 8032, section 5.1).
public enum Ed25519 {
  /// The octets of a signature.
  public static let signatureCount = 64
  /// The octets of a seed, which RFC 8032 calls the private key.
  public static let seedCount = 32
}

extension Ed25519 {
  /// Holds a public key: the 32 octets of a compressed point, which are not looked at before a signature is verified.
  public struct PublicKey: Hashable, Sendable {
    /// The key's octets.
    public let octets: Digest32

    /// Takes a key's octets.
    public init(_ octets: Digest32) {
      self.octets = octets
    }

    /// Takes a key's octets; nil unless there are exactly 32.
    public init?(bytes: some Collection<UInt8>) {
      guard let octets = Digest32(bytes: bytes) else { return nil }
      self.octets = octets
    }

    /// The key's octets as an array.
    public var bytes: [UInt8] { octets.bytes }

    /// Whether a signature of 64 octets is this key's over the message.
    ///
    /// Refuses points of small order and whatever has a second spelling: a scalar or a key that is not reduced.
    public func isValidSignature(_ signature: UnsafeRawBufferPointer, of message: UnsafeRawBufferPointer) -> Bool {
      guard signature.count == Ed25519.signatureCount, let signature = signature.baseAddress else { return false }
      return octets.withUnsafeBytes { key in
        guard let key = key.baseAddress else { return false }
        // Safe because: the counts of signature and key were checked, and libsodium reads the message to its own count.
        return crypto_sign_verify_detached(
          signature.assumingMemoryBound(to: UInt8.self), message.baseAddress?.assumingMemoryBound(to: UInt8.self),
          UInt64(message.count), key.assumingMemoryBound(to: UInt8.self)) == 0
      }
    }

    /// Whether a signature of 64 octets is this key's over the message, as above.
    public func isValidSignature(_ signature: [UInt8], of message: [UInt8]) -> Bool {
      signature.withUnsafeBytes { signature in message.withUnsafeBytes { isValidSignature(signature, of: $0) } }
    }

    /// Whether a signature of 64 octets is this key's over the message, as above.
    public func isValidSignature(_ signature: [UInt8], of message: UnsafeRawBufferPointer) -> Bool {
      signature.withUnsafeBytes { isValidSignature($0, of: message) }
    }
  }
}

extension Ed25519 {
  /// Holds a private key, which is erased with its last copy and never printed.
  public struct SigningKey: Sendable {
    /// The 64 octets that libsodium signs with: the seed and the public key.
    private let octets: SecretBytes
    /// The public key that belongs to this one.
    public let publicKey: PublicKey

    /// Derives a key from its seed; nil unless that has exactly 32 octets.
    public init?(seed: SecretBytes) {
      guard seed.count == Ed25519.seedCount else { return nil }
      Sodium.initialize()
      var key = Digest32()
      octets = SecretBytes(count: 64) { secret in
        key.withUnsafeMutableBytes { key in
          seed.withUnsafeBytes { seed in
            guard let key = key.baseAddress, let secret = secret.baseAddress, let seed = seed.baseAddress else { return }
            // Safe because: libsodium reads 32 octets and writes 32 and 64, as many as there are.
            crypto_sign_seed_keypair(
              key.assumingMemoryBound(to: UInt8.self), secret.assumingMemoryBound(to: UInt8.self),
              seed.assumingMemoryBound(to: UInt8.self))
          }
        }
      }
      publicKey = PublicKey(key)
    }

    /// Draws a new key.
    public static func generate() -> SigningKey {
      SigningKey(drawn: Random.secret(Ed25519.seedCount))
    }

    private init(drawn seed: SecretBytes) {
      guard let key = SigningKey(seed: seed) else { preconditionFailure("a seed of 32 octets makes a key") }
      self = key
    }

    /// The 32 octets that the key is derived from, for storing it.
    public var seed: SecretBytes {
      octets.withUnsafeBytes { SecretBytes(UnsafeRawBufferPointer(rebasing: $0[..<Ed25519.seedCount])) }
    }

    /// Signs a message; always 64 octets, the same for the same message.
    public func sign(_ message: UnsafeRawBufferPointer) -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: Ed25519.signatureCount) { out, written in
        sign(message, into: UnsafeMutableRawBufferPointer(out))
        written = Ed25519.signatureCount
      }
    }

    /// Signs a message; always 64 octets, the same for the same message.
    public func sign(_ message: [UInt8]) -> [UInt8] {
      message.withUnsafeBytes { sign($0) }
    }

    /// Signs a message and appends the 64 octets to a buffer.
    public func sign(_ message: UnsafeRawBufferPointer, into buffer: inout ByteBuffer) {
      buffer.withUnsafeWritable(minimumCapacity: Ed25519.signatureCount) { out in
        sign(message, into: out)
        return Ed25519.signatureCount
      }
    }

    private func sign(_ message: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) {
      precondition(out.count >= Ed25519.signatureCount)
      octets.withUnsafeBytes { key in
        guard let out = out.baseAddress, let key = key.baseAddress else { return }
        // Safe because: there is room for the 64 octets that libsodium writes, and the key has the 64 it reads.
        crypto_sign_detached(
          out.assumingMemoryBound(to: UInt8.self), nil, message.baseAddress?.assumingMemoryBound(to: UInt8.self),
          UInt64(message.count), key.assumingMemoryBound(to: UInt8.self))
      }
    }
  }
}

extension Ed25519.SigningKey: CustomStringConvertible, CustomReflectable {
  /// A fixed word in the place of the key.
  public var description: String { "<secret>" }
  /// A mirror without children.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
