import Glibc
import Synchronization

/// How loops wake the committer: at most one system call for each time that it sleeps, none while it works.
final class CommitSignal: @unchecked Sendable {
  /// What the committer is doing, as loops see it.
  private enum Rest {
    static let working: UInt8 = 0
    /// Waits at most the commit delay; woken when told to hurry or when enough has queued.
    static let gathering: UInt8 = 1
    /// Waits until anything happens.
    static let deep: UInt8 = 2
  }

  private let rest = Atomic<UInt8>(Rest.working)
  private let isUrged = Atomic<Bool>(false)
  // Safe because: both are allocated and initialised once here, freed in deinit, and used through pthread calls only; `isWoken` is read and
  // written under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var isWoken = false

  init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Tells that entries were queued: wakes a committer in deep sleep, and a gathering one when `isFull`.
  @inline(__always)
  func entriesQueued(isFull: Bool) {
    let now = rest.load(ordering: .sequentiallyConsistent)
    if now == Rest.deep || (isFull && now == Rest.gathering) { wake() }
  }

  /// Asks for a commit without further delay.
  func urge() {
    isUrged.store(true, ordering: .sequentiallyConsistent)
    if rest.load(ordering: .sequentiallyConsistent) != Rest.working { wake() }
  }

  /// Takes back whether somebody asked for haste.
  func takeUrge() -> Bool { isUrged.exchange(false, ordering: .sequentiallyConsistent) }

  private func wake() {
    guard rest.exchange(Rest.working, ordering: .sequentiallyConsistent) != Rest.working else { return }
    pthread_mutex_lock(mutex)
    isWoken = true
    pthread_mutex_unlock(mutex)
    // Told after the lock is free: the committer would wake up only to wait for it.
    pthread_cond_signal(condition)
  }

  /// Sleeps, unless `isNeeded` says otherwise once loops can see that the committer rests.
  func sleep(deep: Bool, nanoseconds: Int64, unless isNeeded: () -> Bool) {
    rest.store(deep ? Rest.deep : Rest.gathering, ordering: .sequentiallyConsistent)
    if !isNeeded() && !isUrged.load(ordering: .sequentiallyConsistent) {
      var until = timespec()
      clock_gettime(CLOCK_MONOTONIC, &until)
      let sum = Int64(until.tv_nsec) + nanoseconds
      until.tv_sec += Int(sum / 1_000_000_000)
      until.tv_nsec = Int(sum % 1_000_000_000)
      pthread_mutex_lock(mutex)
      while !isWoken {
        if pthread_cond_timedwait(condition, mutex, &until) != 0 { break }
      }
      pthread_mutex_unlock(mutex)
    }
    rest.store(Rest.working, ordering: .sequentiallyConsistent)
    pthread_mutex_lock(mutex)
    isWoken = false
    pthread_mutex_unlock(mutex)
  }
}

/// One POSIX thread that runs a closure to its end.
final class CommitterThread: @unchecked Sendable {
  // Safe because: the id is written once, before the object is shared, and joined once.
  private var id = pthread_t()

  private final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  init(_ run: @escaping @Sendable () -> Void) throws(LedgerError) {
    // Safe because: the box is retained here and released by the thread that takes it, exactly once.
    let box = Unmanaged.passRetained(Body(run))
    let code = pthread_create(
      &id, nil,
      { context in
        if let context { Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run() }
        return nil
      }, box.toOpaque())
    if code != 0 {
      box.release()
      throw .thread(code: code)
    }
  }

  func join() {
    pthread_join(id, nil)
  }
}
