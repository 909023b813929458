public import Bytes
public import Encoding
public import HTTP

/// Payments on chains, and the transactions that the program sends itself. Every change returns the number that has to be durable before
/// anything follows from it; where the ledger is of another epoch by then, what was done is void, and `payment` says what holds.
extension Ledger {
  // MARK: payments

  /// Claims a payment, and its challenge with it, in one entry: of all that bring the same one, exactly one succeeds.
  ///
  /// - Throws: `claimInFlight` or `claimSettled` where payment or challenge were used, `claimExpired` where their use may have been forgotten,
  ///   `tooMany`, `overflow`, `unknownCurrency`, `malformedName`, `unavailable`.
  public func claim(_ order: ChainPaymentOrder, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.claim(order, at: now) }
  }

  /// Shows a payment; nil where it is unknown, and while the ledger is `unavailable`.
  public func payment(_ id: Digest32) -> ChainPaymentView? {
    state.withLock { $0.availability == .unavailable ? nil : $0.view(payment: id) }
  }

  /// Says that a payment may settle from here on; durable before anything is sent out. `transaction` is nil where a facilitator makes it, and
  /// may be told later by the same call.
  ///
  /// - Throws: `unknownPayment` (a restart frees what was only claimed: nothing may be sent then), `claimSettled`, `unavailable`.
  public func submitted(_ id: Digest32, transaction: Digest32?, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.submitted(id, transaction: transaction, at: now) }
  }

  /// Takes back, of what is owed for a promise, that it may settle: whoever was asked to has said that no money has moved by that.
  ///
  /// - Throws: `unknownPayment`, `claimSettled`, `claimInFlight` where it was not submitted or is no promise's, `unavailable`.
  public func retracted(_ id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.retracted(id, at: now) }
  }

  /// The payment or promise that a payer calls so; nil where nothing that is kept is.
  public func payment(named name: Digest32) -> Digest32? { state.withLock { $0.paymentNames[name] } }

  /// Another payment that was settled, or is to be, by a transaction; nil where there is none. Looks through all that are kept.
  public func payment(by transaction: Digest32, besides id: Digest32) -> Digest32? {
    state.withLock { state in state.payments.first { $0.value.transaction == transaction && $0.key != id }?.key }
  }

  /// Puts a payment's transaction into the outbox and says that the payment may settle, in one entry.
  ///
  /// - Throws: what both do; `paymentMismatch` where the transaction's purpose is another.
  public func submitted(_ id: Digest32, outgoing transaction: OutgoingTransaction, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.submitted(id, outgoing: transaction, at: now) }
  }

  /// Books the money that has arrived: the payment is settled and not served. Once is enough, and more changes nothing. `cause` says whose
  /// word it is where it is not the chain's, in at most 128 octets.
  ///
  /// - Throws: `unknownPayment`, `unavailable`.
  public func settled(_ id: Digest32, transaction: Digest32?, cause: String? = nil, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.settled(id, transaction: transaction, cause: cause, at: now) }
  }

  /// Forgets a payment that cannot settle any more, and frees its challenge. `cause` is a word or two, at most 128 octets.
  ///
  /// - Throws: `unknownPayment`, `claimSettled`, `unavailable`; `claimInFlight` while a transaction of it is in the outbox.
  public func refused(_ id: Digest32, cause: String, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.refused(id, cause: cause, at: now) }
  }

  /// Begins to serve what has been paid; the hold ends by `settle`, `void` and `end`, as a charge's does. Voided or given back whole, the
  /// payment is settled and not served again; a part is not given back.
  ///
  /// - Parameters:
  ///   - request: the digest that the payment was claimed with.
  ///   - route, client: what the lines say from now on; what was claimed by default.
  /// - Throws: `unknownPayment`; `paymentMismatch` for another request; `claimInFlight` where it has not settled or is being served;
  ///   `claimSettled` where it was served or written off; `outcomeInFlight`, `outcomeMismatch`, `tooMany(.holds)`, `unavailable`.
  public func serve(
    _ id: Digest32, request: Digest32, idempotency: OutcomeKey? = nil, route: RouteLabel? = nil, client: ClientAddress? = nil,
    at now: Timestamp
  ) throws(Refusal) -> Hold {
    try debit { (state) throws(Refusal) in
      try state.serve(id, request: request, idempotency: idempotency, route: route, client: client, at: now)
    }
  }

  /// Lists the payments that have neither settled nor failed and were submitted, or are owed for what was served: what has to be gone on with
  /// after a restart. Those that run out first stand in front.
  public func openPayments() -> [ChainPaymentView] {
    let open = state.withLock { (state) -> [ChainPaymentView] in
      guard state.availability != .unavailable else { return [] }
      return state.openPayments.compactMap { id in
        state.payments[id]?.state == .submitted || state.promises[id]?.state == .owed ? state.view(payment: id) : nil
      }
    }
    return open.sorted { ($0.expires, $0.reference) < ($1.expires, $1.reference) }
  }

  /// Lists payments that have settled and for which nothing was served, oldest first.
  public func unservedPayments(limit: Int = 1_000) -> [ChainPaymentView] {
    let unserved = state.withLock { state in state.unservedPayments.compactMap { id in state.payments[id].map { (id, $0.reference) } } }
    // There may be very many: they are put in order while others go on.
    let oldest = unserved.sorted { $0.1 < $1.1 }.prefix(limit)
    return state.withLock { state in oldest.compactMap { state.view(payment: $0.0) } }.filter { $0.state == .settled }
  }

  /// Lists payments, from the `offset`-th on. Where all are asked for, a million of them hold the ledger up for some milliseconds.
  public func payments(_ selection: ChainPaymentSelection, from offset: Int = 0, limit: Int = 1_000) -> [ChainPaymentView] {
    let found = state.withLock { (state) -> [(id: Digest32, reference: LSN)] in
      guard state.availability != .unavailable else { return [] }
      switch selection {
      case .all: return state.payments.map { ($0.key, $0.value.reference) }
      case .open: return state.openPayments.compactMap { id in state.payments[id].map { (id, $0.reference) } }
      case .unserved: return state.unservedPayments.compactMap { id in state.payments[id].map { (id, $0.reference) } }
      }
    }
    let isNewestFirst = selection == .all
    let page = found.sorted { isNewestFirst ? $0.reference > $1.reference : $0.reference < $1.reference }.dropFirst(offset).prefix(limit)
    return state.withLock { state in page.compactMap { state.view(payment: $0.id) } }
  }

  /// How many payments have neither settled nor failed, and for how many that have settled nothing was served.
  public var paymentCounts: (open: Int, unserved: Int) {
    state.withLock { ($0.openPayments.count, $0.unservedPayments.count) }
  }

  /// Gives a payment for which nothing was served to its merchant; it cannot be served any more.
  ///
  /// - Throws: `unknownPayment`, `claimInFlight` where it has not settled or is being served, `claimSettled` where it was served or written
  ///   off, `unavailable`.
  public func writeOff(_ id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.writeOff(id, at: now) }
  }

  // MARK: the outbox

  /// The nonce that the next transaction of an address has to bear; nil until one was adopted.
  public func nextNonce(chain: UInt64, sender: [UInt8]) -> UInt64? {
    state.withLock { $0.senders[ChainSenderKey(chain: chain, address: sender)]?.nextNonce }
  }

  /// Sets the nonce of an address's next transaction to what the chain says; 0 where it is that already.
  ///
  /// - Throws: `wrongNonce` while transactions are on their way, `tooMany(.senders)`, `malformedName` unless the address has 20 octets,
  ///   `unavailable`.
  public func adoptNonce(chain: UInt64, sender: [UInt8], nonce: UInt64, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.adopt(nonce: nonce, of: ChainSenderKey(chain: chain, address: sender), at: now) }
  }

  /// Puts a signed transaction into the outbox; durable before it is sent.
  ///
  /// - Throws: `wrongNonce` with the one that is next, `tooMany`, `unavailable`.
  public func enqueue(_ transaction: OutgoingTransaction, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.enqueue(transaction, at: now) }
  }

  /// Replaces a stuck transaction by another with its nonce, whose hash its payment is known by from then on; 0 where it is that one already.
  ///
  /// - Throws: `unknownTransaction`, `tooMany`, `unavailable`.
  public func replace(
    chain: UInt64, sender: [UInt8], nonce: UInt64, raw: [UInt8], hash: Digest32, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.replace(ChainSenderKey(chain: chain, address: sender), nonce: nonce, raw: raw, hash: hash, at: now)
    }
  }

  /// Ends a transaction whose nonce the chain has taken: counts its gas (wei), writes its line, and takes it out of the outbox.
  ///
  /// - Parameter hash: of the version that landed.
  /// - Throws: `unknownTransaction`, `unavailable`.
  public func concluded(
    chain: UInt64, sender: [UInt8], nonce: UInt64, hash: Digest32, gas: UInt128, succeeded: Bool, at now: Timestamp
  ) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.conclude(
        ChainSenderKey(chain: chain, address: sender), nonce: nonce, hash: hash, gas: gas, succeeded: succeeded, at: now)
    }
  }

  /// Takes back a transaction that was never sent out; its nonce is to be used next.
  ///
  /// - Throws: `unknownTransaction`, `unavailable`.
  public func cancelled(chain: UInt64, sender: [UInt8], nonce: UInt64, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.cancel(ChainSenderKey(chain: chain, address: sender), nonce: nonce, at: now) }
  }

  /// Lists an address's transactions that are on their way, by nonce.
  public func outgoing(chain: UInt64, sender: [UInt8]) -> [OutgoingTransaction] {
    let waiting = state.withLock { $0.senders[ChainSenderKey(chain: chain, address: sender)]?.waiting }
    return (waiting ?? [:]).values.sorted { $0.nonce < $1.nonce }
  }

  /// Shows every address that sends, with what its transactions have cost.
  public func chainSenders() -> [ChainSenderView] {
    state.withLock { state in state.senders.keys.compactMap { state.view(sender: $0) } }
      .sorted { ($0.chain, AuditText.hex($0.sender)) < ($1.chain, AuditText.hex($1.sender)) }
  }
}
