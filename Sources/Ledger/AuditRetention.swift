import Bytes
import Crypto
import Encoding
import Glibc

/// Removes the files of an audit log that are older than they have to be kept. What they prove is kept: the log is verified from its first
/// file that is left, tree and totals too.
struct AuditRetention: Sendable {
  let path: String
  /// Files whose last line is older than this go.
  let keep: Duration
  let realm: String
  let key: Ed25519.PublicKey

  /// What was removed, and what kept more from it: what is gone is told of also where the next file could not go.
  struct Removal: Equatable {
    var files = 0
    /// The last line that is gone.
    var lastSequence: UInt64 = 0
    var lastLine = Digest32()
    /// `auditUnverified` where a file, or what is kept of those before it, does not verify: evidence is not removed; or what the system refused.
    var failure: LedgerError?
  }

  /// The most files that one call removes: each is read through once.
  static let fileLimit = 16

  /// Removes the oldest files, as far as they are old enough. The newest of those that were renamed always stays.
  ///
  /// - Parameter isOver: asked before each file whether to end here.
  func remove(at now: Timestamp, isOver: () -> Bool = { false }) -> Removal {
    var removal = Removal()
    let files = AuditFiles.renamed(beside: path)
    for (file, next) in zip(files, files.dropFirst()) {
      guard removal.files < Self.fileLimit, !isOver() else { break }
      do throws(LedgerError) {
        guard try remove(file, before: next, at: now, &removal) else { break }
      } catch {
        removal.failure = error
        break
      }
    }
    return removal
  }

  /// Removes one file, where it is old enough and follows what is known of those before it; false where it is too young.
  private func remove(_ file: String, before next: String, at now: Timestamp, _ removal: inout Removal) throws(LedgerError) -> Bool {
    guard let first = AuditFiles.renamedSequence(file), let end = AuditFiles.renamedSequence(next) else { return false }
    var base = try AuditBase.read(of: path)
    // Otherwise a crash came between the base and the removal.
    if base.map({ first > $0.size }) ?? true {
      guard let last = Self.lastTime(of: file), last + keep < now else { return false }
      if base == nil, first != 1 {
        // Where older files were taken away by hand, nothing is known of their tree.
        try unlink(file)
        removal.files += 1
        return true
      }
      guard base.map({ $0.size == first - 1 }) ?? true else { throw .auditUnverified(file: file) }
      var verifier = AuditVerifier(realm: realm, keys: [key])
      guard let following = try verifier.base(after: file, from: base) else { throw .auditUnverified(file: file) }
      try following.write(besides: path)
      base = following
    }
    // A file that reaches beyond the base is not the one that the base stands for.
    guard let base, end <= base.size + 1 else { throw .auditUnverified(file: file) }
    try unlink(file)
    removal.files += 1
    removal.lastSequence = base.size
    removal.lastLine = base.previous
    return true
  }

  private func unlink(_ file: String) throws(LedgerError) {
    guard Glibc.unlink(file) == 0 else { throw .file(.audit, code: errno) }
    try synchroniseFolder(of: file)
  }

  /// The time in a file's last line.
  private static func lastTime(of file: String) -> Timestamp? {
    guard let map = FileMap(path: file) else { return nil }
    return map.withOctets { octets in
      guard let end = octets.lastIndex(of: 0x0A) else { return nil }
      let start = octets[..<end].lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
      return (try? JSON.parse(Array(octets[start..<end])))?["time"]?.stringValue.flatMap { Timestamp(rfc3339: $0) }
    }
  }
}
