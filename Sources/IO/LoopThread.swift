internal import CLinux
internal import Glibc

/// Runs a body on a thread of its own and can be joined.
public final class LoopThread: Sendable {
  private final class Start: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private let handle: UInt

  /// Starts the thread. The name (up to 15 octets) is what `ps -L` and `perf` show.
  public init(name: String, _ body: @escaping @Sendable () -> Void) throws(IOError) {
    var thread = pthread_t()
    // Safe because: the retained box is released by the thread that takes it, or here when none was started.
    let start = Unmanaged.passRetained(Start(body))
    let result = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<Start>.fromOpaque(argument).takeRetainedValue().body()
        return nil
      }, start.toOpaque())
    guard result == 0 else {
      start.release()
      throw .cannotStartThread(code: result)
    }
    _ = clinux_name_thread(UInt(thread), String(name.prefix(15)))
    handle = UInt(thread)
  }

  /// Waits until the body has returned. Call it once.
  public func join() { pthread_join(pthread_t(handle), nil) }

  /// Binds the calling thread to one core (for measurements).
  public static func pinCurrentThread(core: Int) { _ = clinux_pin_thread(Int32(clamping: core)) }
}
