import Encoding
import Testing

@testable import Metering

struct ExchangeTabTests {
  private let start = Timestamp(seconds: 1_700_000_000)

  private func cost(_ whole: UInt128) -> ExactCost { ExactCost(whole: whole) }

  @Test func contentPassesWhenItsCostIsDebitedAndDurable() {
    var tab = ExchangeTab(debited: cost(10), entry: 7, at: start)
    #expect(tab.standing(for: cost(10)) == .awaits(entry: 7))
    tab.publish(durable: 6)
    #expect(tab.standing(for: cost(1)) == .awaits(entry: 7))
    tab.publish(durable: 7)
    #expect(tab.standing(for: cost(10)) == .covered)
    #expect(tab.standing(for: cost(13)) == .short(cost(3)))
    tab.debit(cost(5), entry: 9, at: start)
    #expect(tab.debited == cost(15))
    // What was durable before stays so.
    #expect(tab.standing(for: cost(10)) == .covered)
    #expect(tab.standing(for: cost(13)) == .awaits(entry: 9))
    tab.publish(durable: 8)
    #expect(tab.standing(for: cost(13)) == .awaits(entry: 9))
    tab.publish(durable: 9)
    #expect(tab.standing(for: cost(15)) == .covered)
  }

  @Test func stepsGrowWhileTheStreamIsFastAndBeginSmallAgainWhenItIsNot() {
    var tab = ExchangeTab(debited: cost(1), entry: 1, at: start)
    #expect(tab.step(for: cost(3)) == cost(12))
    tab.debit(cost(12), entry: 2, at: start)
    var now = start
    for doubling in 1...(ExchangeTab.mostDoublings + 3) {
      now = now + .milliseconds(10)
      tab.debit(tab.step(for: cost(1)), entry: UInt64(2 + doubling), at: now)
      let expected = UInt128(12) << UInt128(min(doubling, ExchangeTab.mostDoublings))
      #expect(tab.step(for: cost(1)) == cost(expected))
    }
    // Never less than what is missing.
    #expect(tab.step(for: cost(1 << 40)) == cost(1 << 40))
    tab.debit(cost(20), entry: 90, at: now + .seconds(2))
    #expect(tab.step(for: cost(1)) == cost(12))
  }

  @Test func stepsComeOutOfWhatIsHeldFirst() {
    var tab = ExchangeTab(debited: cost(1), held: cost(10), entry: 1, at: start)
    #expect(tab.step(for: cost(2)) == cost(8))
    tab.debit(cost(8), entry: 2, at: start)
    #expect(tab.held == cost(2) && tab.debited == cost(9))
    #expect(tab.step(for: cost(1)) == cost(2))
    #expect(tab.step(for: cost(5)) == cost(5))
    tab.debit(cost(5), entry: 3, at: start)
    #expect(tab.held == .zero && tab.debited == cost(14))
  }

  @Test func theNextStepIsAskedForWhenHalfOfTheLastIsUsed() {
    var tab = ExchangeTab(debited: cost(2), entry: 1, at: start)
    tab.publish(durable: 1)
    // What was held at the beginning needs no step before it is used up.
    #expect(tab.stepAhead(of: cost(2)) == nil)
    tab.debit(cost(100), entry: 2, at: start)
    #expect(tab.stepAhead(of: cost(90)) == nil)
    tab.publish(durable: 2)
    #expect(tab.stepAhead(of: cost(52)) == nil)
    #expect(tab.stepAhead(of: cost(53)) == cost(100))
    #expect(tab.stepAhead(of: cost(200)) == nil)
  }
}
