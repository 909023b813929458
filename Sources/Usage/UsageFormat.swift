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
  public init?(path: String) {
    let path = Self.withoutQuery(path)
    let last = path.split(separator: "/").last.map(String.init) ?? ""
    switch last {
    case "completions":
      // On its own it is llama.cpp's old spelling of `/completion`.
      self = path == "/completions" ? .llamaCpp : .openAIChat
    case "responses": self = .openAIResponses
    case "messages": self = .anthropic
    case "embeddings":
      if path.hasSuffix("/api/embeddings") { return nil }
      self = .openAIEmbeddings
    case "rerank", "reranking": self = .openAIEmbeddings
    case "chat", "generate", "embed":
      guard path.hasSuffix("/api/\(last)") else { return nil }
      self = .ollama
    case "completion", "infill": self = .llamaCpp
    default:
      guard let method = last.split(separator: ":", omittingEmptySubsequences: false).dropFirst().last else { return nil }
      switch method {
      case "generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents": self = .gemini
      case "rawPredict", "streamRawPredict":
        guard path.utf8.count > 0, Self.contains(path, "/publishers/anthropic/") else { return nil }
        self = .anthropic
      default: return nil
      }
    }
  }

  /// Tells whether OpenAI's `stream_options.include_usage` is understood by servers of this format.
  public var takesIncludeUsage: Bool {
    switch self {
    case .openAIChat: true
    case .openAIResponses, .openAIEmbeddings, .anthropic, .gemini, .ollama, .llamaCpp: false
    }
  }

  /// The model that a path names, as Gemini's `…/models/<model>:generateContent` does; nil where it names none.
  public static func model(inPath path: String) -> String? {
    let steps = withoutQuery(path).split(separator: "/")
    guard steps.count >= 2, steps[steps.count - 2] == "models", let last = steps.last, let colon = last.lastIndex(of: ":"), colon != last.startIndex
    else { return nil }
    return String(last[..<colon])
  }

  static func withoutQuery(_ path: String) -> String {
    path.firstIndex(of: "?").map { String(path[..<$0]) } ?? path
  }

  private static func contains(_ text: String, _ part: String) -> Bool {
    let text = Array(text.utf8)
    let part = Array(part.utf8)
    guard text.count >= part.count else { return false }
    return (0...text.count - part.count).contains { text[$0..<$0 + part.count].elementsEqual(part) }
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
  public init?(contentType: String) {
    var octets: [UInt8] = []
    for octet in contentType.utf8 {
      if octet == UInt8(ascii: ";") || octet == UInt8(ascii: ",") { break }
      if octet == 0x20 || octet == 0x09 { continue }
      octets.append(octet &- 0x41 < 26 ? octet | 0x20 : octet)
    }
    switch String(decoding: octets, as: UTF8.self) {
    case "text/event-stream": self = .events
    case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/json-lines": self = .lines
    case "application/json", "text/json": self = .document
    case let other where other.hasPrefix("application/") && other.hasSuffix("+json"): self = .document
    default: return nil
    }
  }
}
