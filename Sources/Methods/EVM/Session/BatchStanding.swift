import Bytes
import Encoding
import Ethereum
import Payments

/// What the contract of batch-settlement says of a channel, and of all that was claimed for who it pays, in one block.
public struct BatchStanding: Sendable, Hashable {
  /// Base units: deposits less withdrawals and refunds; what was claimed is a part of it.
  public let balance: UInt128
  /// Base units.
  public let totalClaimed: UInt128
  /// The second of Unix time in which a withdrawal began; zero for none.
  public let withdrawRequestedAt: UInt64
  /// The next refund's number.
  public let refundNonce: UInt128
  /// Whether all that was ever claimed for the receiver has been paid to him.
  public let isSwept: Bool

  /// Encodes the question: one call, so that all answers are of one block.
  public static func question(_ channelID: Digest32, of channel: ChannelDescriptor) -> [UInt8] {
    BatchSettlement.multicall([
      BatchSettlement.channels(channelID), BatchSettlement.pendingWithdrawals(channelID), BatchSettlement.refundNonce(channelID),
      BatchSettlement.receivers(receiver: channel.payee, token: channel.token),
    ])
  }

  /// Reads the answer. A channel that nobody has paid into is all zeros.
  ///
  /// - Throws: `malformedState`.
  public init(returned data: [UInt8]) throws(ChannelError) {
    guard let answers = (try? BatchSettlement.multicall.results(of: data))?.first?.elements, answers.count == 4,
      let channel = Self.values(answers[0], of: BatchSettlement.channels), let pending = Self.values(answers[1], of: BatchSettlement.pendingWithdrawals),
      let nonce = Self.values(answers[2], of: BatchSettlement.refundNonce)?.first, let receiver = Self.values(answers[3], of: BatchSettlement.receivers),
      let balance = channel[0].uint128, let totalClaimed = channel[1].uint128, let requestedAt = pending[1].uint64, totalClaimed <= balance
    else { throw .malformedState }
    self.balance = balance
    self.totalClaimed = totalClaimed
    withdrawRequestedAt = requestedAt
    refundNonce = nonce.uint128 ?? .max
    isSwept = receiver[0] == receiver[1]
  }

  private static func values(_ answer: ABIValue, of function: ABIFunction) -> [Word256]? {
    guard let octets = answer.bytesValue, let values = try? function.results(of: octets) else { return nil }
    let words = values.compactMap(\.uintValue)
    return words.count == values.count ? words : nil
  }

  /// The same in the terms of all channels. No channel of this contract is closed for good.
  public var standing: ChannelStanding {
    ChannelStanding(deposit: balance, settled: totalClaimed, closeRequestedAt: withdrawRequestedAt)
  }
}

extension ChannelDescriptor {
  /// Takes a channel of batch-settlement.
  public init(_ config: ChannelConfig) {
    self.init(
      payer: config.payer, payee: config.receiver, operator: config.receiverAuthorizer, token: config.token, salt: config.salt,
      authorizedSigner: config.payerAuthorizer, withdrawDelay: config.withdrawDelay)
  }

  /// The channel as the contract of batch-settlement takes it; nil where the delay does not fit its type.
  public var config: ChannelConfig? {
    ChannelConfig(
      payer: payer, payerAuthorizer: authorizedSigner, receiver: payee, receiverAuthorizer: `operator`, token: token,
      withdrawDelay: withdrawDelay, salt: salt)
  }
}

/// What a transaction does for a channel of batch-settlement.
public enum BatchErrand: Sendable, Hashable {
  /// Takes what was charged, pays it out, and gives the rest back to the payer.
  case close
  /// The same with a part of the rest, in base units: the channel goes on.
  case part(UInt128)
  /// Takes what was charged, and pays it out.
  case settle
  /// Takes what was charged: the rest is done one by one, where a contract does not do several things at once.
  case claim
}

extension ChannelTransaction {
  /// The call that does an errand; nil where there is nothing to do. What is claimed is paid out in the same transaction but by `claim` alone.
  ///
  /// - Parameters:
  ///   - voucher: the last one.
  ///   - charged: all in all, in base units; no more of it is claimed than is signed and lies there.
  /// - Throws: `malformedState` for a channel that is none.
  public static func batch(
    _ errand: BatchErrand, _ voucher: SessionVoucher, charged: UInt128, channel: ChannelDescriptor, standing: BatchStanding, escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelTransaction? {
    guard let config = channel.config else { throw .malformedState }
    let due = max(min(charged, voucher.cumulativeAmount, standing.balance), standing.totalClaimed)
    var calls: [[UInt8]] = []
    if due > standing.totalClaimed {
      calls.append(
        BatchSettlement.claim([
          VoucherClaim(
            channel: config, maxClaimableAmount: voucher.cumulativeAmount, signature: voucher.contractSignature, totalClaimed: due)
        ]))
      if errand != .claim { calls.append(BatchSettlement.settle(receiver: channel.payee, token: channel.token)) }
    }
    let rest = standing.balance - due
    switch errand {
    case .close where rest > 0: calls.append(BatchSettlement.refund(config, amount: rest))
    case .part(let amount): calls.append(BatchSettlement.refund(config, amount: min(amount, rest)))
    case .close, .settle, .claim: break
    }
    guard let first = calls.first else { return nil }
    return ChannelTransaction(
      errand == .close ? .close : .settle, channelID: voucher.channelID, amount: due,
      means: .call(to: escrow.address, data: calls.count == 1 ? first : BatchSettlement.multicall(calls)), transfers: [])
  }

  /// Whether a transaction's logs say that all that was claimed for who a channel pays was paid out.
  public static func paysOut(_ logs: [Log], of channel: ChannelDescriptor, escrow: SessionEscrow) -> Bool {
    logs.contains { log in
      log.address == escrow.address && !log.isRemoved && log.topics.count > 2 && log.topics[0] == BatchSettlement.settled.topic
        && log.topics[1] == Word256(channel.payee).octets && log.topics[2] == Word256(channel.token).octets
    }
  }
}

extension SessionEscrow {
  /// The contract of batch-settlement, which stands at one address everywhere.
  public static func batch(chain: UInt64) -> SessionEscrow {
    SessionEscrow(rules: .batch, chain: chain, address: BatchSettlement.address)
  }
}

extension BatchPayment {
  /// Checks a payment against the offer that it was made for, as above. Keys alone sign: a contract that says yes today may say no when its
  /// voucher is claimed.
  public init(
    _ payload: PaymentPayload, against requirements: PaymentRequirements, token: ChainToken, escrow: SessionEscrow, last: SessionVoucher?,
    now: Timestamp
  ) throws(BatchChannelError) {
    try self.init(payload, against: requirements, token: token, domain: escrow.domain, last: last, wallets: .refused, now: now)
    guard !config.payerAuthorizer.isZero else { throw .voucherSignature }
  }
}
