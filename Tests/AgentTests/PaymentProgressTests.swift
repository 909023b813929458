import Testing

@testable import Agent

@Suite struct PaymentProgressTests {
  typealias State = PaymentProgress.State
  typealias Event = PaymentProgress.Event
  typealias Action = PaymentProgress.Action

  /// What a state does with each event; events that are not listed end as `otherwise`.
  struct Row: Sendable {
    let state: State
    let expected: [Event: (State, Action)]
    let otherwise: (State, Action)

    init(_ state: State, otherwise: (State, Action), _ expected: [Event: (State, Action)]) {
      self.state = state
      self.otherwise = otherwise
      self.expected = expected
    }
  }

  static func stop(_ stop: PaymentProgress.Stop) -> (State, Action) { (.stopped(stop), .stop(stop)) }
  static let deliver: (State, Action) = (.delivered, .deliver)

  /// For a request that is neither keyed nor unsafe.
  static let table: [Row] = [
    Row(.asking(repeats: 0), otherwise: deliver, [
      .chargeOffered: (.paying(.charge, repeats: 0), .pay(.charge)),
      .openOffered: (.paying(.open, repeats: 0), .pay(.open)), .chainOffered: (.paying(.chain, repeats: 0), .pay(.chain)), .channelOffered: (.paying(.channel, repeats: 0), .pay(.channel)),
      .bearerOffered: (.bearing(.renewed, repeats: 0), .bear),
      .nothingOffered: stop(.unpayable), .budgetShort: stop(.unpayable),
      .lost: (.asking(repeats: 1), .repeatAfterPause(repeats: 1)),
    ]),
    Row(.asking(repeats: 1), otherwise: deliver, [
      .chargeOffered: (.paying(.charge, repeats: 0), .pay(.charge)),
      .openOffered: (.paying(.open, repeats: 0), .pay(.open)), .chainOffered: (.paying(.chain, repeats: 0), .pay(.chain)), .channelOffered: (.paying(.channel, repeats: 0), .pay(.channel)),
      .bearerOffered: (.bearing(.renewed, repeats: 0), .bear),
      .nothingOffered: stop(.unpayable), .budgetShort: stop(.unpayable), .lost: stop(.network),
    ]),
    Row(.bearing(.kept, repeats: 0), otherwise: stop(.rejected), [
      .answered: deliver, .unavailable: deliver,
      .chargeOffered: (.paying(.charge, repeats: 0), .pay(.charge)),
      .openOffered: (.paying(.open, repeats: 0), .pay(.open)), .chainOffered: (.paying(.chain, repeats: 0), .pay(.chain)), .channelOffered: (.paying(.channel, repeats: 0), .pay(.channel)),
      .bearerOffered: (.bearing(.renewed, repeats: 0), .bear),
      .nothingOffered: stop(.unpayable), .budgetShort: (.toppingUp, .topUp),
      .sessionGone: (.asking(repeats: 0), .ask), .denied: stop(.denied),
      .inFlight: (.bearing(.kept, repeats: 1), .repeatAfterPause(repeats: 1)),
      .lost: (.inspecting(.kept, repeats: 0), .inspect),
    ]),
    Row(.bearing(.renewed, repeats: 0), otherwise: stop(.rejected), [
      .answered: deliver, .unavailable: deliver, .nothingOffered: stop(.unpayable), .budgetShort: (.toppingUp, .topUp),
      .sessionGone: (.asking(repeats: 0), .ask), .denied: stop(.denied),
      .inFlight: (.bearing(.renewed, repeats: 1), .repeatAfterPause(repeats: 1)),
      .lost: (.inspecting(.renewed, repeats: 0), .inspect),
    ]),
    Row(.bearing(.toppedUp, repeats: 6), otherwise: stop(.rejected), [
      .answered: deliver, .unavailable: deliver, .nothingOffered: stop(.unpayable), .denied: stop(.denied),
      .inFlight: stop(.answerLost), .lost: (.inspecting(.toppedUp, repeats: 6), .inspect),
    ]),
    Row(.bearing(.opened, repeats: 0), otherwise: stop(.rejected), [
      .answered: deliver, .unavailable: deliver, .nothingOffered: stop(.unpayable), .budgetShort: (.toppingUp, .topUp),
      .denied: stop(.denied), .inFlight: (.bearing(.opened, repeats: 1), .repeatAfterPause(repeats: 1)),
      .lost: (.inspecting(.opened, repeats: 0), .inspect),
    ]),
    Row(.toppingUp, otherwise: stop(.rejected), [
      .toppedUp: (.bearing(.toppedUp, repeats: 0), .bear), .denied: stop(.denied), .lost: stop(.answerLost),
      .nothingOffered: stop(.unpayable),
    ]),
    Row(.inspecting(.kept, repeats: 2), otherwise: stop(.answerLost), [
      .untouched: (.bearing(.kept, repeats: 3), .repeatAfterPause(repeats: 3))
    ]),
    Row(.inspecting(.kept, repeats: 6), otherwise: stop(.answerLost), [.untouched: stop(.network)]),
    Row(.paying(.charge, repeats: 0), otherwise: stop(.rejected), [
      .answered: deliver, .lost: (.paying(.charge, repeats: 1), .repeatAfterPause(repeats: 1)),
      .inFlight: (.paying(.charge, repeats: 1), .repeatAfterPause(repeats: 1)),
      .unavailable: (.paying(.charge, repeats: 1), .repeatAfterPause(repeats: 1)),
      .settledBefore: stop(.settled), .denied: stop(.denied),
    ]),
    Row(.paying(.charge, repeats: 6), otherwise: stop(.rejected), [
      .answered: deliver, .lost: stop(.answerLost), .inFlight: stop(.answerLost), .unavailable: stop(.unavailable),
      .settledBefore: stop(.settled), .denied: stop(.denied),
    ]),
    Row(.paying(.open, repeats: 1), otherwise: stop(.rejected), [
      .answered: deliver, .lost: (.paying(.open, repeats: 2), .repeatAfterPause(repeats: 2)),
      .inFlight: (.paying(.open, repeats: 2), .repeatAfterPause(repeats: 2)),
      .unavailable: (.paying(.open, repeats: 2), .repeatAfterPause(repeats: 2)),
      .alreadyOpen: (.inspecting(.opened, repeats: 1), .inspect), .denied: stop(.denied),
    ]),
    Row(.paying(.chain, repeats: 0), otherwise: stop(.rejected), [
      .answered: deliver, .lost: (.paying(.chain, repeats: 1), .repeatAfterPause(repeats: 1)),
      .inFlight: (.paying(.chain, repeats: 1), .repeatAfterPause(repeats: 1)),
      .unavailable: (.paying(.chain, repeats: 1), .repeatAfterPause(repeats: 1)),
      .settledBefore: stop(.settled), .denied: stop(.denied),
    ]),
    Row(.paying(.chain, repeats: 8), otherwise: stop(.rejected), [
      .answered: deliver, .lost: stop(.answerLost), .inFlight: stop(.answerLost), .unavailable: stop(.unavailable),
      .settledBefore: stop(.settled), .denied: stop(.denied),
    ]),
    Row(.paying(.channel, repeats: 0), otherwise: stop(.rejected), [
      .answered: deliver, .lost: (.paying(.channel, repeats: 1), .repeatAfterPause(repeats: 1)),
      .inFlight: (.paying(.channel, repeats: 1), .repeatAfterPause(repeats: 1)),
      .unavailable: (.paying(.channel, repeats: 1), .repeatAfterPause(repeats: 1)),
      .alreadyOpen: (.inspecting(.opened, repeats: 0), .inspect), .denied: stop(.denied),
    ]),
    Row(.paying(.channel, repeats: 8), otherwise: stop(.rejected), [
      .answered: deliver, .lost: stop(.answerLost), .inFlight: stop(.answerLost), .unavailable: stop(.unavailable),
      .alreadyOpen: (.inspecting(.opened, repeats: 8), .inspect), .denied: stop(.denied),
    ]),
    Row(.delivered, otherwise: deliver, [:]),
    Row(.stopped(.rejected), otherwise: stop(.rejected), [:]),
  ]

  @Test(arguments: table.indices) func follows(index: Int) {
    let row = Self.table[index]
    for event in Event.allCases {
      var progress = PaymentProgress(isKeyed: false, isSafe: true, state: row.state)
      let action = progress.receive(event)
      let (state, expected) = row.expected[event] ?? row.otherwise
      #expect(progress.state == state, "\(row.state) on \(event)")
      #expect(action == expected, "\(row.state) on \(event)")
    }
  }

  @Test func keyedRequestsAreRepeatedWithoutLooking() {
    var bearing = PaymentProgress(isKeyed: true, isSafe: false, state: .bearing(.kept, repeats: 0))
    #expect(bearing.receive(.lost) == .repeatAfterPause(repeats: 1))
    #expect(bearing.state == .bearing(.kept, repeats: 1))
    var opening = PaymentProgress(isKeyed: true, isSafe: false, state: .paying(.open, repeats: 1))
    #expect(opening.receive(.alreadyOpen) == .bear)
    #expect(opening.state == .bearing(.opened, repeats: 0))
  }

  @Test func unsafeRequestsAreAskedOnce() {
    var asking = PaymentProgress(isKeyed: false, isSafe: false, state: .asking(repeats: 0))
    #expect(asking.receive(.lost) == .stop(.network))
  }

  /// A refusal by which nothing moved lets another payment be signed where that was allowed, but never after a repetition.
  @Test func retriesRefusedPayments() {
    var progress = PaymentProgress(isKeyed: false, isSafe: true, state: .paying(.chain, repeats: 0), refusalRetries: 1)
    #expect(progress.receive(.refusedUnmoved) == .ask)
    #expect(progress.receive(.chainOffered) == .pay(.chain))
    #expect(progress.receive(.refusedUnmoved) == .stop(.rejected))
    var repeated = PaymentProgress(isKeyed: false, isSafe: true, state: .paying(.chain, repeats: 1), refusalRetries: 1)
    #expect(repeated.receive(.refusedUnmoved) == .stop(.rejected))
    var prepaid = PaymentProgress(isKeyed: false, isSafe: true, state: .paying(.charge, repeats: 0), refusalRetries: 1)
    #expect(prepaid.receive(.refusedUnmoved) == .stop(.rejected))
  }

  /// Whatever comes, at most one new payment is made for a request, and the machine comes to an end.
  @Test func neverPaysTwice() {
    var seed: UInt64 = 0x5EED
    func next(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(bound))
    }
    for round in 0..<20_000 {
      var progress = PaymentProgress(isKeyed: round % 2 == 0, isSafe: round % 3 == 0, bearsKeptSession: round % 5 == 0)
      var payments = 0
      var steps = 0
      var isOver = false
      while !isOver {
        steps += 1
        switch progress.receive(Event.allCases[next(Event.allCases.count)]) {
        case .pay: payments += 1
        case .deliver, .stop: isOver = true
        case .ask, .bear, .repeatAfterPause, .inspect, .topUp: break
        }
        if steps > 200 { isOver = true }
      }
      #expect(payments <= 1)
      #expect(steps <= 200)
    }
  }
}
