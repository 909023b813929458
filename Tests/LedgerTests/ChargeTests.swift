import Bytes
import Encoding
import Testing

@testable import Ledger

/// The states of a charge's claim, and what every action does in each.
@Suite struct ChargeTests {
  enum State: CaseIterable { case new, held, settled, voided }
  enum Action: CaseIterable { case hold, settle, void }

  /// What is expected: the claim's state after the action, or the refusal.
  static let table: [(State, Action, claim: ClaimState.Kind?, refusal: RefusalKind?)] = [
    (.new, .hold, .held, nil),
    (.new, .settle, nil, .unknownHold),
    (.new, .void, nil, nil),
    (.held, .hold, .held, .claimInFlight),
    (.held, .settle, .settled, nil),
    (.held, .void, nil, nil),
    (.settled, .hold, .settled, .claimSettled),
    (.settled, .settle, .settled, .unknownHold),
    (.settled, .void, .settled, nil),
    (.voided, .hold, .held, nil),
    (.voided, .settle, nil, .unknownHold),
    (.voided, .void, nil, nil),
  ]

  @Test(arguments: table) func follows(row: (State, Action, claim: ClaimState.Kind?, refusal: RefusalKind?)) throws {
    let fixture = try LedgerFixture()
    let order = fixture.charge(1)
    var hold = Hold(id: 9_999, epoch: 1)
    switch row.0 {
    case .new: break
    case .held: hold = try fixture.ledger.hold(order, at: noon)
    case .settled:
      hold = try fixture.ledger.hold(order, at: noon)
      _ = try fixture.ledger.settle(hold, at: noon)
    case .voided:
      hold = try fixture.ledger.hold(order, at: noon)
      fixture.ledger.void(hold, cause: .upstreamFailed, at: noon)
    }
    var refusal: Refusal?
    do throws(Refusal) {
      switch row.1 {
      case .hold: _ = try fixture.ledger.hold(order, at: noon)
      case .settle: _ = try fixture.ledger.settle(hold, at: noon)
      case .void: fixture.ledger.void(hold, cause: .upstreamFailed, at: noon)
      }
    } catch {
      refusal = error
    }
    #expect(refusal.map(RefusalKind.init) == row.refusal)
    #expect(fixture.ledger.claimState(order.challengeID)?.kind == row.claim)
    let isOut = row.claim != nil
    #expect(fixture.balance == (isOut ? 999_900 : 1_000_000))
    #expect(fixture.earned == (row.claim == .settled ? 100 : 0))
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
  }

  @Test func refusesWhatTheWalletDoesNotHave() throws {
    let fixture = try LedgerFixture(funds: 99)
    #expect(throws: Refusal.insufficientFunds(required: 100, available: 99)) { try fixture.ledger.hold(fixture.charge(1), at: noon) }
    #expect(fixture.ledger.claimState(fixture.charge(1).challengeID) == nil)
    var order = fixture.charge(2, amount: 1)
    order.wallet = id(77)
    #expect(throws: Refusal.unknownWallet) { try fixture.ledger.hold(order, at: noon) }
    order = fixture.charge(3, amount: 1)
    order.currency = "gbp"
    #expect(throws: Refusal.unknownCurrency) { try fixture.ledger.hold(order, at: noon) }
    order = fixture.charge(4, amount: 1, merchant: "line\nfeed")
    #expect(throws: Refusal.malformedName) { try fixture.ledger.hold(order, at: noon) }
    #expect(fixture.balance == 99)
  }

  @Test func aForgottenChallengeStaysUsed() throws {
    let fixture = try LedgerFixture()
    let order = fixture.charge(1)
    _ = try fixture.ledger.settle(try fixture.ledger.hold(order, at: noon), at: noon)
    fixture.ledger.sweep(at: noon + .seconds(3_600))
    #expect(fixture.ledger.claimState(order.challengeID) == nil)
    // The clock is set back: the challenge would be fresh again.
    #expect(throws: Refusal.claimExpired) { try fixture.ledger.hold(order, at: noon) }
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(throws: Refusal.claimExpired) { try again.ledger.hold(order, at: noon) }
  }

  @Test func refundsOnce() throws {
    let fixture = try LedgerFixture()
    let hold = try fixture.ledger.hold(fixture.charge(1), at: noon)
    _ = try fixture.ledger.settle(hold, at: noon)
    #expect(throws: Refusal.unknownReference) { try fixture.ledger.refund(hold.id + 1, at: noon) }
    _ = try fixture.ledger.refund(hold.id, at: noon)
    #expect(fixture.balance == 1_000_000)
    #expect(fixture.earned == 0)
    #expect(fixture.ledger.walletView(fixture.wallet)?.accounts[0].outflowToday == 0)
    #expect(throws: Refusal.alreadyRefunded) { try fixture.ledger.refund(hold.id, at: noon) }
    #expect(fixture.ledger.verify().isBalanced)
  }

  @Test func keepsOutcomesOfIdempotentRequests() throws {
    let fixture = try LedgerFixture()
    let key = OutcomeKey(key: id(10), request: id(11))
    var order = fixture.charge(1)
    order.idempotency = key
    #expect(fixture.ledger.outcome(key) == nil)
    let hold = try fixture.ledger.hold(order, at: noon)
    #expect(fixture.ledger.outcome(key) == .inFlight)
    #expect(fixture.ledger.outcome(OutcomeKey(key: id(10), request: id(12))) == .mismatch)
    var second = fixture.charge(2)
    second.idempotency = key
    #expect(throws: Refusal.outcomeInFlight) { try fixture.ledger.hold(second, at: noon) }
    second.idempotency?.request = id(12)
    #expect(throws: Refusal.outcomeMismatch) { try fixture.ledger.hold(second, at: noon) }
    #expect(fixture.balance == 999_900)
    let outcome = StoredOutcome(status: 200, head: [1], body: [2, 3], receipt: [4])
    _ = try fixture.ledger.settle(hold, outcome: outcome, at: noon)
    #expect(fixture.ledger.outcome(key) == .stored(outcome))
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.outcome(key) == .stored(outcome))
    again.ledger.sweep(at: noon + .seconds(86_400 + 120))
    #expect(again.ledger.outcome(key) == nil)
  }

  @Test func pastTheMemorysBoundOnlyReceiptsAreKept() throws {
    let fixture = try LedgerFixture()
    let outcome = StoredOutcome(status: 200, head: [1, 1, 1], body: [2, 2], receipt: [3])
    fixture.ledger.state.withLock { $0.outcomeOctets = LedgerState.outcomeOctetLimit - 6 }
    let keys = (0..<2).map { OutcomeKey(key: id(20 + $0), request: id(30)) }
    for key in keys { _ = try fixture.ledger.store(outcome, for: key, at: noon) }
    #expect(fixture.ledger.outcome(keys[0]) == .stored(outcome))
    #expect(fixture.ledger.outcome(keys[1]) == .stored(StoredOutcome(status: 200, head: [], body: nil, receipt: [3])))
    fixture.ledger.sweep(at: noon + .seconds(86_400 + 120))
    #expect(fixture.ledger.state.withLock { $0.outcomeOctets } == LedgerState.outcomeOctetLimit - 6)
  }

  @Test func aVoidFreesTheIdempotencyKey() throws {
    let fixture = try LedgerFixture()
    var order = fixture.charge(1)
    order.idempotency = OutcomeKey(key: id(10), request: id(11))
    let hold = try fixture.ledger.hold(order, at: noon)
    fixture.ledger.void(hold, cause: .upstreamFailed, at: noon)
    #expect(fixture.ledger.outcome(OutcomeKey(key: id(10), request: id(11))) == nil)
  }
}

extension ClaimState {
  enum Kind: Sendable { case held, settled }

  var kind: Kind {
    switch self {
    case .held: .held
    case .settled: .settled
    }
  }
}

/// A refusal without its numbers, for tables.
enum RefusalKind: Sendable {
  case claimInFlight, claimSettled, unknownHold, sessionClosing, sessionClosed, sessionExists, alreadyOpen, unknownSession, other

  init(_ refusal: Refusal) {
    switch refusal {
    case .claimInFlight: self = .claimInFlight
    case .claimSettled: self = .claimSettled
    case .unknownHold: self = .unknownHold
    case .sessionClosing: self = .sessionClosing
    case .sessionClosed: self = .sessionClosed
    case .sessionExists: self = .sessionExists
    case .alreadyOpen: self = .alreadyOpen
    case .unknownSession: self = .unknownSession
    default: self = .other
    }
  }
}
