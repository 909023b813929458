import Payments
import Testing

@testable import Configuration

@Suite struct AccountTests {
  private func settings() throws -> Settings {
    var settings = Settings()
    settings.currencies = [try #require(Currency(code: "usdc", decimals: 6)), try #require(Currency(code: "eur", decimals: 2))]
    settings.chains = [Settings.Chain(name: "base", id: 8453), Settings.Chain(name: "base-sepolia", id: 84532)]
    return settings
  }

  @Test(arguments: [
    ("usdc", "usdc", "USDC", "USDC"), ("USDC", "usdc", "USDC", "USDC"),
    ("usdc@eip155:8453", "usdc@eip155:8453", "USDC on Base (eip155:8453)", "USDC@base"),
    ("USDC@base-sepolia", "usdc@eip155:84532", "USDC on Base Sepolia (eip155:84532)", "USDC@base-sepolia"),
    ("eur@eip155:1", "eur@eip155:1", "EUR on eip155:1", "EUR@eip155:1"),
  ])
  func accountsAreFoundAndNamed(_ text: String, _ code: String, _ words: String, _ symbol: String) throws {
    let settings = try settings()
    let account = try #require(settings.account(text))
    #expect(account.code == code && account.words == words && account.symbol == symbol)
    #expect(settings.account(account.code) == account && settings.account(account.symbol) == account)
  }

  @Test(arguments: ["", "gbp", "usdc@", "usdc@bas", "usdc@eip155:", "usdc@eip155:0", "usdc@eip155:01", "usdc@eip155:99999999999999999999", "@base", "usdc@base@base"])
  func otherTextsAreNone(_ text: String) throws {
    #expect(try settings().account(text) == nil)
  }

  @Test(arguments: [
    ("5 USDC", nil, 5_000_000, "usdc"), ("0.5 usdc@base", nil, 500_000, "usdc@eip155:8453"), ("5", "usdc@base", 5_000_000, "usdc@eip155:8453"),
    ("5 USDC", "usdc@base", 5_000_000, "usdc@eip155:8453"), ("5 USDC@eip155:8453", "usdc@base", 5_000_000, "usdc@eip155:8453"),
    ("1.25 EUR", "eur", 125, "eur"),
  ] as [(String, String?, UInt128, String)])
  func amountsAreOfAnAccount(_ text: String, _ account: String?, _ units: UInt128, _ code: String) throws {
    let settings = try settings()
    let amount = try #require(settings.amount(text, of: account.flatMap { settings.account($0) }))
    #expect(amount.units == units && amount.account.code == code)
  }

  @Test(arguments: [
    ("5", nil), ("5 GBP", nil), ("0 USDC", nil), ("-5 USDC", nil), ("5 USDC now", nil), ("", nil), ("0.0000001 USDC", nil), ("5 EUR", "usdc@base"),
    ("5 USDC@base-sepolia", "usdc@base"), ("5 USDC@base", "usdc"),
  ] as [(String, String?)])
  func otherAmountsAreNone(_ text: String, _ account: String?) throws {
    let settings = try settings()
    #expect(settings.amount(text, of: account.flatMap { settings.account($0) }) == nil)
  }
}
