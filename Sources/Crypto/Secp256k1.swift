import Bytes
internal import CSecp256k1

/// Signs digests and recovers signers on the curve secp256k1 (SEC 1, section 4.1.6), as Ethereum does.
public enum Secp256k1 {
  /// The octets of a secret key.
  public static let secretCount = 32

  /// The order of the group.
  fileprivate static let order = ScalarBound(
    0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFE, 0xBAAE_DCE6_AF48_A03B, 0xBFD2_5E8C_D036_4141)
  /// Half the order, rounded down: the greatest s.
  fileprivate static let halfOrder = ScalarBound(
    0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF, 0x5D57_6E73_57A4_501D, 0xDFE9_2F46_681B_20A0)
}

/// Holds a number of 256 bits, to compare scalars with.
private struct ScalarBound: Sendable {
  private let high: UInt128
  private let low: UInt128

  init(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) {
    high = UInt128(first) << 64 | UInt128(second)
    low = UInt128(third) << 64 | UInt128(fourth)
  }

  init(_ octets: Digest32) {
    (high, low) = octets.withUnsafeBytes { octets in
      // Safe because: a digest has 32 octets, and the loads ask for no alignment.
      (
        UInt128(bigEndian: octets.loadUnaligned(fromByteOffset: 0, as: UInt128.self)),
        UInt128(bigEndian: octets.loadUnaligned(fromByteOffset: 16, as: UInt128.self))
      )
    }
  }

  var isZero: Bool { high == 0 && low == 0 }

  static func < (left: ScalarBound, right: ScalarBound) -> Bool {
    left.high != right.high ? left.high < right.high : left.low < right.low
  }
}

extension Secp256k1 {
  /// Holds a public key: the 64 octets of a point's coordinates.
  public struct PublicKey: Hashable, Sendable {
    /// The first coordinate, big-endian.
    public let x: Digest32
    /// The second coordinate, big-endian.
    public let y: Digest32

    /// The 64 octets, without the 0x04 of SEC 1 before them.
    public var bytes: [UInt8] { x.bytes + y.bytes }

    /// Keccak-256 of the 64 octets, whose last 20 are the key's Ethereum address.
    public var keccak256: Digest32 {
      var hash = Keccak256()
      hash.update(x)
      hash.update(y)
      return hash.finalize()
    }

    init?(_ key: secp256k1_pubkey) {
      // Safe because: libsecp256k1 writes the 65 octets that there is room for, and says how many.
      var point = InlineArray<65, UInt8>(repeating: 0)
      let halves = withUnsafeMutableBytes(of: &point) { point -> (Digest32, Digest32)? in
        guard let out = point.baseAddress else { return nil }
        var (key, count) = (key, 65)
        let isWritten = secp256k1_ec_pubkey_serialize(
          Context.shared.pointer, out.assumingMemoryBound(to: UInt8.self), &count, &key, secp256k1_flags_uncompressed)
        guard isWritten == 1, count == 65 else { return nil }
        return (
          Digest32(UnsafeRawBufferPointer(rebasing: point[1..<33])), Digest32(UnsafeRawBufferPointer(rebasing: point[33..<65]))
        )
      }
      guard let halves else { return nil }
      (x, y) = halves
    }
  }
}

extension Secp256k1 {
  /// Holds a signature in its one accepted spelling: both scalars in range, and s in the lower half of the order.
  public struct Signature: Hashable, Sendable {
    /// The scalar r, big-endian.
    public let r: Digest32
    /// The scalar s, big-endian; at most half the order.
    public let s: Digest32
    /// Which of the two points belongs to r: 0 for an even second coordinate, 1 for an odd one.
    public let recoveryIdentifier: UInt8

    /// Takes the parts of a signature.
    ///
    /// - Throws: the rule that they break.
    public init(r: Digest32, s: Digest32, recoveryIdentifier: UInt8) throws(Secp256k1Error) {
      let (first, second) = (ScalarBound(r), ScalarBound(s))
      guard !first.isZero, !second.isZero, first < order, second < order else { throw .scalarOutOfRange }
      guard !(halfOrder < second) else { throw .highS }
      guard recoveryIdentifier <= 1 else { throw .recoveryIdentifierOutOfRange }
      self.r = r
      self.s = s
      self.recoveryIdentifier = recoveryIdentifier
    }

    /// Finds the public key that signed the digest; nil where no point belongs to r.
    ///
    /// Every other key that a forger may get out of this is one whose secret he does not know: compare it with the signer that was named.
    public func recover(_ digest: Digest32) -> PublicKey? {
      var parsed = secp256k1_ecdsa_recoverable_signature()
      var key = secp256k1_pubkey()
      let isFound = withUnsafeBytes(of: (r, s)) { compact in
        digest.withUnsafeBytes { digest in
          // Safe because: the two digests lie side by side as the 64 octets that libsecp256k1 reads, and the third as its 32.
          guard let compact = compact.baseAddress, let digest = digest.baseAddress else { return false }
          return secp256k1_ecdsa_recoverable_signature_parse_compact(
            Context.shared.pointer, &parsed, compact.assumingMemoryBound(to: UInt8.self), Int32(recoveryIdentifier)) == 1
            && secp256k1_ecdsa_recover(Context.shared.pointer, &key, &parsed, digest.assumingMemoryBound(to: UInt8.self)) == 1
        }
      }
      return isFound ? PublicKey(key) : nil
    }
  }
}

extension Secp256k1 {
  /// Holds a secret key, which is erased with its last copy and never printed.
  public struct SigningKey: Sendable {
    private let secret: SecretBytes
    /// The public key that belongs to this one.
    public let publicKey: PublicKey

    /// Takes a secret of 32 octets; nil for another count, for zero, and from the order of the group on.
    public init?(secret: SecretBytes) {
      guard secret.count == Secp256k1.secretCount else { return nil }
      var key = secp256k1_pubkey()
      let isValid = secret.withUnsafeBytes { secret in
        guard let secret = secret.baseAddress else { return false }
        // Safe because: the count was checked, and libsecp256k1 only reads; it refuses what is no secret key.
        return secp256k1_ec_pubkey_create(Context.shared.pointer, &key, secret.assumingMemoryBound(to: UInt8.self)) == 1
      }
      guard isValid, let publicKey = PublicKey(key) else { return nil }
      self.secret = secret
      self.publicKey = publicKey
    }

    /// Draws a new key.
    public static func generate() -> SigningKey {
      // One draw in 2¹²⁸ is no secret key, so the second is already never needed.
      while true {
        if let key = SigningKey(secret: Random.secret(Secp256k1.secretCount)) { return key }
      }
    }

    /// Signs a digest by RFC 6979, so always the same signature for the same digest, in its accepted spelling.
    ///
    /// Nil in the one case of 2¹²⁷ in which r lies beyond the order, and the signature has no recovery identifier of 0 or 1.
    public func sign(_ digest: Digest32) -> Signature? {
      var signature = secp256k1_ecdsa_recoverable_signature()
      let isSigned = secret.withUnsafeBytes { secret in
        digest.withUnsafeBytes { digest in
          guard let secret = secret.baseAddress, let digest = digest.baseAddress else { return false }
          // Safe because: both are 32 octets that libsecp256k1 only reads; without a nonce function it takes RFC 6979's.
          return secp256k1_ecdsa_sign_recoverable(
            Context.shared.pointer, &signature, digest.assumingMemoryBound(to: UInt8.self),
            secret.assumingMemoryBound(to: UInt8.self), nil, nil) == 1
        }
      }
      return isSigned ? Signature(written: signature) : nil
    }
  }
}

extension Secp256k1.Signature {
  fileprivate init?(written signature: secp256k1_ecdsa_recoverable_signature) {
    var signature = signature
    var identifier: Int32 = 0
    var halves = (Digest32(), Digest32())
    withUnsafeMutableBytes(of: &halves) { out in
      // Safe because: two digests side by side are the 64 octets that libsecp256k1 writes.
      guard let out = out.baseAddress else { return }
      secp256k1_ecdsa_recoverable_signature_serialize_compact(
        Context.shared.pointer, out.assumingMemoryBound(to: UInt8.self), &identifier, &signature)
    }
    guard let signature = try? Self(r: halves.0, s: halves.1, recoveryIdentifier: UInt8(truncatingIfNeeded: identifier)) else {
      return nil
    }
    self = signature
  }
}

extension Secp256k1.SigningKey: CustomStringConvertible, CustomReflectable {
  /// A fixed word in the place of the key.
  public var description: String { "<secret>" }
  /// A mirror without children.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Holds the library's context, made once and blinded with random octets.
///
/// Safe because: the context is written in init only; libsecp256k1 takes it as constant afterwards, from any thread.
private final class Context: @unchecked Sendable {
  static let shared = Context()

  let pointer: OpaquePointer

  private init() {
    guard let pointer = secp256k1_context_create(secp256k1_flags_context_none) else {
      preconditionFailure("libsecp256k1 found no memory for its context")
    }
    let isBlinded = Random.digest32().withUnsafeBytes { seed in
      // Safe because: a digest has the 32 octets that are read.
      secp256k1_context_randomize(pointer, seed.baseAddress?.assumingMemoryBound(to: UInt8.self))
    }
    precondition(isBlinded == 1, "libsecp256k1 could not blind its context")
    self.pointer = pointer
  }

  deinit {
    secp256k1_context_destroy(pointer)
  }
}
