import Configuration
import Encoding
import Payments

/// Writes amounts of base units as people read them.
struct Money {
  private let settings: Settings

  init(_ settings: Settings) {
    self.settings = settings
  }

  /// `2000` of `usdc` is `0.002 USDC`, of `usdc@eip155:8453` `0.002 USDC on Base (eip155:8453)`; a currency that is not configured shows its
  /// base units.
  func words(_ units: String?, _ code: String?) -> String { words(units, code, \.words) }

  /// The same where room is scarce: `0.002 USDC@base`.
  func brief(_ units: String?, _ code: String?) -> String { words(units, code, \.symbol) }

  private func words(_ units: String?, _ code: String?, _ name: KeyPath<Settings.Account, String>) -> String {
    guard let units, let code else { return "?" }
    guard let account = settings.account(code) else { return "\(units) base units of \(code)" }
    let isNegative = units.hasPrefix("-")
    guard let number = UInt128(isNegative ? String(units.dropFirst()) : units) else { return units }
    return "\(isNegative ? "-" : "")\(account.currency.format(number)) \(account[keyPath: name])"
  }

  /// An account's name: `USDC`, `USDC on Base (eip155:8453)`.
  func account(_ code: String) -> String { settings.account(code)?.words ?? code.uppercased() }

  /// Writes an object of amounts by currency; currencies with nothing are left out where others have something.
  func words(_ amounts: JSONValue?) -> String {
    let members = amounts?.objectValue?.members ?? []
    let some = members.filter { $0.value.stringValue != "0" }
    return (some.isEmpty ? Array(members.prefix(1)) : some).map { words($0.value.stringValue, $0.name) }.joined(separator: ", ")
  }
}
