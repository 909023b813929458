import CSQLite
import Glibc

/// The versions of the database, and what makes each of the one before.
enum SQLiteSchema {
  static let applicationID: Int64 = 0x4661_7265

  /// Statements that make version n + 1 of version n; each runs in a transaction with the number that it makes. Images of records tell by themselves
  /// what they hold, so a version may only say that an older program would not understand what is stored from then on.
  static let migrations: [String] = [
    """
    CREATE TABLE record(kind INTEGER NOT NULL, key BLOB NOT NULL, image BLOB NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID;
    CREATE TABLE batch(
      lsn INTEGER PRIMARY KEY, line INTEGER NOT NULL, lines INTEGER NOT NULL, redo BLOB NOT NULL, text BLOB NOT NULL, head BLOB NOT NULL);
    CREATE TABLE progress(id INTEGER PRIMARY KEY, moved INTEGER NOT NULL);
    PRAGMA application_id = \(applicationID);
    """,
    // Batches stand in places that are written again and again.
    "CREATE TABLE journal(place INTEGER PRIMARY KEY, octets BLOB NOT NULL);",
    // Redo may stand in its short form.
    "",
    // Records of volumes.
    "",
    // Sessions may wait for confirmation; the file tells which program wrote it.
    "CREATE TABLE writer(id INTEGER PRIMARY KEY CHECK(id = 0), build TEXT NOT NULL);",
  ]

  static var version: Int64 { Int64(migrations.count) }

  /// Refuses what is no ledger, or a newer one, and brings an older one up to this version. Before that a copy of the older one is put beside it.
  ///
  /// - Returns: the version that was found; nil where there was no ledger yet.
  /// - Throws: `notALedger`, `newerVersion`, what copying throws.
  static func check(_ connection: SQLiteConnection) throws(LedgerError) -> Int64? {
    let application = try connection.number("PRAGMA application_id") ?? 0
    let found = try connection.number("PRAGMA user_version") ?? 0
    let tables = try connection.number("SELECT count(*) FROM sqlite_master") ?? 0
    guard application == applicationID || (application == 0 && found == 0 && tables == 0), found >= 0 else { throw .notALedger }
    guard found <= version else {
      throw .newerVersion(found: Int32(clamping: found), supported: Int32(version), build: build(connection))
    }
    return application == 0 ? nil : found
  }

  /// Brings an older database up to this version, one version after the other.
  static func migrate(_ connection: SQLiteConnection, path: String, from found: Int64?) throws(LedgerError) {
    guard let found else {
      // A new one is there whole, or not at all.
      return try connection.execute("BEGIN IMMEDIATE; \(migrations.joined(separator: " ")) PRAGMA user_version = \(version); \(writes) COMMIT;")
    }
    if found < version { try keepCopy(connection, at: copyPath(path, version: found)) }
    for step in Int(found)..<migrations.count {
      try connection.execute("BEGIN IMMEDIATE; \(migrations[step]) PRAGMA user_version = \(step + 1); COMMIT;")
    }
    if build(connection) != ProgramVersion.text { try connection.execute(writes) }
  }

  /// Has the ledger tell which program wrote it.
  private static var writes: String { "INSERT OR REPLACE INTO writer(id, build) VALUES(0, '\(ProgramVersion.text)');" }

  /// The program that wrote the ledger last; nil where it does not say so.
  private static func build(_ connection: SQLiteConnection) -> String? { try? connection.text("SELECT build FROM writer WHERE id = 0") }

  /// Where the copy of an older version stands.
  static func copyPath(_ path: String, version: Int64) -> String { "\(path).version-\(version)" }

  private static func keepCopy(_ connection: SQLiteConnection, at path: String) throws(LedgerError) {
    let unfinished = "\(path).new"
    unlink(unfinished)
    do throws(LedgerError) {
      let copy = try SQLiteCopy(of: connection, to: unfinished)
      defer { copy.end() }
      guard try copy.step(pages: -1) else { throw .backup(.copy(code: SQLITE_BUSY)) }
    } catch {
      unlink(unfinished)
      throw error
    }
    let descriptor = try BackupFile.open(unfinished)
    defer { Glibc.close(descriptor) }
    guard fsync(descriptor) == 0, rename(unfinished, path) == 0 else { throw BackupFile.unwritable(path) }
    try synchroniseFolder(of: path)
  }
}
