import Testing

@testable import HTTP2

private let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
private let post = "POST / HTTP/1.1\r\nHost: a\r\n\r\n"
private let ok = "HTTP/1.1 200 OK\r\n\r\n"

@Suite struct EndingTests {
  @Test func aClientThatLeavesIsHeardOnce() throws {
    var pair = try Pair()
    let id = try pair.client.request(get)
    try pair.run()
    try pair.server.head(id, ok)
    #expect(pair.server.send(id, "abc") == 3)
    try pair.run()
    _ = pair.server.news()
    pair.client.reset(id, .cancel)
    try pair.run()
    #expect(pair.server.news() == [.reset(id, .cancel)])
    // What is asked of it afterwards does nothing.
    #expect(pair.server.send(id, "more") == 0)
    pair.server.end(id)
    pair.server.reset(id, .cancel)
    #expect(throws: HTTP2Error.streamClosed) { try pair.server.head(id, ok) }
    try pair.run()
    #expect(pair.server.news().isEmpty)
    #expect(pair.client.session.streamCount() == 0 && pair.server.session.streamCount() == 0)
  }

  /// Requests that were not sent yet are taken back without a trace.
  @Test func aRequestIsCancelledBeforeItLeaves() throws {
    var pair = try Pair()
    let id = try pair.client.request(get)
    pair.client.reset(id, .cancel)
    try pair.run()
    #expect(pair.server.news().isEmpty)
    #expect(pair.client.news().isEmpty)
    #expect(pair.client.session.streamCount() == 0)
    #expect(pair.client.session.canRequest() == true)
    _ = try pair.client.request(get)
    try pair.run()
    #expect(pair.server.news().count == 1)
  }

  @Test func aServerThatResetsHearsNoMore() throws {
    var pair = try Pair()
    let id = try pair.client.request(post, ends: false)
    #expect(pair.client.send(id, "abc") == 3)
    let octets = pair.client.output()
    try pair.server.receive(octets)
    _ = pair.server.news()
    pair.server.reset(id, .internalError)
    #expect(pair.client.send(id, "def") == 3)
    pair.client.end(id)
    try pair.run()
    #expect(pair.server.news().isEmpty)
    #expect(pair.client.news() == [.reset(id, .internalError)])
    #expect(pair.server.session.streamCount() == 0)
  }

  /// An answer that is complete before its request ends the upload with NO_ERROR (RFC 9113 section 8.1).
  @Test func anEarlyAnswerStopsTheUpload() throws {
    var pair = try Pair()
    let id = try pair.client.request(post, ends: false)
    try pair.run()
    try pair.server.head(id, "HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\n\r\n")
    #expect(pair.server.send(id, "no") == 2)
    pair.server.end(id)
    try pair.run()
    #expect(pair.client.news().suffix(2) == [.ended(id), .reset(id, .noError)])
    #expect(pair.server.news().last == .reset(id, .noError))
  }

  @Test func aDrainTakesWhatIsOnItsWayAndEnds() throws {
    var pair = try Pair()
    let first = try pair.client.request(get)
    try pair.run()
    pair.server.session.startDrain()
    // This one crosses the notice.
    let second = try pair.client.request(get)
    try pair.run()
    #expect(pair.client.news() == [.goAway(Int32.max, .noError)])
    #expect(pair.client.session.canRequest() == false)
    pair.server.session.finishDrain()
    try pair.run()
    #expect(pair.client.news() == [.goAway(second, .noError)])
    #expect(pair.server.session.isFinished() == false)
    for id in [first, second] { try pair.server.head(id, ok, ends: true) }
    try pair.run()
    #expect(pair.client.news().filter { if case .closed = $0 { true } else { false } }.count == 2)
    #expect(pair.server.session.isFinished() == true)
    #expect(pair.client.session.isFinished() == true)
  }

  /// What a server that goes away did not look at may be asked of another.
  @Test func whatWasNotProcessedIsSaidToBeRefused() throws {
    var client = Peer(.client(isSecure: true))
    let ids = [try client.request(get), try client.request(post, ends: false), try client.request(get)]
    _ = client.output()
    try client.receive(Frames.settings() + Frames.goAway(ids[0], .noError))
    #expect(client.news() == [.goAway(ids[0], .noError), .reset(ids[1], .refusedStream), .reset(ids[2], .refusedStream)])
    try client.receive(Frames.frame(1, 5, ids[0], [0x88]))
    #expect(client.news() == [.head(ids[0], ok, ends: true), .closed(ids[0])])
    _ = client.output()
    #expect(client.session.isFinished() == true)
  }

  @Test func aRefusedStreamIsSaidToBeRefused() throws {
    var client = Peer(.client(isSecure: false))
    let id = try client.request(get)
    _ = client.output()
    try client.receive(Frames.settings() + Frames.reset(id, .refusedStream))
    #expect(client.news() == [.reset(id, .refusedStream)])
  }

  @Test func thePeersLimitOfStreamsIsKept() throws {
    var client = Peer(.client(isSecure: false))
    try client.receive(Frames.settings([(3, 1)]))
    let id = try client.request(get)
    #expect(client.session.canRequest() == false)
    _ = client.output()
    try client.receive(Frames.settings([(3, 2)]))
    #expect(client.session.canRequest() == true)
    let second = try client.request(get)
    #expect(client.session.canRequest() == false)
    let frames = SeenFrame.read(client.output())
    #expect(frames.filter { $0.type == 1 }.map(\.stream) == [second])
    try client.receive(Frames.frame(1, 5, id, [0x88]) + Frames.settings([(3, 0)]))
    #expect(client.session.canRequest() == false)
  }

  @Test func responsesAreHeldToTheRules() throws {
    let bad: [(String, [(String, String)])] = [
      ("no status", [("x", "1")]), ("101", [(":status", "101")]), ("two digits", [(":status", "20")]), ("letters", [(":status", "2a0")]),
      ("below 100", [(":status", "099")]), ("a request's field", [(":status", "200"), (":path", "/")]), ("connection", [(":status", "200"), ("connection", "close")]),
      ("upper case", [(":status", "200"), ("X", "1")]), ("LF", [(":status", "200"), ("x", "a\nb")]), ("a length that is none", [(":status", "200"), ("content-length", "x")]),
    ]
    for (name, fields) in bad {
      var client = Peer(.client(isSecure: false))
      let id = try client.request(get)
      _ = client.output()
      try client.receive(Frames.settings() + Frames.headers(id, fields))
      let frames = SeenFrame.read(client.output())
      #expect(frames.contains { $0.code == .protocolError && $0.stream == id }, "\(name): \(frames)")
      #expect(client.news() == [.reset(id, .protocolError)], "\(name)")
    }
  }

  @Test func aHeadOfAHeadRequestHasALengthAndNoContent() throws {
    var pair = try Pair()
    let id = try pair.client.request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    try pair.run()
    try pair.server.head(id, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", ends: true)
    try pair.run()
    #expect(pair.client.news() == [.head(id, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", ends: true), .closed(id)])
  }

  @Test func trailersComeWithoutContentAsWell() throws {
    var pair = try Pair()
    let id = try pair.client.request(get)
    try pair.run()
    try pair.server.head(id, ok)
    pair.server.end(id, trailers: "grpc-status: 12\r\n")
    try pair.run()
    #expect(pair.client.news() == [.head(id, ok, ends: false), .trailers(id, "grpc-status: 12\r\n"), .ended(id), .closed(id)])
    #expect(pair.server.news().last == .closed(id))
  }

  /// A head that is larger than may be sent costs its stream and nothing else.
  @Test func aHeadThatIsTooLargeToSendResetsItsStream() throws {
    var pair = try Pair()
    let id = try pair.client.request(get)
    let sibling = try pair.client.request(get)
    try pair.run()
    _ = pair.server.news()
    try pair.server.head(id, "HTTP/1.1 200 OK\r\nx: \(String(repeating: "v", count: 200_000))\r\n\r\n")
    try pair.server.head(sibling, ok, ends: true)
    try pair.run()
    #expect(pair.server.news() == [.closed(sibling), .reset(id, .internalError)])
    #expect(pair.client.news().contains(.reset(id, .internalError)))
  }

  @Test func aTunnelCarriesBothWays() throws {
    var pair = try Pair()
    #expect(pair.client.session.canTunnel() == true)
    let id = try pair.client.request("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", ends: false)
    try pair.run()
    #expect(pair.server.news() == [
      .tunnel(id, "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n")
    ])
    try pair.server.head(id, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    #expect(pair.server.send(id, "down") == 4)
    try pair.run()
    #expect(pair.client.news() == [
      .tunnel(id, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), .text(id, "down"),
    ])
    #expect(pair.client.send(id, "up") == 2)
    pair.client.end(id)
    try pair.run()
    #expect(pair.server.news() == [.text(id, "up"), .ended(id)])
    pair.server.end(id)
    try pair.run()
    #expect(pair.server.news() == [.closed(id)])
    #expect(pair.client.news() == [.ended(id), .closed(id)])
  }

  @Test func aRefusedTunnelIsAResponse() throws {
    var pair = try Pair()
    let id = try pair.client.request("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", ends: false)
    try pair.run()
    try pair.server.head(id, "HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\n\r\n", ends: true)
    try pair.run()
    #expect(pair.client.news().first == .head(id, "HTTP/1.1 402 Payment Required\r\ncontent-length: 0\r\n\r\n", ends: true))
  }

  @Test func headsOfOursThatAreNoneAreTold() throws {
    var pair = try Pair()
    let id = try pair.client.request(get)
    try pair.run()
    for head in ["", "HTTP/1.1 20", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n"] {
      #expect(throws: HTTP2Error.self, "\(head)") { try pair.server.head(id, head) }
    }
    #expect(throws: HTTP2Error.self) { _ = try pair.client.request("GET /") }
    try pair.server.head(id, ok, ends: true)
    try pair.run()
    #expect(pair.client.news().first == .head(id, ok, ends: true))
  }

  /// Credentials and what changes each time are written as literals that no table keeps (RFC 7541 section 6.2.3).
  @Test func secretsAreNeverIndexed() throws {
    var client = Peer(.client(isSecure: false))
    let names = ["authorization", "prepaid-session", "cookie", "payment-authorization"]
    let lines = names.map { "\($0): secret-of-\($0)\r\n" }.joined()
    var sizes: [Int] = []
    for _ in 0..<3 {
      _ = try client.request("GET / HTTP/1.1\r\nHost: a\r\nX-Plain: text that is kept\r\n\(lines)\r\n")
      let frames = SeenFrame.read(Array(client.output().drop { $0 == 0x50 }))
      sizes.append(frames.first { $0.type == 1 }?.payload.count ?? 0)
    }
    // The plain field and the names shrink to an index each, the secrets stay as long as they were.
    #expect(sizes[1] == sizes[2] && sizes[2] > 60)
  }
}
