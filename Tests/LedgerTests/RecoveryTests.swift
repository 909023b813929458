import Bytes
import Encoding
import Glibc
import Metering
import Testing

@testable import Ledger

@Suite struct RecoveryTests {
  /// Ends without a commit of what was not durable, as a kill does.
  private func crash(_ fixture: LedgerFixture) -> TemporaryFolder {
    fixture.ledger.abandon()
    return fixture.folder
  }

  @Test func voidsHoldsKeepsDebitsAndClosesWhatWasClosing() throws {
    let fixture = try LedgerFixture()
    let held = try fixture.ledger.hold(fixture.charge(1), at: noon)
    let settled = try fixture.ledger.hold(fixture.charge(2), at: noon)
    _ = try fixture.ledger.settle(settled, at: noon)
    let streaming = try fixture.open(1)
    let rate = Price.perMegabyte.parts[0]
    _ = try fixture.ledger.begin(streaming, cost: .zero, context: fixture.stream, at: noon)
    _ = try fixture.ledger.extend(streaming, rate: rate, wanted: 20_050, atLeast: 1, at: noon)
    let closing = try fixture.open(2)
    _ = try fixture.ledger.begin(closing, cost: .of(10), context: fixture.line, at: noon)
    _ = try fixture.ledger.beginClose(closing, cause: .payer, claim: id(60), at: noon) { _ in [1] }
    fixture.waitUntilDurable()
    let folder = crash(fixture)

    let again = try LedgerFixture(in: folder)
    #expect(again.ledger.claimState(id(1_000_001)) == nil)
    #expect(again.ledger.claimState(id(1_000_002)) == .settled(reference: settled.id))
    #expect(throws: Refusal.unknownHold) { try again.ledger.settle(held, at: noon) }
    let view = try #require(again.ledger.session(id(3_000_001)).flatMap { again.ledger.view($0) })
    #expect(view.spent == 201)
    #expect(view.held == 0)
    #expect(view.inFlight == 0)
    guard case .closed(let closed)? = again.ledger.closeResult(id(3_000_002)) else {
      Issue.record("the closing session is not closed")
      return
    }
    #expect(closed.spent == 10)
    #expect(closed.refunded == 990)
    #expect(closed.claim == id(60))
    #expect(closed.answer == nil)
    #expect(again.balance == 1_000_000 - 100 - 1_000 - 10)
    #expect(again.earned == 100 + 201 + 10)
    #expect(again.ledger.verify().isBalanced)
    // The same credential may pay again.
    _ = try again.ledger.hold(again.charge(1), at: noon)
    again.ledger.close()
    let lines = try again.lines()
    let voided = lines.first { $0.objectValue?["event"]?.stringValue == "charge.voided" }
    #expect(voided?.objectValue?["cause"]?.stringValue == "restart")
    #expect(voided?.objectValue?["reference"]?.stringValue == "\(held.id)")
    let debited = lines.first { $0.objectValue?["cause"]?.stringValue == "restart" && $0.objectValue?["event"]?.stringValue == "session.debited" }
    #expect(debited?.objectValue?["amount"]?.stringValue == "201")
    #expect(verified(again.folder).isValid)
  }

  @Test func aRefusedPaymentLeavesMerchantsInTheirPlaces() throws {
    let fixture = try LedgerFixture()
    #expect(throws: Refusal.insufficientFunds(required: 2_000_000, available: 1_000_000)) {
      try fixture.ledger.hold(fixture.charge(1, amount: 2_000_000, merchant: "never"), at: noon)
    }
    _ = try fixture.ledger.settle(try fixture.ledger.hold(fixture.charge(2, amount: 5, merchant: "second"), at: noon), at: noon)
    _ = try fixture.open(1)
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.merchants().map(\.name) == ["never", "second", "shop"])
    #expect(again.ledger.merchants()[1].balances[0].balance == 5)
    #expect(again.ledger.sessions().first?.terms.merchant == "shop")
    #expect(again.ledger.verify().isBalanced)
  }

  @Test func whatWasNotDurableIsGone() throws {
    let folder = try TemporaryFolder()
    let plan = FaultPlan()
    let fixture = try LedgerFixture(in: folder, plan: plan)
    _ = try fixture.ledger.createWallet(fixture.wallet, at: noon)
    _ = try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: 1_000, reference: "a", at: noon)
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    // Nothing commits any more: this hold lives in memory only.
    _ = try? fixture.ledger.hold(fixture.charge(1), at: noon)
    let again = try LedgerFixture(in: folder)
    #expect(again.balance == 1_000)
    #expect(again.ledger.claimState(id(1_000_001)) == nil)
  }

  /// A failed commit is unknown: reading back decides, on whichever side of the write it failed.
  @Test(arguments: [true, false]) func aFailedCommitIsReadBack(isWritten: Bool) throws {
    let folder = try TemporaryFolder()
    let plan = FaultPlan()
    let fixture = try LedgerFixture(in: folder, plan: plan)
    _ = try fixture.ledger.createWallet(fixture.wallet, at: noon)
    _ = try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: 10_000, reference: "a", at: noon)
    let session = try fixture.open(1)
    fixture.waitUntilDurable()
    let epoch = fixture.ledger.epoch
    plan.arm(isWritten ? .after(.store(code: 10)) : .before(.store(code: 10)))
    plan.refuseOpening(2)
    let lsn = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    #expect(!fixture.ledger.awaitDurable(lsn))
    #expect(fixture.ledger.epoch == epoch + 1)
    #expect(fixture.ledger.durability(of: lsn, epoch: epoch) == .void)
    waitUntilSelling(fixture.ledger)
    #expect(throws: Refusal.unavailable) { try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon) }
    let handle = try #require(fixture.ledger.session(id(3_000_001)))
    #expect(fixture.ledger.view(handle)?.spent == (isWritten ? 10 : 0))
    #expect(fixture.ledger.view(handle)?.inFlight == 0)
    let next = try fixture.ledger.begin(handle, cost: .of(10), context: fixture.line, at: noon)
    #expect(fixture.ledger.awaitDurable(next))
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
    #expect(verified(folder).isValid)
  }

  @Test func nothingIsSoldWhileTheStoreIsRead() throws {
    let folder = try TemporaryFolder()
    let plan = FaultPlan()
    let fixture = try LedgerFixture(in: folder, plan: plan)
    _ = try fixture.ledger.createWallet(fixture.wallet, at: noon)
    _ = try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: 10_000, reference: "a", at: noon)
    fixture.waitUntilDurable()
    plan.arm(.before(.store(code: 10)))
    plan.refuseOpening(1_000)
    let hold = try fixture.ledger.hold(fixture.charge(1), at: noon)
    #expect(!fixture.ledger.awaitDurable(hold.lsn))
    #expect(fixture.ledger.availability == .unavailable)
    #expect(throws: Refusal.unavailable) { try fixture.ledger.hold(fixture.charge(2), at: noon) }
    #expect(throws: Refusal.unavailable) { try fixture.ledger.settle(hold, at: noon) }
    #expect(fixture.ledger.void(hold, cause: .upstreamFailed, at: noon) == 0)
    #expect(fixture.ledger.session(id(1)) == nil)
    plan.refuseOpening(0)
    waitUntilSelling(fixture.ledger)
    #expect(fixture.balance == 10_000)
  }

  @Test func aFullDiskStillClosesAndRefunds() throws {
    let folder = try TemporaryFolder()
    let plan = FaultPlan()
    let fixture = try LedgerFixture(in: folder, plan: plan)
    _ = try fixture.ledger.createWallet(fixture.wallet, at: noon)
    _ = try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: 10_000, reference: "a", at: noon)
    _ = try fixture.open(1)
    fixture.waitUntilDurable()
    #expect(folder.names.contains("ledger.reserve"))
    fixture.ledger.setAvailability(.closingOnly)
    let session = try #require(fixture.ledger.session(id(3_000_001)))
    #expect(throws: Refusal.unavailable) { try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon) }
    #expect(throws: Refusal.unavailable) { try fixture.ledger.hold(fixture.charge(1), at: noon) }
    let closing = try fixture.ledger.beginClose(session, cause: .payer, at: noon)
    #expect(fixture.ledger.awaitDurable(closing))
    #expect(fixture.balance == 10_000)
    // The disk has room: the next look sells again, and so does the one after a commit that failed for lack of it.
    waitUntilSelling(fixture.ledger)
    plan.arm(.before(.full))
    let hold = try fixture.ledger.hold(fixture.charge(2), at: noon)
    #expect(!fixture.ledger.awaitDurable(hold.lsn))
    waitUntilSelling(fixture.ledger)
    #expect(fixture.balance == 10_000)
  }

  private func waitUntilSelling(_ ledger: Ledger) {
    Pause.wait { ledger.availability != .selling }
    #expect(ledger.availability == .selling)
  }

  // MARK: real kills

  /// Runs paid load in a child that is killed on one side of a commit, and writes down what was acknowledged.
  @Test(arguments: [false, true]) func survivesAKill(afterCommit: Bool) async throws {
    for cycle in [3, 7, 20] {
      let folder = try TemporaryFolder()
      let path = folder.path
      await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, afterCommit = afterCommit as Bool, cycle = cycle as Int] in
        try RecoveryTests.load(path: path, afterCommit: afterCommit, commits: cycle)
      }
      let acknowledged = UInt64(folder.read("acknowledged").count)
      let again = try LedgerFixture(in: folder)
      #expect(again.ledger.verify().isBalanced)
      let sessions = again.ledger.sessions()
      if let session = sessions.first {
        // Each acknowledged debit is there; the one in flight may be, and none is twice.
        #expect(session.spent >= UInt128(acknowledged) * 10)
        #expect(session.spent <= UInt128(acknowledged + 1) * 10)
        #expect(UInt128(again.earned) == session.spent)
      } else {
        #expect(acknowledged == 0)
      }
      again.ledger.close()
      let report = verified(folder)
      #expect(report.isValid, "\(String(describing: report.defect))")
    }
  }

  private static func load(path: String, afterCommit: Bool, commits: Int) throws {
    let plan = FaultPlan()
    var options = LedgerOptions(directory: path, currencies: [usdc], realm: "api.example.com", checkpointKey: testKey)
    options.reserveOctets = 1 << 16
    options.commitDelay = .zero
    let ledger = try Ledger.open(options, at: noon) { () throws(LedgerError) -> any Store in
      try FaultyStore(path: "\(path)/ledger.db", plan: plan)
    }
    _ = try ledger.createWallet(id(1), at: noon)
    _ = try ledger.fund(id(1), currency: "usdc", amount: 1_000_000, reference: "a", at: noon)
    let order = SessionOrder(
      challengeID: id(2), sessionID: id(3), wallet: id(1), deposit: 100_000,
      terms: SessionTerms(realm: "api.example.com", currency: "usdc", merchant: "shop", routes: []), idleTimeout: .seconds(600),
      expires: noon + .seconds(300))
    let (session, opened) = try ledger.open(order, at: noon) { _ in [] }
    guard ledger.awaitDurable(opened) else { return }
    plan.arm(afterCommit ? .killAfter : .killBefore, commit: commits)
    let file = Glibc.open("\(path)/acknowledged", O_WRONLY | O_CREAT | O_APPEND, 0o600)
    let context = DebitContext(route: .none, writesLine: true)
    while true {
      let lsn = try ledger.begin(session, cost: .of(10), context: context, at: noon)
      guard ledger.awaitDurable(lsn) else { return }
      var octet: UInt8 = 1
      _ = write(file, &octet, 1)
      ledger.finish(session, debited: .of(10), used: .of(10), units: 1, context: context, at: noon)
    }
  }
}

/// Verifies the audit log of a folder with the tests' key.
func verified(_ folder: TemporaryFolder, pin: AuditPin? = nil, mayBeginLater: Bool = false) -> AuditReport {
  var verifier = AuditVerifier(realm: "api.example.com", keys: [testKey.publicKey], pin: pin, mayBeginLater: mayBeginLater)
  return (try? verifier.verify(path: "\(folder.path)/audit.jsonl")) ?? AuditReport()
}
