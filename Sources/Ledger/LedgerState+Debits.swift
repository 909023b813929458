import Bytes
import Encoding
import Metering

/// The debits of a session's exchanges: the hot path. Nothing here allocates.
extension LedgerState {
  /// Finds a handle's slot.
  @inline(__always)
  func slot(_ handle: SessionHandle) throws(Refusal) -> Int {
    let index = Int(handle.index)
    guard handle.epoch == epoch else { throw .unavailable }
    guard index < balances.count, balances[index].generation == handle.generation else { throw .sessionClosed }
    return index
  }

  @inline(__always)
  func openSlot(_ handle: SessionHandle) throws(Refusal) -> Int {
    guard availability == .selling else { throw .unavailable }
    let index = try slot(handle)
    switch balances[index].phase {
    case .open: return index
    case .suspended: throw .channelSuspended
    case .unconfirmed: throw .sessionUnconfirmed
    case .closing: throw .sessionClosing
    case .vacant: throw .sessionClosed
    }
  }

  /// Says what a new exchange makes of the total and of what is held.
  @inline(__always)
  func checkBegin(_ index: Int, cost: ExactCost, hold: ExactCost) throws(Refusal) -> (total: ExactCost, held: ExactCost) {
    guard !balances[index].isEnding else { throw .sessionClosing }
    guard balances[index].inFlight < balances[index].maximumInFlight else { throw .tooMany(.inFlight) }
    guard let total = balances[index].total.adding(cost), let held = balances[index].held.adding(hold), let committed = total.adding(held)
    else { throw .overflow }
    let spent = committed.ceiling
    guard spent <= balances[index].deposit else { throw .insufficientBudget(required: spent - balances[index].deposit) }
    return (total, held)
  }

  /// Debits a request ahead, and holds what it may come to cost beside that.
  mutating func begin(
    _ handle: SessionHandle, cost: ExactCost, hold: ExactCost, context: DebitContext, at now: Timestamp
  ) throws(Refusal) -> LSN {
    let index = try openSlot(handle)
    (balances[index].total, balances[index].held) = try checkBegin(index, cost: cost, hold: hold)
    balances[index].inFlight += 1
    balances[index].lastUse = tick
    touchBalance(index)
    guard context.writesLine else { return advance(at: now) }
    return settle(cost, units: context.units, slot: index, context: context, at: now)
  }

  /// Debits the next step of a stream: as much as is wanted and the budget affords.
  mutating func extend(
    _ handle: SessionHandle, rate: Rate, wanted: UInt64, atLeast: UInt64, at now: Timestamp
  ) throws(Refusal) -> (units: UInt64, lsn: LSN) {
    let index = try openSlot(handle)
    // Less than is wanted can be enough, more cannot be.
    let atLeast = min(atLeast, wanted)
    let deposit = balances[index].deposit
    let before = balances[index].committed
    var units = wanted
    var sum = ExactCost(units: units, rate: rate).flatMap { before.adding($0) }
    if sum.map({ $0.ceiling > deposit }) ?? true {
      units = min(wanted, rate.unitsAffordable(spent: before, budget: deposit))
      sum = ExactCost(units: units, rate: rate).flatMap { before.adding($0) }
    }
    guard units >= atLeast, let sum, sum.ceiling <= deposit, let total = sum.subtracting(balances[index].held) else {
      guard let needed = ExactCost(units: atLeast, rate: rate).flatMap({ before.adding($0) }) else { throw .overflow }
      let (required, isEnough) = needed.ceiling.subtractingReportingOverflow(deposit)
      if isEnough { throw .overflow }
      balances[index].required = required
      balances[index].hasWaiting = true
      throw .insufficientBudget(required: required)
    }
    balances[index].total = total
    balances[index].required = 0
    balances[index].lastUse = tick
    touchBalance(index)
    return (units, advance(at: now))
  }

  /// Debits ahead what an exchange comes to cost, out of what is held for it and then out of what the budget has: as much as is wanted.
  mutating func extend(
    _ handle: SessionHandle, cost wanted: ExactCost, atLeast: ExactCost, held: ExactCost, at now: Timestamp
  ) throws(Refusal) -> (cost: ExactCost, lsn: LSN) {
    let index = try openSlot(handle)
    let own = min(held, balances[index].held)
    // What is held for others is theirs.
    let before = balances[index].committed.subtracting(own) ?? .zero
    let deposit = ExactCost(whole: balances[index].deposit)
    var cost = wanted
    if before.adding(cost).map({ $0 > deposit }) ?? true { cost = deposit.subtracting(before) ?? .zero }
    guard cost >= min(atLeast, wanted), let total = balances[index].total.adding(cost) else {
      guard let needed = before.adding(min(atLeast, wanted)) else { throw .overflow }
      let required = needed.ceiling - balances[index].deposit
      balances[index].required = required
      balances[index].hasWaiting = true
      throw .insufficientBudget(required: required)
    }
    balances[index].total = total
    balances[index].held = balances[index].held.subtracting(min(own, cost)) ?? .zero
    balances[index].required = 0
    balances[index].lastUse = tick
    touchBalance(index)
    return (cost, advance(at: now))
  }

  /// Debits what an exchange has used out of what is held for it; a session that is closing still pays that.
  mutating func extend(_ handle: SessionHandle, fromHeld cost: ExactCost, held: ExactCost, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability == .selling else { throw .unavailable }
    let index = try slot(handle)
    guard balances[index].phase != .vacant, balances[index].inFlight > 0 else { throw .sessionClosed }
    // It lies within the deposit already.
    guard cost <= min(held, balances[index].held), let total = balances[index].total.adding(cost),
      let left = balances[index].held.subtracting(cost)
    else { throw .overflow }
    balances[index].total = total
    balances[index].held = left
    touchBalance(index)
    return advance(at: now)
  }

  /// Holds what an exchange may come to cost beside what is held for it: as much as is wanted and the budget has.
  mutating func hold(_ handle: SessionHandle, _ wanted: ExactCost) throws(Refusal) -> ExactCost {
    let index = try openSlot(handle)
    let left = ExactCost(whole: balances[index].deposit).subtracting(balances[index].committed) ?? .zero
    let cost = min(wanted, left)
    guard let held = balances[index].held.adding(cost) else { throw .overflow }
    balances[index].held = held
    return cost
  }

  /// Gives back a part of what an exchange was debited and has not used.
  mutating func retract(_ handle: SessionHandle, _ cost: ExactCost, at now: Timestamp) throws(Refusal) {
    let index = try openSlot(handle)
    guard let total = balances[index].total.subtracting(cost), total >= balances[index].settled else { throw .overflow }
    balances[index].total = total
    touchBalance(index)
    _ = advance(at: now)
  }

  /// Ends an exchange: settles what was used, and gives the rest of what was debited or held back.
  mutating func finish(
    _ handle: SessionHandle, debited: ExactCost, used: ExactCost, held: ExactCost, units: UInt64, context: DebitContext, at now: Timestamp
  ) -> LSN {
    guard availability != .unavailable, let index = try? slot(handle), balances[index].phase != .vacant, balances[index].inFlight > 0 else {
      return 0
    }
    balances[index].inFlight -= 1
    balances[index].lastUse = tick
    if held > .zero { balances[index].held = balances[index].held.subtracting(min(held, balances[index].held)) ?? .zero }
    // More than was debited cannot have been used: nothing is delivered uncharged.
    let used = min(used, debited)
    var last: LSN = 0
    if let rest = debited.subtracting(used), rest > .zero, let total = balances[index].total.subtracting(rest) {
      balances[index].total = total
      touchBalance(index)
      last = context.writesLine ? giveBack(rest, units: units, slot: index, context: context, at: now) : advance(at: now)
    }
    if !context.writesLine, used > .zero {
      touchBalance(index)
      last = settle(used, units: units, slot: index, context: context, at: now)
    }
    if balances[index].phase == .closing, balances[index].inFlight == 0 { last = finalise(index, at: now) }
    return last
  }

  /// Moves part of what is debited to the merchant, with its line.
  @inline(__always)
  private mutating func settle(_ cost: ExactCost, units: UInt64, slot index: Int, context: DebitContext, at now: Timestamp) -> LSN {
    let before = balances[index].settled
    // What is settled never passes the total, which fits the deposit, whatever a caller reports.
    let after = min(before.adding(cost) ?? balances[index].total, balances[index].total)
    balances[index].settled = after
    balances[index].units &+= units
    let spent = after.ceiling
    let amount = spent - before.ceiling
    if balances[index].isChannel { return earn(amount, spent: spent, units: units, slot: index, context: context, at: now) }
    credit(balances[index].merchant, Int128(amount), currency: balances[index].currency)
    return append(line(.sessionDebited, slot: index, amount: amount, spent: spent, units: units, context: context, at: now))
  }

  /// Books a debit from a channel: the merchant gets the part of it that has arrived, which is nothing unless more was settled than spent.
  private mutating func earn(
    _ amount: UInt128, spent: UInt128, units: UInt64, slot index: Int, context: DebitContext, at now: Timestamp, words: EntryWords? = nil
  ) -> LSN {
    let entry = line(.channelDebited, slot: index, amount: amount, spent: spent, units: units, context: context, at: now)
    let earned = balances[index].earned(spent: spent) - balances[index].earned(spent: spent - amount)
    return append(moving(Int128(earned), entry), words: words)
  }

  /// Moves so much between a channel's session and its merchant, and notes it in the line.
  @inline(__always)
  private mutating func moving(_ earned: Int128, _ entry: Entry) -> Entry {
    var entry = entry
    entry.earned = earned.magnitude
    if earned != 0 { credit(entry.merchant, earned, currency: entry.currency) }
    return entry
  }

  /// Takes back from the merchant what was settled when the request began.
  private mutating func giveBack(_ rest: ExactCost, units: UInt64, slot index: Int, context: DebitContext, at now: Timestamp) -> LSN {
    let before = balances[index].settled
    let after = before.subtracting(rest) ?? .zero
    balances[index].settled = after
    let returned = context.units > units ? context.units - units : 0
    balances[index].units &-= min(returned, balances[index].units)
    let spent = after.ceiling
    let amount = before.ceiling - spent
    if balances[index].isChannel {
      let entry = line(.channelReturned, slot: index, amount: amount, spent: spent, units: returned, context: context, at: now)
      return append(moving(-Int128(balances[index].earned(spent: before.ceiling) - balances[index].earned(spent: spent)), entry))
    }
    credit(balances[index].merchant, -Int128(amount), currency: balances[index].currency)
    return append(line(.sessionReturned, slot: index, amount: amount, spent: spent, units: returned, context: context, at: now))
  }

  @inline(__always)
  func line(
    _ kind: AuditEventKind, slot index: Int, amount: UInt128, spent: UInt128, units: UInt64, context: DebitContext, at now: Timestamp
  ) -> Entry {
    var entry = Entry(kind, at: now)
    entry.currency = balances[index].currency
    entry.route = context.route
    entry.session = UInt32(index)
    if balances[index].isChannel { entry.accepted = balances[index].deposit } else { entry.wallet = wallets[Int(balances[index].wallet)].fragment }
    entry.merchant = balances[index].merchant
    entry.client = context.client
    entry.amount = amount
    entry.spent = spent
    entry.units = units
    return entry
  }

  /// Settles what was debited ahead when the program ended: a restart keeps debits.
  mutating func settleAhead(slot index: Int, at now: Timestamp) {
    guard let ahead = balances[index].total.subtracting(balances[index].settled), ahead > .zero else { return }
    let context = DebitContext(route: .none, writesLine: false, units: 0)
    let before = balances[index].settled.ceiling
    balances[index].settled = balances[index].total
    let spent = balances[index].total.ceiling
    touchBalance(index)
    let words = EntryWords(cause: CloseCause.restart.name)
    if balances[index].isChannel {
      _ = earn(spent - before, spent: spent, units: 0, slot: index, context: context, at: now, words: words)
      return
    }
    credit(balances[index].merchant, Int128(spent - before), currency: balances[index].currency)
    _ = append(
      line(.sessionDebited, slot: index, amount: spent - before, spent: spent, units: 0, context: context, at: now), words: words)
  }
}
