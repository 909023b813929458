import Bytes
import Encoding

/// Names the state of a log: who keeps it, how many leaves its tree has, and the tree's root (C2SP's tlog-checkpoint).
public struct Checkpoint: Hashable, Sendable {
  /// The log's name, which is also the name of the key that signs.
  public let origin: String
  /// The number of leaves.
  public let size: UInt64
  /// The root of the tree.
  public let root: Digest32

  /// Makes a checkpoint of its three facts.
  public init(origin: String, size: UInt64, root: Digest32) {
    self.origin = origin
    self.size = size
    self.root = root
  }

  /// Reads exactly the three lines that `text` writes; nil for anything else, extension lines too.
  public init?(text: String) {
    let lines = text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false)
    guard lines.count == 4, lines[3].isEmpty, !lines[0].isEmpty, let size = DecimalUInt128.parse(lines[1]),
      let leaves = UInt64(exactly: size), let octets = Base64.decode([UInt8](lines[2])),
      let root = Digest32(bytes: octets)
    else { return nil }
    self.init(origin: String(decoding: lines[0], as: UTF8.self), size: leaves, root: root)
  }

  /// The three lines: origin, size, root.
  public var text: String { "\(origin)\n\(size)\n\(Base64.encode(root))\n" }

  /// Signs the lines under the origin's name, and writes the note; nil where the origin is no name of a key.
  public func sign(key: Ed25519.SigningKey) -> String? {
    guard var note = SignedNote(text: text), note.sign(name: origin, key: key) else { return nil }
    return note.serialized
  }

  /// Reads a note and verifies that the key signed it under the origin's name; nil where anything is wrong.
  public static func verify(_ note: String, origin: String, key: Ed25519.PublicKey) -> Checkpoint? {
    guard let note = SignedNote(parsing: note), note.isSigned(name: origin, key: key),
      let checkpoint = Checkpoint(text: note.text), checkpoint.origin.utf8.elementsEqual(origin.utf8)
    else { return nil }
    return checkpoint
  }
}
