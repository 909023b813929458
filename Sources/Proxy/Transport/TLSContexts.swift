import Configuration
import Dispatch
import Encoding
import Synchronization
import TLS

/// What TLS takes from listeners and upstreams of one configuration, in the settings' order; nil where none is spoken.
///
/// New connections take ``Renewable/current`` of their listener or upstream, and keep it as long as they live.
struct TLSPlan: Sendable {
  var listeners: [Renewable<TLSServerContext>?] = []
  var upstreams: [Renewable<TLSClientContext>?] = []
}

/// Keeps the certificates of listeners and upstreams as new as their files.
///
/// ``plan(_:at:)`` and ``adopt(_:)`` go over to a configuration in two steps, so that one that cannot be used changes nothing.
/// ``watch()`` looks at the files from a thread of its own, never from a loop. What cannot be used is reported once, and the
/// former context stays.
final class TLSContexts: Sendable {
  /// How often files are looked at. A file counts when it has not changed between two looks: both files of a pair are there then.
  private static let lookInterval = DispatchTimeInterval.seconds(1)
  /// A certificate that ends so soon is reported, once a day.
  private static let renewalTime = Duration.seconds(7 * 86_400)
  private static let reminderInterval = Duration.seconds(86_400)

  private struct State {
    var listeners: [WatchedContext<Settings.Listener.TLS, TLSServerContext>] = []
    var upstreams: [WatchedContext<Settings.Upstream.TLS, TLSClientContext>] = []
    var keysRotatedAt = Instant.now()
    var remindedAt: [String: Timestamp] = [:]
  }

  /// A configuration that can be gone over to.
  struct Prepared: Sendable {
    fileprivate var listeners: [WatchedContext<Settings.Listener.TLS, TLSServerContext>?]
    fileprivate var upstreams: [WatchedContext<Settings.Upstream.TLS, TLSClientContext>?]
    /// What new connections take, once it is adopted.
    var plan: TLSPlan { TLSPlan(listeners: listeners.map { $0?.holder }, upstreams: upstreams.map { $0?.holder }) }
  }

  private let ticketKeys = TLSTicketKeys()
  private let state = Mutex(State())
  private let isStopped = Atomic(false)
  private let queue = DispatchQueue(label: "farebox.certificates")
  private let report: @Sendable (ServerNotice) -> Void

  /// Makes a set without contexts; `report` is called on a thread of its own.
  init(report: @escaping @Sendable (ServerNotice) -> Void) {
    self.report = report
  }

  // MARK: Configurations

  /// Sets up the contexts of a configuration; nothing has changed before it is adopted. Contexts whose settings and files are
  /// as they were stay, and with them the sessions of upstreams.
  func prepare(_ settings: Settings, at now: Timestamp) throws(CertificateFileError) -> Prepared {
    let (listeners, upstreams) = state.withLock { ($0.listeners, $0.upstreams) }
    var prepared = Prepared(listeners: [], upstreams: [])
    for listener in settings.listeners {
      guard let tls = listener.tls else {
        prepared.listeners.append(nil)
        continue
      }
      let protocols = listener.applicationProtocols
      prepared.listeners.append(
        try WatchedContext(tls, protocols, tls.files, "listener \(listener.words)", among: listeners) { (tls) throws(CertificateFileError) in
          try CertificateFiles.context(tls, protocols: protocols, ticketKeys: ticketKeys, now: now)
        })
    }
    for upstream in settings.upstreams {
      guard let tls = upstream.tls else {
        prepared.upstreams.append(nil)
        continue
      }
      let protocols = upstream.applicationProtocols
      prepared.upstreams.append(
        try WatchedContext(tls, protocols, tls.files, "upstream \(upstream.name)", among: upstreams) { (tls) throws(CertificateFileError) in
          try CertificateFiles.context(tls, protocols: protocols, now: now)
        })
    }
    return prepared
  }

  /// Goes over to a configuration that was prepared: from now on its files are watched.
  func adopt(_ prepared: Prepared) {
    state.withLock { state in
      state.listeners = prepared.listeners.compactMap { $0 }
      state.upstreams = prepared.upstreams.compactMap { $0 }
      for index in state.listeners.indices { state.listeners[index].commit() }
      for index in state.upstreams.indices { state.upstreams[index].commit() }
    }
  }

  // MARK: Files

  /// Begins to look at the files, and to change ticket keys by the clock.
  func watch() {
    queue.asyncAfter(deadline: .now() + Self.lookInterval) { [weak self] in
      guard let self, !isStopped.load(ordering: .relaxed) else { return }
      look(at: Timestamp.now(), Instant.now())
      watch()
    }
  }

  /// Ends looking.
  func stop() { isStopped.store(true, ordering: .relaxed) }

  /// Reads what has changed since it was read, and has not changed since it was looked at last.
  func look(at now: Timestamp, _ instant: Instant) {
    let notices = state.withLock { state -> [ServerNotice] in
      var notices: [ServerNotice] = []
      for index in state.listeners.indices {
        let watched = state.listeners[index]
        let result = state.listeners[index].look { () throws(CertificateFileError) in
          try CertificateFiles.context(watched.settings, protocols: watched.protocols, ticketKeys: ticketKeys, now: now)
        }
        if let notice = result { notices.append(notice) }
        remind(watched, now, &state.remindedAt, &notices)
      }
      for index in state.upstreams.indices {
        let watched = state.upstreams[index]
        let result = state.upstreams[index].look { () throws(CertificateFileError) in
          try CertificateFiles.context(watched.settings, protocols: watched.protocols, now: now)
        }
        if let notice = result { notices.append(notice) }
      }
      if instant - state.keysRotatedAt >= TLSTicketKeys.ticketLifetime / 2 {
        ticketKeys.rotate()
        state.keysRotatedAt = instant
      }
      return notices
    }
    for notice in notices { report(notice) }
  }

  private func remind(
    _ watched: WatchedContext<Settings.Listener.TLS, TLSServerContext>, _ now: Timestamp, _ remindedAt: inout [String: Timestamp],
    _ notices: inout [ServerNotice]
  ) {
    let end = watched.holder.current.expires
    guard now + Self.renewalTime > end else {
      remindedAt[watched.name] = nil
      return
    }
    if let last = remindedAt[watched.name], now - last < Self.reminderInterval { return }
    remindedAt[watched.name] = now
    notices.append(.certificateEnds(of: watched.name, at: end))
  }
}

/// One context, and the files that it was set up by.
private struct WatchedContext<Key: Hashable & Sendable, Context: Sendable>: Sendable {
  let settings: Key
  let protocols: [TLSApplicationProtocol]
  let files: [String]
  /// The listener or upstream, for people.
  let name: String
  let holder: Renewable<Context>
  /// The files when they were read last, whether they could be used or not.
  private var read: [FileStamp]
  /// The files at the last look.
  private var seen: [FileStamp]
  /// Read and not yet in use.
  private var fresh: Context?

  /// Takes the context of the same settings among those that there are, or sets one up. Reads anew where a file has changed.
  init(
    _ settings: Key, _ protocols: [TLSApplicationProtocol], _ files: [String], _ name: String, among former: [WatchedContext],
    _ make: (Key) throws(CertificateFileError) -> Context
  ) throws(CertificateFileError) {
    (self.settings, self.protocols, self.files, self.name) = (settings, protocols, files, name)
    // Looked at before they are read: a change in between is seen at the next look.
    let stamps = files.map { FileStamp($0) }
    (read, seen) = (stamps, stamps)
    if let known = former.first(where: { $0.settings == settings && $0.protocols == protocols && $0.name == name }) {
      holder = known.holder
      if known.read != stamps || known.isRefused { fresh = try make(settings) }
    } else {
      holder = Renewable(try make(settings))
    }
  }

  /// Whether the files were read and refused.
  private var isRefused = false

  /// Puts what was read when the configuration was prepared into use.
  mutating func commit() {
    if let fresh { holder.replace(fresh) }
    fresh = nil
  }

  /// Reads the files if they have changed and come to rest; says what came of it.
  mutating func look(_ make: () throws(CertificateFileError) -> Context) -> ServerNotice? {
    let stamps = files.map { FileStamp($0) }
    defer { seen = stamps }
    guard stamps != read, stamps == seen else { return nil }
    read = stamps
    do throws(CertificateFileError) {
      holder.replace(try make())
      isRefused = false
      return .certificatesRead(of: name)
    } catch {
      isRefused = true
      return .certificatesRefused(of: name, error)
    }
  }
}

extension Settings.Listener {
  /// What is offered inside of TLS.
  var applicationProtocols: [TLSApplicationProtocol] { http2 ? [.http2, .http1] : [.http1] }
}

extension Settings.Upstream {
  /// What is asked for inside of TLS.
  var applicationProtocols: [TLSApplicationProtocol] {
    guard proxyProtocol == nil else { return [.http1] }
    switch http2 {
    case .automatic: return [.http2, .http1]
    case .always: return [.http2]
    case .never: return [.http1]
    }
  }
}
