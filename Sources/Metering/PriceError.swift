/// Names the rule of price words that was broken, and the octet of the words where it was.
public enum PriceError: Error, Sendable, Equatable {
  /// Nothing but spaces.
  case empty
  /// No number stands where an amount belongs, or it has a sign, an exponent or a second point.
  case invalidAmount(at: Int)
  /// The amount is zero; a free route says so by its offer.
  case zeroAmount(at: Int)
  /// The amount passes 128 bits of base units.
  case amountTooLarge(at: Int)
  /// The amount has more decimals than any unit size can carry exactly.
  case amountTooPrecise(at: Int)
  /// No currency follows the amount.
  case missingCurrency(at: Int)
  /// The currency is not one of those configured.
  case unknownCurrency(at: Int)
  /// A later part names another currency than the first.
  case currencyDiffers(at: Int)
  /// The word "per" is missing.
  case missingPer(at: Int)
  /// The number before the unit is zero, or too large.
  case invalidCount(at: Int)
  /// No unit, or one that is not known.
  case unknownUnit(at: Int)
  /// Tokens without saying which: input, cached input or output.
  case unknownTokens(at: Int)
  /// The unit size is no divisor of the exact sum's denominator (2^40 · 3^2 · 5^12).
  case unsupportedUnitSize(at: Int)
  /// "of" stands after a unit that is not of content.
  case directionWithoutContent(at: Int)
  /// The word after "of" is not "request", "response" or "both".
  case unknownDirection(at: Int)
  /// An earlier part counts the same unit already.
  case duplicateUnit(at: Int)
  /// There are more than `Price.maximumParts` parts.
  case tooManyParts(at: Int)
  /// Words follow where "+" or the end belongs.
  case trailingWords(at: Int)
  /// Behind the parts stands no "at least" or "at most", or one of them twice.
  case invalidBound(at: Int)
  /// The least that an exchange costs is above the most.
  case contradictoryBounds(at: Int)

  /// The octet of the words, from 0, where the rule was broken.
  public var position: Int {
    switch self {
    case .empty: 0
    case .invalidAmount(let at), .zeroAmount(let at), .amountTooLarge(let at), .amountTooPrecise(let at), .missingCurrency(let at),
      .unknownCurrency(let at), .currencyDiffers(let at), .missingPer(let at), .invalidCount(let at), .unknownUnit(let at),
      .unsupportedUnitSize(let at), .directionWithoutContent(let at), .unknownDirection(let at), .duplicateUnit(let at),
      .tooManyParts(let at), .trailingWords(let at), .unknownTokens(let at), .invalidBound(let at), .contradictoryBounds(let at):
      at
    }
  }

  /// What would have been right there, in words for the person who wrote the price.
  public var expected: String {
    switch self {
    case .empty: "a price such as \"0.002 USDC per request\""
    case .invalidAmount: "a decimal number such as 0.002"
    case .zeroAmount: "an amount above zero (a free route has no price)"
    case .amountTooLarge: "an amount below 2^128 base units"
    case .amountTooPrecise: "fewer decimals, or a larger unit"
    case .missingCurrency: "a currency such as USDC after the amount"
    case .unknownCurrency: "one of the configured currencies"
    case .currencyDiffers: "the currency of the first part"
    case .missingPer: "the word \"per\""
    case .invalidCount: "a whole number above zero"
    case .unknownUnit: "request, byte, KB, MB, GB, TB, KiB, MiB, GiB, TiB, message, second, minute, hour, event, call, unit, or input or output tokens"
    case .unsupportedUnitSize: "a unit size made of the factors 2, 3 and 5, such as 1000 or 60"
    case .directionWithoutContent: "no \"of\" after a request or a time"
    case .unknownDirection: "\"of response\", \"of request\" or \"of both\""
    case .duplicateUnit: "each unit once"
    case .tooManyParts: "at most \(Price.maximumParts) parts"
    case .trailingWords: "\"+\" and another part, or the end"
    case .unknownTokens: "\"input tokens\", \"cached input tokens\" or \"output tokens\""
    case .invalidBound: "\", at least\" or \", at most\" and an amount, each once"
    case .contradictoryBounds: "a minimum that is not above the maximum"
    }
  }
}
