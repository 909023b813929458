import Gateway
import HTTP
import Testing

@Suite struct RetryTests {
  @Test(arguments: [
    // number, reused, sent, replayable, other, method, decision
    (1, true, true, true, false, Method.get, Retry.Decision.again),
    (1, true, true, true, true, Method.get, .again),
    (1, true, true, true, false, Method.put, .again),
    (1, true, true, true, false, Method.delete, .again),
    (1, true, true, true, true, Method.post, .fail),
    (1, true, true, true, true, Method.patch, .fail),
    (1, true, true, true, true, Method.other, .fail),
    (1, true, false, true, false, Method.post, .again),
    (1, false, false, true, false, Method.post, .elsewhere),
    (1, false, false, true, true, Method.post, .elsewhere),
    (1, false, true, true, true, Method.post, .fail),
    (1, false, true, true, true, Method.get, .elsewhere),
    (1, false, true, true, false, Method.get, .fail),
    (1, false, true, false, true, Method.get, .fail),
    (1, true, true, false, true, Method.get, .fail),
    (2, true, true, true, true, Method.get, .again),
    (3, true, true, true, true, Method.get, .fail),
    (3, false, false, true, true, Method.get, .fail),
  ])
  func repeatsOnlyWhatIsSafe(
    number: Int, reused: Bool, sent: Bool, replayable: Bool, other: Bool, method: Method, decision: Retry.Decision
  ) {
    let attempt = Retry.Attempt(number: number, isReused: reused, isSent: sent, isReplayable: replayable, hasOther: other)
    #expect(Retry.decision(attempt, method: method, retries: 2) == decision)
    #expect(Retry.decision(attempt, method: method, retries: 0) == .fail)
  }
}
