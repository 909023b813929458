import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// Channels whose vouchers each pay for one request (batch-settlement).
@Suite struct BatchSettlementTests {
  /// Opens a channel of which `settled` was claimed before.
  private func open(_ fixture: LedgerFixture, voucher amount: UInt128, settled: UInt128 = 0, payment: Int = 1) throws -> SessionHandle {
    var order = fixture.opening(1, voucher: amount, payment: payment)
    var channel = fixture.channelOrder(1, voucher: amount, inFlight: 1)
    channel.isResumable = true
    order.challengeID = nil
    order.deposit = .open(channel)
    _ = try fixture.ledger.claim(order, at: noon)
    _ = try fixture.ledger.deposited(order.id, fixture.account(settled: settled), transaction: id(14_000_000 + payment), at: noon)
    return try #require(fixture.ledger.session(fixture.channelID(1)))
  }

  private func pay(_ fixture: LedgerFixture, _ handle: SessionHandle, _ amount: UInt128, signed: UInt128) throws {
    _ = try fixture.ledger.begin(handle, paying: amount, by: fixture.voucher(signed), at: noon)
    _ = try fixture.ledger.charge(handle, amount, by: fixture.voucher(signed), context: context(fixture), at: noon)
  }

  private func context(_ fixture: LedgerFixture) -> DebitContext { DebitContext(route: fixture.route, writesLine: false, units: 1) }

  @Test func aVoucherPaysForOneRequest() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try open(fixture, voucher: 100)
    try pay(fixture, handle, 100, signed: 100)
    #expect(ledger.channel(fixture.channelID(1))?.debited == 100)
    for signed: UInt128 in [100, 150, 250, 5_001] {
      #expect(throws: signed > 5_000 ? Refusal.beyondDeposit : .channelBusy) { try ledger.begin(handle, paying: 100, by: fixture.voucher(signed), at: noon) }
    }
    try pay(fixture, handle, 100, signed: 200)
    // One that is below the last, but what is charged with it: the last one stays.
    _ = try ledger.begin(handle, paying: 300, by: fixture.voucher(500), at: noon)
    ledger.finish(handle, debited: .zero, used: .zero, held: .of(300), units: 1, context: context(fixture), at: noon)
    try pay(fixture, handle, 50, signed: 250)
    let view = try #require(ledger.channel(fixture.channelID(1)))
    #expect(view.voucher == fixture.voucher(500) && view.debited == 250 && view.spent == 250 && view.inFlight == 0)
    #expect(ledger.verify().isBalanced)
  }

  @Test func oneRequestIsServedAtATime() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try open(fixture, voucher: 100)
    _ = try ledger.begin(handle, paying: 100, by: fixture.voucher(100), at: noon)
    let view = try #require(ledger.channel(fixture.channelID(1)))
    #expect(view.debited == 0 && view.spent == 100 && view.inFlight == 1)
    for signed: UInt128 in [100, 200] {
      #expect(throws: Refusal.channelBusy) { try ledger.begin(handle, paying: 100, by: fixture.voucher(signed), at: noon) }
    }
    // Told to close, it still pays for what succeeds.
    _ = try ledger.beginClose(handle, cause: .forced, voucher: nil, at: noon)
    _ = try ledger.charge(handle, 100, by: fixture.voucher(100), context: context(fixture), at: noon)
    #expect(ledger.channel(fixture.channelID(1))?.debited == 100 && ledger.closingChannels().count == 1)
    #expect(throws: Refusal.sessionClosed) { try ledger.charge(handle, 100, by: fixture.voucher(100), context: context(fixture), at: noon) }
  }

  @Test func aRestartKeepsTheVoucherAndChargesNothing() throws {
    var fixture = try LedgerFixture(funds: 0)
    let handle = try open(fixture, voucher: 100)
    try pay(fixture, handle, 100, signed: 100)
    _ = try fixture.ledger.begin(handle, paying: 100, by: fixture.voucher(200), at: noon)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    fixture = try LedgerFixture(in: fixture.folder)
    let view = try #require(fixture.ledger.channel(fixture.channelID(1)))
    #expect(view.voucher == fixture.voucher(200) && view.debited == 100 && view.inFlight == 0)
    try pay(fixture, view.handle, 100, signed: 200)
    #expect(fixture.ledger.channel(fixture.channelID(1))?.debited == 200)
  }

  /// A refund stops nothing: what another worker has begun since it was looked at ends first.
  @Test func aCloseAtRestWaitsForWhatIsInFlight() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try open(fixture, voucher: 100)
    _ = try ledger.begin(handle, paying: 100, by: fixture.voucher(100), at: noon)
    #expect(throws: Refusal.channelBusy) { try ledger.beginClose(handle, cause: .payer, voucher: nil, onlyAtRest: true, at: noon) }
    #expect(ledger.channel(fixture.channelID(1))?.phase == .open)
    _ = try ledger.beginClose(handle, cause: .payer, voucher: nil, at: noon)
    #expect(ledger.channel(fixture.channelID(1))?.phase == .closing)
    // It is closed for whoever asks again.
    _ = try ledger.beginClose(handle, cause: .payer, voucher: nil, onlyAtRest: true, at: noon)
  }

  /// What was claimed before a channel was opened again is booked once.
  @Test func aClosedChannelIsOpenedAgain() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try open(fixture, voucher: 100)
    try pay(fixture, handle, 100, signed: 100)
    _ = try ledger.beginClose(handle, cause: .idle, voucher: nil, at: noon)
    _ = try ledger.closed(channel: fixture.channelID(1), captured: 100, refunded: 4_900, transaction: id(1), at: noon)
    #expect(fixture.chainAccounts.issued == 100 && fixture.chainEarned == 100)
    // Another kind of channel stays closed.
    #expect(throws: Refusal.sessionExists) { try ledger.claim(fixture.opening(1, payment: 5), at: noon) }

    let again = try open(fixture, voucher: 150, settled: 100, payment: 2)
    #expect(fixture.chainAccounts.issued == 100 && ledger.channel(fixture.channelID(1))?.booked == 100)
    #expect(ledger.closeResult(fixture.channelID(1)) == nil)
    try pay(fixture, again, 50, signed: 150)
    _ = try ledger.settled(channel: fixture.channelID(1), fixture.account(settled: 150), transaction: nil, at: noon)
    #expect(fixture.chainAccounts.issued == 150 && fixture.chainEarned == 150)
    _ = try ledger.beginClose(again, cause: .payer, voucher: nil, at: noon)
    _ = try ledger.closed(channel: fixture.channelID(1), captured: 150, refunded: 4_850, transaction: id(2), at: noon)
    #expect(fixture.chainAccounts.issued == 150 && fixture.chainEarned == 150 && ledger.verify().isBalanced)
    let balances = ledger.balances()
    fixture.waitUntilDurable()
    ledger.close()
    let report = verified(fixture.folder)
    #expect(report.isValid, "\(String(describing: report.defect))")
    checkAccounts(report, balances)
  }

  /// A ledger that was restored does not know what the chain does: what was claimed before is not booked by it.
  @Test func aChannelIsAdopted() throws {
    var fixture = try LedgerFixture(funds: 0)
    var order = fixture.channelOrder(1, voucher: 400, inFlight: 1)
    order.isResumable = true
    for wrong: UInt128 in [299, 5_001] {
      var order = order
      order.voucher = fixture.voucher(wrong)
      #expect(throws: Refusal.beyondDeposit) { try fixture.ledger.adopted(order, fixture.account(settled: 300), at: noon) }
    }
    _ = try fixture.ledger.adopted(order, fixture.account(settled: 300), at: noon)
    #expect(throws: Refusal.sessionExists) { try fixture.ledger.adopted(order, fixture.account(settled: 300), at: noon) }
    let handle = try #require(fixture.ledger.session(fixture.channelID(1)))
    try pay(fixture, handle, 100, signed: 400)
    _ = try fixture.ledger.settled(channel: fixture.channelID(1), fixture.account(settled: 400), transaction: nil, at: noon)
    #expect(fixture.chainAccounts.issued == 100 && fixture.chainEarned == 100 && fixture.ledger.verify().isBalanced)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    fixture = try LedgerFixture(in: fixture.folder)
    let view = try #require(fixture.ledger.channel(fixture.channelID(1)))
    #expect(view.debited == 400 && view.booked == 400 && view.account.deposit == 5_000 && view.openedBy == nil)
    let balances = fixture.ledger.balances()
    fixture.ledger.close()
    let report = verified(fixture.folder)
    #expect(report.isValid, "\(String(describing: report.defect))")
    checkAccounts(report, balances)
  }

  @Test func nothingIsAdoptedThatAPaymentOpens() throws {
    let fixture = try LedgerFixture(funds: 0)
    var (payment, order) = (fixture.opening(1, voucher: 100), fixture.channelOrder(1, voucher: 100, inFlight: 1))
    order.isResumable = true
    payment.challengeID = nil
    payment.deposit = .open(order)
    _ = try fixture.ledger.claim(payment, at: noon)
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.adopted(order, fixture.account(), at: noon) }
  }

  /// What is on its way back pays for nothing any more, whoever has seen it still lying there.
  @Test func aPartThatGoesBackIsNoDeposit() throws {
    var fixture = try LedgerFixture(funds: 0)
    let handle = try open(fixture, voucher: 100)
    let channel = fixture.channelID(1)
    try pay(fixture, handle, 100, signed: 100)
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 7, at: noon)
    func give(_ amount: UInt128) throws {
      _ = try fixture.ledger.submitted(channel: channel, outgoing: fixture.transaction(7, channel: 1), isClose: false, publishing: 100, returning: amount, at: noon)
    }
    for wrong: UInt128 in [4_901, 5_001, .max] { #expect(throws: Refusal.channelBusy) { try give(wrong) } }
    _ = try fixture.ledger.begin(handle, paying: 100, by: fixture.voucher(200), at: noon)
    #expect(throws: Refusal.channelBusy) { try give(1_000) }
    _ = try fixture.ledger.charge(handle, 100, by: fixture.voucher(200), context: context(fixture), at: noon)
    try give(4_000)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    fixture = try LedgerFixture(in: fixture.folder)
    let again = try #require(fixture.ledger.channel(channel))
    #expect(again.returning == 4_000 && again.account.deposit == 1_000)
    #expect(throws: Refusal.beyondDeposit) { try fixture.ledger.begin(again.handle, paying: 801, by: fixture.voucher(1_001), at: noon) }
    // A look, and a top-up of 500, before the transaction has landed.
    _ = try fixture.ledger.observed(channel, fixture.account(5_000), at: noon)
    #expect(fixture.ledger.channel(channel)?.account.deposit == 1_000)
    let topUp = fixture.topUpOrder(1, payment: 9)
    _ = try fixture.ledger.claim(topUp, at: noon)
    _ = try fixture.ledger.deposited(topUp.id, fixture.account(5_500), transaction: nil, at: noon)
    #expect(fixture.ledger.channel(channel)?.account.deposit == 1_500)
    _ = try fixture.ledger.settled(channel: channel, fixture.account(1_500, settled: 200), transaction: id(15_000_007), at: noon)
    let view = try #require(fixture.ledger.channel(channel))
    #expect(view.returning == nil && view.underWay == nil && view.account.deposit == 1_500 && view.phase == .open && fixture.ledger.verify().isBalanced)
    // One that came to nothing lies there still, and counts once it is seen.
    _ = try fixture.ledger.submitted(channel: channel, outgoing: fixture.transaction(8, channel: 1), isClose: false, returning: 1_000, at: noon)
    _ = try fixture.ledger.abandoned(channel: channel, at: noon)
    #expect(fixture.ledger.channel(channel)?.account.deposit == 500)
    _ = try fixture.ledger.observed(channel, fixture.account(1_500, settled: 200), at: noon)
    #expect(fixture.ledger.channel(channel)?.account.deposit == 1_500)
  }

  /// What can be told to others, and claimed by, has bought what it is for: never a voucher whose request came to nothing.
  @Test func theVoucherToClaimByHasBoughtSomething() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try open(fixture, voucher: 100)
    func view() throws -> ChannelView { try #require(ledger.channel(fixture.channelID(1))) }
    #expect(try view().charged == nil)
    try pay(fixture, handle, 100, signed: 100)
    #expect(try view().charged == fixture.voucher(100))
    for signed: UInt128 in [200, 600] {
      _ = try ledger.begin(handle, paying: signed - 100, by: fixture.voucher(signed), at: noon)
      ledger.finish(handle, debited: .zero, used: .zero, held: ExactCost(whole: signed - 100), units: 0, context: context(fixture), at: noon)
      #expect(try view().claimed == fixture.voucher(100))
    }
    // One that is below the last.
    try pay(fixture, handle, 50, signed: 150)
    #expect(try view().voucher == fixture.voucher(600) && view().claimed == fixture.voucher(150))
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.channel(fixture.channelID(1))?.claimed == fixture.voucher(150))
  }
}
