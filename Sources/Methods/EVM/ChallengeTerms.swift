import Bytes
import Crypto
import Encoding
import Ethereum

/// What a payment's check needs of the challenge that it answers, or that an agent answers.
public struct ChallengeTerms: Sendable, Hashable {
  /// The id, as it was sent.
  public var id: String
  /// The realm, as it was sent.
  public var realm: String
  /// When the challenge was issued: transactions in earlier blocks pay for something else.
  public var issued: Timestamp
  /// When it expires.
  public var expires: Timestamp

  /// Takes the members.
  public init(id: String, realm: String, issued: Timestamp, expires: Timestamp) {
    self.id = id
    self.realm = realm
    self.issued = issued
    self.expires = expires
  }

  /// How far a block's clock may be behind ours.
  public static let clockTolerance = Duration.seconds(120)

  /// The oldest block that holds a transaction made for this challenge.
  var oldestBlock: Timestamp { issued - Self.clockTolerance }

  /// Says over what a challenge's hash is taken.
  public enum HashForm: Sendable, Hashable, CaseIterable {
    /// Id and realm, one behind the other (draft-evm-charge-00 "Witness Data"; mppx).
    case packed
    /// The JSON array of both (pympp from 0.16 on).
    case array
  }

  /// The hash that a payer signs, so that the payment is for this challenge only: `challengeHash`.
  public func hash(_ form: HashForm = .packed) -> Digest32 {
    switch form {
    case .packed:
      // The lengths are not told apart; our ids have one length only.
      var hash = Keccak256()
      hash.update(id)
      hash.update(realm)
      return hash.finalize()
    case .array: return Keccak256.hash(JCS.serialize(.array([.string(id), .string(realm)])))
    }
  }

  /// Whether a hash is the challenge's, in one of its forms.
  func isHash(_ hash: Digest32) -> Bool {
    HashForm.allCases.contains { self.hash($0) == hash }
  }
}
