import Testing

@testable import Agent

@Suite struct ResumptionTests {
  typealias State = Resumption.State
  typealias Event = Resumption.Event
  typealias Action = Resumption.Action

  struct Row: Sendable {
    let way: Resumption.Way
    let state: State
    let event: Event
    let next: State
    let action: Action

    init(_ way: Resumption.Way, _ state: State, _ event: Event, _ next: State, _ action: Action) {
      self.way = way
      self.state = state
      self.event = event
      self.next = next
      self.action = action
    }
  }

  static let range = Resumption.Way.range(validator: "\"a\"", total: 10)
  static let lost = Event.lost(retry: nil, canContinue: true)

  static let table: [Row] = [
    Row(.none, .following(failures: 0), lost, .over, .fail),
    Row(.events, .following(failures: 0), .lost(retry: nil, canContinue: false), .over, .fail),
    Row(.events, .following(failures: 0), lost, .reconnecting(failures: 1), .reconnect(after: .seconds(1), attempt: 1)),
    Row(
      .events, .following(failures: 0), .lost(retry: .milliseconds(250), canContinue: true), .reconnecting(failures: 1),
      .reconnect(after: .milliseconds(250), attempt: 1)),
    Row(
      .events, .following(failures: 0), .lost(retry: .seconds(0), canContinue: true), .reconnecting(failures: 1),
      .reconnect(after: .seconds(0), attempt: 1)),
    Row(
      .events, .reconnecting(failures: 2), .lost(retry: .milliseconds(250), canContinue: true), .reconnecting(failures: 3),
      .reconnect(after: .seconds(1), attempt: 3)),
    Row(
      .events, .following(failures: 1), .lost(retry: .seconds(100_000), canContinue: true), .reconnecting(failures: 2),
      .reconnect(after: .seconds(60), attempt: 2)),
    Row(.events, .reconnecting(failures: 6), lost, .over, .fail),
    Row(.events, .following(failures: 6), lost, .over, .fail),
    Row(range, .following(failures: 0), .lost(retry: .seconds(9), canContinue: true), .reconnecting(failures: 1), .reconnect(after: .milliseconds(500), attempt: 1)),
    Row(.replay, .reconnecting(failures: 3), lost, .reconnecting(failures: 4), .reconnect(after: .seconds(4), attempt: 4)),
    Row(range, .reconnecting(failures: 2), .continued, .following(failures: 2), .proceed),
    Row(range, .following(failures: 2), .progressed, .following(failures: 0), .proceed),
    Row(range, .reconnecting(failures: 1), .refused, .over, .fail),
    Row(.events, .reconnecting(failures: 1), .nothingMore, .over, .end),
    Row(.events, .following(failures: 0), .nothingMore, .over, .end),
    Row(.events, .following(failures: 0), .refused, .over, .fail),
    Row(.events, .following(failures: 0), .continued, .following(failures: 0), .proceed),
    Row(.events, .reconnecting(failures: 4), .progressed, .reconnecting(failures: 4), .proceed),
    Row(.events, .over, lost, .over, .fail), Row(.events, .over, .refused, .over, .fail), Row(.events, .over, .progressed, .over, .end),
    Row(.events, .over, .continued, .over, .end), Row(.events, .over, .nothingMore, .over, .end),
  ]

  @Test(arguments: table.indices) func follows(index: Int) {
    let row = Self.table[index]
    var resumption = Resumption(way: row.way, state: row.state)
    #expect(resumption.receive(row.event) == row.action)
    #expect(resumption.state == row.next)
  }

  /// Without anything new it gives up; with something new each time it goes on.
  @Test func endsWithoutProgress() {
    var idle = Resumption(way: .events)
    var attempts = 0
    while case .reconnect = idle.receive(Self.lost) {
      attempts += 1
      _ = idle.receive(.continued)
    }
    #expect(attempts == Resumption.attemptLimit)
    var busy = Resumption(way: .events)
    for _ in 0..<100 {
      #expect(busy.receive(Self.lost) == .reconnect(after: .seconds(1), attempt: 1))
      _ = busy.receive(.continued)
      _ = busy.receive(.progressed)
    }
  }
}
