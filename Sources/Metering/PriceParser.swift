import Payments

extension Price {
  /// Reads a price in words.
  ///
  /// Each part is `AMOUNT CURRENCY per [COUNT] UNIT [of response|request|both]`; parts are joined by `+`. Content and messages
  /// without "of" are the response's. The currency is one of `currencies`, in any case of letters.
  public init(parsing words: String, currencies: [Currency]) throws(PriceError) {
    var parser = PriceParser(words: words, currencies: currencies)
    let (currency, parts) = try parser.parse()
    guard let price = Price(currency: currency, parts: parts) else { throw .amountTooLarge(at: 0) }
    self = price
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
      if character == " " || character == "\t" || character == "+" {
        if let first = start { append(text, first..<index) }
        start = nil
        if character == "+" { append(text, index..<text.index(after: index)) }
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
    guard next < words.count, words[next].text != "+" else { return nil }
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
    guard next == words.count, let currency else { throw .trailingWords(at: position) }
    return (currency, parts)
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
      for _ in 0..<(Int(currency.decimals) - decimal.decimals) {
        let (product, overflows) = amount.multipliedReportingOverflow(by: 10)
        if overflows { throw .amountTooLarge(at: amountPosition) }
        amount = product
      }
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
    guard let count = UInt64(word.text), count > 0 else { throw .invalidCount(at: word.position) }
    next += 1
    return count
  }

  private mutating func parseUnit() throws(PriceError) -> (Unit, UInt64) {
    guard let word = take() else { throw .unknownUnit(at: position) }
    let directionPosition = position
    if word.text == "request" || word.text == "requests" {
      guard !take("of") else { throw .directionWithoutContent(at: directionPosition) }
      return (.request, 1)
    }
    if let seconds = UnitSize.seconds(in: word.text) {
      guard !take("of") else { throw .directionWithoutContent(at: directionPosition) }
      return (.second, seconds)
    }
    let isMessage = word.text == "message" || word.text == "messages"
    guard let size = isMessage ? 1 : UnitSize.size(of: word.text) else { throw .unknownUnit(at: word.position) }
    guard take("of") else { return (isMessage ? .responseMessage : .responseByte, size) }
    let name = position
    switch take()?.text {
    case "response": return (isMessage ? .responseMessage : .responseByte, size)
    case "request": return (isMessage ? .requestMessage : .requestByte, size)
    case "both": return (isMessage ? .message : .byte, size)
    default: throw .unknownDirection(at: name)
    }
  }
}
