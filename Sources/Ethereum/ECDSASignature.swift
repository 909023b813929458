import Bytes
import Crypto

/// Holds a signature of Ethereum's in its one accepted spelling: s in the lower half of the order (EIP-2).
public struct ECDSASignature: Hashable, Sendable {
  /// The scalars and the parity, in range.
  public let parts: Secp256k1.Signature

  /// Takes parts that were checked.
  public init(_ parts: Secp256k1.Signature) {
    self.parts = parts
  }

  /// Takes the scalars and the parity of the point's second coordinate, 0 or 1.
  ///
  /// - Throws: `signatureOutOfRange`, `signatureHighS` or `malformedSignature`.
  public init(r: Digest32, s: Digest32, yParity: UInt8) throws(EthereumError) {
    do {
      parts = try Secp256k1.Signature(r: r, s: s, recoveryIdentifier: yParity)
    } catch {
      switch error {
      case .scalarOutOfRange: throw .signatureOutOfRange
      case .highS: throw .signatureHighS
      case .recoveryIdentifierOutOfRange: throw .malformedSignature
      }
    }
  }

  /// Reads 65 octets (r, s, and a last one of 0, 1, 27 or 28), or the 64 of EIP-2098.
  ///
  /// - Throws: `malformedSignature`, `signatureOutOfRange` or `signatureHighS`.
  public init(_ octets: UnsafeRawBufferPointer) throws(EthereumError) {
    guard octets.count == 65 || octets.count == 64 else { throw .malformedSignature }
    let r = Digest32(UnsafeRawBufferPointer(rebasing: octets[..<32]))
    var s = Digest32(UnsafeRawBufferPointer(rebasing: octets[32..<64]))
    if octets.count == 64 {
      // EIP-2098: the parity lies in the highest bit of s, which a low s leaves free.
      s.withUnsafeMutableBytes { $0[0] &= 0x7F }
      try self.init(r: r, s: s, yParity: octets[32] >> 7)
      return
    }
    switch octets[64] {
    case 0, 1: try self.init(r: r, s: s, yParity: octets[64])
    case 27, 28: try self.init(r: r, s: s, yParity: octets[64] - 27)
    default: throw .malformedSignature
    }
  }

  /// Reads 65 or 64 octets, as above.
  public init(bytes: [UInt8]) throws(EthereumError) {
    self = try bytes.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try ECDSASignature(UnsafeRawBufferPointer(octets))
    }
  }

  /// Reads `0x` and the digits of 65 or 64 octets.
  ///
  /// - Throws: as above, and `malformedHexadecimal`.
  public init(hex text: String) throws(EthereumError) {
    self = try text.withOctets { (text) throws(EthereumError) in try ECDSASignature(hex: text) }
  }

  /// Reads `0x` and the digits of 65 or 64 octets, as above.
  public init(hex text: UnsafeRawBufferPointer) throws(EthereumError) {
    guard let digits = HexData.digits(of: text), digits.count % 2 == 0 else { throw .malformedHexadecimal }
    guard digits.count == 130 || digits.count == 128 else { throw .malformedSignature }
    var octets = InlineArray<65, UInt8>(repeating: 0)
    let count = digits.count / 2
    let isRead = withUnsafeMutableBytes(of: &octets) { octets in
      HexData.read(digits, into: UnsafeMutableRawBufferPointer(rebasing: octets[..<count]))
    }
    guard isRead else { throw .malformedHexadecimal }
    self = try withUnsafeBytes(of: octets) { (octets) throws(EthereumError) -> ECDSASignature in
      try ECDSASignature(UnsafeRawBufferPointer(rebasing: octets[..<count]))
    }
  }

  /// The scalar r.
  public var r: Digest32 { parts.r }
  /// The scalar s, at most half the order.
  public var s: Digest32 { parts.s }
  /// The parity of the point's second coordinate, 0 or 1.
  public var yParity: UInt8 { parts.recoveryIdentifier }
  /// The parity as contracts take it, 27 or 28.
  public var v: UInt8 { yParity + 27 }

  /// The 65 octets r, s and v, v being 27 or 28.
  public var bytes: [UInt8] { r.bytes + s.bytes + [v] }

  /// The 64 octets of EIP-2098.
  public var compact: [UInt8] {
    var octets = r.bytes + s.bytes
    octets[32] |= yParity << 7
    return octets
  }

  /// The 65 octets in hexadecimal digits after `0x`.
  public var hex: String { HexData.text(bytes) }

  /// Finds the address whose key signed the digest; nil where there is none.
  ///
  /// Any other signature gives any other address: compare it with the signer that was named.
  public func recover(_ digest: Digest32) -> Address? {
    parts.recover(digest).map { Address($0) }
  }
}
