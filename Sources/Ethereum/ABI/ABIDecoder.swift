import Bytes

/// Reads values of known types out of data, never past its end and never more of them than allowed.
struct ABIDecoder {
  private let data: UnsafeRawBufferPointer
  private let form: ABI.Form
  private var valuesLeft: Int
  /// The first octet that no part has taken yet, where every part lies in its canonical place.
  private var end = 0

  init(data: UnsafeRawBufferPointer, form: ABI.Form, valuesLeft: Int) {
    self.data = data
    self.form = form
    self.valuesLeft = valuesLeft
  }

  /// Reads all values; in canonical form nothing may follow them.
  mutating func decodeAll(_ types: [ABIType]) throws(EthereumError) -> [ABIValue] {
    let values = try decode(types, at: 0)
    switch form {
    case .canonical: guard end == data.count else { throw .abi(.notCanonical, offset: end) }
    case .bounded: break
    }
    return values
  }

  /// Reads members that lie side by side from `base` on; offsets count from there.
  private mutating func decode(_ types: [ABIType], at base: Int) throws(EthereumError) -> [ABIValue] {
    let heads = types.reduce(0) { $0 + $1.headCount }
    guard heads <= data.count - base else { throw .abi(.unexpectedEnd, offset: data.count) }
    end = base + heads
    var values: [ABIValue] = []
    values.reserveCapacity(types.count)
    var position = base
    for type in types {
      values.append(try decode(type, at: position, from: base))
      position += type.headCount
    }
    return values
  }

  private mutating func decode(_ type: ABIType, at position: Int, from base: Int) throws(EthereumError) -> ABIValue {
    guard valuesLeft > 0 else { throw .abi(.tooLarge, offset: position) }
    valuesLeft -= 1
    if type.isDynamic { return try decodeDynamic(type, at: try target(of: position, from: base)) }
    switch type {
    case .uint(let bits):
      let number = try word(at: position)
      guard number.bitCount <= bits else { throw .abi(.dirtyPadding, offset: position) }
      return .uint(number)
    case .address:
      guard let address = try word(at: position).address else { throw .abi(.dirtyPadding, offset: position) }
      return .address(address)
    case .bool:
      let number = try word(at: position)
      guard number <= 1 else { throw .abi(.dirtyPadding, offset: position) }
      return .bool(!number.isZero)
    case .fixedBytes(let count):
      let octets = try word(at: position).octets
      guard ABIValue.fixedBytes(octets).isOf(.fixedBytes(count)) else { throw .abi(.dirtyPadding, offset: position) }
      return .fixedBytes(octets)
    case .tuple(let members):
      var values: [ABIValue] = []
      var place = position
      for member in members {
        values.append(try decode(member, at: place, from: base))
        place += member.headCount
      }
      return .tuple(values)
    case .bytes, .string, .array: return try decodeDynamic(type, at: position)
    }
  }

  private mutating func decodeDynamic(_ type: ABIType, at position: Int) throws(EthereumError) -> ABIValue {
    switch type {
    case .bytes: return .bytes([UInt8](try padded(at: position)))
    case .string:
      let octets = try padded(at: position)
      guard let text = String(validating: octets, as: UTF8.self) else { throw .abi(.malformedUTF8, offset: position) }
      return .string(text)
    case .array(let element):
      let count = try length(at: position, unit: max(32, element.headCount))
      // Each element counts before anything is made of it.
      guard count <= valuesLeft else { throw .abi(.tooLarge, offset: position) }
      return .array(try decode(Array(repeating: element, count: count), at: position + 32))
    case .tuple(let members): return .tuple(try decode(members, at: position))
    case .uint, .address, .bool, .fixedBytes: return try decode(type, at: position, from: position)
    }
  }

  /// Where the offset at `position` points to; in canonical form only to the first octet that is free.
  private func target(of position: Int, from base: Int) throws(EthereumError) -> Int {
    guard let offset = try word(at: position).uint64, offset <= UInt64(data.count - base) else {
      throw .abi(.outOfBounds, offset: position)
    }
    let target = base + Int(offset)
    switch form {
    case .canonical: guard target == end else { throw .abi(.notCanonical, offset: position) }
    case .bounded: break
    }
    return target
  }

  /// The count at `position`, of units that lie behind it.
  private func length(at position: Int, unit: Int) throws(EthereumError) -> Int {
    let left = data.count - position - 32
    guard let count = try word(at: position).uint64, count <= UInt64(left / unit) else {
      throw .abi(.outOfBounds, offset: position)
    }
    return Int(count)
  }

  /// The octets behind the count at `position`, whose padding must be zero in canonical form.
  private mutating func padded(at position: Int) throws(EthereumError) -> UnsafeRawBufferPointer {
    let count = try length(at: position, unit: 1)
    // Octets count as the words that they fill, so that many offsets to one text cannot multiply it.
    guard count / 32 <= valuesLeft else { throw .abi(.tooLarge, offset: position) }
    valuesLeft -= count / 32
    let start = position + 32
    end = start + (count + 31) / 32 * 32
    switch form {
    case .canonical:
      guard end <= data.count else { throw .abi(.unexpectedEnd, offset: data.count) }
      guard data[start + count..<end].allSatisfy({ $0 == 0 }) else { throw .abi(.dirtyPadding, offset: start + count) }
    case .bounded: break
    }
    return UnsafeRawBufferPointer(rebasing: data[start..<start + count])
  }

  private func word(at position: Int) throws(EthereumError) -> Word256 {
    guard data.count - position >= 32 else { throw .abi(.unexpectedEnd, offset: data.count) }
    return Word256(Digest32(UnsafeRawBufferPointer(rebasing: data[position..<position + 32])))
  }
}
