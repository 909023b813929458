import Payments

/// Says how much of one currency may leave the wallet for one call, in the words of the caller: `0.05 USDC`.
///
/// The number stays decimal until the ledger has said how many decimals its currency has.
public struct SpendingLimit: Equatable, Sendable {
  /// The amount in whole units, as it was written.
  public let number: String
  /// The currency's code in lower case.
  public let code: String

  /// Reads words such as `0.05 USDC`.
  ///
  /// - Returns: nil where they are not a number, a space and a code.
  public init?(_ words: String) {
    let parts = words.split(whereSeparator: { $0 == " " || $0 == "\t" })
    guard parts.count == 2 else { return nil }
    let code = parts[1].lowercased()
    guard Currency.isCode(code), let widest = Currency(code: code, decimals: Currency.decimalsLimit) else { return nil }
    // The widest currency tells a number from other text; whether it has too many decimals shows with the real one.
    guard (try? widest.parse(parts[0])) != nil else { return nil }
    number = String(parts[0])
    self.code = code
  }

  /// Reads words such as `0.01 USDC/min` or `0.01 USDC per minute`.
  ///
  /// - Returns: nil where they are not an amount for each minute.
  public init?(perMinute words: String) {
    guard let ending = ["/min", "/minute", " per minute", " per min"].first(where: { words.hasSuffix($0) }) else { return nil }
    self.init(String(words.dropLast(ending.count)))
  }

  /// The limit in base units; nil where the currency is another one or has fewer decimals than were written.
  func units(in currency: Currency) -> UInt128? {
    guard currency.code == code else { return nil }
    return try? currency.parse(number)
  }
}
