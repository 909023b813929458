import Bytes
public import Encoding
public import IO
import Synchronization

/// Owns the money: wallets, sessions, holds, merchants, claims; in memory behind one lock, and durable by one committer.
///
/// Every call applies at once and returns a log sequence number. What depends on it may leave the process when
/// ``durability(of:epoch:)`` says so: commit, then reply. Calls never wait for the disk, but the operators' ``awaitDurable(_:)``.
public final class Ledger: Sendable {
  let state: Mutex<LedgerState>
  let signal = CommitSignal()
  private let appliedLSN = Atomic<LSN>(0)
  private let takenLSN = Atomic<LSN>(0)
  private let gatherGoal = Atomic<UInt64>(Committer.leastGoal)
  private let durableLSN = Atomic<LSN>(0)
  let waits = DurabilityWaits()
  private let changeCount = Atomic<UInt64>(0)
  private let epochNumber = Atomic<UInt32>(1)
  private let availabilityCode = Atomic<UInt8>(Availability.unavailable.rawValue)
  private let stopping = Atomic<Bool>(false)
  private let draining = Atomic<Bool>(true)
  private let wakers = Mutex<[Waker]>([])
  private let labelTexts = Mutex<[String]>([])
  let requests = Mutex<Requests>(Requests())
  let requested = Atomic<Bool>(false)
  let copyOrder = LedgerCopyOrder()
  private let lifetime = Mutex<Lifetime>(Lifetime())
  /// Serialises the operators' refunds, which read before they write.
  let administration = Mutex<Void>(())

  private struct Lifetime {
    var lock: LockFile?
    var committer: Committer?
    var thread: CommitterThread?
  }

  // MARK: opening and closing

  /// Opens a ledger, creating it where it is missing; reads it, ends what a crash left open, and repairs the audit file.
  ///
  /// - Throws: `locked` while another process has it, and every other case of `LedgerError` for what it names.
  public static func open(_ options: LedgerOptions, at now: Timestamp) throws(LedgerError) -> Ledger {
    let path = "\(options.directory)/ledger.db"
    return try open(options, at: now) { () throws(LedgerError) -> any Store in try SQLiteStore(path: path) }
  }

  /// Opens a ledger on a store that the caller makes: for tests, and for stores to come.
  static func open(
    _ options: LedgerOptions, at now: Timestamp, store: @escaping @Sendable () throws(LedgerError) -> any Store
  ) throws(LedgerError) -> Ledger {
    guard AuditNote.isOrigin(options.origin) else { throw .malformedRealm }
    try prepareFolder(options.directory)
    let lock = try LockFile(path: "\(options.directory)/ledger.lock")
    if try RestorationPlan.finish(in: options.directory) { options.notify?(.restorationFinished) }
    let ledger = Ledger(at: now)
    let committer = try Committer(ledger: ledger, options: options, makeStore: store)
    try committer.load(epoch: 1, at: now, isReload: false)
    committer.updateReserve()
    let thread = try CommitterThread { committer.run() }
    ledger.lifetime.withLock { $0 = Lifetime(lock: lock, committer: committer, thread: thread) }
    return ledger
  }

  private init(at now: Timestamp) {
    state = Mutex(LedgerState(epoch: 1, at: now, tick: Instant.now()))
  }

  /// Commits what has queued, writes the stop line and a last checkpoint, and releases the lock. Later calls are refused as unavailable.
  ///
  /// Has to be called: the committer's thread keeps the ledger until then.
  public func close() { stop(drains: true) }

  /// Ends as a kill would: nothing more is written.
  func abandon() { stop(drains: false) }

  private func stop(drains: Bool) {
    let lifetime = lifetime.withLock { lifetime in
      defer { lifetime = Lifetime() }
      return lifetime
    }
    guard let thread = lifetime.thread else { return }
    draining.store(drains, ordering: .sequentiallyConsistent)
    stopping.store(true, ordering: .sequentiallyConsistent)
    signal.urge()
    thread.join()
    waits.abandon()
    state.withLock { $0.availability = .unavailable }
    availabilityCode.store(Availability.unavailable.rawValue, ordering: .sequentiallyConsistent)
    withExtendedLifetime(lifetime.lock) {}
  }

  // MARK: what loops look at

  /// Everything up to this number is on the disk.
  public var durable: LSN { durableLSN.load(ordering: .acquiring) }

  /// The last number given out.
  public var applied: LSN { appliedLSN.load(ordering: .acquiring) }

  /// Counts topped-up, closing and closed sessions, vouchers that streams waited for, what chains do with channels, failures and recoveries: workers whose exchanges wait look at them again when it moves.
  public var changes: UInt64 { changeCount.load(ordering: .acquiring) }

  /// Counts how often memory was read back after a failed commit. Numbers and handles of an older epoch are void.
  public var epoch: UInt32 { epochNumber.load(ordering: .acquiring) }

  public var availability: Availability { Availability(rawValue: availabilityCode.load(ordering: .acquiring)) ?? .unavailable }

  /// What has become of an entry.
  public enum Durability: Sendable { case durable, pending, void }

  /// Tells whether an entry is durable. Reads in the order that makes a number of an older epoch never look durable.
  @inline(__always)
  public func durability(of lsn: LSN, epoch known: UInt32) -> Durability {
    let reached = durableLSN.load(ordering: .sequentiallyConsistent) >= lsn
    guard epochNumber.load(ordering: .sequentiallyConsistent) == known else { return lsn == 0 ? .durable : .void }
    return reached ? .durable : .pending
  }

  /// Adds a loop to kick: after commits while it sleeps, and when `changes` moves.
  public func register(_ waker: Waker) { wakers.withLock { $0.append(waker) } }

  /// Hints that there is nothing else to do: commit now. Costs two atomic loads when nothing waits.
  public func urge() { if pending > 0 { signal.urge() } }

  /// Waits until an entry is durable: for operators' commands, never on a loop. False when that did not come about within ten seconds.
  public func awaitDurable(_ lsn: LSN) -> Bool {
    let epoch = epoch
    let end = Instant.now() + .seconds(10)
    while true {
      switch durability(of: lsn, epoch: epoch) {
      case .durable: return true
      case .void: return false
      case .pending:
        if Instant.now() >= end { return false }
        signal.urge()
        Pause.briefly()
      }
    }
  }

  /// Names a route for audit lines; the same id gets the same label.
  public func label(route id: String) -> RouteLabel {
    labelTexts.withLock { texts in
      if let index = texts.firstIndex(of: id) { return RouteLabel(index: UInt16(index + 1)) }
      guard texts.count < LedgerLimit.labels.most, LedgerState.isName(id) else { return .none }
      texts.append(id)
      return RouteLabel(index: UInt16(texts.count))
    }
  }

  /// The names of the labels from the `count`-th on.
  func labelNames(from count: Int) -> ArraySlice<String> { labelTexts.withLock { $0.dropFirst(count) } }

  // MARK: applying

  /// Runs a hot change: one that makes no news.
  @inline(__always)
  func debit<Result>(_ body: (inout LedgerState) throws(Refusal) -> Result) throws(Refusal) -> Result {
    let result = try state.withLock { (state) throws(Refusal) -> Result in
      let result = try body(&state)
      appliedLSN.store(state.lsn, ordering: .sequentiallyConsistent)
      return result
    }
    signal.entriesQueued(isFull: pending >= goal)
    return result
  }

  /// Runs a change, then tells loops and makes the answers of closes that it finished.
  func apply<Result>(_ body: (inout LedgerState) throws(Refusal) -> Result) throws(Refusal) -> Result {
    var isNews = false
    var unanswered: [LedgerState.Unanswered] = []
    let result = try state.withLock { (state) throws(Refusal) -> Result in
      let result = try body(&state)
      appliedLSN.store(state.lsn, ordering: .sequentiallyConsistent)
      isNews = state.hasNews
      state.hasNews = false
      if !state.unanswered.isEmpty { swap(&unanswered, &state.unanswered) }
      return result
    }
    if !unanswered.isEmpty { answer(unanswered) }
    signal.entriesQueued(isFull: pending >= goal)
    if isNews { kick(isNews: true) }
    return result
  }

  private func answer(_ closes: [LedgerState.Unanswered]) {
    for close in closes {
      let octets = close.receipt(close.facts)
      state.withLock { state in
        // Memory that was read back may have closed the session with other figures.
        guard state.epoch == close.epoch else { return }
        state.answer(close.id, octets, at: close.facts.time)
        appliedLSN.store(state.lsn, ordering: .sequentiallyConsistent)
      }
    }
  }

  /// Wakes the loops that sleep.
  func kick(isNews: Bool) {
    if isNews { changeCount.add(1, ordering: .sequentiallyConsistent) }
    wakeWaits()
    wakers.withLock { for waker in $0 { waker.wakeIfAsleep() } }
  }

  // MARK: the committer's side

  /// How many entries make a batch worth committing before the delay is over.
  @inline(__always)
  var goal: UInt64 { gatherGoal.load(ordering: .relaxed) }

  func setGoal(_ goal: UInt64) { gatherGoal.store(goal, ordering: .relaxed) }

  /// Entries that no batch has taken yet.
  var pending: UInt64 {
    let applied = appliedLSN.load(ordering: .sequentiallyConsistent)
    let taken = takenLSN.load(ordering: .sequentiallyConsistent)
    return applied > taken ? applied - taken : 0
  }

  var isStopping: Bool { stopping.load(ordering: .sequentiallyConsistent) }
  var drains: Bool { draining.load(ordering: .sequentiallyConsistent) }

  /// Hands everything that has queued to the committer. `advances` gives a number to a checkpoint, which may stand alone.
  func take(
    entries: inout [Entry], words: inout [EntryWords], fragments: inout [Fragment], redo: inout ByteBuffer, advances: Bool, at now: Timestamp
  ) -> LSN {
    state.withLock { state in
      if advances {
        appliedLSN.store(state.advance(at: now), ordering: .sequentiallyConsistent)
      }
      if state.lsn == takenLSN.load(ordering: .sequentiallyConsistent) { return state.lsn }
      state.writeDirty()
      swap(&entries, &state.entries)
      swap(&words, &state.words)
      swap(&fragments, &state.fragments)
      swap(&redo, &state.redo)
      takenLSN.store(state.lsn, ordering: .sequentiallyConsistent)
      return state.lsn
    }
  }

  func publish(_ lsn: LSN, checkpoint: (size: UInt64, root: Digest32)) {
    state.withLock { $0.checkpoint = checkpoint }
    durableLSN.store(lsn, ordering: .sequentiallyConsistent)
    kick(isNews: false)
  }

  func replace(with fresh: consuming LedgerState, durable: LSN) {
    var fresh = fresh
    state.withLock { state in
      swap(&state, &fresh)
      state.availability = .closingOnly
      takenLSN.store(durable, ordering: .sequentiallyConsistent)
      durableLSN.store(durable, ordering: .sequentiallyConsistent)
      appliedLSN.store(state.lsn, ordering: .sequentiallyConsistent)
    }
  }

  func setAvailability(_ availability: Availability) {
    let before = state.withLock { state in
      state.availability = availability
      return Availability(rawValue: availabilityCode.exchange(availability.rawValue, ordering: .sequentiallyConsistent))
    }
    if before != availability { kick(isNews: true) }
  }

  /// Whether changes are applied to memory, though they may not be sold yet.
  var isAccepting: Bool { state.withLock { $0.availability != .unavailable } }

  /// Refuses everything until the store has been read back; returns the new epoch.
  func stopSelling() -> UInt32 {
    let epoch = state.withLock { state in
      state.availability = .unavailable
      state.epoch &+= 1
      epochNumber.store(state.epoch, ordering: .sequentiallyConsistent)
      // Under the lock: whoever finds nothing in the memory that is no longer valid can see why.
      availabilityCode.store(Availability.unavailable.rawValue, ordering: .sequentiallyConsistent)
      return state.epoch
    }
    kick(isNews: true)
    return epoch
  }

  func appendStop(at now: Timestamp) {
    state.withLock { state in
      _ = state.append(Entry(.stop, at: now))
      appliedLSN.store(state.lsn, ordering: .sequentiallyConsistent)
    }
  }
}
