import Metering
import Payments
import Testing

private let usdc = Currency(code: "usdc", decimals: 6)!

private func price(_ words: String) throws(PriceError) -> Price {
  try Price(parsing: words, currencies: [usdc])
}

/// Prices of several units, with bounds: what exchanges cost by them, exactly.
@Suite struct CompositePriceTests {
  @Test func aModelsPriceIsOneExactSum() throws {
    let words = "0.001 USDC per request + 0.15 USDC per M input tokens + 0.60 USDC per M output tokens"
    let model = try price(words)
    #expect(model.isMetered && model.isComposite && model.countsTokens && !model.countsEvents)
    #expect(model.words == "0.001 USDC per request + 0.15 USDC per M input tokens + 0.6 USDC per M output tokens")
    #expect(model.cost(of: Quantities()) == ExactCost(whole: 1000))
    // 1,000 + 0.15 + 0.6 × 2 base units.
    #expect(model.cost(of: Quantities(inputTokens: 1, outputTokens: 2))?.ceiling == 1002)
    #expect(model.cost(of: Quantities(inputTokens: 1_000_000, outputTokens: 1_000_000)) == ExactCost(whole: 751_000))
    // What a million exchanges of one token cost is what one exchange of a million tokens costs, but for the requests.
    let one = try price("0.15 USDC per M input tokens")
    var sum = ExactCost.zero
    let token = try #require(one.cost(of: Quantities(inputTokens: 1)))
    for _ in 0..<1000 { sum = try #require(sum.adding(token)) }
    #expect(sum == one.cost(of: Quantities(inputTokens: 1000)))
  }

  @Test func cachedTokensCostWhatInputCostsWhereNothingElseIsSaid() throws {
    let used = Quantities(inputTokens: 100, cachedInputTokens: 900)
    #expect(try price("1 USDC per M input tokens").cost(of: used) == ExactCost(whole: 1000))
    #expect(try price("1 USDC per M input tokens + 0.1 USDC per M cached input tokens").cost(of: used) == ExactCost(whole: 190))
    #expect(try price("1 USDC per M output tokens").cost(of: used) == ExactCost.zero)
    #expect(try price("1 USDC per M cached input tokens").cost(of: used) == ExactCost(whole: 900))
  }

  @Test func boundsHoldForEachExchange() throws {
    let bounded = try price("0.001 USDC per event, at least 0.01 USDC, at most 0.1 USDC")
    #expect((bounded.minimum, bounded.maximum) == (10000, 100_000))
    #expect(bounded.words == "0.001 USDC per event, at least 0.01 USDC, at most 0.1 USDC")
    for (events, cost) in [(0, 10000), (10, 10000), (11, 11000), (100, 100_000), (101, 100_000), (UInt64.max, 100_000)] as [(UInt64, UInt128)] {
      #expect(bounded.cost(of: Quantities(events: events)) == ExactCost(whole: cost))
    }
    #expect(bounded.leastAmount == 10000)
    // A charge asks for the most, since what is used is known at the end only.
    #expect(bounded.chargeAmount == 100_000)
    #expect(bounded.requestCost == .zero)
    // Without anything metered the bounds are part of what a request costs.
    let fixed = try price("0.001 USDC per request at least 0.005 USDC")
    #expect(!fixed.isComposite && fixed.requestCost == ExactCost(whole: 5000) && fixed.chargeAmount == 5000)
    #expect(try price("0.001 USDC per MB, at most 1 USDC").isComposite)
    #expect(try !price("0.001 USDC per MB").isComposite)
    #expect(fixed.bounded(minimum: 2, maximum: 1) == nil)
    #expect(Price(currency: usdc, parts: fixed.parts, minimum: 0, maximum: 0) == nil)
  }

  @Test func aCallCountsLikeARequest() throws {
    let call = try price("0.01 USDC per call + 0.001 USDC per request")
    #expect(!call.isMetered && call.chargeAmount == 11000 && call.requestCost == ExactCost(whole: 11000))
  }

  @Test func whatDoesNotFitIsRefused() throws {
    let dear = try price("300000000000000000000000000000000 USDC per event + 300000000000000000000000000000000 USDC per unit")
    #expect(dear.cost(of: Quantities(events: 1)) != nil)
    #expect(dear.cost(of: Quantities(events: 1, units: 1)) == nil)
    #expect(try price("1 USDC per M input tokens").cost(of: Quantities(inputTokens: .max, cachedInputTokens: 1)) == nil)
  }

  @Test func versionsOfOldPricesStay() throws {
    // As they were before there were bounds and other units: sessions and challenges of then name them.
    #expect(try price("0.002 USDC per request").version == "985575514f001f9b")
    #expect(try price("0.001 USDC per request + 0.01 USDC per MB").version == "ebe7215405a5e8cd")
    let plain = try price("1 USDC per MB")
    let bounded = [(1, .max), (0, 1), (1, 1)].compactMap { plain.bounded(minimum: $0, maximum: $1) }
    #expect(bounded.count == 3)
    let versions = try ([plain] + bounded + [
      price("1 USDC per 1000000 units"), price("1 USDC per M input tokens"),
      price("1 USDC per M output tokens"), price("1 USDC per M cached input tokens"), price("1 USDC per M events"),
    ]).map(\.version)
    #expect(Set(versions).count == versions.count)
  }

  @Test func randomPricesReadBackFromTheirWords() throws {
    var random = SeededGenerator(0x7A11F)
    let sizes: [UInt64] = [1, 10, 60, 100, 1000, 1024, 1_000_000, 5_000_000]
    for _ in 0..<2000 {
      let units = Unit.allCases.shuffled(using: &random).prefix(Int.random(in: 1...8, using: &random))
      let parts = units.compactMap {
        Rate(amount: UInt128.random(in: 1...10_000_000, using: &random), unitSize: sizes.randomElement(using: &random)!, unit: $0)
      }
      let minimum: UInt128 = Bool.random(using: &random) ? 0 : .random(in: 1...1000, using: &random)
      let maximum: UInt128 = Bool.random(using: &random) ? .max : .random(in: 1000...9_000_000, using: &random)
      let made = try #require(Price(currency: usdc, parts: parts, minimum: minimum, maximum: maximum))
      let read = try price(made.words)
      #expect(read == made, "\(made.words)")
      // No words whatever trap, nor does what is left of good ones.
      let cut = made.words.utf8.prefix(Int.random(in: 0...made.words.utf8.count, using: &random))
      _ = try? price(String(decoding: cut, as: UTF8.self))
      let used = Quantities(
        requestOctets: .random(in: 0...1 << 40, using: &random), responseOctets: .random(in: 0...1 << 40, using: &random),
        events: .random(in: 0...9, using: &random), seconds: .random(in: 0...9, using: &random),
        inputTokens: .random(in: 0...9999, using: &random), outputTokens: .random(in: 0...9999, using: &random))
      let cost = try #require(made.cost(of: used))
      #expect(cost >= ExactCost(whole: minimum) && cost <= ExactCost(whole: maximum))
    }
  }
}

/// A small generator with a seed, so that a failure comes again.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
