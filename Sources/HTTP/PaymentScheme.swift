/// Recognises the authentication schemes of payment in `Authorization` and `WWW-Authenticate` values.
public enum PaymentScheme {
  /// Tells whether one of a value's elements uses a payment scheme: `Payment`, `Prepaid-Session`, `L402` or `LSAT`.
  ///
  /// Every element of a folded value is looked at, outside of quoted strings, so that a credential does not slip by
  /// behind a comma. Without a payment scheme the value is the upstream's own business.
  public static func occurs(in value: UnsafeRawBufferPointer) -> Bool {
    let octets = value.bytes
    var index = 0
    var hasQuotes = true
    while index < octets.byteCount {
      while index < octets.byteCount, octets.octet(index).isBlank || octets.octet(index) == UInt8(ascii: ",") { index += 1 }
      let start = index
      while index < octets.byteCount, OctetClass.token.contains(octets.octet(index)) { index += 1 }
      // A parameter's name is followed by an equals sign, a scheme never is.
      if octets.octet(at: index, before: octets.byteCount) != UInt8(ascii: "="), isPayment(octets, start..<index) {
        return true
      }
      index = endOfElement(octets, from: index, &hasQuotes)
    }
    return false
  }

  private static func isPayment(_ octets: RawSpan, _ scheme: Range<Int>) -> Bool {
    switch scheme.count {
    case 7: octets.equalsIgnoringCase("payment", at: scheme.lowerBound, count: 7)
    case 15: octets.equalsIgnoringCase("prepaid-session", at: scheme.lowerBound, count: 15)
    case 4:
      octets.equalsIgnoringCase("l402", at: scheme.lowerBound, count: 4)
        || octets.equalsIgnoringCase("lsat", at: scheme.lowerBound, count: 4)
    default: false
    }
  }

  /// Finds the comma that ends an element. A quoted string that is not closed hides nothing behind it: from there on
  /// quotes mean nothing, which also keeps the walk linear.
  private static func endOfElement(_ octets: RawSpan, from start: Int, _ hasQuotes: inout Bool) -> Int {
    var index = start
    while index < octets.byteCount, octets.octet(index) != UInt8(ascii: ",") {
      if hasQuotes, octets.octet(index) == UInt8(ascii: "\"") {
        if let end = endOfQuoted(octets, from: index) {
          index = end
          continue
        }
        hasQuotes = false
      }
      index += 1
    }
    return index
  }

  private static func endOfQuoted(_ octets: RawSpan, from start: Int) -> Int? {
    var index = start + 1
    while index < octets.byteCount {
      switch octets.octet(index) {
      case UInt8(ascii: "\""): return index + 1
      case UInt8(ascii: "\\"): index += 2
      default: index += 1
      }
    }
    return nil
  }
}
