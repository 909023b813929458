import Encoding
import Metering
import Testing

private let start = Timestamp(microseconds: 1_700_000_000_000_000)

private func meter(expected: UInt64? = nil) throws -> Meter {
  Meter(rate: try #require(Rate(amount: 1, unitSize: 1000, unit: .responseByte)), expected: expected, at: start)
}

@Suite struct MeterTests {
  @Test func passesNothingBeforeItsDebitIsDurable() throws {
    var meter = try meter()
    #expect(meter.nextStep(wanted: 1) == Meter.firstStep)
    meter.debit(Meter.firstStep, entry: 7, at: start)
    #expect(meter.available == 0)
    #expect(meter.awaited == 7)
    meter.publish(durable: 6)
    #expect(meter.available == 0)
    meter.publish(durable: 7)
    #expect(meter.available == Meter.firstStep)
    #expect(meter.awaited == nil)
    meter.pass(100)
    #expect(meter.available == Meter.firstStep - 100)
    #expect(meter.passedCost == ExactCost(units: 100, rate: meter.rate))
    #expect(meter.debitedCost == ExactCost(units: Meter.firstStep, rate: meter.rate))
  }

  @Test func whatIsReleasedIsNotThere() throws {
    var meter = try meter()
    meter.debit(Meter.firstStep, entry: 1, at: start)
    meter.publish(durable: 1)
    meter.pass(100)
    meter.debit(Meter.leastStep, entry: 2, at: start)
    meter.release()
    #expect(meter.left == 0 && meter.available == 0 && meter.awaited == nil && meter.passed == 100 && meter.debited == 100)
    #expect(meter.nextStep(wanted: 1) == Meter.firstStep)
    meter.debit(10, entry: 3, at: start)
    meter.publish(durable: 2)
    #expect(meter.available == 0 && meter.awaited == 3)
    meter.publish(durable: 3)
    #expect(meter.available == 10)
  }

  @Test func asksForTheNextStepAtHalfTheLast() throws {
    var meter = try meter()
    meter.debit(Meter.firstStep, entry: 1, at: start)
    meter.publish(durable: 1)
    #expect(meter.nextStep(wanted: 1) == nil)
    meter.pass(Meter.firstStep / 2)
    #expect(meter.nextStep(wanted: 1) == Meter.leastStep)
    meter.debit(Meter.leastStep, entry: 2, at: start)
    // It is not asked for twice.
    #expect(meter.nextStep(wanted: 1) == nil)
    meter.publish(durable: 2)
    #expect(meter.nextStep(wanted: 1) == nil)
    meter.pass(Meter.leastStep)
    #expect(meter.nextStep(wanted: 1) == 2 * Meter.leastStep)
  }

  @Test func stepsGrowWithAFastStreamAndShrinkWithASlowOne() throws {
    var meter = try meter()
    var now = start
    var entry: UInt64 = 0
    for _ in 0..<10 {
      let size = try #require(meter.nextStep(wanted: meter.left + 1))
      entry += 1
      meter.debit(size, entry: entry, at: now)
      meter.publish(durable: entry)
      meter.pass(meter.left)
    }
    #expect(meter.nextStep(wanted: 1) == Meter.largestStep)
    for _ in 0..<10 {
      now = now + .seconds(5)
      let size = try #require(meter.nextStep(wanted: 1))
      entry += 1
      meter.debit(size, entry: entry, at: now)
      meter.publish(durable: entry)
      meter.pass(meter.left)
    }
    #expect(meter.nextStep(wanted: 1) == Meter.leastStep)
  }

  @Test func debitsNoMoreThanWillCome() throws {
    var meter = try meter(expected: 1000)
    #expect(meter.nextStep(wanted: 10) == 1000)
    meter.debit(1000, entry: 1, at: start)
    meter.publish(durable: 1)
    #expect(meter.nextStep(wanted: 1000) == nil)
    #expect(meter.nextStep(wanted: 1) == nil)
    meter.pass(1000)
    // An upstream that sends more than it announced is metered all the same.
    let more = try #require(meter.nextStep(wanted: 5))
    #expect(more >= 5)
  }

  @Test func wantsMoreThanAStep() throws {
    let meter = try meter()
    #expect(meter.nextStep(wanted: 100_000_000) == 100_000_000)
  }

  @Test func neverPassesMoreThanWasDebited() throws {
    var meter = try meter()
    meter.debit(10, entry: 1, at: start)
    meter.publish(durable: 1)
    meter.pass(11)
    #expect(meter.passed == 10)
    #expect(meter.left == 0)
    #expect(meter.available == 0)
  }

  @Test(arguments: [(Unit.responseMessage, UInt64(4), UInt64(16)), (.second, 2, 4)])
  func othersThanOctetsHaveSmallSteps(unit: Unit, first: UInt64, second: UInt64) throws {
    let now = Timestamp.now()
    var meter = Meter(rate: try #require(Rate(amount: 1, unitSize: 1, unit: unit)), at: now)
    #expect(meter.first == first)
    #expect(meter.nextStep(wanted: 1) == first)
    meter.debit(first, entry: 1, at: now)
    meter.publish(durable: 1)
    #expect(meter.nextStep(wanted: 1) == nil || first - 1 < (first / 2) + 1)
    meter.pass(first)
    #expect(meter.nextStep(wanted: 1) == second)
  }
}
