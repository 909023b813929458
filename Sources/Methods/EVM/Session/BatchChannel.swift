import Bytes
import Ethereum
import Payments

/// A channel of x402's scheme batch-settlement as its server keeps it ("Per-Channel State").
public struct BatchChannel: Sendable, Hashable {
  /// What the channel is.
  public let config: ChannelConfig
  /// What was charged in all, in base units.
  public private(set) var charged: UInt128
  /// The last voucher; nil before the first one, and where the server lost it.
  public private(set) var last: SessionVoucher?
  /// What the contract holds, with what was claimed of it, in base units; as last read.
  public private(set) var balance: UInt128
  /// What was claimed, in base units; as last read.
  public private(set) var totalClaimed: UInt128
  /// The second of Unix time in which a withdrawal began; zero for none.
  public private(set) var withdrawRequestedAt: UInt64
  /// The next refund's number.
  public private(set) var refundNonce: UInt128

  /// Begins with what the chain says: what was charged and not claimed is lost with its vouchers.
  public init(_ config: ChannelConfig, state: ChannelState) {
    self.init(
      config, charged: state.chargedCumulativeAmount ?? state.totalClaimed, last: nil, balance: state.balance,
      totalClaimed: state.totalClaimed, withdrawRequestedAt: state.withdrawRequestedAt, refundNonce: state.refundNonce)
  }

  /// Takes the members.
  public init(
    _ config: ChannelConfig, charged: UInt128, last: SessionVoucher?, balance: UInt128, totalClaimed: UInt128,
    withdrawRequestedAt: UInt64 = 0, refundNonce: UInt128 = 0
  ) {
    self.config = config
    self.charged = charged
    self.last = last
    self.balance = balance
    self.totalClaimed = totalClaimed
    self.withdrawRequestedAt = withdrawRequestedAt
    self.refundNonce = refundNonce
  }

  /// Checks a payment against the channel; nothing changes before the request has succeeded.
  ///
  /// - Parameters:
  ///   - amount: the most that this request costs, in base units.
  /// - Throws: `cumulativeMismatch`, `channelNotFound`, `exceedsBalance`, `belowClaimed`, `refundAmount`, `nothingToRefund`.
  public func admit(_ payment: BatchPayment, amount: UInt128) throws(BatchChannelError) {
    let signed = payment.voucher.cumulativeAmount
    let (after, overflows) = balance.addingReportingOverflow(payment.deposit)
    guard !overflows else { throw .exceedsBalance }
    guard after > 0 else { throw .channelNotFound }
    switch payment.kind {
    case .refund(let wanted):
      guard signed == charged else { throw .cumulativeMismatch }
      guard signed >= totalClaimed else { throw .belowClaimed }
      let rest = after - min(charged, after)
      guard rest > 0 else { throw .nothingToRefund }
      if let wanted, wanted == 0 || wanted > rest { throw .refundAmount }
    case .voucher, .deposit:
      let (due, overflows) = charged.addingReportingOverflow(amount)
      guard !overflows, signed == due else { throw .cumulativeMismatch }
      guard signed > totalClaimed else { throw .belowClaimed }
    }
    guard signed <= after else { throw .exceedsBalance }
  }

  /// Charges a request that has succeeded.
  ///
  /// - Throws: `chargeExceedsSigned`; nothing has changed then.
  public mutating func charge(_ actual: UInt128, by voucher: SessionVoucher) throws(BatchChannelError) {
    let (sum, overflows) = charged.addingReportingOverflow(actual)
    guard !overflows, sum <= voucher.cumulativeAmount else { throw .chargeExceedsSigned }
    charged = sum
    last = voucher
  }

  /// Takes what the chain says; what was charged is ours to know.
  public mutating func mirror(_ state: ChannelState) {
    balance = state.balance
    totalClaimed = max(totalClaimed, state.totalClaimed)
    charged = max(charged, totalClaimed)
    withdrawRequestedAt = state.withdrawRequestedAt
    refundNonce = state.refundNonce
  }

  /// How the channel stands, as responses tell it.
  public func state(_ channelID: Digest32) -> ChannelState {
    ChannelState(
      channelID: channelID, balance: balance, totalClaimed: totalClaimed, withdrawRequestedAt: withdrawRequestedAt,
      refundNonce: refundNonce, chargedCumulativeAmount: charged)
  }

  /// What a corrective 402 tells a payer who has lost count; nil where no voucher proves it ("Recovery After State Loss").
  public func corrective(_ channelID: Digest32) -> (channel: ChannelState, voucher: VoucherState)? {
    last.map {
      (state(channelID), VoucherState(signedMaxClaimable: $0.cumulativeAmount, signature: $0.signature))
    }
  }

  /// What can be claimed; nil where nothing is unclaimed.
  public var claim: VoucherClaim? {
    guard let last, charged > totalClaimed, charged <= balance else { return nil }
    return VoucherClaim(
      channel: config, maxClaimableAmount: last.cumulativeAmount, signature: last.contractSignature, totalClaimed: charged)
  }
}
