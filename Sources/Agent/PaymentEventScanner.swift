/// Finds the proxy's own events in an event stream while its octets pass by unchanged.
///
/// It reads the stream as the HTML standard's section 9.2.6 says (lines end with LF, CR or CR LF; an empty line ends an
/// event), and keeps no more than one line and one event's data, each within its bound.
struct PaymentEventScanner: Sendable {
  /// An event of the proxy's own, its data lines joined with LF.
  struct PaymentEvent: Equatable, Sendable {
    enum Name: String, Sendable {
      case needTopUp = "payment-need-topup"
      case needVoucher = "payment-need-voucher"
      case receipt = "payment-receipt"
      case timeout = "session-timeout"
    }

    let name: Name
    let data: String
  }

  /// The octets kept of one line; our own lines are far shorter.
  static let lineByteLimit = 16384
  /// The octets of data kept of one event.
  static let dataByteLimit = 65536

  private var line: [UInt8] = []
  private var isTooLong = false
  private var lastWasReturn = false
  private var name: PaymentEvent.Name?
  private var data: [UInt8] = []
  private var hasData = false

  init() {}

  /// Takes the next octets and hands every complete event of the proxy's own to `found`.
  mutating func scan(_ octets: [UInt8], found: (PaymentEvent) -> Void) {
    var start = octets.startIndex
    for index in octets.indices {
      let octet = octets[index]
      guard octet == 0x0A || octet == 0x0D else {
        lastWasReturn = false
        continue
      }
      let isSecondOfPair = octet == 0x0A && lastWasReturn
      if !isSecondOfPair {
        keep(octets[start..<index])
        endLine(found)
      }
      start = index + 1
      lastWasReturn = octet == 0x0D
    }
    keep(octets[start...])
  }

  private mutating func keep(_ octets: ArraySlice<UInt8>) {
    guard !octets.isEmpty, !isTooLong else { return }
    guard octets.count <= Self.lineByteLimit - line.count else {
      isTooLong = true
      line.removeAll(keepingCapacity: true)
      return
    }
    line.append(contentsOf: octets)
  }

  private mutating func endLine(_ found: (PaymentEvent) -> Void) {
    defer {
      line.removeAll(keepingCapacity: true)
      isTooLong = false
    }
    if isTooLong { return }
    if line.isEmpty {
      if let name, hasData { found(PaymentEvent(name: name, data: String(decoding: data, as: UTF8.self))) }
      name = nil
      hasData = false
      data.removeAll(keepingCapacity: true)
    } else if let value = value(after: "event") {
      name = PaymentEvent.Name(rawValue: String(decoding: value, as: UTF8.self))
    } else if let value = value(after: "data"), value.count < Self.dataByteLimit - data.count {
      if hasData { data.append(0x0A) }
      data.append(contentsOf: value)
      hasData = true
    }
  }

  /// The value of the line when its field has this name; one space after the colon belongs to the syntax.
  private func value(after field: String) -> ArraySlice<UInt8>? {
    let name = field.utf8
    guard line.starts(with: name) else { return nil }
    let rest = line.dropFirst(name.count)
    guard rest.first == UInt8(ascii: ":") else { return nil }
    let value = rest.dropFirst()
    return value.first == 0x20 ? value.dropFirst() : value
  }
}
