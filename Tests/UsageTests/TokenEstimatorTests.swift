import Testing
import Usage

@Suite struct TokenEstimatorTests {
  @Test func startsAtFourOctetsAToken() {
    var estimator = TokenEstimator()
    for (octets, tokens) in [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000), (4001, 1001)] as [(UInt64, UInt64)] {
      estimator.advance(toOctets: octets)
      #expect(estimator.tokens == tokens)
      #expect(TokenEstimator.tokens(ofOctets: octets) == tokens)
    }
    estimator.advance(toOctets: 10)
    #expect(estimator.tokens == 1001)
    #expect(TokenEstimator.tokens(ofOctets: 7, octetsPerToken: 0) == 7)
    var two = TokenEstimator(octetsPerToken: 2)
    two.advance(toOctets: 7)
    #expect(two.tokens == 4)
  }

  @Test func aReportCounts() {
    var estimator = TokenEstimator()
    estimator.advance(toOctets: 400)
    estimator.report(tokens: 5000)
    #expect(estimator.tokens == 5000)
    estimator.advance(toOctets: 800)
    #expect(estimator.tokens == 5100)
    estimator.report(tokens: 4000)
    #expect(estimator.tokens == 4000)
  }

  @Test func runningUsageCorrectsTheRatio() {
    var estimator = TokenEstimator()
    for step in 0...100 as ClosedRange<UInt64> {
      estimator.advance(toOctets: step * 200)
      estimator.report(tokens: step * 100)
    }
    estimator.advance(toOctets: 22_000)
    // Two octets a token were shown, so 2,000 octets more are about 1,000 tokens; the start weighs a little.
    #expect((980...1000).contains(estimator.tokens - 10_000))
    var sparse = TokenEstimator()
    for step in 0...100 as ClosedRange<UInt64> {
      sparse.advance(toOctets: step * 1000)
      sparse.report(tokens: step * 100)
    }
    sparse.advance(toOctets: 101_000)
    #expect((100...102).contains(sparse.tokens - 10_000))
  }

  @Test func hiddenReasoningIsNotTakenForDenseText() {
    var estimator = TokenEstimator()
    estimator.report(tokens: 0)
    estimator.advance(toOctets: 100)
    estimator.report(tokens: 1_000_000)
    estimator.advance(toOctets: 200)
    #expect((1_000_025...1_000_100).contains(estimator.tokens))
  }

  @Test func nothingOverflows() {
    var estimator = TokenEstimator(octetsPerToken: 1)
    estimator.advance(toOctets: .max)
    #expect(estimator.tokens == .max)
    estimator.report(tokens: 0)
    estimator.report(tokens: .max)
    #expect(estimator.tokens == .max)
    var other = TokenEstimator(octetsPerToken: .max)
    other.report(tokens: .max)
    other.advance(toOctets: .max)
    #expect(other.tokens == .max)
    other.report(tokens: 3)
    #expect(other.tokens == 3)
  }

  @Test func neverBelowWhatWasReportedAndNeverFallingBetween() {
    var generator = SeededGenerator(seed: 8)
    for _ in 0..<300 {
      var estimator = TokenEstimator(octetsPerToken: UInt64.random(in: 1...8, using: &generator))
      var octets: UInt64 = 0
      var reported: UInt64 = 0
      for _ in 0..<30 {
        if Int.random(in: 0..<3, using: &generator) == 0 {
          reported += UInt64.random(in: 0...500, using: &generator)
          estimator.report(tokens: reported)
          #expect(estimator.tokens == reported)
        } else {
          let before = estimator.tokens
          octets += UInt64.random(in: 0...2000, using: &generator)
          estimator.advance(toOctets: octets)
          #expect(estimator.tokens >= before && estimator.tokens >= reported)
        }
      }
    }
  }
}
