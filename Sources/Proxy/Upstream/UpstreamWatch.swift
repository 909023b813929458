import Encoding
import Gateway
import IO
import Synchronization

/// Asks servers whether they are well and looks names up again: once for the whole process, on a thread of its own that runs
/// only where something is to be watched. What it finds stands on the board, for all workers at once.
final class UpstreamWatch: Sendable {
  /// What is watched from now on.
  struct Orders: Sendable {
    var plan: RelayPlan
    /// The places of the upstreams that the configuration has; others are left behind.
    var upstreams: [Int]

    /// Whether there is anything to do.
    var isNeeded: Bool {
      upstreams.contains { place in
        let upstream = plan.upstreams[place]
        return upstream.health != nil || upstream.resolveEvery > 0 && plan.servers[upstream.servers].contains(where: \.hasName)
      }
    }
  }

  private struct State {
    var orders: Orders?
    var isStopped = false
    var thread: LoopThread?
  }

  private let waker: Waker
  private let state = Mutex(State())
  private let board: UpstreamBoard
  private let resolver: UpstreamResolver

  init(board: UpstreamBoard, resolver: UpstreamResolver) throws(IOError) {
    waker = try Waker()
    self.board = board
    self.resolver = resolver
  }

  /// Watches what a configuration says from now on; servers that are as before keep what is known of them.
  func adopt(_ orders: Orders) throws(IOError) {
    try state.withLock { state throws(IOError) in
      guard !state.isStopped else { return }
      state.orders = orders
      if state.thread == nil, orders.isNeeded { state.thread = try LoopThread(name: "upstream-watch") { [self] in run() } }
    }
    waker.wake()
  }

  /// Ends the thread and waits for it.
  func stop() {
    let thread = state.withLock { state in
      state.isStopped = true
      defer { state.thread = nil }
      return state.thread
    }
    waker.wake()
    thread?.join()
  }

  private func run() {
    // Without descriptors for its own use nothing can be watched, and every server counts as up.
    guard let epoll = try? WatchRounds.makeEpoll(waker) else { return }
    var rounds = WatchRounds(epoll: epoll, board: board, resolver: resolver)
    while true {
      let (orders, isStopped) = state.withLock { state in
        defer { state.orders = nil }
        return (state.orders, state.isStopped)
      }
      if isStopped { return rounds.end() }
      if let orders { rounds.adopt(orders, at: Instant.now()) }
      rounds.turn()
    }
  }
}
