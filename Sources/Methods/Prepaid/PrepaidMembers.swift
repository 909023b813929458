import Bytes
import Crypto
import Encoding

/// Reads members of a JSON object strictly, and remembers how many were read so that unexpected ones are found.
struct PrepaidMembers {
  private let object: JSONObject
  private var readCount = 0

  init(_ object: JSONObject) {
    self.object = object
  }

  /// Refuses members that nothing has asked for.
  func end() throws(PrepaidError) {
    guard readCount == object.members.count else { throw .unexpectedMember }
  }

  func has(_ member: PrepaidError.Member) -> Bool { object[member.rawValue] != nil }

  mutating func optionalValue(_ member: PrepaidError.Member) -> JSONValue? {
    guard let value = object[member.rawValue] else { return nil }
    readCount += 1
    return value
  }

  mutating func value(_ member: PrepaidError.Member) throws(PrepaidError) -> JSONValue {
    guard let value = optionalValue(member) else { throw .missing(member) }
    return value
  }

  mutating func string(_ member: PrepaidError.Member) throws(PrepaidError) -> String {
    guard let text = try value(member).stringValue else { throw .invalid(member) }
    return text
  }

  mutating func optionalString(_ member: PrepaidError.Member) throws(PrepaidError) -> String? {
    guard let value = optionalValue(member) else { return nil }
    guard let text = value.stringValue else { throw .invalid(member) }
    return text
  }

  mutating func object(_ member: PrepaidError.Member) throws(PrepaidError) -> JSONObject {
    guard let object = try value(member).objectValue else { throw .invalid(member) }
    return object
  }

  /// An amount of base units: a decimal string without sign or leading zero, below 2^128.
  mutating func amount(_ member: PrepaidError.Member) throws(PrepaidError) -> UInt128 {
    let text = try string(member)
    guard let amount = DecimalUInt128.parse(Array(text.utf8)) else { throw .invalid(member) }
    return amount
  }

  /// A count or a number of seconds as a decimal string, below 2^64.
  mutating func count(_ member: PrepaidError.Member) throws(PrepaidError) -> UInt64 {
    guard let count = UInt64(exactly: try amount(member)) else { throw .invalid(member) }
    return count
  }

  mutating func wallet() throws(PrepaidError) -> Ed25519.PublicKey {
    guard let key = DIDKey.decode(try string(.wallet)) else { throw .invalid(.wallet) }
    return key
  }

  mutating func sessionID() throws(PrepaidError) -> Digest32 {
    guard let id = Digest32(hex: try string(.sessionId)) else { throw .invalid(.sessionId) }
    return id
  }

  mutating func secret() throws(PrepaidError) -> SessionSecret {
    guard let secret = SessionSecret(hex: try string(.preimage)) else { throw .invalid(.preimage) }
    return secret
  }

  /// An Ed25519 signature: 64 octets, base64url without padding.
  mutating func signature() throws(PrepaidError) -> [UInt8] {
    guard let octets = Base64URL.decode(try string(.signature)), octets.count == 64 else { throw .invalid(.signature) }
    return octets
  }
}
