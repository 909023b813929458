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
  case batchDeposit(ChannelConfig, ChannelVoucher, ChannelDeposit)
  /// A channel is charged.
  case batchVoucher(ChannelConfig, ChannelVoucher)
  /// A channel gives back `amount`, or all that is left where that is nil; the voucher charges nothing.
  case batchRefund(ChannelConfig, ChannelVoucher, amount: UInt128?)

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
      let voucher = try ChannelVoucher(try members.members(.voucher))
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
