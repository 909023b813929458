/// Names an asset of the ledger: its code and how many decimals one whole unit has.
public struct Currency: Sendable, Hashable {
  /// The longest code in octets, so that codes stay in a String's inline storage.
  public static let codeLimit = 15
  /// The most decimals: 10^30 whole units' worth of base units still fit 128 bits.
  public static let decimalsLimit: UInt8 = 30

  /// Lower-case code of 1 to 15 letters and digits, as `request.currency` carries it.
  public let code: String
  /// How many base units one whole unit has, as a power of ten: 0 to 30.
  public let decimals: UInt8

  /// Returns nil where the code or the decimals are out of range.
  public init?(code: String, decimals: UInt8) {
    guard Currency.isCode(code), decimals <= Currency.decimalsLimit else { return nil }
    self.code = code
    self.decimals = decimals
  }

  /// Tells whether `code` is 1 to 15 octets of `[a-z0-9]`.
  public static func isCode(_ code: String) -> Bool {
    let octets = code.utf8
    return (1...codeLimit).contains(octets.count)
      && octets.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) }
  }

  /// The code as people write it: `USDC`.
  public var symbol: String { code.uppercased() }

  /// The base units of one whole unit.
  public var scale: UInt128 {
    var scale: UInt128 = 1
    for _ in 0..<decimals { scale *= 10 }
    return scale
  }

  /// Reads whole units with an optional fraction (`0.002`, `5`) as base units.
  ///
  /// - Throws: `malformedAmount`, `tooManyDecimals` or `overflow`.
  public func parse(_ text: some StringProtocol) throws(PaymentError) -> UInt128 {
    var units: UInt128 = 0
    var fraction: UInt8?
    var digits = 0
    for octet in text.utf8 {
      if octet == 0x2E {
        guard fraction == nil, digits > 0 else { throw .malformedAmount }
        fraction = 0
        continue
      }
      guard (0x30...0x39).contains(octet) else { throw .malformedAmount }
      if let count = fraction {
        guard count < decimals else { throw .tooManyDecimals(limit: decimals) }
        fraction = count + 1
      }
      digits += 1
      units = try units.appending(digit: octet &- 0x30)
    }
    guard digits > 0, fraction != 0 else { throw .malformedAmount }
    for _ in (fraction ?? 0)..<decimals { units = try units.appending(digit: 0) }
    return units
  }

  /// Writes base units as whole units, without trailing zeros: `2000` of six decimals is `0.002`.
  public func format(_ units: UInt128) -> String {
    let (whole, rest) = units.quotientAndRemainder(dividingBy: scale)
    guard rest != 0 else { return String(whole) }
    var fraction = String(rest)
    fraction = String(repeating: "0", count: Int(decimals) - fraction.utf8.count) + fraction
    while fraction.hasSuffix("0") { fraction.removeLast() }
    return "\(whole).\(fraction)"
  }
}

extension UInt128 {
  /// Appends one decimal digit, refusing what 128 bits cannot hold.
  fileprivate func appending(digit: UInt8) throws(PaymentError) -> UInt128 {
    let (product, carried) = multipliedReportingOverflow(by: 10)
    let (sum, overflowed) = product.addingReportingOverflow(UInt128(digit))
    guard !carried, !overflowed else { throw .overflow }
    return sum
  }
}
