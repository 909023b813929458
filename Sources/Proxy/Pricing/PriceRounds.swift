import Bytes
import Encoding
import IO
import TLS

/// The desk's thread: questions that are under way.
struct PriceRounds: ~Copyable {
  /// The token of the waker; no question has it.
  private static let wakerToken = UInt64.max

  private let epoll: Epoll
  private let desk: PriceDesk
  private var inquiries: [UInt64: PriceInquiry] = [:]
  /// Counts questions.
  private var number: UInt64 = 0

  /// Makes the loop over an epoll instance in which nothing but the waker is registered.
  init(epoll: consuming Epoll, desk: PriceDesk) {
    self.epoll = epoll
    self.desk = desk
  }

  /// Opens the epoll instance, with the waker in it.
  static func makeEpoll(_ waker: Waker) throws(IOError) -> Epoll {
    let epoll = try Epoll()
    try epoll.add(waker.descriptor, token: wakerToken)
    return epoll
  }

  /// Waits for what comes next, and does it; false once the desk is closed.
  mutating func turn() -> Bool {
    let count = epoll.wait(milliseconds: sleepMilliseconds(Instant.now().nanoseconds))
    let now = Instant.now().nanoseconds
    guard let (questions, plan) = desk.takeQuestions() else { return false }
    for report in 0..<count {
      let token = epoll.token(report)
      guard token != Self.wakerToken, let inquiry = inquiries[token] else { continue }
      switch inquiry.advance(epoll.readiness(report)) {
      case .more: break
      case .done(let reply): end(token, inquiry.question, reply, now)
      case .failed: fail(token, inquiry.question, now)
      }
    }
    for question in questions { begin(question, plan, now) }
    for (token, inquiry) in inquiries where inquiry.deadline <= now { fail(token, inquiry.question, now) }
    return true
  }

  private mutating func begin(_ question: PriceQuestion, _ plan: RelayPlan?, _ now: Int64) {
    number &+= 1
    guard let plan, plan.upstreams.indices.contains(question.upstream), let server = plan.upstreams[question.upstream].servers.first,
      let address = address(of: server)
    else { return fail(number, question, now) }
    let inquiry: PriceInquiry
    do {
      inquiry = PriceInquiry(question, engine: try Self.engine(plan, question.upstream, server), at: now)
    } catch { return fail(number, question, now) }
    guard inquiry.begin(address, epoll, token: number) else {
      desk.resolver.wanted(server)
      return fail(number, question, now)
    }
    inquiries[number] = inquiry
  }

  /// The server's addresses in turn; a name that is not known yet is looked up for the next time.
  private func address(of server: Int) -> SocketAddress? {
    let addresses = desk.resolver.addresses(server)
    guard !addresses.isEmpty else {
      desk.resolver.wanted(server)
      return nil
    }
    return addresses[Int(number % UInt64(addresses.count))]
  }

  private static func engine(_ plan: RelayPlan, _ upstream: Int, _ server: Int) throws(TLSError) -> TLSEngine? {
    guard let tls = plan.upstreams[upstream].tls else { return nil }
    return try TLSEngine(client: tls.current, serverName: plan.upstreams[upstream].serverName ?? plan.servers[server].host, protocols: [.http1])
  }

  private mutating func end(_ token: UInt64, _ question: PriceQuestion, _ reply: PriceDialogue.Reply, _ now: Int64) {
    guard (200...299).contains(reply.status),
      let quoted = reply.content.withUnsafeBytes({ QuotedPrice($0, currencies: question.currencies) })
    else { return fail(token, question, now) }
    inquiries[token] = nil
    let own = reply.maximumAge.map { $0.multipliedReportingOverflow(by: 1_000_000_000) }
    let lifetime = min(question.lifetime, own.map { $0.overflow ? .max : $0.partialValue } ?? .max)
    desk.answer(question.key, .quoted(quoted), lifetime: lifetime, at: now)
  }

  private mutating func fail(_ token: UInt64, _ question: PriceQuestion, _ now: Int64) {
    inquiries[token] = nil
    desk.notices.pricerFailed(question.url, at: now)
    desk.answer(question.key, .failed, lifetime: PriceDesk.failureRest, at: now)
  }

  private func sleepMilliseconds(_ now: Int64) -> Int32 {
    guard let next = inquiries.values.lazy.map(\.deadline).min() else { return -1 }
    return Int32(clamping: max(0, next &- now) / 1_000_000 + 1)
  }
}
