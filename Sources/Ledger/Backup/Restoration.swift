import Crypto
public import Encoding
import Glibc

/// Brings a backup back into the ledger's folder.
///
/// Everything is prepared beside the present files: the copy is proved, opened, its sessions are stopped and the line that tells of it is
/// written. Then files are only renamed, by a plan that is on the disk before the first of them is: a crash leaves the old ledger or, from then
/// on, a plan that the next opening carries out. Nothing is deleted; what stood there is moved to `replaced-<time>`.
public final class Restoration: @unchecked Sendable {
  // Safe because: one thread makes it, prepares and installs; nothing is shared.
  public let manifest: BackupManifest
  private let backup: String
  private let options: LedgerOptions
  private let lock: LockFile
  private(set) var plan = RestorationPlan()
  /// Where the present files are moved to.
  public private(set) var replaced: [String] = []
  /// How many sessions wait to be confirmed.
  public private(set) var sessionCount: UInt64 = 0
  /// The last line of the present log, which is given up.
  public private(set) var abandoned: String?

  /// Takes the ledger's lock, which a running proxy has, and reads the backup's manifest. An earlier restoration that a crash cut off is
  /// finished first.
  ///
  /// - Throws: `locked`, what reading a manifest throws, `otherLedger`, `newerVersion`.
  public init(of backup: String, options: LedgerOptions) throws(LedgerError) {
    guard AuditNote.isOrigin(options.origin) else { throw .malformedRealm }
    try prepareFolder(options.directory)
    lock = try LockFile(path: "\(options.directory)/ledger.lock")
    _ = try RestorationPlan.finish(in: options.directory)
    self.backup = backup
    self.options = options
    manifest = try BackupManifest(folder: backup)
    guard manifest.ledger == options.realm else { throw .backup(.otherLedger(found: manifest.ledger, expected: options.realm)) }
    guard manifest.schema <= Int(SQLiteSchema.version) else {
      throw .newerVersion(found: Int32(clamping: manifest.schema), supported: Int32(SQLiteSchema.version), build: manifest.build)
    }
  }

  /// Removes what was prepared, where it was not installed.
  deinit {
    if isForgotten { return }
    clean()
    // Those that were filled stay.
    for folder in replaced { rmdir(folder) }
  }

  /// Leaves everything as a crash would.
  func forget() { isForgotten = true }
  private var isForgotten = false

  private var staging: String { "\(options.directory)/restoring" }
  private var auditStaging: String { "\(options.auditPath).restoring" }
  private var auditName: String {
    options.auditPath.lastIndex(of: "/").map { String(options.auditPath[options.auditPath.index(after: $0)...]) } ?? options.auditPath
  }

  private func clean() {
    BackupFile.remove(folder: staging)
    BackupFile.remove(folder: auditStaging)
  }

  // MARK: preparing

  /// Copies and proves the backup, and makes of it the ledger that is to be: sessions stopped, its line written.
  ///
  /// - Parameter progress: told how many octets more were dealt with.
  /// - Throws: what is wrong with the backup or its files; the present ledger is as it was.
  public func prepare(at now: Timestamp, progress: (Backup.Step, Int) -> Void) throws(LedgerError) {
    clean()
    for folder in [staging, auditStaging] { guard mkdir(folder, 0o700) == 0 else { throw BackupFile.unwritable(folder) } }
    for file in manifest.files where BackupManifest.keyNames.contains(file.name) { try check(file, at: "\(backup)/\(file.name)") }
    if manifest.files.contains(where: { $0.name == BackupManifest.baseName }) {
      try stage(BackupManifest.baseName, as: "\(auditStaging)/\(AuditBase.path(of: auditName))") { _ in }
    }
    let kept = try stageAudit { progress(.audit, $0) }
    try stage(BackupManifest.databaseName, as: "\(staging)/\(BackupManifest.databaseName)") { progress(.database, $0) }
    progress(.proving, 0)
    let point = LedgerCopyPoint(entry: manifest.entry, time: manifest.time, lineCount: manifest.lineCount, lastLine: manifest.lastLine)
    let proof = try BackupProof(database: "\(staging)/\(BackupManifest.databaseName)")
    try proof.prove(point, folder: backup, realm: options.realm, key: options.checkpointKey.publicKey)
    guard proof.books.balances == manifest.books else { throw .backup(.damaged) }
    abandoned = Self.end(of: options.auditPath)
    try stop(at: now)
    try makePlan(at: now, keeping: kept)
  }

  private func check(_ file: BackupManifest.File, at path: String) throws(LedgerError) {
    let found = try BackupFile.digest(path)
    guard found.octets == file.octets, found.digest == file.digest else { throw .backup(.altered(file.name)) }
  }

  /// Copies a file of the backup, and holds it against the manifest.
  private func stage(_ name: String, as path: String, progress: (Int) -> Void) throws(LedgerError) {
    guard let file = manifest.files.first(where: { $0.name == name }) else { throw .backup(.altered(name)) }
    let descriptor = try BackupFile.open("\(backup)/\(name)")
    defer { Glibc.close(descriptor) }
    let copied = try BackupFile.copy(descriptor, named: name, to: path, progress: progress)
    guard copied.octets == file.octets, copied.digest == file.digest else { throw .backup(.altered(name)) }
  }

  /// Copies the audit files, but for those that stand in their place already: what is finished never changes. Returns the names of the latter.
  private func stageAudit(progress: (Int) -> Void) throws(LedgerError) -> Set<String> {
    var kept: Set<String> = []
    let files = manifest.audit
    for (index, file) in files.enumerated() {
      let name = auditName + file.name.dropFirst(BackupManifest.auditName.count)
      let present = options.auditPath + file.name.dropFirst(BackupManifest.auditName.count)
      // The last one tells the ledger that is prepared where to go on.
      if index < files.count - 1, let found = try? BackupFile.digest(present), found.octets == file.octets, found.digest == file.digest {
        try check(file, at: "\(backup)/\(file.name)")
        kept.insert(name)
      } else {
        try stage(file.name, as: "\(auditStaging)/\(name)", progress: progress)
      }
    }
    return kept
  }

  /// The end of a log, as `<sequence>:<SHA-256>` of its last whole line.
  private static func end(of path: String) -> String? {
    for file in AuditFiles.all(of: path).reversed() {
      guard let map = FileMap(path: file) else { continue }
      let found = map.withOctets { octets -> String? in
        guard let end = octets.lastIndex(of: 0x0A) else { return nil }
        let start = octets[..<end].lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        let line = UnsafeRawBufferPointer(rebasing: octets[start..<end])
        return AuditLine(scanning: line)?.sequence.map { "\($0):\(SHA256.hash(line).hex)" }
      }
      if let found { return found }
    }
    return nil
  }

  /// Opens the copy, stops its sessions, and writes the line: the log goes on with it in a file of its own.
  private func stop(at now: Timestamp) throws(LedgerError) {
    var options = options
    options.directory = staging
    options.auditPath = "\(auditStaging)/\(auditName)"
    options.reserveOctets = 0
    options.recordsLifecycle = false
    options.sweeps = false
    options.auditRetention = nil
    options.chargeRetention = nil
    options.ship = nil
    options.notify = nil
    let ledger = try Ledger.open(options, at: now)
    do throws(Refusal) {
      defer { ledger.close() }
      let (lsn, count) = try ledger.restored(from: "backup of \(manifest.time.rfc3339)", abandoned: abandoned, at: now)
      sessionCount = count
      guard ledger.awaitDurable(lsn) else { throw .unavailable }
    } catch { throw .backup(.abandoned) }
    try BackupFile.checkFolded("\(staging)/\(BackupManifest.databaseName)")
  }

  // MARK: installing

  /// Lists what is to be renamed: the present files out of the way, then the prepared ones into their places.
  private func makePlan(at now: Timestamp, keeping kept: Set<String>) throws(LedgerError) {
    let stamp = now.rfc3339.filter { $0 != "-" && $0 != ":" }.prefix { $0 != "." }
    let auditFolder = String(options.auditPath.dropLast(auditName.count + 1))
    let asides = Self.newFolders("replaced-\(stamp)", in: [options.directory, auditFolder])
    let present = ["ledger.db", "ledger.db-wal", "ledger.db-shm"].filter { BackupFile.exists("\(options.directory)/\($0)") }
    let base = [AuditBase.path(of: options.auditPath)].filter { BackupFile.exists($0) }
    let log = (AuditFiles.all(of: options.auditPath) + base).map { String($0.dropFirst(auditFolder.count + 1)) }.filter { !kept.contains($0) }
    for (folder, names) in [(asides[0], present), (asides[1], log)] where !names.isEmpty && !replaced.contains(folder) {
      guard mkdir(folder, 0o700) == 0 else { throw BackupFile.unwritable(folder) }
      replaced.append(folder)
    }
    plan.aside = present.map { ("\(options.directory)/\($0)", "\(asides[0])/\($0)") } + log.map { ("\(auditFolder)/\($0)", "\(asides[1])/\($0)") }
    plan.install = [("\(staging)/ledger.db", "\(options.directory)/ledger.db")]
    for name in (BackupFile.names(in: auditStaging) ?? []).sorted() { plan.install.append(("\(auditStaging)/\(name)", "\(auditFolder)/\(name)")) }
    // What a plan finds in its way it takes for its own work.
    let leaving = Set(plan.aside.map(\.from))
    for move in plan.aside + plan.install where BackupFile.exists(move.to) && !leaving.contains(move.to) { throw .backup(.exists(move.to)) }
    for (from, _) in plan.install {
      let descriptor = try BackupFile.open(from)
      defer { Glibc.close(descriptor) }
      guard fsync(descriptor) == 0 else { throw BackupFile.unwritable(from) }
    }
    for folder in [staging, auditStaging] + replaced { try synchroniseFolder(of: "\(folder)/") }
  }

  /// Paths in two folders under one name that neither of them has: restorations may follow each other within a second.
  private static func newFolders(_ name: String, in folders: [String]) -> [String] {
    var (paths, number) = (folders.map { "\($0)/\(name)" }, 1)
    while paths.contains(where: { BackupFile.exists($0) }) {
      number += 1
      paths = folders.map { "\($0)/\(name)-\(number)" }
    }
    return paths
  }

  /// Puts the prepared ledger in the present one's place. From here on a crash is carried through, not undone.
  ///
  /// - Throws: what the system refused. Where the plan stands by then, what it needs stays, and the next opening carries it out.
  public func install() throws(LedgerError) {
    isForgotten = true
    do throws(LedgerError) { try plan.write(in: options.directory) } catch {
      // A plan that was not begun needs nothing.
      isForgotten = RestorationPlan.waits(in: options.directory)
      throw error
    }
    _ = try RestorationPlan.finish(in: options.directory)
    clean()
  }
}
