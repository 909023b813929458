import Bytes
import Configuration
import Dispatch
import Encoding
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
  /// Octets that a pipe takes whole when it has room at all (PIPE_BUF).
  private static let pieceSize = 4096
  /// Milliseconds after which a writer that waits for room looks whether anything has changed.
  private static let look: Int32 = 100
  /// Nanoseconds that a pipe is given at the end to take what is left.
  private static let endGrace: Int64 = 1_000_000_000
  /// How often it is looked whether the writer has ended, every two milliseconds, before it is left alone: the ledger is closed after the log.
  private static let endLooks = 1500

  private struct State {
    var settings = Settings.AccessLog()
    var descriptor: Int32 = -1
    var batches: [[UInt8]] = []
    var queued = 0
    var thread: LoopThread?
    var isFailing = false
    var mustReopen = false
    /// Whether the last line that was written is not whole.
    var isTorn = false
  }

  private let state = Mutex(State())
  /// Descriptors of former logs; the writer closes them, since it may be at one.
  private let retired = Mutex<[Int32]>([])
  private let filled = DispatchSemaphore(value: 0)
  private let dropped = Atomic<UInt64>(0)
  private let written = Atomic<UInt64>(0)
  private let isEnding = Atomic<Bool>(false)
  private let hasEnded = Atomic<Bool>(false)
  /// When nothing more is waited for, in nanoseconds of the monotonic clock.
  private let endsAt = Atomic<Int64>(.max)
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
      // A FIFO without a reader is refused, and one whose reader is slow is waited for where that does no harm.
      let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o640)
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
      state.isTorn = false
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

  /// Writes what has been taken, and ends the thread. Where nobody reads a pipe, what is left is lost; a thread that the system does not
  /// let go is left behind: money must not wait for a log.
  func end() {
    endsAt.store(Instant.now().nanoseconds &+ Self.endGrace, ordering: .sequentiallyConsistent)
    isEnding.store(true, ordering: .sequentiallyConsistent)
    filled.signal()
    let thread = state.withLock { state in
      let thread = state.thread
      state.thread = nil
      return thread
    }
    if let thread {
      for _ in 0..<Self.endLooks where !hasEnded.load(ordering: .sequentiallyConsistent) { AdministrationPause.briefly() }
      guard hasEnded.load(ordering: .sequentiallyConsistent) else { return }
      thread.join()
    }
    let descriptor = state.withLock { state in
      defer { state.descriptor = -1 }
      return state.descriptor
    }
    if descriptor > STDOUT_FILENO { close(descriptor) }
  }

  // MARK: The writer's thread

  private func write() {
    defer { hasEnded.store(true, ordering: .sequentiallyConsistent) }
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
    let opened: Opened
    do throws(IOError) { opened = try Self.open(settings) } catch { return report(.accessLogStays(code: error.code)) }
    let former = state.withLock { state in
      defer {
        state.descriptor = opened.descriptor
        state.isTorn = false
      }
      return state.descriptor
    }
    if former > STDOUT_FILENO { close(former) }
  }

  private func write(_ batches: [[UInt8]], to descriptor: Int32, _ format: AccessLineFormat) {
    var reader = AccessLineReader(format)
    var lines = ByteBuffer(capacity: Self.writeSize + 65_536)
    var count: UInt64 = 0
    let isPaced = Self.isPaced(descriptor)
    for batch in batches {
      count += batch.withUnsafeBytes { reader.spell($0, into: &lines) }
      guard lines.count >= Self.writeSize else { continue }
      flush(&lines, &count, to: descriptor, isPaced)
    }
    flush(&lines, &count, to: descriptor, isPaced)
  }

  private func flush(_ lines: inout ByteBuffer, _ count: inout UInt64, to descriptor: Int32, _ isPaced: Bool) {
    defer {
      lines.removeAll()
      count = 0
    }
    guard count > 0 else { return }
    // What a full disk has cut off must not swallow the next line as well.
    let isTorn = state.withLock { $0.isTorn && $0.descriptor == descriptor }
    if isTorn, [UInt8(ascii: "\n")].withUnsafeBytes({ put($0, to: descriptor, isPaced) }) == 0 { return drop(count) }
    let (whole, isTornNow) = lines.withUnsafeBytes { octets in
      let sent = UnsafeRawBufferPointer(rebasing: octets[..<put(octets, to: descriptor, isPaced)])
      return (UInt64(sent.count { $0 == UInt8(ascii: "\n") }), sent.last.map { $0 != UInt8(ascii: "\n") } ?? false)
    }
    written.add(whole, ordering: .relaxed)
    state.withLock { state in
      if state.descriptor == descriptor { state.isTorn = isTornNow }
      if whole == count { state.isFailing = false }
    }
    if whole < count { drop(count - whole) }
  }

  /// Writes octets as long as that goes on, and returns how many were written.
  private func put(_ octets: UnsafeRawBufferPointer, to descriptor: Int32, _ isPaced: Bool) -> Int {
    var sent = 0
    while sent < octets.count {
      var piece = UnsafeRawBufferPointer(rebasing: octets[sent...])
      if isPaced {
        guard awaitRoom(descriptor) else { break }
        piece = Self.piece(piece)
      }
      let result = Glibc.write(descriptor, piece.baseAddress, piece.count)
      if result > 0 { sent += result } else if result == 0 || errno != EINTR && !(isPaced && errno == EAGAIN) { break }
    }
    return sent
  }

  /// Whether a reader decides how fast the log can be written: then every write is one that cannot block.
  private static func isPaced(_ descriptor: Int32) -> Bool {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return false }
    return [S_IFIFO, S_IFSOCK].contains(status.st_mode & S_IFMT) || isatty(descriptor) == 1
  }

  /// The lines that a pipe with any room takes at once, so that those of two processes never mix within one.
  private static func piece(_ octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    let front = UnsafeRawBufferPointer(rebasing: octets.prefix(pieceSize))
    guard front.count < octets.count, let end = front.lastIndex(of: UInt8(ascii: "\n")) else { return front }
    return UnsafeRawBufferPointer(rebasing: front[...end])
  }

  /// Waits until the reader has made room; false where another log is used meanwhile, or the time at the end is over.
  private func awaitRoom(_ descriptor: Int32) -> Bool {
    while true {
      var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      let count = poll(&polled, 1, Self.look)
      // Also where the reader is gone: the write will say so.
      if count > 0 { return true }
      if count < 0, errno != EINTR { return false }
      guard Instant.now().nanoseconds < endsAt.load(ordering: .sequentiallyConsistent) else { return false }
      guard state.withLock({ $0.descriptor == descriptor }) else { return false }
    }
  }
}
