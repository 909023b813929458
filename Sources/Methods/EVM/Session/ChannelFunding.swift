import Bytes
import Encoding
import Ethereum

/// How tokens get into a channel's escrow; nothing of it is verified yet, and it is never printed.
public enum ChannelFunding: Sendable, Hashable, CustomStringConvertible {
  /// The most octets of a payer's transaction.
  public static let transactionLimit = EVMChargePayload.transactionLimit

  /// Names the ways, as `payload.type` and `credentialTypes` do.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// A permit of Permit2 for the escrow; we submit it.
    case permit2
    /// An authorization of the token (EIP-3009) for the escrow; we submit it.
    case authorization
    /// The hash of a transaction that the payer has broadcast.
    case hash
    /// The payer's signed transaction; we broadcast it.
    case transaction

    /// The way as errors of charges name it.
    var means: ChainChargeError.Means {
      switch self {
      case .permit2: .permit2
      case .authorization: .authorization
      case .hash: .hash
      case .transaction: .transaction
      }
    }
  }

  /// A permit of Permit2, and its signature.
  case permit2(EscrowPermit, signature: [UInt8])
  /// An authorization of the token, and its signature.
  case authorization(EIP3009.Authorization, signature: [UInt8])
  /// A transaction's hash.
  case hash(Digest32)
  /// A signed transaction.
  case transaction([UInt8])

  /// The way.
  public var kind: Kind {
    switch self {
    case .permit2: .permit2
    case .authorization: .authorization
    case .hash: .hash
    case .transaction: .transaction
    }
  }

  /// The base units that move; nil where only the chain or the transaction tells.
  public var amount: UInt128? {
    switch self {
    case .permit2(let permit, _): permit.amount
    case .authorization(let authorization, _): authorization.value.uint128
    case .hash, .transaction: nil
    }
  }

  /// Keeps payment data out of logs.
  public var description: String { "<funding>" }

  /// Reads the funding's members of an object that has them with `type`.
  ///
  /// - Throws: `missing`, `malformed`, `overflow`, `tooLong`, `unknownType`.
  init(_ members: ChainMembers) throws(ChainChargeError) {
    guard let kind = Kind(rawValue: try members.string(.type)) else { throw .unknownType }
    switch kind {
    case .permit2:
      self = .permit2(
        try EscrowPermit(try members.members(.authorization)),
        signature: try members.octets(.signature, limit: PayerSignature.limit))
    case .authorization:
      let parts = try members.members(.authorization)
      self = .authorization(
        EIP3009.Authorization(
          from: try parts.address(.from), to: try parts.address(.to), value: Word256(try parts.units(.value)),
          validAfter: try parts.number(.validAfter), validBefore: try parts.number(.validBefore), nonce: try parts.word(.nonce)),
        signature: try members.octets(.signature, limit: PayerSignature.limit))
    case .hash: self = .hash(try members.word(.hash))
    case .transaction: self = .transaction(try members.octets(.transaction, limit: Self.transactionLimit))
    }
  }

  /// The funding's members as a payer writes them.
  var members: [(String, JSONValue)] {
    let own: [(String, JSONValue)] =
      switch self {
      case .permit2(let permit, let signature):
        [("authorization", .object(permit.object)), ("signature", .string(HexData.text(signature)))]
      case .authorization(let authorization, let signature):
        [
          (
            "authorization",
            [
              "from": .string(authorization.from.lowercase), "to": .string(authorization.to.lowercase),
              "value": .string(authorization.value.decimal), "validAfter": .string(authorization.validAfter.decimal),
              "validBefore": .string(authorization.validBefore.decimal), "nonce": .string(HexData.text(authorization.nonce)),
            ]
          ), ("signature", .string(HexData.text(signature))),
        ]
      case .hash(let hash): [("hash", .string(HexData.text(hash)))]
      case .transaction(let octets): [("transaction", .string(HexData.text(octets)))]
      }
    return [("type", .string(kind.rawValue))] + own
  }
}

/// A permit of Permit2 for an escrow (draft-evm-session-00 "Open Payload", "Permit2 shape"); its spender is the escrow.
public struct EscrowPermit: Sendable, Hashable {
  /// What the permit is for.
  public enum Witness: Sendable, Hashable {
    /// A new channel.
    case open(payee: Address, salt: Digest32, authorizedSigner: Address)
    /// More for a channel.
    case topUp(channelID: Digest32)
  }

  /// Who pays, and signed.
  public var from: Address
  /// The token.
  public var token: Address
  /// Base units.
  public var amount: UInt128
  /// What makes it the only one of its kind, in whatever order.
  public var nonce: Word256
  /// The last second of Unix time in which it may be used.
  public var deadline: Word256
  /// What it is for.
  public var witness: Witness

  /// Takes the members.
  public init(from: Address, token: Address, amount: UInt128, nonce: Word256, deadline: Word256, witness: Witness) {
    self.from = from
    self.token = token
    self.amount = amount
    self.nonce = nonce
    self.deadline = deadline
    self.witness = witness
  }

  init(_ members: ChainMembers) throws(ChainChargeError) {
    let permitted = try members.members(.permitted)
    let witness = try members.members(.witness)
    self.init(
      from: try members.address(.from), token: try permitted.address(.token), amount: try permitted.units(.amount),
      nonce: try members.number(.nonce), deadline: try members.number(.deadline),
      witness: witness[.channelId] == nil
        ? .open(
          payee: try witness.address(.payee), salt: try witness.word(.salt),
          authorizedSigner: try witness.address(.authorizedSigner))
        : .topUp(channelID: try witness.word(.channelId)))
  }

  /// The digest that is signed.
  func digest(escrow: Address, domain: TypedData.PreparedDomain) -> Digest32 {
    let permit = Permit2.Permit(
      permitted: [Permit2.TokenPermissions(token: token, amount: Word256(amount))], nonce: nonce, deadline: deadline)
    return domain.digest(
      Permit2.singleStructHash(permit, spender: escrow, witness: witness.hash, of: witness.type))
  }

  fileprivate var object: JSONObject {
    [
      "from": .string(from.lowercase), "permitted": ["token": .string(token.lowercase), "amount": "\(amount)"],
      "nonce": .string(nonce.decimal), "deadline": .string(deadline.decimal), "witness": .object(witness.object),
    ]
  }
}

extension EscrowPermit.Witness {
  fileprivate var type: Permit2.WitnessType {
    switch self {
    case .open: ChannelEscrow.openWitnessType
    case .topUp: ChannelEscrow.topUpWitnessType
    }
  }

  fileprivate var hash: Digest32 {
    switch self {
    case .open(let payee, let salt, let signer): ChannelEscrow.openWitness(payee: payee, salt: salt, authorizedSigner: signer)
    case .topUp(let channelID): ChannelEscrow.topUpWitness(channelID: channelID)
    }
  }

  fileprivate var object: JSONObject {
    switch self {
    case .open(let payee, let salt, let signer):
      ["payee": .string(payee.lowercase), "salt": .string(HexData.text(salt)), "authorizedSigner": .string(signer.lowercase)]
    case .topUp(let channelID): ["channelId": .string(HexData.text(channelID))]
    }
  }
}
