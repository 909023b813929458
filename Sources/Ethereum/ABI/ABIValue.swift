import Bytes

/// Holds a value of the contract ABI.
public indirect enum ABIValue: Hashable, Sendable {
  /// Holds a number of whatever size.
  case uint(Word256)
  /// Holds an address.
  case address(Address)
  /// Holds a truth value.
  case bool(Bool)
  /// Holds 32 octets, or fewer that are filled up with zeros at their end.
  case fixedBytes(Digest32)
  /// Holds octets of any number.
  case bytes([UInt8])
  /// Holds a text.
  case string(String)
  /// Holds elements of one type.
  case array([ABIValue])
  /// Holds members of several types.
  case tuple([ABIValue])

  /// Makes a number.
  public static func uint(_ value: UInt128) -> ABIValue { .uint(Word256(value)) }
  /// Makes a number.
  public static func uint(_ value: UInt64) -> ABIValue { .uint(Word256(value)) }
  /// Makes octets of a signature.
  public static func bytes(_ signature: ECDSASignature) -> ABIValue { .bytes(signature.bytes) }

  /// The number, nil for other kinds.
  public var uintValue: Word256? { if case .uint(let value) = self { value } else { nil } }
  /// The address, nil for other kinds.
  public var addressValue: Address? { if case .address(let value) = self { value } else { nil } }
  /// The truth value, nil for other kinds.
  public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The 32 octets, nil for other kinds.
  public var fixedBytesValue: Digest32? { if case .fixedBytes(let value) = self { value } else { nil } }
  /// The octets, nil for other kinds.
  public var bytesValue: [UInt8]? { if case .bytes(let value) = self { value } else { nil } }
  /// The text, nil for other kinds.
  public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
  /// The elements or members, nil for other kinds.
  public var elements: [ABIValue]? {
    switch self {
    case .array(let values), .tuple(let values): values
    case .uint, .address, .bool, .fixedBytes, .bytes, .string: nil
    }
  }

  /// Whether this is a value of the type.
  public func isOf(_ type: ABIType) -> Bool {
    switch (self, type) {
    case (.uint(let value), .uint(let bits)): value.bitCount <= bits
    case (.address, .address), (.bool, .bool), (.bytes, .bytes), (.string, .string): true
    case (.fixedBytes(let octets), .fixedBytes(let count)):
      octets.withUnsafeBytes { octets in octets[count...].allSatisfy { $0 == 0 } }
    case (.array(let values), .array(let element)): values.allSatisfy { $0.isOf(element) }
    case (.tuple(let values), .tuple(let members)):
      values.count == members.count && zip(values, members).allSatisfy { $0.isOf($1) }
    case (.uint, _), (.address, _), (.bool, _), (.fixedBytes, _), (.bytes, _), (.string, _), (.array, _), (.tuple, _): false
    }
  }

  /// Whether the value lies behind an offset.
  var isDynamic: Bool {
    switch self {
    case .uint, .address, .bool, .fixedBytes: false
    case .bytes, .string, .array: true
    case .tuple(let members): members.contains { $0.isDynamic }
    }
  }

  /// The octets that the value takes where its parent's members lie side by side.
  var headCount: Int {
    switch self {
    case .uint, .address, .bool, .fixedBytes, .bytes, .string, .array: 32
    case .tuple(let members): isDynamic ? 32 : members.reduce(0) { $0 + $1.headCount }
    }
  }
}

extension Word256 {
  /// The bits from the highest set one on; none for zero.
  var bitCount: Int { high == 0 ? 128 - low.leadingZeroBitCount : 256 - high.leadingZeroBitCount }
}
