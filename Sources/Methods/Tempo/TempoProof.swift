import Bytes
import Ethereum

/// What a payer signs for something that costs nothing (draft-tempo-charge-00 "Proof Payload").
enum TempoProof {
  /// The type that clients sign: domain version 3, which binds account and realm as well (mppx from 0.6 on).
  private static let typeHash = TypedData.typeHash("Proof(address account,string challengeId,string realm)")
  /// The draft's type: domain version 1.
  private static let draftTypeHash = TypedData.typeHash("Proof(string challengeId)")

  private static func domain(_ version: String, chain: UInt64) -> TypedData.PreparedDomain {
    TypedData.Domain(name: "MPP", version: version, chainID: Word256(chain)).prepared
  }

  /// The digest that clients sign.
  static func digest(_ challenge: ChallengeTerms, account: Address, chain: UInt64) -> Digest32 {
    var hash = TypedData.StructHash(typeHash)
    hash.append(account)
    hash.append(string: challenge.id)
    hash.append(string: challenge.realm)
    return domain("3", chain: chain).digest(hash.finalize())
  }

  /// The digest of the draft.
  static func draftDigest(_ challenge: ChallengeTerms, chain: UInt64) -> Digest32 {
    var hash = TypedData.StructHash(draftTypeHash)
    hash.append(string: challenge.id)
    return domain("1", chain: chain).digest(hash.finalize())
  }
}
