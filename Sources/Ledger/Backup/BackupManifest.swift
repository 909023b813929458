public import Bytes
public import Encoding
import Glibc

/// What a backup says about itself: `manifest.json` in its folder. Nothing in it is secret.
public struct BackupManifest: Sendable, Equatable {
  /// A file of the backup.
  public struct File: Sendable, Equatable {
    /// Its path within the folder.
    public let name: String
    public let octets: UInt64
    public let digest: Digest32

    public init(name: String, octets: UInt64, digest: Digest32) {
      self.name = name
      self.octets = octets
      self.digest = digest
    }
  }

  static let format = "farebox-backup"
  /// The format's version.
  static let version = 1
  static let name = "manifest.json"
  static let databaseName = "ledger.db"
  /// What the audit log's files are called, the sequence of the first line behind it.
  static let auditName = "audit.jsonl"
  /// What is kept of lines that were removed.
  static let baseName = AuditBase.path(of: auditName)
  /// The longest manifest that is read: a log of a hundred thousand files.
  static let octetLimit = 16 << 20

  /// The program that wrote it, and the version of the database.
  public var build: String
  public var schema: Int
  public var time: Timestamp
  /// The ledger's name.
  public var ledger: String
  /// The last entry.
  public var entry: LSN
  /// How many lines the audit log has, and the SHA-256 of the last one.
  public var lineCount: UInt64
  public var lastLine: Digest32
  /// The last checkpoint, where there is one.
  public var checkpoint: AuditPin?
  /// The key that verifies its checkpoints, in C2SP's form.
  public var verifier: String
  /// Every account by currency, in base units.
  public var books: [CurrencyBalances]
  public var sessionCount: Int
  public var files: [File]

  var audit: [File] { files.filter { $0.name.hasPrefix(Self.auditName + ".") && $0.name != Self.baseName } }

  // MARK: JSON

  public var json: JSONObject {
    var object: JSONObject = [
      "format": .string(Self.format), "version": .integer(Self.version), "build": .string(build), "schema": .integer(schema), "time": .string(time.rfc3339),
      "ledger": .string(ledger), "entry": .string(String(entry)),
      "audit": ["lines": .string(String(lineCount)), "last": .string(lastLine.hex)], "verifier": .string(verifier), "sessions": .integer(sessionCount),
    ]
    if let checkpoint {
      object.set("checkpoint", ["size": .string(String(checkpoint.size)), "root": .string(checkpoint.root.hex)])
    }
    object.set(
      "books",
      .array(
        books.map { balances in
          [
            "currency": .string(balances.currency), "wallets": .string(String(balances.wallets)), "sessions": .string(String(balances.sessions)),
            "held": .string(String(balances.held)), "merchants": .string(String(balances.merchants)), "paidOut": .string(String(balances.paidOut)),
            "issued": .string(String(balances.issued)),
          ]
        }))
    object.set(
      "files", .array(files.map { ["name": .string($0.name), "octets": .string(String($0.octets)), "sha256": .string($0.digest.hex)] }))
    return object
  }

  /// Reads the manifest of the backup in a folder.
  ///
  /// - Throws: `notABackup`, `newerFormat`, `unreadable`.
  public init(folder: String) throws(LedgerError) {
    let path = "\(folder)/\(Self.name)"
    let octets: [UInt8]
    do throws(LedgerError) { octets = try BackupFile.read(path, limit: Self.octetLimit) } catch {
      // A folder of something else is told from one that cannot be read.
      guard case .backup(.unreadable(_, ENOENT)) = error else { throw error }
      throw .backup(.notABackup(folder))
    }
    guard let object = (try? JSON.parse(octets))?.objectValue, object["format"]?.stringValue == Self.format, let version = object["version"]?.intValue else {
      throw .backup(.notABackup(folder))
    }
    guard version <= Self.version else { throw .backup(.newerFormat(found: Int(version), supported: Self.version)) }
    guard let manifest = Self(object) else { throw .backup(.notABackup(folder)) }
    self = manifest
  }

  private init?(_ object: JSONObject) {
    func number<Value: FixedWidthInteger>(_ value: JSONValue?) -> Value? { value?.stringValue.flatMap { Value($0) } }
    guard let build = object["build"]?.stringValue, let schema = object["schema"]?.intValue,
      let time = object["time"]?.stringValue.flatMap({ Timestamp(rfc3339: $0) }), let ledger = object["ledger"]?.stringValue,
      let entry: LSN = number(object["entry"]), let lineCount: UInt64 = number(object["audit"]?["lines"]),
      let lastLine = object["audit"]?["last"]?.stringValue.flatMap({ Digest32(hex: $0) }), let verifier = object["verifier"]?.stringValue,
      let sessions = object["sessions"]?.intValue, let files = object["files"]?.arrayValue, let books = object["books"]?.arrayValue
    else { return nil }
    self.build = build
    self.schema = Int(schema)
    self.time = time
    self.ledger = ledger
    self.entry = entry
    self.lineCount = lineCount
    self.lastLine = lastLine
    self.verifier = verifier
    sessionCount = Int(sessions)
    if let size: UInt64 = number(object["checkpoint"]?["size"]), let root = object["checkpoint"]?["root"]?.stringValue.flatMap({ Digest32(hex: $0) }) {
      checkpoint = AuditPin(size: size, root: root)
    }
    self.books = []
    for value in books {
      guard let currency = value["currency"]?.stringValue, let wallets: UInt128 = number(value["wallets"]),
        let sessions: UInt128 = number(value["sessions"]), let held: UInt128 = number(value["held"]),
        let merchants: Int128 = number(value["merchants"]), let paidOut: UInt128 = number(value["paidOut"]), let issued: UInt128 = number(value["issued"])
      else { return nil }
      self.books.append(
        CurrencyBalances(
          currency: currency, issued: issued, wallets: wallets, sessions: sessions, held: held, merchants: merchants, paidOut: paidOut, sum: 0))
    }
    self.files = []
    for value in files {
      guard let name = value["name"]?.stringValue, Self.isName(name), let octets: UInt64 = number(value["octets"]),
        let digest = value["sha256"]?.stringValue.flatMap({ Digest32(hex: $0) })
      else { return nil }
      self.files.append(File(name: name, octets: octets, digest: digest))
    }
    guard self.files.contains(where: { $0.name == Self.databaseName }) else { return nil }
  }

  /// A name that a backup may hold: a manifest must not lead anywhere else.
  private static func isName(_ name: String) -> Bool {
    if name == databaseName || name == baseName || keyNames.contains(name) { return true }
    let digits = name.dropFirst(auditName.count + 1).utf8
    return name.hasPrefix(auditName + ".") && digits.count == 20 && digits.allSatisfy { (0x30...0x39).contains($0) }
  }

  /// Whether the folder of a backup may hold a file of such a name, also while it is being made.
  static func mayHold(_ name: String) -> Bool {
    isName(name) || [Self.name, Self.name + ".new"].contains(name) || ["-wal", "-shm", "-journal"].contains { name == databaseName + $0 }
  }

  /// The keys that a backup may hold: never the challenge secret, which a restoration makes anew.
  public static let keyNames = ["receipt.key", "receipt.retired", "checkpoint.key"]

  public init(
    build: String, schema: Int, time: Timestamp, ledger: String, point: LedgerCopyPoint, checkpoint: AuditPin?, verifier: String,
    books: [CurrencyBalances], sessionCount: Int, files: [File]
  ) {
    self.build = build
    self.schema = schema
    self.time = time
    self.ledger = ledger
    entry = point.entry
    lineCount = point.lineCount
    lastLine = point.lastLine
    self.checkpoint = checkpoint
    self.verifier = verifier
    self.books = books
    self.sessionCount = sessionCount
    self.files = files
  }
}
