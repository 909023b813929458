import Bytes
import Encoding
import Ethereum

/// A permit as the method `evm` carries it (draft-evm-charge-00 "Permit2 Payload").
public struct EVMPermit: Sendable, Hashable {
  /// The most transfers: the recipient's and the splits'.
  static let transferLimit = 1 + EVMCharge.splitLimit

  /// How much of which token may be taken.
  public struct Permission: Sendable, Hashable {
    /// The contract of the token.
    public var token: Address
    /// The most, in base units.
    public var amount: UInt128

    /// Takes the members.
    public init(token: Address, amount: UInt128) {
      self.token = token
      self.amount = amount
    }
  }

  /// Where what is taken goes.
  public struct Transfer: Sendable, Hashable {
    /// The recipient.
    public var to: Address
    /// What he gets, in base units.
    public var amount: UInt128

    /// Takes the members.
    public init(to: Address, amount: UInt128) {
      self.to = to
      self.amount = amount
    }
  }

  /// What may be taken.
  public var permitted: [Permission]
  /// What makes it the only one of its kind.
  public var nonce: Word256
  /// The second of Unix time until which it may be used.
  public var deadline: Word256
  /// Where it goes.
  public var transfers: [Transfer]
  /// The hash of the challenge that it pays.
  public var challengeHash: Digest32
  /// What the witness repeats of the request, where it does.
  public var externalId: String?
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public var signature: [UInt8]

  /// Takes the members.
  public init(
    permitted: [Permission], nonce: Word256, deadline: Word256, transfers: [Transfer], challengeHash: Digest32,
    externalId: String?, signature: [UInt8]
  ) {
    self.permitted = permitted
    self.nonce = nonce
    self.deadline = deadline
    self.transfers = transfers
    self.challengeHash = challengeHash
    self.externalId = externalId
    self.signature = signature
  }

  init(parsing members: ChainMembers) throws(ChainChargeError) {
    let permit = try members.members(.permit)
    permitted = []
    for permission in try permit.objects(.permitted, limit: Self.transferLimit) {
      permitted.append(Permission(token: try permission.address(.token), amount: try permission.units(.amount)))
    }
    nonce = try permit.number(.nonce)
    deadline = try permit.number(.deadline)
    transfers = []
    for transfer in try members.objects(.transferDetails, limit: Self.transferLimit) {
      transfers.append(Transfer(to: try transfer.address(.to), amount: try transfer.units(.requestedAmount)))
    }
    let witness = try members.members(.witness)
    challengeHash = try witness.word(.challengeHash)
    externalId = try witness.optionalString(.externalId)
    signature = try members.octets(.signature, limit: PayerSignature.limit)
  }

  /// What was signed, without the spender.
  var signed: Permit2.Permit {
    Permit2.Permit(
      permitted: permitted.map { Permit2.TokenPermissions(token: $0.token, amount: Word256($0.amount)) }, nonce: nonce, deadline: deadline)
  }

  /// The transfers as the contract takes them.
  var details: [Permit2.TransferDetails] {
    transfers.map { Permit2.TransferDetails(to: $0.to, requestedAmount: Word256($0.amount)) }
  }

  /// The payload as a payer writes it.
  var object: JSONObject {
    var witness: JSONObject = ["challengeHash": .string(HexData.text(challengeHash))]
    if let externalId { witness.set("externalId", .string(externalId)) }
    return [
      "type": "permit2",
      "permit": [
        "permitted": .array(permitted.map { ["token": .string($0.token.checksummed), "amount": "\($0.amount)"] }),
        "nonce": .string(nonce.decimal), "deadline": .string(deadline.decimal),
      ],
      "transferDetails": .array(transfers.map { ["to": .string($0.to.checksummed), "requestedAmount": "\($0.amount)"] }),
      "witness": .object(witness), "signature": .string(HexData.text(signature)),
    ]
  }
}
