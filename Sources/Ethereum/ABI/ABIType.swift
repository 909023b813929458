/// Names a type of the contract ABI, as far as payments need them.
public indirect enum ABIType: Hashable, Sendable {
  /// A number of 8 to 256 bits, a multiple of eight.
  case uint(Int)
  /// An address.
  case address
  /// A truth value.
  case bool
  /// One to 32 octets, filled up with zeros at their end.
  case fixedBytes(Int)
  /// Octets of any number.
  case bytes
  /// A text in UTF-8.
  case string
  /// Elements of one type, as many as there are.
  case array(ABIType)
  /// Members of several types.
  case tuple([ABIType])

  /// The number of most amounts.
  public static let uint256 = ABIType.uint(256)
  /// A hash or an identifier.
  public static let bytes32 = ABIType.fixedBytes(32)

  /// The type's name in a function's signature.
  public var name: String {
    switch self {
    case .uint(let bits): "uint\(bits)"
    case .address: "address"
    case .bool: "bool"
    case .fixedBytes(let count): "bytes\(count)"
    case .bytes: "bytes"
    case .string: "string"
    case .array(let element): element.name + "[]"
    case .tuple(let members): Self.names(members)
    }
  }

  /// The names of several types in parentheses.
  static func names(_ types: [ABIType]) -> String {
    "(" + types.map(\.name).joined(separator: ",") + ")"
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
