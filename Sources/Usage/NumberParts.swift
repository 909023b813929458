/// The digits of a JSON number (RFC 8259 section 6) as they pass, kept so far that a whole number comes out exactly.
struct NumberParts: Sendable {
  /// Exponents are kept up to here: every number further out is zero, too large or no whole number all the same.
  private static let exponentLimit = 100_000

  /// Whether the value will be asked for; of other numbers only the spelling is checked.
  private var isKept = false
  private var isNegative = false
  /// The digits up to the last one that is not zero.
  private var mantissa: UInt64 = 0
  /// The zeros that came after them.
  private var zeros = 0
  /// The digits that came after the point.
  private var fractionDigits = 0
  private var exponent = 0
  private var isExponentNegative = false
  /// Whether the mantissa ran over.
  private var isLost = false

  init() {}

  /// Starts with a number's first octet: a minus sign or a digit.
  init(first: UInt8, isKept: Bool) {
    self.isKept = isKept
    if first == UInt8(ascii: "-") {
      isNegative = true
    } else {
      add(first &- 0x30)
    }
  }

  private mutating func add(_ digit: UInt8) {
    guard isKept else { return }
    if digit == 0 {
      if mantissa != 0, zeros < Self.exponentLimit { zeros &+= 1 }
      return
    }
    var scaled = mantissa
    var overflows = false
    // With a mantissa of zero there are no zeros behind it, so the loop is short or ends by overflow.
    for _ in 0...zeros {
      (scaled, overflows) = scaled.multipliedReportingOverflow(by: 10)
      if overflows { break }
    }
    if !overflows { (scaled, overflows) = scaled.addingReportingOverflow(UInt64(digit)) }
    if overflows { isLost = true } else { mantissa = scaled }
    zeros = 0
  }

  /// Takes the octets that belong to the number, and tells whether it ended before `end`. The state becomes `wrong` where an octet
  /// cannot stand there.
  mutating func scan(_ octets: RawSpan, _ index: inout Int, _ end: Int, _ state: inout JSONPassage.State) -> Bool {
    while index < end {
      let octet = octets.octet(index)
      if octet &- 0x30 < 10 {
        // Of a number that nobody asked for, the digits of a run need no look of their own.
        if !isKept, state == .integer || state == .fraction || state == .exponent {
          index &+= 1
          continue
        }
        guard take(digit: octet &- 0x30, &state) else { return false }
      } else {
        guard let following = Self.following(octet, state) else {
          if Self.mayEnd(state) { return true }
          state = .wrong
          return false
        }
        if octet == UInt8(ascii: "-") { isExponentNegative = true }
        state = following
      }
      index &+= 1
    }
    return false
  }

  private mutating func take(digit: UInt8, _ state: inout JSONPassage.State) -> Bool {
    switch state {
    case .minus:
      add(digit)
      state = digit == 0 ? .zero : .integer
    case .integer:
      add(digit)
    case .point, .fraction:
      add(digit)
      if fractionDigits < Self.exponentLimit { fractionDigits &+= 1 } else if digit != 0 { isLost = true }
      state = .fraction
    case .exponentMark, .exponentSign, .exponent:
      if exponent < Self.exponentLimit { exponent = exponent &* 10 &+ Int(digit) }
      state = .exponent
    case .zero, .start, .value, .firstElement, .firstName, .name, .colon, .after, .end, .string, .escape, .hexadecimal, .literal, .wrong:
      state = .wrong
      return false
    }
    return true
  }

  /// The state after an octet that is no digit, or nil where it does not belong to the number.
  private static func following(_ octet: UInt8, _ state: JSONPassage.State) -> JSONPassage.State? {
    switch octet {
    case UInt8(ascii: "."): state == .zero || state == .integer ? .point : nil
    case UInt8(ascii: "e"), UInt8(ascii: "E"): state == .zero || state == .integer || state == .fraction ? .exponentMark : nil
    case UInt8(ascii: "+"), UInt8(ascii: "-"): state == .exponentMark ? .exponentSign : nil
    default: nil
    }
  }

  private static func mayEnd(_ state: JSONPassage.State) -> Bool {
    state == .zero || state == .integer || state == .fraction || state == .exponent
  }

  /// The number, once it has ended.
  var value: JSONPassage.Number {
    if mantissa == 0 && !isLost { return .whole(0) }
    if isNegative { return .negative }
    let power = zeros &- fractionDigits &+ (isExponentNegative ? -exponent : exponent)
    if isLost { return power < 0 ? .fraction : .tooLarge }
    var result = mantissa
    if power >= 0 {
      for _ in 0..<min(power, 20) {
        let (scaled, overflows) = result.multipliedReportingOverflow(by: 10)
        if overflows { return .tooLarge }
        result = scaled
      }
      return .whole(result)
    }
    for _ in 0..<min(-power, 20) {
      guard result % 10 == 0 else { return .fraction }
      result /= 10
    }
    return .whole(result)
  }
}
