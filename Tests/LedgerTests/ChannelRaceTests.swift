import Bytes
import Dispatch
import Encoding
import Metering
import Synchronization
import Testing

@testable import Ledger

/// Threads that accept vouchers and debit at the same time.
@Suite struct ChannelRaceTests {
  @Test func ofTwoThreadsVouchersEachCountsOnce() throws {
    let fixture = try LedgerFixture(funds: 0)
    let handle = try fixture.openChannel(1, voucher: 0)
    let vouchers = (1...200).map { fixture.voucher(UInt128($0 * 10)) }
    let served = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 2) { _ in
      for voucher in vouchers {
        // Whoever comes second finds the voucher accepted, and what it pays for spent.
        guard (try? fixture.ledger.begin(handle, accepting: voucher, cost: .of(10), context: fixture.line, at: noon)) != nil else { continue }
        served.add(1, ordering: .relaxed)
        fixture.ledger.finish(handle, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
      }
    }
    let view = try #require(fixture.ledger.channel(fixture.channelID(1)))
    #expect(view.budget == 2_000 && view.voucher == vouchers[199] && view.inFlight == 0)
    #expect(view.spent == UInt128(served.load(ordering: .relaxed) * 10) && view.spent <= view.budget)
    #expect(view.previous.map { $0.amount < 2_000 } == true)
  }

  @Test func acceptanceNeverFalls() throws {
    let fixture = try LedgerFixture(funds: 0)
    let handle = try fixture.openChannel(1, voucher: 0)
    DispatchQueue.concurrentPerform(iterations: 2) { thread in
      for number in 1...500 {
        let amount = UInt128(thread == 0 ? number : 501 - number)
        _ = try? fixture.ledger.accept(handle, fixture.voucher(amount), at: noon)
        #expect(fixture.ledger.figures(handle)?.deposit ?? 0 >= amount)
      }
    }
    #expect(fixture.ledger.channel(fixture.channelID(1))?.voucher == fixture.voucher(500))
  }

  @Test func closesAndDebitsRaceWithoutLoss() throws {
    let fixture = try LedgerFixture(funds: 0)
    for round in 1...20 {
      let handle = try fixture.openChannel(round, voucher: 0)
      let channel = fixture.channelID(round)
      DispatchQueue.concurrentPerform(iterations: 8) { index in
        if index == 3 { _ = try? fixture.ledger.beginClose(handle, cause: .payer, voucher: nil, at: noon) }
        let voucher = fixture.voucher(UInt128(index * 10))
        guard (try? fixture.ledger.begin(handle, accepting: voucher, cost: .of(10), context: fixture.line, at: noon)) != nil else { return }
        fixture.ledger.finish(
          handle, debited: .of(10), used: index % 2 == 0 ? .of(10) : .zero, units: 1, context: fixture.line, at: noon)
      }
      let view = try #require(fixture.ledger.closingChannels().first { $0.id == channel })
      _ = try fixture.ledger.closed(channel: channel, captured: view.budget, refunded: 5_000 - view.budget, transaction: nil, at: noon)
      guard case .closed(let record)? = fixture.ledger.closeResult(channel), let kept = record.channel else {
        Issue.record("round \(round) is not closed")
        return
      }
      #expect(record.spent == view.spent && kept.captured == record.spent + kept.overpaid && kept.lost == 0)
    }
    #expect(fixture.ledger.verify().isBalanced && fixture.chainAccounts.sessions == 0)
    #expect(fixture.chainAccounts.issued == UInt128(fixture.chainEarned))
  }
}
