internal import CLinux

/// Tells systemd what becomes of the service, in datagrams (sd_notify's protocol); nothing where it did not start this process.
public struct ServiceNotifier: Sendable {
  private let path: String?
  /// How long systemd waits for a sign of life, in nanoseconds; nil where it does not.
  public let watchdog: Int64?

  /// Takes the places from the variables that systemd sets.
  public init() {
    path = ProcessControl.variable("NOTIFY_SOCKET")
    let isOurs = ProcessControl.variable("WATCHDOG_PID").flatMap { Int32($0) }.map { $0 == ProcessControl.identifier } ?? true
    let microseconds = ProcessControl.variable("WATCHDOG_USEC").flatMap { Int64($0) }
    watchdog = isOurs ? microseconds.flatMap { $0 > 0 && $0 < 1 << 50 ? $0 * 1000 : nil } : nil
  }

  /// Whether anybody listens.
  public var isActive: Bool { path != nil }

  /// Sends assignments, each as `NAME=value`. A systemd that cannot be told changes nothing.
  public func send(_ assignments: String...) {
    guard let path else { return }
    _ = clinux_notify(path, assignments.joined(separator: "\n"))
  }
}
