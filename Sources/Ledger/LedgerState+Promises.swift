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
    if let known = promises[order.id] {
      switch known.state {
      case .promised, .serving: throw .claimInFlight
      case .owed, .kept, .lost: throw .claimSettled(reference: known.reference)
      }
    }
    guard order.expires > horizon else { throw .claimExpired }
    guard Self.isName(order.payer) else { throw .malformedName }
    guard promises.count < LedgerLimit.payments.most else { throw .tooMany(.payments) }
    guard openPayments.count + openPromises < LedgerLimit.openPayments.most else { throw .tooMany(.openPayments) }
    let currency = try currency(order.currency)
    guard fits(order.amount, currency) else { throw .overflow }
    let merchant = try merchant(order.merchant)
    currencies[Int(currency)].expected += order.amount
    openPromises += 1
    promises[order.id] = ChainPromise(
      request: order.request, presented: order.presented, payer: order.payer, maximum: order.amount, currency: currency, merchant: merchant, route: order.route,
      client: order.client, expires: order.expires, reference: lsn + 1, since: now)
    expiries.add(.promise(order.id), at: order.expires + ChainPayment.retention)
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
    guard epoch == self.epoch, promises[id]?.state == .serving else { throw .unknownPayment }
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
    openPromises -= 1
    promises[id]?.amount = amount
    currencies[Int(promise.currency)].expected -= promise.maximum - amount
    guard amount > 0 else { return change(promise: id, to: .kept, at: now) }
    _ = change(promise: id, to: .owed, at: now)
    return submit(id, for: promise, amount, proof: proof, at: now)
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
    guard let promise = promises[id], promise.state == .owed else { return false }
    return now <= promise.expires
  }

  // MARK: time

  /// Forgets what a restart finds unserved.
  mutating func freePromises(at now: Timestamp) {
    for id in promises.keys.sorted() {
      switch promises[id]?.state {
      case .promised, .serving: _ = drop(promise: id, at: now)
      case .owed where payments[id] == nil: lose(promise: id, at: now)
      case .owed, .kept, .lost, nil: continue
      }
    }
  }

  mutating func forgetPromise(_ id: Digest32, at now: Timestamp) {
    guard let promise = promises[id] else { return }
    switch promise.state {
    // Only the chain ends what is owed.
    case .owed: expiries.add(.promise(id), at: now + ChainPayment.retention)
    case .promised, .serving: _ = drop(promise: id, at: now)
    case .kept, .lost:
      let until = promise.state == .lost ? promise.since + ChainPromise.retention : promise.expires + ChainPayment.retention
      guard until <= now else { return expiries.add(.promise(id), at: until) }
      strike(promise: id, of: promise.payer)
      promises[id] = nil
      redo.removeRecord(RecordKey(.promise, id))
      if promise.expires > horizon { horizon = promise.expires }
      _ = advance(at: now)
    }
  }

  private mutating func drop(promise id: Digest32, at now: Timestamp) -> LSN {
    guard let promise = promises.removeValue(forKey: id) else { return lsn }
    openPromises -= 1
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
    redo.put(promise.state.rawValue)
    redo.put(promise.request)
    redo.put(promise.presented)
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
    guard let state = ChainPromiseState(rawValue: try reader.integer()) else { throw .malformed(.promise) }
    let request = try reader.digest()
    let presented = try reader.digest()
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
      request: request, presented: presented, payer: payer, maximum: maximum, amount: amount, currency: currency, merchant: merchant, route: .none, client: client,
      expires: expires, reference: reference, state: state, since: since)
    list(promise: id)
    switch state {
    case .promised, .serving:
      guard fits(maximum, currency) else { throw .malformed(.promise) }
      currencies[Int(currency)].expected += maximum
      openPromises += 1
    case .owed, .kept, .lost: break
    }
    expiries.add(.promise(id), at: state == .lost ? since + ChainPromise.retention : expires + ChainPayment.retention)
  }

  func view(promise id: Digest32) -> ChainPromiseView? {
    guard let promise = promises[id] else { return nil }
    return ChainPromiseView(
      id: id, request: promise.request, presented: promise.presented, state: promise.state, payer: promise.payer, maximum: promise.maximum, amount: promise.amount,
      currency: currencies[Int(promise.currency)].code, merchant: merchants[Int(promise.merchant)].name, client: promise.client,
      expires: promise.expires, reference: promise.reference, since: promise.since, changed: promise.changed)
  }
}
