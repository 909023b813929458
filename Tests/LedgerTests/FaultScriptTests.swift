import Bytes
import Encoding
import Metering
import Synchronization
import Testing

@testable import Ledger

/// Counts what the ledger asks of its store, and lets chosen ones of these fail.
private final class FaultScript: Sendable {
  /// On which side of the write the failure is.
  enum Side: Sendable { case before, after }

  private let plan = Mutex<(count: Int, at: Int, length: Int, side: Side)>((0, .max, 0, .before))

  /// Lets `length` writes fail, from the `at`-th from now on.
  func arm(at: Int, length: Int = 1, side: Side = .before) { plan.withLock { $0 = (0, at, length, side) } }

  var hasFired: Bool { plan.withLock { $0.count >= $0.at } }

  func step() -> Side? {
    plan.withLock { plan in
      plan.count += 1
      guard plan.count >= plan.at, plan.count - plan.at < plan.length else { return nil }
      return plan.side
    }
  }
}

/// A store whose every write may fail, tidying and reading for refunds included.
private final class ScriptedStore: Store {
  private let store: SQLiteStore
  private let script: FaultScript
  private let tidiesAlways: Bool

  init(path: String, script: FaultScript, tidiesAlways: Bool = false) throws(LedgerError) {
    store = try SQLiteStore(path: path)
    self.script = script
    self.tidiesAlways = tidiesAlways
  }

  private func run<Value>(_ body: () throws(LedgerError) -> Value) throws(LedgerError) -> Value {
    let side = script.step()
    if side == .before { throw .store(code: 10) }
    let value = try body()
    if side == .after { throw .store(code: 10) }
    return value
  }

  func commit(_ batch: borrowing CommitBatch) throws(LedgerError) {
    let side = script.step()
    if side == .before { throw .store(code: 10) }
    try store.commit(batch)
    if side == .after { throw .store(code: 10) }
  }

  func load(order: [RecordKind], _ body: (RecordKey, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) -> [UInt8]? {
    try store.load(order: order, body)
  }

  func lines(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) {
    try store.lines(from: first, body)
  }

  func exported() throws(LedgerError) -> UInt64 { try store.exported() }

  func record(_ key: RecordKey) throws(LedgerError) -> [UInt8]? {
    try run { () throws(LedgerError) in try store.record(key) }
  }

  var isUntidy: Bool { tidiesAlways || store.isUntidy }

  func tidy(exported: UInt64) throws(LedgerError) {
    try run { () throws(LedgerError) in try store.tidy(exported: exported) }
  }

  func close(afterFailure: Bool) { store.close(afterFailure: afterFailure) }
}

/// The n-th write fails, for every n of a script: what was told to be durable stays, and nothing is lost, made, or paid twice.
@Suite struct FaultScriptTests {
  private func ledger(in folder: TemporaryFolder, _ script: FaultScript, tidiesAlways: Bool = false) throws -> Ledger {
    var options = LedgerFixture.options(folder)
    options.commitDelay = .zero
    let path = "\(folder.path)/ledger.db"
    return try Ledger.open(options, at: noon) { () throws(LedgerError) -> any Store in
      try ScriptedStore(path: path, script: script, tidiesAlways: tidiesAlways)
    }
  }

  private func waitUntilSelling(_ ledger: Ledger) {
    Pause.wait { ledger.availability != .selling }
    #expect(ledger.availability == .selling)
  }

  /// More than there are failures in a row.
  private static let attempts = 6

  /// What one step of the script did, as its caller knows it.
  private enum Fate { case durable, unknown, refused }

  /// What the script knows for certain, and what it does not.
  private struct Account {
    var funded: (least: UInt128, most: UInt128) = (0, 0)
    var earned: (least: Int128, most: Int128) = (0, 0)
    /// Charges that were told to be settled, and those that were told to be refunded.
    var settled: [Int: LSN] = [:]
    var deposits: [Int: UInt128] = [:]
    /// How far each payment on a chain was told to have come, and how far it may have come.
    var payments: [Int: (least: ChainPaymentState, most: ChainPaymentState)] = [:]
  }

  private func fate(_ ledger: Ledger, _ body: () throws -> LSN) -> Fate {
    let epoch = ledger.epoch
    guard let lsn = try? body() else { return .refused }
    for _ in 0..<100_000 {
      switch ledger.durability(of: lsn, epoch: epoch) {
      case .durable: return .durable
      case .void: return .unknown
      case .pending: Pause.briefly()
      }
    }
    return .unknown
  }

  /// Runs a hundred operations, each waiting for the disk; a failed one is answered as a caller would: by asking again later.
  private func run(_ ledger: Ledger, _ fixtureOrder: (Int) -> (ChargeOrder, SessionOrder, TopUpOrder), wallet: Digest32) -> Account {
    var account = Account()
    let route = ledger.label(route: "weather")
    let line = DebitContext(route: route, writesLine: true, units: 1)
    let stream = DebitContext(route: route, writesLine: false, units: 0)
    let rate = Price.perMegabyte.parts[0]
    for _ in 0..<Self.attempts where ledger.walletView(wallet) == nil {
      _ = fate(ledger) { try ledger.createWallet(wallet, at: noon) }
      waitUntilSelling(ledger)
    }
    for round in 0..<8 {
      waitUntilSelling(ledger)
      let (charge, order, topUp) = fixtureOrder(round)
      // Asked for as often as it takes: the same reference moves money once.
      for _ in 0..<Self.attempts {
        let last = fate(ledger) { try ledger.fund(wallet, currency: "usdc", amount: 10_000, reference: "f\(round)", at: noon) }
        if last == .durable { break }
        waitUntilSelling(ledger)
      }
      account.funded.least += 10_000

      if let hold = try? ledger.hold(charge, at: noon), fate(ledger, { hold.lsn }) == .durable {
        switch fate(ledger, { try ledger.settle(hold, at: noon) }) {
        case .durable:
          account.settled[round] = hold.id
          account.earned.least += Int128(charge.amount)
          account.earned.most += Int128(charge.amount)
        case .unknown, .refused: account.earned.most += Int128(charge.amount)
        }
      }
      waitUntilSelling(ledger)
      if round % 4 == 3, let reference = account.settled[round] {
        // A refund that was told to be done is done once, however often it is asked for.
        if (try? ledger.refund(reference, at: noon)) == nil { waitUntilSelling(ledger) }
        _ = try? ledger.refund(reference, at: noon)
        waitUntilSelling(ledger)
        account.earned.least -= Int128(charge.amount)
      }
      _ = fate(ledger) { try ledger.open(order, at: noon) { _ in [1] }.1 }
      waitUntilSelling(ledger)
      if let handle = ledger.session(order.sessionID) {
        account.deposits[round] = order.deposit
        switch fate(ledger, { try ledger.begin(handle, cost: .of(10), context: line, at: noon) }) {
        case .durable:
          account.earned.least += 10
          account.earned.most += 10
        case .unknown: account.earned.most += 10
        case .refused: break
        }
        _ = fate(ledger) { ledger.finish(handle, debited: .of(10), used: .of(10), units: 1, context: line, at: noon) }
        waitUntilSelling(ledger)
      }
      if let handle = ledger.session(order.sessionID) {
        if fate(ledger, { try ledger.topUp(topUp, at: noon) { _ in [2] }.lsn }) != .refused { waitUntilSelling(ledger) }
        if fate(ledger, { try ledger.topUp(topUp, at: noon) { _ in [2] }.lsn }) != .refused { account.deposits[round]? += topUp.amount }
        waitUntilSelling(ledger)
        if (try? ledger.begin(handle, cost: .zero, context: stream, at: noon)) != nil {
          if fate(ledger, { try ledger.extend(handle, rate: rate, wanted: 2_000, atLeast: 1, at: noon).lsn }) != .refused {
            account.earned.most += 20
          }
          ledger.finish(
            handle, debited: ExactCost(units: 2_000, rate: rate)!, used: ExactCost(units: 500, rate: rate)!, units: 500, context: stream, at: noon)
        }
        waitUntilSelling(ledger)
      }
      if round < 4 { pay(round, ledger, &account) }
      if round % 2 == 0, let handle = ledger.session(order.sessionID) {
        _ = fate(ledger) { try ledger.beginClose(handle, cause: .payer, at: noon) { _ in [3] } }
        waitUntilSelling(ledger)
      }
    }
    account.funded.most = account.funded.least
    return account
  }

  private func payment(_ round: Int) -> ChainPaymentOrder {
    ChainPaymentOrder(
      id: id(600 + round), request: id(700 + round), payer: "0xabc", amount: 100, currency: base, merchant: "shop",
      expires: noon + .seconds(300), challengeID: id(800 + round), proof: [UInt8](repeating: 1, count: 500))
  }

  /// Moves one payment as a desk does that waits for the disk at each step, and asks the ledger where it stands where it does not know.
  private func pay(_ round: Int, _ ledger: Ledger, _ account: inout Account) {
    let order = payment(round)
    let sender = [UInt8](repeating: 7, count: 20)
    guard fate(ledger, { try ledger.claim(order, at: noon) }) == .durable else { return waitUntilSelling(ledger) }
    // A reload frees what was only claimed, so nothing is sent unless this is durable.
    let sent = fate(ledger) {
      guard round % 2 == 0 else { return try ledger.submitted(order.id, transaction: nil, at: noon) }
      if ledger.nextNonce(chain: 1, sender: sender) == nil { _ = try ledger.adoptNonce(chain: 1, sender: sender, nonce: 0, at: noon) }
      let nonce = ledger.nextNonce(chain: 1, sender: sender) ?? 0
      return try ledger.submitted(
        order.id,
        outgoing: OutgoingTransaction(
          chain: 1, sender: sender, nonce: nonce, purpose: order.id, hash: id(900 + round), raw: [2, 3, 4], createdAt: noon), at: noon)
    }
    waitUntilSelling(ledger)
    if sent == .unknown { account.payments[round] = (.claimed, .submitted) }
    guard sent == .durable else { return }
    account.payments[round] = (.submitted, .submitted)
    // The chain has moved the money: this is told until it is kept.
    for _ in 0..<Self.attempts {
      let settled = fate(ledger) { try ledger.settled(order.id, transaction: id(900 + round), at: noon) }
      waitUntilSelling(ledger)
      if settled == .durable { break }
    }
    account.payments[round] = (.settled, .settled)
    for _ in 0..<Self.attempts {
      guard let hold = try? ledger.serve(order.id, request: order.request, at: noon), fate(ledger, { hold.lsn }) == .durable else {
        waitUntilSelling(ledger)
        continue
      }
      let served = round % 3 == 0 ? fate(ledger) { ledger.void(hold, cause: .upstreamFailed, at: noon) } : fate(ledger) { try ledger.settle(hold, at: noon) }
      waitUntilSelling(ledger)
      if round % 3 == 0 { break }
      if served == .durable { account.payments[round] = (.served, .served) }
      if served == .unknown { account.payments[round] = (.settled, .served) }
      break
    }
  }

  /// Every payment is where it was told to be, and its money with it.
  private func checkPayments(_ ledger: Ledger, _ account: Account) {
    var issued: UInt128 = 0
    var earned: Int128 = 0
    for (round, told) in account.payments {
      let state = ledger.payment(payment(round).id)?.state
      if let state {
        #expect(state.rawValue >= told.least.rawValue && state.rawValue <= told.most.rawValue, "payment \(round): \(state)")
      } else {
        #expect(told.least == .claimed)
      }
      switch state {
      case .settled, .serving: issued += 100
      case .served, .writtenOff:
        issued += 100
        earned += 100
      case .claimed, .submitted, nil: break
      }
      // What was sent is known as long as its payment is open.
      if state == .submitted, round % 2 == 0 {
        #expect(ledger.outgoing(chain: 1, sender: [UInt8](repeating: 7, count: 20)).contains { $0.purpose == payment(round).id })
      }
    }
    let books = ledger.balances().first { $0.currency == base }
    #expect(books?.issued == issued && books?.merchants == earned && books?.held == issued - UInt128(earned))
    let nonces = ledger.outgoing(chain: 1, sender: [UInt8](repeating: 7, count: 20)).map(\.nonce)
    #expect(nonces == Array(0..<UInt64(nonces.count)))
  }

  private func check(_ ledger: Ledger, _ account: Account, wallet: Digest32, _ fixtureOrder: (Int) -> (ChargeOrder, SessionOrder, TopUpOrder)) {
    let books = ledger.verify()
    #expect(books.isBalanced)
    checkPayments(ledger, account)
    let usdc = books.balances[0]
    #expect(usdc.issued == account.funded.least)
    #expect(usdc.held == 0)
    #expect(usdc.merchants >= account.earned.least && usdc.merchants <= account.earned.most)
    for (round, reference) in account.settled {
      #expect(ledger.claimState(fixtureOrder(round).0.challengeID) == .settled(reference: reference))
    }
    var left: UInt128 = 0
    for (round, deposit) in account.deposits {
      let key = fixtureOrder(round).1.sessionID
      if let view = ledger.session(key).flatMap({ ledger.view($0) }) {
        #expect(view.deposit == deposit || view.deposit + fixtureOrder(round).2.amount == deposit)
        #expect(view.spent + view.remaining == view.deposit)
        #expect(view.held == 0)
        left += view.remaining
      } else if case .closed(let closed)? = ledger.closeResult(key) {
        #expect(closed.spent + closed.refunded == closed.deposit)
      } else {
        Issue.record("session \(round) is gone")
      }
    }
    #expect(usdc.sessions == left)
    #expect(Int128(usdc.wallets) + usdc.merchants + Int128(usdc.sessions) == Int128(usdc.issued))
  }

  @Test(arguments: [0, 1], [1, 3]) func everyWriteMayFail(side: Int, length: Int) throws {
    // The writes that fail on one side are those that do not fail on the other, so each of them fails once.
    var at = 1 + side
    while true {
      let folder = try TemporaryFolder()
      let script = FaultScript()
      let ledger = try ledger(in: folder, script, tidiesAlways: at % 2 == 0)
      let route = ledger.label(route: "weather")
      let wallet = id(1)
      let orders = { (round: Int) -> (ChargeOrder, SessionOrder, TopUpOrder) in
        (
          ChargeOrder(
            challengeID: id(100 + round), wallet: wallet, amount: 100, currency: "usdc", merchant: "shop", route: route,
            expires: noon + .seconds(300)),
          SessionOrder(
            challengeID: id(200 + round), sessionID: id(300 + round), wallet: wallet, deposit: 1_000,
            terms: SessionTerms(realm: "api.example.com", currency: "usdc", merchant: "shop", routes: []), idleTimeout: .seconds(600),
            expires: noon + .seconds(300), route: route),
          TopUpOrder(
            challengeID: id(400 + round), credential: id(500 + round), sessionID: id(300 + round), wallet: wallet, amount: 500,
            currency: "usdc", merchant: "shop", expires: noon + .seconds(300))
        )
      }
      script.arm(at: at, length: length, side: side == 0 ? .before : .after)
      let account = run(ledger, orders, wallet: wallet)
      let hasFired = script.hasFired
      script.arm(at: .max)
      // The committer may meet the last failure only now; what was told before it is void then, and asked for again.
      var isDurable = false
      for _ in 0..<Self.attempts where !isDurable {
        waitUntilSelling(ledger)
        isDurable = ledger.awaitDurable(ledger.applied)
      }
      #expect(isDurable)
      check(ledger, account, wallet: wallet, orders)
      // The same after a kill, and the file tells the same story.
      ledger.abandon()
      let again = try LedgerFixture(in: folder)
      check(again.ledger, account, wallet: wallet, orders)
      let balances = again.ledger.balances()
      again.ledger.close()
      let report = verified(folder)
      checkAccounts(report, balances)
      #expect(report.isValid, "write \(at): \(String(describing: report.defect))")
      guard hasFired else { break }
      at += length == 1 ? 2 : 19
    }
    #expect(at > 60)
  }

  /// A batch that fails while the file is being rotated is as unknown as any other.
  @Test func aFailedCommitBeforeARotationIsReadBack() throws {
    let folder = try TemporaryFolder()
    let script = FaultScript()
    let ledger = try ledger(in: folder, script)
    _ = try ledger.createWallet(id(1), at: noon)
    #expect(ledger.awaitDurable(ledger.applied))
    let epoch = ledger.epoch
    script.arm(at: 1, length: 1)
    // The rotation commits what it finds; whichever commit is first, its entries are gone with it.
    ledger.rotate()
    let lsn = try ledger.fund(id(1), currency: "usdc", amount: 5, reference: "a", at: noon)
    Pause.wait { ledger.durability(of: lsn, epoch: epoch) == .pending }
    waitUntilSelling(ledger)
    let isFunded = ledger.walletView(id(1))?.accounts[0].balance == 5
    #expect(ledger.durability(of: lsn, epoch: epoch) == (isFunded ? .durable : .void))
    #expect(ledger.verify().isBalanced)
    ledger.abandon()
    let again = try LedgerFixture(in: folder)
    #expect((again.ledger.walletView(id(1))?.accounts[0].balance == 5) == isFunded)
    again.ledger.close()
    #expect(verified(folder).isValid)
  }

  /// What is accepted while the ledger is read back, and lost because that fails too, never looks durable.
  @Test func aSecondFailureVoidsWhatWasAcceptedBetween() throws {
    let folder = try TemporaryFolder()
    let script = FaultScript()
    let ledger = try ledger(in: folder, script)
    _ = try ledger.createWallet(id(1), at: noon)
    _ = try ledger.fund(id(1), currency: "usdc", amount: 100, reference: "first", at: noon)
    // Reading back voids this hold, so that there is always something to commit.
    _ = try ledger.hold(
      ChargeOrder(
        challengeID: id(2), wallet: id(1), amount: 100, currency: "usdc", merchant: "shop", route: .none, expires: noon + .seconds(300)),
      at: noon)
    #expect(ledger.awaitDurable(ledger.applied))
    script.arm(at: 1, length: 4)
    let first = ledger.epoch
    _ = try ledger.fund(id(1), currency: "usdc", amount: 5, reference: "a", at: noon)
    var accepted: [(reference: String, lsn: LSN, epoch: UInt32)] = []
    var number = 0
    for _ in 0..<200_000 {
      if ledger.availability == .selling, ledger.epoch != first { break }
      number += 1
      let epoch = ledger.epoch
      if let lsn = try? ledger.fund(id(1), currency: "usdc", amount: 1, reference: "b\(number)", at: noon) {
        accepted.append(("b\(number)", lsn, epoch))
      }
      Pause.briefly()
    }
    waitUntilSelling(ledger)
    #expect(ledger.awaitDurable(ledger.applied))
    var durable: UInt128 = 0
    for each in accepted where ledger.durability(of: each.lsn, epoch: each.epoch) == .durable { durable += 1 }
    let balance = ledger.walletView(id(1))?.accounts[0].balance ?? 0
    #expect(balance >= 100 + durable)
    #expect(ledger.epoch >= first + 4)
    ledger.abandon()
  }
}
