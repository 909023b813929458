/// The price of a number of units, in base units of a currency: 0.01 USDC a megabyte is 10,000 for 1,000,000 octets.
@frozen
public struct Rate: Sendable, Hashable {
  /// What `unitSize` units cost, in base units; at least 1, but for `nothing`.
  public let amount: UInt128
  /// How many units `amount` buys; a divisor of `ExactCost.denominator`, so that sums stay exact.
  public let unitSize: UInt64
  /// What is counted.
  public let unit: Unit

  /// Makes a rate; nil when the amount is zero or the size is no divisor of `ExactCost.denominator`.
  public init?(amount: UInt128, unitSize: UInt64, unit: Unit) {
    guard amount > 0, unitSize > 0, ExactCost.denominator % UInt128(unitSize) == 0 else { return nil }
    self.amount = amount
    self.unitSize = unitSize
    self.unit = unit
  }

  private init(nothing unit: Unit) { (amount, unitSize, self.unit) = (0, 1, unit) }

  /// What a request costs for which nothing is paid, but which needs a proof of who asks.
  public static let nothing = Rate(nothing: .request)

  /// Tells the most units that may be added to `spent` without the sum, rounded up, passing `budget` (base units).
  ///
  /// Returns `UInt64.max` where the budget pays for more than that.
  public func unitsAffordable(spent: ExactCost, budget: UInt128) -> UInt64 {
    guard spent.ceiling <= budget else { return 0 }
    // What is left is whole + part ÷ denominator, with the part taken from the unit that `spent` broke.
    let isBroken = spent.numerator > 0
    let whole = budget - spent.whole - (isBroken ? 1 : 0)
    let part = isBroken ? ExactCost.denominator - spent.numerator : 0
    // units = ⌊(whole + part ÷ denominator) × unitSize ÷ amount⌋, and an inner floor changes nothing in an outer one.
    let size = UInt128(unitSize)
    var product = whole.multipliedFullWidth(by: size)
    let (low, carry) = product.low.addingReportingOverflow(part / (ExactCost.denominator / size))
    product.low = low
    if carry { product.high += 1 }
    guard product.high < amount else { return .max }
    return UInt64(clamping: amount.dividingFullWidth(product).quotient)
  }
}
