import Encoding
import IO
import Synchronization

/// A call on its way, and who is told what came of it: exactly once, on the client's thread, or on the caller's where it is not taken.
struct PendingCall: Sendable {
  let call: ServiceCall
  /// When it has failed, monotonic nanoseconds.
  let deadline: Int64
  let completion: @Sendable (ServiceOutcome) -> Void
}

/// Calls the HTTP services that the proxy itself depends on: pricers, nodes of chains, facilitators, signers. One for the process, on a
/// thread of its own that runs once something was called.
final class ServiceClient: Sendable {
  /// Most calls under way at once.
  static let callLimit = 4096
  /// How long the thread waits for descriptors of its own, nanoseconds.
  private static let exhaustionPause: Int64 = 100_000_000

  private struct State {
    /// What the thread has not begun yet.
    var calls: [PendingCall] = []
    var plan: RelayPlan?
    var isStopped = false
    var thread: LoopThread?
  }

  private let state = Mutex(State())
  private let underWay = Atomic<Int>(0)
  let resolver: UpstreamResolver
  private let waker: Waker

  init(resolver: UpstreamResolver) throws(IOError) {
    self.resolver = resolver
    waker = try Waker()
  }

  /// Uses another configuration's upstreams from now on.
  func adopt(_ plan: RelayPlan) { state.withLock { $0.plan = plan } }

  /// Begins a call. `completion` is called once, whatever comes of it; it must not block.
  func begin(_ call: ServiceCall, _ completion: @escaping @Sendable (ServiceOutcome) -> Void) {
    let pending = PendingCall(call: call, deadline: Instant.now().nanoseconds &+ call.timeout) { [self] outcome in
      underWay.subtract(1, ordering: .relaxed)
      completion(outcome)
    }
    let isTaken = underWay.add(1, ordering: .relaxed).newValue <= Self.callLimit && state.withLock { state in
      guard !state.isStopped else { return false }
      if state.thread == nil {
        do { state.thread = try LoopThread(name: "services") { [self] in run() } } catch { return false }
      }
      state.calls.append(pending)
      return true
    }
    guard isTaken else { return pending.completion(.notSent) }
    waker.wake()
  }

  /// Calls, and waits for what comes of it.
  func call(_ call: ServiceCall) async -> ServiceOutcome {
    await withCheckedContinuation { continuation in begin(call) { continuation.resume(returning: $0) } }
  }

  /// Takes what was asked, and the upstreams by which it is; nil where the thread is to end.
  func takeCalls() -> (calls: [PendingCall], plan: RelayPlan?)? {
    state.withLock { state in
      guard !state.isStopped else { return nil }
      defer { state.calls = [] }
      return (state.calls, state.plan)
    }
  }

  /// Ends the thread and waits for it; what is under way fails.
  func stop() {
    let (thread, calls) = state.withLock { state in
      state.isStopped = true
      defer {
        state.thread = nil
        state.calls = []
      }
      return (state.thread, state.calls)
    }
    waker.wake()
    thread?.join()
    for call in calls { call.completion(.notSent) }
  }

  private func run() {
    while true {
      if let epoll = try? ServiceRounds.makeEpoll(waker) {
        var rounds = ServiceRounds(epoll: epoll, client: self)
        while rounds.turn() {}
        return
      }
      // Without descriptors nobody can be called; that passes.
      guard let (calls, _) = takeCalls() else { return }
      for call in calls { call.completion(.notSent) }
      AdministrationPause.nanoseconds(Self.exhaustionPause)
    }
  }
}
