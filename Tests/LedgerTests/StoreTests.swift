import Bytes
import Encoding
import Glibc
import Testing

@testable import Ledger

@Suite struct StoreTests {
  @Test func asksForAnExclusiveLedger() throws {
    let fixture = try LedgerFixture()
    #expect(throws: LedgerError.locked(process: getpid())) { try Ledger.open(LedgerFixture.options(fixture.folder), at: noon) }
    fixture.ledger.close()
    try Ledger.open(LedgerFixture.options(fixture.folder), at: noon).close()
  }

  @Test func refusesANewerLedger() throws {
    let fixture = try LedgerFixture()
    fixture.ledger.close()
    let connection = try SQLiteConnection(path: "\(fixture.folder.path)/ledger.db")
    try connection.execute("PRAGMA user_version = 99")
    connection.close()
    #expect(throws: LedgerError.newerVersion(found: 99, supported: Int32(SQLiteSchema.version), build: ProgramVersion.text)) { try Ledger.open(LedgerFixture.options(fixture.folder), at: noon) }
  }

  @Test func refusesAFileThatIsNoLedger() throws {
    let folder = try TemporaryFolder()
    folder.write(Array("This is a text, and by no means a database.\n".utf8), to: "ledger.db")
    #expect(throws: LedgerError.notALedger) { try Ledger.open(LedgerFixture.options(folder), at: noon) }
    unlink("\(folder.path)/ledger.db")
    let connection = try SQLiteConnection(path: "\(folder.path)/ledger.db")
    try connection.execute("CREATE TABLE recipe(name TEXT)")
    connection.close()
    #expect(throws: LedgerError.notALedger) { try Ledger.open(LedgerFixture.options(folder), at: noon) }
  }

  @Test func refusesAFolderThatCannotBe() throws {
    let folder = try TemporaryFolder()
    folder.write([1], to: "file")
    var options = LedgerFixture.options(folder)
    options.directory = "\(folder.path)/file/ledger"
    #expect(throws: LedgerError.folderNotWritable(code: ENOTDIR)) { try Ledger.open(options, at: noon) }
    options.directory = "/proc/ledger"
    #expect(throws: LedgerError.folderNotWritable(code: ENOENT)) { try Ledger.open(options, at: noon) }
    options.directory = folder.path
    options.realm = "two words"
    #expect(throws: LedgerError.malformedRealm) { try Ledger.open(options, at: noon) }
  }

  @Test func refusesRecordsThatDoNotReadBack() throws {
    let fixture = try LedgerFixture()
    fixture.ledger.close()
    let connection = try SQLiteConnection(path: "\(fixture.folder.path)/ledger.db")
    try connection.execute("UPDATE record SET image = substr(image, 1, 20) WHERE kind = \(RecordKind.wallet.rawValue)")
    connection.close()
    #expect(throws: LedgerError.malformed(.wallet)) { try Ledger.open(LedgerFixture.options(fixture.folder), at: noon) }
  }

  /// A record that is cut anywhere, or longer than it should be, is refused by name and traps nothing.
  @Test(arguments: [RecordKind.payment, .sender, .outgoing]) func refusesChainRecordsThatDoNotReadBack(kind: RecordKind) throws {
    let fixture = try LedgerFixture()
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 0, at: noon)
    let order = fixture.payment(1, challenge: 1)
    _ = try fixture.ledger.claim(order, at: noon)
    _ = try fixture.ledger.submitted(order.id, outgoing: fixture.transaction(0, for: 1), at: noon)
    fixture.ledger.close()
    let path = "\(fixture.folder.path)/ledger.db"
    func change(_ sql: String) throws {
      let connection = try SQLiteConnection(path: path)
      try connection.execute("UPDATE record SET image = \(sql) WHERE kind = \(kind.rawValue)")
      connection.close()
    }
    let connection = try SQLiteConnection(path: path)
    let count = Int(try #require(try connection.number("SELECT length(image) FROM record WHERE kind = \(kind.rawValue)")))
    let image = try #require(try connection.number("SELECT count(*) FROM record WHERE kind = \(kind.rawValue)"))
    #expect(image == 1 && count > 40)
    try connection.execute("CREATE TABLE kept AS SELECT image FROM record WHERE kind = \(kind.rawValue)")
    connection.close()
    for length in stride(from: 0, to: count, by: 5) {
      try change("(SELECT substr(image, 1, \(length)) FROM kept)")
      #expect(throws: LedgerError.malformed(kind)) { try Ledger.open(LedgerFixture.options(fixture.folder), at: noon) }
    }
    try change("(SELECT image || x'00' FROM kept)")
    #expect(throws: LedgerError.malformed(kind)) { try Ledger.open(LedgerFixture.options(fixture.folder), at: noon) }
    try change("(SELECT image FROM kept)")
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.openPayments().count == 1)
    again.ledger.close()
  }

  @Test func refusesBooksThatDoNotAddUp() throws {
    let fixture = try LedgerFixture()
    fixture.ledger.close()
    let connection = try SQLiteConnection(path: "\(fixture.folder.path)/ledger.db")
    // The wallet's record ends with its policy; its balance is the sixteen octets after number, key, flag and count.
    try connection.execute(
      "UPDATE record SET image = substr(image, 1, 45) || x'01' || substr(image, 47) WHERE kind = \(RecordKind.wallet.rawValue)")
    connection.close()
    #expect(throws: LedgerError.unbalanced(currency: "usdc")) { try Ledger.open(LedgerFixture.options(fixture.folder), at: noon) }
  }

  /// Not every file system has maps that are shared.
  @Test func mapsNothingAfterAKillEither() throws {
    let fixture = try LedgerFixture()
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.folder.names.contains("ledger.db-wal") && !again.folder.names.contains("ledger.db-shm"))
    again.ledger.close()
  }

  @Test func forgetsChargesOfLongAgo() throws {
    let folder = try TemporaryFolder()
    let store = try SQLiteStore(path: "\(folder.path)/ledger.db")
    var batch = CommitBatch()
    batch.lsn = SQLiteStore.chargeRetention + 100
    for reference in [99, 100, batch.lsn] {
      let place = batch.redo.beginRecord(RecordKey(.charge, number: reference))
      batch.redo.endRecord(place)
    }
    try store.commit(batch)
    try store.tidy(exported: 1)
    #expect(try store.record(RecordKey(.charge, number: 99)) == nil)
    #expect(try store.record(RecordKey(.charge, number: 100)) == [])
    #expect(try store.record(RecordKey(.charge, number: batch.lsn)) == [])
    store.close(afterFailure: false)
  }

  @Test func keepsTheLastImageOfEachRecordWhenTidied() throws {
    let folder = try TemporaryFolder()
    let store = try SQLiteStore(path: "\(folder.path)/ledger.db")
    var lsn: LSN = 0
    func commit(_ body: (inout ByteBuffer) -> Void) throws {
      lsn += 1
      var batch = CommitBatch()
      batch.lsn = lsn
      batch.head = [UInt8(lsn)]
      body(&batch.redo)
      try store.commit(batch)
    }
    let key = RecordKey(.reference, id(1))
    let gone = RecordKey(.reference, id(2))
    for round in 0..<5 {
      try commit { redo in
        let place = redo.beginRecord(key)
        redo.put(UInt8(round))
        redo.endRecord(place)
      }
    }
    try commit { redo in
      let place = redo.beginRecord(gone)
      redo.endRecord(place)
    }
    try commit { $0.removeRecord(gone) }
    #expect(try store.record(key) == [4])
    #expect(try store.record(gone) == nil)
    try store.tidy(exported: 1)
    try commit { redo in
      let place = redo.beginRecord(key)
      redo.put(UInt8(9))
      redo.endRecord(place)
    }
    store.close(afterFailure: true)
    let again = try SQLiteStore(path: "\(folder.path)/ledger.db")
    var found: [[UInt8]] = []
    let head = try again.load(order: [.reference]) { (_, image) throws(LedgerError) in found.append(Array(image)) }
    #expect(found == [[9]])
    #expect(head == [UInt8(lsn)])
    again.close(afterFailure: false)
  }
}
