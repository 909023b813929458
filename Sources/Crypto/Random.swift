import Bytes
internal import CSodium

/// Draws octets that nobody can foretell.
public enum Random {
  /// Fills memory with random octets.
  public static func fill(_ octets: UnsafeMutableRawBufferPointer) {
    Sodium.initialize()
    // Safe because: the buffer names its own count, and libsodium writes no further.
    if let base = octets.baseAddress { randombytes_buf(base, octets.count) }
  }

  /// Draws `count` octets.
  ///
  /// - Precondition: `count` is not negative.
  public static func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { out, written in
      fill(UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(out)[..<count]))
      written = count
    }
  }

  /// Draws 32 octets.
  public static func digest32() -> Digest32 {
    var digest = Digest32()
    digest.withUnsafeMutableBytes { fill($0) }
    return digest
  }

  /// Draws `count` octets that stay secret.
  ///
  /// - Precondition: `count` is not negative.
  public static func secret(_ count: Int) -> SecretBytes {
    SecretBytes(count: count) { fill($0) }
  }
}
