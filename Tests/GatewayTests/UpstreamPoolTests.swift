import Gateway
import Testing

@Suite struct UpstreamPoolTests {
  /// Runs a script against a pool; each step names what it expects.
  private enum Step {
    case lease(UInt64, fresh: Bool = false, UpstreamPool.Lease)
    case released(Int32, UpstreamPool.Release)
    case closed(Int32, UInt64?)
    case unused(UInt64?)
  }

  private func run(_ limits: UpstreamPool.Limits, _ steps: [Step]) -> (connections: Int, idle: Int, waiting: Int) {
    var pool = UpstreamPool(limits: limits)
    for (number, step) in steps.enumerated() {
      switch step {
      case .lease(let ticket, let fresh, let expected):
        let lease = pool.lease(ticket: ticket, fresh: fresh)
        #expect(lease == expected, "step \(number)")
      case .released(let slot, let expected):
        let release = pool.released(slot: slot)
        #expect(release == expected, "step \(number)")
      case .closed(let slot, let expected):
        let ticket = pool.closed(slot: slot)
        #expect(ticket == expected, "step \(number)")
      case .unused(let expected):
        let ticket = pool.unused()
        #expect(ticket == expected, "step \(number)")
      }
    }
    return (pool.connectionCount, pool.idleCount, pool.waitingCount)
  }

  @Test func reusesTheConnectionUsedLast() {
    let end = run(
      .init(connections: 4, idle: 4),
      [
        .lease(1, .connect), .lease(2, .connect), .released(10, .keep), .released(11, .keep),
        .lease(3, .reuse(slot: 11)), .lease(4, .reuse(slot: 10)), .lease(5, .connect),
      ])
    #expect(end == (3, 0, 0))
  }

  @Test func aFreshLeaseLeavesIdleOnesAlone() {
    let end = run(
      .init(connections: 2, idle: 2),
      [.lease(1, .connect), .released(7, .keep), .lease(2, fresh: true, .connect), .lease(3, fresh: true, .wait)])
    #expect(end == (2, 1, 1))
  }

  @Test func waitersAreServedInOrderAndBounded() {
    let end = run(
      .init(connections: 1, idle: 1, waiting: 2),
      [
        .lease(1, .connect), .lease(2, .wait), .lease(3, .wait), .lease(4, .refuse),
        .released(9, .assign(ticket: 2)), .closed(9, 3), .unused(nil),
      ])
    #expect(end == (0, 0, 0))
  }

  @Test func moreThanTheIdleLimitIsClosed() {
    let end = run(
      .init(connections: 3, idle: 1),
      [.lease(1, .connect), .lease(2, .connect), .released(5, .keep), .released(6, .close), .closed(6, nil)])
    #expect(end == (1, 1, 0))
  }

  @Test func anIdleConnectionThatClosesIsForgotten() {
    let end = run(
      .init(connections: 2, idle: 2),
      [.lease(1, .connect), .released(5, .keep), .closed(5, nil), .lease(2, .connect)])
    #expect(end == (1, 0, 0))
  }

  @Test func manyWaitersKeepTheirOrder() {
    var pool = UpstreamPool(limits: .init(connections: 1, idle: 1, waiting: 2000))
    _ = pool.lease(ticket: 0)
    for ticket in 1...2000 { _ = pool.lease(ticket: UInt64(ticket)) }
    for ticket in 1...2000 {
      let release = pool.released(slot: 3)
      #expect(release == .assign(ticket: UInt64(ticket)))
    }
    let release = pool.released(slot: 3)
    #expect(release == .keep)
  }
}
