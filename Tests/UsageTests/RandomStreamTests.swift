import Bytes
import Encoding
import Testing
import Usage

/// Makes streams of random content and usage, of which it is known what a reader has to find.
private struct Model {
  var generator: SeededGenerator
  private static let words = [
    "a", " token", "é", "中文", "😀", "\"", "\\", "\n", "\r\n", "\u{1}", "/", "data: [DONE]\n\n", #""usage":{"prompt_tokens":5,"completion_tokens":5}"#, "}", "{", "]", "event: error", "null",
    "\u{2028}", "\\u0041",
  ]

  mutating func content() -> String {
    (0..<Int.random(in: 0...6, using: &generator)).map { _ in Self.words.randomElement(using: &generator)! }.joined()
  }

  /// A JSON string of a text, its characters escaped in one of the ways that writers of JSON have.
  mutating func quoted(_ text: String) -> String {
    var result = "\""
    let escapesAll = Bool.random(using: &generator)
    for unit in text.unicodeScalars {
      switch unit {
      case "\"", "\\": result += "\\" + String(unit)
      case "\n": result += "\\n"
      case "/" where escapesAll: result += "\\/"
      case _ where unit.value < 0x20 || escapesAll && unit.value > 0x7E:
        for code in String(unit).utf16 {
          let digits = String(code, radix: 16, uppercase: Bool.random(using: &generator))
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
      default: result += String(unit)
      }
    }
    return result + "\""
  }

  mutating func event(_ data: String) -> String {
    let ending = ["\n", "\r\n", "\r"].randomElement(using: &generator)!
    let comment = Int.random(in: 0..<5, using: &generator) == 0 ? ": keep-alive\(ending)\(ending)" : ""
    return comment + (Bool.random(using: &generator) ? "data: " : "data:") + data + ending + ending
  }

  /// A chat stream; with the usage chunk where `reports`.
  mutating func chat(reports: Bool) -> (text: String, octets: Int, usage: TokenUsage?) {
    var text = ""
    var octets = 0
    for _ in 0..<Int.random(in: 0...8, using: &generator) {
      let content = content()
      octets += content.utf8.count
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: text += event(Sample.chunk(#"{"content":"# + quoted(content) + "}"))
      case 1: text += event(Sample.chunk(#"{"reasoning_content":"# + quoted(content) + #","content":null}"#))
      default: text += event(Sample.chunk(#"{"tool_calls":[{"index":0,"function":{"arguments":"# + quoted(content) + "}}]}"))
      }
    }
    var usage: TokenUsage?
    if reports {
      let prompt = UInt64.random(in: 0...100_000, using: &generator)
      let cached = UInt64.random(in: 0...prompt, using: &generator)
      let output = UInt64.random(in: 0...100_000, using: &generator)
      usage = TokenUsage(input: prompt - cached, cachedInput: cached, output: output)
      text += event(
        #"{"choices":[ ],"usage":{"completion_tokens":\#(output),"total_tokens":\#(prompt + output),"prompt_tokens_details":{"cached_tokens":\#(cached)},"prompt_tokens":\#(prompt)}}"#)
    }
    return (text + event("[DONE]"), octets, usage)
  }

  /// A request whose members come in any order.
  mutating func request() -> JSONObject {
    var members: [(String, JSONValue)] = [("stream", true), ("model", .string(content()))]
    if Bool.random(using: &generator) {
      members.append(("messages", [["role": "user", "content": .string(content()), "stream_options": ["include_usage": true]]]))
    }
    switch Int.random(in: 0..<6, using: &generator) {
    case 0: members.append(("stream_options", [:]))
    case 1: members.append(("stream_options", ["include_obfuscation": false, "x": [1, 2]]))
    case 2: members.append(("stream_options", ["include_usage": false]))
    case 3: members.append(("stream_options", nil))
    case 4: members.append(("stream_options", ["a": ["include_usage": false], "include_usage": nil, "b": "c"]))
    default: break
    }
    return JSONObject(members.shuffled(using: &generator))
  }
}

@Suite struct RandomStreamTests {
  @Test func everyStreamComesToItsContentAndUsage() {
    var model = Model(generator: SeededGenerator(seed: 40))
    for round in 0..<1200 {
      let stream = model.chat(reports: round % 3 != 0)
      let octets = Array(stream.text.utf8)
      let reader = read(pieces(octets, upTo: round % 5 == 0 ? 1 : 200, &model.generator), .openAIChat, .events)
      #expect(reader.contentOctets == UInt64(stream.octets), "round \(round)")
      #expect(reader.usage == stream.usage && reader.hasFinalUsage == (stream.usage != nil), "round \(round)")
      #expect(reader.outcome == .done && reader.malformedRecords == 0, "round \(round)")
    }
  }

  @Test func theFilterMakesAStreamWithTheChunkLikeOneWithout() {
    for seed in 0..<400 as Range<UInt64> {
      var one = Model(generator: SeededGenerator(seed: seed))
      let stream = one.chat(reports: true)
      var filter = UsageChunkFilter()
      var output = ByteBuffer()
      for piece in pieces(Array(stream.text.utf8), upTo: 64, &one.generator) { piece.withUnsafeBytes { filter.filter($0, into: &output) } }
      filter.finish(into: &output)
      #expect(filter.removedChunks == 1)
      let reader = read([output.array()[...]], .openAIChat, .events)
      #expect(reader.usage == nil && reader.outcome == .done && reader.contentOctets == UInt64(stream.octets))
      // What is left is the stream but for one run of octets.
      let whole = Array(stream.text.utf8)
      let left = output.array()
      let same = zip(whole, left).prefix { $0 == $1 }.count
      #expect(left[same...].elementsEqual(whole[(whole.count - (left.count - same))...]))
    }
  }

  @Test func theChangedRequestDiffersInNothingElse() throws {
    var model = Model(generator: SeededGenerator(seed: 77))
    for _ in 0..<600 {
      let request = model.request()
      let body = JSON.serialize(.object(request), pretty: Bool.random(using: &model.generator))
      let change = try #require(try RequestReading(body.span.bytes, format: .openAIChat).includeUsage)
      var output = ByteBuffer()
      body.withUnsafeBytes { change.append($0, to: &output) }
      var options = request["stream_options"]?.objectValue ?? JSONObject()
      options.set("include_usage", true)
      var expected = request
      expected.set("stream_options", .object(options))
      #expect(try JSON.parse(output.array()) == .object(expected))
    }
  }
}
