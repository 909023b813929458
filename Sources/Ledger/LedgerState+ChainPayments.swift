import Bytes
import Encoding
import HTTP

/// The life of a payment on a chain: claimed → submitted → settled → serving → served; refused and forgotten, or written off.
///
/// Where its money stands follows from its state: nowhere before it has arrived, among what is held until it is served, then with the merchant.
extension LedgerState {
  // MARK: claim

  /// Claims a payment, and the challenge that it pays, in one entry.
  mutating func claim(_ order: ChainPaymentOrder, at now: Timestamp) throws(Refusal) -> LSN {
    try checkSelling()
    if let known = payments[order.id] { throw refusal(of: known) }
    if let promise = promises[order.id] { throw .claimSettled(reference: promise.reference) }
    try checkName(order.name, of: order.id)
    // Beyond the horizon, uses may have been forgotten: a clock that is set back makes nothing new again.
    guard order.expires > horizon else { throw .claimExpired }
    if let challenge = order.challengeID { try checkClaim(challenge, expires: order.expires) }
    guard Self.isName(order.payer), order.recipient.isEmpty || Self.isName(order.recipient) else { throw .malformedName }
    guard order.splits.count <= ChainSplit.limit, order.splits.allSatisfy({ Self.isName($0.recipient) }) else { throw .malformedName }
    guard order.proof.count <= LedgerLimit.proofOctets.most else { throw .tooMany(.proofOctets) }
    let isFree = order.amount == 0 && order.splits.isEmpty && order.deposit == nil
    if isFree {
      guard freePayments < LedgerLimit.freePayments.most, (freePaymentsOfClient[order.client.limitKey] ?? 0) < LedgerLimit.freePaymentsOfClient.most else {
        throw .tooMany(.freePayments)
      }
    }
    guard payments.count < LedgerLimit.payments.most else { throw .tooMany(.payments) }
    guard openPayments.count < LedgerLimit.openPayments.most else { throw .tooMany(.openPayments) }
    let currency = try currency(order.currency)
    if let deposit = order.deposit { try check(deposit, of: order) } else if !fits(order.amount, currency) { throw .overflow }
    let merchant = try merchant(order.merchant)
    // What is deposited in an escrow is somebody else's still.
    if order.deposit == nil { currencies[Int(currency)].expected += order.amount }
    if case .open(let opening) = order.deposit { openings[opening.id] = order.id }
    payments[order.id] = ChainPayment(
      request: order.request, payer: order.payer, recipient: order.recipient, presented: order.presented, name: order.name, amount: order.amount, splits: order.splits,
      currency: currency, merchant: merchant, route: order.route, client: order.client, expires: order.expires, challengeID: order.challengeID, proof: order.proof,
      deposit: order.deposit, channel: order.deposit?.channel, reference: lsn + 1)
    open(payment: order.id)
    countFree(order.id, 1)
    expiries.add(.payment(order.id), at: order.expires + (isFree ? .zero : ChainPayment.retention))
    if let challenge = order.challengeID {
      setClaim(challenge, Claim(use: .payment(order.id), reference: lsn + 1, expires: order.expires))
    }
    return appendLine(.paymentClaimed, of: order.id, at: now)
  }

  /// Whether an amount can still be issued when everything that is expected has arrived.
  func fits(_ amount: UInt128, _ currency: UInt8) -> Bool {
    let accounts = currencies[Int(currency)]
    let (expected, overflows) = accounts.expected.addingReportingOverflow(amount)
    let (issued, carries) = accounts.issued.addingReportingOverflow(expected)
    return !overflows && !carries && issued <= Self.issueLimit
  }

  /// Lists a payment among those that have neither settled nor failed, and by what its payer calls it.
  mutating func open(payment id: Digest32) {
    guard let payment = payments[id] else { return }
    openPayments.insert(id)
    openPaymentsOfPayer[payment.payer, default: []].insert(id)
    if let name = payment.name { paymentNames[name] = id }
  }

  /// Counts a payment that moves nothing among those of its client: they cost nothing, and neither one client nor all of them may have the
  /// places of those who pay.
  mutating func countFree(_ id: Digest32, _ step: Int) {
    guard let payment = payments[id], payment.isFree else { return }
    freePayments += step
    if step > 0 { payments[id]?.counted = payment.client.limitKey }
    let client = step > 0 ? payment.client.limitKey : payment.counted
    let count = (freePaymentsOfClient[client] ?? 0) + step
    freePaymentsOfClient[client] = count > 0 ? count : nil
  }

  /// Takes a payment that has settled or failed off that list.
  mutating func close(payment id: Digest32) {
    openPayments.remove(id)
    guard let payer = payments[id]?.payer else { return }
    openPaymentsOfPayer[payer]?.remove(id)
    if openPaymentsOfPayer[payer]?.isEmpty ?? false { openPaymentsOfPayer[payer] = nil }
  }

  /// What a payer has under way besides what he has promised.
  func underWay(by payer: String, currency code: String, besides id: Digest32) -> UInt128 {
    (openPaymentsOfPayer[payer] ?? []).reduce(0) { sum, other in
      guard other != id, promises[other] == nil, let payment = payments[other], payment.deposit == nil, currencies[Int(payment.currency)].code == code else {
        return sum
      }
      // What goes to others comes from the same purse.
      return ([payment.amount] + payment.splits.map(\.amount)).reduce(sum) { $0.addingReportingOverflow($1).overflow ? .max : $0 + $1 }
    }
  }

  /// Refuses what its payer calls as he called something else that is kept.
  func checkName(_ name: Digest32?, of id: Digest32) throws(Refusal) {
    guard let name, let other = paymentNames[name], other != id else { return }
    if let payment = payments[other] { throw refusal(of: payment) }
    if let promise = promises[other] { throw refusal(of: promise) }
  }

  /// Frees what a payer called something that is neither a payment nor a promise any more.
  mutating func free(name: Digest32?, of id: Digest32) {
    guard let name, paymentNames[name] == id, payments[id] == nil, promises[id] == nil else { return }
    paymentNames[name] = nil
  }

  /// Why a payment that is known cannot be claimed again.
  func refusal(of payment: ChainPayment) -> Refusal {
    switch payment.state {
    case .claimed, .submitted, .serving: .claimInFlight
    case .settled, .served, .writtenOff: .claimSettled(reference: payment.reference)
    }
  }

  // MARK: on the chain

  /// Says that a payment may settle from here on: what is durable before anything is sent out.
  mutating func submitted(_ id: Digest32, transaction: Digest32?, at now: Timestamp) throws(Refusal) -> LSN {
    let payment = try openPayment(id)
    if payment.state == .submitted, transaction == nil || transaction == payment.transaction { return payment.changed }
    payments[id]?.state = .submitted
    if let transaction { payments[id]?.transaction = transaction }
    // Another version of what was submitted before is no other state.
    return appendLine(.paymentSubmitted, of: id, at: now, since: payment.state == .submitted ? payment.since : now)
  }

  /// Takes back that what is owed may settle at any time: whoever was asked to has said that he did nothing.
  mutating func retracted(_ id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    let payment = try openPayment(id)
    guard payment.state == .submitted, promises[id]?.state == .owed, outgoingPurposes[id] == nil else { throw .claimInFlight }
    payments[id]?.state = .claimed
    payments[id]?.transaction = nil
    payments[id]?.changed = lsn + 1
    write(payment: id)
    return advance(at: now)
  }

  /// The same, with the transaction that is to be sent, in one entry.
  mutating func submitted(_ id: Digest32, outgoing transaction: OutgoingTransaction, at now: Timestamp) throws(Refusal) -> LSN {
    _ = try openPayment(id)
    guard transaction.purpose == id else { throw .paymentMismatch }
    try add(transaction)
    payments[id]?.state = .submitted
    payments[id]?.transaction = transaction.hash
    return appendLine(.paymentSubmitted, of: id, at: now)
  }

  /// Books the money that has arrived.
  mutating func settled(_ id: Digest32, transaction: Digest32?, cause: String? = nil, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard let payment = payments[id] else { throw .unknownPayment }
    switch payment.state {
    case .settled, .serving, .served, .writtenOff: return payment.changed
    case .claimed, .submitted: break
    }
    guard payment.deposit == nil else { throw .paymentMismatch }
    let currency = Int(payment.currency)
    currencies[currency].expected -= payment.amount
    // Fits: what is expected was counted when it was claimed.
    currencies[currency].issued += payment.amount
    currencies[currency].held += payment.amount
    touchCurrency(payment.currency)
    close(payment: id)
    unservedPayments.insert(id)
    payments[id]?.state = .settled
    payments[id]?.proof = []
    if let transaction { payments[id]?.transaction = transaction }
    let entry = appendLine(.paymentSettled, of: id, at: now, cause: cause.flatMap { Self.isName($0) ? $0 : nil })
    return promises[id]?.state == .owed ? keep(promise: id, at: now) : entry
  }

  /// Forgets a payment that cannot settle any more, and frees its challenge.
  mutating func refused(_ id: Digest32, cause: String, at now: Timestamp) throws(Refusal) -> LSN {
    let payment = try openPayment(id)
    // What is in the outbox may still land: its end is told first.
    guard outgoingPurposes[id] == nil, !isOwed(id, at: now) else { throw .claimInFlight }
    switch payment.deposit {
    case nil: currencies[Int(payment.currency)].expected -= payment.amount
    case .open(let order): openings[order.id] = nil
    case .topUp: break
    }
    close(payment: id)
    countFree(id, -1)
    payments[id] = nil
    free(name: payment.name, of: id)
    redo.removeRecord(RecordKey(.payment, id))
    if let challenge = payment.challengeID { free(challenge) }
    discard(promise: id, at: now)
    lose(promise: id, at: now)
    let words = EntryWords(cause: Self.isName(cause) ? cause : "other", chain: ChainWords(of: payment, id: id))
    return append(line(.paymentFailed, of: payment, at: now), words: words)
  }

  /// Finds a payment that has neither settled nor failed.
  private func openPayment(_ id: Digest32) throws(Refusal) -> ChainPayment {
    guard availability != .unavailable else { throw .unavailable }
    guard let payment = payments[id] else { throw .unknownPayment }
    switch payment.state {
    case .claimed, .submitted: return payment
    case .settled, .serving, .served, .writtenOff: throw .claimSettled(reference: payment.reference)
    }
  }

  private mutating func free(_ challenge: Digest32) {
    claims[challenge] = nil
    redo.removeRecord(RecordKey(.claim, challenge))
  }

  // MARK: service

  /// Begins to serve what has been paid: the hold ends as a charge's does.
  mutating func serve(
    _ id: Digest32, request: Digest32, idempotency: OutcomeKey?, route: RouteLabel?, client: ClientAddress?, at now: Timestamp
  ) throws(Refusal) -> Hold {
    // What is paid is served even when nothing new is sold.
    guard availability != .unavailable else { throw .unavailable }
    guard let payment = payments[id] else { throw .unknownPayment }
    guard payment.request == request else { throw .paymentMismatch }
    switch payment.state {
    case .claimed, .submitted, .serving: throw .claimInFlight
    case .served, .writtenOff: throw .claimSettled(reference: payment.reference)
    case .settled: break
    }
    guard holds.count < LedgerLimit.holds.most else { throw .tooMany(.holds) }
    if let key = idempotency { try reserve(key) }
    let number = lsn + 1
    payments[id]?.state = .serving
    payments[id]?.hold = number
    payments[id]?.changed = number
    payments[id]?.since = now
    if let route { payments[id]?.route = route }
    if let client { payments[id]?.client = client }
    unservedPayments.remove(id)
    hold(id, idempotency: idempotency)
    write(payment: id)
    return Hold(id: advance(at: now), epoch: epoch)
  }

  /// Lists a payment that is being served among the holds.
  mutating func hold(_ id: Digest32, idempotency: OutcomeKey?) {
    guard let payment = payments[id] else { return }
    holds[payment.hold] = HeldCharge(
      payer: .payment(id), merchant: payment.merchant, currency: payment.currency, amount: payment.amount, route: payment.route,
      client: payment.client, expires: payment.expires, idempotency: idempotency)
  }

  /// Makes the payment of what a promise owes: nothing was sent for it yet.
  mutating func submit(_ id: Digest32, for promise: ChainPromise, _ amount: UInt128, proof: [UInt8], at now: Timestamp) -> LSN {
    payments[id] = ChainPayment(
      request: promise.request, payer: promise.payer, recipient: "", presented: promise.presented, name: promise.name, amount: amount, currency: promise.currency,
      merchant: promise.merchant, route: promise.route, client: promise.client, expires: promise.expires, challengeID: nil, proof: proof, reference: lsn + 1)
    open(payment: id)
    return appendLine(.paymentClaimed, of: id, at: now)
  }

  /// Writes the line of a payment for which had been served before it arrived.
  mutating func appendServed(_ id: Digest32, at now: Timestamp) -> LSN {
    guard let payment = payments[id] else { return lsn }
    return append(line(.chargeSettled, of: payment, at: now), words: EntryWords(chain: ChainWords(of: payment, id: nil)))
  }

  /// Marks a payment as used up by the entry that follows.
  mutating func useUp(_ id: Digest32, as state: ChainPaymentState, at now: Timestamp) {
    guard let payment = payments[id] else { return }
    let until = max(payment.expires, max(now, clock)) + payment.retention
    payments[id]?.state = state
    payments[id]?.hold = 0
    payments[id]?.until = until
    payments[id]?.changed = lsn + 1
    payments[id]?.since = now
    expiries.add(.payment(id), at: until)
    write(payment: id)
  }

  /// Marks a payment as settled and not served by the entry that follows: the identical request may be served later.
  mutating func setUnserved(_ id: Digest32, at now: Timestamp) {
    payments[id]?.state = .settled
    payments[id]?.hold = 0
    payments[id]?.until = nil
    payments[id]?.changed = lsn + 1
    payments[id]?.since = now
    unservedPayments.insert(id)
    if let payment = payments[id], payment.isFree { expiries.add(.payment(id), at: max(payment.expires, max(now, clock))) }
    write(payment: id)
  }

  /// Gives a payment for which nothing was served to the merchant.
  mutating func writeOff(_ id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard let payment = payments[id] else { throw .unknownPayment }
    switch payment.state {
    case .claimed, .submitted, .serving: throw .claimInFlight
    case .served, .writtenOff: throw .claimSettled(reference: payment.reference)
    case .settled: break
    }
    unservedPayments.remove(id)
    currencies[Int(payment.currency)].held -= payment.amount
    touchCurrency(payment.currency)
    // Fits: what is issued in one currency fits 127 bits.
    credit(payment.merchant, Int128(payment.amount), currency: payment.currency)
    useUp(id, as: .writtenOff, at: now)
    return append(line(.paymentWrittenOff, of: payment, at: now), words: EntryWords(chain: ChainWords(of: payment, id: id)))
  }

  // MARK: time

  /// Frees what a restart finds claimed: nothing was sent out for it.
  mutating func freeClaimedPayments(at now: Timestamp) {
    for id in openPayments.sorted() where payments[id]?.state == .claimed && promises[id]?.state != .owed {
      _ = try? refused(id, cause: VoidCause.restart.rawValue, at: now)
    }
  }

  /// Forgets a payment that is used up, or for which nothing was ever sent out.
  mutating func forgetPayment(_ id: Digest32, at now: Timestamp) {
    guard let payment = payments[id] else { return }
    switch payment.state {
    case .claimed:
      if payment.expires + payment.retention <= now { _ = try? refused(id, cause: "expired", at: now) }
    // Only the chain, or an operator, ends these; what they end as has its own time.
    case .settled where payment.isFree:
      guard payment.expires <= now else { return expiries.add(.payment(id), at: payment.expires) }
      unservedPayments.remove(id)
      drop(payment: id, payment, at: now)
    case .submitted, .settled, .serving: return
    case .served, .writtenOff:
      // Served again after it was given back, it is kept from then on.
      guard let until = payment.until, until <= now else { return }
      drop(payment: id, payment, at: now)
    }
  }

  private mutating func drop(payment id: Digest32, _ payment: ChainPayment, at now: Timestamp) {
    countFree(id, -1)
    payments[id] = nil
    free(name: payment.name, of: id)
    redo.removeRecord(RecordKey(.payment, id))
    if payment.expires > horizon { horizon = payment.expires }
    if let challenge = payment.challengeID { free(challenge) }
    _ = advance(at: now)
  }

  // MARK: lines

  /// Writes a payment that has changed, and its line.
  private mutating func appendLine(
    _ kind: AuditEventKind, of id: Digest32, at now: Timestamp, since: Timestamp? = nil, cause: String? = nil
  ) -> LSN {
    payments[id]?.changed = lsn + 1
    payments[id]?.since = since ?? now
    guard let payment = payments[id] else { return lsn }
    write(payment: id)
    return append(line(kind, of: payment, at: now), words: EntryWords(cause: cause, chain: ChainWords(of: payment, id: id)))
  }

  private func line(_ kind: AuditEventKind, of payment: ChainPayment, at now: Timestamp) -> Entry {
    var entry = Entry(kind, at: now)
    entry.currency = payment.currency
    entry.route = payment.route
    entry.merchant = payment.merchant
    entry.client = payment.client
    entry.amount = payment.amount
    entry.reference = payment.reference
    return entry
  }

  func view(payment id: Digest32) -> ChainPaymentView? {
    guard let payment = payments[id] else { return nil }
    return ChainPaymentView(
      id: id, request: payment.request, state: payment.state, payer: payment.payer, recipient: payment.recipient, presented: payment.presented, amount: payment.amount, splits: payment.splits,
      currency: currencies[Int(payment.currency)].code, merchant: merchants[Int(payment.merchant)].name, client: payment.client, expires: payment.expires,
      challengeID: payment.challengeID, transaction: payment.transaction, proof: payment.proof, deposit: payment.deposit,
      channel: payment.channel, reference: payment.reference,
      since: payment.since, changed: payment.changed)
  }
}
