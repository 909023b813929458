import Bytes
import Encoding
import Ethereum
import Methods
import Payments
import Testing

/// What the tests of payments on chains share: the token, the parties and the instant of `EVMVector`.
enum EVMFixture {
  static let chain: UInt64 = 84532
  static let now = Timestamp(seconds: 1_900_000_000)
  static let asset = address("0x036CbD53842c5426634e7929541eC2318f3dCF7e")
  static let payTo = address("0x209693Bc6afc0C5328bA36FaF03C514EF312287C")
  static let other = address("0x8ba1f109551bd432803012645ac136ddd64dba72")
  static let submitter = address("0x742d35cc6634c0532925a3b844bc9e7595f8fe00")
  static let payer = address(EVMVector.payer)
  static let currency = Currency(code: "usdc", decimals: 6)
  static let challenge = ChallengeTerms(
    id: "X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4", realm: "api.example.com", issued: now, expires: now + .seconds(300))

  static func address(_ text: String) -> Address {
    guard let address = Address(text) else { preconditionFailure("no address: \(text)") }
    return address
  }

  static func key() throws -> EthereumKey { try EthereumKey(keyFile: [UInt8](EVMVector.key.utf8)) }

  static func token(
    chain: UInt64 = chain, address: Address = asset, name: String? = "USDC", eip3009: Bool = true, permit2: Bool = true
  ) throws -> ChainToken {
    ChainToken(
      chain: chain, address: address, currency: try #require(currency), name: name, version: "2", supportsEIP3009: eip3009,
      supportsPermit2: permit2)
  }

  static func request(
    amount: UInt128 = 10000, currency: Address = asset, recipient: Address = payTo, externalId: String? = nil, chain: UInt64 = chain,
    permit2: Address = Permit2.address, spender: Address? = nil,
    types: [EVMCharge.CredentialType]? = EVMCharge.CredentialType.allCases, splits: [EVMCharge.Split] = []
  ) -> EVMCharge {
    EVMCharge(
      amount: amount, currency: currency, recipient: recipient, externalId: externalId, chainID: chain, permit2: permit2,
      spender: spender, credentialTypes: types, decimals: 6, splits: splits)
  }

  static let split = EVMCharge.Split(recipient: other, amount: 1000, memo: "platform fee")

  static func object(_ json: String) throws -> JSONObject { try #require(try JSON.parse(json).objectValue) }

  static func octets(_ hex: String) throws -> [UInt8] { try #require(HexData.parse(hex)) }

  static func digest(_ hex: String) throws -> Digest32 { try #require(HexData.digest(hex)) }
}

/// Draws the same numbers each time.
struct EVMRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}

extension JSONObject {
  /// The object with a member of it, or of an object inside of it, set or removed; a name of digits is an array's index.
  func changing(_ path: [String], to value: JSONValue?) -> JSONObject {
    guard case .object(let changed) = JSONValue.object(self).changing(path[...], to: value) else { return self }
    return changed
  }
}

extension JSONValue {
  fileprivate func changing(_ path: ArraySlice<String>, to value: JSONValue?) -> JSONValue? {
    guard let name = path.first else { return value }
    switch self {
    case .object(var object):
      object[name] = path.count == 1 ? value : object[name]?.changing(path.dropFirst(), to: value)
      return .object(object)
    case .array(var elements):
      guard let index = Int(name), index < elements.count else { return self }
      if let element = elements[index].changing(path.dropFirst(), to: value) {
        elements[index] = element
      } else {
        elements.remove(at: index)
      }
      return .array(elements)
    case .null, .bool, .number, .string: return self
    }
  }
}
