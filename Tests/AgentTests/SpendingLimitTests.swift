import Payments
import Testing

@testable import Agent

@Suite struct SpendingLimitTests {
  @Test func readsWords() throws {
    let usdc = try #require(Currency(code: "usdc", decimals: 6))
    let limit = try #require(SpendingLimit("0.05  USDC"))
    #expect(limit.units(in: usdc) == 50_000)
    #expect(limit.units(in: try #require(Currency(code: "eurc", decimals: 6))) == nil)
    #expect(try #require(SpendingLimit("0.0000001 usdc")).units(in: usdc) == nil)
    #expect(try #require(SpendingLimit("0 usdc")).units(in: usdc) == 0)
  }

  @Test(arguments: ["", "5", "usdc", "5usdc", "-1 usdc", "1e3 usdc", "1,5 usdc", "1 us dc", "1. usdc", ".5 usdc", "1 US-DC"])
  func refuses(words: String) {
    #expect(SpendingLimit(words) == nil)
  }
}
