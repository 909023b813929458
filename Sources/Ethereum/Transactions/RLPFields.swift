import Bytes

/// Takes the fields of an RLP list one after the other, each as its type; what is wrong with one is told with its place.
struct RLPFields {
  private let items: [RLPItem]
  private(set) var index = 0

  /// Takes a list with one of several counts of items.
  init(_ item: RLPItem, counts: ClosedRange<Int>) throws(EthereumError) {
    guard let items = item.listValue else { throw .rlpField(.wrongKind, index: 0) }
    guard counts.contains(items.count) else { throw .rlpField(.wrongCount, index: items.count) }
    self.items = items
  }

  /// The fields that were not taken yet.
  var left: Int { items.count - index }

  mutating func item() throws(EthereumError) -> RLPItem {
    guard index < items.count else { throw .rlpField(.wrongCount, index: index) }
    index += 1
    return items[index - 1]
  }

  mutating func octets() throws(EthereumError) -> [UInt8] {
    guard let octets = try item().octetsValue else { throw .rlpField(.wrongKind, index: index - 1) }
    return octets
  }

  mutating func list() throws(EthereumError) -> [RLPItem] {
    guard let items = try item().listValue else { throw .rlpField(.wrongKind, index: index - 1) }
    return items
  }

  mutating func number() throws(EthereumError) -> Word256 {
    let octets = try octets()
    guard octets.first != 0 else { throw .rlpField(.leadingZero, index: index - 1) }
    guard let number = Word256(bigEndian: octets) else { throw .rlpField(.wrongSize, index: index - 1) }
    return number
  }

  mutating func uint64() throws(EthereumError) -> UInt64 {
    guard let number = try number().uint64 else { throw .rlpField(.wrongSize, index: index - 1) }
    return number
  }

  mutating func uint128() throws(EthereumError) -> UInt128 {
    guard let number = try number().uint128 else { throw .rlpField(.wrongSize, index: index - 1) }
    return number
  }

  mutating func address() throws(EthereumError) -> Address {
    guard let address = Address(bytes: try octets()) else { throw .rlpField(.wrongSize, index: index - 1) }
    return address
  }

  /// An address, or nothing in its place.
  mutating func optionalAddress() throws(EthereumError) -> Address? {
    let octets = try octets()
    if octets.isEmpty { return nil }
    guard let address = Address(bytes: octets) else { throw .rlpField(.wrongSize, index: index - 1) }
    return address
  }

  mutating func digest() throws(EthereumError) -> Digest32 {
    guard let digest = Digest32(bytes: try octets()) else { throw .rlpField(.wrongSize, index: index - 1) }
    return digest
  }
}
