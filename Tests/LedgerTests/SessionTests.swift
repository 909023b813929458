import Bytes
import Encoding
import Metering
import Payments
import Synchronization
import Testing

@testable import Ledger

@Suite struct SessionTests {
  enum State: CaseIterable { case none, open, closing, closed }
  enum Action: CaseIterable { case open, openAgain, begin, extend, finish, topUp, close }

  /// Every action in every state; nil where it is done.
  static let table: [(State, Action, RefusalKind?)] = [
    (.none, .open, nil),
    (.none, .topUp, .unknownSession),
    (.open, .open, .sessionExists),
    (.open, .openAgain, .alreadyOpen),
    (.open, .begin, nil),
    (.open, .extend, nil),
    (.open, .finish, nil),
    (.open, .topUp, nil),
    (.open, .close, nil),
    (.closing, .open, .sessionExists),
    (.closing, .openAgain, .alreadyOpen),
    (.closing, .begin, .sessionClosing),
    (.closing, .extend, .sessionClosing),
    (.closing, .finish, nil),
    (.closing, .topUp, .sessionClosing),
    (.closing, .close, nil),
    (.closed, .open, .sessionExists),
    (.closed, .openAgain, .alreadyOpen),
    (.closed, .begin, .sessionClosed),
    (.closed, .extend, .sessionClosed),
    (.closed, .finish, nil),
    (.closed, .topUp, .sessionClosed),
    (.closed, .close, .sessionClosed),
  ]

  @Test(arguments: table) func follows(row: (State, Action, RefusalKind?)) throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    var handle = SessionHandle(index: 0, generation: 1, epoch: 1)
    if row.0 != .none {
      handle = try fixture.open(1)
      _ = try ledger.begin(handle, cost: .of(10), context: fixture.line, at: noon)
      if row.0 != .open { _ = try ledger.beginClose(handle, cause: .payer, at: noon) }
      if row.0 == .closed { ledger.finish(handle, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon) }
    }
    var refusal: Refusal?
    do throws(Refusal) {
      switch row.1 {
      case .open:
        var order = fixture.order(1)
        order.challengeID = id(42)
        _ = try ledger.open(order, at: noon) { _ in [] }
      case .openAgain: _ = try ledger.open(fixture.order(1), at: noon) { _ in [9] }
      case .begin: _ = try ledger.begin(handle, cost: .of(10), context: fixture.line, at: noon)
      case .extend: _ = try ledger.extend(handle, rate: Price.perMegabyte.parts[0], wanted: 1_000, atLeast: 1, at: noon)
      case .finish: ledger.finish(handle, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
      case .topUp: _ = try ledger.topUp(fixture.topUp(1, session: 1), at: noon) { _ in [] }
      case .close: _ = try ledger.beginClose(handle, cause: .payer, at: noon)
      }
    } catch {
      refusal = error
    }
    #expect(refusal.map(RefusalKind.init) == row.2)
    if case .alreadyOpen(let receipt)? = refusal { #expect(receipt == [1, 2, 3]) }
    #expect(ledger.verify().isBalanced)
    ledger.close()
  }

  @Test func aDebitNeverPassesTheBudget() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1, deposit: 25)
    _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    #expect(throws: Refusal.insufficientBudget(required: 5)) {
      try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    }
    #expect(throws: Refusal.overflow) { try fixture.ledger.begin(session, cost: .of(.max), context: fixture.line, at: noon) }
    #expect(fixture.ledger.view(session)?.remaining == 5)
    #expect(fixture.ledger.view(session)?.inFlight == 2)
  }

  @Test func aClosingSessionPaysWhatWasUsedOutOfWhatIsHeld() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1, deposit: 100)
    _ = try fixture.ledger.begin(session, cost: .of(10), hold: .of(60), context: fixture.stream, at: noon)
    _ = try fixture.ledger.begin(session, cost: .of(5), context: fixture.stream, at: noon)
    _ = try fixture.ledger.beginClose(session, cause: .payer, at: noon)
    #expect(throws: Refusal.sessionClosing) { try fixture.ledger.extend(session, cost: .of(20), atLeast: .of(20), held: .of(60), at: noon) }
    #expect(throws: Refusal.overflow) { try fixture.ledger.extend(session, fromHeld: .of(61), held: .of(60), at: noon) }
    #expect(throws: Refusal.overflow) { try fixture.ledger.extend(session, fromHeld: .of(61), held: .of(100), at: noon) }
    _ = try fixture.ledger.extend(session, fromHeld: .of(20), held: .of(60), at: noon)
    fixture.ledger.finish(session, debited: .of(30), used: .of(30), held: .of(40), units: 3, context: fixture.stream, at: noon)
    fixture.ledger.finish(session, debited: .of(5), used: .zero, units: 0, context: fixture.stream, at: noon)
    #expect(throws: Refusal.sessionClosed) { try fixture.ledger.extend(session, fromHeld: .of(1), held: .of(1), at: noon) }
    #expect(fixture.earned == 30)
    #expect(fixture.ledger.verify().isBalanced)
  }

  @Test func boundsTheExchangesInFlight() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1, inFlight: 2)
    for _ in 0..<2 { _ = try fixture.ledger.begin(session, cost: .zero, context: fixture.line, at: noon) }
    #expect(throws: Refusal.tooMany(.inFlight)) { try fixture.ledger.begin(session, cost: .zero, context: fixture.line, at: noon) }
    fixture.ledger.finish(session, debited: .zero, used: .zero, units: 0, context: fixture.line, at: noon)
    _ = try fixture.ledger.begin(session, cost: .zero, context: fixture.line, at: noon)
  }

  @Test func aStreamCutInPiecesCostsWhatItCostsInOne() throws {
    let fixture = try LedgerFixture()
    let rate = Price.perMegabyte.parts[0]
    let session = try fixture.open(1, deposit: 10_000)
    _ = try fixture.ledger.begin(session, cost: .zero, context: fixture.stream, at: noon)
    var taken: UInt64 = 0
    while taken < 999_999 {
      let step = try fixture.ledger.extend(session, rate: rate, wanted: min(777, 999_999 - taken), atLeast: 1, at: noon)
      taken += step.units
    }
    #expect(fixture.ledger.view(session)?.spent == 10_000)
    #expect(fixture.ledger.view(session)?.held == 10_000)
    let cost = try #require(ExactCost(units: taken, rate: rate))
    fixture.ledger.finish(session, debited: cost, used: cost, units: taken, context: fixture.stream, at: noon)
    #expect(fixture.earned == 10_000)
    #expect(fixture.ledger.view(session)?.held == 0)
    fixture.ledger.close()
    let debits = try fixture.lines().filter { $0.objectValue?["event"]?.stringValue == "session.debited" }
    #expect(debits.count == 1)
    #expect(debits.first?.objectValue?["units"]?.stringValue == "999999")
  }

  @Test func whatIsGivenBackEarlyCanBeSpentAgain() throws {
    let fixture = try LedgerFixture()
    let rate = Price.perMegabyte.parts[0]
    let session = try fixture.open(1, deposit: 100)
    _ = try fixture.ledger.begin(session, cost: .of(40), context: fixture.line, at: noon)
    _ = try fixture.ledger.begin(session, cost: .zero, context: fixture.stream, at: noon)
    let step = try fixture.ledger.extend(session, rate: rate, wanted: 6000, atLeast: 1, at: noon)
    #expect(throws: Refusal.insufficientBudget(required: 1)) {
      try fixture.ledger.extend(session, rate: rate, wanted: 1, atLeast: 1, at: noon)
    }
    try fixture.ledger.retract(session, try #require(ExactCost(units: 2500, rate: rate)), at: noon)
    #expect(fixture.ledger.view(session)?.remaining == 25)
    // What has been settled stays, whoever asks.
    #expect(throws: Refusal.overflow) { try fixture.ledger.retract(session, .of(36), at: noon) }
    let again = try fixture.ledger.extend(session, rate: rate, wanted: 9000, atLeast: 1, at: noon)
    #expect(again.units == 2500)
    let used = try #require(ExactCost(units: step.units - 2500 + again.units, rate: rate))
    fixture.ledger.finish(session, debited: used, used: used, units: 6000, context: fixture.stream, at: noon)
    #expect(fixture.earned == 100 && fixture.ledger.view(session)?.held == 0)
    _ = try fixture.ledger.beginClose(session, cause: .payer, at: noon)
    #expect(throws: Refusal.self) { try fixture.ledger.retract(session, .of(1), at: noon) }
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
  }

  @Test func runsDryAndGoesOnAfterATopUp() throws {
    let fixture = try LedgerFixture()
    let rate = Price.perMegabyte.parts[0]
    let session = try fixture.open(1, deposit: 100)
    _ = try fixture.ledger.begin(session, cost: .zero, context: fixture.stream, at: noon)
    let first = try fixture.ledger.extend(session, rate: rate, wanted: 50_000, atLeast: 1, at: noon)
    #expect(first.units == 10_000)
    #expect(throws: Refusal.insufficientBudget(required: 10)) {
      try fixture.ledger.extend(session, rate: rate, wanted: 50_000, atLeast: 1_000, at: noon)
    }
    #expect(fixture.ledger.view(session)?.required == 10)
    let before = fixture.ledger.changes
    let answer = try fixture.ledger.topUp(fixture.topUp(1, session: 1, amount: 50), at: noon) { facts in
      #expect(facts.deposit == 150)
      #expect(facts.spent == 100)
      return [7]
    }
    #expect(answer.answer == [7])
    #expect(fixture.ledger.changes > before)
    let repeated = try fixture.ledger.topUp(fixture.topUp(1, session: 1, amount: 50), at: noon) { _ in [8] }
    #expect(repeated.answer == [7])
    #expect(repeated.lsn == answer.lsn)
    #expect(fixture.ledger.view(session)?.required == 0)
    #expect(try fixture.ledger.extend(session, rate: rate, wanted: 50_000, atLeast: 1, at: noon).units == 5_000)
    #expect(fixture.balance == 999_850)
  }

  @Test func aTopUpIsTheSessionsOwn() throws {
    let fixture = try LedgerFixture()
    _ = try fixture.open(1)
    _ = try fixture.ledger.createWallet(id(2), at: noon)
    var order = fixture.topUp(1, session: 1)
    order.wallet = id(2)
    #expect(throws: Refusal.wrongWallet) { try fixture.ledger.topUp(order, at: noon) { _ in [] } }
    order = fixture.topUp(1, session: 1)
    order.currency = "eur"
    #expect(throws: Refusal.wrongTerms) { try fixture.ledger.topUp(order, at: noon) { _ in [] } }
    order = fixture.topUp(1, session: 1)
    order.merchant = "other"
    #expect(throws: Refusal.wrongTerms) { try fixture.ledger.topUp(order, at: noon) { _ in [] } }
    // The opening challenge cannot be used for a top-up: one claim across all actions.
    order = fixture.topUp(1, session: 1)
    order.challengeID = fixture.order(1).challengeID
    #expect(throws: Refusal.self) { try fixture.ledger.topUp(order, at: noon) { _ in [] } }
    // Nor the challenge of a top-up by another credential.
    _ = try fixture.ledger.topUp(fixture.topUp(1, session: 1), at: noon) { _ in [] }
    order = fixture.topUp(1, session: 1)
    order.credential = id(99)
    #expect(throws: Refusal.self) { try fixture.ledger.topUp(order, at: noon) { _ in [] } }
    #expect(fixture.balance == 998_500)
  }

  @Test func aFailedRequestIsGivenBack() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    #expect(fixture.earned == 10)
    fixture.ledger.finish(session, debited: .of(10), used: .zero, units: 0, context: fixture.line, at: noon)
    #expect(fixture.earned == 0)
    #expect(fixture.ledger.view(session)?.spent == 0)
    #expect(fixture.ledger.view(session)?.units == 0)
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
    let returned = try #require(try fixture.lines().first { $0.objectValue?["event"]?.stringValue == "session.returned" })
    #expect(returned.objectValue?["amount"]?.stringValue == "10")
    #expect(returned.objectValue?["spent"]?.stringValue == "0")
  }

  @Test func closesWhenNothingIsInFlight() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    let seen = Mutex<[ReceiptFacts]>([])
    let receipt: @Sendable (ReceiptFacts) -> [UInt8] = { facts in
      seen.withLock { $0.append(facts) }
      return [5]
    }
    _ = try fixture.ledger.beginClose(session, cause: .payer, claim: id(50), at: noon, receipt: receipt)
    #expect(fixture.ledger.closeResult(id(3_000_001)) == .pending)
    let before = fixture.ledger.changes
    fixture.ledger.finish(session, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
    #expect(fixture.ledger.changes > before)
    guard case .closed(let closed)? = fixture.ledger.closeResult(id(3_000_001)) else {
      Issue.record("the session is not closed")
      return
    }
    #expect(closed.spent == 10)
    #expect(closed.refunded == 990)
    #expect(closed.answer == [5])
    #expect(closed.claim == id(50))
    #expect(seen.withLock { $0.map(\.refunded) } == [990])
    #expect(fixture.ledger.session(id(3_000_001)) == nil)
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.closeResult(id(3_000_001)) == .closed(closed))
    again.ledger.sweep(at: noon + .seconds(86_400 + 120))
    #expect(again.ledger.closeResult(id(3_000_001)) == nil)
  }

  @Test func idleSessionsAreClosedByTheMonotonicClock() throws {
    let fixture = try LedgerFixture()
    let idle = try fixture.open(1, idle: .zero)
    let busy = try fixture.open(2, idle: .zero)
    let fresh = try fixture.open(3, idle: .seconds(600))
    _ = try fixture.ledger.begin(busy, cost: .of(1), context: fixture.line, at: noon)
    // A wall clock that jumps ahead closes nothing by itself.
    fixture.ledger.sweep(at: noon + .seconds(40_000))
    #expect(fixture.ledger.view(idle) == nil)
    #expect(fixture.ledger.view(busy)?.state == .open)
    #expect(fixture.ledger.view(fresh)?.state == .open)
    guard case .closed(let closed)? = fixture.ledger.closeResult(id(3_000_001)) else {
      Issue.record("the idle session is not closed")
      return
    }
    #expect(closed.cause == .idle)
  }

  @Test func recordsTermsOfFurtherRoutes() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    let terms = RouteTerms(routeID: "bulk", priceVersion: Price.perMegabyte.version, price: .perMegabyte)
    try fixture.ledger.addTerms(session, terms, at: noon)
    try fixture.ledger.addTerms(session, terms, at: noon)
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    let handle = try #require(again.ledger.session(id(3_000_001)))
    #expect(again.ledger.view(handle)?.terms.routes.map(\.routeID) == ["weather", "bulk"])
    #expect(again.ledger.view(handle)?.terms.routes[1] == terms)
  }

  @Test func recordsBoundsAndEveryUnit() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    let currency = Price.perRequest.currency
    let all = Unit.allCases.compactMap { Rate(amount: UInt128($0.rawValue) + 1, unitSize: 1000, unit: $0) }
    let prices = [
      Price(currency: currency, parts: Array(all.prefix(8)), minimum: 7, maximum: 9), Price(currency: currency, parts: Array(all.dropFirst(8)), maximum: 9),
      Price(currency: currency, parts: Array(all.suffix(1)), minimum: 1), Price(currency: currency, parts: Array(all.suffix(1))),
    ].compactMap(\.self)
    #expect(prices.count == 4 && all.count == Unit.allCases.count && all.count <= 16)
    for (number, price) in prices.enumerated() {
      try fixture.ledger.addTerms(session, RouteTerms(routeID: "r\(number)", priceVersion: price.version, price: price), at: noon)
    }
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    let view = try #require(again.ledger.session(id(3_000_001)).flatMap { again.ledger.view($0) })
    #expect(Array(view.terms.routes.map(\.price).dropFirst()) == prices)
  }

  @Test func aReusedSlotKnowsItsOldHandle() throws {
    let fixture = try LedgerFixture()
    let first = try fixture.open(1)
    _ = try fixture.ledger.beginClose(first, cause: .payer, at: noon)
    let second = try fixture.open(2)
    #expect(throws: Refusal.sessionClosed) { try fixture.ledger.begin(first, cost: .of(1), context: fixture.line, at: noon) }
    _ = try fixture.ledger.begin(second, cost: .of(1), context: fixture.line, at: noon)
    fixture.ledger.finish(second, debited: .of(1), used: .of(1), units: 1, context: fixture.line, at: noon)
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.sessions().map(\.id) == [id(3_000_002)])
    #expect(again.ledger.verify().isBalanced)
  }
}
