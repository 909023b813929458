import Bytes
import Encoding

/// What a channel of batch-settlement holds: `channelState` of a response's or a corrective 402's `extra`, and `extra` of a
/// facilitator's answer.
public struct ChannelState: Sendable, Hashable {
  public let channelID: Digest32
  /// Base units: deposits less withdrawals and refunds.
  public let balance: UInt128
  /// Base units claimed on chain.
  public let totalClaimed: UInt128
  /// Seconds since 1970; zero where no withdrawal is pending.
  public let withdrawRequestedAt: UInt64
  /// The next refund's number.
  public let refundNonce: UInt128
  /// Base units that the server charged; nil in what a facilitator says, who does not know.
  public var chargedCumulativeAmount: UInt128?

  public init(
    channelID: Digest32, balance: UInt128, totalClaimed: UInt128, withdrawRequestedAt: UInt64 = 0, refundNonce: UInt128 = 0,
    chargedCumulativeAmount: UInt128? = nil
  ) {
    self.channelID = channelID
    self.balance = balance
    self.totalClaimed = totalClaimed
    self.withdrawRequestedAt = withdrawRequestedAt
    self.refundNonce = refundNonce
    self.chargedCumulativeAmount = chargedCumulativeAmount
  }

  /// Reads the object; the two last numbers may be absent, or of either kind, as the packages write them.
  init(_ members: X402Members) throws(X402Error) {
    channelID = try members.word(.channelId)
    balance = try members.units(.balance)
    totalClaimed = try members.units(.totalClaimed)
    guard let requestedAt = UInt64(exactly: try Self.number(.withdrawRequestedAt, members)) else { throw .overflow(.withdrawRequestedAt) }
    withdrawRequestedAt = requestedAt
    refundNonce = try Self.number(.refundNonce, members)
    chargedCumulativeAmount = members[.chargedCumulativeAmount] == nil ? nil : try members.units(.chargedCumulativeAmount)
  }

  private static func number(_ member: X402Error.Member, _ members: X402Members) throws(X402Error) -> UInt128 {
    switch members[member] {
    case nil: 0
    case .number: UInt128(try members.whole(member))
    case .null, .bool, .string, .array, .object: try members.units(member)
    }
  }

  /// Appends the object.
  func append(to out: inout ByteBuffer) {
    out.append("{\"channelId\":\"0x" as StaticString)
    out.append(hex: channelID)
    out.append("\",\"balance\":\"" as StaticString)
    out.append(decimal: balance)
    out.append("\",\"totalClaimed\":\"" as StaticString)
    out.append(decimal: totalClaimed)
    out.append("\",\"withdrawRequestedAt\":" as StaticString)
    out.append(decimal: withdrawRequestedAt)
    out.append(",\"refundNonce\":\"" as StaticString)
    out.append(decimal: refundNonce)
    if let chargedCumulativeAmount {
      out.append("\",\"chargedCumulativeAmount\":\"" as StaticString)
      out.append(decimal: chargedCumulativeAmount)
    }
    out.append("\"}" as StaticString)
  }
}

/// The last voucher that a server holds of a channel, by which a client that lost count is convinced: `voucherState`.
public struct VoucherState: Sendable, Hashable {
  /// Base units, cumulative.
  public let signedMaxClaimable: UInt128
  public let signature: [UInt8]

  public init(signedMaxClaimable: UInt128, signature: [UInt8]) {
    self.signedMaxClaimable = signedMaxClaimable
    self.signature = signature
  }

  init(_ members: X402Members) throws(X402Error) {
    signedMaxClaimable = try members.units(.signedMaxClaimable)
    signature = try members.signature()
  }

  /// Appends the object.
  func append(to out: inout ByteBuffer) {
    out.append("{\"signedMaxClaimable\":\"" as StaticString)
    out.append(decimal: signedMaxClaimable)
    out.append("\",\"signature\":\"0x" as StaticString)
    signature.withUnsafeBytes { Hex.append($0, to: &out) }
    out.append("\"}" as StaticString)
  }
}
