import Bytes
import Encoding
import HTTP

/// The life of a promise: promised → serving → owed → kept or lost; or promised again where nothing was used.
///
/// Nothing of its money is anybody's before it has arrived: the payment of the same id, which stands in the books as every other, is made when
/// it is known how much is owed.
extension LedgerState {
  mutating func promise(_ order: ChainPaymentOrder, at now: Timestamp) throws(Refusal) -> LSN {
    try checkSelling()
    if let known = payments[order.id] { throw refusal(of: known) }
    if let known = promises[order.id] { throw refusal(of: known) }
    try checkName(order.name, of: order.id)
    guard order.expires > horizon else { throw .claimExpired }
    guard Self.isName(order.payer) else { throw .malformedName }
    guard promises.count < LedgerLimit.payments.most else { throw .tooMany(.payments) }
    guard openPayments.count + openPromises < LedgerLimit.openPayments.most else { throw .tooMany(.openPayments) }
    // Promises cost nothing: neither one payer nor one client may have the places of all.
    guard (promisesOfPayer[order.payer]?.count ?? 0) < LedgerLimit.promisesOfPayer.most,
      (openPromisesOfClient[order.client.limitKey] ?? 0) < LedgerLimit.promisesOfClient.most
    else { throw .tooMany(.promisesOfPayer) }
    let currency = try currency(order.currency)
    guard fits(order.amount, currency) else { throw .overflow }
    let merchant = try merchant(order.merchant)
    currencies[Int(currency)].expected += order.amount
    promises[order.id] = ChainPromise(
      request: order.request, presented: order.presented, name: order.name, payer: order.payer, maximum: order.amount, isWithheld: order.isWithheld, currency: currency,
      merchant: merchant, route: order.route, client: order.client, expires: order.expires, reference: lsn + 1, since: now)
    open(promise: order.id)
    expiries.add(.promise(order.id), at: order.expires + ChainPromise.grace)
    return change(promise: order.id, to: .promised, at: now)
  }

  mutating func serve(promise id: Digest32, request: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard let promise = promises[id] else { throw .unknownPayment }
    guard promise.request == request else { throw .paymentMismatch }
    switch promise.state {
    case .serving: throw .claimInFlight
    case .owed, .kept, .lost: throw .claimSettled(reference: promise.reference)
    case .promised: return change(promise: id, to: .serving, at: now)
    }
  }

  mutating func renew(promise id: Digest32, epoch: UInt32, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard epoch == self.epoch, let promise = promises[id], promise.state == .serving else { throw .unknownPayment }
    // What has run out meanwhile buys nothing any more.
    guard now < promise.expires + ChainPromise.grace else { return drop(promise: id, at: now) }
    return change(promise: id, to: .promised, at: now)
  }

  mutating func withdraw(promise id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard promises[id]?.state == .promised else { throw .unknownPayment }
    return drop(promise: id, at: now)
  }

  mutating func owe(_ amount: UInt128, promise id: Digest32, epoch: UInt32, proof: [UInt8], at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard epoch == self.epoch, let promise = promises[id], promise.state == .serving, payments[id] == nil else { throw .unknownPayment }
    guard amount <= promise.maximum else { throw .overflow }
    guard proof.count <= LedgerLimit.proofOctets.most else { throw .tooMany(.proofOctets) }
    close(promise: id)
    promises[id]?.amount = amount
    currencies[Int(promise.currency)].expected -= promise.maximum - amount
    guard amount > 0 else { return change(promise: id, to: .kept, at: now) }
    _ = change(promise: id, to: .owed, at: now)
    return submit(id, for: promise, amount, proof: proof, at: now)
  }

  mutating func owe(
    withheld outcome: StoredOutcome, as key: OutcomeKey, promise id: Digest32, epoch: UInt32, proof: [UInt8], at now: Timestamp
  ) throws(Refusal) -> LSN {
    guard let maximum = promises[id]?.maximum else { throw .unknownPayment }
    guard outcomeOctets + outcome.octetCount <= Self.withheldOctetLimit, outcomes.count < LedgerLimit.outcomes.most,
      let owner = promises[id], undelivered.hasPlace(for: outcome.octetCount, of: owner.payer, client: owner.client)
    else { throw .tooMany(.outcomes) }
    let entry = try owe(maximum, promise: id, epoch: epoch, proof: proof, at: now)
    keep(outcome, for: key, at: now)
    undelivered.add(key.key, UndeliveredAnswers.Answer(promise: id, payer: owner.payer, client: owner.client, octets: outcome.octetCount))
    // The answer is not there without what is owed for it, nor the other way round.
    return max(entry, advance(at: now))
  }

  mutating func delivered(_ key: OutcomeKey, at now: Timestamp) {
    undelivered.remove(key.key)
    guard outcomeOctets > Self.outcomeOctetLimit, case .stored(let outcome)? = outcome(key), outcome.body != nil else { return }
    store(outcome, for: key, at: now)
    _ = advance(at: now)
  }

  /// Forgets a withheld promise that cannot be settled, and its answer: nobody has got it.
  mutating func discard(promise id: Digest32, at now: Timestamp) {
    guard let promise = promises[id], promise.isWithheld, promise.state == .owed else { return }
    promises[id] = nil
    free(name: promise.name, of: id)
    strike(promise: id, of: promise.payer)
    redo.removeRecord(RecordKey(.promise, id))
    forget(OutcomeKey(key: promise.name ?? id, request: promise.request))
  }

  /// Ends what a payment that has arrived was owed for: it was served before.
  mutating func keep(promise id: Digest32, at now: Timestamp) -> LSN {
    guard let payment = payments[id], payment.state == .settled else { return lsn }
    unservedPayments.remove(id)
    currencies[Int(payment.currency)].held -= payment.amount
    touchCurrency(payment.currency)
    // Fits: what is issued in one currency fits 127 bits.
    credit(payment.merchant, Int128(payment.amount), currency: payment.currency)
    useUp(id, as: .served, at: now)
    let entry = appendServed(id, at: now)
    _ = change(promise: id, to: .kept, at: now)
    return entry
  }

  /// Says that what is owed cannot be settled any more.
  mutating func lose(promise id: Digest32, at now: Timestamp) {
    guard promises[id]?.state == .owed else { return }
    _ = change(promise: id, to: .lost, at: now)
    expiries.add(.promise(id), at: max(now, clock) + ChainPromise.retention)
  }

  /// What a payer has promised and not paid yet.
  func promised(by payer: String, currency code: String, besides id: Digest32, at now: Timestamp?) -> UInt128 {
    guard let ids = promisesOfPayer[payer] else { return 0 }
    var sum: UInt128 = 0
    for other in ids where other != id {
      guard let promise = promises[other], currencies[Int(promise.currency)].code == code else { continue }
      switch promise.state {
      case .promised where now.map { promise.expires <= $0 } ?? false: continue
      case .promised, .serving: sum = sum.addingReportingOverflow(promise.maximum).overflow ? .max : sum + promise.maximum
      case .owed: sum = sum.addingReportingOverflow(promise.amount).overflow ? .max : sum + promise.amount
      case .kept, .lost: continue
      }
    }
    return sum
  }

  func hasLost(by payer: String) -> Bool { promisesOfPayer[payer]?.contains { promises[$0]?.state == .lost } ?? false }

  /// Why a promise that is known cannot be made again.
  func refusal(of promise: ChainPromise) -> Refusal {
    switch promise.state {
    case .promised, .serving: .claimInFlight
    case .owed, .kept, .lost: .claimSettled(reference: promise.reference)
    }
  }

  /// Counts a promise among those that are not served to the end, and lists it by what its payer calls it.
  private mutating func open(promise id: Digest32) {
    guard let promise = promises[id] else { return }
    openPromises += 1
    openPromisesOfClient[promise.client.limitKey, default: 0] += 1
    if let name = promise.name { paymentNames[name] = id }
  }

  private mutating func close(promise id: Digest32) {
    guard let client = promises[id]?.client.limitKey else { return }
    openPromises -= 1
    let count = (openPromisesOfClient[client] ?? 1) - 1
    openPromisesOfClient[client] = count > 0 ? count : nil
  }

  /// Lists a promise among its payer's while it is one, or was lost, and no longer.
  private mutating func list(promise id: Digest32) {
    guard let promise = promises[id] else { return }
    switch promise.state {
    case .promised, .serving, .owed, .lost: promisesOfPayer[promise.payer, default: []].insert(id)
    case .kept: strike(promise: id, of: promise.payer)
    }
  }

  private mutating func strike(promise id: Digest32, of payer: String) {
    promisesOfPayer[payer]?.remove(id)
    if promisesOfPayer[payer]?.isEmpty ?? false { promisesOfPayer[payer] = nil }
  }

  /// Whether a payment is owed for what was served, and may still be settled: whatever a facilitator or a simulation says of it now.
  func isOwed(_ id: Digest32, at now: Timestamp) -> Bool {
    guard let promise = promises[id], promise.state == .owed, !promise.isWithheld else { return false }
    return now <= promise.expires
  }

  // MARK: time

  /// Forgets what a restart finds unserved.
  mutating func freePromises(at now: Timestamp) {
    for id in promises.keys.sorted() {
      switch promises[id]?.state {
      case .promised, .serving: _ = drop(promise: id, at: now)
      case .owed where payments[id] == nil: lose(promise: id, at: now)
      case .owed, .kept, .lost, nil: break
      }
      listUndelivered(id)
    }
  }

  /// Lists a withheld answer that was read back: whether it has left is not known any more.
  private mutating func listUndelivered(_ id: Digest32) {
    guard let promise = promises[id], promise.isWithheld, promise.state == .owed || promise.state == .kept,
      let outcome = outcomes[promise.name ?? id]?.outcome, outcome.body != nil
    else { return }
    undelivered.add(
      promise.name ?? id, UndeliveredAnswers.Answer(promise: id, payer: promise.payer, client: promise.client, octets: outcome.octetCount))
  }

  mutating func forgetPromise(_ id: Digest32, at now: Timestamp) {
    guard let promise = promises[id] else { return }
    switch promise.state {
    // Only the chain ends what is owed.
    case .owed: expiries.add(.promise(id), at: now + ChainPayment.retention)
    case .promised: _ = drop(promise: id, at: now)
    // The response still passes, and ends its promise itself.
    case .serving:
      if promise.expires + ChainPayment.retention <= now { _ = drop(promise: id, at: now) } else { expiries.add(.promise(id), at: now + ChainPromise.grace) }
    case .kept, .lost:
      let until = promise.state == .lost ? promise.since + ChainPromise.retention : promise.expires + ChainPayment.retention
      guard until <= now else { return expiries.add(.promise(id), at: until) }
      strike(promise: id, of: promise.payer)
      promises[id] = nil
      free(name: promise.name, of: id)
      redo.removeRecord(RecordKey(.promise, id))
      if promise.expires > horizon { horizon = promise.expires }
      _ = advance(at: now)
    }
  }

  private mutating func drop(promise id: Digest32, at now: Timestamp) -> LSN {
    guard let promise = promises[id] else { return lsn }
    close(promise: id)
    promises[id] = nil
    free(name: promise.name, of: id)
    strike(promise: id, of: promise.payer)
    currencies[Int(promise.currency)].expected -= promise.maximum
    redo.removeRecord(RecordKey(.promise, id))
    return advance(at: now)
  }

  private mutating func change(promise id: Digest32, to state: ChainPromiseState, at now: Timestamp) -> LSN {
    promises[id]?.state = state
    promises[id]?.since = now
    promises[id]?.changed = lsn + 1
    list(promise: id)
    write(promise: id)
    return advance(at: now)
  }

  // MARK: records

  private mutating func write(promise id: Digest32) {
    guard let promise = promises[id] else { return }
    let place = redo.beginRecord(RecordKey(.promise, id))
    redo.put(promise.state.rawValue | (promise.name == nil ? 0 : ChainPromise.namedMark) | (promise.isWithheld ? ChainPromise.withheldMark : 0))
    redo.put(promise.request)
    redo.put(promise.presented)
    if let name = promise.name { redo.put(name) }
    redo.put(promise.payer)
    redo.put(promise.maximum)
    redo.put(promise.amount)
    redo.put(promise.currency)
    redo.put(promise.merchant)
    redo.put(promise.client.high)
    redo.put(promise.client.low)
    redo.put(promise.expires.microseconds)
    redo.put(promise.reference)
    redo.put(promise.since.microseconds)
    redo.endRecord(place)
  }

  mutating func readPromise(_ reader: inout RecordReader, _ id: Digest32) throws(LedgerError) {
    let marked: UInt8 = try reader.integer()
    guard let state = ChainPromiseState(rawValue: marked & ~(ChainPromise.namedMark | ChainPromise.withheldMark)) else { throw .malformed(.promise) }
    let request = try reader.digest()
    let presented = try reader.digest()
    let name = marked & ChainPromise.namedMark != 0 ? try reader.digest() : nil
    let payer = try reader.string()
    let maximum: UInt128 = try reader.integer()
    let amount: UInt128 = try reader.integer()
    let currency: UInt8 = try reader.integer()
    let merchant: UInt32 = try reader.integer()
    let client = ClientAddress(high: try reader.integer(), low: try reader.integer())
    let expires = Timestamp(microseconds: try reader.integer())
    let reference: LSN = try reader.integer()
    let since = Timestamp(microseconds: try reader.integer())
    guard Int(merchant) < merchants.count, Int(currency) < currencies.count, amount <= maximum else { throw .malformed(.promise) }
    promises[id] = ChainPromise(
      request: request, presented: presented, name: name, payer: payer, maximum: maximum, isWithheld: marked & ChainPromise.withheldMark != 0, amount: amount,
      currency: currency, merchant: merchant, route: .none, client: client, expires: expires, reference: reference, state: state, since: since)
    list(promise: id)
    switch state {
    case .promised, .serving:
      guard fits(maximum, currency) else { throw .malformed(.promise) }
      currencies[Int(currency)].expected += maximum
      open(promise: id)
    case .owed, .kept, .lost: if let name { paymentNames[name] = id }
    }
    expiries.add(.promise(id), at: state == .lost ? since + ChainPromise.retention : expires + ChainPayment.retention)
  }

  func view(promise id: Digest32) -> ChainPromiseView? {
    guard let promise = promises[id] else { return nil }
    return ChainPromiseView(
      id: id, request: promise.request, presented: promise.presented, state: promise.state, payer: promise.payer, maximum: promise.maximum,
      isWithheld: promise.isWithheld, name: promise.name, amount: promise.amount, currency: currencies[Int(promise.currency)].code, merchant: merchants[Int(promise.merchant)].name, client: promise.client,
      expires: promise.expires, reference: promise.reference, since: promise.since, changed: promise.changed)
  }
}
