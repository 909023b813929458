import Bytes

/// Takes the one chunk that `stream_options.include_usage` adds out of an OpenAI-style event stream; everything else passes octet for octet.
///
/// That chunk is an event whose data has an empty list `choices` and an object `usage`. An event is held back only until its list is
/// seen to have an element, which stands near its start; comments outside of events pass at once. It is for streams to which the proxy
/// added the option; a client that asked for usage itself gets the chunk. The `"usage":null` that OpenAI puts into the other chunks stays.
public struct UsageChunkFilter: ~Copyable, Sendable {
  /// The most octets of one event that are held back; a longer one is passed on.
  public static let heldLimit = 64 << 10

  private enum Field: UInt8 {
    case root, choices, choice, usage

    var role: JSONPaths.Role { .value(rawValue) }
  }

  private static let paths = JSONPaths(
    [("choices", Field.choices.role), ("choices[]", Field.choice.role), ("usage", Field.usage.role)], root: Field.root.rawValue)

  private enum Mode {
    /// The event may be the chunk: its octets are held.
    case undecided
    /// The event is not the chunk.
    case passing
  }

  private enum LineFeed {
    case belongsToNext, passes, drops
  }

  private var lines = EventStreamLines()
  private var passage = JSONPassage(Self.paths)
  private var mode = Mode.undecided
  private var held = ByteBuffer()
  private var hasData = false
  private var hasChoices = false
  private var hasUsage = false
  private var isWhole = false
  /// What becomes of a line feed that comes first, where a carriage return came last.
  private var lineFeed = LineFeed.belongsToNext

  /// How many chunks were taken out.
  public private(set) var removedChunks: UInt64 = 0

  /// Starts before a stream's first octet.
  public init() {}

  /// The octets that are held back.
  public var heldCount: Int { held.count }

  /// Takes what the upstream sent next, and appends what may be passed on.
  public mutating func filter(_ input: UnsafeRawBufferPointer, into output: inout ByteBuffer) {
    let octets = input.bytes
    var start = 0
    if !input.isEmpty {
      start = endLine(input, 0, lineFeed, &output)
      lineFeed = .belongsToNext
    }
    var index = 0
    while true {
      switch lines.next(in: octets, at: &index) {
      case .needsMore:
        keep(input, start, input.count, &output)
        return
      case .data(let range):
        hasData = true
        if case .undecided = mode, !look(octets, range) { pass(&output) }
      case .dataLine, .name: break
      case .commentEnded(let end):
        // With nothing of an event before it, a comment is on its own.
        guard case .undecided = mode, isComment(input, start) else { continue }
        pass(&output)
        mode = .undecided
        output.append(UnsafeRawBufferPointer(rebasing: input[start..<end]))
        start = leave(input, end, .passes, &output)
      case .eventEnded(let end):
        if isChunk {
          removedChunks &+= 1
          held.removeAll()
          start = leave(input, end, .drops, &output)
        } else {
          pass(&output)
          output.append(UnsafeRawBufferPointer(rebasing: input[start..<end]))
          start = leave(input, end, .passes, &output)
        }
        beginEvent()
      }
    }
  }

  /// Ends the stream: appends what was held back, unless it is the whole chunk without the blank line at its end.
  public mutating func finish(into output: inout ByteBuffer) {
    if isChunk {
      removedChunks &+= 1
      held.removeAll()
    } else {
      pass(&output)
    }
    beginEvent()
  }

  private var isChunk: Bool {
    guard case .undecided = mode else { return false }
    return hasChoices && hasUsage && isWhole && passage.isComplete
  }

  /// Whether the line under way is a comment, and nothing stands before it.
  private func isComment(_ input: UnsafeRawBufferPointer, _ start: Int) -> Bool {
    (held.withUnsafeBytes { $0.first } ?? input[start]) == UInt8(ascii: ":")
  }

  /// Steps behind a line that ended before `end`, and behind the line feed that belongs to its carriage return.
  private mutating func leave(_ input: UnsafeRawBufferPointer, _ end: Int, _ fate: LineFeed, _ output: inout ByteBuffer) -> Int {
    guard input[end - 1] == 0x0D else { return end }
    guard end < input.count else {
      lineFeed = fate
      return end
    }
    return endLine(input, end, fate, &output)
  }

  private func endLine(_ input: UnsafeRawBufferPointer, _ start: Int, _ fate: LineFeed, _ output: inout ByteBuffer) -> Int {
    guard input[start] == 0x0A else { return start }
    switch fate {
    case .belongsToNext: return start
    case .passes:
      output.append(byte: 0x0A)
      return start + 1
    case .drops: return start + 1
    }
  }

  private mutating func beginEvent() {
    mode = .undecided
    passage.restart()
    hasData = false
    hasChoices = false
    hasUsage = false
    isWhole = false
  }

  /// Decides that the event passes.
  private mutating func pass(_ output: inout ByteBuffer) {
    output.append(held)
    held.removeAll()
    mode = .passing
  }

  private mutating func keep(_ input: UnsafeRawBufferPointer, _ start: Int, _ end: Int, _ output: inout ByteBuffer) {
    guard start < end else { return }
    let rest = UnsafeRawBufferPointer(rebasing: input[start..<end])
    if case .undecided = mode, held.count + rest.count > Self.heldLimit { pass(&output) }
    switch mode {
    case .undecided: held.append(rest)
    case .passing: output.append(rest)
    }
  }

  /// Looks at an event's data; false once it cannot be the chunk any more.
  private mutating func look(_ octets: RawSpan, _ range: Range<Int>) -> Bool {
    var index = range.lowerBound
    while true {
      switch passage.next(in: octets, at: &index, before: range.upperBound) {
      case .needsMore: return true
      case .opened(let field):
        switch Field(rawValue: field) {
        case .choices: hasChoices = true
        case .choice: return false
        case .usage: hasUsage = true
        case .root, nil: break
        }
      case .closed(let field): if field == Field.root.rawValue { isWhole = true }
      case .number, .text, .boolean, .null, .wrong: return false
      }
    }
  }
}
