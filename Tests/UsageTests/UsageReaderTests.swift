import Testing
import Usage

@Suite struct UsageReaderTests {
  @Test func everyFormatComesToItsUsageAtEverySplit() {
    for sample in Sample.all {
      #expect(readEverySplit(sample.text, sample.format, sample.framing) == [sample.expected.description], "\(sample.name)")
    }
  }

  @Test(arguments: ["\n", "\r\n", "\r"])
  func everyLineEndingIsTheSame(ending: String) {
    for sample in Sample.all where sample.framing == .events {
      let text = sample.text.split(separator: "\r\n", omittingEmptySubsequences: false).joined(separator: "\n")
        .split(separator: "\n", omittingEmptySubsequences: false).joined(separator: ending)
      #expect(readEverySplit(text, sample.format, .events) == [sample.expected.description], "\(sample.name)")
    }
  }

  @Test func randomCutsComeToTheSame() {
    var generator = SeededGenerator(seed: 11)
    for round in 0..<40 {
      for sample in Sample.all {
        let octets = Array(sample.text.utf8)
        let reader = read(pieces(octets, upTo: 1 + round * 3, &generator), sample.format, sample.framing)
        #expect(Knowledge(reader) == sample.expected, "\(sample.name), round \(round)")
      }
    }
  }

  @Test func eventsOfOddShapesAreRead() {
    let usage = #"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#
    let expected = Knowledge(TokenUsage(input: 1, output: 2), octets: 0)
    let cut = usage.firstIndex(of: ",")!
    let after = usage.index(after: cut)
    let shapes = [
      "\u{FEFF}data:\(usage)\n\ndata:[DONE]\n\n",
      ": note\nid: 7\nevent: message\ndata: \(usage)\nretry: 10\n\n\n\ndata: [DONE]\n\n",
      "data: \(usage[..<after])\ndata:  \(usage[after...])\n\ndata: [DONE]\n\n",
      "data\ndata: \(usage)\n\ndata: [DONE]",
      "datas: {\ndat: {\ndata: \(usage)\n\ndata: [DONE]\n\n",
    ]
    for shape in shapes {
      #expect(readEverySplit(shape, .openAIChat, .events) == [expected.description], "\(shape)")
    }
  }

  @Test func contentIsCountedBeforeItsRecordIsWhole() {
    var reader = UsageReader(format: .openAIChat, framing: .events)
    Array(#"data: {"choices":[{"delta":{"content":"0123"#.utf8).withUnsafeBytes { reader.read($0) }
    #expect(reader.contentOctets == 4)
    Array("45".utf8).withUnsafeBytes { reader.read($0) }
    #expect(reader.contentOctets == 6)
    #expect(reader.usage == nil)
  }

  @Test func runningUsageIsKnownOnTheWay() {
    var reader = UsageReader(format: .anthropic, framing: .events)
    let events = Sample.anthropic.text.split(separator: "\n\n").map { Array("\($0)\n\n".utf8) }
    events[0].withUnsafeBytes { reader.read($0) }
    #expect(reader.usage == TokenUsage(input: 35, cachedInput: 200, output: 1, cacheWrite: 10))
    #expect(!reader.hasFinalUsage && reader.isInputReported)
    for event in events[1..<11] { event.withUnsafeBytes { reader.read($0) } }
    #expect(reader.usage?.output == 89)
    #expect(reader.hasFinalUsage)
    #expect(reader.outcome == .running)
    events[11].withUnsafeBytes { reader.read($0) }
    #expect(reader.outcome == .done)
  }

  @Test func anthropicsCountsNeverFall() {
    let start = #"{"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":0}}}"#
    let end = #"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":12,"output_tokens":5}}"#
    let late = #"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"output_tokens":5}}"#
    let expected = Knowledge(TokenUsage(input: 12, output: 5), .running, octets: 0)
    #expect(read(Sample.events([start, end]), .anthropic, .events) == expected)
    #expect(read(Sample.events([end, late]), .anthropic, .events) == expected)
  }

  @Test func usageThatIsFollowedByContentIsNotFinal() {
    let usage = #"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#
    let early = Sample.chunk("{}", finish: #""stop""#, usage: usage)
    #expect(read(Sample.events([early]), .openAIChat, .events).isFinal)
    let more = Sample.chunk(#"{"content":"more"}"#)
    #expect(!read(Sample.events([early, more]), .openAIChat, .events).isFinal)
    #expect(!read(Sample.events([early, more, "[DONE]"]), .openAIChat, .events).isFinal)
  }

  @Test func usageElsewhereIsNotUsage() {
    let usage = #"{"prompt_tokens":900,"completion_tokens":900,"total_tokens":1800}"#
    let escaped = #"{\"prompt_tokens\":900,\"completion_tokens\":900}"#
    let places = [
      #"{"choices":[{"delta":{"content":""# + escaped + #""}}]}"#,
      #"{"choices":[{"delta":{"content":"","usage":"# + usage + #"}}]}"#,
      #"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{"usage":"# + usage + #"}}}]}}]}"#,
      #"{"choices":[{"message":{"content":[{"type":"text","usage":"# + usage + #"}]}}]}"#,
      #"{"other":{"usage":"# + usage + #"},"choices":[{"usage":null}]}"#,
      #"{"usage":"# + "[" + usage + "]}", #"{"usage":"900"}"#, #"{"usage":{"prompt_tokens":"900"}}"#, #"{"usage":{"prompt_tokens":[900]}}"#,
      #"{"Usage":"# + usage + "}", #"{"usage.prompt_tokens":900}"#, #"{"usage\u0000":"# + usage + "}", #"{"usage":"# + usage,
    ]
    for place in places {
      #expect(read("data: \(place)\n\n", .openAIChat, .events).usage == nil, "\(place)")
    }
    #expect(read("data: {\"us\\u0061ge\":\(usage)}\n\n", .openAIChat, .events).usage == TokenUsage(input: 900, output: 900))
  }

  @Test func countsThatCannotBeBelievedAreNone() {
    for count in ["-5", "1.5", "1e400", "18446744073709551616", "1099511627777", "99999999999999999999999999"] {
      let text = #"{"choices":[],"usage":{"prompt_tokens":"# + count + "}}"
      let found = read(text, .openAIChat, .document)
      #expect(found.usage == nil && found.malformed == 1, "\(count)")
    }
    let last = read(#"{"usage":{"prompt_tokens":1,"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#, .openAIChat, .document)
    #expect(last.usage == TokenUsage(input: 7, output: 2))
    let cached = read(#"{"usage":{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9},"completion_tokens":2}}"#, .openAIChat, .document)
    #expect(cached.usage == TokenUsage(input: 0, cachedInput: 5, output: 2))
  }

  @Test func whatIsNotJSONIsPassedOver() {
    let good = #"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#
    for bad in ["{", "nonsense", "{\"a\":}", "[1,2", "\"open", "{\"a\":1}}", "[DONE", "[]x"] {
      let found = readEverySplit("data: \(bad)\n\ndata: \(good)\n\ndata: [DONE]\n\n", .openAIChat, .events)
      #expect(found == [Knowledge(TokenUsage(input: 1, output: 2), octets: 0, malformed: 1).description], "\(bad)")
    }
    let line = #"{"done":true,"eval_count":2,"prompt_eval_count":1}"#
    #expect(read("{\"a\":\n\(line)\n", .ollama, .lines) == Knowledge(TokenUsage(input: 1, output: 2), octets: 0, malformed: 1))
    #expect(read("event: error\ndata: oops\n\n", .openAIChat, .events).outcome == .failed)
    #expect(read("event: errors\ndata: {}\n\n", .openAIChat, .events).outcome == .running)
  }

  @Test func deepAndLargeRecordsAreBounded() {
    let deep = String(repeating: "[", count: 100_000)
    #expect(read(deep, .gemini, .document).malformed == 1)
    let arguments = String(repeating: #"{"usageMetadata":"#, count: 200) + "1" + String(repeating: "}", count: 200)
    let nested = #"{"candidates":[{"content":{"parts":[{"functionCall":{"args":"# + arguments + #"}}]}}],"usageMetadata":{"promptTokenCount":3}}"#
    #expect(read(nested, .gemini, .document).usage == TokenUsage(input: 3))
    let large = String(repeating: "0123456789abcdef", count: 640 << 10)
    let body = #"{"choices":[{"delta":{"content":""# + large + #""}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#
    let octets = Array("data: \(body)\n\n".utf8)
    var reader = UsageReader(format: .openAIChat, framing: .events)
    for start in stride(from: 0, to: octets.count, by: 60_000) {
      octets[start..<min(octets.count, start + 60_000)].withUnsafeBytes { reader.read($0) }
    }
    #expect(reader.contentOctets == UInt64(large.utf8.count))
    #expect(reader.usage == TokenUsage(input: 1, output: 2))
  }

  @Test func hostileStreamsDoNotTrap() {
    var generator = SeededGenerator(seed: 5)
    let special: [[UInt8]] = [
      [0x22], [0x5C], [0x7B], [0x5D], [0x0A], [0x0D], [0x0A, 0x0A], [0xFF], [0], Array("\\ud83d".utf8), Array("1e99999999999999999".utf8), Array("data: ".utf8),
      Array("[DONE]".utf8), Array(#""usage":{"prompt_tokens":18446744073709551615}"#.utf8), Array(#""total_tokens":1099511627776,"#.utf8),
    ]
    for _ in 0..<150 {
      for sample in Sample.all {
        var octets = Array(sample.text.utf8)
        for _ in 0..<Int.random(in: 1...5, using: &generator) {
          let place = Int.random(in: 0..<octets.count, using: &generator)
          switch Int.random(in: 0..<3, using: &generator) {
          case 0: octets[place] = UInt8.random(in: 0...255, using: &generator)
          case 1: octets.insert(contentsOf: special.randomElement(using: &generator)!, at: place)
          default: octets.removeSubrange(place..<min(octets.count, place + Int.random(in: 1...20, using: &generator)))
          }
          if octets.isEmpty { octets = [0x20] }
        }
        let whole = Knowledge(read([octets[...]], sample.format, sample.framing))
        let cut = Knowledge(read(pieces(octets, upTo: 9, &generator), sample.format, sample.framing))
        #expect(whole == cut, "\(sample.name): \(String(decoding: octets, as: UTF8.self))")
        #expect(whole.octets <= UInt64(octets.count))
      }
    }
  }
}
