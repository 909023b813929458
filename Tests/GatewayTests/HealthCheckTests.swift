import Encoding
import Gateway
import Testing

private let second: Int64 = 1_000_000_000
private let start = Instant(nanoseconds: 1000 * second)

@Suite struct HealthCheckTests {
  @Test(arguments: [
    // outcomes (+ passed, - failed), and what each changed: U up, D down, . nothing
    ("+", "."), ("-", "D"), ("+--", "..."), ("+---", "...D"), ("+--+---", "......D"), ("-+", "D."), ("-++", "D.U"), ("-+-+-++", "D.....U"),
    ("+---++---", "...D.U..D"), ("-----++", "D.....U"),
  ])
  func risesAndFalls(outcomes: String, changes: String) {
    var check = HealthCheck(.init(interval: second, timeout: second, rise: 2, fall: 3), at: start, jitter: 0)
    #expect(check.isUp)
    let found = outcomes.map { outcome -> Character in
      switch check.ended(passed: outcome == "+", at: start, jitter: 0) {
      case .wentUp: return "U"
      case .wentDown: return "D"
      case nil: return "."
      }
    }
    #expect(String(found) == changes)
    #expect(check.isUp == (changes.last { $0 != "." } != "D"))
  }

  @Test func nextCheckIsAnIntervalLaterMoreOrLess() throws {
    var check = HealthCheck(.init(interval: 10 * second, timeout: 2 * second, rise: 1, fall: 1), at: start, jitter: 12345)
    let first = try #require(check.nextCheck)
    #expect(first >= start && first < start.advanced(nanoseconds: second))
    #expect(check.began(at: first) == first.advanced(nanoseconds: 2 * second))
    #expect(check.nextCheck == nil)
    for jitter in [0, 1, UInt64.max, 0x1234_5678_9ABC_DEF0] {
      _ = check.ended(passed: true, at: first, jitter: jitter)
      let next = try #require(check.nextCheck)
      #expect(next >= first.advanced(nanoseconds: 9 * second) && next < first.advanced(nanoseconds: 11 * second))
    }
  }

  @Test func extremeRulesAreHeldWithinSense() {
    var check = HealthCheck(.init(interval: -1, timeout: 0, rise: 0, fall: -5), at: start, jitter: .max)
    #expect(check.ended(passed: false, at: start, jitter: .max) == .wentDown)
    #expect(check.ended(passed: true, at: start, jitter: 3) == .wentUp)
  }
}
