import Bytes
import Encoding
import Ethereum

/// What a payer hands over for a charge by the method `evm` (draft-evm-charge-00 "Credential Schema"); nothing of it is verified yet,
/// and it is never printed.
public enum EVMChargePayload: Sendable, Hashable, CustomStringConvertible {
  /// The most octets of a signed transaction: a transfer has about 200.
  public static let transactionLimit = 8192

  /// A permit of Permit2.
  case permit2(EVMPermit)
  /// An authorization of the token, and its signature.
  case authorization(EIP3009.Authorization, signature: [UInt8])
  /// A signed transaction.
  case transaction([UInt8])
  /// A transaction's hash.
  case hash(Digest32)

  /// Reads the member `payload` of a credential; members that are unknown are passed over.
  ///
  /// - Throws: `missing`, `malformed`, `overflow`, `tooLong`, `unknownType`.
  public init(parsing object: JSONObject) throws(ChainChargeError) {
    let members = ChainMembers(object)
    guard let type = EVMCharge.CredentialType(rawValue: try members.string(.type)) else { throw .unknownType }
    switch type {
    case .permit2: self = .permit2(try EVMPermit(parsing: members))
    case .authorization:
      let authorization = EIP3009.Authorization(
        from: try members.address(.from), to: try members.address(.to), value: Word256(try members.units(.value)),
        validAfter: try members.number(.validAfter), validBefore: try members.number(.validBefore), nonce: try members.word(.nonce))
      self = .authorization(authorization, signature: try members.octets(.signature, limit: PayerSignature.limit))
    case .transaction: self = .transaction(try members.octets(.signature, limit: Self.transactionLimit))
    case .hash: self = .hash(try members.word(.hash))
    }
  }

  /// The type that the payload is of.
  public var type: EVMCharge.CredentialType {
    switch self {
    case .permit2: .permit2
    case .authorization: .authorization
    case .transaction: .transaction
    case .hash: .hash
    }
  }

  /// Keeps payment data out of logs.
  public var description: String { "<payload>" }

  /// The member as a payer writes it.
  public var object: JSONObject {
    switch self {
    case .permit2(let permit): permit.object
    case .authorization(let authorization, let signature):
      [
        "type": "authorization", "from": .string(authorization.from.checksummed), "to": .string(authorization.to.checksummed),
        "value": .string(authorization.value.decimal), "validAfter": .string(authorization.validAfter.decimal),
        "validBefore": .string(authorization.validBefore.decimal), "nonce": .string(HexData.text(authorization.nonce)),
        "signature": .string(HexData.text(signature)),
      ]
    case .transaction(let raw): ["type": "transaction", "signature": .string(HexData.text(raw))]
    case .hash(let hash): ["type": "hash", "hash": .string(HexData.text(hash))]
    }
  }
}
