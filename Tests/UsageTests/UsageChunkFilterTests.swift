import Bytes
import Testing
import Usage

private func filtered(_ pieces: [ArraySlice<UInt8>]) -> (text: String, removed: UInt64) {
  var filter = UsageChunkFilter()
  var output = ByteBuffer()
  for piece in pieces { piece.withUnsafeBytes { filter.filter($0, into: &output) } }
  filter.finish(into: &output)
  return (output.string(), filter.removedChunks)
}

private func filteredEverySplit(_ text: String, removed: UInt64) -> Set<String> {
  let octets = Array(text.utf8)
  var found: Set<String> = []
  for cut in 0...octets.count {
    let result = filtered(pieces(octets, at: [cut]))
    #expect(result.removed == removed)
    found.insert(result.text)
  }
  found.insert(filtered(octets.indices.map { octets[$0...$0] }).text)
  return found
}

@Suite struct UsageChunkFilterTests {
  @Test(arguments: ["\n", "\r\n", "\r"])
  func takesOutExactlyTheChunkAtEverySplit(ending: String) {
    func event(_ data: String) -> String { "data: \(data)\(ending)\(ending)" }
    let first = event(Sample.chunk(#"{"content":"\"choices\":[],\"usage\":{}"}"#))
    let last = event(Sample.chunk("{}", finish: #""stop""#))
    let chunk = event(Sample.usageChunk)
    let done = event("[DONE]")
    let comment = ": keep-alive\(ending)\(ending)"
    #expect(filteredEverySplit(first + last + chunk + done, removed: 1) == [first + last + done])
    #expect(filteredEverySplit(first + comment + chunk + comment + done, removed: 1) == [first + comment + comment + done])
    #expect(filteredEverySplit(": x\(ending)" + last + ": y\(ending)" + chunk + done, removed: 1) == [": x\(ending)" + last + ": y\(ending)" + done])
    #expect(filteredEverySplit("event: m\(ending): z\(ending)" + chunk + done, removed: 1) == [done])
    #expect(filteredEverySplit(chunk, removed: 1) == [""])
  }

  @Test func mixedLineEndingsStay() {
    let text = "data: 1\r\n\ndata: \(Sample.usageChunk)\n\r\ndata: 2\r\rdata: \(Sample.usageChunk)\r\ndata: 3\n\n\n\r\n\r"
    let chunkOfTwoLines = "data: \(Sample.usageChunk)\r\ndata: 3\n\n"
    #expect(filteredEverySplit(text, removed: 1) == ["data: 1\r\n\ndata: 2\r\r" + chunkOfTwoLines + "\n\r\n\r"])
  }

  @Test(arguments: [
    #"{"choices":[],"usage":null}"#, #"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#, #"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#,
    #"{"usage":{"prompt_tokens":1},"choices":[{"delta":{}}]}"#, #"{"usage":{"prompt_tokens":1}}"#, #"{"choices":[null],"usage":{}}"#, #"{"choices":{},"usage":{}"#, "[DONE]", "",
    #"{"a":{"choices":[],"usage":{}}}"#, #"[{"choices":[],"usage":{}}]"#, #"{"choices":[],"usage":{}} x"#, #"{"choices":[],"usage":{"#, #"{"choices":"","usage":{}}"#,
  ])
  func everythingElsePasses(data: String) {
    let text = "id: 1\ndata: \(data)\n\ndata: next\n\n"
    #expect(filteredEverySplit(text, removed: 0) == [text])
  }

  @Test func anUnfinishedChunkIsTakenOutOnlyWhole() {
    #expect(filteredEverySplit("data: \(Sample.usageChunk)", removed: 1) == [""])
    #expect(filteredEverySplit("data: \(Sample.usageChunk)\n", removed: 1) == [""])
    let cut = "data: \(Sample.usageChunk.dropLast())"
    #expect(filteredEverySplit(cut, removed: 0) == [cut])
  }

  @Test func contentPassesAtOnceAndHoldingIsBounded() {
    var filter = UsageChunkFilter()
    var output = ByteBuffer()
    let start = #"data: {"id":"1","choices":[{"#
    Array(start.utf8).withUnsafeBytes { filter.filter($0, into: &output) }
    #expect(output.string() == start && filter.heldCount == 0)
    var other = UsageChunkFilter()
    var passed = ByteBuffer()
    let head = Array(#"data: {"x":""#.utf8)
    head.withUnsafeBytes { other.filter($0, into: &passed) }
    #expect(passed.isEmpty && other.heldCount == head.count)
    let filler = [UInt8](repeating: 0x61, count: 1000)
    for _ in 0..<200 {
      filler.withUnsafeBytes { other.filter($0, into: &passed) }
      #expect(other.heldCount <= UsageChunkFilter.heldLimit)
    }
    #expect(passed.count == head.count + 200_000)
  }

  @Test func commentsPassAtOnce() {
    var filter = UsageChunkFilter()
    var output = ByteBuffer()
    for text in ["data: 1\n\n", ": ping\n", ": pong\r\n", ": a", "b\n"] {
      Array(text.utf8).withUnsafeBytes { filter.filter($0, into: &output) }
    }
    #expect(output.string() == "data: 1\n\n: ping\n: pong\r\n: ab\n")
  }

  @Test func randomStreamsLoseNothingElse() {
    var generator = SeededGenerator(seed: 21)
    let endings = ["\n", "\r\n", "\r"]
    let events = [Sample.chunk(#"{"content":"x"}"#), "[DONE]", "text", #"{"choices":[],"usage":null}"#]
    for _ in 0..<1500 {
      let ending = endings.randomElement(using: &generator)!
      var input = ""
      var expected = ""
      var removed: UInt64 = 0
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        let kind = Int.random(in: 0..<4, using: &generator)
        if kind == 0 {
          input += "data: \(Sample.usageChunk)\(ending)\(ending)"
          removed += 1
        } else {
          let text = kind == 1 ? ": c\(ending)" : "data: \(events.randomElement(using: &generator)!)\(ending)\(ending)"
          input += text
          expected += text
        }
      }
      let result = filtered(pieces(Array(input.utf8), upTo: 40, &generator))
      #expect(result.text == expected && result.removed == removed)
    }
  }
}
