/// What the paths of a request's JSON lead to.
enum RequestField: UInt8 {
  case root
  case model, stream, streamOptions, includeUsage
  /// The output limits that a format knows; where several are given, the largest counts.
  case limit, limitAlias, limitSecondAlias
  case choices, choicesAlias
  /// What stands in for input that is kept at the vendor's.
  case stored, storedAlias
  /// Whether the answer comes later, and its usage with it.
  case background

  var role: JSONPaths.Role { .value(rawValue) }
}

/// The kinds of content that are counted apart in requests.
enum RequestContent {
  static let text: UInt8 = 0
  /// Encoded images, sounds and files.
  static let media: UInt8 = 1
  /// The elements of a list of prompts, each of which is answered on its own.
  static let prompt: UInt8 = 2
}

/// Names are found in any case, since servers written in Go take them so; `RequestReading` says where that decided.
extension UsageFormat {
  /// The paths of a request in this format.
  var requestPaths: JSONPaths {
    switch self {
    case .openAIChat: Self.chatRequest
    case .openAIResponses: Self.responsesRequest
    case .openAIEmbeddings: Self.embeddingsRequest
    case .anthropic: Self.anthropicRequest
    case .gemini: Self.geminiRequest
    case .ollama: Self.ollamaRequest
    case .llamaCpp: Self.llamaRequest
    }
  }

  private typealias Paths = [(path: String, role: JSONPaths.Role)]

  private static func content(_ paths: [String]) -> Paths { paths.map { ($0, .content(RequestContent.text)) } }
  private static func media(_ paths: [String]) -> Paths { paths.map { ($0, .content(RequestContent.media)) } }
  private static func fields(_ paths: [(String, RequestField)]) -> Paths { paths.map { ($0.0, $0.1.role) } }

  private static let common = fields([("model", .model), ("stream", .stream)])

  private static let openAIStream = fields([("stream_options", .streamOptions), ("stream_options.include_usage", .includeUsage)])

  private static let chatRequest = JSONPaths(
    common + openAIStream
      + fields([
        ("max_completion_tokens", .limit), ("max_tokens", .limitAlias), ("n_predict", .limitSecondAlias), ("n", .choices), ("best_of", .choicesAlias),
      ])
      + content(["messages", "tools", "functions", "response_format", "prompt", "suffix", "prediction"])
      + [("prompt[]", .content(RequestContent.prompt))]
      + media([
        "messages[].content[].image_url", "messages[].content[].image_url.url", "messages[].content[].video_url.url",
        "messages[].content[].input_audio.data", "messages[].content[].audio_url.url", "messages[].content[].file.file_data",
      ]),
    root: RequestField.root.rawValue, ignoringCase: true)

  private static let responsesRequest = JSONPaths(
    common + openAIStream + fields([("max_output_tokens", .limit), ("previous_response_id", .stored), ("conversation", .storedAlias), ("background", .background)])
      + content(["instructions", "input", "tools", "text", "prompt"])
      + media([
        "input[].content[].image_url", "input[].content[].file_data", "input[].content[].input_audio.data", "input[].output[].image_url",
        "input[].output[].file_data", "input[].output.image_url", "input[].result",
      ]),
    root: RequestField.root.rawValue, ignoringCase: true)

  private static let embeddingsRequest = JSONPaths(
    common + content(["input", "query", "documents"])
      + [("input[]", .content(RequestContent.prompt))],
    root: RequestField.root.rawValue, ignoringCase: true)

  private static let anthropicRequest = JSONPaths(
    common + fields([("max_tokens", .limit)]) + content(["messages", "system", "tools"])
      + media(["messages[].content[].source.data", "messages[].content[].content[].source.data", "messages[].content[].source.content[].source.data"]),
    root: RequestField.root.rawValue, ignoringCase: true)

  /// Gemini takes every name in both spellings, as JSON of protocol buffers does.
  private static let geminiRequest: JSONPaths = {
    var paths: Paths = fields([("model", .model), ("cachedContent", .stored), ("cached_content", .stored)])
    for settings in ["generationConfig", "generation_config"] {
      paths += fields([
        (settings + ".maxOutputTokens", .limit), (settings + ".max_output_tokens", .limit), (settings + ".candidateCount", .choices),
        (settings + ".candidate_count", .choices),
      ])
      paths += content([settings + ".responseSchema", settings + ".response_schema", settings + ".responseJsonSchema"])
    }
    for prefix in ["", "requests[]."] {
      paths += content(["contents", "content", "systemInstruction", "system_instruction", "tools"].map { prefix + $0 })
      for parts in [prefix + "contents[].parts[]", prefix + "content.parts[]"] {
        paths += media([parts + ".inlineData.data", parts + ".inline_data.data", parts + ".functionResponse.parts[].inlineData.data"])
      }
    }
    return JSONPaths(paths, root: RequestField.root.rawValue, ignoringCase: true)
  }()

  private static let ollamaRequest = JSONPaths(
    common + fields([("options.num_predict", .limit), ("context", .stored)])
      + content(["prompt", "suffix", "system", "template", "messages", "tools", "format", "input"])
      + [("input[]", .content(RequestContent.prompt))]
      + media(["images[]", "messages[].images[]"]),
    root: RequestField.root.rawValue, ignoringCase: true)

  private static let llamaRequest = JSONPaths(
    common + fields([("n_predict", .limit), ("max_tokens", .limitAlias), ("max_completion_tokens", .limitSecondAlias), ("n_cmpl", .choices), ("n", .choicesAlias)])
      + content(["prompt", "input_prefix", "input_suffix", "input_extra"])
      + [("prompt[]", .content(RequestContent.prompt))]
      + media(["prompt.multimodal_data[]", "prompt[].multimodal_data[]"]),
    root: RequestField.root.rawValue, ignoringCase: true)
}
