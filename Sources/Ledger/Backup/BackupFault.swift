/// Why a backup cannot be made, read or brought back.
public enum BackupFault: Sendable, Equatable {
  /// Something stands already where the backup is to be.
  case exists(String)
  /// A file or folder of the backup cannot be read, or not be written: the system's error number.
  case unreadable(String, code: Int32)
  case unwritable(String, code: Int32)
  /// The disk of the backup is full.
  case full
  /// Copying the database failed with SQLite's extended result code.
  case copy(code: Int32)
  /// The disk at the path takes so long that commits would wait for it.
  case slow(String)
  /// The ledger failed, was closed, or nobody asked after the copy any more.
  case abandoned
  /// The folder holds no backup.
  case notABackup(String)
  /// The backup's format is newer than what is known.
  case newerFormat(found: Int, supported: Int)
  /// A file is not what the manifest says: other octets, or too few.
  case altered(String)
  /// The copied database is damaged.
  case damaged
  /// The copied audit log does not verify, or does not end where its ledger does.
  case audit(AuditReport.Defect?)
  /// The audit file could not be written lately, so it does not hold all lines.
  case auditBehind
  /// The backup is of a ledger with another name.
  case otherLedger(found: String, expected: String)
  /// The backup's checkpoints are signed by another key than the one in the keys' folder.
  case otherKey
  /// A restoration that was begun does not fit the files that are there.
  case torn(String)
}
