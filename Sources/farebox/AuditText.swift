import Configuration
import Encoding

/// Shows lines of the audit log to people.
struct AuditText {
  private let money: Money
  private let hasColours: Bool

  init(_ settings: Settings, hasColours: Bool) {
    money = Money(settings)
    self.hasColours = hasColours
  }

  /// The columns' names.
  var header: String {
    paint("TIME                     EVENT                       AMOUNT  ROUTE         SESSION   WALLET          MORE", "2")
  }

  /// One line in columns; a line that is no event is shown as it is.
  func line(_ text: String) -> String {
    guard let object = try? JSON.parse(text), let event = object["event"]?.stringValue else { return PayText.printable(text) }
    let currency = object["currency"]?.stringValue
    let units = object["amount"]?.stringValue ?? object["refunded"]?.stringValue
    let amount = units.map { money.brief($0, currency) } ?? ""
    let columns = [
      Self.padded(object["time"]?.stringValue ?? "", 25), Self.padded(event, 19), Self.right(amount, 15) + "  ",
      Self.padded(object["route"]?.stringValue ?? "", 14), Self.padded(String((object["session"]?.stringValue ?? "").prefix(8)), 10),
      Self.padded(Self.short(wallet: object["wallet"]?.stringValue ?? ""), 16), more(object),
    ].map { PayText.printable($0) }
    var line = columns[0] + paint(columns[1], Self.colour(event)) + columns[2...].joined()
    while line.hasSuffix(" ") { line.removeLast() }
    return line
  }

  /// `did:key:z6Mk…abcdef`, as much as tells wallets apart.
  static func short(wallet: String) -> String {
    guard wallet.hasPrefix("did:key:"), wallet.count > 24 else { return wallet }
    return "\(wallet.dropFirst(8).prefix(4))…\(wallet.suffix(8))"
  }

  private func more(_ object: JSONValue) -> String {
    var words: [String] = []
    for name in Self.furtherMembers {
      guard let value = object[name] else { continue }
      let text = value.stringValue ?? value.intValue.map { String($0) } ?? ""
      words.append("\(name)=\(Self.amounts.contains(name) ? money.brief(text, object["currency"]?.stringValue) : text)")
    }
    return words.joined(separator: " ")
  }

  /// What stands behind the columns, in this order.
  private static let furtherMembers = [
    "cause", "outcome", "recipient", "reference", "payer", "payment", "transaction", "nonce", "gas", "deposit", "accepted", "spent", "earned",
    "captured", "overpaid", "lost", "units", "count", "size", "client",
  ]

  /// Those of them that are amounts of money.
  private static let amounts: Set<String> = ["deposit", "accepted", "spent", "earned", "captured", "overpaid", "lost"]

  private static func padded(_ text: String, _ width: Int) -> String {
    text.count >= width ? text + " " : text + String(repeating: " ", count: width - text.count)
  }

  private static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  /// Green earns, yellow moves, red refuses or stops, the rest stays plain.
  private static func colour(_ event: String) -> String {
    switch event {
    case "charge.settled", "session.debited", "channel.debited": "32"
    case "session.opened", "session.toppedup", "session.closed", "session.returned", "merchant.payout", "refund", "payment.settled", "payment.writtenoff",
      "channel.opened", "channel.toppedup", "channel.returned", "channel.settled", "channel.closed":
      "33"
    case "payment.refused", "payment.failed", "charge.voided", "wallet.frozen", "stop", "channel.suspended", "ledger.restored": "31"
    case "checkpoint", "challenges": "2"
    default: event.hasPrefix("wallet.") ? "36" : "0"
    }
  }

  private func paint(_ text: String, _ code: String) -> String {
    hasColours && code != "0" ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
  }
}
