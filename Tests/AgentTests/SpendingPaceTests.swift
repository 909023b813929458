import Encoding
import Testing

@testable import Agent

@Suite struct SpendingPaceTests {
  private let start = Instant.now()

  private func at(_ seconds: Int) -> Instant { start + .seconds(seconds) }

  @Test func aMinuteHoldsNoMoreThanItsLimit() {
    var pace = SpendingPace()
    #expect(pace.room(within: 100, beside: 0, at: at(0)) == 100)
    #expect(pace.room(within: 100, beside: 30, at: at(0)) == 70)
    #expect(pace.room(within: 100, beside: 101, at: at(0)) == 0)
    pace.spend(60, at: at(0))
    pace.spend(30, at: at(20))
    #expect(pace.room(within: 100, beside: 0, at: at(20)) == 10)
    #expect(pace.room(within: 100, beside: 0, at: at(59)) == 10)
    #expect(pace.room(within: 100, beside: 0, at: at(60)) == 70)
    #expect(pace.room(within: 100, beside: 0, at: at(80)) == 100)
  }

  struct Row: Sendable {
    let amount: UInt128
    let held: UInt128
    let expected: Int?
  }

  /// 60 were spent at 0 s and 30 at 20 s, of 100; it is 25 s.
  @Test(arguments: [
    Row(amount: 10, held: 0, expected: 25), Row(amount: 11, held: 0, expected: 60), Row(amount: 70, held: 0, expected: 60),
    Row(amount: 71, held: 0, expected: 80), Row(amount: 100, held: 0, expected: 80), Row(amount: 101, held: 0, expected: nil),
    Row(amount: 60, held: 10, expected: 60), Row(amount: 90, held: 10, expected: 80), Row(amount: 91, held: 10, expected: nil),
    Row(amount: 0, held: 100, expected: 25), Row(amount: 1, held: .max, expected: nil),
  ])
  func tellsTheMoment(row: Row) {
    var pace = SpendingPace()
    pace.spend(60, at: at(0))
    pace.spend(30, at: at(20))
    #expect(pace.moment(for: row.amount, within: 100, beside: row.held, at: at(25)) == row.expected.map { at($0) })
  }

  @Test func overflowIsNoRoom() {
    var pace = SpendingPace()
    pace.spend(.max, at: at(0))
    pace.spend(5, at: at(2))
    #expect(pace.room(within: .max, beside: 7, at: at(3)) == 0)
  }

  /// Whatever is spent, whenever: who asks for room first never has a minute that costs more than the limit.
  @Test func noMinuteCostsMore() {
    var seed: UInt64 = 0xACE
    func next(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(bound))
    }
    for _ in 0..<200 {
      var pace = SpendingPace()
      var now = start
      var held: UInt128 = 0
      var spendings: [(Instant, UInt128)] = []
      for _ in 0..<200 {
        now = now.advanced(milliseconds: Int64(next(4000)))
        // A session spends what it holds whenever it likes, and that is learnt of at once.
        let amount = min(held, UInt128(next(300)))
        held -= amount
        pace.spend(amount, at: now)
        spendings.append((now, amount))
        let wanted = UInt128(next(400))
        if let moment = pace.moment(for: wanted, within: 1000, beside: held, at: now), moment == now { held += wanted }
        let minute = spendings.filter { now - $0.0 < SpendingPace.window }.reduce(0) { $0 + $1.1 }
        #expect(minute <= 1000)
      }
      #expect(spendings.reduce(0) { $0 + $1.1 } > 1000)
    }
  }
}
