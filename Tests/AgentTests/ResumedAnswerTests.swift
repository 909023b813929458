import Testing

@testable import Agent

/// Answers whose connection is lost in the middle, from servers that do as they like with what is asked next.
@Suite struct ResumedAnswerTests {
  /// What a server answers to one request; the connection ends behind it.
  private static func serve(_ answers: [String], _ journal: Journal<String>) -> ScriptedServer {
    ScriptedServer { connection in
      guard let request = connection.request(), connection.index < answers.count else { return }
      journal.add(request.head)
      connection.send(answers[connection.index])
    }
  }

  private func fetch(
    _ answers: [String], method: String = "GET", fields: [AgentRequest.Field] = [], content: RequestContent = .none,
    continues: Bool = true
  ) throws -> (body: String, error: AgentError?, asked: [String]) {
    let journal = Journal<String>()
    let server = Self.serve(answers, journal)
    var options = AgentOptions()
    options.continuesLostAnswers = continues
    let agent = Agent(options: options, keeper: nil, walletKey: nil)
    let request = try AgentRequest(method: method, address: try WebAddress(server.url + "/x"), fields: fields, content: content)
    var body: [UInt8] = []
    do {
      let answer = try agent.fetch(request)
      while let octets = try answer.next() { body += octets }
    } catch {
      return (String(decoding: body, as: UTF8.self), error, journal.all)
    }
    return (String(decoding: body, as: UTF8.self), nil, journal.all)
  }

  private static let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\nretry: 1\n\n"
  private static let part = "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234"

  @Test func eventsGoOnBehindTheLastID() throws {
    let (body, error, asked) = try fetch([
      Self.events + "id: 1\ndata: a\n\nid: 2\ndata: cut", Self.events + "id: 2\ndata: b\n\n", "HTTP/1.1 204 No Content\r\n\r\n",
    ])
    #expect(error == nil)
    #expect(body == "retry: 1\n\nid: 1\ndata: a\n\nretry: 1\n\nid: 2\ndata: b\n\n")
    #expect(asked.count == 3)
    #expect(!asked[0].contains("Last-Event-ID"))
    #expect(asked[1].contains("\r\nLast-Event-ID: 1"))
    #expect(asked[2].contains("\r\nLast-Event-ID: 2"))
  }

  @Test func eventsWithoutIDAreNotAskedForAgain() throws {
    let (body, error, asked) = try fetch([Self.events + "data: a\n\ndata: cut"])
    #expect(body == "retry: 1\n\ndata: a\n\n")
    #expect(error == .cutShort(received: 28))
    #expect(asked.count == 1)
  }

  @Test func anotherKindOfAnswerIsNotTheRest() throws {
    let (_, error, asked) = try fetch([
      Self.events + "id: 1\ndata: a\n\n", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
    ])
    #expect(error == .cutShort(received: 25))
    #expect(asked.count == 2)
  }

  @Test func aDownloadGoesOnByRange() throws {
    let (body, error, asked) = try fetch([
      Self.part, "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789",
    ])
    #expect(error == nil)
    #expect(body == "0123456789")
    #expect(asked[1].contains("\r\nRange: bytes=5-"))
    #expect(asked[1].contains("\r\nIf-Range: \"a\""))
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nETag: \"b\"\r\nContent-Length: 10\r\n\r\nabcdefghij",
    "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789",
    "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 5-10/11\r\nContent-Length: 6\r\n\r\n56789a",
    "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n56789",
    // Of another version, or perhaps: a server that knows no If-Range.
    "HTTP/1.1 206 Partial Content\r\nETag: \"b\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nfghij",
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nfghij", "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n",
  ])
  func whatDoesNotFollowIsNotHandedOut(answer: String) throws {
    let (body, error, asked) = try fetch([Self.part, answer])
    #expect(error == .cutShort(received: 5))
    #expect(body == "01234")
    #expect(asked.count == 2)
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nETag: W/\"a\"\r\nContent-Length: 10\r\n\r\n01234",
    "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234",
    "HTTP/1.1 200 OK\r\nAccept-Ranges: none\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234",
    "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 10\r\n\r\n01234",
  ])
  func whatIsNotOfferedIsNotAskedFor(answer: String) throws {
    let (_, error, asked) = try fetch([answer])
    #expect(error == .cutShort(received: 5))
    #expect(asked.count == 1)
  }

  @Test func nothingIsAskedForWhereTheCallerForbids() throws {
    #expect(try fetch([Self.part], continues: false).asked.count == 1)
    #expect(try fetch([Self.part], fields: [.init(name: "Range", value: "bytes=0-9")]).asked.count == 1)
  }

  private static let key = AgentRequest.Field(name: "Idempotency-Key", value: "\"k\"")
  private static let kept = "HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n"

  @Test func aPostIsSentAgainOnlyWithAKey() throws {
    let content = RequestContent.octets(Array("order".utf8))
    let without = try fetch([Self.kept + "01234", Self.kept + "0123456789"], method: "POST", content: content)
    #expect(without.error == .cutShort(received: 5))
    #expect(without.asked.count == 1)
    let with = try fetch([Self.kept + "01234", Self.kept + "0123456789"], method: "POST", fields: [Self.key], content: content)
    #expect(with.error == nil)
    #expect(with.body == "0123456789")
    #expect(with.asked.count == 2)
    let other = try fetch([Self.kept + "01234", Self.kept + "abcdefghij"], method: "POST", fields: [Self.key], content: content)
    #expect(other.error == .cutShort(received: 5))
    #expect(other.body == "01234")
  }
}
