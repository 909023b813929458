import Bytes
import Glibc
import Testing

@testable import Ledger

@Suite struct MigrationTests {
  /// Makes a ledger as an older version wrote it; what that version did not know yet is taken out.
  private func older(_ version: Int, in folder: TemporaryFolder) throws {
    let connection = try SQLiteConnection(path: "\(folder.path)/ledger.db")
    for step in 0..<version { try connection.execute("BEGIN; \(SQLiteSchema.migrations[step]) PRAGMA user_version = \(step + 1); COMMIT") }
    connection.close()
  }

  @Test(arguments: 1..<5) func bringsAnOlderLedgerUp(version: Int) throws {
    let folder = try TemporaryFolder()
    try older(version, in: folder)
    let fixture = try LedgerFixture(in: folder)
    _ = try fixture.ledger.createWallet(fixture.wallet, at: noon)
    _ = try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: 5_000, reference: "first", at: noon)
    _ = try fixture.open(1)
    fixture.ledger.close()
    // A copy of the older one stands beside it.
    let path = "\(folder.path)/ledger.db.version-\(version)"
    #expect(folder.mode("ledger.db.version-\(version)") == 0o600)
    let copy = try SQLiteConnection(path: path)
    #expect(try copy.number("PRAGMA user_version") == Int64(version) && copy.text("PRAGMA integrity_check") == "ok")
    copy.close()
    let now = try SQLiteConnection(path: "\(folder.path)/ledger.db")
    #expect(try now.number("PRAGMA user_version") == SQLiteSchema.version)
    #expect(try now.text("SELECT build FROM writer") == ProgramVersion.text)
    now.close()
    let again = try LedgerFixture(in: folder)
    #expect(again.balance == 4_000 && again.ledger.verify().isBalanced)
    again.ledger.close()
  }

  /// What was stored before the step is there after it, in whichever table it waits.
  @Test func keepsWhatIsStored() throws {
    let fixture = try LedgerFixture()
    _ = try fixture.open(1)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    let connection = try SQLiteConnection(path: "\(fixture.folder.path)/ledger.db")
    try connection.execute("DROP TABLE writer; PRAGMA user_version = 4")
    connection.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.balance == 999_000 && again.ledger.session(id(3_000_001)) != nil)
    again.ledger.close()
    #expect(fixture.folder.names.contains("ledger.db.version-4"))
  }

  /// A step that fails leaves the version before it, whole, and its copy.
  @Test func aStepThatFailsChangesNothing() throws {
    let folder = try TemporaryFolder()
    try older(3, in: folder)
    let connection = try SQLiteConnection(path: "\(folder.path)/ledger.db")
    // The step after the next makes a table of this name.
    try connection.execute("CREATE TABLE writer(other TEXT)")
    connection.close()
    #expect(throws: LedgerError.store(code: 1)) { try Ledger.open(LedgerFixture.options(folder), at: noon) }
    let after = try SQLiteConnection(path: "\(folder.path)/ledger.db")
    #expect(try after.number("PRAGMA user_version") == 4)
    try after.execute("DROP TABLE writer")
    after.close()
    try Ledger.open(LedgerFixture.options(folder), at: noon).close()
  }

  @Test func aNewLedgerHasNoCopyBesideIt() throws {
    let fixture = try LedgerFixture()
    fixture.ledger.close()
    #expect(!fixture.folder.names.contains { $0.contains("version") })
  }

  @Test func saysWhichProgramIsNeeded() throws {
    let fixture = try LedgerFixture()
    fixture.ledger.close()
    let connection = try SQLiteConnection(path: "\(fixture.folder.path)/ledger.db")
    try connection.execute("UPDATE writer SET build = '9.9'; PRAGMA user_version = 99")
    connection.close()
    let before = fixture.folder.read("ledger.db")
    #expect(throws: LedgerError.newerVersion(found: 99, supported: Int32(SQLiteSchema.version), build: "9.9")) {
      try Ledger.open(LedgerFixture.options(fixture.folder), at: noon)
    }
    #expect(fixture.folder.read("ledger.db") == before)
  }
}
