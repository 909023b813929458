import Bytes
import Encoding
import Glibc
import Testing

@testable import Ledger

@Suite struct AuditRetentionTests {
  private func retention(_ fixture: LedgerFixture) -> AuditRetention {
    AuditRetention(path: "\(fixture.folder.path)/audit.jsonl", keep: .seconds(86_400), realm: "api.example.com", key: testKey.publicKey)
  }

  private func report(_ fixture: LedgerFixture, pin: AuditPin? = nil) throws -> AuditReport {
    var verifier = AuditVerifier(realm: "api.example.com", keys: [testKey.publicKey], pin: pin)
    return try verifier.verify(path: "\(fixture.folder.path)/audit.jsonl")
  }

  /// A ledger whose log has `files` files that were renamed, each with some money in it, and then the current one.
  private func fixture(files: Int) throws -> LedgerFixture {
    let fixture = try LedgerFixture()
    for file in 0..<files {
      _ = try fixture.open(file)
      fixture.waitUntilDurable()
      let before = AuditFiles.renamed(beside: "\(fixture.folder.path)/audit.jsonl").count
      fixture.ledger.rotate()
      Pause.wait { AuditFiles.renamed(beside: "\(fixture.folder.path)/audit.jsonl").count == before }
    }
    _ = try fixture.open(files)
    fixture.ledger.close()
    return fixture
  }

  @Test func whatIsLeftIsProvedAsIfNothingWereGone() throws {
    let fixture = try fixture(files: 5)
    let whole = try report(fixture)
    #expect(whole.isValid && whole.isWhole && whole.accounts.count == 1)
    let later = noon + .seconds(3 * 86_400)
    // Nothing is old yet.
    #expect(retention(fixture).remove(at: noon) == AuditRetention.Removal())
    let removal = retention(fixture).remove(at: later)
    // The newest of them stays.
    #expect(removal.files == 4 && AuditFiles.renamed(beside: "\(fixture.folder.path)/audit.jsonl").count == 1)
    let rest = try report(fixture)
    #expect(rest.isValid && rest.isProven && !rest.isWhole && rest.firstSequence == removal.lastSequence + 1)
    #expect(rest.accounts == whole.accounts && rest.lastLine == whole.lastLine && rest.checkpoint == whole.checkpoint)
    // A pin from what is left still tells whether the end was cut off.
    let pin = try #require(whole.checkpoint)
    #expect(try report(fixture, pin: pin).isPinned)
    let cut = AuditPin(size: whole.lastSequence + 5, root: pin.root)
    #expect(try report(fixture, pin: cut).defect?.fault == .cut(expected: whole.lastSequence + 5))
    // One from before cannot be told any more, and is no defect.
    let old = try report(fixture, pin: AuditPin(size: 2, root: pin.root))
    #expect(old.isValid && !old.isPinned)
    // The ledger goes on with its log.
    let again = try LedgerFixture(in: fixture.folder)
    _ = try again.open(90)
    again.ledger.removed(removal, at: noon)
    again.ledger.close()
    let after = try report(again)
    #expect(after.isValid && after.isProven && after.lastSequence > whole.lastSequence)
    #expect(try again.lines().contains { $0["event"] == "audit.removed" && $0["count"] == "4" })
  }

  /// A line that was altered behind the base is found, and so is a base that was altered.
  @Test func whatWasAlteredIsFound() throws {
    let fixture = try fixture(files: 3)
    _ = retention(fixture).remove(at: noon + .seconds(3 * 86_400))
    let base = fixture.folder.read("audit.jsonl.base")
    let good = try #require(try JSON.parse(base).objectValue)
    for (name, value) in [
      ("size", JSONValue.string("1")), ("last", .string(String(repeating: "0", count: 64))), ("totals", [:]),
      ("peaks", .array((good["peaks"]?.arrayValue ?? []).map { _ in .string(String(repeating: "1", count: 64)) })),
    ] {
      var bad = good
      bad.set(name, value)
      fixture.folder.write(JSON.serialize(.object(bad)), to: "audit.jsonl.base")
      #expect(try !report(fixture).isValid, "\(name)")
    }
    fixture.folder.write(base, to: "audit.jsonl.base")
    #expect(try report(fixture).isValid)
    let name = try #require(fixture.folder.names.first { $0.hasPrefix("audit.jsonl.0") })
    var octets = fixture.folder.read(name)
    octets[octets.count / 2] ^= 1
    fixture.folder.write(octets, to: name)
    #expect(try !report(fixture).isValid)
  }

  @Test func aFileThatDoesNotVerifyStays() throws {
    let fixture = try fixture(files: 3)
    let name = try #require(fixture.folder.names.first { $0.hasPrefix("audit.jsonl.0") })
    let octets = fixture.folder.read(name)
    var altered = octets
    let place = try #require(String(decoding: octets, as: UTF8.self).firstRange(of: "amount\":\"1000000")).lowerBound
    altered[String(decoding: octets, as: UTF8.self).utf8.distance(from: String(decoding: octets, as: UTF8.self).startIndex, to: place) + 9] = 0x32
    fixture.folder.write(altered, to: name)
    let removal = retention(fixture).remove(at: noon + .seconds(3 * 86_400))
    #expect(removal.files == 0 && removal.failure == .auditUnverified(file: "\(fixture.folder.path)/\(name)"))
    #expect(fixture.folder.names.contains(name))
  }

  /// A base that is there and cannot be read, or stands for other files, is not the same as none: nothing goes that it does not prove.
  @Test func whatDoesNotFollowTheBaseStays() throws {
    let fixture = try fixture(files: 5)
    let later = noon + .seconds(3 * 86_400)
    var asked = 0
    let first = retention(fixture).remove(at: later) {
      asked += 1
      return asked > 2
    }
    // Whoever stops the ledger ends it between two files.
    #expect(first.files == 2 && first.failure == nil)
    let path = "\(fixture.folder.path)/audit.jsonl.base"
    let base = fixture.folder.read("audit.jsonl.base")
    let names = fixture.folder.names.filter { $0.hasPrefix("audit.jsonl.0") }.sorted()
    #expect(names.count == 3)
    fixture.folder.write(Array(base.dropLast()), to: "audit.jsonl.base")
    #expect(retention(fixture).remove(at: later) == AuditRetention.Removal(failure: .auditUnverified(file: path)))
    #expect(unlink(path) == 0 && mkdir(path, 0o700) == 0)
    #expect(retention(fixture).remove(at: later).failure == .backup(.unreadable(path, code: EISDIR)))
    rmdir(path)
    fixture.folder.write(base, to: "audit.jsonl.base")
    // Files that do not begin where the base ends.
    let second = fixture.folder.read(names[0])
    unlink("\(fixture.folder.path)/\(names[0])")
    #expect(retention(fixture).remove(at: later) == AuditRetention.Removal(failure: .auditUnverified(file: "\(fixture.folder.path)/\(names[1])")))
    fixture.folder.write(second, to: names[0])
    // What went before the failure is told of.
    var altered = fixture.folder.read(names[1])
    altered[altered.count / 2] ^= 1
    fixture.folder.write(altered, to: names[1])
    let last = retention(fixture).remove(at: later)
    #expect(last.files == 1 && last.lastSequence > first.lastSequence && last.failure == .auditUnverified(file: "\(fixture.folder.path)/\(names[1])"))
    #expect(fixture.folder.names.filter { $0.hasPrefix("audit.jsonl.0") }.sorted() == Array(names.dropFirst()))
  }

  /// A crash between the base and the file's end leaves a file that the next call removes, and that nobody looks at until then.
  @Test func aCrashInBetweenIsMended() throws {
    let fixture = try fixture(files: 3)
    let name = try #require(fixture.folder.names.first { $0.hasPrefix("audit.jsonl.0") })
    let octets = fixture.folder.read(name)
    _ = retention(fixture).remove(at: noon + .seconds(3 * 86_400))
    let second = fixture.folder.names.filter { $0.hasPrefix("audit.jsonl.0") }
    // Not the first one: a log that begins with its first line needs no base.
    fixture.folder.write(octets, to: name)
    #expect(second.count == 1)
    #expect(retention(fixture).remove(at: noon).failure == nil)
    #expect(!fixture.folder.names.contains(name))
    #expect(try report(fixture).isValid)
  }

  @Test func forgetsChargesThatAreTooOldAndKeepsTheBooks() throws {
    let fixture = try LedgerFixture()
    for number in 0..<5 {
      _ = try fixture.ledger.settle(try fixture.ledger.hold(fixture.charge(number), at: noon), at: noon)
    }
    fixture.ledger.close()
    let store = try SQLiteStore(path: "\(fixture.folder.path)/ledger.db")
    #expect(try store.load(order: LedgerState.readingOrder) { _, _ in } != nil)
    func count() throws -> Int64? {
      var count: Int64 = 0
      _ = try store.load(order: [.charge]) { _, _ in count += 1 }
      return count
    }
    #expect(try count() == 5)
    #expect(try !store.forget(chargesBefore: noon.day))
    #expect(try count() == 5)
    #expect(try !store.forget(chargesBefore: noon.day + 1))
    #expect(try count() == 0)
    store.close(afterFailure: false)
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.verify().isBalanced && again.earned == 500)
    again.ledger.close()
  }
}
