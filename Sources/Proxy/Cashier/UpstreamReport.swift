import Bytes
import Encoding
import Payments

/// What an upstream reports of an exchange's cost, in the fields of a response's head or behind its content.
struct UpstreamReport {
  /// The field of x402's "upto" scheme, in lower case; it stays between the upstream and the proxy.
  private static let overrideField = Array("settlement-overrides".utf8)

  /// The units that were used.
  var units: UInt64?
  /// What the exchange costs, instead of counted units.
  var override: SettlementOverride?

  /// Takes a field, where it is one of the two; a value that cannot be read is no report.
  mutating func take(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ route: PricedRoute, _ currency: Currency) {
    if Self.isName(name, Self.overrideField) {
      override = SettlementOverride(value, currency: currency) ?? override
    } else if Self.isName(name, route.unitsField), let count = DecimalUInt128.parse(value) {
      units = UInt64(exactly: count) ?? units
    }
  }

  private static func isName(_ name: UnsafeRawBufferPointer, _ known: [UInt8]) -> Bool {
    guard name.count == known.count else { return false }
    for index in known.indices where name[index] | ((0x41...0x5A).contains(name[index]) ? 0x20 : 0) != known[index] { return false }
    return true
  }
}
