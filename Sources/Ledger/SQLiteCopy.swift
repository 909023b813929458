import CSQLite
import Glibc

/// A copy of a database that is made in steps while its connection goes on writing: what changes meanwhile is changed in the copy too, so that
/// the copy is what the database is at the last step.
final class SQLiteCopy: @unchecked Sendable {
  // Safe because: the store that owns the source makes the steps, on its one thread; nobody else knows the target.
  private var target: OpaquePointer?
  private var backup: OpaquePointer?

  /// Begins a copy into a file that must not be there yet.
  init(of source: SQLiteConnection, to path: String) throws(LedgerError) {
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .backup(.unwritable(path, code: errno)) }
    Glibc.close(descriptor)
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE
    var code = sqlite3_open_v2(path, &target, flags, nil)
    // A copy that a crash cuts off is thrown away, so it needs neither a journal nor the disk's word for each of its pages.
    if code == SQLITE_OK { code = sqlite3_exec(target, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4096", nil, nil, nil) }
    guard code == SQLITE_OK else {
      let failure = failure(code)
      end()
      throw failure
    }
    try source.withHandle { (handle) throws(LedgerError) in backup = sqlite3_backup_init(target, "main", handle, "main") }
    guard backup != nil else {
      let failure = failure(sqlite3_extended_errcode(target))
      end()
      throw failure
    }
  }

  deinit { end() }

  /// Copies so many pages more; true when that was all. Fails with what is wrong with the copy, or with reading its source.
  func step(pages: Int32) throws(LedgerError) -> Bool {
    let code = sqlite3_backup_step(backup, pages)
    switch code & 0xFF {
    case SQLITE_DONE: return true
    // Whatever locks the file leaves it soon.
    case SQLITE_OK, SQLITE_BUSY, SQLITE_LOCKED: return false
    default: throw failure(code)
    }
  }

  /// How many pages there are, and how many of them are still to be copied.
  var count: (total: Int, remaining: Int) { (Int(sqlite3_backup_pagecount(backup)), Int(sqlite3_backup_remaining(backup))) }

  private func failure(_ code: Int32) -> LedgerError {
    let number = target.map { sqlite3_system_errno($0) } ?? 0
    if code & 0xFF == SQLITE_FULL || number == ENOSPC { return .backup(.full) }
    return .backup(.copy(code: code))
  }

  /// Ends the copy, whether it is whole or not.
  func end() {
    sqlite3_backup_finish(backup)
    backup = nil
    sqlite3_close_v2(target)
    target = nil
  }
}
