import Payments

extension Price {
  /// Reads a price in words.
  ///
  /// Each part is `AMOUNT CURRENCY per [COUNT] UNIT [of response|request|both]`; parts are joined by `+`. Content and messages
  /// without "of" are the response's. A count may be followed by `K` or `M`. Behind the parts may stand `, at least AMOUNT CURRENCY`
  /// and `, at most AMOUNT CURRENCY`, for an exchange. The currency is one of `currencies`, in any case of letters.
  public init(parsing words: String, currencies: [Currency]) throws(PriceError) {
    var parser = PriceParser(words: words, currencies: currencies)
    let (currency, parts) = try parser.parse()
    let (minimum, maximum) = try parser.parseBounds(currency)
    guard let price = Price(currency: currency, parts: parts, minimum: minimum ?? 0, maximum: maximum ?? .max) else {
      throw .amountTooLarge(at: 0)
    }
    self = price
  }
}

extension Price {
  /// Reads the price of what costs nothing, `0 CURRENCY per request`; nil for other words.
  public init?(nothing words: String, currencies: [Currency]) {
    let parts = words.split(separator: " ")
    guard parts.count == 4, parts[0] == "0", parts[2] == "per", parts[3] == "request",
      let currency = currencies.first(where: { $0.code == parts[1].lowercased() })
    else { return nil }
    self.init(currency: currency, parts: [.nothing])
  }
}

/// Reads price words, and knows at each failure which word it stood at.
struct PriceParser {
  private struct Word {
    let text: Substring
    let position: Int
  }

  /// A number with its decimals: 0.002 is 2 with 3 decimals.
  private struct Decimal {
    var digits: UInt128 = 0
    var decimals = 0
  }

  private var words: [Word] = []
  private let end: Int
  private var next = 0
  private let currencies: [Currency]

  init(words text: String, currencies: [Currency]) {
    self.currencies = currencies
    end = text.utf8.count
    var start: String.Index?
    for index in text.indices {
      let character = text[index]
      let after = text.index(after: index)
      // Between digits a comma is no mark but a wrong point.
      let isMark = character == "+" || (character == "," && (after == text.endIndex || text[after] == " " || text[after] == "\t"))
      if character == " " || character == "\t" || isMark {
        if let first = start { append(text, first..<index) }
        start = nil
        if isMark { append(text, index..<after) }
      } else if start == nil {
        start = index
      }
    }
    if let first = start { append(text, first..<text.endIndex) }
  }

  private mutating func append(_ text: String, _ range: Range<String.Index>) {
    words.append(Word(text: text[range], position: text.utf8.distance(from: text.startIndex, to: range.lowerBound)))
  }

  private var position: Int { next < words.count ? words[next].position : end }

  private mutating func take() -> Word? {
    guard next < words.count, words[next].text != "+", words[next].text != "," else { return nil }
    next += 1
    return words[next - 1]
  }

  private mutating func take(_ text: String) -> Bool {
    guard next < words.count, words[next].text == text else { return false }
    next += 1
    return true
  }

  mutating func parse() throws(PriceError) -> (Currency, [Rate]) {
    guard !words.isEmpty else { throw .empty }
    var currency: Currency?
    var parts: [Rate] = []
    repeat {
      let start = position
      guard parts.count < Price.maximumParts else { throw .tooManyParts(at: start) }
      let (rate, found) = try parsePart(first: currency)
      guard !parts.contains(where: { $0.unit == rate.unit }) else { throw .duplicateUnit(at: start) }
      currency = found
      parts.append(rate)
    } while take("+")
    guard let currency else { throw .empty }
    guard next == words.count || words[next].text == "," || words[next].text == "at" else { throw .trailingWords(at: position) }
    return (currency, parts)
  }

  /// Reads what stands behind the parts: the least and the most of an exchange, in base units.
  mutating func parseBounds(_ currency: Currency) throws(PriceError) -> (minimum: UInt128?, maximum: UInt128?) {
    var minimum: UInt128?
    var maximum: UInt128?
    while next < words.count {
      _ = take(",")
      let start = position
      guard take("at") else { throw .invalidBound(at: start) }
      if take("least"), minimum == nil {
        minimum = try parseBound(currency)
      } else if take("most"), maximum == nil {
        maximum = try parseBound(currency)
      } else {
        throw .invalidBound(at: start)
      }
      if let minimum, let maximum, minimum > maximum { throw .contradictoryBounds(at: start) }
    }
    return (minimum, maximum)
  }

  private mutating func parseBound(_ currency: Currency) throws(PriceError) -> UInt128 {
    let start = position
    let decimal = try parseDecimal()
    guard decimal.decimals <= Int(currency.decimals) else { throw .amountTooPrecise(at: start) }
    let amount = try Self.scaled(decimal, currency, at: start)
    _ = try parseCurrency(first: currency)
    return amount
  }

  /// Counts a decimal, of no more decimals than the currency has, in base units.
  private static func scaled(_ decimal: Decimal, _ currency: Currency, at position: Int) throws(PriceError) -> UInt128 {
    var amount = decimal.digits
    for _ in decimal.decimals..<Int(currency.decimals) {
      let (product, overflows) = amount.multipliedReportingOverflow(by: 10)
      if overflows { throw .amountTooLarge(at: position) }
      amount = product
    }
    return amount
  }

  private mutating func parsePart(first: Currency?) throws(PriceError) -> (Rate, Currency) {
    let amountPosition = position
    let decimal = try parseDecimal()
    let currency = try parseCurrency(first: first)
    guard take("per") else { throw .missingPer(at: position) }
    let sizePosition = position
    let count = try parseCount()
    let (unit, size) = try parseUnit()

    // Decimals that the currency does not have become a larger unit: 0.4 base units an octet are 4 for ten.
    var amount = decimal.digits
    var scale: UInt64 = 1
    if decimal.decimals <= Int(currency.decimals) {
      amount = try Self.scaled(decimal, currency, at: amountPosition)
    } else {
      for _ in 0..<(decimal.decimals - Int(currency.decimals)) {
        let (product, overflows) = scale.multipliedReportingOverflow(by: 10)
        if overflows { throw .amountTooPrecise(at: amountPosition) }
        scale = product
      }
    }
    let (counted, countOverflows) = size.multipliedReportingOverflow(by: count)
    guard !countOverflows, ExactCost.denominator % UInt128(counted) == 0 else { throw .unsupportedUnitSize(at: sizePosition) }
    let (unitSize, scaleOverflows) = counted.multipliedReportingOverflow(by: scale)
    guard !scaleOverflows, let rate = Rate(amount: amount, unitSize: unitSize, unit: unit) else {
      throw .amountTooPrecise(at: amountPosition)
    }
    return (rate, currency)
  }

  private mutating func parseDecimal() throws(PriceError) -> Decimal {
    guard let word = take() else { throw .invalidAmount(at: position) }
    var result = Decimal()
    var pendingZeros = 0
    var seenDigit = false
    var seenPoint = false
    for (offset, octet) in word.text.utf8.enumerated() {
      switch octet {
      case UInt8(ascii: "."):
        guard !seenPoint, seenDigit else { throw .invalidAmount(at: word.position + offset) }
        seenPoint = true
        seenDigit = false
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        seenDigit = true
        // Zeros at a fraction's end add no precision, so they are only counted until another digit follows.
        if seenPoint, octet == UInt8(ascii: "0") {
          pendingZeros += 1
          continue
        }
        for digit in repeatElement(0, count: pendingZeros) + [UInt128(octet - UInt8(ascii: "0"))] {
          let (product, overflows) = result.digits.multipliedReportingOverflow(by: 10)
          let (sum, carries) = product.addingReportingOverflow(digit)
          guard !overflows, !carries else { throw .amountTooLarge(at: word.position) }
          result.digits = sum
          if seenPoint { result.decimals += 1 }
        }
        pendingZeros = 0
      default:
        throw .invalidAmount(at: word.position + offset)
      }
    }
    guard seenDigit else { throw .invalidAmount(at: word.position) }
    guard result.digits > 0 else { throw .zeroAmount(at: word.position) }
    return result
  }

  private mutating func parseCurrency(first: Currency?) throws(PriceError) -> Currency {
    guard let word = take() else { throw .missingCurrency(at: position) }
    guard word.text != "per" else { throw .missingCurrency(at: word.position) }
    let code = word.text.lowercased()
    guard let currency = currencies.first(where: { $0.code == code }) else { throw .unknownCurrency(at: word.position) }
    guard first == nil || first == currency else { throw .currencyDiffers(at: word.position) }
    return currency
  }

  private mutating func parseCount() throws(PriceError) -> UInt64 {
    guard next < words.count, let first = words[next].text.utf8.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
      return 1
    }
    let word = words[next]
    let multiplier = UnitSize.multiplier(in: word.text.suffix(1))
    let digits = multiplier == nil ? word.text : word.text.dropLast()
    guard let count = UInt64(digits), count > 0 else { throw .invalidCount(at: word.position) }
    let (product, overflows) = count.multipliedReportingOverflow(by: multiplier ?? 1)
    if overflows { throw .invalidCount(at: word.position) }
    next += 1
    return product
  }

  private mutating func parseUnit() throws(PriceError) -> (Unit, UInt64) {
    guard var word = take() else { throw .unknownUnit(at: position) }
    let multiplier = UnitSize.multiplier(in: word.text)
    if multiplier != nil {
      guard let next = take() else { throw .unknownUnit(at: position) }
      word = next
    }
    if let unit = try parseCounted(word) { return (unit, multiplier ?? 1) }
    if multiplier == nil, let seconds = UnitSize.seconds(in: word.text) {
      try refuseDirection()
      return (.second, seconds)
    }
    if word.text == "message" || word.text == "messages" {
      return (try parseDirection(response: .responseMessage, request: .requestMessage, both: .message), multiplier ?? 1)
    }
    guard multiplier == nil, let size = UnitSize.size(of: word.text) else { throw .unknownUnit(at: word.position) }
    return (try parseDirection(response: .responseByte, request: .requestByte, both: .byte), size)
  }

  /// Reads what is counted one by one and has no direction that "of" could name; nil for other units.
  private mutating func parseCounted(_ word: Word) throws(PriceError) -> Unit? {
    let unit: Unit
    switch word.text {
    case "request", "requests": unit = .request
    case "event", "events": unit = .event
    case "call", "calls": unit = .call
    case "unit", "units": unit = .reported
    case "input": unit = .inputToken
    case "output": unit = .outputToken
    case "cached":
      guard take("input") else { throw .unknownTokens(at: word.position) }
      unit = .cachedInputToken
    case "token", "tokens": throw .unknownTokens(at: word.position)
    default: return nil
    }
    if unit.kind == .token, !take("token"), !take("tokens") { throw .unknownTokens(at: word.position) }
    try refuseDirection()
    return unit
  }

  private mutating func refuseDirection() throws(PriceError) {
    let start = position
    guard !take("of") else { throw .directionWithoutContent(at: start) }
  }

  private mutating func parseDirection(response: Unit, request: Unit, both: Unit) throws(PriceError) -> Unit {
    guard take("of") else { return response }
    let name = position
    switch take()?.text {
    case "response": return response
    case "request": return request
    case "both": return both
    default: throw .unknownDirection(at: name)
    }
  }
}
