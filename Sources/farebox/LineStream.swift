import Glibc
import Synchronization

/// Writes lines to a standard stream for threads that must not wait: the event loops report there, and the ledger's committer. What a reader
/// that is stuck does not take is lost, and counted.
final class LineStream: Sendable {
  /// Milliseconds that the first line waits for room; none behind it does, until there is some.
  private static let patience: Int32 = 50

  private let descriptor: Int32
  /// Lines that were lost since one was written; it keeps the lines of several threads apart as well.
  private let lost = Mutex(0)

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// Writes a line, or loses it: false.
  ///
  /// - Parameter missing: spells a line that says how many were lost before this one.
  @discardableResult func write(_ line: String, missing: (Int) -> String? = { _ in nil }) -> Bool {
    lost.withLock { lost in
      var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      guard poll(&polled, 1, lost == 0 ? Self.patience : 0) > 0 else {
        lost += 1
        return false
      }
      if lost > 0, let note = missing(lost) { _ = Descriptor.write(Array((note + "\n").utf8), to: descriptor) }
      lost = 0
      return Descriptor.write(Array((line + "\n").utf8), to: descriptor)
    }
  }
}
