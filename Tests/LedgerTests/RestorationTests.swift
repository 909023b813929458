import Bytes
import Encoding
import Glibc
import Testing

@testable import Ledger

@Suite struct RestorationTests {
  /// A backup, and a ledger that has gone on after it.
  private func prepared() throws -> BackupFixture {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    let (wallet, session) = try ledger.begin()
    ledger.rotate()
    try ledger.spend(session, times: 2)
    _ = try fixture.back(up: ledger)
    try ledger.spend(session, times: 40)
    try ledger.openSession(2, of: wallet)
    ledger.close()
    return fixture
  }

  private func events(_ fixture: BackupFixture) throws -> [JSONValue] {
    let files = fixture.folder.files()
    return try files.keys.filter { $0.hasPrefix("/audit.jsonl") }.sorted { a, b in
      // The current file has no sequence behind its name.
      a != "/audit.jsonl" && (b == "/audit.jsonl" || a < b)
    }.flatMap { try files[$0]!.split(separator: 0x0A).map { try JSON.parse(Array($0)) } }
  }

  @Test func bringsTheBackupBackWithItsSessionsStopped() throws {
    let fixture = try prepared()
    var abandoned = ""
    do {
      let restoration = try fixture.restoration()
      #expect(restoration.sessionCount == 1 && restoration.manifest.sessionCount == 1)
      abandoned = try #require(restoration.abandoned)
      try restoration.install()
      _ = withExtendedLifetime(restoration) {
        // A proxy that was started too early finds it locked.
        #expect(throws: LedgerError.locked(process: getpid())) { try fixture.open() }
      }
    }
    try check(fixture, abandoned: abandoned)
  }

  private func check(_ fixture: BackupFixture, abandoned: String) throws {
    let ledger = try fixture.open()
    let session = id(3_000_001)
    #expect(ledger.spent(session) == 50 && ledger.session(id(3_000_002)) == nil)
    #expect(ledger.walletView(id(1))?.accounts[0].balance == 990_000 && ledger.verify().isBalanced)
    let handle = try #require(ledger.session(session))
    #expect(ledger.view(handle)?.state == .suspended)
    #expect(throws: Refusal.sessionUnconfirmed) { try ledger.spend(session, times: 1) }
    #expect(throws: Refusal.sessionUnconfirmed) { try ledger.beginClose(handle, cause: .payer, at: noon) }
    // A start that comes later changes nothing about that.
    ledger.close()
    let again = try fixture.open()
    #expect(throws: Refusal.sessionUnconfirmed) { try again.spend(session, times: 1) }
    #expect(try again.confirm(session, at: noon) > 0)
    #expect(try again.confirm(session, at: noon) == 0)
    try again.spend(session, times: 1)
    #expect(again.spent(session) == 60)
    #expect(throws: Refusal.unknownSession) { try again.confirm(id(3_000_002), at: noon) }
    again.close()
    let report = try fixture.verify()
    #expect(report.isValid && report.isWhole)
    let lines = try events(fixture)
    let line = try #require(lines.first { $0["event"] == "ledger.restored" })
    #expect(line["count"] == "1" && line["reference"]?.stringValue == abandoned && line["cause"]?.stringValue?.hasPrefix("backup of ") == true)
    #expect(lines.contains { $0["event"] == "session.confirmed" && $0["session"]?.stringValue == session.hex })
    // What stood there is kept, and still is a log of its own.
    let kept = fixture.folder.files().keys.filter { $0.contains("/replaced-") }
    #expect(kept.contains { $0.hasSuffix("/ledger.db") } && kept.contains { $0.hasSuffix("/audit.jsonl") })
  }

  /// Wherever a crash stops it: the next opening finds the old ledger, or the new one whole.
  @Test(arguments: 0..<12) func isCarriedThroughAfterACrash(step: Int) throws {
    let fixture = try prepared()
    var moves: [RestorationPlan.Move] = []
    var abandoned = ""
    do {
      let restoration = try fixture.restoration()
      abandoned = try #require(restoration.abandoned)
      try restoration.plan.write(in: fixture.options.directory)
      moves = restoration.plan.aside + restoration.plan.install
      for move in moves.prefix(step) { #expect(rename(move.from, move.to) == 0) }
      // The process ends here: nothing prepared is taken away.
      restoration.forget()
    }
    #expect(moves.count >= 5)
    try check(fixture, abandoned: abandoned)
    #expect(!RestorationPlan.waits(in: fixture.options.directory))
  }

  /// Something fails while files are renamed: what the plan needs stays, and the next opening finishes it.
  @Test(arguments: [false, true]) func whatFailsWhileInstallingIsCarriedThroughLater(atTheEnd: Bool) throws {
    let fixture = try prepared()
    var abandoned = ""
    var hindrance = ""
    do {
      let restoration = try fixture.restoration()
      abandoned = try #require(restoration.abandoned)
      // A folder that is in the way of the first, or the last file.
      hindrance = try #require(atTheEnd ? restoration.plan.install.last : restoration.plan.install.first).to
      if let move = restoration.plan.aside.first(where: { $0.from == hindrance }) { #expect(rename(move.from, move.to) == 0) }
      mkdir(hindrance, 0o700)
      try BackupFile.write([1], to: "\(hindrance)/file")
      #expect(throws: LedgerError.backup(.torn(hindrance))) { try restoration.install() }
    }
    #expect(RestorationPlan.waits(in: fixture.options.directory))
    #expect(throws: LedgerError.backup(.torn(hindrance))) { try fixture.open() }
    DeepFolder.remove(hindrance)
    try check(fixture, abandoned: abandoned)
  }

  /// What was prepared stands in its place already, and the folder it was prepared in is gone.
  @Test func aPlanWhoseFoldersAreGoneIsDone() throws {
    let fixture = try prepared()
    var abandoned = ""
    do {
      let restoration = try fixture.restoration()
      abandoned = try #require(restoration.abandoned)
      try restoration.plan.write(in: fixture.options.directory)
      for move in restoration.plan.aside + restoration.plan.install { #expect(rename(move.from, move.to) == 0) }
      restoration.forget()
    }
    DeepFolder.remove("\(fixture.options.directory)/restoring")
    DeepFolder.remove("\(fixture.options.auditPath).restoring")
    try check(fixture, abandoned: abandoned)
  }

  /// Within one second, each keeps what it replaces in folders of its own.
  @Test func severalInARowKeepEverything() throws {
    let fixture = try prepared()
    var folders: Set<String> = []
    var abandoned = ""
    for _ in 0..<3 {
      let restoration = try fixture.restoration()
      abandoned = try #require(restoration.abandoned)
      #expect(restoration.replaced.count == 2 && folders.isDisjoint(with: restoration.replaced))
      folders.formUnion(restoration.replaced)
      try restoration.install()
    }
    for folder in folders { #expect(BackupFile.names(in: folder)?.isEmpty == false) }
    try check(fixture, abandoned: abandoned)
  }

  /// A channel that is confirmed waits until the watch has seen it: its opening may have been gone.
  @Test(arguments: [false, true]) func aConfirmedChannelWaitsForTheChain(all: Bool) throws {
    let fixture = try LedgerFixture()
    defer { fixture.ledger.close() }
    let ledger = fixture.ledger
    let handle = try fixture.openChannel(1, voucher: 500)
    let id = fixture.channelID(1)
    _ = try ledger.suspend(id, true, at: noon)
    _ = try ledger.restored(from: "test", abandoned: nil, at: noon)
    let before = try #require(ledger.channel(id))
    #expect(before.phase == .unconfirmed)
    if all { #expect(try ledger.confirmAll(at: noon).count == 1) } else { #expect(try ledger.confirm(id, at: noon) > 0) }
    let after = try #require(ledger.channel(id))
    #expect(after.phase == .suspended && after.changed > before.changed)
    #expect(throws: Refusal.channelSuspended) { try fixture.use(handle, 10) }
    _ = try ledger.suspend(id, false, at: noon)
    try fixture.use(handle, 10)
  }

  @Test func aCrashBeforeThePlanLeavesTheOldLedger() throws {
    let fixture = try prepared()
    do { try fixture.restoration().forget() }
    let ledger = try fixture.open()
    #expect(ledger.spent(id(3_000_001)) == 450 && ledger.session(id(3_000_002)) != nil)
    ledger.close()
    // What it has left behind is in nobody's way.
    let restoration = try fixture.restoration()
    try restoration.install()
  }

  @Test func whatWasPreparedAndNotInstalledGoes() throws {
    let fixture = try prepared()
    let before = fixture.folder.files().filter { !$0.key.hasSuffix("ledger.lock") }
    do { _ = try fixture.restoration() }
    let after = fixture.folder.files().filter { !$0.key.hasSuffix("ledger.lock") }
    #expect(after == before)
  }

  @Test func restoresIntoAnEmptyFolder() throws {
    let fixture = try prepared()
    for name in BackupFile.names(in: fixture.folder.path) ?? [] where name != "backup" {
      DeepFolder.remove("\(fixture.folder.path)/\(name)")
      unlink("\(fixture.folder.path)/\(name)")
    }
    let restoration = try fixture.restoration()
    #expect(restoration.abandoned == nil && restoration.replaced.isEmpty)
    try restoration.install()
  }

  /// Whatever octet of a backup is another one: it is refused, and the present ledger is as it was.
  @Test func refusesABackupThatWasAltered() throws {
    let fixture = try prepared()
    let manifest = try BackupManifest(folder: "\(fixture.folder.path)/backup")
    let before = fixture.folder.files().filter { !$0.key.hasPrefix("/backup") && !$0.key.hasSuffix("ledger.lock") }
    for file in manifest.files {
      let path = "\(fixture.folder.path)/backup/\(file.name)"
      let octets = FileMap(path: path)!.withOctets { Array($0) }
      for place in [0, octets.count / 2, octets.count - 1] {
        var altered = octets
        altered[place] ^= 1
        try write(altered, to: path)
        #expect(throws: LedgerError.backup(.altered(file.name))) { try fixture.restoration() }
      }
      try write(Array(octets.dropLast()), to: path)
      #expect(throws: LedgerError.backup(.altered(file.name))) { try fixture.restoration() }
      unlink(path)
      #expect(throws: LedgerError.self) { try fixture.restoration() }
      try write(octets, to: path)
    }
    let after = fixture.folder.files().filter { !$0.key.hasPrefix("/backup") && !$0.key.hasSuffix("ledger.lock") }
    #expect(after == before)
    try fixture.restoration().install()
  }

  /// A manifest whose digests were made to fit does not make a false copy a true one.
  @Test func refusesACopyThatDoesNotProve() throws {
    let fixture = try prepared()
    let folder = "\(fixture.folder.path)/backup"
    var manifest = try BackupManifest(folder: folder)
    let path = "\(folder)/ledger.db"
    let connection = try SQLiteConnection(path: path)
    try connection.execute(
      "UPDATE record SET image = substr(image, 1, 45) || x'01' || substr(image, 47) WHERE kind = \(RecordKind.wallet.rawValue)")
    connection.close()
    let found = try BackupFile.digest(path)
    manifest.files = manifest.files.map { file in
      file.name == "ledger.db" ? BackupManifest.File(name: file.name, octets: found.octets, digest: found.digest) : file
    }
    try BackupFile.write(JSON.serialize(.object(manifest.json)), to: "\(folder)/manifest.json")
    #expect(throws: LedgerError.unbalanced(currency: "usdc")) { try fixture.restoration() }
    var other = manifest
    other.ledger = "another.example"
    try BackupFile.write(JSON.serialize(.object(other.json)), to: "\(folder)/manifest.json")
    #expect(throws: LedgerError.backup(.otherLedger(found: "another.example", expected: "api.example.com"))) { try fixture.restoration() }
    other = manifest
    other.schema = 99
    try BackupFile.write(JSON.serialize(.object(other.json)), to: "\(folder)/manifest.json")
    #expect(throws: LedgerError.newerVersion(found: 99, supported: Int32(SQLiteSchema.version), build: "test")) { try fixture.restoration() }
    for text in ["", "[]", "{\"format\":\"farebox-backup\"}", "{\"format\":\"farebox-backup\",\"version\":1}"] {
      try BackupFile.write(Array(text.utf8), to: "\(folder)/manifest.json")
      #expect(throws: LedgerError.backup(.notABackup(folder))) { try fixture.restoration() }
    }
    try BackupFile.write(Array("{\"format\":\"farebox-backup\",\"version\":2}".utf8), to: "\(folder)/manifest.json")
    #expect(throws: LedgerError.backup(.newerFormat(found: 2, supported: 1))) { try fixture.restoration() }
    #expect(throws: LedgerError.backup(.notABackup("/nowhere"))) { try Restoration(of: "/nowhere", options: fixture.options) }
    // Names lead nowhere else.
    var leading = manifest.json
    leading.set("files", [["name": "../ledger/ledger.db", "octets": "1", "sha256": .string(String(repeating: "0", count: 64))]])
    try BackupFile.write(JSON.serialize(.object(leading)), to: "\(folder)/manifest.json")
    #expect(throws: LedgerError.backup(.notABackup(folder))) { try fixture.restoration() }
  }

  @Test func leavesARunningLedgerAlone() throws {
    let fixture = try prepared()
    let ledger = try fixture.open()
    defer { ledger.close() }
    #expect(throws: LedgerError.locked(process: getpid())) { try fixture.restoration() }
  }

  @Test func aPlanThatDoesNotFitIsNotCarriedOut() throws {
    let fixture = try prepared()
    try BackupFile.write(Array("{\"format\":\"farebox-restore\",\"aside\":[]".utf8), to: "\(fixture.options.directory)/ledger.restore")
    #expect(throws: LedgerError.backup(.torn("\(fixture.options.directory)/ledger.restore"))) { try fixture.open() }
    var plan = RestorationPlan()
    plan.install = [("\(fixture.folder.path)/missing", "\(fixture.folder.path)/also-missing")]
    try plan.write(in: fixture.options.directory)
    #expect(throws: LedgerError.backup(.torn("\(fixture.folder.path)/also-missing"))) { try fixture.open() }
  }

  @Test func confirmsAllAtOnceAndClosesOne() throws {
    let fixture = try BackupFixture()
    let ledger = try fixture.open()
    defer { ledger.close() }
    let (wallet, _) = try ledger.begin()
    for number in 2...20 { try ledger.openSession(number, of: wallet) }
    #expect(try ledger.restored(from: "test", abandoned: nil, at: noon).count == 20)
    // An operator may close one that is not to go on; its money goes back.
    let handle = try #require(ledger.session(id(3_000_002)))
    _ = try ledger.beginClose(handle, cause: .operated, at: noon)
    guard case .closed(let closed) = ledger.closeResult(id(3_000_002)) else { throw Refusal.sessionClosing }
    #expect(closed.refunded == 10_000)
    // Nor are they closed for having been idle meanwhile.
    ledger.sweep(at: noon)
    #expect(try ledger.confirmAll(at: noon).count == 19)
    #expect(try ledger.confirmAll(at: noon).count == 0)
    try ledger.spend(id(3_000_003), times: 1)
    // A wallet that is given another key keeps no session of the old one, confirmed or not.
    _ = try ledger.restored(from: "test", abandoned: nil, at: noon)
    _ = try ledger.rekey(wallet, to: id(77), at: noon)
    #expect(try ledger.confirmAll(at: noon).count == 0)
    #expect(ledger.sessions().isEmpty && ledger.verify().isBalanced)
  }

  private func write(_ octets: [UInt8], to path: String) throws {
    let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    var rest = octets[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else { throw LedgerError.file(.database, code: errno) }
      rest = rest.dropFirst(count)
    }
    Glibc.close(descriptor)
  }
}
