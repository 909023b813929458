/// Holds 32 octets in place: a SHA-256 digest, an HMAC tag, an identifier or a public key.
@frozen
public struct Digest32: Hashable, Sendable {
  // The words hold the octets in memory order, whatever the machine's byte order.
  @usableFromInline var words: (UInt64, UInt64, UInt64, UInt64)

  /// The number of octets.
  @inlinable
  public static var count: Int { 32 }

  /// Makes 32 zero octets.
  @inlinable
  public init() {
    words = (0, 0, 0, 0)
  }

  /// Copies octets.
  ///
  /// - Precondition: there are exactly 32.
  @inlinable
  public init(_ octets: UnsafeRawBufferPointer) {
    precondition(octets.count == 32)
    // Safe because: the count was checked, and the loads ask for no alignment.
    words = (
      octets.loadUnaligned(fromByteOffset: 0, as: UInt64.self), octets.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
      octets.loadUnaligned(fromByteOffset: 16, as: UInt64.self), octets.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
    )
  }

  /// Copies octets; nil unless there are exactly 32.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == 32 else { return nil }
    self.init()
    withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
  }

  /// Reads exactly 64 lower-case hexadecimal digits; nil for anything else.
  public init?(hex: String) {
    var hex = hex
    guard let digest = hex.withUTF8({ Digest32(hexOctets: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = digest
  }

  /// Reads exactly 64 lower-case hexadecimal digits; nil for anything else.
  public init?(hexOctets octets: UnsafeRawBufferPointer) {
    guard octets.count == 64 else { return nil }
    self.init()
    let isRead = withUnsafeMutableBytes { out in
      for index in 0..<32 {
        guard let high = Self.nibble(octets[index * 2]), let low = Self.nibble(octets[index * 2 + 1]) else { return false }
        out[index] = high << 4 | low
      }
      return true
    }
    if !isRead { return nil }
  }

  /// Calls `body` with the octets; the pointer ends with the call.
  @inlinable
  public func withUnsafeBytes<R: ~Copyable, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    // Safe because: four words are 32 octets without padding.
    // They are borrowed, not copied into a variable: the optimizer of Swift 6.3 reads such a copy before it has been written.
    try Swift.withUnsafeBytes(of: words) { (octets) throws(E) -> R in try body(octets) }
  }

  /// Calls `body` with the octets, to fill them; the pointer ends with the call.
  @inlinable
  public mutating func withUnsafeMutableBytes<R: ~Copyable, E: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    // Safe because: four words are 32 octets without padding, and every pattern of bits is a valid word.
    try Swift.withUnsafeMutableBytes(of: &words, body)
  }

  /// The octets as an array.
  public var bytes: [UInt8] { withUnsafeBytes { [UInt8]($0) } }

  /// The octets as 64 lower-case hexadecimal digits.
  public var hex: String {
    String(unsafeUninitializedCapacity: 64) { out in
      writeHex(to: UnsafeMutableRawBufferPointer(out))
      return 64
    }
  }

  /// Writes the 64 digits to the front of `out`, which has room for them.
  fileprivate func writeHex(to out: UnsafeMutableRawBufferPointer) {
    withUnsafeBytes { octets in
      for index in 0..<32 {
        out[index * 2] = Self.digit(octets[index] >> 4)
        out[index * 2 + 1] = Self.digit(octets[index] & 15)
      }
    }
  }

  private static func nibble(_ octet: UInt8) -> UInt8? {
    switch octet {
    case 0x30...0x39: octet & 15
    case 0x61...0x66: octet - 0x57
    default: nil
    }
  }

  private static func digit(_ nibble: UInt8) -> UInt8 {
    nibble < 10 ? 0x30 | nibble : 0x57 &+ nibble
  }

  /// Compares all octets; not in constant time, so never use it on secrets or tags.
  @inlinable
  public static func == (left: Digest32, right: Digest32) -> Bool {
    left.words.0 == right.words.0 && left.words.1 == right.words.1 && left.words.2 == right.words.2
      && left.words.3 == right.words.3
  }

  /// Feeds all octets to the hasher: whoever chooses keys must not choose collisions.
  @inlinable
  public func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
    hasher.combine(words.1)
    hasher.combine(words.2)
    hasher.combine(words.3)
  }
}

extension Digest32: Comparable {
  /// Orders as the octets read from the first to the last.
  public static func < (left: Digest32, right: Digest32) -> Bool {
    if left.words.0 != right.words.0 { return left.words.0.bigEndian < right.words.0.bigEndian }
    if left.words.1 != right.words.1 { return left.words.1.bigEndian < right.words.1.bigEndian }
    if left.words.2 != right.words.2 { return left.words.2.bigEndian < right.words.2.bigEndian }
    return left.words.3.bigEndian < right.words.3.bigEndian
  }
}

extension Digest32: CustomStringConvertible {
  /// The same as `hex`.
  public var description: String { hex }
}

extension ByteBuffer {
  /// Appends the 64 lower-case hexadecimal digits of a digest.
  public mutating func append(hex digest: Digest32) {
    withUnsafeWritable(minimumCapacity: 64) { free in
      digest.writeHex(to: free)
      return 64
    }
  }
}
