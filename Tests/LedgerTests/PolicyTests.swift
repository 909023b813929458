import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

@Suite struct PolicyTests {
  enum Payment: CaseIterable { case charge, open, topUp }

  /// A policy that a payment of 500 meets, and which payments it stops.
  static let table: [(PolicyLimit, Policy, [Payment])] = [
    (.dailyCap, Policy(caps: ["usdc": .init(daily: 499)]), [.charge, .open, .topUp]),
    (.paymentCap, Policy(caps: ["usdc": .init(payment: 499)]), [.charge]),
    (.sessionCap, Policy(caps: ["usdc": .init(session: 499)]), [.open, .topUp]),
    (.maximumSessions, Policy(maximumSessions: 0), [.open]),
    (.allow, Policy(allowed: ["other"]), [.charge, .open]),
    (.allow, Policy(allowed: []), [.charge, .open]),
    (.expires, Policy(expires: noon - .seconds(1)), [.charge, .open, .topUp]),
  ]

  private func pay(_ payment: Payment, _ fixture: LedgerFixture, at now: Timestamp = noon) throws {
    switch payment {
    case .charge: _ = try fixture.ledger.hold(fixture.charge(9, amount: 500), at: now)
    case .open: _ = try fixture.ledger.open(fixture.order(9, deposit: 500), at: now) { _ in [] }
    case .topUp: _ = try fixture.ledger.topUp(fixture.topUp(9, session: 1, amount: 500), at: now) { _ in [] }
    }
  }

  @Test(arguments: table) func everyLimitStopsItsPayments(row: (PolicyLimit, Policy, [Payment])) throws {
    for payment in Payment.allCases {
      let fixture = try LedgerFixture()
      _ = try fixture.open(1, deposit: 10)
      _ = try fixture.ledger.setPolicy(fixture.wallet, row.1, at: noon)
      let before = fixture.balance
      if row.2.contains(payment) {
        #expect(throws: Refusal.policy(row.0), "\(row.0) \(payment)") { try pay(payment, fixture) }
        #expect(fixture.balance == before)
      } else {
        try pay(payment, fixture)
        #expect(fixture.balance == before - 500)
      }
      #expect(fixture.ledger.verify().isBalanced)
    }
  }

  @Test(arguments: Payment.allCases) func exactlyTheCapMayLeave(payment: Payment) throws {
    let caps = Policy.Caps(daily: 510, payment: 500, session: 510)
    let fixture = try LedgerFixture()
    _ = try fixture.open(1, deposit: 10)
    _ = try fixture.ledger.setPolicy(
      fixture.wallet, Policy(caps: ["usdc": caps], maximumSessions: 2, allowed: ["shop"], expires: noon), at: noon)
    try pay(payment, fixture)
    #expect(fixture.balance == 999_490)
    #expect(fixture.ledger.walletView(fixture.wallet)?.accounts[0].leftToday == 0)
    #expect(throws: Refusal.policy(.dailyCap)) { try fixture.ledger.hold(fixture.charge(10, amount: 1), at: noon) }
  }

  @Test func aFrozenWalletPaysNothingAndItsSessionsStop() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
    _ = try fixture.ledger.freeze(fixture.wallet, at: noon)
    #expect(throws: Refusal.policy(.frozen)) { try fixture.ledger.hold(fixture.charge(1), at: noon) }
    #expect(throws: Refusal.sessionClosing) { try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon) }
    #expect(throws: Refusal.sessionClosing) {
      try fixture.ledger.extend(session, rate: Price.perMegabyte.parts[0], wanted: 1, atLeast: 1, at: noon)
    }
    fixture.ledger.finish(session, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
    guard case .closed(let closed) = fixture.ledger.closeResult(id(3_000_001)) else {
      Issue.record("the session is not closed")
      return
    }
    #expect(closed.cause == .frozen)
    #expect(closed.refunded == 990)
    #expect(fixture.balance == 999_990)
    _ = try fixture.ledger.thaw(fixture.wallet, at: noon)
    _ = try fixture.ledger.hold(fixture.charge(1), at: noon)
  }

  // MARK: the day of an outflow

  private func left(_ fixture: LedgerFixture) -> UInt128? { fixture.ledger.walletView(fixture.wallet)?.accounts[0].outflowToday }

  @Test func anOutflowGoesBackToItsOwnDayOnly() throws {
    let fixture = try LedgerFixture(policy: Policy(caps: ["usdc": .init(daily: 1_000)]))
    let tomorrow = noon + .seconds(86_400)
    let yesterdays = try fixture.ledger.hold(fixture.charge(1, amount: 600), at: noon)
    #expect(left(fixture) == 600)
    let expires = tomorrow + .seconds(300)
    _ = try fixture.ledger.hold(fixture.charge(2, amount: 700, expires: expires), at: tomorrow)
    #expect(left(fixture) == 700)
    fixture.ledger.void(yesterdays, cause: .upstreamFailed, at: tomorrow)
    #expect(left(fixture) == 700)
    #expect(throws: Refusal.policy(.dailyCap)) { try fixture.ledger.hold(fixture.charge(3, amount: 301, expires: expires), at: tomorrow) }
  }

  @Test func aClockSetBackReopensNothing() throws {
    let fixture = try LedgerFixture(policy: Policy(caps: ["usdc": .init(daily: 1_000)]))
    let tomorrow = noon + .seconds(86_400)
    let hold = try fixture.ledger.hold(fixture.charge(1, amount: 1_000, expires: tomorrow + .seconds(300)), at: tomorrow)
    _ = try fixture.ledger.settle(hold, at: tomorrow)
    #expect(throws: Refusal.policy(.dailyCap)) { try fixture.ledger.hold(fixture.charge(2, amount: 1), at: noon) }
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(throws: Refusal.policy(.dailyCap)) { try again.ledger.hold(again.charge(2, amount: 1), at: noon) }
  }

  @Test func aRefundOfADepositGoesBackToTheLastDepositsDay() throws {
    let fixture = try LedgerFixture(policy: Policy(caps: ["usdc": .init(daily: 1_000)]))
    let session = try fixture.open(1, deposit: 800)
    let tomorrow = noon + .seconds(86_400)
    var topUp = fixture.topUp(1, session: 1, amount: 300)
    topUp.expires = tomorrow + .seconds(300)
    _ = try fixture.ledger.topUp(topUp, at: tomorrow) { _ in [] }
    #expect(left(fixture) == 300)
    _ = try fixture.ledger.beginClose(session, cause: .payer, at: tomorrow)
    // 1,100 came back, of which today's deposit was 300.
    #expect(left(fixture) == 0)
    #expect(fixture.balance == 1_000_000)
  }
}
