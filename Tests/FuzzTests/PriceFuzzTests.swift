import Metering
import Payments
import Testing

private let prices = [
  "0.001 USDC per request + 0.15 USDC per M input tokens + 0.60 USDC per M output tokens, at least 0.0005 USDC, at most 0.05 USDC",
  "0.01 USDC per MB", "1 USDC per KiB of request + 2 EUR per minute", "0.001 USDC per message of both", "340282366920938463463374607431768211455 USDC per 1000 events",
  "0.05 USDC per M cached input tokens + 3 USDC per hour", "0.0001 USDC per 100 units + 0.002 USDC per call",
]

/// Prices in words, as they stand in configurations and in what pricers answer.
@Suite struct PriceFuzzTests {
  @Test func whatIsReadIsWrittenTheSame() throws {
    let currencies = [try #require(Currency(code: "usdc", decimals: 6)), try #require(Currency(code: "eur", decimals: 2))]
    let tried = Fuzzing.run("price words", prices) { octets, _ in
      guard let price = try? Price(parsing: String(decoding: octets, as: UTF8.self), currencies: currencies) else { return }
      #expect((try? Price(parsing: price.words, currencies: currencies)) == price, "\(octets)")
      // No quantities whatever make it trap.
      _ = price.cost(of: Quantities(requestOctets: .max, responseOctets: .max, events: .max, seconds: .max, inputTokens: .max, outputTokens: .max, units: .max))
    }
    #expect(tried > 0)
  }
}
