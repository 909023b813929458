import Testing

@testable import HTTP2

private let get = "GET /a?b=c HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n"

@Suite struct ExchangeTests {
  @Test func aRequestAndItsResponse() throws {
    var pair = try Pair()
    let id = try pair.client.request(get)
    try pair.run()
    #expect(pair.server.news() == [.head(1, "GET /a?b=c HTTP/1.1\r\nhost: api.example.com\r\naccept: */*\r\n\r\n", ends: true)])
    try pair.server.head(id, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n")
    #expect(pair.server.send(id, "hello") == 5)
    pair.server.end(id)
    try pair.run()
    #expect(pair.server.news() == [.closed(1)])
    #expect(pair.client.news() == [
      .head(1, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n", ends: false), .text(1, "hello"), .ended(1), .closed(1),
    ])
    #expect(pair.server.session.streamCount() == 0 && pair.client.session.streamCount() == 0)
  }

  /// The limits that depend on a head's size do not end what that allows.
  @Test func headsAsLargeAsIsAllowedPass() throws {
    let limits = HTTP2Limits(head: 1 << 20, sentHead: 1 << 20, streams: 100)
    var pair = try Pair(client: limits, server: limits)
    let fields = (0..<80).map { "x-\($0): \(String(repeating: "v", count: 12_000))\r\n" }.joined()
    let id = try pair.client.request("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
    try pair.run()
    #expect(pair.server.news() == [.head(1, "GET / HTTP/1.1\r\nhost: a\r\n\(fields)\r\n", ends: true)])
    try pair.server.head(id, "HTTP/1.1 200 OK\r\n\(fields)\r\n", ends: true)
    try pair.run()
    #expect(pair.client.news().first == .head(1, "HTTP/1.1 200 OK\r\n\(fields)\r\n", ends: true))
  }

  @Test func contentAndTrailersBothWays() throws {
    var pair = try Pair()
    let id = try pair.client.request("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n", ends: false)
    #expect(pair.client.send(id, "one") == 3)
    try pair.run()
    #expect(pair.server.news() == [.head(1, "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n", ends: false), .text(1, "one")])
    try pair.server.head(id, "HTTP/1.1 200 OK\r\n\r\n")
    #expect(pair.server.send(id, "eins") == 4)
    try pair.run()
    #expect(pair.client.news() == [.head(1, "HTTP/1.1 200 OK\r\n\r\n", ends: false), .text(1, "eins")])
    pair.client.end(id, trailers: "X-Sum: 1\r\nAuthorization: no\r\n")
    try pair.run()
    #expect(pair.server.news() == [.trailers(1, "x-sum: 1\r\n"), .ended(1)])
    pair.server.end(id, trailers: "grpc-status: 0\r\nGrpc-Message:  fine \r\n\r\n")
    try pair.run()
    #expect(pair.client.news() == [.trailers(1, "grpc-status: 0\r\ngrpc-message: fine\r\n"), .ended(1), .closed(1)])
    #expect(pair.server.news() == [.closed(1)])
  }

  @Test func interimResponsesComeBeforeTheFinalOne() throws {
    var pair = try Pair()
    let id = try pair.client.request("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", ends: false)
    try pair.run()
    #expect(pair.server.news() == [.head(1, "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n", ends: false)])
    try pair.server.interim(id, "HTTP/1.1 100 Continue\r\n\r\n")
    try pair.server.interim(id, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    try pair.run()
    #expect(pair.client.news() == [
      .head(1, "HTTP/1.1 100 Continue\r\n\r\n", ends: false), .head(1, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", ends: false),
    ])
    #expect(pair.client.send(id, "ab") == 2)
    pair.client.end(id)
    try pair.server.head(id, "HTTP/1.1 204 No Content\r\n\r\n", ends: true)
    try pair.run()
    #expect(pair.client.news().contains(.head(1, "HTTP/1.1 204 No Content\r\n\r\n", ends: true)))
  }
}
