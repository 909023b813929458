import Bytes
import Encoding

/// What an upstream says that an exchange costs, instead of counted units: the field `Settlement-Overrides` of x402's "upto" scheme, whose
/// value is `{"amount":"1858"}` in base units, `"50%"` of what was held, or `"$0.01"` in whole units.
public enum SettlementOverride: Sendable, Hashable {
  /// Base units.
  case amount(UInt128)
  /// Ten-thousandths of what was held, at most 10,000.
  case share(UInt32)

  /// The longest value that is read, in octets.
  public static let limit = 256

  /// Reads a field's value; nil where it is none of the three forms, or beyond what a currency's accounts hold.
  public init?(_ value: UnsafeRawBufferPointer, currency: Currency) {
    guard value.count <= Self.limit, let object = try? JSON.parse(value).objectValue, let text = object["amount"]?.stringValue else {
      return nil
    }
    if text.hasSuffix("%") {
      guard let percent = Currency(code: "percent", decimals: 2), let share = try? percent.parse(text.dropLast()), share <= 10_000 else {
        return nil
      }
      self = .share(UInt32(share))
    } else if text.hasPrefix("$") {
      guard let amount = try? currency.parse(text.dropFirst()) else { return nil }
      self = .amount(amount)
    } else {
      guard let amount = DecimalUInt128.parse(text) else { return nil }
      self = .amount(amount)
    }
  }

  /// What the exchange costs of what was held, both in base units; never more than that.
  public func cost(ofHeld held: UInt128) -> UInt128 {
    switch self {
    case .amount(let amount): return min(amount, held)
    case .share(let share):
      // Below 2^128 again, since the share is at most the whole.
      let product = held.multipliedFullWidth(by: UInt128(share))
      return UInt128(10_000).dividingFullWidth(product).quotient
    }
  }
}
