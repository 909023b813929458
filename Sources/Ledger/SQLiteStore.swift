import Bytes
import CSQLite
import Glibc

/// The embedded store: one SQLite file in WAL mode, synchronous.
///
/// A batch is the redo, the lines and the chain's head together: in a place of the journal, or in a row of its own where it is too long for
/// one or all places are in use. Its redo is moved to the table of records from time to time, so that a
/// session that is debited a thousand times is written there once.
final class SQLiteStore: Store, @unchecked Sendable {
  // Safe because: one thread at a time uses a store; the ledger hands it from the opener to the committer.
  /// How much redo waits at most before it is moved to the records.
  static let redoLimit = 4 << 20
  /// How many batches wait at most: moving costs by the records that changed, however often each of them did.
  static let batchLimit = 208
  /// Settled charges are kept for refunds until this many entries have followed.
  static let chargeRetention: LSN = 1 << 28
  /// The charges that are forgotten at once because of their age: about as long as a commit.
  static let forgetStep = 64
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
  private let journal: SQLiteJournal
  /// The redo of the batches that are not moved yet, and where each record's last image stands in it.
  private var waiting = ByteBuffer()
  private var waitingBatches = 0
  private var lastBatch: LSN = 0
  /// The copy that is being made.
  private var ongoing: SQLiteCopy?

  init(path: String) throws(LedgerError) {
    connection = try SQLiteConnection(path: path)
    try Self.prepare(connection, path: path)
    try Self.foldLog(connection, path: path)
    try Self.preallocate(connection, path: path)
    begin = try connection.prepare("BEGIN IMMEDIATE")
    end = try connection.prepare("COMMIT")
    insertBatch = try connection.prepare("INSERT INTO batch(lsn, line, lines, redo, text, head) VALUES(?, ?, ?, ?, ?, ?)")
    putRecord = try connection.prepare("INSERT OR REPLACE INTO record(kind, key, image) VALUES(?, ?, ?)")
    removeRecord = try connection.prepare("DELETE FROM record WHERE kind = ? AND key = ?")
    getRecord = try connection.prepare("SELECT image FROM record WHERE kind = ? AND key = ?")
    setMoved = try connection.prepare("INSERT OR REPLACE INTO progress(id, moved) VALUES(\(Self.movedID), ?)")
    setExported = try connection.prepare("INSERT OR REPLACE INTO progress(id, moved) VALUES(\(Self.exportedID), ?)")
    dropCharges = try connection.prepare(
      """
      DELETE FROM record WHERE kind = \(RecordKind.charge.rawValue) AND key IN (
        SELECT key FROM record WHERE kind = \(RecordKind.charge.rawValue) AND key < ? ORDER BY key LIMIT \(Self.forgetLimit))
      """)
    dropBatches = try connection.prepare("DELETE FROM batch WHERE lsn < ? AND line + lines <= ?")
    journal = try SQLiteJournal(
      connection, begin: begin, end: end, moved: try Self.progress(connection, Self.movedID), exported: try Self.progress(connection, Self.exportedID))
  }

  private static func prepare(_ connection: SQLiteConnection, path: String) throws(LedgerError) {
    // Exclusive: nobody else opens the file while it is served (the lock file sees to that), so a commit takes no file locks. Said before
    // anything is read, it has the log's index in memory of our own too, and not in a shared map that not every file system has.
    try connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    let found = try SQLiteSchema.check(connection)
    try connection.execute(
      """
      PRAGMA secure_delete = OFF; PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = \(checkpointPages(path));
      PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA busy_timeout = 2000;
      """)
    try SQLiteSchema.migrate(connection, path: path, from: found)
  }

  /// How many pages the log holds before it is copied into the database.
  ///
  /// The journal's places are written again and again, so a log that spans many rounds of them is copied for a small part only; where
  /// the disk is small it must not take what refunds need.
  private static func checkpointPages(_ path: String) -> Int {
    max(250, min(2_000, Int(clamping: freeOctets(path) / 16 / 16_384)))
  }

  /// The free space of the disk that a file is on; 0 where that is not known.
  private static func freeOctets(_ path: String) -> UInt64 {
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    return DiskReserve(path: "", folder: folder, octets: 0).free() ?? 0
  }

  /// The rows of the progress table: up to which batch redo was moved, and up to which line the audit file is known to have them.
  private static let movedID = 0
  private static let exportedID = 1

  private static func progress(_ connection: SQLiteConnection, _ id: Int) throws(LedgerError) -> UInt64 {
    UInt64(bitPattern: try connection.number("SELECT moved FROM progress WHERE id = \(id)") ?? 0)
  }

  /// Copies what an earlier connection left in the log into the database, and begins the log anew.
  ///
  /// After a failed sync the log can be whole in memory and not on the disk, for ever. What is appended behind such a gap would be lost with it
  /// in a power cut, though it was synced; and a database that holds what the log on the disk does not would be mixed with its older
  /// pages. So the log is put on the disk before anything else.
  private static func foldLog(_ connection: SQLiteConnection, path: String) throws(LedgerError) {
    try LogRewriting.rewrite("\(path)-wal")
    do throws(LedgerError) {
      try connection.checkpoint(SQLITE_CHECKPOINT_RESTART)
    } catch {
      // Where the database cannot grow, the log stays as it is, and takes what is closed meanwhile.
      if error != .full { throw error }
    }
  }

  /// Writes the log's pages once: they are reused from its start, so later commits change no file size. Left out where space is short.
  private static func preallocate(_ connection: SQLiteConnection, path: String) throws(LedgerError) {
    let free = freeOctets(path)
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
    var head: [UInt8]?
    if let newest = try batches().last {
      try withBatch(newest) { (batch) throws(LedgerError) in head = [UInt8](batch.head) }
      lastBatch = newest.lsn
    }
    return head
  }

  private func reloadWaiting() throws(LedgerError) {
    let moved = try Self.progress(connection, Self.movedID)
    waiting.removeAll()
    for known in try batches() where known.lsn > moved {
      try withBatch(known) { (batch) throws(LedgerError) in waiting.append(batch.redo) }
      lastBatch = known.lsn
    }
  }

  func lines(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) {
    for known in try batches() {
      try withBatch(known) { (batch) throws(LedgerError) in
        if batch.lineCount > 0, batch.line + batch.lineCount > first { try body(batch.line, batch.text) }
      }
    }
  }

  /// A batch that is kept, in a place of the journal or in a row of its own.
  private struct KnownBatch {
    var lsn: LSN
    /// Its place; nil where it is a row.
    var place: Int?
  }

  /// A batch's parts, lent.
  private struct StoredBatch {
    var line: UInt64
    var lineCount: UInt64
    var redo: UnsafeRawBufferPointer
    var text: UnsafeRawBufferPointer
    var head: UnsafeRawBufferPointer
  }

  /// Lists the batches that are kept, in their order.
  private func batches() throws(LedgerError) -> [KnownBatch] {
    var known = journal.batches().map { KnownBatch(lsn: $0.lsn, place: $0.place) }
    let statement = try connection.prepare("SELECT lsn FROM batch")
    defer { statement.finalise() }
    while try statement.step() { known.append(KnownBatch(lsn: LSN(bitPattern: statement.integer(0)), place: nil)) }
    return known.sorted { $0.lsn < $1.lsn }
  }

  /// Lends a batch that `batches()` has listed.
  private func withBatch(_ known: KnownBatch, _ body: (StoredBatch) throws(LedgerError) -> Void) throws(LedgerError) {
    if let place = known.place {
      try journal.withBatch(place) { (entry, raw, redo) throws(LedgerError) in
        func part(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: raw[range]) }
        try body(
          StoredBatch(
            line: entry.line, lineCount: entry.lineCount, redo: redo, text: part(entry.text), head: part(entry.head)))
      }
      return
    }
    let statement = try connection.prepare("SELECT redo, text, head, line, lines FROM batch WHERE lsn = ?")
    defer { statement.finalise() }
    statement.bind(1, Int64(bitPattern: known.lsn))
    guard try statement.step() else { return }
    try statement.withBlob(0) { (redo) throws(LedgerError) in
      try statement.withBlob(1) { (text) throws(LedgerError) in
        try statement.withBlob(2) { (head) throws(LedgerError) in
          try body(
            StoredBatch(
              line: UInt64(bitPattern: statement.integer(3)), lineCount: UInt64(bitPattern: statement.integer(4)), redo: redo, text: text,
              head: head))
        }
      }
    }
  }

  func exported() throws(LedgerError) -> UInt64 { try Self.progress(connection, Self.exportedID) }

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
    if try !journal.write(batch) { try insert(batch) }
    waiting.append(batch.redo)
    waitingBatches += 1
    lastBatch = batch.lsn
  }

  private func insert(_ batch: borrowing CommitBatch) throws(LedgerError) {
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
    }
    try end.run()
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
    journal.forget(moved: lastBatch, exported: exported)
    if lastBatch > Self.chargeRetention { try forgetCharges(before: lastBatch - Self.chargeRetention) }
    waitingBatches = 0
  }

  private func forgetCharges(before reference: LSN) throws(LedgerError) {
    try RecordKey(.charge, number: reference).digest.withUnsafeBytes { (raw) throws(LedgerError) in
      dropCharges.bind(1, borrowed: raw)
      try dropCharges.run()
    }
  }

  func forget(chargesBefore day: Int32) throws(LedgerError) -> Bool {
    let statement = try connection.prepare(
      "SELECT key, image FROM record WHERE kind = \(RecordKind.charge.rawValue) ORDER BY key LIMIT \(Self.forgetStep)")
    defer { statement.finalise() }
    var old: [RecordKey] = []
    while try statement.step() {
      let charge = try statement.withBlob(1) { (raw) throws(LedgerError) in try LedgerState.readCharge([UInt8](raw)) }
      // They stand in the order in which they were made.
      guard charge.day < day else { break }
      old.append(try statement.withBlob(0) { (raw) throws(LedgerError) in RecordKey(.charge, Digest32(raw)) })
    }
    statement.reset()
    guard !old.isEmpty else { return false }
    try begin.run()
    for key in old { try write(key, nil) }
    try end.run()
    return old.count == Self.forgetStep
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

  /// Whether the database's own structure is whole.
  func isSound() throws(LedgerError) -> Bool { try connection.text("PRAGMA integrity_check(1)") == "ok" }

  // MARK: copying

  func beginCopy(to path: String) throws(LedgerError) {
    endCopy()
    ongoing = try SQLiteCopy(of: connection, to: path)
  }

  func copy(pages: Int32) throws(LedgerError) -> Bool { try ongoing?.step(pages: pages) ?? false }

  func endCopy() {
    ongoing?.end()
    ongoing = nil
  }

  var copyCount: (total: Int, remaining: Int) { ongoing?.count ?? (0, 0) }

  func close(afterFailure: Bool) {
    endCopy()
    journal.finalise()
    for statement in [begin, end, insertBatch, putRecord, removeRecord, getRecord, setMoved, setExported, dropBatches, dropCharges] { statement.finalise() }
    connection.close(keepsLog: afterFailure)
  }
}
