import Bytes
import Encoding
import HTTP
import Testing

@testable import Ledger

/// Promises whose answers are withheld until they have settled: the answer is there exactly as long as it is owed for or paid.
@Suite struct WithheldPromiseTests {
  private static let answer = StoredOutcome(status: 200, head: [1, 2], body: [3, 4, 5], receipt: [])

  private func order(_ fixture: LedgerFixture, named name: Digest32? = nil) -> ChainPaymentOrder {
    var order = fixture.payment(1)
    order.isWithheld = true
    order.name = name
    return order
  }

  private func key(_ order: ChainPaymentOrder) -> OutcomeKey { OutcomeKey(key: order.name ?? order.id, request: order.request) }

  private func owed(_ fixture: LedgerFixture, named name: Digest32? = nil) throws -> ChainPaymentOrder {
    let (order, ledger) = (order(fixture, named: name), fixture.ledger)
    _ = try ledger.promise(order, at: noon)
    _ = try ledger.serve(promise: order.id, request: order.request, at: noon)
    _ = try ledger.owe(withheld: Self.answer, as: key(order), promise: order.id, epoch: ledger.epoch, proof: [1], at: noon)
    return order
  }

  @Test(arguments: [nil, id(9)]) func whatSettlesIsKeptWithItsAnswer(name: Digest32?) throws {
    let fixture = try LedgerFixture(funds: 0)
    let order = try owed(fixture, named: name)
    #expect(fixture.ledger.promise(order.id)?.state == .owed && fixture.ledger.promise(order.id)?.amount == order.amount)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    let ledger = again.ledger
    #expect(ledger.promise(order.id)?.isWithheld == true && ledger.promise(order.id)?.name == name)
    #expect(ledger.openPayments().map(\.id) == [order.id] && ledger.outcome(key(order)) == .stored(Self.answer))
    _ = try ledger.settled(order.id, transaction: id(5), at: noon)
    #expect(ledger.promise(order.id)?.state == .kept && ledger.outcome(key(order)) == .stored(Self.answer))
    #expect(again.chainEarned == Int128(order.amount) && ledger.verify().isBalanced)
    ledger.close()
    #expect(verified(fixture.folder).isValid)
  }

  /// Nobody has got the answer, so nothing is lost: the payment may be brought again, at once.
  @Test(arguments: [nil, id(9)]) func whatCannotBeSettledIsForgottenWithItsAnswer(name: Digest32?) throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let order = try owed(fixture, named: name)
    _ = try ledger.refused(order.id, cause: "reverted", at: noon)
    #expect(ledger.promise(order.id) == nil && ledger.payment(order.id) == nil && ledger.outcome(key(order)) == nil)
    #expect(!ledger.hasLost(by: order.payer) && ledger.promised(by: order.payer, currency: order.currency, besides: id(0)) == 0)
    _ = try ledger.promise(order, at: noon)
    fixture.waitUntilDurable()
    ledger.abandon()
    // What a crash finds promised was served for nobody.
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.promise(order.id) == nil && again.ledger.outcome(key(order)) == nil && again.ledger.verify().isBalanced)
    _ = try again.ledger.claim(order, at: noon)
    again.ledger.close()
  }

  @Test func whatIsInTheOutboxIsNotForgotten() throws {
    let fixture = try LedgerFixture(funds: 0)
    let order = try owed(fixture)
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 0, at: noon)
    _ = try fixture.ledger.submitted(order.id, outgoing: fixture.transaction(0, for: 1), at: noon)
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.refused(order.id, cause: "reverted", at: noon) }
    #expect(fixture.ledger.outcome(key(order)) == .stored(Self.answer))
  }

  @Test func anAnswerThatCannotBeKeptIsNotOwedFor() throws {
    let fixture = try LedgerFixture(funds: 0)
    let (order, ledger) = (order(fixture), fixture.ledger)
    _ = try ledger.promise(order, at: noon)
    _ = try ledger.serve(promise: order.id, request: order.request, at: noon)
    let long = StoredOutcome(status: 200, head: [], body: Array(repeating: 0, count: LedgerState.withheldOctetLimit + 1), receipt: [])
    #expect(throws: Refusal.tooMany(.outcomes)) {
      try ledger.owe(withheld: long, as: key(order), promise: order.id, epoch: ledger.epoch, proof: [1], at: noon)
    }
    #expect(ledger.promise(order.id)?.state == .serving && ledger.payment(order.id) == nil && ledger.outcome(key(order)) == nil)
    ledger.renew(promise: order.id, epoch: ledger.epoch, at: noon)
    #expect(ledger.promise(order.id)?.state == .promised)
  }

  /// Who has answers made that he does not fetch has not the place of all; what is owed for stays.
  @Test func whatNobodyFetchesIsBoundedAndStaysWhileItIsOwed() throws {
    let fixture = try LedgerFixture(funds: 0)
    let first = try owed(fixture)
    let payer = first.payer
    let other = ClientAddress(ipv4: 0x0A00_0001)
    let most = UndeliveredAnswers.payerLimit
    #expect(fixture.ledger.keepsWithheld(most - 5, of: payer, client: first.client) && !fixture.ledger.keepsWithheld(most, of: payer, client: other))
    #expect(fixture.ledger.keepsWithheld(most, of: "0xother", client: first.client))
    #expect(!fixture.ledger.keepsWithheld(UndeliveredAnswers.clientLimit, of: "0xother", client: first.client))
    #expect(!fixture.ledger.keepsWithheld(LedgerState.withheldOctetLimit, of: "0xother", client: other))
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    let ledger = again.ledger
    #expect(!ledger.keepsWithheld(most, of: payer, client: other))
    ledger.sweep(at: noon + .seconds(2 * 86_400))
    #expect(ledger.outcome(key(first)) == .stored(Self.answer))
    _ = try ledger.settled(first.id, transaction: id(5), at: noon + .seconds(2 * 86_400))
    ledger.delivered(key(first), at: noon + .seconds(2 * 86_400))
    #expect(ledger.keepsWithheld(most, of: payer, client: first.client))
    ledger.sweep(at: noon + .seconds(5 * 86_400))
    #expect(ledger.outcome(key(first)) == nil)
  }

  @Test func ofWhatWasDeliveredTheRestIsForgottenWhereTooMuchIsKept() throws {
    let fixture = try LedgerFixture(funds: 0)
    let (order, ledger) = (order(fixture), fixture.ledger)
    _ = try ledger.promise(order, at: noon)
    _ = try ledger.serve(promise: order.id, request: order.request, at: noon)
    let long = StoredOutcome(status: 200, head: [], body: Array(repeating: 0, count: LedgerState.outcomeOctetLimit + 1), receipt: [])
    _ = try ledger.owe(withheld: long, as: key(order), promise: order.id, epoch: ledger.epoch, proof: [1], at: noon)
    #expect(ledger.outcome(key(order)) == .stored(long))
    _ = try ledger.settled(order.id, transaction: nil, at: noon)
    ledger.delivered(key(order), at: noon)
    #expect(ledger.outcome(key(order)) == .stored(StoredOutcome(status: 200, head: [], body: nil, receipt: [])))
  }
}
