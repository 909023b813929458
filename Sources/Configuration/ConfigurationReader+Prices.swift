import Metering
import Payments

// Prices in words, and the least and the most that an exchange costs.
extension ConfigurationReader {
  static let priceExample = "a price such as \"0.002 USDC per request\""
  static let boundExample = "an amount in the price's currency, such as \"0.05 USDC\""

  /// Reads price words, the value of `key` or of `node` below it; reports what is wrong with them.
  func price(_ table: TableReader, _ key: String, node: Document.Node? = nil, _ words: String) -> Price? {
    do {
      return try Price(parsing: words, currencies: settings.currencies)
    } catch {
      var expected = error.expected
      var nearest: String?
      if case .unknownCurrency(let at) = error {
        let codes = settings.currencies.map(\.symbol)
        expected = codes.isEmpty ? "a currency of a [[currency]], of which there is none" : "one of \(codes.joined(separator: ", "))"
        let word = String(decoding: Array(words.utf8).dropFirst(at).prefix { $0 != 0x20 }, as: UTF8.self)
        nearest = Nearest.name(to: word, in: codes)
      }
      table.report(.invalidValue, key, node: node ?? table.node(key), offset: error.position + 1, expected: expected, nearest: nearest)
      return nil
    }
  }

  /// What `minimum` and `maximum` of a table say.
  struct Bounds {
    let minimum: String?
    let maximum: String?

    init(_ table: TableReader) {
      minimum = table.string("minimum", expected: boundExample)
      maximum = table.string("maximum", expected: boundExample)
    }
  }

  /// Adds the bounds of `minimum` and `maximum` to a price; nil where they are wrong, which is reported.
  ///
  /// - Parameter isShared: says that several prices have these bounds, each where it has none of its own.
  func bounded(_ table: TableReader, _ price: Price, _ bounds: Bounds, isShared: Bool = false) -> Price? {
    var least = price.minimum
    var most = price.maximum
    for (key, text, isSaid) in [("minimum", bounds.minimum, least > 0), ("maximum", bounds.maximum, most < .max)] {
      guard let text else { continue }
      if isSaid {
        if isShared { continue }
        table.report(.conflict, key, expected: "the bound in the price's words, or here")
        return nil
      }
      let words = text.split(separator: " ")
      guard words.count == 2, words[1].lowercased() == price.currency.code, let units = try? price.currency.parse(words[0]), units > 0 else {
        table.report(.invalidValue, key, expected: Self.boundExample)
        return nil
      }
      if key == "minimum" { least = units } else { most = units }
    }
    guard let bounded = price.bounded(minimum: least, maximum: most) else {
      table.report(.conflict, "minimum", expected: "at most the maximum, \(price.currency.format(most)) \(price.currency.symbol)")
      return nil
    }
    return bounded
  }
}
