import Bytes
public import Crypto
import Encoding
import Glibc

/// Verifies an audit log without the ledger: chain, sequence, checkpoints' signatures, tree and totals, over all of its files.
///
/// Stops at the first line that is wrong. What stands behind the last checkpoint is chained but not signed: whoever can write the file can
/// alter or cut it there, and nobody can tell without a checkpoint or receipt kept elsewhere.
public struct AuditVerifier {
  private let origin: String
  private let keys: [Ed25519.PublicKey]
  private let pin: AuditPin?
  private let mayBeginLater: Bool

  private var report = AuditReport()
  private var tree = MerkleTree()
  private var totals = AuditTotals()
  private var previous = Digest32()
  private var expected: UInt64 = 1
  /// The place of the last line that was accepted.
  private var last: AuditReport.Place?

  /// Makes a verifier of the log that `<realm>/audit` names; any of `keys` may have signed. `mayBeginLater` takes a log whose oldest files
  /// are kept elsewhere: chain and signatures are verified then, tree and totals cannot be.
  public init(realm: String, keys: [Ed25519.PublicKey], pin: AuditPin? = nil, mayBeginLater: Bool = false) {
    self.mayBeginLater = mayBeginLater
    origin = "\(realm)/audit"
    self.keys = keys
    self.pin = pin
  }

  /// Verifies the log at `path` with the renamed files beside it.
  ///
  /// - Throws: `file(.audit, …)` where a file cannot be read.
  public mutating func verify(path: String) throws(LedgerError) -> AuditReport {
    var maps = try Self.files(of: path)
    if let base = AuditBase(of: path), let first = maps.first, let sequence = AuditFiles.firstSequence(of: first.path, in: first.map), sequence > 1 {
      // What a crash left of the files that the base stands for is not looked at.
      maps.removeAll { AuditFiles.renamedSequence($0.path).map { $0 <= base.size } ?? false }
      begin(from: base)
    }
    for (index, file) in maps.enumerated() {
      let isLast = index == maps.count - 1
      file.map.withOctets { verify($0, file: file.path, isLast: isLast, rest: maps[(index + 1)...]) }
      if report.defect != nil { return report }
    }
    checkEnd()
    if report.isProven { report.accounts = totals.accounts }
    return report
  }

  /// How often the files are looked for anew where one is renamed meanwhile.
  private static let attempts = 100

  /// Maps all files of the log. A running proxy may rename one between two looks, and its lines would be missed.
  private static func files(of path: String) throws(LedgerError) -> [(path: String, map: FileMap)] {
    var code = ENOENT
    for _ in 0..<attempts {
      let files = AuditFiles.all(of: path)
      var maps: [(path: String, map: FileMap)] = []
      for file in files {
        guard let map = FileMap(path: file) else {
          code = errno
          break
        }
        maps.append((file, map))
      }
      if AuditFiles.all(of: path) != files { continue }
      if maps.count < files.count || files.isEmpty { break }
      return maps
    }
    throw .file(.audit, code: code)
  }

  /// Goes on behind lines that are not there any more.
  private mutating func begin(from base: AuditBase) {
    guard let before = MerkleTree(size: base.size, peaks: base.peaks) else { return }
    tree = before
    totals = base.totals
    previous = base.previous
    expected = base.size + 1
    report.firstSequence = expected
    report.lastSequence = base.size
    report.isBased = true
    checkPin(at: AuditReport.Place(file: "", line: 0, sequence: base.size))
  }

  /// Verifies one file behind a base, and tells the base behind it; nil where it does not verify, or holds nothing.
  mutating func base(after file: String, from base: AuditBase?) throws(LedgerError) -> AuditBase? {
    guard let map = FileMap(path: file) else { throw .file(.audit, code: errno) }
    if let base { begin(from: base) }
    map.withOctets { verify($0, file: file, isLast: false, rest: []) }
    guard report.defect == nil, report.lineCount > 0 else { return nil }
    return AuditBase(size: tree.size, previous: previous, peaks: tree.peaks, totals: totals)
  }

  private mutating func verify(_ octets: UnsafeRawBufferPointer, file: String, isLast: Bool, rest: ArraySlice<(path: String, map: FileMap)>) {
    var start = 0
    var number = 0
    while start < octets.count {
      number += 1
      let place = AuditReport.Place(file: file, line: number, sequence: expected)
      guard let end = Self.lineEnd(octets, from: start) else {
        report.defect = AuditReport.Defect(isLast ? .partial : .altered, at: place)
        return
      }
      let line = UnsafeRawBufferPointer(rebasing: octets[start..<end])
      let follows = UnsafeRawBufferPointer(rebasing: octets[(end + 1)...])
      accept(line, at: place) { Followers(octets: follows, rest: rest) }
      if report.defect != nil { return }
      start = end + 1
    }
  }

  private static func lineEnd(_ octets: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = octets.baseAddress, let found = memchr(base + start, 0x0A, octets.count - start) else { return nil }
    return UnsafeRawPointer(found) - base
  }

  // MARK: one line

  private mutating func accept(_ octets: UnsafeRawBufferPointer, at place: AuditReport.Place, followers: () -> Followers) {
    guard let line = AuditLine(scanning: octets), let sequence = line.sequence, let chained = line.previous,
      let before = Digest32(hexOctets: UnsafeRawBufferPointer(rebasing: octets[chained])), let name = line.event,
      let kind = AuditEventKind(named: octets[name]), (kind == .checkpoint) == (line.note != nil)
    else {
      report.defect = AuditReport.Defect(.altered, at: place)
      return
    }
    if report.lineCount == 0, sequence > 1, mayBeginLater, !report.isBased {
      report.firstSequence = sequence
      expected = sequence
      previous = before
    }
    if let defect = chainDefect(octets, line, sequence: sequence, before: before, at: place, followers: followers) {
      report.defect = defect
      return
    }
    if kind == .checkpoint, let defect = checkpointDefect(octets, line, at: place) {
      report.defect = defect
      return
    }
    if kind.movesMoney, !count(octets, line, kind) {
      report.defect = AuditReport.Defect(.altered, at: place)
      return
    }
    previous = SHA256.hash(octets)
    if report.isProven { tree.append(leaf: octets) }
    expected = sequence + 1
    report.lineCount += 1
    report.lastSequence = sequence
    report.lastLine = previous
    last = place
    checkPin(at: place)
  }

  private func chainDefect(
    _ octets: UnsafeRawBufferPointer, _ line: AuditLine, sequence: UInt64, before: Digest32, at place: AuditReport.Place,
    followers: () -> Followers
  ) -> AuditReport.Defect? {
    if before == previous { return sequence == expected ? nil : AuditReport.Defect(.altered, at: place) }
    if sequence == expected {
      // Either the line before was altered, or this one: what commits to this one tells.
      let digest = SHA256.hash(octets)
      if let next = followers().firstPrevious(), next == digest { return AuditReport.Defect(.altered, at: last ?? place) }
      if line.note != nil {
        return AuditReport.Defect(.altered, at: isAuthentic(octets, line, root: tree.root) ? place : last ?? place)
      }
      return AuditReport.Defect(.altered, at: followers().isEmpty ? last ?? place : place)
    }
    if sequence < expected { return AuditReport.Defect(.reordered, at: place) }
    return AuditReport.Defect(followers().contains(sequence: expected) ? .reordered : .removed, at: place)
  }

  private mutating func count(_ octets: UnsafeRawBufferPointer, _ line: AuditLine, _ kind: AuditEventKind) -> Bool {
    guard let digits = kind == .sessionClosed ? line.refunded : line.amount, let code = line.currency,
      let amount: UInt128 = AuditLine.number(octets, digits)
    else { return false }
    let place = totals.place(of: octets[code])
    guard totals.add(amount, event: kind, place: place) else { return false }
    guard kind.saysEarned else { return true }
    guard let digits = line.earned, let earned: UInt128 = AuditLine.number(octets, digits) else { return false }
    return totals.add(earned: earned, event: kind, place: place)
  }

  // MARK: checkpoints

  private mutating func checkpointDefect(_ octets: UnsafeRawBufferPointer, _ line: AuditLine, at place: AuditReport.Place) -> AuditReport.Defect? {
    guard let note = note(octets, line), let size = line.size, let rootRange = line.root,
      let root = Digest32(hexOctets: UnsafeRawBufferPointer(rebasing: octets[rootRange])), size + 1 == line.sequence, note.size == size,
      note.root == root
    else { return AuditReport.Defect(.signature, at: place) }
    if report.isProven {
      guard root == tree.root else { return AuditReport.Defect(.root(from: (report.checkpoint?.size ?? 0) + 1), at: place) }
      var text = ByteBuffer()
      totals.append(to: &text)
      let agrees = line.totals.map { range in text.withUnsafeBytes { $0.elementsEqual(octets[range]) } } ?? false
      guard agrees else { return AuditReport.Defect(.totals, at: place) }
    }
    report.checkpointCount += 1
    report.checkpoint = AuditPin(size: size, root: root)
    return nil
  }

  /// Reads a checkpoint's note; nil unless one of the keys signed it, and it covers the rest of its line.
  private func note(_ octets: UnsafeRawBufferPointer, _ line: AuditLine) -> AuditNote? {
    guard let value = line.note, let member = line.noteMember, case .string(let text)? = try? JSON.parse([UInt8](octets[value])),
      let signed = SignedNote(parsing: text), keys.contains(where: { signed.isSigned(name: origin, key: $0) }),
      let note = AuditNote(text: signed.text), note.origin == origin
    else { return nil }
    var bare = SHA256()
    bare.update(UnsafeRawBufferPointer(rebasing: octets[..<member.lowerBound]))
    bare.update(UnsafeRawBufferPointer(rebasing: octets[member.upperBound...]))
    return bare.finalize() == note.line ? note : nil
  }

  /// Whether a checkpoint that does not fit the chain signs the lines before it all the same: then it is the one that was altered.
  private func isAuthentic(_ octets: UnsafeRawBufferPointer, _ line: AuditLine, root: Digest32) -> Bool {
    guard let value = line.note, case .string(let text)? = try? JSON.parse([UInt8](octets[value])), let signed = SignedNote(parsing: text),
      keys.contains(where: { signed.isSigned(name: origin, key: $0) }), let note = AuditNote(text: signed.text)
    else { return true }
    return note.root == root
  }

  // MARK: the pin and the end

  private mutating func checkPin(at place: AuditReport.Place) {
    guard let pin, report.isProven, tree.size == pin.size else { return }
    if tree.root == pin.root {
      report.isPinned = true
    } else {
      report.defect = AuditReport.Defect(.pin, at: place)
    }
  }

  private mutating func checkEnd() {
    report.uncoveredCount = report.checkpoint.map { report.lastSequence - min(report.lastSequence, $0.size + 1) } ?? report.lineCount
    guard let pin, report.isProven, report.defect == nil, !report.isPinned, pin.size >= report.firstSequence else { return }
    report.defect = AuditReport.Defect(
      .cut(expected: pin.size), at: AuditReport.Place(file: last?.file ?? "", line: (last?.line ?? 0) + 1, sequence: expected))
  }
}

/// The lines behind the one that is being looked at.
private struct Followers {
  let octets: UnsafeRawBufferPointer
  let rest: ArraySlice<(path: String, map: FileMap)>

  var isEmpty: Bool { octets.isEmpty && rest.allSatisfy { $0.map.withOctets { $0.isEmpty } } }

  private func forEach(_ body: (UnsafeRawBufferPointer) -> Bool) {
    if !Self.walk(octets, body) { return }
    for file in rest where !file.map.withOctets({ Self.walk($0, body) }) { return }
  }

  /// Walks through lines until the closure has seen enough; false then.
  private static func walk(_ octets: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Bool) -> Bool {
    var start = 0
    while start < octets.count {
      let end = octets[start...].firstIndex(of: 0x0A) ?? octets.count
      if !body(UnsafeRawBufferPointer(rebasing: octets[start..<end])) { return false }
      start = end + 1
    }
    return true
  }

  /// The member `prev` of the next line.
  func firstPrevious() -> Digest32? {
    var found: Digest32?
    forEach { line in
      if let range = AuditLine(scanning: line)?.previous { found = Digest32(hexOctets: UnsafeRawBufferPointer(rebasing: line[range])) }
      return false
    }
    return found
  }

  func contains(sequence: UInt64) -> Bool {
    var found = false
    forEach { line in
      found = AuditLine(scanning: line)?.sequence == sequence
      return !found
    }
    return found
  }
}
