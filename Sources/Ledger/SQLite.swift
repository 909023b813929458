import Bytes
import CSQLite
import Glibc

/// A connection to a database, used by one thread at a time.
final class SQLiteConnection: @unchecked Sendable {
  // Safe because: the handle is opened in NOMUTEX mode and its owner, the store, is used by one thread at a time.
  private var handle: OpaquePointer?

  /// Opens a database file, creating it where it is missing.
  init(path: String) throws(LedgerError) {
    // Made here, so that nobody else may read it; the log beside it gets the same mode. One that is there is not opened:
    // closing it would end the locks that another connection of this process has on it.
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 || errno == EEXIST else { throw .file(.database, code: errno) }
    if descriptor >= 0 { Glibc.close(descriptor) }
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE
    let code = sqlite3_open_v2(path, &handle, flags, nil)
    guard code == SQLITE_OK else {
      let failure = error(code)
      sqlite3_close_v2(handle)
      handle = nil
      throw failure
    }
    sqlite3_extended_result_codes(handle, 1)
  }

  deinit { close() }

  /// Closes; unless told not to, the last connection copies the log into the database and removes it.
  func close(keepsLog: Bool = false) {
    if keepsLog, handle != nil { csqlite_skip_checkpoint_on_close(handle) }
    sqlite3_close_v2(handle)
    handle = nil
  }

  /// Maps a result code: a full disk is told apart, a file that is none of ours too.
  func error(_ code: Int32) -> LedgerError {
    switch code & 0xFF {
    case SQLITE_FULL: return .full
    case SQLITE_NOTADB: return .notALedger
    case SQLITE_CANTOPEN, SQLITE_READONLY, SQLITE_PERM: return .file(.database, code: handle.map { sqlite3_system_errno($0) } ?? 0)
    case SQLITE_IOERR where handle.map({ sqlite3_system_errno($0) }) == ENOSPC: return .full
    default: return .store(code: code)
    }
  }

  /// Lends the handle, for what statements cannot do.
  func withHandle(_ body: (OpaquePointer?) throws(LedgerError) -> Void) throws(LedgerError) { try body(handle) }

  /// Runs statements that return nothing of interest.
  func execute(_ sql: String) throws(LedgerError) {
    let code = sqlite3_exec(handle, sql, nil, nil, nil)
    if code != SQLITE_OK { throw error(code) }
  }

  func prepare(_ sql: String) throws(LedgerError) -> SQLiteStatement {
    var statement: OpaquePointer?
    let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
    guard code == SQLITE_OK, let statement else { throw error(code) }
    return SQLiteStatement(statement, of: self)
  }

  /// The first column of the first row, as a number.
  func number(_ sql: String) throws(LedgerError) -> Int64? {
    let statement = try prepare(sql)
    defer { statement.reset() }
    return try statement.step() ? statement.integer(0) : nil
  }

  /// The first column of the first row, as text.
  func text(_ sql: String) throws(LedgerError) -> String? {
    let statement = try prepare(sql)
    defer { statement.reset() }
    return try statement.step() ? try statement.withBlob(0) { (raw) throws(LedgerError) in String(decoding: raw, as: UTF8.self) } : nil
  }

  /// Copies the log back into the database without waiting for readers.
  func checkpoint(_ mode: Int32 = SQLITE_CHECKPOINT_PASSIVE) throws(LedgerError) {
    let code = sqlite3_wal_checkpoint_v2(handle, nil, mode, nil, nil)
    // A reader in the way only postpones the rest.
    if code != SQLITE_OK && code & 0xFF != SQLITE_BUSY { throw error(code) }
  }
}

/// A prepared statement of one connection.
final class SQLiteStatement: @unchecked Sendable {
  // Safe because: it is used by the thread that uses its connection, and finalised before that is closed.
  private let handle: OpaquePointer
  private unowned let connection: SQLiteConnection
  private var isFinalised = false

  fileprivate init(_ handle: OpaquePointer, of connection: SQLiteConnection) {
    self.handle = handle
    self.connection = connection
  }

  deinit { finalise() }

  func finalise() {
    if !isFinalised { sqlite3_finalize(handle) }
    isFinalised = true
  }

  func bind(_ index: Int32, _ value: Int64) {
    sqlite3_bind_int64(handle, index, value)
  }

  /// Binds octets that have to stay where they are until the statement has been stepped.
  func bind(_ index: Int32, borrowed octets: UnsafeRawBufferPointer) {
    // Safe because: a nil destructor is SQLITE_STATIC, and every caller steps inside the closure that lends the octets.
    if let base = octets.baseAddress, !octets.isEmpty {
      sqlite3_bind_blob64(handle, index, base, UInt64(octets.count), nil)
    } else {
      sqlite3_bind_zeroblob(handle, index, 0)
    }
  }

  /// Steps; true where there is a row.
  @discardableResult
  func step() throws(LedgerError) -> Bool {
    let code = sqlite3_step(handle)
    switch code {
    case SQLITE_ROW: return true
    case SQLITE_DONE: return false
    default:
      sqlite3_reset(handle)
      throw connection.error(code)
    }
  }

  func reset() {
    sqlite3_reset(handle)
  }

  /// Steps a statement without rows, and makes it ready again.
  func run() throws(LedgerError) {
    _ = try step()
    sqlite3_reset(handle)
  }

  func integer(_ column: Int32) -> Int64 {
    sqlite3_column_int64(handle, column)
  }

  /// Lends a column's octets until the next step.
  func withBlob<Result>(_ column: Int32, _ body: (UnsafeRawBufferPointer) throws(LedgerError) -> Result) throws(LedgerError) -> Result {
    // Safe because: SQLite keeps the octets until the statement is stepped or reset, and the closure does neither.
    try body(UnsafeRawBufferPointer(start: sqlite3_column_blob(handle, column), count: Int(sqlite3_column_bytes(handle, column))))
  }
}
