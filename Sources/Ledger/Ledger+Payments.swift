public import Bytes
public import Encoding
public import Metering

/// Charges, sessions and idempotency: what the paid part of an exchange calls.
extension Ledger {
  // MARK: charges

  /// Takes a charge's money out of the wallet and claims the challenge, in one entry. Forward when its `lsn` is durable.
  public func hold(_ order: ChargeOrder, at now: Timestamp) throws(Refusal) -> Hold {
    try debit { (state) throws(Refusal) in try state.hold(order, at: now) }
  }

  /// Moves a hold's money to the merchant, and keeps the outcome of an idempotent request. Reply when the number is durable.
  ///
  /// - Parameter staysOpen: part of it may go back when the response has ended: `end` is called then.
  public func settle(
    _ hold: Hold, outcome: StoredOutcome? = nil, staysOpen: Bool = false, at now: Timestamp = .now()
  ) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.settle(hold, outcome: outcome, staysOpen: staysOpen, at: now) }
  }

  /// Ends a charge that stayed open, and gives so much of it back to its wallet (base units); 0 where nothing moves. Given back whole, the
  /// credential that paid may be used again.
  @discardableResult
  public func end(_ hold: Hold, givingBack amount: UInt128, at now: Timestamp = .now()) -> LSN {
    (try? apply { (state) throws(Refusal) in state.end(hold, givingBack: amount, at: now) }) ?? 0
  }

  /// Gives a hold's money back and frees its claim; 0 where the hold has ended already.
  @discardableResult
  public func void(_ hold: Hold, cause: VoidCause, at now: Timestamp = .now()) -> LSN {
    (try? debit { (state) throws(Refusal) in state.void(hold, cause: cause, at: now) }) ?? 0
  }

  /// Tells what a challenge has been used for: the cheap check before a signature is verified.
  public func claimState(_ id: Digest32) -> ClaimState? {
    state.withLock { state in
      guard state.availability != .unavailable, let claim = state.claims[id] else { return nil }
      return state.state(of: claim)
    }
  }

  // MARK: sessions

  /// Opens a session: moves the deposit out of the wallet and records the terms. `receipt` runs outside the lock, before anything is applied.
  public func open(
    _ order: SessionOrder, at now: Timestamp, receipt: (ReceiptFacts) -> [UInt8]
  ) throws(Refusal) -> (SessionHandle, LSN) {
    var facts = try state.withLock { (state) throws(Refusal) -> ReceiptFacts in
      _ = try state.checkOpen(order, at: now)
      return state.facts(at: now)
    }
    facts.deposit = order.deposit
    facts.remaining = order.deposit
    let octets = receipt(facts)
    return try apply { (state) throws(Refusal) in try state.open(order, receipt: octets, at: now) }
  }

  /// Finds an open or closing session. While the ledger is `unavailable` nothing is found.
  public func session(_ id: Digest32) -> SessionHandle? {
    state.withLock { $0.availability == .unavailable ? nil : $0.handle(id) }
  }

  /// Whether a handle is of this epoch; if not, whatever it named is void.
  public func isCurrent(_ handle: SessionHandle) -> Bool { handle.epoch == epoch }

  /// Copies a session's account.
  public func view(_ handle: SessionHandle) -> SessionView? {
    state.withLock { state in
      guard let index = try? state.slot(handle) else { return nil }
      return state.view(index)
    }
  }

  /// Adds a route's terms to a session; nothing where they are recorded already.
  public func addTerms(_ handle: SessionHandle, _ terms: RouteTerms, at now: Timestamp = .now()) throws(Refusal) {
    _ = try apply { (state) throws(Refusal) in try state.addTerms(handle, terms, at: now) }
  }

  /// Debits a request ahead, and counts it as in flight: `finish` has to follow.
  ///
  /// - Throws: `insufficientBudget` with what is missing, `sessionClosing`, `sessionClosed`, `tooMany(.inFlight)`, `unavailable`.
  @inline(__always)
  public func begin(
    _ handle: SessionHandle, cost: ExactCost, hold: ExactCost = .zero, context: DebitContext, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.begin(handle, cost: cost, hold: hold, context: context, at: now) }
  }

  /// Debits the next step of a stream: as many units as are wanted or as the budget affords, at least `atLeast`.
  ///
  /// - Throws: `insufficientBudget` with what a top-up has to add for `atLeast` units.
  public func extend(
    _ handle: SessionHandle, rate: Rate, wanted: UInt64, atLeast: UInt64, at now: Timestamp
  ) throws(Refusal) -> (units: UInt64, lsn: LSN) {
    try debit { (state) throws(Refusal) in try state.extend(handle, rate: rate, wanted: wanted, atLeast: atLeast, at: now) }
  }

  /// Debits ahead what an exchange comes to cost, out of the `held` that is held for it and then out of what the budget has: as much as is
  /// wanted, at least `atLeast`.
  ///
  /// - Throws: `insufficientBudget` with what a top-up has to add for `atLeast`.
  public func extend(
    _ handle: SessionHandle, cost: ExactCost, atLeast: ExactCost, held: ExactCost, at now: Timestamp
  ) throws(Refusal) -> (cost: ExactCost, lsn: LSN) {
    try debit { (state) throws(Refusal) in try state.extend(handle, cost: cost, atLeast: atLeast, held: held, at: now) }
  }

  /// Debits what an exchange has used out of the `held` that is held for it, also where its session is closing by now: what was used before is
  /// owed. Nothing beyond what is held is taken.
  public func extend(_ handle: SessionHandle, fromHeld cost: ExactCost, held: ExactCost, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.extend(handle, fromHeld: cost, held: held, at: now) }
  }

  /// Holds what an exchange may come to cost: as much as is wanted and the budget has. It is nobody else's until the exchange ends; a
  /// restart frees it.
  public func hold(_ handle: SessionHandle, _ cost: ExactCost) throws(Refusal) -> ExactCost {
    try debit { (state) throws(Refusal) in try state.hold(handle, cost) }
  }

  /// Gives a part of what `begin` and `extend` took for an exchange back before its end, because it will not be used.
  ///
  /// - Throws: why nothing was given back: the session is closing, say, and gets all of it back anyway when the exchange ends.
  public func retract(_ handle: SessionHandle, _ cost: ExactCost, at now: Timestamp) throws(Refusal) {
    try debit { (state) throws(Refusal) in try state.retract(handle, cost, at: now) }
  }

  /// Ends an exchange that `begin` counted: `debited` is all that `begin` and `extend` took for it, `used` what it cost, `units` what it used.
  ///
  /// Writes the exchange's line where `context.writesLine` is false, a line of what was returned where it is true. Returns 0 when there is
  /// nothing to wait for.
  @discardableResult
  public func finish(
    _ handle: SessionHandle, debited: ExactCost, used: ExactCost, held: ExactCost = .zero, units: UInt64, context: DebitContext,
    at now: Timestamp
  ) -> LSN {
    (try? apply { (state) throws(Refusal) in
      state.finish(handle, debited: debited, used: used, held: held, units: units, context: context, at: now)
    }) ?? 0
  }

  /// Adds to a session's budget. The same credential again gets the stored answer, and nothing moves.
  public func topUp(
    _ order: TopUpOrder, at now: Timestamp, receipt: (ReceiptFacts) -> [UInt8]
  ) throws(Refusal) -> (answer: [UInt8], lsn: LSN) {
    let check = try state.withLock { (state) throws(Refusal) -> (repeated: (answer: [UInt8], lsn: LSN)?, facts: ReceiptFacts) in
      var facts = state.facts(at: now)
      switch try state.checkTopUp(order, at: now) {
      case .repeated(let answer, let lsn): return ((answer, lsn), facts)
      case .fresh(let index, let deposit):
        facts.deposit = deposit
        facts.spent = state.balances[index].total.ceiling
        facts.remaining = deposit - min(facts.spent, deposit)
        facts.units = state.balances[index].units
        return (nil, facts)
      }
    }
    if let repeated = check.repeated { return repeated }
    let answer = receipt(check.facts)
    return try apply { (state) throws(Refusal) in try state.topUp(order, answer: answer, at: now) }
  }

  /// Stops a session: no new debit from here on; it is closed when nothing is in flight, and `changes` moves then.
  ///
  /// `receipt` makes the answer that `closeResult` returns; it runs outside the lock on whichever thread ends the last exchange, and is lost
  /// in a crash (`closeResult` has no answer then, and facts to make it from).
  public func beginClose(
    _ handle: SessionHandle, cause: CloseCause, claim: Digest32? = nil, at now: Timestamp,
    receipt: (@Sendable (ReceiptFacts) -> [UInt8])? = nil
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.beginClose(handle, cause: cause, claim: claim, at: now, receipt: receipt) }
  }

  /// Tells what became of a close; nil for a session that is open, or unknown, and while the ledger is `unavailable`.
  public func closeResult(_ id: Digest32) -> CloseResult? {
    state.withLock { state in
      guard state.availability != .unavailable else { return nil }
      if let record = state.closed[id] { return record.isPending ? .pending : .closed(record) }
      guard let index = state.sessionIndex[id] else { return nil }
      return state.balances[Int(index)].phase == .closing ? .pending : nil
    }
  }

  /// Keeps an answer for a session that was closed without one.
  @discardableResult
  public func store(answer: [UInt8], ofClosed id: Digest32, at now: Timestamp) -> LSN {
    (try? apply { (state) throws(Refusal) -> LSN in
      state.answer(id, answer, at: now)
      return state.lsn
    }) ?? 0
  }

  /// The answer that an open or top-up with this challenge got.
  public func storedAnswer(_ claim: Digest32) -> [UInt8]? {
    state.withLock { $0.claims[claim]?.answer }
  }

  // MARK: idempotency

  /// Tells what is known of a key; nil when it is new, and while the ledger is `unavailable`. A stored outcome may leave when what was
  /// `applied` by then is durable.
  public func outcome(_ key: OutcomeKey) -> OutcomeState? {
    state.withLock { $0.availability == .unavailable ? nil : $0.outcome(key) }
  }

  /// Marks a session request's key as in flight; a charge does so with its hold.
  public func reserve(_ key: OutcomeKey) throws(Refusal) {
    try apply { (state) throws(Refusal) in try state.reserve(key) }
  }

  /// Frees a key whose request was not paid for.
  public func release(_ key: OutcomeKey) {
    try? apply { (state) throws(Refusal) in state.release(key) }
  }

  /// Keeps the outcome of a session's request for 24 hours.
  @discardableResult
  public func store(_ outcome: StoredOutcome, for key: OutcomeKey, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) -> LSN in
      guard state.availability != .unavailable else { throw .unavailable }
      state.store(outcome, for: key, at: now)
      return state.advance(at: now)
    }
  }

  /// Forgets the outcome of a request that turned out to have cost nothing: it may be tried again with its key.
  public func forget(_ key: OutcomeKey, at now: Timestamp) {
    try? apply { (state) throws(Refusal) in
      state.forget(key)
      _ = state.advance(at: now)
    }
  }

  // MARK: time

  /// Closes idle sessions and forgets what has expired: each second, by the committer where `LedgerOptions.sweeps` says so.
  public func sweep(at now: Timestamp) {
    try? apply { (state) throws(Refusal) in state.sweep(at: now, tick: Instant.now()) }
  }

  /// The audit log's last durable checkpoint: how many lines it covers, and their tree's root.
  public var lastCheckpoint: (size: UInt64, root: Digest32) {
    state.withLock { $0.checkpoint }
  }
}
