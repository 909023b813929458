import Ledger

/// An entry to wait for, with the epoch that it was made in: a ledger that was read back gives the same numbers to others.
struct AwaitedEntry: Sendable {
  let lsn: LSN
  /// nil: that in which it is waited for.
  let epoch: UInt32?

  init(lsn: LSN, epoch: UInt32? = nil) {
    self.lsn = lsn
    self.epoch = epoch
  }
}

extension Ledger {
  /// Makes a change that is waited for. Its epoch is read first: where another begins meanwhile, the entry counts as void.
  func awaited(_ change: () throws(Refusal) -> LSN) throws(Refusal) -> AwaitedEntry {
    let epoch = epoch
    return AwaitedEntry(lsn: try change(), epoch: epoch)
  }

  /// Makes a change and waits until it is durable; false where it never will be, or did not become it within ten seconds.
  func commit(_ change: () throws(Refusal) -> LSN) async throws(Refusal) -> Bool { await isDurable(try awaited(change)) }

  /// The same for an entry of the ledger's present epoch.
  func isDurable(_ entry: LSN) async -> Bool { await isDurable(AwaitedEntry(lsn: entry)) }

  /// Waits until an entry is durable; false where it never will be, or did not become it within ten seconds, or the task was cancelled.
  func isDurable(_ entry: AwaitedEntry) async -> Bool { await becomesDurable(entry.lsn, epoch: entry.epoch ?? epoch) }
}
