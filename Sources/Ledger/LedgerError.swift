/// Why a ledger cannot be opened or written.
public enum LedgerError: Error, Equatable, Sendable {
  /// Another process has the ledger open; its process id where the lock file tells.
  case locked(process: Int32?)
  /// The folder cannot be created or written: the system's error number.
  case folderNotWritable(code: Int32)
  /// A file of the ledger cannot be opened, read or written: the system's error number.
  case file(LedgerFile, code: Int32)
  /// The file is a database, but not a ledger.
  case notALedger
  /// The ledger was written by a newer version of the program; which one, where the ledger tells.
  case newerVersion(found: Int32, supported: Int32, build: String?)
  /// What is stored does not read back as what this version writes.
  case malformed(RecordKind)
  /// The stored accounts do not add up.
  case unbalanced(currency: String)
  /// The audit file holds lines that the ledger does not know: it belongs to another ledger, or the ledger is an old copy.
  case auditAhead(file: UInt64, ledger: UInt64)
  /// A file of the audit log that is old enough to be removed does not verify, so it stays.
  case auditUnverified(file: String)
  /// The realm cannot name a key in checkpoints: it is empty, or has white space or a plus sign.
  case malformedRealm
  /// The disk is full.
  case full
  /// The store failed with SQLite's extended result code.
  case store(code: Int32)
  /// A backup cannot be made, read or brought back.
  case backup(BackupFault)
  /// A thread could not be started: the system's error number.
  case thread(code: Int32)
}

/// Names a file of the ledger in an error.
public enum LedgerFile: String, Sendable {
  case lock, database, audit, reserve
}

/// Says what may be sold right now.
public enum Availability: UInt8, Sendable {
  /// Everything works.
  case selling
  /// The disk is nearly full: what is open can be finished, closed and refunded, nothing new is sold.
  case closingOnly
  /// The store failed, and what it holds is being read back; nothing that needs the ledger can be answered.
  case unavailable
}

/// A log sequence number: the place of an entry in the order in which entries were applied. 0 stands for no entry, which is always durable.
public typealias LSN = UInt64
