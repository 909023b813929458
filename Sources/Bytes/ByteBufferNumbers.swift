extension ByteBuffer {
  /// Appends a number in decimal digits, without leading zeros.
  public mutating func append(decimal value: UInt64) {
    if value < 10 { return append(byte: 0x30 | UInt8(truncatingIfNeeded: value)) }
    appendDecimal(value, leastDigits: 1)
  }

  /// Appends a number in decimal digits, without leading zeros.
  ///
  /// - Precondition: the number is not negative.
  @inlinable
  public mutating func append(decimal value: Int) {
    precondition(value >= 0)
    append(decimal: UInt64(value))
  }

  /// Appends a number in decimal digits, without leading zeros.
  public mutating func append(decimal value: UInt128) {
    let chunk: UInt128 = 10_000_000_000_000_000_000
    if value <= UInt128(UInt64.max) { return append(decimal: UInt64(truncatingIfNeeded: value)) }
    let (head, low) = value.quotientAndRemainder(dividingBy: chunk)
    append(decimal: head)
    appendDecimal(UInt64(truncatingIfNeeded: low), leastDigits: 19)
  }

  /// Appends a number in decimal digits, with zeros in front up to `digits` (at most 20).
  public mutating func append(decimal value: UInt64, digits: Int) {
    precondition(digits >= 1 && digits <= 20)
    appendDecimal(value, leastDigits: digits)
  }

  /// Appends a number in lower-case hexadecimal digits, without leading zeros.
  public mutating func append(hexadecimal value: UInt64) {
    let digits = max(1, (64 - value.leadingZeroBitCount + 3) / 4)
    withUnsafeWritable(minimumCapacity: digits) { free in
      var rest = value
      var index = digits
      while index > 0 {
        index &-= 1
        let nibble = UInt8(truncatingIfNeeded: rest & 15)
        free[index] = nibble < 10 ? 0x30 | nibble : 0x57 &+ nibble
        rest >>= 4
      }
      return digits
    }
  }

  private mutating func appendDecimal(_ value: UInt64, leastDigits: Int) {
    var digits = 1
    var bound: UInt64 = 10
    while value >= bound, digits < 20 {
      digits &+= 1
      let (next, overflows) = bound.multipliedReportingOverflow(by: 10)
      if overflows { break }
      bound = next
    }
    digits = max(digits, leastDigits)
    withUnsafeWritable(minimumCapacity: digits) { free in
      var rest = value
      var index = digits
      while index > 0 {
        index &-= 1
        let quotient = rest / 10
        free[index] = 0x30 | UInt8(truncatingIfNeeded: rest &- quotient &* 10)
        rest = quotient
      }
      return digits
    }
  }
}
