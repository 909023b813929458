import Encoding
import Gateway
import Testing

private let second: Int64 = 1_000_000_000
private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: 5000 * second + milliseconds * 1_000_000) }
private let rules = CircuitBreaker.Rules(share: 50, requests: 10, window: 10 * second, open: 5 * second, probes: 2)

private func opened(at milliseconds: Int64) -> CircuitBreaker {
  var breaker = CircuitBreaker(rules)
  for _ in 0..<10 { _ = breaker.record(failed: true, at: at(milliseconds)) }
  return breaker
}

@Suite struct CircuitBreakerTests {
  @Test(arguments: [
    // outcomes: + succeeded, - failed; which of them opens it (nil: none)
    ("---------", nil), ("----------", 9), ("+++++-----", 9), ("++++++-----", nil), ("++++++------", 11), ("-----+++++", nil),
    ("-----++++++", nil), ("++++++++++----------", 19),
  ] as [(String, Int?)])
  func opensAtTheShareOfEnoughRequests(outcomes: String, opening: Int?) {
    var breaker = CircuitBreaker(rules)
    var found: Int?
    for (index, outcome) in outcomes.enumerated() {
      #expect(breaker.admit(at: at(0)) == .admitted || found != nil)
      if breaker.record(failed: outcome == "-", at: at(Int64(index))) == .opened { found = index }
    }
    #expect(found == opening)
  }

  @Test func windowForgets() {
    var breaker = CircuitBreaker(rules)
    for _ in 0..<9 { #expect(breaker.record(failed: true, at: at(0)) == nil) }
    // Within the window the tenth would open it; behind it nine more do nothing.
    for _ in 0..<9 { #expect(breaker.record(failed: true, at: at(11_000)) == nil) }
    #expect(breaker.record(failed: true, at: at(12_000)) == .opened)
  }

  @Test func windowForgetsSliceBySlice() {
    var breaker = CircuitBreaker(rules)
    for second in 0..<100 as Range<Int64> {
      // Nine failures in any ten seconds, one more would be ten.
      if second % 10 != 9 { #expect(breaker.record(failed: true, at: at(second * 1000)) == nil) }
    }
    #expect(breaker.state == .closed)
  }

  @Test func openSaysWhenToComeBack() {
    var breaker = opened(at: 0)
    #expect(breaker.state == .open(until: at(5000)))
    for (milliseconds, seconds) in [(0, 5), (1, 5), (999, 5), (1000, 4), (4001, 1), (4999, 1)] as [(Int64, UInt32)] {
      #expect(breaker.decision(at: at(milliseconds)) == .refused(retryAfter: seconds))
      #expect(breaker.admit(at: at(milliseconds)) == .refused(retryAfter: seconds))
    }
    // Outcomes of before tell nothing.
    #expect(breaker.record(failed: false, at: at(100)) == nil && breaker.record(failed: true, at: at(100)) == nil)
    #expect(breaker.state == .open(until: at(5000)))
  }

  @Test func probesCloseIt() {
    var breaker = opened(at: 0)
    #expect(breaker.decision(at: at(5000)) == .admitted && breaker.state == .open(until: at(5000)))
    #expect(breaker.admit(at: at(5000)) == .admitted)
    #expect(breaker.admit(at: at(5001)) == .admitted)
    #expect(breaker.admit(at: at(5002)) == .refused(retryAfter: 5))
    #expect(breaker.record(failed: false, at: at(5010)) == nil)
    #expect(breaker.admit(at: at(5011)) == .refused(retryAfter: 5))
    #expect(breaker.record(failed: false, at: at(5012)) == .closed)
    #expect(breaker.state == .closed && breaker.admit(at: at(5013)) == .admitted)
    // It begins with an empty window.
    for _ in 0..<9 { #expect(breaker.record(failed: true, at: at(5014)) == nil) }
  }

  @Test func probeThatFailsOpensItAgain() {
    var breaker = opened(at: 0)
    #expect(breaker.admit(at: at(6000)) == .admitted && breaker.admit(at: at(6000)) == .admitted)
    #expect(breaker.record(failed: false, at: at(6001)) == nil)
    #expect(breaker.record(failed: true, at: at(6002)) == .opened)
    #expect(breaker.state == .open(until: at(11_002)))
  }

  @Test func probesWithoutOutcomeAreRenewed() {
    var breaker = opened(at: 0)
    for _ in 0..<2 { #expect(breaker.admit(at: at(5000)) == .admitted) }
    #expect(breaker.admit(at: at(9999)) == .refused(retryAfter: 1))
    for _ in 0..<2 { #expect(breaker.admit(at: at(10_000)) == .admitted) }
    #expect(breaker.admit(at: at(10_000)) == .refused(retryAfter: 5))
  }

  /// Whatever comes in whatever order: closed means admitted, and only outcomes and time change anything.
  @Test func survivesAnyOrder() {
    var state: UInt64 = 99
    var breaker = CircuitBreaker(.init(share: 30, requests: 3, window: second, open: second, probes: 2))
    var now: Int64 = 0
    var openings = 0
    for _ in 0..<50_000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      now += Int64(state >> 40 % 200)
      let decision = breaker.decision(at: at(now))
      if state >> 20 & 1 == 0 { #expect(breaker.admit(at: at(now)) == decision) }
      if breaker.state == .closed { #expect(breaker.decision(at: at(now)) == .admitted) }
      if state >> 21 & 3 != 0, breaker.record(failed: state >> 24 & 3 == 0, at: at(now)) == .opened { openings += 1 }
    }
    #expect(openings > 100)
  }
}
