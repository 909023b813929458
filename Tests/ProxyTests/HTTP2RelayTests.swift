import Configuration
import Glibc
import HTTP
import HTTP2
import Synchronization
import Testing

@testable import Proxy

/// What only HTTP/2 can do, and what only it can do wrong.
@Suite(.timeLimit(.minutes(2))) struct HTTP2RelayTests {
  private final class Count: Sendable {
    let value = Atomic<Int>(0)
    func add() -> Int { value.add(1, ordering: .sequentiallyConsistent).newValue }
    var now: Int { value.load(ordering: .sequentiallyConsistent) }
  }

  private final class Seen: Sendable {
    let text = Mutex("")
  }

  /// A proxy whose upstream is spoken to in HTTP/2 without TLS.
  private func relay(_ upstream: ScriptedUpstream, _ configure: (inout Settings) -> Void = { _ in }) throws -> RelayFixture {
    try RelayFixture(upstreamPort: upstream.port) { settings in
      settings.upstreams[0].http2 = .always
      configure(&settings)
    }
  }

  private static func get(_ path: String) -> String { "GET \(path) HTTP/1.1\r\nHost: api.test\r\n\r\n" }

  // MARK: Towards clients

  @Test func streamsOfOneConnectionAreServedSideBySide() throws {
    let upstream = try ScriptedUpstream.answering { head in
      let path = String(head.split(separator: " ")[1])
      return "HTTP/1.1 200 OK\r\nContent-Length: \(path.utf8.count)\r\nX-Path: \(path)\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\r\n\(path)"
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let peer = HTTP2Peer(try Wire(port: relay.port), .client(isSecure: false))
    let streams = try (0..<50).map { try peer.request(Self.get("/\($0)")) }
    #expect(peer.run { $0.ended.count == 50 })
    for (number, stream) in streams.enumerated() {
      #expect(peer.content[stream].map { String(decoding: $0, as: UTF8.self) } == "/\(number)")
      #expect(peer.heads[stream]?.lowercased().contains("keep-alive") == false)
    }
    #expect(relay.metric("http2_streams_total") == 50)
    #expect(relay.metric("connections_open") == 1)
  }

  @Test func aDryStreamNeverStopsItsSiblings() throws {
    let content = String(repeating: "0123456789abcdef", count: 4_000_000 / 16)
    let upstream = try ScriptedUpstream.answering { head in
      let text = head.contains("/bytes/file") ? content : "x"
      return "HTTP/1.1 200 OK\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)"
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let secret = try relay.openSession("/bytes/first", deposit: 20_000)
    let peer = HTTP2Peer(try Wire(port: relay.port), .client(isSecure: false))
    let dry = try peer.request(PaidRelay.request("/bytes/file", short(secret)))
    // What the budget bought beyond the first request has come, and no more does.
    #expect(peer.run { ($0.content[dry]?.count ?? 0) >= 1_900_000 })
    for _ in 0..<20 {
      let sibling = try peer.request(Self.get("/free/x").replacing("api.test", with: "api.example.com"))
      #expect(peer.run { $0.ended.contains(sibling) })
      #expect(peer.heads[sibling]?.hasPrefix("HTTP/1.1 200") == true)
    }
    #expect(!peer.ended.contains(dry))
    try relay.topUp("/bytes/file", 40_000, secret)
    #expect(peer.run { $0.ended.contains(dry) })
    #expect(peer.content[dry]?.count == 4_000_000)
  }

  @Test func anUnpaidClientOfGRPCIsToldInItsOwnWords() throws {
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" }
    for isTold in [true, false] {
      let relay = try PaidRelay(upstreamPort: upstream.port) { settings in
        for index in settings.routes.indices { settings.routes[index].tellsGRPC = isTold }
      }
      let peer = HTTP2Peer(try Wire(port: relay.port), .client(isSecure: false))
      let call = "POST /weather/Get HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/grpc+proto\r\nTE: trailers\r\n\r\n"
      let stream = try peer.request(call, endsStream: false)
      peer.send(stream, "\0\0\0\0\0", ends: true)
      #expect(peer.run { $0.heads[stream] != nil && ($0.ended.contains(stream) || $0.resets[stream] != nil) })
      let head = peer.heads[stream]?.lowercased() ?? ""
      #expect(head.contains("www-authenticate: payment "))
      #expect(head.hasPrefix(isTold ? "http/1.1 200" : "http/1.1 402"))
      #expect(head.contains("\r\ngrpc-status: 16\r\n") == isTold)
      #expect(head.contains("content-type: application/grpc\r\n") == isTold)
      #expect((peer.content[stream] ?? []).isEmpty == isTold)
    }
  }

  @Test func aListenerThatRedirectsSendsToTheOrigin() throws {
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" }
    let relay = try RelayFixture(upstreamPort: upstream.port) { settings in
      settings.listeners[0].redirects = true
      settings.origin = "https://api.example.com"
    }
    let response = try relay.get("/a?b=c")
    #expect(response.status == 308)
    #expect(response.field("Location") == "https://api.example.com/a?b=c")
    #expect(upstream.connectionCount == 0)
  }

  // MARK: Towards upstreams

  @Test func manyRequestsShareOneConnection() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      let peer = HTTP2Peer(wire, .server)
      var answered = 0
      // All of them are there before any is answered.
      while peer.run(until: { $0.order.count - answered >= 20 || $0.order.count > 20 }) {
        for stream in peer.order[answered...] { peer.answer(stream, "HTTP/1.1 200 OK\r\n\r\n", "hello", trailers: "X-Sum: 5\r\n") }
        answered = peer.order.count
      }
    }
    let relay = try relay(upstream)
    let wires = try (0..<20).map { _ in try relay.connect() }
    for wire in wires { wire.send(Self.get("/x")) }
    for wire in wires {
      let response = try wire.response()
      #expect(response.body == "hello")
      #expect(response.trailers == "X-Sum: 5\r\n" || response.trailers == "x-sum: 5\r\n")
    }
    #expect(upstream.connectionCount == 1)
    #expect(relay.metric("upstream_http2_streams_total") == 20)
  }

  @Test func whatAServerRefusedIsSentAgainWhateverTheMethod() throws {
    let upstream = try ScriptedUpstream { wire, number in
      let peer = HTTP2Peer(wire, .server)
      var heard = 0
      while peer.run(until: { $0.order.count > heard }) {
        let stream = peer.order[heard]
        heard += 1
        // The session that has refused is not asked again at once.
        if number == 1 { peer.reset(stream, .refusedStream) } else { peer.answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok") }
      }
    }
    let relay = try relay(upstream)
    #expect(try relay.connect().request("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").body == "ok")
    #expect(relay.metric("upstream_http2_streams_total") == 2)
  }

  @Test func whatAGoAwayLeftOutGoesToAnotherConnection() throws {
    let upstream = try ScriptedUpstream { wire, number in
      let peer = HTTP2Peer(wire, .server)
      if number == 1 {
        // The client hears of it before anything was taken in.
        _ = wire.receiveSome()
        peer.goAway()
        Pause.milliseconds(200)
        return
      }
      var heard = 0
      while peer.run(until: { $0.order.count > heard }) {
        peer.answer(peer.order[heard], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok")
        heard += 1
      }
    }
    let relay = try relay(upstream)
    #expect(try relay.connect().request("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").body == "ok")
    #expect(upstream.connectionCount == 2)
  }

  @Test func aClientThatLeavesCancelsItsStreamOnly() throws {
    let seen = Seen()
    let upstream = try ScriptedUpstream { wire, _ in
      let peer = HTTP2Peer(wire, .server)
      guard peer.run(until: { $0.order.count == 2 }) else { return }
      guard peer.run(until: { !$0.resets.isEmpty }) else { return }
      seen.text.withLock { $0 = "\(peer.resets.values.first?.rawValue ?? 0)" }
      for stream in peer.order where peer.resets[stream] == nil { peer.answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok") }
      _ = peer.run { _ in false }
    }
    let relay = try relay(upstream)
    let stays = try relay.connect()
    stays.send(Self.get("/stays"))
    do {
      let leaves = try relay.connect()
      leaves.send(Self.get("/leaves"))
      while relay.metric("upstream_http2_streams_total") != 2 { Pause.milliseconds(5) }
      leaves.resetOnClose()
    }
    #expect(try stays.response().body == "ok")
    #expect(seen.text.withLock { $0 } == "8")
  }

  @Test func aLostSessionLosesItsStreamsAndIsOpenedAnew() throws {
    let upstream = try ScriptedUpstream { wire, number in
      let peer = HTTP2Peer(wire, .server)
      var heard = 0
      while peer.run(until: { $0.order.count > heard }) {
        heard += 1
        // The first connection dies with its second request.
        if number == 1, heard == 2 { return }
        peer.answer(peer.order[heard - 1], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok")
      }
    }
    let relay = try relay(upstream)
    #expect(try relay.get("/one").body == "ok")
    // A safe request goes again, one that may change something does not.
    #expect(try relay.get("/two").body == "ok")
    #expect(upstream.connectionCount == 2)
  }

  @Test func anUpstreamThatIsNotTheRightOneIsRefused() throws {
    let inner = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }
    let secure = try Carrier.$current.withValue(.tls) { try RelayFixture(upstreamPort: inner.port) }
    let relay = try RelayFixture(upstreamPort: secure.port) { settings in
      // The system's authorities know nothing of a certificate that issued itself.
      settings.upstreams[0].tls = .init()
    }
    let response = try relay.get()
    #expect(response.status == 502)
    #expect(response.body.contains("secure connection"))
    #expect(inner.connectionCount == 0)
  }
}
