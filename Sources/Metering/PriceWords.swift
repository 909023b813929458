import Payments

extension Price {
  /// The price in words, in one canonical spelling that parses to the same price.
  public var words: String {
    var words = parts.map { "\(amountWords($0.amount)) per \(Self.unitWords($0))" }.joined(separator: " + ")
    if minimum > 0 { words += ", at least \(amountWords(minimum))" }
    if maximum < .max { words += ", at most \(amountWords(maximum))" }
    return words
  }

  private func amountWords(_ amount: UInt128) -> String {
    "\(Self.decimal(amount, decimals: Int(currency.decimals))) \(currency.code.uppercased())"
  }

  private static func unitWords(_ rate: Rate) -> String {
    let direction = rate.unit.wireDirection.map { " of \($0)" } ?? ""
    switch rate.unit.kind {
    case .request, .message, .second, .event, .call, .reported:
      return (rate.unitSize == 1 ? rate.unit.wireName : "\(rate.unitSize) \(rate.unit.wireName)s") + direction
    case .token: return tokenWords(rate)
    case .byte: return octetWords(rate) + direction
    }
  }

  private static func tokenWords(_ rate: Rate) -> String {
    let name = tokenName(rate.unit)
    if rate.unitSize == 1 { return "\(name) token" }
    let multiplier: (name: String, size: UInt64) = rate.unitSize % 1_000_000 == 0 ? ("M", 1_000_000) : rate.unitSize % 1000 == 0 ? ("K", 1000) : ("", 1)
    let count = rate.unitSize / multiplier.size
    return "\(count == 1 ? "" : String(count))\(multiplier.name) \(name) tokens"
  }

  private static func tokenName(_ unit: Unit) -> String {
    switch unit {
    case .cachedInputToken: "cached input"
    case .outputToken: "output"
    default: "input"
    }
  }

  private static func octetWords(_ rate: Rate) -> String {
    let named = UnitSize.words.first { rate.unitSize % $0.size == 0 }
    let count = rate.unitSize / (named?.size ?? 1)
    let name = named?.name ?? (count == 1 ? "byte" : "bytes")
    return count == 1 ? name : "\(count) \(name)"
  }

  private static func decimal(_ units: UInt128, decimals: Int) -> String {
    let digits = String(units)
    guard decimals > 0 else { return digits }
    let padded = String(repeating: "0", count: max(0, decimals + 1 - digits.utf8.count)) + digits
    var fraction = padded.suffix(decimals)
    while fraction.last == "0" { fraction.removeLast() }
    let whole = padded.dropLast(decimals)
    return fraction.isEmpty ? String(whole) : "\(whole).\(fraction)"
  }
}
