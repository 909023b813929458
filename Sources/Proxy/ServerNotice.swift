public import Configuration
public import Encoding
import Synchronization
import TLS

/// What operators should read about the relay; each at most once a second and upstream, however often it happens.
public enum ServerNotice: Sendable, Equatable {
  /// What an upstream did.
  public enum Fault: String, Sendable {
    case unreachable, connectTimeout, closedEarly, malformedAnswer, silent
    /// It has not proved to be the right one; or TLS could not be agreed on.
    case untrusted, insecure
  }

  /// An upstream, or one server of several, fails requests, after it had served them.
  case upstreamFails(upstream: String, Fault)
  /// It serves them again.
  case upstreamServesAgain(upstream: String)
  /// A server's checks fail: it gets no requests.
  case serverDown(upstream: String, server: String)
  /// They pass again.
  case serverUp(upstream: String, server: String)
  /// A server failed requests in a row and is left alone for a while.
  case serverEjected(upstream: String, server: String, milliseconds: Int64)
  /// It gets requests again.
  case serverReturned(upstream: String, server: String)
  /// Too much of an upstream failed: it is not asked for a while.
  case breakerOpened(upstream: String)
  /// It is asked again.
  case breakerClosed(upstream: String)
  /// A response of a route that is sold by the token reported no usage that could be read: the estimate stands.
  case usageMissing(route: String)
  /// A pricer could not be asked, or said what nobody understands.
  case pricerFails(url: String)
  /// What happened to a chain, by its name in the configuration.
  case chain(String, ChainNotice)
  /// No descriptor is left to accept or connect with.
  case descriptorsExhausted
  /// As many clients are connected as may be.
  case connectionsExhausted
  /// Certificates were read anew, and are used for new connections.
  case certificatesRead(of: String)
  /// Certificates were read anew and cannot be used; the former ones stay.
  case certificatesRefused(of: String, CertificateFileError)
  /// A certificate in use ends within days, or has ended.
  case certificateEnds(of: String, at: Timestamp)
  /// Lines of the access log are lost: the disk does not keep up, or the file cannot be written.
  case accessLogDrops
  /// The access log's file cannot be opened anew: lines go on into the one that was moved away.
  case accessLogStays(code: Int32)
}

extension ServerNotice.Fault {
  /// Names what happened, where it is the upstream's fault.
  init?(_ failure: Failure) {
    switch failure {
    case .upstreamUnreachable: self = .unreachable
    case .upstreamRefusesTime: self = .connectTimeout
    case .upstreamClosed: self = .closedEarly
    case .upstreamMalformed: self = .malformedAnswer
    case .upstreamSilent: self = .silent
    case .upstreamInsecure(.peerCertificate), .upstreamInsecure(.peerCertificateMissing): self = .untrusted
    case .upstreamInsecure: self = .insecure
    case .malformed, .headTimeout, .contentTimeout, .contentTooLarge, .noRoute, .methodNotAllowed, .hostUnknown, .upstreamBusy, .upstreamUnavailable,
      .upstreamWantsPayment, .upstreamTooLong, .clientContentUsed, .contentMemoryUsed,
      .descriptorsExhausted, .ledgerUnavailable, .sessionEnded, .notReady, .priceUnknown:
      return nil
    }
  }
}

/// Gathers what the workers notice and passes on what is news.
final class NoticeBoard: Sendable {
  /// Nanoseconds between two notices of one kind.
  private static let interval: Int64 = 1_000_000_000

  private struct State {
    var names: [String]
    var failing: [Bool]
    var last: [Int64]
    var lastExhausted: Int64 = .min / 2
    var lastMissing: Int64 = .min / 2
    var lastPricer: Int64 = .min / 2
  }

  private let report: @Sendable (ServerNotice) -> Void
  private let state: Mutex<State>
  /// Whether an upstream is known to fail; workers look at it before they take the lock.
  private let isAnyFailing = Atomic<Bool>(false)

  init(upstreams: [String], report: @escaping @Sendable (ServerNotice) -> Void) {
    self.report = report
    state = Mutex(State(names: upstreams, failing: upstreams.map { _ in false }, last: upstreams.map { _ in .min / 2 }))
  }

  /// Takes the upstreams of another configuration; those that were known keep their places.
  func adopt(_ upstreams: [String]) {
    state.withLock { state in
      for name in upstreams.dropFirst(state.names.count) {
        state.names.append(name)
        state.failing.append(false)
        state.last.append(.min / 2)
      }
    }
  }

  /// An upstream failed a request.
  func failed(_ upstream: Int, _ fault: ServerNotice.Fault, at now: Int64) {
    let news = state.withLock { state -> String? in
      guard !state.failing[upstream], now - state.last[upstream] >= Self.interval else { return nil }
      state.failing[upstream] = true
      state.last[upstream] = now
      return state.names[upstream]
    }
    guard let news else { return }
    isAnyFailing.store(true, ordering: .relaxed)
    report(.upstreamFails(upstream: news, fault))
  }

  /// An upstream answered.
  @inline(__always)
  func served(_ upstream: Int) {
    if isAnyFailing.load(ordering: .relaxed) { servesAgain(upstream) }
  }

  private func servesAgain(_ upstream: Int) {
    let (news, areAllWell) = state.withLock { state -> (String?, Bool) in
      let name = state.failing[upstream] ? state.names[upstream] : nil
      state.failing[upstream] = false
      return (name, !state.failing.contains(true))
    }
    if areAllWell { isAnyFailing.store(false, ordering: .relaxed) }
    if let news { report(.upstreamServesAgain(upstream: news)) }
  }

  /// A pricer failed a question.
  func pricerFailed(_ url: String, at now: Int64) {
    let isNews = state.withLock { state in
      guard now - state.lastPricer >= Self.interval else { return false }
      state.lastPricer = now
      return true
    }
    if isNews { report(.pricerFails(url: url)) }
  }

  /// A server or an upstream has changed its state.
  func changed(_ notice: ServerNotice) { report(notice) }

  /// A response reported no usage.
  func usageMissing(route: [UInt8], at now: Int64) {
    let isNews = state.withLock { state in
      guard now - state.lastMissing >= Self.interval else { return false }
      state.lastMissing = now
      return true
    }
    if isNews { report(.usageMissing(route: String(decoding: route, as: UTF8.self))) }
  }

  /// Something ran out.
  func exhausted(_ notice: ServerNotice, at now: Int64) {
    let isNews = state.withLock { state in
      guard now - state.lastExhausted >= Self.interval else { return false }
      state.lastExhausted = now
      return true
    }
    if isNews { report(notice) }
  }
}
