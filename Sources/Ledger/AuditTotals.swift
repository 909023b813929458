import Bytes

/// Running sums of the amounts of the lines that move money, by currency and event: what checkpoints sign, and the verifier adds up again.
struct AuditTotals: Equatable {
  private struct Sums: Equatable {
    let code: [UInt8]
    /// By the event's raw value, what was earned by it behind that; nil where there was none.
    var sums = [UInt128?](repeating: nil, count: 2 * earnedOffset)
  }

  /// Where the sums of what was earned begin: above every event's raw value.
  private static let earnedOffset = 128

  private var currencies: [Sums] = []

  static func == (a: AuditTotals, b: AuditTotals) -> Bool { a.sorted == b.sorted }

  private var sorted: [Sums] { currencies.sorted { $0.code.lexicographicallyPrecedes($1.code) } }

  /// The place of a currency's sums, made where there is none.
  mutating func place(of code: some Collection<UInt8>) -> Int {
    let index = currencies.firstIndex { $0.code.elementsEqual(code) } ?? currencies.count
    if index == currencies.count { currencies.append(Sums(code: Array(code))) }
    return index
  }

  /// Adds an amount at a currency's place; false when the sum passes 128 bits.
  mutating func add(_ amount: UInt128, event: AuditEventKind, place index: Int) -> Bool {
    let (sum, overflows) = (currencies[index].sums[Int(event.rawValue)] ?? 0).addingReportingOverflow(amount)
    currencies[index].sums[Int(event.rawValue)] = sum
    return !overflows
  }

  /// Adds what was earned at a currency's place.
  mutating func add(earned amount: UInt128, event: AuditEventKind, place index: Int) -> Bool {
    let slot = Self.earnedOffset + Int(event.rawValue)
    let (sum, overflows) = (currencies[index].sums[slot] ?? 0).addingReportingOverflow(amount)
    currencies[index].sums[slot] = sum
    return !overflows
  }

  /// The accounts that the lines add up to; nil for a currency whose sums pass what accounts hold.
  var accounts: [AuditAccounts] {
    sorted.compactMap { currency in
      AuditAccounts(currency: String(decoding: currency.code, as: UTF8.self)) { currency.sums[Int($0.rawValue)] ?? 0 } earned: {
        currency.sums[Self.earnedOffset + Int($0.rawValue)] ?? 0
      }
    }
  }

  /// Appends the totals as a JCS object: currency → event → decimal string; with `.earned` behind the event for what was earned.
  func append(to buffer: inout ByteBuffer) {
    buffer.append("{" as StaticString)
    for (index, currency) in sorted.enumerated() {
      if index > 0 { buffer.append("," as StaticString) }
      buffer.append(byte: 0x22)
      buffer.append(currency.code)
      buffer.append("\":{" as StaticString)
      let amounts = AuditEventKind.allCases.compactMap { kind in currency.sums[Int(kind.rawValue)].map { (kind.name, $0) } }
      let earned = AuditEventKind.allCases.compactMap { kind in
        currency.sums[Self.earnedOffset + Int(kind.rawValue)].map { ("\(kind.name).earned", $0) }
      }
      let named = (amounts + earned).sorted { $0.0 < $1.0 }
      for (place, sum) in named.enumerated() {
        if place > 0 { buffer.append("," as StaticString) }
        buffer.append("\"\(sum.0)\":\"\(sum.1)\"")
      }
      buffer.append("}" as StaticString)
    }
    buffer.append("}" as StaticString)
  }

  func write(to buffer: inout ByteBuffer) {
    buffer.put(UInt32(currencies.count))
    for currency in currencies {
      buffer.put(currency.code)
      let present = currency.sums.enumerated().filter { $0.element != nil }
      buffer.put(UInt32(present.count))
      for (event, sum) in present {
        buffer.put(UInt8(event))
        buffer.put(sum ?? 0)
      }
    }
  }

  init() {}

  init(_ reader: inout RecordReader) throws(LedgerError) {
    for _ in 0..<(try reader.integer(UInt32.self)) {
      var sums = Sums(code: try reader.bytes())
      for _ in 0..<(try reader.integer(UInt32.self)) {
        let event = Int(try reader.integer(UInt8.self))
        guard event < sums.sums.count else { throw .malformed(.meta) }
        sums.sums[event] = try reader.integer(UInt128.self)
      }
      currencies.append(sums)
    }
  }
}
