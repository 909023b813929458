import Encoding
import Metering
import Payments
import Testing

@Suite struct PeriodTests {
  @Test(arguments: [
    ("1970-01-01T00:00:00Z", Int64(0), Int64(0), Int64(0)), ("1970-01-31T23:59:59Z", 743, 30, 0), ("1970-02-01T00:00:00Z", 744, 31, 1),
    ("2024-02-29T23:00:00Z", 474_791, 19782, 649), ("2024-03-01T00:00:00Z", 474_792, 19783, 650), ("2026-12-31T23:59:59Z", 499_655, 20818, 683),
    ("2027-01-01T00:00:00Z", 499_656, 20819, 684),
  ])
  func periodsAreThoseOfTheCalendar(text: String, hour: Int64, day: Int64, month: Int64) throws {
    let time = try #require(Timestamp(rfc3339: text))
    #expect(Period.hour.number(at: time) == hour)
    #expect(Period.day.number(at: time) == day)
    #expect(Period.month.number(at: time) == month)
  }

  @Test func wordsReadBack() {
    for period in Period.allCases { #expect(Period(word: period.word) == period) }
    #expect(Period(word: "year") == nil)
  }

  @Test func aTierIsDearerInNoPart() throws {
    let usdc = Currency(code: "usdc", decimals: 6)!
    func price(_ words: String) throws -> Price { try Price(parsing: words, currencies: [usdc]) }
    let base = try price("0.001 USDC per request + 0.15 USDC per M input tokens, at most 1 USDC")
    for words in ["0.001 USDC per request, at most 1 USDC", "0.15 USDC per M input tokens, at most 0.5 USDC", "0.0001 USDC per K input tokens, at most 1 USDC"] {
      #expect(try price(words).isAtMost(base), "\(words)")
    }
    for words in [
      "0.002 USDC per request, at most 1 USDC", "0.001 USDC per request", "0.001 USDC per 10 events, at most 1 USDC", "0.00016 USDC per K input tokens, at most 1 USDC",
      "0.001 USDC per request, at least 0.0001 USDC, at most 1 USDC",
    ] {
      #expect(try !price(words).isAtMost(base), "\(words)")
    }
    // Cached tokens without a rate of their own cost what input costs.
    let cached = try price("0.15 USDC per M input tokens + 0.05 USDC per M cached input tokens")
    #expect(try !price("0.1 USDC per M input tokens").isAtMost(cached))
    #expect(try price("0.05 USDC per M input tokens").isAtMost(cached))
    #expect(try price("0.1 USDC per M input tokens + 0.02 USDC per M cached input tokens").isAtMost(cached))
    #expect(try price("0.1 USDC per M input tokens + 0.1 USDC per M cached input tokens, at most 1 USDC").isAtMost(base))
    let free = Price.free(usdc)
    #expect(free.isAtMost(base) && free.chargeAmount == 0 && free.cost(of: Quantities(responseOctets: 9, inputTokens: 9)) == .zero && !free.isMetered)
  }
}
