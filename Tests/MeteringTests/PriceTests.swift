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
  ])
  func readsOnePart(words: String, amount: UInt128, size: UInt64, unit: Unit) throws {
    let parsed = try price(words)
    #expect(parsed.parts == [Rate(amount: amount, unitSize: size, unit: unit)])
    #expect(parsed.isMetered == (unit != .request))
    #expect(parsed.needsUpgrade == (unit.kind == .message || unit.kind == .second))
    // The canonical words mean the same price, and are their own canonical words.
    let again = try price(parsed.words)
    #expect(again.words == parsed.words)
    #expect(again.cost(requestBytes: 7, responseBytes: 11) == parsed.cost(requestBytes: 7, responseBytes: 11))
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
      "1 sat per request + 1 sat per KB + 1 sat per KB of request + 1 sat per KB of both + 1 sat per MB",
      .tooManyParts(at: 84)
    ),
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
