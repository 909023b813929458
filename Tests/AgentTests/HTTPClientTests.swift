import Encoding
import Foundation
import HTTP
import Testing

@testable import Agent

@Suite struct HTTPClientTests {
  private func client(_ change: (inout HTTPLimits) -> Void = { _ in }) -> HTTPClient {
    var limits = HTTPLimits()
    limits.head = .seconds(5)
    limits.bodySilence = .seconds(5)
    change(&limits)
    return HTTPClient(limits: limits, allowsPlaintext: false)
  }

  private func get(_ server: ScriptedServer, _ method: String = "GET") throws -> AgentRequest {
    try AgentRequest(method: method, address: try WebAddress(server.url + "/a?b=c"))
  }

  /// Answers every request with the same octets, cut at a place that moves by one each time.
  private func everySplit(of response: [UInt8]) -> ScriptedServer {
    ScriptedServer { connection in
      var cut = 0
      while connection.request() != nil {
        connection.send(response[..<cut])
        usleep(300)
        connection.send(response[cut...])
        cut = cut == response.count ? 0 : cut + 1
      }
    }
  }

  @Test func readsCountedBodyCutAnywhere() throws {
    let response = Array("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-A: b\r\n\r\nhello world".utf8)
    let server = everySplit(of: response)
    let client = client()
    for _ in 0...response.count {
      let (head, body) = try client.send(try get(server))
      #expect(head.status == 200)
      #expect(head.reason == "OK")
      #expect(head.first("x-a") == "b")
      #expect(head.contentLength == 11)
      #expect(try body.collect(limit: 100) == Array("hello world".utf8))
    }
  }

  @Test func readsChunkedBodyCutAnywhere() throws {
    let response = Array(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n06\r\n world\r\n0\r\nPayment-Receipt: abc\r\nX-B: c d\r\n\r\n".utf8)
    let server = everySplit(of: response)
    let client = client()
    for _ in 0...response.count {
      let (_, body) = try client.send(try get(server))
      #expect(try body.collect(limit: 100) == Array("hello world".utf8))
      #expect(body.trailers.first?.name == "Payment-Receipt")
      #expect(body.trailers.first?.value == "abc")
      #expect(body.trailers.last?.value == "c d")
    }
  }

  @Test func keepsOneConnection() throws {
    let journal = Journal<Int>()
    let server = ScriptedServer { connection in
      while connection.request() != nil {
        journal.add(connection.index)
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
      }
    }
    let client = client()
    for _ in 0..<5 {
      let (_, body) = try client.send(try get(server))
      #expect(try body.collect(limit: 10) == Array("ok".utf8))
    }
    #expect(journal.all == [0, 0, 0, 0, 0])
  }

  @Test func leavesConnectionWhoseBodyIsUnreadOrClosing() throws {
    let journal = Journal<Int>()
    let server = ScriptedServer { connection in
      while connection.request() != nil {
        journal.add(connection.index)
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\(connection.index == 1 ? "Connection: close\r\n" : "")\r\nok")
      }
    }
    let client = client()
    let first = try client.send(try get(server))
    // The first body is still unread, so a second connection is made; the server closes it after its answer.
    let second = try client.send(try get(server))
    #expect(try second.1.collect(limit: 10).count == 2)
    let third = try client.send(try get(server))
    #expect(try third.1.collect(limit: 10).count == 2)
    #expect(try first.1.collect(limit: 10).count == 2)
    _ = try client.send(try get(server)).1.collect(limit: 10)
    #expect(Set(journal.all) == [0, 1, 2])
    #expect(journal.all.prefix(3) == [0, 1, 2])
  }

  @Test func readsBodyUntilClose() throws {
    let server = ScriptedServer { connection in
      _ = connection.request()
      connection.send("HTTP/1.0 200 OK\r\n\r\nall of it")
    }
    let (head, body) = try client().send(try get(server))
    #expect(head.contentLength == nil)
    #expect(try body.collect(limit: 100) == Array("all of it".utf8))
  }

  @Test func headAnswerHasNoBody() throws {
    let server = ScriptedServer { connection in
      while connection.request() != nil { connection.send("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n") }
    }
    let client = client()
    for _ in 0..<2 {
      let (_, body) = try client.send(try get(server, "HEAD"))
      #expect(body.isEnded)
    }
  }

  @Test(arguments: ["HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"])
  func tellsCutBody(response: String) throws {
    let server = ScriptedServer { connection in
      _ = connection.request()
      connection.send(response)
    }
    let (_, body) = try client().send(try get(server))
    #expect(throws: AgentError.cutShort(received: 5)) { try body.collect(limit: 100) }
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    "HTTP/1.1 200 OK\nX: y\n\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
  ])
  func refusesMalformedHead(response: String) throws {
    let server = ScriptedServer { connection in
      _ = connection.request()
      connection.send(response)
      usleep(100_000)
    }
    let request = try get(server)
    do {
      _ = try client().send(request)
      Issue.record("the head was accepted")
    } catch {
      guard case .malformedResponse = error else {
        Issue.record("\(error)")
        return
      }
    }
  }

  @Test func boundsHeads() throws {
    let server = ScriptedServer { connection in
      _ = connection.request()
      connection.send("HTTP/1.1 200 OK\r\nX: ")
      while connection.send([UInt8](repeating: 0x61, count: 4096)) {}
    }
    let request = try get(server)
    #expect(throws: AgentError.self) { try client().send(request) }
    let hints = ScriptedServer { connection in
      _ = connection.request()
      while connection.send("HTTP/1.1 103 Early Hints\r\n\r\n") {}
    }
    let other = try get(hints)
    #expect(throws: AgentError.responseTooLarge) { try client().send(other) }
  }

  @Test func tellsLostConnection() throws {
    let server = ScriptedServer { connection in _ = connection.request() }
    let request = try get(server)
    #expect(throws: AgentError.connectionLost(.awaitingHead, code: 0)) { try client().send(request) }
  }

  @Test func tellsSilence() throws {
    let server = ScriptedServer { connection in
      _ = connection.request()
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort")
      _ = connection.receive()
    }
    let (_, body) = try client { $0.bodySilence = .milliseconds(200) }.send(try get(server))
    #expect(try body.next() == .octets(Array("short".utf8)))
    #expect(try body.next(until: Instant.now() + .milliseconds(20)) == .silent)
    #expect(throws: AgentError.timeout(.receivingBody)) { try body.next() }
  }

  @Test func endsAtTimeForEverything() throws {
    let server = ScriptedServer { connection in
      _ = connection.request()
      _ = connection.receive()
    }
    let request = try get(server)
    let client = client { $0.whole = .milliseconds(100) }
    client.restartClock(at: .now())
    #expect(throws: AgentError.timeout(.whole)) { try client.send(request) }
    #expect(throws: AgentError.timeout(.whole)) { try client.send(request) }
  }

  @Test func stopsSendingWhenAnswered() throws {
    let server = ScriptedServer { connection in
      _ = connection.request(awaitingBody: false)
      connection.send("HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\n\r\n")
      // The rest is left unread, as a server does that needs none of it.
      usleep(300_000)
    }
    let request = try AgentRequest(
      method: "POST", address: try WebAddress(server.url), content: .octets([UInt8](repeating: 7, count: 900_000)))
    let client = client()
    let (head, _) = try client.send(request)
    #expect(head.status == 402)
  }

  @Test func waitsForContinue() throws {
    let journal = Journal<String>()
    let server = ScriptedServer { connection in
      guard let request = connection.request(awaitingBody: false) else { return }
      journal.add(request.first("expect") ?? "none")
      connection.send("HTTP/1.1 100 Continue\r\n\r\n")
      var count = 0
      while count < 2_000_000, let octets = connection.receive() { count += octets.count }
      journal.add(String(count))
      connection.send("HTTP/1.1 204 No Content\r\n\r\n")
    }
    let path = NSTemporaryDirectory() + "agent-upload-\(UUID().uuidString)"
    try Data(repeating: 9, count: 2_000_000).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    let request = try AgentRequest(method: "PUT", address: try WebAddress(server.url), content: .file(path: path))
    let (head, _) = try client().send(request)
    #expect(head.status == 204)
    #expect(journal.all == ["100-continue", "2000000"])
  }

  @Test func sendsHeadAsDescribed() throws {
    let journal = Journal<String>()
    let server = ScriptedServer { connection in
      while let request = connection.request() {
        journal.add(request.head)
        journal.add(String(decoding: request.body, as: UTF8.self))
        connection.send("HTTP/1.1 204 No Content\r\n\r\n")
      }
    }
    let request = try AgentRequest(
      method: "POST", address: try WebAddress(server.url + "/p%7eq?x=1#frag"),
      fields: [.init(name: "X-Y", value: "z")], content: .octets(Array("data".utf8)))
    _ = try client().send(request, extra: [.init(name: "Authorization", value: "Payment abc")])
    #expect(
      journal.all == [
        "POST /p~q?x=1 HTTP/1.1\r\nHost: 127.0.0.1:\(server.port)\r\nContent-Length: 4\r\nUser-Agent: farebox\r\nAccept: */*\r\nX-Y: z\r\nAuthorization: Payment abc",
        "data",
      ])
  }

  @Test func refusesWhatItMustNotAsk() throws {
    let far = try AgentRequest(address: try WebAddress("http://192.0.2.1/"))
    #expect(throws: AgentError.plaintextRefused(host: "192.0.2.1")) { try client().send(far) }
    let closed = try AgentRequest(address: try WebAddress("http://127.0.0.1:1/"))
    #expect(throws: AgentError.self) { try client().send(closed) }
    for name in ["Host", "content-length", "Transfer-Encoding", "bad name", "", "TE", "Prepaid-Session"] {
      #expect(throws: AgentError.requestField(name: name)) {
        try AgentRequest(address: far.address, fields: [.init(name: name, value: "x")])
      }
    }
    #expect(throws: AgentError.requestField(name: "X")) {
      try AgentRequest(address: far.address, fields: [.init(name: "X", value: "a\r\nY: b")])
    }
  }
}
