import Bytes
import Encoding
import Ethereum
import Metering

/// What `methodDetails` of a session's request object tells (drafts, "Method Details").
public struct ChannelDetails: Sendable, Hashable {
  /// The chain's id (EIP-155).
  public var chainID: UInt64
  /// The escrow's contract.
  public var escrow: Address
  /// A channel to go on with.
  public var channelID: Digest32?
  /// The least that a voucher adds, in base units.
  public var minimumDelta: UInt128 = 0
  /// Whether we pay the fees of deposits.
  public var paysFees = false
  /// The ways of depositing that are accepted, best first; nil where the offer does not say. Method `evm` only.
  public var credentialTypes: [ChannelFunding.Kind]?
  /// The Permit2 contract of the chain; nil for the usual one. Method `evm` only.
  public var permit2: Address?
  /// Who else acts for the payee; nil for nobody. Tempo's v2 only.
  public var `operator`: Address?
  /// A channel to go on with, and how it stands. Tempo's v2 only.
  public var snapshot: ChannelSnapshot?

  /// How many units the price buys.
  public var unitSize: UInt64 = 1
  /// All rates, where one does not say it all.
  public var prices: [Rate] = []
  /// The least that one exchange costs, in base units.
  public var minimum: UInt128 = 0
  /// The most that one exchange costs, in base units; the greatest number where there is no such bound.
  public var maximum: UInt128 = .max
  /// The least deposit of an open, in base units.
  public var minimumDeposit: UInt128 = 0
  /// Seconds without anything in flight after which the channel is closed; zero where the offer does not say.
  public var idleTimeout: UInt64 = 0
  /// The token's decimals, for people.
  public var decimals: UInt8?

  /// Takes what every offer has; the rest is set.
  public init(chainID: UInt64, escrow: Address) {
    self.chainID = chainID
    self.escrow = escrow
  }

  init(_ members: ChainMembers, rules: ChannelProtocol) throws(ChainChargeError) {
    // The draft of Tempo gives the chain a default.
    let names = rules == .tempoV1 && members[.chainId] == nil ? nil : try members.whole(.chainId)
    chainID = names ?? ChannelSession.tempoChain
    guard chainID > 0 else { throw .malformed(.chainId) }
    escrow = try members.address(.escrowContract)
    channelID = members[.channelId] == nil ? nil : try members.word(.channelId)
    minimumDelta = members[.minVoucherDelta] == nil ? 0 : try members.units(.minVoucherDelta)
    paysFees = try Self.flag(.feePayer, members)
    switch rules {
    case .evm:
      credentialTypes = try Self.types(members)
      permit2 = members[.permit2Contract] == nil ? nil : try members.address(.permit2Contract)
    case .tempoV1, .batch: break
    case .tempoV2:
      `operator` = members[.operator] == nil ? nil : try members.address(.operator)
      snapshot = members[.sessionSnapshot] == nil ? nil : try ChannelSnapshot(try members.members(.sessionSnapshot), rules: rules)
    }
    try readAdditions(members)
  }

  private mutating func readAdditions(_ members: ChainMembers) throws(ChainChargeError) {
    unitSize = try Self.count(.unitSize, members) ?? 1
    guard unitSize > 0 else { throw .malformed(.unitSize) }
    prices = try Self.prices(members)
    minimum = members[.minimum] == nil ? 0 : try members.units(.minimum)
    maximum = members[.maximum] == nil ? .max : try members.units(.maximum)
    guard maximum > 0, minimum <= maximum else { throw .malformed(.maximum) }
    minimumDeposit = members[.minimumDeposit] == nil ? 0 : try members.units(.minimumDeposit)
    idleTimeout = try Self.count(.idleTimeout, members) ?? 0
    if members[.decimals] != nil {
      guard let decimals = UInt8(exactly: try members.whole(.decimals)) else { throw .malformed(.decimals) }
      self.decimals = decimals
    }
  }

  private static func flag(_ member: ChainChargeError.Member, _ members: ChainMembers) throws(ChainChargeError) -> Bool {
    switch members[member] {
    case nil: false
    case .bool(let value): value
    case .null, .number, .string, .array, .object: throw .malformed(member)
    }
  }

  /// A count in decimal digits.
  private static func count(
    _ member: ChainChargeError.Member, _ members: ChainMembers
  ) throws(ChainChargeError) -> UInt64? {
    guard members[member] != nil else { return nil }
    guard let count = try members.number(member).uint64 else { throw .overflow(member) }
    return count
  }

  private static func types(_ members: ChainMembers) throws(ChainChargeError) -> [ChannelFunding.Kind]? {
    guard members[.credentialTypes] != nil else { return nil }
    // Types of later versions are nothing that we could send.
    return try members.array(.credentialTypes, limit: 16).compactMap {
      $0.stringValue.flatMap { ChannelFunding.Kind(rawValue: $0) }
    }
  }

  private static func prices(_ members: ChainMembers) throws(ChainChargeError) -> [Rate] {
    guard let value = members[.prices] else { return [] }
    do { return try PrepaidSession.rates(value) } catch { throw .malformed(.prices) }
  }

  func object(rules: ChannelProtocol) -> JSONObject {
    var object: JSONObject = ["chainId": .integer(chainID), "escrowContract": .string(escrow.checksummed)]
    if let name = rules.sessionProtocol { object.set("sessionProtocol", .string(name)) }
    if let channelID { object.set("channelId", .string(HexData.text(channelID))) }
    if minimumDelta > 0 { object.set("minVoucherDelta", "\(minimumDelta)") }
    if paysFees { object.set("feePayer", true) }
    switch rules {
    case .evm:
      if let credentialTypes { object.set("credentialTypes", .array(credentialTypes.map { .string($0.rawValue) })) }
      if let permit2 { object.set("permit2Contract", .string(permit2.checksummed)) }
    case .tempoV1, .batch: break
    case .tempoV2:
      if let `operator` { object.set("operator", .string(`operator`.checksummed)) }
      if let snapshot { object.set("sessionSnapshot", .object(snapshot.object)) }
    }
    appendAdditions(to: &object)
    return object
  }

  private func appendAdditions(to object: inout JSONObject) {
    if unitSize != 1 { object.set("unitSize", "\(unitSize)") }
    if !prices.isEmpty { object.set("prices", PrepaidSession.list(prices)) }
    if minimum > 0 { object.set("minimum", "\(minimum)") }
    if maximum < .max { object.set("maximum", "\(maximum)") }
    if minimumDeposit > 0 { object.set("minimumDeposit", "\(minimumDeposit)") }
    if idleTimeout > 0 { object.set("idleTimeout", "\(idleTimeout)") }
    if let decimals { object.set("decimals", .integer(decimals)) }
  }
}
