import Bytes
import Configuration
import HTTP
import IO
import Proxy
import Synchronization
import Testing

/// The relay over loopback: a real server, a scripted upstream, raw sockets.
@Suite(.timeLimit(.minutes(2))) struct RelayTests {
  private static func ok(_ body: String, _ fields: String = "") -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\(fields)\r\n\(body)"
  }

  /// An upstream that shows what it was asked.
  private func echoing() throws -> ScriptedUpstream { try .answering { head in Self.ok(head) } }

  @Test func rewritesTheRequestsHead() throws {
    let upstream = try echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let fields =
      "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: a\r\nTE: gzip\r\nUpgrade: h2c\r\n"
      + "Payment-Authorization: p\r\nPrepaid-Session: s\r\nAuthorization: Payment abc\r\nX-Forwarded-For: 6.6.6.6\r\n"
      + "Forwarded: for=6.6.6.6\r\nX-Kept: yes\r\nVia: 1.0 other\r\n"
    let seen = try relay.get("/a%7Eb?q=%2f", fields: fields).body
    #expect(seen.hasPrefix("GET /a~b?q=%2F HTTP/1.1\r\n"))
    #expect(seen.contains("Host: 127.0.0.1:\(upstream.port)\r\n"))
    #expect(seen.contains("X-Kept: yes\r\n"))
    #expect(seen.contains("Via: 1.1 farebox\r\n"))
    #expect(seen.contains("X-Forwarded-For: 127.0.0.1\r\n"))
    #expect(seen.contains("X-Forwarded-Host: api.test\r\n"))
    #expect(seen.contains("X-Forwarded-Proto: http\r\n"))
    #expect(seen.contains("Forwarded: for=127.0.0.1;"))
    for absent in [
      "Secret", "6.6.6.6", "Keep-Alive", "Upgrade", "gzip", "Proxy-A", "Payment", "Prepaid", "Connection", "Transfer-Encoding",
    ] {
      #expect(!seen.contains(absent), "\(absent)")
    }
  }

  @Test func keepsConnectionsAndAnswersPipelinedRequestsInOrder() throws {
    let upstream = try ScriptedUpstream.answering { head in Self.ok(String(head.split(separator: " ")[1])) }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send((0..<50).map { "GET /\($0) HTTP/1.1\r\nHost: a\r\n\r\n" }.joined())
    for number in 0..<50 { #expect(try wire.response().body == "/\(number)") }
    #expect(upstream.connectionCount == 1)
    #expect(try wire.request("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").field("Connection") == "close")
    #expect(wire.isEnded())
  }

  @Test func servesHTTP10Clients() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("GET / HTTP/1.0\r\n\r\n")
    let text = wire.readToEnd()
    #expect(text.hasSuffix("\r\n\r\nabc"))
    #expect(!text.lowercased().contains("transfer-encoding"))
    let kept = try ScriptedUpstream.answering { _ in Self.ok("hello") }
    let other = try RelayFixture(upstreamPort: kept.port)
    let second = try other.connect()
    let answer = try second.request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    #expect(answer.field("Connection") == "keep-alive")
    #expect(try second.request("GET / HTTP/1.0\r\n\r\n").body == "hello")
  }

  @Test func passesChunkedContentAndTrailersBothWays() throws {
    let received = Seen()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil, let body = try? wire.read(through: ": 1\r\n\r\n") else { return }
      received.text.withLock { $0 = body }
      wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
      for piece in ["4;ext=1\r\nwiki\r\n", "5\r\npedia\r\n", "0\r\nX-Sum: 9\r\nPayment-Receipt: forged\r\n\r\n"] { wire.send(piece) }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    wire.send("4;x=\"y\"\r\ndefg\r\n0\r\nX-Up: 1\r\n\r\n")
    let response = try wire.response()
    #expect(response.body == "wikipedia")
    #expect(response.trailers.lowercased() == "x-sum: 9\r\n")
    let seen = received.text.withLock { $0 }
    #expect(!seen.contains("x="))
    #expect(seen.filter { $0.isLetter }.contains("abc"))
    #expect(seen.contains("defg"))
  }

  @Test(arguments: [1, 3, 7, 64, 1000]) func headsAndContentMayComeInAnyPieces(size: Int) throws {
    let content = String(repeating: "0123456789", count: 300)
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        guard head.contains("Content-Length: 3000"), let body = try? wire.read(3000) else { return }
        let answer = Array(Self.ok(String(decoding: body, as: UTF8.self)).utf8)
        for start in stride(from: 0, to: answer.count, by: max(size, 20)) {
          wire.send(Array(answer[start..<min(start + max(size, 20), answer.count)]))
        }
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    let request = Array("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n\(content)".utf8)
    for start in stride(from: 0, to: request.count, by: size) {
      wire.send(Array(request[start..<min(start + size, request.count)]))
    }
    #expect(try wire.response().body == content)
  }

  @Test func largeContentPassesUnchangedBothWays() throws {
    let size = 8 << 20
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
      var left = size
      while left > 0 {
        let some = wire.receiveSome()
        guard !some.isEmpty else { return }
        wire.send(some)
        left -= some.count
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    let content = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let sender = try LoopThread(name: "sender") {
      wire.send("POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
      wire.send(content)
    }
    _ = try wire.read(through: "\r\n\r\n")
    let returned = try wire.read(size)
    sender.join()
    #expect(returned == content)
  }

  @Test func aStalledReaderStopsTheUpstream() throws {
    let box = Shared()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
      let piece = [UInt8](repeating: 7, count: 1 << 16)
      for _ in 0..<16384 {
        let before = box.sent.load(ordering: .relaxed)
        wire.send(piece)
        box.sent.store(before + piece.count, ordering: .relaxed)
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    _ = try wire.read(through: "\r\n\r\n")
    var last = -1
    while box.sent.load(ordering: .relaxed) != last {
      last = box.sent.load(ordering: .relaxed)
      Pause.milliseconds(300)
    }
    // Socket buffers on both sides take some megabytes; the rest of the gibibyte waits.
    #expect(last < 64 << 20)
    // It goes on when the reader does.
    _ = try wire.read(32 << 20)
  }

  private final class Seen: Sendable {
    let text = Mutex("")
  }

  private final class Shared: Sendable {
    let sent = Atomic<Int>(0)
  }

  @Test func headAnd204And304HaveNoContent() throws {
    let upstream = try ScriptedUpstream.answering { head in
      if head.hasPrefix("HEAD") { return "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n" }
      if head.contains("/304") { return "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n" }
      return "HTTP/1.1 204 No Content\r\n\r\n"
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try wire.response(toHead: true).field("Content-Length") == "1234")
    #expect(try wire.request("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n").status == 304)
    let none = try wire.request("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(none.status == 204)
    #expect(none.field("Content-Length") == nil)
    #expect(upstream.connectionCount == 1)
  }

  @Test func interimResponsesPass() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard let head = try? wire.read(through: "\r\n\r\n") else { return }
      if head.contains("Expect: 100-continue") { wire.send("HTTP/1.1 100 Continue\r\n\r\n") }
      wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
      guard let body = try? wire.read(4) else { return }
      wire.send(Self.ok(String(decoding: body, as: UTF8.self)))
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    #expect(try wire.read(through: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
    #expect(try wire.read(through: "\r\n\r\n").lowercased().contains("link: </a>"))
    wire.send("body")
    #expect(try wire.response().body == "body")
  }

  @Test func aRefusedExpectationClosesTheConnection() throws {
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n" }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000000\r\nExpect: 100-continue\r\n\r\n")
    #expect(try wire.response().status == 413)
    #expect(wire.isEnded())
  }

  @Test(arguments: [
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
    "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET //b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n",
  ])
  func ambiguityIsRefusedAndTheConnectionClosed(request: String) throws {
    let upstream = try echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send(request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    let response = try wire.response()
    #expect(response.status == 400)
    #expect(response.field("Content-Type") == "application/problem+json")
    #expect(wire.isEnded())
    #expect(upstream.connectionCount == 0)
  }

  @Test func brokenChunksEndTheExchange() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      _ = try? wire.read(through: "\r\n\r\n")
      _ = wire.readToEnd()
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    wire.send("zz\r\n")
    #expect(try wire.response().status == 400)
    #expect(wire.isEnded())
  }

  @Test func unknownPathsAndMethodsAreRefused() throws {
    let upstream = try echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port) { settings in
      var route = Settings.Route(id: "one", path: .exact("/one"))
      route.methods = MethodSet(.get)
      settings.routes = [route]
    }
    #expect(try relay.get("/two").status == 404)
    let refused = try relay.connect().request("DELETE /one HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(refused.status == 405)
    #expect(refused.field("Allow") == "GET, HEAD")
    #expect(try relay.get("/one").status == 200)
  }

  @Test func prefixesAreExchangedAndFieldsInjected() throws {
    let upstream = try echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port) { settings in
      settings.routes[0].path = .prefix("/v1/")
      settings.routes[0].stripPrefix = "/v1"
      settings.routes[0].rewritePrefix = "/api"
      settings.routes[0].injectedFields = [.init(name: "X-Key", value: SecretValue(Array("secret".utf8)))]
      settings.upstreams[0].hostField = .fixed("inner.test")
    }
    let seen = try relay.get("/v1/items?a=1", fields: "x-key: mine\r\n").body
    #expect(seen.hasPrefix("GET /api/items?a=1 HTTP/1.1\r\nHost: inner.test\r\n"))
    #expect(seen.contains("X-Key: secret\r\n"))
    #expect(!seen.contains("mine"))
  }

  @Test func trustedProxiesNameTheClient() throws {
    let upstream = try echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port) { settings in
      settings.trustedProxies = [CIDR("127.0.0.0/8")].compactMap { $0 }
    }
    let seen = try relay.get(fields: "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n").body
    #expect(seen.contains("X-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n"))
    #expect(seen.contains("X-Forwarded-Proto: https\r\n"))
  }

  @Test func probesAnswerWithoutAnUpstream() throws {
    let relay = try RelayFixture(upstreamPort: 1)
    #expect(try relay.get("/healthz").status == 200)
    #expect(try relay.get("/readyz").status == 200)
    #expect(try relay.connect().request("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status == 405)
  }

  @Test func countsWhatItDoes() throws {
    let upstream = try echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    for _ in 0..<3 { _ = try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
    #expect(relay.metric("requests_total") == 3)
    #expect(relay.metric("connections_open") == 1)
    #expect(relay.metric("upstream_connects_total") == 1)
  }
}
