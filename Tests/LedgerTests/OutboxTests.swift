import Bytes
import Encoding
import Testing

@testable import Ledger

/// Transactions on their way: nonces without gaps, replacements, ends, and what they cost.
@Suite struct OutboxTests {
  private func fixture(nonce: UInt64? = 7) throws -> LedgerFixture {
    let fixture = try LedgerFixture(funds: 0)
    if let nonce { _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: nonce, at: noon) }
    return fixture
  }

  private func reopened(_ fixture: LedgerFixture) throws -> LedgerFixture {
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    return try LedgerFixture(in: fixture.folder)
  }

  private func next(_ fixture: LedgerFixture) -> UInt64? { fixture.ledger.nextNonce(chain: 8453, sender: fixture.sender) }

  private func waiting(_ fixture: LedgerFixture) -> [UInt64] { fixture.ledger.outgoing(chain: 8453, sender: fixture.sender).map(\.nonce) }

  @Test func noncesFollowEachOther() throws {
    var fixture = try fixture(nonce: nil)
    #expect(next(fixture) == nil)
    #expect(throws: Refusal.wrongNonce(next: nil)) { try fixture.ledger.enqueue(fixture.transaction(0, for: 1), at: noon) }
    #expect(try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 7, at: noon) > 0)
    #expect(try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 7, at: noon) == 0)
    #expect(throws: Refusal.malformedName) { try fixture.ledger.adoptNonce(chain: 1, sender: [1], nonce: 7, at: noon) }
    for nonce in [UInt64(6), 8, .max] {
      #expect(throws: Refusal.wrongNonce(next: 7)) { try fixture.ledger.enqueue(fixture.transaction(nonce, for: 1), at: noon) }
    }
    _ = try fixture.ledger.enqueue(fixture.transaction(7, for: 1), at: noon)
    #expect(throws: Refusal.wrongNonce(next: 8)) { try fixture.ledger.enqueue(fixture.transaction(7, for: 1), at: noon) }
    _ = try fixture.ledger.enqueue(fixture.transaction(8, for: 2), at: noon)
    // The chain's word counts only while nothing is on its way.
    #expect(throws: Refusal.wrongNonce(next: 9)) { try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 12, at: noon) }
    // Another chain, and another sender, count for themselves.
    #expect(fixture.ledger.nextNonce(chain: 1, sender: fixture.sender) == nil)
    #expect(fixture.ledger.nextNonce(chain: 8453, sender: [UInt8](repeating: 1, count: 20)) == nil)
    let before = fixture.ledger.outgoing(chain: 8453, sender: fixture.sender)
    fixture = try reopened(fixture)
    #expect(next(fixture) == 9)
    #expect(fixture.ledger.outgoing(chain: 8453, sender: fixture.sender) == before)
    #expect(before == [fixture.transaction(7, for: 1), fixture.transaction(8, for: 2)])
    for nonce in [UInt64(7), 8] { try conclude(fixture, nonce) }
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 12, at: noon)
    #expect(next(fixture) == 12)
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: .max, at: noon)
    #expect(throws: Refusal.wrongNonce(next: .max)) { try fixture.ledger.enqueue(fixture.transaction(.max, for: 1), at: noon) }
  }

  private func conclude(_ fixture: LedgerFixture, _ nonce: UInt64, gas: UInt128 = 21_000, succeeded: Bool = true) throws {
    _ = try fixture.ledger.concluded(
      chain: 8453, sender: fixture.sender, nonce: nonce, hash: id(9_000_001), gas: gas, succeeded: succeeded, at: noon)
  }

  @Test func whatNobodySawIsTakenBack() throws {
    var fixture = try fixture()
    let ledger = fixture.ledger
    for nonce in UInt64(7)...10 { _ = try ledger.enqueue(fixture.transaction(nonce, for: 1), at: noon) }
    _ = try ledger.cancelled(chain: 8453, sender: fixture.sender, nonce: 10, at: noon)
    #expect(next(fixture) == 10)
    _ = try ledger.cancelled(chain: 8453, sender: fixture.sender, nonce: 8, at: noon)
    #expect(next(fixture) == 8)
    #expect(throws: Refusal.unknownTransaction) { try ledger.cancelled(chain: 8453, sender: fixture.sender, nonce: 8, at: noon) }
    // A gap is filled before anything is added above it.
    #expect(throws: Refusal.wrongNonce(next: 8)) { try ledger.enqueue(fixture.transaction(10, for: 1), at: noon) }
    fixture = try reopened(fixture)
    #expect(next(fixture) == 8 && waiting(fixture) == [7, 9])
    _ = try fixture.ledger.cancelled(chain: 8453, sender: fixture.sender, nonce: 9, at: noon)
    // Both are gone from the end, so there is no gap.
    #expect(next(fixture) == 8)
    _ = try fixture.ledger.enqueue(fixture.transaction(8, for: 1), at: noon)
    #expect(next(fixture) == 9)
    fixture = try reopened(fixture)
    #expect(next(fixture) == 9 && waiting(fixture) == [7, 8])
  }

  @Test func theGapIsFilledFirst() throws {
    let fixture = try fixture()
    for nonce in UInt64(7)...9 { _ = try fixture.ledger.enqueue(fixture.transaction(nonce, for: 1), at: noon) }
    for nonce in [UInt64(8), 7] { _ = try fixture.ledger.cancelled(chain: 8453, sender: fixture.sender, nonce: nonce, at: noon) }
    for nonce in [UInt64(7), 8, 10] {
      #expect(next(fixture) == nonce)
      _ = try fixture.ledger.enqueue(fixture.transaction(nonce, for: 1), at: noon)
    }
    #expect(waiting(fixture) == [7, 8, 9, 10])
  }

  @Test func aPaymentAndItsTransactionAreOneEntry() throws {
    var fixture = try fixture()
    let order = fixture.payment(1)
    _ = try fixture.ledger.claim(order, at: noon)
    #expect(throws: Refusal.paymentMismatch) { try fixture.ledger.submitted(order.id, outgoing: fixture.transaction(7, for: 2), at: noon) }
    #expect(throws: Refusal.wrongNonce(next: 7)) { try fixture.ledger.submitted(order.id, outgoing: fixture.transaction(8, for: 1), at: noon) }
    #expect(throws: Refusal.unknownPayment) {
      try fixture.ledger.submitted(fixture.payment(2).id, outgoing: fixture.transaction(7, for: 2), at: noon)
    }
    #expect(fixture.ledger.payment(order.id)?.state == .claimed && waiting(fixture).isEmpty)
    let before = fixture.ledger.applied
    let lsn = try fixture.ledger.submitted(order.id, outgoing: fixture.transaction(7, for: 1), at: noon)
    #expect(lsn == before + 1)
    fixture = try reopened(fixture)
    #expect(fixture.ledger.openPayments().map(\.transaction) == [id(9_000_001)])
    #expect(waiting(fixture) == [7])
    // What may still land is not refused.
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.refused(order.id, cause: "reverted", at: noon) }
    try conclude(fixture, 7, succeeded: false)
    _ = try fixture.ledger.refused(order.id, cause: "reverted", at: noon)
    #expect(fixture.ledger.payment(order.id) == nil)
  }

  /// What is in the outbox may be sent: a restart frees its payment no more, however it was put there.
  @Test func whatIsInTheOutboxIsSubmitted() throws {
    var fixture = try fixture()
    let order = fixture.payment(1)
    _ = try fixture.ledger.claim(order, at: noon)
    _ = try fixture.ledger.enqueue(fixture.transaction(7, for: 1), at: noon)
    #expect(fixture.ledger.payment(order.id)?.state == .submitted)
    fixture = try reopened(fixture)
    #expect(fixture.ledger.openPayments().map(\.id) == [order.id] && waiting(fixture) == [7])
  }

  @Test func aStuckTransactionIsReplaced() throws {
    var fixture = try fixture()
    let order = fixture.payment(1)
    _ = try fixture.ledger.claim(order, at: noon)
    _ = try fixture.ledger.submitted(order.id, outgoing: fixture.transaction(7, for: 1), at: noon)
    func replace(_ number: Int, octets: Int = 3) throws -> LSN {
      try fixture.ledger.replace(
        chain: 8453, sender: fixture.sender, nonce: 7, raw: [UInt8](repeating: UInt8(number), count: octets), hash: id(number), at: noon)
    }
    #expect(try replace(1) > 0)
    #expect(try replace(1) == 0)
    #expect(fixture.ledger.payment(order.id)?.transaction == id(1))
    #expect(throws: Refusal.tooMany(.transactionOctets)) { try replace(2, octets: LedgerLimit.transactionOctets.most + 1) }
    for number in 2...8 { _ = try replace(number) }
    #expect(throws: Refusal.tooMany(.replacements)) { try replace(9) }
    #expect(throws: Refusal.unknownTransaction) {
      try fixture.ledger.replace(chain: 8453, sender: fixture.sender, nonce: 8, raw: [], hash: id(1), at: noon)
    }
    fixture = try reopened(fixture)
    let transaction = try #require(fixture.ledger.outgoing(chain: 8453, sender: fixture.sender).first)
    #expect(transaction.hash == id(8) && transaction.raw == [8, 8, 8])
    #expect(transaction.replaced == [id(9_000_001)] + (1...7).map { id($0) })
    #expect(fixture.ledger.payment(order.id)?.transaction == id(8))
    // Money that has arrived by an earlier version is not moved by replacing.
    _ = try fixture.ledger.settled(order.id, transaction: id(3), at: noon)
    try conclude(fixture, 7)
    #expect(fixture.ledger.payment(order.id)?.transaction == id(3))
    #expect(waiting(fixture).isEmpty)
  }

  @Test func countsWhatItCost() throws {
    var fixture = try fixture()
    for nonce in UInt64(7)...9 { _ = try fixture.ledger.enqueue(fixture.transaction(nonce, for: 1), at: noon) }
    try conclude(fixture, 8, gas: 100)
    try conclude(fixture, 7, gas: 20, succeeded: false)
    #expect(throws: Refusal.unknownTransaction) { try conclude(fixture, 7, gas: 20) }
    fixture = try reopened(fixture)
    let view = try #require(fixture.ledger.chainSenders().first)
    #expect(view.chain == 8453 && view.sender == fixture.sender && view.nextNonce == 10 && view.outgoing == 1)
    #expect(view.gas == 120 && view.succeeded == 1 && view.failed == 1)
    try conclude(fixture, 9, gas: .max)
    #expect(fixture.ledger.chainSenders().first?.gas == .max)
    fixture.ledger.close()
    let line = try #require(try fixture.lines().last { $0.objectValue?["event"]?.stringValue == "chain.transaction" }?.objectValue)
    #expect(line["chain"]?.stringValue == "8453" && line["nonce"]?.stringValue == "9" && line["gas"]?.stringValue == "\(UInt128.max)")
    #expect(line["outcome"]?.stringValue == "succeeded" && line["sender"]?.stringValue == "0x" + String(repeating: "be", count: 20))
    #expect(line["transaction"]?.stringValue == "0x\(id(9_000_001).hex)" && line["purpose"]?.stringValue == fixture.payment(1).id.hex)
    #expect(verified(fixture.folder).isValid)
  }

  @Test func limitsHold() throws {
    let fixture = try fixture(nonce: 0)
    var long = fixture.transaction(0, for: 1)
    long.raw = [UInt8](repeating: 0, count: LedgerLimit.transactionOctets.most + 1)
    #expect(throws: Refusal.tooMany(.transactionOctets)) { try fixture.ledger.enqueue(long, at: noon) }
    long.raw = []
    long.replaced = [Digest32](repeating: id(1), count: LedgerLimit.replacements.most + 1)
    #expect(throws: Refusal.tooMany(.replacements)) { try fixture.ledger.enqueue(long, at: noon) }
    for nonce in 0..<UInt64(LedgerLimit.outgoing.most) { _ = try fixture.ledger.enqueue(fixture.transaction(nonce, for: 1), at: noon) }
    #expect(throws: Refusal.tooMany(.outgoing)) { try fixture.ledger.enqueue(fixture.transaction(1_024, for: 1), at: noon) }
    for number in 1..<LedgerLimit.senders.most {
      _ = try fixture.ledger.adoptNonce(chain: UInt64(number), sender: fixture.sender, nonce: 0, at: noon)
    }
    #expect(throws: Refusal.tooMany(.senders)) { try fixture.ledger.adoptNonce(chain: 999, sender: fixture.sender, nonce: 0, at: noon) }
    #expect(fixture.ledger.chainSenders().count == LedgerLimit.senders.most)
  }
}
