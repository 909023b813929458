import Metering
import Payments
import Testing

private let usdc = Currency(code: "usdc", decimals: 6)!
private let sat = Currency(code: "sat", decimals: 0)!

private func price(_ words: String) throws(PriceError) -> Price {
  try Price(parsing: words, currencies: [usdc, sat])
}

@Suite struct PriceTests {
  @Test(arguments: [
    ("0.002 USDC per request", UInt128(2000), UInt64(1), Unit.request),
    ("0.01 USDC per MB", 10000, 1_000_000, .responseByte),
    ("0.01 usdc per MB of response", 10000, 1_000_000, .responseByte),
    ("0.0000004 USDC per byte", 4, 10, .responseByte),
    ("1 sat per 2 KiB of request", 1, 2048, .requestByte),
    ("2 SAT per KB of both", 2, 1000, .byte),
    ("0.5 sat per request", 5, 10, .request),
    ("3 sat per 1000 requests", 3, 1000, .request),
    ("1.50 USDC per TiB", 1_500_000, 1 << 40, .responseByte),
    ("  1\tsat   per   request  ", 1, 1, .request),
    ("1.000000000000000000000 USDC per kB", 1_000_000, 1000, .responseByte),
    ("0.07 USDC per 60 octets", 70000, 60, .responseByte),
    ("0.001 USDC per message", 1000, 1, .responseMessage),
    ("0.5 USDC per 1000 messages of both", 500_000, 1000, .message),
    ("1 sat per 2 messages of request", 1, 2, .requestMessage),
    ("0.0001 USDC per second", 100, 1, .second),
    ("6 sat per minute", 6, 60, .second),
    ("1 sat per 2 hours", 1, 7200, .second),
    ("0.0001 USDC per event", 100, 1, .event),
    ("0.1 USDC per 1000 events", 100_000, 1000, .event),
    ("0.1 USDC per K events", 100_000, 1000, .event),
    ("0.1 USDC per 2k events", 100_000, 2000, .event),
    ("0.15 USDC per M input tokens", 150_000, 1_000_000, .inputToken),
    ("0.075 USDC per M cached input tokens", 75_000, 1_000_000, .cachedInputToken),
    ("0.60 USDC per 1M output tokens", 600_000, 1_000_000, .outputToken),
    ("1 sat per K output tokens", 1, 1000, .outputToken),
    ("1 sat per 1000 output tokens", 1, 1000, .outputToken),
    ("1 sat per 10 K output tokens", 1, 10000, .outputToken),
    ("0.00000015 USDC per input token", 15, 100, .inputToken),
    ("0.01 USDC per call", 10000, 1, .call),
    ("0.01 USDC per K calls", 10000, 1000, .call),
    ("3 sat per unit", 3, 1, .reported),
    ("3 sat per 100 units", 3, 100, .reported),
    ("3 sat per M requests", 3, 1_000_000, .request),
    ("3 sat per K messages of both", 3, 1000, .message),
  ])
  func readsOnePart(words: String, amount: UInt128, size: UInt64, unit: Unit) throws {
    let parsed = try price(words)
    #expect(parsed.parts == [Rate(amount: amount, unitSize: size, unit: unit)])
    #expect(parsed.isMetered == (unit != .request && unit != .call))
    #expect(parsed.needsUpgrade == (unit.kind == .message))
    #expect(parsed.isComposite == [.event, .token, .second, .reported].contains(unit.kind))
    #expect((parsed.countsTokens, parsed.countsEvents) == (unit.kind == .token, unit.kind == .event))
    #expect((parsed.countsUnits, parsed.countsSeconds) == (unit.kind == .reported, unit.kind == .second))
    // The canonical words mean the same price, and are their own canonical words.
    let again = try price(parsed.words)
    #expect(again.words == parsed.words)
    let some = Quantities(
      requestOctets: 7, responseOctets: 11, events: 13, seconds: 17, inputTokens: 19, cachedInputTokens: 23, outputTokens: 29, units: 31)
    #expect(again.cost(of: some) == parsed.cost(of: some))
  }

  @Test func addsParts() throws {
    let parsed = try price("0.001 USDC per request + 0.01 USDC per MB")
    #expect(parsed.parts.count == 2)
    #expect(parsed.isMetered)
    #expect(parsed.requestCost == ExactCost(whole: 1000))
    #expect(parsed.chargeAmount == 1000)
    #expect(parsed.cost(requestBytes: 5, responseBytes: 1_000_000)?.ceiling == 11000)
    #expect(parsed.cost(requestBytes: 5, responseBytes: 1_000_001)?.ceiling == 11001)
    #expect(parsed.words == "0.001 USDC per request + 0.01 USDC per MB")
    #expect(try price("0.001 USDC per request+0.01 USDC per MB") == parsed)
  }

  @Test func addsTheRatesOfEachDirection() throws {
    let parsed = try price("2 sat per KB of request + 3 sat per 400 bytes + 1 sat per KiB of both")
    #expect(parsed.requestRate == Rate(amount: 2 * 128 + 125, unitSize: 128_000, unit: .requestByte))
    #expect(parsed.responseRate == Rate(amount: 3 * 64 + 25, unitSize: 25_600, unit: .responseByte))
    #expect(parsed.cost(requestBytes: 128_000, responseBytes: 25_600) == ExactCost(whole: 381 + 217))
    #expect(try price("1 sat per request").responseRate == nil)
    #expect(try price("1 sat per KB of request").responseRate == nil)
  }

  @Test func addsWhatAnUpgradedConnectionIsMeteredIn() throws {
    let parsed = try price("2 sat per message of both + 1 sat per message + 3 sat per second + 1 sat per request")
    #expect(parsed.requestMessageRate == Rate(amount: 2, unitSize: 1, unit: .requestMessage))
    #expect(parsed.responseMessageRate == Rate(amount: 3, unitSize: 1, unit: .responseMessage))
    #expect(parsed.secondRate == Rate(amount: 3, unitSize: 1, unit: .second))
    #expect(parsed.upgradeCost == ExactCost(whole: 1 + 2 + 3 + 3))
    #expect(parsed.requestRate == nil && parsed.responseRate == nil)
    #expect(throws: PriceError.self) { try price("1 sat per second of both") }
    for unit in Unit.allCases {
      #expect(Unit(wireName: unit.wireName, direction: unit.wireDirection) == unit)
    }
  }

  @Test func roundsAChargeUpOnce() throws {
    #expect(try price("0.5 sat per request").chargeAmount == 1)
    #expect(try price("2.5 sat per request").chargeAmount == 3)
  }

  @Test(arguments: [
    ("", PriceError.empty),
    ("   ", .empty),
    ("USDC per request", .invalidAmount(at: 0)),
    ("-1 USDC per request", .invalidAmount(at: 0)),
    ("1e3 USDC per request", .invalidAmount(at: 1)),
    ("1.2.3 USDC per request", .invalidAmount(at: 3)),
    ("1. USDC per request", .invalidAmount(at: 0)),
    (".5 USDC per request", .invalidAmount(at: 0)),
    ("0.000 USDC per request", .zeroAmount(at: 0)),
    ("340282366920938463463374607431768211456 sat per request", .amountTooLarge(at: 0)),
    ("340282366920938463463374607431768211455 USDC per request", .amountTooLarge(at: 0)),
    ("0.00000000000000000001 USDC per byte", .amountTooPrecise(at: 0)),
    ("1", .missingCurrency(at: 1)),
    ("1 per request", .missingCurrency(at: 2)),
    ("1 EUR per request", .unknownCurrency(at: 2)),
    ("1 sat per request + 1 USDC per MB", .currencyDiffers(at: 22)),
    ("1 sat a request", .missingPer(at: 6)),
    ("1 sat per 0 requests", .invalidCount(at: 10)),
    ("1 sat per 99999999999999999999 requests", .invalidCount(at: 10)),
    ("1 sat per", .unknownUnit(at: 9)),
    ("1 sat per mb", .unknownUnit(at: 10)),
    ("1 sat per 7 requests", .unsupportedUnitSize(at: 10)),
    ("1 sat per request of both", .directionWithoutContent(at: 18)),
    ("1 sat per MB of", .unknownDirection(at: 15)),
    ("1 sat per MB of upload", .unknownDirection(at: 16)),
    ("1 sat per MB + 1 sat per KB", .duplicateUnit(at: 15)),
    ("1 sat per MB +", .invalidAmount(at: 14)),
    ("+ 1 sat per MB", .invalidAmount(at: 0)),
    ("1 sat per MB each", .trailingWords(at: 13)),
    (
      "1 sat per request + 1 sat per KB + 1 sat per KB of request + 1 sat per KB of both + 1 sat per event + 1 sat per call + 1 sat per unit + 1 sat per second + 1 sat per M events",
      .tooManyParts(at: 155)
    ),
    ("1 sat per token", .unknownTokens(at: 10)),
    ("1 sat per M tokens", .unknownTokens(at: 12)),
    ("1 sat per M input", .unknownTokens(at: 12)),
    ("1 sat per M cached tokens", .unknownTokens(at: 12)),
    ("1 sat per m input tokens", .unknownUnit(at: 10)),
    ("1 sat per M", .unknownUnit(at: 11)),
    ("1 sat per K MB", .unknownUnit(at: 12)),
    ("1 sat per K seconds", .unknownUnit(at: 12)),
    ("1 sat per 18446744073709551615M events", .invalidCount(at: 10)),
    ("1 sat per M events of both", .directionWithoutContent(at: 19)),
    ("1 sat per output token of response", .directionWithoutContent(at: 23)),
    ("1 sat per 7M input tokens", .unsupportedUnitSize(at: 10)),
    ("1 sat per request,", .invalidBound(at: 18)),
    ("1 sat per request, least 1 sat", .invalidBound(at: 19)),
    ("1 sat per request, at 1 sat", .invalidBound(at: 19)),
    ("1 sat per request, at least 1 sat, at least 2 sat", .invalidBound(at: 35)),
    ("1 sat per request, at least 2 sat, at most 1 sat", .contradictoryBounds(at: 35)),
    ("1 sat per request, at most 0 sat", .zeroAmount(at: 27)),
    ("1 sat per request, at most 0.5 sat", .amountTooPrecise(at: 27)),
    ("1 sat per request, at most 1 USDC", .currencyDiffers(at: 29)),
    ("1,5 sat per request", .invalidAmount(at: 1)),
  ])
  func namesTheBrokenRule(words: String, error: PriceError) {
    #expect(throws: error) { () throws(PriceError) in try price(words) }
    #expect(error.position <= words.utf8.count)
    #expect(!error.expected.isEmpty)
  }

  @Test func versionChangesWithThePrice() throws {
    let versions = try [
      "1 sat per request", "2 sat per request", "1 sat per byte", "1 USDC per request", "1 sat per KB of both", "1 sat per KB of request",
      "1 sat per request + 1 sat per byte", "1 sat per byte + 1 sat per request",
    ].map { words throws(PriceError) in try price(words).version }
    #expect(Set(versions).count == versions.count)
    #expect(versions.allSatisfy { $0.utf8.count == 16 })
    #expect(try price("1.0 sat per request").version == versions[0])
  }

  @Test func refusesRatesThatAreNotExact() {
    #expect(Rate(amount: 1, unitSize: 7, unit: .request) == nil)
    #expect(Rate(amount: 0, unitSize: 1, unit: .request) == nil)
    #expect(Rate(amount: 1, unitSize: 0, unit: .request) == nil)
    #expect(Price(currency: sat, parts: []) == nil)
  }

  @Test(arguments: Unit.allCases)
  func unitNamesReadBack(unit: Unit) {
    #expect(Unit(wireName: unit.wireName, direction: unit.wireDirection) == unit)
    #expect(Unit(wireName: "token", direction: nil) == nil)
  }
}
