import Encoding
import Foundation
import Payments
import Testing

@testable import Agent

@Suite struct PaymentLimitsTests {
  static let usdc = Currency(code: "usdc", decimals: 6)!

  private func at(day: Int64, seconds: Int64 = 0) -> Timestamp { Timestamp(seconds: day * 86_400 + seconds) }

  private func limits(_ text: String) -> PaymentLimits? { (try? JSON.parse(Array(text.utf8))).flatMap { PaymentLimits(json: $0) } }

  @Test func readsWhatItWrites() throws {
    var limits = PaymentLimits()
    limits.set(try #require(SpendingLimit("5 USDC")), for: .day)
    limits.set(try #require(SpendingLimit("0.1 USDC")), for: .payment)
    limits.setRecipients(["0xABcdef0000000000000000000000000000000001", "Shop"])
    #expect(PaymentLimits(json: limits.json) == limits)
    #expect(limits.allows(recipient: "0xabCDEF0000000000000000000000000000000001"))
    #expect(limits.allows(recipient: "Shop"))
    #expect(!limits.allows(recipient: "shop"))
  }

  @Test(arguments: [
    "[]", "{}", #"{"version":2}"#, #"{"version":1,"daily":{"usdc":"1"}}"#, #"{"version":1,"day":{"usdc":1}}"#, #"{"version":1,"day":{"usdc":"-1"}}"#,
    #"{"version":1,"day":"5 USDC"}"#, #"{"version":1,"recipients":[]}"#, #"{"version":1,"recipients":[1]}"#,
  ])
  func refusesWhatIsNotAFile(text: String) { #expect(limits(text) == nil) }

  @Test func aDayIsNeverRefilledByTheClock() {
    var record = SpendingRecord()
    record.add(7, "usdc", at: at(day: 20_000, seconds: 86_399))
    #expect(record.spent("usdc", at: at(day: 20_000)) == 7)
    // Set back, by a second or for years: what was spent stays counted, and more is added to it.
    for (time, spent) in [(at(day: 19_999), UInt128(7)), (at(day: 1), 8)] {
      #expect(record.spent("usdc", at: time) == spent)
      record.add(1, "usdc", at: time)
    }
    #expect(record.spent("usdc", at: at(day: 20_000)) == 9)
    #expect(record.spent("usdc", at: at(day: 20_001)) == 0)
    record.add(1, "usdc", at: at(day: 20_001))
    #expect(record.spent("usdc", at: at(day: 20_000)) == 1)
    #expect(SpendingRecord(json: record.json) == record)
  }

  @Test func currenciesOfOtherDecimalsAreAddedUp() throws {
    let fine = try #require(Currency(code: "usdc", decimals: 20))
    #expect(SpendingRecord.scaled(1, of: Self.usdc) == 1_000_000_000_000)
    #expect(SpendingRecord.scaled(1, of: fine) == 1)
    #expect(SpendingRecord.scaled(100, of: fine) == 1)
    #expect(SpendingRecord.scaled(101, of: fine) == 2)
    #expect(SpendingRecord.scaled(.max, of: Self.usdc) == .max)
    #expect(SpendingRecord.most(try #require(SpendingLimit("0.0000000000000000019 usdc"))) == 1)
    #expect(SpendingRecord.most(try #require(SpendingLimit("5 usdc"))) == 5_000_000_000_000_000_000)
  }

  @Test func comparesEveryLimit() throws {
    let limits = try #require(self.limits(#"{"version":1,"day":{"usdc":"1"},"payment":{"usdc":"0.5"},"session":{"usdc":"0.6"}}"#))
    var record = SpendingRecord()
    let now = at(day: 20_000)
    func plan(_ amount: UInt128, session: UInt128? = nil) -> PaymentPlan {
      PaymentPlan(amount: amount, currency: Self.usdc, recipients: ["shop"], session: session)
    }
    try plan(500_000).check(limits, record, at: now)
    #expect(throws: AgentError.overLimit(.payment(500_001, Self.usdc))) { try plan(500_001).check(limits, record, at: now) }
    #expect(throws: AgentError.overLimit(.session(600_001, Self.usdc))) { try plan(1, session: 600_001).check(limits, record, at: now) }
    record.add(SpendingRecord.scaled(600_000, of: Self.usdc), "usdc", at: now)
    try plan(400_000).check(limits, record, at: now)
    #expect(throws: AgentError.overLimit(.day(400_001, left: 400_000, Self.usdc))) { try plan(400_001).check(limits, record, at: now) }
    // Another currency has no limit here.
    try PaymentPlan(amount: .max, currency: try #require(Currency(code: "eurc", decimals: 6)), recipients: []).check(limits, record, at: now)
  }

  @Test func countsAtTheSameTime() throws {
    let keeper = Keeper(path: NSTemporaryDirectory() + "agent-\(UUID().uuidString)/farebox")
    _ = try keeper.changeLimits { $0.set(SpendingLimit("0.00001 USDC")!, for: .day) }
    let passed = Journal<Int>()
    DispatchQueue.concurrentPerform(iterations: 32) { index in
      let plan = PaymentPlan(amount: 1, currency: Self.usdc, recipients: ["shop"])
      if (try? keeper.reserve(plan)) != nil { passed.add(index) }
    }
    #expect(passed.all.count == 10)
    #expect(try keeper.spentToday().map(\.number) == ["0.00001"])
  }
}
