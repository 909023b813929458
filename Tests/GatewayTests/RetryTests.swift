import Gateway
import HTTP
import Testing

@Suite struct RetryTests {
  @Test(arguments: [
    // number, reused, sent, replayable, method, allowed
    (1, true, true, true, Method.get, true),
    (1, true, true, true, Method.put, true),
    (1, true, true, true, Method.delete, true),
    (1, true, true, true, Method.post, false),
    (1, true, true, true, Method.patch, false),
    (1, true, true, true, Method.other, false),
    (1, true, false, true, Method.post, true),
    (1, false, false, true, Method.post, true),
    (1, false, true, true, Method.get, false),
    (1, true, true, false, Method.get, false),
    (2, true, true, true, Method.get, false),
    (2, false, false, true, Method.get, false),
  ])
  func repeatsOnlyWhatIsSafe(
    number: Int, reused: Bool, sent: Bool, replayable: Bool, method: Method, allowed: Bool
  ) {
    let attempt = Retry.Attempt(number: number, isReused: reused, isSent: sent, isReplayable: replayable)
    #expect(Retry.isAllowed(attempt, method: method) == allowed)
  }
}
