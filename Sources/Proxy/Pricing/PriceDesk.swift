import Bytes
import Encoding
import Synchronization

/// Asks pricers what requests cost, once for the whole process. Many requests of the same key ask once, and what is answered holds for a
/// while.
final class PriceDesk: Sendable {
  /// Most questions under way at once.
  static let questionLimit = 256
  /// Most requests that wait for one answer.
  static let waiterLimit = 1024
  /// How long a pricer that failed a question is not asked the same again, nanoseconds.
  static let failureRest: Int64 = 1_000_000_000

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

  private struct State {
    var cache = PriceCache()
    var waiters: [Digest32: [Waiter]] = [:]
  }

  private let state = Mutex(State())
  private let services: ServiceClient
  private let notices: NoticeBoard

  init(services: ServiceClient, notices: NoticeBoard) {
    self.services = services
    self.notices = notices
  }

  /// Finds an answer that still holds.
  func known(_ key: Digest32, at now: Instant) -> PriceAnswer? { state.withLock { $0.cache.find(key, at: now.nanoseconds) } }

  /// Asks, unless somebody else does already.
  func ask(_ question: PriceQuestion, _ waiter: Waiter, at now: Instant) -> Reception {
    var isFirst = false
    let reception = state.withLock { state -> Reception in
      if let answer = state.cache.find(question.key, at: now.nanoseconds) { return .known(answer) }
      if let waiting = state.waiters[question.key]?.count {
        guard waiting < Self.waiterLimit else { return .refused }
        state.waiters[question.key]?.append(waiter)
        return .asked
      }
      guard state.waiters.count < Self.questionLimit else { return .refused }
      state.waiters[question.key] = [waiter]
      isFirst = true
      return .asked
    }
    if isFirst { begin(question) }
    return reception
  }

  private func begin(_ question: PriceQuestion) {
    // A question may be asked twice: it changes nothing.
    let call = ServiceCall(upstream: question.upstream, request: question.request, timeout: question.timeout, mayRepeat: true)
    services.begin(call) { [self] outcome in
      let now = Instant.now().nanoseconds
      guard case .answered(let reply) = outcome, (200...299).contains(reply.status),
        let quoted = reply.content.withUnsafeBytes({ QuotedPrice($0, currencies: question.currencies) })
      else {
        notices.pricerFailed(question.url, at: now)
        return answer(question.key, .failed, lifetime: Self.failureRest, at: now)
      }
      let own = reply.maximumAge.map { $0.multipliedReportingOverflow(by: 1_000_000_000) }
      answer(question.key, .quoted(quoted), lifetime: min(question.lifetime, own.map { $0.overflow ? .max : $0.partialValue } ?? .max), at: now)
    }
  }

  /// Keeps an answer for so many nanoseconds, and tells those who wait for it.
  private func answer(_ key: Digest32, _ answer: PriceAnswer, lifetime: Int64, at now: Int64) {
    let waiters = state.withLock { state in
      if lifetime > 0 { state.cache.insert(answer, for: key, until: now.addingReportingOverflow(lifetime).partialValue) }
      return state.waiters.removeValue(forKey: key) ?? []
    }
    // A mailbox that is full loses the word; the connection's own deadline then stands in for it.
    for waiter in waiters { waiter.control.mailbox.send(.priced(connection: waiter.connection, ticket: waiter.ticket, key: key, answer)) }
  }
}
