import Bytes
import Encoding
import Ethereum

/// What a payer hands over for a charge by the method `tempo` (draft-tempo-charge-00 "Credential Schema"); nothing of it is verified yet,
/// and it is never printed.
public enum TempoChargePayload: Sendable, Hashable, CustomStringConvertible {
  /// A signed transaction, or an envelope for its fee payer.
  case transaction([UInt8])
  /// A transaction's hash.
  case hash(Digest32)
  /// A signature that says who asks for something that costs nothing.
  case proof([UInt8])

  /// Reads the member `payload` of a credential; members that are unknown are passed over.
  ///
  /// - Throws: `missing`, `malformed`, `tooLong`, `unknownType`.
  public init(parsing object: JSONObject) throws(ChainChargeError) {
    let members = ChainMembers(object)
    switch try members.string(.type) {
    case "transaction": self = .transaction(try members.octets(.signature, limit: EVMChargePayload.transactionLimit))
    case "hash": self = .hash(try members.word(.hash))
    case "proof": self = .proof(try members.octets(.signature, limit: PayerSignature.limit))
    default: throw .unknownType
    }
  }

  /// Keeps payment data out of logs.
  public var description: String { "<payload>" }

  /// How the payload pays, as errors name it.
  var means: ChainChargeError.Means {
    switch self {
    case .transaction: .transaction
    case .hash: .hash
    case .proof: .proof
    }
  }

  /// The member as a payer writes it.
  public var object: JSONObject {
    switch self {
    case .transaction(let raw): ["type": "transaction", "signature": .string(HexData.text(raw))]
    case .hash(let hash): ["type": "hash", "hash": .string(HexData.text(hash))]
    case .proof(let signature): ["type": "proof", "signature": .string(HexData.text(signature))]
    }
  }
}
