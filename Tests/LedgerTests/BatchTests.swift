import Bytes
import Encoding
import Glibc
import Metering
import Testing

@testable import Ledger

/// What a batch, and what is written beside it, must not get wrong.
@Suite struct BatchTests {
  /// A slot that is vacated and filled in one batch: each line names its own session.
  @Test func linesNameTheirOwnSessions() throws {
    let fixture = try LedgerFixture { $0.commitDelay = .milliseconds(200) }
    fixture.waitUntilDurable()
    for number in 1...3 {
      let handle = try fixture.open(number)
      _ = try fixture.ledger.beginClose(handle, cause: .payer, at: noon)
    }
    fixture.waitUntilDurable()
    fixture.ledger.close()
    let lines = try fixture.lines().compactMap(\.objectValue)
    for event in ["session.opened", "session.closed"] {
      let sessions = lines.filter { $0["event"]?.stringValue == event }.compactMap { $0["session"]?.stringValue }
      #expect(sessions == (1...3).map { id(3_000_000 + $0).hex })
    }
    #expect(verified(fixture.folder).isValid)
  }

  /// What is worth a commit does not wait for the delay to pass: as many entries as the last batch brought, and at least some.
  @Test func aBatchThatHasReachedItsGoalIsWritten() throws {
    let fixture = try LedgerFixture { $0.commitDelay = .seconds(600) }
    fixture.waitUntilDurable()
    #expect(fixture.ledger.goal == Committer.leastGoal)
    for number in 1...40 { _ = try fixture.open(number) }
    // Nobody urges here.
    Pause.wait { fixture.ledger.pending >= fixture.ledger.goal }
    #expect(fixture.ledger.pending < fixture.ledger.goal)
    fixture.waitUntilDurable()
    for number in 41...300 { _ = try fixture.open(number) }
    fixture.waitUntilDurable()
    #expect((Committer.leastGoal...Committer.mostGoal).contains(fixture.ledger.goal))
  }

  @Test func topUpsOfASessionAreBounded() throws {
    let fixture = try LedgerFixture()
    _ = try fixture.open(1)
    for number in 1...LedgerLimit.sessionTopUps.most {
      _ = try fixture.ledger.topUp(fixture.topUp(number, session: 1, amount: 1), at: noon) { _ in [] }
    }
    #expect(throws: Refusal.tooMany(.sessionTopUps)) {
      try fixture.ledger.topUp(fixture.topUp(0, session: 1, amount: 1), at: noon) { _ in [] }
    }
  }

  @Test func moreThanIsWantedIsNeverNeeded() throws {
    let fixture = try LedgerFixture()
    let handle = try fixture.open(1, deposit: 10)
    _ = try fixture.ledger.begin(handle, cost: .of(8), context: fixture.stream, at: noon)
    let rate = Rate(amount: 1, unitSize: 1, unit: .responseByte)!
    #expect(try fixture.ledger.extend(handle, rate: rate, wanted: 1, atLeast: 2, at: noon).units == 1)
  }

  @Test func filesArePrivate() throws {
    let fixture = try LedgerFixture()
    fixture.waitUntilDurable()
    for name in fixture.folder.names where name.hasPrefix("ledger.") { #expect(fixture.folder.mode(name) & 0o077 == 0, "\(name)") }
  }

  /// A log whose sync failed may not be on the disk at all: what is in it has to be in the database before anything follows it.
  @Test func whatAFailureLeftInTheLogIsFoldedFirst() throws {
    let folder = try TemporaryFolder()
    let store = try SQLiteStore(path: "\(folder.path)/ledger.db")
    var batch = CommitBatch()
    batch.lsn = 7
    batch.head = [1, 2, 3]
    try store.commit(batch)
    store.close(afterFailure: true)
    let next = try SQLiteStore(path: "\(folder.path)/ledger.db")
    let copy = try TemporaryFolder()
    copy.write(folder.read("ledger.db"), to: "ledger.db")
    next.close(afterFailure: true)
    let other = try SQLiteStore(path: "\(copy.path)/ledger.db")
    #expect(try other.load(order: []) { _, _ in } == [1, 2, 3])
    other.close(afterFailure: false)
  }

  /// A file that could not be opened again is opened when there is something to write.
  @Test func anAuditFileIsOpenedAgain() throws {
    let folder = try TemporaryFolder()
    let inner = "\(folder.path)/inner"
    #expect(mkdir(inner, 0o700) == 0)
    var file = try AuditFile(path: "\(inner)/audit.jsonl")
    let line = Array("{\"seq\":1}\n".utf8)
    try line.lend { (raw) throws(LedgerError) in try file.append(raw, first: 1, count: 1) }
    #expect(file.next == 2)
    #expect(file.synchronised == 1)
    try file.synchronise()
    #expect(file.synchronised == 2)
    unlink("\(inner)/audit.jsonl")
    rmdir(inner)
    #expect(throws: LedgerError.self) { try file.rotate() }
    #expect(throws: LedgerError.self) { try line.lend { (raw) throws(LedgerError) in try file.append(raw, first: 2, count: 1) } }
    #expect(mkdir(inner, 0o700) == 0)
    try line.lend { (raw) throws(LedgerError) in try file.append(raw, first: 2, count: 1) }
    #expect(file.next == 3)
    #expect(FileMap(path: "\(inner)/audit.jsonl")?.withOctets { Array($0) } == line)
    unlink("\(inner)/audit.jsonl")
    rmdir(inner)
  }
}
