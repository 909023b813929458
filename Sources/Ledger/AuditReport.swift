public import Bytes
import Crypto
import Encoding

/// What a verification of the audit log found.
public struct AuditReport: Sendable, Equatable {
  /// Where a line stands.
  public struct Place: Sendable, Equatable {
    public let file: String
    /// Counted from 1 within the file.
    public let line: Int
    /// The sequence that stands there, or should.
    public let sequence: UInt64
  }

  /// What is wrong with a line.
  public enum Fault: Sendable, Equatable {
    /// The line is not what was written: it does not parse, or the next one is chained to another text.
    case altered
    /// One or more lines before this one are gone.
    case removed
    /// The line stands at another's place, or twice.
    case reordered
    /// The last line has no end: a write that a crash cut short, repaired when the ledger is opened.
    case partial
    /// The checkpoint is not signed by a known key, or does not fit its note.
    case signature
    /// The chain fits, but the signed root is another: lines from this sequence on were rewritten.
    case root(from: UInt64)
    /// The signed totals are others than the lines'.
    case totals
    /// The log up to the pin's size has another root than the pin.
    case pin
    /// The log ends before the pin's size.
    case cut(expected: UInt64)
  }

  public struct Defect: Sendable, Equatable {
    public let fault: Fault
    public let place: Place

    init(_ fault: Fault, at place: Place) {
      self.fault = fault
      self.place = place
    }
  }

  public internal(set) var lineCount: UInt64 = 0
  /// Above 1 when older files are kept elsewhere; then signatures and chain were verified, tree and totals could not be.
  public internal(set) var firstSequence: UInt64 = 1
  public internal(set) var lastSequence: UInt64 = 0
  /// The SHA-256 of the last line; zeros where there is none.
  public internal(set) var lastLine = Digest32()
  public internal(set) var checkpointCount: UInt64 = 0
  /// The last checkpoint.
  public internal(set) var checkpoint: AuditPin?
  /// Lines behind it: chained, not signed.
  public internal(set) var uncoveredCount: UInt64 = 0
  /// What the lines add up to, by currency; empty where the log does not begin with its first line.
  public internal(set) var accounts: [AuditAccounts] = []
  /// Older lines were removed, and what they came to is kept beside the log: the rest is proved as if they were there.
  public internal(set) var isBased = false
  /// The log contains what the pin names.
  public internal(set) var isPinned = false
  /// The first line that is wrong.
  public internal(set) var defect: Defect?

  /// Whether the log begins with its first line.
  public var isWhole: Bool { firstSequence == 1 }
  /// Whether tree and totals could be verified too.
  public var isProven: Bool { isWhole || isBased }
  /// Whether nothing wrong was found.
  public var isValid: Bool { defect == nil }
  /// Lines may be missing at the end without a trace, unless a newer checkpoint or receipt is held against the log.
  public var mayBeCut: Bool { !isPinned }

  init() {}
}

/// A state of the log that was kept elsewhere: a checkpoint, or the `logSize` and `logRoot` of a receipt.
public struct AuditPin: Sendable, Hashable {
  /// How many lines it covers.
  public let size: UInt64
  public let root: Digest32

  public init(size: UInt64, root: Digest32) {
    self.size = size
    self.root = root
  }

  /// Reads a checkpoint's note, a checkpoint's audit line, or a receipt (JSON or base64url of it); nil for anything else.
  public init?(parsing octets: [UInt8]) {
    let text = String(decoding: octets, as: UTF8.self)
    if let signed = SignedNote(parsing: text.hasSuffix("\n") ? text : text + "\n"), let note = AuditNote(text: signed.text) {
      self.init(size: note.size, root: note.root)
      return
    }
    let trimmed = text.filter { $0 != "\n" && $0 != "\r" }
    let json = (try? JSON.parse(trimmed)) ?? Base64URL.decode(trimmed).flatMap { try? JSON.parse($0) }
    guard let object = json?.objectValue else { return nil }
    for (sizeName, rootName) in [("size", "root"), ("logSize", "logRoot")] {
      guard let size = object[sizeName], let rootText = object[rootName]?.stringValue else { continue }
      let digits = size.stringValue ?? size.intValue.map { String($0) } ?? ""
      guard let number = DecimalUInt128.parse(Array(digits.utf8)).flatMap({ UInt64(exactly: $0) }) else { return nil }
      guard let root = Digest32(hex: rootText) ?? Base64.decode(rootText).flatMap({ Digest32(bytes: $0) })
        ?? Base64URL.decode(rootText).flatMap({ Digest32(bytes: $0) })
      else { return nil }
      self.init(size: number, root: root)
      return
    }
    return nil
  }
}
