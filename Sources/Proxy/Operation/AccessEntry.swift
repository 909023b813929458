import Bytes
import Encoding
import Gateway
import HTTP

/// The numbers of one request's line in the access log. Its texts follow in the order of ``Text``.
struct AccessEntry: BitwiseCopyable {
  /// The texts of a line; none of them is ever a credential.
  enum Text: Int, CaseIterable {
    case method, host, target, agent, route, upstream
    /// 32 octets each, where there is one.
    case wallet, session
    case currency, `protocol`
  }

  /// Microseconds since 1970: when the request's head was complete.
  var time: Int64 = 0
  /// Monotonic nanoseconds: then, when the upstream was asked, when its head came, and the end. 0: that never was.
  var began: Int64 = 0
  var asked: Int64 = 0
  var answered: Int64 = 0
  var ended: Int64 = 0
  var clientHigh: UInt64 = 0
  var clientLow: UInt64 = 0
  /// Octets of content.
  var received: UInt64 = 0
  var sent: UInt64 = 0
  /// What was charged, in base units.
  var amountHigh: UInt64 = 0
  var amountLow: UInt64 = 0
  /// The reference of a charge's receipt; 0 where there is none.
  var reference: UInt64 = 0
  var status: UInt16 = 0
  var upstreamStatus: UInt16 = 0
  /// Whether the response was cut short.
  var isBroken = false
  /// Octets of each text.
  var counts: (UInt16, UInt16, UInt16, UInt16, UInt16, UInt16, UInt16, UInt16, UInt16, UInt16) = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

  /// Octets of the longest text that is kept; what is longer is cut.
  static let textLimit = 2048

  subscript(text: Text) -> Int {
    get { withUnsafeBytes(of: counts) { Int($0.load(fromByteOffset: 2 * text.rawValue, as: UInt16.self)) } }
    set {
      // Safe because: the tuple has one place for each case of `Text`.
      withUnsafeMutableBytes(of: &counts) { $0.storeBytes(of: UInt16(clamping: newValue), toByteOffset: 2 * text.rawValue, as: UInt16.self) }
    }
  }

  var amount: UInt128 { UInt128(amountHigh) << 64 | UInt128(amountLow) }
}

/// What is gathered about one request while it is served.
struct AccessRecord {
  var entry = AccessEntry()
  var route: RouteIndex?
  var payment: PaidSummary?
  /// The texts so far, in order.
  private(set) var text: [UInt8] = []
  private var next = 0

  /// Forgets the request and keeps the storage.
  mutating func reset() {
    entry = AccessEntry()
    route = nil
    payment = nil
    text.removeAll(keepingCapacity: true)
    next = 0
  }

  /// Adds the text that comes next; those between it and the last one are empty.
  mutating func add(_ kind: AccessEntry.Text, _ octets: UnsafeRawBufferPointer) {
    precondition(kind.rawValue >= next, "texts are added in their order")
    next = kind.rawValue + 1
    let kept = octets.prefix(AccessEntry.textLimit)
    entry[kind] = kept.count
    text.append(contentsOf: kept)
  }

  mutating func add(_ kind: AccessEntry.Text, _ octets: [UInt8]) { octets.withUnsafeBytes { add(kind, $0) } }

  /// Appends the record as ``AccessLineReader`` reads it.
  func append(to buffer: inout ByteBuffer) {
    withUnsafeBytes(of: entry) { buffer.append($0) }
    buffer.append(text)
  }
}

/// Takes the records of a batch apart, and spells them.
struct AccessLineReader {
  let format: AccessLineFormat
  /// The octets of the text that a case names, within the batch.
  private var ranges: [Range<Int>] = Array(repeating: 0..<0, count: AccessEntry.Text.allCases.count)

  init(_ format: AccessLineFormat) { self.format = format }

  /// Appends a line for each record of a batch that ``AccessRecord/append(to:)`` made, and returns how many there were.
  mutating func spell(_ batch: UnsafeRawBufferPointer, into lines: inout ByteBuffer) -> UInt64 {
    var offset = 0
    var count: UInt64 = 0
    while offset + MemoryLayout<AccessEntry>.size <= batch.count {
      // Safe because: the batch was written by this process, record by record, and the load asks for no alignment.
      let entry = batch.loadUnaligned(fromByteOffset: offset, as: AccessEntry.self)
      offset += MemoryLayout<AccessEntry>.size
      for kind in AccessEntry.Text.allCases {
        ranges[kind.rawValue] = offset..<offset + entry[kind]
        offset += entry[kind]
      }
      switch format {
      case .json: appendJSON(entry, batch, to: &lines)
      case .combined: appendCombined(entry, batch, to: &lines)
      }
      count += 1
    }
    return count
  }

  private func octets(_ kind: AccessEntry.Text, _ batch: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: batch[ranges[kind.rawValue]])
  }

  // MARK: JSON Lines

  private func appendJSON(_ entry: AccessEntry, _ batch: UnsafeRawBufferPointer, to line: inout ByteBuffer) {
    line.append("{\"time\":\"")
    Timestamp(microseconds: entry.time).append(rfc3339Milliseconds: &line)
    line.append("\"")
    let client = ClientAddress(high: entry.clientHigh, low: entry.clientLow)
    if client != .none {
      line.append(",\"client\":\"")
      client.append(to: &line)
      line.append("\"")
    }
    for (name, kind) in [("method", .method), ("host", .host), ("path", .target), ("protocol", .protocol)] as [(StaticString, AccessEntry.Text)] {
      appendMember(name, octets(kind, batch), to: &line)
    }
    appendMember("status", UInt64(entry.status), to: &line)
    appendMember("received", entry.received, to: &line)
    appendMember("sent", entry.sent, to: &line)
    appendMember("duration", microseconds: entry.ended - entry.began, to: &line)
    if entry.isBroken { line.append(",\"broken\":true") }
    appendMember("route", octets(.route, batch), to: &line)
    appendMember("upstream", octets(.upstream, batch), to: &line)
    if entry.upstreamStatus > 0 {
      appendMember("upstreamStatus", UInt64(entry.upstreamStatus), to: &line)
      appendMember("upstreamTime", microseconds: entry.answered - entry.asked, to: &line)
    }
    appendPayment(entry, batch, to: &line)
    appendMember("agent", octets(.agent, batch), to: &line)
    line.append("}\n")
  }

  private func appendPayment(_ entry: AccessEntry, _ batch: UnsafeRawBufferPointer, to line: inout ByteBuffer) {
    if let wallet = Digest32(bytes: octets(.wallet, batch)) {
      line.append(",\"wallet\":\"")
      line.append(AccessLineFormat.wallet(wallet))
      line.append("\"")
    }
    if let session = Digest32(bytes: octets(.session, batch)) {
      line.append(",\"session\":\"")
      line.append(session.hex)
      line.append("\"")
    }
    guard entry[.currency] > 0 else { return }
    line.append(",\"charged\":\"")
    line.append(decimal: entry.amount)
    line.append("\"")
    appendMember("currency", octets(.currency, batch), to: &line)
    if entry.reference > 0 {
      line.append(",\"reference\":\"")
      line.append(decimal: entry.reference)
      line.append("\"")
    }
  }

  private func appendMember(_ name: StaticString, _ octets: UnsafeRawBufferPointer, to line: inout ByteBuffer) {
    guard !octets.isEmpty else { return }
    line.append(",\"")
    line.append(name)
    line.append("\":\"")
    Self.appendEscaped(octets, to: &line)
    line.append("\"")
  }

  private func appendMember(_ name: StaticString, _ number: UInt64, to line: inout ByteBuffer) {
    line.append(",\"")
    line.append(name)
    line.append("\":")
    line.append(decimal: number)
  }

  /// Seconds with six decimals.
  private func appendMember(_ name: StaticString, microseconds nanoseconds: Int64, to line: inout ByteBuffer) {
    let total = UInt64(max(0, nanoseconds)) / 1000
    appendMember(name, total / 1_000_000, to: &line)
    line.append(".")
    line.append(decimal: total % 1_000_000, digits: 6)
  }

  /// What a client sends is octets: everything but printing ASCII is escaped, so that no line ends early or breaks a terminal.
  private static func appendEscaped(_ octets: UnsafeRawBufferPointer, to line: inout ByteBuffer) {
    var start = 0
    for (index, octet) in octets.enumerated() where octet < 0x20 || octet >= 0x7F || octet == 0x22 || octet == 0x5C {
      line.append(UnsafeRawBufferPointer(rebasing: octets[start..<index]))
      start = index + 1
      line.append("\\u00")
      if octet < 16 { line.append("0") }
      line.append(hexadecimal: UInt64(octet))
    }
    line.append(UnsafeRawBufferPointer(rebasing: octets[start...]))
  }

  // MARK: The combined format

  private func appendCombined(_ entry: AccessEntry, _ batch: UnsafeRawBufferPointer, to line: inout ByteBuffer) {
    let client = ClientAddress(high: entry.clientHigh, low: entry.clientLow)
    if client == .none { line.append("-") } else { client.append(to: &line) }
    line.append(" - ")
    if let wallet = Digest32(bytes: octets(.wallet, batch)) { line.append(AccessLineFormat.wallet(wallet)) } else { line.append("-") }
    line.append(" [")
    AccessLineFormat.appendCommonDate(Timestamp(microseconds: entry.time), to: &line)
    line.append("] \"")
    Self.appendEscaped(octets(.method, batch), to: &line)
    line.append(" ")
    Self.appendEscaped(octets(.target, batch), to: &line)
    line.append(" ")
    let isSecond = octets(.protocol, batch).first == UInt8(ascii: "h") && octets(.protocol, batch).dropFirst().first == UInt8(ascii: "2")
    line.append(isSecond ? "HTTP/2.0\" " : "HTTP/1.1\" ")
    line.append(decimal: UInt64(entry.status))
    line.append(" ")
    line.append(decimal: entry.sent)
    // The referring page's address may carry secrets, so it is not kept.
    line.append(" \"-\" \"")
    if entry[.agent] == 0 { line.append("-") } else { Self.appendEscaped(octets(.agent, batch), to: &line) }
    line.append("\"\n")
  }
}
