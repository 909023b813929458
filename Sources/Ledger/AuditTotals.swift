import Bytes

/// Running sums of the amounts of the lines that move money, by currency and event: what checkpoints sign, and the verifier adds up again.
struct AuditTotals: Equatable {
  /// Sums by the event's raw value; currencies in the order in which they appeared.
  private(set) var currencies: [(code: String, sums: [UInt8: UInt128])] = []

  static func == (a: AuditTotals, b: AuditTotals) -> Bool {
    a.sorted.elementsEqual(b.sorted) { $0.code == $1.code && $0.sums == $1.sums }
  }

  private var sorted: [(code: String, sums: [UInt8: UInt128])] { currencies.sorted { $0.code < $1.code } }

  /// Adds an amount; false when the sum passes 128 bits.
  mutating func add(_ amount: UInt128, event: AuditEventKind, currency code: String) -> Bool {
    let index = currencies.firstIndex { $0.code == code } ?? currencies.count
    if index == currencies.count { currencies.append((code, [:])) }
    let (sum, overflows) = (currencies[index].sums[event.rawValue] ?? 0).addingReportingOverflow(amount)
    currencies[index].sums[event.rawValue] = sum
    return !overflows
  }

  /// Appends the totals as a JCS object: currency → event → decimal string.
  func append(to buffer: inout ByteBuffer) {
    buffer.append("{" as StaticString)
    for (index, currency) in sorted.enumerated() {
      if index > 0 { buffer.append("," as StaticString) }
      buffer.append("\"\(currency.code)\":{")
      let named = currency.sums.compactMap { raw, sum in AuditEventKind(rawValue: raw).map { ($0.name, sum) } }.sorted { $0.0 < $1.0 }
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
      buffer.put(UInt32(currency.sums.count))
      for (event, sum) in currency.sums {
        buffer.put(event)
        buffer.put(sum)
      }
    }
  }

  init() {}

  init(_ reader: inout RecordReader) throws(LedgerError) {
    for _ in 0..<(try reader.integer(UInt32.self)) {
      let code = try reader.string()
      var sums: [UInt8: UInt128] = [:]
      for _ in 0..<(try reader.integer(UInt32.self)) {
        let event: UInt8 = try reader.integer()
        sums[event] = try reader.integer()
      }
      currencies.append((code, sums))
    }
  }
}
