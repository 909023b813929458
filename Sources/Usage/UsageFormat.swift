/// A wire format in which a model server takes requests and reports usage.
public enum UsageFormat: String, CaseIterable, Hashable, Sendable {
  /// OpenAI's chat completions and completions, and the many servers that speak them.
  case openAIChat = "openai-chat"
  /// OpenAI's responses.
  case openAIResponses = "openai-responses"
  /// OpenAI's embeddings, and rankings that report the same way.
  case openAIEmbeddings = "openai-embeddings"
  /// Anthropic's messages.
  case anthropic
  /// Gemini's generateContent, streamGenerateContent and embedContent.
  case gemini
  /// Ollama's chat, generate and embed.
  case ollama
  /// llama.cpp's own completion and infill.
  case llamaCpp = "llama-cpp"

  /// Takes the format that a configuration names; nil where there is none of that name.
  public init?(name: String) {
    self.init(rawValue: name)
  }

  /// Recognises the format by a request's path; a query and whatever precedes the known end of the path do not matter. Nil where the
  /// path is not one that reports usage.
  public init?(path: RawSpan) {
    let tail = PathTail(path)
    if let known = Self.known.first(where: { tail.lastStep(is: $0.step) }) {
      switch known.format {
      case .openAIChat:
        // On its own it is llama.cpp's old spelling of `/completion`.
        self = tail.isOnlyStep ? .llamaCpp : .openAIChat
      case .ollama:
        guard tail.parent(is: "api") else { return nil }
        self = .ollama
      case .openAIEmbeddings:
        // Ollama's old embeddings report no usage.
        if tail.parent(is: "api") { return nil }
        self = .openAIEmbeddings
      case .openAIResponses, .anthropic, .gemini, .llamaCpp:
        self = known.format
      }
      return
    }
    guard let known = Self.knownMethods.first(where: { tail.method(is: $0.method) }) else { return nil }
    if known.format == .anthropic {
      guard tail.contains("/publishers/anthropic/") else { return nil }
    }
    self = known.format
  }

  private static let known: [(step: StaticString, format: UsageFormat)] = [
    ("completions", .openAIChat), ("messages", .anthropic), ("responses", .openAIResponses), ("embeddings", .openAIEmbeddings), ("chat", .ollama),
    ("generate", .ollama), ("embed", .ollama), ("completion", .llamaCpp), ("infill", .llamaCpp), ("rerank", .openAIEmbeddings), ("reranking", .openAIEmbeddings),
  ]

  private static let knownMethods: [(method: StaticString, format: UsageFormat)] = [
    ("generateContent", .gemini), ("streamGenerateContent", .gemini), ("embedContent", .gemini), ("batchEmbedContents", .gemini),
    ("rawPredict", .anthropic), ("streamRawPredict", .anthropic),
  ]

  /// Tells whether a path names something that was generated earlier (`…/responses/<id>`, `…/chat/completions/<id>`, what hangs on them):
  /// asking for that generates nothing, whatever usage the answer repeats.
  public static func isStored(path: RawSpan) -> Bool {
    let tail = PathTail(path)
    return tail.contains("/responses/") || tail.contains("/completions/")
  }

  /// Tells whether OpenAI's `stream_options.include_usage` is understood by servers of this format.
  public var takesIncludeUsage: Bool {
    switch self {
    case .openAIChat: true
    case .openAIResponses, .openAIEmbeddings, .anthropic, .gemini, .ollama, .llamaCpp: false
    }
  }

  /// The model that a path names, as Gemini's `…/models/<model>:generateContent` does; nil where it names none.
  public static func model(inPath path: RawSpan) -> String? {
    let tail = PathTail(path)
    guard tail.parent(is: "models"), let colon = tail.colon, colon > tail.step.lowerBound else { return nil }
    return String(decoding: (tail.step.lowerBound..<colon).map { path.octet($0) }, as: UTF8.self)
  }
}

/// How a response's body is divided into JSON texts.
public enum UsageFraming: Hashable, Sendable {
  /// One JSON text, an array of chunks included.
  case document
  /// One JSON text on every line.
  case lines
  /// One JSON text in every server-sent event.
  case events

  /// Recognises the framing by a response's content type, whatever its parameters; nil where it is none of JSON.
  public init?(contentType: RawSpan) {
    var end = 0
    while end < contentType.byteCount, !Self.endsType(contentType.octet(end)) { end += 1 }
    func equals(_ spelling: StaticString) -> Bool { contentType.equalsIgnoringCase(spelling, 0..<end) }
    if equals("text/event-stream") {
      self = .events
    } else if equals("application/json") || equals("text/json") {
      self = .document
    } else if equals("application/x-ndjson") || equals("application/ndjson") || equals("application/jsonl") || equals("application/x-jsonlines") {
      self = .lines
    } else if end > 5, contentType.equalsIgnoringCase("+json", end - 5..<end) {
      self = .document
    } else {
      return nil
    }
  }

  private static func endsType(_ octet: UInt8) -> Bool {
    octet == UInt8(ascii: ";") || octet == UInt8(ascii: ",") || octet == 0x20 || octet == 0x09
  }
}
