public import Synchronization

/// Wakes a thread that sleeps in `epoll_wait`, from any other thread.
///
/// The protocol that loses no wake-up: the sleeper calls ``prepareToSleep()``, looks once more at whatever it
/// waits for, sleeps only when that has not come, and calls ``didWake()`` afterwards; the other side publishes
/// first and calls ``wakeIfAsleep()`` then. The descriptor is registered edge-triggered and is never read.
public final class Waker: Sendable {
  /// The eventfd to register with ``Epoll``.
  public let descriptor: Int32

  @usableFromInline let asleep = Atomic<Bool>(false)

  /// Opens the eventfd. Throws ``IOError`` when no descriptor is left.
  public init() throws(IOError) {
    descriptor = try Syscalls.eventDescriptor()
  }

  deinit { Syscalls.close(descriptor) }

  /// Says whether the owner has declared that it is about to sleep.
  @inlinable public var isAsleep: Bool { asleep.load(ordering: .sequentiallyConsistent) }

  /// Declares that the owner is about to sleep. It has to look again at what it waits for after this.
  @inlinable public func prepareToSleep() { asleep.store(true, ordering: .sequentiallyConsistent) }

  /// Declares that the owner runs again.
  @inlinable public func didWake() { asleep.store(false, ordering: .sequentiallyConsistent) }

  /// Wakes the owner whether it sleeps or not: a system call.
  public func wake() { Syscalls.wake(descriptor) }

  /// Wakes the owner when it has said that it sleeps; costs one atomic operation otherwise.
  @inlinable public func wakeIfAsleep() {
    // Exchanged, so that of several callers only one pays for the system call.
    if asleep.exchange(false, ordering: .sequentiallyConsistent) { wake() }
  }
}
