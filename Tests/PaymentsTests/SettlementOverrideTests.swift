import Testing

@testable import Payments

struct SettlementOverrideTests {
  private func read(_ text: String, decimals: UInt8 = 6) throws -> SettlementOverride? {
    let currency = try #require(Currency(code: "usdc", decimals: decimals))
    return Array(text.utf8).withUnsafeBytes { SettlementOverride($0, currency: currency) }
  }

  @Test(arguments: [
    (#"{"amount":"1858"}"#, SettlementOverride.amount(1858)),
    (#"{"amount":"0"}"#, .amount(0)),
    (#"{ "amount" : "50%", "other": 1 }"#, .share(5000)),
    (#"{"amount":"12.34%"}"#, .share(1234)),
    (#"{"amount":"100%"}"#, .share(10_000)),
    (#"{"amount":"$0.01"}"#, .amount(10_000)),
    (#"{"amount":"$3"}"#, .amount(3_000_000)),
  ])
  func theThreeFormsAreRead(text: String, expected: SettlementOverride) throws {
    #expect(try read(text) == expected)
  }

  @Test(arguments: [
    "", "1858", #"{"amount":1858}"#, #"{"amount":"-1"}"#, #"{"amount":"01"}"#, #"{"amount":"101%"}"#, #"{"amount":"1.234%"}"#, #"{"amount":"%"}"#,
    #"{"amount":"$"}"#, #"{"amount":"$0.0000001"}"#, #"{"amount":"1","amount":"2"}"#, #"{"Amount":"1"}"#, #"{"amount":"340282366920938463463374607431768211456"}"#,
    #"{"amount":"1"} x"#,
  ])
  func everythingElseIsNoOverride(text: String) throws {
    #expect(try read(text) == nil)
  }

  @Test func aLongValueIsNotRead() throws {
    #expect(try read(#"{"amount":"1","x":""# + String(repeating: "x", count: SettlementOverride.limit) + #""}"#) == nil)
  }

  @Test func neverMoreThanWasHeld() {
    #expect(SettlementOverride.amount(5).cost(ofHeld: 4) == 4)
    #expect(SettlementOverride.amount(5).cost(ofHeld: 6) == 5)
    #expect(SettlementOverride.share(5000).cost(ofHeld: 7) == 3)
    #expect(SettlementOverride.share(10_000).cost(ofHeld: .max) == .max)
    #expect(SettlementOverride.share(0).cost(ofHeld: .max) == 0)
  }
}
