import Bytes
import Testing
import Usage

private func reading(_ body: String, _ format: UsageFormat, path: String = "") throws(UsageError) -> RequestReading {
  try RequestReading(Array(body.utf8).span.bytes, format: format, path: Array(path.utf8).span.bytes)
}

@Suite struct BackgroundTests {
  @Test(arguments: [
    ("true", true), ("false", false), ("null", false), ("1", true), ("0", false), ("\"yes\"", true),
  ]) func tellsWhetherTheAnswerComesLater(value: String, expected: Bool) throws {
    let body = Array("{\"model\":\"m\",\"background\":\(value)}".utf8)
    #expect(try RequestReading(body.span.bytes, format: .openAIResponses).isBackground == expected)
    #expect(try RequestReading(body.span.bytes, format: .openAIChat).isBackground == false)
  }

  @Test func knowsWhatWasGeneratedEarlier() {
    func isStored(_ path: String) -> Bool { UsageFormat.isStored(path: Array(path.utf8).span.bytes) }
    #expect(isStored("/v1/responses/resp_1") && isStored("/v1/responses/resp_1/cancel?x=1") && isStored("/v1/chat/completions/chatcmpl-1"))
    #expect(!isStored("/v1/responses") && !isStored("/v1/responses/") && !isStored("/v1/chat/completions") && !isStored("/"))
  }
}

@Suite struct RequestReadingTests {
  @Test func readsAChatRequest() throws {
    let body = """
      {"model": "gpt-x", "messages": [{"role": "user", "content": "h\\u00e9"}, {"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "max_tokens"}]}],
       "max_completion_tokens": 100, "n": 3, "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.7}
      """
    let found = try reading(body, .openAIChat)
    #expect(found.model == "gpt-x" && found.isStream && found.includesUsage && found.includeUsage == nil)
    #expect(found.completionLimit == 100 && found.completions == 3 && found.outputLimit == 300)
    #expect(found.mediaCount == 1 && found.mediaOctets == 26)
    let messages = #"[{"role":"user","content":"hé"},{"role":"user","content":[{"type":"image_url","image_url":{"url":""}},{"type":"text","text":"max_tokens"}]}]"#
    #expect(found.contentOctets == UInt64(messages.utf8.count))
    #expect(!found.isAmbiguous && !found.refersToStoredInput)
  }

  @Test(arguments: [
    (UsageFormat.openAIChat, #"{"max_tokens":5}"#, UInt64?(5)), (.openAIChat, #"{"max_tokens":5,"max_completion_tokens":9}"#, 9), (.openAIChat, "{}", nil),
    (.openAIChat, #"{"max_tokens":5,"n_predict":-1}"#, nil), (.openAIChat, #"{"max_tokens":"5"}"#, nil), (.openAIChat, #"{"max_tokens":null}"#, nil),
    (.openAIChat, #"{"max_tokens":5,"n":2,"best_of":4,"prompt":"x"}"#, 20), (.openAIChat, #"{"max_tokens":5,"prompt":["a","b"],"n":2}"#, 20),
    (.openAIChat, #"{"max_tokens":5,"prompt":[1,2,3]}"#, 5), (.openAIChat, #"{"max_tokens":5,"prompt":[[1],[2,3],[4]]}"#, 15), (.openAIChat, #"{"max_tokens":5,"n":0}"#, 5),
    (.openAIChat, #"{"max_tokens":18446744073709551615,"n":2}"#, .max), (.openAIChat, #"{"messages":[{"max_tokens":7}]}"#, nil),
    (.openAIResponses, #"{"max_output_tokens":6,"max_tokens":7}"#, 6), (.anthropic, #"{"max_tokens":8}"#, 8),
    (.gemini, #"{"generationConfig":{"maxOutputTokens":9,"candidateCount":2}}"#, 18), (.gemini, #"{"generation_config":{"max_output_tokens":9}}"#, 9),
    (.ollama, #"{"options":{"num_predict":10}}"#, 10), (.ollama, #"{"Options":{"num_predict":10}}"#, 10), (.ollama, #"{"options":{"num_predict":-1}}"#, nil),
    (.llamaCpp, #"{"n_predict":11}"#, 11), (.llamaCpp, #"{"max_tokens":12}"#, 12), (.llamaCpp, #"{"n_predict":11,"prompt":["a",{"prompt_string":"b"}],"n_cmpl":2}"#, 44),
    (.openAIEmbeddings, #"{"input":"x"}"#, nil), (.openAIChat, #"{"max_tokens":0,"stream":true}"#, nil), (.openAIChat, #"{"max_tokens":0,"n_predict":5}"#, nil),
    (.ollama, #"{"options":{"num_predict":0}}"#, nil), (.gemini, #"{"generationConfig":{"maxOutputTokens":0}}"#, nil),
  ])
  func theOutputLimitIsTheVendors(format: UsageFormat, body: String, limit: UInt64?) throws {
    #expect(try reading(body, format).outputLimit == limit, "\(body)")
  }

  @Test func readsTheOtherVendors() throws {
    let anthropic = try reading(
      #"{"model":"claude-x","max_tokens":64,"system":"be","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}},{"type":"tool_result","content":[{"type":"image","source":{"data":"QUI="}}]}]}],"stream":true}"#,
      .anthropic)
    #expect(anthropic.model == "claude-x" && anthropic.isStream && anthropic.mediaCount == 2 && anthropic.mediaOctets == 8)
    #expect(anthropic.includeUsage == nil)
    let gemini = try reading(
      #"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"QUJD"}},{"inline_data":{"data":"QQ=="}}]}],"cachedContent":"cachedContents/1"}"#, .gemini,
      path: "/v1beta/models/gemini-x:streamGenerateContent?alt=sse")
    #expect(gemini.model == "gemini-x" && gemini.isStream && gemini.mediaOctets == 8 && gemini.refersToStoredInput)
    #expect(try reading(#"{"contents":[]}"#, .gemini, path: "/v1/models/g:generateContent").isStream == false)
    let ollama = try reading(#"{"model":"llava","MESSAGES":[{"role":"user","content":"what","images":["QUJD"]}]}"#, .ollama, path: "/api/chat")
    #expect(ollama.isStream && ollama.mediaCount == 1 && ollama.contentOctets == UInt64(#"[{"role":"user","content":"what","images":[""]}]"#.utf8.count))
    #expect(try reading(#"{"model":"l","stream":false,"prompt":"x"}"#, .ollama, path: "/api/generate").isStream == false)
    #expect(try reading(#"{"model":"l","input":["a","b"]}"#, .ollama, path: "/api/embed").isStream == false)
    let responses = try reading(#"{"model":"o","previous_response_id":"resp_1","input":[{"content":[{"type":"input_image","image_url":"data:x"}]}],"instructions":"ab"}"#, .openAIResponses)
    #expect(responses.refersToStoredInput && responses.mediaOctets == 6)
    #expect(try reading(#"{"previous_response_id":null,"conversation":null}"#, .openAIResponses).refersToStoredInput == false)
  }

  @Test func whatComesTwiceIsAmbiguous() throws {
    for body in [#"{"model":"a","model":"b"}"#, #"{"stream":false,"str\u0065am":true}"#, #"{"max_tokens":1,"max_tokens":2}"#, #"{"stream":true,"stream_options":{},"stream_options":{}}"#] {
      let found = try reading(body, .openAIChat)
      #expect(found.isAmbiguous && found.includeUsage == nil, "\(body)")
    }
    #expect(try reading(#"{"model":"a","MODEL":"b"}"#, .ollama).isAmbiguous)
    #expect(try !reading(#"{"MODEL":"b","Options":{}}"#, .ollama).isAmbiguous)
    for body in [#"{"model":"a","MODEL":"b"}"#, #"{"Max_Tokens":5}"#, #"{"Stream":true}"#, #"{"str\u0045am":true}"#] {
      #expect(try reading(body, .openAIChat).isAmbiguous, "\(body)")
    }
    // Go's decoder takes the long s and the Kelvin sign for `s` and `k`.
    for body in ["{\"max_to\u{212A}ens\":9}", #"{"max_tokens":1,"max_token\u017F":9}"#, "{\"\u{17F}tream\":false}"] {
      #expect(try reading(body, .openAIChat).isAmbiguous, "\(body)")
    }
    #expect(try reading("{\"options\":{\"num_predict\":1},\"option\u{17F}\":{\"num_predict\":-1}}", .ollama).isAmbiguous)
    #expect(try !reading("{\"gru\u{DF}\":1,\"\u{17F}o\":2,\"o\u{17F}\":3}", .openAIChat).isAmbiguous)
    #expect(try reading(#"{"GenerationConfig":{"maxOutputTokens":5}}"#, .gemini).isAmbiguous)
    #expect(try !reading(#"{"messages":[{"Content":"x","ROLE":"y"}],"Modelling":1,"X":{"STREAM":true}}"#, .openAIChat).isAmbiguous)
    #expect(try !reading(#"{"messages":[{"model":1,"stream":2}],"model":"a","metadata":{"model":"b"}}"#, .openAIChat).isAmbiguous)
    #expect(try reading(#"{"n":"5"}"#, .openAIChat).isAmbiguous)
  }

  @Test func aModelsNameIsReadWholeOrNotAtAll() throws {
    #expect(try reading(#"{"model":"a\/b\u00e9"}"#, .openAIChat).model == "a/bé")
    #expect(try reading(#"{"model":""# + String(repeating: "m", count: 129) + #""}"#, .openAIChat).model == nil)
    #expect(try reading(#"{"model":7}"#, .openAIChat).model == nil)
  }

  @Test func aBodyThatIsNoObjectIsRefused() {
    let cases: [(String, UsageError)] = [
      ("", .unexpectedEnd), ("{", .unexpectedEnd), ("[]", .notAnObject), ("12", .notAnObject), (#""x""#, .notAnObject), ("{} {}", .unexpectedOctet(offset: 3)),
      (#"{"a":tru}"#, .unexpectedOctet(offset: 8)), (String(repeating: "[", count: 300), .tooDeep(offset: 256)), ("model=x", .unexpectedOctet(offset: 0)),
    ]
    for (body, expected) in cases {
      #expect(throws: expected) { _ = try reading(body, .openAIChat) }
    }
  }

  @Test(arguments: [
    (#"{"stream":true}"#, #"{"stream_options":{"include_usage":true},"stream":true}"#), (" {\n \"stream\" : true }", " {\"stream_options\":{\"include_usage\":true},\n \"stream\" : true }"),
    (#"{"stream":true,"stream_options":{}}"#, #"{"stream":true,"stream_options":{"include_usage":true}}"#),
    (#"{"stream_options": { } ,"stream":true}"#, #"{"stream_options": {"include_usage":true } ,"stream":true}"#),
    (#"{"stream_options":{"include_obfuscation":false},"stream":true}"#, #"{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}"#),
    (#"{"stream_options":{"include_usage":false},"stream":true}"#, #"{"stream_options":{"include_usage":true},"stream":true}"#),
    (#"{"stream_options":{"include_usage": null },"stream":true}"#, #"{"stream_options":{"include_usage": true },"stream":true}"#),
    (#"{"stream_options":null,"stream":true}"#, #"{"stream_options":{"include_usage":true},"stream":true}"#),
    (#"{"messages":[{"stream_options":{}}],"stream":true}"#, #"{"stream_options":{"include_usage":true},"messages":[{"stream_options":{}}],"stream":true}"#),
  ])
  func usageIsAskedForAtOnePlace(body: String, changed: String) throws {
    let change = try #require(try reading(body, .openAIChat).includeUsage)
    var output = ByteBuffer()
    Array(body.utf8).withUnsafeBytes { change.append($0, to: &output) }
    #expect(output.string() == changed)
    #expect(change.growth == changed.utf8.count - body.utf8.count)
    let again = try reading(changed, .openAIChat)
    #expect(again.includesUsage && again.includeUsage == nil && !again.isAmbiguous)
  }

  @Test(arguments: [#"{"stream":false}"#, "{}", #"{"stream":null}"#, #"{"stream":true,"stream_options":{"include_usage":true}}"#, #"{"stream":true,"stream_options":[]}"#, #"{"stream":true,"stream_options":"x"}"#, #"{"stream":true,"stream_options":{"include_usage":1}}"#, #"{"stream":true,"stream_options":{"include_usage":{}}}"#])
  func usageIsNotAskedForWhereItNeedNotOrCannot(body: String) throws {
    #expect(try reading(body, .openAIChat).includeUsage == nil)
  }
}
