import Configuration
import Encoding
import Payments

/// Writes amounts of base units as people read them.
struct Money {
  private let currencies: [Currency]

  init(_ settings: Settings) {
    currencies = settings.currencies
  }

  /// `2000` of `usdc` is `0.002 USDC`; a currency that is not configured shows its base units.
  func words(_ units: String?, _ code: String?) -> String {
    guard let units, let code else { return "?" }
    guard let currency = currencies.first(where: { $0.code == code }) else { return "\(units) base units of \(code)" }
    let isNegative = units.hasPrefix("-")
    guard let number = UInt128(isNegative ? String(units.dropFirst()) : units) else { return units }
    return "\(isNegative ? "-" : "")\(currency.format(number)) \(currency.symbol)"
  }

  /// Writes an object of amounts by currency; currencies with nothing are left out where others have something.
  func words(_ amounts: JSONValue?) -> String {
    let members = amounts?.objectValue?.members ?? []
    let some = members.filter { $0.value.stringValue != "0" }
    return (some.isEmpty ? Array(members.prefix(1)) : some).map { words($0.value.stringValue, $0.name) }.joined(separator: ", ")
  }
}
