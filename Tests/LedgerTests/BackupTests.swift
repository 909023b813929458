import Bytes
import Crypto
import Encoding
import Glibc
import Metering
import Synchronization
import Testing

@testable import Ledger

/// A folder with folders in it, which goes with everything in it.
final class DeepFolder: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/ledger-backups.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw LedgerError.folderNotWritable(code: errno) }
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit { Self.remove(path) }

  static func remove(_ path: String) {
    for name in BackupFile.names(in: path) ?? [] {
      if BackupFile.names(in: "\(path)/\(name)") != nil { remove("\(path)/\(name)") } else { unlink("\(path)/\(name)") }
    }
    rmdir(path)
  }

  /// Every file below, with its octets.
  func files(in folder: String = "") -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for name in BackupFile.names(in: path + folder) ?? [] {
      if BackupFile.names(in: "\(path)\(folder)/\(name)") != nil {
        files.merge(self.files(in: "\(folder)/\(name)")) { first, _ in first }
      } else {
        files["\(folder)/\(name)"] = FileMap(path: "\(path)\(folder)/\(name)")?.withOctets { Array($0) } ?? []
      }
    }
    return files
  }
}

/// A ledger in a folder with deep folders, and what is done with its backups.
struct BackupFixture {
  let folder: DeepFolder
  var options: LedgerOptions
  let source: Backup.Source

  init() throws {
    folder = try DeepFolder()
    options = LedgerOptions(
      directory: "\(folder.path)/ledger", currencies: [usdc, euro], realm: "api.example.com", checkpointKey: testKey,
      auditPath: "\(folder.path)/audit.jsonl")
    options.reserveOctets = 1 << 16
    options.accounts = [base]
    source = Backup.Source(
      build: "test", realm: options.realm, auditPath: options.auditPath, checkpointKey: testKey.publicKey)
  }

  func open() throws -> Ledger { try Ledger.open(options, at: noon) }

  /// Waits for a copy's end.
  static func wait(_ ledger: Ledger) -> LedgerCopyState {
    var state = ledger.copyState
    Pause.wait {
      state = ledger.copyState
      if case .copying = state { return true }
      return false
    }
    return state
  }

  func back(up ledger: Ledger, as name: String = "backup", replaces: Bool = false) throws -> BackupManifest {
    let backup = try Backup(at: "\(folder.path)/\(name)", replaces: replaces)
    #expect(ledger.beginCopy(to: backup.databasePath))
    guard case .complete(let point) = Self.wait(ledger) else { throw LedgerError.backup(.abandoned) }
    return try backup.finish(point, of: source) { _, _ in }
  }

  func restoration(of name: String = "backup") throws -> Restoration {
    let restoration = try Restoration(of: "\(folder.path)/\(name)", options: options)
    try restoration.prepare(at: noon + .seconds(60)) { _, _ in }
    return restoration
  }

  func verify() throws -> AuditReport {
    var verifier = AuditVerifier(realm: options.realm, keys: [testKey.publicKey])
    return try verifier.verify(path: options.auditPath)
  }
}

extension Ledger {
  /// A wallet with money, a session that has spent some of it, and a channel-less chain account.
  func begin() throws -> (wallet: Digest32, session: Digest32) {
    let (wallet, session) = (id(1), id(3_000_001))
    _ = try createWallet(wallet, at: noon)
    _ = try fund(wallet, currency: "usdc", amount: 1_000_000, reference: "first", at: noon)
    try openSession(1, of: wallet)
    try spend(session, times: 3)
    return (wallet, session)
  }

  func openSession(_ number: Int, of wallet: Digest32) throws {
    let order = SessionOrder(
      challengeID: id(2_000_000 + number), sessionID: id(3_000_000 + number), wallet: wallet, deposit: 10_000,
      terms: SessionTerms(
        realm: "api.example.com", currency: "usdc", merchant: "shop",
        routes: [RouteTerms(routeID: "weather", priceVersion: Price.perRequest.version, price: .perRequest)]),
      idleTimeout: .seconds(600), expires: noon + .seconds(300))
    _ = try open(order, at: noon) { _ in [1, 2, 3] }
  }

  func spend(_ id: Digest32, times: Int) throws {
    guard let handle = session(id) else { throw Refusal.unknownSession }
    let context = DebitContext(route: label(route: "weather"), writesLine: true)
    for _ in 0..<times {
      _ = try begin(handle, cost: .of(10), context: context, at: noon)
      finish(handle, debited: .of(10), used: .of(10), units: 1, context: context, at: noon)
    }
  }

  func spent(_ id: Digest32) -> UInt128? { session(id).flatMap { view($0) }?.spent }
}

/// Says across threads that something is over.
private final class Flag: Sendable {
  private let value = Atomic<Bool>(false)
  var isSet: Bool { value.load(ordering: .relaxed) }
  func set() { value.store(true, ordering: .relaxed) }
}

@Suite struct BackupTests {
  /// While entries are committed all the time, the copy is the ledger of one commit, and the log ends with that commit's last line.
  @Test func isOfOneCommitWhileTheLedgerWorks() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    let (_, session) = try ledger.begin()
    let isOver = Flag()
    let worker = try CommitterThread {
      while !isOver.isSet { try? ledger.spend(session, times: 1) }
    }
    // Enough pages for several steps.
    for number in 2..<2_000 { _ = try ledger.createWallet(id(number), at: noon) }
    for round in 0..<5 {
      let manifest = try fixture.back(up: ledger, replaces: round > 0)
      #expect(manifest.lineCount > 2_000 && manifest.sessionCount == 1 && manifest.books.count == 3)
      #expect(manifest.books.allSatisfy { $0.sum == 0 } && manifest.books[0].issued == 1_000_000)
      #expect(Set(BackupFile.names(in: "\(fixture.folder.path)/backup") ?? []) == Set(manifest.files.map(\.name) + ["manifest.json"]))
      if round == 2 { ledger.rotate() }
    }
    isOver.set()
    worker.join()
    #expect(ledger.verify().isBalanced)
    ledger.close()
    #expect(try fixture.verify().isValid)
    #expect(fixture.folder.files().keys.filter { $0.contains("unfinished") || $0.contains("replaced") }.isEmpty)
  }

  @Test func everyFileIsItsOwnersAlone() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    _ = try ledger.begin()
    let manifest = try fixture.back(up: ledger)
    ledger.close()
    for name in manifest.files.map(\.name) + ["manifest.json"] {
      var status = stat()
      #expect(stat("\(fixture.folder.path)/backup/\(name)", &status) == 0 && status.st_mode & 0o777 == 0o600)
    }
    // Times are whole seconds there.
    #expect(try BackupManifest(folder: "\(fixture.folder.path)/backup").json == manifest.json)
  }

  @Test func replacesNothingButABackupThatItIsToldTo() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    defer { ledger.close() }
    _ = try ledger.begin()
    let path = "\(fixture.folder.path)/backup"
    mkdir(path, 0o700)
    _ = try fixture.back(up: ledger)
    #expect(throws: LedgerError.backup(.exists(path))) { try Backup(at: path, replaces: false) }
    _ = try fixture.back(up: ledger, replaces: true)
    let other = "\(fixture.folder.path)/ledger"
    #expect(throws: LedgerError.backup(.exists(other))) { try Backup(at: other, replaces: true) }
    let nowhere = "\(fixture.folder.path)/nowhere/backup"
    #expect(throws: LedgerError.backup(.unwritable(nowhere + ".unfinished", code: ENOENT))) { try Backup(at: nowhere, replaces: false) }
  }

  @Test func aCopyThatFailsHarmsNothing() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    defer { ledger.close() }
    let (_, session) = try ledger.begin()
    let path = "\(fixture.folder.path)/nowhere/ledger.db"
    #expect(ledger.beginCopy(to: path))
    #expect(BackupFixture.wait(ledger) == .failed(.backup(.unwritable(path, code: ENOENT))))
    let taken = "\(fixture.folder.path)/taken"
    mkdir(taken, 0o700)
    #expect(ledger.beginCopy(to: taken))
    #expect(BackupFixture.wait(ledger) == .failed(.backup(.unwritable(taken, code: EEXIST))))
    try ledger.spend(session, times: 2)
    #expect(ledger.awaitDurable(ledger.applied) && ledger.availability == .selling)
    _ = try fixture.back(up: ledger)
  }

  /// The ledger fails while it is copied: the copy is given up, the ledger is read back.
  @Test func aFailedCommitEndsTheCopy() throws {
    let fixture = try BackupFixture()
    let plan = FaultPlan()
    let path = "\(fixture.options.directory)/ledger.db"
    let ledger = try Ledger.open(fixture.options, at: noon) { () throws(LedgerError) -> any Store in try FaultyStore(path: path, plan: plan) }
    defer { ledger.close() }
    let (_, session) = try ledger.begin()
    #expect(ledger.awaitDurable(ledger.applied))
    plan.holdCopy(true)
    #expect(ledger.beginCopy(to: "\(fixture.folder.path)/copy.db"))
    Pause.wait { plan.copySteps == 0 }
    plan.arm(.before(.store(code: 10)))
    try ledger.spend(session, times: 1)
    #expect(BackupFixture.wait(ledger) == .failed(.backup(.abandoned)))
    plan.holdCopy(false)
    Pause.wait { ledger.availability != .selling }
    unlink("\(fixture.folder.path)/copy.db")
    _ = try fixture.back(up: ledger)
  }

  /// A link that somebody has planted leads a backup nowhere, and a folder that it did not make keeps what is in it.
  @Test func linksAreNotFollowed() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    defer { ledger.close() }
    _ = try ledger.begin()
    let (path, other) = ("\(fixture.folder.path)/backup", "\(fixture.folder.path)/other")
    _ = try fixture.back(up: ledger, as: "other")
    let before = fixture.folder.files(in: "/other")
    for end in [".unfinished", ".replaced", ""] {
      #expect(symlink(other, path + end) == 0)
      #expect(throws: LedgerError.self) {
        if end == ".replaced" { _ = try fixture.back(up: ledger) }
        _ = try fixture.back(up: ledger, replaces: true)
      }
      #expect(fixture.folder.files(in: "/other") == before)
      unlink(path + end)
      DeepFolder.remove(path)
      DeepFolder.remove(path + ".unfinished")
    }
    mkdir(path + ".unfinished", 0o700)
    try BackupFile.write([1], to: path + ".unfinished/mine")
    #expect(throws: LedgerError.backup(.exists(path + ".unfinished"))) { try Backup(at: path, replaces: false) }
    #expect(BackupFile.exists(path + ".unfinished/mine"))
  }

  @Test func twoBackupsOfOnePlaceDoNotMeet() throws {
    let fixture = try BackupFixture()
    let path = "\(fixture.folder.path)/backup"
    do {
      let first = try Backup(at: path, replaces: false)
      try BackupFile.write([1], to: first.databasePath)
      #expect(throws: LedgerError.backup(.exists(first.folder))) { try Backup(at: path, replaces: false) }
      #expect(BackupFile.exists(first.databasePath))
    }
    // What one that has ended has left is cleared away.
    let second = try Backup(at: path, replaces: false)
    #expect(BackupFile.names(in: second.folder) == [])
  }

  /// What root makes, the ledger's user can read.
  @Test(.enabled(if: geteuid() == 0)) func givesEveryFileToTheLedgersOwner() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    defer { ledger.close() }
    _ = try ledger.begin()
    #expect(chown(fixture.options.directory, 12_345, 12_346) == 0)
    let backup = try Backup(at: "\(fixture.folder.path)/backup", replaces: false)
    try backup.give(toOwnerOf: fixture.options.directory)
    #expect(ledger.beginCopy(to: backup.databasePath))
    guard case .complete(let point) = BackupFixture.wait(ledger) else { throw LedgerError.backup(.abandoned) }
    let manifest = try backup.finish(point, of: fixture.source) { _, _ in }
    for name in manifest.files.map({ "/" + $0.name }) + ["/manifest.json", ""] {
      var status = stat()
      #expect(lstat(backup.path + name, &status) == 0 && status.st_uid == 12_345 && status.st_gid == 12_346, "\(name)")
    }
  }

  @Test func aDiskThatIsSlowEndsTheCopyAndAHiccupDoesNot() {
    var copy = LedgerCopying(path: "/a")
    let now = Instant.now()
    for duration in [300, 300, 1, 300, 300] {
      copy.took(.milliseconds(duration), until: now)
      #expect(!copy.isTooSlow && copy.next == now + .milliseconds(duration))
    }
    copy.took(.milliseconds(300), until: now)
    #expect(copy.isTooSlow)
  }

  @Test func oneCopyAtATime() throws {
    let order = LedgerCopyOrder()
    #expect(order.begin("/a"))
    #expect(!order.begin("/b"))
    #expect(order.take() == "/a" && order.take() == nil)
    order.fail(.backup(.full))
    #expect(order.progress == .failed(.backup(.full)))
    #expect(order.begin("/b"))
    order.set(.complete(LedgerCopyPoint(entry: 1, time: noon, lineCount: 1, lastLine: Digest32())))
    // What is whole stays so.
    order.fail(.backup(.full))
    #expect(order.begin("/c"))
  }
}
