import Bytes
internal import COpenSSL

/// Computes SHA-256 (FIPS 180-4) of octets as they come.
///
/// A copy continues on its own from where it was made.
public struct SHA256: @unchecked Sendable {
  // Safe because: the context is a plain value of integers, without pointers.
  private var context = SHA256_CTX()

  /// Begins with no octets.
  public init() {
    SHA256_Init(&context)
  }

  /// Takes the next octets.
  public mutating func update(_ octets: UnsafeRawBufferPointer) {
    // Safe because: the pointer holds for the call, and libcrypto only reads from it.
    if let base = octets.baseAddress { SHA256_Update(&context, base, octets.count) }
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
    var last = context
    var digest = Digest32()
    digest.withUnsafeMutableBytes { out in
      // Safe because: the digest has the 32 octets that libcrypto writes.
      _ = SHA256_Final(out.baseAddress?.assumingMemoryBound(to: UInt8.self), &last)
    }
    return digest
  }

  /// Hashes octets at once.
  public static func hash(_ octets: UnsafeRawBufferPointer) -> Digest32 {
    var hash = SHA256()
    hash.update(octets)
    return hash.finalize()
  }

  /// Hashes octets at once.
  public static func hash(_ octets: [UInt8]) -> Digest32 {
    octets.withUnsafeBytes { hash($0) }
  }

  /// Hashes a string's UTF-8 at once.
  public static func hash(_ text: String) -> Digest32 {
    var hash = SHA256()
    hash.update(text)
    return hash.finalize()
  }

  /// Hashes the octets left in a buffer at once.
  public static func hash(_ buffer: borrowing ByteBuffer) -> Digest32 {
    buffer.withUnsafeBytes { hash($0) }
  }
}
