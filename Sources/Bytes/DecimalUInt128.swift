/// Reads unsigned 128-bit numbers in their one decimal spelling.
public enum DecimalUInt128 {
  /// The digits of the greatest number.
  public static let maximumDigits = 39

  /// Reads digits only: no sign, no space, no leading zero except in `0`; nil for anything else, and past 128 bits.
  public static func parse(_ octets: some Sequence<UInt8>) -> UInt128? {
    var low: UInt64 = 0
    var value: UInt128 = 0
    var digits = 0
    for octet in octets {
      guard octet >= 0x30, octet <= 0x39, digits < maximumDigits else { return nil }
      if digits == 1, value == 0, low == 0 { return nil }
      digits += 1
      // Nineteen digits always fit into 64 bits, where the arithmetic is cheap.
      if digits <= 19 {
        low = low * 10 + UInt64(octet & 15)
        continue
      }
      if digits == 20 { value = UInt128(low) }
      let (product, passes) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflows) = product.addingReportingOverflow(UInt128(octet & 15))
      if passes || overflows { return nil }
      value = sum
    }
    if digits == 0 { return nil }
    return digits <= 19 ? UInt128(low) : value
  }

  /// Reads a string's digits, as above.
  public static func parse(_ text: String) -> UInt128? {
    parse(text.utf8)
  }
}
