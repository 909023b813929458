import Bytes
import Encoding
import Ethereum

/// Reads the members of one of x402's objects, strictly.
struct X402Members {
  let object: JSONObject

  init(_ object: JSONObject) { self.object = object }

  /// The member's value; nil where it is absent or null, which some writers take for the same.
  subscript(member: X402Error.Member) -> JSONValue? {
    guard let value = object[member.rawValue], !value.isNull else { return nil }
    return value
  }

  /// Returns a member that must be a string.
  func string(_ member: X402Error.Member) throws(X402Error) -> String {
    guard let value = self[member] else { throw .missing(member) }
    guard let string = value.stringValue else { throw .malformed(member) }
    return string
  }

  /// Returns nil where the member is absent; one that is present must be a string.
  func optionalString(_ member: X402Error.Member) throws(X402Error) -> String? {
    guard let value = self[member] else { return nil }
    guard let string = value.stringValue else { throw .malformed(member) }
    return string
  }

  /// Returns a member that must be an object.
  func members(_ member: X402Error.Member) throws(X402Error) -> X402Members {
    guard let value = self[member] else { throw .missing(member) }
    guard let object = value.objectValue else { throw .malformed(member) }
    return X402Members(object)
  }

  /// Returns an object without members where the member is absent.
  func optionalObject(_ member: X402Error.Member) throws(X402Error) -> JSONObject {
    guard let value = self[member] else { return JSONObject() }
    guard let object = value.objectValue else { throw .malformed(member) }
    return object
  }

  /// Returns a member that must be an array of at most `limit` elements.
  func array(_ member: X402Error.Member, limit: Int) throws(X402Error) -> [JSONValue] {
    guard let value = self[member] else { throw .missing(member) }
    guard let array = value.arrayValue else { throw .malformed(member) }
    guard array.count <= limit else { throw .tooMany(member, limit: limit) }
    return array
  }

  /// Returns a member that must be a truth value.
  func bool(_ member: X402Error.Member) throws(X402Error) -> Bool {
    guard let value = self[member] else { throw .missing(member) }
    guard case .bool(let flag) = value else { throw .malformed(member) }
    return flag
  }

  /// Returns a member that must be a whole JSON number from zero to 2⁵³.
  func whole(_ member: X402Error.Member) throws(X402Error) -> UInt64 {
    guard let value = self[member] else { throw .missing(member) }
    guard let number = value.intValue, number >= 0 else { throw .malformed(member) }
    return UInt64(number)
  }

  /// Returns a member that must be an address.
  func address(_ member: X402Error.Member) throws(X402Error) -> Address {
    guard let address = Address(wire: try string(member)) else { throw .malformed(member) }
    return address
  }

  /// Returns a member that must be `0x` and 64 digits.
  func word(_ member: X402Error.Member) throws(X402Error) -> Digest32 {
    guard let word = HexData.digest(try string(member)) else { throw .malformed(member) }
    return word
  }

  /// Returns a member that must be a 256-bit number, decimal as the packages write it or 32 octets as the specification shows it.
  func number(_ member: X402Error.Member) throws(X402Error) -> Word256 {
    let text = try string(member)
    guard let word = Word256(decimal: text) ?? HexData.digest(text).map({ Word256($0) }) else { throw .malformed(member) }
    return word
  }

  /// Returns a member that must be an unsigned decimal string.
  ///
  /// - Throws: `overflow` past 128 bits, up to 256.
  func units(_ member: X402Error.Member) throws(X402Error) -> UInt128 {
    let text = try string(member)
    if let units = DecimalUInt128.parse(text.utf8) { return units }
    throw Word256(decimal: text) == nil ? .malformed(member) : .overflow(member)
  }

  /// Returns a member that must be seconds since 1970 in a decimal string.
  ///
  /// - Throws: `overflow` past 64 bits.
  func seconds(_ member: X402Error.Member) throws(X402Error) -> UInt64 {
    guard let seconds = UInt64(exactly: try units(member)) else { throw .overflow(member) }
    return seconds
  }

  /// Returns the octets of `signature`, whatever their number: contracts check what is longer than a key's own.
  func signature() throws(X402Error) -> [UInt8] {
    let text = try string(.signature)
    guard text.utf8.count <= 2 * PaymentPayload.signatureLimit + 2 else { throw .signatureTooLong }
    guard let octets = HexData.parse(text), !octets.isEmpty else { throw .malformed(.signature) }
    return octets
  }
}

extension Address {
  /// Reads `0x` and 40 digits of any case; a checksum is not looked at, for what is signed or compared are the octets.
  init?(wire text: String) {
    guard let address = try? Address(text: text, checksum: .ignored) else { return nil }
    self = address
  }
}
