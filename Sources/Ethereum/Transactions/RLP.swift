import Bytes

/// Holds an item of the Recursive Length Prefix encoding (Ethereum's yellow paper, appendix B).
public indirect enum RLPItem: Hashable, Sendable {
  /// Holds octets.
  case octets([UInt8])
  /// Holds items.
  case list([RLPItem])

  /// Makes a number: its octets without leading zeros, none for zero.
  public static func number(_ value: Word256) -> RLPItem { .octets([UInt8](value.trimmed)) }
  /// Makes a number.
  public static func number(_ value: UInt64) -> RLPItem { .number(Word256(value)) }
  /// Makes a number.
  public static func number(_ value: UInt128) -> RLPItem { .number(Word256(value)) }
  /// Makes an address, or nothing in its place.
  public static func address(_ address: Address?) -> RLPItem { .octets(address?.bytes ?? []) }

  /// Whether these are no octets, or no items.
  public var isEmpty: Bool {
    switch self {
    case .octets(let octets): octets.isEmpty
    case .list(let items): items.isEmpty
    }
  }

  /// The octets, nil for a list.
  public var octetsValue: [UInt8]? { if case .octets(let octets) = self { octets } else { nil } }
  /// The items, nil for octets.
  public var listValue: [RLPItem]? { if case .list(let items) = self { items } else { nil } }
}

/// Encodes items and decodes them strictly: each item has one spelling.
public enum RLP {
  /// Bounds what an encoding may ask for.
  public struct Limits: Hashable, Sendable {
    /// The most octets.
    public var octets: Int
    /// The most items, those inside of others included.
    public var items: Int
    /// The most lists inside one another.
    public var depth: Int

    /// Takes limits.
    public init(octets: Int, items: Int, depth: Int) {
      self.octets = octets
      self.items = items
      self.depth = depth
    }

    /// 128 kibioctets, which is the most that nodes take for a transaction; 4096 items; 12 levels.
    public static let standard = Limits(octets: 1 << 17, items: 4096, depth: 12)
  }

  /// Encodes an item.
  public static func encode(_ item: RLPItem) -> [UInt8] {
    var buffer = ByteBuffer(capacity: count(of: item))
    append(item, to: &buffer)
    return buffer.array()
  }

  /// Encodes an item to the end of a buffer.
  public static func append(_ item: RLPItem, to buffer: inout ByteBuffer) {
    switch item {
    case .octets(let octets):
      if octets.count == 1, octets[0] < 0x80 { return buffer.append(byte: octets[0]) }
      appendPrefix(0x80, octets.count, to: &buffer)
      buffer.append(octets)
    case .list(let items):
      appendPrefix(0xC0, items.reduce(0) { $0 + count(of: $1) }, to: &buffer)
      for item in items { append(item, to: &buffer) }
    }
  }

  /// The octets that an item's encoding has.
  private static func count(of item: RLPItem) -> Int {
    switch item {
    case .octets(let octets):
      octets.count == 1 && octets[0] < 0x80 ? 1 : prefixCount(octets.count) + octets.count
    case .list(let items):
      prefixed(items.reduce(0) { $0 + count(of: $1) })
    }
  }

  private static func prefixed(_ count: Int) -> Int { prefixCount(count) + count }

  private static func prefixCount(_ count: Int) -> Int {
    count < 56 ? 1 : 1 + (Int.bitWidth - count.leadingZeroBitCount + 7) / 8
  }

  private static func appendPrefix(_ kind: UInt8, _ count: Int, to buffer: inout ByteBuffer) {
    if count < 56 { return buffer.append(byte: kind + UInt8(count)) }
    let octets = prefixCount(count) - 1
    buffer.append(byte: kind + 55 + UInt8(octets))
    for index in (0..<octets).reversed() { buffer.append(byte: UInt8(truncatingIfNeeded: count >> (index * 8))) }
  }

  /// Decodes one item and nothing after it.
  ///
  /// - Throws: the rule that the octets break, with the offset of the item that breaks it.
  public static func decode(_ octets: UnsafeRawBufferPointer, limits: Limits = .standard) throws(EthereumError) -> RLPItem {
    guard octets.count <= limits.octets else { throw .rlp(.tooLarge, offset: limits.octets) }
    var decoder = RLPDecoder(octets: octets, itemsLeft: limits.items, levelsLeft: limits.depth)
    return try decoder.decode()
  }

  /// Decodes one item and nothing after it, as above.
  public static func decode(_ octets: [UInt8], limits: Limits = .standard) throws(EthereumError) -> RLPItem {
    try octets.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try decode(UnsafeRawBufferPointer(octets), limits: limits)
    }
  }
}

/// Reads items from their first octet to their last.
private struct RLPDecoder {
  let octets: UnsafeRawBufferPointer
  var itemsLeft: Int
  var levelsLeft: Int
  var index = 0

  init(octets: UnsafeRawBufferPointer, itemsLeft: Int, levelsLeft: Int) {
    self.octets = octets
    self.itemsLeft = itemsLeft
    self.levelsLeft = levelsLeft
  }

  mutating func decode() throws(EthereumError) -> RLPItem {
    let item = try decodeItem(before: octets.count)
    guard index == octets.count else { throw .rlp(.trailingOctets, offset: index) }
    return item
  }

  private mutating func decodeItem(before end: Int) throws(EthereumError) -> RLPItem {
    let start = index
    guard index < end else { throw .rlp(.unexpectedEnd, offset: start) }
    guard itemsLeft > 0 else { throw .rlp(.tooLarge, offset: start) }
    itemsLeft -= 1
    let prefix = octets[index]
    index += 1
    switch prefix {
    case 0..<0x80: return .octets([prefix])
    case 0x80..<0xC0:
      let count = try count(prefix - 0x80, start: start, end: end)
      if count == 1, octets[index] < 0x80 { throw .rlp(.notCanonical, offset: start) }
      index += count
      return .octets([UInt8](octets[index - count..<index]))
    default:
      let count = try count(prefix - 0xC0, start: start, end: end)
      return .list(try decodeList(before: index + count, start: start))
    }
  }

  private mutating func decodeList(before end: Int, start: Int) throws(EthereumError) -> [RLPItem] {
    guard levelsLeft > 0 else { throw .rlp(.tooDeep, offset: start) }
    levelsLeft -= 1
    var items: [RLPItem] = []
    while index < end { items.append(try decodeItem(before: end)) }
    levelsLeft += 1
    return items
  }

  /// The count that a prefix says, of octets that lie before `end`.
  private mutating func count(_ prefix: UInt8, start: Int, end: Int) throws(EthereumError) -> Int {
    var count = Int(prefix)
    if count > 55 {
      let width = count - 55
      guard width <= end - index else { throw .rlp(.unexpectedEnd, offset: start) }
      guard octets[index] != 0 else { throw .rlp(.notCanonical, offset: start) }
      // More than four octets are more than the limit's in any case.
      guard width <= 4 else { throw .rlp(.unexpectedEnd, offset: start) }
      count = octets[index..<index + width].reduce(0) { $0 << 8 | Int($1) }
      guard count > 55 else { throw .rlp(.notCanonical, offset: start) }
      index += width
    }
    guard count <= end - index else { throw .rlp(.unexpectedEnd, offset: start) }
    return count
  }
}
