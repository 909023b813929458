internal import CLinux
internal import Glibc

/// What has become possible on a descriptor.
@frozen public struct Readiness: OptionSet, Sendable {
  public let rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let readable = Readiness(rawValue: 0x001)
  public static let writable = Readiness(rawValue: 0x004)
  public static let failed = Readiness(rawValue: 0x008)
  public static let hungUp = Readiness(rawValue: 0x010)
  /// The peer will send nothing more.
  public static let peerClosed = Readiness(rawValue: 0x2000)
}

/// One epoll instance and its array of reports. Descriptors are registered once, edge-triggered, for everything.
public struct Epoll: ~Copyable {
  /// Most reports taken in one turn.
  public static let reportLimit = 256

  private let descriptor: Int32
  // Safe because: allocated once in init with `reportLimit` places, written by the C function within them, and
  // freed in deinit; nothing else holds the pointer.
  private let reports: UnsafeMutablePointer<clinux_event>

  /// Opens the instance.
  public init() throws(IOError) {
    let opened = clinux_epoll_create()
    guard opened >= 0 else { throw .cannotOpen(code: -opened) }
    descriptor = opened
    reports = .allocate(capacity: Self.reportLimit)
    reports.initialize(repeating: clinux_event(), count: Self.reportLimit)
  }

  deinit {
    reports.deallocate()
    Syscalls.close(descriptor)
  }

  /// Registers a descriptor edge-triggered for reading, writing and the peer's end. `token` comes back in reports.
  public borrowing func add(_ other: Int32, token: UInt64) throws(IOError) {
    let events = clinux_readable | clinux_writable | clinux_peer_closed | clinux_edge
    let result = clinux_epoll_add(descriptor, other, events, token)
    guard result >= 0 else { throw .cannotRegister(code: -result) }
  }

  /// Registers a listener or another descriptor for reading only, level-triggered.
  public borrowing func addLevelTriggered(_ other: Int32, token: UInt64) throws(IOError) {
    let result = clinux_epoll_add(descriptor, other, clinux_readable, token)
    guard result >= 0 else { throw .cannotRegister(code: -result) }
  }

  /// Takes a descriptor out (closing it does the same).
  public borrowing func remove(_ other: Int32) { _ = clinux_epoll_remove(descriptor, other) }

  /// Waits up to `milliseconds` (-1: for ever, 0: not at all) and returns how many reports there are.
  public borrowing func wait(milliseconds: Int32) -> Int {
    let count = clinux_epoll_wait(descriptor, reports, Int32(Self.reportLimit), milliseconds)
    return count > 0 ? Int(count) : 0
  }

  /// Gives the token of a report of the last wait.
  public borrowing func token(_ index: Int) -> UInt64 {
    precondition(index >= 0 && index < Self.reportLimit)
    return reports[index].token
  }

  /// Gives what a report of the last wait says.
  public borrowing func readiness(_ index: Int) -> Readiness {
    precondition(index >= 0 && index < Self.reportLimit)
    return Readiness(rawValue: reports[index].events)
  }
}
