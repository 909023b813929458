import Bytes
import Crypto
import Encoding

/// The audit chain: turns entries into lines, each with the digest of the line before, and signs checkpoints of the tree that they are
/// the leaves of. Owned by the committer; performs no I/O.
struct AuditLog: ~Copyable {
  /// The sequence of the next line; the first is 1.
  private(set) var next: UInt64 = 1
  /// SHA-256 of the last line; zeros before the first.
  private(set) var previous = Digest32()
  private var tree = MerkleTree()
  private(set) var totals = AuditTotals()
  /// Where each currency's sums stand in the totals; -1 for those without.
  private var places: [Int] = []
  /// The last checkpoint.
  private(set) var checkpoint: (size: UInt64, root: Digest32)
  /// Lines since then.
  private(set) var uncovered: UInt64 = 0
  /// The last checkpoint's signed note.
  private(set) var lastNote: String?
  private(set) var pieces = AuditPieces()

  private let origin: String
  private let key: Ed25519.SigningKey
  private let checkpointLines: UInt64

  init(origin: String, key: Ed25519.SigningKey, checkpointLines: UInt64) {
    self.origin = origin
    self.key = key
    self.checkpointLines = checkpointLines
    checkpoint = (0, tree.root)
  }

  /// Makes the constant pieces known that the next lines need.
  mutating func learn(_ fragments: [Fragment]) {
    for fragment in fragments { pieces.learn(fragment) }
  }

  mutating func learn(routes names: ArraySlice<String>) { pieces.learn(routes: names) }

  /// Appends an entry's line; after every `checkpointLines` a checkpoint follows.
  mutating func append(_ entry: Entry, _ words: EntryWords?, to lines: inout ByteBuffer) {
    let start = lines.count
    pieces.appendBeforePrevious(entry, words, to: &lines)
    lines.append(",\"prev\":\"" as StaticString)
    lines.append(hex: previous)
    lines.append("\"" as StaticString)
    pieces.appendAfterPrevious(entry, words, sequence: next, to: &lines)
    if entry.kind.movesMoney, entry.currency != .max {
      // Cannot overflow before 2^128 base units have moved.
      let place = place(entry.currency)
      _ = totals.add(entry.amount, event: entry.kind, place: place)
      if entry.kind.saysEarned { _ = totals.add(earned: entry.earned, event: entry.kind, place: place) }
    }
    close(start, &lines)
    uncovered += 1
    if uncovered >= checkpointLines { appendCheckpoint(to: &lines, at: entry.time) }
  }

  /// Appends a checkpoint: its line is a leaf too, and the note signs the rest of the line as well as the tree before it.
  mutating func appendCheckpoint(to lines: inout ByteBuffer, at now: Timestamp) {
    let size = tree.size
    let root = tree.root
    var bare = ByteBuffer()
    appendCheckpoint(note: nil, root: root, to: &bare, at: now)
    let digest = bare.withUnsafeBytes { SHA256.hash($0) }
    let note = AuditNote(origin: origin, size: size, root: root, line: digest).signed(by: key)
    let start = lines.count
    appendCheckpoint(note: note, root: root, to: &lines, at: now)
    close(start, &lines)
    checkpoint = (size, root)
    lastNote = note
    uncovered = 0
  }

  private func appendCheckpoint(note: String?, root: Digest32, to lines: inout ByteBuffer, at now: Timestamp) {
    lines.append("{\"event\":\"checkpoint\"" as StaticString)
    if let note {
      lines.append(",\"note\":" as StaticString)
      JCS.append(string: note, to: &lines)
    }
    lines.append(",\"prev\":\"" as StaticString)
    lines.append(hex: previous)
    lines.append("\",\"root\":\"" as StaticString)
    lines.append(hex: root)
    lines.append("\",\"seq\":" as StaticString)
    lines.append(decimal: next)
    lines.append(",\"size\":" as StaticString)
    lines.append(decimal: tree.size)
    lines.append(",\"time\":\"" as StaticString)
    now.append(rfc3339Milliseconds: &lines)
    lines.append("\",\"totals\":" as StaticString)
    totals.append(to: &lines)
    lines.append("}" as StaticString)
  }

  /// Chains the line that began at `start`, and ends it.
  private mutating func close(_ start: Int, _ lines: inout ByteBuffer) {
    lines.withUnsafeBytes { all in
      let line = UnsafeRawBufferPointer(rebasing: all[start...])
      previous = SHA256.hash(line)
      tree.append(leaf: line)
    }
    next += 1
    lines.append(byte: 0x0A)
  }

  private mutating func place(_ currency: UInt8) -> Int {
    let index = Int(currency)
    while places.count <= index { places.append(-1) }
    if places[index] < 0 { places[index] = totals.place(of: pieces.code(currency).utf8) }
    return places[index]
  }

  // MARK: the head, as stored with each batch

  func head() -> [UInt8] {
    var buffer = ByteBuffer()
    buffer.put(next)
    buffer.put(previous)
    buffer.put(tree.size)
    buffer.put(UInt32(tree.peaks.count))
    for peak in tree.peaks { buffer.put(peak) }
    buffer.put(checkpoint.size)
    buffer.put(checkpoint.root)
    buffer.put(uncovered)
    totals.write(to: &buffer)
    return buffer.array()
  }

  mutating func restore(_ head: [UInt8]) throws(LedgerError) {
    try head.lend { (raw) throws(LedgerError) -> Void in
      var reader = RecordReader(raw, kind: .meta)
      next = try reader.integer()
      previous = try reader.digest()
      let size: UInt64 = try reader.integer()
      let peaks = try reader.array { (reader) throws(LedgerError) in try reader.digest() }
      guard let restored = MerkleTree(size: size, peaks: peaks), size &+ 1 == next else { throw .malformed(.meta) }
      tree = restored
      checkpoint = (try reader.integer(), try reader.digest())
      uncovered = try reader.integer()
      totals = try AuditTotals(&reader)
      places = []
      try reader.end()
    }
  }
}
