import Metering
import Testing

@Suite struct ExactCostTests {
  @Test func aThousandPiecesCostWhatOneDoes() throws {
    let rate = try #require(Rate(amount: 10000, unitSize: 1_000_000, unit: .responseByte))
    var sum = ExactCost.zero
    for piece in 1...1000 {
      let cost = try #require(ExactCost(units: UInt64(piece), rate: rate))
      sum = try #require(sum.adding(cost))
    }
    #expect(sum == ExactCost(units: 500_500, rate: rate))
    #expect(sum.ceiling == 5005)
    #expect(ExactCost(units: 1, rate: rate)?.ceiling == 1)
  }

  @Test(arguments: [UInt64(1), 3, 9, 10, 60, 1000, 1024, 1_000_000, 1 << 20, 1_000_000_000_000, 1 << 40])
  func everySizeAddsUpToItsAmount(size: UInt64) throws {
    let rate = try #require(Rate(amount: 7, unitSize: size, unit: .byte))
    let whole = try #require(ExactCost(units: size, rate: rate))
    #expect(whole == ExactCost(whole: 7))
    if size > 1 {
      let most = try #require(ExactCost(units: size - 1, rate: rate))
      let one = try #require(ExactCost(units: 1, rate: rate))
      #expect(most.adding(one) == whole)
      #expect(whole.subtracting(one) == most)
      #expect(one.subtracting(whole) == nil)
    }
  }

  @Test func refusesOverflow() throws {
    let rate = try #require(Rate(amount: .max, unitSize: 1, unit: .request))
    #expect(ExactCost(units: 1, rate: rate)?.whole == .max)
    #expect(ExactCost(units: 2, rate: rate) == nil)
    #expect(ExactCost(whole: .max).adding(ExactCost(whole: 1)) == nil)
    let half = try #require(ExactCost(whole: .max, numerator: ExactCost.denominator / 2))
    #expect(half.adding(half) == nil)
    #expect(half.ceiling == .max)
    #expect(ExactCost(whole: 0, numerator: ExactCost.denominator) == nil)
    let large = try #require(Rate(amount: .max, unitSize: 1 << 40, unit: .byte))
    #expect(ExactCost(units: 1 << 40, rate: large)?.whole == .max)
    #expect(ExactCost(units: (1 << 40) + 1, rate: large) == nil)
  }

  @Test func ordersExactly() throws {
    let rate = try #require(Rate(amount: 1, unitSize: 3, unit: .byte))
    let third = try #require(ExactCost(units: 1, rate: rate))
    #expect(ExactCost.zero < third)
    #expect(third < ExactCost(whole: 1))
    #expect(!(ExactCost(whole: 1) < third))
  }

  @Test func affordsTheMostUnitsAndNoneMore() throws {
    var seed: UInt64 = 0x5EED
    func random(_ bound: UInt64) -> UInt64 {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (seed >> 20) % bound
    }
    let sizes: [UInt64] = [1, 3, 10, 1000, 1024, 1_000_000, 1 << 20, 1_000_000_000_000]
    for _ in 0..<2000 {
      let rate = try #require(Rate(amount: UInt128(random(5000) + 1), unitSize: sizes[Int(random(8))], unit: .byte))
      let other = try #require(Rate(amount: UInt128(random(50) + 1), unitSize: sizes[Int(random(8))], unit: .byte))
      let spent = try #require(ExactCost(units: random(100_000), rate: other))
      let budget = UInt128(random(20_000_000))
      let units = rate.unitsAffordable(spent: spent, budget: budget)
      func total(_ units: UInt64) -> UInt128? { ExactCost(units: units, rate: rate).flatMap(spent.adding)?.ceiling }
      if spent.ceiling <= budget {
        let affordable = try #require(total(units))
        let next = try #require(total(units + 1))
        #expect(affordable <= budget)
        #expect(next > budget)
      } else {
        #expect(units == 0)
      }
    }
  }

  @Test func affordsWithoutOverflow() throws {
    let cheap = try #require(Rate(amount: 1, unitSize: 1_000_000_000_000, unit: .byte))
    #expect(cheap.unitsAffordable(spent: .zero, budget: .max) == .max)
    let dear = try #require(Rate(amount: .max, unitSize: 1, unit: .request))
    #expect(dear.unitsAffordable(spent: .zero, budget: .max) == 1)
    #expect(dear.unitsAffordable(spent: .zero, budget: .max - 1) == 0)
    #expect(dear.unitsAffordable(spent: ExactCost(whole: .max), budget: .max) == 0)
  }
}
