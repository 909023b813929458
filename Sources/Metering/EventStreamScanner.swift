import Bytes

/// Follows an event stream (`text/event-stream`) of an upstream octet by octet: it knows where one event ends and the next
/// begins, so that the proxy's own events stand only between two, and it keeps the upstream from forging those.
///
/// An upstream event named `payment-…` becomes `foreign-…`, and `session-timeout…` becomes `foreign-timeout…`: both have the
/// length of what they replace, so lengths and meters stay true. Everything else passes octet for octet. The names are
/// compared without regard to case, and behind any number of spaces, since lenient clients read them so. It never
/// performs I/O, and holds back at most the 14 octets of a name that is not yet decided.
public struct EventStreamScanner: Sendable {
  /// Where in a line the next octet stands.
  private enum State: Sendable, Equatable {
    /// The stream's first octets, which may be a byte order mark of which so many octets came.
    case byteOrderMark(UInt8)
    /// Nothing of the line has come.
    case lineStart
    /// So many octets of `event` have come, and nothing else.
    case name(UInt8)
    /// `event:` and perhaps spaces.
    case value
    /// So many octets of one of the proxy's names; they are held.
    case candidate(Candidate, UInt8)
    /// What follows to the line's end cannot matter.
    case rest
    /// A carriage return ended a line; a line feed may belong to it.
    case afterReturn(isBlank: Bool)
  }

  private enum Candidate: Sendable, Equatable {
    case payment
    case sessionTimeout

    var name: [UInt8] {
      switch self {
      case .payment: EventStreamScanner.paymentName
      case .sessionTimeout: EventStreamScanner.sessionTimeoutName
      }
    }

    var replacement: StaticString {
      switch self {
      case .payment: "foreign-"
      case .sessionTimeout: "foreign-timeout"
      }
    }
  }

  private static let eventName = Array("event".utf8)
  private static let paymentName = Array("payment-".utf8)
  private static let sessionTimeoutName = Array("session-timeout".utf8)
  private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]
  private static let lineFeed = UInt8(ascii: "\n")
  private static let carriageReturn = UInt8(ascii: "\r")

  private var state: State
  /// The held octets, first one in the lowest octet; a candidate's name has at most 15, of which 14 can be undecided.
  private var held: UInt128 = 0
  /// Whether this stream ended a line by a carriage return alone before; then a blank line's return is a boundary at once.
  private var endsLinesByReturn = false
  private var consumed: UInt64 = 0

  /// The octets passed on so far.
  public private(set) var passed: UInt64 = 0
  /// How many octets had passed at the end of the last complete event (or at the stream's start).
  public private(set) var boundary: UInt64 = 0

  /// Starts before a stream's first octet.
  public init() {
    state = .byteOrderMark(0)
  }

  /// Whether the octets passed on end exactly between two events, so that one of the proxy's may follow.
  public var isAtBoundary: Bool { boundary == passed && consumed == passed }

  /// What has to be passed on before an event of the proxy's where the stream ended inside one: nothing, or the missing
  /// line ends. Adding them makes clients take notice of the unfinished event, so only a stream that its upstream ended
  /// whole may be completed so.
  public var separator: StaticString {
    if isAtBoundary { return "" }
    switch state {
    case .lineStart, .byteOrderMark: return "\n"
    case .afterReturn(let isBlank): return isBlank ? "" : "\n"
    case .name, .value, .candidate, .rest: return "\n\n"
    }
  }

  /// Takes what the upstream sent next, and appends what may be passed on.
  public mutating func scan(_ input: UnsafeRawBufferPointer, into output: inout ByteBuffer) {
    var runStart = 0
    var index = 0
    while index < input.count {
      if state == .rest {
        index = Self.lineEnd(in: input, from: index)
        if index == input.count { break }
      }
      let octet = input[index]
      if case .candidate(let candidate, let count) = state {
        let name = candidate.name
        if Self.lowercased(octet) == name[Int(count)] {
          held |= UInt128(octet) << (8 * UInt128(count))
          index += 1
          runStart = index
          if Int(count) + 1 == name.count {
            output.append(candidate.replacement)
            held = 0
            state = .rest
          } else {
            state = .candidate(candidate, count + 1)
          }
          continue
        }
        release(count, into: &output)
        state = .rest
        continue
      }
      if advance(octet, at: consumed + UInt64(index)) {
        index += 1
      } else {
        // A candidate's first octet: what stands before it may go, the octet itself is held.
        output.append(UnsafeRawBufferPointer(rebasing: input[runStart..<index]))
        runStart = index
      }
    }
    if runStart < input.count { output.append(UnsafeRawBufferPointer(rebasing: input[runStart...])) }
    consumed += UInt64(input.count)
    passed = consumed - heldCount
  }

  /// Ends the stream: appends what was held back.
  public mutating func finish(into output: inout ByteBuffer) {
    if case .candidate(_, let count) = state {
      release(count, into: &output)
      state = .rest
    }
    passed = consumed
  }

  /// Finds the last place between two events within the first `limit` octets of what `scan` passed on; nil where there is none.
  ///
  /// `startsAtBoundary` tells whether `octets` begin between two events.
  public static func lastBoundary(in octets: UnsafeRawBufferPointer, limit: Int, startsAtBoundary: Bool) -> Int? {
    var scanner = EventStreamScanner()
    scanner.state = startsAtBoundary ? .lineStart : .rest
    var unused = ByteBuffer()
    scanner.scan(UnsafeRawBufferPointer(rebasing: octets.prefix(max(0, limit))), into: &unused)
    guard scanner.boundary > 0 || startsAtBoundary else { return nil }
    return Int(scanner.boundary)
  }

  /// Finds the first place between two events in what `scan` passed on, looking at no octet behind it but a line feed; nil where there is none.
  ///
  /// `startsAtBoundary` tells whether `octets` begin between two events; then the place is the end of the first.
  public static func firstBoundary(in octets: UnsafeRawBufferPointer, startsAtBoundary: Bool) -> Int? {
    var scanner = EventStreamScanner()
    scanner.state = startsAtBoundary ? .lineStart : .rest
    var index = 0
    while index < octets.count {
      if scanner.state == .rest {
        index = lineEnd(in: octets, from: index)
        if index == octets.count { return nil }
      }
      // How an event is named decides nothing here.
      if !scanner.advance(octets[index], at: UInt64(index)) { scanner.state = .rest }
      index += 1
      guard scanner.boundary > 0 else { continue }
      let boundary = Int(scanner.boundary)
      // A line feed behind the return belongs to it.
      let isReturn = octets[boundary - 1] == carriageReturn && boundary < octets.count && octets[boundary] == lineFeed
      return isReturn ? boundary + 1 : boundary
    }
    return nil
  }

  private var heldCount: UInt64 {
    if case .candidate(_, let count) = state { return UInt64(count) }
    return 0
  }

  /// Steps over one octet outside of a candidate; false when it begins a candidate, which then is the state.
  private mutating func advance(_ octet: UInt8, at position: UInt64) -> Bool {
    if case .afterReturn(let isBlank) = state {
      if octet == Self.lineFeed {
        if isBlank { boundary = position + 1 }
        state = .lineStart
        return true
      }
      endsLinesByReturn = true
      if isBlank { boundary = position }
      state = .lineStart
    }
    if octet == Self.lineFeed || octet == Self.carriageReturn {
      endLine(by: octet, at: position)
      return true
    }
    switch state {
    case .byteOrderMark(let count):
      if octet == Self.byteOrderMark[Int(count)] {
        state = count == 2 ? .lineStart : .byteOrderMark(count + 1)
      } else {
        state = count == 0 ? Self.stateOfFirst(octet) : .rest
      }
    case .lineStart:
      state = Self.stateOfFirst(octet)
    case .name(let count):
      if Int(count) == Self.eventName.count {
        state = octet == UInt8(ascii: ":") ? .value : .rest
      } else {
        state = Self.lowercased(octet) == Self.eventName[Int(count)] ? .name(count + 1) : .rest
      }
    case .value:
      switch Self.lowercased(octet) {
      case UInt8(ascii: " "), UInt8(ascii: "\t"): break
      case UInt8(ascii: "p"):
        state = .candidate(.payment, 0)
        return false
      case UInt8(ascii: "s"):
        state = .candidate(.sessionTimeout, 0)
        return false
      default: state = .rest
      }
    case .rest, .candidate, .afterReturn:
      state = .rest
    }
    return true
  }

  private mutating func endLine(by octet: UInt8, at position: UInt64) {
    let isBlank: Bool
    switch state {
    case .lineStart: isBlank = true
    case .byteOrderMark(let count): isBlank = count == 0
    case .name, .value, .candidate, .rest, .afterReturn: isBlank = false
    }
    if octet == Self.lineFeed {
      if isBlank { boundary = position + 1 }
      state = .lineStart
    } else {
      if isBlank, endsLinesByReturn { boundary = position + 1 }
      state = .afterReturn(isBlank: isBlank)
    }
  }

  private mutating func release(_ count: UInt8, into output: inout ByteBuffer) {
    for place in 0..<UInt128(count) { output.append(byte: UInt8(truncatingIfNeeded: held >> (8 * place))) }
    held = 0
  }

  private static func stateOfFirst(_ octet: UInt8) -> State {
    lowercased(octet) == UInt8(ascii: "e") ? .name(1) : .rest
  }

  private static func lowercased(_ octet: UInt8) -> UInt8 {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(octet) ? octet | 0x20 : octet
  }

  /// Finds the next line feed or carriage return, eight octets at a time.
  private static func lineEnd(in input: UnsafeRawBufferPointer, from start: Int) -> Int {
    var index = start
    let ones: UInt64 = 0x0101_0101_0101_0101
    let highs: UInt64 = 0x8080_8080_8080_8080
    while index + 8 <= input.count {
      let word = input.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      let feeds = word ^ (ones &* UInt64(lineFeed))
      let returns = word ^ (ones &* UInt64(carriageReturn))
      if ((feeds &- ones) & ~feeds | (returns &- ones) & ~returns) & highs != 0 { break }
      index += 8
    }
    while index < input.count, input[index] != lineFeed, input[index] != carriageReturn { index += 1 }
    return index
  }
}
