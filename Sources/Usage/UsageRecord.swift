/// What one record of a response (a body, an event's data, a line, a chunk) says beside its content.
struct UsageRecord: Hashable, Sendable {
  /// The kinds of events that matter, by the member `type`.
  enum Kind: Hashable, Sendable {
    case other
    /// Anthropic's last events.
    case messageDelta, messageStop
    /// The events of OpenAI's responses that end one.
    case responseEnded
    /// A delta that no model wrote as text: encoded audio, the output of a program.
    case foreignDelta
    case error

    init(of passage: JSONPassage) {
      if passage.textEquals("message_delta") {
        self = .messageDelta
      } else if passage.textEquals("message_stop") {
        self = .messageStop
      } else if passage.textEquals("error") {
        self = .error
      } else if passage.textEquals("response.completed") || passage.textEquals("response.incomplete") || passage.textEquals("response.failed") {
        self = .responseEnded
      } else if passage.textEquals("response.audio.delta") || passage.textEquals("response.output_audio.delta")
        || passage.textEquals("response.shell_call_output_content.delta")
      {
        self = .foreignDelta
      } else {
        self = .other
      }
    }
  }

  /// What a response of OpenAI's says of itself.
  enum Status: Hashable, Sendable {
    case ended, running, failed

    init(of passage: JSONPassage) {
      if passage.textEquals("failed") {
        self = .failed
      } else if passage.textEquals("in_progress") || passage.textEquals("queued") {
        self = .running
      } else {
        self = .ended
      }
    }
  }

  var counts = ReportedCounts()
  var kind = Kind.other
  var status: Status?
  var hasChoices = false
  var choiceCount: UInt64 = 0
  var hasFinish = false
  var isBlocked = false
  var isDone: Bool?
  var hasError = false

  /// Whether the record says that generation is over, so that the usage it carries, or the one before, is the last.
  func saysEnd(in format: UsageFormat) -> Bool {
    switch format {
    case .openAIChat: hasFinish || hasChoices && choiceCount == 0
    case .openAIResponses: kind == .responseEnded
    case .openAIEmbeddings: !counts.isEmpty
    case .anthropic: kind == .messageDelta && hasFinish || kind == .messageStop
    case .gemini: hasFinish || isBlocked
    case .ollama, .llamaCpp: isDone == true
    }
  }

  /// Whether a record that says so also ends the response itself.
  func endsResponse(in format: UsageFormat) -> Bool {
    switch format {
    case .openAIChat, .openAIEmbeddings: false
    case .openAIResponses, .gemini, .ollama, .llamaCpp: true
    case .anthropic: kind == .messageStop
    }
  }
}

extension UsageField {
  /// Whether the field is a number of tokens.
  var isCount: Bool {
    switch self {
    case .input, .cachedInput, .cacheWrite, .output, .reasoning, .toolInput, .total, .timedInput, .timedCachedInput, .timedOutput: true
    case .record, .type, .choices, .choice, .finish, .blocked, .done, .error, .status, .object: false
    }
  }
}

extension TokenUsage {
  /// Adds another usage; a sum past the greatest number stays there.
  func adding(_ other: TokenUsage) -> TokenUsage {
    func sum(_ one: UInt64, _ two: UInt64) -> UInt64 {
      let (result, overflows) = one.addingReportingOverflow(two)
      return overflows ? .max : result
    }
    return TokenUsage(
      input: sum(input, other.input), cachedInput: sum(cachedInput, other.cachedInput), output: sum(output, other.output),
      cacheWrite: sum(cacheWrite, other.cacheWrite))
  }
}
