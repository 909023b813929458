import Testing
import Usage

private func model(_ path: String) -> String? { UsageFormat.model(inPath: Array(path.utf8).span.bytes) }

@Suite struct UsageFormatTests {
  @Test(arguments: [
    ("/v1/chat/completions", UsageFormat?.some(.openAIChat)), ("/openai/deployments/d/chat/completions?api-version=1", .openAIChat), ("/v1/completions", .openAIChat),
    ("/completions", .llamaCpp), ("/completion", .llamaCpp), ("/infill", .llamaCpp), ("/v1/responses", .openAIResponses), ("/v1/responses/resp_1", nil),
    ("/v1/embeddings", .openAIEmbeddings), ("/v1/rerank", .openAIEmbeddings), ("/api/embeddings", nil), ("/v1/messages", .anthropic), ("/v1/messages/count_tokens", nil),
    ("/v1beta/models/g:generateContent", .gemini), ("/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent?alt=sse", .gemini),
    ("/v1beta/models/g:countTokens", nil), ("/v1beta/openai/chat/completions", .openAIChat), ("/v1/publishers/anthropic/models/c:streamRawPredict", .anthropic),
    ("/v1/publishers/other/models/c:rawPredict", nil), ("/api/chat", .ollama), ("/api/generate", .ollama), ("/api/embed", .ollama), ("/chat", nil), ("/embed", nil), ("/api/tags", nil),
    ("/", nil), ("", nil), ("/chat/completions/", .openAIChat), ("/v1/models", nil), ("/x?y=/chat/completions", nil),
  ])
  func thePathNamesTheFormat(path: String, format: UsageFormat?) {
    #expect(UsageFormat(path: Array(path.utf8).span.bytes) == format, "\(path)")
  }

  @Test func everyFormatHasItsName() {
    for format in UsageFormat.allCases { #expect(UsageFormat(name: format.rawValue) == format) }
    #expect(UsageFormat(name: "OpenAI") == nil)
    #expect(UsageFormat.allCases.filter(\.takesIncludeUsage) == [.openAIChat])
  }

  @Test(arguments: [
    ("text/event-stream", UsageFraming?.some(.events)), ("Text/Event-Stream; charset=utf-8", .events), ("application/json", .document), ("application/json;charset=utf-8", .document),
    ("application/problem+json", .document), ("application/x-ndjson", .lines), ("application/jsonl", .lines), ("text/html", nil), ("", nil), ("application/octet-stream", nil),
  ])
  func theContentTypeNamesTheFraming(type: String, framing: UsageFraming?) {
    #expect(UsageFraming(contentType: Array(type.utf8).span.bytes) == framing)
  }

  @Test func thePathMayNameTheModel() {
    #expect(model("/v1beta/models/gemini-2.5-pro:generateContent?key=x") == "gemini-2.5-pro")
    #expect(model("/v1beta/tunedModels/x") == nil)
    #expect(model("/v1/models/x") == nil)
    #expect(model("/models/:x") == nil)
  }
}
