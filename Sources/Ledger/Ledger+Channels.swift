public import Bytes
public import Encoding
public import Metering

/// Sessions over payment channels. Every change returns the number that has to be durable before anything follows from it.
///
/// A channel is a session: `session`, `view`, `figures`, `begin`, `extend`, `hold`, `retract`, `finish`, `addTerms` and `closeResult` are as for
/// wallets' sessions; its budget is the amount of the last voucher that was accepted. A payment with `ChainPaymentOrder.deposit` opens it or tops
/// it up: claimed and submitted as other payments are, then ended by ``deposited(_:_:transaction:at:)``.
extension Ledger {
  // MARK: deposits

  /// Makes the channel that a payment opened, its budget the first voucher's amount, or renews what is known of the one that it topped up. The
  /// payment is used up then. Moves no money. Once is enough, and more changes nothing.
  ///
  /// - Throws: `unknownPayment`, `paymentMismatch` for a payment that is no deposit, `sessionExists`, `beyondDeposit` where the voucher's amount
  ///   is not between what is settled and what lies in the escrow; `unknownSession` or `sessionClosed` for a top-up; `unavailable`.
  public func deposited(
    _ id: Digest32, _ account: ChannelAccount, transaction: Digest32?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.deposited(id, account, transaction: transaction, at: now) }
  }

  /// Makes a channel that the chain knows and this ledger does not, as after a restored copy, its budget the voucher's amount. Moves no money:
  /// what was settled before is not booked.
  ///
  /// - Throws: `sessionExists`, `claimInFlight` while a payment opens it, `beyondDeposit`, what claiming its opening would, `unavailable`.
  public func adopted(_ order: ChannelOrder, _ account: ChannelAccount, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.adopted(order, account, at: now) }
  }

  // MARK: vouchers

  /// Takes a voucher whose signature was verified as the channel's budget; wakes streams that wait. One that amounts to no more than the last
  /// changes nothing: the number is the last acceptance's then.
  ///
  /// - Throws: `sessionClosing` (also where the chain is about to close it), `sessionClosed`, `channelSuspended`, `beyondDeposit`,
  ///   `wrongBudgetSource` for a wallet's session, `tooMany(.voucherSignature)`, `unavailable`.
  public func accept(_ handle: SessionHandle, _ voucher: AcceptedVoucher, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.accept(handle, voucher, at: now) }
  }

  /// Accepts a voucher and debits a request ahead, in one entry: `finish` has to follow. Where the debit is refused the voucher is not accepted.
  ///
  /// - Throws: what `accept` and `begin` do; `insufficientBudget` is what is missing beyond this voucher.
  public func begin(
    _ handle: SessionHandle, accepting voucher: AcceptedVoucher, cost: ExactCost, hold: ExactCost = .zero, context: DebitContext,
    at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.begin(handle, accepting: voucher, cost: cost, hold: hold, context: context, at: now)
    }
  }

  /// Remembers a challenge as the payer's: by it came a voucher that nobody else can have. The oldest is forgotten where there are more than
  /// `LedgerLimit.channelProofs`.
  ///
  /// - Throws: `sessionClosed`, `wrongBudgetSource` for a wallet's session, `unavailable`.
  public func prove(_ handle: SessionHandle, by challenge: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.prove(handle, by: challenge, at: now) }
  }

  // MARK: the chain

  /// Takes what a chain says of a channel; 0 where that is nothing new. What is settled never falls, and is not booked by this: `settled` does
  /// that once it is confirmed. A requested or finished close stops acceptance and new exchanges; a request that is gone lets them go on.
  ///
  /// - Parameter known: what was known when the chain was asked, where blocks may have been taken back: a deposit that is less is believed then,
  ///   as long as that is known still. Otherwise who says so was merely asked earlier than somebody else.
  /// - Throws: `unknownSession`, `sessionClosed`, `wrongBudgetSource`, `unavailable`.
  public func observed(_ channel: Digest32, _ account: ChannelAccount, lowering known: ChannelAccount? = nil, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.observed(channel, account, lowering: known, at: now) }
  }

  /// Suspends a channel whose opening vanished from the chain, or resumes it when that is back. One that is closing stays so.
  public func suspend(_ channel: Digest32, _ isSuspended: Bool, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.suspend(channel, isSuspended, at: now) }
  }

  /// Puts the transaction that settles or closes a channel into the outbox and marks it as under way, in one entry; durable before it is sent.
  ///
  /// - Parameters:
  ///   - amount: what the voucher is for that is handed out with it; nil where none is.
  ///   - returned: what it gives back to the payer of a channel that stays open; out of the deposit from this entry on.
  /// - Throws: `channelBusy` while another is under way, for a close unless the channel is closing with nothing in flight, and for what goes back
  ///   unless it is open with nothing in flight and no voucher was accepted for it;
  ///   `paymentMismatch` where the transaction's purpose is not the channel; what `enqueue` throws.
  public func submitted(
    channel: Digest32, outgoing transaction: OutgoingTransaction, isClose: Bool, publishing amount: UInt128? = nil, returning returned: UInt128? = nil,
    at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.submitted(channel: channel, outgoing: transaction, isClose: isClose, publishing: amount, returning: returned, at: now)
    }
  }

  /// Says that what was under way has failed: reverted, or displaced by another transaction.
  public func abandoned(channel: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.abandoned(channel: channel, at: now) }
  }

  /// Books what has arrived by a settlement that is confirmed: `account.settled` beyond what was booked. Once is enough.
  ///
  /// - Parameter transaction: the one that settled; a settlement that was under way is over then. Nil where the chain merely shows the amount.
  /// - Throws: `unknownSession`, `sessionClosed`, `overflow`, `unavailable`.
  public func settled(
    channel: Digest32, _ account: ChannelAccount, transaction: Digest32?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.settled(channel: channel, account, transaction: transaction, at: now) }
  }

  // MARK: close

  /// Stops a channel: no new debit and no voucher from here on, and what is in flight stops. It stays, as `closing`, until `closed` says what the
  /// chain did.
  ///
  /// - Parameters:
  ///   - voucher: the one that its payer closes it with; kept for whoever closes it on the chain. The first one stays.
  ///   - claim: the challenge of the credential that closes it; `ClosedSession.claim` has it later.
  ///   - onlyAtRest: whether nothing is to be stopped for it.
  /// - Throws: `channelBusy` where something is in flight that is not to be stopped; `sessionClosed`, `wrongBudgetSource`, `unavailable`.
  public func beginClose(
    _ handle: SessionHandle, cause: CloseCause, voucher: AcceptedVoucher?, claim: (id: Digest32, expires: Timestamp)? = nil,
    onlyAtRest: Bool = false, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.beginClose(handle, cause: cause, voucher: voucher, claim: claim, onlyAtRest: onlyAtRest, at: now)
    }
  }

  /// Books the end of a channel on its chain, and keeps what became of it for 24 hours. Once is enough.
  ///
  /// - Parameters:
  ///   - captured: what the merchant got out of the channel, all in all, settlements included; base units.
  ///   - refunded: what its payer got back.
  ///   - transaction: the one that closed it; nil where that is unknown.
  /// - Throws: `channelBusy` while exchanges are in flight: `beginClose` stops them; `unknownSession`, `overflow`, `unavailable`.
  public func closed(
    channel: Digest32, captured: UInt128, refunded: UInt128, transaction: Digest32?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.closed(channel: channel, captured: captured, refunded: refunded, transaction: transaction, at: now)
    }
  }

  // MARK: views

  /// Shows a channel that is open, suspended or closing; nil where it is unknown or closed, and while the ledger is `unavailable`.
  public func channel(_ id: Digest32) -> ChannelView? {
    state.withLock { state in
      guard state.availability != .unavailable, let index = state.sessionIndex[id] else { return nil }
      return state.channelView(slot: Int(index))
    }
  }

  /// Finds the proof of the payment that opened a channel, for as long as payments are kept; looks at every payment.
  public func openingProof(of channel: Digest32) -> [UInt8]? {
    state.withLock { state in
      guard state.availability != .unavailable else { return nil }
      return state.payments.values.first { $0.channel == channel && $0.state == .served && !$0.proof.isEmpty }?.proof
    }
  }

  /// Lists channels in the order in which they were opened, from the `offset`-th on.
  public func channels(_ selection: ChannelSelection = .all, from offset: Int = 0, limit: Int = 1_000) -> [ChannelView] {
    let found = state.withLock { $0.availability == .unavailable ? [] : $0.channelList(selection) }
    let page = found.sorted { $0.number < $1.number }.dropFirst(max(0, offset)).prefix(max(0, limit))
    return views(page.map(\.id))
  }

  /// Lists the channels that wait to be closed on the chain: closing, with nothing in flight.
  public func closingChannels() -> [ChannelView] {
    views(state.withLock { $0.availability == .unavailable ? [] : $0.closingChannels.sorted() }).filter { $0.phase == .closing && $0.inFlight == 0 }
  }

  /// Lists every channel of a chain that is not closed yet, whatever its phase.
  public func openChannels(chain: UInt64) -> [ChannelView] { channels(.chain(chain), limit: .max) }

  /// Adds up what channels owe, by currency: looks at every channel once.
  public func channelTotals() -> [ChannelTotals] {
    state.withLock { $0.availability == .unavailable ? [] : $0.channelTotals() }
  }

  /// Copies channels, a few at a time so that others go on.
  private func views(_ ids: [Digest32]) -> [ChannelView] {
    var views: [ChannelView] = []
    views.reserveCapacity(ids.count)
    for start in stride(from: 0, to: ids.count, by: Self.viewPage) {
      state.withLock { state in
        for id in ids[start..<min(start + Self.viewPage, ids.count)] {
          if let index = state.sessionIndex[id], let view = state.channelView(slot: Int(index)) { views.append(view) }
        }
      }
    }
    return views
  }

  /// The most channels that are copied under the lock at once.
  private static var viewPage: Int { 256 }
}

extension LedgerState {
  /// Names the channels that a selection has, with their numbers.
  func channelList(_ selection: ChannelSelection) -> [(id: Digest32, number: UInt64)] {
    channels.compactMap { channel in
      guard let channel else { return nil }
      let balance = balances[Int(channel.slot)]
      let isSelected =
        switch selection {
        case .all: true
        case .phase(let phase): Self.phase(balance.phase) == phase
        case .chain(let chain): channel.chain == chain
        case .unsettled: balance.deposit > balance.arrived
        }
      return isSelected ? (channel.id, balance.number) : nil
    }
  }

  private static func phase(_ phase: SessionPhase) -> ChannelPhase {
    switch phase {
    case .open: .open
    case .suspended: .suspended
    case .unconfirmed: .unconfirmed
    case .closing, .vacant: .closing
    }
  }

  func channelView(slot index: Int) -> ChannelView? {
    guard let channel = channel(slot: index), let more = details[index] else { return nil }
    let balance = balances[index]
    // Nothing was used in this run where the instant is zero.
    let isUsed = balance.lastUse != Instant(nanoseconds: 0)
    let silence: Duration = tick - balance.lastUse
    let used = isUsed ? clock - silence : channel.lastUse
    return ChannelView(
      handle: SessionHandle(index: UInt32(index), generation: balance.generation, epoch: epoch), id: more.id, chain: channel.chain,
      payer: channel.payer, currency: more.terms.currency, merchant: more.terms.merchant, descriptor: channel.descriptor,
      voucher: channel.voucher, previous: channel.previous, closing: channel.closing, account: channel.account,
      phase: Self.phase(balance.phase), budget: balance.deposit, spent: balance.committed.ceiling, debited: balance.settled.ceiling, booked: balance.arrived,
      inFlight: balance.inFlight, unsettledSince: channel.unsettledSince, underWay: channel.underWay,
      isCloseUnderWay: channel.isCloseUnderWay, openedBy: channel.openedBy, cause: more.cause, lastUse: max(used, channel.lastUse),
      idleTimeout: .microseconds(balance.idleMicroseconds), opened: channel.opened, terms: more.terms, published: channel.published,
      challengeID: channel.challengeID, proofs: channel.proofs, returning: channel.returning, changed: channel.changed)
  }

  func channelTotals() -> [ChannelTotals] {
    var sums = [(count: [ChannelPhase: Int], earned: UInt128, claimable: UInt128)](repeating: ([:], 0, 0), count: currencies.count)
    for channel in channels {
      guard let channel else { continue }
      let balance = balances[Int(channel.slot)]
      let currency = Int(balance.currency)
      sums[currency].count[Self.phase(balance.phase), default: 0] += 1
      let spent = balance.settled.ceiling
      // Vouchers fit 127 bits each, and sums that pass 128 are shown as the most there is.
      sums[currency].earned = Self.clamped(sums[currency].earned, spent - min(spent, balance.arrived))
      sums[currency].claimable = Self.clamped(sums[currency].claimable, balance.deposit - min(balance.deposit, balance.arrived))
    }
    return zip(currencies, sums).compactMap { accounts, sum in
      guard !sum.count.isEmpty else { return nil }
      return ChannelTotals(
        currency: accounts.code, open: sum.count[.open] ?? 0, suspended: (sum.count[.suspended] ?? 0) + (sum.count[.unconfirmed] ?? 0), closing: sum.count[.closing] ?? 0,
        earned: sum.earned, claimable: sum.claimable)
    }
  }

  private static func clamped(_ a: UInt128, _ b: UInt128) -> UInt128 {
    let (sum, overflows) = a.addingReportingOverflow(b)
    return overflows ? .max : sum
  }
}
