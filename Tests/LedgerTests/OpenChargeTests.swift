import Bytes
import Encoding
import Testing

@testable import Ledger

/// Charges that are settled while their responses are on their way: what goes back of them at the end.
@Suite struct OpenChargeTests {
  private func opened(_ fixture: LedgerFixture, _ number: Int = 1) throws -> Hold {
    let hold = try fixture.ledger.hold(fixture.charge(number), at: noon)
    _ = try fixture.ledger.settle(hold, staysOpen: true, at: noon)
    #expect(fixture.balance == 999_900 && fixture.earned == 100)
    return hold
  }

  @Test(arguments: [(UInt128(0), 0), (1, 1), (40, 40), (99, 99), (100, 100), (1000, 100)])
  func givesBackWhatItIsTold(_ amount: UInt128, _ back: Int) throws {
    let fixture = try LedgerFixture()
    let hold = try opened(fixture)
    fixture.ledger.end(hold, givingBack: amount, at: noon)
    #expect(fixture.balance == UInt128(999_900 + back) && fixture.earned == Int128(100 - back))
    // Ended is ended.
    #expect(fixture.ledger.end(hold, givingBack: 100, at: noon) == 0)
    #expect(fixture.balance == UInt128(999_900 + back))
    // The same credential is free again only where nothing was paid in the end.
    #expect(fixture.ledger.claimState(fixture.charge(1).challengeID)?.kind == (back == 100 ? nil : .settled))
    if back == 100 { _ = try fixture.ledger.hold(fixture.charge(1), at: noon) }
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
  }

  @Test func operatorsGiveBackTheRestOnce() throws {
    let fixture = try LedgerFixture()
    let hold = try opened(fixture)
    fixture.ledger.end(hold, givingBack: 30, at: noon)
    _ = try fixture.ledger.refund(hold.id, at: noon)
    #expect(fixture.balance == 1_000_000 && fixture.earned == 0)
    #expect(throws: Refusal.alreadyRefunded) { try fixture.ledger.refund(hold.id, at: noon) }
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
  }

  @Test func anOperatorsRefundInTheMiddleCountsOnce() throws {
    let fixture = try LedgerFixture()
    let hold = try opened(fixture)
    _ = try fixture.ledger.refund(hold.id, at: noon)
    #expect(fixture.ledger.end(hold, givingBack: 100, at: noon) == 0)
    #expect(fixture.balance == 1_000_000 && fixture.earned == 0)
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
  }

  @Test func whatIsNotOpenGivesNothingBack() throws {
    let fixture = try LedgerFixture()
    let hold = try fixture.ledger.hold(fixture.charge(1), at: noon)
    #expect(fixture.ledger.end(hold, givingBack: 100, at: noon) == 0)
    _ = try fixture.ledger.settle(hold, at: noon)
    #expect(fixture.ledger.end(hold, givingBack: 100, at: noon) == 0)
    #expect(fixture.balance == 999_900 && fixture.earned == 100)
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
  }

  @Test func aWholeRefundForgetsTheOutcome() throws {
    let fixture = try LedgerFixture()
    var order = fixture.charge(1)
    let key = OutcomeKey(key: id(5), request: id(6))
    order.idempotency = key
    let hold = try fixture.ledger.hold(order, at: noon)
    let outcome = StoredOutcome(status: 200, head: [], body: nil, receipt: [])
    _ = try fixture.ledger.settle(hold, outcome: outcome, staysOpen: true, at: noon)
    #expect(fixture.ledger.outcome(key) == .stored(outcome))
    fixture.ledger.end(hold, givingBack: 100, at: noon)
    #expect(fixture.ledger.outcome(key) == nil)
    fixture.ledger.close()
  }
}
