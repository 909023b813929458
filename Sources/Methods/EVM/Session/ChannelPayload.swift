import Bytes
import Encoding
import Ethereum

/// What a credential of a session over a channel asks for (drafts, "Payload Actions"); nothing of it is verified yet, and it is
/// never printed.
public enum ChannelPayload: Sendable, Hashable, CustomStringConvertible {
  /// Opens a channel, or confirms one; also a voucher whose `deposit` opens its channel.
  case open(ChannelOpening)
  /// Adds to a channel's deposit.
  case topUp(ChannelTopUp)
  /// Signs for more; with a top-up where the voucher's `deposit` makes one.
  case voucher(SessionVoucher, descriptor: ChannelDescriptor?, topUp: ChannelTopUp?)
  /// Closes a channel with a last voucher.
  case close(SessionVoucher, descriptor: ChannelDescriptor?)

  /// Reads the member `payload` of a credential; members that are unknown are passed over, as the drafts ask.
  ///
  /// - Throws: `missing`, `malformed`, `overflow`, `tooLong`, `unknownType`.
  public init(parsing object: JSONObject, rules: ChannelProtocol) throws(ChainChargeError) {
    let members = ChainMembers(object)
    let descriptor = try Self.descriptor(members, rules)
    switch try members.string(.action) {
    case "open":
      let funding = try ChannelFunding(members)
      let signature = try Self.voucherSignature(members, funding)
      self = .open(
        try ChannelOpening(members, funding: funding, voucher: SessionVoucher(members, signature: signature), descriptor, rules))
    case "topUp":
      let funding = try ChannelFunding(members)
      self = .topUp(
        ChannelTopUp(
          channelID: try members.word(.channelId), additionalDeposit: try members.units(.additionalDeposit), funding: funding,
          salt: funding.kind == .authorization ? try members.word(.salt) : nil, descriptor: descriptor))
    case "voucher": self = try Self.voucher(members, descriptor, rules)
    case "close": self = .close(try SessionVoucher(members), descriptor: descriptor)
    default: throw .unknownType
    }
    guard (voucher?.cumulativeAmount ?? 0) <= rules.amountLimit else { throw .overflow(.cumulativeAmount) }
  }

  /// What Tempo's v2 carries in each payload.
  private static func descriptor(
    _ members: ChainMembers, _ rules: ChannelProtocol
  ) throws(ChainChargeError) -> ChannelDescriptor? {
    guard rules == .tempoV2 else { return nil }
    return try ChannelDescriptor(try members.members(.descriptor), rules: rules)
  }

  /// Where the voucher's signature stands: beside a deposit's own signature it has another name.
  private static func voucherSignature(
    _ members: ChainMembers, _ funding: ChannelFunding
  ) throws(ChainChargeError) -> ChainChargeError.Member {
    switch funding {
    case .permit2, .authorization: .voucherSignature
    case .hash, .transaction: .signature
    }
  }

  private static func voucher(
    _ members: ChainMembers, _ descriptor: ChannelDescriptor?, _ rules: ChannelProtocol
  ) throws(ChainChargeError) -> ChannelPayload {
    let voucher = try SessionVoucher(members)
    guard rules == .evm, members[.deposit] != nil else { return .voucher(voucher, descriptor: descriptor, topUp: nil) }
    let deposit = try members.members(.deposit)
    let funding = try ChannelFunding(deposit)
    // Only what we submit is merged with a voucher (draft-evm-session-00 "Voucher Payload").
    guard let amount = funding.amount else { throw .unknownType }
    switch try deposit.string(.action) {
    case "open": return .open(try ChannelOpening(deposit, funding: funding, voucher: voucher, nil, rules))
    case "topUp":
      let salt = funding.kind == .authorization ? try deposit.word(.salt) : nil
      return .voucher(
        voucher, descriptor: nil,
        topUp: ChannelTopUp(
          channelID: voucher.channelID, additionalDeposit: amount, funding: funding, salt: salt, descriptor: nil))
    default: throw .unknownType
    }
  }

  /// The channel that the payload names.
  public var channelID: Digest32 {
    switch self {
    case .open(let opening): opening.channelID
    case .topUp(let topUp): topUp.channelID
    case .voucher(let voucher, _, _), .close(let voucher, _): voucher.channelID
    }
  }

  /// The voucher that the payload holds.
  public var voucher: SessionVoucher? {
    switch self {
    case .open(let opening): opening.voucher
    case .topUp: nil
    case .voucher(let voucher, _, _), .close(let voucher, _): voucher
    }
  }

  /// Whether the payload is never forwarded, whatever its request: a top-up or a close.
  ///
  /// An open and a voucher are forwarded unless the request asks for nothing: HEAD, or POST without content.
  public var isManagement: Bool {
    switch self {
    case .topUp, .close: true
    case .open, .voucher: false
    }
  }

  /// Keeps payment data out of logs.
  public var description: String { "<payload>" }

  /// The member as a payer writes it.
  public func object(rules: ChannelProtocol) -> JSONObject {
    switch self {
    case .open(let opening):
      var members = opening.voucher.members
      switch opening.funding {
      case .permit2, .authorization: members[2].0 = ChainChargeError.Member.voucherSignature.rawValue
      case .hash, .transaction: break
      }
      return JSONObject([("action", "open")] + members + opening.funding.members + opening.members(rules))
    case .topUp(let topUp):
      return JSONObject([("action", "topUp"), ("channelId", .string(HexData.text(topUp.channelID)))] + topUp.members(rules))
    case .voucher(let voucher, let descriptor, let topUp):
      var object = JSONObject([("action", "voucher")] + voucher.members + Self.members(descriptor, rules))
      if let topUp {
        object.set("deposit", .object(JSONObject([("action", "topUp")] + topUp.funding.members + topUp.saltMembers)))
      }
      return object
    case .close(let voucher, let descriptor):
      return JSONObject([("action", "close")] + voucher.members + Self.members(descriptor, rules))
    }
  }

  fileprivate static func members(_ descriptor: ChannelDescriptor?, _ rules: ChannelProtocol) -> [(String, JSONValue)] {
    descriptor.map { [("descriptor", .object($0.object(rules: rules)))] } ?? []
  }
}

/// What opens a channel.
public struct ChannelOpening: Sendable, Hashable {
  /// The channel's id, as the payer says.
  public let channelID: Digest32
  /// How the tokens get into the escrow.
  public let funding: ChannelFunding
  /// What the payer drew; nil where the transaction or the descriptor says.
  public let salt: Digest32?
  /// Who signs vouchers, as the payer says; nil for the payer, or where the transaction or the descriptor says.
  public let authorizedSigner: Address?
  /// The channel's members (Tempo's v2).
  public let descriptor: ChannelDescriptor?
  /// The first voucher.
  public let voucher: SessionVoucher

  /// Takes the members.
  public init(
    channelID: Digest32, funding: ChannelFunding, salt: Digest32?, authorizedSigner: Address?, descriptor: ChannelDescriptor? = nil,
    voucher: SessionVoucher
  ) {
    self.channelID = channelID
    self.funding = funding
    self.salt = salt
    self.authorizedSigner = authorizedSigner
    self.descriptor = descriptor
    self.voucher = voucher
  }

  fileprivate init(
    _ members: ChainMembers, funding: ChannelFunding, voucher: SessionVoucher, _ descriptor: ChannelDescriptor?,
    _ rules: ChannelProtocol
  ) throws(ChainChargeError) {
    self.init(
      channelID: voucher.channelID, funding: funding, salt: rules == .evm ? try members.word(.salt) : nil,
      authorizedSigner: members[.authorizedSigner] == nil ? nil : try members.address(.authorizedSigner), descriptor: descriptor,
      voucher: voucher)
  }

  fileprivate func members(_ rules: ChannelProtocol) -> [(String, JSONValue)] {
    var members = ChannelPayload.members(descriptor, rules)
    if let salt { members.append(("salt", .string(HexData.text(salt)))) }
    if let authorizedSigner { members.append(("authorizedSigner", .string(authorizedSigner.lowercase))) }
    return members
  }
}

/// What adds to a channel's deposit.
public struct ChannelTopUp: Sendable, Hashable {
  /// The channel.
  public let channelID: Digest32
  /// Base units.
  public let additionalDeposit: UInt128
  /// How the tokens get into the escrow.
  public let funding: ChannelFunding
  /// What the payer drew for the authorization's nonce.
  public let salt: Digest32?
  /// The channel's members (Tempo's v2).
  public let descriptor: ChannelDescriptor?

  /// Takes the members.
  public init(
    channelID: Digest32, additionalDeposit: UInt128, funding: ChannelFunding, salt: Digest32? = nil,
    descriptor: ChannelDescriptor? = nil
  ) {
    self.channelID = channelID
    self.additionalDeposit = additionalDeposit
    self.funding = funding
    self.salt = salt
    self.descriptor = descriptor
  }

  fileprivate var saltMembers: [(String, JSONValue)] { salt.map { [("salt", .string(HexData.text($0)))] } ?? [] }

  fileprivate func members(_ rules: ChannelProtocol) -> [(String, JSONValue)] {
    funding.members + saltMembers + ChannelPayload.members(descriptor, rules)
      + [("additionalDeposit", "\(additionalDeposit)")]
  }
}
