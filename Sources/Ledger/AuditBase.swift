import Bytes
import Crypto
import Encoding
import Glibc

/// What a verifier needs of the lines that were removed from a log's beginning, so that the rest is proved as if they were there: `<path>.base`.
///
/// It need not be signed. The next checkpoint in the log signs a tree and totals that follow from it, and from nothing else.
struct AuditBase: Equatable {
  /// How many lines came before.
  let size: UInt64
  /// SHA-256 of the last of them.
  let previous: Digest32
  let peaks: [Digest32]
  let totals: AuditTotals

  private static let format = "farebox-audit-base"
  static func path(of log: String) -> String { log + ".base" }

  init?(size: UInt64, previous: Digest32, peaks: [Digest32], totals: AuditTotals) {
    guard MerkleTree(size: size, peaks: peaks) != nil else { return nil }
    self.size = size
    self.previous = previous
    self.peaks = peaks
    self.totals = totals
  }

  /// Reads the base of a log; nil where it has none, or none that can be read.
  init?(of log: String) {
    guard let octets = try? BackupFile.read(Self.path(of: log), limit: AuditFile.lineLimit), let object = (try? JSON.parse(octets))?.objectValue,
      object["format"]?.stringValue == Self.format, let size = object["size"]?.stringValue.flatMap({ UInt64($0) }),
      let previous = object["last"]?.stringValue.flatMap({ Digest32(hex: $0) }), let names = object["peaks"]?.arrayValue,
      let totals = object["totals"]?.objectValue.flatMap({ AuditTotals($0) })
    else { return nil }
    let peaks = names.compactMap { $0.stringValue.flatMap { Digest32(hex: $0) } }
    guard peaks.count == names.count else { return nil }
    self.init(size: size, previous: previous, peaks: peaks, totals: totals)
  }

  /// Reads the base of a log; nil only where it has none.
  ///
  /// - Throws: `auditUnverified` where it is not what `write` writes; what the system refused.
  static func read(of log: String) throws(LedgerError) -> AuditBase? {
    let path = path(of: log)
    do throws(LedgerError) { _ = try BackupFile.read(path, limit: AuditFile.lineLimit) } catch {
      if case .backup(.unreadable(_, ENOENT)) = error { return nil }
      if case .backup(.unreadable(_, EFBIG)) = error { throw .auditUnverified(file: path) }
      throw error
    }
    guard let base = AuditBase(of: log) else { throw .auditUnverified(file: path) }
    return base
  }

  /// Puts it on the disk beside the log, before what it stands for is removed.
  func write(besides log: String) throws(LedgerError) {
    var text = ByteBuffer()
    totals.append(to: &text)
    let sums = (try? JSON.parse(text.array())) ?? .object([:])
    let object: JSONObject = [
      "format": .string(Self.format), "size": .string(String(size)), "last": .string(previous.hex), "peaks": .array(peaks.map { .string($0.hex) }),
      "totals": sums,
    ]
    try BackupFile.write(JSON.serialize(.object(object)), to: Self.path(of: log))
  }
}

extension AuditTotals {
  /// Reads what `append` writes; nil for anything else.
  init?(_ object: JSONObject) {
    self.init()
    let names = Dictionary(uniqueKeysWithValues: AuditEventKind.allCases.map { ($0.name, $0) })
    for (code, events) in object.members {
      guard let events = events.objectValue else { return nil }
      let place = place(of: code.utf8)
      for (name, value) in events.members {
        let isEarned = name.hasSuffix(".earned")
        guard let kind = names[isEarned ? String(name.dropLast(".earned".count)) : name], let sum = value.stringValue.flatMap({ UInt128($0) }) else {
          return nil
        }
        guard isEarned ? add(earned: sum, event: kind, place: place) : add(sum, event: kind, place: place) else { return nil }
      }
    }
  }
}
