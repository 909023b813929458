import Bytes
import Encoding

// What a result is read as; each reading refuses every other form.
extension JSONValue {
  /// The number that a quantity spells.
  ///
  /// - Throws: `wrongForm`.
  public func quantity() throws(EthereumError) -> Word256 {
    guard let number = stringValue.flatMap({ Word256(quantity: $0) }) else { throw .reply(.wrongForm) }
    return number
  }

  /// The number that a quantity spells, up to 64 bits.
  ///
  /// - Throws: `wrongForm`.
  public func quantity64() throws(EthereumError) -> UInt64 {
    guard let number = try quantity().uint64 else { throw .reply(.wrongForm) }
    return number
  }

  /// The number that a quantity spells, up to 128 bits.
  ///
  /// - Throws: `numberTooLarge` past 128 bits, else `wrongForm`.
  public func quantity128() throws(EthereumError) -> UInt128 {
    guard let number = try quantity().uint128 else { throw .numberTooLarge }
    return number
  }

  /// The octets.
  ///
  /// - Throws: `wrongForm`.
  public func data() throws(EthereumError) -> [UInt8] {
    guard let octets = stringValue.flatMap({ HexData.parse($0) }) else { throw .reply(.wrongForm) }
    return octets
  }

  /// The 32 octets.
  ///
  /// - Throws: `wrongForm`.
  public func digest() throws(EthereumError) -> Digest32 {
    guard let digest = stringValue.flatMap({ HexData.digest($0) }) else { throw .reply(.wrongForm) }
    return digest
  }

  /// The address, in letters of whatever case.
  ///
  /// - Throws: `wrongForm`.
  public func address() throws(EthereumError) -> Address {
    guard let text = stringValue, let address = try? Address(text: text, checksum: .ignored) else {
      throw .reply(.wrongForm)
    }
    return address
  }

  /// A member that must be there.
  func member(_ name: String) throws(EthereumError) -> JSONValue {
    guard let value = self[name], !value.isNull else { throw .reply(.wrongForm) }
    return value
  }

  /// A member that may be missing or null.
  func optional(_ name: String) -> JSONValue? {
    guard let value = self[name], !value.isNull else { return Optional.none }
    return value
  }

  func optionalQuantity64(_ name: String) throws(EthereumError) -> UInt64? {
    guard let value = optional(name) else { return nil }
    return try value.quantity64()
  }

  func optionalQuantity128(_ name: String) throws(EthereumError) -> UInt128? {
    guard let value = optional(name) else { return nil }
    return try value.quantity128()
  }

  func optionalDigest(_ name: String) throws(EthereumError) -> Digest32? {
    guard let value = optional(name) else { return nil }
    return try value.digest()
  }

  func optionalAddress(_ name: String) throws(EthereumError) -> Address? {
    guard let value = optional(name) else { return nil }
    return try value.address()
  }
}

extension Log {
  /// The most logs of one answer.
  public static let maximumCount = 16_384

  /// Reads a log.
  ///
  /// - Throws: `wrongForm`.
  public init(_ value: JSONValue) throws(EthereumError) {
    guard let list = try value.member("topics").arrayValue, list.count <= Self.maximumTopics else { throw .reply(.wrongForm) }
    var topics: [Digest32] = []
    for topic in list { topics.append(try topic.digest()) }
    var isRemoved = false
    if let removed = value.optional("removed") {
      guard case .bool(let flag) = removed else { throw .reply(.wrongForm) }
      isRemoved = flag
    }
    self.init(
      address: try value.member("address").address(), topics: topics, data: try value.member("data").data(),
      blockNumber: try value.optionalQuantity64("blockNumber"), blockHash: try value.optionalDigest("blockHash"),
      transactionHash: try value.optionalDigest("transactionHash"), index: try value.optionalQuantity64("logIndex"),
      isRemoved: isRemoved)
  }

  /// Reads an array of logs.
  ///
  /// - Throws: `wrongForm`, or `tooLarge` for more than `maximumCount`.
  public static func logs(_ value: JSONValue) throws(EthereumError) -> [Log] {
    guard let list = value.arrayValue else { throw .reply(.wrongForm) }
    guard list.count <= maximumCount else { throw .reply(.tooLarge) }
    var logs: [Log] = []
    logs.reserveCapacity(list.count)
    for element in list { logs.append(try Log(element)) }
    return logs
  }
}
