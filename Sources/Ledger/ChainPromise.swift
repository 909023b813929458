public import Bytes
public import Encoding
public import HTTP

/// How far a promise has come. Raw values are the file format.
public enum ChainPromiseState: UInt8, Sendable, Equatable, CaseIterable {
  /// It holds, and nothing was served for it. A restart forgets it: nothing was ever sent out for it.
  case promised = 1
  /// A request that it pays for has not ended. A restart forgets it too: what a crash cut short is not charged.
  case serving
  /// It was served, and what was used is settled: the payment of the same name says how far that has come.
  case owed
  /// It was served, and nothing is owed any more: it is settled, or nothing was used.
  case kept
  /// It was served, and what is owed cannot be settled any more.
  case lost
}

/// A signed maximum of which what was used is settled afterwards, as operators and those who serve for it see it.
public struct ChainPromiseView: Sendable, Equatable {
  public let id: Digest32
  public let request: Digest32
  /// Digest of what the payer has presented: who brings anything else under this id is not served for it.
  public let presented: Digest32
  public let state: ChainPromiseState
  /// The payer's address, `0x` and lower case.
  public let payer: String
  /// The most that may be settled, in base units.
  public let maximum: UInt128
  /// Whether the answer is withheld until it has settled.
  public let isWithheld: Bool
  /// What its payer calls it, together with who he is; nil: nothing.
  public let name: Digest32?
  /// What was used, in base units; 0 before it has been served.
  public let amount: UInt128
  public let currency: String
  public let merchant: String
  public let client: ClientAddress
  /// It cannot be settled after this instant.
  public let expires: Timestamp
  /// The number of its first entry: what receipts and audit lines call it.
  public let reference: LSN
  /// Since when it is in its state.
  public let since: Timestamp
  /// The entry that made it what it is; 0 for one that was read back.
  public let changed: LSN
}

/// What the ledger keeps of a promise.
struct ChainPromise {
  var request: Digest32
  var presented: Digest32
  var name: Digest32?
  var payer: String
  var maximum: UInt128
  var isWithheld: Bool
  var amount: UInt128 = 0
  var currency: UInt8
  var merchant: UInt32
  var route: RouteLabel
  var client: ClientAddress
  var expires: Timestamp
  var reference: LSN
  var state = ChainPromiseState.promised
  var since: Timestamp
  var changed: LSN = 0

  /// Marks, in a record's state, those whose payer has a name for them.
  static var namedMark: UInt8 { 0x40 }
  /// Marks those whose answers are withheld until they have settled.
  static var withheldMark: UInt8 { 0x20 }

  /// How long after it has run out a promise for which nothing was served is forgotten: clocks differ.
  static var grace: Duration { .seconds(60) }
  /// How long what was lost stays on the operators' list.
  static var retention: Duration { .seconds(30 * 86_400) }
}

/// Promises of payments on chains: a maximum is signed, a request is served, and what it used is settled afterwards, at most once.
extension Ledger {
  /// Takes a promise, of whose id neither a payment nor a promise is known; `amount` of the order is the maximum, and its proof is empty. What
  /// nothing is served for is forgotten a minute after it has run out.
  ///
  /// - Throws: `claimInFlight` or `claimSettled` where it was used, `claimExpired` where its use may have been forgotten, `tooMany`, `overflow`,
  ///   `unknownCurrency`, `malformedName`, `unavailable`.
  public func promise(_ order: ChainPaymentOrder, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.promise(order, at: now) }
  }

  /// Shows a promise; nil where it is unknown, and while the ledger is `unavailable`.
  public func promise(_ id: Digest32) -> ChainPromiseView? {
    state.withLock { $0.availability == .unavailable ? nil : $0.view(promise: id) }
  }

  /// Begins to serve for a promise, one request at a time.
  ///
  /// - Throws: `unknownPayment`; `paymentMismatch` for another request; `claimInFlight` while it is served; `claimSettled` where it was;
  ///   `unavailable`.
  public func serve(promise id: Digest32, request: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.serve(promise: id, request: request, at: now) }
  }

  /// Ends a service that costs nothing: the promise holds as before.
  @discardableResult
  public func renew(promise id: Digest32, epoch: UInt32, at now: Timestamp) -> LSN {
    (try? debit { (state) throws(Refusal) in try state.renew(promise: id, epoch: epoch, at: now) }) ?? 0
  }

  /// Ends a service by what it used, in base units: above zero a payment of the promise's id is claimed, with what settling it needs; a restart
  /// does not free it. Zero settles nothing, and uses the promise up.
  ///
  /// - Parameters:
  ///   - proof: opaque, at most `LedgerLimit.proofOctets`.
  ///   - epoch: of when the service began; of another one nothing is owed.
  /// - Throws: `unknownPayment` where it is not being served, `tooMany(.proofOctets)`, `overflow` above the maximum, `unavailable`.
  public func owe(_ amount: UInt128, promise id: Digest32, epoch: UInt32, proof: [UInt8], at now: Timestamp) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.owe(amount, promise: id, epoch: epoch, proof: proof, at: now) }
  }

  /// The same for an answer that is withheld until the promise's whole maximum has settled: the answer is kept by the same entry, and forgotten
  /// with the promise where that cannot settle.
  ///
  /// - Throws: `tooMany(.outcomes)` too, where the answer cannot be kept: nothing is owed then.
  public func owe(
    withheld outcome: StoredOutcome, as key: OutcomeKey, promise id: Digest32, epoch: UInt32, proof: [UInt8], at now: Timestamp
  ) throws(Refusal) -> LSN {
    try debit { (state) throws(Refusal) in try state.owe(withheld: outcome, as: key, promise: id, epoch: epoch, proof: proof, at: now) }
  }

  /// Says that an answer that was withheld has left: where too much is kept, of this one the rest is forgotten.
  /// Whether another withheld answer of so many octets can be kept for a payer and a client, beside what nobody has got yet.
  public func keepsWithheld(_ octets: Int, of payer: String, client: ClientAddress) -> Bool {
    state.withLock { state in
      state.outcomeOctets + octets <= LedgerState.withheldOctetLimit && state.undelivered.hasPlace(for: octets, of: payer, client: client)
    }
  }

  public func delivered(_ key: OutcomeKey, at now: Timestamp) {
    try? apply { (state) throws(Refusal) in state.delivered(key, at: now) }
  }

  /// Forgets a promise for which nothing was served, since its payer cannot keep it; false where it is not there any more.
  @discardableResult
  public func forget(promise id: Digest32, at now: Timestamp) -> Bool {
    (try? debit { (state) throws(Refusal) in try state.withdraw(promise: id, at: now) }) != nil
  }

  /// What a payer has promised in a currency and not paid yet, in base units, besides one promise. What was promised and not served for counts
  /// until it has run out; of all where no instant is given.
  public func promised(by payer: String, currency: String, besides id: Digest32, at now: Timestamp? = nil) -> UInt128 {
    state.withLock { $0.promised(by: payer, currency: currency, besides: id, at: now) }
  }

  /// What a payer has claimed or submitted in a currency by payments that are no promises', in base units.
  public func underWay(by payer: String, currency: String, besides id: Digest32) -> UInt128 {
    state.withLock { $0.underWay(by: payer, currency: currency, besides: id) }
  }

  /// Whether a payer was served for what could not be settled, and is remembered for it.
  public func hasLost(by payer: String) -> Bool { state.withLock { $0.hasLost(by: payer) } }

  /// Lists promises, newest first.
  public func promises(_ states: Set<ChainPromiseState> = Set(ChainPromiseState.allCases), limit: Int = 1_000) -> [ChainPromiseView] {
    let found = state.withLock { (state) -> [ChainPromiseView] in
      guard state.availability != .unavailable else { return [] }
      return state.promises.compactMap { states.contains($0.value.state) ? state.view(promise: $0.key) : nil }
    }
    return Array(found.sorted { $0.reference > $1.reference }.prefix(limit))
  }
}
