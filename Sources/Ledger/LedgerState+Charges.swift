import Bytes
import Encoding

/// The life of a charge: claimed → held → settled, or void and free again.
extension LedgerState {
  /// Refuses a challenge that has been used, or whose use may have been forgotten.
  func checkClaim(_ id: Digest32, expires: Timestamp) throws(Refusal) {
    if let claim = claims[id] {
      switch state(of: claim) {
      case .held: throw .claimInFlight
      case .settled(let reference): throw .claimSettled(reference: reference)
      }
    }
    guard expires > horizon else { throw .claimExpired }
    guard claims.count < LedgerLimit.claims.most else { throw .tooMany(.claims) }
  }

  /// What a challenge's use has come to.
  func state(of claim: Claim) -> ClaimState {
    switch claim.use {
    case .held: return .held
    case .settled, .opened, .toppedUp, .closed: return .settled(reference: claim.reference)
    case .payment(let id):
      switch payments[id]?.state {
      case .claimed, .submitted, .serving: return .held
      case .settled, .served, .writtenOff, nil: return .settled(reference: claim.reference)
      }
    }
  }

  func checkSelling() throws(Refusal) {
    guard availability == .selling else { throw .unavailable }
  }

  /// Takes the money out of the wallet, and claims the challenge, in one entry.
  mutating func hold(_ order: ChargeOrder, at now: Timestamp) throws(Refusal) -> Hold {
    try checkSelling()
    try checkClaim(order.challengeID, expires: order.expires)
    let currency = try currency(order.currency)
    let wallet = try wallet(order.wallet)
    guard holds.count < LedgerLimit.holds.most else { throw .tooMany(.holds) }
    let day = day(at: now)
    if let limit = wallets[Int(wallet)].limit(
      on: .charge, amount: order.amount, currency: Int(currency), code: order.currency, recipient: order.merchant, day: day, at: clock)
    {
      throw .policy(limit)
    }
    let merchant = try merchant(order.merchant)
    if let key = order.idempotency { try reserve(key) }
    do throws(Refusal) {
      try wallets[Int(wallet)].withdraw(order.amount, currency: Int(currency), day: day)
    } catch {
      if let key = order.idempotency { release(key) }
      throw error
    }
    currencies[Int(currency)].held += order.amount
    touchWallet(wallet)
    touchMerchant(merchant)
    touchCurrency(currency)
    let id = advance(at: now)
    let held = HeldCharge(
      payer: .wallet(wallet, challengeID: order.challengeID, day: day), merchant: merchant, currency: currency, amount: order.amount,
      route: order.route, client: order.client, expires: order.expires, idempotency: order.idempotency)
    holds[id] = held
    write(held, id: id)
    setClaim(order.challengeID, Claim(use: .held(id), reference: id, expires: order.expires))
    return Hold(id: id, epoch: epoch)
  }

  /// Moves the money to the merchant: for good, or until `end` says what of it goes back.
  mutating func settle(_ hold: Hold, outcome: StoredOutcome?, staysOpen: Bool = false, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard hold.epoch == epoch, let held = holds.removeValue(forKey: hold.id) else { throw .unknownHold }
    currencies[Int(held.currency)].held -= held.amount
    touchCurrency(held.currency)
    credit(held.merchant, Int128(held.amount), currency: held.currency)
    switch held.payer {
    case .wallet(let wallet, let challengeID, let day):
      redo.removeRecord(RecordKey(.hold, number: hold.id))
      setClaim(challengeID, Claim(use: .settled(hold.id), reference: hold.id, expires: held.expires))
      expiries.add(.claim(challengeID), at: held.expires)
      write(settled(held, held.amount, wallet: wallet, day: day), reference: hold.id)
    case .payment(let id): useUp(id, as: .served, at: now)
    }
    if let key = held.idempotency {
      // Who pays nothing could have everything kept: his answers are made anew.
      if let outcome, !isFree(held) { store(outcome, for: key, at: now) } else { release(key) }
    }
    if staysOpen { openCharges[hold.id] = held }
    return append(line(.chargeSettled, of: held, id: hold.id, at: now), words: words(of: held))
  }

  /// Ends a charge that stayed open, and gives part of it back. Where all of it goes back, the claim and the key are free again: the same
  /// credential may be tried again. A merchant who was paid out meanwhile owes it.
  ///
  /// Of a payment on a chain only all of it goes back, to be served once more: the chain cannot give back by itself.
  mutating func end(_ hold: Hold, givingBack amount: UInt128, at now: Timestamp) -> LSN {
    guard hold.epoch == epoch, let held = openCharges.removeValue(forKey: hold.id), availability != .unavailable else { return 0 }
    let back = min(amount, held.amount)
    guard back > 0 else { return 0 }
    let isWhole = back == held.amount
    switch held.payer {
    case .wallet(let wallet, let challengeID, let day):
      wallets[Int(wallet)].giveBack(back, currency: Int(held.currency), outflow: back, day: day)
      touchWallet(wallet)
      var charge = settled(held, held.amount - back, wallet: wallet, day: day)
      charge.isRefunded = isWhole
      write(charge, reference: hold.id)
      if isWhole {
        claims[challengeID] = nil
        redo.removeRecord(RecordKey(.claim, challengeID))
      }
    case .payment(let id):
      guard isWhole, payments[id]?.state == .served else { return 0 }
      currencies[Int(held.currency)].held += held.amount
      touchCurrency(held.currency)
      setUnserved(id, at: now)
    }
    credit(held.merchant, -Int128(back), currency: held.currency)
    if isWhole, let key = held.idempotency { forget(key) }
    var entry = line(.refund, of: held, id: hold.id, at: now)
    entry.amount = back
    return append(entry, words: words(of: held))
  }

  /// Gives the money back to the wallet and to the day it left on, and frees the claim; what was paid on a chain stays paid.
  mutating func void(_ hold: Hold, cause: VoidCause, at now: Timestamp) -> LSN {
    guard availability != .unavailable, hold.epoch == epoch, let held = holds.removeValue(forKey: hold.id) else { return 0 }
    switch held.payer {
    case .wallet(let wallet, let challengeID, let day):
      redo.removeRecord(RecordKey(.hold, number: hold.id))
      currencies[Int(held.currency)].held -= held.amount
      touchCurrency(held.currency)
      wallets[Int(wallet)].giveBack(held.amount, currency: Int(held.currency), outflow: held.amount, day: day)
      touchWallet(wallet)
      claims[challengeID] = nil
      redo.removeRecord(RecordKey(.claim, challengeID))
    case .payment(let id): setUnserved(id, at: now)
    }
    if let key = held.idempotency { release(key) }
    var words = words(of: held) ?? EntryWords()
    words.cause = cause.rawValue
    return append(line(.chargeVoided, of: held, id: hold.id, at: now), words: words)
  }

  private func settled(_ held: HeldCharge, _ amount: UInt128, wallet: UInt32, day: Int32) -> SettledCharge {
    SettledCharge(
      wallet: wallets[Int(wallet)].number, merchant: merchants[Int(held.merchant)].name, currency: currencies[Int(held.currency)].code,
      amount: amount, day: day, isRefunded: false)
  }

  private func line(_ kind: AuditEventKind, of held: HeldCharge, id: LSN, at now: Timestamp) -> Entry {
    var entry = Entry(kind, at: now)
    entry.currency = held.currency
    entry.route = held.route
    entry.merchant = held.merchant
    entry.client = held.client
    entry.amount = held.amount
    entry.reference = id
    switch held.payer {
    case .wallet(let wallet, _, _): entry.wallet = wallets[Int(wallet)].fragment
    case .payment(let id): entry.reference = payments[id]?.reference ?? entry.reference
    }
    return entry
  }

  private func words(of held: HeldCharge) -> EntryWords? {
    guard case .payment(let id) = held.payer, let payment = payments[id] else { return nil }
    return EntryWords(chain: ChainWords(of: payment, id: nil))
  }

  private func isFree(_ held: HeldCharge) -> Bool {
    guard case .payment(let id) = held.payer else { return false }
    return payments[id]?.isFree == true
  }

  mutating func setClaim(_ id: Digest32, _ claim: Claim) {
    claims[id] = claim
    write(claim, id: id)
  }

  // MARK: idempotency

  func outcome(_ key: OutcomeKey) -> OutcomeState? {
    guard let record = outcomes[key.key] else { return nil }
    guard record.request == key.request else { return .mismatch }
    return record.outcome.map { .stored($0) } ?? .inFlight
  }

  /// Marks a key as in flight; a restart forgets that.
  mutating func reserve(_ key: OutcomeKey) throws(Refusal) {
    switch outcome(key) {
    case nil:
      guard outcomes.count < LedgerLimit.outcomes.most else { throw .tooMany(.outcomes) }
      outcomes[key.key] = OutcomeRecord(request: key.request)
    case .inFlight, .stored: throw .outcomeInFlight
    case .mismatch: throw .outcomeMismatch
    }
  }

  /// Frees a key whose request ended without an outcome worth keeping.
  mutating func release(_ key: OutcomeKey) {
    if let record = outcomes[key.key], record.outcome == nil, record.request == key.request { outcomes[key.key] = nil }
  }

  /// Forgets an outcome whose request turned out to have cost nothing.
  mutating func forget(_ key: OutcomeKey) {
    guard let record = outcomes[key.key], record.request == key.request else { return }
    outcomes[key.key] = nil
    undelivered.remove(key.key)
    guard let outcome = record.outcome else { return }
    outcomeOctets -= outcome.octetCount
    redo.removeRecord(RecordKey(.outcome, key.key))
  }

  /// Keeps an outcome for 24 hours; past the memory's bound only its receipt, so that nobody pays again.
  mutating func store(_ outcome: StoredOutcome, for key: OutcomeKey, at now: Timestamp) {
    var outcome = outcome
    if outcomeOctets + outcome.octetCount > Self.outcomeOctetLimit {
      outcome.head = []
      outcome.body = nil
    }
    keep(outcome, for: key, at: now)
  }

  /// Keeps an outcome as it is.
  mutating func keep(_ outcome: StoredOutcome, for key: OutcomeKey, at now: Timestamp) {
    if let known = outcomes[key.key]?.outcome { outcomeOctets -= known.octetCount }
    let expires = (now > clock ? now : clock) + Self.answerRetention
    outcomes[key.key] = OutcomeRecord(request: key.request, outcome: outcome)
    outcomeOctets += outcome.octetCount
    expiries.add(.outcome(key.key), at: expires)
    write(OutcomeRecord(request: key.request, outcome: outcome), expires: expires, key: key.key)
  }

  /// How long answers are kept after the fact.
  static var answerRetention: Duration { .seconds(86_400) }
  /// The most octets of stored outcomes in memory, up to which whole ones are kept.
  static var outcomeOctetLimit: Int { 64 << 20 }
  /// The same for answers that have not left yet, since they are paid for first.
  static var withheldOctetLimit: Int { 128 << 20 }
}

/// A settled charge, kept so that it can be refunded by its reference.
struct SettledCharge {
  var wallet: UInt64
  var merchant: String
  var currency: String
  var amount: UInt128
  var day: Int32
  var isRefunded: Bool
}
