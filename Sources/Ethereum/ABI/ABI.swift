import Bytes
import Crypto

/// Encodes values for contracts, and decodes what contracts return (the contract ABI specification of Solidity).
public enum ABI {
  /// Encodes values as the arguments of a call or as `abi.encode` does.
  public static func encode(_ values: [ABIValue]) -> [UInt8] {
    var buffer = ByteBuffer(capacity: values.count * 32)
    append(values, to: &buffer)
    return buffer.array()
  }

  /// Encodes values, as above, to the end of a buffer.
  public static func append(_ values: [ABIValue], to buffer: inout ByteBuffer) {
    let heads = values.reduce(0) { $0 + $1.headCount }
    let start = buffer.count
    // Heads first, with room for the offsets, which are known when the parts behind them have been written.
    var offsets: [(position: Int, value: ABIValue)] = []
    for value in values {
      if value.isDynamic {
        offsets.append((buffer.count, value))
        buffer.append(repeating: 0, count: 32)
      } else {
        appendWords(of: value, to: &buffer)
      }
    }
    assert(buffer.count == start + heads)
    for (position, value) in offsets {
      Word256(UInt64(buffer.count - start)).octets.withUnsafeBytes { buffer.overwrite(at: position, with: $0) }
      appendDynamic(value, to: &buffer)
    }
  }

  private static func appendWords(of value: ABIValue, to buffer: inout ByteBuffer) {
    switch value {
    case .uint(let number): buffer.append(number.octets)
    case .address(let address): buffer.append(Word256(address).octets)
    case .bool(let truth): buffer.append(Word256(truth ? 1 : UInt64(0)).octets)
    case .fixedBytes(let octets): buffer.append(octets)
    case .tuple(let members): for member in members { appendWords(of: member, to: &buffer) }
    case .bytes, .string, .array: appendDynamic(value, to: &buffer)
    }
  }

  private static func appendDynamic(_ value: ABIValue, to buffer: inout ByteBuffer) {
    switch value {
    case .bytes(let octets): octets.withUnsafeBytes { appendPadded($0, to: &buffer) }
    case .string(var text): text.withUTF8 { appendPadded(UnsafeRawBufferPointer($0), to: &buffer) }
    case .array(let elements):
      buffer.append(Word256(UInt64(elements.count)).octets)
      append(elements, to: &buffer)
    case .tuple(let members): append(members, to: &buffer)
    case .uint, .address, .bool, .fixedBytes: appendWords(of: value, to: &buffer)
    }
  }

  private static func appendPadded(_ octets: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    buffer.append(Word256(UInt64(octets.count)).octets)
    buffer.append(octets)
    buffer.append(repeating: 0, count: (32 - octets.count % 32) % 32)
  }

  /// Hashes the encoding of values, as contracts derive identifiers and nonces (`keccak256(abi.encode(…))`).
  public static func hash(_ values: [ABIValue]) -> Digest32 {
    Keccak256.hash(encode(values))
  }
}

extension ABI {
  /// Says how strictly data is read.
  public enum Form: Hashable, Sendable {
    /// Every part lies where the encoder of every compiler puts it, and nothing is left over: what is signed and paid for.
    case canonical
    /// Offsets may point anywhere inside the data, and something may follow: what a contract returns.
    case bounded
  }

  /// Bounds what data may ask for.
  public struct Limits: Hashable, Sendable {
    /// The most octets.
    public var octets: Int
    /// The most values, those inside of others included; 32 octets of a text count as one more.
    public var values: Int

    /// Takes limits.
    public init(octets: Int, values: Int) {
      self.octets = octets
      self.values = values
    }

    /// 64 kibioctets, 4096 values.
    public static let standard = Limits(octets: 1 << 16, values: 4096)
  }

  /// Decodes values of known types.
  ///
  /// - Throws: the rule that the data breaks, with the offset of the part that breaks it.
  public static func decode(
    _ data: UnsafeRawBufferPointer, as types: [ABIType], form: Form = .canonical, limits: Limits = .standard
  ) throws(EthereumError) -> [ABIValue] {
    guard data.count <= limits.octets else { throw .abi(.tooLarge, offset: limits.octets) }
    var decoder = ABIDecoder(data: data, form: form, valuesLeft: limits.values)
    return try decoder.decodeAll(types)
  }

  /// Decodes values of known types, as above.
  public static func decode(
    _ data: [UInt8], as types: [ABIType], form: Form = .canonical, limits: Limits = .standard
  ) throws(EthereumError) -> [ABIValue] {
    try data.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try decode(UnsafeRawBufferPointer(octets), as: types, form: form, limits: limits)
    }
  }
}
