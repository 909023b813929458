import Bytes

/// Names a contract and the places in its storage that a transaction declares beforehand (EIP-2930).
public struct AccessListEntry: Hashable, Sendable {
  /// The contract.
  public var address: Address
  /// The places.
  public var storageKeys: [Digest32]

  /// Takes the members.
  public init(address: Address, storageKeys: [Digest32]) {
    self.address = address
    self.storageKeys = storageKeys
  }

  var item: RLPItem { .list([.address(address), .list(storageKeys.map { .octets($0.bytes) })]) }

  init(_ item: RLPItem) throws(EthereumError) {
    var fields = try RLPFields(item, counts: 2...2)
    address = try fields.address()
    var keys: [Digest32] = []
    for key in try fields.list() {
      guard let digest = key.octetsValue.flatMap({ Digest32(bytes: $0) }) else { throw .rlpField(.wrongSize, index: 1) }
      keys.append(digest)
    }
    storageKeys = keys
  }

  /// Reads a list of entries.
  static func entries(_ items: [RLPItem]) throws(EthereumError) -> [AccessListEntry] {
    var entries: [AccessListEntry] = []
    for item in items { entries.append(try AccessListEntry(item)) }
    return entries
  }
}
