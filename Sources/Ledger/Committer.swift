import Bytes
import Dispatch
import Encoding
import Synchronization

/// The one thread that writes: takes what has queued, makes its lines, commits it in one transaction, publishes, exports.
final class Committer: @unchecked Sendable {
  // Safe because: after `open` has returned, only the committer's thread touches what is not atomic or behind a lock.
  private let ledger: Ledger
  private let options: LedgerOptions
  private let makeStore: @Sendable () throws(LedgerError) -> any Store
  private let reserve: DiskReserve
  private var store: any Store
  private var log: AuditLog
  private var file: AuditFile
  private var isFileBehind = false
  /// Durable lines that the file does not have yet.
  private var unwritten = UnwrittenLines()

  private var batch = CommitBatch()
  private var entries: [Entry] = []
  private var words: [EntryWords] = []
  private var fragments: [Fragment] = []
  private var lastCheckpoint = Instant.now()
  private var lastCheck = Instant.now()
  private var lastSweep = Instant.now()
  private var lastForgetting = Instant(nanoseconds: 0)
  private var lastRemoval = Instant(nanoseconds: 0)
  private let removals = DispatchGroup()
  private let isRemoving = Atomic<Bool>(false)
  /// The copy of the store that is being made.
  private var copying: LedgerCopying?

  /// Bounds of the entries that make a batch worth committing before the delay is over. A batch of the most fits into a place of the
  /// journal with what still comes until it is taken.
  static let leastGoal: UInt64 = 32
  static let mostGoal: UInt64 = 112
  /// How many delays a batch gathers for at most, while entries come at `gatherRate`.
  static let gatherDelays = 4
  /// Entries within half a delay that make waiting for more of them worthwhile.
  static let gatherRate: UInt64 = 4
  /// How long the committer rests lightly before it sleeps until something happens.
  static let lingering: Duration = .milliseconds(50)
  /// The longest sleep: checkpoints, disk space and the reserve are looked at in between.
  static let housekeeping: Duration = .milliseconds(250)
  /// Time between two looks for idle sessions and expired records.
  static let sweepInterval: Duration = .seconds(1)
  /// Short pauses between two attempts to open the store again: about a quarter of a second.
  static let retryPauses = 1_000
  /// The octets of lines that are gathered for one write to the audit file: the kernel takes long writes at a tenth of the cost of short ones.
  static let exportOctets = 256 << 10
  /// How long a line waits at most for others before it is written to the audit file.
  static let exportDelay: Duration = .milliseconds(50)
  /// Free disk space below which nothing new is sold.
  static let lowWater: UInt64 = 4 << 20

  init(ledger: Ledger, options: LedgerOptions, makeStore: @escaping @Sendable () throws(LedgerError) -> any Store) throws(LedgerError) {
    self.ledger = ledger
    self.options = options
    self.makeStore = makeStore
    reserve = DiskReserve(path: "\(options.directory)/ledger.reserve", folder: options.directory, octets: options.reserveOctets)
    log = AuditLog(origin: options.origin, key: options.checkpointKey, checkpointLines: options.checkpointLines)
    store = try makeStore()
    file = try AuditFile(path: options.auditPath)
  }

  // MARK: opening

  /// Reads the store into a fresh state, ends what was open, and commits that.
  func load(epoch: UInt32, at now: Timestamp, isReload: Bool) throws(LedgerError) {
    var state = LedgerState(epoch: epoch, at: now, tick: Instant.now())
    var reading = LedgerState.Reading()
    let head = try store.load(order: LedgerState.readingOrder) { (key, image) throws(LedgerError) in
      try state.read(key, image, &reading)
    }
    log = AuditLog(origin: options.origin, key: options.checkpointKey, checkpointLines: options.checkpointLines)
    if let head { try log.restore(head) }
    state.checkpoint = log.checkpoint
    let durable = state.lsn
    batch.lsn = durable
    for code in options.currencies.map(\.code) + options.accounts {
      do throws(Refusal) { try state.addCurrency(code) } catch { throw .malformed(.currency) }
    }
    try state.recover(at: now)
    if !isReload, options.recordsLifecycle { _ = state.append(Entry(.start, at: now)) }
    // Where the files were moved away in the meantime, the lines that were in them are not written again.
    try file.begin(at: try store.exported())
    guard file.next <= log.next else { throw .auditAhead(file: file.next, ledger: log.next) }
    ledger.replace(with: state, durable: durable)
    catchUp()
    try commit(at: now, checkpoint: false)
  }

  func updateReserve() {
    let free = reserve.free() ?? .max
    if !reserve.isFilled, free >= UInt64(reserve.octets) + Self.lowWater, !reserve.fill() { reserve.release() }
    let availability: Availability = reserve.isFilled && (reserve.free() ?? .max) >= Self.lowWater ? .selling : .closingOnly
    let before = ledger.availability
    ledger.setAvailability(availability)
    // What follows an opening is told with it.
    if before != .unavailable, before != availability { options.notify?(.availability(availability)) }
  }

  // MARK: running

  func run() {
    var idleSince = Instant.now()
    while !ledger.isStopping {
      let requests = ledger.takeRequests()
      if let requests { serve(requests) }
      if copying == nil, let path = ledger.copyOrder.take() { beginCopy(to: path) }
      let now = Instant.now()
      let isPending = ledger.pending > 0
      let isCheckpointDue = log.uncovered > 0 && now - lastCheckpoint >= options.checkpointInterval
      if isPending || isCheckpointDue {
        if isPending { idleSince = now }
        gather()
        attempt(checkpoint: isCheckpointDue)
      } else {
        if unwritten.isDue(at: now) { writeLines() }
        forgetCharges(at: now)
        if copying == nil { rest(deep: now - idleSince >= Self.lingering && unwritten.isEmpty) } else { restFromCopying() }
      }
      if let copying, copying.next <= Instant.now() { continueCopy() }
      if Instant.now() - lastCheck >= Self.housekeeping { tidy() }
    }
    finish()
  }

  /// Lets a batch fill up: not at all when somebody waits with nothing else to do, or when enough has queued; for longer than the delay
  /// only while entries come so fast that a commit of so few of them would cost more than what it does.
  private func gather() {
    let delay = LedgerState.microseconds(options.commitDelay) * 1_000
    guard delay > 0 else { return }
    var before: UInt64 = 0
    for round in 0..<(2 * Self.gatherDelays - 1) {
      let pending = ledger.pending
      guard pending < ledger.goal, round == 0 || pending >= before + Self.gatherRate, !ledger.signal.takeUrge() else { break }
      before = pending
      ledger.signal.sleep(deep: false, nanoseconds: round == 0 ? delay : delay / 2) { ledger.pending >= ledger.goal || ledger.isStopping }
      if ledger.isStopping { break }
    }
    _ = ledger.signal.takeUrge()
  }

  private func rest(deep: Bool) {
    let length = deep ? Self.housekeeping : options.commitDelay
    _ = ledger.signal.takeUrge()
    ledger.signal.sleep(deep: deep, nanoseconds: max(LedgerState.microseconds(length) * 1_000, 100_000)) {
      ledger.pending > 0 || ledger.isStopping || ledger.hasRequests
    }
  }

  /// Sleeps until the copy goes on, or something else is to be done.
  private func restFromCopying() {
    guard let next = copying?.next else { return }
    let length = next - Instant.now()
    guard length > .zero else { return }
    _ = ledger.signal.takeUrge()
    ledger.signal.sleep(deep: false, nanoseconds: max(LedgerState.microseconds(length) * 1_000, 100_000)) {
      ledger.pending > 0 || ledger.isStopping || ledger.hasRequests
    }
  }

  private func serve(_ requests: Ledger.Requests) {
    if requests.rotates { rotate() }
    var failure: LedgerError?
    for read in requests.reads {
      guard failure == nil else {
        read.finish(nil)
        continue
      }
      do throws(LedgerError) {
        read.finish(try store.record(read.key))
      } catch {
        failure = error
        read.finish(nil)
      }
    }
    // Reading may write first, and a failed write is unknown whatever it was for.
    if let failure { fail(failure) }
  }

  private func attempt(checkpoint: Bool) {
    do throws(LedgerError) {
      try commit(at: Timestamp.now(), checkpoint: checkpoint)
    } catch {
      fail(error)
    }
  }

  // MARK: one transaction

  /// Takes what has queued and makes it durable.
  func commit(at now: Timestamp, checkpoint: Bool) throws(LedgerError) {
    batch.redo.removeAll()
    batch.lines.removeAll()
    entries.removeAll(keepingCapacity: true)
    words.removeAll(keepingCapacity: true)
    fragments.removeAll(keepingCapacity: true)
    let lsn = ledger.take(entries: &entries, words: &words, fragments: &fragments, redo: &batch.redo, advances: checkpoint, at: now)
    guard lsn != batch.lsn else { return }
    batch.lsn = lsn
    log.learn(fragments)
    log.learn(routes: ledger.labelNames(from: log.pieces.routeCount))
    batch.firstLine = log.next
    let before = log.checkpoint.size
    for entry in entries {
      log.append(entry, entry.words == 0 ? nil : words[Int(entry.words) - 1], to: &batch.lines)
    }
    if checkpoint { log.appendCheckpoint(to: &batch.lines, at: now) }
    batch.lineCount = log.next - batch.firstLine
    batch.head = log.head()
    try store.commit(batch)
    // Who waits for this batch asks for nothing: what it holds, and what came while it was written, is all that the next one can gather.
    ledger.setGoal(min(max(UInt64(entries.count) + ledger.pending, Self.leastGoal), Self.mostGoal))
    ledger.publish(batch.lsn, checkpoint: log.checkpoint)
    if log.checkpoint.size != before { lastCheckpoint = Instant.now() }
    export()
    if log.checkpoint.size != before { shipCheckpoint() }
    // Moving needs room of its own; what waits is bounded by what can still be closed.
    if store.isUntidy, ledger.availability == .selling { tidyStore() }
  }

  private func export() {
    // A file that is behind is looked at by `tidy`, not with each commit.
    guard !isFileBehind, batch.lineCount > 0 else { return }
    let now = Instant.now()
    unwritten.append(batch.lines, first: batch.firstLine, count: batch.lineCount, at: now)
    if unwritten.isDue(at: now) || isFileFull(with: unwritten.octets.count) { writeLines() }
  }

  /// Whether the audit file is to be renamed once it has so many octets more.
  private func isFileFull(with octets: Int) -> Bool {
    options.rotateOctets > 0 && file.octetCount + UInt64(octets) >= options.rotateOctets
  }

  /// Writes the lines that were gathered to the audit file; where that fails they are written from their rows later.
  private func writeLines() {
    guard !unwritten.isEmpty else { return }
    defer { unwritten.removeAll() }
    do throws(LedgerError) {
      try unwritten.octets.withUnsafeBytes { (lines) throws(LedgerError) in
        try file.append(lines, first: unwritten.first, count: unwritten.count)
      }
      if isFileFull(with: 0) { try file.rotate() }
    } catch {
      isFileBehind = true
      options.notify?(.auditBehind(error))
    }
  }

  /// Writes the lines that the file lacks from the store's rows.
  private func catchUp() {
    unwritten.removeAll()
    do throws(LedgerError) {
      var first = file.next
      try store.lines(from: first) { (line, text) throws(LedgerError) in
        var count: UInt64 = 0
        for octet in text where octet == 0x0A { count += 1 }
        try file.append(text, first: line, count: count)
        first = line + count
      }
      if isFileBehind { options.notify?(.auditCaughtUp) }
      isFileBehind = false
    } catch {
      if !isFileBehind { options.notify?(.auditBehind(error)) }
      isFileBehind = true
    }
  }

  private func shipCheckpoint() {
    guard let ship = options.ship, let note = log.lastNote else { return }
    ship(note)
  }

  /// Ends the current audit file with a checkpoint, and begins the next one.
  private func rotate() {
    // The batch that ends the file is as good as any other: where it fails, the ledger is read back.
    attempt(checkpoint: log.uncovered > 0)
    writeLines()
    do throws(LedgerError) {
      try file.rotate()
    } catch {
      isFileBehind = true
      options.notify?(.maintenanceFailed(error))
    }
  }

  // MARK: retention

  /// Time between two looks for what is too old.
  static let retentionInterval: Duration = .seconds(60)

  /// Forgets some charges that are too old, while there is nothing else to do.
  private func forgetCharges(at now: Instant) {
    // A full disk is not asked to take more, and one that refuses is not asked again at once.
    guard let keep = options.chargeRetention, now - lastForgetting >= Self.retentionInterval, copying == nil, ledger.availability == .selling else { return }
    let former = lastForgetting
    lastForgetting = now
    do throws(LedgerError) {
      if try store.forget(chargesBefore: (Timestamp.now() - keep).day) { lastForgetting = former }
    } catch { fail(error) }
  }

  /// Has audit files that are too old removed, by a thread that may take its time.
  private func removeAudit() {
    guard let keep = options.auditRetention, lastCheck - lastRemoval >= Self.retentionInterval, !isFileBehind,
      isRemoving.compareExchange(expected: false, desired: true, ordering: .sequentiallyConsistent).exchanged
    else { return }
    lastRemoval = lastCheck
    let retention = AuditRetention(path: options.auditPath, keep: keep, realm: options.realm, key: options.checkpointKey.publicKey)
    let (ledger, notify) = (ledger, options.notify)
    DispatchQueue.global(qos: .utility).async(group: removals) { [self] in
      defer { isRemoving.store(false, ordering: .sequentiallyConsistent) }
      // Who stops waits for one file at most.
      let removal = retention.remove(at: .now()) { ledger.isStopping }
      if removal.files > 0 {
        ledger.removed(removal, at: .now())
        notify?(.auditRemoved(files: removal.files, last: removal.lastSequence))
      }
      if let failure = removal.failure { notify?(.maintenanceFailed(failure)) }
    }
  }

  // MARK: copying

  private func beginCopy(to path: String) {
    do throws(LedgerError) {
      try store.beginCopy(to: path)
      // Nothing is copied yet, but now it is known how much there is.
      _ = try store.copy(pages: 0)
      copying = LedgerCopying(path: path)
    } catch {
      ledger.copyOrder.fail(error)
    }
  }

  /// Copies a part of the store. The last part follows a checkpoint, and every line is in the audit file then.
  private func continueCopy() {
    guard var copy = copying else { return }
    do throws(LedgerError) {
      if ledger.copyOrder.isForgotten { throw .backup(.abandoned) }
      let count = store.copyCount
      let isLast = count.remaining <= Int(copy.pages)
      if isLast {
        attempt(checkpoint: log.uncovered > 0)
        // A failed commit has ended the copy.
        guard copying != nil else { return }
      }
      let start = Instant.now()
      let isWhole = try store.copy(pages: isLast ? -1 : copy.pages)
      let end = Instant.now()
      copy.took(end - start, until: end)
      copying = copy
      let (total, remaining) = store.copyCount
      if !isWhole, copy.isTooSlow { throw .backup(.slow(copy.path)) }
      guard isWhole else { return ledger.copyOrder.set(.copying(done: total - remaining, total: total)) }
      endCopy()
      // Whoever copies the audit file next finds every line there that the copy knows of.
      synchroniseFile()
      guard !isFileBehind else { throw .backup(.auditBehind) }
      ledger.copyOrder.set(
        .complete(LedgerCopyPoint(entry: batch.lsn, time: .now(), lineCount: log.next - 1, lastLine: log.previous)))
    } catch {
      endCopy()
      ledger.copyOrder.fail(error)
    }
  }

  private func endCopy() {
    store.endCopy()
    copying = nil
  }

  private func tidyStore() {
    synchroniseFile()
    do throws(LedgerError) {
      try store.tidy(exported: file.synchronised)
    } catch {
      // The move is a transaction of its own, and its failure is as unknown as any other.
      fail(error)
    }
  }

  /// Puts the audit file's lines on the disk. Where that fails no money is in doubt: their rows stay, and are written again.
  private func synchroniseFile() {
    writeLines()
    do throws(LedgerError) {
      try file.synchronise()
    } catch {
      if !isFileBehind { options.notify?(.auditBehind(error)) }
      isFileBehind = true
    }
  }

  private func tidy() {
    lastCheck = Instant.now()
    if isFileBehind { catchUp() }
    if ledger.availability != .unavailable { updateReserve() }
    removeAudit()
    if options.sweeps, lastCheck - lastSweep >= Self.sweepInterval {
      lastSweep = lastCheck
      ledger.sweep(at: Timestamp.now())
    }
  }

  // MARK: failure

  /// Stops selling, and reads the store back until that works. What the failed transaction did is unknown until then.
  private func fail(_ error: LedgerError) {
    options.notify?(.commitFailed(error))
    endCopy()
    ledger.copyOrder.fail(.backup(.abandoned))
    var epoch = ledger.stopSelling()
    store.close(afterFailure: true)
    if error == .full { reserve.release() }
    var known: LedgerError?
    while !ledger.isStopping {
      do throws(LedgerError) {
        store = try makeStore()
        try load(epoch: epoch, at: Timestamp.now(), isReload: true)
        updateReserve()
        options.notify?(.reopened(ledger.availability))
        ledger.kick(isNews: true)
        return
      } catch {
        if error != known { options.notify?(.reopenFailed(error)) }
        known = error
        // What was accepted between the reading and the failure is lost, and its numbers will be given out again.
        if ledger.isAccepting { epoch = ledger.stopSelling() }
        store.close(afterFailure: true)
        if error == .full { reserve.release() }
        for _ in 0..<Self.retryPauses where !ledger.isStopping { Pause.briefly() }
      }
    }
  }

  /// The orderly end: everything queued, the stop line and a last checkpoint become durable.
  private func finish() {
    defer { store.close(afterFailure: false) }
    endCopy()
    ledger.copyOrder.fail(.backup(.abandoned))
    removals.wait()
    guard ledger.drains, ledger.availability != .unavailable else { return }
    if options.recordsLifecycle { ledger.appendStop(at: Timestamp.now()) }
    do throws(LedgerError) {
      // A command that only looked leaves no trace.
      try commit(at: Timestamp.now(), checkpoint: options.recordsLifecycle || log.uncovered > 0 || ledger.pending > 0)
      if isFileBehind { catchUp() }
      synchroniseFile()
      try store.tidy(exported: file.synchronised)
    } catch {
      options.notify?(.commitFailed(error))
    }
  }
}

/// Lines of the audit log that are durable in the store and gathered for the file.
private struct UnwrittenLines: ~Copyable {
  private(set) var octets = ByteBuffer()
  /// The sequence of the first line.
  private(set) var first: UInt64 = 0
  private(set) var count: UInt64 = 0
  private var since = Instant(nanoseconds: 0)

  var isEmpty: Bool { count == 0 }

  /// Whether they have waited long enough, or are enough.
  func isDue(at now: Instant) -> Bool {
    !isEmpty && (octets.count >= Committer.exportOctets || now - since >= Committer.exportDelay)
  }

  /// Adds a batch's lines, which go on where the last ones ended.
  mutating func append(_ lines: borrowing ByteBuffer, first line: UInt64, count added: UInt64, at now: Instant) {
    if isEmpty {
      first = line
      since = now
    }
    octets.append(lines)
    count += added
  }

  mutating func removeAll() {
    octets.removeAll()
    count = 0
  }
}
