import Bytes
import Encoding
import IO
import Synchronization

/// Asks pricers what requests cost: once for the whole process, on a thread of its own that runs once something was asked. Many
/// requests of the same key ask once, and what is answered holds for a while.
final class PriceDesk: Sendable {
  /// Most questions under way at once.
  static let questionLimit = 256
  /// Most requests that wait for one answer.
  static let waiterLimit = 1024
  /// How long a pricer that failed a question is not asked the same again, nanoseconds.
  static let failureRest: Int64 = 1_000_000_000
  /// How long the thread waits for descriptors of its own, nanoseconds.
  private static let exhaustionPause: Int64 = 100_000_000

  /// A request that waits.
  struct Waiter: Sendable {
    let control: WorkerControl
    /// The connection's place, and the ticket that its worker gave it.
    let connection: Int
    let ticket: UInt64
  }

  /// What asking comes to.
  enum Reception {
    /// Somebody asked the same before.
    case known(PriceAnswer)
    /// The waiter's worker is told.
    case asked
    /// Too much is being asked.
    case refused
  }

  struct State {
    var cache = PriceCache()
    var waiters: [Digest32: [Waiter]] = [:]
    /// What the thread has not begun yet.
    var questions: [PriceQuestion] = []
    var plan: RelayPlan?
    var isStopped = false
    var thread: LoopThread?
  }

  let state = Mutex(State())
  let resolver: UpstreamResolver
  let notices: NoticeBoard
  let waker: Waker

  init(resolver: UpstreamResolver, notices: NoticeBoard) throws(IOError) {
    self.resolver = resolver
    self.notices = notices
    waker = try Waker()
  }

  /// Uses another configuration's upstreams from now on.
  func adopt(_ plan: RelayPlan) { state.withLock { $0.plan = plan } }

  /// Finds an answer that still holds.
  func known(_ key: Digest32, at now: Instant) -> PriceAnswer? { state.withLock { $0.cache.find(key, at: now.nanoseconds) } }

  /// Asks, unless somebody else does already.
  func ask(_ question: PriceQuestion, _ waiter: Waiter, at now: Instant) -> Reception {
    let reception = state.withLock { state -> Reception in
      guard !state.isStopped else { return .refused }
      if let answer = state.cache.find(question.key, at: now.nanoseconds) { return .known(answer) }
      if let waiting = state.waiters[question.key]?.count {
        guard waiting < Self.waiterLimit else { return .refused }
        state.waiters[question.key]?.append(waiter)
        return .asked
      }
      guard state.waiters.count < Self.questionLimit else { return .refused }
      if state.thread == nil {
        do { state.thread = try LoopThread(name: "pricing") { [self] in run() } } catch { return .refused }
      }
      state.waiters[question.key] = [waiter]
      state.questions.append(question)
      return .asked
    }
    if case .asked = reception { waker.wake() }
    return reception
  }

  /// Takes what was asked, and the upstreams by which it is; nil where the thread is to end.
  func takeQuestions() -> (questions: [PriceQuestion], plan: RelayPlan?)? {
    state.withLock { state in
      guard !state.isStopped else { return nil }
      defer { state.questions = [] }
      return (state.questions, state.plan)
    }
  }

  /// Keeps an answer for so many nanoseconds, and tells those who wait for it.
  func answer(_ key: Digest32, _ answer: PriceAnswer, lifetime: Int64, at now: Int64) {
    let waiters = state.withLock { state in
      if lifetime > 0 { state.cache.insert(answer, for: key, until: now.addingReportingOverflow(lifetime).partialValue) }
      return state.waiters.removeValue(forKey: key) ?? []
    }
    // A mailbox that is full loses the word; the connection's own deadline then stands in for it.
    for waiter in waiters { waiter.control.mailbox.send(.priced(connection: waiter.connection, ticket: waiter.ticket, key: key, answer)) }
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
    while true {
      if let epoll = try? PriceRounds.makeEpoll(waker) {
        var rounds = PriceRounds(epoll: epoll, desk: self)
        while rounds.turn() {}
        return
      }
      // Without descriptors nobody can be asked; that passes.
      guard let (questions, _) = takeQuestions() else { return }
      for question in questions { answer(question.key, .failed, lifetime: 0, at: Instant.now().nanoseconds) }
      AdministrationPause.nanoseconds(Self.exhaustionPause)
    }
  }
}
