import Metering
import Testing

@testable import Configuration

/// Free requests and tiers in words.
@Suite struct VolumeTests {
  private static let price = "price = \"0.002 USDC per request\"\n"

  @Test func freeRequestsAndTiersAreRead() throws {
    let outcome = PriceTests.inspect(Self.price + """
      free-units = ["1000 requests per wallet per day", "20 requests per address per hour"]
      tiers = ["0.001 USDC per request beyond 100000 requests per wallet per month", "0.0005 USDC per request beyond 1000000 requests per wallet per month"]
      """)
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    let route = try #require(outcome.settings?.routes.first)
    #expect(route.freeUnits == [
      Settings.FreeUnits(count: 1000, subject: .wallet, period: .day), Settings.FreeUnits(count: 20, subject: .address, period: .hour),
    ])
    #expect(route.tiers.map(\.beyond) == [100_000, 1_000_000] && route.tiers.map(\.price.chargeAmount) == [1000, 500])
    #expect(route.tiers.allSatisfy { $0.period == .month })
    #expect(route.volumeWords.count == 4 && route.volumeWords[0] == "1000 requests per wallet per day free")
    let text = Explanation(outcome).text
    #expect(text.contains("20 requests per address per hour") && text.contains("beyond 1000000 requests per wallet per month"))
    #expect(PriceTests.inspect(Self.price + "free-units = \"1 request per wallet per month\"").settings?.routes.first?.freeUnits.count == 1)
  }

  @Test func tiersKeepTheRoutesBounds() throws {
    let lines = "price = \"0.6 USDC per M output tokens\"\nminimum = \"0.001 USDC\"\nmaximum = \"0.5 USDC\"\n"
      + "tiers = [\"0.3 USDC per M output tokens, at most 0.2 USDC beyond 10 requests per wallet per day\"]"
    let outcome = PriceTests.inspect(lines)
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    let tier = try #require(outcome.settings?.routes.first?.tiers.first)
    #expect((tier.price.minimum, tier.price.maximum) == (1000, 200_000))
  }

  @Test(arguments: [
    (price + "free-units = \"1000 requests\"", "free-units"), (price + "free-units = \"0 requests per wallet per day\"", "free-units"),
    (price + "free-units = \"1000 tokens per wallet per day\"", "free-units"), (price + "free-units = \"10 requests per wallet per year\"", "free-units"),
    (price + "free-units = [\"1 request per wallet per day\", \"1 request per wallet per hour\"]", "free-units"), (price + "free-units = 10", "free-units"),
    ("free = true\nfree-units = \"10 requests per address per day\"", "free-units"),
    (price + "sell = [\"charge\"]\nfree-units = \"10 requests per wallet per day\"", "free-units"),
    (price + "upgrade = \"websocket\"\nfree-units = \"10 requests per address per day\"", "free-units"),
    (price + "tiers = \"0.001 USDC per request\"", "tiers"), (price + "tiers = \"0.003 USDC per request beyond 10 requests per wallet per day\"", "tiers"),
    (price + "tiers = \"0.001 USDC per event beyond 10 requests per wallet per day\"", "tiers"),
    (price + "tiers = \"0.001 EUR per request beyond 10 requests per wallet per day\"", "tiers"),
    (price + "tiers = \"0.001 USDC per request beyond 10 requests per address per day\"", "tiers"),
    (price + "tiers = [\"0.001 USDC per request beyond 10 requests per wallet per day\", \"0.0005 USDC per request beyond 10 requests per wallet per day\"]", "tiers"),
    (price + "tiers = [\"0.001 USDC per request beyond 10 requests per wallet per day\", \"0.0005 USDC per request beyond 20 requests per wallet per hour\"]", "tiers"),
    (price + "tiers = \"0.001 USDC per request beyond 10 requests per wallet per day\"\n[route.models]\nx = \"1 USDC per request\"", "tiers"),
  ])
  func wrongWordsAreNamed(lines: String, key: String) {
    let outcome = PriceTests.inspect(lines)
    #expect(outcome.settings == nil && outcome.diagnostics.map(\.key) == [key], "\(outcome.diagnostics.map { $0.text(file: "f") })")
  }
}
