internal import Dispatch

/// Runs what may block (name resolution, file work) away from the loops. Results come back through a ``Mailbox``.
public final class Offload: Sendable {
  /// Most jobs that wait or run at once.
  public static let jobLimit = 64

  private let queue = DispatchQueue(label: "farebox.offload", attributes: .concurrent)
  private let places = DispatchSemaphore(value: Offload.jobLimit)

  /// Makes a queue of its own.
  public init() {}

  /// Runs `job` elsewhere. Returns false, and runs nothing, when too many wait.
  @discardableResult public func run(_ job: @escaping @Sendable () -> Void) -> Bool {
    guard places.wait(timeout: .now()) == .success else { return false }
    queue.async { [places] in
      job()
      places.signal()
    }
    return true
  }
}
