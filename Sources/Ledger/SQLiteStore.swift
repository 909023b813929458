import Bytes
import CSQLite
import Glibc

/// The embedded store: one SQLite file in WAL mode, synchronous.
///
/// A batch is one row: the redo, the lines, the chain's head. Its redo is moved to the table of records from time to time, so that a
/// session that is debited a thousand times is written there once.
final class SQLiteStore: Store, @unchecked Sendable {
  // Safe because: one thread at a time uses a store; the ledger hands it from the opener to the committer.
  static let applicationID: Int64 = 0x4661_7265
  static let version: Int64 = 1
  /// How much redo waits at most before it is moved to the records.
  static let redoLimit = 4 << 20
  static let batchLimit = 256
  /// Settled charges are kept for refunds until this many entries have followed.
  static let chargeRetention: LSN = 1 << 28
  /// The most charges that one tidying forgets.
  static let forgetLimit = 1_024
  /// Octets of log that are written in advance, so that a commit does not grow the file.
  static let preallocatedLog = 4 << 20

  private let connection: SQLiteConnection
  private let begin: SQLiteStatement
  private let end: SQLiteStatement
  private let insertBatch: SQLiteStatement
  private let putRecord: SQLiteStatement
  private let removeRecord: SQLiteStatement
  private let getRecord: SQLiteStatement
  private let setMoved: SQLiteStatement
  private let setExported: SQLiteStatement
  private let dropBatches: SQLiteStatement
  private let dropCharges: SQLiteStatement
  /// The redo of the batches that are not moved yet, and where each record's last image stands in it.
  private var waiting = ByteBuffer()
  private var waitingBatches = 0
  private var lastBatch: LSN = 0

  init(path: String) throws(LedgerError) {
    connection = try SQLiteConnection(path: path)
    try Self.prepare(connection)
    try Self.foldLog(connection)
    try Self.preallocate(connection, path: path)
    begin = try connection.prepare("BEGIN IMMEDIATE")
    end = try connection.prepare("COMMIT")
    insertBatch = try connection.prepare("INSERT INTO batch(lsn, line, lines, redo, text, head) VALUES(?, ?, ?, ?, ?, ?)")
    putRecord = try connection.prepare("INSERT OR REPLACE INTO record(kind, key, image) VALUES(?, ?, ?)")
    removeRecord = try connection.prepare("DELETE FROM record WHERE kind = ? AND key = ?")
    getRecord = try connection.prepare("SELECT image FROM record WHERE kind = ? AND key = ?")
    setMoved = try connection.prepare("INSERT OR REPLACE INTO progress(id, moved) VALUES(0, ?)")
    // The second row is about lines instead of batches.
    setExported = try connection.prepare("INSERT OR REPLACE INTO progress(id, moved) VALUES(1, ?)")
    dropCharges = try connection.prepare(
      """
      DELETE FROM record WHERE kind = \(RecordKind.charge.rawValue) AND key IN (
        SELECT key FROM record WHERE kind = \(RecordKind.charge.rawValue) AND key < ? ORDER BY key LIMIT \(Self.forgetLimit))
      """)
    dropBatches = try connection.prepare("DELETE FROM batch WHERE lsn < ? AND line + lines <= ?")
  }

  private static func prepare(_ connection: SQLiteConnection) throws(LedgerError) {
    let application = try connection.number("PRAGMA application_id") ?? 0
    let version = try connection.number("PRAGMA user_version") ?? 0
    let tables = try connection.number("SELECT count(*) FROM sqlite_master") ?? 0
    guard application == applicationID || (application == 0 && version == 0 && tables == 0) else { throw .notALedger }
    guard version <= Self.version else { throw .newerVersion(found: Int32(clamping: version), supported: Int32(Self.version)) }
    // Exclusive: nobody else opens the file while it is served (the lock file sees to that), so a commit takes no file locks.
    try connection.execute(
      """
      PRAGMA locking_mode = EXCLUSIVE; PRAGMA secure_delete = OFF; PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 500;
      PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA busy_timeout = 2000;
      """)
    if version == 0 {
      try connection.execute(
        """
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS record(
          kind INTEGER NOT NULL, key BLOB NOT NULL, image BLOB NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS batch(
          lsn INTEGER PRIMARY KEY, line INTEGER NOT NULL, lines INTEGER NOT NULL, redo BLOB NOT NULL, text BLOB NOT NULL, head BLOB NOT NULL);
        CREATE TABLE IF NOT EXISTS progress(id INTEGER PRIMARY KEY, moved INTEGER NOT NULL);
        PRAGMA application_id = \(applicationID); PRAGMA user_version = \(Self.version);
        COMMIT;
        """)
    }
  }

  /// Copies what an earlier connection left in the log into the database, and begins the log anew.
  ///
  /// After a failed sync the log can be whole in memory and not on the disk, for ever: what is appended behind such a gap would be lost
  /// with it in a power cut, though it was synced.
  private static func foldLog(_ connection: SQLiteConnection) throws(LedgerError) {
    do throws(LedgerError) {
      try connection.checkpoint(SQLITE_CHECKPOINT_RESTART)
    } catch {
      // What found no room has not reached the log; the database takes the rest when there is room again.
      if error != .full { throw error }
    }
  }

  /// Writes the log's pages once: they are reused from its start, so later commits change no file size. Left out where space is short.
  private static func preallocate(_ connection: SQLiteConnection, path: String) throws(LedgerError) {
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    let free = DiskReserve(path: "", folder: folder, octets: 0).free() ?? 0
    var status = stat()
    let isThere = stat("\(path)-wal", &status) == 0 && status.st_size >= preallocatedLog
    guard !isThere, free > UInt64(8 * preallocatedLog) else { return }
    try connection.execute(
      """
      BEGIN IMMEDIATE; CREATE TABLE scratch(octets BLOB); INSERT INTO scratch VALUES(zeroblob(\(preallocatedLog)));
      DROP TABLE scratch; COMMIT;
      """)
    try connection.checkpoint(SQLITE_CHECKPOINT_RESTART)
  }

  // MARK: reading

  func load(order: [RecordKind], _ body: (RecordKey, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) -> [UInt8]? {
    // Redo that a kill left behind is moved first, so that there is one place to read from.
    try reloadWaiting()
    try move()
    let statement = try connection.prepare("SELECT key, image FROM record WHERE kind = ? ORDER BY key")
    for kind in order {
      statement.bind(1, Int64(kind.rawValue))
      while try statement.step() {
        let key = try statement.withBlob(0) { (raw) throws(LedgerError) -> RecordKey in
          guard raw.count == 32 else { throw .malformed(kind) }
          return RecordKey(kind, Digest32(raw))
        }
        try statement.withBlob(1) { (raw) throws(LedgerError) in try body(key, raw) }
      }
      statement.reset()
    }
    statement.finalise()
    let head = try connection.prepare("SELECT head, lsn FROM batch ORDER BY lsn DESC LIMIT 1")
    defer { head.finalise() }
    guard try head.step() else { return nil }
    lastBatch = LSN(bitPattern: head.integer(1))
    return try head.withBlob(0) { (raw) throws(LedgerError) in [UInt8](raw) }
  }

  private func reloadWaiting() throws(LedgerError) {
    let statement = try connection.prepare("SELECT redo, lsn FROM batch WHERE lsn > coalesce((SELECT moved FROM progress WHERE id = 0), 0) ORDER BY lsn")
    defer { statement.finalise() }
    waiting.removeAll()
    while try statement.step() {
      try statement.withBlob(0) { (raw) throws(LedgerError) in waiting.append(raw) }
      lastBatch = LSN(bitPattern: statement.integer(1))
    }
  }

  func lines(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) {
    let statement = try connection.prepare("SELECT line, text FROM batch WHERE line + lines > ? AND lines > 0 ORDER BY lsn")
    defer { statement.finalise() }
    statement.bind(1, Int64(bitPattern: first))
    while try statement.step() {
      let line = UInt64(bitPattern: statement.integer(0))
      try statement.withBlob(1) { (raw) throws(LedgerError) in try body(line, raw) }
    }
  }

  func exported() throws(LedgerError) -> UInt64 {
    UInt64(bitPattern: try connection.number("SELECT moved FROM progress WHERE id = 1") ?? 0)
  }

  func record(_ key: RecordKey) throws(LedgerError) -> [UInt8]? {
    try move()
    getRecord.bind(1, Int64(key.kind.rawValue))
    defer { getRecord.reset() }
    var found: [UInt8]?
    try key.digest.withUnsafeBytes { (raw) throws(LedgerError) in
      getRecord.bind(2, borrowed: raw)
      if try getRecord.step() { found = try getRecord.withBlob(0) { (image) throws(LedgerError) in [UInt8](image) } }
    }
    return found
  }

  // MARK: writing

  func commit(_ batch: borrowing CommitBatch) throws(LedgerError) {
    try begin.run()
    insertBatch.bind(1, Int64(bitPattern: batch.lsn))
    insertBatch.bind(2, Int64(bitPattern: batch.firstLine))
    insertBatch.bind(3, Int64(bitPattern: batch.lineCount))
    try batch.redo.withUnsafeBytes { (redo) throws(LedgerError) in
      try batch.lines.withUnsafeBytes { (lines) throws(LedgerError) in
        try batch.head.lend { (head) throws(LedgerError) in
          insertBatch.bind(4, borrowed: redo)
          insertBatch.bind(5, borrowed: lines)
          insertBatch.bind(6, borrowed: head)
          try insertBatch.run()
        }
      }
      try end.run()
      waiting.append(redo)
    }
    waitingBatches += 1
    lastBatch = batch.lsn
  }

  var isUntidy: Bool { waiting.count >= Self.redoLimit || waitingBatches >= Self.batchLimit }

  func tidy(exported: UInt64) throws(LedgerError) {
    try move()
    try begin.run()
    setExported.bind(1, Int64(bitPattern: exported))
    try setExported.run()
    // The last batch stays: it holds the chain's head.
    dropBatches.bind(1, Int64(bitPattern: lastBatch))
    dropBatches.bind(2, Int64(bitPattern: exported))
    try dropBatches.run()
    try end.run()
    if lastBatch > Self.chargeRetention { try forgetCharges(before: lastBatch - Self.chargeRetention) }
    waitingBatches = 0
  }

  private func forgetCharges(before reference: LSN) throws(LedgerError) {
    try RecordKey(.charge, number: reference).digest.withUnsafeBytes { (raw) throws(LedgerError) in
      dropCharges.bind(1, borrowed: raw)
      try dropCharges.run()
    }
  }

  /// Writes the last image of every record that waits to the records' table.
  private func move() throws(LedgerError) {
    if waiting.isEmpty { return }
    try begin.run()
    try waiting.withUnsafeBytes { (redo) throws(LedgerError) in
      var last: [RecordKey: UnsafeRawBufferPointer?] = [:]
      try Redo.forEach(in: redo) { (key, image) throws(LedgerError) in last.updateValue(image, forKey: key) }
      for (key, image) in last { try write(key, image) }
    }
    setMoved.bind(1, Int64(bitPattern: lastBatch))
    try setMoved.run()
    try end.run()
    waiting.removeAll()
  }

  private func write(_ key: RecordKey, _ image: UnsafeRawBufferPointer?) throws(LedgerError) {
    let statement = image == nil ? removeRecord : putRecord
    statement.bind(1, Int64(key.kind.rawValue))
    try key.digest.withUnsafeBytes { (raw) throws(LedgerError) in
      statement.bind(2, borrowed: raw)
      if let image { statement.bind(3, borrowed: image) }
      try statement.run()
    }
  }

  func close(afterFailure: Bool) {
    for statement in [begin, end, insertBatch, putRecord, removeRecord, getRecord, setMoved, setExported, dropBatches, dropCharges] { statement.finalise() }
    connection.close(keepsLog: afterFailure)
  }
}
