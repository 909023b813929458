import Bytes
import Encoding
import Metering
import Payments

/// What a pricer said a request costs: an amount per request.
struct QuotedPrice: Sendable, Hashable {
  /// Base units for `unitSize` requests; 0: the request is free.
  var amount: UInt128
  var unitSize: UInt64 = 1
  /// The currency's code.
  var currency: String
  var description: String?

  /// Octets of the longest description.
  private static let descriptionLimit = 200

  var isFree: Bool { amount == 0 }

  init(amount: UInt128, unitSize: UInt64 = 1, currency: String, description: String? = nil) {
    self.amount = amount
    self.unitSize = unitSize
    self.currency = currency
    self.description = description
  }

  /// Reads an answer's content: `{"price": "0.002 USDC per request"}`, or `{"amount": "2000", "currency": "usdc"}` in base units,
  /// each with a `description` where there is something to say. Nil for anything else.
  init?(_ content: UnsafeRawBufferPointer, currencies: [Currency]) {
    guard let value = try? JSON.parse(Array(content), limits: JSONLimits(octets: ServiceDialogue.contentLimit, depth: 4)), let object = value.objectValue,
      Set(object.names).isSubset(of: ["price", "amount", "currency", "description"])
    else { return nil }
    if let member = object["description"] {
      guard let text = member.stringValue, Self.isPrintable(text) else { return nil }
      description = text
    }
    if let member = object["price"] {
      guard object["amount"] == nil, object["currency"] == nil, let words = member.stringValue,
        let price = try? Price(parsing: words, currencies: currencies), let rate = Self.rate(of: price)
      else { return nil }
      (amount, unitSize, currency) = (rate.amount, rate.unitSize, price.currency.code)
      return
    }
    guard let digits = object["amount"]?.stringValue, let amount = DecimalUInt128.parse(digits), amount <= Self.most,
      let code = object["currency"]?.stringValue, currencies.contains(where: { $0.code == code })
    else { return nil }
    (self.amount, currency) = (amount, code)
  }

  /// Far beyond all that is sold, and far from where sums pass 128 bits.
  private static let most: UInt128 = 1 << 96

  /// The rate of a price that is one amount per request and nothing else; nil for others.
  static func rate(of price: Price) -> Rate? {
    guard price.parts.count == 1, let rate = price.parts.first, rate.unit == .request, rate.amount <= most else { return nil }
    return rate
  }

  /// Takes a price in words that says the same.
  init?(_ price: Price) {
    guard let rate = Self.rate(of: price) else { return nil }
    self.init(amount: rate.amount, unitSize: rate.unitSize, currency: price.currency.code)
  }

  private static func isPrintable(_ text: String) -> Bool {
    (1...descriptionLimit).contains(text.utf8.count) && text.utf8.allSatisfy { (0x20...0x7E).contains($0) && $0 != 0x22 && $0 != 0x5C }
  }

  // MARK: What bindings and terms call it

  /// The price as a part of a name: `2000.usdc`, or `500-1000.usdc` for 500 base units a thousand requests.
  var mark: String { unitSize == 1 ? "\(amount).\(currency)" : "\(amount)-\(unitSize).\(currency)" }

  /// Reads a mark; nil unless it is one.
  init?(mark: Substring) {
    guard let point = mark.firstIndex(of: ".") else { return nil }
    let numbers = mark[..<point].split(separator: "-", omittingEmptySubsequences: false)
    guard (1...2).contains(numbers.count), let amount = DecimalUInt128.parse(numbers[0].utf8), amount > 0, amount <= Self.most else { return nil }
    let size = numbers.count == 2 ? UInt64(numbers[1]) : 1
    guard let size, size > 0 else { return nil }
    self.init(amount: amount, unitSize: size, currency: String(mark[mark.index(after: point)...]))
    guard self.mark == mark else { return nil }
  }

  /// The price itself; nil where it is free, or its currency is not known.
  func price(_ currencies: [Currency]) -> Price? {
    guard let currency = currencies.first(where: { $0.code == currency }), let rate = Rate(amount: amount, unitSize: unitSize, unit: .request)
    else { return nil }
    return Price(currency: currency, parts: [rate])
  }
}

/// What came of asking.
enum PriceAnswer: Sendable, Hashable {
  case quoted(QuotedPrice)
  /// The pricer could not be reached, took too long, or said what nobody understands.
  case failed
}
