import Bytes
import Encoding
import Ethereum

/// What a voucher that passed its checks does.
public enum VoucherEffect: Sendable, Hashable {
  /// It is the last accepted one again, octet by octet: nothing was verified, for that was done.
  case repeated
  /// It is valid and not above the last accepted one: nothing changes.
  case unchanged
  /// It becomes the last accepted one, once that is durable, and its signer's contract, if there is a question for it, has said yes.
  case advances
}

/// How a channel is closed: by which voucher, and what follows for its payer.
public struct ChannelClosing: Sendable, Hashable {
  /// The voucher that the escrow is handed.
  public var voucher: SessionVoucher
  /// All that is settled afterwards, in base units.
  public var captured: UInt128
  /// What goes back to the payer, in base units.
  public var refunded: UInt128
  /// What the signer's contract has to be asked; nil where there is nothing to ask.
  public var question: WalletQuestion?

  /// Takes the members.
  public init(voucher: SessionVoucher, captured: UInt128, refunded: UInt128, question: WalletQuestion? = nil) {
    self.voucher = voucher
    self.captured = captured
    self.refunded = refunded
    self.question = question
  }
}

// What a server verifies of vouchers (drafts, "Voucher Verification" and "Cooperative Close").
extension VoucherKey {
  /// Checks a voucher against the last one that was accepted, from cheap to dear.
  ///
  /// - Parameters:
  ///   - last: the last accepted one; each channel has one from its opening on.
  ///   - minimumDelta: the least that a new voucher adds, in base units.
  /// - Throws: `channelMismatch`, `channelFinalized`, `closeRequested`, `amountExceedsDeposit`, `amountNotIncreasing`,
  ///   `deltaTooSmall`, and what `verify` throws.
  public func check(
    _ voucher: SessionVoucher, after last: SessionVoucher, standing: ChannelStanding, minimumDelta: UInt128 = 0,
    rules: ChannelProtocol, wallets: ContractWallets = .otherLengths
  ) throws(ChannelError) -> (effect: VoucherEffect, question: WalletQuestion?) {
    guard !standing.isFinalized else { throw .channelFinalized }
    guard standing.closeRequestedAt == 0 else { throw .closeRequested }
    if voucher == last { return (.repeated, nil) }
    guard voucher.cumulativeAmount <= standing.deposit else { throw .amountExceedsDeposit }
    guard rules.takesLowerVouchers || voucher.cumulativeAmount >= last.cumulativeAmount else { throw .amountNotIncreasing }
    let question = try verify(voucher, wallets: wallets)
    guard voucher.cumulativeAmount > last.cumulativeAmount else { return (.unchanged, question) }
    guard voucher.cumulativeAmount - last.cumulativeAmount >= minimumDelta else { throw .deltaTooSmall(minimumDelta) }
    return (.advances, question)
  }

  /// Checks a close's voucher, and chooses the one that takes the least and still pays for what was spent.
  ///
  /// A forced close that has begun is no hindrance: closing answers it.
  ///
  /// - Parameters:
  ///   - spent: what was charged, in base units; at most the last accepted voucher's amount.
  /// - Throws: `channelMismatch`, `channelFinalized`, `amountExceedsDeposit`, `amountBelowSpent` where the rules ask the last voucher
  ///   to cover all, and what `verify` throws.
  public func close(
    _ voucher: SessionVoucher, after last: SessionVoucher, standing: ChannelStanding, spent: UInt128, rules: ChannelProtocol,
    wallets: ContractWallets = .otherLengths
  ) throws(ChannelError) -> ChannelClosing {
    guard !standing.isFinalized else { throw .channelFinalized }
    var question: WalletQuestion?
    if voucher != last {
      guard voucher.cumulativeAmount <= standing.deposit else { throw .amountExceedsDeposit }
      question = try verify(voucher, wallets: wallets)
    }
    let due = max(spent, standing.settled)
    if rules != .evm, voucher.cumulativeAmount < due { throw .amountBelowSpent(due) }
    // The escrow pays what the voucher says: the lower one that covers what was spent, the client's where both do alike.
    let isChosen = voucher.cumulativeAmount >= spent && voucher.cumulativeAmount <= max(last.cumulativeAmount, spent)
    var closing = Self.closing(isChosen || rules.capturesExactly ? voucher : last, standing: standing, spent: spent, rules: rules)
    closing.question = closing.voucher == last ? nil : question
    return closing
  }

  /// How a channel is closed without its payer: by the last accepted voucher.
  public static func closing(
    _ last: SessionVoucher, standing: ChannelStanding, spent: UInt128, rules: ChannelProtocol
  ) -> ChannelClosing {
    let amount = rules.capturesExactly ? min(spent, last.cumulativeAmount) : last.cumulativeAmount
    let captured = min(max(amount, standing.settled), standing.deposit)
    return ChannelClosing(voucher: last, captured: captured, refunded: standing.deposit - captured)
  }
}

// What we submit (drafts, "Settlement Procedure").
extension ChannelTransaction {
  /// The settlement of a voucher; nil where nothing of it is unsettled.
  ///
  /// - Throws: `depositTooLarge` past the escrow's type.
  public static func settle(
    _ voucher: SessionVoucher, channel: ChannelDescriptor, standing: ChannelStanding, escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelTransaction? {
    let amount = voucher.cumulativeAmount
    guard amount > standing.settled, amount <= standing.deposit, !standing.isFinalized else { return nil }
    let data: [UInt8]
    switch escrow.rules {
    case .evm, .tempoV1:
      data = ChannelEscrow.settle(
        channelID: voucher.channelID, cumulativeAmount: amount, signature: voucher.contractSignature)
    case .tempoV2:
      do {
        data = try ChannelReserve.settle(channel.reserve, cumulativeAmount: amount, signature: voucher.contractSignature)
      } catch { throw .depositTooLarge }
    case .batch: throw .protocolMismatch
    }
    return ChannelTransaction(
      .settle, channelID: voucher.channelID, amount: amount, means: .call(to: escrow.address, data: data),
      transfers: [
        ExpectedTransfer(token: channel.token, from: escrow.address, to: channel.payee, amount: amount - standing.settled)
      ])
  }

  /// The close of a channel.
  ///
  /// - Throws: `depositTooLarge` past the escrow's type.
  public static func close(
    _ closing: ChannelClosing, channel: ChannelDescriptor, standing: ChannelStanding, escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelTransaction {
    let voucher = closing.voucher
    let data: [UInt8]
    switch escrow.rules {
    case .evm, .tempoV1:
      // Where nothing more is settled the signature is not looked at (draft-evm-session-00 "close"), and sent all the same.
      data = ChannelEscrow.close(
        channelID: voucher.channelID, cumulativeAmount: voucher.cumulativeAmount, signature: voucher.contractSignature)
    case .tempoV2:
      do {
        data = try ChannelReserve.close(
          channel.reserve, cumulativeAmount: voucher.cumulativeAmount, captureAmount: closing.captured,
          signature: voucher.contractSignature)
      } catch { throw .depositTooLarge }
    case .batch: throw .protocolMismatch
    }
    var transfers: [ExpectedTransfer] = []
    if closing.captured > standing.settled {
      transfers.append(
        ExpectedTransfer(
          token: channel.token, from: escrow.address, to: channel.payee, amount: closing.captured - standing.settled))
    }
    if closing.refunded > 0 {
      transfers.append(
        ExpectedTransfer(token: channel.token, from: escrow.address, to: channel.payer, amount: closing.refunded))
    }
    return ChannelTransaction(
      .close, channelID: voucher.channelID, amount: closing.captured, means: .call(to: escrow.address, data: data),
      transfers: transfers)
  }
}

/// When we settle a channel by ourselves.
public struct SettlementSchedule: Sendable, Hashable {
  /// Settles once this much is signed and unsettled, in base units; nil for no such bound.
  public var amount: UInt128?
  /// Settles what has been unsettled for this long; nil for no such bound.
  public var age: Duration?

  /// Takes the bounds.
  public init(amount: UInt128? = nil, age: Duration? = nil) {
    self.amount = amount
    self.age = age
  }

  /// Whether a settlement is due.
  ///
  /// - Parameters:
  ///   - accepted: the last voucher's amount.
  ///   - since: when the first voucher above what is settled was accepted.
  public func isDue(accepted: UInt128, settled: UInt128, since: Timestamp, now: Timestamp) -> Bool {
    guard accepted > settled else { return false }
    if let amount, accepted - settled >= amount { return true }
    if let age, now - since >= age { return true }
    return false
  }
}
