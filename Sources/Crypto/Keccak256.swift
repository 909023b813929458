import Bytes

/// Computes Keccak-256 of octets as they come: the hash of Ethereum, which is the original Keccak with capacity 512 and padding 0x01,
/// not the SHA3-256 of FIPS 202.
///
/// A copy continues on its own from where it was made.
public struct Keccak256: Sendable {
  /// The octets of a block, the rate of the sponge.
  public static let blockCount = 136

  private var state = KeccakState()
  /// The octets of the current block that were taken, always fewer than a block's.
  private var taken = 0

  /// Begins with no octets.
  public init() {}

  /// Takes the next octets.
  public mutating func update(_ octets: UnsafeRawBufferPointer) {
    var index = 0
    while index < octets.count {
      if taken == 0, octets.count &- index >= Self.blockCount {
        for lane in 0..<Self.blockCount / 8 { state[lane] ^= Self.lane(octets, at: index &+ lane &* 8) }
        state.permute()
        index &+= Self.blockCount
        continue
      }
      if taken & 7 == 0, octets.count &- index >= 8 {
        state[taken >> 3] ^= Self.lane(octets, at: index)
        index &+= 8
        taken &+= 8
      } else {
        state[taken >> 3] ^= UInt64(octets[index]) &<< UInt64((taken & 7) &* 8)
        index &+= 1
        taken &+= 1
      }
      if taken == Self.blockCount {
        state.permute()
        taken = 0
      }
    }
  }

  @inline(__always)
  private static func lane(_ octets: UnsafeRawBufferPointer, at index: Int) -> UInt64 {
    // Safe because: the callers have seen that eight octets are left, and the load asks for no alignment.
    UInt64(littleEndian: octets.loadUnaligned(fromByteOffset: index, as: UInt64.self))
  }

  /// Takes the next octets.
  public mutating func update(_ octets: [UInt8]) {
    octets.withUnsafeBytes { update($0) }
  }

  /// Takes a string's UTF-8 as the next octets.
  public mutating func update(_ text: String) {
    var text = text
    text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
  }

  /// Takes the next octet.
  public mutating func update(byte: UInt8) {
    withUnsafeBytes(of: byte) { update($0) }
  }

  /// Takes a digest's octets as the next ones.
  public mutating func update(_ digest: Digest32) {
    digest.withUnsafeBytes { update($0) }
  }

  /// Ends with the digest of all octets taken; the value itself can go on.
  public func finalize() -> Digest32 {
    var last = state
    last[taken >> 3] ^= 1 &<< UInt64((taken & 7) &* 8)
    last[Self.blockCount / 8 - 1] ^= 0x80 &<< 56
    last.permute()
    var digest = Digest32()
    digest.withUnsafeMutableBytes { out in
      for lane in 0..<4 {
        out.storeBytes(of: last[lane].littleEndian, toByteOffset: lane &* 8, as: UInt64.self)
      }
    }
    return digest
  }

  /// Hashes octets at once.
  public static func hash(_ octets: UnsafeRawBufferPointer) -> Digest32 {
    var hash = Keccak256()
    hash.update(octets)
    return hash.finalize()
  }

  /// Hashes octets at once.
  public static func hash(_ octets: [UInt8]) -> Digest32 {
    octets.withUnsafeBytes { hash($0) }
  }

  /// Hashes a string's UTF-8 at once.
  public static func hash(_ text: String) -> Digest32 {
    var hash = Keccak256()
    hash.update(text)
    return hash.finalize()
  }

  /// Hashes the octets left in a buffer at once.
  public static func hash(_ buffer: borrowing ByteBuffer) -> Digest32 {
    buffer.withUnsafeBytes { hash($0) }
  }
}
