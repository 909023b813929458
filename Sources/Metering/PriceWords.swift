import Payments

extension Price {
  /// The price in words, in one canonical spelling that parses to the same price.
  public var words: String {
    parts.map { part in
      "\(Self.decimal(part.amount, decimals: Int(currency.decimals))) \(currency.code.uppercased()) per \(Self.unitWords(part))"
    }.joined(separator: " + ")
  }

  private static func unitWords(_ rate: Rate) -> String {
    let direction = rate.unit.wireDirection.map { " of \($0)" } ?? ""
    switch rate.unit.kind {
    case .request, .message, .second:
      return (rate.unitSize == 1 ? rate.unit.wireName : "\(rate.unitSize) \(rate.unit.wireName)s") + direction
    case .byte: return octetWords(rate) + direction
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
