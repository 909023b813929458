import Testing

@testable import HTTP

@Suite struct EventStreamTypeTests {
  private func mayBe(_ lines: String) throws -> Bool {
    let octets = Array("HTTP/1.1 200 OK\r\n\(lines)Content-Length: 0\r\n\r\n".utf8)
    let head = try #require(decodeResponse(octets).head)
    return octets.withUnsafeBytes { head.mayBeEventStream($0) }
  }

  @Test(arguments: [
    "text/event-stream", "Text/EVENT-Stream", "text/event-stream;charset=utf-8", "text/event-stream ; charset=utf-8",
    "text/event-stream\t;charset=utf-8", "text/event-stream\t", "\ttext/event-stream", "text/event-stream,text/plain",
    "text/plain,text/event-stream", "text/plain;a=b ,\t text/event-stream; b", ",text/event-stream", "text/event-stream=",
  ])
  func knowsEverySpelling(value: String) throws {
    #expect(try mayBe("Content-Type: \(value)\r\n"))
    #expect(try mayBe("Content-Type: text/html\r\ncontent-type: \(value)\r\n"))
  }

  @Test(arguments: ["text/plain", "text/event-streams", "text/event-strea", "xtext/event-stream", "application/json; p=text/event-stream", ""])
  func takesNoOtherTypeForOne(value: String) throws {
    #expect(try !mayBe("Content-Type: \(value)\r\n"))
  }

  @Test func noTypeIsNone() throws {
    #expect(try !mayBe(""))
  }
}
