import Bytes
import Crypto

/// Holds the 20 octets of an account's or a contract's address.
///
/// Addresses are compared as octets, never as texts.
public struct Address: Hashable, Sendable {
  // The words hold the octets in memory order, whatever the machine's byte order.
  private var words: (UInt64, UInt64, UInt32)

  /// The number of octets.
  public static let count = 20
  /// The address whose octets are all zero, which stands for nobody.
  public static let zero = Address()

  private init() {
    words = (0, 0, 0)
  }

  /// Takes the parts of a constant, the first one first.
  init(_ first: UInt64, _ second: UInt64, _ third: UInt32) {
    words = (first.bigEndian, second.bigEndian, third.bigEndian)
  }

  /// Copies octets; nil unless there are exactly 20.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == Self.count else { return nil }
    self.init()
    withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
  }

  /// Takes the last 20 of a digest's octets, as an account's address is made of its key.
  public init(truncating digest: Digest32) {
    self.init()
    digest.withUnsafeBytes { octets in
      withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: octets[12...])) }
    }
  }

  /// Derives the address of a public key.
  public init(_ key: Secp256k1.PublicKey) {
    self.init(truncating: key.keccak256)
  }

  /// Calls `body` with the octets; the pointer ends with the call.
  public func withUnsafeBytes<R: ~Copyable, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    // Safe because: the words are 20 octets without padding between them. As in Digest32, they are borrowed and not copied.
    try Swift.withUnsafeBytes(of: words) { (octets) throws(E) -> R in
      try body(UnsafeRawBufferPointer(rebasing: octets[..<Self.count]))
    }
  }

  private mutating func withUnsafeMutableBytes<R: ~Copyable>(_ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
    // Safe because: as above, and every pattern of bits is a valid word.
    Swift.withUnsafeMutableBytes(of: &words) { body(UnsafeMutableRawBufferPointer(rebasing: $0[..<Self.count])) }
  }

  /// The octets as an array.
  public var bytes: [UInt8] { withUnsafeBytes { [UInt8]($0) } }

  /// Whether all octets are zero.
  public var isZero: Bool { self == Self.zero }

  /// Compares all octets.
  public static func == (left: Address, right: Address) -> Bool {
    left.words.0 == right.words.0 && left.words.1 == right.words.1 && left.words.2 == right.words.2
  }

  /// Feeds all octets to the hasher.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
    hasher.combine(words.1)
    hasher.combine(words.2)
  }
}

extension Address {
  /// Says what is asked of the letters' cases in an address's text.
  public enum Checksum: Hashable, Sendable {
    /// Letters of one case are accepted; of both cases they must be the checksum of EIP-55.
    case whereMixed
    /// Letters of any case are accepted.
    case ignored
  }

  /// Reads `0x` and 40 hexadecimal digits.
  ///
  /// - Throws: `malformedAddress`, or `addressChecksumMismatch` where the checksum is looked at.
  public init(text: UnsafeRawBufferPointer, checksum: Checksum = .whereMixed) throws(EthereumError) {
    guard let digits = HexData.digits(of: text), digits.count == Self.count * 2 else { throw .malformedAddress }
    self.init()
    guard withUnsafeMutableBytes({ HexData.read(digits, into: $0) }) else { throw .malformedAddress }
    switch checksum {
    case .ignored: return
    case .whereMixed:
      let hasLower = digits.contains { $0 >= 0x61 }
      let hasUpper = digits.contains { $0 >= 0x41 && $0 <= 0x46 }
      guard hasLower, hasUpper else { return }
      let isRight = withChecksummedDigits { $0.elementsEqual(digits) }
      guard isRight else { throw .addressChecksumMismatch }
    }
  }

  /// Reads `0x` and 40 hexadecimal digits, as above.
  public init(text: String, checksum: Checksum = .whereMixed) throws(EthereumError) {
    self = try text.withOctets { (octets) throws(EthereumError) in try Address(text: octets, checksum: checksum) }
  }

  /// Reads `0x` and 40 hexadecimal digits; nil for anything else, and for a wrong checksum where cases are mixed.
  public init?(_ text: String) {
    guard let address = try? Address(text: text) else { return nil }
    self = address
  }

  /// The text with the checksum of EIP-55, for people and requests.
  public var checksummed: String {
    withChecksummedDigits { "0x" + String(decoding: $0, as: UTF8.self) }
  }

  /// The text in lower case, as it stands on the wire.
  public var lowercase: String { withUnsafeBytes { HexData.text($0) } }

  /// Calls `body` with the 40 digits, a letter in upper case where the hash of the lower-case digits has a high bit (EIP-55).
  private func withChecksummedDigits<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
    withUnsafeTemporaryAllocation(byteCount: Self.count * 2, alignment: 8) { digits in
      withUnsafeBytes { octets in
        for index in 0..<Self.count {
          digits[index * 2] = HexData.digit(octets[index] >> 4)
          digits[index * 2 + 1] = HexData.digit(octets[index] & 15)
        }
      }
      Keccak256.hash(UnsafeRawBufferPointer(digits)).withUnsafeBytes { hash in
        for index in 0..<digits.count where digits[index] >= 0x61 {
          let nibble = index % 2 == 0 ? hash[index / 2] >> 4 : hash[index / 2] & 15
          if nibble >= 8 { digits[index] &-= 0x20 }
        }
      }
      return body(UnsafeRawBufferPointer(digits))
    }
  }
}

extension Address: CustomStringConvertible {
  /// The same as `checksummed`.
  public var description: String { checksummed }
}

extension ByteBuffer {
  /// Appends an address in lower case.
  public mutating func append(_ address: Address) {
    address.withUnsafeBytes { HexData.append($0, to: &self) }
  }
}
