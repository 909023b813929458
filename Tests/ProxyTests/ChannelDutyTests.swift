import Bytes
import Encoding
import Ethereum
import Testing

@testable import Ledger
@testable import Methods
@testable import Proxy

private let now = Timestamp(seconds: 1_900_000_000)
private let id = Digest32(bytes: [UInt8](repeating: 7, count: 32)) ?? Digest32()
private let schedule = ChannelSchedule(amount: 1_000, age: .seconds(3_600), idle: .seconds(86_400))

private func voucher(_ amount: UInt128) -> AcceptedVoucher { AcceptedVoucher(amount: amount, signature: [UInt8(truncatingIfNeeded: amount)]) }

/// A channel with 10,000 in its escrow.
private func view(
  last: UInt128, previous: UInt128? = nil, closing: UInt128? = nil, spent: UInt128, settled: UInt128 = 0, phase: ChannelPhase = .open,
  inFlight: UInt32 = 0, since: Timestamp? = now, lastUse: Timestamp = now
) -> ChannelView {
  ChannelView(
    handle: SessionHandle(index: 0, generation: 0, epoch: 0), id: id, chain: 8453, payer: "0x00", currency: "usdc@eip155:8453", merchant: "shop",
    descriptor: [], voucher: voucher(last), previous: previous.map { voucher($0) }, closing: closing.map { voucher($0) },
    account: ChannelAccount(deposit: 10_000, settled: settled), phase: phase, budget: last, spent: spent, debited: spent, booked: settled, inFlight: inFlight,
    unsettledSince: since, underWay: nil, isCloseUnderWay: false, openedBy: nil, cause: nil, lastUse: lastUse, idleTimeout: .seconds(600), opened: now,
    terms: SessionTerms(realm: "api.example.com", currency: "usdc@eip155:8453", merchant: "shop", routes: []), published: nil, challengeID: id, proofs: [],
    changed: 0)
}

@Suite struct ChannelDutyTests {
  private let quiet = ChannelStanding(deposit: 10_000)

  @Test func whatIsOwedIsSettledByAmountAndByAge() {
    #expect(schedule.duty(of: view(last: 999, spent: 999), quiet, at: now) == .nothing)
    #expect(schedule.duty(of: view(last: 1_000, spent: 1_000), quiet, at: now) == .settle)
    #expect(schedule.duty(of: view(last: 1_500, spent: 1_500), ChannelStanding(deposit: 10_000, settled: 501), at: now) == .nothing)
    #expect(schedule.duty(of: view(last: 5, spent: 5), quiet, at: now + .seconds(3_599)) == .nothing)
    #expect(schedule.duty(of: view(last: 5, spent: 5), quiet, at: now + .seconds(3_600)) == .settle)
    #expect(schedule.duty(of: view(last: 0, spent: 0, since: nil), quiet, at: now + .seconds(7_200)) == .nothing)
  }

  /// What is signed and not spent is no reason to take it: an earlier voucher that covers what was bought counts.
  @Test func theLowestVoucherThatCoversIsWhatCounts() {
    #expect(schedule.duty(of: view(last: 1_000, previous: 10, spent: 10), quiet, at: now) == .nothing)
    #expect(schedule.duty(of: view(last: 1_000, previous: 10, spent: 11), quiet, at: now) == .settle)
  }

  @Test func whatIsIdleIsEndedOnceNothingIsInFlight() {
    let later = now + .seconds(86_400)
    #expect(schedule.duty(of: view(last: 0, spent: 0, since: nil), quiet, at: later) == .end(.idle))
    #expect(schedule.duty(of: view(last: 0, spent: 0, inFlight: 1, since: nil), quiet, at: later) == .nothing)
    #expect(schedule.duty(of: view(last: 0, spent: 0, since: nil), quiet, at: later + .seconds(-1)) == .nothing)
  }

  @Test func aForcedCloseIsAnsweredWhateverElseIs() {
    #expect(schedule.duty(of: view(last: 1, spent: 1), ChannelStanding(deposit: 10_000, closeRequestedAt: 5), at: now) == .end(.forced))
    #expect(schedule.duty(of: view(last: 1, spent: 1, inFlight: 3), ChannelStanding(deposit: 10_000, isFinalized: true), at: now) == .end(.forced))
    #expect(schedule.duty(of: view(last: 1, spent: 1, phase: .suspended), ChannelStanding(deposit: 10_000, closeRequestedAt: 5), at: now) == .nothing)
  }

  /// Of batch-settlement what was charged counts, whatever is signed.
  @Test func ofBatchesWhatWasChargedIsClaimed() {
    #expect(schedule.batchDuty(of: view(last: 5_000, spent: 999), quiet, at: now) == .nothing)
    #expect(schedule.batchDuty(of: view(last: 5_000, spent: 1_000), quiet, at: now) == .settle)
    #expect(schedule.batchDuty(of: view(last: 1_500, spent: 1_500), ChannelStanding(deposit: 10_000, settled: 501), at: now) == .nothing)
    #expect(schedule.batchDuty(of: view(last: 5, spent: 0), quiet, at: now + .seconds(3_600)) == .nothing)
    #expect(schedule.batchDuty(of: view(last: 5, spent: 5), quiet, at: now + .seconds(3_600)) == .settle)
    #expect(schedule.batchDuty(of: view(last: 5, spent: 5), quiet, at: now + .seconds(86_400)) == .end(.idle))
    #expect(schedule.batchDuty(of: view(last: 5, spent: 5), ChannelStanding(deposit: 10_000, closeRequestedAt: 5), at: now) == .end(.forced))
    #expect(schedule.batchDuty(of: view(last: 5, spent: 5, phase: .closing, inFlight: 1), quiet, at: now) == .wait)
    #expect(schedule.batchDuty(of: view(last: 5, spent: 5, phase: .closing), quiet, at: now) == .close)
    #expect(schedule.batchDuty(of: view(last: 5_000, spent: 5_000, phase: .suspended), quiet, at: now) == .nothing)
  }

  @Test func whatIsClosingWaitsForItsExchanges() {
    #expect(schedule.duty(of: view(last: 1, spent: 1, phase: .closing, inFlight: 2), quiet, at: now) == .wait)
    #expect(schedule.duty(of: view(last: 1, spent: 1, phase: .closing), quiet, at: now) == .close)
  }

  private struct Close: CustomTestStringConvertible, Sendable {
    let view: ChannelView
    var rules = ChannelProtocol.evm
    var rejected: UInt128?
    let expected: (voucher: UInt128, captured: UInt128)
    var testDescription: String { "\(expected)" }
  }

  private static let closes: [Close] = [
    // The client's voucher, the last and the one before it: the lowest that covers what was spent.
    Close(view: view(last: 500, previous: 400, closing: 450, spent: 420), expected: (450, 450)),
    Close(view: view(last: 500, previous: 400, closing: 300, spent: 400), expected: (400, 400)),
    Close(view: view(last: 500, previous: 400, closing: 900, spent: 480), expected: (500, 500)),
    Close(view: view(last: 500, spent: 0), expected: (500, 500)),
    Close(view: view(last: 500, closing: 0, spent: 0), expected: (0, 0)),
    // What was settled already stays so.
    Close(view: view(last: 500, previous: 400, spent: 390, settled: 500), expected: (400, 500)),
    // Rules that take exactly what was spent need any voucher that is high enough.
    Close(view: view(last: 500, previous: 400, closing: 450, spent: 420), rules: .tempoV2, expected: (500, 420)),
    Close(view: view(last: 500, previous: 400, spent: 390, settled: 450), rules: .tempoV2, expected: (500, 450)),
    // A signature that the escrow does not take any more, and none of the vouchers' ones.
    Close(view: view(last: 500, previous: 400, spent: 480), rejected: 500, expected: (400, 400)),
    Close(view: view(last: 500, previous: 400, spent: 480, settled: 100), rejected: 400, expected: (100, 100)),
    // What lies beyond the deposit, which fell, is not handed in.
    Close(view: view(last: 10_001, previous: 9_000, spent: 10_000), expected: (9_000, 9_000)),
  ]

  @Test(arguments: closes)
  private func aCloseTakesTheLeastThatCovers(_ example: Close) {
    let standing = ChannelStanding(deposit: 10_000, settled: example.view.account.settled)
    let closing = ChannelChoice(example.view, rejected: example.rejected).closing(id, standing, spent: example.view.spent, rules: example.rules)
    #expect(closing.voucher.cumulativeAmount == example.expected.voucher && closing.captured == example.expected.captured)
    #expect(closing.captured + closing.refunded == 10_000)
  }

  @Test func aNodeThatLagsLowersNothing() {
    let known = ChannelAccount(deposit: 900, settled: 300, block: 5, blockHash: id)
    let old = known.renewed(by: ChannelStanding(deposit: 500, settled: 100), lowersDeposit: false)
    #expect(old == known)
    let taken = known.renewed(by: ChannelStanding(deposit: 500, settled: 100), lowersDeposit: true, at: (9, Digest32()))
    #expect((taken.deposit, taken.settled, taken.block) == (500, 300, 9))
    let forced = known.renewed(by: ChannelStanding(deposit: 900, settled: 300, closeRequestedAt: 8), lowersDeposit: false)
    #expect(forced.isEnding && forced.block == 5)
  }

  @Test func pausesGrowAndEnd() {
    var pause = ChannelPause()
    let start = Instant(nanoseconds: 0)
    var seconds: [Duration] = []
    for _ in 0..<12 {
      pause.fail(at: start, limit: nil)
      seconds.append(pause.until - start)
    }
    #expect(seconds.prefix(3) == [.seconds(5), .seconds(10), .seconds(20)] && seconds.last == .seconds(3_600))
    pause.fail(at: start, limit: 28)
    #expect(pause.until - start == .seconds(28))
  }

  /// A restart goes on with a deposit by what the ledger kept of it.
  @Test func aDepositIsReadBackFromItsProof() throws {
    let escrow = SessionEscrow(rules: .tempoV2, chain: 42_431, address: try Address(text: "0x4D50500000000000000000000000000000000000"))
    let channel = ChannelDescriptor(payer: try Address(text: "0x00000000000000000000000000000000000000aa"), payee: escrow.address, token: escrow.address, salt: id)
    let transaction = ChannelTransaction(
      .topUp, channelID: id, id: id, amount: 77, expires: now, means: .transaction(raw: [1, 2], hash: id), transfers: [])
    let step = ChannelStep(transaction: transaction, channel: channel, escrow: escrow, minimumDeposit: 5)
    let view = ChainPaymentView(
      id: id, request: id, state: .submitted, payer: "0xaa", recipient: "", presented: Digest32(), amount: 77, currency: "usdc@eip155:42431", merchant: "shop", client: .none, expires: now,
      challengeID: nil, transaction: nil, proof: SettlementOrder.proof(of: step), deposit: .topUp(channel: id), channel: id, reference: 1, since: now,
      changed: 1)
    let order = try #require(SettlementOrder(view, epoch: 0))
    guard case .deposit(let read) = order.kind else {
      Issue.record("no deposit")
      return
    }
    #expect(read.transaction == transaction && read.channel == channel && read.escrow == escrow && read.minimumDeposit == 5)
    #expect(order.charge.means == transaction.means && order.chain == 42_431)
  }

  /// Two signatures of one digest are two questions: who waits for one is not told of the other.
  @Test func eachSignatureIsAQuestionOfItsOwn() {
    let first = SettlementOrder.question(WalletQuestion(wallet: .zero, digest: id, signature: [1]), chain: 1)
    let second = SettlementOrder.question(WalletQuestion(wallet: .zero, digest: id, signature: [2]), chain: 1)
    #expect(first.id != second.id)
  }
}
