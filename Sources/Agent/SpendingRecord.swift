import Bytes
import Encoding
import Payments

/// What was spent today, by currency, over all rails: what the limits of a day are compared with.
///
/// The day never goes back: a clock that is set back finds what was spent counted still, and gives nothing free.
struct SpendingRecord: Sendable, Equatable {
  /// The decimals in which currencies of different decimals are added up.
  static let decimals: UInt8 = 18

  /// Days of UTC since 1970.
  private(set) var day: Int64 = 0
  /// By currency code, in units of 10⁻¹⁸.
  private(set) var spent: [String: UInt128] = [:]

  init() {}

  /// The day of a time.
  static func day(of time: Timestamp) -> Int64 { time.seconds / 86_400 }

  /// An amount in units of 10⁻¹⁸, rounded up; what is too large counts as the largest.
  static func scaled(_ units: UInt128, of currency: Currency) -> UInt128 {
    var scaled = units
    if currency.decimals > decimals {
      for _ in decimals..<currency.decimals { scaled = scaled / 10 + (scaled % 10 == 0 ? 0 : 1) }
      return scaled
    }
    for _ in currency.decimals..<decimals {
      let (product, overflow) = scaled.multipliedReportingOverflow(by: 10)
      guard !overflow else { return .max }
      scaled = product
    }
    return scaled
  }

  /// A limit in the same units, rounded down; what is too large limits nothing.
  static func most(_ limit: SpendingLimit) -> UInt128 {
    let parts = limit.number.split(separator: ".", maxSplits: 1)
    let fraction = parts.count > 1 ? parts[1].prefix(Int(decimals)) : ""
    let number = fraction.isEmpty ? String(parts[0]) : parts[0] + "." + fraction
    guard let currency = Currency(code: limit.code, decimals: decimals) else { return 0 }
    return (try? currency.parse(number)) ?? .max
  }

  /// What was spent of a currency on the day of `now`.
  func spent(_ code: String, at now: Timestamp) -> UInt128 { Self.day(of: now) > day ? 0 : spent[code] ?? 0 }

  /// Adds what is about to be paid.
  mutating func add(_ amount: UInt128, _ code: String, at now: Timestamp) {
    let today = Self.day(of: now)
    if today > day {
      day = today
      spent = [:]
    }
    let (sum, overflow) = (spent[code] ?? 0).addingReportingOverflow(amount)
    spent[code] = overflow ? .max : sum
  }

  var json: JSONValue {
    let list = spent.sorted { $0.key < $1.key }.map { ($0.key, JSONValue.string(String($0.value))) }
    return .object(["version": 1, "day": .integer(day), "decimals": .integer(Self.decimals), "spent": .object(JSONObject(list))])
  }

  /// Reads what `json` wrote; nil where it is something else.
  init?(json: JSONValue) {
    guard let object = json.objectValue, object["version"]?.intValue == 1, object["decimals"]?.intValue == Int(Self.decimals),
      let day = object["day"]?.intValue, day >= 0, let list = object["spent"]?.objectValue
    else { return nil }
    self.day = Int64(day)
    for member in list.members {
      guard let units = member.value.stringValue.flatMap({ DecimalUInt128.parse($0.utf8) }) else { return nil }
      spent[member.name] = units
    }
  }
}

/// One payment as the limits see it.
struct PaymentPlan {
  let amount: UInt128
  let currency: Currency
  let recipients: [String]
  /// What the session will have cost with this payment; nil for a charge.
  var session: UInt128?

  /// Compares the payment with the limits.
  ///
  /// - Throws: `.overLimit` naming the first that is broken.
  func check(_ limits: PaymentLimits, _ record: SpendingRecord, at now: Timestamp) throws(AgentError) {
    if let stranger = recipients.first(where: { !limits.allows(recipient: $0) }) { throw .overLimit(.recipient(stranger)) }
    let code = currency.code
    let scaled = SpendingRecord.scaled(amount, of: currency)
    if let most = limits.most(.payment, code), scaled > most { throw .overLimit(.payment(amount, currency)) }
    if let session, let most = limits.most(.session, code), SpendingRecord.scaled(session, of: currency) > most {
      throw .overLimit(.session(session, currency))
    }
    guard let most = limits.most(.day, code) else { return }
    let spent = record.spent(code, at: now)
    guard spent <= most, scaled <= most - spent else { throw .overLimit(.day(amount, left: Self.left(most, spent, currency), currency)) }
  }

  /// What is left of a day in the currency's own base units, rounded down.
  private static func left(_ most: UInt128, _ spent: UInt128, _ currency: Currency) -> UInt128 {
    guard most > spent else { return 0 }
    var left = most - spent
    if currency.decimals <= SpendingRecord.decimals {
      for _ in currency.decimals..<SpendingRecord.decimals { left /= 10 }
      return left
    }
    for _ in SpendingRecord.decimals..<currency.decimals {
      let (product, overflow) = left.multipliedReportingOverflow(by: 10)
      guard !overflow else { return .max }
      left = product
    }
    return left
  }
}
