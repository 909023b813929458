import Bytes
import Encoding
import HTTP
import Testing

@testable import Ledger

/// The states of a payment on a chain, and what every call does in each.
@Suite struct ChainPaymentTests {
  enum State: CaseIterable { case unknown, claimed, submitted, settled, serving, voided, served, returned, writtenOff, refused }
  enum Action: CaseIterable { case claim, submitted, settled, refused, serve, serveOther, writeOff, settle, void }
  enum Kind: Sendable { case inFlight, used, unknown, mismatch, noHold }

  /// What is expected of a state: its name for callers, where its money stands, and the state or the refusal that each action leads to.
  struct Row: Sendable {
    var state: State
    var name: ChainPaymentState?
    var held: UInt128
    var earned: Int128
    var results: [Action: Result]

    enum Result: Sendable, Equatable { case to(ChainPaymentState?), refuses(Kind) }
  }

  private static let settledResults: [Action: Row.Result] = [
    .claim: .refuses(.used), .submitted: .refuses(.used), .settled: .to(.settled), .refused: .refuses(.used), .serve: .to(.serving),
    .serveOther: .refuses(.mismatch), .writeOff: .to(.writtenOff), .settle: .refuses(.noHold), .void: .to(.settled),
  ]
  private static let unknownResults: [Action: Row.Result] = [
    .claim: .to(.claimed), .submitted: .refuses(.unknown), .settled: .refuses(.unknown), .refused: .refuses(.unknown),
    .serve: .refuses(.unknown), .serveOther: .refuses(.unknown), .writeOff: .refuses(.unknown), .settle: .refuses(.noHold), .void: .to(nil),
  ]
  private static func openResults(_ state: ChainPaymentState) -> [Action: Row.Result] {
    [
      .claim: .refuses(.inFlight), .submitted: .to(.submitted), .settled: .to(.settled), .refused: .to(nil), .serve: .refuses(.inFlight),
      .serveOther: .refuses(.mismatch), .writeOff: .refuses(.inFlight), .settle: .refuses(.noHold), .void: .to(state),
    ]
  }
  private static func usedResults(_ state: ChainPaymentState) -> [Action: Row.Result] {
    [
      .claim: .refuses(.used), .submitted: .refuses(.used), .settled: .to(state), .refused: .refuses(.used), .serve: .refuses(.used),
      .serveOther: .refuses(.mismatch), .writeOff: .refuses(.used), .settle: .refuses(.noHold), .void: .to(state),
    ]
  }

  static let table: [Row] = [
    Row(state: .unknown, name: nil, held: 0, earned: 0, results: unknownResults),
    Row(state: .refused, name: nil, held: 0, earned: 0, results: unknownResults),
    Row(state: .claimed, name: .claimed, held: 0, earned: 0, results: openResults(.claimed)),
    Row(state: .submitted, name: .submitted, held: 0, earned: 0, results: openResults(.submitted)),
    Row(state: .settled, name: .settled, held: 100, earned: 0, results: settledResults),
    Row(state: .voided, name: .settled, held: 100, earned: 0, results: settledResults),
    Row(state: .returned, name: .settled, held: 100, earned: 0, results: settledResults),
    Row(
      state: .serving, name: .serving, held: 100, earned: 0,
      results: [
        .claim: .refuses(.inFlight), .submitted: .refuses(.used), .settled: .to(.serving), .refused: .refuses(.used),
        .serve: .refuses(.inFlight), .serveOther: .refuses(.mismatch), .writeOff: .refuses(.inFlight), .settle: .to(.served),
        .void: .to(.settled),
      ]),
    Row(state: .served, name: .served, held: 0, earned: 100, results: usedResults(.served)),
    Row(state: .writtenOff, name: .writtenOff, held: 0, earned: 100, results: usedResults(.writtenOff)),
  ]

  /// Brings payment 1 into a state; the hold under which it was served last.
  private func bring(_ fixture: LedgerFixture, to state: State) throws -> Hold {
    let none = Hold(id: 9_999, epoch: 1)
    let order = fixture.payment(1, challenge: 1)
    let ledger = fixture.ledger
    if state == .unknown { return none }
    _ = try ledger.claim(order, at: noon)
    switch state {
    case .unknown, .claimed: return none
    case .submitted:
      _ = try ledger.submitted(order.id, transaction: nil, at: noon)
      return none
    case .refused:
      _ = try ledger.refused(order.id, cause: "reverted", at: noon)
      return none
    case .settled, .serving, .voided, .served, .returned, .writtenOff: _ = try ledger.settled(order.id, transaction: id(5), at: noon)
    }
    if state == .settled { return none }
    if state == .writtenOff {
      _ = try ledger.writeOff(order.id, at: noon)
      return none
    }
    let hold = try ledger.serve(order.id, request: order.request, at: noon)
    if state == .voided { ledger.void(hold, cause: .upstreamFailed, at: noon) }
    if state == .served { _ = try ledger.settle(hold, at: noon) }
    if state == .returned {
      _ = try ledger.settle(hold, staysOpen: true, at: noon)
      ledger.end(hold, givingBack: 100, at: noon)
    }
    return hold
  }

  @Test(arguments: table, Action.allCases) func follows(row: Row, action: Action) throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let order = fixture.payment(1, challenge: 1)
    let hold = try bring(fixture, to: row.state)
    #expect(ledger.payment(order.id)?.state == row.name)
    #expect(fixture.chainAccounts.held == row.held && fixture.chainEarned == row.earned)
    var refusal: Refusal?
    do throws(Refusal) {
      switch action {
      case .claim: _ = try ledger.claim(order, at: noon)
      case .submitted: _ = try ledger.submitted(order.id, transaction: id(5), at: noon)
      case .settled: _ = try ledger.settled(order.id, transaction: id(5), at: noon)
      case .refused: _ = try ledger.refused(order.id, cause: "reverted", at: noon)
      case .serve: _ = try ledger.serve(order.id, request: order.request, at: noon)
      case .serveOther: _ = try ledger.serve(order.id, request: id(4), at: noon)
      case .writeOff: _ = try ledger.writeOff(order.id, at: noon)
      case .settle: _ = try ledger.settle(hold, at: noon)
      case .void: ledger.void(hold, cause: .upstreamFailed, at: noon)
      }
    } catch {
      refusal = error
    }
    let after = ledger.payment(order.id)?.state
    switch try #require(row.results[action]) {
    case .to(let state):
      #expect(refusal == nil)
      #expect(after == state)
    case .refuses(let kind):
      #expect(refusal.flatMap(Kind.init) == kind)
      #expect(after == row.name)
    }
    try check(fixture, after)
    // A kill changes what a restart has to change, and no more.
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    let restarted: ChainPaymentState? = after == .claimed ? nil : after == .serving ? .settled : after
    #expect(again.ledger.payment(order.id)?.state == restarted)
    try check(again, restarted)
    again.ledger.close()
    #expect(verified(fixture.folder).isValid)
  }

  /// Where money and challenge stand in a state.
  private func check(_ fixture: LedgerFixture, _ state: ChainPaymentState?) throws {
    let accounts = fixture.chainAccounts
    let challenge = fixture.ledger.claimState(id(8_000_001))
    #expect(fixture.ledger.verify().isBalanced)
    #expect(fixture.ledger.unservedPayments().count == (state == .settled ? 1 : 0))
    #expect(fixture.ledger.openPayments().count == (state == .submitted ? 1 : 0))
    switch state {
    case nil:
      #expect(accounts.issued == 0 && challenge == nil)
    case .claimed, .submitted:
      #expect(accounts.issued == 0 && accounts.held == 0 && challenge == .held)
    case .serving:
      #expect(accounts.issued == 100 && accounts.held == 100 && challenge == .held)
    case .settled:
      #expect(accounts.issued == 100 && accounts.held == 100 && challenge?.kind == .settled)
    case .served, .writtenOff:
      #expect(accounts.issued == 100 && accounts.held == 0 && fixture.chainEarned == 100 && challenge?.kind == .settled)
    }
  }

  // MARK: refusals of the claim

  @Test func refusesWhatCannotBeKept() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    func refusal(_ change: (inout ChainPaymentOrder) -> Void) -> Refusal? {
      var order = fixture.payment(1)
      change(&order)
      do throws(Refusal) { _ = try ledger.claim(order, at: noon) } catch { return error }
      return nil
    }
    #expect(refusal { $0.currency = "usdc@eip155:1" } == .unknownCurrency)
    #expect(refusal { $0.merchant = "a\nb" } == .malformedName)
    #expect(refusal { $0.payer = "" } == .malformedName)
    #expect(refusal { $0.proof = [UInt8](repeating: 0, count: 16_385) } == .tooMany(.proofOctets))
    #expect(refusal { $0.amount = .max } == .overflow)
    #expect(refusal { $0.amount = LedgerState.issueLimit + 1 } == .overflow)
    #expect(refusal { $0.expires = Timestamp(microseconds: 0) } == .claimExpired)
    #expect(ledger.payment(fixture.payment(1).id) == nil)
    ledger.setAvailability(.closingOnly)
    #expect(refusal { _ in } == .unavailable)
    ledger.setAvailability(.selling)
    #expect(refusal { $0.proof = [UInt8](repeating: 9, count: 16_384) } == nil)
    #expect(ledger.payment(fixture.payment(1).id)?.proof.count == 16_384)
  }

  /// What is expected is as good as issued: two payments that fit alone do not fit together.
  @Test func whatIsExpectedHasItsPlace() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    _ = try ledger.claim(fixture.payment(1, amount: LedgerState.issueLimit - 5), at: noon)
    #expect(throws: Refusal.overflow) { try ledger.claim(fixture.payment(2, amount: 6), at: noon) }
    #expect(throws: Refusal.overflow) { try ledger.fund(fixture.wallet, currency: base, amount: 6, reference: "f", at: noon) }
    _ = try ledger.claim(fixture.payment(3, amount: 5), at: noon)
    _ = try ledger.settled(fixture.payment(1).id, transaction: nil, at: noon)
    #expect(throws: Refusal.overflow) { try ledger.claim(fixture.payment(4, amount: 1), at: noon) }
    _ = try ledger.refused(fixture.payment(3).id, cause: "reverted", at: noon)
    _ = try ledger.claim(fixture.payment(4, amount: 5), at: noon)
    _ = try ledger.settled(fixture.payment(4).id, transaction: nil, at: noon)
    #expect(fixture.chainAccounts.issued == LedgerState.issueLimit)
    #expect(ledger.verify().isBalanced)
    fixture.waitUntilDurable()
    ledger.abandon()
    #expect(try LedgerFixture(in: fixture.folder).ledger.verify().isBalanced)
  }

  @Test func aChallengeIsPaidOnce() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let claimed = try ledger.claim(fixture.payment(1, challenge: 1), at: noon)
    #expect(throws: Refusal.claimInFlight) { try ledger.claim(fixture.payment(2, challenge: 1), at: noon) }
    var charge = fixture.charge(1)
    charge.challengeID = id(8_000_001)
    #expect(throws: Refusal.claimInFlight) { try ledger.hold(charge, at: noon) }
    _ = try ledger.settled(fixture.payment(1).id, transaction: nil, at: noon)
    #expect(throws: Refusal.claimSettled(reference: claimed)) { try ledger.claim(fixture.payment(2, challenge: 1), at: noon) }
    #expect(throws: Refusal.claimSettled(reference: claimed)) { try ledger.hold(charge, at: noon) }
    // The other way round: a wallet's charge took the challenge.
    let hold = try ledger.hold(fixture.charge(2), at: noon)
    var order = fixture.payment(3)
    order.challengeID = fixture.charge(2).challengeID
    #expect(throws: Refusal.claimInFlight) { try ledger.claim(order, at: noon) }
    _ = try ledger.settle(hold, at: noon)
    #expect(throws: Refusal.claimSettled(reference: hold.id)) { try ledger.claim(order, at: noon) }
    #expect(ledger.payment(order.id) == nil)
    // Refused, the challenge is free.
    _ = try ledger.claim(fixture.payment(4, challenge: 4), at: noon)
    _ = try ledger.refused(fixture.payment(4).id, cause: "reverted", at: noon)
    _ = try ledger.claim(fixture.payment(5, challenge: 4), at: noon)
  }

  @Test func ofManyAtOnceOneIsClaimed() async throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let order = fixture.payment(1, challenge: 1)
    let claims = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<64 { group.addTask { (try? ledger.claim(order, at: noon)) != nil } }
      return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
    }
    #expect(claims == 1)
    _ = try ledger.settled(order.id, transaction: nil, at: noon)
    let served = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<64 { group.addTask { (try? ledger.serve(order.id, request: order.request, at: noon)) != nil } }
      return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
    }
    #expect(served == 1)
    #expect(ledger.verify().isBalanced)
  }

  // MARK: service

  @Test func keepsTheOutcomeOfTheRequest() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let payment = try fixture.paid(1)
    let key = OutcomeKey(key: payment, request: fixture.payment(1).request)
    let hold = try ledger.serve(payment, request: key.request, idempotency: key, at: noon)
    #expect(ledger.outcome(key) == .inFlight)
    ledger.void(hold, cause: .upstreamFailed, at: noon)
    #expect(ledger.outcome(key) == nil)
    let second = try ledger.serve(payment, request: key.request, idempotency: key, at: noon)
    let outcome = StoredOutcome(status: 200, head: [1], body: [2], receipt: [3])
    _ = try ledger.settle(second, outcome: outcome, at: noon)
    #expect(ledger.outcome(key) == .stored(outcome))
    let other = try fixture.paid(2)
    #expect(throws: Refusal.outcomeMismatch) {
      try ledger.serve(other, request: fixture.payment(2).request, idempotency: OutcomeKey(key: payment, request: id(3)), at: noon)
    }
    #expect(ledger.payment(other)?.state == .settled)
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.outcome(key) == .stored(outcome))
    #expect(again.ledger.payment(payment)?.state == .served)
  }

  /// A chain cannot give back by itself: only all of it goes back, to be served once more.
  @Test func aPartIsNotGivenBack() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let payment = try fixture.paid(1)
    let request = fixture.payment(1).request
    let key = OutcomeKey(key: payment, request: request)
    let first = try ledger.serve(payment, request: request, idempotency: key, at: noon)
    _ = try ledger.settle(first, outcome: StoredOutcome(status: 200, head: [], body: nil, receipt: []), staysOpen: true, at: noon)
    #expect(ledger.end(first, givingBack: 99, at: noon) == 0)
    #expect(ledger.end(first, givingBack: 100, at: noon) == 0)
    #expect(ledger.payment(payment)?.state == .served && fixture.chainEarned == 100)
    #expect(ledger.outcome(key) != nil)
    let other = try fixture.paid(2)
    let second = try ledger.serve(other, request: fixture.payment(2).request, idempotency: OutcomeKey(key: other, request: request), at: noon)
    _ = try ledger.settle(second, outcome: StoredOutcome(status: 200, head: [], body: nil, receipt: []), staysOpen: true, at: noon)
    #expect(ledger.end(second, givingBack: 1_000, at: noon) > 0)
    #expect(ledger.payment(other)?.state == .settled && fixture.chainEarned == 100)
    #expect(ledger.outcome(OutcomeKey(key: other, request: request)) == nil)
    #expect(ledger.verify().isBalanced)
    // No operator gives it back to a wallet.
    fixture.waitUntilDurable()
    #expect(throws: Refusal.unknownReference) { try ledger.refund(first.id, at: noon) }
  }

  @Test func whatIsPaidIsServedWhereNothingNewIsSold() throws {
    let fixture = try LedgerFixture()
    let payment = try fixture.paid(1)
    fixture.ledger.setAvailability(.closingOnly)
    let hold = try fixture.ledger.serve(payment, request: fixture.payment(1).request, at: noon)
    _ = try fixture.ledger.settle(hold, at: noon)
    #expect(fixture.chainEarned == 100)
  }

  // MARK: time

  @Test func isForgottenADayAfterItCanSettle() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let day = Duration.seconds(86_400)
    let expires = noon + .seconds(300)
    let served = try fixture.paid(1, challenge: 1)
    _ = try ledger.settle(try ledger.serve(served, request: fixture.payment(1).request, at: noon), at: noon)
    let unserved = try fixture.paid(2)
    _ = try ledger.claim(fixture.payment(3, challenge: 3), at: noon)
    _ = try ledger.claim(fixture.payment(4), at: noon)
    _ = try ledger.submitted(fixture.payment(4).id, transaction: nil, at: noon)
    ledger.sweep(at: expires + day - .seconds(60))
    #expect((1...4).allSatisfy { ledger.payment(fixture.payment($0).id) != nil })
    let later = expires + day + .seconds(120)
    ledger.sweep(at: later)
    #expect(ledger.payment(served) == nil && ledger.payment(fixture.payment(3).id) == nil)
    #expect(ledger.claimState(id(8_000_001)) == nil && ledger.claimState(id(8_000_003)) == nil)
    // What only the chain or an operator can end stays.
    #expect(ledger.payment(unserved)?.state == .settled && ledger.payment(fixture.payment(4).id)?.state == .submitted)
    // The clock is set back: what was used is not new again.
    #expect(throws: Refusal.claimExpired) { try ledger.claim(fixture.payment(1), at: noon) }
    _ = try ledger.writeOff(unserved, at: later)
    #expect(ledger.payment(unserved)?.state == .writtenOff)
    ledger.sweep(at: later + day + .seconds(120))
    #expect(ledger.payment(unserved) == nil)
    #expect(fixture.chainEarned == 200)
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.payment(served) == nil && again.ledger.payment(unserved) == nil)
    #expect(again.ledger.openPayments().map(\.id) == [fixture.payment(4).id])
    #expect(throws: Refusal.claimExpired) { try again.ledger.claim(again.payment(1), at: noon) }
    #expect(again.ledger.verify().isBalanced)
    again.ledger.close()
    #expect(verified(fixture.folder).isValid)
  }

  /// What moves nothing costs nothing: neither one client nor all have the places of who pays, nor is it kept for longer than it could be used twice.
  @Test func whatMovesNothingIsBoundedAndForgottenSoon() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let answer = OutcomeKey(key: fixture.payment(1).id, request: fixture.payment(1).request)
    for number in 1...LedgerLimit.freePaymentsOfClient.most {
      let order = fixture.payment(number, amount: 0, challenge: number)
      _ = try ledger.claim(order, at: noon)
      _ = try ledger.settled(order.id, transaction: nil, at: noon)
      guard number != 2 else { continue }
      let hold = try ledger.serve(order.id, request: order.request, idempotency: number == 1 ? answer : nil, at: noon)
      _ = try ledger.settle(hold, outcome: StoredOutcome(status: 200, head: [], body: [1], receipt: []), at: noon)
    }
    #expect(ledger.outcome(answer) == nil)
    var another = fixture.payment(0, amount: 0)
    #expect(throws: Refusal.tooMany(.freePayments)) { try ledger.claim(another, at: noon) }
    _ = try ledger.claim(fixture.payment(2_000), at: noon)
    another.client = ClientAddress(ipv4: 1)
    _ = try ledger.claim(another, at: noon)
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(throws: Refusal.tooMany(.freePayments)) { try again.ledger.claim(again.payment(3_000, amount: 0), at: noon) }
    again.ledger.sweep(at: noon + .seconds(420))
    #expect((1...3).allSatisfy { again.ledger.payment(again.payment($0).id) == nil })
    // Nothing of it is new again.
    #expect(throws: Refusal.claimExpired) { try again.ledger.claim(again.payment(1, amount: 0, challenge: 1), at: noon) }
    _ = try again.ledger.claim(again.payment(3_000, amount: 0, expires: noon + .seconds(900)), at: noon)
    #expect(again.ledger.verify().isBalanced)
    again.ledger.close()
    #expect(verified(fixture.folder).isValid)
  }

  /// A payment that is served late, or once more, is kept a day from then.
  @Test func whatIsServedLateIsKeptFromThenOn() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let payment = try fixture.paid(1)
    let late = noon + .seconds(10 * 86_400)
    ledger.sweep(at: late)
    let hold = try ledger.serve(payment, request: fixture.payment(1).request, at: late)
    _ = try ledger.settle(hold, staysOpen: true, at: late)
    ledger.end(hold, givingBack: 100, at: late)
    ledger.sweep(at: late + .seconds(2 * 86_400))
    #expect(ledger.payment(payment)?.state == .settled)
    let last = late + .seconds(2 * 86_400)
    _ = try ledger.settle(try ledger.serve(payment, request: fixture.payment(1).request, at: last), at: last)
    ledger.sweep(at: last + .seconds(86_000))
    #expect(ledger.payment(payment)?.state == .served)
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    again.ledger.sweep(at: last + .seconds(86_000))
    #expect(again.ledger.payment(payment)?.state == .served)
    again.ledger.sweep(at: last + .seconds(86_600))
    #expect(again.ledger.payment(payment) == nil)
  }

  // MARK: what is seen

  @Test func showsWhatItKeeps() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let order = fixture.payment(1, challenge: 1)
    let claimed = try ledger.claim(order, at: noon)
    var view = try #require(ledger.payment(order.id))
    #expect(view.id == order.id && view.request == order.request && view.payer == order.payer && view.amount == 100)
    #expect(view.currency == base && view.merchant == "shop" && view.expires == order.expires && view.challengeID == order.challengeID)
    #expect(view.proof == [1, 2, 3] && view.transaction == nil && view.reference == claimed && view.changed == claimed)
    let submitted = try ledger.submitted(order.id, transaction: id(1), at: noon)
    #expect(try ledger.submitted(order.id, transaction: nil, at: noon) == submitted)
    #expect(try ledger.submitted(order.id, transaction: id(1), at: noon) == submitted)
    let again = try ledger.submitted(order.id, transaction: id(2), at: noon)
    view = try #require(ledger.openPayments().first)
    #expect(again > submitted && view.transaction == id(2) && view.changed == again && view.reference == claimed && view.proof == [1, 2, 3])
    let settled = try ledger.settled(order.id, transaction: id(3), at: noon)
    #expect(try ledger.settled(order.id, transaction: id(4), at: noon) == settled)
    view = try #require(ledger.unservedPayments(limit: 1).first)
    #expect(view.transaction == id(3) && view.proof.isEmpty && view.changed == settled)
    for number in 2...5 { try fixture.paid(number) }
    #expect(ledger.unservedPayments(limit: 3).map(\.id) == (1...3).map { fixture.payment($0).id })
    fixture.waitUntilDurable()
    ledger.abandon()
    let reopened = try LedgerFixture(in: fixture.folder)
    let kept = try #require(reopened.ledger.payment(order.id))
    #expect(kept.reference == claimed && kept.changed == 0 && kept.transaction == id(3) && kept.challengeID == order.challengeID)
    #expect(reopened.ledger.unservedPayments().map(\.id) == (1...5).map { fixture.payment($0).id })
  }

  @Test func linesTellTheStory() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let order = fixture.payment(1)
    let reference = try ledger.claim(order, at: noon)
    _ = try ledger.submitted(order.id, transaction: nil, at: noon)
    _ = try ledger.settled(order.id, transaction: id(3), at: noon)
    let first = try ledger.serve(order.id, request: order.request, at: noon)
    ledger.void(first, cause: .upstreamStatus, at: noon)
    let route = ledger.label(route: "other")
    _ = try ledger.settle(
      try ledger.serve(order.id, request: order.request, route: route, client: ClientAddress(ipv4: 1), at: noon), at: noon)
    _ = try ledger.claim(fixture.payment(2), at: noon)
    _ = try ledger.refused(fixture.payment(2).id, cause: "a \"reason\"", at: noon)
    _ = try ledger.claim(fixture.payment(3), at: noon)
    _ = try ledger.refused(fixture.payment(3).id, cause: String(repeating: "x", count: 200), at: noon)
    _ = try ledger.writeOff(try fixture.paid(4), at: noon)
    ledger.close()
    let lines = try fixture.lines().compactMap(\.objectValue).filter {
      let event = $0["event"]?.stringValue ?? ""
      return event.hasPrefix("payment.") || event.hasPrefix("charge.")
    }
    #expect(
      lines.compactMap { $0["event"]?.stringValue } == [
        "payment.claimed", "payment.submitted", "payment.settled", "charge.voided", "charge.settled", "payment.claimed", "payment.failed",
        "payment.claimed", "payment.failed", "payment.claimed", "payment.submitted", "payment.settled", "payment.writtenoff",
      ])
    for line in lines {
      #expect(line["payer"]?.stringValue == order.payer && line["currency"]?.stringValue == base && line["amount"]?.stringValue == "100")
      #expect(line["recipient"]?.stringValue == "shop" && line["wallet"] == nil)
    }
    for line in lines[..<5] { #expect(line["reference"]?.stringValue == "\(reference)") }
    #expect(lines[0]["payment"]?.stringValue == order.id.hex && lines[1]["transaction"] == nil)
    #expect(lines[2]["transaction"]?.stringValue == "0x\(id(3).hex)" && lines[4]["transaction"]?.stringValue == "0x\(id(3).hex)")
    #expect(lines[3]["cause"]?.stringValue == "upstream-status" && lines[3]["route"]?.stringValue == "weather")
    #expect(lines[4]["route"]?.stringValue == "other" && lines[4]["client"]?.stringValue == "0.0.0.1")
    #expect(lines[6]["cause"]?.stringValue == "a \"reason\"" && lines[8]["cause"]?.stringValue == "other")
    let report = verified(fixture.folder)
    #expect(report.isValid)
    let accounts = try #require(report.accounts.first { $0.currency == base })
    #expect(accounts.issued == 200 && accounts.merchants == 200 && accounts.payers == 0)
  }

  @Test func limitsHold() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    ledger.state.withLock { state in
      for number in 0..<LedgerLimit.openPayments.most { state.openPayments.insert(id(number)) }
    }
    #expect(throws: Refusal.tooMany(.openPayments)) { try ledger.claim(fixture.payment(1), at: noon) }
    ledger.state.withLock { $0.openPayments = [] }
    let payment = try fixture.paid(2)
    ledger.state.withLock { state in
      let held = HeldCharge(
        payer: .payment(id(1)), merchant: 0, currency: 0, amount: 0, route: .none, client: .none, expires: noon, idempotency: nil)
      for number in 0..<LedgerLimit.holds.most { state.holds[LSN(number) + 1_000_000] = held }
    }
    #expect(throws: Refusal.tooMany(.holds)) { try ledger.serve(payment, request: fixture.payment(2).request, at: noon) }
  }
}

extension ChainPaymentTests.Kind {
  init?(_ refusal: Refusal) {
    switch refusal {
    case .claimInFlight: self = .inFlight
    case .claimSettled: self = .used
    case .unknownPayment: self = .unknown
    case .paymentMismatch: self = .mismatch
    case .unknownHold: self = .noHold
    default: return nil
    }
  }
}
