import Encoding
import Gateway
import Testing

private let second: Int64 = 1_000_000_000
private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

@Suite struct RetryBudgetTests {
  private func spendAll(_ budget: inout RetryBudget, at now: Instant) -> Int {
    var count = 0
    while count < 10_000, budget.spend(at: now) { count += 1 }
    return count
  }

  @Test func retriesAreAShareOfRequests() {
    var budget = RetryBudget(.init(share: 20, floor: 0, most: 1000), at: at(0))
    #expect(spendAll(&budget, at: at(0)) == 0)
    for _ in 0..<1000 { budget.requested() }
    #expect(spendAll(&budget, at: at(0)) == 200)
    #expect(spendAll(&budget, at: at(60_000)) == 0)
  }

  @Test func floorIsThereWithoutRequests() {
    var budget = RetryBudget(.init(share: 0, floor: 10, most: 15), at: at(0))
    #expect(spendAll(&budget, at: at(0)) == 10)
    #expect(spendAll(&budget, at: at(99)) == 0)
    #expect(spendAll(&budget, at: at(100)) == 1)
    #expect(spendAll(&budget, at: at(1100)) == 10)
    #expect(spendAll(&budget, at: at(1_000_000)) == 15)
    // Asked often, it gives no more.
    var count = 0
    for millisecond in 1_000_000...1_001_000 as ClosedRange<Int64> where budget.spend(at: at(millisecond)) { count += 1 }
    #expect(count == 10)
  }

  @Test func nothingIsSavedBeyondTheMost() {
    var budget = RetryBudget(.init(share: 100, floor: 1, most: 5), at: at(0))
    for _ in 0..<1000 { budget.requested() }
    #expect(spendAll(&budget, at: at(0)) == 5)
  }

  @Test func clockThatStandsOrGoesBackGivesNothing() {
    var budget = RetryBudget(.init(share: 0, floor: 5, most: 5), at: at(10_000))
    #expect(spendAll(&budget, at: at(10_000)) == 5)
    #expect(spendAll(&budget, at: at(0)) == 0)
    #expect(spendAll(&budget, at: Instant(nanoseconds: .max)) == 5)
  }
}
