import Bytes
import Encoding
import Metering

/// The life of a session: open → closing → closed.
extension LedgerState {
  // MARK: open

  /// Checks everything that an open needs, and says where its money comes from.
  mutating func checkOpen(_ order: SessionOrder, at now: Timestamp) throws(Refusal) -> (wallet: UInt32, currency: UInt8) {
    try checkSelling()
    if let claim = claims[order.challengeID], claim.use == .opened(session: order.sessionID) {
      throw .alreadyOpen(receipt: claim.answer ?? [])
    }
    try checkClaim(order.challengeID, expires: order.expires)
    guard sessionIndex[order.sessionID] == nil, closed[order.sessionID] == nil else { throw .sessionExists }
    guard sessionIndex.count + openings.count < LedgerLimit.openSessions.most else { throw .tooMany(.openSessions) }
    guard closed.count < LedgerLimit.closedSessions.most else { throw .tooMany(.closedSessions) }
    guard order.terms.routes.count <= LedgerLimit.sessionRoutes.most else { throw .tooMany(.sessionRoutes) }
    let currency = try currency(order.terms.currency)
    let wallet = try wallet(order.wallet)
    let day = day(at: now)
    if let limit = wallets[Int(wallet)].limit(
      on: .open(deposit: order.deposit), amount: order.deposit, currency: Int(currency), code: order.terms.currency,
      recipient: order.terms.merchant, day: day, at: clock)
    {
      throw .policy(limit)
    }
    let balance = wallets[Int(wallet)].accounts[Int(currency)].balance
    guard order.deposit <= balance else { throw .insufficientFunds(required: order.deposit, available: balance) }
    return (wallet, currency)
  }

  mutating func open(_ order: SessionOrder, receipt: [UInt8], at now: Timestamp) throws(Refusal) -> (SessionHandle, LSN) {
    let (wallet, currency) = try checkOpen(order, at: now)
    let merchant = try merchant(order.terms.merchant)
    let day = day(at: now)
    try wallets[Int(wallet)].withdraw(order.deposit, currency: Int(currency), day: day)
    wallets[Int(wallet)].openSessions += 1
    touchWallet(wallet)
    touchMerchant(merchant)

    var balance = SessionBalance()
    balance.number = lsn + 1
    balance.phase = .open
    balance.currency = currency
    balance.maximumInFlight = min(order.maximumInFlight, UInt32(LedgerLimit.inFlight.most))
    balance.wallet = wallet
    balance.merchant = merchant
    balance.deposit = order.deposit
    balance.lastUse = tick
    balance.idleMicroseconds = Self.microseconds(order.idleTimeout)
    balance.depositDay = day
    balance.depositOfDay = order.deposit
    let details = SessionDetails(id: order.sessionID, shared: share(order.terms), claims: [order.challengeID])
    let index = addSession(balance, details)
    write(details, number: balance.number)
    touchBalance(Int(index))

    let entry = line(
      .sessionOpened, slot: Int(index), amount: order.deposit, spent: 0, units: 0,
      context: DebitContext(route: order.route, client: order.client, writesLine: true, units: 0), at: now)
    let last = append(entry)
    setClaim(
      order.challengeID,
      Claim(use: .opened(session: order.sessionID), reference: last, expires: order.expires, answer: receipt))
    return (SessionHandle(index: index, generation: balances[Int(index)].generation, epoch: epoch), last)
  }

  /// Puts a session into a slot.
  mutating func addSession(_ balance: SessionBalance, _ more: SessionDetails) -> UInt32 {
    var balance = balance
    let index: UInt32
    if let slot = vacant.popLast() {
      index = slot
      balance.generation = balances[Int(slot)].generation &+ 1
      // The slot may stand in the list of changed ones already.
      balance.isDirty = balances[Int(slot)].isDirty
      balances[Int(slot)] = balance
      details[Int(slot)] = more
    } else {
      index = UInt32(balances.count)
      balance.generation = 1
      balances.append(balance)
      details.append(more)
    }
    sessionIndex[more.id] = index
    fragments.append(.session(index, id: more.id))
    if balance.isChannel, let channel = channels[Int(balance.channel)] { fragments.append(.payer(index, channel.payer)) }
    return index
  }

  static func microseconds(_ duration: Duration) -> Int64 {
    let (seconds, attoseconds) = duration.components
    let (scaled, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000)
    return overflows ? .max : scaled.addingReportingOverflow(attoseconds / 1_000_000_000_000).partialValue
  }

  func handle(_ id: Digest32) -> SessionHandle? {
    guard let index = sessionIndex[id] else { return nil }
    return SessionHandle(index: index, generation: balances[Int(index)].generation, epoch: epoch)
  }

  mutating func addTerms(_ handle: SessionHandle, _ terms: RouteTerms, at now: Timestamp) throws(Refusal) -> LSN {
    let index = try slot(handle)
    guard var more = details[index] else { throw .sessionClosed }
    if more.terms.routes.contains(where: { $0.routeID == terms.routeID }) { return 0 }
    guard more.terms.routes.count < LedgerLimit.sessionRoutes.most else { throw .tooMany(.sessionRoutes) }
    // A channel's account is named by the currency and its chain: `usdc@eip155:8453`.
    let code = balances[index].isChannel ? String(more.terms.currency.prefix { $0 != "@" }) : more.terms.currency
    guard terms.price.currency.code == code else { throw .wrongTerms }
    var wider = more.terms
    wider.routes.append(terms)
    more.shared = share(wider)
    details[index] = more
    write(more, number: balances[index].number)
    return advance(at: now)
  }

  // MARK: top-up

  /// What a top-up came to before it was applied.
  enum TopUpCheck {
    case repeated(answer: [UInt8], lsn: LSN)
    case fresh(slot: Int, deposit: UInt128)
  }

  mutating func checkTopUp(_ order: TopUpOrder, at now: Timestamp) throws(Refusal) -> TopUpCheck {
    if let claim = claims[order.challengeID], claim.use == .toppedUp(session: order.sessionID, credential: order.credential) {
      return .repeated(answer: claim.answer ?? [], lsn: claim.reference)
    }
    try checkSelling()
    guard let index = sessionIndex[order.sessionID].map(Int.init), let more = details[index] else {
      throw closed[order.sessionID] == nil ? .unknownSession : .sessionClosed
    }
    switch balances[index].phase {
    case .open: break
    case .suspended: throw .channelSuspended
    case .unconfirmed: throw .sessionUnconfirmed
    case .closing: throw .sessionClosing
    case .vacant: throw .sessionClosed
    }
    guard !balances[index].isChannel else { throw .wrongBudgetSource }
    let wallet = wallets[Int(balances[index].wallet)]
    guard wallet.key == order.wallet else { throw .wrongWallet }
    guard more.terms.currency == order.currency, more.terms.merchant == order.merchant else { throw .wrongTerms }
    try checkClaim(order.challengeID, expires: order.expires)
    guard more.claims.count <= LedgerLimit.sessionTopUps.most else { throw .tooMany(.sessionTopUps) }
    let (deposit, overflows) = balances[index].deposit.addingReportingOverflow(order.amount)
    guard !overflows else { throw .overflow }
    let currency = Int(balances[index].currency)
    let day = day(at: now)
    if let limit = wallet.limit(
      on: .topUp(deposit: deposit), amount: order.amount, currency: currency, code: order.currency, recipient: order.merchant,
      day: day, at: clock)
    {
      throw .policy(limit)
    }
    let balance = wallet.accounts[currency].balance
    guard order.amount <= balance else { throw .insufficientFunds(required: order.amount, available: balance) }
    return .fresh(slot: index, deposit: deposit)
  }

  mutating func topUp(_ order: TopUpOrder, answer: [UInt8], at now: Timestamp) throws(Refusal) -> (answer: [UInt8], lsn: LSN) {
    switch try checkTopUp(order, at: now) {
    case .repeated(let answer, let lsn):
      return (answer, lsn)
    case .fresh(let index, let deposit):
      let day = day(at: now)
      let wallet = balances[index].wallet
      try wallets[Int(wallet)].withdraw(order.amount, currency: Int(balances[index].currency), day: day)
      touchWallet(wallet)
      balances[index].deposit = deposit
      balances[index].required = 0
      balances[index].lastUse = tick
      if balances[index].depositDay == day {
        balances[index].depositOfDay += order.amount
      } else {
        balances[index].depositDay = day
        balances[index].depositOfDay = order.amount
      }
      touchBalance(index)
      let entry = line(
        .sessionToppedUp, slot: index, amount: order.amount, spent: balances[index].total.ceiling, units: 0,
        context: DebitContext(route: .none, client: order.client, writesLine: true, units: 0), at: now)
      let last = append(entry)
      setClaim(
        order.challengeID,
        Claim(
          use: .toppedUp(session: order.sessionID, credential: order.credential), reference: last, expires: order.expires,
          answer: answer))
      if var more = details[index] {
        more.claims.append(order.challengeID)
        details[index] = more
        write(more, number: balances[index].number)
      }
      hasNews = true
      return (answer, last)
    }
  }

  // MARK: close

  /// Stops a session: no new debit from here on. Closes it at once where nothing is in flight.
  mutating func beginClose(
    _ handle: SessionHandle, cause: CloseCause, claim: Digest32?, at now: Timestamp, receipt: (@Sendable (ReceiptFacts) -> [UInt8])?
  ) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    let index = try slot(handle)
    switch balances[index].phase {
    case .vacant: throw .sessionClosed
    case .closing: return lsn
    case .suspended: throw .wrongBudgetSource
    case .unconfirmed where cause != .operated: throw .sessionUnconfirmed
    case .open, .unconfirmed:
      guard !balances[index].isChannel else { throw .wrongBudgetSource }
      return stop(index, cause: cause, claim: claim, at: now, receipt: receipt)
    }
  }

  mutating func stop(
    _ index: Int, cause: CloseCause, claim: Digest32?, at now: Timestamp, receipt: (@Sendable (ReceiptFacts) -> [UInt8])?
  ) -> LSN {
    balances[index].phase = .closing
    balances[index].required = 0
    touchBalance(index)
    hasNews = true
    if var more = details[index] {
      more.cause = cause
      more.closeClaim = claim
      more.closeReceipt = receipt
      details[index] = more
      write(more, number: balances[index].number)
    }
    let last = advance(at: now)
    return balances[index].inFlight == 0 ? finalise(index, at: now) : last
  }

  /// Gives the rest of the budget back to the wallet, and forgets the slot. A channel stays until the chain has closed it.
  mutating func finalise(_ index: Int, at now: Timestamp) -> LSN {
    settleAhead(slot: index, at: now)
    if balances[index].isChannel {
      hasNews = true
      return lsn
    }
    let balance = balances[index]
    guard let more = details[index] else { return lsn }
    let spent = balance.settled.ceiling
    let refunded = balance.deposit - min(spent, balance.deposit)
    wallets[Int(balance.wallet)].giveBack(
      refunded, currency: Int(balance.currency), outflow: min(refunded, balance.depositOfDay), day: balance.depositDay)
    wallets[Int(balance.wallet)].openSessions -= 1
    touchWallet(balance.wallet)
    let cause = more.cause ?? .restart
    let entry = line(
      .sessionClosed, slot: index, amount: refunded, spent: spent, units: balance.units,
      context: DebitContext(route: .none, writesLine: true, units: 0), at: now)
    let last = append(entry, words: EntryWords(cause: cause.name))

    var record = ClosedSession(
      wallet: wallets[Int(balance.wallet)].key, currency: more.terms.currency, merchant: more.terms.merchant, deposit: balance.deposit,
      spent: spent, refunded: refunded, units: balance.units, cause: cause, time: clock, lsn: last, claim: more.closeClaim,
      claims: more.claims.all)
    if let receipt = more.closeReceipt {
      var facts = facts(at: now)
      facts.deposit = balance.deposit
      facts.spent = spent
      facts.refunded = refunded
      facts.units = balance.units
      unanswered.append(Unanswered(id: more.id, epoch: epoch, facts: facts, receipt: receipt))
      record.isPending = true
    }
    bury(index, record, id: more.id)
    return last
  }

  /// Forgets a slot, and keeps what became of it for 24 hours.
  mutating func bury(_ index: Int, _ record: ClosedSession, id: Digest32) {
    let balance = balances[index]
    redo.removeRecord(RecordKey(.session, number: balance.number))
    redo.removeRecord(RecordKey(.balance, number: balance.number))
    balances[index].phase = .vacant
    balances[index].generation &+= 1
    vacated.append(UInt32(index))
    details[index] = nil
    sessionIndex[id] = nil
    closed[id] = record
    expiries.add(.closed(id), at: clock + Self.answerRetention)
    write(record, id: id)
    hasNews = true
  }

  /// Attaches the answer of a close.
  mutating func answer(_ id: Digest32, _ answer: [UInt8], at now: Timestamp) {
    guard var record = closed[id] else { return }
    record.answer = answer
    record.isPending = false
    record.lsn = advance(at: now)
    closed[id] = record
    write(record, id: id)
    hasNews = true
  }

  func facts(at now: Timestamp) -> ReceiptFacts {
    ReceiptFacts(time: now, logSize: checkpoint.size, logRoot: checkpoint.root)
  }

  // MARK: time

  /// Closes what has been idle, channels excepted, and forgets what has expired; looks at a bounded number of things.
  mutating func sweep(at now: Timestamp, tick: Instant) {
    self.tick = tick
    guard availability != .unavailable else { return }
    let end = min(sweepIndex + Self.sweepLimit, balances.count)
    for index in sweepIndex..<end where balances[index].phase == .open && balances[index].inFlight == 0 && !balances[index].isChannel {
      if tick - balances[index].lastUse >= .microseconds(balances[index].idleMicroseconds) {
        _ = stop(index, cause: .idle, claim: nil, at: now, receipt: nil)
      }
    }
    sweepIndex = end >= balances.count ? 0 : end
    forget(at: now)
  }

  /// The most slots, and the most expired things, that one sweep looks at.
  static var sweepLimit: Int { 16_384 }

  private mutating func forget(at now: Timestamp) {
    for item in expiries.take(limit: Self.sweepLimit, at: now) {
      switch item {
      case .claim(let id): forgetClaim(id)
      case .volume(let key): forgetVolume(key, at: now)
      case .payment(let id): forgetPayment(id, at: now)
      case .promise(let id): forgetPromise(id, at: now)
      case .closed(let id):
        guard let record = closed.removeValue(forKey: id) else { continue }
        redo.removeRecord(RecordKey(.closed, id))
        for claim in record.claims { forgetClaim(claim) }
        _ = advance(at: now)
      case .outcome(let key):
        // What is owed for goes with what it owes.
        if let answer = undelivered[key], promises[answer.promise]?.state == .owed {
          expiries.add(.outcome(key), at: now + Self.answerRetention)
          continue
        }
        undelivered.remove(key)
        guard let record = outcomes.removeValue(forKey: key) else { continue }
        outcomeOctets -= record.outcome?.octetCount ?? 0
        redo.removeRecord(RecordKey(.outcome, key))
        _ = advance(at: now)
      }
    }
  }

  private mutating func forgetClaim(_ id: Digest32) {
    guard let claim = claims.removeValue(forKey: id) else { return }
    redo.removeRecord(RecordKey(.claim, id))
    // A clock that is set back must not make a forgotten challenge new again.
    if claim.expires > horizon { horizon = claim.expires }
    _ = advance(at: clock)
  }
}
