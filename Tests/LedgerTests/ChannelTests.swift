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

  // MARK: deposits

  @Test func refusesDepositsThatCannotBeKept() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    func refusal(_ change: (inout ChannelOrder) -> Void) -> Refusal? {
      var order = fixture.opening(1)
      var opening = fixture.channelOrder(1)
      change(&opening)
      order.deposit = .open(opening)
      do throws(Refusal) { _ = try ledger.claim(order, at: noon) } catch { return error }
      return nil
    }
    #expect(refusal { $0.terms.currency = "usdc" } == .wrongTerms)
    #expect(refusal { $0.terms.merchant = "other" } == .wrongTerms)
    #expect(refusal { $0.payer = "" } == .malformedName)
    #expect(refusal { $0.descriptor = [UInt8](repeating: 0, count: 2_049) } == .tooMany(.channelDescriptor))
    #expect(refusal { $0.voucher.signature = [UInt8](repeating: 0, count: 4_097) } == .tooMany(.voucherSignature))
    #expect(refusal { $0.voucher.amount = LedgerState.issueLimit + 1 } == .overflow)
    #expect(refusal { $0.terms.routes = Array(repeating: $0.terms.routes[0], count: 65) } == .tooMany(.sessionRoutes))
    #expect(ledger.payments(.open).isEmpty)
    #expect(refusal { _ in } == nil)
    // A second way to open the same channel waits for the first.
    #expect(throws: Refusal.claimInFlight) { try ledger.claim(fixture.opening(1, payment: 2), at: noon) }
    #expect(fixture.ledger.state.withLock { $0.currencies.allSatisfy { $0.expected == 0 } })
    // It is no payment: nothing is booked by it, and nothing served for it.
    let id = fixture.opening(1).id
    #expect(throws: Refusal.paymentMismatch) { try ledger.settled(id, transaction: nil, at: noon) }
    #expect(throws: Refusal.claimInFlight) { try ledger.serve(id, request: fixture.opening(1).request, at: noon) }
    #expect(throws: Refusal.claimInFlight) { try ledger.writeOff(id, at: noon) }
    // What the chain says does not fit the voucher.
    #expect(throws: Refusal.beyondDeposit) { try ledger.deposited(id, fixture.account(99), transaction: nil, at: noon) }
    #expect(throws: Refusal.beyondDeposit) { try ledger.deposited(id, fixture.account(settled: 101), transaction: nil, at: noon) }
    _ = try ledger.refused(id, cause: "reverted", at: noon)
    #expect(ledger.claimState(fixture.opening(1).challengeID!) == nil)
    _ = try fixture.openChannel(1)
    #expect(throws: Refusal.unknownPayment) { try ledger.deposited(Digest32(), fixture.account(), transaction: nil, at: noon) }
    _ = try ledger.claim(fixture.payment(5), at: noon)
    #expect(throws: Refusal.paymentMismatch) { try ledger.deposited(fixture.payment(5).id, fixture.account(), transaction: nil, at: noon) }
  }

  @Test func depositsAreUsedOnce() throws {
    var fixture = try LedgerFixture(funds: 0)
    var ledger = fixture.ledger
    let order = fixture.opening(1)
    _ = try ledger.claim(order, at: noon)
    _ = try ledger.submitted(order.id, transaction: id(9), at: noon)
    fixture.waitUntilDurable()
    ledger.abandon()
    // What was sent out is gone on with, as it was claimed; the route's label alone is of one run.
    fixture = try LedgerFixture(in: fixture.folder)
    ledger = fixture.ledger
    var opening = fixture.channelOrder(1)
    opening.route = .none
    #expect(ledger.openPayments().first?.deposit == .open(opening) && ledger.openPayments().first?.channel == opening.id)
    let lsn = try ledger.deposited(order.id, fixture.account(), transaction: nil, at: noon)
    #expect(try ledger.deposited(order.id, fixture.account(9_999), transaction: nil, at: noon) == lsn)
    #expect(ledger.channel(opening.id)?.account == fixture.account() && ledger.channel(opening.id)?.openedBy == id(9))
    #expect(throws: Refusal.claimSettled(reference: ledger.payment(order.id)?.reference ?? 0)) { try ledger.claim(order, at: noon) }
    #expect(ledger.claimState(order.challengeID!)?.isSettled == true)

    let topUp = fixture.topUpOrder(1, payment: 1)
    _ = try ledger.claim(topUp, at: noon)
    _ = try ledger.submitted(topUp.id, transaction: id(8), at: noon)
    _ = try ledger.observed(opening.id, fixture.account(requested: 4), at: noon)
    _ = try ledger.deposited(topUp.id, fixture.account(7_000, block: 8), transaction: id(8), at: noon)
    let view = try #require(ledger.channel(opening.id))
    #expect(view.account == fixture.account(7_000, block: 8) && view.budget == 100)
    // The request to close is gone with it.
    _ = try ledger.accept(view.handle, fixture.voucher(6_000), at: noon)
    #expect(throws: Refusal.beyondDeposit) { try ledger.accept(view.handle, fixture.voucher(7_001), at: noon) }
    // Kept until a day after it cannot be used any more.
    ledger.sweep(at: order.expires + .seconds(86_000))
    #expect(ledger.payment(order.id)?.state == .served && ledger.payment(order.id)?.deposit == nil)
    ledger.sweep(at: order.expires + .seconds(86_520))
    #expect(ledger.payment(order.id) == nil && ledger.payment(topUp.id) == nil)
    #expect(throws: Refusal.claimExpired) { try ledger.claim(order, at: order.expires + .seconds(86_520)) }
    #expect(ledger.channel(opening.id) != nil)
  }

  /// A channel that an earlier ledger has settled from: what was paid was spent, too.
  @Test func knowsWhatWasSettledBefore() throws {
    let fixture = try LedgerFixture(funds: 0)
    let order = fixture.opening(1)
    _ = try fixture.ledger.claim(order, at: noon)
    _ = try fixture.ledger.deposited(order.id, fixture.account(settled: 80), transaction: nil, at: noon)
    let handle = try #require(fixture.ledger.session(fixture.channelID(1)))
    #expect(throws: Refusal.insufficientBudget(required: 1)) { try fixture.use(handle, 21) }
    try fixture.use(handle, 20)
    #expect(fixture.chainAccounts.issued == 80 && fixture.chainAccounts.sessions == 0 && fixture.chainEarned == 80)
    #expect(fixture.ledger.verify().isBalanced)
    let balances = fixture.ledger.balances()
    fixture.ledger.close()
    checkAccounts(verified(fixture.folder), balances)
  }

  // MARK: vouchers

  @Test func takesOnlyMore() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try fixture.openChannel(1)
    let channel = fixture.channelID(1)
    let first = try ledger.accept(handle, fixture.voucher(150), at: noon)
    // The same one, another with its amount, and a lower one change nothing.
    for voucher in [fixture.voucher(150), AcceptedVoucher(amount: 150, signature: [9]), fixture.voucher(120)] {
      #expect(try ledger.accept(handle, voucher, at: noon) == first)
      _ = try ledger.begin(handle, accepting: voucher, cost: .of(1), context: fixture.line, at: noon)
      #expect(ledger.channel(channel)?.voucher == fixture.voucher(150) && ledger.channel(channel)?.previous == fixture.voucher(100))
    }
    // A debit that is refused takes its voucher with it.
    #expect(throws: Refusal.insufficientBudget(required: 4)) {
      try ledger.begin(handle, accepting: fixture.voucher(200), cost: .of(201), context: fixture.line, at: noon)
    }
    #expect(ledger.channel(channel)?.budget == 150 && ledger.figures(handle)?.spent == 3)
    #expect(throws: Refusal.beyondDeposit) { try ledger.accept(handle, fixture.voucher(5_001), at: noon) }
    #expect(throws: Refusal.tooMany(.voucherSignature)) {
      try ledger.accept(handle, AcceptedVoucher(amount: 160, signature: [UInt8](repeating: 1, count: 4_097)), at: noon)
    }
    // One entry for both.
    let before = ledger.applied
    #expect(try ledger.begin(handle, accepting: fixture.voucher(200), cost: .of(50), context: fixture.line, at: noon) == before + 1)
    #expect(ledger.applied == before + 1)
    // A topped up deposit that vanished lets no more in, and takes nothing back.
    _ = try ledger.observed(channel, fixture.account(150), lowering: try #require(ledger.channel(channel)).account, at: noon)
    #expect(throws: Refusal.beyondDeposit) { try ledger.accept(handle, fixture.voucher(201), at: noon) }
    try fixture.use(handle, 100)
    #expect(ledger.figures(handle)?.spent == 153)
  }

  @Test func wakesStreamsThatWait() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try fixture.openChannel(1)
    let rate = Rate(amount: 10, unitSize: 1, unit: .responseByte)!
    for _ in 0..<2 { _ = try ledger.begin(handle, cost: .zero, context: fixture.stream, at: noon) }
    _ = try ledger.extend(handle, rate: rate, wanted: 8, atLeast: 8, at: noon)
    #expect(throws: Refusal.insufficientBudget(required: 10)) { try ledger.extend(handle, rate: rate, wanted: 9, atLeast: 3, at: noon) }
    #expect(ledger.view(handle)?.required == 10)
    // Another one goes on with less, which does not help the first.
    _ = try ledger.extend(handle, rate: rate, wanted: 2, atLeast: 1, at: noon)
    let before = ledger.changes
    _ = try ledger.accept(handle, fixture.voucher(150), at: noon)
    #expect(ledger.changes == before + 1 && ledger.view(handle)?.required == 0)
    _ = try ledger.accept(handle, fixture.voucher(200), at: noon)
    #expect(ledger.changes == before + 1)
    _ = try ledger.extend(handle, rate: rate, wanted: 3, atLeast: 3, at: noon)
  }

  // MARK: what wallets' sessions do and channels do not

  @Test func isNoWalletsSession() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let session = try fixture.open(1)
    let handle = try fixture.openChannel(1)
    #expect(throws: Refusal.wrongBudgetSource) { try ledger.beginClose(handle, cause: .operated, at: noon) }
    #expect(throws: Refusal.wrongBudgetSource) { try ledger.beginClose(session, cause: .operated, voucher: nil, at: noon) }
    #expect(throws: Refusal.wrongBudgetSource) { try ledger.accept(session, fixture.voucher(9), at: noon) }
    #expect(throws: Refusal.wrongBudgetSource) {
      try ledger.begin(session, accepting: fixture.voucher(9_999), cost: .of(1), context: fixture.line, at: noon)
    }
    #expect(throws: Refusal.wrongBudgetSource) { try ledger.observed(id(3_000_001), fixture.account(), at: noon) }
    var topUp = fixture.topUp(1, session: 1)
    topUp.sessionID = fixture.channelID(1)
    #expect(throws: Refusal.wrongBudgetSource) { try ledger.topUp(topUp, at: noon) { _ in [] } }
    #expect(ledger.channel(id(3_000_001)) == nil && ledger.channels().map(\.id) == [fixture.channelID(1)])
    #expect(ledger.sessions().count == 2 && ledger.sessions(of: fixture.wallet).map(\.id) == [id(3_000_001)])
    let view = try #require(ledger.view(handle))
    #expect(view.payer == fixture.payer && view.wallet == Digest32() && view.challengeID == id(12_000_001) && view.state == .open)
    // Freezing and idleness end the wallet's session alone.
    _ = try ledger.freeze(fixture.wallet, at: noon)
    ledger.state.withLock { $0.sweep(at: noon, tick: $0.tick + .seconds(10_000_000)) }
    #expect(ledger.session(id(3_000_001)) == nil && ledger.session(fixture.channelID(1)) == handle)
    #expect(ledger.verify().isBalanced)
  }

  // MARK: kills and time

  @Test func debitsOfStreamsOutliveAKill() throws {
    var fixture = try LedgerFixture(funds: 0)
    let handle = try fixture.openChannel(1)
    _ = try fixture.ledger.begin(handle, cost: .zero, hold: .of(30), context: fixture.stream, at: noon)
    _ = try fixture.ledger.extend(handle, rate: Rate(amount: 10, unitSize: 1, unit: .responseByte)!, wanted: 4, atLeast: 1, at: noon)
    #expect(fixture.ledger.figures(handle)?.remaining == 30)
    _ = try fixture.ledger.settled(channel: fixture.channelID(1), fixture.account(settled: 90), transaction: nil, at: noon)
    #expect(fixture.chainAccounts.sessions == 90 && fixture.chainEarned == 0)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    fixture = try LedgerFixture(in: fixture.folder)
    let view = try #require(fixture.ledger.channel(fixture.channelID(1)))
    #expect(view.spent == 40 && view.inFlight == 0 && fixture.chainAccounts.sessions == 50 && fixture.chainEarned == 40)
    #expect(throws: Refusal.unavailable) { try fixture.ledger.accept(SessionHandle(index: 0, generation: 1, epoch: 9), fixture.voucher(1), at: noon) }
  }

  @Test func closedOnesAreKeptForADay() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let channel = fixture.channelID(1)
    let handle = try fixture.openChannel(1)
    try fixture.use(handle, 70)
    _ = try ledger.beginClose(handle, cause: .forced, voucher: fixture.voucher(70), claim: (id(3), noon + .seconds(9)), at: noon)
    #expect(ledger.claimState(id(3))?.isSettled == true && ledger.channel(channel)?.closing == fixture.voucher(70))
    #expect(throws: Refusal.unknownSession) { try ledger.closed(channel: id(1), captured: 0, refunded: 0, transaction: nil, at: noon) }
    let lsn = try ledger.closed(channel: channel, captured: 0, refunded: 5_000, transaction: nil, at: noon)
    #expect(try ledger.closed(channel: channel, captured: 70, refunded: 0, transaction: nil, at: noon) == lsn)
    ledger.store(answer: [5], ofClosed: channel, at: noon)
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    guard case .closed(let record)? = again.ledger.closeResult(channel) else {
      Issue.record("the channel is not closed")
      return
    }
    #expect(record.channel?.lost == 70 && record.cause == .forced && record.answer == [5] && record.channel?.payer == fixture.payer)
    again.ledger.sweep(at: noon + .seconds(86_300))
    #expect(again.ledger.closeResult(channel) != nil)
    again.ledger.sweep(at: noon + .seconds(86_520))
    #expect(again.ledger.closeResult(channel) == nil && again.ledger.claimState(id(3)) == nil)
    #expect(again.chainAccounts.issued == 0 && again.ledger.verify().isBalanced)
  }

  // MARK: what everybody may have

  /// What was handed out on the chain stays so, whatever became of the transaction, and over a restart.
  @Test func remembersWhatWasHandedOut() throws {
    var fixture = try LedgerFixture(funds: 0)
    let handle = try fixture.openChannel(1)
    let channel = fixture.channelID(1)
    #expect(try #require(fixture.ledger.channel(channel)).isPublic(0) == false)
    _ = try fixture.ledger.accept(handle, fixture.voucher(150), at: noon)
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 4, at: noon)
    _ = try fixture.ledger.submitted(channel: channel, outgoing: fixture.transaction(4, channel: 1), isClose: false, publishing: 150, at: noon)
    _ = try fixture.ledger.abandoned(channel: channel, at: noon)
    let view = try #require(fixture.ledger.channel(channel))
    #expect(view.published == 150 && view.isPublic(150) && view.isPublic(100) && !view.isPublic(151) && view.underWay == nil)
    // A challenge of a stranger is nobody's, the one that it was opened by is the payer's, and so are those by which he has shown himself.
    #expect(view.isPayers(id(12_000_001)) && !view.isPayers(id(5)))
    for number in 0..<9 { _ = try fixture.ledger.prove(handle, by: id(500 + number), at: noon) }
    let known = fixture.ledger.applied
    _ = try fixture.ledger.prove(handle, by: id(508), at: noon)
    _ = try fixture.ledger.prove(handle, by: id(12_000_001), at: noon)
    #expect(fixture.ledger.applied == known)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    fixture = try LedgerFixture(in: fixture.folder)
    let again = try #require(fixture.ledger.channel(channel))
    #expect(again.published == 150 && again.proofs == (1..<9).map { id(500 + $0) } && again.isPayers(id(508)) && !again.isPayers(id(500)))
    // What the chain shows to be settled is as public.
    _ = try fixture.ledger.observed(channel, fixture.account(settled: 170), at: noon)
    #expect(try #require(fixture.ledger.channel(channel)).isPublic(170))
  }

  /// Of several who ask the chain, the last to speak may have asked first.
  @Test func aDepositFallsOnlyWhereBlocksWereTakenBack() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try fixture.openChannel(1)
    let channel = fixture.channelID(1)
    for (payment, deposit) in [(1, UInt128(7_000)), (2, 6_000)] {
      let order = fixture.topUpOrder(1, payment: payment)
      _ = try ledger.claim(order, at: noon)
      _ = try ledger.deposited(order.id, fixture.account(deposit), transaction: nil, at: noon)
    }
    #expect(ledger.channel(channel)?.account.deposit == 7_000)
    _ = try ledger.observed(channel, fixture.account(5_000), at: noon)
    _ = try ledger.accept(handle, fixture.voucher(6_900), at: noon)
    _ = try ledger.settled(channel: channel, fixture.account(5_000, settled: 10), transaction: nil, at: noon)
    #expect(ledger.channel(channel)?.account.deposit == 7_000)
    _ = try ledger.observed(channel, fixture.account(5_000), lowering: try #require(ledger.channel(channel)).account, at: noon)
    #expect(ledger.channel(channel)?.account.deposit == 5_000)
  }

  /// A look that lowers a deposit knows nothing of what was added while it asked.
  @Test func aLookLowersNoDepositThatItDoesNotKnow() throws {
    let fixture = try LedgerFixture(funds: 0)
    _ = try fixture.openChannel(1)
    let channel = fixture.channelID(1)
    let known = try #require(fixture.ledger.channel(channel)).account
    let order = fixture.topUpOrder(1, payment: 1)
    _ = try fixture.ledger.claim(order, at: noon)
    _ = try fixture.ledger.deposited(order.id, fixture.account(7_000, block: 8), transaction: nil, at: noon)
    _ = try fixture.ledger.observed(channel, fixture.account(4_000), lowering: known, at: noon)
    #expect(fixture.ledger.channel(channel)?.account.deposit == 7_000)
  }

  // MARK: the outbox

  @Test func oneTransactionIsUnderWay() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let channel = fixture.channelID(1)
    try fixture.openChannel(1)
    #expect(throws: Refusal.wrongNonce(next: nil)) {
      try ledger.submitted(channel: channel, outgoing: fixture.transaction(4, channel: 1), isClose: false, at: noon)
    }
    _ = try ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 4, at: noon)
    #expect(throws: Refusal.paymentMismatch) {
      try ledger.submitted(channel: channel, outgoing: fixture.transaction(4, channel: 2), isClose: false, at: noon)
    }
    let lsn = try ledger.submitted(channel: channel, outgoing: fixture.transaction(4, channel: 1), isClose: false, at: noon)
    #expect(try ledger.submitted(channel: channel, outgoing: fixture.transaction(4, channel: 1), isClose: false, at: noon) == lsn)
    #expect(ledger.outgoing(chain: 8453, sender: fixture.sender).count == 1)
    // The newest version is the one that is shown.
    _ = try ledger.replace(chain: 8453, sender: fixture.sender, nonce: 4, raw: [3], hash: id(77), at: noon)
    #expect(ledger.channel(channel)?.underWay == id(77))
    // What the chain merely shows leaves it under way.
    _ = try ledger.settled(channel: channel, fixture.account(settled: 10), transaction: nil, at: noon)
    #expect(ledger.channel(channel)?.underWay == id(77) && fixture.chainAccounts.issued == 10)
    // The same again, and less, book nothing.
    _ = try ledger.settled(channel: channel, fixture.account(settled: 10), transaction: id(15_000_004), at: noon)
    _ = try ledger.settled(channel: channel, fixture.account(settled: 5), transaction: nil, at: noon)
    #expect(ledger.channel(channel)?.underWay == nil && fixture.chainAccounts.issued == 10 && ledger.channel(channel)?.account.settled == 10)
    // What is seen unconfirmed is shown, and not booked.
    #expect(try ledger.observed(channel, fixture.account(settled: 60), at: noon) > 0)
    #expect(try ledger.observed(channel, fixture.account(settled: 60), at: noon) == 0)
    let view = try #require(ledger.channel(channel))
    #expect(view.account.settled == 60 && view.booked == 10 && fixture.chainAccounts.issued == 10)
    #expect(ledger.channelTotals() == [
      ChannelTotals(currency: base, open: 1, suspended: 0, closing: 0, earned: 0, claimable: 90)
    ])
    #expect(ledger.channels(.unsettled).count == 1 && ledger.channels(.phase(.closing)).isEmpty && ledger.openChannels(chain: 1).isEmpty)
    _ = try ledger.settled(channel: channel, fixture.account(settled: 100), transaction: nil, at: noon)
    #expect(ledger.channel(channel)?.unsettledSince == nil && ledger.channels(.unsettled).isEmpty)
    #expect(ledger.openChannels(chain: 8453).count == 1)
  }

  // MARK: lines

  @Test func linesSayWhatMoved() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let handle = try fixture.openChannel(1)
    try fixture.use(handle, 60, used: 50)
    _ = try ledger.settled(channel: fixture.channelID(1), fixture.account(settled: 80), transaction: id(4), at: noon)
    try fixture.use(handle, 40, used: 10)
    _ = try ledger.suspend(fixture.channelID(1), true, at: noon)
    _ = try ledger.suspend(fixture.channelID(1), false, at: noon)
    _ = try ledger.beginClose(handle, cause: .idle, voucher: nil, at: noon)
    _ = try ledger.closed(channel: fixture.channelID(1), captured: 100, refunded: 4_900, transaction: id(5), at: noon)
    ledger.close()
    let lines = try fixture.lines().compactMap(\.objectValue).filter { ($0["event"]?.stringValue ?? "").hasPrefix("channel.") }
    let told = lines.map { line in
      ["event", "amount", "accepted", "earned", "spent", "captured", "refunded", "overpaid", "lost", "deposit"].compactMap { name in
        line[name]?.stringValue.map { name == "event" ? $0 : "\(name)=\($0)" }
      }.joined(separator: " ")
    }
    #expect(
      told == [
        "channel.opened accepted=100 deposit=5000",
        "channel.debited amount=60 accepted=100 earned=0 spent=60",
        "channel.returned amount=10 accepted=100 earned=0 spent=50",
        "channel.settled amount=80 accepted=100 earned=50 spent=50",
        "channel.debited amount=40 accepted=100 earned=30 spent=90",
        "channel.returned amount=30 accepted=100 earned=20 spent=60",
        "channel.suspended", "channel.resumed",
        "channel.closed amount=20 accepted=100 earned=40 spent=60 captured=100 refunded=4900 overpaid=40 lost=0",
      ])
    #expect(lines.allSatisfy { $0["payer"]?.stringValue == fixture.payer && $0["session"]?.stringValue == fixture.channelID(1).hex })
    #expect(lines.allSatisfy { $0["wallet"] == nil && $0["recipient"]?.stringValue == "shop" && $0["currency"]?.stringValue == base })
    #expect(lines.last?["transaction"]?.stringValue == "0x" + id(5).hex && lines.last?["cause"]?.stringValue == "idle")
  }
}

extension ClaimState {
  var isSettled: Bool {
    if case .settled = self { return true }
    return false
  }
}
