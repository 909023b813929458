import Bytes
import Ethereum
import Ledger
import Methods
import Payments

/// What an exchange that is paid by a voucher of batch-settlement needs at its end: what it is charged, and what its payer is told.
final class BatchSeat {
  let handle: SessionHandle
  let id: Digest32
  let payer: Address
  let chain: UInt64
  /// What the request costs, in base units.
  let amount: UInt128
  /// What it is paid by.
  let voucher: AcceptedVoucher
  /// What was charged before, all in all.
  let before: UInt128
  /// What the contract holds and was claimed, as last read.
  private let account: ChannelAccount
  private let refundNonce: UInt128
  /// The deposit that came with the voucher: its transaction, and base units.
  private let deposit: (transaction: Digest32?, amount: UInt128)?
  /// Whether the request was charged.
  var isCharged = false

  init(
    _ view: ChannelView, payer: Address, amount: UInt128, voucher: AcceptedVoucher, refundNonce: UInt128, deposit: (transaction: Digest32?, amount: UInt128)?
  ) {
    handle = view.handle
    id = view.id
    self.payer = payer
    chain = view.chain
    self.amount = amount
    self.voucher = voucher
    before = view.debited
    account = view.account
    self.refundNonce = refundNonce
    self.deposit = deposit
  }

  /// What the payer is told ("Payment Response Contract").
  var response: SettlementResponse {
    SettlementResponse(
      isSuccess: true, payer: payer.checksummed, transaction: deposit?.transaction, network: X402Network(chainID: chain),
      amount: deposit.map { .units($0.amount) } ?? .nothing, chargedAmount: isCharged ? amount : 0,
      channelState: ChannelState(
        channelID: id, balance: account.deposit, totalClaimed: account.settled, withdrawRequestedAt: account.closeRequestedAt,
        refundNonce: refundNonce, chargedCumulativeAmount: before + (isCharged ? amount : 0)))
  }
}
