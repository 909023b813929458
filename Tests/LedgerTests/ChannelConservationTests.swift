import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// Random calls from a seed, with kills in between: the books of channels hold, and the audit log tells the same story.
@Suite struct ChannelConservationTests {
  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64]) func moneyIsConserved(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed &* 0x9E37_79B9)
    var fixture = try LedgerFixture(funds: 0)
    var model = ChannelModel()
    for step in 1...1_500 {
      try model.step(fixture, using: &generator)
      model.check(fixture)
      guard step % 100 == 0 else { continue }
      // A kill with everything durable, or in the middle of whatever was queued.
      let isDurable = step % 200 == 0
      if isDurable { fixture.waitUntilDurable() }
      fixture.ledger.abandon()
      fixture = try LedgerFixture(in: fixture.folder)
      if isDurable { model.restart() } else { model.reload(fixture) }
      model.check(fixture)
    }
    #expect(model.channels.count > 10)
    #expect(model.channels.values.contains { $0.captured != nil })
    let again = fixture
    again.waitUntilDurable()
    again.ledger.abandon()
    let last = try LedgerFixture(in: fixture.folder)
    last.waitUntilDurable()
    let balances = last.ledger.balances()
    last.ledger.close()
    let report = verified(fixture.folder)
    #expect(report.isValid, "\(String(describing: report.defect))")
    checkAccounts(report, balances)
  }
}
