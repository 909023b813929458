import ArgumentParser
import Configuration
import Crypto
import Encoding
import Foundation
import Glibc
import Ledger
import Proxy

/// `farebox ledger backup`: a copy of ledger and audit log while the proxy serves.
struct LedgerBackup: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup", abstract: "Copy the ledger and its audit log, while the proxy serves.",
    discussion: """
      The folder gets the database and the audit log of one and the same commit, and a manifest with their digests and the books. The copy \
      is proved before the folder appears: the database's structure, the books, and the audit log up to its last line. A running proxy \
      writes the copy of the database itself, a little after each commit, so the folder must be one that its user may write to.

      Not in it: the challenge secret, which a restoration makes anew, and, without --with-keys, the keys that sign receipts and \
      checkpoints. Keep those, and the signers' keys of chains, elsewhere.
      """)

  @Argument(help: ArgumentHelp("The folder to make; an empty one may be there.", valueName: "dir")) var path: String
  @Flag(help: "Replace a backup that stands there. Anything else is never replaced.") var force = false
  @Flag(help: "Put the keys of receipts and checkpoints into the backup: whoever has it can sign as this proxy.") var withKeys = false
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let settings = try options.settings()
      let backend = Backend(settings)
      // Tells first what is wrong with the ledger, and opens it where nobody serves it.
      _ = try backend.run(.ledgerVerify)
      let keys: KeyRing
      do throws(KeyRingError) { keys = try KeyRing.open(settings.keys.directory, at: .now()) } catch { throw CommandFailure(error) }
      let progress = BackupProgress(isJSON: options.json)
      let backup = try CommandFailure.mapping(settings) { () throws(LedgerError) in try Backup(at: BackupPath.absolute(path), replaces: force) }
      do throws(CommandFailure) {
        let manifest = try make(backup, backend, settings, keys, progress)
        progress.end()
        options.show(.object(manifest.json)) { BackupText.lines(manifest, at: backup.path, settings, hasKeys: withKeys) }
      } catch {
        progress.end()
        backup.abandon()
        throw error
      }
    }
  }

  private func make(
    _ backup: Backup, _ backend: Backend, _ settings: Settings, _ keys: KeyRing, _ progress: BackupProgress
  ) throws(CommandFailure) -> BackupManifest {
    try CommandFailure.mapping(settings) { () throws(LedgerError) in
      try backup.give(toOwnerOf: settings.ledger.directory)
      try backup.checkRoom(forLedgerIn: settings.ledger.directory, auditPath: settings.audit.path)
    }
    let point = try copy(backup, backend, settings, progress)
    let source = Backup.Source(
      build: ProgramVersion.text, realm: settings.ledger.name, auditPath: settings.audit.path, checkpointKey: keys.checkpointKey.publicKey)
    return try CommandFailure.mapping(settings) { () throws(LedgerError) in
      try backup.finish(point, of: source, keys: withKeys ? KeyRing.files(of: settings.keys.directory) : []) { progress.add($0, $1) }
    }
  }

  /// How often it is asked how far the copy is.
  private static let pause: UInt32 = 20_000

  private func copy(
    _ backup: Backup, _ backend: Backend, _ settings: Settings, _ progress: BackupProgress
  ) throws(CommandFailure) -> LedgerCopyPoint {
    _ = try backend.run(.ledgerCopy, ["file": .string(backup.databasePath)])
    while true {
      let answer = try backend.run(.ledgerCopyState)
      let state: LedgerCopyState = LedgerCopyState(answer) ?? LedgerCopyState.none
      switch state {
      case .complete(let point):
        // A proxy in a sandbox of its own may have written it where nobody else finds it.
        guard access(backup.databasePath, R_OK) == 0 else { throw CommandFailure(.backup(.unwritable(backup.databasePath, code: errno)), settings) }
        return point
      case .failed(let error): throw CommandFailure(error, settings)
      case .copying(let done, let total): progress.set(.database, done, of: total)
      // The proxy that had begun it has ended.
      case .none: throw CommandFailure(.backup(.abandoned), settings)
      }
      usleep(Self.pause)
    }
  }
}

/// `farebox ledger restore`: a backup in the ledger's place.
struct LedgerRestore: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Put a backup in the ledger's place, while no proxy runs.",
    discussion: """
      The backup is proved first, and what stands there is moved aside, never deleted. A crash leaves the old ledger or the new one.

      What happened after the backup is not known any more. So challenges from before are paid no more (the challenge secret is made anew), \
      and every session that was open in the backup waits until `farebox session confirm` opens it again. The audit log goes on behind \
      the backup's last line with the event ledger.restored.
      """)

  @Argument(help: ArgumentHelp("The folder of the backup.", valueName: "dir")) var path: String
  @Flag(help: "Only prove that the backup could be restored here; nothing changes.") var check = false
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let settings = try options.settings()
      try refuseOtherUser(settings)
      let progress = BackupProgress(isJSON: options.json)
      let backup = BackupPath.absolute(path)
      let borrows = KeyRing.isEmpty(settings.keys.directory)
      let keys = try borrows ? borrowedKeys(settings, backup) : openKeys(settings)
      // On a machine that has nothing the state folder itself is missing. What cannot be made is told by whoever needs it.
      if borrows {
        try? FileManager.default.createDirectory(
          atPath: settings.keys.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      }
      let restoration = try CommandFailure.mapping(settings) { () throws(LedgerError) in
        let restoration = try Restoration(of: backup, options: LedgerOptions(settings, checkpointKey: keys.checkpointKey))
        guard restoration.manifest.verifier == SignedNote.verifierKey(name: "\(settings.ledger.name)/audit", key: keys.checkpointKey.publicKey) else {
          throw .backup(.otherKey)
        }
        return restoration
      }
      do throws(LedgerError) { try restoration.prepare(at: .now()) { progress.add($0, $1) } } catch {
        progress.end()
        throw CommandFailure(error, settings)
      }
      progress.end()
      if check { return show(restoration, settings) }
      do throws(KeyRingError) {
        // Whatever is wrong with the backup has been found by now.
        if borrows { try KeyRing.adopt(from: backup, into: settings.keys.directory, at: .now()) }
        try KeyRing.open(settings.keys.directory, at: .now()).fence(at: .now())
      } catch { throw CommandFailure(error) }
      try CommandFailure.mapping(settings) { () throws(LedgerError) in try restoration.install() }
      show(restoration, settings)
    }
  }

  /// What root writes, the proxy's user could not open.
  private func refuseOtherUser(_ settings: Settings) throws(CommandFailure) {
    var status = stat()
    guard geteuid() == 0, stat(settings.ledger.directory, &status) == 0, status.st_uid != 0 else { return }
    let name = getpwuid(status.st_uid).map { String(cString: $0.pointee.pw_name) } ?? String(status.st_uid)
    throw CommandFailure(
      .notPermitted, "other-user", "the ledger in \(settings.ledger.directory) belongs to \(name)", advice: "run the command as that user: sudo -u \(name) farebox ledger restore …")
  }

  private func openKeys(_ settings: Settings) throws(CommandFailure) -> KeyRing {
    do throws(KeyRingError) { return try KeyRing.open(settings.keys.directory, at: .now()) } catch { throw CommandFailure(error) }
  }

  /// The keys of a backup, where there are none: they are taken over when the backup has been proved.
  private func borrowedKeys(_ settings: Settings, _ backup: String) throws(CommandFailure) -> KeyRing {
    do throws(KeyRingError) {
      guard access("\(backup)/checkpoint.key", R_OK) == 0 else { throw .missing(file: "\(settings.keys.directory)/checkpoint.key") }
      var template = Array((FileManager.default.temporaryDirectory.path + "/farebox-keys.XXXXXX").utf8CString)
      guard mkdtemp(&template) != nil else { throw .failed(file: backup, call: "mkdtemp", errno: errno) }
      let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      try KeyRing.adopt(from: backup, into: folder, at: .now())
      return try KeyRing.open(folder, at: .now())
    } catch { throw CommandFailure(error) }
  }

  private func show(_ restoration: Restoration, _ settings: Settings) {
    let manifest = restoration.manifest
    var object: JSONObject = [
      "restored": .bool(!check), "backup": .string(manifest.time.rfc3339), "entry": .string(String(manifest.entry)),
      "lines": .string(String(manifest.lineCount)), "sessions": .integer(restoration.sessionCount),
      "replaced": .array(restoration.replaced.map { .string($0) }),
    ]
    if let abandoned = restoration.abandoned { object.set("abandoned", .string(abandoned)) }
    options.show(.object(object)) {
      if check { return ["the backup of \(manifest.time.rfc3339) is sound, and can be restored here; nothing has changed"] }
      var lines = ["the ledger is that of \(manifest.time.rfc3339) again: entry \(manifest.entry), audit line \(manifest.lineCount)"]
      lines += restoration.replaced.map { "what stood there is in \($0)" }
      lines.append("challenges from before are paid no more")
      if restoration.sessionCount > 0 {
        lines.append("\(restoration.sessionCount) sessions wait: look at `farebox session list`, then `farebox session confirm ID` or `--all`, or `farebox session close ID`")
      }
      return lines
    }
  }
}

extension CommandFailure {
  /// Runs what the ledger does, and says to people why it did not.
  static func mapping<Value>(_ settings: Settings, _ body: () throws(LedgerError) -> Value) throws(CommandFailure) -> Value {
    do throws(LedgerError) { return try body() } catch { throw CommandFailure(error, settings) }
  }

  /// What a backup or a restoration failed with.
  init(_ fault: BackupFault, _ settings: Settings) {
    let nothing = "nothing has been changed"
    switch fault {
    case .exists(let path):
      self.init(.cannotCreate, "backup-exists", "something stands at \(path) already", advice: "name another folder; --force replaces a backup, and nothing else")
    case .unreadable(let path, let code):
      self.init(
        code == ENOENT ? .noInput : code == EACCES || code == EPERM ? .notPermitted : .ioError, "backup-unreadable",
        "\(path) cannot be read: \(SystemText.of(code))", advice: code == EACCES ? "run the command as the user of the proxy" : nil)
    case .unwritable(let path, let code):
      self.init(
        code == EACCES || code == EPERM ? .notPermitted : .cannotCreate, "backup-unwritable", "\(path) cannot be written: \(SystemText.of(code))",
        advice: "a running proxy writes the copy itself: choose a folder that its user may write to, and that is not hidden from it by a sandbox")
    case .full: self.init(.cannotCreate, "disk-full", "the disk is full: there is no room for the copy", advice: "make room, or choose another disk; \(nothing)")
    case .copy(let code): self.init(.ioError, "backup-copy", "copying the database failed with SQLite's code \(code)", advice: "see whether the disk is well")
    case .slow(let path):
      self.init(
        .ioError, "backup-slow", "the copy was given up: writing \(path) takes so long that payments would wait for it",
        advice: "choose a folder on a local disk, and copy the backup elsewhere from there")
    case .abandoned:
      self.init(.unavailable, "backup-abandoned", "the copy was given up: the ledger failed, or the proxy has ended", advice: "look at the proxy's log, and repeat the command")
    case .notABackup(let path): self.init(.noInput, "not-a-backup", "there is no backup in \(path)", advice: "name the folder with the manifest.json that `farebox ledger backup` made")
    case .newerFormat(let found, let supported):
      self.init(.malformedData, "newer-backup", "the backup has format \(found); this program knows formats up to \(supported)", advice: "restore it with the newer farebox that made it")
    case .altered(let name):
      self.init(.faulty, "backup-altered", "\(name) of the backup is not what the manifest says", advice: "take another backup; \(nothing)")
    case .damaged: self.init(.faulty, "backup-damaged", "the copied database is damaged, or does not agree with what it is a copy of", advice: "take another backup; \(nothing)")
    case .audit(let defect):
      self.init(
        .faulty, "backup-audit", "the copied audit log does not verify\(defect.map { ": " + AuditReportText.words($0) } ?? ", or does not end where its ledger does")",
        advice: "`farebox audit verify` tells whether the log itself is wrong")
    case .auditBehind:
      self.init(.unavailable, "audit-behind", "the audit file cannot be written at the moment, so it does not hold every line", advice: "see the proxy's log; repeat the command when it has caught up")
    case .otherLedger(let found, let expected):
      self.init(.refused, "other-ledger", "the backup is of the ledger \(found), and this one is \(expected)", advice: "see --config and [ledger] name")
    case .otherKey:
      self.init(
        .refused, "other-keys", "the checkpoints of the backup's audit log are signed by another key than the one in \(settings.keys.directory)",
        advice: "put the keys of that ledger there first: receipts and checkpoints that it signed could not be verified otherwise")
    case .torn(let path):
      self.init(
        .malformedData, "restoration-torn", "a restoration was cut off, and cannot be carried through: \(path) is not as its plan says",
        advice: "see ledger.restore in \(settings.ledger.directory): it names where each file was and where it belongs")
    }
  }
}

/// Where a path of the command line leads.
enum BackupPath {
  static func absolute(_ path: String) -> String {
    var joined = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    while joined.count > 1, joined.hasSuffix("/") { joined.removeLast() }
    return joined
  }
}

/// Tells a person at a terminal how far a backup is.
final class BackupProgress {
  private let isShown: Bool
  private var step: Backup.Step?
  private var octets = 0
  private var shown = ""
  private var last = Instant.now()

  init(isJSON: Bool) { isShown = !isJSON && isatty(STDERR_FILENO) == 1 }

  /// Shows how many pages of the database are copied.
  func set(_ step: Backup.Step, _ done: Int, of total: Int) {
    show("\(step.words): \(total == 0 ? 0 : done * 100 / total) %")
  }

  /// Counts octets that were dealt with.
  func add(_ next: Backup.Step, _ count: Int) {
    if step != next { octets = 0 }
    octets += count
    let isNew = step != next
    step = next
    // A line for each piece would take longer than the piece.
    guard isNew || Instant.now() - last > .milliseconds(100) else { return }
    last = .now()
    show("\(next.words): \(octets >> 20) MiB")
  }

  private func show(_ text: String) {
    guard isShown, text != shown else { return }
    shown = text
    StandardError.write("\r\u{1B}[K\(text)")
  }

  /// Clears the line.
  func end() {
    if isShown, !shown.isEmpty { StandardError.write("\r\u{1B}[K") }
    shown = ""
  }
}

extension Backup.Step {
  fileprivate var words: String {
    switch self {
    case .database: "copying the ledger"
    case .audit: "copying the audit log"
    case .proving: "proving the copy"
    }
  }
}

/// Shows a backup to people.
enum BackupText {
  static func lines(_ manifest: BackupManifest, at path: String, _ settings: Settings, hasKeys: Bool) -> [String] {
    let money = Money(settings)
    let octets = manifest.files.reduce(0) { $0 + $1.octets }
    var lines = [
      "backup of \(manifest.ledger) as of \(manifest.time.rfc3339) in \(path)",
      "entry \(manifest.entry), audit log up to line \(manifest.lineCount), \(manifest.sessionCount) sessions; \(manifest.files.count) files, \(octets) octets",
      "proved: the database is sound, the books balance, the audit log verifies up to its last line",
    ]
    for books in manifest.books where books.issued > 0 {
      lines.append("\(money.account(books.currency)): \(money.words(String(books.issued), books.currency)) issued, \(money.words(String(books.wallets), books.currency)) in wallets")
    }
    lines.append(hasKeys ? "the keys of receipts and checkpoints are in it: whoever has it can sign as this proxy" : "keys are not in it: keep \(settings.keys.directory) elsewhere, and the signers' keys of chains")
    return lines
  }
}
