public import Crypto
import Encoding
import Glibc

/// Makes a backup beside a running ledger: copies the audit log up to the point of a copy of the database, proves both, and puts a manifest beside
/// them. The backup is made in a folder of its own and appears in its place when it is whole.
public struct Backup {
  /// Who makes it, and of what.
  public struct Source: Sendable {
    public var build: String
    /// The ledger's name, which is its audit log's.
    public var realm: String
    public var auditPath: String
    public var checkpointKey: Ed25519.PublicKey

    public init(build: String, realm: String, auditPath: String, checkpointKey: Ed25519.PublicKey) {
      self.build = build
      self.realm = realm
      self.auditPath = auditPath
      self.checkpointKey = checkpointKey
    }
  }

  /// What is being done, and how much of it, in octets; the total is 0 where it is not known.
  public enum Step: String, Sendable {
    case database, audit, proving
  }

  /// Where the backup is to stand, and where it is made.
  public let path: String
  public let folder: String
  private let replaces: Bool
  private let place: BackupPlace

  /// The file that the committer copies the database to.
  public var databasePath: String { "\(folder)/\(BackupManifest.databaseName)" }

  /// Makes the folder that the backup is made in, `<path>.unfinished`.
  ///
  /// - Parameter replaces: whether a backup that stands at the path is replaced; anything else never is.
  /// - Throws: `exists`, also where another backup is being made there; `unwritable`.
  public init(at path: String, replaces: Bool) throws(LedgerError) {
    self.path = path
    self.replaces = replaces
    folder = path + ".unfinished"
    try Self.check(path, replaces: replaces)
    place = try BackupPlace(folder)
  }

  /// Refuses a place where something stands; an empty folder may.
  private static func check(_ path: String, replaces: Bool) throws(LedgerError) {
    guard BackupFile.exists(path) else { return }
    if let names = BackupFile.names(in: path) {
      if names.isEmpty { return }
      if replaces, (try? BackupManifest(folder: path)) != nil { return }
    }
    throw .backup(.exists(path))
  }

  /// Gives the folder to whoever owns the ledger's: root makes backups of a proxy that is another user.
  public func give(toOwnerOf path: String) throws(LedgerError) {
    var status = stat()
    guard geteuid() == 0, stat(path, &status) == 0 else { return }
    try place.give(to: status.st_uid, status.st_gid)
  }

  /// Octets that are left free on the ledger's own disk: a backup must not stop what is sold.
  private static let margin: UInt64 = 64 << 20

  /// Refuses a disk that has no room for the copy; where it is the ledger's own, some has to be left.
  public func checkRoom(forLedgerIn directory: String, auditPath: String) throws(LedgerError) {
    var (status, target) = (stat(), stat())
    var needed: UInt64 = 0
    for path in ["\(directory)/\(BackupManifest.databaseName)"] + AuditFiles.all(of: auditPath) where stat(path, &status) == 0 {
      needed += UInt64(max(0, status.st_size))
    }
    if stat(directory, &status) == 0, stat(folder, &target) == 0, status.st_dev == target.st_dev { needed += Self.margin }
    guard DiskReserve(path: "", folder: folder, octets: 0).free() ?? .max >= needed else { throw .backup(.full) }
  }

  /// Removes what was made of it.
  public func abandon() { BackupPlace.remove(folder) }

  /// Finishes the backup after the database was copied.
  ///
  /// - Parameters:
  ///   - keys: key files that it is to hold, beside the manifest.
  ///   - progress: told how many octets more were dealt with.
  public func finish(
    _ point: LedgerCopyPoint, of source: Source, keys: [String] = [], progress: (Step, Int) -> Void
  ) throws(LedgerError) -> BackupManifest {
    var files = try copyAudit(source.auditPath, lines: point.lineCount) { progress(.audit, $0) }
    for path in keys {
      let name = path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
      let descriptor = try BackupFile.open(path)
      defer { Glibc.close(descriptor) }
      let copied = try BackupFile.copy(descriptor, named: path, to: "\(folder)/\(name)")
      files.append(BackupManifest.File(name: name, octets: copied.octets, digest: copied.digest))
    }
    let proof = try BackupProof(database: databasePath)
    try BackupFile.checkFolded(databasePath)
    try proof.prove(point, folder: folder, realm: source.realm, key: source.checkpointKey)
    // Reading it may have moved octets within the file, so it is digested, and put on the disk, after that.
    let database = try BackupFile.open(databasePath)
    defer { Glibc.close(database) }
    guard fsync(database) == 0 else { throw BackupFile.unwritable(databasePath) }
    let copied = try BackupFile.digest(databasePath) { progress(.proving, $0) }
    files.insert(BackupManifest.File(name: BackupManifest.databaseName, octets: copied.octets, digest: copied.digest), at: 0)
    let manifest = BackupManifest(
      build: source.build, schema: Int(SQLiteSchema.version), time: point.time, ledger: source.realm, point: point, checkpoint: proof.checkpoint,
      verifier: SignedNote.verifierKey(name: "\(source.realm)/audit", key: source.checkpointKey) ?? "", books: proof.books.balances,
      sessionCount: proof.sessionCount, files: files)
    try BackupFile.write(JSON.serialize(.object(manifest.json), pretty: true), to: "\(folder)/\(BackupManifest.name)")
    try place.giveFiles()
    try install()
    return manifest
  }

  /// Copies the audit log up to a line. Its files may be renamed meanwhile, but none is changed but by appending.
  private func copyAudit(_ path: String, lines: UInt64, progress: (Int) -> Void) throws(LedgerError) -> [BackupManifest.File] {
    // The current file first: if it is renamed after that, it is found a second time, and left out.
    var sources: [(path: String, descriptor: Int32)] = []
    defer { for source in sources { Glibc.close(source.descriptor) } }
    let current = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard current >= 0 || errno == ENOENT else { throw .backup(.unreadable(path, code: errno)) }
    for renamed in AuditFiles.renamed(beside: path) { sources.append((renamed, try BackupFile.open(renamed))) }
    if current >= 0 {
      if sources.contains(where: { Self.isSame($0.descriptor, current) }) { Glibc.close(current) } else { sources.append((path, current)) }
    }
    var files: [BackupManifest.File] = []
    let base = AuditBase.path(of: path)
    if BackupFile.exists(base) {
      let descriptor = try BackupFile.open(base)
      defer { Glibc.close(descriptor) }
      let copied = try BackupFile.copy(descriptor, named: base, to: "\(folder)/\(BackupManifest.baseName)")
      files.append(BackupManifest.File(name: BackupManifest.baseName, octets: copied.octets, digest: copied.digest))
    }
    for source in sources {
      guard let first = try Self.firstSequence(source.descriptor, source.path), first <= lines else { continue }
      let digits = String(first)
      let name = "\(BackupManifest.auditName).\(String(repeating: "0", count: 20 - digits.count))\(digits)"
      let copied = try BackupFile.copy(
        source.descriptor, named: source.path, to: "\(folder)/\(name)", lines: lines - first + 1, progress: progress)
      files.append(BackupManifest.File(name: name, octets: copied.octets, digest: copied.digest))
    }
    return files
  }

  private static func isSame(_ a: Int32, _ b: Int32) -> Bool {
    var (first, second) = (stat(), stat())
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_ino == second.st_ino && first.st_dev == second.st_dev
  }

  /// The sequence of a file's first line; nil where it has none.
  private static func firstSequence(_ descriptor: Int32, _ path: String) throws(LedgerError) -> UInt64? {
    var octets = [UInt8](repeating: 0, count: AuditFile.lineLimit)
    let count = pread(descriptor, &octets, octets.count, 0)
    guard count >= 0 else { throw .backup(.unreadable(path, code: errno)) }
    guard let end = octets[..<count].firstIndex(of: 0x0A) else { return nil }
    guard let sequence = octets[..<end].withUnsafeBytes({ AuditLine(scanning: $0)?.sequence }) else { throw .backup(.audit(nil)) }
    return sequence
  }

  /// Moves the whole backup to its place.
  private func install() throws(LedgerError) {
    try synchroniseFolder(of: "\(folder)/")
    // Somebody may have put something there meanwhile.
    try Self.check(path, replaces: replaces)
    let former = path + ".replaced"
    if BackupFile.names(in: path)?.isEmpty == false {
      BackupPlace.remove(former)
      guard rename(path, former) == 0 else { throw BackupFile.unwritable(path) }
    }
    guard rename(folder, path) == 0 else { throw BackupFile.unwritable(path) }
    try synchroniseFolder(of: path)
    BackupPlace.remove(former)
  }
}
