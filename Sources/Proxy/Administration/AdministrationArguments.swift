import Bytes
import Configuration
import Crypto
import Encoding
import Ledger
import Payments

/// Reads the members of a command's JSON object strictly: what no one asked for is an error.
struct AdministrationArguments {
  private let object: JSONObject
  private let currencies: [Currency]
  private var asked: Set<String> = []

  init(_ object: JSONObject, currencies: [Currency]) {
    self.object = object
    self.currencies = currencies
  }

  /// Refuses members that were not asked for.
  func finish() throws(AdministrationError) {
    for name in object.names where !asked.contains(name) { throw .unknownMember(name) }
  }

  /// Returns a member; nil where it is not there.
  mutating func optional(_ name: String) -> JSONValue? {
    asked.insert(name)
    return object[name]
  }

  private mutating func text(_ name: String, _ form: AdministrationError.Form) throws(AdministrationError) -> String {
    guard let value = optional(name) else { throw .missingMember(name) }
    guard let text = value.stringValue else { throw .malformedMember(name, form: form) }
    return text
  }

  mutating func text(_ name: String) throws(AdministrationError) -> String {
    let text = try text(name, .text)
    guard (1...256).contains(text.utf8.count) else { throw .malformedMember(name, form: .text) }
    return text
  }

  /// Reads the absolute path of a file.
  mutating func path(_ name: String) throws(AdministrationError) -> String {
    let text = try text(name, .path)
    guard text.hasPrefix("/"), text.utf8.count < 4096, !text.utf8.contains(0) else { throw .malformedMember(name, form: .path) }
    return text
  }

  /// Reads true or false; false where it is not there.
  mutating func flag(_ name: String) throws(AdministrationError) -> Bool {
    switch optional(name) {
    case nil, false?: false
    case true?: true
    default: throw .malformedMember(name, form: .flag)
    }
  }

  mutating func wallet(_ name: String) throws(AdministrationError) -> Digest32 {
    guard let key = DIDKey.decode(try text(name, .wallet)) else { throw .malformedMember(name, form: .wallet) }
    return key.octets
  }

  mutating func optionalWallet(_ name: String) throws(AdministrationError) -> Digest32? {
    optional(name) == nil ? nil : try wallet(name)
  }

  mutating func session(_ name: String) throws(AdministrationError) -> Digest32 {
    guard let id = Digest32(hex: try text(name, .session)) else { throw .malformedMember(name, form: .session) }
    return id
  }

  /// Reads a payment's id, as audit lines have it or with `0x` in front.
  mutating func payment(_ name: String) throws(AdministrationError) -> Digest32 {
    let text = try text(name, .payment)
    guard let id = Digest32(hex: text.hasPrefix("0x") ? String(text.dropFirst(2)) : text) else { throw .malformedMember(name, form: .payment) }
    return id
  }

  /// Reads a transaction's hash, with or without `0x` in front.
  mutating func transaction(_ name: String) throws(AdministrationError) -> Digest32 {
    let text = try text(name, .transaction)
    guard let hash = Digest32(hex: text.hasPrefix("0x") ? String(text.dropFirst(2)) : text) else { throw .malformedMember(name, form: .transaction) }
    return hash
  }

  /// Reads which payments are asked for; all where nothing is said.
  mutating func selection(_ name: String) throws(AdministrationError) -> ChainPaymentSelection {
    guard optional(name) != nil else { return .all }
    switch try text(name) {
    case "open": return .open
    case "unserved": return .unserved
    default: throw .malformedMember(name, form: .selection)
    }
  }

  /// Reads a channel's id, with `0x` in front or not.
  mutating func channel(_ name: String) throws(AdministrationError) -> Digest32 {
    let text = try text(name, .channel)
    guard let id = Digest32(hex: text.hasPrefix("0x") ? String(text.dropFirst(2)) : text) else { throw .malformedMember(name, form: .channel) }
    return id
  }

  /// Reads which channels are asked for; all where nothing is said.
  mutating func channels(_ name: String) throws(AdministrationError) -> ChannelSelection {
    guard optional(name) != nil else { return .all }
    switch try text(name) {
    case "unsettled": return .unsettled
    case "closing": return .phase(.closing)
    default: throw .malformedMember(name, form: .channels)
    }
  }

  mutating func reference(_ name: String) throws(AdministrationError) -> UInt64 {
    guard let number = UInt64(try text(name, .reference)) else { throw .malformedMember(name, form: .reference) }
    return number
  }

  mutating func count(_ name: String, default standard: Int) throws(AdministrationError) -> Int {
    guard let value = optional(name) else { return standard }
    guard let count = value.intValue, count >= 0 else { throw .malformedMember(name, form: .count) }
    return count
  }

  /// Reads `5 USDC`.
  mutating func amount(_ name: String) throws(AdministrationError) -> (units: UInt128, currency: Currency) {
    guard let amount = Self.amount(try text(name, .amount), currencies), amount.units > 0 else {
      throw .malformedMember(name, form: .amount)
    }
    return amount
  }

  /// Reads `5 USDC` or `5 USDC@base`; with an account of its own, `5` as well.
  mutating func amount(
    _ name: String, ofAccount accountName: String, in settings: Settings
  ) throws(AdministrationError) -> (units: UInt128, account: Settings.Account) {
    var account: Settings.Account?
    if optional(accountName) != nil {
      guard let found = settings.account(try text(accountName, .account)) else { throw .malformedMember(accountName, form: .account) }
      account = found
    }
    guard let amount = settings.amount(try text(name, .accountAmount), of: account) else { throw .malformedMember(name, form: .accountAmount) }
    return amount
  }

  private static func amount(_ text: String, _ currencies: [Currency]) -> (units: UInt128, currency: Currency)? {
    let words = text.split(separator: " ")
    guard words.count == 2 else { return nil }
    let code = words[1].lowercased()
    guard let currency = currencies.first(where: { $0.code == code }), let units = try? currency.parse(words[0]) else { return nil }
    return (units, currency)
  }

  /// Reads amounts in several currencies: one text, or an array of them; null is none at all.
  mutating func amounts(_ name: String) throws(AdministrationError) -> [String: UInt128]?? {
    guard let value = optional(name) else { return .none }
    if value.isNull { return .some(.none) }
    var amounts: [String: UInt128] = [:]
    for element in value.arrayValue ?? [value] {
      guard let text = element.stringValue, let amount = Self.amount(text, currencies) else { throw .malformedMember(name, form: .amount) }
      amounts[amount.currency.code] = amount.units
    }
    return amounts
  }
}
