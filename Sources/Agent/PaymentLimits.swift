import Encoding
import Payments

/// What an agent's wallets may spend, whatever a call allows: kept in a file, and the same for every rail.
///
/// Amounts are by currency code, so that USDC of a prepaid wallet and USDC of a chain count as one.
public struct PaymentLimits: Sendable, Equatable {
  /// What a limit is over.
  public enum Span: String, Sendable, CaseIterable {
    /// A day of UTC.
    case day
    /// One charge, deposit or top-up.
    case payment
    /// A session, its deposit and top-ups together.
    case session
  }

  /// The most recipients and currencies in the file.
  static let countLimit = 256

  /// Whole units as they were written, by span and currency code.
  public private(set) var amounts: [Span: [String: SpendingLimit]] = [:]
  /// Who may be paid: accounts of chains in lower case, accounts of ledgers as they are written; empty where that is not limited.
  public private(set) var recipients: [String] = []

  /// Makes limits that limit nothing.
  public init() {}

  /// Whether nothing is limited.
  public var isEmpty: Bool { amounts.values.allSatisfy(\.isEmpty) && recipients.isEmpty }

  /// Sets a limit in the place of an earlier one of its currency.
  public mutating func set(_ limit: SpendingLimit, for span: Span) { amounts[span, default: [:]][limit.code] = limit }

  /// Takes a limit away.
  public mutating func remove(_ code: String, for span: Span) { amounts[span]?[code] = nil }

  /// Replaces the recipients that may be paid; none: everybody may be.
  public mutating func setRecipients(_ list: [String]) { recipients = list.prefix(Self.countLimit).map(Self.spelling) }

  /// Whether a recipient may be paid.
  public func allows(recipient: String) -> Bool { recipients.isEmpty || recipients.contains(Self.spelling(recipient)) }

  /// The one spelling of a recipient: an address is its octets, whatever the case of its digits.
  private static func spelling(_ recipient: String) -> String { recipient.lowercased().hasPrefix("0x") ? recipient.lowercased() : recipient }

  /// The limit of a currency in thousand-trillionths of a whole unit; nil where there is none.
  func most(_ span: Span, _ code: String) -> UInt128? { amounts[span]?[code].map { SpendingRecord.most($0) } }

  /// The limits as their file has them.
  var json: JSONValue {
    var object: JSONObject = ["version": 1]
    for span in Span.allCases {
      guard let limits = amounts[span], !limits.isEmpty else { continue }
      object.set(span.rawValue, .object(JSONObject(limits.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value.number)) })))
    }
    if !recipients.isEmpty { object.set("recipients", .array(recipients.map { .string($0) })) }
    return .object(object)
  }

  /// Reads what `json` wrote, or a person; nil where it is something else, so that a slip of the pen never lifts a limit.
  init?(json: JSONValue) {
    guard let object = json.objectValue, object["version"]?.intValue == 1 else { return nil }
    for member in object.members where member.name != "version" {
      if member.name == "recipients" {
        guard let list = member.value.arrayValue, list.count <= Self.countLimit else { return nil }
        let names = list.compactMap(\.stringValue)
        guard names.count == list.count, !names.isEmpty else { return nil }
        setRecipients(names)
        continue
      }
      guard let span = Span(rawValue: member.name), let limits = member.value.objectValue, limits.count <= Self.countLimit else { return nil }
      for limit in limits.members {
        guard let number = limit.value.stringValue, let read = SpendingLimit("\(number) \(limit.name)") else { return nil }
        set(read, for: span)
      }
    }
  }
}
