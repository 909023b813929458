/// What the paths of a response's JSON lead to.
enum UsageField: UInt8 {
  /// A whole record: a body, an event's data, a line, or a chunk of an array.
  case record
  case input, cachedInput, cacheWrite, output, reasoning, toolInput, total
  case timedInput, timedCachedInput, timedOutput
  case type, choices, choice, finish, blocked, done, error, status, object

  var role: JSONPaths.Role { .value(rawValue) }
}

/// The kinds of content that are counted apart in responses.
enum UsageContent {
  static let text: UInt8 = 0
  /// Reasoning has two names, and some servers send the same text under both.
  static let reasoning: UInt8 = 1
  static let reasoningAlias: UInt8 = 2
}

extension UsageFormat {
  /// The paths of a response in this format.
  var responsePaths: JSONPaths {
    switch self {
    case .openAIChat: Self.chatPaths
    case .openAIResponses: Self.responsesPaths
    case .openAIEmbeddings: Self.embeddingsPaths
    case .anthropic: Self.anthropicPaths
    case .gemini: Self.geminiPaths
    case .ollama: Self.ollamaPaths
    case .llamaCpp: Self.llamaPaths
    }
  }

  private static let content = JSONPaths.Role.content(UsageContent.text)

  private static func chatUsage(_ prefix: String) -> [(path: String, role: JSONPaths.Role)] {
    [
      (prefix + ".prompt_tokens", UsageField.input.role),
      (prefix + ".completion_tokens", UsageField.output.role),
      (prefix + ".total_tokens", UsageField.total.role),
      (prefix + ".prompt_tokens_details.cached_tokens", UsageField.cachedInput.role),
      (prefix + ".prompt_tokens_details.cache_write_tokens", UsageField.cacheWrite.role),
      (prefix + ".prompt_cache_hit_tokens", UsageField.cachedInput.role),
    ]
  }

  private static func chatMessage(_ prefix: String) -> [(path: String, role: JSONPaths.Role)] {
    [
      (prefix + ".content", content),
      (prefix + ".refusal", content),
      (prefix + ".reasoning", .content(UsageContent.reasoning)),
      (prefix + ".reasoning_content", .content(UsageContent.reasoningAlias)),
      (prefix + ".tool_calls[].function.name", content),
      (prefix + ".tool_calls[].function.arguments", content),
      (prefix + ".tool_calls[].custom.name", content),
      (prefix + ".tool_calls[].custom.input", content),
      (prefix + ".function_call.name", content),
      (prefix + ".function_call.arguments", content),
      (prefix + ".audio.transcript", content),
    ]
  }

  private static let timings: [(path: String, role: JSONPaths.Role)] = [
    ("timings.prompt_n", UsageField.timedInput.role),
    ("timings.cache_n", UsageField.timedCachedInput.role),
    ("timings.predicted_n", UsageField.timedOutput.role),
  ]

  private static let chatPaths = JSONPaths(
    chatUsage("usage") + chatUsage("choices[].usage") + chatUsage("x_groq.usage") + chatMessage("choices[].delta") + chatMessage("choices[].message") + timings + [
      ("choices", UsageField.choices.role),
      ("choices[]", UsageField.choice.role),
      ("choices[].text", content),
      ("choices[].finish_reason", UsageField.finish.role),
      ("error", UsageField.error.role),
    ], root: UsageField.record.rawValue, elementsLikeRoot: true)

  private static let embeddingsPaths = JSONPaths(
    chatUsage("usage") + [("error", UsageField.error.role)], root: UsageField.record.rawValue, elementsLikeRoot: true)

  private static func responsesUsage(_ prefix: String) -> [(path: String, role: JSONPaths.Role)] {
    [
      (prefix + "usage.input_tokens", UsageField.input.role),
      (prefix + "usage.output_tokens", UsageField.output.role),
      (prefix + "usage.total_tokens", UsageField.total.role),
      (prefix + "usage.input_tokens_details.cached_tokens", UsageField.cachedInput.role),
      (prefix + "usage.input_tokens_details.cache_write_tokens", UsageField.cacheWrite.role),
      (prefix + "error", UsageField.error.role),
      (prefix + "status", UsageField.status.role),
    ]
  }

  private static let responsesPaths = JSONPaths(
    responsesUsage("") + responsesUsage("response.") + [
      ("type", UsageField.type.role),
      ("object", UsageField.object.role),
      ("delta", content),
      ("output[].name", content),
      ("output[].arguments", content),
      ("output[].input", content),
      ("output[].code", content),
      ("output[].content[].text", content),
      ("output[].content[].refusal", content),
      ("output[].content[].transcript", content),
      ("output[].summary[].text", content),
      ("output[].action", content),
    ], root: UsageField.record.rawValue)

  private static func anthropicUsage(_ prefix: String) -> [(path: String, role: JSONPaths.Role)] {
    [
      (prefix + "usage.input_tokens", UsageField.input.role),
      (prefix + "usage.output_tokens", UsageField.output.role),
      (prefix + "usage.cache_read_input_tokens", UsageField.cachedInput.role),
      (prefix + "usage.cache_creation_input_tokens", UsageField.cacheWrite.role),
    ]
  }

  private static func anthropicBlock(_ prefix: String) -> [(path: String, role: JSONPaths.Role)] {
    [
      (prefix + ".text", content),
      (prefix + ".thinking", content),
      (prefix + ".name", content),
      (prefix + ".input", content),
    ]
  }

  private static let anthropicPaths = JSONPaths(
    anthropicUsage("") + anthropicUsage("message.") + anthropicBlock("content[]") + anthropicBlock("message.content[]") + anthropicBlock("content_block") + [
      ("type", UsageField.type.role),
      ("error", UsageField.error.role),
      ("delta.stop_reason", UsageField.finish.role),
      ("delta.text", content),
      ("delta.thinking", content),
      ("delta.partial_json", content),
    ], root: UsageField.record.rawValue)

  private static let geminiPaths = JSONPaths(
    [
      ("usageMetadata.promptTokenCount", UsageField.input.role),
      ("usageMetadata.cachedContentTokenCount", UsageField.cachedInput.role),
      ("usageMetadata.candidatesTokenCount", UsageField.output.role),
      ("usageMetadata.thoughtsTokenCount", UsageField.reasoning.role),
      ("usageMetadata.toolUsePromptTokenCount", UsageField.toolInput.role),
      ("usageMetadata.totalTokenCount", UsageField.total.role),
      ("candidates[].finishReason", UsageField.finish.role),
      ("candidates[].content.parts[].text", content),
      ("candidates[].content.parts[].functionCall.name", content),
      ("candidates[].content.parts[].functionCall.args", content),
      ("candidates[].content.parts[].executableCode.code", content),
      ("promptFeedback.blockReason", UsageField.blocked.role),
      ("error", UsageField.error.role),
    ], root: UsageField.record.rawValue, elementsLikeRoot: true)

  private static let ollamaPaths = JSONPaths(
    [
      ("prompt_eval_count", UsageField.input.role),
      ("eval_count", UsageField.output.role),
      ("done", UsageField.done.role),
      ("error", UsageField.error.role),
      ("response", content),
      ("thinking", content),
      ("message.content", content),
      ("message.thinking", content),
      ("message.tool_calls[].function.name", content),
      ("message.tool_calls[].function.arguments", content),
    ], root: UsageField.record.rawValue)

  private static let llamaPaths = JSONPaths(
    timings + [
      ("tokens_evaluated", UsageField.input.role),
      ("tokens_predicted", UsageField.output.role),
      ("stop", UsageField.done.role),
      ("error", UsageField.error.role),
      ("content", content),
    ], root: UsageField.record.rawValue, elementsLikeRoot: true)
}
