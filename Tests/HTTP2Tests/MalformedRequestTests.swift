import Testing

@testable import HTTP2

private typealias Fields = [(String, String)]

/// Header blocks that RFC 9113 section 8 calls malformed.
private let malformed: [(String, Fields)] = [
  ("upper case", Frames.get + [("X-A", "1")]),
  ("connection", Frames.get + [("connection", "close")]),
  ("keep-alive", Frames.get + [("keep-alive", "5")]),
  ("proxy-connection", Frames.get + [("proxy-connection", "close")]),
  ("transfer-encoding", Frames.get + [("transfer-encoding", "chunked")]),
  ("upgrade", Frames.get + [("upgrade", "websocket")]),
  ("te other than trailers", Frames.get + [("te", "gzip")]),
  ("te with more", Frames.get + [("te", "trailers, gzip")]),
  ("pseudo-header field behind a field", [(":method", "GET"), (":scheme", "http"), ("x-a", "1"), (":path", "/"), (":authority", "a")]),
  ("repeated :method", [(":method", "GET")] + Frames.get),
  ("repeated :path", Frames.get + [(":path", "/")]),
  ("repeated :scheme", Frames.get + [(":scheme", "http")]),
  ("repeated :authority", Frames.get + [(":authority", "a.example")]),
  ("unknown pseudo-header field", Frames.get + [(":x", "1")]),
  ("a response's pseudo-header field", Frames.get + [(":status", "200")]),
  ("no :method", [(":scheme", "http"), (":path", "/"), (":authority", "a")]),
  ("no :scheme", [(":method", "GET"), (":path", "/"), (":authority", "a")]),
  ("no :path", [(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
  ("no authority at all", [(":method", "GET"), (":scheme", "http"), (":path", "/")]),
  ("empty :path", [(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a")]),
  ("empty :authority", [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "")]),
  ("empty :method", [(":method", ""), (":scheme", "http"), (":path", "/"), (":authority", "a")]),
  ("a method with a space", [(":method", "GET /"), (":scheme", "http"), (":path", "/"), (":authority", "a")]),
  ("a path without a slash", [(":method", "GET"), (":scheme", "http"), (":path", "a"), (":authority", "a")]),
  ("a path in absolute-form", [(":method", "GET"), (":scheme", "http"), (":path", "http://a/"), (":authority", "a")]),
  ("* without OPTIONS", [(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "a")]),
  ("a path with a space", [(":method", "GET"), (":scheme", "http"), (":path", "/a b"), (":authority", "a")]),
  ("a path with CR LF", [(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1\r\nx: y"), (":authority", "a")]),
  ("a path with octets beyond ASCII", [(":method", "GET"), (":scheme", "http"), (":path", "/\u{e9}"), (":authority", "a")]),
  ("another scheme", [(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "a")]),
  ("another scheme whose path is anything", [(":method", "GET"), (":scheme", "coap"), (":path", "x y"), (":authority", "a")]),
  ("user information", [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")]),
  ("an authority outside the grammar", [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a/b")]),
  ("two hosts", Frames.get + [("host", "a.example"), ("host", "a.example")]),
  ("host that differs from :authority", Frames.get + [("host", "b.example")]),
  ("a host outside the grammar", [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a,b")]),
  ("a protocol that is no token", [(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":protocol", "a b")]),
  ("a value with NUL", Frames.get + [("x-a", "a\0b")]),
  ("a value with CR", Frames.get + [("x-a", "a\rb")]),
  ("a value with LF", Frames.get + [("x-a", "a\nb: c")]),
  ("a value with DEL", Frames.get + [("x-a", "a\u{7f}b")]),
  ("a value that begins with a space", Frames.get + [("x-a", " a")]),
  ("a value that ends with a tab", Frames.get + [("x-a", "a\t")]),
  ("an empty name", Frames.get + [("", "a")]),
  ("a name with a colon", Frames.get + [("x:a", "a")]),
  ("a name with a space", Frames.get + [("x a", "a")]),
  ("a name with a LF", Frames.get + [("x\na", "a")]),
  ("two lengths", Frames.post + [("content-length", "1"), ("content-length", "1")]),
  ("a length that is a list", Frames.post + [("content-length", "1, 1")]),
  ("a length with a sign", Frames.post + [("content-length", "+1")]),
  ("a length without content", Frames.post + [("content-length", "1")]),
  (":protocol without CONNECT", Frames.get + [(":protocol", "websocket")]),
  (":protocol without :authority", [(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":protocol", "websocket"), ("host", "a")]),
  ("CONNECT with :path", [(":method", "CONNECT"), (":path", "/"), (":authority", "a:1")]),
  ("CONNECT without :authority", [(":method", "CONNECT")]),
]

@Suite struct MalformedRequestTests {
  @Test(arguments: malformed.indices) func isAStreamErrorAndTheConnectionLives(_ index: Int) throws {
    let (name, fields) = malformed[index]
    var spoken = try Spoken()
    let answer = spoken.say(Frames.headers(1, fields))
    #expect(answer.map(\.type) == [3] && answer.first?.code == .protocolError && answer.first?.stream == 1, "\(name): \(answer)")
    #expect(spoken.news().isEmpty, "\(name)")
    _ = spoken.say(Frames.headers(3, Frames.get))
    #expect(spoken.news() == [.head(3, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: true)], "\(name)")
    #expect(spoken.peer.session.streamCount() == 1)
  }

  /// The same, but cut at every octet: what came before the error must not come out.
  @Test(arguments: malformed.indices) func isFoundHoweverItArrives(_ index: Int) throws {
    let (name, fields) = malformed[index]
    var spoken = try Spoken()
    var answer: [SeenFrame] = []
    for octet in Frames.headers(1, fields) + Frames.headers(3, Frames.get) { answer += spoken.say([octet]) }
    #expect(answer.map(\.code) == [.protocolError], "\(name)")
    #expect(spoken.news() == [.head(3, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: true)], "\(name)")
  }

  @Test func contentThatDisagreesWithItsLengthResetsTheStream() throws {
    var spoken = try Spoken()
    var answer = spoken.say(Frames.headers(1, Frames.post + [("content-length", "3")], ends: false) + Frames.data(1, "abcd", ends: true))
    #expect(answer.map(\.code) == [.protocolError])
    #expect(spoken.news().last == .reset(1, .protocolError))
    answer = spoken.say(Frames.headers(3, Frames.post + [("content-length", "3")], ends: false) + Frames.data(3, "ab", ends: true))
    #expect(answer.map(\.code) == [.protocolError])
    #expect(spoken.news().last == .reset(3, .protocolError))
    answer = spoken.say(Frames.headers(5, Frames.post + [("content-length", "3")], ends: false) + Frames.data(5, "abc", ends: true))
    #expect(answer.isEmpty)
    #expect(spoken.news().suffix(2) == [.text(5, "abc"), .ended(5)])
  }

  @Test func trailersAreHeldToTheRules() throws {
    let bad: [(String, [UInt8])] = [
      ("pseudo-header field", Frames.headers(1, [(":path", "/")])), ("upper case", Frames.headers(1, [("X", "1")])),
      ("no end of the stream", Frames.headers(1, [("x", "1")], ends: false)), ("connection", Frames.headers(1, [("connection", "x")])),
    ]
    for (name, frame) in bad {
      var spoken = try Spoken()
      let answer = spoken.say(Frames.headers(1, Frames.post, ends: false) + frame)
      #expect(answer.map(\.code) == [.protocolError], "\(name)")
      #expect(spoken.news() == [.head(1, "POST / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: false), .reset(1, .protocolError)], "\(name)")
    }
    var spoken = try Spoken()
    let many = Frames.headers(1, (0..<40).map { ("x-\($0)", "1") })
    #expect(spoken.say(Frames.headers(1, Frames.post, ends: false) + many).map(\.code) == [.enhanceYourCalm])
  }
}

@Suite struct RequestMappingTests {
  private func mapped(_ fields: [(String, String)]) throws -> [Heard] {
    var spoken = try Spoken()
    #expect(spoken.say(Frames.headers(1, fields)).isEmpty)
    return spoken.news()
  }

  @Test func pseudoHeaderFieldsComeInAnyOrder() throws {
    let fields = [(":authority", "A.example:80"), (":path", "/x?y"), (":method", "DELETE"), (":scheme", "HTTPS"), ("x-a", "")]
    #expect(try mapped(fields) == [.head(1, "DELETE /x?y HTTP/1.1\r\nhost: A.example:80\r\nx-a: \r\n\r\n", ends: true)])
  }

  @Test func hostStandsForTheAuthority() throws {
    #expect(try mapped([(":method", "GET"), (":scheme", "http"), (":path", "/"), ("x", "1"), ("host", "h")]) == [
      .head(1, "GET / HTTP/1.1\r\nx: 1\r\nhost: h\r\n\r\n", ends: true)
    ])
    #expect(try mapped(Frames.get + [("host", "A.EXAMPLE")]) == [.head(1, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: true)])
  }

  @Test func cookieCrumbsAreJoined() throws {
    #expect(try mapped(Frames.get + [("cookie", "a=b"), ("x", "1"), ("cookie", "c=d"), ("cookie", "e=f")]) == [
      .head(1, "GET / HTTP/1.1\r\nhost: a.example\r\nx: 1\r\ncookie: a=b; c=d; e=f\r\n\r\n", ends: true)
    ])
  }

  @Test func optionsOfTheServer() throws {
    #expect(try mapped([(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a")]) == [
      .head(1, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", ends: true)
    ])
  }

  @Test func plainConnectIsLeftToTheDecoder() throws {
    #expect(try mapped([(":method", "CONNECT"), (":authority", "a:443")]) == [.head(1, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", ends: true)])
  }

  @Test func extendedConnectIsAnUpgrade() throws {
    let fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/chat"), (":authority", "a"), ("sec-websocket-version", "13")]
    var spoken = try Spoken()
    #expect(spoken.say(Frames.headers(1, fields, ends: false)).isEmpty)
    #expect(spoken.news() == [.tunnel(1, "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n")])
  }

  /// What is too large is cut, so that the relay's decoder answers 414 or 431 and the connection lives.
  @Test func aHeadThatIsTooLargeIsHandedOnCut() throws {
    var spoken = try Spoken()
    let value = String(repeating: "v", count: 4000)
    let block = Frames.block(Frames.get + (0..<12).map { ("x-\($0)", value) })
    var octets = Frames.frame(1, Frames.endStream, 1, Array(block[..<16384]))
    octets += Frames.continuation(1, Array(block[16384..<32768]), ends: false) + Frames.continuation(1, Array(block[32768...]), ends: true)
    #expect(spoken.say(octets).isEmpty)
    guard case .head(1, let head, ends: true)? = spoken.news().first else { Issue.record("no head"); return }
    #expect(head.utf8.count > HTTP2Limits.standard.head && head.utf8.count < HTTP2Limits.standard.head + 8192 && !head.hasSuffix("\r\n\r\n"))
  }

  @Test func aHeaderBombEndsItsStreamOnly() throws {
    var spoken = try Spoken()
    // One entry of 3,000 octets goes into the table, then it is named 400 times in one octet each.
    let entry = [0x40] + Frames.string(Array("x-bomb".utf8)) + Frames.string([UInt8](repeating: 0x76, count: 3000))
    let bomb = Frames.block(Frames.get) + entry + [UInt8](repeating: 0x80 | 62, count: 400)
    let answer = spoken.say(Frames.frame(1, Frames.endHeaders | Frames.endStream, 1, bomb))
    #expect(answer.map(\.code) == [.enhanceYourCalm])
    _ = spoken.say(Frames.headers(3, Frames.get))
    #expect(spoken.news() == [.head(3, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: true)])
  }

  @Test func everyCutGivesTheSame() throws {
    let octets = Frames.preface + Frames.settings() + Frames.headers(1, Frames.post + [("cookie", "a"), ("cookie", "b")], ends: false)
      + Frames.data(1, "hello") + Frames.headers(1, [("x-t", "1")]) + Frames.headers(3, Frames.get)
    let expected: [Heard] = [
      .head(1, "POST / HTTP/1.1\r\nhost: a.example\r\ncookie: a; b\r\n\r\n", ends: false), .text(1, "hello"), .trailers(1, "x-t: 1\r\n"), .ended(1),
      .head(3, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: true),
    ]
    for cut in 0...octets.count {
      var peer = Peer(.server)
      try peer.receive(Array(octets[..<cut]))
      try peer.receive(Array(octets[cut...]))
      #expect(peer.news() == expected, "cut at \(cut)")
    }
    var peer = Peer(.server)
    for octet in octets { try peer.receive([octet]) }
    #expect(peer.news() == expected)
  }
}
