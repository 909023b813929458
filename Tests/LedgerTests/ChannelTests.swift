import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// Sessions over payment channels.
@Suite struct ChannelTests {
  // MARK: a whole life

  @Test func livesFromOpeningToClose() throws {
    var fixture = try LedgerFixture(funds: 0)
    var ledger = fixture.ledger
    let handle = try fixture.openChannel(1)
    #expect(ledger.payment(fixture.opening(1).id)?.state == .served)
    #expect(ledger.figures(handle) == SessionFigures(isOpen: true, deposit: 100, spent: 0, debited: 0, remaining: 100, units: 0))
    try fixture.use(handle, 60)
    #expect(throws: Refusal.insufficientBudget(required: 10)) { try fixture.use(handle, 50) }
    _ = try ledger.begin(handle, accepting: fixture.voucher(150), cost: .of(50), context: fixture.line, at: noon)
    ledger.finish(handle, debited: .of(50), used: .of(50), units: 1, context: fixture.line, at: noon)
    #expect(fixture.chainAccounts.issued == 0 && fixture.chainEarned == 0)

    // A settlement of the whole voucher: 110 of it are spent.
    _ = try ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 4, at: noon)
    _ = try ledger.submitted(channel: fixture.channelID(1), outgoing: fixture.transaction(4, channel: 1), isClose: false, at: noon)
    #expect(ledger.channel(fixture.channelID(1))?.underWay == id(15_000_004))
    _ = try ledger.concluded(chain: 8453, sender: fixture.sender, nonce: 4, hash: id(15_000_004), gas: 1, succeeded: true, at: noon)
    _ = try ledger.settled(channel: fixture.channelID(1), fixture.account(settled: 150), transaction: id(15_000_004), at: noon)
    #expect(fixture.chainAccounts.issued == 150 && fixture.chainAccounts.sessions == 40 && fixture.chainEarned == 110)
    #expect(ledger.channel(fixture.channelID(1))?.underWay == nil)

    fixture.waitUntilDurable()
    ledger.abandon()
    fixture = try LedgerFixture(in: fixture.folder)
    ledger = fixture.ledger
    let again = try #require(ledger.channel(fixture.channelID(1)))
    #expect(again.voucher == fixture.voucher(150) && again.previous == fixture.voucher(100) && again.booked == 150 && again.spent == 110)
    try fixture.use(again.handle, 10)
    #expect(fixture.chainAccounts.sessions == 30 && fixture.chainEarned == 120)

    _ = try ledger.beginClose(again.handle, cause: .payer, voucher: fixture.voucher(170), claim: (id(3), noon + .seconds(9)), at: noon)
    #expect(throws: Refusal.sessionClosing) { try fixture.use(again.handle, 1) }
    #expect(ledger.closingChannels().map(\.id) == [fixture.channelID(1)])
    _ = try ledger.closed(channel: fixture.channelID(1), captured: 170, refunded: 4_830, transaction: id(4), at: noon)
    guard case .closed(let closed)? = ledger.closeResult(fixture.channelID(1)) else {
      Issue.record("the channel is not closed")
      return
    }
    #expect(closed.spent == 120 && closed.refunded == 4_830 && closed.claim == id(3) && closed.channel?.overpaid == 50)
    #expect(fixture.chainAccounts.issued == 170 && fixture.chainAccounts.sessions == 0 && fixture.chainEarned == 170)
    #expect(ledger.verify().isBalanced)
    let balances = ledger.balances()
    ledger.close()
    let report = verified(fixture.folder)
    #expect(report.isValid, "\(String(describing: report.defect))")
    checkAccounts(report, balances)
  }
}
