import Bytes
import Configuration
import Dispatch
import Glibc
import IO
import Synchronization

/// Writes the access log on a thread of its own. Workers hand over batches of records; what does not fit is dropped, counted and told,
/// and never waited for.
final class AccessLog: Sendable {
  /// Octets of records that wait at most.
  static let queueLimit = 8 << 20
  /// Octets of lines that are written at once, about.
  private static let writeSize = 256 << 10

  private struct State {
    var settings = Settings.AccessLog()
    var descriptor: Int32 = -1
    var batches: [[UInt8]] = []
    var queued = 0
    var thread: LoopThread?
    var isFailing = false
    var mustReopen = false
  }

  private let state = Mutex(State())
  /// Descriptors of former logs; the writer closes them, since it may be at one.
  private let retired = Mutex<[Int32]>([])
  private let filled = DispatchSemaphore(value: 0)
  private let dropped = Atomic<UInt64>(0)
  private let written = Atomic<UInt64>(0)
  private let isEnding = Atomic<Bool>(false)
  private let report: @Sendable (ServerNotice) -> Void

  init(report: @escaping @Sendable (ServerNotice) -> Void) { self.report = report }

  /// Records that were dropped, for want of room or because the file could not be written.
  var droppedCount: UInt64 { dropped.load(ordering: .relaxed) }
  /// Lines that were written.
  var writtenCount: UInt64 { written.load(ordering: .relaxed) }

  // MARK: Opening

  /// A log that was opened, and is not in use before ``adopt(_:)``.
  struct Opened: Sendable {
    let settings: Settings.AccessLog
    let descriptor: Int32

    func close() {
      if descriptor > STDOUT_FILENO { Glibc.close(descriptor) }
    }
  }

  /// Opens what the settings name.
  static func open(_ settings: Settings.AccessLog) throws(IOError) -> Opened {
    switch settings.target {
    case .none: return Opened(settings: settings, descriptor: -1)
    case .standardOutput: return Opened(settings: settings, descriptor: STDOUT_FILENO)
    case .file(let path):
      let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o640)
      guard descriptor >= 0 else { throw .cannotOpen(code: errno) }
      return Opened(settings: settings, descriptor: descriptor)
    }
  }

  /// Writes to another log from the next batch on; the one before it is closed.
  func adopt(_ opened: Opened) throws(IOError) {
    let former = try state.withLock { (state) throws(IOError) -> Int32 in
      if opened.descriptor >= 0, state.thread == nil { state.thread = try LoopThread(name: "access-log") { [self] in write() } }
      let former = state.descriptor
      state.settings = opened.settings
      state.descriptor = opened.descriptor
      state.isFailing = false
      return former
    }
    if former > STDOUT_FILENO { retired.withLock { $0.append(former) } }
    filled.signal()
  }

  /// Opens the file anew, after it was moved away (SIGUSR1).
  func reopen() {
    state.withLock { $0.mustReopen = true }
    filled.signal()
  }

  // MARK: Handing over

  /// Takes a batch of `count` records; never blocks for longer than a lock is held.
  func take(_ batch: borrowing ByteBuffer, count: UInt64) {
    let octets = batch.array()
    let isTaken = state.withLock { state in
      // The log was switched off a moment ago: nobody misses the line.
      if state.settings.target == .none { return true }
      guard state.descriptor >= 0, state.queued + octets.count <= Self.queueLimit else { return false }
      state.batches.append(octets)
      state.queued += octets.count
      return true
    }
    if isTaken { filled.signal() } else { drop(count) }
  }

  private func drop(_ count: UInt64) {
    dropped.add(count, ordering: .relaxed)
    let isNews = state.withLock { state in
      defer { state.isFailing = true }
      return !state.isFailing
    }
    if isNews { report(.accessLogDrops) }
  }

  /// Writes what has been taken, and ends the thread.
  func end() {
    isEnding.store(true, ordering: .sequentiallyConsistent)
    filled.signal()
    let thread = state.withLock { state in
      let thread = state.thread
      state.thread = nil
      return thread
    }
    thread?.join()
    let descriptor = state.withLock { state in
      defer { state.descriptor = -1 }
      return state.descriptor
    }
    if descriptor > STDOUT_FILENO { close(descriptor) }
  }

  // MARK: The writer's thread

  private func write() {
    while true {
      let isLast = isEnding.load(ordering: .sequentiallyConsistent)
      if !isLast { _ = filled.wait(timeout: .now() + .seconds(1)) }
      for descriptor in retired.withLock({ list in
        let taken = list
        list = []
        return taken
      }) { close(descriptor) }
      reopenIfAsked()
      let (batches, descriptor, format) = state.withLock { state in
        let taken = state.batches
        state.batches = []
        state.queued = 0
        return (taken, state.descriptor, state.settings.format)
      }
      if !batches.isEmpty { write(batches, to: descriptor, format) }
      if isLast { return }
    }
  }

  private func reopenIfAsked() {
    let settings = state.withLock { state -> Settings.AccessLog? in
      guard state.mustReopen else { return nil }
      state.mustReopen = false
      return state.settings
    }
    guard let settings, case .file = settings.target else { return }
    guard let opened = try? Self.open(settings) else { return report(.accessLogDrops) }
    let former = state.withLock { state in
      defer { state.descriptor = opened.descriptor }
      return state.descriptor
    }
    if former > STDOUT_FILENO { close(former) }
  }

  private func write(_ batches: [[UInt8]], to descriptor: Int32, _ format: AccessLineFormat) {
    var reader = AccessLineReader(format)
    var lines = ByteBuffer(capacity: Self.writeSize + 65_536)
    var count: UInt64 = 0
    for batch in batches {
      count += batch.withUnsafeBytes { reader.spell($0, into: &lines) }
      guard lines.count >= Self.writeSize else { continue }
      flush(&lines, &count, to: descriptor)
    }
    flush(&lines, &count, to: descriptor)
  }

  private func flush(_ lines: inout ByteBuffer, _ count: inout UInt64, to descriptor: Int32) {
    let isWritten = lines.withUnsafeBytes { octets in
      var sent = 0
      while sent < octets.count {
        let result = Glibc.write(descriptor, octets.baseAddress?.advanced(by: sent), octets.count - sent)
        if result > 0 { sent += result } else if errno != EINTR { return false }
      }
      return true
    }
    if isWritten {
      written.add(count, ordering: .relaxed)
      state.withLock { $0.isFailing = false }
    } else {
      drop(count)
    }
    lines.removeAll()
    count = 0
  }
}
