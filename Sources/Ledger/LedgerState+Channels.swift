import Bytes
import Encoding
import HTTP
import Metering

/// Sessions whose budget is a payment channel's last voucher.
///
/// With S what has arrived and P what was spent, the merchant's part of it is min(S, P) and the session's the rest. Neither the deposit in the
/// escrow nor a voucher is money in the books: both are somebody else's until the chain has paid.
extension LedgerState {
  // MARK: finding

  /// Finds a channel's slot.
  func channelSlot(_ id: Digest32) throws(Refusal) -> Int {
    guard availability != .unavailable else { throw .unavailable }
    guard let index = sessionIndex[id].map(Int.init) else { throw closed[id] == nil ? .unknownSession : .sessionClosed }
    guard balances[index].isChannel else { throw .wrongBudgetSource }
    return index
  }

  /// Finds what is kept of a slot's channel beside its balance.
  func channel(slot index: Int) -> Channel? {
    balances[index].isChannel ? channels[Int(balances[index].channel)] : nil
  }

  /// Changes a channel in its place; the entry that follows makes it what it is.
  mutating func change(_ index: Int, _ body: (inout Channel) -> Void) {
    channels[Int(balances[index].channel)]?.change(as: lsn + 1, body)
    touchBalance(index)
  }

  // MARK: deposits

  /// Refuses a deposit that could not be booked once the chain has it.
  func check(_ deposit: EscrowDeposit, of payment: ChainPaymentOrder) throws(Refusal) {
    switch deposit {
    case .topUp(let id):
      let index = try channelSlot(id)
      guard let more = details[index], more.terms.currency == payment.currency, more.terms.merchant == payment.merchant else {
        throw .wrongTerms
      }
      if balances[index].phase == .closing || channel(slot: index)?.account.isFinalized ?? true { throw .sessionClosing }
    case .open(let order):
      guard order.terms.currency == payment.currency, order.terms.merchant == payment.merchant else { throw .wrongTerms }
      try check(order)
    }
  }

  /// Refuses a channel that cannot be kept.
  private func check(_ order: ChannelOrder) throws(Refusal) {
    guard sessionIndex[order.id] == nil, order.isResumable || closed[order.id] == nil else { throw .sessionExists }
    guard openings[order.id] == nil else { throw .claimInFlight }
    guard Self.isName(order.payer) else { throw .malformedName }
    guard sessionIndex.count + openings.count < LedgerLimit.openSessions.most else { throw .tooMany(.openSessions) }
    guard closed.count < LedgerLimit.closedSessions.most else { throw .tooMany(.closedSessions) }
    guard order.terms.routes.count <= LedgerLimit.sessionRoutes.most else { throw .tooMany(.sessionRoutes) }
    guard order.descriptor.count <= LedgerLimit.channelDescriptor.most else { throw .tooMany(.channelDescriptor) }
    try Self.check(order.voucher)
  }

  /// Refuses a voucher that cannot be kept.
  static func check(_ voucher: AcceptedVoucher) throws(Refusal) {
    guard voucher.signature.count <= LedgerLimit.voucherSignature.most else { throw .tooMany(.voucherSignature) }
    guard voucher.amount <= issueLimit else { throw .overflow }
  }

  /// Makes the channel that a payment opened, or renews the one that it topped up; the payment is used up.
  mutating func deposited(
    _ id: Digest32, _ account: ChannelAccount, transaction: Digest32?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard let payment = payments[id] else { throw .unknownPayment }
    switch payment.state {
    case .claimed, .submitted: break
    case .served, .settled, .serving, .writtenOff:
      guard payment.channel != nil else { throw .claimSettled(reference: payment.reference) }
      return payment.changed
    }
    let transaction = transaction ?? payment.transaction
    switch payment.deposit {
    case nil: throw .paymentMismatch
    case .open(let order):
      let terms = (currency: payment.currency, merchant: payment.merchant)
      return try open(order, account, terms, by: id, transaction: transaction, at: now)
    case .topUp(let channel):
      let index = try channelSlot(channel)
      useUp(deposit: id, transaction: transaction, at: now)
      renew(index, account)
      let deposit = self.channel(slot: index)?.account.deposit ?? account.deposit
      return append(channelLine(.channelToppedUp, slot: index, at: now), words: words(slot: index) { chain in
        chain.deposit = deposit
        chain.payment = id
        chain.transaction = transaction
      })
    }
  }

  /// Makes a channel that the chain knows already.
  mutating func adopted(_ order: ChannelOrder, _ account: ChannelAccount, at now: Timestamp) throws(Refusal) -> LSN {
    try checkSelling()
    try check(order)
    let terms = (currency: try currency(order.terms.currency), merchant: try merchant(order.terms.merchant))
    return try open(order, account, terms, by: nil, transaction: nil, at: now)
  }

  private mutating func open(
    _ order: ChannelOrder, _ account: ChannelAccount, _ terms: (currency: UInt8, merchant: UInt32), by id: Digest32?, transaction: Digest32?,
    at now: Timestamp
  ) throws(Refusal) -> LSN {
    guard sessionIndex[order.id] == nil, order.isResumable || closed[order.id] == nil else { throw .sessionExists }
    guard order.voucher.amount <= account.deposit, order.voucher.amount >= account.settled else { throw .beyondDeposit }
    guard order.isResumable || fits(account.settled, terms.currency) else { throw .overflow }
    if closed.removeValue(forKey: order.id) != nil { redo.removeRecord(RecordKey(.closed, order.id)) }
    var balance = SessionBalance()
    balance.number = lsn + 1
    balance.phase = .open
    balance.currency = terms.currency
    balance.maximumInFlight = min(order.maximumInFlight, UInt32(LedgerLimit.inFlight.most))
    balance.merchant = terms.merchant
    balance.deposit = order.voucher.amount
    balance.lastUse = tick
    balance.idleMicroseconds = Self.microseconds(order.idleTimeout)
    // What was settled before this ledger knew the channel was spent before it, too.
    balance.settled = ExactCost(whole: account.settled)
    balance.total = balance.settled
    if order.isResumable { balance.arrived = account.settled }
    var channel = Channel(
      id: order.id, chain: order.chain, payer: order.payer, descriptor: order.descriptor, challengeID: order.challengeID,
      openedBy: transaction, opened: now, account: account, voucher: order.voucher, lastUse: now)
    channel.unsettledSince = order.voucher.amount > account.settled ? now : nil
    channel.isDirty = true
    channel.isVoucherDirty = true
    channel.accepted = lsn + 1
    channel.changed = lsn + 1
    let details = SessionDetails(id: order.id, shared: share(order.terms), claims: [])
    let index = Int(addChannel(channel, balance, details))
    write(details, number: balance.number)
    touchBalance(index)
    if let id { useUp(deposit: id, transaction: transaction, at: now) }
    var entry = channelLine(.channelOpened, slot: index, at: now)
    entry.route = order.route
    entry.client = order.client
    let last = append(entry, words: words(slot: index) { chain in
      chain.deposit = account.deposit
      chain.payment = id
      chain.transaction = transaction
    })
    hasNews = true
    return account.settled == balance.arrived ? last : book(index, account.settled, transaction: nil, at: now)
  }

  /// Marks a deposit as used up by the entry that follows.
  private mutating func useUp(deposit id: Digest32, transaction: Digest32?, at now: Timestamp) {
    // What opened a channel is sent again where the chain takes it back.
    if case .open(let order) = payments[id]?.deposit { openings[order.id] = nil } else { payments[id]?.proof = [] }
    close(payment: id)
    if let transaction { payments[id]?.transaction = transaction }
    payments[id]?.deposit = nil
    useUp(id, as: .served, at: now)
  }

  /// Puts a channel into a slot.
  mutating func addChannel(_ channel: Channel, _ balance: SessionBalance, _ more: SessionDetails) -> UInt32 {
    var balance = balance
    balance.wallet = .max
    balance.isEnding = channel.account.isEnding
    if let place = vacantChannels.popLast() {
      balance.channel = place
      channels[Int(place)] = channel
    } else {
      balance.channel = UInt32(channels.count)
      channels.append(channel)
    }
    let index = addSession(balance, more)
    channels[Int(balance.channel)]?.slot = index
    if balance.phase == .closing { closingChannels.insert(more.id) }
    return index
  }

  // MARK: vouchers

  /// Refuses a voucher that a channel cannot take as its budget.
  @inline(__always)
  func check(_ voucher: AcceptedVoucher, slot index: Int) throws(Refusal) {
    guard balances[index].isChannel, let channel = channels[Int(balances[index].channel)] else { throw .wrongBudgetSource }
    guard !balances[index].isEnding else { throw .sessionClosing }
    guard voucher.amount > balances[index].deposit else { return }
    guard voucher.amount <= channel.account.deposit else { throw .beyondDeposit }
    try Self.check(voucher)
  }

  /// Makes a voucher the last one; the entry that follows makes it durable.
  mutating func take(_ voucher: AcceptedVoucher, slot index: Int, at now: Timestamp) {
    balances[index].deposit = voucher.amount
    balances[index].required = 0
    balances[index].lastUse = tick
    if balances[index].hasWaiting {
      balances[index].hasWaiting = false
      hasNews = true
    }
    channels[Int(balances[index].channel)]?.take(voucher, as: lsn + 1, exceeds: balances[index].arrived, at: now)
    touchBalance(index)
  }

  mutating func prove(_ handle: SessionHandle, by challenge: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    let index = try slot(handle)
    guard balances[index].phase != .vacant else { throw .sessionClosed }
    guard let channel = channel(slot: index) else { throw .wrongBudgetSource }
    guard channel.challengeID != challenge, !channel.proofs.contains(challenge) else { return channel.changed }
    change(index) { channel in
      if channel.proofs.count >= LedgerLimit.channelProofs.most { channel.proofs.removeFirst() }
      channel.proofs.append(challenge)
    }
    return advance(at: now)
  }

  mutating func accept(_ handle: SessionHandle, _ voucher: AcceptedVoucher, at now: Timestamp) throws(Refusal) -> LSN {
    let index = try openSlot(handle)
    try check(voucher, slot: index)
    guard voucher.amount > balances[index].deposit else { return channel(slot: index)?.accepted ?? lsn }
    take(voucher, slot: index, at: now)
    return advance(at: now)
  }

  /// Accepts a voucher and debits a request ahead in one entry; where the debit is refused, the voucher is not accepted either.
  mutating func begin(
    _ handle: SessionHandle, accepting voucher: AcceptedVoucher, cost: ExactCost, hold: ExactCost, context: DebitContext, at now: Timestamp
  ) throws(Refusal) -> LSN {
    let index = try openSlot(handle)
    try check(voucher, slot: index)
    let budget = balances[index].deposit
    guard voucher.amount > budget else { return try begin(handle, cost: cost, hold: hold, context: context, at: now) }
    balances[index].deposit = voucher.amount
    do throws(Refusal) {
      _ = try checkBegin(index, cost: cost, hold: hold)
    } catch {
      balances[index].deposit = budget
      throw error
    }
    take(voucher, slot: index, at: now)
    return try begin(handle, cost: cost, hold: hold, context: context, at: now)
  }

  // MARK: the chain

  /// Takes what a chain says of a channel. Several ask it at once, and nodes lag: what is less than what is known was asked for earlier, unless
  /// blocks were taken back.
  private mutating func renew(_ index: Int, _ account: ChannelAccount, lowering believed: ChannelAccount? = nil) {
    guard let known = channel(slot: index)?.account else { return }
    var account = account
    if believed != known { account.deposit = max(account.deposit, known.deposit) }
    // What is on its way back may lie there still.
    if let returning = channel(slot: index)?.returning, account.deposit > known.deposit {
      account.deposit = max(known.deposit, account.deposit - min(returning, account.deposit))
    }
    account.settled = max(account.settled, known.settled)
    account.isFinalized = account.isFinalized || known.isFinalized
    guard account != known else { return }
    change(index) { $0.account = account }
    if balances[index].isEnding != account.isEnding {
      balances[index].isEnding = account.isEnding
      hasNews = true
    }
  }

  mutating func observed(_ id: Digest32, _ account: ChannelAccount, lowering known: ChannelAccount?, at now: Timestamp) throws(Refusal) -> LSN {
    let index = try channelSlot(id)
    let before = channel(slot: index)?.account
    renew(index, account, lowering: known)
    return channel(slot: index)?.account == before ? 0 : advance(at: now)
  }

  mutating func suspend(_ id: Digest32, _ isSuspended: Bool, at now: Timestamp) throws(Refusal) -> LSN {
    let index = try channelSlot(id)
    switch (balances[index].phase, isSuspended) {
    case (.open, true): balances[index].phase = .suspended
    case (.suspended, false): balances[index].phase = .open
    case (.open, false), (.suspended, true), (.closing, _), (.vacant, _), (.unconfirmed, _): return channel(slot: index)?.changed ?? 0
    }
    change(index) { _ in }
    hasNews = true
    return append(channelLine(isSuspended ? .channelSuspended : .channelResumed, slot: index, at: now), words: words(slot: index) { _ in })
  }

  /// Puts a channel's transaction into the outbox and marks it as under way, in one entry.
  mutating func submitted(
    channel id: Digest32, outgoing transaction: OutgoingTransaction, isClose: Bool, publishing amount: UInt128?, returning returned: UInt128?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    let index = try channelSlot(id)
    guard transaction.purpose == id else { throw .paymentMismatch }
    guard let channel = channel(slot: index) else { throw .unknownSession }
    if channel.underWay == transaction.hash, channel.isCloseUnderWay == isClose { return channel.changed }
    guard channel.underWay == nil else { throw .channelBusy }
    // What is still being spent is not known yet.
    guard !isClose || balances[index].phase == .closing && balances[index].inFlight == 0 else { throw .channelBusy }
    if let returned {
      let (rest, isBelow) = channel.account.deposit.subtractingReportingOverflow(returned)
      guard !isClose, !isBelow, balances[index].phase == .open, balances[index].inFlight == 0, rest >= balances[index].deposit else { throw .channelBusy }
    }
    try add(transaction)
    change(index) { channel in
      channel.underWay = transaction.hash
      channel.isCloseUnderWay = isClose
      channel.returning = returned
      channel.account.deposit -= returned ?? 0
      if let amount { channel.published = max(channel.published ?? 0, amount) }
    }
    return advance(at: now)
  }

  /// Notes that a channel's transaction has another version; the caller's entry follows.
  mutating func setUnderWay(_ id: Digest32, from known: Digest32, to hash: Digest32) {
    guard let index = sessionIndex[id].map(Int.init), channel(slot: index)?.underWay == known else { return }
    change(index) { $0.underWay = hash }
  }

  mutating func abandoned(channel id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    let index = try channelSlot(id)
    guard let channel = channel(slot: index), channel.underWay != nil else { return channel(slot: index)?.changed ?? 0 }
    change(index) { channel in
      channel.underWay = nil
      channel.returning = nil
      channel.isCloseUnderWay = false
    }
    return advance(at: now)
  }

  /// Books what has arrived by a settlement.
  mutating func settled(
    channel id: Digest32, _ account: ChannelAccount, transaction: Digest32?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    let index = try channelSlot(id)
    guard let before = channel(slot: index) else { throw .unknownSession }
    let arrived = balances[index].arrived
    guard account.settled <= arrived || fits(account.settled - arrived, balances[index].currency) else { throw .overflow }
    renew(index, account)
    let isOver = transaction != nil && before.underWay != nil && (!before.isCloseUnderWay || before.underWay == transaction)
    if isOver {
      change(index) { channel in
        channel.underWay = nil
        channel.returning = nil
        channel.isCloseUnderWay = false
      }
    }
    if account.settled > arrived { return book(index, account.settled, transaction: transaction, at: now) }
    guard isOver || channel(slot: index)?.account != before.account else { return before.changed }
    return advance(at: now)
  }

  /// Books what has arrived beyond what was booked before, with its line.
  private mutating func book(_ index: Int, _ settled: UInt128, transaction: Digest32?, at now: Timestamp) -> LSN {
    let spent = balances[index].settled.ceiling
    let before = balances[index].earned(spent: spent)
    let paid = settled - balances[index].arrived
    balances[index].arrived = settled
    issue(paid, currency: balances[index].currency)
    var entry = channelLine(.channelSettled, slot: index, at: now)
    entry.amount = paid
    entry.earned = balances[index].earned(spent: spent) - before
    if entry.earned > 0 { credit(entry.merchant, Int128(entry.earned), currency: entry.currency) }
    let isUnsettled = balances[index].deposit > settled
    change(index) { channel in
      channel.unsettledSince = isUnsettled ? now : nil
      channel.isVoucherDirty = true
    }
    return append(entry, words: words(slot: index) { $0.transaction = transaction })
  }

  /// Counts money that has arrived. It was found to fit.
  private mutating func issue(_ amount: UInt128, currency: UInt8) {
    guard amount > 0 else { return }
    currencies[Int(currency)].issued += amount
    touchCurrency(currency)
  }

  // MARK: close

  mutating func beginClose(
    _ handle: SessionHandle, cause: CloseCause, voucher: AcceptedVoucher?, claim: (id: Digest32, expires: Timestamp)?, onlyAtRest: Bool,
    at now: Timestamp
  ) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    let index = try slot(handle)
    guard balances[index].phase != .vacant else { throw .sessionClosed }
    guard !onlyAtRest || balances[index].phase == .closing || balances[index].inFlight == 0 else { throw .channelBusy }
    guard let channel = channel(slot: index), var more = details[index] else { throw .wrongBudgetSource }
    // The payer brings the voucher that pays for what the books know; what was spent after the backup they do not.
    if balances[index].phase == .unconfirmed, cause == .payer { throw .sessionUnconfirmed }
    if let voucher { try Self.check(voucher) }
    let isFirst = balances[index].phase != .closing
    let takesVoucher = voucher != nil && channel.closing == nil
    guard isFirst || takesVoucher else { return channel.changed }
    if let claim, more.closeClaim == nil {
      more.closeClaim = claim.id
      if claims[claim.id] == nil, claim.expires > horizon, claims.count < LedgerLimit.claims.most {
        setClaim(claim.id, Claim(use: .closed(session: more.id), reference: lsn + 1, expires: claim.expires))
        more.claims.append(claim.id)
      }
    }
    if isFirst { more.cause = cause }
    details[index] = more
    write(more, number: balances[index].number)
    change(index) { channel in
      if takesVoucher { channel.closing = voucher }
    }
    balances[index].phase = .closing
    balances[index].required = 0
    closingChannels.insert(more.id)
    hasNews = true
    return advance(at: now)
  }

  /// Books the end of a channel, and forgets its slot.
  mutating func closed(
    channel id: Digest32, captured: UInt128, refunded: UInt128, transaction: Digest32?, at now: Timestamp
  ) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    if let record = closed[id], record.channel != nil { return record.lsn }
    let index = try channelSlot(id)
    guard balances[index].inFlight == 0 else { throw .channelBusy }
    guard let channel = channel(slot: index), let more = details[index] else { throw .unknownSession }
    // What is booked was confirmed, so a chain that says less is not believed.
    let captured = max(captured, balances[index].arrived)
    guard fits(captured - balances[index].arrived, balances[index].currency) else { throw .overflow }
    settleAhead(slot: index, at: now)
    let balance = balances[index]
    let spent = balance.settled.ceiling
    let paid = captured - balance.arrived
    let outcome = ClosedChannel(
      chain: channel.chain, payer: channel.payer, deposit: channel.account.deposit, captured: captured,
      overpaid: captured > spent ? captured - spent : 0, lost: spent > captured ? spent - captured : 0, transaction: transaction)
    issue(paid, currency: balance.currency)
    var entry = channelLine(.channelClosed, slot: index, at: now)
    entry.amount = paid
    // The session's part is the merchant's in the end, whatever it was for.
    entry.earned = captured - balance.earned(spent: spent)
    credit(entry.merchant, Int128(entry.earned), currency: entry.currency)
    let cause = more.cause ?? .forced
    var words = words(slot: index) { chain in
      chain.captured = captured
      chain.refunded = refunded
      chain.overpaid = outcome.overpaid
      chain.lost = outcome.lost
      chain.transaction = transaction
    }
    words.cause = cause.name
    let last = append(entry, words: words)
    let record = ClosedSession(
      wallet: Digest32(), currency: more.terms.currency, merchant: more.terms.merchant, deposit: balance.deposit, spent: spent,
      refunded: refunded, units: balance.units, cause: cause, time: clock, lsn: last, claim: more.closeClaim, claims: more.claims.all,
      channel: outcome)
    redo.removeRecord(RecordKey(.channel, number: balance.number))
    redo.removeRecord(RecordKey(.voucher, number: balance.number))
    channels[Int(balance.channel)] = nil
    vacantChannels.append(balance.channel)
    closingChannels.remove(id)
    bury(index, record, id: id)
    return last
  }

  // MARK: lines

  private func channelLine(_ kind: AuditEventKind, slot index: Int, at now: Timestamp) -> Entry {
    line(
      kind, slot: index, amount: 0, spent: balances[index].settled.ceiling, units: balances[index].units,
      context: DebitContext(route: .none, writesLine: true, units: 0), at: now)
  }

  private func words(slot index: Int, _ body: (inout ChainWords) -> Void) -> EntryWords {
    var chain = ChainWords()
    chain.payer = channel(slot: index)?.payer
    body(&chain)
    return EntryWords(chain: chain)
  }
}
