public import Encoding
import Metering

/// Channels whose vouchers each say what one request makes the sum to be (x402's scheme batch-settlement): one request at a time, and what it
/// costs is debited once it has succeeded.
extension Ledger {
  /// Takes a voucher whose signature was verified, and holds what its request costs: `charge` or `finish` has to follow. A restart frees it.
  /// ``ChannelView/previous`` goes on being the one by which something was charged last.
  ///
  /// - Parameters:
  ///   - amount: base units.
  /// - Throws: `channelBusy` while another request is in flight, and where the voucher is not what was debited and `amount`; what `accept` throws.
  public func begin(
    _ handle: SessionHandle, paying amount: UInt128, by voucher: AcceptedVoucher, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.begin(handle, paying: amount, by: voucher, at: now) }
  }

  /// Debits what was held for a request that has succeeded, and ends it; a channel that is closing still pays that. Its voucher, which is for
  /// exactly what is debited now, is the one to claim by, and to tell others: the last one may not have bought anything yet.
  public func charge(
    _ handle: SessionHandle, _ amount: UInt128, by voucher: AcceptedVoucher, context: DebitContext, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.charged(handle, by: voucher)
      let cost = ExactCost(whole: amount)
      _ = try state.extend(handle, fromHeld: cost, held: cost, at: now)
      return state.finish(handle, debited: cost, used: cost, held: .zero, units: 1, context: context, at: now)
    }
  }
}

extension ChannelView {
  /// The voucher by which something was charged last, in a channel of batch-settlement: it is for exactly that. nil where nothing was yet.
  public var charged: AcceptedVoucher? { previous.flatMap { $0.amount == debited ? $0 : nil } }

  /// The voucher to claim by: everybody can read it then, so none that could still buy something.
  public var claimed: AcceptedVoucher { charged ?? voucher }
}

extension LedgerState {
  mutating func begin(
    _ handle: SessionHandle, paying amount: UInt128, by voucher: AcceptedVoucher, at now: Timestamp
  ) throws(Refusal) -> LSN {
    let index = try openSlot(handle)
    try check(voucher, slot: index)
    let cost = ExactCost(whole: amount)
    guard balances[index].inFlight == 0, balances[index].held == .zero, let due = balances[index].total.adding(cost),
      due.ceiling == voucher.amount
    else { throw .channelBusy }
    if voucher.amount > balances[index].deposit {
      let place = Int(balances[index].channel)
      let charged = channels[place]?.previous
      take(voucher, slot: index, at: now)
      channels[place]?.previous = charged
    }
    balances[index].held = cost
    balances[index].inFlight += 1
    balances[index].lastUse = tick
    touchBalance(index)
    return advance(at: now)
  }

  /// Keeps the voucher of a request that is charged by the entry that follows.
  mutating func charged(_ handle: SessionHandle, by voucher: AcceptedVoucher) throws(Refusal) {
    guard availability != .unavailable else { throw .unavailable }
    let index = try slot(handle)
    guard balances[index].phase != .vacant else { throw .sessionClosed }
    guard balances[index].isChannel else { throw .wrongBudgetSource }
    channels[Int(balances[index].channel)]?.previous = voucher
    channels[Int(balances[index].channel)]?.isVoucherDirty = true
    touchBalance(index)
  }
}
