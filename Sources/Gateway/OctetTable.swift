/// A fixed hash table from a context and octets to a number: keys lie in one array, and a lookup allocates nothing.
struct OctetTable: Sendable {
  private struct Slot {
    var hash: UInt64
    var context: UInt32
    var start: UInt32
    var count: UInt32
    /// Below zero where the slot is empty.
    var value: Int32
  }

  private var slots: [Slot] = Array(repeating: OctetTable.empty, count: 8)
  private var keys: [UInt8] = []
  private var count = 0

  private static let empty = Slot(hash: 0, context: 0, start: 0, count: 0, value: -1)

  /// Finds the value of a key.
  @inline(__always)
  func value(of octets: RawSpan, context: UInt32) -> Int32? {
    let hash = Self.hash(octets, context)
    let mask = slots.count &- 1
    var index = Int(truncatingIfNeeded: hash) & mask
    let keys = keys.span.bytes
    while true {
      let slot = slots[index]
      guard slot.value >= 0 else { return nil }
      if slot.hash == hash, slot.context == context, Int(slot.count) == octets.byteCount {
        let start = Int(slot.start)
        if keys.extracting(start..<start &+ octets.byteCount).equals(octets) { return slot.value }
      }
      // The table is never more than half full, so an empty slot ends the search.
      index = (index &+ 1) & mask
    }
  }

  /// Gives the key's value, or enters `value`.
  mutating func entered(_ key: [UInt8], context: UInt32, _ value: @autoclosure () -> Int32) -> Int32 {
    if let value = self.value(of: key.span.bytes, context: context) { return value }
    if count * 2 >= slots.count { grow() }
    let new = value()
    let hash = Self.hash(key.span.bytes, context)
    insert(Slot(hash: hash, context: context, start: UInt32(keys.count), count: UInt32(key.count), value: new))
    keys.append(contentsOf: key)
    count += 1
    return new
  }

  private mutating func grow() {
    let old = slots
    slots = Array(repeating: Self.empty, count: old.count * 2)
    for slot in old where slot.value >= 0 { insert(slot) }
  }

  private mutating func insert(_ slot: Slot) {
    let mask = slots.count - 1
    var index = Int(truncatingIfNeeded: slot.hash) & mask
    while slots[index].value >= 0 { index = (index + 1) & mask }
    slots[index] = slot
  }

  /// Mixes eight octets at a time. Keys come from the configuration, so nobody can choose collisions among them.
  @inline(__always)
  private static func hash(_ octets: RawSpan, _ context: UInt32) -> UInt64 {
    let count = octets.byteCount
    var hash = (UInt64(context) &+ 1) &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(truncatingIfNeeded: count)
    var index = 0
    while index &+ 8 <= count {
      hash = mixed(hash ^ octets.word(index))
      index &+= 8
    }
    var rest: UInt64 = 0
    while index < count {
      rest = rest << 8 | UInt64(octets.octet(index))
      index &+= 1
    }
    return mixed(hash ^ rest)
  }

  @inline(__always)
  private static func mixed(_ value: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return product.high ^ product.low
  }
}

extension RawSpan {
  // Safe because: RawSpan checks the bounds of both loads, and every bit pattern is an integer.

  @inline(__always)
  func octet(_ index: Int) -> UInt8 { unsafeLoad(fromByteOffset: index, as: UInt8.self) }

  @inline(__always)
  func word(_ index: Int) -> UInt64 { unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self) }

  @inline(__always)
  func equals(_ other: RawSpan) -> Bool {
    guard byteCount == other.byteCount else { return false }
    var index = 0
    while index &+ 8 <= byteCount {
      guard word(index) == other.word(index) else { return false }
      index &+= 8
    }
    while index < byteCount {
      guard octet(index) == other.octet(index) else { return false }
      index &+= 1
    }
    return true
  }
}
