/// Counts base units of one currency, unsigned and 128 bits wide.
public struct Amount: Sendable, Hashable {
  /// Base units.
  public let units: UInt128
  /// The code of the currency.
  public let currency: String

  public init(units: UInt128, currency: String) {
    self.units = units
    self.currency = currency
  }

  /// Returns nil where the sum overflows or the currencies differ.
  public func adding(_ other: Amount) -> Amount? {
    guard currency == other.currency else { return nil }
    let (sum, overflow) = units.addingReportingOverflow(other.units)
    return overflow ? nil : Amount(units: sum, currency: currency)
  }

  /// Returns nil where `other` is more, or the currencies differ.
  public func subtracting(_ other: Amount) -> Amount? {
    guard currency == other.currency, units >= other.units else { return nil }
    return Amount(units: units - other.units, currency: currency)
  }

  /// Reads words such as `0.002 USDC`; the code's case does not matter.
  ///
  /// - Throws: `malformedAmount`, `unknownCurrency`, `tooManyDecimals` or `overflow`.
  public static func parse(_ words: String, currencies: [Currency]) throws(PaymentError) -> Amount {
    let parts = words.split(whereSeparator: { $0 == " " || $0 == "\t" })
    guard parts.count == 2 else { throw .malformedAmount }
    let code = parts[1].lowercased()
    guard let currency = currencies.first(where: { $0.code == code }) else { throw .unknownCurrency }
    return Amount(units: try currency.parse(parts[0]), currency: code)
  }

  /// Writes words such as `0.002 USDC`; base units and the code where `currency` is another one.
  public func formatted(in currency: Currency) -> String {
    guard currency.code == self.currency else { return "\(units) \(self.currency)" }
    return "\(currency.format(units)) \(currency.symbol)"
  }
}
