/// Looks on at a model server's response as it passes and knows what it has cost so far.
///
/// It never alters, holds or copies octets, and never fails: what it cannot read it counts in `malformedRecords` and passes over. Content
/// that is octets of text (deltas, arguments of tool calls, reasoning) is counted at once, so that an estimator can follow; usage is
/// taken over when the record that reports it is whole JSON. Names and numbers inside of strings, arguments and content are never
/// taken for usage, since only the vendor's own paths lead to it.
public struct UsageReader: Sendable {
  /// What the response has said about its own end.
  public enum Outcome: Hashable, Sendable {
    /// Nothing yet.
    case running
    /// It is whole: `[DONE]`, `message_stop`, `done`, a finish reason, or the end of the one JSON text.
    case done
    /// It carried an error.
    case failed
  }

  /// The format that is read.
  public let format: UsageFormat
  /// How the body is divided into JSON texts.
  public let framing: UsageFraming

  private var passage: JSONPassage
  private var lines = EventStreamLines()
  private var record = UsageRecord()
  private var counts = ReportedCounts()
  /// The usage of parts that are whole, where a response has several whose usages add up.
  private var settled = TokenUsage()
  private var hasUsage = false
  private var contentAtUsage: UInt64 = 0

  /// How many octets of `[DONE]` the event's data has begun with, or -1 where it is something else.
  private var doneOctets = 0
  /// How many octets of `error` the event's name has begun with, or -1 where it is something else.
  private var errorOctets = 0

  private var excludedOctets: UInt64 = 0
  private var settledReasoning: UInt64 = 0
  private var textAtRecord: UInt64 = 0
  private var reasoningAtRecord: UInt64 = 0
  private var aliasAtRecord: UInt64 = 0

  /// What the response has said about its own end.
  public private(set) var outcome = Outcome.running
  /// Whether the usage reported is the last one: nothing was generated after it, and the response said that it is the whole.
  public private(set) var hasFinalUsage = false
  /// How many records (bodies, events, lines) were not JSON, ended in the middle, or had counts that cannot be believed.
  public private(set) var malformedRecords: UInt64 = 0

  /// Starts before a response's first octet.
  public init(format: UsageFormat, framing: UsageFraming) {
    self.format = format
    self.framing = framing
    passage = JSONPassage(format.responsePaths)
  }

  /// The usage reported so far, running or final; nil where none was reported.
  public var usage: TokenUsage? {
    guard hasUsage else { return nil }
    return settled.adding(tokens)
  }

  /// Whether a number of input tokens was reported. Some servers leave it out for a prompt that they had in their cache.
  public var isInputReported: Bool {
    counts.input != nil || counts.total != nil || counts.timedInput != nil || settled.wholeInput > 0
  }

  /// The octets of generated content so far: text, reasoning, names and arguments of tool calls, as UTF-8 without escapes.
  public var contentOctets: UInt64 {
    let text = passage.contentOctets[Int(UsageContent.text)] &- excludedOctets
    return text &+ settledReasoning &+ reasoningOfRecord
  }

  /// Of the two names for reasoning the one with more counts, for the same text may come under both.
  private var reasoningOfRecord: UInt64 {
    max(
      passage.contentOctets[Int(UsageContent.reasoning)] &- reasoningAtRecord,
      passage.contentOctets[Int(UsageContent.reasoningAlias)] &- aliasAtRecord)
  }

  /// How many events with data have ended.
  public var events: UInt64 { lines.events }

  /// Whether an event with data has begun and not ended.
  public var isInsideEvent: Bool { lines.isInsideEvent }

  private var tokens: TokenUsage {
    switch format {
    case .openAIChat, .openAIResponses, .ollama: counts.insideInput
    case .openAIEmbeddings: counts.inputOnly
    case .anthropic: counts.besideInput
    case .gemini: counts.besideCandidates
    case .llamaCpp: counts.evaluated
    }
  }

  /// Looks at what the upstream sent next.
  public mutating func read(_ octets: UnsafeRawBufferPointer) {
    read(octets.bytes)
  }

  /// Looks at what the upstream sent next.
  public mutating func read(_ octets: RawSpan) {
    switch framing {
    case .document: scan(octets, 0..<octets.byteCount)
    case .lines: readLines(octets)
    case .events: readEvents(octets)
    }
  }

  /// Takes notice that the body ended whole.
  public mutating func finish() {
    endText(isDoneMarker: doneOctets == Self.doneMarker.utf8CodeUnitCount)
    // Gemini's streams end without a word, and every chunk's usage covers all chunks before it.
    if format == .gemini, hasUsage, contentOctets == contentAtUsage { hasFinalUsage = true }
  }

  private mutating func readLines(_ octets: RawSpan) {
    var start = 0
    while start < octets.byteCount {
      let end = OctetRun.lineFeed(octets, from: start, before: octets.byteCount)
      scan(octets, start..<end)
      guard end < octets.byteCount else { return }
      endText(isDoneMarker: false)
      start = end + 1
    }
  }

  private static let doneMarker: StaticString = "[DONE]"
  private static let errorName: StaticString = "error"

  private mutating func readEvents(_ octets: RawSpan) {
    var index = 0
    while true {
      switch lines.next(in: octets, at: &index) {
      case .needsMore: return
      case .data(let range):
        doneOctets = Self.matched(Self.doneMarker, doneOctets, octets, range, isPrefix: true)
        scan(octets, range)
      case .dataLine:
        // What joins two lines is white space between values, and wrong inside of one.
        scan(Self.lineFeed.span.bytes, 0..<1)
      case .name(let range):
        errorOctets = Self.matched(Self.errorName, errorOctets, octets, range, isPrefix: false)
      case .commentEnded: break
      case .eventEnded: endText(isDoneMarker: doneOctets == Self.doneMarker.utf8CodeUnitCount)
      }
    }
  }

  private static let lineFeed: InlineArray<1, UInt8> = [0x0A]

  /// Goes on comparing octets with a spelling of which `count` have been found; -1 once they differ.
  private static func matched(_ spelling: StaticString, _ count: Int, _ octets: RawSpan, _ range: Range<Int>, isPrefix: Bool) -> Int {
    var count = count
    guard count >= 0 else { return -1 }
    return spelling.withUTF8Buffer { expected in
      for index in range {
        guard count < expected.count else { return isPrefix ? count : -1 }
        guard octets.octet(index) == expected[count] else { return -1 }
        count += 1
      }
      return count
    }
  }

  private mutating func scan(_ octets: RawSpan, _ range: Range<Int>) {
    var index = range.lowerBound
    while true {
      switch passage.next(in: octets, at: &index, before: range.upperBound) {
      case .needsMore: return
      case .number(let field, let number): take(field, number)
      case .text(let field): take(field)
      case .boolean(let field, let value): if field == UsageField.done.rawValue { record.isDone = value }
      case .null: break
      case .opened(let field): open(field)
      case .closed(let field): if field == UsageField.record.rawValue { endRecord() }
      case .wrong: break
      }
    }
  }

  private mutating func take(_ field: UInt8, _ number: JSONPassage.Number) {
    guard case .whole(let count) = number, count <= TokenUsage.most else {
      if UsageField(rawValue: field)?.isCount == true { malformedRecords &+= 1 }
      return
    }
    switch UsageField(rawValue: field) {
    case .input: record.counts.input = count
    case .cachedInput: record.counts.cachedInput = count
    case .cacheWrite: record.counts.cacheWrite = count
    case .output: record.counts.output = count
    case .reasoning: record.counts.reasoning = count
    case .toolInput: record.counts.toolInput = count
    case .total: record.counts.total = count
    case .timedInput: record.counts.timedInput = count
    case .timedCachedInput: record.counts.timedCachedInput = count
    case .timedOutput: record.counts.timedOutput = count
    case .record, .type, .choices, .choice, .finish, .blocked, .done, .error, .status, .object, nil: break
    }
  }

  private mutating func take(_ field: UInt8) {
    switch UsageField(rawValue: field) {
    case .type: record.kind = UsageRecord.Kind(of: passage)
    case .finish: record.hasFinish = true
    case .blocked: record.isBlocked = true
    case .error: if !passage.textEquals("") { record.hasError = true }
    case .status: record.status = UsageRecord.Status(of: passage)
    case .record, .input, .cachedInput, .cacheWrite, .output, .reasoning, .toolInput, .total, .timedInput, .timedCachedInput, .timedOutput,
      .choices, .choice, .done, .object, nil:
      break
    }
  }

  private mutating func open(_ field: UInt8) {
    switch UsageField(rawValue: field) {
    case .choices: record.hasChoices = true
    case .choice: record.choiceCount &+= 1
    case .error: record.hasError = true
    case .record, .input, .cachedInput, .cacheWrite, .output, .reasoning, .toolInput, .total, .timedInput, .timedCachedInput, .timedOutput,
      .type, .finish, .blocked, .done, .status, .object, nil:
      break
    }
  }

  /// Takes over what a record that is whole has said.
  private mutating func endRecord() {
    let ended = record
    record = UsageRecord()
    countContent(of: ended)
    if ended.hasError || ended.kind == .error || ended.status == .failed { outcome = .failed }
    let isReport = !ended.counts.isEmpty
    if isReport { report(ended) }
    var isLast = ended.saysEnd(in: format)
    if framing == .document, passage.isComplete, ended.status != .running {
      isLast = true
      finishOutcome()
    } else if isLast, ended.endsResponse(in: format) {
      finishOutcome()
    }
    if isReport {
      hasFinalUsage = isLast
    } else if contentOctets > contentAtUsage {
      hasFinalUsage = false
    } else if isLast, hasUsage {
      hasFinalUsage = true
    }
  }

  private mutating func finishOutcome() {
    if outcome == .running { outcome = .done }
  }

  private mutating func report(_ ended: UsageRecord) {
    hasUsage = true
    contentAtUsage = contentOctets
    switch format {
    case .anthropic: counts.raise(to: ended.counts)
    case .openAIResponses, .gemini, .ollama: counts.replace(by: ended.counts)
    case .openAIChat, .openAIEmbeddings:
      counts.replace(by: ended.counts)
      // An array of bodies is several answers, whose usages add up.
      if framing == .document { settle() }
    case .llamaCpp:
      counts.replace(by: ended.counts)
      if ended.isDone == true || framing == .document { settle() }
    }
  }

  private mutating func settle() {
    settled = settled.adding(tokens)
    counts = ReportedCounts()
  }

  /// Draws the line under the content of a record, whose kind is known by now.
  private mutating func countContent(of ended: UsageRecord) {
    settledReasoning &+= reasoningOfRecord
    let text = passage.contentOctets[Int(UsageContent.text)]
    if ended.kind == .foreignDelta { excludedOctets &+= text &- textAtRecord }
    textAtRecord = text
    reasoningAtRecord = passage.contentOctets[Int(UsageContent.reasoning)]
    aliasAtRecord = passage.contentOctets[Int(UsageContent.reasoningAlias)]
  }

  /// Draws the line under a line or event, whether it was JSON or not.
  private mutating func endText(isDoneMarker: Bool) {
    if isDoneMarker {
      finishOutcome()
      if hasUsage, contentOctets == contentAtUsage { hasFinalUsage = true }
    } else if !passage.isAtStart, !passage.isComplete {
      malformedRecords &+= 1
    }
    if errorOctets == Self.errorName.utf8CodeUnitCount { outcome = .failed }
    doneOctets = 0
    errorOctets = 0
    // Nothing of a record that is not whole counts, but its content, which was delivered.
    countContent(of: UsageRecord())
    record = UsageRecord()
    if framing != .document { passage.restart() }
  }
}
