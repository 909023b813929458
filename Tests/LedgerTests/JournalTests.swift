import Bytes
import Encoding
import Glibc
import Testing

@testable import Ledger

/// The places that batches are written into, through the store that uses them.
@Suite struct JournalTests {
  /// A store with batches of one record and one line each.
  private final class Shop {
    let folder: TemporaryFolder
    private(set) var store: SQLiteStore
    private(set) var lsn: LSN = 0
    private var line: UInt64 = 1

    init() throws {
      folder = try TemporaryFolder()
      store = try SQLiteStore(path: "\(folder.path)/ledger.db")
    }

    /// Commits a batch with a text of so many octets, and returns the text.
    @discardableResult
    func commit(octets: Int = 100) throws -> [UInt8] {
      lsn += 1
      var batch = CommitBatch()
      batch.lsn = lsn
      batch.firstLine = line
      batch.lineCount = 1
      batch.head = [UInt8(truncatingIfNeeded: lsn), 7]
      let place = batch.redo.beginRecord(RecordKey(.reference, id(1)))
      batch.redo.put(lsn)
      batch.redo.endRecord(place)
      let text = Array("\(lsn):".utf8) + [UInt8](repeating: UInt8(truncatingIfNeeded: lsn), count: octets) + [10]
      batch.lines.append(text)
      try store.commit(batch)
      line += 1
      return text
    }

    /// Opens the store anew, as after a kill.
    func reopen() throws {
      store.close(afterFailure: true)
      store = try SQLiteStore(path: "\(folder.path)/ledger.db")
    }

    func lines(from first: UInt64) throws -> [[UInt8]] {
      var found: [[UInt8]] = []
      try store.lines(from: first) { (_, text) throws(LedgerError) in found.append(Array(text)) }
      return found
    }

    func head() throws -> [UInt8]? { try store.load(order: []) { _, _ in } }
    func record() throws -> [UInt8]? { try store.record(RecordKey(.reference, id(1))) }
    func rows(_ table: String) throws -> Int64? {
      store.close(afterFailure: true)
      let connection = try SQLiteConnection(path: "\(folder.path)/ledger.db")
      let count = try connection.number("SELECT count(*) FROM \(table)")
      connection.close()
      store = try SQLiteStore(path: "\(folder.path)/ledger.db")
      return count
    }
  }

  private func octets(_ lsn: LSN) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: lsn >> (8 * UInt64($0))) } }

  @Test func batchesAreReadBackInOrderWhereverTheyStand() throws {
    let shop = try Shop()
    var texts: [[UInt8]] = []
    // Longer ones than a place holds stand in rows between the others.
    for number in 0..<30 { texts.append(try shop.commit(octets: number % 5 == 3 ? 200_000 : number * 1_000)) }
    try shop.reopen()
    #expect(try shop.lines(from: 1) == texts)
    #expect(try shop.lines(from: 12) == Array(texts[11...]))
    #expect(try shop.head() == [30, 7])
    #expect(try shop.record() == octets(30))
    #expect(try shop.rows("journal") == 24)
    #expect(try shop.rows("batch") == 6)
  }

  @Test func placesAreUsedAgainOnceTheyAreNeededNoMore() throws {
    let shop = try Shop()
    var texts: [[UInt8]] = []
    for round in 0..<8 {
      for _ in 0..<50 { texts.append(try shop.commit()) }
      #expect(try shop.lines(from: UInt64(round * 50 + 1)) == Array(texts.suffix(50)))
      try shop.store.tidy(exported: shop.lsn + 1)
      if round % 3 == 2 { try shop.reopen() }
    }
    #expect(try shop.head() == [UInt8(truncatingIfNeeded: 400), 7])
    #expect(try shop.record() == octets(400))
    let places = try #require(try shop.rows("journal"))
    #expect(places <= 101)
    #expect(try shop.rows("batch") == 0)
  }

  /// What the audit file lacks is kept, however much it becomes.
  @Test func placesWhoseLinesAreNotExportedAreKept() throws {
    let shop = try Shop()
    var texts: [[UInt8]] = []
    for _ in 0..<3 {
      for _ in 0..<90 { texts.append(try shop.commit()) }
      try shop.store.tidy(exported: 11)
    }
    try shop.reopen()
    #expect(try shop.lines(from: 11) == Array(texts[10...]))
    #expect(try shop.rows("journal") == Int64(SQLiteJournal.placeLimit))
    #expect(try shop.rows("batch") == Int64(260 - SQLiteJournal.placeLimit))
    // Once the file has caught up, rows go and places serve again.
    #expect(try shop.head() == [UInt8(truncatingIfNeeded: 270), 7])
    try shop.store.tidy(exported: 271)
    for _ in 0..<100 { texts.append(try shop.commit()) }
    try shop.reopen()
    #expect(try shop.lines(from: 271) == Array(texts[270...]))
    let rows = try #require(try shop.rows("batch"))
    #expect(rows <= 1)
    #expect(try shop.head() == [UInt8(truncatingIfNeeded: 370), 7])
  }

  /// A batch that fills a place to its last octet goes in, one octet more does not.
  @Test func theLongestBatchOfAPlace() throws {
    let shop = try Shop()
    try shop.commit(octets: 65_000)
    var low = 65_000
    var high = 70_000
    var texts = 1
    while high - low > 1 {
      let middle = (low + high) / 2
      let before = try shop.rows("batch")
      try shop.commit(octets: middle)
      texts += 1
      if try shop.rows("batch") == before { low = middle } else { high = middle }
    }
    let exact = try shop.commit(octets: low)
    #expect(try shop.lines(from: UInt64(texts + 1)) == [exact])
    #expect(try shop.record() == octets(shop.lsn))
  }

  /// A ledger of the version before, whose batches are all rows, is read and goes on.
  @Test func aLedgerWithoutPlacesIsTakenOver() throws {
    let shop = try Shop()
    let text = try shop.commit(octets: 200_000)
    shop.store.close(afterFailure: true)
    let connection = try SQLiteConnection(path: "\(shop.folder.path)/ledger.db")
    try connection.execute("DROP TABLE journal; DROP TABLE writer; PRAGMA user_version = 1")
    connection.close()
    try shop.reopen()
    #expect(try shop.lines(from: 1) == [text])
    #expect(try shop.head() == [1, 7])
    let next = try shop.commit()
    try shop.reopen()
    #expect(try shop.lines(from: 1) == [text, next])
    #expect(try shop.head() == [2, 7])
  }

  /// A ledger of the version between, whose places hold their redo as it is, is read and goes on.
  @Test func placesWithoutShortRedoAreTakenOver() throws {
    let shop = try Shop()
    let text = try shop.commit()
    shop.store.close(afterFailure: true)
    let connection = try SQLiteConnection(path: "\(shop.folder.path)/ledger.db")
    let statement = try connection.prepare("SELECT octets FROM journal")
    #expect(try statement.step())
    let place = try statement.withBlob(0) { (raw) throws(LedgerError) in [UInt8](raw) }
    statement.finalise()
    // lsn, first line, lines; the counts of redo, text and head; the redo of one record of eight octets behind its key.
    let start = try #require(place.indices.first { place[$0...].starts(with: octets(1) + octets(1) + octets(1)) })
    let redo = [RecordKind.reference.rawValue, 8, 0, 0, 0] + id(1).withUnsafeBytes { Array($0) } + octets(1)
    var old = Array(place[..<(start + 24)]) + [45, 0, 0, 0, UInt8(text.count), 0, 0, 0, 2, 0, 0, 0] + redo + text + [1, 7]
    old += [UInt8](repeating: 0, count: place.count - old.count)
    let hex = old.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    try connection.execute("UPDATE journal SET octets = x'\(hex)'; DROP TABLE writer; PRAGMA user_version = 2")
    connection.close()
    try shop.reopen()
    #expect(try shop.lines(from: 1) == [text])
    #expect(try shop.head() == [1, 7])
    #expect(try shop.record() == octets(1))
    let next = try shop.commit()
    try shop.reopen()
    #expect(try shop.lines(from: 1) == [text, next])
    #expect(try shop.head() == [2, 7])
    #expect(try shop.record() == octets(2))
  }

  @Test func aDamagedPlaceIsNotRead() throws {
    let shop = try Shop()
    try shop.commit()
    shop.store.close(afterFailure: false)
    let connection = try SQLiteConnection(path: "\(shop.folder.path)/ledger.db")
    try connection.execute("UPDATE journal SET octets = x'00112233'")
    connection.close()
    #expect(throws: LedgerError.malformed(.meta)) { try SQLiteStore(path: "\(shop.folder.path)/ledger.db") }
  }
}
