import Encoding
import Metering
import Methods
import Payments
import Testing

@testable import Agent

@Suite struct SpendingTests {
  static let usdc = Currency(code: "usdc", decimals: 6)!
  private let now = Instant.now()

  private func spending(_ change: (inout AgentOptions) -> Void) -> Spending {
    var options = AgentOptions()
    change(&options)
    return Spending(options: options)
  }

  private func session(deposit: UInt128, spent: UInt128 = 0, suggested: UInt128 = 100) -> KeptSession {
    KeptSession(
      sessionID: String(repeating: "a", count: 64), preimage: String(repeating: "b", count: 64), origin: "http://h", realm: "h",
      ledger: "l", currency: Self.usdc, recipient: "acme", wallet: "w", state: .open, deposit: deposit, spent: spent,
      suggestedDeposit: suggested, routes: [])
  }

  private func terms(suggested: UInt128, minimum: UInt128) throws -> PrepaidSession {
    let rate = try #require(Rate(amount: 1, unitSize: 1, unit: .responseByte))
    let details = PrepaidDetails(decimals: 6, ledger: "l", resource: Resource(method: "GET", url: "http://h/"))
    return PrepaidSession(
      rates: [rate], currency: "usdc", recipient: "acme", suggestedDeposit: suggested, minimumDeposit: minimum, idleTimeout: 60,
      details: details)
  }

  @Test func stepsGrowAndStayWithinTheLimits() throws {
    var spending = spending { $0.maximum = SpendingLimit("0.001 USDC") }
    var session = session(deposit: 10)
    spending.open(session)
    var amounts: [UInt128] = []
    for _ in 0..<4 {
      guard case .add(let amount) = try spending.topUp(1, rest: nil, of: session, at: now) else { 
        Issue.record("it waits")
        return
      }
      spending.add(amount)
      session.deposit += amount
      amounts.append(amount)
    }
    #expect(amounts == [100, 200, 400, 290])
    #expect(throws: AgentError.overMaximum(price: 1, maximum: 0, currency: Self.usdc)) { try spending.topUp(1, rest: nil, of: session, at: now) }
  }

  @Test func stepsGrowFourTimesAtMost() throws {
    var spending = spending { $0.maximum = SpendingLimit("1 USDC") }
    let session = session(deposit: 10)
    for expected in [100, 200, 400, 800, 1600, 1600, 1600] as [UInt128] {
      #expect(try spending.topUp(1, rest: nil, of: session, at: now) == .add(expected))
      spending.add(expected)
    }
  }

  struct Row: Sendable {
    let step: String?
    let required: UInt128
    let rest: UInt128?
    let expected: UInt128
  }

  @Test(arguments: [
    Row(step: nil, required: 1, rest: nil, expected: 100), Row(step: nil, required: 150, rest: nil, expected: 150),
    Row(step: nil, required: 1, rest: 51, expected: 51), Row(step: nil, required: 1, rest: 500, expected: 500),
    Row(step: "0.000030 USDC", required: 1, rest: nil, expected: 30), Row(step: "0.000030 USDC", required: 40, rest: nil, expected: 40),
    Row(step: "0.000030 USDC", required: 1, rest: 20, expected: 20), Row(step: "0.000030 USDC", required: 1, rest: 500, expected: 30),
    Row(step: "5 USDC", required: 1, rest: nil, expected: 1000), Row(step: nil, required: 0, rest: 1, expected: 1),
  ])
  func aTopUpIsAsLargeAsItShould(row: Row) throws {
    let spending = spending {
      $0.maximum = SpendingLimit("0.001 USDC")
      $0.step = row.step.flatMap { SpendingLimit($0) }
    }
    #expect(try spending.topUp(row.required, rest: row.rest, of: session(deposit: 10), at: now) == .add(row.expected))
  }

  @Test func theBudgetCountsWhatASessionHeld() throws {
    var spending = spending {
      $0.maximum = SpendingLimit("1 USDC")
      $0.budget = SpendingLimit("0.0005 USDC")
    }
    #expect(!spending.admits(session(deposit: 600), price: nil, at: now))
    #expect(spending.admits(session(deposit: 600), price: 500, at: now))
    #expect(!spending.admits(session(deposit: 600), price: 501, at: now))
    #expect(spending.admits(session(deposit: 600, spent: 100), price: nil, at: now))
    let used = session(deposit: 400, spent: 100)
    spending.use(used, price: nil)
    spending.use(used, price: nil)
    #expect(spending.found == 300)
    #expect(try spending.topUp(1, rest: 1000, of: used, at: now) == .add(200))
    spending.add(200)
    #expect(throws: AgentError.overMaximum(price: 1, maximum: 0, currency: Self.usdc)) { try spending.topUp(1, rest: nil, of: used, at: now) }
  }

  /// A server that names another price once the session is in use gets no more than the budget.
  @Test func theBudgetIsAskedAgainWhereTheTermsChange() throws {
    var spending = spending {
      $0.maximum = SpendingLimit("1 USDC")
      $0.budget = SpendingLimit("0.0005 USDC")
      $0.rate = SpendingLimit(perMinute: "0.0004 USDC/min")
    }
    let kept = session(deposit: 600)
    #expect(spending.admits(kept, price: 100, at: now))
    spending.use(kept, price: 100)
    #expect(spending.found == 100)
    #expect(spending.admits(kept, price: 100, at: now))
    #expect(spending.admits(kept, price: 400, at: now))
    #expect(!spending.admits(kept, price: 401, at: now))
    #expect(!spending.admits(kept, price: nil, at: now))
    spending.use(kept, price: 400)
    spending.use(kept, price: 100)
    #expect(spending.found == 400)
    // What this call has put in itself is counted already.
    let opened = session(deposit: 100)
    var fresh = self.spending { $0.budget = SpendingLimit("0.0001 USDC") }
    fresh.open(opened)
    #expect(fresh.admits(opened, price: nil, at: now))
    fresh.use(opened, price: nil)
    #expect(fresh.found == 0)
  }

  @Test func theBudgetAllowsByItself() throws {
    let spending = spending { $0.budget = SpendingLimit("0.0005 USDC") }
    #expect(try spending.deposit(for: try terms(suggested: 1000, minimum: 10), in: Self.usdc, at: now) == 500)
    #expect(throws: AgentError.overMaximum(price: 600, maximum: 500, currency: Self.usdc)) {
      try spending.deposit(for: try terms(suggested: 1000, minimum: 600), in: Self.usdc, at: now)
    }
    #expect(throws: AgentError.overMaximum(price: 501, maximum: 500, currency: Self.usdc)) { try spending.check(charge: 501, in: Self.usdc, at: now) }
    try spending.check(charge: 500, in: Self.usdc, at: now)
  }

  @Test func theRateBoundsDepositsAndCharges() throws {
    let spending = spending {
      $0.maximum = SpendingLimit("1 USDC")
      $0.rate = SpendingLimit(perMinute: "0.0003 USDC/min")
    }
    #expect(try spending.deposit(for: try terms(suggested: 1000, minimum: 10), in: Self.usdc, at: now) == 300)
    #expect(throws: AgentError.overRate(price: 301, rate: 300, currency: Self.usdc)) {
      try spending.deposit(for: try terms(suggested: 1000, minimum: 301), in: Self.usdc, at: now)
    }
    #expect(throws: AgentError.overRate(price: 301, rate: 300, currency: Self.usdc)) { try spending.check(charge: 301, in: Self.usdc, at: now) }
    #expect(!spending.admits(session(deposit: 301), price: nil, at: now))
    #expect(spending.admits(session(deposit: 300), price: nil, at: now))
    // A rate alone allows nothing to leave.
    let bare = self.spending { $0.rate = SpendingLimit(perMinute: "1 USDC/min") }
    #expect(throws: AgentError.overMaximum(price: 5, maximum: nil, currency: Self.usdc)) { try bare.check(charge: 5, in: Self.usdc, at: now) }
  }

  @Test func aTopUpWaitsForTheMinute() throws {
    var spending = spending {
      $0.maximum = SpendingLimit("1 USDC")
      $0.rate = SpendingLimit(perMinute: "0.0003 USDC/min")
    }
    var open = session(deposit: 200)
    #expect(try spending.deposit(for: try terms(suggested: 200, minimum: 10), in: Self.usdc, at: now) == 200)
    spending.open(open)
    // At 10 s all of it is spent.
    spending.learn(spent: 200, at: now + .seconds(10))
    open.spent = 200
    #expect(try spending.topUp(1, rest: nil, of: open, at: now + .seconds(10)) == .add(100))
    spending.add(100)
    open.deposit = 300
    spending.learn(spent: 300, at: now + .seconds(20))
    open.spent = 300
    #expect(try spending.topUp(1, rest: nil, of: open, at: now + .seconds(20)) == .wait(until: now + .seconds(70)))
    #expect(try spending.topUp(1, rest: nil, of: open, at: now + .seconds(70)) == .add(200))
    #expect(throws: AgentError.overRate(price: 301, rate: 300, currency: Self.usdc)) {
      try spending.topUp(301, rest: nil, of: open, at: now + .seconds(70))
    }
  }

  @Test(arguments: [
    ("0.01 USDC/min", "0.01"), ("0.01 usdc/minute", "0.01"), ("0.01  USDC per minute", "0.01"), ("1 EURC/min", "1"),
  ])
  func readsRates(words: String, number: String) {
    #expect(SpendingLimit(perMinute: words)?.number == number)
  }

  @Test(arguments: ["0.01 USDC", "0.01 USDC/h", "/min", "0.01/min USDC", "USDC/min", "0.01 USDC /min "]) func refusesRates(words: String) {
    #expect(SpendingLimit(perMinute: words) == nil)
  }
}
