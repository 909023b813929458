/// Follows an event stream as a client must that wants to go on where it broke (HTML standard, section 9.2.6): it knows the last event's
/// id and the time to wait, and hands on whole events only, so that what was cut is not seen twice.
///
/// Octets pass unchanged. An event that is larger than the bound is handed on as it comes, and the stream can then no longer be continued.
struct EventStreamPosition: Sendable {
  /// The octets withheld of one event.
  static let heldByteLimit = 1 << 20
  /// The octets of an id that a request field can carry.
  static let idByteLimit = 1024
  /// The octets of `retry` that make a number: about eleven days.
  static let retryDigitLimit = 9

  /// The id of the last whole event that had one, as `Last-Event-ID` gives it back; nil where there is none, or where it was reset.
  private(set) var lastEventID: String?
  /// The time that the server wants a client to wait before it asks again.
  private(set) var retry: Duration?
  /// The whole events that had data, the proxy's own among them.
  private(set) var eventCount: UInt64 = 0
  /// Whether the stream can be continued at all.
  private(set) var isContinuable = true

  private let withholds: Bool
  private var held: [UInt8] = []
  private var line: [UInt8] = []
  private var lineLength = 0
  private var isAfterReturn = false
  private var isInEvent = false
  private var hasData = false
  private var id: [UInt8]?

  /// Starts at a stream's beginning; without `withholds` every octet is handed on as it comes.
  init(withholds: Bool = true) { self.withholds = withholds }

  /// Takes the next octets; returns those that belong to whole events or stand between them.
  mutating func take(_ octets: [UInt8]) -> [UInt8] {
    var end = 0
    for index in octets.indices {
      let octet = octets[index]
      if octet == 0x0A, isAfterReturn {
        // The second half of a line end: it belongs to where the first half is.
        isAfterReturn = false
        if end == index, !isInEvent { end = index + 1 }
        continue
      }
      isAfterReturn = octet == 0x0D
      guard octet == 0x0A || octet == 0x0D else {
        lineLength += 1
        // The longest line that matters is `id: ` with an id.
        if line.count < Self.idByteLimit + 8 { line.append(octet) }
        continue
      }
      endLine()
      if !isInEvent { end = index + 1 }
    }
    return release(octets, upTo: end)
  }

  private mutating func release(_ octets: [UInt8], upTo end: Int) -> [UInt8] {
    guard withholds, isContinuable else { return octets }
    var passed: [UInt8] = []
    if end > 0 {
      passed = held + octets[..<end]
      held.removeAll(keepingCapacity: true)
    }
    held += octets[end...]
    if held.count > Self.heldByteLimit {
      isContinuable = false
      passed += held
      held = []
    }
    return passed
  }

  /// The stream ended by itself: returns what was withheld.
  mutating func finish() -> [UInt8] {
    defer { held = [] }
    return held
  }

  /// The connection was lost: forgets what has come of an event.
  mutating func breakOff() {
    held = []
    line = []
    lineLength = 0
    isAfterReturn = false
    isInEvent = false
    hasData = false
    id = nil
  }

  private mutating func endLine() {
    defer {
      line.removeAll(keepingCapacity: true)
      lineLength = 0
    }
    if lineLength == 0 {
      endEvent()
    } else if line.first != UInt8(ascii: ":") {
      isInEvent = true
      if value(of: "data") != nil {
        hasData = true
      } else if let value = value(of: "id") {
        // An id with NUL is ignored (section 9.2.6); one that no field can carry cannot be given back.
        if !value.contains(0) { id = Array(value) }
      } else if let value = value(of: "retry"), !value.isEmpty, value.count <= Self.retryDigitLimit,
        value.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
      {
        retry = .milliseconds(value.reduce(0) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) })
      }
    }
  }

  private mutating func endEvent() {
    if hasData { eventCount += 1 }
    if let id {
      let isCarriable = id.count <= Self.idByteLimit && id.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
      let text = isCarriable && !id.isEmpty ? String(validating: id, as: UTF8.self) : nil
      lastEventID = text?.first == " " || text?.last == " " ? nil : text
    }
    isInEvent = false
    hasData = false
    id = nil
  }

  /// The value of the line when its field has this name; one space after the colon belongs to the syntax.
  private func value(of field: StaticString) -> ArraySlice<UInt8>? {
    let count = field.utf8CodeUnitCount
    let isField = field.withUTF8Buffer { line.count >= count && line[..<count].elementsEqual($0) }
    guard isField else { return nil }
    let rest = line[count...]
    guard let colon = rest.first else { return [] }
    guard colon == UInt8(ascii: ":") else { return nil }
    let value = rest.dropFirst()
    return value.first == 0x20 ? value.dropFirst() : value
  }
}
