import Bytes
import Crypto
import Encoding

/// The text of an audit checkpoint: C2SP's three lines, and an extension line with the digest of the rest of the checkpoint's own line,
/// so that its time and totals are signed too.
struct AuditNote: Equatable {
  let origin: String
  let size: UInt64
  let root: Digest32
  /// SHA-256 of the checkpoint's line without its member `note`.
  let line: Digest32

  /// Whether a log may have the name: it is the name of the key that signs.
  static func isOrigin(_ origin: String) -> Bool {
    SignedNote.isName(origin) && origin.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
  }

  private static let extensionName = "line "

  var text: String { Checkpoint(origin: origin, size: size, root: root).text + Self.extensionName + line.hex + "\n" }

  func signed(by key: Ed25519.SigningKey) -> String {
    // The ledger refuses to open with an origin that is no key name, so neither step can fail.
    guard var note = SignedNote(text: text), note.sign(name: origin, key: key) else { preconditionFailure("the origin is no key name") }
    return note.serialized
  }

  init(origin: String, size: UInt64, root: Digest32, line: Digest32) {
    self.origin = origin
    self.size = size
    self.root = root
    self.line = line
  }

  /// Reads the text of a note; nil for anything but what `text` writes.
  init?(text: String) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count == 5, lines[4].isEmpty, lines[3].hasPrefix(Self.extensionName),
      let digest = Digest32(hex: String(lines[3].dropFirst(Self.extensionName.count))),
      let checkpoint = Checkpoint(text: lines[..<3].joined(separator: "\n") + "\n")
    else { return nil }
    self.init(origin: checkpoint.origin, size: checkpoint.size, root: checkpoint.root, line: digest)
  }
}
