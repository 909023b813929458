import Foundation
import Testing

@testable import Agent

@Suite struct StreamWishTests {
  private func request(accept: String? = nil, _ content: RequestContent = .none) throws -> AgentRequest {
    let fields = accept.map { [AgentRequest.Field(name: "Accept", value: $0)] } ?? []
    return try AgentRequest(method: "POST", address: try WebAddress("http://127.0.0.1/"), fields: fields, content: content)
  }

  @Test(arguments: [
    ("text/event-stream", true), ("Text/Event-Stream; q=1", true), ("application/json, text/event-stream", true), ("*/*", false),
    ("application/json", false), ("text/plain", false),
  ])
  func byAccept(accept: String, expected: Bool) throws {
    #expect(try request(accept: accept).asksForStream == expected)
  }

  @Test(arguments: [
    ("{\"stream\":true}", true), (" \n{\"model\":\"x\",\"stream\": true}", true), ("{\"stream\":false}", false), ("{\"stream\":\"true\"}", false),
    ("{\"a\":{\"stream\":true}}", false), ("[{\"stream\":true}]", false), ("{\"stream\":true", false), ("stream=true", false), ("", false),
    ("{\"stream\":1}", false),
  ])
  func byContent(content: String, expected: Bool) throws {
    #expect(try request(.octets(Array(content.utf8))).asksForStream == expected)
    let path = NSTemporaryDirectory() + "wish-\(UUID().uuidString)"
    try content.write(toFile: path, atomically: true, encoding: .utf8)
    #expect(try request(.file(path: path)).asksForStream == expected)
  }

  @Test func largeContentIsNotRead() throws {
    let padding = String(repeating: " ", count: AgentRequest.wishByteLimit)
    #expect(try !request(.octets(Array("{\"stream\":true\(padding)}".utf8))).asksForStream)
  }
}
