import Bytes
import Glibc
import Synchronization

@testable import Ledger

/// What goes wrong, and with which commit.
final class FaultPlan: Sendable {
  enum Fault: Sendable {
    /// The transaction is not written, and the commit fails.
    case before(LedgerError)
    /// The transaction is written, and the commit fails all the same.
    case after(LedgerError)
    case killBefore, killAfter
  }

  private let plan = Mutex<(fault: Fault?, countdown: Int, opens: Int)>((nil, 0, 0))

  func arm(_ fault: Fault, commit: Int = 1) { plan.withLock { $0 = (fault, commit, 0) } }

  /// Makes the next openings of the store fail as well.
  func refuseOpening(_ times: Int) { plan.withLock { $0.opens = times } }

  private let copy = Mutex<(isHeld: Bool, steps: Int)>((false, 0))

  /// Has copies go on for ever.
  func holdCopy(_ isHeld: Bool) { copy.withLock { $0.isHeld = isHeld } }
  var copySteps: Int { copy.withLock { $0.steps } }
  func takesCopyStep() -> Bool {
    copy.withLock { copy in
      copy.steps += 1
      return !copy.isHeld
    }
  }

  func takeOpening() -> Bool {
    plan.withLock { plan in
      defer { plan.opens = max(0, plan.opens - 1) }
      return plan.opens == 0
    }
  }

  func next() -> Fault? {
    plan.withLock { plan in
      guard plan.fault != nil else { return nil }
      plan.countdown -= 1
      guard plan.countdown == 0 else { return nil }
      defer { plan.fault = nil }
      return plan.fault
    }
  }
}

/// A store that fails as planned.
final class FaultyStore: Store {
  private let store: SQLiteStore
  private let plan: FaultPlan

  init(path: String, plan: FaultPlan) throws(LedgerError) {
    guard plan.takeOpening() else { throw .store(code: 10) }
    store = try SQLiteStore(path: path)
    self.plan = plan
  }

  func commit(_ batch: borrowing CommitBatch) throws(LedgerError) {
    switch plan.next() {
    case nil: try store.commit(batch)
    case .before(let error): throw error
    case .after(let error):
      try store.commit(batch)
      throw error
    case .killBefore: kill(getpid(), SIGKILL)
    case .killAfter:
      try store.commit(batch)
      kill(getpid(), SIGKILL)
    }
  }

  func load(order: [RecordKind], _ body: (RecordKey, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) -> [UInt8]? {
    try store.load(order: order, body)
  }

  func lines(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) {
    try store.lines(from: first, body)
  }

  func exported() throws(LedgerError) -> UInt64 { try store.exported() }
  func record(_ key: RecordKey) throws(LedgerError) -> [UInt8]? { try store.record(key) }
  var isUntidy: Bool { store.isUntidy }
  func tidy(exported: UInt64) throws(LedgerError) { try store.tidy(exported: exported) }
  func forget(chargesBefore day: Int32) throws(LedgerError) -> Bool { try store.forget(chargesBefore: day) }
  func beginCopy(to path: String) throws(LedgerError) { try store.beginCopy(to: path) }
  func copy(pages: Int32) throws(LedgerError) -> Bool { pages == 0 || plan.takesCopyStep() ? try store.copy(pages: pages) : false }
  func endCopy() { store.endCopy() }
  var copyCount: (total: Int, remaining: Int) { store.copyCount }
  func close(afterFailure: Bool) { store.close(afterFailure: afterFailure) }
}
