/// The members of an audit line that a verifier looks at, found in one pass. Values are ranges of the line's octets.
struct AuditLine {
  var sequence: UInt64?
  var event: Range<Int>?
  var previous: Range<Int>?
  var amount: Range<Int>?
  var refunded: Range<Int>?
  var earned: Range<Int>?
  var currency: Range<Int>?
  var size: UInt64?
  var root: Range<Int>?
  /// The whole member `note` with its comma, to be cut out, and its value with quotes.
  var noteMember: Range<Int>?
  var note: Range<Int>?
  var totals: Range<Int>?
  var wallet: Range<Int>?
  var session: Range<Int>?
  var spent: Range<Int>?

  /// Scans one JSON object; nil where the octets are none, or its members do not stand in JCS order.
  init?(scanning line: UnsafeRawBufferPointer) {
    guard line.count >= 2, line[0] == 0x7B else { return nil }
    var index = 1
    var lastName = 0..<0
    while true {
      let memberStart = index - 1
      guard let name = Self.string(line, &index), index < line.count, line[index] == 0x3A else { return nil }
      guard lastName.isEmpty || Self.isOrdered(line, lastName, name) else { return nil }
      lastName = name
      index += 1
      guard let value = Self.value(line, &index), index < line.count else { return nil }
      take(line, name, value, member: memberStart..<index)
      if line[index] == 0x7D { break }
      guard line[index] == 0x2C else { return nil }
      index += 1
    }
    guard index == line.count - 1 else { return nil }
  }

  private mutating func take(_ line: UnsafeRawBufferPointer, _ name: Range<Int>, _ value: Range<Int>, member: Range<Int>) {
    let text = line[value.lowerBound] == 0x22 ? value.lowerBound + 1..<value.upperBound - 1 : value
    switch line[name.lowerBound] {
    case 0x61 where Self.equals(line, name, "amount"): amount = text
    case 0x63 where Self.equals(line, name, "currency"): currency = text
    case 0x65 where Self.equals(line, name, "event"): event = text
    case 0x65 where Self.equals(line, name, "earned"): earned = text
    case 0x6E where Self.equals(line, name, "note"):
      note = value
      noteMember = member
    case 0x70 where Self.equals(line, name, "prev"): previous = text
    case 0x72 where Self.equals(line, name, "refunded"): refunded = text
    case 0x72 where Self.equals(line, name, "root"): root = text
    case 0x73 where Self.equals(line, name, "seq"): sequence = Self.number(line, value)
    case 0x73 where Self.equals(line, name, "size"): size = Self.number(line, value)
    case 0x73 where Self.equals(line, name, "session"): session = text
    case 0x73 where Self.equals(line, name, "spent"): spent = text
    case 0x74 where Self.equals(line, name, "totals"): totals = value
    case 0x77 where Self.equals(line, name, "wallet"): wallet = text
    default: break
    }
  }

  private static func isOrdered(_ line: UnsafeRawBufferPointer, _ a: Range<Int>, _ b: Range<Int>) -> Bool {
    for offset in 0..<min(a.count, b.count) {
      let left = line[a.lowerBound + offset]
      let right = line[b.lowerBound + offset]
      if left != right { return left < right }
    }
    return a.count < b.count
  }

  private static func equals(_ line: UnsafeRawBufferPointer, _ range: Range<Int>, _ text: StaticString) -> Bool {
    guard range.count == text.utf8CodeUnitCount else { return false }
    for offset in 0..<range.count where line[range.lowerBound + offset] != text.utf8Start[offset] { return false }
    return true
  }

  /// Reads a decimal number without sign or leading zero; nil for anything else, and where it does not fit.
  static func number<Value: FixedWidthInteger>(_ line: UnsafeRawBufferPointer, _ range: Range<Int>) -> Value? {
    guard !range.isEmpty, range.count == 1 || line[range.lowerBound] != 0x30 else { return nil }
    var value: Value = 0
    for index in range {
      let digit = line[index] &- 0x30
      guard digit <= 9 else { return nil }
      let (product, overflows) = value.multipliedReportingOverflow(by: 10)
      let (sum, carries) = product.addingReportingOverflow(Value(digit))
      if overflows || carries { return nil }
      value = sum
    }
    return value
  }

  /// Reads a string with its quotes; the range is what stands between them, escapes and all.
  private static func string(_ line: UnsafeRawBufferPointer, _ index: inout Int) -> Range<Int>? {
    guard index < line.count, line[index] == 0x22 else { return nil }
    let start = index + 1
    index = start
    while index < line.count {
      let octet = line[index]
      if octet == 0x22 {
        index += 1
        return start..<(index - 1)
      }
      if octet < 0x20 { return nil }
      index += octet == 0x5C ? 2 : 1
    }
    return nil
  }

  /// Skips a value: a string, a number or a word, or nested objects and arrays.
  private static func value(_ line: UnsafeRawBufferPointer, _ index: inout Int) -> Range<Int>? {
    let start = index
    var depth = 0
    while index < line.count {
      switch line[index] {
      case 0x22:
        guard string(line, &index) != nil else { return nil }
      case 0x7B, 0x5B:
        depth += 1
        index += 1
      case 0x7D, 0x5D:
        if depth == 0 { return index > start ? start..<index : nil }
        depth -= 1
        index += 1
      case 0x2C where depth == 0: return index > start ? start..<index : nil
      default: index += 1
      }
      if depth == 0, index < line.count, line[index] == 0x2C || line[index] == 0x7D { return start..<index }
    }
    return nil
  }
}
