import Usage

/// Answers in the vendors' wire formats, with what they cost.
struct Sample {
  let name: String
  let format: UsageFormat
  let framing: UsageFraming
  let text: String
  let expected: Knowledge

  init(_ name: String, _ format: UsageFormat, _ framing: UsageFraming, _ text: String, _ expected: Knowledge) {
    self.name = name
    self.format = format
    self.framing = framing
    self.text = text
    self.expected = expected
  }

  static func events(_ data: [String]) -> String { data.map { "data: \($0)\n\n" }.joined() }

  static func namedEvents(_ events: [(String, String)]) -> String { events.map { "event: \($0)\ndata: \($1)\n\n" }.joined() }

  /// A chunk of OpenAI's chat stream.
  static func chunk(_ delta: String, finish: String = "null", usage: String = "null") -> String {
    #"{"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-x","system_fingerprint":"fp_1","choices":[{"index":0,"delta":"#
      + delta + #","logprobs":null,"finish_reason":"# + finish + #"}],"usage":"# + usage + "}"
  }

  /// The chunk that `include_usage` adds.
  static let usageChunk =
    #"{"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-x","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,"prompt_tokens_details":{"cached_tokens":64,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":20,"accepted_prediction_tokens":0}}}"#

  static let chat = Sample(
    "chat stream", .openAIChat, .events,
    events([
      chunk(#"{"role":"assistant","content":"","refusal":null}"#), chunk(#"{"content":"Hel"}"#), chunk(#"{"content":"lo\n\u00e9\ud83d\ude00"}"#),
      chunk("{}", finish: #""stop""#), usageChunk, "[DONE]",
    ]),
    Knowledge(TokenUsage(input: 36, cachedInput: 64, output: 30), octets: 3 + 2 + 1 + 2 + 4))

  static let chatTools = Sample(
    "chat stream with tool calls", .openAIChat, .events,
    events([
      chunk(#"{"role":"assistant","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"sum","arguments":""}}]}"#),
      chunk(#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"usage\":{\"prompt_tokens\":9"}}]}"#),
      chunk(#"{"tool_calls":[{"index":0,"function":{"arguments":"99}}"}}]}"#), chunk("{}", finish: #""tool_calls""#), usageChunk, "[DONE]",
    ]),
    Knowledge(TokenUsage(input: 36, cachedInput: 64, output: 30), octets: 3 + 27 + 4))

  static let chatReasoning = Sample(
    "chat stream, reasoning under both names, usage in the last chunk with choices", .openAIChat, .events,
    events([
      chunk(#"{"reasoning":"abcd","reasoning_content":"abcd"}"#), chunk(#"{"reasoning_content":"ef"}"#), chunk(#"{"content":"x"}"#),
      chunk("{}", finish: #""stop""#, usage: #"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":20,"completion_tokens_details":{"reasoning_tokens":6}}"#),
      "[DONE]",
    ]),
    Knowledge(TokenUsage(input: 10, output: 10), octets: 7))

  static let chatRunning = Sample(
    "chat stream with running usage, cut off", .openAIChat, .events,
    events([
      chunk(#"{"content":"one "}"#, usage: #"{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}"#),
      chunk(#"{"content":"two "}"#, usage: #"{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}"#), chunk(#"{"content":"three"}"#),
    ]),
    Knowledge(TokenUsage(input: 7, output: 2), final: false, .running, octets: 13))

  static let chatNone = Sample(
    "chat stream without usage", .openAIChat, .events, events([chunk(#"{"content":"hi"}"#), chunk("{}", finish: #""stop""#), "[DONE]"]),
    Knowledge(nil, final: false, octets: 2))

  static let chatError = Sample(
    "chat stream with an error", .openAIChat, .events,
    events([chunk(#"{"content":"hi"}"#), #"{"error":{"message":"overloaded","type":"server_error","code":null}}"#]),
    Knowledge(nil, final: false, .failed, octets: 2))

  static let chatBody = Sample(
    "chat body", .openAIChat, .document,
    """
    {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-x",
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "say \\"usage\\": {}", "refusal": null, "annotations": []},
       "logprobs": {"content": [{"token": "say", "logprob": -1.5e-3, "bytes": [115]}]}, "finish_reason": "stop"}],
     "usage": {"prompt_tokens": 1.9e1, "completion_tokens": 10.0, "total_tokens": 29, "prompt_tokens_details": {"cached_tokens": 0}}, "error": null}

    """,
    Knowledge(TokenUsage(input: 19, output: 10), octets: 15))

  static let completions = Sample(
    "completions stream of a llama.cpp server", .openAIChat, .events,
    ": ping\n\n"
      + events([
        #"{"choices":[{"text":"ab","index":0,"logprobs":null,"finish_reason":null}],"object":"text_completion"}"#,
        #"{"choices":[{"text":"","index":0,"finish_reason":"length"}],"timings":{"cache_n":5,"prompt_n":3,"prompt_ms":10.5,"predicted_n":2}}"#, "[DONE]",
      ]),
    Knowledge(TokenUsage(input: 3, cachedInput: 5, output: 2), octets: 2))

  static let embeddings = Sample(
    "embeddings", .openAIEmbeddings, .document,
    #"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.0023,-1e-5,-0.5,12,0]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
    Knowledge(TokenUsage(input: 8), octets: 0))

  static let responses = Sample(
    "responses stream", .openAIResponses, .events,
    namedEvents([
      ("response.created", #"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","error":null,"output":[],"usage":null}}"#),
      ("response.output_item.added", #"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","status":"in_progress","content":[]}}"#),
      ("response.reasoning_summary_text.delta", #"{"type":"response.reasoning_summary_text.delta","delta":"hmm"}"#),
      ("response.output_text.delta", #"{"type":"response.output_text.delta","item_id":"m","delta":"Hi ","logprobs":[]}"#),
      ("response.audio.delta", #"{"type":"response.audio.delta","delta":"QUJDREVGR0g="}"#),
      ("response.function_call_arguments.delta", #"{"delta":"{\"a\":1}","type":"response.function_call_arguments.delta"}"#),
      ("response.output_text.done", #"{"type":"response.output_text.done","text":"Hi "}"#),
      (
        "response.completed",
        #"{"type":"response.completed","response":{"id":"resp_1","status":"completed","error":null,"output":[{"type":"message","content":[{"type":"output_text","text":"Hi "}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":6,"cache_write_tokens":4},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":40},"total_tokens":123}}}"#
      ),
    ]), Knowledge(TokenUsage(input: 30, cachedInput: 6, output: 87, cacheWrite: 4), octets: 3 + 3 + 7))

  static let responsesFailed = Sample(
    "responses stream that failed", .openAIResponses, .events,
    namedEvents([
      ("response.output_text.delta", #"{"type":"response.output_text.delta","delta":"Hi"}"#),
      (
        "response.failed",
        #"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"m"},"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}}"#
      ),
    ]), Knowledge(TokenUsage(input: 3, output: 1), .failed, octets: 2))

  static let responsesBody = Sample(
    "responses body", .openAIResponses, .document,
    #"{"id":"resp_1","object":"response","status":"completed","error":null,"output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"mm"}]},{"type":"function_call","name":"f","arguments":"{}"},{"type":"message","content":[{"type":"output_text","text":"yes"}]}],"usage":{"input_tokens":5,"output_tokens":9,"total_tokens":14}}"#,
    Knowledge(TokenUsage(input: 5, output: 9), octets: 2 + 1 + 2 + 3))

  static let anthropic = Sample(
    "messages stream", .anthropic, .events,
    namedEvents([
      (
        "message_start",
        #"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-x","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":10,"cache_read_input_tokens":200,"cache_creation":{"ephemeral_5m_input_tokens":10},"output_tokens":1,"service_tier":"standard"}}}"#
      ),
      ("content_block_start", #"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#),
      ("ping", #"{"type": "ping"}"#),
      ("content_block_delta", #"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"well"}}"#),
      ("content_block_delta", #"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}"#),
      ("content_block_stop", #"{"type":"content_block_stop","index":0}"#),
      ("content_block_delta", #"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello"}}"#),
      ("content_block_start", #"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"sum","input":{}}}"#),
      ("content_block_delta", #"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"usage\":"}}"#),
      ("content_block_delta", #"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"output_tokens\":9}}"}}"#),
      ("message_delta", #"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}"#),
      ("message_stop", #"{"type":"message_stop"}"#),
    ]), Knowledge(TokenUsage(input: 35, cachedInput: 200, output: 89, cacheWrite: 10), octets: 4 + 5 + 3 + 2 + 9 + 20))

  static let anthropicError = Sample(
    "messages stream with an error", .anthropic, .events,
    namedEvents([
      ("message_start", #"{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}"#),
      ("error", #"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
    ]), Knowledge(TokenUsage(input: 25, output: 1), final: false, .failed, octets: 0))

  static let anthropicBody = Sample(
    "messages body", .anthropic, .document,
    #"{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"t","name":"f","input":{"usage": {"output_tokens": 5}}}],"stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":4,"cache_read_input_tokens":null}}"#,
    Knowledge(TokenUsage(input: 10, output: 4), octets: 2 + 1 + 29))

  private static func geminiChunk(_ parts: String, _ rest: String, finish: String = "") -> String {
    #"{"candidates":[{"content":{"parts":["# + parts + #"],"role":"model"}"# + finish + #","index":0}],"usageMetadata":{"promptTokenCount":11,"# + rest + #"},"modelVersion":"g"}"#
  }

  private static let geminiChunks = [
    geminiChunk(#"{"text":"think","thought":true}"#, #""totalTokenCount":61,"thoughtsTokenCount":50"#),
    geminiChunk(#"{"text":"Hi"},{"functionCall":{"name":"f","args":{"a": [1, true]}}}"#, #""candidatesTokenCount":2,"totalTokenCount":63,"thoughtsTokenCount":50"#),
    geminiChunk(
      #"{"text":" all"}"#, #""candidatesTokenCount":5,"totalTokenCount":76,"thoughtsTokenCount":50,"cachedContentTokenCount":8,"toolUsePromptTokenCount":10"#,
      finish: #","finishReason":"STOP""#),
  ]
  private static let geminiEnd = Knowledge(TokenUsage(input: 13, cachedInput: 8, output: 55), octets: 5 + 2 + 1 + 14 + 4)

  static let geminiEvents = Sample("gemini events", .gemini, .events, geminiChunks.map { "data: \($0)\r\n\r\n" }.joined(), geminiEnd)
  static let geminiArray = Sample("gemini array", .gemini, .document, "[" + geminiChunks.joined(separator: "\n,\r\n") + "\n]\n", geminiEnd)
  static let geminiBody = Sample(
    "gemini body", .gemini, .document, geminiChunk(#"{"text":"Hi"}"#, #""candidatesTokenCount":2,"totalTokenCount":13"#, finish: #","finishReason":"STOP""#),
    Knowledge(TokenUsage(input: 11, output: 2), octets: 2))
  static let geminiError = Sample(
    "gemini error", .gemini, .document, #"[{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}]"#, Knowledge(nil, final: false, .failed, octets: 0))

  static let ollama = Sample(
    "ollama chat", .ollama, .lines,
    """
    {"model":"llama","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","thinking":"mm"},"done":false}
    {"model":"llama","message":{"role":"assistant","content":"The"},"done":false}
    {"model":"llama","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"eval_count":7}}}]},"done":false}
    {"model":"llama","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":4883583458,"prompt_eval_count":26,"eval_count":282}

    """,
    Knowledge(TokenUsage(input: 26, output: 282), octets: 2 + 3 + 1 + 16))

  static let ollamaGenerate = Sample(
    "ollama generate, whole", .ollama, .document, #"{"model":"l","response":"sky","done":true,"context":[1,2,3],"prompt_eval_count":5,"eval_count":3}"#,
    Knowledge(TokenUsage(input: 5, output: 3), octets: 3))
  static let ollamaEmbed = Sample(
    "ollama embed", .ollama, .document, #"{"model":"l","embeddings":[[0.1,-0.2],[1e-9,0]],"total_duration":14143917,"prompt_eval_count":8}"#,
    Knowledge(TokenUsage(input: 8), octets: 0))
  static let ollamaError = Sample(
    "ollama error", .ollama, .lines, "{\"message\":{\"content\":\"a\"},\"done\":false}\n{\"error\":\"model runner has unexpectedly stopped\"}\n",
    Knowledge(nil, final: false, .failed, octets: 1))

  static let llama = Sample(
    "llama.cpp completion stream", .llamaCpp, .events,
    events([
      #"{"index":0,"content":"a b","tokens":[1],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":14}"#,
      #"{"index":0,"content":"","tokens":[],"stop":true,"tokens_predicted":6,"tokens_evaluated":14,"generation_settings":{"n_predict":6,"stop":[]},"prompt":"tokens_predicted","tokens_cached":19,"timings":{"cache_n":10,"prompt_n":4,"predicted_n":6}}"#,
    ]), Knowledge(TokenUsage(input: 4, cachedInput: 10, output: 6), octets: 3))

  static let llamaMany = Sample(
    "llama.cpp completion of two prompts", .llamaCpp, .document,
    #"[{"index":0,"content":"ab","stop":true,"tokens_predicted":3,"tokens_evaluated":5},{"index":1,"content":"c","stop":true,"tokens_predicted":4,"tokens_evaluated":6}]"#,
    Knowledge(TokenUsage(input: 11, output: 7), octets: 3))

  static let all: [Sample] = [
    chat, chatTools, chatReasoning, chatRunning, chatNone, chatError, chatBody, completions, embeddings, responses, responsesFailed, responsesBody,
    anthropic, anthropicError, anthropicBody, geminiEvents, geminiArray, geminiBody, geminiError, ollama, ollamaGenerate, ollamaEmbed, ollamaError,
    llama, llamaMany,
  ]
}
