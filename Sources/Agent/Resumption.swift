/// Decides how an answer goes on whose connection was lost in the middle of its body.
///
/// The machine sees only what came, never a socket or a clock. What would have to be paid a second time is never asked for again: an
/// answer is continued only where it is free, or where its session pays for nothing but what is delivered.
struct Resumption: Equatable, Sendable {
  /// How often it is tried in a row without anything new.
  static let attemptLimit = 6
  /// The wait before an event stream is asked for again, where the server names none.
  static let eventWait = Duration.seconds(1)
  /// The wait before the rest of a download is asked for.
  static let rangeWait = Duration.milliseconds(500)
  /// The longest wait, whatever the server names.
  static let longestWait = Duration.seconds(60)
  /// The largest answer to an unsafe request that is asked for again: proxies keep no larger ones.
  static let replayByteLimit = 65_536

  /// By which means the rest can be had.
  enum Way: Equatable, Sendable {
    case none
    /// `Last-Event-ID`, where events had ids.
    case events
    /// `Range` with `If-Range`.
    case range(validator: String, total: UInt64)
    /// The same request with the same `Idempotency-Key`: the server has kept the answer.
    case replay
  }

  enum Event: Equatable, Sendable {
    /// The connection was lost, in the body or before another head; `retry` is what the server named.
    case lost(retry: Duration?, canContinue: Bool)
    /// The rest begins to come.
    case continued
    /// Something new of the body came.
    case progressed
    /// The server says that there is nothing more (204 to an event stream).
    case nothingMore
    /// Anything else came.
    case refused
  }

  enum Action: Equatable, Sendable {
    case proceed
    case reconnect(after: Duration, attempt: Int)
    case end
    /// The failure that began it is told.
    case fail
  }

  enum State: Equatable, Sendable {
    case following(failures: Int)
    case reconnecting(failures: Int)
    case over
  }

  let way: Way
  private(set) var state: State

  init(way: Way, state: State = .following(failures: 0)) {
    self.way = way
    self.state = state
  }

  mutating func receive(_ event: Event) -> Action {
    switch (state, event) {
    case (.following(let failures), .lost(let retry, let canContinue)): return lost(failures, retry, canContinue)
    case (.following, .progressed):
      state = .following(failures: 0)
      return .proceed
    case (.following, .continued): return .proceed
    case (.following, .nothingMore): return finish(.end)
    case (.following, .refused): return finish(.fail)
    case (.reconnecting(let failures), .lost(let retry, let canContinue)): return lost(failures, retry, canContinue)
    case (.reconnecting(let failures), .continued):
      state = .following(failures: failures)
      return .proceed
    case (.reconnecting, .progressed): return .proceed
    case (.reconnecting, .nothingMore): return finish(.end)
    case (.reconnecting, .refused): return finish(.fail)
    case (.over, .lost), (.over, .refused): return .fail
    case (.over, .continued), (.over, .progressed), (.over, .nothingMore): return .end
    }
  }

  private mutating func finish(_ action: Action) -> Action {
    state = .over
    return action
  }

  private mutating func lost(_ failures: Int, _ retry: Duration?, _ canContinue: Bool) -> Action {
    guard canContinue, way != .none, failures < Self.attemptLimit else { return finish(.fail) }
    state = .reconnecting(failures: failures + 1)
    return .reconnect(after: wait(failures, retry), attempt: failures + 1)
  }

  /// The wait doubles with each failure in a row; the first one is what the server asks for.
  private func wait(_ failures: Int, _ retry: Duration?) -> Duration {
    let first: Duration
    switch way {
    case .none, .range, .replay: first = Self.rangeWait
    case .events: first = retry ?? Self.eventWait
    }
    return min(first * (1 << failures), Self.longestWait)
  }
}
