import Bytes
import Encoding
import Ethereum

/// How a channel stands, as its payer is told who has lost count (draft-tempo-session-00 "Session Snapshot").
public struct ChannelSnapshot: Sendable, Hashable {
  /// The field that carries a snapshot.
  public static let field = "Payment-Session-Snapshot"
  /// The field that carries the channel's id alone.
  public static let sessionField = "Payment-Session"
  /// The most octets of a field's value.
  public static let limit = 8192

  /// What kind of channel it is.
  public let rules: ChannelProtocol
  /// The chain's id.
  public let chainID: UInt64
  /// The escrow's contract.
  public let escrow: Address
  /// The channel's id.
  public let channelID: Digest32
  /// What the id is derived from.
  public let descriptor: ChannelDescriptor
  /// The highest voucher's amount that was accepted, in base units, as are all amounts.
  public let acceptedCumulative: UInt128
  /// What the escrow holds for the channel, with what it paid out.
  public let deposit: UInt128
  /// What the next voucher has to say at least.
  public let requiredCumulative: UInt128
  /// What the escrow paid out.
  public let settled: UInt128
  /// What was charged.
  public let spent: UInt128
  /// The second of Unix time in which a forced close began; nil for none.
  public let closeRequestedAt: UInt64?
  /// Units delivered.
  public let units: UInt64?
  /// The highest voucher's signature, which proves to its payer that he gave it (an addition of the reference client's).
  public let signature: [UInt8]?

  /// Takes the members.
  ///
  /// - Parameters:
  ///   - tellsSignature: whether the voucher's signature is told. Who has it can spend what it allows, so only its payer may get it.
  public init(
    escrow: SessionEscrow, descriptor: ChannelDescriptor, accepted: SessionVoucher, standing: ChannelStanding, spent: UInt128,
    requiredCumulative: UInt128, units: UInt64? = nil, tellsSignature: Bool = true
  ) {
    rules = escrow.rules
    chainID = escrow.chain
    self.escrow = escrow.address
    channelID = accepted.channelID
    self.descriptor = descriptor
    acceptedCumulative = accepted.cumulativeAmount
    deposit = standing.deposit
    self.requiredCumulative = requiredCumulative
    settled = standing.settled
    self.spent = spent
    closeRequestedAt = standing.closeRequestedAt == 0 ? nil : standing.closeRequestedAt
    self.units = units
    signature = tellsSignature ? accepted.signature : nil
  }

  /// Reads a field's value: base64url without padding of the object.
  ///
  /// - Throws: `tooLong`, `missing`, `malformed`, `overflow`.
  public init(field value: String, rules: ChannelProtocol) throws(ChainChargeError) {
    guard value.utf8.count <= Self.limit else { throw .tooLong(.sessionSnapshot, limit: Self.limit) }
    guard let octets = Base64URL.decode(value) else { throw .malformed(.sessionSnapshot) }
    let json: JSONValue
    do { json = try JSON.parse(octets) } catch { throw .malformed(.sessionSnapshot) }
    guard let object = json.objectValue else { throw .malformed(.sessionSnapshot) }
    try self.init(ChainMembers(object), rules: rules)
  }

  init(_ members: ChainMembers, rules: ChannelProtocol) throws(ChainChargeError) {
    self.rules = rules
    chainID = try members.whole(.chainId)
    escrow = try members.address(.escrow)
    channelID = try members.word(.channelId)
    descriptor = try ChannelDescriptor(try members.members(.descriptor), rules: rules)
    acceptedCumulative = try members.units(.acceptedCumulative)
    deposit = try members.units(.deposit)
    requiredCumulative = try members.units(.requiredCumulative)
    settled = try members.units(.settled)
    spent = try members.units(.spent)
    if members[.closeRequestedAt] == nil {
      closeRequestedAt = nil
    } else {
      guard let second = try members.number(.closeRequestedAt).uint64 else { throw .overflow(.closeRequestedAt) }
      closeRequestedAt = second
    }
    units = members[.units] == nil ? nil : try members.whole(.units)
    signature = try Self.signature(members, channelID, acceptedCumulative)
  }

  /// The signature of the member `highestVoucher`, which must be of this channel and amount.
  private static func signature(
    _ members: ChainMembers, _ channelID: Digest32, _ amount: UInt128
  ) throws(ChainChargeError) -> [UInt8]? {
    guard members[.highestVoucher] != nil else { return nil }
    let voucher = try SessionVoucher(try members.members(.highestVoucher))
    guard voucher.channelID == channelID, voucher.cumulativeAmount == amount else { throw .malformed(.highestVoucher) }
    return voucher.signature
  }

  /// Whether the id follows from the members, as its payer has to check before he signs for it.
  public var isConsistent: Bool {
    descriptor.id(in: SessionEscrow(rules: rules, chain: chainID, address: escrow)) == channelID
  }

  /// The highest voucher; nil where its signature was not told.
  public var accepted: SessionVoucher? {
    signature.map { SessionVoucher(channelID: channelID, cumulativeAmount: acceptedCumulative, signature: $0) }
  }

  /// The object.
  public var object: JSONObject {
    var object: JSONObject = [
      "acceptedCumulative": "\(acceptedCumulative)", "chainId": .integer(chainID), "channelId": .string(HexData.text(channelID)),
      "deposit": "\(deposit)", "descriptor": .object(descriptor.object(rules: rules)), "escrow": .string(escrow.lowercase),
      "requiredCumulative": "\(requiredCumulative)", "settled": "\(settled)", "spent": "\(spent)",
    ]
    if let closeRequestedAt { object.set("closeRequestedAt", "\(closeRequestedAt)") }
    if let units { object.set("units", .integer(units)) }
    if let accepted { object.set("highestVoucher", .object(JSONObject(accepted.members))) }
    return object
  }

  /// The field's value.
  public var fieldValue: String { Base64URL.encode(JCS.serialize(object)) }
}
