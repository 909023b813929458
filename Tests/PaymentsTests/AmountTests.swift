import Testing

@testable import Payments

@Suite struct CurrencyTests {
  let usdc = Currency(code: "usdc", decimals: 6)!

  @Test(arguments: [("usdc", true), ("x", true), ("a1b2c3d4e5f6g7h", true), ("", false), ("USDC", false), ("a1b2c3d4e5f6g7h8", false), ("us-d", false), ("é", false)])
  func codes(code: String, isValid: Bool) { #expect((Currency(code: code, decimals: 0) != nil) == isValid) }

  @Test func decimalsEndAtThirty() {
    #expect(Currency(code: "x", decimals: 30) != nil)
    #expect(Currency(code: "x", decimals: 31) == nil)
  }

  @Test(arguments: [("0", 0), ("1", 1_000_000), ("0.002", 2_000), ("0.000001", 1), ("12.5", 12_500_000), ("007", 7_000_000)])
  func reads(text: String, units: UInt128) throws { #expect(try usdc.parse(text) == units) }

  @Test(arguments: ["", ".", "1.", ".5", "1..2", "1.2.3", "-1", "+1", "1e3", "1,5", " 1", "٣"])
  func refuses(text: String) { #expect(throws: PaymentError.malformedAmount) { try usdc.parse(text) } }

  @Test func refusesWhatItCannotHold() throws {
    #expect(throws: PaymentError.tooManyDecimals(limit: 6)) { try usdc.parse("0.0000001") }
    let whole = try #require(Currency(code: "x", decimals: 0))
    #expect(try whole.parse(String(UInt128.max)) == .max)
    #expect(throws: PaymentError.overflow) { try whole.parse("340282366920938463463374607431768211456") }
    #expect(throws: PaymentError.overflow) { try usdc.parse(String(UInt128.max)) }
  }

  @Test(arguments: [UInt128(0), 1, 10, 1_000_000, 1_000_001, 123_456_789, .max])
  func writesWhatItReads(units: UInt128) throws { #expect(try usdc.parse(usdc.format(units)) == units) }

  @Test func writesWithoutTrailingZeros() {
    #expect(usdc.format(2_000) == "0.002")
    #expect(usdc.format(1_500_000) == "1.5")
    #expect(usdc.format(3_000_000) == "3")
  }
}

@Suite struct AmountTests {
  let currencies = [Currency(code: "usdc", decimals: 6)!, Currency(code: "sat", decimals: 0)!]

  @Test func readsWords() throws {
    #expect(try Amount.parse("0.002 USDC", currencies: currencies) == Amount(units: 2_000, currency: "usdc"))
    #expect(try Amount.parse("21 sat", currencies: currencies) == Amount(units: 21, currency: "sat"))
    #expect(throws: PaymentError.unknownCurrency) { try Amount.parse("1 EUR", currencies: currencies) }
    #expect(throws: PaymentError.malformedAmount) { try Amount.parse("1", currencies: currencies) }
    #expect(throws: PaymentError.tooManyDecimals(limit: 0)) { try Amount.parse("0.5 sat", currencies: currencies) }
  }

  @Test func addsAndSubtractsChecked() {
    let one = Amount(units: 1, currency: "usdc")
    let most = Amount(units: .max, currency: "usdc")
    #expect(most.adding(one) == nil)
    #expect(one.subtracting(most) == nil)
    #expect(one.adding(Amount(units: 1, currency: "sat")) == nil)
    #expect(most.subtracting(one)?.adding(one) == most)
  }

  @Test func writesWords() {
    #expect(Amount(units: 2_000, currency: "usdc").formatted(in: currencies[0]) == "0.002 USDC")
    #expect(Amount(units: 7, currency: "sat").formatted(in: currencies[0]) == "7 sat")
  }
}
