/// Takes an event stream (`text/event-stream`, HTML standard section 9.2) apart as its octets pass, cut anywhere: what stands in
/// `data` lines, what in `event` lines, and where events end. All three line endings and a byte order mark are known. It copies nothing
/// and holds nothing back.
public struct EventStreamLines: Sendable {
  /// What the lines have come to; ranges are of the octets given.
  public enum Piece: Hashable, Sendable {
    /// All octets given are looked at.
    case needsMore
    /// Some or all octets of a data line's value.
    case data(Range<Int>)
    /// A further data line of the same event begins: a line feed stands between the two.
    case dataLine
    /// Some or all octets of an event line's value.
    case name(Range<Int>)
    /// A comment line ended before this octet.
    case commentEnded(Int)
    /// An event, or a block without data, ended before this octet. After a carriage return a line feed may follow that still belongs to it.
    case eventEnded(Int)
  }

  private enum Field: Sendable {
    case data, event, other
  }

  private enum State: Sendable {
    case byteOrderMark(UInt8)
    case lineStart
    /// So many octets of a field's name have come, kept in `name`.
    case fieldName(UInt8)
    /// The colon came; one space may follow.
    case colon(Field)
    case value(Field)
    case comment
    /// A carriage return ended a line; a line feed may belong to it.
    case afterReturn
  }

  /// U+FEFF in UTF-8, its first octet in the lowest bits.
  private static let byteOrderMark: UInt32 = 0xBF_BBEF
  private static let dataName: UInt64 = 0x6174_6164
  private static let eventName: UInt64 = 0x74_6E65_7665

  private var state = State.byteOrderMark(0)
  private var name: UInt64 = 0
  private var hasData = false

  /// How many events with data have ended; comments and blocks without data are none (HTML standard section 9.2.6).
  public private(set) var events: UInt64 = 0

  /// Whether an event with data has begun and not ended.
  public var isInsideEvent: Bool { hasData }

  /// Starts before a stream's first octet.
  public init() {}

  /// Looks at octets from `index` on until there is a piece to tell of, and moves `index` behind it.
  ///
  /// - Precondition: `0 ≤ index ≤ octets.byteCount`.
  public mutating func next(in octets: RawSpan, at index: inout Int) -> Piece {
    let end = octets.byteCount
    while index < end {
      switch state {
      case .value(let field):
        let first = index
        index = OctetRun.endOfLine(octets, from: first, before: end)
        if index > first {
          switch field {
          case .data: return .data(first..<index)
          case .event: return .name(first..<index)
          case .other: break
          }
        } else if let piece = endLine(octets.octet(index), &index) {
          return piece
        }
      case .comment:
        index = OctetRun.endOfLine(octets, from: index, before: end)
        guard index < end else { return .needsMore }
        _ = endLine(octets.octet(index), &index)
        return .commentEnded(index)
      case .afterReturn:
        if octets.octet(index) == 0x0A { index &+= 1 }
        state = .lineStart
      case .byteOrderMark(let count):
        mark(octets.octet(index), count, &index)
      case .lineStart, .fieldName, .colon:
        if let piece = step(octets.octet(index), &index) { return piece }
      }
    }
    return .needsMore
  }

  /// Looks at octets for the count of events only.
  public mutating func count(_ octets: RawSpan) {
    var index = 0
    while next(in: octets, at: &index) != .needsMore {}
  }

  private mutating func mark(_ octet: UInt8, _ count: UInt8, _ index: inout Int) {
    if octet == UInt8(truncatingIfNeeded: Self.byteOrderMark >> UInt32(8 &* count)) {
      index &+= 1
      state = count == 2 ? .lineStart : .byteOrderMark(count &+ 1)
    } else {
      // A mark that was only begun is a field's name of no meaning.
      state = count == 0 ? .lineStart : .fieldName(UInt8.max)
    }
  }

  /// Steps over an octet before a field's value.
  private mutating func step(_ octet: UInt8, _ index: inout Int) -> Piece? {
    if octet == 0x0A || octet == 0x0D { return endLine(octet, &index) }
    switch state {
    case .lineStart:
      index &+= 1
      if octet == UInt8(ascii: ":") {
        state = .comment
      } else {
        name = UInt64(octet)
        state = .fieldName(1)
      }
    case .fieldName(let count):
      index &+= 1
      if octet == UInt8(ascii: ":") {
        let field = field(count)
        state = .colon(field)
        if case .data = field { return beginData() }
      } else if count < 8 {
        name |= UInt64(octet) << UInt64(8 &* count)
        state = .fieldName(count &+ 1)
      } else {
        state = .fieldName(UInt8.max)
      }
    case .colon(let field):
      if octet == UInt8(ascii: " ") { index &+= 1 }
      state = .value(field)
    case .byteOrderMark, .value, .comment, .afterReturn:
      break
    }
    return nil
  }

  private func field(_ count: UInt8) -> Field {
    if count == 4, name == Self.dataName { return .data }
    if count == 5, name == Self.eventName { return .event }
    return .other
  }

  private mutating func beginData() -> Piece? {
    defer { hasData = true }
    return hasData ? .dataLine : nil
  }

  private mutating func endLine(_ octet: UInt8, _ index: inout Int) -> Piece? {
    index &+= 1
    var isBlank = false
    switch state {
    case .lineStart: isBlank = true
    case .fieldName(let count):
      // A name without a colon is a field with an empty value.
      if case .data = field(count) { _ = beginData() }
    case .byteOrderMark, .colon, .value, .comment, .afterReturn: break
    }
    state = octet == 0x0D ? .afterReturn : .lineStart
    guard isBlank else { return nil }
    if hasData { events &+= 1 }
    hasData = false
    return .eventEnded(index)
  }
}
