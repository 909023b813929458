import Bytes
import Encoding
import Glibc
import HTTP
import IO
import Synchronization

/// Serves the operators' commands, metrics and health on a Unix socket of mode 0600, on a thread of its own.
///
/// One connection at a time and one request a connection: operators are few, and a command may wait for the disk. What waits for other
/// programs or name servers has a thread of its own, one at a time, so that a wallet can be frozen meanwhile. Every wait has a limit.
public final class AdministrationServer: Sendable {
  /// What the server asks of the proxy around it.
  public struct Source: Sendable {
    /// Carries out commands, by the settings of this moment; nil where the proxy keeps no ledger.
    public var administration: @Sendable () -> Administration?
    /// Appends Prometheus text.
    public var metrics: @Sendable (inout ByteBuffer) -> Void
    /// Whether paid routes can be served.
    public var isReady: @Sendable () -> Bool
    /// Carries out what concerns the process and not its ledger; nil where that is not offered.
    public var operate: (@Sendable (Operation) -> Result<JSONValue, ReloadFailure>)?

    /// What concerns the process, named as in the path `/v1/<operation>`.
    public enum Operation: String, Sendable, CaseIterable {
      case reload, upgrade, process
    }

    /// Gathers what the server asks for.
    public init(
      administration: @escaping @Sendable () -> Administration?, metrics: @escaping @Sendable (inout ByteBuffer) -> Void, isReady: @escaping @Sendable () -> Bool
    ) {
      self.administration = administration
      self.metrics = metrics
      self.isReady = isReady
    }
  }

  /// The longest head and content of a request, in octets.
  static let headLimit = 8192
  static let contentLimit = 65_536
  /// How long one connection may take to send its request, and to take its answer.
  private static let patience = Duration.seconds(5)
  private static let backlog: Int32 = 64

  private let waker: Waker
  private let thread = Mutex<LoopThread?>(nil)
  /// Carries out what takes long.
  private let apart = Mutex<LoopThread?>(nil)
  private let isBusyApart = Atomic<Bool>(false)
  private let isStopping = Atomic<Bool>(false)

  /// Opens the socket and starts the thread.
  ///
  /// - Throws: what the system refused: the path in use by a living process, a folder that cannot be written, a path too long.
  public static func start(socketPath: String, source: Source) throws(IOError) -> AdministrationServer {
    // The socket is born private: between bind and a later chmod others could connect.
    let mask = umask(0o177)
    defer { umask(mask) }
    let listener = try Listener(unixPath: socketPath, backlog: backlog)
    let server = try AdministrationServer()
    try server.run(listener, source)
    return server
  }

  private init() throws(IOError) {
    waker = try Waker()
  }

  /// Stops answering, removes the socket and waits for the thread.
  public func stop() {
    isStopping.store(true, ordering: .sequentiallyConsistent)
    waker.wake()
    let thread = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    thread?.join()
    joinApart()
  }

  /// Runs a body on a thread of its own; false where another one is at work there. It says itself when the next one may come, which is
  /// before it answers: whoever has the answer may ask again.
  private func runApart(_ body: @escaping @Sendable (_ release: () -> Void) -> Void) -> Bool {
    guard isBusyApart.compareExchange(expected: false, desired: true, ordering: .sequentiallyConsistent).exchanged else { return false }
    joinApart()
    let started = try? LoopThread(name: "operation") { [self] in
      body { isBusyApart.store(false, ordering: .sequentiallyConsistent) }
    }
    apart.withLock { $0 = started }
    if started == nil { isBusyApart.store(false, ordering: .sequentiallyConsistent) }
    return started != nil
  }

  private func joinApart() {
    let thread = apart.withLock { thread in
      defer { thread = nil }
      return thread
    }
    thread?.join()
  }

  private func run(_ listener: consuming sending Listener, _ source: Source) throws(IOError) {
    let box = ListenerBox(listener)
    let started = try LoopThread(name: "administration") { [self] in
      while !isStopping.load(ordering: .sequentiallyConsistent) {
        guard AdministrationPause.readable(box.descriptor, or: waker.descriptor) else { continue }
        switch box.accept() {
        case .accepted(let descriptor, _):
          AdministrationExchange(descriptor, deadline: Instant.now() + Self.patience).run(source) { runApart($0) }
        case .wouldBlock, .aborted: break
        case .exhausted: AdministrationPause.briefly()
        }
      }
      box.close()
    }
    thread.withLock { $0 = started }
  }
}

/// Carries a listener into its thread, and closes it there.
private final class ListenerBox: Sendable {
  private let listener: Mutex<Listener?>
  let descriptor: Int32

  init(_ listener: consuming sending Listener) {
    descriptor = listener.descriptor
    self.listener = Mutex(consume listener)
  }

  func accept() -> AcceptResult {
    listener.withLock { listener in
      guard let result = listener.borrowedAccept() else { return .aborted }
      return result
    }
  }

  func close() { listener.withLock { $0 = nil } }
}

extension Optional where Wrapped == Listener {
  fileprivate mutating func borrowedAccept() -> AcceptResult? {
    guard let listener = take() else { return nil }
    let result = listener.accept()
    self = consume listener
    return result
  }
}

/// Waits that have an end.
enum AdministrationPause {
  /// Sleeps for a few milliseconds.
  static func briefly() {
    var length = timespec(tv_sec: 0, tv_nsec: 2_000_000)
    nanosleep(&length, nil)
  }

  /// Sleeps for a time.
  static func nanoseconds(_ count: Int64) {
    var length = timespec(tv_sec: Int(count / 1_000_000_000), tv_nsec: Int(count % 1_000_000_000))
    nanosleep(&length, nil)
  }

  /// Waits until the first descriptor is readable; false when the second one woke first, or after a second.
  static func readable(_ descriptor: Int32, or waker: Int32) -> Bool {
    var polled = [pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: waker, events: Int16(POLLIN), revents: 0)]
    let count = poll(&polled, 2, 1000)
    return count > 0 && polled[0].revents != 0
  }

  /// Waits until the descriptor is ready for `events`; false at the deadline.
  static func ready(_ descriptor: Int32, _ events: Int32, until deadline: Instant) -> Bool {
    while true {
      let left = (deadline - Instant.now()).components
      let milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000
      guard milliseconds > 0 else { return false }
      var polled = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      let count = poll(&polled, 1, Int32(clamping: milliseconds))
      if count > 0 { return true }
      if count < 0, errno != EINTR { return false }
    }
  }
}
