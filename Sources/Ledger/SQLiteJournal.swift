import Bytes
import CSQLite

/// The places of one table that batches are written into in turn, each into the same pages again and again.
///
/// A batch that is inserted as a row dirties the tree around it, takes pages from the list of free ones and gives them back later: twice the
/// pages that its octets need. A place keeps its pages, so writing it dirties just those, in a transaction like any other. What stands in
/// a place is needed no more when its redo was moved to the records and its lines are in the audit file.
final class SQLiteJournal {
  /// What a place holds, so far as it matters for using it again.
  private struct Place {
    var lsn: LSN
    /// The sequence after the batch's last line.
    var nextLine: UInt64
  }

  /// The most places: some more than batches wait to be moved (`SQLiteStore.batchLimit`), since tidying can be late.
  static let placeLimit = 256
  /// lsn, first line, lines: 8 octets each; redo, text, head: 4 octets each, their counts.
  private static let headerCount = 36
  /// The bit of the redo's count that says that it stands in its short form (`Squeezing`).
  private static let squeezedBit: UInt32 = 1 << 31
  /// The pages behind each place's row that a batch may fill.
  private static let pagesPerPlace = 4

  private let connection: SQLiteConnection
  private let insert: SQLiteStatement
  private let begin: SQLiteStatement
  private let end: SQLiteStatement
  /// Where a batch begins in its place: at the first octet that stands on a page of its own.
  private let offset: Int
  /// Octets of a place behind `offset`.
  private let capacity: Int
  private var places: [Place] = []
  private var last = -1
  private var scratch = ByteBuffer()
  private var squeezed = ByteBuffer()
  private var moved: LSN = 0
  private var exported: UInt64 = 0

  /// Finds the places that are there. `moved` and `exported` tell which of them are still needed.
  init(_ connection: SQLiteConnection, begin: SQLiteStatement, end: SQLiteStatement, moved: LSN, exported: UInt64) throws(LedgerError) {
    self.connection = connection
    self.begin = begin
    self.end = end
    self.moved = moved
    self.exported = exported
    insert = try connection.prepare("INSERT INTO journal(place, octets) VALUES(?, zeroblob(?))")
    // The file format's section 1.6: so much of a long row stands in the tree, and the rest fills whole pages if it is a multiple of them.
    let usable = Int(try connection.number("PRAGMA page_size") ?? 4096)
    let least = (usable - 12) * 32 / 255 - 23
    let recordHeader = 5
    offset = least - recordHeader
    capacity = Self.pagesPerPlace * (usable - 4)
    let statement = try connection.prepare("SELECT octets FROM journal ORDER BY place")
    defer { statement.finalise() }
    while try statement.step() {
      let entry = try Self.entry(statement, at: offset)
      if entry.lsn > (last < 0 ? 0 : places[last].lsn) { last = places.count }
      places.append(Place(lsn: entry.lsn, nextLine: entry.line &+ entry.lineCount))
    }
  }

  /// A batch's numbers and where its parts stand.
  struct Entry {
    var lsn: LSN
    var line: UInt64
    var lineCount: UInt64
    var redo: Range<Int>
    var isSqueezed: Bool
    var text: Range<Int>
    var head: Range<Int>
  }

  private static func entry(_ statement: SQLiteStatement, at offset: Int) throws(LedgerError) -> Entry {
    try statement.withBlob(0) { (raw) throws(LedgerError) in try entry(raw, at: offset) }
  }

  private static func entry(_ raw: UnsafeRawBufferPointer, at offset: Int) throws(LedgerError) -> Entry {
    guard raw.count >= offset + headerCount else { throw .malformed(.meta) }
    func number(_ position: Int) -> UInt64 { UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + position, as: UInt64.self)) }
    func count(_ position: Int) -> UInt32 { UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: offset + position, as: UInt32.self)) }
    let redo = offset + headerCount
    let text = redo + Int(count(24) & ~squeezedBit)
    let head = text + Int(count(28))
    let last = head + Int(count(32))
    guard last <= raw.count else { throw .malformed(.meta) }
    return Entry(
      lsn: number(0), line: number(8), lineCount: number(16), redo: redo..<text, isSqueezed: count(24) & squeezedBit != 0, text: text..<head,
      head: head..<last)
  }

  /// Lists the batches that stand in places, with their places.
  func batches() -> [(lsn: LSN, place: Int)] {
    places.indices.filter { places[$0].lsn > 0 }.map { (places[$0].lsn, $0) }
  }

  /// Lends the batch of a place: its numbers, the place's octets, and its redo.
  func withBatch(
    _ place: Int, _ body: (Entry, UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws(LedgerError) -> Void
  ) throws(LedgerError) {
    let statement = try connection.prepare("SELECT octets FROM journal WHERE place = ?")
    defer { statement.finalise() }
    statement.bind(1, Int64(place))
    guard try statement.step() else { return }
    try statement.withBlob(0) { (raw) throws(LedgerError) in
      let entry = try Self.entry(raw, at: offset)
      let redo = UnsafeRawBufferPointer(rebasing: raw[entry.redo])
      guard entry.isSqueezed else { return try body(entry, raw, redo) }
      var expanded = ByteBuffer()
      guard Squeezing.expand(redo, to: &expanded) else { throw .malformed(.meta) }
      try expanded.withUnsafeBytes { (redo) throws(LedgerError) in try body(entry, raw, redo) }
    }
  }

  /// Writes a batch durably; false where it is too long for a place or every place is still needed.
  func write(_ batch: borrowing CommitBatch) throws(LedgerError) -> Bool {
    guard batch.lines.count <= capacity else { return false }
    compose(batch)
    guard scratch.count <= capacity else { return false }
    let next = last + 1 < places.count ? last + 1 : 0
    if next < places.count, isFree(next) {
      try put(into: next)
      last = next
    } else if places.count < Self.placeLimit {
      try begin.run()
      insert.bind(1, Int64(places.count))
      insert.bind(2, Int64(offset + capacity))
      try insert.run()
      try put(into: places.count)
      try end.run()
      last = places.count
      places.append(Place(lsn: 0, nextLine: 0))
    } else {
      return false
    }
    places[last] = Place(lsn: batch.lsn, nextLine: batch.firstLine &+ batch.lineCount)
    return true
  }

  /// Whether nothing of a place is needed any more; the last batch holds the chain's head.
  private func isFree(_ place: Int) -> Bool {
    place != last && places[place].lsn <= moved && places[place].nextLine <= exported
  }

  /// Lays the octets of a place out.
  private func compose(_ batch: borrowing CommitBatch) {
    squeezed.removeAll()
    batch.redo.withUnsafeBytes { Squeezing.append($0, to: &squeezed) }
    scratch.removeAll()
    scratch.put(batch.lsn)
    scratch.put(batch.firstLine)
    scratch.put(batch.lineCount)
    scratch.put(UInt32(squeezed.count) | Self.squeezedBit)
    scratch.put(UInt32(batch.lines.count))
    scratch.put(UInt32(batch.head.count))
    scratch.append(squeezed)
    scratch.append(batch.lines)
    scratch.append(batch.head)
  }

  private func put(into place: Int) throws(LedgerError) {
    try scratch.withUnsafeBytes { (octets) throws(LedgerError) in
      try connection.overwrite(octets, row: Int64(place), at: offset)
    }
  }

  /// Learns which batches are needed no more.
  func forget(moved: LSN, exported: UInt64) {
    self.moved = moved
    self.exported = exported
  }

  func finalise() { insert.finalise() }
}

extension SQLiteConnection {
  /// Writes octets over a place of the journal; outside a transaction that is one by itself, durable on return.
  fileprivate func overwrite(_ octets: UnsafeRawBufferPointer, row: Int64, at offset: Int) throws(LedgerError) {
    try withHandle { (handle) throws(LedgerError) in
      var blob: OpaquePointer?
      let opened = sqlite3_blob_open(handle, "main", "journal", "octets", row, 1, &blob)
      guard opened == SQLITE_OK else {
        sqlite3_blob_close(blob)
        throw error(opened)
      }
      // Safe because: the octets stay where they are for the call, and SQLite refuses to write past the place's end.
      let written = sqlite3_blob_write(blob, octets.baseAddress, Int32(octets.count), Int32(offset))
      let closed = sqlite3_blob_close(blob)
      guard written == SQLITE_OK else { throw error(written) }
      guard closed == SQLITE_OK else { throw error(closed) }
    }
  }
}
