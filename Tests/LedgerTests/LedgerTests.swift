import Bytes
import Crypto
import Encoding
import Metering
import Payments
import Testing

@testable import Ledger

@Suite struct LedgerTests {
  @Test func survivesAnOrderlyEnd() throws {
    let fixture = try LedgerFixture()
    let hold = try fixture.ledger.hold(fixture.charge(1), at: noon)
    _ = try fixture.ledger.settle(hold, at: noon)
    let session = try fixture.open(1)
    _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    fixture.ledger.finish(session, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
    fixture.ledger.close()

    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.balance == 998_900)
    #expect(again.earned == 110)
    let handle = try #require(again.ledger.session(id(3_000_001)))
    #expect(again.ledger.view(handle)?.spent == 10)
    #expect(again.ledger.verify().isBalanced)
    #expect(again.ledger.claimState(id(1_000_001)) == .settled(reference: hold.id))
    again.ledger.close()
    let events = try again.lines().map { try #require($0.objectValue?["event"]?.stringValue) }
    #expect(
      events == [
        "start", "wallet.created", "wallet.funded", "charge.settled", "session.opened", "session.debited", "stop", "checkpoint", "start",
        "stop", "checkpoint",
      ])
  }
}
