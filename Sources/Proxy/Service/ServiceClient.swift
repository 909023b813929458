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
///
/// Tasks that mostly wait for such calls run on the same thread where they prefer it (SE-0417): what an answer leads to then costs no change
/// of threads.
final class ServiceClient: TaskExecutor {
  /// Most calls under way at once.
  static let callLimit = 4096
  /// How long the thread waits for descriptors of its own, nanoseconds.
  private static let exhaustionPause: Int64 = 100_000_000

  /// What the thread has not begun yet.
  struct Work {
    fileprivate(set) var calls: [PendingCall] = []
    /// Steps of tasks.
    fileprivate(set) var jobs: [UnownedJob] = []

    var isEmpty: Bool { calls.isEmpty && jobs.isEmpty }
  }

  private struct State {
    var work = Work()
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
    guard underWay.add(1, ordering: .relaxed).newValue <= Self.callLimit, hand({ $0.calls.append(pending) }) else {
      return pending.completion(.notSent)
    }
  }

  /// Runs a step of a task on the client's thread, or elsewhere where there is none.
  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    if !hand({ $0.jobs.append(job) }) { globalConcurrentExecutor.enqueue(ExecutorJob(job)) }
  }

  /// Hands work to the thread, which is started where there is none yet; false where it cannot be, or has ended.
  private func hand(_ add: (inout Work) -> Void) -> Bool {
    let isTaken = state.withLock { state in
      guard !state.isStopped else { return false }
      if state.thread == nil {
        do { state.thread = try LoopThread(name: "services") { [self] in run() } } catch { return false }
      }
      add(&state.work)
      return true
    }
    if isTaken { waker.wakeIfAsleep() }
    return isTaken
  }

  /// Calls, and waits for what comes of it.
  func call(_ call: ServiceCall) async -> ServiceOutcome {
    await withCheckedContinuation { continuation in begin(call) { continuation.resume(returning: $0) } }
  }

  /// Says that the thread is about to sleep; false where there is work.
  func maySleep() -> Bool {
    waker.prepareToSleep()
    return state.withLock { $0.work.isEmpty && !$0.isStopped }
  }

  /// Takes what is to be done, and the upstreams by which it is; nil where the thread is to end.
  func take() -> (work: Work, plan: RelayPlan?)? {
    waker.didWake()
    return state.withLock { state in
      guard !state.isStopped else { return nil }
      defer { state.work = Work() }
      return (state.work, state.plan)
    }
  }

  /// Ends the thread and waits for it; what is under way fails.
  func stop() {
    let (thread, work) = state.withLock { state in
      state.isStopped = true
      defer {
        state.thread = nil
        state.work = Work()
      }
      return (state.thread, state.work)
    }
    waker.wake()
    thread?.join()
    for call in work.calls { call.completion(.notSent) }
    for job in work.jobs { globalConcurrentExecutor.enqueue(ExecutorJob(job)) }
  }

  private func run() {
    while true {
      if let epoll = try? ServiceRounds.makeEpoll(waker) {
        var rounds = ServiceRounds(epoll: epoll, client: self)
        while rounds.turn() {}
        return
      }
      // Without descriptors nobody can be called; that passes.
      guard let (work, _) = take() else { return }
      for call in work.calls { call.completion(.notSent) }
      for job in work.jobs { run(job) }
      AdministrationPause.nanoseconds(Self.exhaustionPause)
    }
  }

  /// Runs a step of a task: on the client's thread alone.
  func run(_ job: UnownedJob) { job.runSynchronously(on: asUnownedTaskExecutor()) }
}
