import Bytes
import Usage

private let bodies = [
  #"{"id":"x","choices":[{"message":{"content":"hi","reasoning":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":2}}}"#,
  "data: {\"choices\":[{\"delta\":{\"content\":\"a\\u00e9\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
  "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
  "{\"model\":\"m\",\"response\":\"a\",\"done\":false}\n{\"done\":true,\"prompt_eval_count\":5,\"eval_count\":9}\n",
  #"[{"candidates":[{"content":{"parts":[{"text":"a","thought":true}]}}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"thoughtsTokenCount":1}}]"#,
  #"{"type":"response.completed","response":{"status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1}}}}"#,
  #"{"content":"a","stop":true,"tokens_evaluated":5,"tokens_predicted":7,"timings":{"prompt_n":1,"cache_n":2,"predicted_n":3}}"#,
]
private let requests = [
  #"{"model":"gpt","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:"}}]}],"stream":true,"n":2,"max_completion_tokens":64}"#,
  #"{"model":"m","input":["a","b"],"max_output_tokens":1e3,"background":true,"stream_options":{}}"#,
  #"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"maxOutputTokens":5,"candidateCount":2}}"#, #"{"prompt":"a","n_predict":-1,"Stream":false,"options":{"num_predict":9}}"#,
]
private let formats: [UsageFormat] = [.openAIChat, .openAIResponses, .openAIEmbeddings, .anthropic, .gemini, .ollama, .llamaCpp]

/// Everything that a reader tells.
private struct Reading: Equatable {
  var usage: TokenUsage?
  var outcome: UsageReader.Outcome
  var isFinal: Bool
  var malformed: UInt64
  var content: UInt64
  var events: UInt64
}

private func read(_ octets: [UInt8], _ cuts: [Int], _ format: UsageFormat, _ framing: UsageFraming) -> Reading {
  var reader = UsageReader(format: format, framing: framing)
  var start = 0
  for end in cuts + [octets.count] {
    octets.withUnsafeBytes { reader.read(UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
    start = end
  }
  reader.finish()
  return Reading(
    usage: reader.usage, outcome: reader.outcome, isFinal: reader.hasFinalUsage, malformed: reader.malformedRecords, content: reader.contentOctets,
    events: reader.events)
}

private func filtered(_ octets: [UInt8], _ cuts: [Int]) throws -> (octets: [UInt8], removed: UInt64) {
  var filter = UsageChunkFilter()
  var output = ByteBuffer()
  var start = 0
  for end in cuts + [octets.count] {
    octets.withUnsafeBytes { filter.filter(UnsafeRawBufferPointer(rebasing: $0[start..<end]), into: &output) }
    try require(filter.heldCount <= UsageChunkFilter.heldLimit + (end - start), "\(filter.heldCount) octets are held")
    start = end
  }
  filter.finish(into: &output)
  return (output.array(), filter.removedChunks)
}

extension Property {
  /// What is read of model servers' answers, and of requests to them.
  static let usages: [Property] = [
    Property("usage", bodies) { octets in
      let cuts = cuts(of: octets)
      for format in formats {
        for framing in [UsageFraming.document, .lines, .events] {
          let (whole, pieces) = (read(octets, [], format, framing), read(octets, cuts, format, framing))
          try require(whole == pieces, "\(format) \(framing): \(whole) in one, \(pieces) cut at \(cuts)")
          try require(whole.content <= octets.count * 3, "\(whole.content) octets of content")
        }
      }
    },
    Property("usage-chunks", bodies) { octets in
      let cuts = cuts(of: octets)
      let (whole, pieces) = (try filtered(octets, []), try filtered(octets, cuts))
      try require(whole == pieces, "\(whole) in one, \(pieces) cut at \(cuts)")
      if whole.removed == 0 { try require(whole.octets == octets, "\(whole.octets) passed on") }
      try require(try filtered(whole.octets, []).octets == whole.octets || whole.removed > 0, "filtered twice")
    },
    Property("usage-requests", requests) { octets in
      for format in formats {
        try octets.withUnsafeBytes { body in
          guard let read = try? RequestReading(body.bytes, format: format) else { return }
          _ = read.outputLimit
          guard let change = read.includeUsage else { return }
          var changed = ByteBuffer()
          change.append(body, to: &changed)
          try require(changed.count == octets.count + change.growth, "its growth is not \(change.growth)")
          let again = try changed.withUnsafeBytes { body in Result { try RequestReading(body.bytes, format: format) } }.get()
          try require(again.includesUsage && again.includeUsage == nil && again.isStream, "the changed body does not ask for usage: \(changed.string())")
          try require(again.model == read.model && again.outputLimit == read.outputLimit, "the changed body asks for something else: \(changed.string())")
        }
      }
    },
  ]
}
