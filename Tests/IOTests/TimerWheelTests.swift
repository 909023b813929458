import IO
import Testing

@Suite struct TimerWheelTests {
  let tick = TimerWheel.granularity

  @Test func handsOutWhatIsDueAndNothingElse() {
    var wheel = TimerWheel(now: 0)
    wheel.schedule(3, deadline: 5 * tick)
    wheel.schedule(4, deadline: 9 * tick)
    var expired: [Int] = []
    wheel.expire(now: 5 * tick, into: &expired)
    #expect(expired.isEmpty)
    wheel.expire(now: 6 * tick, into: &expired)
    #expect(expired == [3])
    wheel.expire(now: 20 * tick, into: &expired)
    #expect(expired == [3, 4])
    let isEmpty = wheel.isEmpty
    let sleep = wheel.sleepMilliseconds(now: 20 * tick)
    #expect(isEmpty)
    #expect(sleep == -1)
  }

  @Test func neverHandsOutAfterTheEarliestDeadline() {
    var wheel = TimerWheel(now: 0)
    wheel.schedule(1, deadline: 50 * tick)
    wheel.schedule(1, deadline: 3 * tick)
    // A later deadline leaves the earlier entry: the owner looks at its own deadline.
    wheel.schedule(1, deadline: 90 * tick)
    var expired: [Int] = []
    wheel.expire(now: 4 * tick, into: &expired)
    #expect(expired == [1])
  }

  @Test func farDeadlinesComeEarlyAndPastOnesSoon() {
    var wheel = TimerWheel(now: 0)
    wheel.schedule(0, deadline: 10 * TimerWheel.placeCount * tick)
    wheel.schedule(1, deadline: -5)
    var expired: [Int] = []
    wheel.expire(now: tick, into: &expired)
    #expect(expired == [1])
    wheel.expire(now: TimerWheel.placeCount * tick, into: &expired)
    #expect(expired == [1, 0])
  }

  @Test func survivesALongSleepAndRandomUse() {
    var wheel = TimerWheel(now: 0)
    var random = SystemRandomNumberGenerator()
    var scheduled: Set<Int> = []
    var now: Int64 = 0
    for round in 0..<3000 {
      let index = Int.random(in: 0..<200, using: &random)
      if round % 7 == 0 {
        wheel.cancel(index)
        scheduled.remove(index)
      } else {
        wheel.schedule(index, deadline: now + Int64.random(in: 0...300, using: &random) * tick)
        scheduled.insert(index)
      }
      if round % 5 == 0 {
        now += Int64.random(in: 0...40, using: &random) * tick
        if round % 500 == 0 { now += 5000 * tick }
        var expired: [Int] = []
        wheel.expire(now: now, into: &expired)
        for index in expired { #expect(scheduled.remove(index) != nil) }
      }
    }
    var expired: [Int] = []
    wheel.expire(now: now + 2 * TimerWheel.placeCount * tick, into: &expired)
    #expect(Set(expired) == scheduled)
    #expect(expired.count == scheduled.count)
  }
}
