import Bytes
import Encoding
import Ethereum

/// What a payment hands over, by scheme: the member `payload`.
public enum SchemePayload: Sendable, Hashable {
  /// exact by EIP-3009.
  case exactEIP3009(EIP3009Authorization)
  /// exact by Permit2; the witness names no facilitator.
  case exactPermit2(Permit2Authorization)
  /// upto, always by Permit2; the witness names who may settle.
  case uptoPermit2(Permit2Authorization)
  /// A channel is opened or filled up, and charged.
  case batchDeposit(ChannelConfig, Voucher, ChannelDeposit)
  /// A channel is charged.
  case batchVoucher(ChannelConfig, Voucher)
  /// A channel gives back `amount`, or all that is left where that is nil; the voucher charges nothing.
  case batchRefund(ChannelConfig, Voucher, amount: UInt128?)

  /// Reads the member of a payment of this scheme.
  init(_ members: X402Members, scheme: X402Scheme) throws(X402Error) {
    switch scheme {
    case .exact:
      switch (members[.authorization], members[.permit2Authorization]) {
      case (_?, nil): self = .exactEIP3009(try EIP3009Authorization(members))
      case (nil, _?): self = .exactPermit2(try Permit2Authorization(members, names: false))
      case (nil, nil), (_?, _?): throw .unknownTransfer
      }
    case .upto:
      guard members[.permit2Authorization] != nil, members[.authorization] == nil else { throw .unknownTransfer }
      self = .uptoPermit2(try Permit2Authorization(members, names: true))
    case .batchSettlement:
      let type = try members.string(.type)
      guard type == "deposit" || type == "voucher" || type == "refund" else { throw .unknownTransfer }
      let config = try ChannelConfig(try members.members(.channelConfig))
      let voucher = try Voucher(try members.members(.voucher))
      switch type {
      case "deposit": self = .batchDeposit(config, voucher, try ChannelDeposit(try members.members(.deposit)))
      case "voucher": self = .batchVoucher(config, voucher)
      default: self = .batchRefund(config, voucher, amount: members[.amount] == nil ? nil : try members.units(.amount))
      }
    }
  }

  /// The account that the money comes from.
  public var payer: Address {
    switch self {
    case .exactEIP3009(let authorization): authorization.from
    case .exactPermit2(let permit), .uptoPermit2(let permit): permit.from
    case .batchDeposit(let config, _, _), .batchVoucher(let config, _), .batchRefund(let config, _, _): config.payer
    }
  }

  /// The member as a client writes it.
  public var json: JSONObject {
    switch self {
    case .exactEIP3009(let authorization): authorization.json
    case .exactPermit2(let permit), .uptoPermit2(let permit): permit.json
    case .batchDeposit(let config, let voucher, let deposit):
      ["type": "deposit", "channelConfig": .object(config.json), "voucher": .object(voucher.json), "deposit": .object(deposit.json)]
    case .batchVoucher(let config, let voucher):
      ["type": "voucher", "channelConfig": .object(config.json), "voucher": .object(voucher.json)]
    case .batchRefund(let config, let voucher, let amount):
      JSONObject(
        [("type", "refund"), ("channelConfig", .object(config.json)), ("voucher", .object(voucher.json))]
          + (amount.map { [("amount", .string("\($0)"))] } ?? []))
    }
  }
}

/// A signed `TransferWithAuthorization` (EIP-3009).
public struct EIP3009Authorization: Sendable, Hashable {
  public let from: Address
  public let to: Address
  /// Base units.
  public let value: UInt128
  /// Seconds since 1970; the transfer holds after it.
  public let validAfter: UInt64
  /// Seconds since 1970; the transfer holds before it.
  public let validBefore: UInt64
  public let nonce: Digest32
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  public init(
    from: Address, to: Address, value: UInt128, validAfter: UInt64, validBefore: UInt64, nonce: Digest32, signature: [UInt8]
  ) {
    self.from = from
    self.to = to
    self.value = value
    self.validAfter = validAfter
    self.validBefore = validBefore
    self.nonce = nonce
    self.signature = signature
  }

  init(_ payload: X402Members) throws(X402Error) {
    let members = try payload.members(.authorization)
    from = try members.address(.from)
    to = try members.address(.to)
    value = try members.units(.value)
    validAfter = try members.seconds(.validAfter)
    validBefore = try members.seconds(.validBefore)
    nonce = try members.word(.nonce)
    signature = try payload.signature()
  }

  var json: JSONObject {
    [
      "signature": .string(HexData.text(signature)),
      "authorization": [
        "from": .string(from.lowercase), "to": .string(to.lowercase), "value": "\(value)", "validAfter": "\(validAfter)",
        "validBefore": "\(validBefore)", "nonce": .string(HexData.text(nonce)),
      ],
    ]
  }
}

/// A signed `PermitWitnessTransferFrom` of Permit2, with the witness of x402's proxies.
public struct Permit2Authorization: Sendable, Hashable {
  public let from: Address
  public let token: Address
  /// Base units: the price for exact, the most that may be taken for upto.
  public let amount: UInt128
  /// The proxy contract that may take the money.
  public let spender: Address
  public let nonce: Word256
  /// Seconds since 1970.
  public let deadline: UInt64
  public let to: Address
  /// Who may settle; nil in exact, whose witness has no such member.
  public let facilitator: Address?
  /// Seconds since 1970.
  public let validAfter: UInt64
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  public init(
    from: Address, token: Address, amount: UInt128, spender: Address, nonce: Word256, deadline: UInt64, to: Address,
    facilitator: Address?, validAfter: UInt64, signature: [UInt8]
  ) {
    self.from = from
    self.token = token
    self.amount = amount
    self.spender = spender
    self.nonce = nonce
    self.deadline = deadline
    self.to = to
    self.facilitator = facilitator
    self.validAfter = validAfter
    self.signature = signature
  }

  /// Reads the payload; `namesFacilitator` says whether the scheme's witness has that member.
  init(_ payload: X402Members, names namesFacilitator: Bool) throws(X402Error) {
    let members = try payload.members(.permit2Authorization)
    let permitted = try members.members(.permitted)
    let witness = try members.members(.witness)
    from = try members.address(.from)
    token = try permitted.address(.token)
    amount = try permitted.units(.amount)
    spender = try members.address(.spender)
    nonce = try members.number(.nonce)
    deadline = try members.seconds(.deadline)
    to = try witness.address(.to)
    // A witness with the member belongs to upto's contract, whatever the scheme says.
    guard namesFacilitator || witness[.facilitator] == nil else { throw .unknownTransfer }
    facilitator = namesFacilitator ? try witness.address(.facilitator) : nil
    validAfter = try witness.seconds(.validAfter)
    signature = try payload.signature()
  }

  var json: JSONObject {
    var witness: JSONObject = ["to": .string(to.lowercase)]
    if let facilitator { witness.set("facilitator", .string(facilitator.lowercase)) }
    witness.set("validAfter", "\(validAfter)")
    return [
      "signature": .string(HexData.text(signature)),
      "permit2Authorization": [
        "from": .string(from.lowercase), "permitted": ["token": .string(token.lowercase), "amount": "\(amount)"],
        "spender": .string(spender.lowercase), "nonce": .string(nonce.decimal), "deadline": "\(deadline)",
        "witness": .object(witness),
      ],
    ]
  }
}
