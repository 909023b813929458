import Bytes

/// One transaction: everything that the ledger's memory and the audit chain changed since the last one.
struct CommitBatch: ~Copyable {
  /// The batch's last sequence number.
  var lsn: LSN = 0
  /// Sequence of the first audit line in `lines`, and how many there are.
  var firstLine: UInt64 = 0
  var lineCount: UInt64 = 0
  /// The new images of the records that changed; see `Redo`.
  var redo = ByteBuffer()
  /// Whole audit lines, each with its LF.
  var lines = ByteBuffer()
  /// The audit chain's head after the batch.
  var head: [UInt8] = []
}

/// Where the ledger survives. One thread uses it at a time. Nothing outside an implementation may assume which one it is.
///
/// A `commit` that throws is *unknown*: the batch may be there after all. The store is then closed, opened again and read.
protocol Store: AnyObject, Sendable {
  /// Reads every record, kind by kind in the order given, then the head of the audit chain; nil before the first batch.
  func load(order: [RecordKind], _ body: (RecordKey, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) -> [UInt8]?

  /// Writes a batch, durably.
  func commit(_ batch: borrowing CommitBatch) throws(LedgerError)

  /// Reads the lines of the batches that are still kept and hold lines from `first` on: the sequence of the first line, and the lines.
  func lines(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError)

  /// Reads up to where lines are known to have been in the audit file: what `tidy` was told last; 0 before that.
  func exported() throws(LedgerError) -> UInt64

  /// Reads one record as last committed.
  func record(_ key: RecordKey) throws(LedgerError) -> [UInt8]?

  /// Whether enough has been written that `tidy` should be called.
  var isUntidy: Bool { get }

  /// Moves what batches changed to the records' own table, and drops batches whose lines below `exported` are all in the audit file.
  func tidy(exported: UInt64) throws(LedgerError)

  /// Forgets settled charges of days before the one given, oldest first and a bounded number of them; true where there may be more.
  func forget(chargesBefore day: Int32) throws(LedgerError) -> Bool

  /// Begins a copy of the store in a file that must not be there yet. Its failures are the copy's: the store is as it was.
  func beginCopy(to path: String) throws(LedgerError)

  /// Copies a part, whatever was committed meanwhile; true when the copy is what the store is now. Ended by `endCopy`, at any time.
  func copy(pages: Int32) throws(LedgerError) -> Bool
  func endCopy()

  /// How much of the copy there is, in pages.
  var copyCount: (total: Int, remaining: Int) { get }

  /// Closes the store; nothing may be called afterwards. After a failure nothing more is written, and no space is given back that the
  /// next opening may need.
  func close(afterFailure: Bool)
}

/// What a store need not offer: it cannot be copied then, and forgets nothing because of its age.
extension Store {
  func forget(chargesBefore day: Int32) throws(LedgerError) -> Bool { false }
  func beginCopy(to path: String) throws(LedgerError) { throw .backup(.abandoned) }
  func copy(pages: Int32) throws(LedgerError) -> Bool { throw .backup(.abandoned) }
  func endCopy() {}
  var copyCount: (total: Int, remaining: Int) { (0, 0) }
}
