import Bytes
import Encoding
import Ethereum

/// Reads members of the methods' JSON objects, strictly.
struct ChainMembers {
  let object: JSONObject

  init(_ object: JSONObject) { self.object = object }

  /// The member's value; nil where it is absent or null, which some writers take for the same.
  subscript(member: ChainChargeError.Member) -> JSONValue? {
    guard let value = object[member.rawValue], !value.isNull else { return nil }
    return value
  }

  func value(_ member: ChainChargeError.Member) throws(ChainChargeError) -> JSONValue {
    guard let value = self[member] else { throw .missing(member) }
    return value
  }

  func string(_ member: ChainChargeError.Member) throws(ChainChargeError) -> String {
    guard let text = try value(member).stringValue else { throw .malformed(member) }
    return text
  }

  func optionalString(_ member: ChainChargeError.Member) throws(ChainChargeError) -> String? {
    self[member] == nil ? nil : try string(member)
  }

  func members(_ member: ChainChargeError.Member) throws(ChainChargeError) -> ChainMembers {
    guard let object = try value(member).objectValue else { throw .malformed(member) }
    return ChainMembers(object)
  }

  func array(_ member: ChainChargeError.Member, limit: Int) throws(ChainChargeError) -> [JSONValue] {
    guard let array = try value(member).arrayValue else { throw .malformed(member) }
    guard array.count <= limit else { throw .tooLong(member, limit: limit) }
    return array
  }

  /// The elements of an array of objects.
  func objects(_ member: ChainChargeError.Member, limit: Int) throws(ChainChargeError) -> [ChainMembers] {
    var objects: [ChainMembers] = []
    for element in try array(member, limit: limit) {
      guard let object = element.objectValue else { throw .malformed(member) }
      objects.append(ChainMembers(object))
    }
    return objects
  }

  func address(_ member: ChainChargeError.Member) throws(ChainChargeError) -> Address {
    let text = try string(member)
    // The case of digits is not looked at: addresses are compared as octets (draft-evm-charge-00 "Shared Fields").
    do { return try Address(text: text, checksum: .ignored) } catch { throw .malformed(member) }
  }

  /// `0x` and 64 digits.
  func word(_ member: ChainChargeError.Member) throws(ChainChargeError) -> Digest32 {
    guard let word = HexData.digest(try string(member)) else { throw .malformed(member) }
    return word
  }

  /// A 256-bit number in decimal digits.
  func number(_ member: ChainChargeError.Member) throws(ChainChargeError) -> Word256 {
    guard let number = Word256(decimal: try string(member)) else { throw .malformed(member) }
    return number
  }

  /// An amount in decimal digits.
  func units(_ member: ChainChargeError.Member) throws(ChainChargeError) -> UInt128 {
    guard let units = try number(member).uint128 else { throw .overflow(member) }
    return units
  }

  /// A whole JSON number up to 2⁵³.
  func whole(_ member: ChainChargeError.Member) throws(ChainChargeError) -> UInt64 {
    guard let number = try value(member).intValue, let whole = UInt64(exactly: number) else { throw .malformed(member) }
    return whole
  }

  /// A truth value; false where the member is missing.
  func flag(_ member: ChainChargeError.Member) throws(ChainChargeError) -> Bool {
    guard let value = self[member] else { return false }
    guard case .bool(let flag) = value else { throw .malformed(member) }
    return flag
  }

  /// `0x` and the digits of at most `limit` octets.
  func octets(_ member: ChainChargeError.Member, limit: Int) throws(ChainChargeError) -> [UInt8] {
    let text = try string(member)
    guard text.utf8.count <= 2 * limit + 2 else { throw .tooLong(member, limit: limit) }
    guard let octets = HexData.parse(text), !octets.isEmpty else { throw .malformed(member) }
    return octets
  }
}
