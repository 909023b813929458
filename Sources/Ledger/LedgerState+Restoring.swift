import Bytes
import Encoding

/// What is not known any more when the ledger was read from a backup, and how an operator takes it up again.
extension LedgerState {
  /// Stops every session that is open, since nobody knows what it has spent after the backup, and writes the line that says so.
  mutating func restored(from backup: String, abandoned: String?, at now: Timestamp) throws(Refusal) -> (lsn: LSN, count: UInt64) {
    guard availability != .unavailable else { throw .unavailable }
    var count: UInt64 = 0
    for index in balances.indices {
      switch balances[index].phase {
      case .open, .suspended, .unconfirmed:
        balances[index].phase = .unconfirmed
        touch(index)
        count += 1
      case .vacant, .closing: continue
      }
    }
    hasNews = true
    let words = EntryWords(cause: backup, reference: abandoned, count: count)
    return (append(Entry(.ledgerRestored, at: now), words: words), count)
  }

  /// Opens a session again; 0 where it is open.
  mutating func confirm(_ id: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard let index = sessionIndex[id].map(Int.init) else { throw closed[id] == nil ? .unknownSession : .sessionClosed }
    switch balances[index].phase {
    case .open: return 0
    case .suspended: throw .channelSuspended
    case .closing: throw .sessionClosing
    case .vacant: throw .sessionClosed
    case .unconfirmed: return confirm(slot: index, at: now)
    }
  }

  /// Opens the sessions again that wait for it, in so many slots from `start` on; nil for the next start behind the last slot.
  mutating func confirmAll(from start: Int, slots: Int, at now: Timestamp) throws(Refusal) -> (lsn: LSN, count: Int, next: Int?) {
    guard availability != .unavailable else { throw .unavailable }
    let end = min(start + slots, balances.count)
    var (last, count): (LSN, Int) = (0, 0)
    for index in start..<max(start, end) where balances[index].phase == .unconfirmed {
      last = confirm(slot: index, at: now)
      count += 1
    }
    return (last, count, end < balances.count ? end : nil)
  }

  /// Has a phase written; whoever looks at a channel meanwhile finds that it has changed.
  private mutating func touch(_ index: Int) {
    if balances[index].isChannel { change(index) { _ in } } else { touchBalance(index) }
  }

  /// A channel's opening may have been gone, or go meanwhile: nothing is sold on it until the watch has seen it on the chain.
  private mutating func confirm(slot index: Int, at now: Timestamp) -> LSN {
    balances[index].phase = balances[index].isChannel ? .suspended : .open
    balances[index].lastUse = tick
    touch(index)
    hasNews = true
    return append(
      line(
        .sessionConfirmed, slot: index, amount: 0, spent: balances[index].settled.ceiling, units: balances[index].units,
        context: DebitContext(route: .none, writesLine: true, units: 0), at: now))
  }
}

extension Ledger {
  /// Writes the line that says which files of the audit log were removed.
  func removed(_ removal: AuditRetention.Removal, at now: Timestamp) {
    _ = try? apply { (state) throws(Refusal) in
      guard state.availability != .unavailable else { throw .unavailable }
      let last = removal.lastSequence == 0 ? nil : "\(removal.lastSequence):\(removal.lastLine.hex)"
      return state.append(Entry(.auditRemoved, at: now), words: EntryWords(reference: last, count: UInt64(removal.files)))
    }
  }

  /// Stops all sessions of a ledger that was read from a backup until `confirm`, and writes the audit line `ledger.restored`.
  ///
  /// - Parameters:
  ///   - backup: which state it was, in words.
  ///   - abandoned: the end of the log that is given up, where there is one.
  /// - Returns: the entry, and how many sessions were stopped.
  func restored(from backup: String, abandoned: String?, at now: Timestamp) throws(Refusal) -> (lsn: LSN, count: UInt64) {
    try apply { (state) throws(Refusal) in try state.restored(from: backup, abandoned: abandoned, at: now) }
  }

  /// Opens a session again that was read from a backup; 0 where it is open. A channel waits until the watch has seen it on the chain.
  ///
  /// - Throws: `unknownSession`, `sessionClosed`, `sessionClosing`, `channelSuspended`, `unavailable`.
  public func confirm(_ session: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.confirm(session, at: now) }
  }

  /// Opens all of them again; how many there were.
  public func confirmAll(at now: Timestamp) throws(Refusal) -> (lsn: LSN, count: Int) {
    var (last, sum): (LSN, Int) = (0, 0)
    var start: Int? = 0
    while let from = start {
      let (lsn, count, next) = try apply { (state) throws(Refusal) in try state.confirmAll(from: from, slots: Self.confirmSlots, at: now) }
      last = max(last, lsn)
      sum += count
      start = next
    }
    return (last, sum)
  }

  /// The slots that are looked at while the lock is held.
  private static var confirmSlots: Int { 4_096 }
}
