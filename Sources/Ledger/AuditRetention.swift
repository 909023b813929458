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

  /// What was removed.
  struct Removal: Equatable {
    var files = 0
    /// The last line that is gone.
    var lastSequence: UInt64 = 0
    var lastLine = Digest32()
  }

  /// The most files that one call removes: each is read through once.
  static let fileLimit = 16

  /// Removes the oldest files, as far as they are old enough. The newest of those that were renamed always stays.
  ///
  /// - Throws: `auditUnverified` where a file does not verify: evidence is not removed; what the system refused.
  func remove(at now: Timestamp) throws(LedgerError) -> Removal {
    var removal = Removal()
    for file in AuditFiles.renamed(beside: path).dropLast() {
      guard removal.files < Self.fileLimit, let first = UInt64(file.suffix(20)) else { break }
      let base = AuditBase(of: path)
      // A crash came between the base and the removal.
      if let base, first <= base.size {
        try unlink(file)
        continue
      }
      guard let last = Self.lastTime(of: file), last + keep < now else { break }
      let isKnown = first == 1 || base?.size == first - 1
      // Where older files were taken away by hand, nothing is known of their tree.
      if isKnown {
        var verifier = AuditVerifier(realm: realm, keys: [key])
        guard let next = try verifier.base(after: file, from: first == 1 ? nil : base) else { throw .auditUnverified(file: file) }
        try next.write(besides: path)
        removal.lastSequence = next.size
        removal.lastLine = next.previous
      }
      try unlink(file)
      removal.files += 1
    }
    return removal
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
